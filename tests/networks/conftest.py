"""Clips and windows to train small networks on."""

import numpy as np
import pytest

from sklearn_asd import ClipSpectrograms
from sklearn_asd.networks.windows import (
    WindowDataset,
)


@pytest.fixture
def spectrograms():
    """20 clips of 20 frames, of two machines that differ in level."""
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 3.0], 10)[:, None, None]
    return ClipSpectrograms.from_arrays(
        rng.normal(size=(20, 8, 20)) + level,
        machine_id=np.repeat(["00", "02"], 10),
        segment_frames=12,
        segment_hop_frames=12,
    )


@pytest.fixture
def dataset(spectrograms):
    return WindowDataset(spectrograms, spectrograms.windows(), np.repeat([0, 1], 10))
