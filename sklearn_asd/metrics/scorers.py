"""Scorers for searches and cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import make_scorer

from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.meta.scoring import anomaly_scores
from sklearn_asd.meta.siblings import sibling_table
from sklearn_asd.meta.structure import take_rows
from sklearn_asd.metrics.areas import auc_table, pauc_score
from sklearn_asd.metrics.challenge import check_year, dcase_score

__all__ = [
    "make_dcase_scorer",
    "mean_auc_scorer",
    "mean_pauc_scorer",
    "pauc_scorer",
    "sibling_auc",
]

pauc_scorer = make_scorer(pauc_score, response_method="decision_function")
"""Scorer for searches: :func:`~sklearn_asd.metrics.pauc_score` at 0.1 of all clips."""


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


class _DcaseScorer:
    """Scorer for searches: the official score of a year, by `make_dcase_scorer`."""

    def __init__(self, year: int) -> None:
        self.year = check_year(year)

    def __repr__(self) -> str:
        return f"make_dcase_scorer({self.year})"

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        scores = -anomaly_scores(estimator, X)
        return dcase_score(X, y, scores, year=self.year)


def make_dcase_scorer(year: int) -> _DcaseScorer:
    """Make a scorer for searches: the official score of the challenge in a year.

    Parameters
    ----------
    year : int
        2020 to 2026.

    Returns
    -------
    scorer : callable
        Called as ``scorer(estimator, X, y)``, gives
        :func:`~sklearn_asd.metrics.dcase_score` in [0, 1]. It is an error if the clips
        of a fold lack what the rule of the year needs: use folds that hold normal and
        anomalous clips of each section and domain.

    Examples
    --------
    >>> from sklearn_asd.metrics import make_dcase_scorer
    >>> make_dcase_scorer(2023)
    make_dcase_scorer(2023)
    """
    return _DcaseScorer(year)
