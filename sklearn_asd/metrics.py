"""AUC and partial AUC as in the DCASE challenge, with scorers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import make_scorer, roc_auc_score

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.validation import normal_rows, refuse_masked
from sklearn_asd.audio.machines import machine_index
from sklearn_asd.meta.scoring import anomaly_scores
from sklearn_asd.meta.siblings import sibling_table
from sklearn_asd.meta.structure import take_rows

__all__ = [
    "auc_table",
    "mean_auc_scorer",
    "mean_pauc_scorer",
    "pauc_score",
    "pauc_scorer",
    "sibling_auc",
]


def pauc_score(y: ArrayLike, scores: ArrayLike, *, max_fpr: float = 0.1) -> float:
    """Partial AUC: how many anomalies are found at few false alarms.

    Anomalies are the positive class, so the false positive rate is the share of
    normal clips that raise an alarm.

    Parameters
    ----------
    y : array-like of shape (n_clips,)
        +1 for normal clips, -1 for anomalous ones; both must occur.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips: higher is more normal.

    max_fpr : float in (0, 1], default=0.1
        Largest false positive rate that counts; the challenge calls it p.

    Returns
    -------
    pauc : float in [0, 1]
        Area under the ROC curve up to `max_fpr`, standardised after McClish: 0.5 is
        chance and 1 is perfect.

    Notes
    -----
    ``roc_auc_score(y, scores, max_fpr=0.1)`` differs: normal clips would be the
    positive class, and the limit would apply to the share of missed anomalies.

    Examples
    --------
    >>> from sklearn_asd.metrics import pauc_score
    >>> pauc_score([1, 1, -1, -1], [0.9, 0.4, 0.3, 0.1])
    1.0

    The scorer, for searches and cross-validation:

    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_asd.metrics import pauc_scorer
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> forest = IsolationForest(random_state=0).fit(X)
    >>> pauc_scorer(forest, [[0, 0], [0.1, 0], [5, 5]], [1, 1, -1])
    1.0
    """
    normal, scores = _check(y, scores, np.size(scores))
    if normal.all() or not normal.any():
        raise ValueError(
            f"y holds {normal.sum()} normal and {(~normal).sum()} anomalous clips; a "
            "ROC curve needs both: add labelled clips"
        )
    return float(roc_auc_score(~normal, -scores, max_fpr=max_fpr))


pauc_scorer = make_scorer(pauc_score, response_method="decision_function")
"""Scorer for searches: :func:`~sklearn_asd.metrics.pauc_score` at 0.1 of all clips."""


def auc_table(
    X: Any, y: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1
) -> pd.DataFrame:
    """AUC and partial AUC for each machine, with the challenge's averages.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Machine types and machine IDs; clips without them count as one machine.

    y : array-like of shape (n_clips,)
        +1 for normal clips, -1 for anomalous ones.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips: higher is more normal.

    max_fpr : float in (0, 1], default=0.1
        See :func:`pauc_score`.

    Returns
    -------
    table : DataFrame
        Columns `n_normal`, `n_anomalous`, `auc` and `pauc`, and a row for each
        machine, indexed by `machine_type` and `machine_id`. The machines of a type are
        followed by their unweighted "average"; with several types, the last row is the
        average over types. A machine without normal or without anomalous clips has NaN
        and is left out of the averages.

    Raises
    ------
    ValueError
        If X, y and scores differ in length, y holds other labels, or scores hold
        NaN.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.metrics import auc_table
    >>> clips = pd.DataFrame({"machine_id": ["00", "00", "02", "02"]})
    >>> auc_table(clips, [1, -1, 1, -1], [0.9, 0.2, 0.3, 0.4])
                             n_normal  n_anomalous  auc      pauc
    machine_type machine_id
                 00                 1            1  1.0  1.000000
                 02                 1            1  0.0  0.473684
                 average            2            2  0.5  0.736842
    """
    normal, scores = _check(y, scores, len(X))
    machines = machine_index(X)
    clips = pd.DataFrame({"normal": normal, "score": scores}, index=machines)
    by_machine = clips.groupby(level=[0, 1]).apply(_rate_machine, max_fpr)
    parts = []
    for kind, of_type in by_machine.groupby(level=0):
        parts += [of_type, _average(of_type, (kind, "average"))]
    if len(parts) > 2:
        averages = pd.concat(parts[1::2])
        parts.append(_average(averages, ("average", "")))
    counts = {"n_normal": int, "n_anomalous": int}
    return pd.concat(parts).astype(counts).rename_axis(machines.names)


class _MachineScorer:
    """Scorer for searches: the average over machines of their AUCs or partial AUCs.

    Called as ``scorer(estimator, X, y)``, gives the last row of
    :func:`~sklearn_asd.metrics.auc_table`, in [0, 1]: each machine's clips are ranked
    apart, as the challenge does. ``scoring="roc_auc"`` ranks the clips of all machines
    together, although scores of different machines cannot be compared. Machines with
    only normal or only anomalous clips among those scored are left out of the average;
    it is an error if all are.

    Parameters
    ----------
    name : str
        The name by which this module offers the scorer.

    column : {"auc", "pauc"}
        Column of the table. The partial AUC is up to a false positive rate of 0.1.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     LogMelSegmenter, MahalanobisDetector, PerMachine, SpectrumStatistics)
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.metrics import mean_auc_scorer
    >>> from sklearn_asd.model_selection import MachineStratifiedKFold
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=8, n_test_normal=0, n_test_anomalous=4,
    ...     duration=4.0, random_state=0)
    >>> X = LogMelSegmenter().fit_transform(clips)
    >>> detect = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    >>> aucs = cross_val_score(
    ...     detect, X, clips["label"], cv=MachineStratifiedKFold(2),
    ...     scoring=mean_auc_scorer)
    >>> aucs.shape  # one for each fold
    (2,)
    """

    def __init__(self, name: str, column: str) -> None:
        self.name = name
        self.column = column

    def __repr__(self) -> str:
        return self.name

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        table = auc_table(X, y, -anomaly_scores(estimator, X))
        average = table.iloc[-1]
        if np.isnan(average[self.column]):
            raise ValueError(
                f"{self.name} needs a machine with normal and anomalous clips; the "
                f"{len(X)} clips scored are {average['n_normal']:.0f} normal and "
                f"{average['n_anomalous']:.0f} anomalous ones, and no machine has "
                "both: pass y with anomalies (-1), spread them over the folds with "
                "MachineStratifiedKFold, and use no more folds than there are "
                "anomalies"
            )
        return float(average[self.column])


mean_auc_scorer = _MachineScorer("mean_auc_scorer", "auc")
"""Scorer for searches: the mean of the machines' AUCs, the average of
:func:`~sklearn_asd.metrics.auc_table`, where ``"roc_auc"`` pools machines whose scores
cannot be compared. Machines with only normal or only anomalous clips among those scored
are left out; if all are, it is an error."""

mean_pauc_scorer = _MachineScorer("mean_pauc_scorer", "pauc")
"""Scorer for searches: the mean of the machines' partial AUCs at 0.1; see
:data:`~sklearn_asd.metrics.mean_auc_scorer`."""


class _SiblingScorer:
    """Scorer for searches without anomalies: the mean of the machines' sibling AUCs.

    Called as ``scorer(estimator, X, y=None)``, gives the mean over machines of
    :func:`~sklearn_asd.meta.siblings.sibling_table`, in [0, 1]: how well the detector,
    asked about a machine, tells its left-out normal clips from those of the other
    machines of its type. Clips with y = -1 are left out. It needs two machines among
    the clips scored.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_asd import (
    ...     EmbeddingNeighborDetector, LogMelSegmenter, SpectrumStatistics)
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.metrics import sibling_auc
    >>> from sklearn_asd.model_selection import MachineStratifiedKFold
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=8, n_test_normal=0, n_test_anomalous=0,
    ...     duration=4.0, random_state=0)
    >>> X = LogMelSegmenter().fit_transform(clips)
    >>> detect = EmbeddingNeighborDetector(SpectrumStatistics())
    >>> search = GridSearchCV(
    ...     detect, {"metric": ["cosine", "mahalanobis"]}, scoring=sibling_auc,
    ...     cv=MachineStratifiedKFold(2)).fit(X)
    >>> bool(0.5 < search.best_score_ <= 1)
    True
    """

    def __repr__(self) -> str:
        return "sibling_auc"

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        normal = normal_rows(y, len(X))
        if not normal.any():
            raise ValueError(
                f"sibling_auc needs normal clips, and X holds 0 normal clips among "
                f"{len(X)}: pass some, with y=1 or y=None"
            )
        table = sibling_table(estimator, take_rows(X, np.flatnonzero(normal)))
        auc = table["sibling_auc"].mean()
        if np.isnan(auc):
            raise ValueError(
                "sibling_auc is not known, as scores are NaN for all clips of each "
                "machine or of its siblings: leave out clips that could not be used, "
                "or score the detector's own machine types"
            )
        return float(auc)


sibling_auc = _SiblingScorer()
"""Scorer for searches without anomalies: how well the detector tells the left-out
normal clips of a machine from those of its siblings, the other machines of its type,
which it scores as if they were of this machine. It is the mean over machines of
:func:`~sklearn_asd.meta.siblings.sibling_table`, in [0, 1]; 0.5 is chance. Operating
patterns or domains count as siblings if they are the machine IDs, as in
``clips.assign(machine_id=clips["pat"])``. Clips with y = -1 are left out. A single
machine is an error."""


def _rate_machine(clips: pd.DataFrame, max_fpr: float) -> pd.Series:
    n_normal = clips["normal"].sum()
    row = {"n_normal": n_normal, "n_anomalous": len(clips) - n_normal}
    auc = pauc = np.nan
    if min(row.values()) > 0:
        y = np.where(clips["normal"], 1, -1)
        auc = roc_auc_score(y, clips["score"])
        pauc = pauc_score(y, clips["score"], max_fpr=max_fpr)
    return pd.Series(row | {"auc": auc, "pauc": pauc})


def _average(rows: pd.DataFrame, name: tuple[str, str]) -> pd.DataFrame:
    """Make one row: sum the clips, and average the areas that are not NaN."""
    row = {"n_normal": "sum", "n_anomalous": "sum", "auc": "mean", "pauc": "mean"}
    return rows.agg(row).to_frame().T.set_axis(pd.MultiIndex.from_tuples([name]))


def _check(
    y: ArrayLike, scores: ArrayLike, n_clips: int
) -> tuple[np.ndarray, np.ndarray]:
    """Check labels and scores; return the mask of normal clips and the scores."""
    if y is None:
        raise ValueError("y is None; labels are needed, +1 normal and -1 anomalous")
    normal = normal_rows(y, n_clips)
    scores = np.asarray(refuse_masked(scores, "scores"), dtype=float)
    if scores.shape != (n_clips,):
        raise ValueError(
            f"scores have shape {scores.shape} for {n_clips} clips; pass one score for "
            "each clip"
        )
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise ValueError(
            f"scores are NaN for clips {abbreviate(list(bad))}, which could not be "
            "used: leave their rows out of X, y and scores"
        )
    return normal, scores
