"""Times and frequencies of the frames and bands of spectrograms."""

from __future__ import annotations

import numpy as np

from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.features.logmel import mel_frequencies

__all__ = ["band_edges", "frame_duration"]


def frame_duration(X: ClipSpectrograms) -> float | None:
    """Compute the time between successive frames.

    Parameters
    ----------
    X : ClipSpectrograms
        Clips.

    Returns
    -------
    duration : float or None
        In s; None if it is not known.
    """
    if X.sample_rate is None or X.hop_length is None:
        return None
    return X.hop_length / X.sample_rate


def band_edges(X: ClipSpectrograms) -> np.ndarray:
    """Compute where each band begins and ends.

    Parameters
    ----------
    X : ClipSpectrograms
        Clips.

    Returns
    -------
    edges : ndarray of shape (n_mels + 1,)
        Frequencies in Hz: of mel bands half way, in mel, between the centres of
        successive bands, as they overlap. The numbers of the bands if the frequencies
        are not known.
    """
    if X.fmin is None or X.fmax is None:
        return np.arange(X.n_mels + 1.0)
    if X.band_scale == "log":
        return np.geomspace(X.fmin, X.fmax, X.n_mels + 1)
    if X.band_scale == "linear":
        return np.linspace(X.fmin, X.fmax, X.n_mels + 1)
    # The centres of the bands are halves[2:-1:2].
    halves = mel_frequencies(2 * X.n_mels + 3, X.fmin, X.fmax)
    return halves[1::2]
