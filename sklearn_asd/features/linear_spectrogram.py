"""LinearSpectrogram: linear magnitudes over time, and spectra of whole clips."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np
import scipy.fft

from sklearn_asd._utils.parameters import Interval
from sklearn_asd.audio import View
from sklearn_asd.audio.views import Sound
from sklearn_asd.audio.windows import hann_window
from sklearn_asd.features.front_end import FrontEnd, find_fmax

__all__ = ["LinearSpectrogram", "clip_spectrum", "magnitude_spectrogram"]

# Frames transformed at once: few enough to stay in the cache and to bound the memory
# that an hour of sound takes.
_FRAMES_AT_ONCE = 128


@dataclass(kw_only=True, eq=False, repr=False)
class LinearSpectrogram(FrontEnd):  # numpydoc ignore=PR02
    """Turn recordings into linear magnitudes, and the spectra of whole clips.

    Reads each clip, resamples it, and computes the magnitudes of its short-time Fourier
    transform, neither on the mel scale nor in dB. Beside them stands the magnitude
    spectrum of the whole clip, much finer in frequency and without time. That is what
    the two paths of :class:`~sklearn_asd.networks.DualPathNetwork` hear.

    Parameters
    ----------
    sample_rate : float > 0, default=16000
        Sample rate of the analysis in Hz. Files with a higher rate are resampled;
        a lower one is an error, since the missing bands would look anomalous.
        Arrays are taken to be at this rate unless the table has a column
        `sample_rate`.

    n_fft : int >= 2, default=1024
        Window of the short-time Fourier transform in samples (64 ms at 16 kHz).

    hop_length : int, default=512
        Samples between successive frames (32 ms at 16 kHz).

    n_spectrum : int >= 0, default=8000
        Number of bands of the whole clip's spectrum, all equally wide (1 Hz by
        default); 0 computes none.

    fmin, fmax : float, default=0.0 and None
        Lowest and highest frequency in Hz of both; None is half of `sample_rate`.

    channel : "mix" or int, default="mix"
        Channel of files that have several: their average, or the one of this index.

    on_bad_clip : {"raise", "nan"}, default="raise"
        What to do about a clip that is missing, damaged, empty, sampled at too low a
        rate, or holds NaN. "raise" stops with an error that names it; "nan" gives it
        no frames, so that it scores NaN and is not trained on, lists up to eight such
        clips in one warning, and keeps all reasons in the result's `problems`.

    dtype : {"float32", "float16"}, default="float32"
        Type of the magnitudes. float16 halves memory and disk.

    cache_dir : str, path-like or None, default=None
        Folder for the magnitudes, which are then a memory map instead of an array, and
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
    LogMelSegmenter : Log-mels in segments, which the paper's networks hear.
    PowerSpectrum : A spectrum of each clip in dB, for detectors without a network.
    sklearn_asd.networks.DualPathNetwork : The network that it is for.
    ClipSpectrograms : What is returned.

    Notes
    -----
    Stateless: `fit` checks parameters and X only. A clip is one segment. Its frames are
    ``abs(rfft(window * samples))`` of frames centred on multiples of `hop_length`, with
    zeros beyond the ends; columns, which :class:`ClipSpectrograms` counts as `n_mels`,
    are the bins from `fmin` to `fmax`, 513 by default. Views of an
    :class:`AugmentationExpander` are computed from their samples; those that change a
    log-mel, such as "flip_time" and :class:`LogMelView`, are refused.

    The spectrum of a clip of N samples is ``abs(rfft(samples)) / sqrt(N)``, averaged
    over the bins of each band, so that the noise of a machine has the same level in
    clips of any length. Clips too short to have a bin in each band are padded with
    zeros.

    A 10 s clip has 313 frames and takes 0.67 MB (float32), four times its log-mel.
    Cost: about 10 ms for 10 s at 16 kHz on one core, growing with the clip's length.

    References
    ----------
    K. Wilkinghoff, "Design choices for learning embeddings from auxiliary tasks for
    domain generalization in anomalous sound detection", ICASSP 2023, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import LinearSpectrogram
    >>> t = np.arange(10 * 16000) / 16000
    >>> hum = [np.sin(2 * np.pi * 50.5 * t), np.sin(2 * np.pi * 60.5 * t)]
    >>> X = LinearSpectrogram().fit_transform(hum)
    >>> X
    ClipSpectrograms(2 clips, 513 bins, whole clips)
    >>> X.spectra[:, 0].argmax(axis=1)  # bands of 1 Hz
    array([50, 60])
    """

    sample_rate: float = 16000
    n_fft: int = 1024
    hop_length: int = 512
    n_spectrum: int = 8000
    fmin: float = 0.0
    fmax: float | None = None
    channel: Literal["mix"] | int = "mix"
    on_bad_clip: Literal["raise", "nan"] = "raise"
    dtype: str = "float32"
    cache_dir: str | PathLike[str] | None = None
    n_jobs: int | None = None
    verbose: int = 0

    _parameter_constraints = {
        **FrontEnd._parameter_constraints,
        "n_fft": [Interval(Integral, 2, None, closed="left")],
        "hop_length": [Interval(Integral, 1, None, closed="left")],
        "n_spectrum": [Interval(Integral, 0, None, closed="left")],
        "fmin": [Interval(Real, 0, None, closed="left")],
        "fmax": [Interval(Real, 0, None, closed="neither"), None],
    }

    _computes = "linear spectrogram"
    _frames_version = 2
    _frame_settings = "sample_rate channel n_fft hop_length n_spectrum fmin fmax dtype"

    def _check_settings(self) -> None:
        if self._count_bands() < 1:
            raise ValueError(
                f"no bin of n_fft={self.n_fft} lies between fmin={self.fmin:g} and "
                f"fmax={self._find_fmax():g} Hz, as they are "
                f"{self.sample_rate / self.n_fft:g} Hz apart: raise n_fft, or choose "
                "fmin and fmax further apart"
            )

    def _find_fmax(self) -> float:
        return find_fmax(self.sample_rate, self.fmin, self.fmax, "bins")

    def _find_bins(self) -> slice:
        """Find the bins of the short-time Fourier transform that are kept."""
        width = self.sample_rate / self.n_fft
        first, last = ceil(self.fmin / width), floor(self._find_fmax() / width)
        return slice(first, last + 1)

    def _count_bands(self) -> int:
        bins = self._find_bins()
        return bins.stop - bins.start

    def _count_spectrum(self) -> int:
        return self.n_spectrum

    def _describe_result(self) -> dict[str, Any]:
        return {
            "segment_frames": None,
            "hop_length": self.hop_length,
            "fmin": self.fmin,
            "fmax": self._find_fmax(),
            "band_scale": "linear",
        }

    def _compute_frames(self, sound: Sound, view: View) -> np.ndarray:
        samples, bins = view.waveform(sound), self._find_bins()
        frames = magnitude_spectrogram(samples, self.n_fft, self.hop_length, bins)
        if not self.n_spectrum:
            return frames
        spectrum = clip_spectrum(
            samples, self.sample_rate, self.n_spectrum, self.fmin, self._find_fmax()
        )
        n_bands = frames.shape[1]
        padded = np.pad(spectrum, (0, -len(spectrum) % n_bands))
        return np.concatenate([frames, padded.reshape(-1, n_bands)])


def magnitude_spectrogram(
    samples: np.ndarray, n_fft: int, hop_length: int, bins: slice = slice(None)
) -> np.ndarray:
    """Magnitudes of the short-time Fourier transform, frames first.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,)
        Samples in [-1, 1]; at least one.

    n_fft : int
        Window (Hann) in samples, and length of the FFT.

    hop_length : int
        Samples between successive frames, the first of which is centred on the first
        sample.

    bins : slice, default=slice(None)
        Which of the ``1 + n_fft // 2`` bins are kept.

    Returns
    -------
    magnitudes : ndarray of shape (n_frames, n_bins), float32
        At least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features.linear_spectrogram import magnitude_spectrogram
    >>> magnitude_spectrogram(np.ones(16), n_fft=4, hop_length=8).round(3)
    array([[1.5  , 1.118, 0.5  ],
           [2.   , 1.   , 0.   ],
           [0.5  , 0.5  , 0.5  ]], dtype=float32)
    """
    padded = np.pad(samples, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    hann, parts = hann_window(n_fft), []
    for start in range(0, len(windows), _FRAMES_AT_ONCE):
        spectrum = scipy.fft.rfft(windows[start : start + _FRAMES_AT_ONCE] * hann)
        parts.append(np.abs(spectrum[:, bins]).astype(np.float32))
    return np.concatenate(parts)


def clip_spectrum(
    samples: np.ndarray, sample_rate: float, n_bands: int, fmin: float, fmax: float
) -> np.ndarray:
    """Magnitude spectrum of a whole clip, averaged over bands of equal width.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,)
        Samples in [-1, 1]; at least one.

    sample_rate : float
        Sample rate in Hz.

    n_bands : int
        Number of bands.

    fmin, fmax : float
        Edges of the lowest and the highest band in Hz.

    Returns
    -------
    spectrum : ndarray of shape (n_bands,), float32
        ``abs(rfft(samples)) / sqrt(n_samples)``, averaged over the bins in each band.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features.linear_spectrogram import clip_spectrum
    >>> tone = np.cos(np.arange(16) * np.pi / 2)  # at 2 of 8 Hz
    >>> clip_spectrum(tone, 8, n_bands=4, fmin=0, fmax=4).round(3)
    array([0., 0., 1., 0.], dtype=float32)
    """
    # Bins at most half as far apart as the bands are wide: each band has one.
    n_least = ceil(2 * n_bands * sample_rate / (fmax - fmin))
    n_fft = scipy.fft.next_fast_len(max(len(samples), n_least), real=True)
    magnitude = np.abs(scipy.fft.rfft(samples.astype(np.float64), n_fft))
    edges = np.linspace(fmin, fmax, n_bands + 1) * (n_fft / sample_rate)
    places = np.ceil(edges - 1e-9).astype(int)
    places[-1] = floor(edges[-1] + 1e-9) + 1  # the last band holds fmax itself
    sums = np.add.reduceat(magnitude[: places[-1]], places[:-1])
    return (sums / np.diff(places) / sqrt(len(samples))).astype(np.float32)
