"""Fixtures that every part of the library may use."""

import os
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def recordings():
    """Folder of real recordings, which are not part of this repository."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("SKLEARN_ASD_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(
            f"no folder of real recordings at {folder}; "
            "set SKLEARN_ASD_TEST_DATA to the folder that holds them"
        )
    return folder
