"""Fixtures that every part of the library may use."""

import os
from pathlib import Path

import numpy as np
import pytest

from sklearn_asd.features import segmenter as segmenter_module

REPOSITORY = Path(__file__).parents[1]


def pytest_addoption(parser):
    parser.addoption(
        "--precision",
        choices=["auto", "float32"],
        default="auto",
        help="float32: what precision='auto' means on processors without bfloat16",
    )


def pytest_configure(config):
    if config.getoption("--precision") == "float32":
        # Named, not imported: most tests of sounds and features run without torch.
        pytest.MonkeyPatch().setattr(
            "sklearn_asd.networks.devices.has_bfloat16", lambda device="cpu": False
        )


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


@pytest.fixture
def computed(monkeypatch):
    """Length of every view of a clip whose log-mel is computed."""
    lengths = []
    compute = segmenter_module.log_mel_spectrogram

    def count(samples, **settings):
        lengths.append(len(samples))
        return compute(samples, **settings)

    monkeypatch.setattr(segmenter_module, "log_mel_spectrogram", count)
    return lengths
