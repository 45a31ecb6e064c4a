"""Clips: X as a table with one row per clip, its machine and the views wanted."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from sklearn_asd._utils.messages import abbreviate, cut, shorten
from sklearn_asd._utils.text import printable
from sklearn_asd._utils.validation import (
    as_pandas,
    bounded_messages,
    fill_masked,
    refuse_files,
)
from sklearn_asd.audio.cancelling import ChannelPair
from sklearn_asd.audio.machines import as_labels, is_missing, machine_labels
from sklearn_asd.audio.reading import (
    KeptRecording,
    Measured,
    Recording,
    Span,
    open_array,
    open_file,
    read_bytes,
)
from sklearn_asd.audio.rows import ClipTable, count_clips, refuse_other_forms
from sklearn_asd.audio.views import ORIGINAL, View

__all__ = ["Clips", "keep_recordings"]


class Clips(ClipTable):
    """Where each clip's audio comes from and which machine it was recorded from.

    A lazy table: it names files, which are read elsewhere, one at a time; views of
    them are made there too. Indexing by integer, slice, mask or index array gives
    :class:`Clips` again and copies no audio.

    Parameters
    ----------
    sources : sequence of str or ndarray of shape (n_samples,)
        For each clip the path of its file or its samples.

    sample_rate : sequence of float or None, default=None
        Sample rate of the arrays among the sources in Hz; NaN or None where it is
        not stated. Files state their own.

    machine_type, machine_id : sequence of str or None, default=None
        Which machine each clip was recorded from; None where it is not known.

    domain : sequence of str or None, default=None
        Conditions that each clip was recorded in, such as "source" or "target".

    start, stop : sequence of float or None, default=None
        Part of the recording that is the clip, in s; NaN or None is the beginning or
        the end of the recording.

    views : sequence of View, default=(ORIGINAL,)
        The views wanted of every clip; see :class:`~sklearn_asd.AugmentationExpander`.

    pair : ChannelPair, default=None
        The two channels that are combined as a clip is read; see
        :class:`~sklearn_asd.NoiseCanceller`.

    Examples
    --------
    >>> from sklearn_asd.audio import Clips
    >>> clips = Clips(["a.wav", "b.wav"], machine_id=["00", "02"])
    >>> clips
    Clips(2 clips, 2 machines)
    >>> clips[1:].name(0)
    'clip 0 (b.wav)'
    """

    _columns = (
        "sources",
        "sample_rate",
        "machine_type",
        "machine_id",
        "domain",
        "start",
        "stop",
    )

    start: np.ndarray | None = None  # missing from older pickles
    stop: np.ndarray | None = None
    pair: ChannelPair | None = None

    def __init__(
        self,
        sources: Sequence[Any] | np.ndarray,
        *,
        sample_rate: Iterable[float | None] | None = None,
        machine_type: Iterable[Any] | None = None,
        machine_id: Iterable[Any] | None = None,
        domain: Iterable[Any] | None = None,
        start: Iterable[float | None] | None = None,
        stop: Iterable[float | None] | None = None,
        views: Sequence[View] = (ORIGINAL,),
        pair: ChannelPair | None = None,
    ) -> None:
        self.sources = np.fromiter(map(fill_masked, sources), dtype=object)
        self.sample_rate = _as_numbers(sample_rate, "sample_rate", "Hz")
        self.machine_type = as_labels(machine_type)
        self.machine_id = as_labels(machine_id)
        self.domain = as_labels(domain)
        self.start = _as_numbers(start, "start", "s")
        self.stop = _as_numbers(stop, "stop", "s")
        self.views = tuple(views)
        self.pair = pair
        self._check_lengths()
        self._check_pieces()
        if not (self.views and all(isinstance(view, View) for view in self.views)):
            raise ValueError(
                f"views is {shorten(self.views)}; it must hold at least one View, as "
                "AugmentationExpander makes them"
            )

    @classmethod
    def from_X(cls, X: Any) -> Clips:
        """Convert any of the forms that X may take.

        Parameters
        ----------
        X : DataFrame, Clips, or array-like
            A table of pandas, polars or pyarrow with a column `path` or `audio` (where
            both are given, `audio` wins unless it is missing in that row) and
            optionally `sample_rate` (Hz, of `audio`), `machine_type`, `machine_id`,
            `domain`, and `start` and `stop` (s, missing for all of it) of the part of
            the recording that is the clip; other columns are ignored.
            Or, without machines, a list of paths, a list of 1-D arrays, or a 2-D
            array of shape (n_clips, n_samples).

        Returns
        -------
        clips : Clips
            One per row of X, in the same order.

        Raises
        ------
        ValueError, TypeError
            If X has another form.
        """
        X = as_pandas(X)
        if getattr(X, "ndim", 1) and hasattr(X, "__len__") and len(X) == 0:
            raise ValueError("X holds 0 clips; at least 1 is needed")
        if isinstance(X, Clips):
            return X
        if isinstance(X, pd.DataFrame):
            columns = {name: X.get(name) for name in cls._columns[1:]}
            return cls(_table_sources(X), **columns)
        if isinstance(X, str | os.PathLike):
            raise TypeError(
                f"X is one path, {shorten(os.fspath(X))}; X has one row per clip: pass "
                "a "
                "list of paths, or load_clips(folder)"
            )
        if _holds_clips_one_by_one(X):
            return cls(list(X))
        refuse_other_forms(X)
        # Anything else is a 2-D array of waveforms, checked as scikit-learn does.
        # NaN is left to the reader, which knows the policy for bad clips.
        filled = fill_masked(X)
        with bounded_messages():
            waveforms = check_array(
                filled, dtype="numeric", ensure_all_finite=False, input_name="X"
            )
        return cls(list(waveforms))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("clips as one array are always a copy")
        return np.array(list(self.sources), dtype=dtype)

    def __repr__(self) -> str:
        views = f", {len(self.views)} views" if len(self.views) > 1 else ""
        return f"Clips({count_clips(len(self), machine_labels(self))}{views})"

    def with_views(self, views: Sequence[View]) -> Clips:
        """Ask for other views of the same clips.

        Parameters
        ----------
        views : sequence of View
            The views wanted.

        Returns
        -------
        clips : Clips
            The same clips; nothing is computed.
        """
        return self._with(views=views)

    def with_pair(self, pair: ChannelPair) -> Clips:
        """Ask for two channels to be combined as clips are read.

        Parameters
        ----------
        pair : ChannelPair
            The channels, and how.

        Returns
        -------
        clips : Clips
            The same clips; nothing is read.
        """
        return self._with(pair=pair)

    def with_content(self) -> Clips:
        """Read all files into memory, undecoded.

        Returns
        -------
        clips : Clips
            The same clips, with the bytes of files in place of their names. They may
            be read, and have no names.

        Raises
        ------
        BadClipError
            If a file cannot be read.
        """
        sources = [
            read_bytes(source) if isinstance(source, str | os.PathLike) else source
            for source in self.sources
        ]
        return self._with(sources=sources)

    def name(self, row: int) -> str:
        """Name a clip for people: its row, and its file if it has one.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        name : str
            Such as "clip 17 (pump_03.wav)", or "clip 17 (pump_03.wav from 12 s)" for
            a piece of it.
        """
        named = []
        if self.names_a_file(row):
            named.append(printable(cut(Path(self.sources[row]).name)))
        span = self.span(row)
        if not span.is_whole:
            named.append(f"from {span.start:.6g} s")
        return f"clip {row} ({' '.join(named)})" if named else f"clip {row}"

    def span(self, row: int) -> Span:
        """Tell which part of its recording a clip is.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        span : Span
            From 0 to infinity for all of it.
        """
        given = {
            name: float(column[row])
            for name in ("start", "stop")
            if (column := getattr(self, name)) is not None and not np.isnan(column[row])
        }
        return Span(**given)

    def names_a_file(self, row: int) -> bool:
        """Tell a clip of a file from one of samples.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        file : bool
            True for a file.
        """
        return isinstance(self.sources[row], str | os.PathLike)

    def read(
        self, row: int, sample_rate: float, channel: Literal["mix"] | int = "mix"
    ) -> np.ndarray:
        """Read one clip.

        Parameters
        ----------
        row : int
            Row of the clip.

        sample_rate : float > 0
            Wanted sample rate in Hz.

        channel : "mix" or int, default="mix"
            Channel of a file: the average of all, or the one with this index. A pair
            of channels that the clips ask for goes first.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            Samples in [-1, 1].

        Raises
        ------
        BadClipError
            If the clip cannot be used; see :func:`sklearn_asd.audio.read_file`.
        """
        return self._open(row, sample_rate, channel).samples

    def measure(
        self, row: int, sample_rate: float, channel: Literal["mix"] | int = "mix"
    ) -> Measured:
        """Read one clip, and measure what remarks are made of.

        Parameters
        ----------
        row, sample_rate, channel : any
            See :meth:`read`.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            Samples in [-1, 1].

        facts : ndarray of shape (n_facts,), float64
            What was measured; ``sklearn_asd.audio.remarks.FACTS`` names it.

        Raises
        ------
        BadClipError
            See :meth:`read`.
        """
        opened = self._open(row, sample_rate, channel)
        return opened if isinstance(opened, Measured) else opened.measure()

    def _open(
        self, row: int, sample_rate: float, channel: Literal["mix"] | int
    ) -> Recording | Measured:
        source, span = self.sources[row], self.span(row)
        wanted = channel if self.pair is None else self.pair
        if isinstance(source, KeptRecording):
            return source.measure(sample_rate, wanted, span)
        if isinstance(source, str | os.PathLike | bytes):
            return open_file(source, sample_rate, wanted, span)
        rate = np.nan if self.sample_rate is None else self.sample_rate[row]
        array_rate = None if np.isnan(rate) else rate
        return open_array(source, array_rate, sample_rate, span, self.pair)

    def _check_pieces(self) -> None:
        """Refuse pieces that begin before their recording, or end before they begin."""
        if self.start is None and self.stop is None:
            return
        for row in range(len(self)):
            start, stop = self.span(row)
            if not 0 <= start < stop:
                raise ValueError(
                    f"clip {row} is to be the piece of its recording from {start:g} to "
                    f"{stop:g} s: 'start' must be 0 or more, and below 'stop'"
                )


def keep_recordings(X: Any) -> Any:
    """Make files be read once, however often their clips are used.

    Parameters
    ----------
    X : any
        Clips, as a table, :class:`Clips` or a list of paths.

    Returns
    -------
    X : any
        The same clips; files stay in memory once they are read. Anything else is
        returned as it is.
    """
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame) and "path" in X:
        return X.assign(path=_keep(X["path"]))
    if isinstance(X, Clips):
        return Clips(**(vars(X) | {"sources": _keep(X.sources)}))
    return _keep(X) if isinstance(X, list) else X


def _keep(sources: Iterable[Any]) -> list[Any]:
    return [
        KeptRecording(source) if isinstance(source, str | os.PathLike) else source
        for source in sources
    ]


def _as_numbers(
    values: Iterable[Any] | None, column: str, unit: str
) -> np.ndarray | None:
    if values is None:
        return None
    known = [np.nan if is_missing(value) else value for value in values]
    for row, value in enumerate(known):
        if not isinstance(value, numbers.Real):
            raise ValueError(
                f"the {column} of clip {row} is {shorten(value)}; it must be a "
                f"number in {unit}, or missing"
            )
    return np.array(known, float)


def _holds_clips_one_by_one(X: Any) -> bool:
    """Tell a sequence of paths or arrays from a 2-D array of waveforms."""
    sequence = isinstance(X, (Sequence, np.ndarray, pd.Series))
    if not sequence or getattr(X, "ndim", 1) != 1:
        return False
    is_clip = [
        isinstance(clip, str | os.PathLike | list) or getattr(clip, "ndim", 0) > 0
        for clip in X
    ]
    if any(is_clip) and not all(is_clip):
        row = is_clip.index(False)
        refuse_files(X[row], f"clip {row}")
        raise TypeError(
            f"clip {row} is {shorten(list(X)[row])}, neither a path nor an array of "
            "samples "
            "like the others in X: leave it out"
        )
    return all(is_clip)


def _table_sources(table: pd.DataFrame) -> list[Any]:
    """Choose each row's samples or path."""
    if "path" not in table and "audio" not in table:
        raise ValueError(
            "X is a table without a column 'path' or 'audio'; its columns are "
            f"{abbreviate(list(table.columns))}: load_clips(folder) makes such a table"
        )
    absent = [None] * len(table)
    given = zip(table.get("audio", absent), table.get("path", absent), strict=True)
    sources = []
    for row, (samples, path) in enumerate(given):
        if np.ndim(samples):
            sources.append(samples)
        elif isinstance(path, str | os.PathLike):
            sources.append(path)
        else:
            refuse_files(samples, f"'audio' of clip {row}")
            refuse_files(path, f"'path' of clip {row}")
            raise ValueError(
                f"clip {row} has neither samples in 'audio' nor a file name in "
                f"'path': got audio={shorten(samples)} and path={shorten(path)}"
            )
    return sources
