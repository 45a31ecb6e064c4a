"""Distances between embeddings.

A distance is called with points (n_points, n_features) and others (n_others,
n_features), and gives an array (n_points, n_others). A new one is a function here with
a row in `DISTANCES`, or a function of your own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sklearn_asd.detectors.constants import find_constants, find_means, find_units
from sklearn_asd.detectors.covariance import ShrunkCovariance, shrink_covariance

__all__ = [
    "DISTANCES",
    "OwnShares",
    "cosine",
    "euclidean",
    "make_whitening",
    "own_shares",
    "unit_length",
    "without_own_share",
]


def cosine(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """One minus the cosine of the angle between embeddings.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Embeddings.

    others : ndarray of shape (n_others, n_features)
        Embeddings.

    Returns
    -------
    distances : ndarray of shape (n_points, n_others)
        In [0, 2].
    """
    # Differences, since 1 - cosine of nearly equal directions would lose all digits.
    return _squared_distances(unit_length(points), unit_length(others)) / 2


def euclidean(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Length of the difference between embeddings.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Embeddings.

    others : ndarray of shape (n_others, n_features)
        Embeddings.

    Returns
    -------
    distances : ndarray of shape (n_points, n_others)
        At least 0.
    """
    return np.sqrt(_squared_distances(points, others))


Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]

# For "mahalanobis" the embeddings are whitened first.
DISTANCES: dict[str, Distance] = {"cosine": cosine, "mahalanobis": euclidean}


def make_whitening(embedding: np.ndarray, machine: np.ndarray) -> np.ndarray:
    """Make the matrix that gives deviations from the machines' means unit covariance.

    Parameters
    ----------
    embedding : ndarray of shape (n_clips, n_features)
        Embeddings.

    machine : ndarray of shape (n_clips,)
        The machine of each clip.

    Returns
    -------
    whitening : ndarray of shape (n_features, n_features)
        Embeddings are multiplied by it. The covariance is that of
        :func:`~sklearn_asd.detectors.covariance.shrink_covariance`, in which any
        deviation from a constant column is far.
    """
    return _estimate_covariance(embedding, machine).whitening


def own_shares(embedding: np.ndarray, machine: np.ndarray) -> np.ndarray:
    """Find how much each clip adds to the covariance of :func:`make_whitening`.

    Parameters
    ----------
    embedding : ndarray of shape (n_clips, n_features)
        Embeddings.

    machine : ndarray of shape (n_clips,)
        The machine of each clip; at least two clips each.

    Returns
    -------
    shares : ndarray of shape (n_clips,)
        Times the outer product of the clip's deviation from its machine's mean. It
        includes what the mean moves without the clip; the shrinkage stays the same.
    """
    shrinkage = _estimate_covariance(embedding, machine).shrinkage
    n_own = np.array([(machine == one).sum() for one in machine])
    return (1 - shrinkage) / len(embedding) * n_own / (n_own - 1)


def without_own_share(
    distances: np.ndarray,
    points: np.ndarray,
    others: np.ndarray,
    deviations: np.ndarray,
    shares: np.ndarray,
) -> np.ndarray:
    """Measure distances of training clips as if they had not been whitened by.

    A covariance that a clip is part of makes the clip look close, all the more the more
    columns and the fewer clips there are. The inverse without the clip follows by the
    Sherman-Morrison formula.

    Parameters
    ----------
    distances : ndarray of shape (n_points, n_others)
        Between whitened points and others.

    points : ndarray of shape (n_points, n_features)
        Whitened embeddings of training clips.

    others : ndarray of shape (n_others, n_features)
        Whitened embeddings.

    deviations : ndarray of shape (n_points, n_features)
        Of the points from the means of their machines.

    shares : ndarray of shape (n_points,)
        From :func:`own_shares`.

    Returns
    -------
    distances : ndarray of shape (n_points, n_others)
        Each point by the covariance without its own share.
    """
    along = (points * deviations).sum(axis=1, keepdims=True) - deviations @ others.T
    left = 1 - shares * (deviations**2).sum(axis=1)
    # If the other clips are equal, 0 is left, which is chance.
    factor = shares / np.maximum(left, 1 / len(shares) ** 2)
    along[distances == 0] = 0  # copies stay copies, in spite of rounding
    return np.sqrt(distances**2 + factor[:, None] * along**2)


class OwnShares(NamedTuple):
    """What each training clip adds to the covariance that it is whitened by.

    Attributes
    ----------
    deviations : list of ndarray of shape (n_training, n_columns)
        Whitened, from the mean of the clip's bank, in each group of columns.

    shares : list of ndarray of shape (n_training,)
        From :func:`own_shares`, in each group of columns.
    """

    deviations: list[np.ndarray]
    shares: list[np.ndarray]

    def leave_out(
        self,
        distances: np.ndarray,
        points: np.ndarray,
        others: np.ndarray,
        clips: np.ndarray,
        group: int,
    ) -> np.ndarray:
        """Measure distances of training clips without what each adds.

        Parameters
        ----------
        distances : ndarray of shape (n_points, n_others)
            Between whitened points and others.

        points : ndarray of shape (n_points, n_columns)
            Whitened embeddings of training clips.

        others : ndarray of shape (n_others, n_columns)
            Whitened embeddings.

        clips : ndarray of shape (n_points,), int
            Which training clips the points are.

        group : int
            Group of columns.

        Returns
        -------
        distances : ndarray of shape (n_points, n_others)
            Each point by the covariance without its own share.
        """
        own = self.deviations[group][clips], self.shares[group][clips]
        return without_own_share(distances, points, others, *own)


def _estimate_covariance(
    embedding: np.ndarray, machine: np.ndarray
) -> ShrunkCovariance:
    """Estimate the covariance around the machines' means."""
    number = np.unique(machine, return_inverse=True)[1]
    deviations = embedding - find_means(embedding, number)[number]
    constant = find_constants(embedding, deviations)
    return shrink_covariance(deviations, constant, find_units(embedding))


def unit_length(points: np.ndarray) -> np.ndarray:
    """Divide embeddings by their lengths.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Embeddings.

    Returns
    -------
    directions : ndarray of shape (n_points, n_features)
        Of length 1; zeros stay.
    """
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.maximum(length, np.finfo(float).tiny)


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.stack([((others - point) ** 2).sum(axis=1) for point in points])
