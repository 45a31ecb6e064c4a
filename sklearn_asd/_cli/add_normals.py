"""``sklearn-asd add-normals``: learn from false alarms, without a full fit."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import click
import pandas as pd

from sklearn_asd._base import is_frozen
from sklearn_asd._cli.conventions import (
    CONTEXT,
    echo,
    group_reasons,
    machine_id_option,
    quiet_option,
)
from sklearn_asd._cli.history import (
    describe_change,
    find_rate,
    list_changes,
    make_entry,
    save_entry,
)
from sklearn_asd._cli.layouts import machine_from_option
from sklearn_asd._cli.models import (
    Model,
    Pieces,
    cut_recordings,
    has_networks,
    make_notes,
    piece_option,
    pieces_to_judge,
    read_model,
)
from sklearn_asd._cli.normals import judge_normals
from sklearn_asd._cli.verdicts import judge
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.meta import adding

__all__ = ["add_normals"]


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("files", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="File to write the new model to. Default: MODEL, which is replaced.",
)
@machine_id_option
@machine_from_option
@piece_option()
@quiet_option
def add_normals(model, files, output, machine_id, machine_from, piece):
    """Let MODEL learn from normal recordings in FILES, such as false alarms.

    FILES are recordings, or folders of them. Listen to each before: a fault among them
    becomes normal. The new model is what fit would have made of the earlier recordings
    and these: it judges by all of them, and its thresholds are set anew. The earlier
    recordings are not read. Networks keep their weights.

    Models of the systems i, ii, iii, iv and baseline judge by networks alone and cannot
    learn more: fit them again. The thresholds of calibrate, and of fit with networks,
    are of recordings that the model does not keep. They are undone, so calibrate again.

    Recordings labelled anomalous, those that the model has learnt from, copies, and
    those with clipping, dropouts and the like are left out. The model keeps date,
    machines, files and their SHA-256, and thresholds before and after; sklearn-asd info
    shows a summary.

    \b
    Examples:
      sklearn-asd add-normals machines.asd new/pump_3/0900.wav new/pump_3/0910.wav
      sklearn-asd add-normals machines.asd alarms/20261127T0900Z_pump_3/ \
--machine-id pump_3

    \b
    Exit codes:
      0  the new model is written
      2  an error, or recordings that could not be used (the others were)
    """
    loaded = read_model(model, trust=False)
    output = output or model
    pieces = pieces_to_judge(loaded, piece)
    normals = judge_normals(
        loaded, files, machine_id, machine_from, pieces, output, learns=True
    )
    clips = cut_recordings(normals.judged, pieces)
    base = _leave_threshold(loaded.detector)
    detector = _add(base, clips)
    changes = list_changes(loaded.detector, detector, clips)
    entry = make_entry(
        "add-normals",
        normals.judged,
        normals.digests,
        find_rate(detector),
        thresholds=changes,
    )
    save_entry(loaded, detector, entry, output, **_update_notes(loaded, clips))
    for name, n in entry["n_recordings"].items():
        echo(f"{printable(name)}  {count(n, 'recording')} added")
    for name, (before, after) in changes.items():
        echo(describe_change(name, before, after))
    _name_anomalous(detector, normals.judged, pieces)
    if has_networks(detector):
        echo("The networks keep their weights.")
    if base is not loaded.detector:
        echo(
            "The threshold of recordings that the model does not keep is undone, and "
            "that of training recordings holds: set it anew with sklearn-asd calibrate."
        )
    echo(f"The new model is in {printable(output)}.")
    return 2 if normals.n_problems else 0


def _leave_threshold(detector: Any) -> Any:
    """Take the detector out of thresholds of recordings that are not kept."""
    if hasattr(detector, "steps"):
        *first, (name, last) = detector.steps
        whole = copy.copy(detector)
        whole.steps = [*first, (name, _leave_threshold(last))]
        return detector if whole.steps[-1][1] is last else whole
    # Files of earlier versions do not say what set the threshold.
    by_training = getattr(detector, "uses_training_scores_", False)
    if by_training or not hasattr(detector, "detector_"):
        return detector
    inner = detector.detector_
    return _leave_threshold(inner.estimator if is_frozen(inner) else inner)


def _add(detector: Any, clips: pd.DataFrame) -> Any:
    with warnings.catch_warnings():
        # Judging has named the recordings that cannot be used.
        warnings.simplefilter("ignore", UnusableClipWarning)
        return adding.add_normals(detector, clips)


def _update_notes(model: Model, clips: pd.DataFrame) -> dict[str, Any]:
    """Notes with the training recordings of now, if they were known."""
    if model.training is None:
        return {}
    training = pd.concat([model.training, clips.astype(object)], ignore_index=True)
    notes = make_notes(model.id_column, training, model.pieces, model.machine_from)
    return {"training": notes["training"]}


def _name_anomalous(detector: Any, judged: pd.DataFrame, pieces: Pieces | None) -> None:
    """Name the recordings that would still raise an alarm."""
    clips = judged[["path", "machine_type", "machine_id"]].assign(reason="")
    again, _ = judge(detector, clips.reset_index(drop=True), pieces)
    still = again[again["verdict"] == "anomalous"]
    reasons = {
        path: f"is still anomalous, with a margin of {margin:.2f}: a few recordings "
        "change little among many, so add more like it, if it is normal"
        for path, margin in still[["path", "margin"]].to_numpy()
    }
    for line in group_reasons(reasons):
        echo(line)
