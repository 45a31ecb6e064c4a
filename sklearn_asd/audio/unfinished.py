"""Sound files whose header was written before the sound, and never again."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, Literal

import soundfile

__all__ = [
    "UNKNOWN_LENGTH",
    "SoundStream",
    "describe_unfinished",
    "finish_wav",
    "is_whole_flac",
]

# Number of samples that libsndfile gives where the header has none.
UNKNOWN_LENGTH = 2**63 - 1

_FLAC_BYTES = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}
_SAMPLES_AT_ONCE = 2**16


class SoundStream(soundfile.SoundFile):
    """A sound file that is read from its beginning to its end, and never seeks.

    An encoder that writes to a pipe cannot go back and fill in how many samples there
    are; libsndfile seeks in no FLAC that lacks this number, but decodes it.
    """

    def seekable(self) -> bool:
        """Say no: soundfile seeks after each read in what it may seek in.

        Returns
        -------
        seekable : bool
            False.
        """
        return False


def is_whole_flac(content: bytes) -> bool:
    """Tell whether a FLAC that decodes without an error was cut short all the same.

    The decoder does not notice every cut: none between two frames or in a frame's
    header, and up to libsndfile 1.2.0 none within a frame. One between two frames shows
    only where the header has an MD5 of the samples.

    Parameters
    ----------
    content : bytes
        A file that decodes without an error.

    Returns
    -------
    whole : bool
        False if it was cut short or is damaged.
    """
    md5 = content[26:42]
    if not content.startswith(b"fLaC"):
        return True
    if any(md5):
        return _digest_samples(content) == md5
    # Followed by a frame, a part of a frame is damage.
    frames = content[_find_frames(content) :]
    try:
        return _count_samples(content + frames) == 2 * _count_samples(content)
    except soundfile.SoundFileError:
        return False


def _digest_samples(flac: bytes) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with SoundStream(BytesIO(flac)) as file:
        n_bytes = _FLAC_BYTES[file.subtype]
        while len(block := file.read(_SAMPLES_AT_ONCE, "int32", always_2d=True)):
            # libsndfile scales to 32 bits; the MD5 is of samples as they are.
            low_end_first = block.astype("<i4").view("u1").reshape(-1, 4)
            digest.update(low_end_first[:, 4 - n_bytes :].tobytes())
    return digest.digest()


def _count_samples(flac: bytes) -> int:
    n_samples = 0
    with SoundStream(BytesIO(flac)) as file:
        while n_new := len(file.read(_SAMPLES_AT_ONCE, "int32")):
            n_samples += n_new
    return n_samples


def _find_frames(flac: bytes) -> int:
    """Find where the blocks before the frames end; the last has its highest bit set."""
    at, is_last = 4, False
    while not is_last and at + 4 <= len(flac):
        is_last = flac[at] >= 0x80
        at += 4 + int.from_bytes(flac[at + 1 : at + 4])
    return at


def finish_wav(content: bytes) -> bytes | None:
    """Say in a WAV's header that samples follow, where the recorder could not.

    A recorder writes how many bytes of samples there are when it closes the file. One
    that was killed leaves a 0, and the samples behind it.

    Parameters
    ----------
    content : bytes
        A file.

    Returns
    -------
    finished : bytes or None
        The same with samples up to its end. None if it is no WAV, if its size of the
        samples is not 0, or if nothing follows, or further chunks of a finished file.
    """
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64") or content[8:12] != b"WAVE":
        return None
    order: Literal["big", "little"] = "big" if content[:4] == b"RIFX" else "little"
    for name, start, size in _chunks(content, 12, order):
        if name != b"data":
            continue
        unsaid = 0 if content[:4] != b"RF64" else 0xFFFFFFFF
        *_, (_, last, last_size) = [(b"", start, 0), *_chunks(content, start, order)]
        if size != unsaid or last + last_size + last_size % 2 == len(content):
            return None
        # libsndfile reads to the end where the header promises more. An RF64 is a RIFF
        # with another chunk.
        finished = bytearray(content)
        finished[:4] = b"RIFF" if content[:4] == b"RF64" else content[:4]
        finished[start - 4 : start] = b"\xff" * 4
        return bytes(finished)
    return None


def _chunks(
    content: bytes, at: int, order: Literal["big", "little"]
) -> Iterator[tuple[bytes, int, int]]:
    """Give name, start and size of each chunk, as far as they make sense."""
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        yield content[at : at + 4], at + 8, size
        at += 8 + size + size % 2


def describe_unfinished(path: str | os.PathLike[str]) -> str:
    """Tell from its header whether a recorder is still writing a file.

    Recorders complete the header when they close the file. A few hundred bytes are
    read, so a damaged file may pass.

    Parameters
    ----------
    path : str or path-like
        A file. Formats other than WAV and FLAC always pass.

    Returns
    -------
    reason : str
        What is missing, to complete "the file ..."; "" if nothing is.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(42)
        n_bytes = file.seek(0, os.SEEK_END)
        if start[:4] in (b"RIFF", b"RIFX", b"RF64"):
            return _describe_wav(file, start[:4], n_bytes)
    if start[:4] == b"fLaC" and not _read_flac_length(start):
        return (
            "is not complete: its header does not say how long it is, as its recorder "
            "has not finished it, or cannot"
        )
    return "" if n_bytes else "is an empty file of 0 bytes"


def _describe_wav(file: BinaryIO, kind: bytes, n_bytes: int) -> str:
    order = ">" if kind == b"RIFX" else "<"
    at, long_size = 12, None
    while at + 8 <= n_bytes:
        file.seek(at)
        name, size = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"ds64":
            long_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == b"data":
            size = long_size if kind == b"RF64" and long_size is not None else size
            present = n_bytes - at - 8
            # A header that promises nothing precedes samples that were not counted, and
            # further chunks in an empty file that was.
            counted = size or _ends_with_chunks(file, at + 8, n_bytes, order)
            if size <= present and counted:
                return ""
            return (
                f"is not complete: its header promises {size:,} bytes of samples, and "
                f"{present:,} are there"
            )
        at += 8 + size + size % 2
    return "is not complete: its header ends before the samples"


def _ends_with_chunks(file: BinaryIO, at: int, n_bytes: int, order: str) -> bool:
    """Tell whether chunks fill the rest of a file, of which there may be none."""
    while at + 8 <= n_bytes:
        file.seek(at)
        name, size = struct.unpack(f"{order}4sI", file.read(8))
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False  # samples, of which silence could pass for empty chunks
        at += 8 + size + size % 2
    return at == n_bytes


def _read_flac_length(start: bytes) -> int:
    """Read the number of samples, 36 bits of the first block; 0 is unknown."""
    return int.from_bytes(start[21:26]) & (2**36 - 1) if len(start) >= 26 else 0
