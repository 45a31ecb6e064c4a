"""From judged recordings to a log, states of machines, lines and commands."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

from sklearn_asd._cli.conventions import echo
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.remarks import condition_of
from sklearn_asd.monitoring.command import EventCommand
from sklearn_asd.monitoring.events import LogEntry, write_time
from sklearn_asd.monitoring.log import N_RECENT, WatchLog
from sklearn_asd.monitoring.rules import AlarmRule, AlarmState

__all__ = ["Heard", "Names", "Stop", "Watch"]

# Seconds between two looks at signals and commands.
_TICK = 0.1

Names = tuple[str | None, str | None]


class Stop:
    """Whether SIGTERM or SIGINT (Ctrl-C) came."""

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Note signals, instead of being ended by them."""
        kinds = (signal.SIGTERM, signal.SIGINT)
        before = {kind: signal.signal(kind, self._note) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True


class Heard(NamedTuple):
    """A recording or a window, judged or unusable.

    `more` are further fields of its line. `says_something` is False for what says
    nothing about the state of a machine.
    """

    entry: LogEntry
    more: dict[str, Any]
    says_something: bool = True


# Saves the sound of an alarm into a folder.
SaveSound = Callable[[LogEntry, Path], None]


class Watch:
    """Takes judged recordings, and tells what becomes of their machines.

    `log` is written first. `rule` decides when a machine changes its state, and a
    machine has no data after `no_data_after` seconds without a recording. `command`
    gets each event. Sounds of alarms go into the folder `keep`. If the disk is full,
    one that `is_patient` waits.
    """

    def __init__(
        self,
        log: WatchLog,
        rule: AlarmRule,
        no_data_after: float,
        stop: Stop,
        command: EventCommand | None = None,
        keep: Path | None = None,
        is_patient: bool = True,
    ) -> None:
        self.log = log
        self.rule = rule
        self.no_data_after = no_data_after
        self.stop = stop
        self.command = command
        self.keep = keep
        self.is_patient = is_patient
        self._names = dict(log.names)
        self._recent = {
            machine: deque(one, N_RECENT) for machine, one in log.recent.items()
        }
        self._heard: dict[str, float] = {}  # by the clock that nobody sets
        self._troubles: set[str] = set()

    def begin(
        self, machines: Mapping[str, Names], grace: float, facts: dict[str, Any]
    ) -> None:
        """Note that a watch begins, and run the commands that a kill prevented.

        Machines have `grace` seconds to be heard before they have no data.
        """
        self._names |= machines
        begun = {"watch": "begins", "runs_commands": self.command is not None}
        self._append([begun | facts])
        now, clock = time.monotonic(), time.time()
        for machine in self._names:
            last = self.log.heard.get(machine, self.log.started or clock)
            silent = min(clock - last, self.no_data_after - grace)
            self._heard[machine] = now - max(0.0, silent)
        if self.command is not None:
            for number, row in self.log.pending.items():
                self.command.add(number, json.dumps(row))

    def take(self, heard: Sequence[Heard], save_sound: SaveSound) -> None:
        """Log recordings in the order of time, and what follows from them."""
        states, rows = dict(self.log.states), []
        for entry, more, says_something in heard:
            if says_something:
                machine = entry.machine or ""
                before = states.get(machine, AlarmState())
                states[machine] = after = self.rule.update(
                    before,
                    entry.time or 0.0,
                    entry.margin,
                    condition_of(entry.remark or ""),
                )
                entry, more = _add_state(entry, more, before.name, after)
                more |= self._hear(entry, save_sound)
            rows.append(entry.as_dict() | more)
        self._publish(rows)

    def take_windows(
        self, entries: Sequence[LogEntry], state: AlarmState, save_sound: SaveSound
    ) -> None:
        """Log windows of a stream, after which its machine is in a state."""
        more = {"alarm_state": dataclasses.asdict(state)}
        self._publish(
            [
                entry.as_dict() | more | self._hear(entry, save_sound)
                for entry in entries
            ]
        )

    def _hear(self, entry: LogEntry, save_sound: SaveSound) -> dict[str, Any]:
        """Note that a machine was heard, and keep the sound of its alarm."""
        machine = entry.machine or ""
        self._names[machine] = entry.machine_type, entry.machine_id
        if entry.verdict:
            self._heard[machine] = time.monotonic()
        kept = {}
        if entry.event == "alarm" and self.keep is not None:
            kept["kept"] = self._keep_sound(self.keep, entry, save_sound)
        self._remember(machine, entry)
        return kept

    def check_silence(self) -> None:
        """Say which machines were not heard for long."""
        rows, clock, now = [], time.time(), time.monotonic()
        for machine, heard in self._heard.items():
            before = self.log.states.get(machine)
            known = before is not None and before.condition == "no data"
            if known or now - heard < self.no_data_after:
                continue
            after = self.rule.update(before or AlarmState(), clock, None, "no data")
            kind, identity = self._names[machine]
            entry = LogEntry(time=clock, machine_type=kind, machine_id=identity)
            previous = before.name if before else None
            entry, more = _add_state(entry, {}, previous, after)
            rows.append(entry.as_dict() | more)
        if rows:
            self._publish(rows)

    def wait(self, seconds: float) -> None:
        """Look after the commands for a time, or until a signal comes."""
        until = time.monotonic() + seconds
        self.look_after_others()
        while not self.stop.came and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _TICK))
            self.look_after_others()

    def finish(self) -> None:
        """Wait for the commands; after a signal only for the one that runs."""
        while self.command is not None and not self.command.is_idle:
            if self.stop.came and not self.command.is_running:
                break  # the next watch runs the others
            self.look_after_commands()
            time.sleep(_TICK)

    def look_after_others(self) -> None:
        """Take acknowledgements from the log; begin and end commands."""
        self.log.catch_up()
        rows = []
        for machine, moment in self.log.acknowledged.items():
            before = self.log.states[machine]
            after = self.rule.acknowledge(before, moment)
            kind, identity = self._names[machine]
            entry = LogEntry(time=moment, machine_type=kind, machine_id=identity)
            entry, more = _add_state(entry, {}, before.name, after)
            rows.append(entry.as_dict() | more)
        if rows:
            self._publish(rows)
        self.look_after_commands()

    def look_after_commands(self) -> None:
        """Begin and end commands, and log how they ended."""
        if self.command is None:
            return
        for number, error in self.command.step(begin=not self.stop.came):
            self._append([{"command_of": number, "error": error or None}])
            if error:
                self.report(f"The command for event {number} failed: {error}")

    def recent(self, machine: str) -> list[tuple[float, str]]:
        """Times and paths of the last recordings of a machine, the oldest first."""
        return list(self._recent.get(machine, ()))

    def report(self, text: str) -> None:
        """Say on standard error what is wrong."""
        echo(printable(f"{write_time(time.time())} {text}"), err=True)

    def report_trouble(self, what: str, error: OSError) -> None:
        """Say that something does not work, once until it does."""
        if what not in self._troubles:
            self.report(f"{what}: {error.strerror or error}")
        self._troubles.add(what)

    def end_trouble(self, what: str) -> None:
        """Say that something works again, if it did not."""
        if what in self._troubles:
            self.report(f"No longer: {what}")
        self._troubles.discard(what)

    def _remember(self, machine: str, entry: LogEntry) -> None:
        if entry.path is not None:
            recent = self._recent.setdefault(machine, deque(maxlen=N_RECENT))
            recent.append((entry.time or 0.0, entry.path))

    def _publish(self, rows: list[dict[str, Any]]) -> None:
        for row in self._append(rows):
            line = json.dumps(row, allow_nan=False)
            self._print(line)
            if row.get("event") and self.command is not None:
                self.command.add(row["number"], line)

    def _print(self, line: str) -> None:
        try:
            click.echo(line)  # flushes
        except BrokenPipeError:  # whoever reads has gone
            raise
        except OSError as error:  # the log has the line
            self.report_trouble("Lines cannot be printed", error)

    def _append(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write to the log, however long it takes until the disk has room."""
        trouble = f"{self.log.path} cannot be written, so nothing is judged"
        while True:
            try:
                written = self.log.append(rows)
            except OSError as error:
                if not self.is_patient or self.stop.came:
                    raise
                self.report_trouble(trouble, error)
                time.sleep(_TICK)
            else:
                self.end_trouble(trouble)
                return written

    def _keep_sound(
        self, keep: Path, entry: LogEntry, save_sound: SaveSound
    ) -> str | None:
        """Save the sound of an alarm; after a kill the next watch does it again."""
        moment = re.sub(r"[^0-9TZ]", "", write_time(entry.time or 0.0))
        machine = re.sub(r"[^\w.-]", "_", entry.machine or "machine")
        folder = keep / f"{moment}_{machine}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_sound(entry, folder)
        except OSError as error:
            self.report(f"The sound of an alarm cannot be kept: {error}")
            return None
        return os.fspath(folder)


def _add_state(
    entry: LogEntry, more: dict[str, Any], previous: str | None, after: AlarmState
) -> tuple[LogEntry, dict[str, Any]]:
    """Add the state of the machine after an entry, and the event if it is new."""
    changes = previous != after.name
    entry = dataclasses.replace(
        entry,
        state=after.name,
        event=after.name if changes else None,
        previous=previous if changes else None,
    )
    return entry, more | {"alarm_state": dataclasses.asdict(after)}
