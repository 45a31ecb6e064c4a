"""The file itself: arrays as safetensors, and with them one strict JSON text."""

from __future__ import annotations

import hashlib
import json
import math
import os
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from sklearn_asd._utils.files import replacing

__all__ = ["read_file", "write_file"]

# One entry of safetensors' metadata holds everything, as their order is random.
_KEY = "sklearn_asd"
_LENGTH_BYTES = 8  # of the header's length, at the start of a file

# Stands for the digest while that is computed.
_NO_DIGEST = "0" * 64


def write_file(
    path: str | os.PathLike[str], content: dict[str, Any], tensors: dict[str, Any]
) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file. An existing one is replaced once the new one is complete.

    content : dict
        What JSON can hold, without NaN and infinity. The field "digest" is added.

    tensors : dict of str to ndarray
        Arrays of numbers, in C order.
    """
    # The digest comes first, so that nothing before it can look like it. ASCII keeps
    # names of files that are not valid Unicode.
    text = json.dumps({"digest": _NO_DIGEST, **content}, allow_nan=False)
    data = dump_tensors(tensors, metadata={_KEY: text})
    digest = _compute_digest(data)
    with replacing(path) as file:
        file.write(data.replace(_NO_DIGEST.encode(), digest.encode(), 1))


def read_file(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file's bytes.

    Parameters
    ----------
    data : bytes
        All of them.

    Returns
    -------
    content : dict
        The JSON text, with the field "digest" if the file has one.

    tensors : dict of str to ndarray
        The arrays.

    Raises
    ------
    ValueError
        If it is not such a file, or has changed since it was written.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if not 0 < length <= len(data) - _LENGTH_BYTES:
        raise ValueError("its header is incomplete")
    metadata = _parse(data[_LENGTH_BYTES:][:length]).get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_KEY), str):
        raise ValueError(f"its header has no entry {_KEY!r}")
    content = _parse(metadata[_KEY])
    if "digest" in content:
        _check_digest(data, str(content["digest"]))
    try:
        # A KeyError is for a type of numbers that NumPy lacks.
        return content, load_tensors(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"its arrays cannot be read ({error})") from error


def _check_digest(data: bytes, digest: str) -> None:
    blank = data.replace(digest.encode(), _NO_DIGEST.encode(), 1)
    if len(digest) != len(_NO_DIGEST) or digest != _compute_digest(blank):
        raise ValueError("its checksum does not match its content")


def _compute_digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=len(_NO_DIGEST) // 2).hexdigest()


def _parse(text: bytes | str) -> dict[str, Any]:
    """Parse JSON, without what the standard lacks or leaves open."""
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
