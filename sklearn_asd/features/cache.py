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

from sklearn_asd.audio import ORIGINAL, BadClipError, Clips

__all__ = ["FileStore", "MemoryStore", "Place"]

# A view's rows in the frames, or why it has none.
Place = tuple[int, int] | BadClipError


class MemoryStore:
    """Frames of clips in memory.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.

    dtype : str
        Type of the frames.

    Attributes
    ----------
    places : dict of key to (start, stop) or BadClipError
        Where each view of a clip known to the store lies in :meth:`frames`, or why it
        has no frames.
    """

    def __init__(self, n_mels: int, dtype: str) -> None:
        self._frames = np.empty((0, n_mels), dtype=dtype)
        self.places: dict[Hashable, Place] = {}

    def keys(self, clips: list[Clips], parallel: Parallel) -> list[list[Hashable]]:
        """Name the views of the clips: in memory by clip and view.

        Parameters
        ----------
        clips : list of Clips, each of length 1
            The clips, all with the same views.

        parallel : joblib.Parallel
            Not needed here.

        Returns
        -------
        keys : list of list of hashable
            For each clip one for each view.
        """
        return [
            [(row, view) for view in range(len(clip.views))]
            for row, clip in enumerate(clips)
        ]

    def add(self, clips: Mapping[Hashable, np.ndarray | BadClipError]) -> None:
        """Add the frames of some views of some clips.

        Parameters
        ----------
        clips : mapping of key to ndarray of shape (n_frames, n_mels) or BadClipError
            The frames, or why there are none.
        """
        stop = len(self._frames)
        for key, frames in clips.items():
            if isinstance(frames, BadClipError):
                self.places[key] = frames
            else:
                start, stop = stop, stop + len(frames)
                self.places[key] = (start, stop)
        # Grown in place: joining the arrays at the end would take twice the memory.
        self._frames.resize((stop, self._frames.shape[1]), refcheck=False)
        for key, frames in clips.items():
            place = self.places[key]
            if not isinstance(place, BadClipError):
                self._frames[slice(*place)] = frames

    def frames(self) -> np.ndarray:
        """Give all frames as one array.

        Returns
        -------
        frames : ndarray of shape (n_frames, n_mels)
            The frames of all clips in the order they were added.
        """
        return self._frames


class FileStore:
    """Frames of clips in a file that is only ever appended to.

    One file of frames for each set of settings, and beside it an SQLite index from
    a clip's content, and the view of it, to its rows. An append is written before it
    is indexed, in one transaction that locks out other processes: a process that is
    killed leaves at worst some bytes that nothing points to, which the next append
    overwrites.

    The index names its file of frames, by a name that is never used again. Should one
    of the two be deleted, or cut short, both begin anew. A process that had opened the
    old ones cannot take other clips' frames for those it knows, and says so.

    Parameters
    ----------
    folder : str or path-like
        Created if it does not exist.

    settings : str
        All that the frames depend on besides the clip.

    n_mels : int
        Number of mel bands.

    dtype : str
        Type of the frames.

    Attributes
    ----------
    places : dict of key to (start, stop) or BadClipError
        Where each view of a clip known to the store lies in :meth:`frames`, or why it
        has no frames.

    Raises
    ------
    OSError
        If the folder cannot be used, the disk is full, or another process has deleted
        or replaced the files meanwhile; from every method.
    """

    def __init__(
        self, folder: str | os.PathLike[str], settings: str, n_mels: int, dtype: str
    ) -> None:
        self._folder = Path(folder)
        digest = hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
        self._name = f"log-mel-{digest}"
        self._n_mels, self._dtype = n_mels, np.dtype(dtype)
        with self._explaining():
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked_index() as index:
                index.execute("CREATE TABLE IF NOT EXISTS data (name TEXT)")
                index.execute(
                    "CREATE TABLE IF NOT EXISTS clips"
                    " (key BLOB PRIMARY KEY, start INTEGER, stop INTEGER) WITHOUT ROWID"
                )
                index.execute("CREATE INDEX IF NOT EXISTS ends ON clips (stop)")
                self._data = self._find_data(index)
                self.places: dict[Hashable, Place] = _as_places(
                    index.execute("SELECT key, start, stop FROM clips")
                )

    def keys(self, clips: list[Clips], parallel: Parallel) -> list[list[Hashable]]:
        """Name the views of the clips by the clips' content.

        Parameters
        ----------
        clips : list of Clips, each of length 1
            The clips, all with the same views.

        parallel : joblib.Parallel
            Digests them.

        Returns
        -------
        keys : list of list of bytes
            For each clip one for each view. Equal for equal content, under any name.
        """
        views = [b"" if v == ORIGINAL else v.key().encode() for v in clips[0].views]
        return [
            [_join(content, view) for view in views]
            for content in parallel(delayed(_digest)(clip) for clip in clips)
        ]

    def add(self, clips: Mapping[Hashable, np.ndarray | BadClipError]) -> None:
        """Append the frames of some views, unless another process just has.

        Parameters
        ----------
        clips : mapping of bytes to ndarray of shape (n_frames, n_mels) or BadClipError
            The frames. Errors are remembered for this call only.
        """
        bad = {k: v for k, v in clips.items() if isinstance(v, BadClipError)}
        good = {k: v for k, v in clips.items() if not isinstance(v, BadClipError)}
        with self._explaining():
            if not self._folder.exists():
                raise FileNotFoundError(self._data)
            with self._locked_index() as index:
                self._check_data(index)
                # Only what is asked for: there may be millions.
                find = "SELECT key, start, stop FROM clips WHERE key = ?"
                rows = (row for key in good for row in index.execute(find, (key,)))
                stored = _as_places(rows)
                new = {k: v for k, v in good.items() if k not in stored}
                (stop,) = index.execute("SELECT MAX(stop) FROM clips").fetchone()
                added = self._append(new, stop or 0)
                index.executemany(
                    "INSERT INTO clips VALUES (?, ?, ?)",
                    [(key, *bounds) for key, bounds in added.items()],
                )
        self.places |= stored | added | bad

    def frames(self) -> np.ndarray:
        """Map the file into memory.

        Returns
        -------
        frames : memmap of shape (n_frames, n_mels)
            Read-only.
        """
        with self._explaining():
            shape = (self._n_frames(), self._n_mels)
            places = [p for p in self.places.values() if isinstance(p, tuple)]
            if shape[0] < max((stop for _, stop in places), default=0):
                raise FileNotFoundError(self._data)
            if shape[0] == 0:  # an empty file cannot be mapped
                return np.empty(shape, dtype=self._dtype)
            return np.memmap(self._data, dtype=self._dtype, mode="r", shape=shape)

    def _find_data(self, index: sqlite3.Connection) -> Path:
        """Find the file of frames, or begin anew where it has lost some."""
        (last,) = index.execute("SELECT max(stop) FROM clips").fetchone()
        row = index.execute("SELECT name FROM data").fetchone()
        if row is not None:
            data = self._folder / row[0]
            if data.exists() and (last or 0) <= self._n_frames(data):
                return data
        data = self._folder / f"{self._name}-{secrets.token_hex(8)}.{self._dtype}"
        data.touch()
        index.execute("DELETE FROM clips")
        index.execute("DELETE FROM data")
        index.execute("INSERT INTO data VALUES (?)", (data.name,))
        for old in self._folder.glob(f"{self._name}-*.{self._dtype}"):
            if old != data:
                with suppress(OSError):  # Windows keeps what a process has mapped
                    old.unlink()
        return data

    def _check_data(self, index: sqlite3.Connection) -> None:
        """Refuse to go on with an index that is not the one that was opened."""
        table = index.execute("SELECT name FROM sqlite_master WHERE name = 'data'")
        row = table.fetchone() and index.execute("SELECT name FROM data").fetchone()
        if row is None or row[0] != self._data.name or not self._data.exists():
            raise FileNotFoundError(self._data)

    @contextmanager
    def _locked_index(self) -> Iterator[sqlite3.Connection]:
        """Open the index for one transaction, which other processes wait for."""
        path = self._folder / f"{self._name}.sqlite"
        with closing(sqlite3.connect(path, timeout=600)) as index, index:
            index.execute("BEGIN IMMEDIATE")
            yield index

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say of errors of the disk where they are, and what to do."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            gone = isinstance(error, FileNotFoundError)
            reason = "it was deleted or replaced while in use" if gone else error
            raise OSError(
                f"cache_dir {os.fspath(self._folder)!r} cannot be used ({reason}). "
                "Nothing is lost but the clips last computed: see that it is writable "
                "and the disk not full, delete the folder if its files are damaged, "
                "and run again; or set cache_dir=None"
            ) from error

    def _append(
        self, clips: dict[Hashable, np.ndarray], start: int
    ) -> dict[Hashable, tuple[int, int]]:
        """Write frames from row `start` on, and say where each clip's lie."""
        added = {}
        with self._data.open("r+b") as data:
            data.seek(start * self._bytes_per_frame)
            for key, frames in clips.items():
                data.write(np.ascontiguousarray(frames, dtype=self._dtype).data)
                added[key] = (start, start + len(frames))
                start += len(frames)
            data.flush()
            os.fsync(data.fileno())
        return added

    @property
    def _bytes_per_frame(self) -> int:
        return self._n_mels * self._dtype.itemsize

    def _n_frames(self, data: Path | None = None) -> int:
        return (data or self._data).stat().st_size // self._bytes_per_frame


def _as_places(rows: Iterable[tuple[Any, int, int]]) -> dict[Hashable, Any]:
    return {key: (start, stop) for key, start, stop in rows}


def _join(content: bytes, view: bytes) -> bytes:
    """Key of a view; the original has its clip's, whatever other views there are."""
    return hashlib.blake2b(content + view).digest() if view else content


def _digest(clip: Clips) -> bytes:
    """Digest one clip's content: the file's bytes, or the samples and their rate."""
    (source,) = clip.sources
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):  # to wait for a pipe would be to hang
            return os.fsencode(source)
        try:
            with open(source, "rb") as file:
                return hashlib.file_digest(file, hashlib.blake2b).digest()
        except OSError:  # the reader will say what is wrong
            return os.fsencode(source)
    samples = np.asarray(source)
    digest = hashlib.blake2b(samples.tobytes())
    digest.update(repr((samples.dtype.str, samples.shape, clip.sample_rate)).encode())
    return digest.digest()
