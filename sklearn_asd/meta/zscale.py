"""Anomaly scores in standard deviations above their mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_asd.meta import scoring

__all__ = ["ZScale"]


# Smaller shares of a variance are rounding.
_ROUNDING = 1e-9


class ZScale(NamedTuple):
    """Mean and standard deviation that turn anomaly scores into z-scores.

    Attributes
    ----------
    center : float
        Mean.

    scale : float > 0
        Standard deviation.
    """

    center: float
    scale: float

    @classmethod
    def fit(cls, scores: np.ndarray, whose: str, remedy: str) -> ZScale:
        """Compute both.

        Parameters
        ----------
        scores : ndarray of shape (n_clips,)
            Anomaly scores of normal clips; NaN is left out.

        whose : str
            Owner of the scores, for error messages.

        remedy : str
            Remedy for scores that are too few or equal.

        Returns
        -------
        scale : ZScale
            Fitted.

        Raises
        ------
        ValueError
            If there are no two different finite scores, or they are close to the
            largest float.
        """
        scores = scoring.known_scores(scores, whose, "a z-score", remedy)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = cls(float(scores.mean()), float(scores.std()))
        if not (np.isfinite(scale).all() and scale.scale > 0):
            raise ValueError(
                f"the scores of {whose} are from {scores.min():.3g} to "
                f"{scores.max():.3g}, whose standard deviation is out of the range of "
                "floats: scale them"
            )
        return scale

    def standardize(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores into z-scores.

        Parameters
        ----------
        scores : ndarray of shape (n_clips,)
            Anomaly scores.

        Returns
        -------
        z : ndarray of shape (n_clips,)
            Standard deviations above the mean.
        """
        return (scores - self.center) / self.scale

    def standardize_left_out(self, scores: np.ndarray) -> np.ndarray:
        """Turn the scores it was fitted to into z-scores, each by the others' scale.

        By their own scale, which a large score widens, no z-score of n is above
        ``sqrt(n - 1)``, and z-scores of new clips have no bound.

        Parameters
        ----------
        scores : ndarray of shape (n_clips,)
            What was passed to `fit`; NaN is left out.

        Returns
        -------
        z : ndarray of shape (n_clips,)
            Standard deviations of the others above their mean; by all scores where the
            others are equal.
        """
        z = self.standardize(scores)
        n_others = (~np.isnan(scores)).sum() - 1
        # Variance of the others, in variances of all.
        left = (1 - z**2 / n_others) * (n_others + 1) / n_others
        differ = left > _ROUNDING
        return np.where(
            differ, z * (1 + 1 / n_others) / np.sqrt(np.where(differ, left, 1)), z
        )
