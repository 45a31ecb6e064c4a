"""``sklearn-asd fit``: train a model on normal recordings."""

from __future__ import annotations

import os
from typing import Any

import click
import pandas as pd

from sklearn_asd._cli import conventions, recordings, systems
from sklearn_asd._cli.history import hash_files
from sklearn_asd._cli.layouts import check_layout, machine_from_option
from sklearn_asd._cli.models import Pieces, choose_pieces, make_notes, piece_option
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import one_form, printable
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.pieces import cut_into_pieces
from sklearn_asd.meta.structure import walk
from sklearn_asd.persistence import save_model
from sklearn_asd.presets import (
    ID_SYSTEMS,
    NETWORK_DETECTORS,
    PAPER_SYSTEMS,
)

__all__ = ["fit"]

_DEFAULT_OUTPUT = "machines.asd"


@click.command(
    context_settings=conventions.CONTEXT,
)
@click.argument("folder")
@click.option(
    "-o",
    "--output",
    metavar="MODEL",
    show_default=_DEFAULT_OUTPUT,
    help="File to write the model to.",
)
@click.option(
    "--system",
    type=click.Choice(systems.SYSTEMS),
    default="default",
    help="Kind of model; see above.",
)
@click.option(
    "--machine-type",
    "machine_types",
    metavar="TYPE",
    multiple=True,
    help="Train on recordings of this type only; repeat it for more types. For the "
    "paper's systems: the types to judge. Default: all types.",
)
@conventions.id_column_option
@machine_from_option
@click.option(
    "--false-alarm-rate",
    "rate",
    metavar="RATE",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    help="Share of normal recordings that may raise an alarm.",
)
@conventions.sample_rate_option
@conventions.channel_option
@piece_option(
    "Cut longer training recordings into pieces of this length, and learn from each. "
    "Recordings to judge are cut likewise. Default: they are learnt from whole."
)
@click.option(
    "--epochs",
    "max_epochs",
    metavar="N",
    type=click.IntRange(1),
    help="Passes of a network over the recordings. Default: 25, or 100 for the paper's "
    "systems.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(3),
    help="Segments in one training step; choose 32 if recordings are few. Default: 64, "
    "or 256 to 512 for the paper's systems.",
)
@click.option(
    "--device",
    default="auto",
    help="cpu, cuda, or auto: a GPU if there is one.",
)
@click.option(
    "--jobs",
    "n_jobs",
    metavar="N",
    type=int,
    default=-1,
    help="Number of files to read at once; -1: one for each processor.",
)
@click.option(
    "--seed",
    "random_state",
    metavar="N",
    type=click.IntRange(0, 2**31),
    default=0,
    help="Seed of all random choices.",
)
@conventions.quiet_option
def fit(
    folder,
    output,
    system,
    machine_types,
    id_column,
    machine_from,
    rate,
    sample_rate,
    piece,
    **options,
):
    """Train a model on the normal recordings in FOLDER.

    FOLDER holds normal recordings (WAV, FLAC, OGG, MP3, AIFF and others) in one folder
    for each machine, as in pump_3/monday.wav, or for each type and machine, as in
    pump/3/monday.wav, or under the names of the DCASE challenge. If there are folders
    called train, only those are used. Recordings in folders called test, validation,
    anomaly, bad, ng and the like are never used. Thirty recordings of each machine, of
    ten seconds each, are a good start.

    Where folders are dates, or one folder holds all machines, --machine-from says where
    the machine stands in the paths: "{date}/{machine}_{time}" reads car_3 from
    2024-05-01/car_3_0800.flac. The pattern is the end of the paths without .flac. Its
    fields are machine, type (of the machine), date, time, number and names of yours; *
    stands for the rest of a name. The model keeps it for score and evaluate.

    \b
    Systems:
      default    How the spectrum of each machine varies: in its mean, its peaks
                 or its shape, whichever tells the machines apart. Takes seconds,
                 and works for one machine or many.
      ensemble   The same, with three networks that learn to tell the machines
                 apart. Often more accurate. Takes minutes, and needs two
                 machines or more.
      spectrum   Mean and peaks of the spectrum; nothing is chosen. Takes seconds.
      neighbors  The most similar training recording, by mean and peaks. Takes
                 seconds.
      networks   The three networks alone.
      i, ii, iii, iv, baseline
                 The systems of Inoue et al. (2020), for machines of the types
                 ToyCar, ToyConveyor, fan, pump, slider and valve. Each type has
                 networks of its own, and of several types each machine has its
                 own threshold. Take hours without a GPU.

    A recording that cannot be read, is hidden or of another format is named and left
    out. If a folder cannot be listed, nothing is trained.

    \b
    Examples:
      sklearn-asd fit recordings/
      sklearn-asd fit recordings/ -o cars.asd --machine-from "{machine}_{date}"
      sklearn-asd fit recordings/ -o machines.asd --system ensemble
      sklearn-asd fit dcase2020/ -o fan.asd --system ii --machine-type fan
      sklearn-asd fit dcase2020/ -o all.asd --system ii
      sklearn-asd fit toycar2023/ -o cars.asd --id-column car

    \b
    Exit codes:
      0  the model is written
      2  an error, and no model
    """
    id_column = one_form(id_column)
    _check_options(id_column, machine_from)
    found = clips = recordings.read_folder(folder, machine_from)
    output = output or _choose_output()
    conventions.prepare_outputs({"--output": output}, clips["path"])
    clips = recordings.choose_machine_id(clips, id_column)
    wanted = tuple(map(one_form, machine_types))
    judged, types = systems.choose_types(system, clips, wanted)
    clips = recordings.select_training(clips, types, id_column)
    if machine_from is None:
        check_layout(clips)
    if piece is not None:
        clips = _cut(clips, piece)
    _check_enough(system, _count_by_machine(clips))
    conventions.note(_describe(_count_by_machine(clips)))
    options["sample_rate"] = sample_rate or recordings.choose_sample_rate(clips)
    scored = clips
    if system in PAPER_SYSTEMS:
        scored = systems.select_scored(system, judged, clips)
    counts = _count_by_machine(scored)
    detector = systems.make_system(system, judged, counts, rate, options)
    seconds, unusable = conventions.train(detector, clips)
    left_out = _count_used(clips, unusable)
    scored = scored.drop(left_out, errors="ignore")
    _hide_progress(detector)
    pieces = choose_pieces(scored) if piece is None else Pieces(piece)
    save_model(detector, output, _note(id_column, scored, pieces, machine_from))
    name = printable(output)
    used = _describe_used(found, clips.drop(left_out))
    conventions.echo(f"Trained in {seconds:.0f} s on {used}. The model is in {name}.")
    conventions.echo(systems.explain_threshold(detector, rate, counts))
    conventions.echo(f"Now try: sklearn-asd score {name} FILES_OR_FOLDERS")


def _note(column: str, clips: pd.DataFrame, *rest: Any) -> dict[str, Any]:
    """Collect what the model keeps about its recordings, with their SHA-256."""
    notes = make_notes(column, clips, *rest)
    return notes | {"files": hash_files(dict.fromkeys(notes["training"]["path"]))}


def _check_options(id_column: str, machine_from: str | None) -> None:
    if machine_from is not None and id_column != "machine_id":
        raise ValueError(
            f"--id-column {id_column} and --machine-from both say what tells machines "
            "apart: leave out one"
        )


def _choose_output() -> str:
    """Name the model if the user did not, unless that would replace another."""
    if os.path.lexists(_DEFAULT_OUTPUT):
        raise ValueError(
            f"there is a file {_DEFAULT_OUTPUT!r} in this folder: name the model with "
            f"-o, as in -o {_DEFAULT_OUTPUT} to replace it"
        )
    return _DEFAULT_OUTPUT


def _hide_progress(detector: Any) -> None:
    """Leave progress to whoever trains."""
    for one in walk(detector):
        if hasattr(one, "verbose"):
            one.verbose = False


def _count_used(clips: pd.DataFrame, unusable: dict[int, str]) -> pd.Index:
    """Say how many recordings are left; give the labels of those that are not."""
    left_out = clips.index[list(unusable)]
    if not unusable:
        return left_out
    used = _count_by_machine(clips.drop(left_out))
    found = _count_by_machine(clips)
    lines = [
        f"  {printable(label)}  {used.get(label, 0)} of {n}"
        for label, n in found.items()
        if used.get(label, 0) < n
    ]
    text = f"Used: {used.sum()} of {count(len(clips), 'normal recording')}."
    conventions.note("\n".join([text, *lines]))
    return left_out


def _describe_used(found: pd.DataFrame, used: pd.DataFrame) -> str:
    """Count the recordings that were found, and those that were learnt from."""
    n_found, n_used = len(found), used["path"].nunique()
    if n_used == n_found:
        return f"all {count(n_found, 'recording')} found"
    return f"{n_used} of {count(n_found, 'recording')} found"


def _cut(clips: pd.DataFrame, piece: float) -> pd.DataFrame:
    """Cut long training recordings into pieces."""
    pieces = cut_into_pieces(clips, piece).reset_index(drop=True)
    n_cut = pieces.loc[pieces["start"].notna(), "path"].nunique()
    if n_cut == 0:
        return clips
    conventions.note(
        f"{count(n_cut, 'recording')} cut into pieces of {piece:g} s. Pieces of one "
        "recording are alike: with few recordings, expect more false alarms than below."
    )
    return pieces


def _count_by_machine(clips: pd.DataFrame) -> pd.Series:
    return clips.groupby(machine_labels(clips)).size()


def _check_enough(system: str, counts: pd.Series) -> None:
    """Refuse too few recordings or machines, in terms of the command."""
    few = counts[counts < 3]
    if len(few):
        raise ValueError(
            f"machine {few.index[0]!r} has {count(few.iloc[0], 'normal recording')}, "
            "and at least three are needed: add some, or move them elsewhere"
        )
    if system in (*NETWORK_DETECTORS, *ID_SYSTEMS) and len(counts) < 2:
        raise ValueError(
            f"system {system!r} learns to tell machines apart, and all recordings are "
            f"of {counts.index[0]!r}: choose --system default. If an attribute in the "
            "names tells several machines apart, name it with --id-column"
        )


def _describe(counts: pd.Series) -> str:
    total = count(counts.sum(), "normal recording")
    lines = [f"{total} of {count(len(counts), 'machine')}:"]
    return "\n".join(
        lines + [f"  {printable(label)}  {n}" for label, n in counts.items()]
    )
