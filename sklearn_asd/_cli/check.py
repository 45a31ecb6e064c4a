"""``sklearn-asd check``: which faults a model would hear, without any faults."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import click
import pandas as pd

from sklearn_asd._cli.conventions import CONTEXT, echo, group_reasons
from sklearn_asd._cli.models import Model, has_networks, read_model, trust_option
from sklearn_asd._cli.recordings import assign_machines, read_paths
from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd._utils.text import printable
from sklearn_asd.audibility import LEVELS, audibility_table
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.reading import UnusableClipWarning

__all__ = ["check"]

_MOST_FOLDS = 5
_FAULTS = {
    "tone": "a tone",
    "noise": "white noise",
    "short_noise": "noise for a second",
    "knocks": "knocks",
}

# From this share of alarms without a fault, alarms say nothing about faults.
_MOSTLY = 0.5

_LEGEND = (
    "Levels: at 0 dB a fault is as loud as the recording while it sounds, and at -12 "
    "dB it has a quarter of that amplitude. It is heard from the level on at which 90 "
    "% of the recordings or more raise an alarm."
)
_CAUTION = (
    "These faults are planted, and real ones may sound otherwise: they may be missed "
    "where these are heard, and heard where these are missed."
)
_LEFT_OUT = (
    "Each recording was judged by a model fitted without it and its neighbours in the "
    "list. Recordings of other days may raise more alarms: give FOLDER to find out."
)


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("folder", required=False)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object on each line, for other programs.",
)
@trust_option
def check(model, folder, as_json, trust):
    """Find out which faults MODEL would hear, without recordings of faults.

    Adds sounds of faults to normal recordings, more and more loudly, and says for each
    machine from which level on they raise an alarm: a tone, white noise, noise for a
    second, and knocks. About ten recordings of each machine are used.

    Without FOLDER these are the training recordings, if they are still where they were.
    The model is fitted again several times, each time without some of them. A model
    with networks would take too long for that.

    FOLDER holds normal recordings that were not used for training. Those in folders
    called train are left out if there are others, and those in folders called anomaly
    or abnormal always are. The machine of a recording is taken from its name or
    folders, as by sklearn-asd score. Damaged recordings are passed over.

    \b
    Examples:
      sklearn-asd check machines.asd
      sklearn-asd check machines.asd new/

    \b
    Exit codes:
      0  the model was checked with all recordings
      2  some are of unknown machines or cannot be listed, or an error
    """
    loaded = read_model(model, trust)
    problems: dict[str, str] = {}
    cv = None
    if folder is None:
        clips = _find_training(loaded)
        cv = _count_folds(clips)
    else:
        clips, problems = _find_others(loaded, folder)
    labels = machine_labels(clips)
    n_machines = 1 if labels is None else len(set(labels))
    fitting = f"Fitting the model {cv} times, and planting" if cv else "Planting"
    echo(f"{fitting} faults for {count(n_machines, 'machine')} ...", err=True)
    with warnings.catch_warnings():
        # Of training recordings that cannot be used, fit told.
        warnings.simplefilter("ignore", UnusableClipWarning)
        table = audibility_table(loaded.detector, clips, cv=cv, random_state=0)
    show = _show_json if as_json else _show
    show(table, _name_missing(loaded, table), cv is not None)
    for line in group_reasons(problems):
        echo(f"left out: {line}", err=True)
    return 2 if problems else 0


def _find_training(model: Model) -> pd.DataFrame:
    """List the training recordings that still exist."""
    if model.training is None:
        raise ValueError(
            "the model does not say what it learnt from, as sklearn-asd fit did not "
            "write it: give FOLDER with normal recordings"
        )
    if has_networks(model.detector):
        raise ValueError(
            "the model holds networks, which would be trained again several times: "
            "give FOLDER with normal recordings that were not used for training"
        )
    clips = model.training
    exists = [os.path.isfile(path) for path in clips["path"]]
    if not any(exists):
        raise ValueError(
            f"none of the {count(len(clips), 'training recording')} is where it was, "
            f"such as {clips['path'].iloc[0]!r}: give FOLDER with normal recordings"
        )
    gone = len(clips) - sum(exists)
    if gone:
        echo(f"{count(gone, 'training recording')} no longer there.", err=True)
    return clips[exists].reset_index(drop=True)


def _count_folds(clips: pd.DataFrame) -> int:
    """Count the folds: each holds every machine."""
    counts = clips.groupby(machine_labels(clips)).size()
    if counts.min() < 3:
        raise ValueError(
            f"machine {counts.idxmin()!r} has {count(counts.min(), 'recording')} left, "
            "and at least three are needed to fit the model without some of them: "
            "give FOLDER with normal recordings"
        )
    return min(_MOST_FOLDS, int(counts.min()))


def _find_others(model: Model, folder: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """List normal recordings that were not trained on, and paths left out."""
    clips, problems = read_paths([folder], model.machine_from)
    normal = clips["label"].fillna(1) == 1
    other = clips["split"].fillna("") != "train"
    clips = clips[normal & other] if (normal & other).any() else clips[normal]
    training = () if model.training is None else model.training["path"]
    known = set(map(os.path.realpath, training))
    learnt = [os.path.realpath(path) in known for path in clips["path"]]
    if len(clips) == 0 or all(learnt):
        found = f"only {sum(learnt)} that the model learnt from" if learnt else "none"
        raise ValueError(
            f"{folder!r} holds no normal recordings to check the model with, {found}: "
            "give a folder of normal recordings that were not used for training"
        )
    if any(learnt):
        text = count(sum(learnt), "recording")
        echo(f"Left out: {text} that the model learnt from.", err=True)
    clips = clips.loc[[not one for one in learnt]].reset_index(drop=True)
    clips = assign_machines(clips, model, None)
    unknown = clips["reason"] != ""
    problems |= dict(clips.loc[unknown, ["path", "reason"]].to_numpy())
    if unknown.all():
        path, reason = next(iter(problems.items()))
        raise ValueError(f"no recording is of a known machine: {path} {reason}")
    return clips[~unknown].reset_index(drop=True), problems


def _name_missing(model: Model, table: pd.DataFrame) -> list[str]:
    """Name the machines of the model that have no recordings."""
    if model.machines is None:
        return []
    known = machine_labels(pd.DataFrame(model.machines, dtype=object))
    assert known is not None  # each machine has an ID
    checked = set(table.index.get_level_values("machine"))
    return [one for one in known if one not in checked]


def _show(table: pd.DataFrame, missing: list[str], left_out: bool) -> None:
    echo(_LEGEND)
    for machine, rows in table.groupby(level="machine", sort=False):
        echo(printable(_describe(machine, rows.droplevel("machine"))))
    if missing:
        echo(printable(f"No usable recordings of {abbreviate(missing)}."))
    echo(_CAUTION)
    if left_out:
        echo(_LEFT_OUT)


def _describe(machine: str, rows: pd.DataFrame) -> str:
    """Write the sentence of a machine."""
    n_clips, share = int(rows["n_clips"].iloc[0]), rows["without"].iloc[0]
    alarms = f"{round(n_clips * share)} of {n_clips}"
    begin = f"{machine or 'all'} ({count(n_clips, 'recording')}): "
    if share > _MOSTLY:
        return (
            f"{begin}{alarms} raise an alarm without a fault, so alarms say nothing "
            "about faults."
        )
    heard = [
        f"{words} {_describe_level(rows.loc[fault, 'audible_from'])}"
        for fault, words in _FAULTS.items()
    ]
    return f"{begin}{', '.join(heard)}; {alarms} raise an alarm without a fault."


def _describe_level(level: float) -> str:
    if pd.isna(level):
        return f"not at all up to {LEVELS[-1]} dB"
    if level == LEVELS[0]:
        return f"already at {level:g} dB"
    return f"from {level:g} dB"


def _show_json(table: pd.DataFrame, missing: list[str], left_out: bool) -> None:
    for machine, rows in table.groupby(level="machine", sort=False):
        rows = rows.droplevel("machine")
        n_clips = int(rows["n_clips"].iloc[0])
        line: dict[str, Any] = {
            "machine": machine or None,
            "n_recordings": n_clips,
            "n_alarms_without_fault": round(n_clips * rows["without"].iloc[0]),
            "audible_from": {
                fault: None if pd.isna(level) else float(level)
                for fault, level in rows["audible_from"].items()
            },
        }
        click.echo(json.dumps(line, allow_nan=False))
    for machine in missing:
        click.echo(json.dumps({"machine": machine, "n_recordings": 0}))
