"""The file itself: arrays as safetensors, and with them one strict JSON text."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from sklearn_asd._utils.messages import abbreviate

__all__ = [
    "MAX_FILE",
    "MAX_HEADER",
    "MAX_VALUES",
    "Unpacked",
    "is_model_file",
    "pack",
    "read_file",
    "unpack",
]

# Limits that hold before anything is expanded. The guide's page "Save a model" states
# them. A million recordings in the notes stay below.
MAX_FILE = 2 * 1024**3  # bytes
MAX_HEADER = 100_000_000  # bytes, which is also safetensors' own limit
MAX_VALUES = 5_000_000  # in the JSON of the header

# One entry of safetensors' metadata holds everything, as their order is random.
_KEY = "sklearn_asd"
_LENGTH_BYTES = 8  # of the header's length, at the start of a file

# Stands for the digest while that is computed.
_NO_DIGEST = "0" * 64


class Unpacked(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    content : dict
        The JSON text, with the field "digest" if the file has one.

    tensors : dict of str to ndarray
        The arrays.

    size : int
        Length of the file in bytes.
    """

    content: dict[str, Any]
    tensors: dict[str, np.ndarray]
    size: int


def pack(content: dict[str, Any], tensors: dict[str, Any]) -> bytes:
    """Make the bytes of a file.

    Parameters
    ----------
    content : dict
        What JSON can hold, without NaN and infinity. The field "digest" is added.

    tensors : dict of str to ndarray
        Arrays of numbers, in C order.

    Returns
    -------
    data : bytes
        All of them.
    """
    # The digest comes first, so that nothing before it can look like it. ASCII keeps
    # names of files that are not valid Unicode.
    text = json.dumps({"digest": _NO_DIGEST, **content}, allow_nan=False)
    data = dump_tensors(tensors, metadata={_KEY: text})
    return data.replace(_NO_DIGEST.encode(), _compute_digest(data).encode(), 1)


def read_file(path: str | os.PathLike[str]) -> Unpacked:
    """Read a file, once.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    unpacked : Unpacked
        What it holds.

    Raises
    ------
    OSError
        If it cannot be opened.

    ValueError
        If it is a folder, a pipe or a device, and as :func:`unpack` does.
    """
    with _open_regular(path) as file:
        return unpack(file, os.fstat(file.fileno()).st_size)


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins as model files do.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    is_one : bool
        Whether its header is JSON; pickles begin otherwise.

    Raises
    ------
    OSError
        If it cannot be opened.

    ValueError
        If it is a folder, a pipe or a device.
    """
    try:
        with _open_regular(path) as file:
            return file.read(_LENGTH_BYTES + 1)[_LENGTH_BYTES:] == b"{"
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is no model: {error}") from error


@contextmanager
def _open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    if os.path.isdir(path):
        raise ValueError("it is a folder")
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is a pipe or a device")
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; opening a pipe would otherwise wait for whoever writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def unpack(file: BinaryIO, size: int) -> Unpacked:
    """Take a file apart. Nothing is read that its header does not announce.

    Parameters
    ----------
    file : binary file
        Read from its start, once.

    size : int
        Its length in bytes.

    Returns
    -------
    unpacked : Unpacked
        What it holds.

    Raises
    ------
    ValueError
        If it is not such a file, is larger than the limits, or has changed since it
        was written.
    """
    if size > MAX_FILE:
        raise ValueError(f"it has {size} bytes, more than {MAX_FILE}")
    start = file.read(_LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if not 0 < length <= size - _LENGTH_BYTES:
        raise ValueError("its header is incomplete")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length} bytes, more than {MAX_HEADER}")
    text = file.read(length)
    header = _parse(text)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_KEY), str):
        raise ValueError(f"its header has no entry {_KEY!r}")
    n_bytes = max((array["data_offsets"][1] for array in header.values()), default=0)
    if n_bytes != size - _LENGTH_BYTES - length:
        raise ValueError("it is not as long as its header says")
    content = _parse(metadata[_KEY])
    beginning, arrays = start + text, file.read(n_bytes)
    if "digest" in content:
        _check_digest(beginning, arrays, str(content["digest"]))
    return Unpacked(content, _load_tensors(beginning + arrays), size)


def _load_tensors(data: bytes) -> dict[str, np.ndarray]:
    try:
        tensors = load_tensors(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that NumPy lacks
        raise ValueError(f"its arrays cannot be read ({error})") from error
    # A length of 0 would hide any other length.
    empty = sorted(name for name, array in tensors.items() if not array.size)
    if empty:
        raise ValueError(f"its arrays {abbreviate(empty)} hold nothing")
    return tensors


def _check_digest(beginning: bytes, arrays: bytes, digest: str) -> None:
    blank = beginning.replace(digest.encode(), _NO_DIGEST.encode(), 1)
    if len(digest) != len(_NO_DIGEST) or digest != _compute_digest(blank, arrays):
        raise ValueError("its checksum does not match its content")


def _compute_digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=len(_NO_DIGEST) // 2)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _parse(text: bytes | str) -> dict[str, Any]:
    """Parse JSON, without what the standard lacks or leaves open."""
    text = text.decode() if isinstance(text, bytes) else text
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise ValueError(f"its JSON holds more than {MAX_VALUES} values")
    value = json.loads(
        text,
        object_pairs_hook=_refuse_duplicates,
        parse_constant=_parse_float,
        parse_float=_parse_float,
    )
    if not isinstance(value, dict):
        raise ValueError("its JSON is not an object")
    return value


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return unique


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value
