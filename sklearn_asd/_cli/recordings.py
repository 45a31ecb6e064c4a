"""Which recordings to train on, and which machine each new one belongs to."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile

from sklearn_asd._cli.conventions import echo, group_reasons, note
from sklearn_asd._cli.models import Machine, Model
from sklearn_asd._utils.messages import abbreviate, count, did_you_mean
from sklearn_asd._utils.text import one_form, printable
from sklearn_asd.audio.folders import (
    NO_RECORDINGS,
    Listing,
    describe_recordings,
    list_recordings,
    read_name,
)
from sklearn_asd.audio.naming import NamePattern

__all__ = [
    "assign_machines",
    "choose_machine_id",
    "choose_sample_rate",
    "read_folder",
    "read_paths",
    "select_training",
]

_SAMPLE_RATE = 16000

# What may follow a machine's ID in a file's name.
_ENDS_ID = re.compile(r"$|[_ .-]+(?:[^\W\d_]|\d{3})")

_NO_RECORDINGS = f"holds no recordings: {NO_RECORDINGS}"


def choose_machine_id(clips: pd.DataFrame, column: str) -> pd.DataFrame:
    """Use the column that tells machines apart as their ID.

    A recording without a value in it has no ID.
    """
    if column not in clips:
        raise ValueError(
            f"the recordings' names have no {column!r}:"
            f"{did_you_mean(column, clips.columns[2:])} --id-column is one of "
            f"{', '.join(clips.columns.drop(['path', 'split', 'label']))}"
        )
    return clips.assign(machine_id=clips[column])


def select_training(clips: pd.DataFrame, types: list[str], column: str) -> pd.DataFrame:
    """Select the training recordings: normal, of these types, not marked as test.

    Prints how many others there are, and why they are left out.
    """
    without = (
        f"without {column} in their names"
        if column != "machine_id"
        else "without a machine in their paths"
    )
    if (clips["split"] == "train").any():
        outside, why = clips["split"] != "train", "outside of folders called train"
    else:
        outside, why = clips["split"].notna(), "marked as test"
    other = clips["machine_type"].notna() & ~clips["machine_type"].isin(types)
    reasons = {
        "of other machine types": other,
        why: outside,
        "labelled anomalous": clips["label"] == -1,
        without: clips["machine_id"].isna(),
    }
    left_out, train = [], pd.Series(True, clips.index)
    for reason, where in reasons.items():
        n = int((train & where.fillna(False)).sum())
        left_out += [f"{count(n, 'recording')} {reason}"] if n else []
        train &= ~where.fillna(False).astype(bool)
    if not train.any():
        raise ValueError(
            f"there are no training recordings, only {', '.join(left_out)}: give a "
            "folder of normal recordings"
        )
    if left_out:
        note(f"Left out: {', '.join(left_out)}.")
    return clips[train].reset_index(drop=True)


def choose_sample_rate(clips: pd.DataFrame) -> float:
    """Choose 16 kHz, or the highest rate of the recordings if that is lower."""
    highest = 0
    for path in clips.get("path", ()):  # sounds made by the library have none
        if not os.path.isfile(path):  # a pipe might never answer
            continue
        # The error of a bad file appears when its samples are read.
        with contextlib.suppress(soundfile.SoundFileError):
            name = path if os.name == "nt" else os.fsencode(path)
            highest = max(highest, soundfile.info(name).samplerate)
        if highest >= _SAMPLE_RATE:
            break
    if not 0 < highest < _SAMPLE_RATE:
        return _SAMPLE_RATE
    note(f"Sample rate: {highest} Hz, that of the recordings.")
    return highest


def read_folder(folder: str, machine_from: str | None = None) -> pd.DataFrame:
    """List the recordings below a folder to learn from.

    What may hold recordings is named. A folder that cannot be listed is refused, and a
    pattern that fits no recording.
    """
    listing = list_recordings(folder, machine_from)
    _echo_others(listing)
    unlisted = [f"{printable(path)} {why}" for path, why in listing.unlisted.items()]
    if unlisted:
        raise ValueError(f"not all recordings can be found: {abbreviate(unlisted)}")
    for line in group_reasons(listing.skipped):
        echo(f"Left out: {line}", err=True)
    if listing.clips.empty:
        raise ValueError(f"{folder!r} {_NO_RECORDINGS}")
    if machine_from is not None:
        _check_pattern(listing.clips, machine_from)
    return listing.clips


def _check_pattern(clips: pd.DataFrame, machine_from: str) -> None:
    """Name the recordings that the pattern does not fit; refuse it if it fits none."""
    unfit = list(clips.loc[clips["machine_id"].isna(), "path"])
    if len(unfit) == len(clips):
        raise ValueError(
            f"--machine-from {machine_from!r} fits none of "
            f"{count(len(unfit), 'recording')}, such as {printable(unfit[0])}: it is "
            'the end of a path, with * for the rest of a name, as in "{machine}/*"'
        )
    _warn_of_two_readings(clips, machine_from)
    if unfit:
        names = abbreviate(list(map(printable, unfit)))
        echo(
            f"Left out: {count(len(unfit), 'recording')} that --machine-from does not "
            f"fit: {names}",
            err=True,
        )


def _warn_of_two_readings(clips: pd.DataFrame, machine_from: str) -> None:
    """Say so if the pattern could as well find other machines."""
    pattern = NamePattern(machine_from)
    for path, machine in clips[["path", "machine_id"]].dropna().to_numpy():
        other = pattern.read_shortest(os.path.abspath(path))
        if other not in (None, machine):
            echo(
                f"Warning: --machine-from {machine_from!r} can be read in two ways. "
                f"{printable(path)} is taken to be of machine {printable(machine)}, "
                f"and not of {printable(other)}. If that is wrong, put {{date}}, "
                "{time}, {number} or plain text next to {machine}",
                err=True,
            )
            return


def read_paths(
    paths: Iterable[str], machine_from: str | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """List files, and all recordings below folders.

    Parameters
    ----------
    paths : iterable of str
        Files and folders.

    machine_from : str or None, default=None
        Where the machine stands in their paths, as for `load_clips`.

    Returns
    -------
    clips : DataFrame of n_clips rows
        As from `load_clips`, each recording once.

    problems : dict of str to str
        Paths that cannot be listed, are passed over or hold no recordings, and the
        reason.
    """
    tables: list[pd.DataFrame] = []
    problems: dict[str, str] = {}
    for path in paths:
        if not os.path.isdir(path):
            tables.append(describe_recordings([path], machine_from))
            continue
        listing = list_recordings(path, machine_from)
        _echo_others(listing)
        tables.append(listing.clips)
        problems |= listing.unlisted | listing.skipped
        if listing.clips.empty:
            problems.setdefault(path, _NO_RECORDINGS)
    tables = tables or [describe_recordings([])]
    clips = pd.concat(tables, ignore_index=True).drop_duplicates("path")
    return clips.reset_index(drop=True), problems


def _echo_others(listing: Listing) -> None:
    """Count the files that are passed over and hold no sound."""
    if listing.others:
        kinds = [f"{n} {printable(kind)}" for kind, n in listing.others.items()]
        note(f"Passed over: {abbreviate(kinds)}.")


def assign_machines(
    clips: pd.DataFrame,
    model: Model,
    machine_id: str | None,
    machine_from: str | None = None,
) -> pd.DataFrame:
    """Give each recording the machine that the model knows it as.

    Returns
    -------
    clips : DataFrame of n_clips rows
        With the machines, and `reason`: why a recording cannot be judged, or "".
    """
    if model.machines is None:
        named = {} if machine_id is None else {"machine_id": machine_id}
        return clips.assign(reason="", **named)
    if machine_id is None:
        pattern = machine_from or model.machine_from
        found = _find_machines(clips, model.machines, model.id_column, pattern)
    else:
        found = [(*_pick_machine(machine_id, model.machines), "")] * len(clips)
    columns = ["machine_type", "machine_id", "reason"]
    return clips.assign(**pd.DataFrame(found, clips.index, columns, dtype=object))


def _find_machines(
    clips: pd.DataFrame, known: list[Machine], column: str, pattern: str | None
) -> list[tuple[str | None, str | None, str]]:
    """Find the machine of each recording among the known ones, or a reason.

    The pattern, or the name or the folders of a recording, state its machine, as in
    training. Folders between the machine's folder and the recording do not matter. If
    they state none, the name may begin with that of a machine. Otherwise the recording
    is assigned to the only known machine. A pattern alone decides if there is one.
    """
    found = []
    ways: Counter[str] = Counter()
    for row in clips.to_dict("records"):
        stated = _state_machine(row, column)
        machine, way = stated if stated in known else None, ""
        if machine is None and pattern is None:
            machine, way = _find_otherwise(Path(row["path"]), stated, known)
        ways[way] += 1
        reason = "" if machine else _explain_unknown(stated, known, column, pattern)
        found.append((*(machine or (None, None)), reason))
    for way, n in ways.items():
        if way:
            note(f"{count(n, 'recording')} {way}")
    return found


def _find_otherwise(
    path: Path, stated: Machine, known: list[Machine]
) -> tuple[Machine | None, str]:
    """Find the machine of a path that does not state it, and how, if this is told."""
    if read_name(path.stem):
        return None, ""
    if machine := _find_in_folders(path, known):
        return machine, ""
    if machine := _find_at_beginning(path.stem, known):
        return machine, "assigned by the beginning of the name"
    if len(known) == 1:
        only = printable(str(known[0]))
        return known[0], f"taken to be of {only}, the only machine that the model knows"
    return _find_by_type(stated, known)


def _find_by_type(stated: Machine, known: list[Machine]) -> tuple[Machine | None, str]:
    """Find the machine that is stated by its type, if the model knows one of it.

    Recordings with the names of the challenge below a folder car_B1 are of car_B1/00,
    and others below such a folder of car_B1.
    """
    found = [one for one in known if one.machine_type == stated.machine_id]
    if len(found) != 1:
        return None, ""
    only = printable(str(found[0]))
    return found[0], f"taken to be of {only}, the only machine of its type"


def _state_machine(row: dict[Any, Any], column: str) -> Machine:
    """Read the machine from a recording's name or its folders."""
    kind, identity = row["machine_type"], row.get(column)
    return Machine(
        None if pd.isna(kind) else str(kind), "" if pd.isna(identity) else str(identity)
    )


def _explain_unknown(
    stated: Machine, known: list[Machine], column: str, pattern: str | None
) -> str:
    """Explain why a recording has no known machine, with the remedy."""
    if not stated.machine_id and pattern is not None:
        return (
            f"has a path that the pattern {pattern!r} does not fit: rename it, name "
            f"its machine with --machine-id, one of {abbreviate(known)}, or give "
            "another pattern with --machine-from"
        )
    if not stated.machine_id:
        return (
            f"has no {column!r} in its name, which tells the model's machines apart: "
            f"name its machine with --machine-id, one of {abbreviate(known)}"
        )
    return (
        f"is of machine {str(stated)!r}, which the model does not know: name it with "
        f"--machine-id, one of {abbreviate(known)}, or fit again with its normal "
        "recordings"
    )


def _pick_machine(name: str, known: list[Machine]) -> Machine:
    """Find the machine that the user names, in full or only by its ID."""
    name = one_form(name)
    found = [one for one in known if name in (str(one), one.machine_id)]
    if len(found) != 1:
        names = [str(one) for one in found or known]
        raise ValueError(
            f"--machine-id {name!r} fits {len(found) or 'no'} machines of the model:"
            f"{did_you_mean(name, names)} name one of {abbreviate(names)}"
        )
    return found[0]


def _find_at_beginning(stem: str, known: list[Machine]) -> Machine | None:
    """Find the one machine with whose ID a file's name begins.

    "pump_1_0800" and "pump_1 left" are of pump_1; "pump_1-2" and "pump_1_2" may be of
    another machine.
    """
    stem = one_form(stem)
    begun = [
        machine
        for machine in known
        if stem.startswith(machine.machine_id)
        and _ENDS_ID.match(stem, len(machine.machine_id))
    ]
    longest = max((len(one.machine_id) for one in begun), default=0)
    found = [one for one in begun if len(one.machine_id) == longest]
    return found[0] if len(found) == 1 else None


def _find_in_folders(path: Path, known: list[Machine]) -> Machine | None:
    """Find the innermost folder that has the name of a machine."""
    # The name of a link counts, and not that of a store that it leads to.
    folders = [one_form(name) for name in os.path.abspath(path).split(os.sep)[:-1]]
    for above, folder in reversed(list(pairwise(folders))):
        for machine in known:
            is_above = machine.machine_type in (None, above)
            if machine.machine_id == folder and is_above:
                return machine
    return None
