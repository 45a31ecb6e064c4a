"""FrontEnd: what the transformers that read recordings have in common."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Container, Hashable, Sequence
from concurrent.futures import BrokenExecutor
from itertools import chain
from math import ceil
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from tqdm.auto import tqdm

from sklearn_asd._utils.messages import abbreviate, count, shorten
from sklearn_asd._utils.parameters import Interval, StrOptions
from sklearn_asd.audio import BadClipError, Clips, View
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.audio.remarks import FACTS, find_copies, is_cancelled, is_silent
from sklearn_asd.audio.views import Sound
from sklearn_asd.features.base import ClipTransformer
from sklearn_asd.features.cache import FileCache, MemoryCache, open_clip, view_keys
from sklearn_asd.features.spectrograms import ClipSpectrograms

__all__ = ["FrontEnd", "Made", "find_fmax"]

# Views computed before their frames are cached: enough to keep all workers busy, few
# enough that a killed process loses little.
_VIEWS_AT_ONCE = 256

# Parts of these that each worker gets, one after the other: handing over a clip takes a
# third of the time that a short clip takes, and the last part keeps one worker alone.
_GROUPS_PER_WORKER = 8

# Unusable clips that a warning lists.
_LISTED = 8

# glibc gives freed blocks back to the kernel, which clears their pages for the next
# clip at a third of all costs, until it has seen a larger block freed. This one is not
# touched and takes no memory.
np.empty(2**24, dtype=np.uint8)


# Facts of clips that cannot be used.
_UNKNOWN = np.full(len(FACTS), np.nan)


class Made(NamedTuple):
    """What a worker makes of a clip: frames of its views, or an error.

    Attributes
    ----------
    content : bytes or None
        Names what was read, where that is wanted.

    frames : list of ndarray
        Of each view.

    facts : ndarray of shape (n_facts,)
        What was measured on the recording.

    error : BadClipError or None, default=None
        Why there are no frames.
    """

    content: bytes | None
    frames: list[np.ndarray]
    facts: np.ndarray
    error: BadClipError | None = None


class FrontEnd(ClipTransformer, ABC):
    """A transformer that reads clips and computes frames of each view of them.

    Reading, workers, caches and bad clips are the same for all. A subclass has the
    parameters below and those of its own, and says what its frames are: the class
    attributes, and the methods `_count_bands`, `_compute_frames` and
    `_describe_result`; `_check_settings` and `_find_short` where it refuses something,
    `_count_spectrum` where it gives the spectra of whole clips too.
    """

    sample_rate: float
    channel: Literal["mix"] | int
    on_bad_clip: Literal["raise", "nan"]
    dtype: str
    cache_dir: str | PathLike[str] | None
    n_jobs: int | None
    verbose: int

    _parameter_constraints: dict = {
        "sample_rate": [Interval(Real, 0, None, closed="neither")],
        "channel": [StrOptions({"mix"}), Interval(Integral, 0, None, closed="left")],
        "on_bad_clip": [StrOptions({"raise", "nan"})],
        "dtype": [StrOptions({"float32", "float16"})],
        "cache_dir": [str, PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    # Name of what is computed: in messages, and in the names of a cache's files.
    _computes: ClassVar[str]
    # Whether `_compute_frames` makes the views that change a log-mel.
    _takes_log_mel_views: ClassVar[bool] = False
    # Version of the frames, raised when the same settings give other ones (caches
    # outlive versions of the library), and the parameters that they depend on. The
    # text names the files of existing caches.
    _frames_version: ClassVar[int]
    _frame_settings: ClassVar[str]

    def fit_transform(self, X, y=None):
        """Read the clips to learn from, and warn of files that teach nothing.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips; see :meth:`sklearn_asd.Clips.from_X`.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        spectrograms : ClipSpectrograms
            As of :meth:`transform`, whose errors and warnings are raised here too.

        Warns
        -----
        UserWarning
            If files are silent, as of a muted microphone, or their channels cancel each
            other, or some are copies of each other; one warning for each.
        """
        spectrograms = self.fit(X, y).transform(X)
        _warn_of_what_teaches_nothing(Clips.from_X(X), spectrograms.facts)
        return spectrograms

    def transform(self, X):
        """Read the clips and compute their spectrograms.

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
        frames = cache.frames()
        spectra = self._take_spectra(frames, bounds)
        facts = [
            _UNKNOWN if row in bad else cache.facts[of_clip[0]]
            for row, of_clip in enumerate(keys)
        ]
        problems = {row: str(error) for row, error in bad.items()}
        if problems:
            listed = "".join(f"\n  {line}" for line in _group(clips, problems))
            n_bad = f"{len(problems)} of {len(clips)} clips"
            text = f"{n_bad} cannot be used and score NaN:{listed}"
            warnings.warn(UnusableClipWarning(text, problems), stacklevel=2)
        return ClipSpectrograms(
            frames,
            bounds[..., 0],
            bounds[..., 1],
            machine_type=clips.machine_type,
            machine_id=clips.machine_id,
            domain=clips.domain,
            view_names=[view.name for view in clips.views],
            sample_rate=self.sample_rate,
            problems=problems,
            facts=np.array(facts),
            spectra=spectra,
            **self._describe_result(),
        )

    def _take_spectra(
        self, frames: np.ndarray, bounds: np.ndarray
    ) -> np.ndarray | None:
        """Take the spectra off the ends of the views, whose bounds are moved."""
        if not (n_spectrum := self._count_spectrum()):
            return None
        n_rows = ceil(n_spectrum / self._count_bands())
        usable = bounds[..., 1] > bounds[..., 0]
        bounds[usable, 1] -= n_rows
        spectra = np.full((*usable.shape, n_spectrum), np.nan, dtype=frames.dtype)
        rows = bounds[usable, 1][:, None] + np.arange(n_rows)
        spectra[usable] = frames[rows].reshape(len(rows), -1)[:, :n_spectrum]
        return spectra

    def _check(self, X: Any) -> Clips:
        self._validate_params()
        self._check_settings()
        clips = Clips.from_X(X)
        if not self._takes_log_mel_views:
            self._refuse_log_mel_views(clips)
        return clips

    def _refuse_log_mel_views(self, clips: Clips) -> None:
        refused = [view.name for view in clips.views if view.changes_log_mel]
        if refused:
            raise ValueError(
                f"{type(self).__name__} computes no log-mel, and the views "
                f"{abbreviate(refused)} change one: leave them out of "
                "AugmentationExpander's extra, make them as WaveformView, or use "
                "LogMelSegmenter"
            )

    def _check_settings(self) -> None:
        """Refuse parameters that are possible one by one, but not together."""

    @abstractmethod
    def _count_bands(self) -> int:
        """Count the columns of the frames."""

    def _count_spectrum(self) -> int:
        """Count the values of a whole clip's spectrum, which its last frames hold."""
        return 0

    @abstractmethod
    def _compute_frames(self, sound: Sound, view: View) -> np.ndarray:
        """Compute the frames of one view, (n_frames, n_bands)."""

    @abstractmethod
    def _describe_result(self) -> dict[str, Any]:
        """Give the arguments of `ClipSpectrograms` that depend on the front end."""

    def _find_short(
        self, views: Sequence[View], bounds: np.ndarray
    ) -> BadClipError | None:
        """Give the error of a clip that is too short; bounds are (n_views, 2)."""
        return None

    def _open_cache(self) -> MemoryCache | FileCache:
        if self.cache_dir is None:
            return MemoryCache(self._count_bands(), self.dtype)
        settings = self._frames_version, self._list_settings()
        kind = self._computes.replace(" ", "-")
        return FileCache(
            self.cache_dir, settings, self._count_bands(), self.dtype, kind
        )

    def _list_settings(self) -> dict[str, Any]:
        """Name all that the frames depend on, for the name of their cache."""
        return {name: getattr(self, name) for name in self._frame_settings.split()}

    def _fill_cache(
        self, cache: MemoryCache | FileCache, clips: Clips
    ) -> tuple[list[list[Hashable]], dict[Hashable, BadClipError]]:
        """Compute the views that the cache lacks; return all keys, and errors.

        Clips of equal content have equal keys, so the first key names the content: the
        errors are stored by it. Where a file was replaced since it was digested, the
        keys become those of what was read, and all its views are made of one reading.
        """
        errors: dict[Hashable, BadClipError] = {}
        rows, n_done, again = list(range(len(clips))), 0, False
        singles = [clips[row] for row in rows]
        try:
            with (
                Parallel(n_jobs=self.n_jobs, prefer="threads") as parallel,
                tqdm(
                    desc=self._computes, unit="clip", disable=not self.verbose
                ) as progress,
            ):
                keys = cache.keys(singles, parallel)
                # Keep the frames in memory bounded, whatever the number of views.
                n_rows = max(1, _VIEWS_AT_ONCE // len(clips.views))
                while missing := _find_missing(keys, cache, errors, again):
                    progress.reset(len(missing))
                    for n_done in range(0, len(missing), n_rows):
                        block = missing[n_done : n_done + n_rows]
                        rows = [row for row, _ in block]
                        n_parts = 1 if again else self._count_parts(len(block))
                        bad = self._cache_views(
                            cache, keys, singles, block, parallel, n_parts
                        )
                        self._stop_if_bad(clips, bad)
                        errors |= {keys[row][0]: error for row, error in bad.items()}
                        progress.update(len(rows))
                    again = True
        except BrokenExecutor as error:
            raise RuntimeError(
                "a worker process was killed, perhaps for lack of memory, while it "
                f"read clips between {clips.name(rows[0])} and {clips.name(rows[-1])}. "
                f"{n_done} clips were done before, and with cache_dir="
                f"{shorten(self.cache_dir)} are "
                f"{'kept' if self.cache_dir else 'lost'}: "
                "lower n_jobs, and run again"
            ) from error
        return keys, errors

    def _count_parts(self, n_clips: int) -> int:
        """Count the parts of a clip's views: several workers share few clips."""
        return ceil(effective_n_jobs(self.n_jobs) / n_clips)

    def _cache_views(
        self,
        cache: MemoryCache | FileCache,
        keys: list[list[Hashable]],
        singles: list[Clips],
        wanted: list[tuple[int, list[int]]],
        parallel: Parallel,
        n_parts: int,
    ) -> dict[int, BadClipError]:
        """Make the wanted views of some clips, those of one clip in some parts.

        Returns the errors of bad clips by row. Updates the keys of clips whose files
        were replaced since they were named.
        """
        tasks = [
            (row, part) for row, views in wanted for part in _split(views, n_parts)
        ]
        clips = [(singles[row], views) for row, views in tasks]
        n_groups = _GROUPS_PER_WORKER * effective_n_jobs(self.n_jobs)
        groups = parallel(
            delayed(self._make_group)(group, cache.by_content)
            for group in _split(clips, n_groups)
        )
        results = self._finish(clips, list(chain.from_iterable(groups)))
        frames: dict[Hashable, np.ndarray] = {}
        facts: dict[Hashable, np.ndarray] = {}
        bad: dict[int, BadClipError] = {}
        for (row, views), made in zip(tasks, results, strict=True):
            if made.content is not None:
                keys[row] = view_keys(made.content, singles[row].views)
            for view, of_view in zip(views, made.frames, strict=False):
                frames[keys[row][view]] = of_view
                facts[keys[row][view]] = made.facts
            if made.error is not None:
                bad.setdefault(row, made.error)
        cache.add(frames, facts)
        return bad

    def _make_group(
        self, clips: list[tuple[Clips, list[int]]], by_content: bool
    ) -> list[Made]:
        return [self._make_frames(clip, views, by_content) for clip, views in clips]

    def _make_frames(self, clip: Clips, views: list[int], by_content: bool) -> Made:
        """Read one clip and compute the frames of some views, one after the other.

        A bad clip has no frames. Its error is returned, as the caller decides about it.
        """
        content, wanted = None, [clip.views[view] for view in views]
        if by_content:
            clip, content = open_clip(clip)
        try:
            samples, facts = clip.measure(0, self.sample_rate, self.channel)
            sound = Sound(samples, self.sample_rate)
            return Made(content, [self._round(sound, view) for view in wanted], facts)
        except BadClipError as error:
            return Made(content, [], _UNKNOWN, error)
        except MemoryError:
            reason = "needs more memory than there is: split it, or leave it out"
            return Made(content, [], _UNKNOWN, BadClipError(reason))

    def _finish(
        self, clips: list[tuple[Clips, list[int]]], made: list[Made]
    ) -> list[Made]:
        """Do what is better done for several clips at once than by the workers."""
        return made

    def _round(self, sound: Sound, view: View) -> np.ndarray:
        """Give the frames of one view in their type; refuse what it cannot hold."""
        return self._convert(self._compute_frames(sound, view), view.name)

    def _convert(self, frames: np.ndarray, view: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            frames = frames.astype(self.dtype, copy=False)
        if not np.isfinite(frames).all():
            raise BadClipError(
                f"has a view {shorten(view)} whose {self._computes} is NaN or "
                "infinite "
                f"in {self.dtype}: leave the view or the clip out"
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

    def _stop_if_bad(self, clips: Clips, bad: dict[int, BadClipError]) -> None:
        if bad and self.on_bad_clip == "raise":
            row = min(bad)
            raise type(bad[row])(f"{clips.name(row)} {bad[row]}") from bad[row]


def _split(items: list[Any], n_parts: int) -> list[list[Any]]:
    """Split a list into so many parts at most."""
    size = ceil(len(items) / n_parts)
    return [items[start : start + size] for start in range(0, len(items), size)]


def _find_missing(
    keys: list[list[Hashable]],
    cache: MemoryCache | FileCache,
    errors: Container[Hashable],
    whole: bool,
) -> list[tuple[int, list[int]]]:
    """Find which views of which clips the cache lacks, each content once.

    Where `whole` is true, these are all views of a clip that lacks one.
    """
    cache.find(key for of_clip in keys for key in of_clip)
    known, missing = set(cache.places), []
    for row, of_clip in enumerate(keys):
        wanted = [view for view, key in enumerate(of_clip) if key not in known]
        if wanted and of_clip[0] not in errors:
            missing.append((row, list(range(len(of_clip))) if whole else wanted))
            known.update(of_clip)
    return missing


def find_fmax(sample_rate: float, fmin: float, fmax: float | None, bands: str) -> float:
    """Find the upper edge of bands; refuse bands that lie above all sound.

    Parameters
    ----------
    sample_rate : float > 0
        Sample rate in Hz.

    fmin, fmax : float
        Edges of the bands in Hz; None is half of `sample_rate`.

    bands : str
        What they are called, for the message.

    Returns
    -------
    fmax : float
        The upper edge in Hz.

    Raises
    ------
    ValueError
        If `fmin` is not below `fmax`, or `fmax` is above half of `sample_rate`.
    """
    highest = sample_rate / 2
    fmax = highest if fmax is None else fmax
    if not fmin < fmax <= highest:
        raise ValueError(
            f"{bands} from fmin={fmin:g} to fmax={fmax:g} Hz do not lie between 0 and "
            f"half of sample_rate, {highest:g} Hz: choose fmin < fmax within it"
        )
    return fmax


def _warn_of_what_teaches_nothing(clips: Clips, facts: np.ndarray) -> None:
    """Warn of files without sound, of channels that cancel, and of copies."""
    rows = np.flatnonzero([clips.names_a_file(row) for row in range(len(clips))])
    facts = facts[rows]
    silent = is_silent(facts)
    copies = [
        group
        for group in find_copies(facts)
        if len({os.fspath(clips.sources[row]) for row in rows[group]}) > 1
    ]
    found = {
        "without any sound: {}. Leave out recordings of a muted microphone; where "
        "channels cancel each other in their mean, take one of them (channel=0)": (
            np.flatnonzero(silent)
        ),
        "whose channels cancel each other in their mean: {}. Take one of the channels "
        "(channel=0)": np.flatnonzero(is_cancelled(facts) & ~silent),
        "that are copies of each other: {}. They count as often as they are there: "
        "leave out all but one of each": np.concatenate([[], *copies]).astype(int),
    }
    labels = machine_labels(clips)
    for text, some in found.items():
        names = [
            clips.name(row) + ("" if labels is None else f" of {labels[row]}")
            for row in rows[some]
        ]
        if names:
            warnings.warn(
                f"{count(len(names), 'recording')} to learn from "
                + text.format(abbreviate(names)),
                stacklevel=3,
            )


def _group(clips: Clips, problems: dict[int, str]) -> list[str]:
    """Write what is wrong with clips, each reason once."""
    rows_of: dict[str, list[int]] = {}
    for row, reason in problems.items():
        rows_of.setdefault(reason, []).append(row)
    lines = []
    for reason, rows in rows_of.items():
        names = abbreviate([clips.name(row) for row in rows], _LISTED)
        lines.append(
            f"{names} {reason}"
            if len(rows) == 1
            else f"{len(rows)} clips, each {reason}: {names}"
        )
    n_more = len(lines) - _LISTED
    if n_more > 0:
        more = f"{n_more} more, whose reasons `problems` of the result holds"
        lines[_LISTED:] = [f"and {more}"]
    return lines
