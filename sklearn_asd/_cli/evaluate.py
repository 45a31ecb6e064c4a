"""``sklearn-asd evaluate``: measure a model on labelled recordings."""

from __future__ import annotations

import click
import numpy as np
import pandas as pd
from scipy import stats

from sklearn_asd._cli.conventions import CONTEXT, echo, group_reasons
from sklearn_asd._cli.layouts import machine_from_option
from sklearn_asd._cli.models import (
    piece_option,
    pieces_to_judge,
    read_model,
    trust_option,
)
from sklearn_asd._cli.recordings import assign_machines, read_paths
from sklearn_asd._cli.verdicts import UNUSABLE, judge
from sklearn_asd._utils.messages import count
from sklearn_asd.metrics import auc_table
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["evaluate"]


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("folder")
@machine_from_option
@piece_option()
@trust_option
def evaluate(model, folder, machine_from, piece, trust):
    """Measure MODEL on labelled recordings in FOLDER.

    Prints the AUC and partial AUC of each machine, where 0.5 is chance and 1 is
    perfect. Then it counts false alarms and missed anomalies at the model's threshold.
    The interval says which rates few recordings leave possible: 1 of 10 may be 0 to 45
    %.

    Folders called normal, ok or good, and anomaly, abnormal, ng, bad, broken and the
    like are the labels, or file names of the DCASE challenge. Recordings in folders
    called train, and those without a label, are left out. A recording longer than those
    of training is judged by its worst piece, as by sklearn-asd score.

    \b
    Example:
      sklearn-asd evaluate machines.asd recordings/

    \b
    Exit codes:
      0  all recordings were judged
      2  some are unusable or cannot be listed, or an error
    """
    loaded = read_model(model, trust)
    labelled, problems = _load_labelled(folder, machine_from or loaded.machine_from)
    clips = assign_machines(labelled, loaded, None, machine_from)
    judged, verdicts = judge(loaded.detector, clips, pieces_to_judge(loaded, piece))
    unusable = judged["verdict"] == UNUSABLE
    problems |= dict(judged.loc[unusable, ["path", "reason"]].to_numpy())
    for line in group_reasons(problems):
        echo(f"unusable: {line}", err=True)
    judged = judged[~unusable]
    if judged.empty:
        raise ValueError("none of the recordings could be judged")
    scores = _comparable_scores(verdicts).dropna()
    table = auc_table(judged, judged["label"], -scores)
    echo(table.to_string(float_format="{:.3f}".format))
    normal = judged["label"] == 1
    alarm = judged["verdict"] == "anomalous"
    echo(f"False alarms: {_share(alarm[normal], 'normal')}")
    echo(f"Missed:       {_share(~alarm[~normal], 'anomalous')}")
    return 2 if problems else 0


def _load_labelled(
    folder: str, machine_from: str | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """List the recordings to judge, and paths that may hold more, with the reason."""
    clips, problems = read_paths([folder], machine_from)
    tested = clips["split"].isna() | (clips["split"] == "test")
    clips = clips[tested].dropna(subset="label").reset_index(drop=True)
    if clips.empty:
        raise ValueError(
            f"{folder!r} holds no labelled recordings outside of folders called train: "
            "put recordings into folders called normal and anomaly"
        )
    return clips, problems


def _comparable_scores(verdicts: Verdicts) -> pd.Series:
    """Anomaly scores, above their thresholds if those of more pieces are higher."""
    if verdicts.spans and not np.isinf(verdicts.thresholds).any():
        return pd.Series(-verdicts.margins)
    return pd.Series(verdicts.scores)


def _share(hits: pd.Series, kind: str) -> str:
    """Count hits, with the exact interval of their rate (Clopper and Pearson)."""
    text = f"{hits.sum()} of {count(len(hits), f'{kind} recording')}"
    if hits.empty:
        return text
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, "exact")
    return (
        f"{text} ({100 * hits.mean():.0f} %, 95 % interval {100 * interval.low:.0f} to "
        f"{100 * interval.high:.0f} %)"
    )
