"""Which recordings to train on, and which machine each new one belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd
import soundfile

from sklearn_asd._cli.conventions import Failure
from sklearn_asd._utils.messages import abbreviate, count, did_you_mean
from sklearn_asd.audio import load_clips
from sklearn_asd.audio.folders import AUDIO_SUFFIXES, describe_recordings, read_name

__all__ = [
    "Machine",
    "choose_machine_id",
    "choose_sample_rate",
    "explain_unknown",
    "find_machines",
    "list_machines",
    "pick_machine",
    "read_paths",
    "select_training",
]


_SAMPLE_RATE = 16000


class Machine(NamedTuple):
    """A machine by its names, as in the columns of the same name."""

    machine_type: str | None
    machine_id: str

    def __str__(self) -> str:
        return "/".join(name for name in self if name is not None)


def choose_machine_id(clips: pd.DataFrame, column: str) -> pd.DataFrame:
    """Use the column that tells machines apart as their ID.

    A recording without a value in it has no ID.
    """
    if column not in clips:
        raise Failure(
            f"the recordings' names have no {column!r}:"
            f"{did_you_mean(column, clips.columns[2:])} --id-column is one of "
            f"{', '.join(clips.columns.drop(['path', 'split', 'label']))}"
        )
    return clips.assign(machine_id=clips[column])


def select_training(
    clips: pd.DataFrame, types: list[str], column: str
) -> tuple[pd.DataFrame, list[str]]:
    """Select the training recordings: normal, of these types, not marked as test.

    Returns
    -------
    train : DataFrame
        Those recordings.

    left_out : list of str
        How many others there are, and why.
    """
    if (clips["split"] == "train").any():
        outside, why = clips["split"] != "train", "outside of folders called train"
    else:
        outside, why = clips["split"].notna(), "marked as test"
    other = clips["machine_type"].notna() & ~clips["machine_type"].isin(types)
    reasons = {
        "of other machine types": other,
        why: outside,
        "labelled anomalous": clips["label"] == -1,
        f"without {column} in their names": clips["machine_id"].isna(),
    }
    left_out, train = [], pd.Series(True, clips.index)
    for reason, where in reasons.items():
        n = int((train & where.fillna(False)).sum())
        left_out += [f"{count(n, 'recording')} {reason}"] if n else []
        train &= ~where.fillna(False).astype(bool)
    if not train.any():
        raise Failure(
            f"there are no training recordings, only {', '.join(left_out)}: give a "
            "folder of normal recordings"
        )
    return clips[train].reset_index(drop=True), left_out


def choose_sample_rate(clips: pd.DataFrame) -> float:
    """16 kHz, or the highest rate of the recordings if that is less, in Hz."""
    highest = 0
    for path in clips["path"]:
        # Reading it later names it with the reason.
        with contextlib.suppress(soundfile.LibsndfileError):
            highest = max(highest, soundfile.info(path).samplerate)
        if highest >= _SAMPLE_RATE:
            break
    if not 0 < highest < _SAMPLE_RATE:
        return _SAMPLE_RATE
    click.echo(f"Sample rate: {highest} Hz, that of the recordings.", err=True)
    return highest


def list_machines(clips: pd.DataFrame) -> list[Machine]:
    """List the machines of the recordings."""
    rows = clips.to_dict("records")
    return sorted({state_machine(row, "machine_id") for row in rows}, key=str)


def read_paths(paths: Iterable[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """List files, and all recordings below folders.

    Returns
    -------
    clips : DataFrame of n_clips rows
        As of `load_clips`, each recording once.

    problems : dict of str to str
        What is wrong with a path that holds none.
    """
    tables, problems = [], {}
    for path in paths:
        try:
            folder = Path(path).is_dir()
            tables.append(load_clips(path) if folder else describe_recordings([path]))
        except ValueError:
            suffixes = " or ".join(AUDIO_SUFFIXES)
            problems[path] = f"holds no recordings: no file below it ends in {suffixes}"
    tables = tables or [describe_recordings([])]
    clips = pd.concat(tables, ignore_index=True).drop_duplicates("path")
    return clips.reset_index(drop=True), problems


def find_machines(
    clips: pd.DataFrame, known: list[Machine], column: str
) -> tuple[list[Machine | None], int]:
    """Find the machine of each recording among the known ones.

    The name or the folders of a recording tell its machine, as in training. Folders
    between the machine's folder and the recording do not matter.

    Returns
    -------
    machines : list of Machine or None
        None for recordings of other machines.

    n_assumed : int
        How many do not tell it, and were assigned to the only known machine.
    """
    machines, n_assumed = [], 0
    for row in clips.to_dict("records"):
        stated = state_machine(row, column)
        machine = stated if stated in known else None
        if machine is None and not read_name(Path(row["path"]).stem):
            machine = _find_in_folders(Path(row["path"]), known)
            if machine is None and len(known) == 1:
                machine = known[0]
                n_assumed += 1
        machines.append(machine)
    return machines, n_assumed


def state_machine(row: dict, column: str) -> Machine:
    """Read the machine from a recording's name or its folders."""
    kind, identity = row["machine_type"], row.get(column)
    return Machine(
        None if pd.isna(kind) else str(kind), "" if pd.isna(identity) else str(identity)
    )


def explain_unknown(row: dict, known: list[Machine], column: str) -> str:
    """Explain why a recording has no known machine, with the remedy."""
    stated = state_machine(row, column)
    names = abbreviate([str(machine) for machine in known])
    if not stated.machine_id:
        return (
            f"has no {column!r} in its name, which tells the model's machines apart: "
            f"name its machine with --machine-id, one of {names}"
        )
    return (
        f"is of machine {str(stated)!r}, which the model does not know: name it with "
        f"--machine-id, one of {names}, or fit again with its normal recordings"
    )


def pick_machine(name: str, known: list[Machine]) -> Machine:
    """Find the machine that the user names, in full or only by its ID."""
    found = [one for one in known if name in (str(one), one.machine_id)]
    if len(found) == 1:
        return found[0]
    names = [str(one) for one in known]
    fact = (
        f"is the ID of {abbreviate([str(one) for one in found])}: name one of them"
        if found
        else f"is unknown to the model:{did_you_mean(name, names)} it knows "
        f"{abbreviate(names)}"
    )
    raise Failure(f"--machine-id {name!r} {fact}")


def _find_in_folders(path: Path, known: list[Machine]) -> Machine | None:
    """Machine of the innermost folder that has the name of one."""
    folders = path.resolve().parts[:-1]
    for depth in range(len(folders) - 1, 0, -1):
        for machine in known:
            above = machine.machine_type in (None, folders[depth - 1])
            if machine.machine_id == folders[depth] and above:
                return machine
    return None
