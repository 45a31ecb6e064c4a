"""The log of a watch: whole lines, or none."""

import dataclasses
import io
import json

import pytest

from sklearn_asd.monitoring import AlarmState, LogEntry
from sklearn_asd.monitoring.folder import Stamp
from sklearn_asd.monitoring.log import WatchLog, acknowledge, read_states

STATE = AlarmState("suspect", "", (1, -1), 5.0)


LINE = (
    b'{"watch": "begins", "runs_commands": true, '
    b'"logged": "2026-01-01T00:00:00.000Z"}\n'
)


def make_row(path="a.wav", event=None):
    entry = LogEntry(time=7.0, path=path, machine_id="m", verdict="normal", event=event)
    more = {"size": 3, "mtime_ns": 7 * 10**9}
    return entry.as_dict() | more | {"alarm_state": dataclasses.asdict(STATE)}


def test_a_log_that_is_opened_again_knows_what_was_written(tmp_path):
    log = WatchLog(tmp_path / "log")
    log.append([{"watch": "begins", "runs_commands": True}])
    written = log.append([make_row(event="normal"), make_row("b.wav", "suspect")])
    assert [row["number"] for row in written] == [1, 2]
    log.append([{"command_of": 1, "error": None}])
    log.close()
    again = WatchLog(tmp_path / "log")
    assert again.files == {"a.wav": Stamp(3, 7 * 10**9), "b.wav": Stamp(3, 7 * 10**9)}
    assert again.states == {"m": STATE}
    assert again.names == {"m": (None, "m")}
    assert list(again.recent["m"]) == [(7.0, "a.wav"), (7.0, "b.wav")]
    assert again.pending == {2: json.loads(json.dumps(written[1]))}
    assert (again.n_events, again.n_repaired, again.n_foreign) == (2, 0, 0)
    assert again.started is not None
    again.close()


def test_rows_that_do_not_fit_leave_no_trace(tmp_path, monkeypatch):
    log = WatchLog(tmp_path / "log")
    log.append([make_row()])
    before = (tmp_path / "log").read_bytes()

    class FullDisk:
        """Takes ten bytes more."""

        def __init__(self, file):
            self.file, self.left = file, 10

        def write(self, content):
            if not self.left:
                raise OSError(28, "No space left on device")
            n_bytes = self.file.write(content[: self.left])
            self.left -= n_bytes
            return n_bytes

        def __getattr__(self, name):
            return getattr(self.file, name)

    file = log._file
    log._file = FullDisk(file)
    with pytest.raises(OSError, match="No space left"):
        log.append([make_row("b.wav", "alarm")])
    assert (tmp_path / "log").read_bytes() == before
    assert (set(log.files), log.n_events) == ({"a.wav"}, 0)
    log._file = file
    log.append([make_row("b.wav", "alarm")])
    assert (set(log.files), log.n_events) == ({"a.wav", "b.wav"}, 1)
    log.close()


def test_lines_of_others_are_counted_and_passed_over(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(
        LINE + b'no JSON\n{"a": 1}\n[2]\n\xff\xfe\nnull\n{"logged": "x"}\nhalf'
    )
    log = WatchLog(path)
    assert (log.n_foreign, log.n_repaired, log.files) == (6, 4, {})
    log.append([make_row()])
    log.close()
    assert path.read_bytes().count(b"\n") == 8


@pytest.mark.parametrize("n_bytes", [1, 2**16 - 1, 2**16, 2**16 + 1, 3 * 2**16])
def test_a_half_line_of_any_length_is_removed(tmp_path, n_bytes):
    half = (LINE[:-1] + n_bytes * b"x")[:n_bytes]
    for start in (b"", LINE):
        (tmp_path / "log").write_bytes(start + half)
        log = WatchLog(tmp_path / "log")
        log.close()
        assert log.n_repaired == n_bytes
        assert (tmp_path / "log").read_bytes() == start


def test_one_watch_at_a_time_writes(tmp_path):
    log = WatchLog(tmp_path / "log")
    with pytest.raises(ValueError, match="another watch writes to"):
        WatchLog(tmp_path / "log")
    log.close()
    WatchLog(tmp_path / "log").close()


@pytest.mark.parametrize(
    "content", [b"RIFF\n1234", b"{}\n", b'{"a": 1', b"[1]\n", b"x"]
)
def test_a_file_of_another_kind_is_left_alone(tmp_path, content):
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not the log of a watch: name another"):
        WatchLog(path)
    assert path.read_bytes() == content


ALARM = AlarmState("alarm", "", (), 5.0)


def test_what_others_append_is_read_wherever_it_comes(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = WatchLog(path)
    row = make_row(event="alarm") | {"alarm_state": dataclasses.asdict(ALARM)}
    log.append([{"watch": "begins", "runs_commands": True}, row])
    assert read_states(path) == {"m": ALARM}
    acknowledge(path, ["m"])
    log.catch_up()
    (moment,) = log.acknowledged.values()
    assert moment > 1e9
    known = dataclasses.asdict(dataclasses.replace(ALARM, alarm="acknowledged"))
    log.append([make_row("b.wav", "acknowledged") | {"alarm_state": known}])
    assert log.acknowledged == {}
    acknowledge(path, ["m"])  # too late: it changes nothing
    log.append([make_row("c.wav")])
    assert log.acknowledged == {}
    write = log._write

    def write_after_another(lines):
        acknowledge(path, ["m"])
        write(lines)

    log.append([row])
    monkeypatch.setattr(log, "_write", write_after_another)
    log.append([make_row("d.wav") | {"alarm_state": dataclasses.asdict(ALARM)}])
    monkeypatch.undo()
    assert list(log.acknowledged) == ["m"]
    log.append([make_row("e.wav") | {"alarm_state": dataclasses.asdict(ALARM)}])
    states, events = dict(log.states), log.n_events
    log.close()
    again = WatchLog(path)
    assert (again.states, again.n_events, again.n_foreign) == (states, events, 0)
    assert list(again.acknowledged) == ["m"]
    assert set(again.files) == {f"{name}.wav" for name in "abcde"}
    again.close()


def test_an_acknowledgement_is_no_part_of_a_line_that_a_kill_has_cut(tmp_path):
    path = tmp_path / "log"
    log = WatchLog(path)
    log.append([make_row() | {"alarm_state": dataclasses.asdict(ALARM)}])
    log.close()
    path.write_bytes(path.read_bytes() + b'{"half')
    acknowledge(path, ["m"])
    log = WatchLog(path)
    assert list(log.acknowledged) == ["m"]
    assert (log.n_repaired, log.n_foreign) == (0, 1)
    log.close()


def test_a_line_that_another_process_could_not_finish_swallows_no_row(tmp_path):
    path = tmp_path / "log"
    log = WatchLog(path)
    log.append([make_row("a.wav") | {"alarm_state": dataclasses.asdict(ALARM)}])
    with path.open("ab") as file:
        file.write(b'{"acknowledges": "m", "lo')  # the disk was full
    log.append([make_row("b.wav") | {"alarm_state": dataclasses.asdict(ALARM)}])
    log.close()
    again = WatchLog(path)
    assert set(again.files) == {"a.wav", "b.wav"}
    assert (again.states, again.n_foreign) == ({"m": ALARM}, 1)
    again.close()


def test_a_full_disk_is_an_error_of_the_one_who_acknowledges(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = WatchLog(path)
    log.append([make_row() | {"alarm_state": dataclasses.asdict(ALARM)}])
    log.close()

    class Full(io.FileIO):
        def write(self, content):
            return super().write(content[:5]) if b"acknowledges" in content else 0

    def open_full(path, mode, buffering):
        return Full(path, mode)

    monkeypatch.setattr("builtins.open", open_full)
    with pytest.raises(OSError, match="No space left"):
        acknowledge(path, ["m"])
