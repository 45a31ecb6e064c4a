"""Head of the page: which model judged which recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sklearn_asd._utils.messages import count
from sklearn_asd.report.times import Times, format_time

__all__ = ["describe_model", "describe_recordings"]


def describe_model(path: str | os.PathLike[str]) -> str:
    """Name a model file, and when it was written.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    text : str
        Such as "machines.asd, written 2026-03-01 14:05".
    """
    written = format_time(os.stat(path).st_mtime)
    return f"{Path(path).name}, written {written} (date of the file)"


def describe_recordings(
    n_clips: int,
    paths: Iterable[str | os.PathLike[str]],
    n_machines: int = 0,
    times: Times | None = None,
) -> str:
    """Describe how many recordings there are, where, and from when.

    Parameters
    ----------
    n_clips : int
        Their number.

    paths : iterable of path-like
        Their files, as far as there are some.

    n_machines : int, default=0
        Number of their machines; 0 if it is not known.

    times : Times or None, default=None
        When they were made.

    Returns
    -------
    text : str
        Such as "40 clips of 2 machines, in /data/new".
    """
    text = count(n_clips, "clip")
    if n_machines:
        text += f" of {count(n_machines, 'machine')}"
    with suppress(ValueError):  # no paths, or on different drives
        text += f", in {os.path.commonpath([Path(path).parent for path in paths])}"
    if times is None or times.seconds is None:
        return text
    first, last = map(format_time, (times.seconds.min(), times.seconds.max()))
    return f"{text}, from {first} to {last} ({times.source})"
