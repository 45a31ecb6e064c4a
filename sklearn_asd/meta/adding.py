"""More normal clips for fitted detectors, without a full fit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import is_frozen
from sklearn_asd.meta import scoring

__all__ = ["add_normals", "new_training_scores"]


def add_normals(detector, X):
    """Let a fitted detector learn from more normal clips, without a full fit.

    The result is what `fit` would have made of the clips that were learnt from and of
    these, in this order: scores, left-out training scores and thresholds. What learns
    a representation of clips stays as it is: networks keep their weights, and
    transformers such as StandardScaler their numbers.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted. :class:`~sklearn_asd.GaussianDetector`,
        :class:`~sklearn_asd.EmbeddingNeighborDetector` and
        :class:`~sklearn_asd.MahalanobisDetector` can learn more, and so can
        :class:`~sklearn_asd.ZScoreEnsemble`,
        :class:`~sklearn_asd.GammaProbabilityEnsemble`,
        :class:`~sklearn_asd.PerMachine`, :class:`~sklearn_asd.PerMachineType`,
        :class:`~sklearn_asd.OnlyMachineTypes` and
        :class:`~sklearn_asd.ThresholdTuner` around them. All have a method of this
        name, which a detector of yours may have as well. They keep the numbers that
        they learnt from, and no recordings.

    X : any
        Normal clips of the machines that it knows, as it takes them: false alarms, for
        example, that somebody has listened to. None may be a copy of a clip that was
        learnt from.

    Returns
    -------
    detector : outlier detector or Pipeline
        A new one. The one that was given stays as it is.

    Raises
    ------
    TypeError
        If a detector inside cannot learn more; the message names it.

    ValueError
        If a clip is of an unknown machine or type, or a copy; or the threshold is of
        clips that were held out and are not kept.

    See Also
    --------
    sklearn_asd.monitoring.DriftTest : Whether new recordings are like those learnt
        from.

    Notes
    -----
    A clip that nobody has checked may hold a fault, which then becomes normal.

    :class:`~sklearn_asd.RecordingCheck` in a Pipeline widens its limits.

    Cost: that of `fit` without reading the earlier clips, or training a network.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import GaussianDetector
    >>> from sklearn_asd.meta import add_normals
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> detector = GaussianDetector().fit(X[:40])
    >>> more = add_normals(detector, X[40:])
    >>> np.allclose(more.score_samples(X), GaussianDetector().fit(X).score_samples(X))
    True
    """
    if is_frozen(detector):
        frozen = copy.copy(detector)
        frozen.estimator = add_normals(detector.estimator, X)
        return frozen
    check_is_fitted(detector)
    if not hasattr(detector, "steps"):
        if not hasattr(detector, "add_normals"):
            raise TypeError(
                f"{type(detector).__name__} cannot learn from more clips without a "
                "full fit: fit it again, with these clips and the earlier ones"
            )
        return copy.copy(detector).add_normals(X)
    steps = list(detector.steps)
    for place, (name, step) in enumerate(steps[:-1]):
        if step is None or step == "passthrough":
            continue
        if hasattr(step, "add_normals"):
            step = add_normals(step, X)
            steps[place] = (name, step)
        X = step.transform(X)
    name, last = steps[-1]
    steps[-1] = (name, add_normals(last, X))
    whole = copy.copy(detector)
    whole.steps = steps
    return whole


def new_training_scores(detector: Any, whose: str) -> np.ndarray:
    """Look up the left-out scores of all training clips, after some were added.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        With clips added.

    whose : str
        What it is, for the error message.

    Returns
    -------
    scores : ndarray of shape (n_clips,)
        Anomaly scores; NaN for clips that could not be used.

    Raises
    ------
    ValueError
        If it has none.
    """
    scores = scoring.honest_training_scores(detector)
    if scores is None:
        raise ValueError(
            f"{whose} has no scores of its training clips (training_score_samples_), "
            "by which scales and thresholds would follow: fit again, with these clips "
            "and the earlier ones"
        )
    return scores
