"""What the two containers of clips have in common: their rows."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from sklearn_asd._utils.messages import count, shorten
from sklearn_asd._utils.validation import refuse_files, refuse_masked

__all__ = ["ClipTable", "as_row_index", "count_clips", "refuse_other_forms"]


class ClipTable:
    """A table with one row per clip, whose attributes are its constructor's parameters.

    Indexing by integer, slice, mask or index array gives the same kind.
    """

    # Attributes with one value per clip; all but the first may be None.
    _columns: ClassVar[tuple[str, ...]]

    domain: np.ndarray | None = None  # missing from older pickles

    def __len__(self) -> int:
        return len(getattr(self, self._columns[0]))

    @property
    def shape(self) -> tuple[int]:
        """Number of clips, for scikit-learn."""
        return (len(self),)

    def __getitem__(self, index: Any) -> Self:
        rows = as_row_index(index, len(self))
        columns = {name: getattr(self, name) for name in self._columns}
        present = {k: column for k, column in columns.items() if column is not None}
        return self._with(**{k: column[rows] for k, column in present.items()})

    def as_machine(self, machine_type: str | None, machine_id: str | None) -> Self:
        """Pass all clips off as clips of one machine.

        Parameters
        ----------
        machine_type, machine_id : str or None
            The machine.

        Returns
        -------
        clips : same type
            A copy that shares everything but the machines.
        """
        n_clips = len(self)
        return self._with(
            machine_type=[machine_type] * n_clips, machine_id=[machine_id] * n_clips
        )

    def _with(self, **changes: Any) -> Self:
        """Copy the table with some of it changed, and share the rest."""
        return type(self)(**(vars(self) | changes))

    def _check_lengths(self) -> None:
        """Refuse a column that does not have one value for each clip."""
        for name in self._columns:
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise ValueError(
                    f"{name} has {len(column)} values for {len(self)} clips"
                )


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
        If the index is of another kind, or an integer out of range. The values of masks
        and arrays are checked by the array that they index.
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
    rows = np.asarray(refuse_masked(index, "the index"))
    if rows.ndim != 1:
        raise IndexError(
            "clips are indexed by an integer, a slice, a boolean mask or an array of "
            f"integers, not by {shorten(index)}"
        )
    return rows if rows.size else rows.astype(int)


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


def refuse_other_forms(X: Any) -> None:
    """Refuse what is neither a table nor a list of clips, and no 2-D array either.

    Parameters
    ----------
    X : any
        What a user passes as clips.

    Raises
    ------
    TypeError
        If X is a file, or nothing that has rows.

    ValueError
        If X is the samples of one clip.
    """
    refuse_files(X, "X")
    has_rows = isinstance(X, Sequence) or hasattr(X, "shape")
    if not has_rows and not hasattr(X, "__array__"):
        raise TypeError(
            f"X is of type {type(X).__name__}; pass a table, a list of paths, a list "
            "of 1-D arrays or a 2-D array, with a row for each clip"
        )
    first = X[0] if isinstance(X, Sequence) else None
    refuse_files(first, "clip 0")
    if isinstance(first, tuple):
        raise TypeError(
            "clip 0 is a tuple: pass its samples alone, and their rate in a table with "
            "the columns audio and sample_rate"
        )
    is_one = isinstance(first, numbers.Real) or len(getattr(X, "shape", ())) == 1
    if is_one:
        raise ValueError(
            f"X is one array of {len(X):,} samples, and needs one row per clip. "
            "Reshape your data: pass [samples], a list of arrays"
        )
