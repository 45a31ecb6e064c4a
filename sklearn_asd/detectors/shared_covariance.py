"""Covariances of several machines, as alike as their normal clips say.

Each machine has a mean of its own. Its covariance is a mixture of its own and of one
that is common to all machines, which is then shrunk towards a multiple of the identity
(regularised discriminant analysis, Friedman 1989). How much of each is chosen by the
likelihood of clips that are left out one by one. Nothing is fitted again for that: if a
clip is left out, its machine's covariance loses a matrix of rank one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from sklearn_asd.detectors.constants import find_constants, find_means, find_units

__all__ = [
    "SHARINGS",
    "SHRINKAGES",
    "STANDARDIZATIONS",
    "Gaussians",
    "fit_gaussians",
    "list_settings",
]

# What is tried where the likelihood chooses.
SHARINGS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SHRINKAGES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
STANDARDIZATIONS = (0.0, 0.5, 1.0)

# From so many columns on, matrices are worth several threads.
_MANY_COLUMNS = 400

# Least variance in any direction, as a share of the mean variance.
_LEAST_VARIANCE = 1e-12


class Gaussians(NamedTuple):
    """One Gaussian for each machine, and what left-out clips tell about them.

    Attributes
    ----------
    means : ndarray of shape (n_machines, n_features)
        Of the machines' clips.

    whitenings : ndarray of shape (n_machines, n_features, n_features)
        The Mahalanobis distance of x is ``norm((x - mean) @ whitening)``.

    sharings : ndarray of shape (n_machines,)
        Weight of the common covariance, in [0, 1].

    shrinkage : float
        Weight of the identity, in [0, 1].

    standardization : float
        Exponent of the standard deviations that columns were divided by, in [0, 1].

    left_out : ndarray of shape (n_clips,)
        Distance of each clip to its machine, fitted without the clip.

    to_siblings : ndarray of shape (n_machines, n_clips)
        Distance of each clip to every machine, all fitted without the clip.
    """

    means: np.ndarray
    whitenings: np.ndarray
    sharings: np.ndarray
    shrinkage: float
    standardization: float
    left_out: np.ndarray
    to_siblings: np.ndarray


class _Choice(NamedTuple):
    """Settings, with the log-likelihood of the left-out clips."""

    likelihood: float
    sharing: float
    shrinkage: float
    standardization: float


def fit_gaussians(
    points: np.ndarray,
    machine: np.ndarray,
    sharings: Sequence[float] = SHARINGS,
    shrinkages: Sequence[float] = SHRINKAGES,
    standardizations: Sequence[float] = (1.0,),
) -> Gaussians:
    """Fit a Gaussian to each machine's clips, with the most likely of the settings.

    Parameters
    ----------
    points : ndarray of shape (n_clips, n_features)
        Rows of the training clips.

    machine : ndarray of shape (n_clips,), int
        Number of each clip's machine, from 0; each has two clips or more.

    sharings : sequence of float in [0, 1]
        Weights of the common covariance to try, for a machine with the median number
        of clips: see Notes.

    shrinkages : sequence of float in [0, 1]
        Weights of the identity to try.

    standardizations : sequence of float in [0, 1]
        Columns are divided by this power of their standard deviation.

    Returns
    -------
    gaussians : Gaussians
        Fitted with the setting whose likelihood is largest; of equal ones the first.

    Notes
    -----
    Covariances have the weight of evidence: with a weight of lambda at the median
    number of clips, the common one counts as nu clips, ``nu = median lambda / (1 -
    lambda)``, and has the weight ``nu / (nu + n)`` in a machine of n clips.

    Cost: for each sharing, standardization and machine an eigendecomposition; all
    shrinkages and left-out clips follow from it.
    """
    if machine.max() == 0:
        sharings = (0.0,)  # the common covariance of one machine is its own
    # For small matrices threads gain nothing, and on a busy computer they wait for each
    # other, for several times as long.
    n_threads = 1 if points.shape[1] < _MANY_COLUMNS else None
    with threadpool_limits(n_threads, user_api="blas"):
        return _fit_most_likely(points, machine, sharings, shrinkages, standardizations)


def _fit_most_likely(
    points: np.ndarray,
    machine: np.ndarray,
    sharings: Sequence[float],
    shrinkages: Sequence[float],
    standardizations: Sequence[float],
) -> Gaussians:
    choices = []
    for power in standardizations:
        scatter = _Scatter(points, machine, power)
        for sharing in sharings:
            likelihoods = scatter.likelihoods(sharing, shrinkages)
            choices += [
                _Choice(float(likelihood), sharing, shrinkage, power)
                for likelihood, shrinkage in zip(likelihoods, shrinkages, strict=True)
            ]
    best = max(choices, key=lambda choice: choice.likelihood)
    return _Scatter(points, machine, best.standardization).fit(best)


class _Scatter:
    """Deviations of all clips from their machines' means, and sums of their squares."""

    def __init__(self, points: np.ndarray, machine: np.ndarray, power: float) -> None:
        self.machine = machine
        self.counts = np.bincount(machine)
        self.means = find_means(points, machine)
        deviations = points - self.means[machine]
        self.freedom = max(len(points) - len(self.counts), 1)
        constant = find_constants(points, deviations)
        spread = np.sqrt(np.square(deviations).sum(axis=0) / self.freedom)
        self.scale = spread**power
        # Any deviation from a constant is anomalous, so a constant column is measured
        # by what rounding explains, which becomes as much as other columns vary by.
        usual = np.sqrt(_mean(spread[~constant] ** (2 - 2 * power)))
        self.scale[constant] = find_units(points)[constant] / usual
        self.power = power
        self.deviations = deviations / self.scale
        self.variances = np.square(self.deviations).sum(axis=0) / self.freedom
        self.basis = _find_span(points / self.scale)
        self.along = self._project(self.deviations)
        self.along_means = self._project(self.means / self.scale)
        self.total = self.along.T @ self.along
        self.least = _LEAST_VARIANCE * _mean(self.variances[~constant])

    def _project(self, rows: np.ndarray) -> np.ndarray:
        """Coordinates in the space that the clips span, or the columns themselves."""
        return rows if self.basis is None else rows @ self.basis

    def share(self, sharing: float) -> np.ndarray:
        """Weight of the common covariance in each machine."""
        if sharing in (0, 1):
            return np.full(len(self.counts), sharing)
        common = np.median(self.counts) * sharing / (1 - sharing)
        return common / (common + self.counts)

    def likelihoods(self, sharing: float, shrinkages: Sequence[float]) -> np.ndarray:
        """Log-likelihood of the left-out clips for each shrinkage."""
        total = np.zeros(len(shrinkages))
        for one, weight in enumerate(self.share(sharing)):
            part = self._leave_out(one, weight)
            for place, shrinkage in enumerate(shrinkages):
                squared, log_volume = part.own_distances(shrinkage)
                total[place] -= (squared + log_volume).sum() / 2
        return total - len(self.machine) * np.log(self.scale).sum()

    def fit(self, choice: _Choice) -> Gaussians:
        """Fit the Gaussians, and find the distances of left-out clips."""
        sharings, shrinkage = self.share(choice.sharing), choice.shrinkage
        n_features = len(self.scale)
        whitenings = np.empty((len(self.counts), n_features, n_features))
        distances = np.empty((len(self.counts), len(self.machine)))
        for one, weight in enumerate(sharings):
            whitenings[one] = self._whiten(one, weight, shrinkage)
            own, others = self.machine == one, self.machine != one
            for rows, part in (
                (own, self._leave_out(one, weight)),
                (others, self._leave_out_siblings(one, weight)),
            ):
                squared = part.distances(shrinkage)
                change = self._standardize_anew(rows, part, shrinkage)
                distances[one, rows] = squared / (1 - change)
        distances = np.sqrt(np.maximum(distances, 0))
        left_out = distances[self.machine, np.arange(len(self.machine))]
        return Gaussians(
            self.means,
            whitenings,
            sharings,
            shrinkage,
            self.power,
            left_out,
            distances,
        )

    def _decompose(
        self, one: int, per_own: float, per_common: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of a sum of own and of all squares."""
        if per_own == 0:  # the same for all machines
            values, vectors = self._common
            return per_common * values, vectors
        own = self.along[self.machine == one]
        return np.linalg.eigh(per_own * (own.T @ own) + per_common * self.total)

    @cached_property
    def _common(self) -> tuple[np.ndarray, np.ndarray]:
        return np.linalg.eigh(self.total)

    def _whiten(self, one: int, weight: float, shrinkage: float) -> np.ndarray:
        """Make the matrix that gives a machine's deviations unit covariance."""
        per_own = (1 - weight) / max(self.counts[one] - 1, 1)
        values, vectors = self._decompose(one, per_own, weight / self.freedom)
        values = np.maximum(values, 0)
        mean = values.sum() / len(self.scale)
        variances = (1 - shrinkage) * values + shrinkage * mean
        whitening = vectors / np.sqrt(np.maximum(variances, self.least))
        if self.basis is not None:
            whitening = self.basis @ whitening @ self.basis.T
            outside = np.eye(len(self.scale)) - self.basis @ self.basis.T
            whitening += outside / np.sqrt(max(shrinkage * mean, self.least))
        return whitening / self.scale[:, None]

    def _leave_out(self, one: int, weight: float) -> _LeftOut:
        """Prepare the distances of a machine's own clips, each left out."""
        n_own = self.counts[one]
        per_own = (1 - weight) / max(n_own - 2, 1)
        per_common = weight / max(self.freedom - 1, 1)
        values, vectors = self._decompose(one, per_own, per_common)
        # Without a clip, the sum of squares lacks n / (n - 1) times its own square, and
        # its deviation from the mean of the others is as many times as large.
        more = n_own / (n_own - 1)
        deviations = self.along[self.machine == one] @ vectors
        removed = np.full(n_own, (per_own + per_common) * more)
        asked = more * deviations
        return self._make_left_out(values, vectors, deviations, removed, asked)

    def _leave_out_siblings(self, one: int, weight: float) -> _LeftOut:
        """Prepare the distances of other machines' clips to this one, each left out."""
        per_own = (1 - weight) / max(self.counts[one] - 1, 1)
        per_common = weight / max(self.freedom - 1, 1)
        values, vectors = self._decompose(one, per_own, per_common)
        others = self.machine != one
        counts = self.counts[self.machine[others]]
        removed = per_common * counts / (counts - 1)
        differences = self.along_means - self.along_means[one]
        asked = self.along[others] + differences[self.machine[others]]
        deviations, asked = self.along[others] @ vectors, asked @ vectors
        return self._make_left_out(values, vectors, deviations, removed, asked)

    def _make_left_out(self, values: np.ndarray, *rest: np.ndarray) -> _LeftOut:
        n_outside = len(self.scale) - len(values)
        return _LeftOut(n_outside, self.least, values, *rest)

    def _standardize_anew(
        self, rows: np.ndarray, part: _LeftOut, shrinkage: float
    ) -> np.ndarray:
        """Relative change of squared distances, as columns vary less without a clip.

        A clip that is far out in a column adds to the standard deviation of it, by
        which the target of the shrinkage is measured. To first order.
        """
        counts = self.counts[self.machine[rows]][:, None]
        more = counts / (counts - 1)
        variances = np.maximum(self.variances, self.least)
        lost = more * np.square(self.deviations[rows]) / variances - 1
        lost /= max(self.freedom - 1, 1)
        uneven = lost - lost @ variances[:, None] / variances.sum()
        solved, mean = part.solve(shrinkage)
        solved = solved if self.basis is None else solved @ self.basis.T
        change = (np.square(solved) * uneven).sum(axis=1) * mean
        squared = np.maximum(part.distances(shrinkage), np.finfo(float).tiny)
        return np.clip(self.power * shrinkage * change / squared, -1, 0.9)


class _LeftOut(NamedTuple):
    """A covariance, from which each clip in turn is left out.

    Attributes
    ----------
    n_outside : int
        Number of dimensions in which the clips do not differ: more eigenvalues of 0.

    least : float
        Least variance in any direction.

    values : ndarray of shape (n_features,)
        Its eigenvalues.

    vectors : ndarray of shape (n_features, n_features)
        Its eigenvectors, as columns.

    deviations : ndarray of shape (n_clips, n_features)
        The clips' deviations from their machines' means, along the eigenvectors.

    removed : ndarray of shape (n_clips,)
        How often the square of each deviation is subtracted when the clip is left out.

    asked : ndarray of shape (n_clips, n_features)
        Deviations whose distances are asked for, along the eigenvectors.
    """

    n_outside: int
    least: float
    values: np.ndarray
    vectors: np.ndarray
    deviations: np.ndarray
    removed: np.ndarray
    asked: np.ndarray

    def own_distances(self, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances, and log-determinants of the covariances, of own clips.

        What is asked for is here a multiple of the deviation that is removed, which
        makes it fast.
        """
        variances, mean = self._shrink(shrinkage)
        squared = (np.square(self.asked) / variances).sum(axis=1)
        own = (np.square(self.deviations) / variances).sum(axis=1)
        rest = _what_rests((1 - shrinkage) * self.removed * own)
        outside = np.log(np.maximum(shrinkage * mean, self.least))
        log_volume = np.log(variances).sum(axis=1) + self.n_outside * outside
        return squared / rest, log_volume + np.log(rest)

    def distances(self, shrinkage: float) -> np.ndarray:
        """Squared distances of any clips."""
        variances, _ = self._shrink(shrinkage)
        squared = (np.square(self.asked) / variances).sum(axis=1)
        across = (self.asked * self.deviations / variances).sum(axis=1)
        return squared + across * self._weigh(variances, shrinkage)

    def solve(self, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
        """Inverse covariances times what is asked for, and the mean variances."""
        variances, mean = self._shrink(shrinkage)
        weight = self._weigh(variances, shrinkage)[:, None]
        solved = (self.asked + weight * self.deviations) / variances
        return solved @ self.vectors.T, mean

    def _shrink(self, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
        """Shrunk variances before the removal, (n_clips, n_features), and their mean.

        The mean is that after the removal.
        """
        lost = self.removed * np.square(self.deviations).sum(axis=1)
        n_features = len(self.values) + self.n_outside
        # If the others are equal, that is chance: a share of the clip's squares stays.
        total = self.values.sum()
        mean = np.maximum(total - lost, total / max(len(lost), 1)) / n_features
        kept = (1 - shrinkage) * np.maximum(self.values, 0)
        return np.maximum(kept + shrinkage * mean[:, None], self.least), mean

    def _weigh(self, variances: np.ndarray, shrinkage: float) -> np.ndarray:
        """Weight of the removed deviation, by the formula of Sherman and Morrison."""
        removed = (1 - shrinkage) * self.removed
        own = (np.square(self.deviations) / variances).sum(axis=1)
        across = (self.asked * self.deviations / variances).sum(axis=1)
        return removed * across / _what_rests(removed * own)


def _what_rests(removed: np.ndarray) -> np.ndarray:
    return np.maximum(1 - removed, 1e-12)  # at 0, nothing is left in that direction


def _find_span(points: np.ndarray) -> np.ndarray | None:
    """Find the orthonormal basis of the space that few rows of many columns span.

    They do not differ outside of it, so all matrices are smaller in it. None if that
    saves little.
    """
    n_rows, n_columns = points.shape
    if n_rows > n_columns // 2:
        return None
    centered = points - points.mean(axis=0)
    return np.linalg.svd(centered, full_matrices=False)[2].T


def _mean(variances: np.ndarray) -> float:
    return float(variances.mean()) if len(variances) else 1.0


def list_settings(value: float | str, grid: tuple[float, ...]) -> tuple[float, ...]:
    """List the settings to try: those of the grid for "auto", else the one given.

    Parameters
    ----------
    value : float or "auto"
        A parameter.

    grid : tuple of float
        What "auto" stands for.

    Returns
    -------
    settings : tuple of float
        In ascending order.
    """
    return grid if value == "auto" else (float(value),)
