"""A folder that a recorder fills: which of its files are complete, and new."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from typing import NamedTuple

from sklearn_asd.audio.folders import find_recordings
from sklearn_asd.audio.unfinished import describe_unfinished

__all__ = ["FolderSource", "FoundFile", "Stamp", "read_stamp"]


class Stamp(NamedTuple):
    """What is different once a file was written to.

    Attributes
    ----------
    size : int
        In bytes.

    mtime_ns : int
        Time of the last change, in ns since 1970-01-01 UTC by the clock of the disk.
    """

    size: int
    mtime_ns: int


class FoundFile(NamedTuple):
    """A file to judge, or to name as unusable.

    Attributes
    ----------
    path : str
        The file.

    stamp : Stamp
        As it was found.

    reason : str
        Why it is unusable, or "".
    """

    path: str
    stamp: Stamp
    reason: str


# Of folders that cannot be listed, and links that lead nowhere.
_NOTHING = Stamp(0, 0)


class FolderSource:
    """Finds files in a folder as soon as they are complete.

    A file is complete if its size and time of change stay the same for some seconds,
    and its header is complete. All files are looked at each time: this works on network
    drives, and there is nothing to notice too late. Ten thousand files take 0.15 s.

    Parameters
    ----------
    folder : str or path-like
        Where to look, at any depth.

    settle : float >= 0
        Time in s for which a file must stay as it is. 0 is for recorders that move
        their files into the folder once they are complete.

    give_up : float > 0
        Time in s after which a file without a complete header is named as unusable. It
        is judged if it is completed later.
    """

    def __init__(
        self, folder: str | os.PathLike[str], settle: float, give_up: float
    ) -> None:
        self.folder = os.path.abspath(folder)
        self.settle = settle
        self.give_up = give_up
        self._waiting: dict[str, tuple[Stamp, float]] = {}

    def find(self, known: Mapping[str, Stamp]) -> list[FoundFile]:
        """Look for complete files.

        Parameters
        ----------
        known : mapping of str to Stamp
            Files that were judged, as they were then.

        Returns
        -------
        files : list of FoundFile
            The others that are complete, the oldest first.

        Raises
        ------
        OSError
            If the folder does not exist or cannot be listed.
        """
        paths, problems = find_recordings(self.folder)
        if self.folder in problems:
            raise OSError(f"{self.folder} {problems[self.folder]}")
        waiting, self._waiting = self._waiting, {}
        found = []
        for path in [*paths, *problems]:
            stamp = read_stamp(path)
            if stamp is None or known.get(path) == stamp:
                continue
            # Not by the clock that people set, nor by the one of the disk.
            now = time.monotonic()
            before, since = waiting.get(path, (stamp, now))
            since = since if before == stamp else now
            self._waiting[path] = stamp, since
            age = now - since
            if age < self.settle:
                continue
            reason = problems.get(path) or self._explain(path, stamp, age)
            if reason is not None:
                found.append(FoundFile(path, stamp, reason))
        return sorted(found, key=lambda one: (one.stamp.mtime_ns, one.path))

    def _explain(self, path: str, stamp: Stamp, age: float) -> str | None:
        """Say why a file is unusable, "" if it is not, and None if it is to wait."""
        try:
            # Opening a pipe may wait forever.
            reason = describe_unfinished(path) if os.path.isfile(path) else ""
        except OSError:
            return ""  # the reader finds out why, and says so
        if not reason:
            return ""
        age = max(age, time.time() - stamp.mtime_ns / 1e9)  # it began in an earlier run
        return f"{reason}: look at its recorder" if age >= self.give_up else None


def read_stamp(path: str) -> Stamp | None:
    """Read what is different once a file was written to.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    stamp : Stamp or None
        None for a file that is gone.
    """
    try:
        status = os.stat(path)
    except OSError:
        return _NOTHING if os.path.islink(path) else None
    if stat.S_ISDIR(status.st_mode):  # it cannot be listed, whatever changes in it
        return _NOTHING
    return Stamp(status.st_size, status.st_mtime_ns)
