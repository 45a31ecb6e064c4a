"""How well scores tell a machine's clips from those of its siblings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["sibling_separation"]


def sibling_separation(own: ArrayLike, siblings: ArrayLike) -> tuple[float, float]:
    """Measure how far scores of sibling machines are above a machine's own.

    Parameters
    ----------
    own : array-like of shape (n_own,)
        Anomaly scores of normal clips of the machine that the detector did not learn
        from. NaN is left out, here and below.

    siblings : array-like of shape (n_siblings,)
        Anomaly scores of normal clips of other machines, judged as if they were of this
        one: higher is more anomalous.

    Returns
    -------
    auc : float in [0, 1]
        Probability that a sibling's clip scores higher than the machine's own; equal
        scores count half. 0.5 is chance. NaN if one side has no scores.

    gap : float
        Difference of the means in standard deviations, d':
        ``(mean(siblings) - mean(own)) / sqrt((var(siblings) + var(own)) / 2)``. It
        tells apart detectors whose AUC is 1. 0 for 0 / 0, NaN if one side has no
        scores.

    Examples
    --------
    >>> from sklearn_asd.detectors.siblings import sibling_separation
    >>> sibling_separation([1, 3], [2, 4])
    (0.75, 1.0)
    """
    own, siblings = (_keep_known(scores) for scores in (own, siblings))
    if not len(own) or not len(siblings):
        return np.nan, np.nan
    ranks = stats.rankdata(np.concatenate([own, siblings]))[len(own) :]
    n_lower = ranks.sum() - len(siblings) * (len(siblings) + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt((own.var() + siblings.var()) / 2)
        gap = float((siblings.mean() - own.mean()) / spread)
    auc = float(n_lower / (len(own) * len(siblings)))
    return auc, 0.0 if np.isnan(gap) else gap


def _keep_known(scores: ArrayLike) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    return values[~np.isnan(values)]
