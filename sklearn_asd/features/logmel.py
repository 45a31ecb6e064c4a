"""Samples to log-mel frames."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.sparse

from sklearn_asd.audio.windows import hann_window

__all__ = [
    "MIN_POWER",
    "RESOLVED",
    "log_mel_spectrogram",
    "mel_filters",
    "mel_frequencies",
]

# librosa.power_to_db's floor: silence is -100 dB.
MIN_POWER = 1e-10

# Slaney's mel scale: up to 1000 Hz 3 mel for each 200 Hz, then 27 for each factor 6.4.
_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0

# Frames transformed at once: ten seconds of sound, as threads wait for each other
# between two steps, and few enough to stay in the cache.
_FRAMES_AT_ONCE = 320

# Single precision resolves a band down to this share of the frame's mean power per bin,
# -47 dB: what it rounds away changes such a band by less than 1e-3 dB, also beside a
# pure tone.
RESOLVED = 2e-5


def log_mel_spectrogram(
    samples: np.ndarray,
    *,
    sample_rate: float = 16000,
    n_fft: int = 1024,
    hop_length: int = 512,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> np.ndarray:
    """Log-mel power spectrogram in dB, frames first.

    Equals ``librosa.power_to_db(librosa.feature.melspectrogram(...), top_db=None).T``
    within 1e-3 dB: Hann window, frames centred on multiples of `hop_length` with
    zeros beyond the ends, Slaney's mel scale and normalisation. Frames in which a
    band is more than 47 dB weaker than the mean take three times as long, as they are
    transformed again in double precision. Time and memory grow with the number of
    samples.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1]; at least one.

    sample_rate : float > 0, default=16000
        Sample rate in Hz.

    n_fft : int, default=1024
        Window length in samples.

    hop_length : int, default=512
        Samples between successive frames.

    n_mels : int, default=128
        Number of mel bands.

    fmin, fmax : float, default=0.0 and None
        Edges of the lowest and the highest band in Hz; None is half the sample rate.

    Returns
    -------
    log_mel : ndarray of shape (n_frames, n_mels), float32
        Power in dB relative to 1, at least -100. There are
        ``1 + n_samples // hop_length`` frames if `n_fft` is even.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features import log_mel_spectrogram
    >>> log_mel_spectrogram(np.zeros(160_000, dtype=np.float32)).shape
    (313, 128)
    """
    padded = np.pad(samples, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    filters = mel_filters(sample_rate, n_fft, n_mels, fmin, fmax)
    mel_power = np.empty((len(windows), n_mels), dtype=np.float32)
    for start in range(0, len(windows), _FRAMES_AT_ONCE):
        block = slice(start, start + _FRAMES_AT_ONCE)
        mel_power[block] = _mel_power(windows[block], filters)
    return np.float32(10) * np.log10(mel_power)


def _mel_power(windows: np.ndarray, filters: scipy.sparse.csr_array) -> np.ndarray:
    """Mel power of each window, of at least the floor, (n_windows, n_mels).

    The FFT is in single precision, and again in double precision, as librosa's, where a
    loud sound hides a quiet band. Which of both depends on the window alone.
    """
    power = _power(windows, np.float32)
    mel = np.maximum(filters @ power, np.float32(MIN_POWER)).T
    mean_power = power.sum(axis=0) / len(power)
    least = np.float32(RESOLVED) * filters.sum(axis=1)
    hidden = (mel < mean_power[:, None] * least).any(axis=1)
    if hidden.any():
        power = _power(windows[hidden], np.float64)
        mel[hidden] = np.maximum(filters @ power, np.float32(MIN_POWER)).T
    return mel


def _power(windows: np.ndarray, dtype: type) -> np.ndarray:
    """Power of each bin and window, (n_bins, n_windows), by an FFT in `dtype`."""
    weighted = windows * hann_window(windows.shape[1]).astype(dtype, copy=False)
    spectrum = scipy.fft.rfft(weighted.T, axis=0)
    power = np.square(spectrum.real, dtype=np.float32)
    power += np.square(spectrum.imag, dtype=np.float32)
    return power


@lru_cache(maxsize=8)
def mel_filters(
    sample_rate: float, n_fft: int, n_mels: int, fmin: float, fmax: float | None
) -> scipy.sparse.csr_array:
    """Make mel filters; sparse, as BLAS is slower and rounds by its number of threads.

    Equals ``librosa.filters.mel``: triangles of equal area, between three neighbouring
    frequencies each.

    Parameters
    ----------
    sample_rate : float
        Sample rate in Hz.

    n_fft : int
        Window length in samples.

    n_mels : int
        Number of mel bands.

    fmin, fmax : float
        Edges of the lowest and the highest band in Hz; None is half the sample rate.

    Returns
    -------
    filters : csr_array of shape (n_mels, 1 + n_fft // 2), float32
        Not to be written to, as it is kept for the next call.
    """
    edges = mel_frequencies(n_mels + 2, fmin, sample_rate / 2 if fmax is None else fmax)
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    widths = np.diff(edges)[:, None]
    rising = (bins - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - bins) / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2 / (edges[2:] - edges[:-2]))[:, None]
    n_empty = int(np.count_nonzero((edges[:-2] > 0) & (filters.max(axis=1) == 0)))
    if n_empty:
        warnings.warn(
            f"{n_empty} of n_mels={n_mels} bands lie between two bins of the FFT and "
            "are always silent: lower n_mels or raise n_fft",
            stacklevel=2,
        )
    return scipy.sparse.csr_array(filters)


def mel_frequencies(n: int, fmin: float, fmax: float) -> np.ndarray:
    """Space frequencies evenly on Slaney's mel scale.

    The scale is linear below 1000 Hz, 15 mel, and logarithmic above.

    Parameters
    ----------
    n : int
        How many.

    fmin, fmax : float
        The lowest and the highest in Hz.

    Returns
    -------
    frequencies : ndarray of shape (n,), float64
        In Hz, as of ``librosa.mel_frequencies``.

    Examples
    --------
    >>> from sklearn_asd.features.logmel import mel_frequencies
    >>> mel_frequencies(3, 0, 2000)
    array([   0.        ,  836.06267191, 2000.        ])
    """
    mels = np.linspace(_to_mel(fmin), _to_mel(fmax), n)
    frequencies = _HZ_PER_MEL * mels
    high = mels >= _BREAK_MEL
    frequencies[high] = _BREAK_HZ * np.exp(_LOG_STEP * (mels[high] - _BREAK_MEL))
    return frequencies


def _to_mel(frequency: float) -> float:
    if frequency < _BREAK_HZ:
        return frequency / _HZ_PER_MEL
    return _BREAK_MEL + np.log(frequency / _BREAK_HZ) / _LOG_STEP
