"""A pretrained encoder of sound effects, for accuracy_real_clips.py.

The package `aisfx` ships the weights (24 MB, CC BY 4.0) of the network
"X-Sequential-CE" of Ma and Lerch, "Representation Learning for the Automatic
Indexing of Sound Effects Libraries", ISMIR 2022. Install it with
``pip install --no-deps aisfx``.
"""

from functools import cache

import librosa
import numpy as np
import soxr
import torch

# What the network was trained on.
RATE = 44100
LARGEST = 9.457798957824707  # of log10(10,000 power + 1)
BLOCK = 100  # frames


def aisfx(waveforms):
    """Encode waveforms at 16 kHz: 512 features for each 2.3 s, as it was trained."""
    return np.stack([encode(samples) for samples in waveforms])


def encode(samples):
    """Encode one waveform; above 8 kHz the network hears nothing."""
    samples = soxr.resample(samples, 16000, RATE)
    samples = samples / (np.abs(samples).max() or 1)
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=RATE,
        n_fft=2048,
        hop_length=1024,
        n_mels=96,
        norm=1.0,
        htk=True,
    )
    frames = np.log10(10_000 * mel.T + 1) / LARGEST
    short = max(0, BLOCK - len(frames))
    frames = np.pad(frames, ((0, short), (0, 0))).astype(np.float32)
    last = len(frames) - BLOCK  # which ends where the clip does
    starts = [*range(0, last, BLOCK), last]
    blocks = np.stack([frames[start : start + BLOCK] for start in starts])
    with torch.inference_mode():
        return load_network()(torch.from_numpy(blocks)).numpy()


@cache
def load_network():
    """Load the part of the network that embeds."""
    from aisfx.inference import get_path_modelWeights
    from aisfx.models.cnn2d import EmbeddingNet

    # A pickle of the package, whose code runs as well.
    weights, _ = torch.load(get_path_modelWeights(), "cpu", weights_only=False)
    prefix = "embedding_net."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if prefix in k}
    network = EmbeddingNet("max", 3, 1, 64)
    network.load_state_dict(own)
    return network.eval().to(memory_format=torch.channels_last)
