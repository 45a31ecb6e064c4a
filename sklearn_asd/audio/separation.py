"""Harmonic and percussive part of a clip."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal

__all__ = ["separate"]

# Window, hop and filters of librosa.effects.hpss, whose separation this is.
_N_FFT = 2048
_HOP_LENGTH = _N_FFT // 4
_N_MEDIAN = 31
_HANN = scipy.signal.get_window("hann", _N_FFT)
_TINY = np.finfo(np.float32).tiny


def separate(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate what lasts in time from what is spread over frequencies.

    Equals ``librosa.effects.hpss``, without its compiled functions, which want a folder
    to keep them in. A median over 31 frames of a bin's magnitude keeps tones, one over
    31 bins of a frame's keeps clicks; each bin is shared by the squares of the two.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1]; at least one.

    Returns
    -------
    harmonic, percussive : ndarray of shape (n_samples,), float32
        The two parts; they sum to `samples`, but for rounding.

    References
    ----------
    D. Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio.separation import separate
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    >>> harmonic, percussive = separate(tone)
    >>> bool(np.square(harmonic).mean() > 100 * np.square(percussive).mean())
    True
    """
    padded = np.pad(samples, _N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP_LENGTH]
    spectrum = np.empty((len(frames), 1 + _N_FFT // 2), dtype=np.complex64)
    for row, frame in enumerate(frames):  # in float64, one at a time to save memory
        spectrum[row] = scipy.fft.rfft(frame * _HANN)
    magnitude = np.abs(spectrum)
    silent = magnitude == 0
    spectrum.real /= magnitude + silent
    spectrum.imag /= magnitude + silent
    spectrum.real += silent  # now of magnitude 1: the phase
    lasting, wide = (
        scipy.ndimage.median_filter(magnitude, size=size, mode="reflect")
        for size in [(_N_MEDIAN, 1), (1, _N_MEDIAN)]
    )
    harmonic = magnitude * _share(lasting, wide) * spectrum
    percussive = magnitude * _share(wide, lasting) * spectrum
    return _synthesize(harmonic, len(samples)), _synthesize(percussive, len(samples))


def _share(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share each bin by power, and what is silent in half."""
    larger = np.maximum(own, other)
    silent = larger < _TINY
    larger[silent] = 1
    own_power, other_power = (own / larger) ** 2, (other / larger) ** 2
    total = own_power + other_power
    total[silent] = 1
    return np.where(silent, np.float32(0.5), own_power / total)


def _synthesize(spectrum: np.ndarray, n_samples: int) -> np.ndarray:
    """Overlap the frames, and divide by the sum of their squared windows."""
    n_frames = len(spectrum)
    # Frames overlap by three quarters: rows of one hop each, four to a frame.
    sound, weight = np.zeros((2, n_frames + 3, _HOP_LENGTH), dtype=np.float32)
    quarters = _HANN * scipy.fft.irfft(spectrum, axis=1)
    quarters = quarters.reshape(n_frames, 4, _HOP_LENGTH)
    squares = np.square(_HANN).reshape(4, _HOP_LENGTH)
    for quarter in (3, 2, 1, 0):  # as the frames come in time
        rows = slice(quarter, quarter + n_frames)
        sound[rows] += quarters[:, quarter]
        weight[rows] += squares[quarter]
    weight[weight <= _TINY] = 1
    sound /= weight
    return sound.ravel()[_N_FFT // 2 :][:n_samples]
