"""LogMelSegmenter: recordings in, log-mels out, ready to be cut into segments."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from tqdm.auto import tqdm

from sklearn_asd._utils.parameters import Interval, StrOptions, validates_parameters
from sklearn_asd.audio import BadClipError, Clips, View
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.audio.views import Sound
from sklearn_asd.features.base import ClipTransformer
from sklearn_asd.features.cache import FileStore, MemoryStore, Place
from sklearn_asd.features.logmel import log_mel_spectrogram
from sklearn_asd.features.spectrograms import ClipSpectrograms

__all__ = ["LogMelSegmenter"]

# Views made before their frames are stored: enough to keep all workers busy, few
# enough that what a killed process loses is little.
_BLOCK = 256


# To be raised when the same recipe comes to give other frames: caches outlive versions.
_FRAMES_VERSION = 1


class LogMelSegmenter(ClipTransformer):
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
    313 frames and 5 segments, takes 160 kB (float32), and about 2 ms plus the time to
    decode its file; nine views of it take 1.4 MB and 60 ms. The result has no
    columns, so ``set_output`` refuses to make tables of it.

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

    _parameter_constraints: dict = {
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

    def __init__(
        self,
        *,
        sample_rate=16000,
        n_fft=1024,
        hop_length=512,
        n_mels=128,
        fmin=0.0,
        fmax=None,
        segment_duration=3.072,
        segment_hop=1.536,
        channel="mix",
        on_bad_clip="raise",
        dtype="float32",
        cache_dir=None,
        n_jobs=None,
        verbose=0,
    ):
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.fmin = fmin
        self.fmax = fmax
        self.segment_duration = segment_duration
        self.segment_hop = segment_hop
        self.channel = channel
        self.on_bad_clip = on_bad_clip
        self.dtype = dtype
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.verbose = verbose

    @validates_parameters(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the parameters and the form of X; nothing is learnt or read.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips; see :meth:`sklearn_asd.Clips.from_X`.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : LogMelSegmenter
            Itself.
        """
        Clips.from_X(X)
        self._check_bands()
        self._segment_frames()
        return self

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
            If `cache_dir` cannot be used: the disk is full, say.

        RuntimeError
            If a worker process was killed.
        """
        self._validate_params()
        self._check_bands()
        segment_frames, segment_hop_frames = self._segment_frames()
        clips = Clips.from_X(X)
        recipe = Recipe(**{name: getattr(self, name) for name in Recipe.__slots__})
        store = self._open_store(recipe)
        places = self._read_clips(clips, recipe, store)
        bounds, problems = self._settle_bounds(clips, places, segment_frames)
        return ClipSpectrograms(
            store.frames(),
            bounds[..., 0],
            bounds[..., 1],
            machine_type=clips.machine_type,
            machine_id=clips.machine_id,
            segment_frames=segment_frames,
            segment_hop_frames=segment_hop_frames,
            view_names=[view.name for view in clips.views],
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            fmin=self.fmin,
            fmax=self.sample_rate / 2 if self.fmax is None else self.fmax,
            problems=problems,
        )

    def _check_bands(self) -> None:
        """Refuse mel bands that no sound can fall into."""
        highest = self.sample_rate / 2
        fmax = highest if self.fmax is None else self.fmax
        if not self.fmin < fmax <= highest:
            raise ValueError(
                f"mel bands from fmin={self.fmin:g} to fmax={fmax:g} Hz do not lie "
                f"between 0 and half of sample_rate, {highest:g} Hz: choose "
                "fmin < fmax within it"
            )

    def _segment_frames(self) -> tuple[int | None, int]:
        """Length and hop of the segments in frames."""
        frames_per_second = self.sample_rate / self.hop_length
        hop = round(self.segment_hop * frames_per_second)
        length = (
            None
            if self.segment_duration is None
            else round(self.segment_duration * frames_per_second)
        )
        if hop == 0 or length == 0:
            raise ValueError(
                f"segment_duration={self.segment_duration} s and segment_hop="
                f"{self.segment_hop} s must each be at least one frame, "
                f"{1 / frames_per_second:g} s: raise them or lower hop_length"
            )
        return length, hop

    def _open_store(self, recipe: Recipe) -> MemoryStore | FileStore:
        if self.cache_dir is None:
            return MemoryStore(self.n_mels, self.dtype)
        settings = f"version {_FRAMES_VERSION}: {recipe!r}"
        return FileStore(self.cache_dir, settings, self.n_mels, self.dtype)

    def _read_clips(
        self, clips: Clips, recipe: Recipe, store: MemoryStore | FileStore
    ) -> list[list[Place]]:
        """Find each view's place in the store, after making those not yet in it."""
        singles = [clips[row] for row in range(len(clips))]
        with Parallel(n_jobs=self.n_jobs, prefer="threads") as parallel:
            with self._explaining_killed_workers(clips, range(len(clips)), 0):
                keys = store.keys(singles, parallel)
            unread = _find_unread(keys, store.places)
            rows = list(unread)
            with tqdm(
                total=len(rows), desc="log-mel", unit="clip", disable=not self.verbose
            ) as progress:
                # However many views there are, as many frames wait to be stored.
                n_rows = max(1, _BLOCK // len(clips.views))
                for start in range(0, len(rows), n_rows):
                    block = rows[start : start + n_rows]
                    with self._explaining_killed_workers(clips, block, start):
                        made = self._make_views(
                            singles,
                            {row: unread[row] for row in block},
                            recipe,
                            parallel,
                        )
                    store.add({keys[row][view]: f for (row, view), f in made.items()})
                    self._stop_if_bad(clips, {row: f for (row, _), f in made.items()})
                    del made  # before the next block is made
                    progress.update(len(block))
        return [[store.places[key] for key in of_clip] for of_clip in keys]

    @contextmanager
    def _explaining_killed_workers(
        self, clips: Clips, block: Sequence[int], n_done: int
    ) -> Iterator[None]:
        """Say what is lost and what remains when a worker process dies."""
        try:
            yield
        except BrokenExecutor as error:
            kept = "lost, as there is no cache_dir"
            if self.cache_dir is not None:
                kept = f"kept in cache_dir {os.fspath(self.cache_dir)!r}"
            raise RuntimeError(
                f"a worker process was killed, as a system does that runs out of "
                f"memory, while it read clips between {clips.name(block[0])} and "
                f"{clips.name(block[-1])}. {n_done} clips were done before, and are "
                f"{kept}: lower n_jobs, and run again"
            ) from error

    def _make_views(
        self,
        singles: list[Clips],
        wanted: dict[int, list[int]],
        recipe: Recipe,
        parallel: Parallel,
    ) -> dict[tuple[int, int], np.ndarray | BadClipError]:
        """Make the wanted views of some clips; several workers share few clips."""
        n_parts = ceil(effective_n_jobs(self.n_jobs) / len(wanted))
        tasks = [
            (row, views[part::n_parts])
            for row, views in wanted.items()
            for part in range(min(n_parts, len(views)))
        ]
        results = parallel(
            delayed(recipe.frames)(
                singles[row].with_views([singles[row].views[v] for v in views])
            )
            for row, views in tasks
        )
        made: dict[tuple[int, int], np.ndarray | BadClipError] = {}
        for (row, views), frames in zip(tasks, results, strict=True):
            made |= {(row, v): f for v, f in zip(views, frames, strict=True)}
        return dict(sorted(made.items(), key=lambda view: view[0]))

    def _settle_bounds(
        self, clips: Clips, places: list[list[Place]], segment_frames: int | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Apply the policy for bad clips: bounds of each view, problems of each row.

        The bounds are (start, stop), or (0, 0) of a bad clip: one with a bad view.
        """
        checked = [
            self._check_lengths(clips, views, segment_frames) for views in places
        ]
        bad = {row: place for row, place in enumerate(checked) if _is_bad(place)}
        self._stop_if_bad(clips, bad)
        problems = {row: str(error) for row, error in bad.items()}
        if problems:
            warnings.warn(
                f"{len(bad)} of {len(clips)} clips cannot be used and score NaN:\n  "
                + "\n  ".join(f"{clips.name(row)} {problems[row]}" for row in problems),
                UnusableClipWarning,
                stacklevel=3,
            )
        nowhere = [(0, 0)] * len(clips.views)
        bounds = [nowhere if _is_bad(views) else views for views in checked]
        return np.array(bounds), problems

    def _check_lengths(
        self, clips: Clips, places: list[Place], segment_frames: int | None
    ) -> list[Place] | BadClipError:
        """Give the error of a clip that is bad, or shorter than a segment."""
        for view, place in zip(clips.views, places, strict=True):
            if isinstance(place, BadClipError):
                return place
            n_frames = place[1] - place[0]
            if segment_frames is not None and n_frames < segment_frames:
                subject = "" if len(places) == 1 else f"has a view {view.name!r} that "
                # n frames are n - 1 to n hops of sound.
                seconds = (n_frames - 0.5) * self.hop_length / self.sample_rate
                return BadClipError(
                    f"{subject}is about {seconds:.3g} s ({n_frames} frames); segments "
                    f"need {self.segment_duration:g} s ({segment_frames} frames): "
                    "lower segment_duration, pad, or leave it out"
                )
        return places

    def _stop_if_bad(self, clips: Clips, results: dict[int, Any]) -> None:
        if self.on_bad_clip == "raise":
            for row, result in results.items():
                if _is_bad(result):
                    raise type(result)(f"{clips.name(row)} {result}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a clip's frames depend on besides the clip; sent to the workers."""

    sample_rate: float
    channel: Literal["mix"] | int
    n_fft: int
    hop_length: int
    n_mels: int
    fmin: float
    fmax: float | None
    dtype: str

    def frames(self, clip: Clips) -> list[np.ndarray | BadClipError]:
        """Read one clip and compute the frames of its views, one after the other.

        Parameters
        ----------
        clip : Clips of length 1
            The clip.

        Returns
        -------
        frames : list of ndarray of shape (n_frames, n_mels), or of BadClipError
            One for each view. A bad clip's error is a result, for the caller to
            judge.
        """
        try:
            samples = clip.read(0, self.sample_rate, self.channel)
            sound = Sound(samples, self.sample_rate)
            return [self._log_mel(sound, view) for view in clip.views]
        except BadClipError as error:
            return [error] * len(clip.views)

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


def _find_unread(
    keys: list[list[Hashable]], places: dict[Hashable, Place]
) -> dict[int, list[int]]:
    """Tell which views of which clips the store lacks, each content once."""
    known, unread = set(places), {}
    for row, of_clip in enumerate(keys):
        missing = [view for view, key in enumerate(of_clip) if key not in known]
        if missing:
            unread[row] = missing
            known.update(of_clip)
    return unread


def _is_bad(place: Any) -> bool:
    return isinstance(place, BadClipError)
