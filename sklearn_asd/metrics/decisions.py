"""Precision, recall and F1 of decisions, for each machine or section and domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd.metrics.challenge import harmonic_mean
from sklearn_asd.metrics.labelled import group_index, read_labels

__all__ = ["decision_table"]

_MEASURES = ["precision", "recall", "f1"]


def decision_table(
    X: Any,
    y: ArrayLike | None = None,
    predictions: ArrayLike | None = None,
    *,
    by: Sequence[str] = ("machine_type", "machine_id"),
) -> pd.DataFrame:
    """Precision, recall and F1 of the verdicts on each group of clips, with averages.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The columns in `by`.

    y : array-like of shape (n_clips,), default=None
        +1 for normal clips, -1 for anomalous ones. None takes the column `label` of X.

    predictions : array-like of shape (n_clips,)
        What ``predict`` says of the clips: +1 normal, -1 anomalous.

    by : sequence of str, default=("machine_type", "machine_id")
        Columns that group the clips. The evaluators of the challenge take
        ``["machine_type", "section", "domain"]`` since 2021: clips of a domain, normal
        and anomalous, are judged apart. They had no decisions in 2020.

    Returns
    -------
    table : DataFrame
        A row for each group, indexed by the columns in `by`, with the numbers of clips
        `n_normal` and `n_anomalous`, of alarms on them, `false_alarms` and `found`, and
        in [0, 1]

        - `precision`: the share of anomalous clips among the alarms, 0 without alarms;
        - `recall`: the share of anomalous clips that raise an alarm;
        - `f1`: their harmonic mean, 0 if both are 0.

        The last two rows are "arithmetic mean" and "harmonic mean" over the groups; 0
        counts as machine epsilon in the latter, as for the evaluators. NaN where a
        group has no anomalous clips.

    Raises
    ------
    ValueError
        If X, y and predictions differ in length, y or predictions hold anything but +1
        and -1, or X lacks a column in `by` other than machine types and IDs.

    See Also
    --------
    auc_table : AUC and partial AUC, which need no threshold.

    References
    ----------
    The rules are those of the evaluators' published programs of 2021 to 2025.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.metrics import decision_table
    >>> clips = pd.DataFrame({"machine_id": "00", "label": [1, 1, -1, -1]})
    >>> table = decision_table(clips, predictions=[1, -1, -1, 1])
    >>> table[["precision", "recall", "f1"]].iloc[0].tolist()
    [0.5, 0.5, 0.5]
    """
    normal = read_labels(X, y)
    alarm = _read_alarms(predictions, len(X))
    clips = pd.DataFrame({"normal": normal, "alarm": alarm}, index=group_index(X, by))
    levels = list(range(clips.index.nlevels))
    table = clips.groupby(level=levels).apply(_rate)
    means = [_average(table, np.mean, "arithmetic mean")]
    means.append(_average(table, harmonic_mean, "harmonic mean"))
    counts = dict.fromkeys(table.columns.difference(_MEASURES), int)
    return pd.concat([table, *means]).astype(counts).rename_axis(list(by))


def _read_alarms(predictions: ArrayLike | None, n_clips: int) -> np.ndarray:
    if predictions is None:
        raise ValueError(
            "predictions are missing: pass what predict says of the clips, as in "
            "(X, predictions=verdicts) with the labels of X, or (X, y, verdicts)"
        )
    verdicts = np.asarray(predictions)
    if verdicts.shape != (n_clips,):
        raise ValueError(
            f"predictions have shape {verdicts.shape} for {n_clips} clips; pass one "
            "verdict for each clip"
        )
    strange = sorted({str(one) for one in verdicts} - {"1", "-1", "1.0", "-1.0"})
    if strange:
        raise ValueError(
            f"predictions hold {abbreviate(strange)}; verdicts are +1 normal and -1 "
            "anomalous: pass what predict returns (decisions of the evaluators, 0 and "
            "1, become 1 - 2 * decision)"
        )
    return verdicts.astype(float) < 0


def _rate(clips: pd.DataFrame) -> pd.Series:
    anomalous, alarm = ~clips["normal"], clips["alarm"]
    row: dict[str, float] = {
        "n_normal": (~anomalous).sum(),
        "n_anomalous": anomalous.sum(),
        "false_alarms": (~anomalous & alarm).sum(),
        "found": (anomalous & alarm).sum(),
    }
    measures = [np.nan] * len(_MEASURES)
    if row["n_anomalous"]:
        *measures, _ = precision_recall_fscore_support(
            anomalous, alarm, average="binary", zero_division=0
        )
    return pd.Series(row | dict(zip(_MEASURES, measures, strict=True)))


def _average(table: pd.DataFrame, average: Any, name: str) -> pd.DataFrame:
    """Make one row: sum the clips, and average the measures."""
    row = table.drop(columns=_MEASURES).sum().to_dict()
    row |= {one: average(table[one].to_numpy(float)) for one in _MEASURES}
    labels = [[name], *[[""]] * (table.index.nlevels - 1)]
    index = pd.MultiIndex.from_arrays(labels) if len(labels) > 1 else pd.Index([name])
    return pd.DataFrame([row], index=index)
