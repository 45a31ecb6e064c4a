"""Where computed frames are kept: in memory, or in a folder that outlives the call."""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from sklearn_asd.audio import ORIGINAL, Clips

__all__ = ["FileCache", "MemoryCache"]


class MemoryCache:
    """Frames in memory, for one call.

    Parameters
    ----------
    n_mels : int
        Number of bands.

    dtype : str
        Type of the frames.

    Attributes
    ----------
    places : dict of key to (start, stop)
        Rows of each known view in :meth:`frames`.
    """

    def __init__(self, n_mels: int, dtype: str) -> None:
        self._frames = np.empty((0, n_mels), dtype=dtype)
        self.places: dict[Hashable, tuple[int, int]] = {}

    def keys(self, clips: list[Clips], parallel: Parallel) -> list[list[Hashable]]:
        """Name the views of the clips by row and view.

        Parameters
        ----------
        clips : list of Clips, each of length 1
            The clips, all with the same views.

        parallel : joblib.Parallel
            Workers for what takes long.

        Returns
        -------
        keys : list of list of hashable
            For each clip one for each view.
        """
        views = range(len(clips[0].views))
        return [[(row, view) for view in views] for row in range(len(clips))]

    def add(self, frames: Mapping[Any, np.ndarray]) -> None:
        """Add the frames of some views.

        Parameters
        ----------
        frames : mapping of key to ndarray of shape (n_frames, n_mels)
            The frames of each view.
        """
        stop = len(self._frames)
        for key, of_view in frames.items():
            start, stop = stop, stop + len(of_view)
            self.places[key] = (start, stop)
        # Grown in place: joining the arrays at the end would take twice the memory.
        self._frames.resize((stop, self._frames.shape[1]), refcheck=False)
        for key, of_view in frames.items():
            self._frames[slice(*self.places[key])] = of_view

    def frames(self) -> np.ndarray:
        """Give all frames as one array.

        Returns
        -------
        frames : ndarray of shape (n_frames, n_mels)
            The frames of all views in the order they were added.
        """
        return self._frames


class FileCache:
    """Frames in a file that is only ever appended to; used as a :class:`MemoryCache`.

    Each set of settings has one file of frames, and beside it an SQLite index from the
    content of a clip, and the view of it, to rows of frames. Frames are written before
    they are indexed, in one transaction that locks out other processes: a process that
    is killed leaves at worst some bytes that nothing points to, which the next append
    overwrites.

    The index holds the name of its file of frames, which is never used again. If one
    of the two is deleted or cut short, both start afresh. A process that still has the
    old ones open raises an error and never mistakes other clips' frames for its own.

    Parameters
    ----------
    folder : str or path-like
        Created if it does not exist.

    settings : str
        All that the frames depend on besides the clip.

    n_mels : int
        Number of bands.

    dtype : str
        Type of the frames.

    kind : str, default="log-mel"
        What the frames are; the names of the files begin with it.

    Raises
    ------
    OSError
        If the folder cannot be used, the disk is full, or another process has deleted
        or replaced the files meanwhile; from every method.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: str,
        n_mels: int,
        dtype: str,
        kind: str = "log-mel",
    ) -> None:
        self._folder = Path(folder)
        digest = hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
        self._name = f"{kind}-{digest}"
        self._n_mels, self._dtype = n_mels, np.dtype(dtype)
        self._bytes_per_frame = n_mels * self._dtype.itemsize
        with self._explaining():
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked_index() as index:
                self._data = self._find_data(index)
                rows = index.execute("SELECT key, start, stop FROM clips")
                self.places = _as_places(rows)

    def keys(self, clips: list[Clips], parallel: Parallel) -> list[list[Hashable]]:
        """Name the views by the clips' content; see :meth:`MemoryCache.keys`.

        The keys are equal for equal content, under any name.
        """
        # The original has its clip's key, whatever other views there are.
        views = [b"" if v == ORIGINAL else v.key().encode() for v in clips[0].views]
        return [
            [hashlib.blake2b(clip + v).digest() if v else clip for v in views]
            for clip in parallel(delayed(_digest)(clip) for clip in clips)
        ]

    def add(self, frames: Mapping[Any, np.ndarray]) -> None:
        """Append the frames of some views, unless another process just has."""
        with self._explaining():
            if not self._folder.exists():
                raise FileNotFoundError(self._data)
            with self._locked_index() as index:
                self._check_data(index)
                # Look up these keys only: there may be millions.
                find = "SELECT key, start, stop FROM clips WHERE key = ?"
                rows = (row for key in frames for row in index.execute(find, (key,)))
                stored = _as_places(rows)
                new = {k: v for k, v in frames.items() if k not in stored}
                (stop,) = index.execute("SELECT MAX(stop) FROM clips").fetchone()
                added = self._append(new, stop or 0)
                new_rows = [(key, *bounds) for key, bounds in added.items()]
                index.executemany("INSERT INTO clips VALUES (?, ?, ?)", new_rows)
        self.places |= stored | added

    def frames(self) -> np.ndarray:
        """Map the file into memory, read-only; see :meth:`MemoryCache.frames`."""
        with self._explaining():
            shape = (self._n_frames(), self._n_mels)
            if shape[0] < max((stop for _, stop in self.places.values()), default=0):
                raise FileNotFoundError(self._data)
            if shape[0] == 0:  # an empty file cannot be mapped
                return np.empty(shape, dtype=self._dtype)
            return np.memmap(self._data, dtype=self._dtype, mode="r", shape=shape)

    def _find_data(self, index: sqlite3.Connection) -> Path:
        """Find the file of frames, or start afresh where it lost some."""
        (last,) = index.execute("SELECT max(stop) FROM clips").fetchone()
        row = index.execute("SELECT name FROM data").fetchone()
        if row is not None:
            data = self._folder / row[0]
            if data.exists() and (last or 0) <= self._n_frames(data):
                return data
        for old in self._folder.glob(f"{self._name}-*.{self._dtype}"):
            with suppress(OSError):  # Windows keeps what a process has mapped
                old.unlink()
        data = self._folder / f"{self._name}-{secrets.token_hex(8)}.{self._dtype}"
        data.touch()
        index.execute("DELETE FROM clips")
        index.execute("DELETE FROM data")
        index.execute("INSERT INTO data VALUES (?)", (data.name,))
        return data

    def _check_data(self, index: sqlite3.Connection) -> None:
        """Refuse an index other than the one that was opened."""
        row = index.execute("SELECT name FROM data").fetchone()
        if row != (self._data.name,) or not self._data.exists():
            raise FileNotFoundError(self._data)

    @contextmanager
    def _locked_index(self) -> Iterator[sqlite3.Connection]:
        """Open the index for one transaction, which other processes wait for."""
        path = self._folder / f"{self._name}.sqlite"
        with closing(sqlite3.connect(path, timeout=600)) as index, index:
            index.execute("BEGIN IMMEDIATE")
            index.execute("CREATE TABLE IF NOT EXISTS data (name TEXT)")
            index.execute(
                "CREATE TABLE IF NOT EXISTS clips"
                " (key BLOB PRIMARY KEY, start INTEGER, stop INTEGER) WITHOUT ROWID"
            )
            index.execute("CREATE INDEX IF NOT EXISTS ends ON clips (stop)")
            yield index

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Add the folder and the remedy to errors of the disk."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            gone = isinstance(error, FileNotFoundError)
            reason = "it was deleted or replaced while in use" if gone else error
            raise OSError(
                f"cache_dir {os.fspath(self._folder)!r} cannot be used ({reason}). "
                "Only the clips computed last are lost: check that it is writable and "
                "the disk not full, delete the folder if its files are damaged, and "
                "run again; or set cache_dir=None"
            ) from error

    def _append(
        self, frames: dict[Hashable, np.ndarray], start: int
    ) -> dict[Hashable, tuple[int, int]]:
        """Write frames from row `start` on, and return the rows of each view."""
        added = {}
        with self._data.open("r+b") as data:
            data.seek(start * self._bytes_per_frame)
            for key, of_view in frames.items():
                data.write(np.ascontiguousarray(of_view, dtype=self._dtype).data)
                added[key] = (start, start + len(of_view))
                start += len(of_view)
            data.flush()
            os.fsync(data.fileno())
        return added

    def _n_frames(self, data: Path | None = None) -> int:
        return (data or self._data).stat().st_size // self._bytes_per_frame


def _as_places(rows: Iterable[tuple[Any, int, int]]) -> dict[Hashable, tuple[int, int]]:
    return {key: (start, stop) for key, start, stop in rows}


def _digest(clip: Clips) -> bytes:
    """Digest one clip's content: the file's bytes, or the samples and their rate."""
    (source,) = clip.sources
    if isinstance(source, str | os.PathLike):
        with suppress(OSError):  # the reader reports it
            if os.path.isfile(source):  # reading a pipe may wait forever
                with open(source, "rb") as file:
                    return hashlib.file_digest(file, hashlib.blake2b).digest()
        return os.fsencode(source)
    samples = np.asarray(source)
    digest = hashlib.blake2b(samples.tobytes())
    digest.update(repr((samples.dtype.str, samples.shape, clip.sample_rate)).encode())
    return digest.digest()
