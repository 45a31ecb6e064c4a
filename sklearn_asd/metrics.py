"""AUC and partial AUC as in the DCASE challenge, with a scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import make_scorer, roc_auc_score

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import machine_columns

__all__ = ["auc_table", "pauc_score", "pauc_scorer"]


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
"""Scorer for searches: :func:`~sklearn_asd.metrics.pauc_score` at 0.1."""


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
    columns = [
        [""] * len(X) if column is None else ["" if v is None else v for v in column]
        for column in machine_columns(X)
    ]
    machines = pd.MultiIndex.from_arrays(columns, names=["machine_type", "machine_id"])
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
    scores = np.asarray(scores, dtype=float)
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
