"""The window of all short-time spectra."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["hann_window"]


@lru_cache(maxsize=8)
def hann_window(n_fft: int) -> np.ndarray:
    """Weigh the samples of a frame.

    Equals ``scipy.signal.get_window("hann", n_fft)``; scipy.signal takes longer to
    import than a recording to score.

    Parameters
    ----------
    n_fft : int
        Window length in samples.

    Returns
    -------
    weights : ndarray of shape (n_fft,), float64
        Not to be written to, as it is kept for the next call.
    """
    if n_fft == 1:
        return np.ones(1)
    return 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, n_fft + 1)[:-1])
