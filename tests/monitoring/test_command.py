"""A command for each event: real processes, which fail and hang too."""

import json
import os
import sys
import time

import pytest

from sklearn_asd.monitoring.command import EventCommand

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")


def run_all(command):
    ended = []
    while not command.is_idle:
        ended += command.step()
        time.sleep(0.01)
    return ended


@posix
def test_events_come_in_their_order_and_no_shell_sees_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = EventCommand("sh -c 'sleep 0.0$0; cat >> all.txt' 1", timeout=60)
    lines = [json.dumps({"path": name}) for name in ("$(touch x)", "`y`", "'; z", "é")]
    for number, line in enumerate(lines):
        command.add(number, line)
    assert run_all(command) == [(number, "") for number in range(4)]
    assert (tmp_path / "all.txt").read_text().splitlines() == lines
    assert os.listdir() == ["all.txt"]


@posix
def test_a_command_that_fails_or_hangs_is_noted_with_what_it_said(tmp_path):
    fails = EventCommand("sh -c 'echo no broker >&2; exit 3'", timeout=60)
    fails.add(7, "{}")
    assert run_all(fails) == [(7, "exit code 3: no broker")]
    hangs = EventCommand(f"sh -c 'sleep 600 & echo $! > {tmp_path}/id; wait'", 0.3)
    hangs.add(8, "{}")
    assert run_all(hangs) == [(8, "was killed after 0.3 s")]
    child = int((tmp_path / "id").read_text())
    for _ in range(600):  # until init has collected what was killed with it
        if not os.path.exists(f"/proc/{child}") or is_zombie(child):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the command's own process lives on")
    missing = EventCommand("there-is-no-such-program", 1)
    missing.add(9, "{}")
    ((number, error),) = run_all(missing)
    assert number == 9
    assert "cannot be run" in error


def is_zombie(process):
    with open(f"/proc/{process}/stat") as file:
        return ") Z " in file.read()


@pytest.mark.parametrize("text", ["", "  ", "echo 'a"])
def test_what_is_no_command_is_refused(text):
    with pytest.raises(ValueError, match="command"):
        EventCommand(text, 1)
