"""Distances to training clips, normalised by how densely these lie.

A clip's *spread* is its mean distance to its nearest other training clips: small where
training clips lie densely. What `normalize` gives for each training clip, a shift and a
scale, makes distances to it comparable: ``(distance - shift) / scale``.
"""

from __future__ import annotations

import numpy as np

__all__ = ["leave_one_out", "mean_smallest", "normalize", "typical"]

# A clip with copies has a spread of 0. It counts as this share of the typical spread.
_LEAST_SPREAD = 0.01


def normalize(
    distances: np.ndarray, density: str | None, n_density_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the shift and the scale of each training clip.

    Parameters
    ----------
    distances : ndarray of shape (n_clips, n_clips)
        Between training clips; infinity on the diagonal.

    density : {None, "ratio", "varmin"}
        "ratio" divides by the spread. "varmin" subtracts a multiple of it, such that
        the variance of the differences is least.

    n_density_neighbors : int
        Number of other clips that make the spread; where there are fewer, all.

    Returns
    -------
    shift, scale : ndarray of shape (n_clips,)
        0 and 1 for None.
    """
    if density is None:
        return np.zeros(len(distances)), np.ones(len(distances))
    n_nearest = min(n_density_neighbors + 1, len(distances) - 1)
    nearest = np.sort(distances, axis=1)[:, :n_nearest]
    sums = _sum_to_others(distances)
    return _normalize_nearest(nearest, sums, density, n_density_neighbors)


def leave_one_out(
    own: np.ndarray,
    distances: np.ndarray,
    density: str | None,
    n_density_neighbors: int,
    n_neighbors: int,
) -> np.ndarray:
    """Score each training clip as if it had never been among them.

    Parameters
    ----------
    own : ndarray of shape (n_clips, n_clips)
        Distances of each training clip, left out, to the others; infinity on the
        diagonal.

    distances : ndarray of shape (n_clips, n_clips)
        Between training clips, which make the spreads; infinity on the diagonal.

    density : {None, "ratio", "varmin"}
        See :func:`normalize`.

    n_density_neighbors, n_neighbors : int
        Number of other clips that make the spread, and the score.

    Returns
    -------
    scores : ndarray of shape (n_clips,)
        Mean of the `n_neighbors` smallest normalised distances to the others, whose
        shifts and scales are those that they have without the clip.
    """
    n_clips = len(distances)
    n_neighbors = min(n_neighbors, n_clips - 1)
    if density is None:
        return mean_smallest(own, n_neighbors)
    # One more than needed, as one of them may be the clip that is left out.
    order = np.argsort(distances, axis=1, kind="stable")
    order = order[:, : min(n_density_neighbors + 2, n_clips - 1)]
    nearest = np.take_along_axis(distances, order, axis=1)
    sums = _sum_to_others(distances)
    scores = np.empty(n_clips)
    for clip in range(n_clips):
        others = np.flatnonzero(np.arange(n_clips) != clip)
        to_end = np.argsort(order[others] == clip, axis=1, kind="stable")
        kept = np.take_along_axis(nearest[others], to_end[:, :-1], axis=1)
        left = sums[others] - distances[others, clip]
        shift, scale = _normalize_nearest(kept, left, density, n_density_neighbors)
        values = (own[clip, others] - shift) / scale
        scores[clip] = mean_smallest(values, n_neighbors)
    return scores


def mean_smallest(values: np.ndarray, n_smallest: int) -> np.ndarray:
    """Average the smallest values.

    Parameters
    ----------
    values : ndarray of shape (..., n_values)
        Numbers.

    n_smallest : int
        How many of them; at most n_values.

    Returns
    -------
    means : ndarray of shape (...)
        Of the smallest along the last axis.
    """
    smallest = np.partition(values, n_smallest - 1, axis=-1)[..., :n_smallest]
    return smallest.mean(axis=-1)


def typical(values: np.ndarray) -> float:
    """Find the median of the values above 0, but for rounding.

    Parameters
    ----------
    values : ndarray
        Numbers of at least 0. Copies of clips have 0, which says nothing of the others.

    Returns
    -------
    median : float
        1 if there are none.
    """
    positive = values[values > 1e-9 * values.max()]
    return float(np.median(positive)) if len(positive) else 1.0


def _normalize_nearest(
    nearest: np.ndarray, sums: np.ndarray, density: str, n_density_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale by distances to the nearest others, and the sums to all."""
    spread = nearest[:, :n_density_neighbors].mean(axis=1)
    if density == "ratio":
        least = _LEAST_SPREAD * typical(spread)
        return np.zeros(len(spread)), np.maximum(spread, least)
    return _find_factor(nearest, sums) * spread, np.ones(len(spread))


def _find_factor(nearest: np.ndarray, sums: np.ndarray) -> float:
    """Cov(d, b) / Var(b) over all pairs of a clip left out and another one.

    d is their distance, and b the spread of the other one without the clip that is left
    out: its mean distance to all but the last of `nearest`, or, if the clip is one of
    these, to all but the clip.
    """
    n_clips, n_spread = len(nearest), nearest.shape[1] - 1
    if not n_spread:  # of two clips, none has a neighbour once the other is left out
        return 0.0
    near = nearest[:, :n_spread]
    without = (nearest.sum(axis=1, keepdims=True) - near) / n_spread
    spreads = np.column_stack([without, near.mean(axis=1)])
    # Each row of pairs has n_spread different spreads, and one that all others share.
    n_pairs = np.append(np.ones(n_spread), n_clips - 1 - n_spread)
    distances = np.column_stack([near, sums - near.sum(axis=1)])
    mean = (n_pairs * spreads).sum() / (n_clips * (n_clips - 1))
    deviation = spreads - mean
    variance = (n_pairs * deviation**2).sum()
    if variance <= (1e-9 * mean) ** 2:  # rounding
        return 0.0
    return float((distances * deviation).sum() / variance)


def _sum_to_others(distances: np.ndarray) -> np.ndarray:
    """Sum each clip's distances to the others, without its own infinity."""
    return np.where(np.eye(len(distances), dtype=bool), 0, distances).sum(axis=1)
