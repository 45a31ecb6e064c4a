"""MahalanobisDetector: a row is anomalous if it is far from the mean."""

from __future__ import annotations

from numbers import Integral, Real
from typing import NotRequired

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import (
    JudgingMixin,
    adds_or_not,
    all_or_nothing,
    left_out_threshold,
)
from sklearn_asd._utils.parameters import Interval, validates_parameters
from sklearn_asd._utils.validation import normal_rows, refuse_masked, validate_data
from sklearn_asd.detectors.adding import (
    append_known,
    choose_new,
    refuse_without_rows,
)
from sklearn_asd.detectors.constants import (
    find_constants,
    find_units,
    refuse_extremes,
    warn_of_copies,
)
from sklearn_asd.detectors.covariance import shrink_covariance

__all__ = ["MahalanobisDetector"]


class MahalanobisDetector(JudgingMixin, BaseEstimator):
    """A row is anomalous if it is far from the mean, measured by the covariance.

    The Mahalanobis distance with the covariance of Ledoit and Wolf, which is shrunk, so
    that there can be more columns than rows, as in mean spectra of a few hundred clips.

    Parameters
    ----------
    n_folds : int >= 2, default=5
        Folds of the rows that are scored by the others, for the threshold and for
        `training_score_samples_`; at most as many as there are rows.

    contamination : float in (0, 0.5], default=0.1
        Share of normal clips that the threshold calls anomalous, judged by training
        rows that are scored by a covariance of other folds. At least the lowest of
        these is normal: fewer than ``1 / contamination - 1`` rows promise nothing.

    Attributes
    ----------
    covariance_ : LedoitWolf
        Mean and covariance of the training rows.

    training_score_samples_ : ndarray of shape (n_samples,)
        Score of each row passed to `fit`, and then to `add_normals`, by a covariance of
        other folds; NaN for anomalous rows.
        :class:`~sklearn_asd.GammaProbabilityEnsemble` calibrates on it.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of str
        Their names, where X has any.

    See Also
    --------
    sklearn_asd.SpectrumStatistics : Turns clips into rows.
    sklearn_asd.PerMachine : Fits one for each machine.
    sklearn.covariance.EllipticEnvelope : Robust to outliers among many rows.

    Notes
    -----
    Rows that a covariance was estimated from are much closer to the mean than new
    ones: with 256 columns and 200 rows, a threshold set by them would call nearly all
    new rows anomalous. Therefore each fold is scored by a covariance of the others, and
    `predict` calls less than a share of `contamination` of the training rows anomalous.

    Columns are not standardised: bands that hardly vary would count as much as those
    in which machines differ. *Constant columns* are apart: any deviation from the
    constant but rounding is anomalous. If all columns are constant, `fit` warns.

    The shrinkage is that of Ledoit and Wolf, but at least 1 / n_samples.

    The normal rows are kept for :meth:`add_normals`.

    Cost: n_folds + 1 covariances; the time for each grows with n_samples times
    n_features squared.

    References
    ----------
    Ledoit and Wolf, "A Well-Conditioned Estimator for Large-Dimensional Covariance
    Matrices", Journal of Multivariate Analysis 88, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import MahalanobisDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 3)) * [10, 1, 1]
    >>> detector = MahalanobisDetector().fit(X)
    >>> detector.predict([[10, 0, 0], [0, 10, 0]])  # +1 is normal
    array([ 1, -1])
    """

    _parameter_constraints: dict = {
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }
    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "feature_names_in_": NotRequired[np.ndarray],
        "training_score_samples_": NotRequired[np.ndarray],
        "covariance_": LedoitWolf,
        "offset_": Real,
        # Files of earlier versions have neither.
        "_training_points": NotRequired[np.ndarray],
        "_training_rows": NotRequired[np.ndarray],
    }

    # `training_score_samples_` and the threshold are of clips left out of the fit.
    leaves_clips_out = True

    def __init__(self, *, n_folds=5, contamination=0.1):
        self.n_folds = n_folds
        self.contamination = contamination

    @validates_parameters(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None):
        """Estimate the mean and the covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of clips, of which at least three are normal.

        y : array-like of shape (n_samples,) or None, default=None
            +1 for normal rows, -1 for anomalous ones, which are never learnt from. None
            takes all as normal, and so does any other y, with a warning.

        Returns
        -------
        self : MahalanobisDetector
            Fitted.

        Raises
        ------
        ValueError
            If fewer than three rows are normal, or a number is beyond 1e50.

        Warns
        -----
        UserWarning
            If all normal rows are equal.
        """
        refuse_masked(X, "X")
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=3)
        normal = np.flatnonzero(normal_rows(y, len(X), lenient=True))
        if len(normal) < 3:
            raise ValueError(f"y marks {len(normal)} rows as normal; 3 are needed")
        self._training_points, self._training_rows = refuse_extremes(X[normal]), normal
        self._learn(len(X))
        return self

    @adds_or_not
    def add_normals(self, X):
        """Learn from more normal rows, exactly as if `fit` had been given them too.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of normal clips.

        Returns
        -------
        self : MahalanobisDetector
            Itself.

        Raises
        ------
        ValueError
            If a row is a copy of one that was learnt from, a number is beyond 1e50, or
            the detector comes from a file of an earlier version, which kept no rows.
        """
        refuse_without_rows(self, "_training_points")
        refuse_masked(X, "X")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        usable = choose_new(X, self._training_points)
        append_known(self, usable, points=X[usable])
        self._learn(len(self.training_score_samples_) + len(X))
        return self

    def _learn(self, n_rows: int) -> None:
        """Set the covariance, the training scores and the threshold."""
        rows, normal = self._training_points, self._training_rows
        constant, units = find_constants(rows, rows - rows[0]), find_units(rows)
        self.covariance_ = _fit_covariance(rows, constant, units)
        self.training_score_samples_ = np.full(n_rows, np.nan)
        if constant.all():
            warn_of_copies(len(rows), level=4)
            self.training_score_samples_[normal] = 0.0
            self.offset_ = -float(np.sqrt(rows.shape[1]))  # a unit in each column
            return
        # Rows without those of a fold may be equal, which is chance if all are not.
        least = np.trace(self.covariance_.covariance_[~constant][:, ~constant])
        least /= (~constant).sum() * len(rows)
        folds = KFold(min(self.n_folds, len(rows)), shuffle=True, random_state=0)
        for others, fold in folds.split(rows):
            fitted = _fit_covariance(rows[others], constant, units, least)
            self.training_score_samples_[normal[fold]] = -_distance(fitted, rows[fold])
        self.offset_ = left_out_threshold(
            self.training_score_samples_, self.contamination
        )

    def score_samples(self, X):
        """Score rows: the higher, the more normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Minus the Mahalanobis distance to the mean.
        """
        check_is_fitted(self)
        refuse_masked(X, "X")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return -_distance(self.covariance_, refuse_extremes(X))


def _fit_covariance(
    rows: np.ndarray, constant: np.ndarray, units: np.ndarray, least: float = 0.0
) -> LedoitWolf:
    # Differences from a row keep the digits of numbers that are large and nearly equal.
    deviations = rows - rows[0]
    mean = deviations.mean(axis=0)
    estimate = shrink_covariance(deviations - mean, constant, units, least)
    covariance = LedoitWolf()
    covariance.location_ = rows[0] + mean
    covariance.covariance_ = estimate.covariance
    covariance.precision_ = estimate.whitening @ estimate.whitening.T
    covariance.shrinkage_ = estimate.shrinkage
    covariance.n_features_in_ = rows.shape[1]
    return covariance


def _distance(covariance: LedoitWolf, X: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(covariance.mahalanobis(X), 0))
