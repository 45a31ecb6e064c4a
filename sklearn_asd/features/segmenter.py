"""LogMelSegmenter: recordings in, log-mels out, ready to be cut into segments."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from math import ceil
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import gen_even_slices
from tqdm.auto import tqdm

from sklearn_asd._utils.parameters import Interval, StrOptions
from sklearn_asd.audio import BadClipError, Clips, View
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.audio.views import Sound
from sklearn_asd.features.base import ClipTransformer
from sklearn_asd.features.cache import FileCache, MemoryCache
from sklearn_asd.features.logmel import log_mel_spectrogram
from sklearn_asd.features.spectrograms import ClipSpectrograms

__all__ = ["SEGMENT_DURATION", "SEGMENT_HOP", "LogMelSegmenter"]

# Segments of the paper's systems (section 4.1.1) in s: 96 and 48 frames by default.
SEGMENT_DURATION = 3.072
SEGMENT_HOP = 1.536

# Views computed before their frames are cached: enough to keep all workers busy, few
# enough that a killed process loses little.
_VIEWS_AT_ONCE = 256

# Raise this when the same settings give other frames: caches outlive versions.
_FRAMES_VERSION = 1

# All that a clip's frames depend on besides the clip.
_FRAME_SETTINGS = "sample_rate channel n_fft hop_length n_mels fmin fmax dtype"


@dataclass(kw_only=True, eq=False, repr=False)
class LogMelSegmenter(ClipTransformer):  # numpydoc ignore=PR02
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
        all such clips in one warning, and keeps the reasons in the result's
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
        "sample_rate": [Interval(Real, 0, None, closed="neither")],
        "n_fft": [Interval(Integral, 2, None, closed="left")],
        "hop_length": [Interval(Integral, 1, None, closed="left")],
        "n_mels": [Interval(Integral, 1, None, closed="left")],
        "fmin": [Interval(Real, 0, None, closed="left")],
        "fmax": [Interval(Real, 0, None, closed="neither"), None],
        "segment_duration": [Interval(Real, 0, None, closed="neither"), None],
        "segment_hop": [Interval(Real, 0, None, closed="neither")],
        "channel": [StrOptions({"mix"}), Interval(Integral, 0, None, closed="left")],
        "on_bad_clip": [StrOptions({"raise", "nan"})],
        "dtype": [StrOptions({"float32", "float16"})],
        "cache_dir": [str, PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def transform(self, X):
        """Read the clips and compute their log-mels.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips; see :meth:`sklearn_asd.Clips.from_X`.

        Returns
        -------
        spectrograms : ClipSpectrograms
            One row for each clip, in the same order.

        Raises
        ------
        BadClipError
            If a clip cannot be used and ``on_bad_clip="raise"``. It is a ValueError,
            and a FileNotFoundError too where the file is missing.

        OSError
            If `cache_dir` cannot be used, for example because the disk is full.

        RuntimeError
            If a worker process was killed.

        Warns
        -----
        UnusableClipWarning
            If clips cannot be used and ``on_bad_clip="nan"``.
        """
        clips = self._check(X)
        cache = self._open_cache()
        keys, errors = self._fill_cache(cache, clips)
        bounds, bad = self._find_bounds(clips, keys, cache, errors)
        self._stop_if_bad(clips, bad)
        problems = {row: str(error) for row, error in bad.items()}
        if problems:
            warnings.warn(
                f"{len(problems)} of {len(clips)} clips cannot be used and score NaN:"
                + "".join(f"\n  {clips.name(row)} {problems[row]}" for row in problems),
                UnusableClipWarning,
                stacklevel=2,
            )
        spectrograms = ClipSpectrograms(
            cache.frames(),
            bounds[..., 0],
            bounds[..., 1],
            machine_type=clips.machine_type,
            machine_id=clips.machine_id,
            domain=clips.domain,
            view_names=[view.name for view in clips.views],
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            fmin=self.fmin,
            fmax=self.sample_rate / 2 if self.fmax is None else self.fmax,
            problems=problems,
        )
        return spectrograms.resegment(*self.segment_frames())

    def _check(self, X: Any) -> Clips:
        """Refuse impossible parameters, such as mel bands that lie above all sound."""
        self._validate_params()
        self.segment_frames()
        highest = self.sample_rate / 2
        fmax = highest if self.fmax is None else self.fmax
        if not self.fmin < fmax <= highest:
            raise ValueError(
                f"mel bands from fmin={self.fmin:g} to fmax={fmax:g} Hz do not lie "
                f"between 0 and half of sample_rate, {highest:g} Hz: choose "
                "fmin < fmax within it"
            )
        return Clips.from_X(X)

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

    def _open_cache(self) -> MemoryCache | FileCache:
        if self.cache_dir is None:
            return MemoryCache(self.n_mels, self.dtype)
        values = [f"{name}={getattr(self, name)!r}" for name in _FRAME_SETTINGS.split()]
        # This text names the files of existing caches.
        settings = f"version {_FRAMES_VERSION}: Recipe({', '.join(values)})"
        return FileCache(self.cache_dir, settings, self.n_mels, self.dtype)

    def _fill_cache(
        self, cache: MemoryCache | FileCache, clips: Clips
    ) -> tuple[list[list[Hashable]], dict[Hashable, BadClipError]]:
        """Compute the views that the cache lacks; return all keys, and errors.

        Clips of equal content have equal keys, so the first key names the content: the
        errors are stored by it.
        """
        errors: dict[Hashable, BadClipError] = {}
        rows, n_done = list(range(len(clips))), 0
        singles = [clips[row] for row in rows]
        try:
            with (
                Parallel(n_jobs=self.n_jobs, prefer="threads") as parallel,
                tqdm(desc="log-mel", unit="clip", disable=not self.verbose) as progress,
            ):
                keys = cache.keys(singles, parallel)
                missing = _find_missing(keys, clips.views, cache.places)
                progress.reset(len(missing))
                # Keep the frames in memory bounded, whatever the number of views.
                n_rows = max(1, _VIEWS_AT_ONCE // len(clips.views))
                for n_done in range(0, len(missing), n_rows):
                    block = missing[n_done : n_done + n_rows]
                    rows = [row for row, _ in block]
                    bad = self._cache_views(cache, singles, block, parallel)
                    self._stop_if_bad(clips, bad)
                    errors |= {keys[row][0]: error for row, error in bad.items()}
                    progress.update(len(rows))
        except BrokenExecutor as error:
            raise RuntimeError(
                "a worker process was killed, perhaps for lack of memory, while it "
                f"read clips between {clips.name(rows[0])} and {clips.name(rows[-1])}. "
                f"{n_done} clips were done before, and with cache_dir="
                f"{self.cache_dir!r} are {'kept' if self.cache_dir else 'lost'}: "
                "lower n_jobs, and run again"
            ) from error
        return keys, errors

    def _cache_views(
        self,
        cache: MemoryCache | FileCache,
        singles: list[Clips],
        wanted: list[tuple[int, list[tuple[Hashable, View]]]],
        parallel: Parallel,
    ) -> dict[int, BadClipError]:
        """Make the wanted views of some clips; several workers share few clips.

        Returns the errors of bad clips by row.
        """
        n_parts = ceil(effective_n_jobs(self.n_jobs) / len(wanted))
        tasks = [
            (row, views[part])
            for row, views in wanted
            for part in gen_even_slices(len(views), n_parts)
        ]
        results = parallel(
            delayed(self._make_frames)(singles[row], views) for row, views in tasks
        )
        made: dict[Hashable, np.ndarray] = {}
        bad: dict[int, BadClipError] = {}
        for (row, _), (frames, error) in zip(tasks, results, strict=True):
            made |= frames
            if error is not None:
                bad.setdefault(row, error)
        cache.add(made)
        return bad

    def _make_frames(
        self, clip: Clips, views: list[tuple[Hashable, View]]
    ) -> tuple[dict[Hashable, np.ndarray], BadClipError | None]:
        """Read one clip and compute the frames of some views, one after the other.

        A bad clip has no frames. Its error is returned, as the caller decides about it.
        """
        try:
            samples = clip.read(0, self.sample_rate, self.channel)
            sound = Sound(samples, self.sample_rate)
            return {key: self._log_mel(sound, view) for key, view in views}, None
        except BadClipError as error:
            return {}, error

    def _log_mel(self, sound: Sound, view: View) -> np.ndarray:
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
            frames = view.log_mel(log_mel.T).T.astype(self.dtype, copy=False)
        if not np.isfinite(frames).all():
            raise BadClipError(
                f"has a view {view.name!r} whose log-mel is NaN or infinite in "
                f"{self.dtype}: leave the view or the clip out"
            )
        return frames

    def _find_bounds(
        self,
        clips: Clips,
        keys: list[list[Hashable]],
        cache: MemoryCache | FileCache,
        errors: dict[Hashable, BadClipError],
    ) -> tuple[np.ndarray, dict[int, BadClipError]]:
        """Find (start, stop) of each view, (0, 0) for bad clips, and their errors."""
        bounds = np.zeros((len(clips), len(clips.views), 2), dtype=np.int64)
        bad: dict[int, BadClipError] = {}
        for row, of_clip in enumerate(keys):
            error = errors.get(of_clip[0])
            if error is None:
                bounds[row] = [cache.places[key] for key in of_clip]
                error = self._find_short(clips.views, bounds[row])
            if error is not None:
                bounds[row], bad[row] = 0, error
        return bounds, bad

    def _find_short(
        self, views: Sequence[View], bounds: np.ndarray
    ) -> BadClipError | None:
        """Give the error of a clip with a view that is shorter than a segment."""
        segment_frames, _ = self.segment_frames()
        for view, n_frames in zip(views, bounds[:, 1] - bounds[:, 0], strict=True):
            if segment_frames is not None and n_frames < segment_frames:
                subject = "" if len(views) == 1 else f"has a view {view.name!r} that "
                # n frames are n - 1 to n hops of sound.
                seconds = (n_frames - 0.5) * self.hop_length / self.sample_rate
                return BadClipError(
                    f"{subject}is about {seconds:.3g} s ({n_frames} frames); segments "
                    f"need {self.segment_duration:g} s ({segment_frames} frames): "
                    "lower segment_duration, pad, or leave it out"
                )
        return None

    def _stop_if_bad(self, clips: Clips, bad: dict[int, BadClipError]) -> None:
        if bad and self.on_bad_clip == "raise":
            row = min(bad)
            raise type(bad[row])(f"{clips.name(row)} {bad[row]}") from bad[row]


def _find_missing(
    keys: list[list[Hashable]], views: Sequence[View], known: Iterable[Hashable]
) -> list[tuple[int, list[tuple[Hashable, View]]]]:
    """Find which views of which clips the cache lacks, each content once."""
    known, missing = set(known), []
    for row, of_clip in enumerate(keys):
        named = zip(of_clip, views, strict=True)
        if wanted := [(key, view) for key, view in named if key not in known]:
            missing.append((row, wanted))
            known.update(of_clip)
    return missing
