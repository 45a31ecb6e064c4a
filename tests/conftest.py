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
    """Find a folder of real recordings, which are not part of this repository."""
    default = REPOSITORY.parent / "shared" / "data"
    parent = Path(os.environ.get("SKLEARN_ASD_TEST_DATA", default))

    def find(name):
        if not any((parent / name).rglob("*.*")):
            pytest.skip(
                f"no real recordings in {parent / name}; SKLEARN_ASD_TEST_DATA names "
                "the folder above"
            )
        return parent / name

    return find
