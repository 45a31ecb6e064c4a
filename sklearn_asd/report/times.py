"""When recordings were made, by their names or by their files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sklearn_asd.audio.naming import read_time

__all__ = ["Times", "find_times", "format_time"]


class Times(NamedTuple):
    """When recordings were made.

    Attributes
    ----------
    values : Series of datetime64
        Local times; NaT where they are not known.

    source : str
        What they were read from: "the dates in their names", "the dates of their
        files", or "" if they are not known.
    """

    values: pd.Series
    source: str


def find_times(paths: dict[int, Path], n_clips: int) -> Times:
    """Find when recordings were made.

    Parameters
    ----------
    paths : dict of int to Path
        The files of recordings, by row.

    n_clips : int
        Number of recordings.

    Returns
    -------
    times : Times
        By names if each has a date. Otherwise by when the files were last written, if
        that tells when they were recorded: files that were copied were all written
        within less than a second for each.
    """
    rows = range(n_clips)
    named = pd.Series([_read_name(paths.get(row)) for row in rows], dtype="object")
    if n_clips and named.notna().all():
        return Times(_as_times(named), "the dates in their names")
    written = _as_times(pd.Series([_read_file(paths.get(row)) for row in rows]))
    span = written.max() - written.min()
    if written.notna().all() and span >= pd.Timedelta(seconds=max(n_clips, 2)):
        return Times(written, "the dates of their files")
    return Times(pd.Series(pd.NaT, index=rows, dtype="datetime64[ns]"), "")


def format_time(time: pd.Timestamp, others: Iterable[pd.Timestamp] = ()) -> str:
    """Write a time for people, to the minute, or to the second where that matters.

    Parameters
    ----------
    time : Timestamp
        The time.

    others : iterable of Timestamp, default=()
        All times that are shown beside it.

    Returns
    -------
    text : str
        Such as "2024-05-01 08:00"; "" if it is not known.
    """
    if pd.isna(time):
        return ""
    has_seconds = any(one.second for one in (time, *others))
    return f"{time:%Y-%m-%d %H:%M:%S}" if has_seconds else f"{time:%Y-%m-%d %H:%M}"


def _as_times(values: pd.Series) -> pd.Series:
    return (
        pd.to_datetime(values, errors="coerce").astype("datetime64[ns]").dt.floor("s")
    )


def _read_name(path: Path | None) -> pd.Timestamp | None:
    time = None if path is None else read_time(path)
    return None if time is None else pd.Timestamp(time)


def _read_file(path: Path | None) -> pd.Timestamp | None:
    if path is None:
        return None
    try:
        written = os.stat(path).st_mtime
    except (OSError, ValueError):  # gone, or no name of a file
        return None
    return pd.Timestamp.fromtimestamp(written)
