"""``sklearn-asd fit``: from normal recordings to a model."""

from __future__ import annotations

import contextlib
import sys
import time

import click
import pandas as pd

from sklearn_asd._cli.conventions import CONTEXT, Failure, check_writable
from sklearn_asd._cli.models import Model, save_model
from sklearn_asd._cli.recordings import (
    choose_machine_id,
    choose_sample_rate,
    keep_names,
    list_machines,
    select_training,
)
from sklearn_asd._cli.systems import (
    SYSTEMS,
    Settings,
    choose_types,
    explain_threshold,
    make_system,
)
from sklearn_asd._utils.messages import count
from sklearn_asd.audio import load_clips
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.presets import ID_SYSTEMS, PAPER_SYSTEMS, scored_types

__all__ = ["fit"]


@click.command(context_settings=CONTEXT)
@click.argument("folder")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="MODEL",
    help="File to write the model to, such as machines.joblib.",
)
@click.option(
    "--system",
    type=click.Choice(SYSTEMS),
    default="spectrum",
    show_default=True,
    help="What to learn; see above.",
)
@click.option(
    "--machine-type",
    "machine_types",
    metavar="TYPE",
    multiple=True,
    help="Learn recordings of this type only; may be given several times. For the "
    "paper's systems, the type to judge. Default: all there are.",
)
@click.option(
    "--id-column",
    metavar="NAME",
    default="machine_id",
    help="What tells machines apart: an attribute in the files' names, such as car. "
    "Default: the ID in the names, or the folders.",
)
@click.option(
    "--false-alarm-rate",
    metavar="RATE",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Share of normal recordings that may be called anomalous.",
)
@click.option(
    "--sample-rate",
    metavar="HZ",
    type=click.FloatRange(0, min_open=True),
    help="Of the analysis: the recordings' own, or less. Default: 16000, or the "
    "highest among the recordings if that is less.",
)
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(1),
    help="Passes of networks over the recordings. Default: 25; the paper's, 100.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(3),
    help="Segments that a network learns from at a time; 32 if recordings are few. "
    "Default: 64; the paper's, 256 to 512.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, or auto: a GPU if there is one.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=int,
    default=-1,
    help="Files read at a time. Default: as many as there are processors.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**31),
    default=0,
    show_default=True,
    help="Decides all that is random.",
)
def fit(folder, output, system, machine_types, id_column, **settings):
    """Learn what the machines in FOLDER sound like, and write a model.

    FOLDER holds normal recordings (WAV or FLAC) in one folder for each machine, as in
    pump_3/monday.wav, or for each type and machine, as in pump/3/monday.wav, or under
    the names of the DCASE challenge. If there are folders called train, only those are
    learnt from. Recordings in folders called test, anomaly or abnormal never are.
    Thirty recordings of each machine, of ten seconds each, are a good start.

    \b
    Systems:
      spectrum  The mean spectrum of each machine, and how it varies. Takes seconds,
                works for one machine or many, and sets a threshold for each.
      ensemble  The same, and three networks that learn to tell the machines apart.
                Often more accurate. Takes minutes, and needs two machines or more.
      i, ii, iii, iv, baseline
                The systems of Inoue et al. (2020), for machines of the types ToyCar,
                ToyConveyor, fan, pump, slider and valve. Take hours without a GPU.

    A recording that cannot be read is named and left out.

    \b
    Examples:
      sklearn-asd fit recordings/ -o machines.joblib
      sklearn-asd fit recordings/ -o machines.joblib --system ensemble
      sklearn-asd fit dcase2020/ -o fan.joblib --system ii --machine-type fan
      sklearn-asd fit toycar2023/ -o cars.joblib --id-column car

    \b
    Exit codes:
      0  the model is written
      2  an error, and no model
    """
    check_writable(output)
    settings = Settings(**settings)
    clips = choose_machine_id(load_clips(folder), id_column)
    judged_type, types = choose_types(system, clips["machine_type"], machine_types)
    train, left_out = select_training(clips, types, id_column)
    if left_out:
        click.echo(f"Not learnt from: {', '.join(left_out)}.", err=True)
    _check_enough(system, _count_by_machine(train))
    click.echo(_describe(_count_by_machine(train)), err=True)
    if settings.sample_rate is None:
        settings = settings._replace(sample_rate=choose_sample_rate(train))
    scored = train
    if system in PAPER_SYSTEMS:
        types = scored_types(judged_type, system)
        scored = train[train["machine_type"].isin(types)]
    counts = _count_by_machine(scored)
    detector = make_system(system, judged_type, counts, settings)
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # where progress belongs
        detector.fit(train)
    seconds = time.perf_counter() - started
    save_model(
        Model(detector, id_column, list_machines(scored), keep_names(scored)), output
    )
    click.echo(f"Learnt in {seconds:.0f} s, and written to {output}.")
    click.echo(explain_threshold(detector, settings.false_alarm_rate, counts))
    click.echo(f"Now try: sklearn-asd score {output} FILES_OR_FOLDERS")


def _count_by_machine(clips: pd.DataFrame) -> pd.Series:
    return clips.groupby(machine_labels(clips)).size()


def _check_enough(system: str, counts: pd.Series) -> None:
    """Say what the library would say in its own terms."""
    few = counts[counts < 3]
    if len(few):
        raise Failure(
            f"machine {few.index[0]!r} has {count(few.iloc[0], 'normal recording')}, "
            "and three are needed at least: add some, or move them elsewhere"
        )
    if system in ("ensemble", *ID_SYSTEMS) and len(counts) < 2:
        raise Failure(
            f"system {system!r} learns to tell machines apart, and all recordings are "
            f"of {counts.index[0]!r}: choose --system spectrum. If it is several "
            "machines that an attribute in the names tells apart, name that with "
            "--id-column"
        )


def _describe(counts: pd.Series) -> str:
    total = count(counts.sum(), "normal recording")
    lines = [f"{total} of {count(len(counts), 'machine')}:"]
    return "\n".join(lines + [f"  {label}  {n}" for label, n in counts.items()])
