"""``sklearn-asd watch``: verdicts on recordings as they come, and alarms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import pandas as pd

from sklearn_asd._cli.conventions import (
    CONTEXT,
    be_quiet,
    echo,
    machine_id_option,
)
from sklearn_asd._cli.models import Model, read_model, trust_option
from sklearn_asd._cli.recordings import assign_machines
from sklearn_asd._cli.watch_folder import WatchedFolder
from sklearn_asd._cli.watch_stream import WatchedStream
from sklearn_asd._cli.watching import Names, Stop, Watch
from sklearn_asd._utils.files import check_outputs
from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.folders import describe_recordings
from sklearn_asd.monitoring.command import EventCommand
from sklearn_asd.monitoring.events import LogEntry
from sklearn_asd.monitoring.folder import FolderSource
from sklearn_asd.monitoring.log import WatchLog
from sklearn_asd.monitoring.pcm import FORMATS
from sklearn_asd.monitoring.rules import AlarmRule

__all__ = ["watch"]

_SECONDS = click.FloatRange(0)
_MORE_SECONDS = click.FloatRange(0, min_open=True)


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("source")
@click.option(
    "--log",
    metavar="FILE",
    default="watch.jsonl",
    help="Where each recording is noted; the watch goes on from it.",
)
@click.option(
    "--alarm",
    metavar="K/N",
    default="3/3",
    help="Raise an alarm if K of the last N recordings of a machine are anomalous; of "
    "a stream: K of N windows.",
)
@click.option(
    "--release",
    metavar="MARGIN",
    type=_SECONDS,
    default=0.0,
    help="End an alarm after K of N recordings with at least this margin.",
)
@machine_id_option
@click.option(
    "--run",
    metavar="CMD",
    help="Run a command for each event, with the event as JSON on its standard input.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=_MORE_SECONDS,
    default=30.0,
    help="Kill the command of --run after this time.",
)
@click.option(
    "--keep",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    help="Save the sound of each alarm in a folder of its own, in FOLDER.",
)
@click.option(
    "--before",
    metavar="SECONDS",
    type=_SECONDS,
    default=30.0,
    help="What --keep saves from before the end of the alarm's recording.",
)
@click.option(
    "--every",
    metavar="SECONDS",
    type=_MORE_SECONDS,
    default=5.0,
    help="Time from one look at the folder to the next.",
)
@click.option(
    "--settle",
    metavar="SECONDS",
    type=_SECONDS,
    default=5.0,
    help="Judge a file if its size and time stay the same for this time. 0 is for "
    "recorders that move complete files into the folder.",
)
@click.option(
    "--no-data-after",
    metavar="SECONDS",
    type=_MORE_SECONDS,
    default=3600.0,
    help="Say that a machine has no data after this time without a recording.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Format of raw samples on standard input. Default: WAV.",
)
@click.option(
    "--rate",
    metavar="HZ",
    type=click.IntRange(1),
    help="Sample rate of raw samples.",
)
@click.option(
    "--channels",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    help="Number of channels of raw samples.",
)
@click.option(
    "--window",
    metavar="SECONDS",
    type=_MORE_SECONDS,
    help="Length of the windows of a stream. Default: that of the training recordings.",
)
@click.option(
    "--hop",
    metavar="SECONDS",
    type=_MORE_SECONDS,
    help="Time from the start of a window to that of the next. Default: the window.",
)
@click.option("--once", is_flag=True, help="Judge what is there, and end: for cron.")
@trust_option
@click.pass_context
def watch(context, model, source, log, once, trust, **options):
    """Judge the recordings of a folder, or a stream of sound, as they come.

    SOURCE is a folder that a recorder fills. Files in it, at any depth, are judged once
    they are complete: they do not change any more, and their header says how long they
    are.

    SOURCE is - for a stream on standard input, as of arecord, ffmpeg or sox: a WAV, or
    raw samples with --format and --rate. It is cut into windows as long as the training
    recordings. The watch ends with the stream. The options --every, --settle and --once
    are for folders.

    Prints a JSON object on each line, for each recording and for each change of a
    machine's state, which is an event. The states are normal, suspect (an alarm is
    near), alarm, acknowledged (by sklearn-asd acknowledge), and those in which a
    machine cannot be judged: "no data" (no recording came), "stopped" (far quieter than
    in training) and "bad audio" (such as clipping or dropouts).

    The log has the same lines. It is all that a watch remembers: after a kill, a loss
    of power or a restart it goes on from there, and judges no file twice. A file is
    known by its path, size and time of change. SIGTERM and Ctrl-C end the watch, with
    exit code 0.

    The command of --run is split into words as by a shell, but no shell is run: use
    --run "sh -c '...'" for one. If it fails or hangs, the log says so. Commands run one
    after the other. One that a kill of the watch interrupts is run again later.

    \b
    Examples:
      sklearn-asd watch machines.asd new/
      sklearn-asd watch machines.asd new/ --alarm 3/5 --keep alarms/
      sklearn-asd watch machines.asd new/ --run "mosquitto_pub -t alarms -s"
      sklearn-asd watch machines.asd new/ --once
      arecord -f S16_LE -r 16000 | sklearn-asd watch machines.asd - --machine-id pump_3

    \b
    Exit codes:
      0  the watch was ended, or with --once all was judged
      2  an error
    """
    be_quiet(context)  # no counts and progress for each file
    stop = Stop()
    with stop.listen():
        command = _make_command(options["run"], options["timeout"])
        rule = AlarmRule.parse(options["alarm"], options["release"])
        loaded = read_model(model, trust)
        check_outputs({"--log": log}, [model])
        file = WatchLog(log)
        try:
            watch = Watch(
                file,
                rule,
                options["no_data_after"],
                stop,
                command,
                options["keep"],
                is_patient=not once,
            )
            _say_what_was_wrong(watch)
            facts: dict[str, Any] = {"model": os.path.abspath(model), "source": source}
            machines = _expect_machines(loaded, options["machine_id"])
            facts |= {"rule": str(rule)}
            facts |= {"no_data_after": options["no_data_after"]}
            if source == "-":
                name, names = _choose_machine(machines)
                watch.begin({name: names}, options["no_data_after"], facts)
                WatchedStream(watch, loaded, name or None, options).run()
            else:
                grace = 0.0 if once else options["settle"] + 2 * options["every"]
                watch.begin(machines, grace, facts)
                if not once:
                    _say_what_is_watched(watch, machines, source)
                folder = FolderSource(
                    source, options["settle"], options["no_data_after"]
                )
                WatchedFolder(watch, folder, loaded, options).run(once)
            watch.finish()
        finally:
            file.close()


def _make_command(run: str | None, timeout: float) -> EventCommand | None:
    return None if run is None else EventCommand(run, timeout)


def _expect_machines(model: Model, machine_id: str | None) -> dict[str, Names]:
    """List the machines that should be heard, by their names."""
    known: list[Any] = list(model.machines or [])
    if machine_id is not None:  # raises an error if the model does not know it
        named = assign_machines(describe_recordings(["any"]), model, machine_id)
        row = named.iloc[0]
        known = [(row["machine_type"], row["machine_id"])]
    names: list[Names] = [
        (None if pd.isna(kind) else kind, None if pd.isna(identity) else identity)
        for kind, identity in known
    ]
    entries = [LogEntry(machine_type=kind, machine_id=one) for kind, one in names]
    return dict(zip((one.machine or "" for one in entries), names, strict=True))


def _say_what_was_wrong(watch: Watch) -> None:
    log = watch.log
    if log.n_repaired:
        watch.report(
            f"{log.path} ended within a line, which is removed: its recording is "
            "judged again"
        )
    if log.n_foreign:
        watch.report(
            f"{log.path} has {count(log.n_foreign, 'line')} that no watch wrote, which "
            "are passed over"
        )


def _choose_machine(machines: dict[str, Names]) -> tuple[str, Names]:
    """Choose the machine of a stream."""
    if len(machines) > 1:
        raise ValueError(
            f"the model knows {count(len(machines), 'machine')}: name the one of the "
            f"stream with --machine-id, one of {abbreviate(list(machines))}"
        )
    return next(iter(machines.items()), ("", (None, None)))


def _say_what_is_watched(watch: Watch, machines: dict[str, Names], source: str) -> None:
    whose = f" for {count(len(machines), 'machine')}" if machines else ""
    n_files = count(len(watch.log.files), "file")
    text = (
        f"Watching {source}{whose}. Alarm: {watch.rule} recordings. Log: "
        f"{watch.log.path}, with {n_files} judged before."
    )
    echo(printable(text), err=True)
