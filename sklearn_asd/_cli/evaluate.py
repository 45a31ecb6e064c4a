"""``sklearn-asd evaluate``: measure a model on labelled recordings."""

from __future__ import annotations

import click
import pandas as pd

from sklearn_asd._cli.conventions import CONTEXT
from sklearn_asd._cli.models import read_model, trust_option
from sklearn_asd._cli.recordings import assign_machines
from sklearn_asd._cli.verdicts import UNUSABLE, judge
from sklearn_asd.audio import load_clips
from sklearn_asd.metrics import auc_table

__all__ = ["evaluate"]


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("folder")
@trust_option
def evaluate(model, folder, trust):
    """Measure MODEL on labelled recordings in FOLDER.

    Prints the AUC and partial AUC of each machine, where 0.5 is chance and 1 is
    perfect. Then it counts false alarms and missed anomalies at the model's threshold.

    Folders called normal, anomaly or abnormal are the labels, or file names of the
    DCASE challenge. Recordings in folders called train, and those without a label, are
    left out.

    \b
    Example:
      sklearn-asd evaluate machines.asd recordings/

    \b
    Exit codes:
      0  all recordings were judged
      2  some are unusable, or an error
    """
    loaded = read_model(model, trust)
    clips = assign_machines(_load_labelled(folder), loaded, None)
    judged, verdicts = judge(loaded.detector, clips)
    unusable = judged["verdict"] == UNUSABLE
    for row in judged[unusable].itertuples():
        click.echo(f"unusable: {row.path}: {row.reason}", err=True)
    judged = judged[~unusable]
    if judged.empty:
        raise ValueError("none of the recordings could be judged")
    # Not of the margins, which a threshold of infinity would make infinite.
    scores = pd.Series(verdicts.scores).dropna()
    table = auc_table(judged, judged["label"], -scores)
    click.echo(table.to_string(float_format="{:.3f}".format))
    normal = judged["label"] == 1
    alarm = judged["verdict"] == "anomalous"
    click.echo(f"False alarms: {_share(alarm[normal])} normal recordings")
    click.echo(f"Missed:       {_share(~alarm[~normal])} anomalous recordings")
    return 2 if unusable.any() else 0


def _load_labelled(folder: str) -> pd.DataFrame:
    clips = load_clips(folder)
    tested = clips["split"].isna() | (clips["split"] == "test")
    clips = clips[tested].dropna(subset="label").reset_index(drop=True)
    if clips.empty:
        raise ValueError(
            f"{folder!r} holds no labelled recordings outside of folders called train: "
            "put recordings into folders called normal and anomaly"
        )
    return clips


def _share(hits: pd.Series) -> str:
    percent = f" ({100 * hits.mean():.0f} %)" if len(hits) else ""
    return f"{hits.sum()} of {len(hits)}{percent}"
