"""More normal clips for detectors that keep the rows of numbers they learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_asd._utils.messages import count
from sklearn_asd.detectors.constants import refuse_extremes

__all__ = ["append_known", "choose_new", "refuse_without_rows"]

# Share of a number by which copies of a row may differ: what rounding explains.
_ROUNDING = 1e-9


def refuse_without_rows(detector: Any, name: str) -> None:
    """Refuse to add clips to a detector that kept no rows.

    Parameters
    ----------
    detector : estimator
        Fitted.

    name : str
        Attribute that holds the rows, which files of earlier versions lack.

    Raises
    ------
    ValueError
        If it is missing.
    """
    if getattr(detector, name, None) is None:
        raise ValueError(
            f"the {type(detector).__name__} was fitted by an earlier version, which "
            "kept nothing to add clips to: fit it again"
        )


def append_known(detector: Any, new: np.ndarray, **columns: Any) -> None:
    """Append what is known of clips to what is known of those learnt from.

    Parameters
    ----------
    detector : estimator
        Fitted. Of each clip that it learnt from it has the row in `_training_rows`, and
        what the columns hold in attributes such as `_training_machines`.

    new : ndarray of int
        Places of the clips to learn from among those to add, whose rows follow those of
        `training_score_samples_`.

    **columns : ndarray or None
        What is known of these clips, by the rest of the attribute's name; None for what
        is known of none.
    """
    n_before = len(detector.training_score_samples_)
    for rest, values in {"rows": n_before + new, **columns}.items():
        if values is not None:
            known = getattr(detector, f"_training_{rest}")
            more = np.asarray(values, dtype=known.dtype.type)  # texts of any length
            setattr(detector, f"_training_{rest}", np.concatenate([known, more]))


def choose_new(embedding: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Choose the rows to learn from; refuse those that are known already.

    Parameters
    ----------
    embedding : ndarray of shape (n_clips, n_features)
        Rows of the new clips; NaN where a clip cannot be used.

    known : ndarray of shape (n_known, n_features)
        Rows that were learnt from.

    Returns
    -------
    usable : ndarray of int
        Places of the rows without NaN.

    Raises
    ------
    ValueError
        If no clip can be used, one is a copy of a known one, or a number is beyond
        1e50.
    """
    usable = np.flatnonzero(~np.isnan(embedding).any(axis=1))
    if not len(usable):
        raise ValueError("none of the clips to add can be used: give others")
    rows = refuse_extremes(embedding[usable])
    copied = [
        (np.abs(known - row) <= _ROUNDING * np.abs(row)).all(axis=1).any()
        for row in rows
    ]
    if any(copied):
        raise ValueError(
            f"{sum(copied)} of {count(len(rows), 'clip')} to add are copies of clips "
            "that were learnt from, and would count twice: leave them out"
        )
    return usable
