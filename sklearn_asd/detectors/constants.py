"""Constants: columns in which training rows are equal, but for rounding.

Such a column says nothing of how normal rows differ, so any deviation from it is
anomalous. It is measured by what rounding explains in float32, the type of frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from sklearn_asd._utils.messages import abbreviate

__all__ = [
    "are_copies",
    "find_constants",
    "find_means",
    "find_units",
    "measure_from_copies",
    "refuse_extremes",
    "warn_of_copies",
]

# Share of a number that arithmetic of float32 explains, as that of another processor or
# of a graph, and arithmetic of float64.
_FLOAT32, _FLOAT64 = 1e-7, 1e-12

# Zeros are exact, unless they are differences of numbers that are about 1.
_ZERO = 1e-14

# Larger numbers, measured by the least unit once or twice, have squares out of the
# range of floats.
_LARGEST = 1e50


def find_constants(points: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Find the columns in which rows are equal, but for rounding.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Rows.

    deviations : ndarray of shape (n_points, n_features)
        Of the rows from a row or a mean, of their machine if there are several.

    Returns
    -------
    constant : ndarray of shape (n_features,), bool
        True where the deviations are rounding.
    """
    largest = np.abs(points).max(axis=0)
    return np.abs(deviations).max(axis=0) <= _FLOAT64 * largest


def are_copies(points: np.ndarray) -> bool:
    """Tell whether rows are equal, but for rounding.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Rows.

    Returns
    -------
    equal : bool
        True for one row.
    """
    for some in (points[:2], points):  # the first two tell nearly always
        if not find_constants(some, some - some[0]).all():
            return False
    return True


def find_units(points: np.ndarray) -> np.ndarray:
    """Find what deviations from constant columns are measured by.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Rows.

    Returns
    -------
    units : ndarray of shape (n_features,)
        What rounding explains in float32, above 0. Zeros are not rounded, so their unit
        is still smaller.
    """
    largest = np.abs(points).max(axis=0)
    least = np.min(largest, where=largest > 0, initial=1.0)
    units = np.where(largest > 0, _FLOAT32 * largest, _ZERO * least)
    return np.maximum(units, 1 / _LARGEST)


def measure_from_copies(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Measure distances to rows that are all equal.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Rows.

    others : ndarray of shape (n_others, n_features)
        Equal rows.

    Returns
    -------
    distances : ndarray of shape (n_points, n_others)
        In units of :func:`find_units`, less what rounding explains; at least 0.
    """
    deviations = (points - others[0]) / find_units(others)
    explained = np.sqrt(points.shape[1])
    distances = np.maximum(np.linalg.norm(deviations, axis=1) - explained, 0)
    return np.repeat(distances[:, None], len(others), axis=1)


def find_means(points: np.ndarray, machine: np.ndarray) -> np.ndarray:
    """Average the rows of each machine, exactly where they are equal.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Rows.

    machine : ndarray of shape (n_points,), int
        Number of each row's machine; all numbers from 0 occur.

    Returns
    -------
    means : ndarray of shape (n_machines, n_features)
        Of the machines.
    """
    # From the first row on, so that what is added is small, and 0 for equal rows.
    first = points[np.unique(machine, return_index=True)[1]]
    sums = np.zeros_like(first)
    np.add.at(sums, machine, points - first[machine])
    return first + sums / np.bincount(machine)[:, None]


def refuse_extremes(points: np.ndarray) -> np.ndarray:
    """Refuse numbers whose squares are out of the range of floats.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Rows; NaN passes.

    Returns
    -------
    points : ndarray of shape (n_points, n_features)
        The same.

    Raises
    ------
    ValueError
        If there is one.
    """
    extreme = np.argwhere(np.abs(points) > _LARGEST)
    if len(extreme):
        row, column = extreme[0].tolist()
        raise ValueError(
            f"row {row} holds {points[row, column]:.3g} in column {column}, and "
            f"distances can be measured up to {_LARGEST:g}: scale the column, or leave "
            "the row out"
        )
    return points


def warn_of_copies(n_copies: int, machines: Sequence[str] = (), level: int = 1) -> None:
    """Warn of training clips that are equal, which says nothing of normal ones.

    Parameters
    ----------
    n_copies : int
        Number of clips; no warning for 0.

    machines : sequence of str, default=()
        Names of their machines, if these have names.

    level : int, default=1
        Number of calls between the caller and its user's code.
    """
    if not n_copies:
        return
    whose = f"{abbreviate(list(machines))}: " if len(machines) else ""
    warnings.warn(
        f"{whose}all {n_copies} training clips are equal, so nothing was learnt of how "
        "normal clips differ: every other clip is anomalous. Check that the recordings "
        "are neither copies nor silent (a muted microphone; channels that cancel each "
        "other, of which channel=0 takes one)",
        stacklevel=2 + level,
    )
