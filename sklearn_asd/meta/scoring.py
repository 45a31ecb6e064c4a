"""Scores and thresholds of ours, scikit-learn's and PyOD's detectors in one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from sklearn_asd._base import is_frozen
from sklearn_asd._utils.messages import count

__all__ = [
    "anomaly_scores",
    "check_scores_clips",
    "copy_features",
    "decisions",
    "final_step",
    "honest_training_scores",
    "known_scores",
    "leaves_clips_out",
    "own_offset",
]


# Where others keep scores of their training clips, the sign that makes them anomaly
# scores, and how many times more than what a detector says of these clips they must
# spread. scikit-learn's thresholds are of the latter, unless these are rounding.
_KEPT = (("decision_scores_", 1, 0.0), ("negative_outlier_factor_", -1, 1e3))


def final_step(estimator: Any) -> Any:
    """Find the detector at the end of a pipeline.

    Parameters
    ----------
    estimator : object
        An outlier detector or a Pipeline that ends in one, fitted or not.

    Returns
    -------
    detector : object
        The last step, also of nested Pipelines, or the estimator itself.
    """
    if isinstance(estimator, Pipeline):
        return final_step(estimator.steps[-1][1])
    if is_frozen(estimator):
        return final_step(estimator.estimator)
    return estimator


def anomaly_scores(estimator: Any, X: Any) -> np.ndarray:
    """Score clips with a fitted detector: the higher, the more anomalous.

    Parameters
    ----------
    estimator : object
        A fitted outlier detector of this library, of scikit-learn or of PyOD, or a
        Pipeline that ends in one.

    X : any
        What the detector takes.

    Returns
    -------
    scores : ndarray of shape (n_clips,), float64
        Minus `score_samples`, or minus `decision_function` without `score_samples`.
        PyOD's `decision_function` is high for anomalies and is used unchanged.

    Raises
    ------
    TypeError
        If the detector has neither.
    """
    if hasattr(estimator, "score_samples"):
        return -np.asarray(estimator.score_samples(X), dtype=np.float64)
    check_scores_clips(estimator)
    scores = np.asarray(estimator.decision_function(X), dtype=np.float64)
    return scores if _is_pyod(final_step(estimator)) else -scores


def check_scores_clips(estimator: Any) -> None:
    """Refuse estimators that cannot score clips.

    Parameters
    ----------
    estimator : object
        An outlier detector or a Pipeline that ends in one, fitted or not.

    Raises
    ------
    TypeError
        If it has neither `score_samples` nor `decision_function`.
    """
    if hasattr(estimator, "score_samples") or hasattr(estimator, "decision_function"):
        return
    raise TypeError(
        f"{type(final_step(estimator)).__name__} has neither score_samples nor "
        "decision_function, so it cannot score clips: use an outlier detector "
        "(LocalOutlierFactor needs novelty=True)"
    )


def decisions(estimator: Any, X: Any) -> np.ndarray:
    """Score clips relative to the threshold of a fitted detector.

    Parameters
    ----------
    estimator : object
        A fitted outlier detector with `decision_function`, or a Pipeline that ends in
        one.

    X : any
        What the detector takes.

    Returns
    -------
    decisions : ndarray of shape (n_clips,), float64
        Negative for anomalous clips. PyOD's `decision_function` has the opposite sign
        and does not include the threshold; it is converted.
    """
    values = np.asarray(estimator.decision_function(X), dtype=np.float64)
    detector = final_step(estimator)
    return detector.threshold_ - values if _is_pyod(detector) else values


def own_offset(estimator: Any, X: Any) -> float:
    """Threshold of a fitted detector, on the scale of minus its anomaly scores.

    Parameters
    ----------
    estimator : object
        A fitted outlier detector with `decision_function`, or a Pipeline that ends in
        one.

    X : any
        At least one clip that it can score, in case the detector has no attribute for
        its threshold.

    Returns
    -------
    offset : float
        What ``-anomaly_scores(estimator, X)`` is compared with: lower is anomalous.

    Raises
    ------
    ValueError
        If groups of clips have thresholds of their own.
    """
    detector = final_step(estimator)
    if hasattr(detector, "group_by_"):
        name = type(detector).__name__
        raise ValueError(
            f"{name} has thresholds by {detector.group_by_}, and one is needed: set "
            f"its group_by=None, or put {name} around the detector of all machines, as "
            'in ThresholdTuner(PerMachine(detector), group_by="domain")'
        )
    if _is_pyod(detector):
        return -float(detector.threshold_)
    if not hasattr(estimator, "score_samples"):
        return 0.0  # its decisions are its scores
    if hasattr(detector, "offset_"):
        return float(np.squeeze(detector.offset_))
    return float(np.mean(estimator.score_samples(X) - estimator.decision_function(X)))


def honest_training_scores(estimator: Any, X: Any = None) -> np.ndarray | None:
    """Anomaly scores of the training clips, each as if it had been left out of the fit.

    Parameters
    ----------
    estimator : object
        A fitted outlier detector, or a Pipeline that ends in one.

    X : any, default=None
        The clips that it was fitted to. With them, detectors are asked too that keep
        scores in PyOD's manner (`decision_scores_`): where these are not what it now
        says of the clips, it did not compare each clip with itself. Those of
        LocalOutlierFactor count where what it now says is rounding.

    Returns
    -------
    scores : ndarray of shape (n_clips,), float64, or None
        For each row that was passed to `fit`: minus the detector's attribute
        `training_score_samples_` (NaN where a row was not trained on), or what others
        keep. None if the detector has no such scores, or was fitted earlier on other
        clips (FrozenEstimator).
    """
    detector = estimator
    while isinstance(detector, Pipeline):
        detector = detector.steps[-1][1]
    if is_frozen(detector):
        return None
    honest = getattr(detector, "training_score_samples_", None)
    if honest is not None:
        return -honest
    for name, sign, least in _KEPT:
        kept = getattr(detector, name, None)
        if X is None or kept is None:
            continue
        kept = sign * np.asarray(kept, dtype=np.float64)
        scores = anomaly_scores(estimator, X)
        if kept.shape == scores.shape and _differ(kept, scores, least):
            return kept
    return None


def leaves_clips_out(estimator: Any) -> bool:
    """Whether a detector scores each training clip as if it had not learnt from it.

    Parameters
    ----------
    estimator : object
        An outlier detector, or a Pipeline that ends in one, fitted or not.

    Returns
    -------
    leaves_out : bool
        True if its class says so by the attribute `leaves_clips_out`: what it has as
        `training_score_samples_` is then not better than scores of new clips. False
        for detectors that were fitted earlier (FrozenEstimator).
    """
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return not is_frozen(estimator) and getattr(estimator, "leaves_clips_out", False)


def _differ(kept: np.ndarray, scores: np.ndarray, least: float) -> bool:
    """Whether scores are others than those kept, and spread less by a factor."""
    rounding = 1e-6 * np.abs(kept).max()
    are_same = np.allclose(kept, scores, rtol=1e-3, atol=rounding, equal_nan=True)
    return not are_same and bool(least * np.ptp(scores) <= np.ptp(kept))


def known_scores(
    scores: np.ndarray, whose: str, purpose: str, remedy: str
) -> np.ndarray:
    """Leave out NaN, and refuse scores that say nothing of their spread.

    Parameters
    ----------
    scores : ndarray of shape (n_clips,)
        Anomaly scores of normal clips.

    whose : str
        Owner of the scores, for error messages.

    purpose : str
        What needs them, such as "a z-score".

    remedy : str
        Remedy for scores that are too few or equal.

    Returns
    -------
    known : ndarray of shape (n_known,)
        The others, at least two different ones, all finite.

    Raises
    ------
    ValueError
        If there are no two different ones, or one is infinite.
    """
    known = scores[~np.isnan(scores)]
    if len(np.unique(known)) > 1 and np.isfinite(known).all():
        return known
    seen = f"are of {count(len(known), 'clip')}"
    if len(known) > 1:
        seen = "are all equal"
        remedy += ", and check that the recordings are neither copies nor silent"
    if not np.isfinite(known).all():
        seen = "hold infinity"
    raise ValueError(
        f"the scores of {whose} {seen}, and {purpose} needs two different finite ones: "
        f"{remedy}"
    )


def copy_features(estimator: Any, members: list[Any]) -> None:
    """Copy n_features_in_ and feature_names_in_ from the first member that has them.

    Parameters
    ----------
    estimator : object
        Estimator to set the two attributes on.

    members : list of object
        Its fitted members.
    """
    for name in ("n_features_in_", "feature_names_in_"):
        known = [getattr(member, name) for member in members if hasattr(member, name)]
        if known:
            setattr(estimator, name, known[0])


def _is_pyod(detector: Any) -> bool:
    """Whether scores are high for anomalies, of PyOD's own and those in its manner."""
    inherits = any(one.__module__.startswith("pyod.") for one in type(detector).__mro__)
    return inherits or hasattr(detector, "decision_scores_")
