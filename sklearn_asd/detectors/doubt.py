"""The anomaly score 1 - p of probabilities as close to 0 and to 1 as logits make them.

Next to 1, float64 has no digits left: with p = 1e-17 and with p = 1e-30, 1 - p is 1. So
logarithms of p and of 1 - p are kept up to the score, and where 1 - p could no longer
tell clips apart the score goes on: see :func:`extend_doubt`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from sklearn_asd.features import Windows
from sklearn_asd.features.pooling import Pooling, keeps_differences
from sklearn_asd.networks.windows import pool_segments

__all__ = [
    "DOUBT_STEP",
    "LARGEST_DOUBT",
    "LARGEST_LOG_DOUBT",
    "SMALLEST_LOG_DOUBT",
    "extend_doubt",
    "log_confidence",
    "log_probabilities",
    "pool_doubt",
]

# Where p is smaller, 1 - p has less than eight of its digits. As minus log(p).
LARGEST_LOG_DOUBT = 8 * np.log(10)

# How much the score rises beyond 1 where minus log(p) rises by a factor of e: so that
# it differs from 1 - p by less than 1e-6 down to p = 1e-64, and no two numbers that
# float32 tells apart are tied.
DOUBT_STEP = 2.0**-21

# Above the score of any logits in float32.
LARGEST_DOUBT = 1 + DOUBT_STEP * np.log(1e40 / LARGEST_LOG_DOUBT)

# Below this logarithm of 1 - p, float64 would soon have no number but 0.
SMALLEST_LOG_DOUBT = -690.0


def log_probabilities(logits: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Logarithms of 1 - p and of p of the given class, without cancellation.

    1 - p is the sum of the other classes' probabilities. Subtracting p from 1 would
    lose all digits for the most normal clips, and tie them.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes), float64
        Class scores before the softmax.

    asked : ndarray of shape (n,), int
        The class of each row.

    Returns
    -------
    logs : ndarray of shape (n, 2), float64
        ``log(1 - p)`` and ``log(p)`` for ``p = softmax(logits)[asked]``.
    """
    rows = np.arange(len(logits))
    own = logits[rows, asked]
    others = logits.copy()
    others[rows, asked] = -np.inf
    rest = logsumexp(others, axis=1)
    # Of differences, so that large logits lose no digits either.
    return -np.stack([np.logaddexp(0, own - rest), np.logaddexp(0, rest - own)], axis=1)


def pool_doubt(
    logs: np.ndarray,
    windows: Windows,
    n_clips: int,
    n_views: int,
    pooling: str | Pooling,
) -> np.ndarray:
    """Pool 1 - p over each view's segments, and average it over the views.

    Parameters
    ----------
    logs : ndarray of shape (n_windows, 2)
        From :func:`log_probabilities`.

    windows : Windows of n_windows
        The clip and the view of each segment.

    n_clips, n_views : int
        Numbers of clips and of views.

    pooling : str or callable
        See :func:`~sklearn_asd.networks.windows.pool_segments`.

    Returns
    -------
    scores : ndarray of shape (n_clips,)
        What `extend_doubt` makes of the result; NaN for clips without segments.
    """
    if not keeps_differences(pooling):
        segments = extend_doubt(logs)
        return pool_segments(segments, windows, n_clips, n_views, pooling).mean(axis=1)
    # Relative to the largest of each clip, as exponentials could be too small for
    # float64. Pooling minus p is pooling 1 - p, less 1.
    largest = np.full((n_clips, 2), -np.inf)
    np.maximum.at(largest, windows.clip, logs)
    largest[np.isneginf(largest)] = 0
    signs = np.array([1, -1])
    parts = signs * np.exp(np.maximum(logs - largest[windows.clip], -700))
    pooled = pool_segments(parts, windows, n_clips, n_views, pooling).mean(axis=1)
    with np.errstate(divide="ignore"):
        return extend_doubt(largest + np.log(np.abs(pooled)))


def extend_doubt(logs: np.ndarray) -> np.ndarray:
    """Compute the score 1 - p, and go on where float64 has no digits left for it.

    Where p is below 1e-8, the score is ``1 + DOUBT_STEP * log(log(p) / log(1e-8))``: it
    rises by 5e-7 where minus log(p) rises by a factor of e. Where 1 - p is below
    1e-300, the score falls with its logarithm, and remains above 0.

    Parameters
    ----------
    logs : ndarray of shape (n, 2)
        ``log(1 - p)`` and ``log(p)``.

    Returns
    -------
    scores : ndarray of shape (n,)
        In [0, LARGEST_DOUBT]: the higher, the smaller is p.
    """
    log_doubt, log_p = logs.T
    low = np.exp(np.maximum(log_doubt, SMALLEST_LOG_DOUBT))
    low /= 1 + np.log1p(np.maximum(SMALLEST_LOG_DOUBT - log_doubt, 0))
    beyond = np.clip(-log_p, LARGEST_LOG_DOUBT, 1e40) / LARGEST_LOG_DOUBT
    high = np.where(
        log_p < -LARGEST_LOG_DOUBT, 1 + DOUBT_STEP * np.log(beyond), -np.expm1(log_p)
    )
    return np.where(log_p < -1, high, low)


def log_confidence(scores: np.ndarray) -> np.ndarray:
    """Give back log(p) of scores above 1.

    Parameters
    ----------
    scores : ndarray
        From :func:`extend_doubt`.

    Returns
    -------
    log_p : ndarray of the same shape
        Where the score is above 1; elsewhere without a meaning.
    """
    return -LARGEST_LOG_DOUBT * np.exp((scores - 1) / DOUBT_STEP)
