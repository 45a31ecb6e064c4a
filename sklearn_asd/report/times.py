"""When recordings were made, by their names or files."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Times", "find_times", "format_time"]

# A date in the order of year, month and day; others are ambiguous.
_STAMP = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([-_.]?)(0[1-9]|1[0-2])\2([0-2][0-9]|3[01])"
    r"(?:[-_T ]+([01][0-9]|2[0-3])[-_:.h]?([0-5][0-9])(?:[-_:.m]?([0-5][0-9]))?)?"
    r"(?![0-9])"
)
_PARTS = 3  # of a path that are looked at: the name and two folders
_LEAST_SPAN = 60.0  # s; files that were copied together differ by less


class Times(NamedTuple):
    """When recordings were made.

    Attributes
    ----------
    seconds : ndarray of shape (n_recordings,) or None
        Seconds since 1970 in local time; None if they are not known.

    source : str
        What tells them, in words.
    """

    seconds: np.ndarray | None
    source: str


def find_times(paths: Iterable[str | os.PathLike[str] | None]) -> Times:
    """Find when recordings were made.

    Parameters
    ----------
    paths : iterable of path-like or None
        Their files, None for one without.

    Returns
    -------
    times : Times
        By the dates in the names, if all have one and they differ; otherwise by the
        dates of the files, if these differ by a minute or more; otherwise unknown.
    """
    known = [None if path is None else Path(path) for path in paths]
    ways = [
        (_read_name, 1e-9, "by the dates in their names"),
        (_read_file, _LEAST_SPAN, "by the dates of their files"),
    ]
    for read, least_span, text in ways:
        seconds = _as_array([None if path is None else read(path) for path in known])
        if seconds is not None and np.ptp(seconds) >= least_span:
            return Times(seconds, text)
    return Times(None, "in the order of the list, as their times are not known")


def format_time(seconds: float) -> str:
    """Write a time.

    Parameters
    ----------
    seconds : float
        Seconds since 1970.

    Returns
    -------
    text : str
        Such as "2026-03-01 14:05", in local time.
    """
    return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _as_array(seconds: list[float | None]) -> np.ndarray | None:
    if not seconds or None in seconds:
        return None
    return np.array(seconds, dtype=np.float64)


def _read_name(path: Path) -> float | None:
    """The last date in a name, or in the folders above it."""
    for part in (path.stem, *reversed(path.parts[-_PARTS:-1])):
        stamps = list(_STAMP.finditer(part))
        if stamps:
            year, _, *others = stamps[-1].groups("0")
            month, day, hour, minute, second = map(int, others)
            with suppress(ValueError, OverflowError):  # such as the 31st of February
                date = datetime.datetime(int(year), month, day, hour, minute, second)
                return date.timestamp()
    return None


def _read_file(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
