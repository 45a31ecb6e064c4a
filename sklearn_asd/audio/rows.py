"""Rows of the two containers of clips: how they are indexed, checked and counted."""

from __future__ import annotations

import numbers
from collections.abc import Sized
from typing import Any

import numpy as np

from sklearn_asd._utils.messages import count

__all__ = ["as_row_index", "check_length", "count_clips", "take"]


def as_row_index(index: Any, n_rows: int) -> Any:
    """Convert an index of a container into a slice or an array of rows.

    Parameters
    ----------
    index : int, slice, mask, array of int, or (index, Ellipsis)
        The last is how scikit-learn indexes: ``X[rows, ...]``.

    n_rows : int
        Number of rows.

    Returns
    -------
    rows : slice or ndarray of int
        An integer becomes a slice of one row: one clip is still a table of clips.

    Raises
    ------
    IndexError
        If the index is of another kind, or an integer out of range. Masks and arrays
        are compared with the number of rows by the array that they index.
    """
    if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:
        index = index[0]
    if isinstance(index, slice):
        return index
    if isinstance(index, numbers.Integral):
        row = int(index)
        if not -n_rows <= row < n_rows:
            raise IndexError(f"there is no clip {row} among {n_rows}")
        return slice(row % n_rows, row % n_rows + 1)
    return _as_rows(index)


def _as_rows(index: Any) -> np.ndarray:
    rows = np.asarray(index)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "biu"):
        raise IndexError(
            "clips are indexed by an integer, a slice, a boolean mask or an array of "
            f"integers, not by {index!r}"
        )
    return rows if rows.size else rows.astype(int)


def take(values: np.ndarray | None, rows: Any) -> np.ndarray | None:
    """Index a column that may be absent.

    Parameters
    ----------
    values : ndarray or None
        The column.

    rows : slice or ndarray
        The rows to take.

    Returns
    -------
    taken : ndarray or None
        None if there is no column.
    """
    return None if values is None else values[rows]


def count_clips(n_clips: int, labels: np.ndarray | None) -> str:
    """Count clips and their machines, for a repr.

    Parameters
    ----------
    n_clips : int
        Number of clips.

    labels : ndarray of str or None
        Machine of each clip.

    Returns
    -------
    text : str
        Such as "2 clips, 1 machine".
    """
    text = count(n_clips, "clip")
    if labels is None:
        return text
    n_machines = len({label for label in labels if label is not None})
    return f"{text}, {count(n_machines, 'machine')}"


def check_length(name: str, column: Sized | None, n_clips: int) -> None:
    """Refuse a column that does not have one value for each clip.

    Parameters
    ----------
    name : str
        Name of the column.

    column : sequence or None
        The column, if there is one.

    n_clips : int
        Number of clips.

    Raises
    ------
    ValueError
        If its length differs.
    """
    if column is not None and len(column) != n_clips:
        raise ValueError(f"{name} has {len(column)} values for {n_clips} clips")
