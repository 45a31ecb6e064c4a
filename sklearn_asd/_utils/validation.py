"""Checks of X and y that several estimators share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import validation

from sklearn_asd._utils.messages import abbreviate

__all__ = ["bounded_messages", "is_table_of_numbers", "normal_rows", "validate_data"]


# Characters of a message that others wrote; 1000 hold their longest sentences.
_LONGEST = 1000


@contextmanager
def bounded_messages() -> Iterator[None]:
    """Shorten the messages of scikit-learn and numpy, which may repeat all of X.

    Yields
    ------
    None
        Nothing.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error)
        if len(text) <= _LONGEST:
            raise
        n = len(text)
        kept = f"{text[:_LONGEST]}... ({n:,} characters)"
        raise type(error)(kept) from None


def validate_data(estimator: Any, X: Any, **checks: Any) -> np.ndarray:
    """Check X as scikit-learn does, with messages of bounded length.

    Parameters
    ----------
    estimator : object
        The estimator that takes X.

    X : any
        The rows.

    **checks : any
        See :func:`sklearn.utils.validation.validate_data`.

    Returns
    -------
    X : ndarray of shape (n_rows, n_columns)
        The rows as an array.
    """
    with bounded_messages():
        return validation.validate_data(estimator, X, **checks)


def normal_rows(y: ArrayLike | None, n_clips: int, lenient: bool = False) -> np.ndarray:
    """Find which clips are normal.

    Parameters
    ----------
    y : array-like of shape (n_clips,) or None
        +1 for normal clips, -1 for anomalous ones; None takes all as normal.

    n_clips : int
        Number of clips.

    lenient : bool, default=False
        Whether to warn about other values and take all clips as normal, since
        scikit-learn's own detectors accept any y.

    Returns
    -------
    normal : ndarray of shape (n_clips,), bool
        Where y is +1.

    Raises
    ------
    ValueError
        If y has another length, or values other than +1 and -1.
    """
    if y is None:
        return np.ones(n_clips, dtype=bool)
    labels = np.asarray(y, dtype=object)
    if labels.shape != (n_clips,):
        raise ValueError(
            f"y has shape {labels.shape} for {n_clips} clips; it needs one label for "
            "each clip, +1 normal or -1 anomalous, or None if all are normal"
        )
    strange = {str(label) for label in labels if not _is_sign(label)}
    if strange:
        if lenient:
            warnings.warn(
                "y is ignored, as it does not consist of +1 (normal) and -1 "
                "(anomalous): all rows are taken as normal",
                stacklevel=5,
            )
            return np.ones(n_clips, dtype=bool)
        raise ValueError(
            f"y holds {abbreviate(sorted(strange))}; labels are +1 normal and -1 "
            "anomalous, or y is None if all clips are normal: recode y (scikit-learn's "
            "cross_val_predict turns -1 into 0 for some methods). Machine IDs travel "
            "in X, as the column machine_id"
        )
    return labels == 1


def is_table_of_numbers(X: Any) -> bool:
    """Tell tables of numbers, which scikit-learn's detectors take, from clips.

    Parameters
    ----------
    X : any
        What is passed to a meta-estimator.

    Returns
    -------
    numbers : bool
        False for this library's containers, tables with a column `path` or `audio`,
        and lists of paths or arrays.
    """
    if isinstance(X, pd.DataFrame):
        return not {"path", "audio"} & set(X.columns)
    if isinstance(X, list) or (isinstance(X, np.ndarray) and X.ndim == 1):
        return not any(isinstance(x, str | PathLike | np.ndarray) for x in X)
    return not hasattr(X, "machine_id")


def _is_sign(label: Any) -> bool:
    """Tell +1 and -1, as a number of any type, from anything else, also from True."""
    number = isinstance(label, int | float | np.number) and not isinstance(label, bool)
    return number and label in (1, -1)
