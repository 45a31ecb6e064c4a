"""The covariance of Ledoit and Wolf, in which deviations from constants are far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

__all__ = ["ShrunkCovariance", "shrink_covariance"]


class ShrunkCovariance(NamedTuple):
    """A covariance, and what is made of it.

    Attributes
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Positive definite. A constant column is apart, with the square of its unit.

    whitening : ndarray of shape (n_features, n_features)
        Deviations multiplied by it have unit covariance.

    shrinkage : float in [0, 1]
        Weight of the identity; 0 for one column.
    """

    covariance: np.ndarray
    whitening: np.ndarray
    shrinkage: float


def shrink_covariance(
    deviations: np.ndarray,
    constant: np.ndarray,
    units: np.ndarray,
    least_variance: float = 0.0,
) -> ShrunkCovariance:
    """Estimate the covariance of rows around means that are known.

    Parameters
    ----------
    deviations : ndarray of shape (n_points, n_features)
        Of rows from their means.

    constant : ndarray of shape (n_features,), bool
        Which columns are constant, from
        :func:`~sklearn_asd.detectors.constants.find_constants`.

    units : ndarray of shape (n_features,)
        What deviations from constants are measured by, from
        :func:`~sklearn_asd.detectors.constants.find_units`.

    least_variance : float, default=0.0
        Of the mean variance that the covariance is shrunk to.

    Returns
    -------
    estimate : ShrunkCovariance
        Its shrinkage is that of Ledoit and Wolf, but at least 1 / n_points: Gaussian
        rows have twice as much, and for two rows, or rows that alternate between two
        values, the formula makes 0, as if other directions were of no account.
    """
    covariance, whitening = np.diag(units**2), np.diag(1 / units)
    if constant.all():
        return ShrunkCovariance(covariance, whitening, 1.0)
    varying = ~constant
    # Fourth powers are computed, which need a scale.
    scale = max(np.abs(deviations[:, varying]).max(), np.sqrt(least_variance))
    part = deviations[:, varying] / scale
    shrinkage = float(ledoit_wolf_shrinkage(part, assume_centered=True))
    shrinkage = min(max(shrinkage, 1 / len(part)), 1.0)
    own = part.T @ part / len(part)
    target = max(np.trace(own) / len(own), least_variance / scale**2)
    own = (1 - shrinkage) * own + shrinkage * target * np.eye(len(own))
    values, vectors = np.linalg.eigh(own)
    block = np.ix_(varying, varying)
    covariance[block] = own * scale**2
    whitening[block] = vectors / np.sqrt(values) / scale
    if len(own) == 1:  # it is shrunk to itself
        shrinkage = 0.0
    return ShrunkCovariance(covariance, whitening, shrinkage)
