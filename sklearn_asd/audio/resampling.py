"""Samples at another rate, or of another number."""

from __future__ import annotations

from math import ceil

import numpy as np
import soxr

__all__ = ["fix_length", "resample"]


def resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample, as ``librosa.resample`` does with its default "soxr_hq".

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        The samples.

    from_rate, to_rate : float > 0
        Their sample rate, and the wanted one; only the ratio counts.

    Returns
    -------
    samples : ndarray of shape (ceil(n_samples * to_rate / from_rate),), float32
        The samples at `to_rate`; the same array where the rates are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio.resampling import resample
    >>> resample(np.zeros(44100, dtype=np.float32), 44100, 16000).shape
    (16000,)
    """
    if from_rate == to_rate:
        return samples
    n_samples = ceil(len(samples) * (to_rate / from_rate))
    return fix_length(soxr.resample(samples, from_rate, to_rate), n_samples)


def fix_length(samples: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut off the end, or append zeros.

    Parameters
    ----------
    samples : ndarray of shape (any,)
        The samples.

    n_samples : int
        How many there shall be.

    Returns
    -------
    samples : ndarray of shape (n_samples,)
        The same array if it has this length.
    """
    missing = n_samples - len(samples)
    return np.pad(samples, (0, missing)) if missing > 0 else samples[:n_samples]
