"""Normal recordings that a model was not trained on, for calibrate and verify."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import click
import pandas as pd

from sklearn_asd._cli.conventions import echo, group_reasons, note, prepare_outputs
from sklearn_asd._cli.history import find_rate, hash_files
from sklearn_asd._cli.models import Model, Pieces
from sklearn_asd._cli.recordings import assign_machines, read_paths
from sklearn_asd._cli.verdicts import UNUSABLE, judge
from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd.audio.remarks import condition_of

__all__ = ["Normals", "judge_normals", "promised_rate", "rate_option"]

rate_option = click.option(
    "--false-alarm-rate",
    "rate",
    metavar="RATE",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Share of normal recordings that may raise an alarm. Default: that of the "
    "model.",
)


class Normals(NamedTuple):
    """Judged normal recordings.

    `judged` has a row for each recording with a verdict, as from `judge`; `digests` are
    the SHA-256 of all, by path. `n_problems` counts the paths without a verdict.
    """

    judged: pd.DataFrame
    digests: dict[str, str]
    n_problems: int


def judge_normals(
    model: Model,
    paths: Iterable[str],
    machine_id: str | None,
    machine_from: str | None,
    pieces: Pieces | None,
    output: str | None,
    learns: bool = False,
) -> Normals:
    """Judge the normal recordings of files and folders that the model does not know.

    Those labelled anomalous, in folders called train, or used before to train or to
    calibrate, by their content, are left out and counted. Those without a verdict are
    named. An output that cannot be written is refused before the work. If the model
    `learns` from them, their folder and an earlier calibration do not matter, but their
    audio must be good.
    """
    clips, problems = read_paths(paths, machine_from or model.machine_from)
    prepare_outputs({"--output": output}, clips["path"])
    clips = _leave_out(clips, "labelled anomalous", clips["label"] == -1)
    if not learns:
        clips = _leave_out(clips, "in folders called train", clips["split"] == "train")
    clips = assign_machines(clips, model, machine_id, machine_from)
    digests = hash_files(clips["path"])
    clips = _leave_out_known(clips, digests, model, learns)
    if clips.empty:
        raise ValueError(
            f"{abbreviate(list(paths))} holds no normal recordings that the model was "
            "not trained on or calibrated by: give newer ones"
        )
    judged, _ = judge(model.detector, clips, pieces)
    unusable = judged["verdict"] == UNUSABLE
    problems |= dict(judged.loc[unusable, ["path", "reason"]].to_numpy())
    for line in group_reasons(problems):
        echo(f"unusable: {line}", err=True)
    judged = judged[~unusable]
    if learns:
        bad = judged["remark"].map(condition_of) != ""
        which = "in which the machine cannot be heard: sklearn-asd score tells why"
        judged = _leave_out(judged, which, bad)
    if judged.empty:
        raise ValueError("none of the recordings could be used: give others")
    if not learns:
        _warn_of_remarks(judged)
    return Normals(judged, digests, len(problems))


def _leave_out_known(
    clips: pd.DataFrame, digests: dict[str, str], model: Model, learns: bool
) -> pd.DataFrame:
    """Leave out recordings that were used before, by their contents.

    A name counts only where the content was not hashed, as a recorder may use names
    again.
    """
    learnt = _trained_on(model)
    known = {digest for _, digest in learnt}
    if model.training is not None:
        paths = clips["path"].map(os.path.abspath)
        named = paths.isin(model.training["path"])
        unhashed = ~paths.isin({os.path.abspath(path) for path, _ in learnt})
        copied = clips["path"].map(digests).isin(known)
        which = "that the model was trained on"
        clips = _leave_out(clips, which, named & (copied | unhashed))
    copied = clips["path"].map(digests).isin(known)
    clips = _leave_out(clips, "that are copies of those of training", copied)
    contents = clips["path"].map(digests)
    if learns:
        again = contents.duplicated() & contents.notna()
        return _leave_out(clips, "that are copies of others", again)
    used = contents.isin(_calibrated_on(model))
    return _leave_out(clips, "that the model was calibrated on", used)


def _trained_on(model: Model) -> set[tuple[str, str]]:
    """Paths and SHA-256 of the recordings that the model learnt from."""
    added = [one for one in model.history if one["command"] == "add-normals"]
    return _list_files([{"files": model.files}, *added])


def _calibrated_on(model: Model) -> set[str]:
    """SHA-256 of the recordings that set the thresholds, unless that was undone."""
    entries: list[dict[str, Any]] = []
    for entry in model.history:
        if entry["command"] == "add-normals":
            entries = []
        elif entry["command"] == "calibrate":
            entries.append(entry)
    return {digest for _, digest in _list_files(entries)}


def _list_files(entries: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Paths and SHA-256 of all files that were hashed."""
    pairs = [pair for entry in entries for pair in entry["files"].items()]
    return {(path, digest) for path, digest in pairs if digest}


def _warn_of_remarks(judged: pd.DataFrame) -> None:
    n = int((judged["remark"] != "").sum())
    if n:
        echo(
            f"Warning: {count(n, 'recording')} cannot be compared with those of "
            "training: sklearn-asd score tells why",
            err=True,
        )


def promised_rate(model: Model, rate: float | None) -> float:
    """Take the rate that is asked for, or else that of the model."""
    rate = rate or find_rate(model.detector)
    if rate is None:
        raise ValueError(
            "the thresholds of the model were set for no rate of false alarms: name "
            "one with --false-alarm-rate, such as 0.05"
        )
    return rate


def _leave_out(clips: pd.DataFrame, which: str, rows: pd.Series) -> pd.DataFrame:
    """Leave out some recordings, and say how many."""
    rows = rows.fillna(False).astype(bool)
    if rows.any():
        note(f"Left out: {count(int(rows.sum()), 'recording')} {which}.")
    return clips[~rows].reset_index(drop=True)
