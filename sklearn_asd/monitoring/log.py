"""The log of a watch: what was judged, which is all that a watch remembers.

Others may append to it that somebody knows of an alarm (:func:`acknowledge`).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

import filelock

from sklearn_asd.monitoring.events import write_time
from sklearn_asd.monitoring.folder import Stamp
from sklearn_asd.monitoring.rules import AlarmState

__all__ = ["N_RECENT", "WatchLog", "acknowledge", "read_states"]

# Bytes read at a time from the end of a log, to find its last whole line.
_BLOCK = 2**16

# A log begins so. No line is longer than this, as names of files are not.
_START, _LONGEST_LINE = b'{"watch": "begins"', 2**20

# Recordings of a machine whose paths are remembered, to keep the sound of alarms.
N_RECENT = 100


class WatchLog:
    """A file of JSON lines that is only appended to.

    A watch that is killed goes on from its log. A line is a judged recording with the
    state of its machine, a change of state, the end of a command, or the start of a
    watch. A line is on the disk before anything else happens. One that was half
    written, by a kill or a full disk, is removed: its recording is judged again.

    Parameters
    ----------
    path : str or path-like
        The file, which is made if there is none. Beside it lies a file with ".lock" at
        the end of its name.

    Attributes
    ----------
    files : dict of str to Stamp
        Judged files, with their size and time of change then.

    states : dict of str to AlarmState
        State of each machine, by its name.

    names : dict of str to tuple of (str or None, str or None)
        Type and ID of each machine.

    recent : dict of str to deque of (float, str)
        Times and paths of the last recordings of each machine, at most 100.

    heard : dict of str to float
        When a recording of each machine was last judged, in s since 1970-01-01 UTC.

    started : float or None
        When the first watch began.

    pending : dict of int to dict
        Events whose command has not ended, by their number.

    acknowledged : dict of str to float
        Machines whose alarm somebody knows of, and since when, as others have noted;
        until their state says so too.

    n_events : int
        Number of the last event.

    n_repaired : int
        Bytes of a half-written line that were removed when the log was opened.

    n_foreign : int
        Lines that are not of a watch, and were passed over.

    Raises
    ------
    OSError
        If the file cannot be written.

    ValueError
        If another watch writes to it, or it is a file of another kind.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self.files: dict[str, Stamp] = {}
        self.states: dict[str, AlarmState] = {}
        self.names: dict[str, tuple[str | None, str | None]] = {}
        self.recent: dict[str, deque[tuple[float, str]]] = {}
        self.heard: dict[str, float] = {}
        self.started: float | None = None
        self.pending: dict[int, dict[str, Any]] = {}
        self.acknowledged: dict[str, float] = {}
        self.n_events = self.n_repaired = self.n_foreign = 0
        self._runs_commands = False
        self._lock = filelock.FileLock(f"{self.path}.lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ValueError(
                f"another watch writes to {self.path!r}: stop it, or name another log"
            ) from error
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
            self._refuse_unless_a_log()
            self._size = self._repair()
            self._read()
        except BaseException:
            self._lock.release()
            raise

    def append(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write rows to the disk, and take them into memory; all of them or none.

        Parameters
        ----------
        rows : iterable of dict
            Of what JSON can hold.

        Returns
        -------
        rows : list of dict
            As they were written: with `logged`, the time, and the `number` of events.

        Raises
        ------
        OSError
            If they could not be written. The log is as before.
        """
        self.catch_up()
        rows = self._number(rows)
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        if os.fstat(self._file.fileno()).st_size > self._size:
            # Another process could not finish its line, which would swallow the first.
            lines = b"\n" + lines
        try:
            self._write(lines)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._size)
            raise
        end = self._file.tell()
        self._take_between(self._size, end - len(lines))
        self._size = end
        for row in rows:
            self._take(row)
        return rows

    def catch_up(self) -> None:
        """Read what others have appended since; this is quick where there is nothing.

        Raises
        ------
        OSError
            If the log cannot be read.
        """
        if os.fstat(self._file.fileno()).st_size <= self._size:
            return
        self._size += self._take_between(self._size, None)

    def _take_between(self, start: int, stop: int | None) -> int:
        """Remember what others have appended, and return its size in bytes."""
        if start == stop:
            return 0
        with open(self.path, "rb") as file:
            file.seek(start)
            content = file.read(-1 if stop is None else stop - start)
        whole = content[: content.rfind(b"\n") + 1]  # a line may be being written
        for line in whole.splitlines(keepends=True):
            self._take_line(line)
        return len(whole)

    def close(self) -> None:
        """Let other watches have the log."""
        self._file.close()
        self._lock.release()

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        while left:  # a full disk takes a part
            left = left[self._file.write(left) :]

    def _number(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        number, now, numbered = self.n_events, write_time(time.time()), []
        for row in rows:
            number += bool(row.get("event"))
            own = {"number": number} if row.get("event") else {}
            numbered.append({**row, **own, "logged": now})
        return numbered

    def _refuse_unless_a_log(self) -> None:
        """Leave a file alone that no watch wrote."""
        self._file.seek(0)
        first, end, _ = self._file.read(_LONGEST_LINE).partition(b"\n")
        if end:
            try:
                fine = "logged" in json.loads(first)
            except (ValueError, TypeError):
                fine = False
        else:  # empty, or half a line
            fine = _START.startswith(first[: len(_START)])
        if not fine:
            self._file.close()
            raise ValueError(f"{self.path!r} is not the log of a watch: name another")

    def _repair(self) -> int:
        """Remove a last line without an end, and return the size of the rest."""
        n_bytes = size = self._file.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - _BLOCK)
            self._file.seek(start)
            end = self._file.read(size - start).rfind(b"\n")
            if end >= 0:
                size = start + end + 1
                break
            size = start
        if size < n_bytes:
            self._file.truncate(size)
        self.n_repaired = n_bytes - size
        return size

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            for line in file:
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        try:
            self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            self.n_foreign += 1

    def _take(self, row: dict[str, Any]) -> None:
        """Remember what a row says."""
        logged = datetime.fromisoformat(row["logged"]).timestamp()
        if "watch" in row:
            self.started = logged if self.started is None else self.started
            self._runs_commands = row["runs_commands"]
        elif "command_of" in row:
            self.pending.pop(row["command_of"], None)
        elif "acknowledges" in row:
            if self.states[row["acknowledges"]].alarm == "alarm":
                self.acknowledged[row["acknowledges"]] = logged
        else:
            self._take_window(row, logged)

    def _take_window(self, row: dict[str, Any], logged: float) -> None:
        if "size" in row:
            self.files[row["path"]] = Stamp(row["size"], row["mtime_ns"])
        if row.get("alarm_state"):
            machine = row["machine"] or ""
            state = self.states[machine] = AlarmState.from_dict(row["alarm_state"])
            self.names[machine] = row["machine_type"], row["machine_id"]
            if state.alarm != "alarm":
                self.acknowledged.pop(machine, None)
            if row["verdict"]:
                self.heard[machine] = logged
                self._remember(machine, row)
        if row["event"]:
            self.n_events = row["number"]
            if self._runs_commands:
                self.pending[row["number"]] = row

    def _remember(self, machine: str, row: dict[str, Any]) -> None:
        if "mtime_ns" in row:
            recent = self.recent.setdefault(machine, deque(maxlen=N_RECENT))
            recent.append((row["mtime_ns"] / 1e9, row["path"]))


def read_states(path: str | os.PathLike[str]) -> dict[str, AlarmState]:
    """Read in which state each machine is, while a watch may go on.

    Parameters
    ----------
    path : str or path-like
        The log of a watch.

    Returns
    -------
    states : dict of str to AlarmState
        By the names of the machines; "" if the log names none.

    Raises
    ------
    OSError
        If the file cannot be read.

    ValueError
        If it is not the log of a watch.
    """
    states: dict[str, AlarmState] = {}
    is_log = False
    with open(path, "rb") as file:
        for line in file:
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                row = json.loads(line)
                is_log |= "logged" in row
                if row.get("alarm_state"):
                    state = AlarmState.from_dict(row["alarm_state"])
                    states[row["machine"] or ""] = state
    if not is_log:
        raise ValueError(
            f"{os.fspath(path)!r} is not the log of a watch: name the file of --log"
        )
    return states


def acknowledge(path: str | os.PathLike[str], machines: Iterable[str]) -> None:
    """Note in the log of a watch, which may go on, that somebody knows of alarms.

    The watch, or the next one, then changes the states of the machines.

    Parameters
    ----------
    path : str or path-like
        The log.

    machines : iterable of str
        Machines in alarm, as in :func:`read_states`.

    Raises
    ------
    OSError
        If the log cannot be written.
    """
    now = write_time(time.time())
    rows = [{"acknowledges": one, "logged": now} for one in machines]
    with open(path, "r+b", buffering=0) as file:
        # One that a kill has cut would swallow the line.
        file.seek(-1, os.SEEK_END)
        start = b"" if file.read(1) == b"\n" else b"\n"
    lines = start + b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    with open(path, "ab", buffering=0) as file:
        # At once, so that no line of the watch comes between.
        if file.write(lines) < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        os.fsync(file.fileno())
