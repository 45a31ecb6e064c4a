"""A module that waits is there as soon as a name in it is used."""

import gc
import subprocess
import sys

import pytest
import scipy.stats

from sklearn_asd._cli.starting import starting_fast

WAITS = """
import sys
from sklearn_asd._cli.starting import starting_fast
with starting_fast():
    import sklearn.base
assert "scipy.stats._stats_py" not in sys.modules
"""


@pytest.mark.parametrize(
    "use",
    [
        "from scipy import stats; print(stats.rankdata([3, 1]))",
        "import scipy.stats.mstats; print(scipy.stats.rankdata([3, 1]))",
    ],
)
def test_statistics_wait_until_they_are_used(use):
    check = "; assert sys.modules['scipy.stats'].__file__"
    command = [sys.executable, "-c", WAITS + use + check]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "[2. 1.]\n"


def test_what_is_imported_already_stays_and_garbage_is_collected_again():
    with starting_fast():
        assert sys.modules["scipy.stats"] is scipy.stats
        assert not gc.isenabled()
    assert gc.isenabled()
