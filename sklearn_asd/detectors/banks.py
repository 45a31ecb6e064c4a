"""Banks: the points that clips of a machine, or of a domain of it, are compared with.

A bank holds the embedding of each training clip, or fewer points, the centres of
k-means, or more, which are synthesised between clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from sklearn_asd.detectors.constants import are_copies, find_means
from sklearn_asd.detectors.distances import euclidean

__all__ = ["BankMaker", "kmeans_centers", "resize", "smote"]

# Number of nearest clips that synthetic points lie towards, as in the paper on SMOTE.
_N_NEIGHBORS = 5

# Nearer rows are one for k-means, whose distances are differences of squares.
_DIGITS = 6

# Points are made anew without each of this many parts of the clips.
_N_PARTS = 10


def kmeans_centers(rows: np.ndarray, n_centers: int, seed: int | None) -> np.ndarray:
    """Find the centres of the clusters of k-means.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Rows.

    n_centers : int
        Number of clusters; where fewer rows differ by more than a millionth of the
        largest number, how many do.

    seed : int or None
        Of the first centres (k-means++).

    Returns
    -------
    centers : ndarray of shape (n_centers, n_columns)
        Means of the clusters, exact where rows are equal; the same bits for one seed,
        whatever the number of threads.
    """
    from sklearn.cluster import KMeans  # slow to import, and not needed to score

    largest = np.abs(rows).max() or 1.0
    differing = np.unique(np.round(rows / largest, _DIGITS), axis=0)
    n_centers = min(n_centers, len(differing))
    with threadpool_limits(1):  # threads add up in the order in which they end
        clusters = KMeans(n_centers, n_init=1, random_state=seed).fit_predict(rows)
    return find_means(rows, np.unique(clusters, return_inverse=True)[1])


def smote(
    rows: np.ndarray, n_new: int, n_neighbors: int, seed: int | None
) -> np.ndarray:
    """Synthesise rows between rows and their neighbours.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Rows.

    n_new : int
        Number of rows to synthesise. All rows have the same number of new ones, but for
        one.

    n_neighbors : int
        Number of nearest other rows, one of which is drawn for each new row; where
        there are fewer, all.

    seed : int or None
        Of what is drawn.

    Returns
    -------
    synthetic : ndarray of shape (n_new, n_columns)
        Each uniform on the segment between a row and the neighbour; none if there is
        one row only, which has no neighbour.

    References
    ----------
    Chawla, Bowyer, Hall and Kegelmeyer, "SMOTE: Synthetic Minority Over-sampling
    Technique", Journal of Artificial Intelligence Research 16, 2002.
    """
    n_neighbors = min(n_neighbors, len(rows) - 1)
    if not n_neighbors:
        return rows[:0]
    rng = np.random.default_rng(seed)
    distances = euclidean(rows, rows)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    start = np.resize(rng.permutation(len(rows)), n_new)
    end = nearest[start, rng.integers(n_neighbors, size=n_new)]
    return rows[start] + rng.random((n_new, 1)) * (rows[end] - rows[start])


def resize(rows: np.ndarray, n_points: int, seed: int | None) -> np.ndarray:
    """Make a number of points of rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Rows.

    n_points : int
        Number of points.

    seed : int or None
        Of :func:`kmeans_centers` and :func:`smote`.

    Returns
    -------
    points : ndarray of shape (n_points, n_columns)
        Centres of k-means, if there are more rows than `n_points`. Else the rows,
        followed by synthetic ones. Rows that are all equal stay as they are.
    """
    if len(rows) == n_points or are_copies(rows):
        return rows
    if len(rows) > n_points:
        return kmeans_centers(rows, n_points, seed)
    new = smote(rows, n_points - len(rows), _N_NEIGHBORS, seed)
    return np.concatenate([rows, new])


class BankMaker(NamedTuple):
    """Makes points of training clips, of all or without some.

    Attributes
    ----------
    points : ndarray of shape (n_clips, n_columns)
        The training clips.

    rows : ndarray of shape (n_clips, n_columns)
        The same, as Euclidean distances between them mean something.

    machines, domains : ndarray of shape (n_clips,), int
        Machine of each clip, and domain of its machine, from
        :func:`~sklearn_asd.detectors.labels.number_banks`.

    n_centers : int or None
        Domains with more clips become this many points; None for no limit.

    balanced : bool
        Whether domains with fewer points get as many as the largest of their machine.

    seed : int or None
        Of all that is drawn.
    """

    points: np.ndarray
    rows: np.ndarray
    machines: np.ndarray
    domains: np.ndarray
    n_centers: int | None
    balanced: bool
    seed: int | None

    def make(
        self, clips: np.ndarray, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make the points of some domains.

        Parameters
        ----------
        clips : ndarray of int
            All clips of these domains, by their places.

        out : ndarray of int or None, default=None
            Clips to make the points without.

        Returns
        -------
        points : ndarray of shape (n_points, n_columns)
            The clips of a domain themselves, or what :func:`resize` makes of `rows`.

        nearest : ndarray of shape (n_points,), int
            Place of the clip that each point is nearest to; in ascending order.
        """
        kept = np.ones(len(self.points), dtype=bool)
        if out is not None:
            kept[out] = False
        n_points = self._count_points(kept)
        clips = clips[kept[clips]]
        made, nearest = [], []
        for domain in np.unique(self.domains[clips]):
            own = clips[self.domains[clips] == domain]
            points = resize(self.rows[own], n_points[domain], self.seed)
            if len(points) == len(own):
                made.append(self.points[own])
                nearest.append(own)
            else:
                made.append(points)
                nearest.append(own[euclidean(points, self.rows[own]).argmin(axis=1)])
        order = np.argsort(np.concatenate(nearest), kind="stable")
        return np.concatenate(made)[order], np.concatenate(nearest)[order]

    def leave_out(self, clips: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Make the points of some domains without some of their clips in turn.

        Parameters
        ----------
        clips : ndarray of int
            All clips of these domains, by their places.

        Yields
        ------
        out : ndarray of int
            Places in `clips` of those that are left out: a tenth of a domain, or one
            clip.

        points : ndarray of shape (n_points, n_columns)
            Made of the others.
        """
        rng = np.random.default_rng(self.seed)
        for domain in np.unique(self.domains[clips]):
            own = np.flatnonzero(self.domains[clips] == domain)
            part = rng.permutation(np.arange(len(own)) % _N_PARTS)
            for number in range(part.max() + 1):
                out = own[part == number]
                yield out, self.make(clips, clips[out])[0]

    def _count_points(self, kept: np.ndarray) -> np.ndarray:
        """Count the points to make of what is kept of each domain."""
        numbers = np.bincount(self.domains[kept])
        if self.n_centers is not None:
            numbers = np.minimum(numbers, self.n_centers)
        if not self.balanced:
            return numbers
        largest = np.zeros(self.machines.max() + 1, dtype=int)
        np.maximum.at(largest, self.machines[kept], numbers[self.domains[kept]])
        numbers[self.domains] = largest[self.machines]
        return numbers
