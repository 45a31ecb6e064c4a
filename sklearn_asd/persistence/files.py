"""The file itself: arrays as safetensors, and beside them one strict JSON text."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from sklearn_asd._utils.files import replacing

__all__ = ["read_content", "read_file", "write_file"]

# One entry of safetensors' metadata holds it all: their order in a file is random.
_KEY = "sklearn_asd"
_LENGTH_BYTES = 8  # of the header's length, at the start of a file


def write_file(
    path: str | os.PathLike[str], content: dict[str, Any], tensors: dict[str, Any]
) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where. A file that is there is replaced once the new one is complete.

    content : dict
        What JSON can hold, without NaN and infinity.

    tensors : dict of str to ndarray
        Arrays of numbers, in C order.
    """
    text = json.dumps(content, allow_nan=False, ensure_ascii=False)
    data = dump_tensors(tensors, metadata={_KEY: text})
    with replacing(path) as file:
        file.write(data)


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON text of a file, and none of its arrays.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    content : dict
        As it was written.

    Raises
    ------
    ValueError
        If it is no such file, or damaged.
    """
    with open(path, "rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if n_bytes < _LENGTH_BYTES or length > n_bytes - _LENGTH_BYTES:
            raise _refusal(path, "its header is none, or is cut short")
        header = file.read(length)
    metadata = _parse(path, header).get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_KEY), str):
        raise _refusal(path, f"its header has no text {_KEY!r}")
    return _parse(path, metadata[_KEY])


def read_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    content : dict
        The JSON text.

    tensors : dict of str to ndarray
        The arrays.

    Raises
    ------
    ValueError
        If it is no such file, or damaged.
    """
    content = read_content(path)
    try:
        # A KeyError is for a type of numbers that NumPy lacks.
        return content, load_tensors(Path(path).read_bytes())
    except (SafetensorError, KeyError, ValueError) as error:
        raise _refusal(path, f"its arrays cannot be read ({error})") from error


def _parse(path: Any, text: bytes | str) -> dict[str, Any]:
    """Parse JSON without what the standard does not define, or leaves to chance."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except (ValueError, RecursionError) as error:
        raise _refusal(path, f"its text is no JSON of ours ({error})") from error
    if not isinstance(value, dict):
        raise _refusal(path, "its text is no JSON object")
    return value


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return unique


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _refusal(path: Any, reason: str) -> ValueError:
    return ValueError(
        f"{os.fspath(path)} is no model file that save_model wrote, or it is damaged: "
        f"{reason}. Save the model again; what joblib.dump wrote is read by "
        "joblib.load, if you trust its source"
    )
