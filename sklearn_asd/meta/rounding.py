"""Detectors that know their training clips by heart, and score these by rounding."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils.validation import _num_samples

from sklearn_asd._base import fit_clone, is_frozen
from sklearn_asd._utils.validation import as_pandas, is_table_of_numbers
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.meta import scoring
from sklearn_asd.meta.structure import take_rows, walk

__all__ = ["refuse_rounding"]

# Scores that differ by more, in units of 1 or of the largest number in X, are no
# rounding, whatever the detector; of others it has to be found out.
_LARGEST_ROUNDING = 1e-3

# Clips left out score further above all training clips than this many times the
# difference between these.
_GAP = 1000


def refuse_rounding(
    estimator: Any, fitted: Any, X: Any, scores: np.ndarray, whose: str
) -> None:
    """Refuse scores of training clips that are rounding beside those of other clips.

    A detector that looks its training clips up, such as one of the nearest neighbour,
    finds each at a distance of rounding from itself. By the distribution of such scores
    all new clips are anomalous.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        The detector before it was fitted, or a FrozenEstimator.

    fitted : outlier detector or Pipeline
        The same fitted.

    X : any
        Normal clips that a distribution of scores is fitted to.

    scores : ndarray of shape (n_clips,)
        Their anomaly scores by the fitted detector.

    whose : str
        Owner of the scores, for the error message.

    Raises
    ------
    ValueError
        If clips left out score more than a thousand times as far above them as they
        differ from each other.

    Notes
    -----
    Costs nothing if the scores cannot be rounding: more than half of them are different
    and they spread over a thousandth of 1, and of the largest number in X. Otherwise,
    a clone is fitted without a fifth of the clips, unless it would train a network.
    """
    known = scores[np.isfinite(scores)]
    if len(known) < 2 or not _may_be_rounding(known, X):
        return
    left_out = _score_clips_left_out(estimator, fitted, X)
    left_out = left_out[np.isfinite(left_out)]
    if len(left_out) == 0:
        return
    typical = np.median(left_out)
    if typical - known.max() <= _GAP * np.ptp(known):
        return
    remedy = "set calibration_cv=5, which scores clips that were left out"
    if is_frozen(estimator):
        remedy = "pass clips that it was not trained on, or the detector unfitted"
    raise ValueError(
        f"{whose} knows these clips by heart: it scores them {known.min():.3g} to "
        f"{known.max():.3g}, which is rounding beside {typical:.3g} for clips left out "
        f"of its training, and every new clip would be called anomalous: {remedy}"
    )


def _may_be_rounding(known: np.ndarray, X: Any) -> bool:
    if len(np.unique(known)) <= len(known) / 2:
        return True
    return bool(np.ptp(known) <= _LARGEST_ROUNDING * max(1.0, _find_largest(X)))


def _find_largest(X: Any) -> float:
    """Largest number in a table of numbers; 0 of others."""
    if not is_table_of_numbers(X):
        return 0.0
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        X = X.select_dtypes("number")
    numbers = np.asarray(X.data if issparse(X) else X, dtype=float)
    return float(np.nanmax(np.abs(numbers), initial=0))


def _score_clips_left_out(estimator: Any, fitted: Any, X: Any) -> np.ndarray:
    """Anomaly scores of clips left out of a fit; none if they cannot be known."""
    unknown = np.empty(0)
    if is_frozen(estimator):
        estimator = estimator.estimator
        honest = scoring.honest_training_scores(estimator)
        if honest is not None:
            return honest
    labels = machine_labels(X)
    machine = np.zeros(_num_samples(X)) if labels is None else labels.astype(str)
    n_folds = min(5, int(np.unique(machine, return_counts=True)[1].min()))
    # A network may take hours, and its scores are no rounding.
    if n_folds < 2 or any(hasattr(one, "net_") for one in walk(fitted)):
        return unknown
    # Slow to import, and not needed to score.
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    train, test = next(folds.split(machine, machine))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = fit_clone(clone(estimator), take_rows(X, train))
            return scoring.anomaly_scores(again, take_rows(X, test))
    except ValueError:  # too few clips to be fitted without some
        return unknown
