"""PowerSpectrum: recordings in, one power spectrum of each whole clip out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.sparse

from sklearn_asd._utils.parameters import Interval
from sklearn_asd.audio import View
from sklearn_asd.audio.views import Sound
from sklearn_asd.audio.windows import hann_window
from sklearn_asd.features.front_end import FrontEnd, find_fmax

__all__ = ["MIN_DENSITY", "PowerSpectrum", "band_filters", "mean_power_density"]

# Digital silence is -160 dB, below the noise of 16 bits (-140 dB at 16 kHz), as the
# floor of log-mels is.
MIN_DENSITY = 1e-16

# Windows transformed at once: few enough to stay in the cache and to bound the memory
# that an hour of sound takes.
_WINDOWS_AT_ONCE = 16


@dataclass(kw_only=True, eq=False, repr=False)
class PowerSpectrum(FrontEnd):  # numpydoc ignore=PR02
    """Turn recordings into power spectra of whole clips, in log-spaced bands.

    Reads each clip, resamples it, and computes its power spectrum in dB by Welch's
    method: one spectrum for the whole clip, much finer than a log-mel at low
    frequencies, and without time. Suited to machines that run steadily, whose tones
    tell their state, such as fans; not to those that are heard in short events.

    Parameters
    ----------
    sample_rate : float > 0, default=16000
        Sample rate of the analysis in Hz. Files with a higher rate are resampled;
        a lower one is an error, since the missing bands would look anomalous.
        Arrays are taken to be at this rate unless the table has a column
        `sample_rate`.

    n_fft : int >= 2, default=8192
        Window of Welch's method in samples (0.512 s at 16 kHz): a Hann window, moved
        by half of its length. A clip that is shorter has one window of its own length.

    n_bands : int, default=96
        Number of bands, between edges that are evenly spaced in log-frequency.

    fmin, fmax : float, default=10.0 and None
        Edges of the lowest and the highest band in Hz; None is half of `sample_rate`.

    remove_level : bool, default=True
        Whether the mean over the bands, in dB, is subtracted from each clip, so that
        only the shape of its spectrum counts, not how loud it is.

    channel : "mix" or int, default="mix"
        Channel of files that have several: their average, or the one of this index.

    on_bad_clip : {"raise", "nan"}, default="raise"
        What to do about a clip that is missing, damaged, empty, sampled at too low a
        rate, or holds NaN. "raise" stops with an error that names it; "nan" gives it
        no frame, so that it scores NaN and is not trained on, lists up to eight such
        clips in one warning, and keeps all reasons in the result's `problems`.

    dtype : {"float32", "float16"}, default="float32"
        Type of the spectra.

    cache_dir : str, path-like or None, default=None
        Folder for the spectra, which are then a memory map instead of an array, and
        are computed once for each recording (known by its content, under any name)
        and setting. It may be that of a :class:`LogMelSegmenter`.

    n_jobs : int or None, default=None
        Clips computed in parallel, and views of one clip where there are fewer clips
        than workers, on joblib's threads or the backend in force
        (``joblib.parallel_config``). None is 1 unless that says otherwise; -1 is all
        cores.

    verbose : int, default=0
        Above 0, show progress.

    See Also
    --------
    LogMelSegmenter : Log-mels, which keep time.
    SpectrumStatistics : The next step, for detectors on rows of numbers.
    ClipSpectrograms : What is returned.

    Notes
    -----
    Stateless: `fit` checks parameters and X only. Each view of a clip has one frame,
    and is one segment. Its columns, which :class:`ClipSpectrograms` counts as `n_mels`,
    are the bands. Views of an :class:`AugmentationExpander` are computed from their
    samples; those that change a log-mel, such as "flip_time" and :class:`LogMelView`,
    are refused.

    The power density is the mean over the windows, each without its own mean (the
    offset of a sensor). A band's value is the mean density between its edges, where
    each bin of the FFT stands for the frequencies that are nearest to it (and the
    first one above 0 Hz for all below). So no band is empty: one that is narrower than
    a bin, ``sample_rate / n_fft``, takes the value of the bin it lies in. The unit is
    dB relative to full scale squared per Hz, at least -160: white noise of variance v
    has ``10 * log10(2 * v / sample_rate)`` in all bands. With `remove_level`, dB are
    relative to the clip's mean, and digital silence is 0 in all bands.

    What is left over at a clip's end, less than half a window, is not used. A clip
    shorter than `n_fft` is resolved less finely; its window is padded with zeros after
    weighting, so that the bands and the level stay the same.

    Cost: about 3 ms for 10 s at 16 kHz on one core, growing with the clip's length.

    References
    ----------
    P. D. Welch, "The use of fast Fourier transform for the estimation of power
    spectra", IEEE Trans. Audio Electroacoust. 15 (2), 1967.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import PowerSpectrum
    >>> t = np.arange(10 * 16000) / 16000
    >>> hum = [np.sin(2 * np.pi * 50 * t), np.sin(2 * np.pi * 60 * t)]
    >>> X = PowerSpectrum().fit_transform(hum)
    >>> X
    ClipSpectrograms(2 clips, 96 bands, whole clips)
    >>> edges = np.geomspace(10, 8000, 97)
    >>> edges[X.frames.argmax(axis=1)].round(1)  # where the loudest bands begin
    array([49.6, 57. ])
    """

    sample_rate: float = 16000
    n_fft: int = 8192
    n_bands: int = 96
    fmin: float = 10.0
    fmax: float | None = None
    remove_level: bool = True
    channel: Literal["mix"] | int = "mix"
    on_bad_clip: Literal["raise", "nan"] = "raise"
    dtype: str = "float32"
    cache_dir: str | PathLike[str] | None = None
    n_jobs: int | None = None
    verbose: int = 0

    _parameter_constraints = {
        **FrontEnd._parameter_constraints,
        "n_fft": [Interval(Integral, 2, None, closed="left")],
        "n_bands": [Interval(Integral, 1, None, closed="left")],
        "fmin": [Interval(Real, 0, None, closed="neither")],
        "fmax": [Interval(Real, 0, None, closed="neither"), None],
        "remove_level": ["boolean"],
    }

    _computes = "power spectrum"
    _frames_version = 1
    _frame_settings = "sample_rate channel n_fft n_bands fmin fmax remove_level dtype"

    def _check_settings(self) -> None:
        self._find_fmax()

    def _find_fmax(self) -> float:
        return find_fmax(self.sample_rate, self.fmin, self.fmax, "bands")

    def _count_bands(self) -> int:
        return self.n_bands

    def _describe_result(self) -> dict[str, Any]:
        return {
            "segment_frames": None,
            "fmin": self.fmin,
            "fmax": self._find_fmax(),
            "band_scale": "log",
        }

    def _compute_frames(self, sound: Sound, view: View) -> np.ndarray:
        density = mean_power_density(view.waveform(sound), self.sample_rate, self.n_fft)
        filters = band_filters(
            self.sample_rate, self.n_fft, self.n_bands, self.fmin, self.fmax
        )
        level = 10 * np.log10(np.maximum(filters @ density, MIN_DENSITY))
        if self.remove_level:
            level -= level.mean()
        return level[None].astype(np.float32)


def mean_power_density(
    samples: np.ndarray, sample_rate: float, n_fft: int
) -> np.ndarray:
    """Estimate the power density of a clip by Welch's method.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,)
        Samples in [-1, 1]; at least one.

    sample_rate : float > 0
        Sample rate in Hz.

    n_fft : int
        Window in samples, and length of the FFT.

    Returns
    -------
    density : ndarray of shape (n_fft // 2 + 1,), float64
        Full scale squared per Hz. The power of the negative frequencies is added, so
        the lowest bin, and the highest one if `n_fft` is even, hold twice their own.
    """
    length = min(n_fft, len(samples))
    window = hann_window(length)
    hop = length - length // 2
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    power = np.zeros(n_fft // 2 + 1)
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        # In float64, as quiet bands need it.
        block = windows[start : start + _WINDOWS_AT_ONCE].astype(np.float64)
        block -= block.mean(axis=1, keepdims=True)
        spectrum = scipy.fft.rfft(block * window, n_fft, axis=1)
        power += (np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=0)
    scale = 2 / (sample_rate * np.square(window).sum())
    return scale * power / len(windows)


@lru_cache(maxsize=8)
def band_filters(
    sample_rate: float, n_fft: int, n_bands: int, fmin: float, fmax: float | None
) -> scipy.sparse.csr_array:
    """Make the filters that average the power density over each band.

    Parameters
    ----------
    sample_rate : float
        Sample rate in Hz.

    n_fft : int
        Length of the FFT.

    n_bands : int
        Number of bands.

    fmin, fmax : float
        Edges of the lowest and the highest band in Hz; None is half the sample rate.

    Returns
    -------
    filters : csr_array of shape (n_bands, 1 + n_fft // 2), float64
        Shares of each band that are nearest to each bin; rows sum to 1. Not to be
        written to, as it is kept for the next call.
    """
    highest = sample_rate / 2
    edges = np.geomspace(fmin, highest if fmax is None else fmax, n_bands + 1)
    # A bin reaches half way to the next. The one at 0 Hz, which holds no power, has no
    # part, and the highest reaches up to half of the sample rate.
    between = (np.arange(1, n_fft // 2) + 0.5) * sample_rate / n_fft
    bins = np.concatenate([[0, 0], between, [highest]])
    low = np.maximum(edges[:-1, None], bins[:-1])
    high = np.minimum(edges[1:, None], bins[1:])
    shares = np.maximum(high - low, 0) / np.diff(edges)[:, None]
    return scipy.sparse.csr_array(shares)
