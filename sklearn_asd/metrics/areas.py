"""AUC and partial AUC of a set of clips, and of each machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from sklearn_asd.metrics.labelled import check_labelled, group_index, read_labelled

__all__ = ["auc_table", "pauc_score"]

_MACHINES = ("machine_type", "machine_id")


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
    normal, scores = check_labelled(y, scores, np.size(scores))
    if normal.all() or not normal.any():
        raise ValueError(
            f"y holds {normal.sum()} normal and {(~normal).sum()} anomalous clips; a "
            "ROC curve needs both: add labelled clips"
        )
    return float(roc_auc_score(~normal, -scores, max_fpr=max_fpr))


def auc_table(
    X: Any,
    y: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    max_fpr: float = 0.1,
    *,
    by: Sequence[str] = _MACHINES,
) -> pd.DataFrame:
    """AUC and partial AUC for each machine, with averages.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Machine types and machine IDs; clips without them count as one machine.

    y : array-like of shape (n_clips,), default=None
        +1 for normal clips, -1 for anomalous ones. None takes the column `label` of X.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips: higher is more normal.

    max_fpr : float in (0, 1], default=0.1
        See :func:`pauc_score`.

    by : sequence of str, default=("machine_type", "machine_id")
        Columns that group the clips: each combination of values has its own AUC. With
        "domain" among them, normal and anomalous clips are both of that domain
        ("same-domain AUC" in the literature). The challenge has another rule for
        domains since 2022, see :func:`~sklearn_asd.metrics.dcase_table`.

    Returns
    -------
    table : DataFrame
        Columns `n_normal`, `n_anomalous`, `auc` and `pauc`, and a row for each
        group, indexed by the columns in `by`. The groups of a value of the first
        column, the machine type, are followed by their unweighted "average"; with
        several values, the last row is the average over these. A group without normal
        or without anomalous clips has NaN and is left out of the averages.

    Raises
    ------
    ValueError
        If X, y and scores differ in length, y holds other labels, scores hold NaN, or
        X lacks a column in `by` other than machine types and IDs.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.metrics import auc_table
    >>> clips = pd.DataFrame(
    ...     {"machine_id": ["00", "00", "02", "02"], "label": [1, -1, 1, -1]})
    >>> auc_table(clips, scores=[0.9, 0.2, 0.3, 0.4])
                             n_normal  n_anomalous  auc      pauc
    machine_type machine_id
                 00                 1            1  1.0  1.000000
                 02                 1            1  0.0  0.473684
                 average            2            2  0.5  0.736842
    """
    normal, scores = read_labelled(X, y, scores)
    groups = group_index(X, by)
    clips = pd.DataFrame({"normal": normal, "score": scores}, index=groups)
    levels = list(range(groups.nlevels))
    rated = clips.groupby(level=levels).apply(_rate_machine, max_fpr)
    filler = ("",) * (groups.nlevels - 2)
    if groups.nlevels == 1:
        parts = [rated, _average(rated, ["average"])]
    else:
        parts = []
        for kind, of_type in rated.groupby(level=0):
            parts += [of_type, _average(of_type, (kind, "average", *filler))]
    if len(parts) > 2:
        parts.append(_average(pd.concat(parts[1::2]), ("average", "", *filler)))
    counts = {"n_normal": int, "n_anomalous": int}
    return pd.concat(parts).astype(counts).rename_axis(groups.names)


def _rate_machine(clips: pd.DataFrame, max_fpr: float) -> pd.Series:
    n_normal = clips["normal"].sum()
    row = {"n_normal": n_normal, "n_anomalous": len(clips) - n_normal}
    auc = pauc = np.nan
    if min(row.values()) > 0:
        y = np.where(clips["normal"], 1, -1)
        auc = roc_auc_score(y, clips["score"])
        pauc = pauc_score(y, clips["score"], max_fpr=max_fpr)
    return pd.Series(row | {"auc": auc, "pauc": pauc})


def _average(rows: pd.DataFrame, name: Sequence[str]) -> pd.DataFrame:
    """Make one row: sum the clips, and average the areas that are not NaN."""
    row = {"n_normal": "sum", "n_anomalous": "sum", "auc": "mean", "pauc": "mean"}
    labels = [[one] for one in name]
    index = pd.MultiIndex.from_arrays(labels) if len(labels) > 1 else pd.Index(name)
    return rows.agg(row).to_frame().T.set_axis(index)
