"""Anomaly scores in standard deviations above their mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_asd.meta import scoring

__all__ = ["ZScale"]


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
    def fit(cls, scores: np.ndarray, whose: str) -> ZScale:
        """Compute both.

        Parameters
        ----------
        scores : ndarray of shape (n_clips,)
            Anomaly scores of normal clips; NaN is left out.

        whose : str
            Owner of the scores, for error messages.

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
        remedy = "add normal clips, or drop the member"
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
