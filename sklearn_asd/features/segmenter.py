"""LogMelSegmenter: recordings in, log-mels out, ready to be cut into segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np

from sklearn_asd._utils.messages import shorten
from sklearn_asd._utils.parameters import Interval
from sklearn_asd.audio import BadClipError, View
from sklearn_asd.audio.views import Sound
from sklearn_asd.features.front_end import FrontEnd, find_fmax
from sklearn_asd.features.logmel import log_mel_spectrogram

__all__ = ["SEGMENT_DURATION", "SEGMENT_HOP", "LogMelSegmenter"]

# Segments of the paper's systems (section 4.1.1) in s: 96 and 48 frames by default.
SEGMENT_DURATION = 3.072
SEGMENT_HOP = 1.536


@dataclass(kw_only=True, eq=False, repr=False)
class LogMelSegmenter(FrontEnd):  # numpydoc ignore=PR02
    """Turn recordings into log-mel spectrograms, cut into segments.

    Reads each clip, resamples it, and computes its log-mel power spectrogram in dB
    (no normalisation: the networks' batch norm does that). Rows stay clips: the
    segments are windows inside the returned :class:`ClipSpectrograms`, and so are the
    views that an :class:`AugmentationExpander` before it asks for.

    Parameters
    ----------
    sample_rate : float > 0, default=16000
        Sample rate of the analysis in Hz. Files with a higher rate are resampled;
        a lower one is an error, since the missing bands would look anomalous.
        Arrays are taken to be at this rate unless the table has a column
        `sample_rate`.

    n_fft : int, default=1024
        Window of the short-time Fourier transform in samples (64 ms at 16 kHz).

    hop_length : int, default=512
        Samples between successive frames (32 ms at 16 kHz).

    n_mels : int, default=128
        Number of mel bands.

    fmin, fmax : float, default=0.0 and None
        Edges of the mel bands in Hz; None is half of `sample_rate`.

    segment_duration : float or None, default=3.072
        Length of a segment in s, rounded to frames (96 by default); None takes the
        whole clip as one segment.

    segment_hop : float, default=1.536
        Time between the starts of successive segments in s.

    channel : "mix" or int, default="mix"
        Channel of files that have several: their average, or the one of this index.

    on_bad_clip : {"raise", "nan"}, default="raise"
        What to do about a clip that is missing, damaged, empty, too short, sampled
        at too low a rate, or holds NaN. "raise" stops with an error that names it;
        "nan" gives it no frames, so that it scores NaN and is not trained on, lists
        up to eight such clips in one warning, and keeps all reasons in the result's
        `problems`.

    dtype : {"float32", "float16"}, default="float32"
        Type of the frames. float16 halves memory and disk; around 60 dB it resolves
        0.03 dB.

    cache_dir : str, path-like or None, default=None
        Folder for the frames, which are then a memory map instead of an array, and
        are computed once for each recording (known by its content, under any name)
        and setting. It grows with every new recording; delete it to free the disk.

    n_jobs : int or None, default=None
        Clips computed in parallel, and views of one clip where there are fewer clips
        than workers, on joblib's threads or the backend in force
        (``joblib.parallel_config``). None is 1 unless that says otherwise; -1 is all
        cores.

    verbose : int, default=0
        Above 0, show progress.

    See Also
    --------
    AugmentationExpander : Asks for views of the clips.
    ClipSpectrograms : What is returned; also built from precomputed log-mels.
    IDConfidenceDetector : What it feeds.

    Notes
    -----
    Stateless: `fit` checks parameters and X only. A 10 s clip at the defaults has
    313 frames and 5 segments, and takes 160 kB (float32); nine views of it take 1.4 MB.
    Time and memory grow with the clips' total length times the number of views. The
    result has no columns, so ``set_output`` refuses to make tables of it.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, sections 3.1 and 4.1.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import LogMelSegmenter
    >>> waveforms = np.zeros((2, 10 * 16000))  # two clips of 10 s
    >>> LogMelSegmenter().fit_transform(waveforms)
    ClipSpectrograms(2 clips, 128 mels, 10 segments of 96 frames)
    """

    sample_rate: float = 16000
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    segment_duration: float | None = SEGMENT_DURATION
    segment_hop: float = SEGMENT_HOP
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
        "n_mels": [Interval(Integral, 1, None, closed="left")],
        "fmin": [Interval(Real, 0, None, closed="left")],
        "fmax": [Interval(Real, 0, None, closed="neither"), None],
        "segment_duration": [Interval(Real, 0, None, closed="neither"), None],
        "segment_hop": [Interval(Real, 0, None, closed="neither")],
    }

    _computes = "log-mel"
    _takes_log_mel_views = True
    _frames_version = 2
    _frame_settings = "sample_rate channel n_fft hop_length n_mels fmin fmax dtype"

    def segment_frames(self):
        """Convert the segments' length and hop to frames.

        Returns
        -------
        length : int or None
            Frames of a segment; None where the whole clip is one.

        hop : int
            Frames between the starts of successive segments.

        Raises
        ------
        ValueError
            If one of them is less than a frame.
        """
        frames_per_second = self.sample_rate / self.hop_length
        hop = round(self.segment_hop * frames_per_second)
        length = None
        if self.segment_duration is not None:
            length = round(self.segment_duration * frames_per_second)
        if hop == 0 or length == 0:
            raise ValueError(
                f"segment_duration={self.segment_duration} s and segment_hop="
                f"{self.segment_hop} s must each be at least one frame, "
                f"{1 / frames_per_second:g} s: raise them or lower hop_length"
            )
        return length, hop

    def _check_settings(self) -> None:
        self.segment_frames()
        self._find_fmax()

    def _find_fmax(self) -> float:
        return find_fmax(self.sample_rate, self.fmin, self.fmax, "mel bands")

    def _count_bands(self) -> int:
        return self.n_mels

    def _describe_result(self) -> dict[str, Any]:
        length, hop = self.segment_frames()
        return {
            "segment_frames": length,
            "segment_hop_frames": hop,
            "hop_length": self.hop_length,
            "fmin": self.fmin,
            "fmax": self._find_fmax(),
        }

    def _compute_frames(self, sound: Sound, view: View) -> np.ndarray:
        log_mel = log_mel_spectrogram(
            view.waveform(sound),
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=self.fmax,
        )
        with np.errstate(over="ignore"):
            return view.log_mel(log_mel.T).T

    def _find_short(
        self, views: Sequence[View], bounds: np.ndarray
    ) -> BadClipError | None:
        """Give the error of a clip with a view that is shorter than a segment."""
        segment_frames, _ = self.segment_frames()
        for view, n_frames in zip(views, bounds[:, 1] - bounds[:, 0], strict=True):
            if segment_frames is not None and n_frames < segment_frames:
                subject = (
                    "" if len(views) == 1 else f"has a view {shorten(view.name)} that "
                )
                # n frames are n - 1 to n hops of sound.
                seconds = (n_frames - 0.5) * self.hop_length / self.sample_rate
                return BadClipError(
                    f"{subject}is about {seconds:.3g} s ({n_frames} frames); segments "
                    f"need {self.segment_duration:g} s ({segment_frames} frames): "
                    "lower segment_duration, pad, or leave it out"
                )
        return None
