"""``sklearn-asd watch``: verdicts on recordings as they come, and alarms."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd

from sklearn_asd._cli.conventions import CONTEXT, echo, keep_quiet
from sklearn_asd._cli.models import Model, read_model, trust_option
from sklearn_asd._cli.recordings import assign_machines
from sklearn_asd._cli.verdicts import BLOCK, UNUSABLE, judge
from sklearn_asd._cli.watching import Heard, Names, Stop, Watch
from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.folders import describe_recordings
from sklearn_asd.monitoring.command import EventCommand
from sklearn_asd.monitoring.events import LogEntry
from sklearn_asd.monitoring.folder import FolderSource, FoundFile, read_stamp
from sklearn_asd.monitoring.log import WatchLog
from sklearn_asd.monitoring.rules import AlarmRule

__all__ = ["watch"]

_SECONDS = click.FloatRange(0)
_MORE_SECONDS = click.FloatRange(0, min_open=True)


def _read_rule(context: click.Context, _: click.Parameter, text: str) -> AlarmRule:
    return AlarmRule.parse(text)


@click.command(context_settings=CONTEXT, short_help="Judge recordings as they come.")
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
    callback=_read_rule,
    help="Raise an alarm if K of the last N recordings of a machine are anomalous.",
)
@click.option(
    "--machine-id",
    metavar="ID",
    help="Machine of all recordings, as ID or TYPE/ID. Default: the one in their names "
    "or folders.",
)
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
    type=click.Path(file_okay=False, path_type=Path),
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
@click.option("--once", is_flag=True, help="Judge what is there, and end: for cron.")
@trust_option
@click.pass_context
def watch(context, model, source, log, once, trust, **options):
    """Judge the recordings that a recorder puts into a folder, as they come.

    SOURCE is the folder. Files in it, at any depth, are judged once they are complete:
    they do not change any more, and their header says how long they are.

    Prints a JSON object on each line, for each recording and for each change of a
    machine's state, which is an event. The states are normal, suspect (an alarm is
    near), alarm, and those in which a machine cannot be judged: "no data" (no
    recording came), "stopped" (far quieter than in training) and "bad audio" (such as
    clipping or dropouts).

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

    \b
    Exit codes:
      0  the watch was ended, or with --once all was judged
      2  an error
    """
    keep_quiet(context, None, True)  # no counts and progress for each file
    stop = Stop()
    with stop.listen():
        command = _make_command(options["run"], options["timeout"])
        loaded = read_model(model, trust)
        file = WatchLog(log)
        try:
            watch = Watch(
                file,
                options["alarm"],
                options["no_data_after"],
                stop,
                command,
                options["keep"],
                is_patient=not once,
            )
            _say_what_was_wrong(watch)
            facts = {"model": os.path.abspath(model), "source": source}
            machines = _expect_machines(loaded, options["machine_id"])
            grace = 0.0 if once else options["settle"] + 2 * options["every"]
            watch.begin(machines, grace, facts | {"rule": str(options["alarm"])})
            if not once:
                _say_what_is_watched(watch, loaded, source)
            folder = FolderSource(source, options["settle"], options["no_data_after"])
            _Folder(watch, folder, loaded, options).run(once)
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
    names = [tuple(None if pd.isna(name) else name for name in one) for one in known]
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


def _say_what_is_watched(watch: Watch, model: Model, source: str) -> None:
    n_machines = len(model.machines or [None])
    echo(
        printable(
            f"Watching {source} for {count(n_machines, 'machine')}. Alarm: "
            f"{watch.rule} recordings. Log: {watch.log.path}, with "
            f"{count(len(watch.log.files), 'file')} judged before."
        ),
        err=True,
    )


class _Folder:
    """A folder that is watched with a model."""

    def __init__(
        self, watch: Watch, folder: FolderSource, model: Model, options: dict[str, Any]
    ) -> None:
        self.watch = watch
        self.folder = folder
        self.model = model
        self.options = options

    def run(self, once: bool) -> None:
        """Look at the folder until a signal comes, or once."""
        stop = self.watch.stop
        if once:
            self.folder.find(self.watch.log.files)  # to see what changes
            self.watch.wait(self.options["settle"])
        while not stop.came:
            self._judge(self._find(once))
            if stop.came:
                break
            self.watch.check_silence()
            if once:
                break
            self.watch.wait(self.options["every"])

    def _find(self, once: bool) -> list[FoundFile]:
        trouble = f"{self.folder.folder} cannot be listed"
        try:
            files = self.folder.find(self.watch.log.files)
        except OSError as error:
            if once:
                raise
            self.watch.report_trouble(trouble, error)
            return []
        self.watch.end_trouble(trouble)
        return files

    def _judge(self, files: Sequence[FoundFile]) -> None:
        for start in range(0, len(files), BLOCK):
            if self.watch.stop.came:
                return
            self._judge_block(files[start : start + BLOCK])
            self.watch.look_after_commands()

    def _judge_block(self, files: Sequence[FoundFile]) -> None:
        stamps = {file.path: file.stamp for file in files}
        unusable = {file.path: file.reason for file in files if file.reason}
        clips = describe_recordings(stamps, self.folder.folder)
        clips = assign_machines(clips, self.model, self.options["machine_id"])
        has_machine = set(clips.loc[clips["reason"] == "", "path"])
        for path, reason in unusable.items():
            clips.loc[clips["path"] == path, "reason"] = reason
        judged, _ = judge(self.model.detector, clips)
        heard = []
        for row in judged.itertuples():
            stamp = stamps[row.path]
            # A file that is gone, perhaps with its drive, was not judged.
            if row.verdict == UNUSABLE and read_stamp(row.path) != stamp:
                continue
            more = {"size": stamp.size, "mtime_ns": stamp.mtime_ns}
            says_something = row.path in has_machine and row.path not in unusable
            heard.append(Heard(_make_entry(row, stamp), more, says_something))
        self.watch.take(heard, self._save_sound)

    def _save_sound(self, entry: LogEntry, folder: Path) -> None:
        """Copy the recording of an alarm and those before it."""
        recent = self.watch.recent(entry.machine or "")
        first = (entry.time or 0.0) - self.options["before"]
        paths = [path for time, path in recent if time >= first]
        for number, path in enumerate([*paths, str(entry.path)]):
            if os.path.exists(path):
                target = folder / f"{number:02d}_{os.path.basename(path)}"
                with replacing(target) as file:
                    file.write(Path(path).read_bytes())


def _make_entry(row: Any, stamp: Any) -> LogEntry:
    """Give a row of `judge` the form of the log; its time is that of the file."""
    known = {
        name: None if pd.isna(value) or value == "" else value
        for name, value in row._asdict().items()
        if name in LogEntry.__dataclass_fields__
    }
    return LogEntry(**known | {"time": stamp.mtime_ns / 1e9})
