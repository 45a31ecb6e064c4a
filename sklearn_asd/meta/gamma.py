"""Gamma distributions of anomaly scores, exact far out in their tail."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammainc, gammaincc, gammaln, polygamma

from sklearn_asd.meta import scoring

__all__ = ["GammaScale"]

# Below this, the survival function comes from its continued fraction: gammaincc soon
# rounds it to 0.
_SMALLEST_SURVIVAL = 1e-250
_MAX_TERMS = 10_000

# Smallest spread of the logarithms of the scores: below it, rounding dominates.
_SMALLEST_SPREAD = 1e-10


class GammaScale(NamedTuple):
    """A Gamma distribution that turns anomaly scores into probabilities.

    Attributes
    ----------
    shape : float > 0
        Shape, k.

    scale : float > 0
        Scale, theta: the inverse of the rate.

    shift : float
        Added to the scores first; 0 if all scores in `fit` are positive.
    """

    shape: float
    scale: float
    shift: float

    @classmethod
    def fit(
        cls, scores: np.ndarray, whose: str, remedy: str = "add normal clips"
    ) -> GammaScale:
        """Fit by maximum likelihood, with the location at 0.

        Parameters
        ----------
        scores : ndarray of shape (n_clips,)
            Anomaly scores of normal clips; NaN is left out.

        whose : str
            Owner of the scores, for error messages.

        remedy : str, default="add normal clips"
            Remedy for scores that are too few or equal, for error messages.

        Returns
        -------
        scale : GammaScale
            Fitted.

        Raises
        ------
        ValueError
            If there are no two different finite scores, or they are close to the
            largest float.
        """
        scores = scoring.known_scores(scores, whose, "a Gamma distribution", remedy)
        lowest = scores.min()
        shift = 0.0 if lowest > 0 else float(scores.std() - lowest)
        shape = _most_likely_shape(scores + shift)
        scale = float((scores + shift).mean()) / shape
        if not (np.isfinite(shape) and np.isfinite(scale)):
            raise ValueError(
                f"the scores of {whose} are as large as {scores.max():.3g}, too large "
                "to fit a Gamma distribution: scale them down"
            )
        return cls(shape, scale, shift)

    def log_cdf_sf(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn scores into logarithms of probabilities.

        Parameters
        ----------
        scores : ndarray of shape (n_clips,)
            Anomaly scores; below 0, after the shift, they count as 0.

        Returns
        -------
        log_cdf, log_sf : ndarray of shape (n_clips,)
            Logarithms of the probabilities of a lower and of a higher score.
        """
        x = np.maximum(scores + self.shift, 0) / self.scale
        lower, upper = gammainc(self.shape, x), gammaincc(self.shape, x)
        with np.errstate(divide="ignore"):
            log_cdf = np.where(lower < 0.5, np.log(lower), np.log1p(-upper))
            log_sf = np.where(upper < 0.5, np.log(upper), np.log1p(-lower))
        tail = (upper < _SMALLEST_SURVIVAL) & np.isfinite(x)
        log_sf[tail] = _log_tail(self.shape, x[tail])
        return log_cdf, log_sf


def _most_likely_shape(scores: np.ndarray) -> float:
    """Solve ``log(k) - digamma(k) = s``, s being log of the mean minus mean of the log.

    By Newton's method for the logarithm of k. scipy's general solver fails if the
    scores are nearly equal, so that s is close to 0.
    """
    s = max(float(np.log(scores.mean()) - np.log(scores).mean()), _SMALLEST_SPREAD)
    shape = (3 - s + np.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)  # within 2 %
    for _ in range(10):
        slope = 1 - shape * polygamma(1, shape)
        shape *= np.exp(-(np.log(shape) - digamma(shape) - s) / slope)
    return float(shape)


def _log_tail(shape: float, x: np.ndarray) -> np.ndarray:
    """Logarithm of the survival function, by Legendre's continued fraction.

    Evaluated by Lentz's method; it converges fast if x is far above the shape.
    """
    b = x + 1 - shape
    c = np.full_like(b, 1e300)
    d = 1 / b
    fraction = d.copy()
    for n in range(1, _MAX_TERMS):
        a = n * (shape - n)
        b = b + 2
        d = 1 / (a * d + b)
        c = b + a / c
        change = c * d
        fraction *= change
        if np.all(np.abs(change - 1) < 1e-14):
            break
    return shape * np.log(x) - x - gammaln(shape) + np.log(fraction)
