"""Checks of labels and scores, and of the columns that group clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_asd._utils.messages import abbreviate, did_you_mean
from sklearn_asd._utils.validation import normal_rows, refuse_masked
from sklearn_asd.audio.machines import (
    as_labels,
    domain_labels,
    machine_columns,
)

__all__ = [
    "Labelled",
    "check_labelled",
    "group_index",
    "read_labelled",
    "read_labels",
]


class Labelled(NamedTuple):
    """Which clips are normal, and the scores of all."""

    normal: np.ndarray
    scores: np.ndarray


def check_labelled(y: ArrayLike, scores: ArrayLike, n_clips: int) -> Labelled:
    """Check labels and scores.

    Parameters
    ----------
    y : array-like of shape (n_clips,)
        +1 for normal clips, -1 for anomalous ones.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips.

    n_clips : int
        Number of clips.

    Returns
    -------
    labelled : Labelled
        Arrays `normal` of bool and `scores` of float64, of shape (n_clips,).

    Raises
    ------
    ValueError
        If y or scores have another length, y holds other labels, or scores hold NaN.
    """
    if y is None:
        raise ValueError(
            "y is None; labels are needed, +1 normal and -1 anomalous: pass y"
        )
    normal = normal_rows(y, n_clips)
    scores = np.asarray(refuse_masked(scores, "scores"), dtype=float)
    if scores.shape != (n_clips,):
        raise ValueError(
            f"scores have shape {scores.shape} for {n_clips} clips; pass one score for "
            "each clip"
        )
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise ValueError(
            f"scores are NaN for clips {abbreviate(list(bad))}, which could not be "
            "used: leave their rows out of X, y and scores"
        )
    return Labelled(normal, scores)


def read_labelled(X: Any, y: ArrayLike | None, scores: ArrayLike | None) -> Labelled:
    """Check labels and scores, with the labels of X where y is None.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips.

    y : array-like of shape (n_clips,) or None
        +1 for normal clips, -1 for anomalous ones; None takes the column `label` of X.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips.

    Returns
    -------
    labelled : Labelled
        As from :func:`check_labelled`.

    Raises
    ------
    ValueError
        As :func:`check_labelled`; or if y and X have no labels, or there are no scores.
    """
    if scores is None:
        raise ValueError(
            "scores are missing: pass score_samples of the clips as scores=, as in "
            "(X, scores=scores) with the labels of X, or (X, y, scores)"
        )
    return check_labelled(_find_labels(X, y), scores, len(X))


def read_labels(X: Any, y: ArrayLike | None) -> np.ndarray:
    """Check labels, with those of X where y is None.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips.

    y : array-like of shape (n_clips,) or None
        +1 for normal clips, -1 for anomalous ones; None takes the column `label` of X.

    Returns
    -------
    normal : ndarray of shape (n_clips,), bool
        Where the label is +1.

    Raises
    ------
    ValueError
        If y and X have no labels, y has another length, or it holds other labels.
    """
    return normal_rows(_find_labels(X, y), len(X))


def _find_labels(X: Any, y: ArrayLike | None) -> ArrayLike:
    if y is not None:
        return y
    if not isinstance(X, pd.DataFrame) or "label" not in X:
        raise ValueError(
            "y is None; labels are needed, +1 normal and -1 anomalous: pass y, or "
            "X as a table with the column label"
        )
    unknown = np.flatnonzero(pd.isna(X["label"]))
    if len(unknown):
        raise ValueError(
            f"the label of clips {abbreviate(list(unknown))} is not known: leave "
            "their rows out of X and scores, or fill in the published labels"
        )
    return X["label"]


def group_index(X: Any, by: Sequence[str]) -> pd.MultiIndex:
    """Give each clip the values of the columns that group clips.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips.

    by : sequence of str
        Columns of X. Containers have "machine_type", "machine_id" and "domain".

    Returns
    -------
    index : MultiIndex of n_clips rows
        One level for each column, of str, with "" for missing values.

    Raises
    ------
    ValueError
        If `by` is empty, or X lacks a column other than machine type and ID.
    """
    if isinstance(by, str) or len(by) == 0:
        raise ValueError(
            f"by={by!r:.200} must be a list of columns, such as "
            '["machine_type", "machine_id", "domain"]'
        )
    columns = [_read_column(X, name) for name in by]
    filled = [
        [""] * len(X) if column is None else ["" if v is None else v for v in column]
        for column in columns
    ]
    return pd.MultiIndex.from_arrays(filled, names=list(by))


def _read_column(X: Any, name: str) -> np.ndarray | None:
    """Read a column; None for machines that X does not tell."""
    machine_type, machine_id = machine_columns(X)
    if name == "machine_type":
        return machine_type
    if name == "machine_id":
        return machine_id
    if name == "domain":
        column = domain_labels(X)
    else:
        column = as_labels(X.get(name)) if isinstance(X, pd.DataFrame) else None
    if column is None:
        known = X.columns if isinstance(X, pd.DataFrame) else ["machine_type"]
        raise ValueError(
            f"X has no values in a column {name!r}, which is needed to group clips:"
            f"{did_you_mean(name, list(map(str, known)))} give X as a table with it"
        )
    return column
