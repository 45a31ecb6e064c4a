"""How well scores tell a machine's clips from those of its siblings."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

__all__ = ["sibling_separation"]


def sibling_separation(own: np.ndarray, siblings: np.ndarray) -> tuple[float, float]:
    """Compare a detector's scores of its machine's clips and of sibling machines'.

    Parameters
    ----------
    own : ndarray of shape (n_own,)
        Anomaly scores of normal clips of the machine that were left out of the fit.

    siblings : ndarray of shape (n_siblings,)
        Anomaly scores of normal clips of other machines, taken for the machine's.

    Returns
    -------
    auc : float in [0, 1]
        Probability that a sibling's clip scores higher than an own one.

    gap : float
        Difference of the means, in standard deviations (d'): it still compares where
        the AUC is 1. 0 if all scores are equal.

        Both are NaN if there are no clips of either.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.detectors.siblings import sibling_separation
    >>> auc, gap = sibling_separation(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    >>> auc, gap
    (0.75, 1.0)
    """
    if not len(own) or not len(siblings):
        return np.nan, np.nan
    is_sibling = np.repeat([0, 1], [len(own), len(siblings)])
    auc = roc_auc_score(is_sibling, np.concatenate([own, siblings]))
    spread = np.sqrt((own.var() + siblings.var()) / 2)
    gap = siblings.mean() - own.mean()
    return float(auc), float(gap / spread) if spread > 0 else float(np.sign(gap))
