"""Thresholds of the worst of many pieces of a recording."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_asd.meta.scoring import honest_training_scores
from sklearn_asd.meta.structure import Opened, scatter

__all__ = ["piece_thresholds", "raise_threshold"]

# The tail: this share of the scores, or at least so many of them.
_SHARE = 0.2
_FEWEST_HIGH = 10
_FEWEST = 3  # scores that have a tail
_HEAVIEST = 0.5  # shape with which the variance is infinite
# Least shape, in standard errors of a shape that is fitted to as many scores: few scores
# seldom hold what makes a tail heavy, and many pieces meet it.
_LEAST = 0.4


def piece_thresholds(opened: Opened, n_pieces: np.ndarray) -> np.ndarray:
    """Find the threshold of each clip as the worst of some pieces.

    For one piece it is the detector's own. For n pieces, the worst of n independent
    clips lies above it as often as one clip lies above the detector's own, by the tail
    of the scores of left-out training clips: a generalised Pareto distribution of the
    highest fifth of them. The fewer these are, the heavier it is at least, as chance may
    hide a heavy tail.

    Parameters
    ----------
    opened : Opened
        The detector with the pieces.

    n_pieces : ndarray of shape (n_clips,), int
        How many pieces the recording of each has.

    Returns
    -------
    thresholds : ndarray of shape (n_clips,), float64
        Of the anomaly score: higher is anomalous. Exactly ``opened.thresholds`` where
        there is one piece, and where the detector kept no scores of left-out training
        clips.
    """
    if (n_pieces == 1).all():
        return opened.thresholds
    if not _decides(opened):
        parts = [
            (one.rows, piece_thresholds(one, _take(n_pieces, one.rows)))
            for one in opened.inner
        ]
        return scatter(parts, len(n_pieces))
    left_out = honest_training_scores(opened.estimator)
    if left_out is None:
        return opened.thresholds
    return np.array(
        [
            raise_threshold(threshold, left_out, n)
            for threshold, n in zip(opened.thresholds, n_pieces, strict=True)
        ]
    )


def raise_threshold(threshold: float, left_out: np.ndarray, n_pieces: int) -> float:
    """Raise a threshold so that the worst of n scores exceeds it as rarely as one did.

    Parameters
    ----------
    threshold : float
        Of the anomaly score of one clip.

    left_out : ndarray of shape (n_clips,)
        Anomaly scores of left-out training clips; NaN is left out.

    n_pieces : int >= 1
        Number of pieces.

    Returns
    -------
    threshold : float
        Not lower than it was; the same if there are fewer than three scores.
    """
    known = left_out[~np.isnan(left_out)]
    if n_pieces == 1 or not np.isfinite(threshold) or len(known) < _FEWEST:
        return threshold
    tail = _Tail.fit(known)
    share = tail.share_above(threshold)
    if threshold <= tail.start:
        share = float((known > threshold).mean())
    alarm = -np.expm1(np.log1p(-share) / n_pieces) if share < 1 else 1.0
    if alarm > tail.share:
        return max(threshold, float(np.quantile(known, 1 - alarm)))
    return max(threshold, tail.level(alarm)) if alarm > 0 else threshold


class _Tail(NamedTuple):
    """Generalised Pareto distribution of the highest of some scores."""

    start: float
    share: float  # of the scores above the start
    scale: float
    shape: float

    @classmethod
    def fit(cls, scores: np.ndarray) -> _Tail:
        """Fit by probability-weighted moments (Hosking and Wallis 1987)."""
        ordered = np.sort(scores)
        n_high = min(max(_FEWEST_HIGH, round(_SHARE * len(ordered))), len(ordered) - 1)
        start = ordered[-n_high - 1]
        excess = ordered[-n_high:] - start
        weights = np.arange(n_high)[::-1] / max(1, n_high - 1)
        mean, weighted = excess.mean(), (excess * weights).mean()
        spread = mean - 2 * weighted
        # A lighter tail is more often chance than true.
        least = _LEAST / np.sqrt(n_high)
        shape = np.clip(2 - mean / spread, least, _HEAVIEST) if spread > 0 else 0.0
        return cls(start, n_high / len(ordered), mean * (1 - shape), float(shape))

    def share_above(self, level: float) -> float:
        """Share of scores above a level that is the start or higher."""
        if level <= self.start or self.scale == 0:
            return self.share
        beyond = (level - self.start) / self.scale
        if self.shape == 0:
            return self.share * float(np.exp(-beyond))
        return self.share * float((1 + self.shape * beyond) ** (-1 / self.shape))

    def level(self, share: float) -> float:
        """Level that a share of scores lies above; inverse of `share_above`."""
        depth = float(np.log(self.share / share))
        if self.shape == 0:
            return self.start + self.scale * depth
        return self.start + self.scale * float(np.expm1(self.shape * depth)) / (
            self.shape
        )


def _decides(opened: Opened) -> bool:
    """Whether the detector's own threshold judges its clips."""
    return hasattr(opened.estimator, "offset_") or not opened.inner


def _take(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return values if rows is None else values[rows]
