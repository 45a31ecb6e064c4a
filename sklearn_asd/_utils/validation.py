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

__all__ = [
    "as_pandas",
    "bounded_messages",
    "fill_masked",
    "is_table_of_numbers",
    "normal_rows",
    "refuse_files",
    "refuse_masked",
    "validate_data",
]


# Characters of a message that others wrote; 1000 hold their longest sentences.
_LONGEST = 1000


def as_pandas(X: Any) -> Any:
    """Convert a table of polars or pyarrow.

    Parameters
    ----------
    X : any
        What a user passes.

    Returns
    -------
    X : any
        A DataFrame of pandas with the same rows and columns for a DataFrame of polars,
        and for a Table or RecordBatch of pyarrow; anything else as it is.
    """
    library = type(X).__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(X, "to_pandas") and hasattr(X, "num_columns"):
        return X.to_pandas()
    if library == "polars" and hasattr(X, "get_columns"):
        # Its own conversion needs pyarrow. Clips of one length may be a 2-D array.
        columns = {one.name: one.to_numpy() for one in X.get_columns()}
        return pd.DataFrame(
            {name: one if one.ndim == 1 else list(one) for name, one in columns.items()}
        )
    return X


def refuse_files(value: Any, what: str) -> None:
    """Refuse an open file, and the content of one.

    Parameters
    ----------
    value : any
        X, or what stands for a clip in it.

    what : str
        What it is called, for the message.

    Raises
    ------
    TypeError
        If it is one.
    """
    if isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "read"):
        raise TypeError(
            f"{what} is {type(value).__name__}, an open file or the content of one: "
            "pass the names of files, or their samples, as soundfile.read(file)[0] "
            "gives them, in a list of clips"
        )


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
    if _holds_recordings(X):
        raise TypeError(
            f"{type(estimator).__name__} takes rows of numbers, and X holds clips: put "
            "LogMelSegmenter() and SpectrumStatistics() before it in a Pipeline"
        )
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
        If y has another length, values other than +1 and -1, or masked ones.
    """
    if y is None:
        return np.ones(n_clips, dtype=bool)
    labels = np.asarray(refuse_masked(y, "y"), dtype=object)
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


def refuse_masked(values: Any, name: str) -> Any:
    """Refuse masked arrays, whose masked values NumPy's functions take for data.

    Parameters
    ----------
    values : any
        An array, a sequence of numbers or arrays, or anything else.

    name : str
        What they are called, for the message.

    Returns
    -------
    values : any
        The same.

    Raises
    ------
    ValueError
        If some are masked.
    """
    inside = values if isinstance(values, list | tuple) else ()
    if np.ma.is_masked(values) or any(map(np.ma.is_masked, inside)):
        raise ValueError(
            f"{name} holds masked values, which are no data: leave their rows out, or "
            "fill them (numpy.ma.filled)"
        )
    return values


def fill_masked(samples: Any) -> Any:
    """Put NaN in the place of masked samples.

    Parameters
    ----------
    samples : any
        Samples of a clip, or of several, or where they come from.

    Returns
    -------
    samples : any
        A plain array of float64 for a masked array with masked values; anything else as
        it is.
    """
    if np.ma.is_masked(samples):
        return np.ma.filled(samples.astype(np.float64), np.nan)
    return samples


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

    Raises
    ------
    ValueError
        If numbers are masked.
    """
    refuse_masked(X, "X")
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        return not {"path", "audio"} & set(X.columns)
    if isinstance(X, list) or (isinstance(X, np.ndarray) and X.ndim == 1):
        return not any(isinstance(x, str | PathLike | np.ndarray) for x in X)
    return not hasattr(X, "machine_id")


def _holds_recordings(X: Any) -> bool:
    """Tell clips and names of files from rows of numbers, which may be in a list."""
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        return bool({"path", "audio"} & set(X.columns))
    if isinstance(X, list):
        return any(isinstance(one, str | PathLike) for one in X)
    return hasattr(X, "machine_id")


def _is_sign(label: Any) -> bool:
    """Tell +1 and -1, as a number of any type, from anything else, also from True."""
    number = isinstance(label, int | float | np.number) and not isinstance(label, bool)
    return number and label in (1, -1)
