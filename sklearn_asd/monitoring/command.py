"""A command of the user that gets each event."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from typing import NamedTuple

__all__ = ["Ended", "EventCommand"]

# Bytes of what a failed command said that are kept.
_KEPT = 500


class Ended(NamedTuple):
    """How a command ended.

    Attributes
    ----------
    number : int
        That of the event.

    error : str
        Why it failed, or "".
    """

    number: int
    error: str


class EventCommand:
    """Runs a command for one event after the other, beside the watch.

    No shell is involved, so nothing in the name of a file can run: the command is split
    into words once, as a shell splits them, and the event goes to its standard input.

    Parameters
    ----------
    command : str
        The command, such as ``"mosquitto_pub -t alarms -s"``. For a pipe or a variable,
        name the shell: ``"sh -c 'jq .machine | wall'"``.

    timeout : float > 0
        Time in s after which it is killed, with the processes that it began.

    Raises
    ------
    ValueError
        If the command is empty, or its quotes do not match.
    """

    def __init__(self, command: str, timeout: float) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ValueError(
                f"the command {command!r} cannot be split into words ({error}): close "
                "its quotes"
            ) from error
        if not self.words:
            raise ValueError("the command is empty: name a program")
        self.timeout = timeout
        self._waiting: list[tuple[int, bytes]] = []
        self._running: _Running | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no command runs, and none waits."""
        return self._running is None and not self._waiting

    def add(self, number: int, line: str) -> None:
        """Run the command after those that were added before.

        Parameters
        ----------
        number : int
            That of the event.

        line : str
            The event, in JSON.
        """
        self._waiting.append((number, line.encode() + b"\n"))

    def step(self, begin: bool = True) -> list[Ended]:
        """Look after the commands; this never waits.

        Parameters
        ----------
        begin : bool, default=True
            Whether to begin the next one.

        Returns
        -------
        ended : list of Ended
            Those that have ended since.
        """
        ended = []
        if self._running is not None:
            error = self._running.check()
            if error is not None:
                ended.append(Ended(self._running.number, error))
                self._running = None
        if begin and self._running is None and self._waiting:
            number, line = self._waiting.pop(0)
            try:
                self._running = _Running(self.words, number, line, self.timeout)
            except OSError as error:
                ended.append(Ended(number, f"cannot be run: {error}"))
        return ended

    @property
    def is_running(self) -> bool:
        """Whether a command runs."""
        return self._running is not None


class _Running:
    """A process of the command."""

    def __init__(
        self, words: list[str], number: int, line: bytes, timeout: float
    ) -> None:
        self.number = number
        self._timeout = timeout
        self._until = time.monotonic() + timeout
        # Files, as a process that does not read would block a pipe.
        with ExitStack() as stack:
            event = stack.enter_context(tempfile.TemporaryFile())
            event.write(line)
            event.seek(0)
            self._output = stack.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                words,
                stdin=event,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,  # to end all that it begins
            )
            stack.pop_all()
            event.close()

    def check(self) -> str | None:
        """Say why the process failed, "" if it did not, and None while it runs."""
        code = self._process.poll()
        if code is None and time.monotonic() < self._until:
            return None
        if code is None:
            self._kill()
            said = f"was killed after {self._timeout:g} s"
        else:
            said = f"exit code {code}" if code else ""
        self._output.seek(0)
        text = self._output.read(_KEPT).decode(errors="replace").strip()
        self._output.close()
        return f"{said}: {text}" if said and text else said

    def _kill(self) -> None:
        if os.name == "posix":
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
