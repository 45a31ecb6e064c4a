import os

import pytest
from fuzz_audio import fuzz


@pytest.mark.skipif(os.name != "posix", reason="limits of memory are POSIX's")
def test_damaged_files_are_read_or_refused_and_nothing_else():
    outcomes, wrong, peak = fuzz(300)
    assert not wrong
    assert outcomes.total() == 300
    assert min(outcomes["read"], outcomes["refused"]) > 30
    assert peak < 1500  # MB, of which the libraries take some 450
