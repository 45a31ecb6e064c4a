"""Where computed frames are kept: in memory, or in a folder that outlives the call."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import scipy
import soundfile
import soxr
from joblib import Parallel, delayed

from sklearn_asd._utils.messages import shorten
from sklearn_asd.audio import ORIGINAL, BadClipError, Clips, View
from sklearn_asd.audio.remarks import FACTS

__all__ = ["FileCache", "MemoryCache", "open_clip", "view_keys"]

# What frames depend on besides the clip and the settings.
_LIBRARIES = {
    "libsndfile": soundfile.__libsndfile_version__,
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "soxr": soxr.__version__,
}


class MemoryCache:
    """Frames in memory, for one call.

    Its keys are rows and views, which say nothing about a clip's content.

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

    facts : dict of key to ndarray of shape (n_facts,)
        What was measured on the recording of each known view.
    """

    by_content = False

    def __init__(self, n_mels: int, dtype: str) -> None:
        self._frames = np.empty((0, n_mels), dtype=dtype)
        self.places: dict[Hashable, tuple[int, int]] = {}
        self.facts: dict[Hashable, np.ndarray] = {}

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

    def find(self, keys: Iterable[Hashable]) -> None:
        """Look up keys, and add those that are known to `places` and `facts`.

        Parameters
        ----------
        keys : iterable of hashable
            The keys; none that is not in `places` already is known here.
        """

    def add(
        self, frames: Mapping[Any, np.ndarray], facts: Mapping[Any, np.ndarray]
    ) -> None:
        """Add the frames of some views.

        Parameters
        ----------
        frames : mapping of key to ndarray of shape (n_frames, n_mels)
            The frames of each view.

        facts : mapping of key to ndarray of shape (n_facts,)
            What was measured on the recording of each view.
        """
        self.facts |= facts
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
    content of a clip, and the view of it, to rows of frames, the facts that were
    measured on the recording, and a checksum of both. Frames are written before they
    are indexed, in one transaction that locks out other processes: a process that is
    killed leaves at worst some bytes that nothing points to. What differs from its
    checksum counts as unknown.

    The index holds the name of its file of frames, which is never used again. If one
    of the two is deleted, both start afresh. A process that still has the old ones open
    raises an error and never mistakes other clips' frames for its own.

    Parameters
    ----------
    folder : str or path-like
        Created if it does not exist.

    settings : any
        All that the frames depend on besides the clip and the libraries that compute
        them: numbers, texts and arrays, in lists and dicts.

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

    by_content = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: Any,
        n_mels: int,
        dtype: str,
        kind: str = "log-mel",
    ) -> None:
        self._folder = Path(folder)
        # A hash of what they are: a text of them may leave digits out.
        self._name = f"{kind}-{joblib.hash((settings, _LIBRARIES, FACTS))[:16]}"
        self._n_mels, self._dtype = n_mels, np.dtype(dtype)
        self._bytes_per_frame = n_mels * self._dtype.itemsize
        self.places: dict[Hashable, tuple[int, int]] = {}
        self.facts: dict[Hashable, np.ndarray] = {}
        with self._explaining():
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked_index() as index:
                self._data = self._find_data(index)

    def keys(self, clips: list[Clips], parallel: Parallel) -> list[list[Hashable]]:
        """Name the views by the clips' content; see :meth:`MemoryCache.keys`.

        The keys are equal for equal content, under any name.
        """
        views = clips[0].views
        contents = parallel(delayed(_digest)(clip) for clip in clips)
        return [view_keys(content, views) for content in contents]

    def find(self, keys: Iterable[Hashable]) -> None:
        """Look up keys whose frames are intact; see :meth:`MemoryCache.find`.

        Parameters
        ----------
        keys : iterable of hashable
            The keys.
        """
        new = set(keys) - self.places.keys()
        if new:
            with self._explaining(), self._same_index() as index:
                self._look_up(index, new)

    def add(
        self, frames: Mapping[Any, np.ndarray], facts: Mapping[Any, np.ndarray]
    ) -> None:
        """Append the frames of some views, unless another process just has."""
        with self._explaining(), self._same_index() as index:
            stored = self._look_up(index, frames)
            new = {
                key: np.ascontiguousarray(of_view, dtype=self._dtype)
                for key, of_view in frames.items()
                if key not in stored
            }
            added = self._append(new, self._n_frames(rounded_up=True))
            known = {key: facts[key].astype("<f8").tobytes() for key in new}
            rows = [
                (k, *added[k], known[k], _checksum(k, known[k], new[k])) for k in new
            ]
            index.executemany("REPLACE INTO clips VALUES (?, ?, ?, ?, ?)", rows)
        self.places |= added
        self.facts |= {key: facts[key] for key in new}

    def frames(self) -> np.ndarray:
        """Map the file into memory, read-only; see :meth:`MemoryCache.frames`."""
        with self._explaining():
            frames = self._map()
            if len(frames) < max((stop for _, stop in self.places.values()), default=0):
                raise FileNotFoundError(self._data)
            return frames

    def _map(self) -> np.ndarray:
        shape = (self._n_frames(), self._n_mels)
        if shape[0] == 0:  # an empty file cannot be mapped
            return np.empty(shape, dtype=self._dtype)
        return np.memmap(self._data, dtype=self._dtype, mode="r", shape=shape)

    def _look_up(self, index: sqlite3.Connection, keys: Iterable[Any]) -> set[Hashable]:
        """Find these keys only, as there may be millions, where frames are intact."""
        query = "SELECT start, stop, facts, checksum FROM clips WHERE key = ?"
        rows = ((key, index.execute(query, (key,)).fetchone()) for key in keys)
        frames, found = np.asarray(self._map()), set()  # a memmap is slow to index
        for key, row in rows:
            # Of a damaged index anything may be of any type.
            if row is None or [type(value) for value in row] != [int, int, bytes, int]:
                continue
            start, stop, facts, checksum = row
            intact = 0 <= start <= stop <= len(frames)
            if intact and _checksum(key, facts, frames[start:stop]) == checksum:
                self.places[key] = start, stop
                self.facts[key] = np.frombuffer(facts, dtype="<f8")
                found.add(key)
        return found

    def _find_data(self, index: sqlite3.Connection) -> Path:
        """Find the file of frames, or start afresh."""
        row = index.execute("SELECT name FROM data").fetchone()
        own = rf"{re.escape(self._name)}-[0-9a-f]{{16}}\.{self._dtype}"
        if row is not None and re.fullmatch(own, str(row[0])):
            data = self._folder / row[0]
            if data.exists():
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

    @contextmanager
    def _same_index(self) -> Iterator[sqlite3.Connection]:
        """Open the index again, and refuse another one in its place."""
        if not self._folder.exists():
            raise FileNotFoundError(self._data)
        with self._locked_index() as index:
            row = index.execute("SELECT name FROM data").fetchone()
            if row != (self._data.name,) or not self._data.exists():
                raise FileNotFoundError(self._data)
            yield index

    @contextmanager
    def _locked_index(self) -> Iterator[sqlite3.Connection]:
        """Open the index for one transaction, which other processes wait for."""
        path = self._folder / f"{self._name}.sqlite"
        with closing(sqlite3.connect(path, timeout=600)) as index, index:
            index.execute("BEGIN IMMEDIATE")
            index.execute("CREATE TABLE IF NOT EXISTS data (name TEXT)")
            index.execute(
                "CREATE TABLE IF NOT EXISTS clips (key BLOB PRIMARY KEY,"
                " start INTEGER, stop INTEGER, facts BLOB, checksum INTEGER)"
                " WITHOUT ROWID"
            )
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
                f"cache_dir {shorten(os.fspath(self._folder))} cannot be used "
                f"({reason}). "
                "Only the clips computed last are lost: check that it is writable and "
                "the disk not full, delete the folder if its files are damaged, and "
                "run again; or set cache_dir=None"
            ) from error

    def _append(
        self, frames: dict[Hashable, np.ndarray], start: int
    ) -> dict[Hashable, tuple[int, int]]:
        """Write frames from row `start` on, and return the rows of each view."""
        added, first_byte = {}, start * self._bytes_per_frame
        with self._data.open("r+b") as data:
            data.seek(first_byte)
            try:
                for key, of_view in frames.items():
                    data.write(of_view.data)
                    added[key] = (start, start + len(of_view))
                    start += len(of_view)
                data.flush()
                os.fsync(data.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(data.fileno(), first_byte)
                raise
        return added

    def _n_frames(self, rounded_up: bool = False) -> int:
        n_bytes = self._data.stat().st_size
        return (n_bytes + rounded_up * (self._bytes_per_frame - 1)) // (
            self._bytes_per_frame
        )


def open_clip(clip: Clips) -> tuple[Clips, bytes]:
    """Read a clip's file once, so that what is digested is what will be decoded.

    Parameters
    ----------
    clip : Clips of length 1
        A clip.

    Returns
    -------
    clip : Clips of length 1
        The same; if it names a file, with the file's bytes in place of its name.

    content : bytes
        Digest of the content, for :func:`view_keys`. Of a file that cannot be
        read, of its name.
    """
    with suppress(BadClipError):  # who reads it next reports it
        clip = clip.with_content()
        return clip, _digest(clip)
    return clip, _digest_name(clip.sources[0])


def view_keys(content: bytes, views: Sequence[View]) -> list[Hashable]:
    """Name some views of one clip in a :class:`FileCache`.

    Parameters
    ----------
    content : bytes
        What :func:`open_clip` gives of the clip.

    views : sequence of View
        The views.

    Returns
    -------
    keys : list of hashable
        One for each view.
    """
    # The original has its clip's key, whatever other views there are.
    return [
        content if v == ORIGINAL else _digest_parts(b"view", content, v.key().encode())
        for v in views
    ]


def _digest(clip: Clips) -> bytes:
    """Digest one clip's content: of its recording, which channels, which part."""
    recording, span = _digest_recording(clip), clip.span(0)
    if clip.pair is not None:
        recording = _digest_parts(b"pair", recording, repr(clip.pair).encode())
    if span.is_whole:
        return recording
    return _digest_parts(b"piece", recording, repr(tuple(span)).encode())


def _digest_recording(clip: Clips) -> bytes:
    """Digest the file's bytes, or the samples and their rate."""
    (source,) = clip.sources
    if isinstance(source, bytes):
        return _digest_parts(b"file", source)
    if isinstance(source, str | os.PathLike):
        with suppress(OSError):  # the reader reports it
            if os.path.isfile(source):  # reading a pipe may wait forever
                with open(source, "rb") as file:
                    return hashlib.file_digest(
                        file, partial(_start_digest, b"file")
                    ).digest()
        return _digest_name(source)
    samples = np.asarray(source)
    rate = np.nan if clip.sample_rate is None else clip.sample_rate[0]
    what = repr((samples.dtype.str, samples.shape, float(rate)))
    return _digest_parts(b"array", what.encode(), samples.tobytes())


def _digest_name(path: str | os.PathLike[str]) -> bytes:
    return _digest_parts(b"name", os.fsencode(path))


def _digest_parts(kind: bytes, *parts: bytes) -> bytes:
    """Digest some parts; equal parts of another kind have another digest."""
    digest = _start_digest(kind)
    for part in parts[:-1]:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    digest.update(parts[-1])
    return digest.digest()


def _start_digest(kind: bytes) -> Any:
    # Most processors have instructions for SHA-256, at twice the speed of BLAKE2.
    return hashlib.sha256(kind.ljust(8))


def _checksum(key: bytes, facts: bytes, frames: np.ndarray) -> int:
    """Tell what is stored of this key from anything that a damaged disk may give."""
    return zlib.crc32(frames.data, zlib.crc32(facts, zlib.crc32(key)))
