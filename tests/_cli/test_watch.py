"""``sklearn-asd watch``, with real files, processes and kills."""

import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import RATE
from killing import Forks

import sklearn_asd
from sklearn_asd.monitoring.log import acknowledge

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="needs fork and signals"
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that a recorder fills, which is empty, and the place of the log."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def server():
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def forks(server, site):
    yield server
    server.end()


@pytest.fixture
def recorder(site, folder):
    """Record some files, normal or broken, of a machine."""
    clips = {
        kind: sorted((folder / kind).rglob("valve_00/**/*.*"))
        for kind in ("new", "broken")
    }
    clips = {kind: [p for p in paths if p.is_file()] for kind, paths in clips.items()}
    counter = iter(range(10_000))

    def record(*kinds, machine="valve_00"):
        for kind in kinds:
            number = next(counter)
            clip = clips["broken" if kind == "broken" else "new"][number % 3]
            target = site / "new" / machine / f"{number:05d}{clip.suffix}"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(clip, target)
            os.utime(target, (1e9 + number, 1e9 + number))
        return target

    return record


def read_log(path="watch.jsonl"):
    """All lines of a log that are whole."""
    if not Path(path).exists():
        return []
    lines = Path(path).read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def judged(path="watch.jsonl"):
    return [row for row in read_log(path) if "verdict" in row and row["path"]]


def events(path="watch.jsonl"):
    return [row["event"] for row in read_log(path) if row.get("event")]


def wait_for(condition, what="a condition"):
    """Wait however long a busy computer takes, within reason."""
    for _ in range(int(os.environ.get("W", "1200"))):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"{what} never came")


PACKAGE = str(Path(sklearn_asd.__file__).parents[1])
NOW = ["--settle", "0", "--every", "0.05"]


# -- once, for cron ------------------------------------------------------------------


def test_lines_are_those_of_score_with_the_state_of_the_machine(
    run, model, site, recorder
):
    recorder("normal", "broken", "broken", "broken")
    code, output, errors = run("watch", model, "new", "--once", *NOW)
    assert (code, errors) == (0, "")
    rows = [json.loads(line) for line in output.splitlines()]
    assert rows == judged()
    assert [row["verdict"] for row in rows] == ["normal"] + 3 * ["anomalous"]
    assert [row["state"] for row in rows] == ["normal", "suspect", "suspect", "alarm"]
    assert events() == ["normal", "suspect", "alarm"]
    assert [row["previous"] for row in rows if row["event"]] == [
        "no data",
        "normal",
        "suspect",
    ]
    assert rows[0]["time"] == "2001-09-09T01:46:40.000Z"  # that of the file
    paths = [site / "new" / Path(row["path"]).relative_to(site / "new") for row in rows]
    _, score, _ = run("score", model, *paths, "--json")
    for row, scored in zip(rows, map(json.loads, score.splitlines()), strict=True):
        for name in ("machine", "verdict", "score", "threshold", "margin", "remark"):
            assert row[name] == scored[name]


def test_nothing_is_judged_twice(run, model, site, recorder):
    path = recorder("normal", "broken", "broken")
    assert len(run("watch", model, "new", "--once", *NOW)[1].splitlines()) == 3
    assert run("watch", model, "new", "--once", *NOW)[1] == ""
    assert run("watch", model, "../" + site.name + "/new", "--once", *NOW)[1] == ""
    recorder("broken")
    (line,) = run("watch", model, "new", "--once", *NOW)[1].splitlines()
    assert json.loads(line)["event"] == "alarm"  # the two before are remembered
    os.utime(path, (2e9, 2e9))  # another recording of the same name
    assert len(run("watch", model, "new", "--once", *NOW)[1].splitlines()) == 1


def test_the_rule_is_that_of_the_option(run, model, recorder):
    recorder("broken", "normal", "broken")
    assert run("watch", model, "new", "--once", "--alarm", "2/3", *NOW)[0] == 0
    assert events()[-1] == "alarm"
    code, _, errors = run("watch", model, "new", "--once", "--alarm", "4/3")
    assert code == 2
    assert "k=4 of n=3" in errors


def test_a_machine_can_be_named(run, model, recorder):
    recorder("normal", machine="somewhere")
    code, output, _ = run("watch", model, "new", "--once", *NOW)
    row = json.loads(output)
    assert (code, row["verdict"], row["state"]) == (0, "unusable", None)
    assert "is of machine 'somewhere', which the model does not know" in row["reason"]
    recorder("normal", machine="elsewhere")
    named = ["--machine-id", "valve_01"]
    row = json.loads(run("watch", model, "new", "--once", *NOW, *named)[1])
    assert (row["machine"], row["reason"]) == ("valve_01", None)
    code, _, errors = run("watch", model, "new", "--once", "--machine-id", "fan")
    assert code == 2
    assert "--machine-id 'fan' fits no machines" in errors


def test_what_is_unusable_is_said_once_with_its_reason(run, model, site, recorder):
    recorder("normal")
    machine = site / "new" / "valve_00"
    (machine / "bad.wav").write_bytes(b"RIFF" + bytes(99))
    (machine / "text.wav").write_text("no sound")
    (machine / "song.mp3").write_bytes(b"ID3")
    os.mkfifo(machine / "pipe.wav")
    (machine / "gone.wav").symlink_to("nowhere")
    (machine / "notes.txt").touch()
    for old in machine.iterdir():
        if old.is_file():
            os.utime(old, (1e9, 1e9))
    _, output, _ = run("watch", model, "new", "--once", *NOW)
    rows = {Path(row["path"]).name: row for row in map(json.loads, output.splitlines())}
    assert set(rows) == {
        "00000.wav", "bad.wav", "text.wav", "song.mp3", "pipe.wav", "gone.wav",
    }  # fmt: skip
    assert rows.pop("00000.wav")["verdict"] == "normal"
    assert {row["verdict"] for row in rows.values()} == {"unusable"}
    assert all(row["reason"] for row in rows.values())
    assert "its header ends before the samples" in rows["bad.wav"]["reason"]
    assert rows["bad.wav"]["state"] is None  # whoever records is at fault
    assert rows["text.wav"]["state"] == "bad audio"
    assert "cannot be decoded" in rows["song.mp3"]["reason"]
    assert run("watch", model, "new", "--once", *NOW)[1] == ""


def test_a_silent_recording_is_bad_audio_and_never_normal(run, model, site, recorder):
    recorder("normal")
    silent = site / "new" / "valve_00" / "silent.wav"
    soundfile.write(silent, np.zeros(2 * RATE), RATE)
    run("watch", model, "new", "--once", *NOW)
    assert events() == ["normal", "bad audio"]


def test_two_watches_do_not_share_a_log(run, forks, model, site, recorder):
    recorder("normal")
    process = forks.start("watch", model, "new", *NOW)
    wait_for(lambda: judged(), "a verdict")
    code, _, errors = run("watch", model, "new", "--once")
    assert code == 2
    assert "another watch writes to" in errors
    assert forks.kill(process, signal.SIGTERM) == 0
    assert run("watch", model, "new", "--once")[0] == 0


def test_a_file_that_is_no_log_is_refused_and_left_as_it_is(run, model, recorder):
    path = recorder("normal")
    for other, message in (
        (model, "is read, and would be lost"),
        (path, "is not the log of a watch"),
        ("nowhere/log", "does not exist"),
    ):
        before = Path(other).read_bytes() if Path(other).exists() else b""
        code, _, errors = run("watch", model, "new", "--once", "--log", other)
        assert code == 2
        assert message in errors
        assert not before or Path(other).read_bytes() == before


# -- what is complete ----------------------------------------------------------------


def test_a_file_is_judged_once_it_is_complete(forks, model, site, recorder):
    recorder("normal")
    whole = (site / "new" / "valve_00" / "00000.wav").read_bytes()
    growing = site / "new" / "valve_00" / "growing.wav"
    growing.write_bytes(whole[: len(whole) // 2])
    wait = ["--settle", "0.1", "--every", "0.05"]
    process = forks.start("watch", model, "new", *wait)
    wait_for(lambda: judged(), "a verdict")
    time.sleep(0.5)  # it has settled, and its header promises more
    assert len(judged()) == 1
    growing.write_bytes(whole)
    wait_for(lambda: len(judged()) == 2, "the other verdict")
    assert judged()[1]["verdict"] == "normal"
    assert forks.kill(process, signal.SIGTERM) == 0


def test_a_file_that_stays_half_written_is_no_data(forks, model, site, recorder):
    recorder("normal")
    whole = (site / "new" / "valve_00" / "00000.wav").read_bytes()
    half = site / "new" / "valve_01" / "half.wav"
    half.parent.mkdir()
    half.write_bytes(whole[:1000])
    wait = [*NOW, "--no-data-after", "0.5"]
    process = forks.start("watch", model, "new", *wait)
    wait_for(lambda: events().count("no data") == 2, "no data of both machines")
    assert forks.kill(process, signal.SIGTERM) == 0
    row = next(row for row in judged() if row["path"] == str(half))
    assert row["verdict"] == "unusable"
    assert row["reason"].startswith(
        "is not complete: its header promises 64,000 bytes of samples, and 956 are"
    )
    silent = {r["machine"]: r for r in read_log() if r.get("event") == "no data"}
    assert silent["valve_01"]["previous"] is None  # it was never heard
    assert silent["valve_00"]["previous"] == "normal"
    half.write_bytes(whole)  # in the end
    process = forks.start("watch", model, "new", *NOW)
    wait_for(lambda: judged()[-1]["verdict"] != "unusable", "a verdict")
    assert judged()[-1]["previous"] == "no data"
    assert forks.kill(process, signal.SIGINT) == 0


# -- what may happen in years --------------------------------------------------------


def check_complete(paths):
    """Each file is in the log exactly once, and states follow from one another."""
    assert Path("watch.jsonl").read_bytes().endswith(b"\n")
    rows = judged()
    assert Counter(row["path"] for row in rows) == Counter(map(str, paths))
    assert [row["number"] for row in read_log() if row.get("event")] == list(
        range(1, len(events()) + 1)
    )


def kill_often(forks, model, site, recorder, n_files, n_kills, longest):
    """Kill a watch at random moments, and let the last one finish."""
    chance = random.Random(0)
    for _ in range(n_files):
        recorder(chance.choice(["normal", "normal", "broken"]))
    paths = sorted((site / "new").rglob("*.*"))
    n_seen = set()
    for _ in range(n_kills):
        process = forks.start("watch", model, "new", *NOW)
        time.sleep(chance.uniform(0, longest))
        assert forks.kill(process) == -signal.SIGKILL
        log = Path("watch.jsonl")
        n_lines = log.read_bytes().count(b"\n") if log.exists() else 0
        if n_lines in n_seen:  # a slow computer needs more time
            longest = min(1.2 * longest, 5.0)
        n_seen.add(n_lines)
    forks.start("watch", model, "new", "--once", *NOW)
    assert forks.wait() == 0
    check_complete(paths)
    return n_seen


def test_kills_lose_and_repeat_nothing(forks, model, site, recorder):
    assert len(kill_often(forks, model, site, recorder, 100, 10, 0.3)) > 1


@pytest.mark.slow
def test_200_kills_over_1000_files_lose_and_repeat_nothing(
    forks, model, site, recorder
):
    assert len(kill_often(forks, model, site, recorder, 1000, 200, 0.8)) > 20


@pytest.mark.parametrize("n_bytes", [1, 60])
def test_a_half_written_line_is_removed_and_its_file_judged_again(
    run, model, site, recorder, n_bytes
):
    recorder("normal", "normal", "broken")
    run("watch", model, "new", "--once", *NOW)
    log, rows = Path("watch.jsonl"), judged()
    log.write_bytes(log.read_bytes()[:-n_bytes])
    _, output, errors = run("watch", model, "new", "--once", *NOW)
    assert "ended within a line, which is removed" in errors
    (again,) = map(json.loads, output.splitlines())
    for name in ("path", "verdict", "state", "event", "number", "mtime_ns"):
        assert again[name] == rows[-1][name]
    assert len(judged()) == 3


def test_a_full_disk_makes_it_wait(forks, model, site, recorder):
    recorder(*20 * ["normal"])
    process = forks.start("watch", model, "new", *NOW)
    wait_for(lambda: len(judged()) == 20, "verdicts")
    size = Path("watch.jsonl").stat().st_size
    _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size + 100, most))
    recorder(*20 * ["normal"])
    wait_for(
        lambda: "so nothing is judged" in Path("errors.txt").read_text(), "a report"
    )
    assert len(judged()) == 20
    resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))
    wait_for(lambda: len(judged()) == 40, "the other verdicts")
    assert forks.kill(process, signal.SIGTERM) == 0
    check_complete((site / "new").rglob("*.*"))
    assert Path("errors.txt").read_text().count("so nothing is judged: ") == 1
    assert len(Path("output.txt").read_text().splitlines()) == 40


def test_a_folder_may_go_and_come_back(forks, model, site, recorder):
    recorder("normal", "normal")
    process = forks.start("watch", model, "new", *NOW)
    wait_for(lambda: len(judged()) == 2, "verdicts")
    (site / "new").rename(site / "away")
    wait_for(lambda: "cannot be listed" in Path("errors.txt").read_text(), "a report")
    (site / "away").rename(site / "new")
    recorder("normal")
    wait_for(lambda: len(judged()) == 3, "the third verdict")
    assert forks.kill(process, signal.SIGTERM) == 0
    check_complete((site / "new").rglob("*.*"))
    assert Path("errors.txt").read_text().count("cannot be listed") == 2  # and its end


def test_a_clock_set_back_changes_nothing(run, model, site, recorder):
    first = recorder("broken", "broken")
    run("watch", model, "new", "--once", *NOW)
    log = Path("watch.jsonl")
    year = json.loads(log.read_text().splitlines()[0])["logged"][:4]
    log.write_text(log.read_text().replace(f'"logged": "{year}', '"logged": "2099'))
    third = recorder("broken")
    os.utime(third, (1e6, 1e6))  # before the two others
    _, output, _ = run("watch", model, "new", "--once", *NOW)
    assert [json.loads(line)["event"] for line in output.splitlines()] == ["alarm"]
    assert first.exists()


def test_files_that_vanish_with_their_drive_are_judged_when_it_is_back(
    run, model, site, recorder, monkeypatch
):
    """A file that cannot be read, and is not there any more, was not judged."""
    from sklearn_asd.audio import reading

    recorder(*3 * ["normal"])
    read = reading.open_file

    def vanish(*arguments):
        if (site / "new").exists():
            (site / "new").rename(site / "away")
        return read(*arguments)

    monkeypatch.setattr(reading, "open_file", vanish)
    assert run("watch", model, "new", "--once", *NOW)[:2] == (0, "")
    monkeypatch.undo()
    (site / "away").rename(site / "new")
    monkeypatch.chdir(site)
    assert len(run("watch", model, "new", "--once", *NOW)[1].splitlines()) == 3


# -- alarms that somebody knows of ---------------------------------------------------


def test_a_running_watch_hears_that_an_alarm_is_known(run, forks, model, recorder):
    recorder(*3 * ["broken"])
    tell = ["--run", "sh -c 'cat >> events.txt'"]
    process = forks.start("watch", model, "new", *NOW, *tell)
    wait_for(lambda: "alarm" in events(), "an alarm")
    assert run("acknowledge", "watch.jsonl", "valve_01")[0] == 2
    code, lines, _ = run("acknowledge", "watch.jsonl", "valve_00")
    assert (code, lines) == (0, "Acknowledged: the alarm of valve_00.\n")
    wait_for(lambda: events()[-1] == "acknowledged", "the event")
    recorder("broken")
    wait_for(lambda: len(judged()) == 4, "the next verdict")
    assert judged()[-1]["state"] == "acknowledged"
    code, _, errors = run("acknowledge", "watch.jsonl")
    assert code == 2
    assert "tells of no alarm that is still to be acknowledged" in errors
    assert forks.kill(process, signal.SIGTERM) == 0
    told = [json.loads(line) for line in Path("events.txt").read_text().splitlines()]
    assert told[-1]["event"] == "acknowledged"
    assert told[-1]["previous"] == "alarm"
    assert not Path("errors.txt").read_text().count("no watch wrote")


def test_the_next_watch_hears_that_an_alarm_is_known(run, model, recorder):
    recorder(*3 * ["broken"])
    run("watch", model, "new", "--once", *NOW)
    code, _, errors = run("acknowledge", "watch.jsonl", "valve_07")
    assert code == 2
    assert "no alarm of 'valve_07' that" in errors
    assert "name one of valve_00" in errors
    assert run("acknowledge", "watch.jsonl")[0] == 0
    recorder("normal", "normal", "normal")
    _, output, errors = run("watch", model, "new", "--once", *NOW)
    rows = [json.loads(line) for line in output.splitlines()]
    assert errors == ""
    assert [row["event"] for row in rows] == ["acknowledged", None, None, "normal"]
    for name in ("nowhere", model):
        assert run("acknowledge", name)[0] == 2


def test_a_stream_hears_that_an_alarm_is_known(run, stream, long_sound):
    source, sink = os.pipe()
    content = long_sound[1].astype("<i2").tobytes()

    def play():
        with os.fdopen(sink, "wb", buffering=0) as file:
            file.write(content[: 5 * 2 * 2 * RATE])
            wait_for(lambda: "alarm" in events(), "an alarm")
            acknowledge("watch.jsonl", [read_log()[-1]["machine"]])
            wait_for(lambda: events()[-1] == "acknowledged", "the event")
            file.write(content[4 * 2 * 2 * RATE : 5 * 2 * 2 * RATE])

    player = threading.Thread(target=play)
    player.start()
    raw = ["--format", "s16le", "--rate", RATE]
    assert stream(os.fdopen(source, "rb"), *raw)[0] == 0
    player.join()
    rows = [row for row in read_log() if row.get("state")]
    assert [row["state"] for row in rows[-3:]] == ["alarm", *2 * ["acknowledged"]]


def test_a_margin_can_be_asked_for_to_end_an_alarm(run, model, recorder):
    recorder(*3 * ["broken"], *3 * ["normal"])
    run("watch", model, "new", "--once", "--release", "100", *NOW)
    assert events()[-1] == "alarm"
    run("watch", model, "new", "--once", "--log", "other.jsonl", *NOW)
    assert events("other.jsonl")[-1] == "normal"


# -- commands and kept sounds --------------------------------------------------------


def test_each_event_goes_to_a_command_and_failing_is_noted(run, model, site, recorder):
    recorder("normal", "broken", "broken", "broken")
    command = "sh -c 'cat >> events.txt; exit 3'"
    arguments = ["watch", model, "new", "--once", *NOW, "--run", command]
    code, output, errors = run(*arguments)
    assert code == 0
    rows = [json.loads(line) for line in output.splitlines()]
    told = [json.loads(line) for line in Path("events.txt").read_text().splitlines()]
    assert told == [row for row in rows if row["event"]]
    assert errors.count("failed: exit code 3") == 3
    ends = [(r["command_of"], r["error"]) for r in read_log() if "command_of" in r]
    assert ends == [(number, "exit code 3") for number in (1, 2, 3)]
    run(*arguments)
    assert len(Path("events.txt").read_text().splitlines()) == 3


def test_a_command_that_hangs_stops_nothing(run, model, recorder):
    recorder("normal", "broken")
    hangs = ["--run", "sleep 600", "--timeout", "0.2"]
    code, _, errors = run("watch", model, "new", "--once", *NOW, *hangs)
    assert code == 0
    assert errors.count("failed: was killed after 0.2 s") == 2
    assert len(judged()) == 2


def test_a_command_that_a_kill_prevented_is_run_by_the_next_watch(
    forks, run, model, site, recorder
):
    recorder("normal", "broken")
    process = forks.start("watch", model, "new", *NOW, "--run", "sleep 600")
    wait_for(lambda: len(events()) == 2, "two events")
    forks.kill(process)
    assert not [row for row in read_log() if "command_of" in row]
    tell = ["--run", "sh -c 'cat >> events.txt'"]
    assert run("watch", model, "new", "--once", *NOW, *tell)[0] == 0
    told = [json.loads(line) for line in Path("events.txt").read_text().splitlines()]
    assert [row["event"] for row in told] == ["normal", "suspect"]


@pytest.mark.parametrize("before", [0, 2])
def test_the_sound_of_an_alarm_is_kept_with_what_came_before(
    run, model, site, recorder, before
):
    last = recorder("normal", "broken", "broken", "broken")
    keep = ["--keep", "alarms", "--before", before]
    run("watch", model, "new", "--once", *NOW, *keep)
    (kept,) = [row["kept"] for row in judged() if row["event"] == "alarm"]
    assert kept == str(site / "alarms" / "20010909T014643000Z_valve_00")
    names = sorted(os.listdir(kept))
    assert len(names) == before + 1
    assert Path(kept, names[-1]).read_bytes() == last.read_bytes()


# -- streams -------------------------------------------------------------------------


@pytest.fixture
def stream(run, model, site, monkeypatch):
    """Watch what a pipe or a file gives."""

    def stream(source, *options):
        if isinstance(source, bytes):
            Path("stream").write_bytes(source)
            source = open("stream", "rb")  # noqa: SIM115
        with source:
            monkeypatch.setattr(sys, "stdin", source)
            return run("watch", model, "-", "--machine-id", "valve_00", *options)

    return stream


@pytest.fixture(scope="module")
def long_sound(folder):
    """Two normal recordings of 2 s, three broken ones, and half a second."""
    paths = sorted((folder / "new" / "valve_00").rglob("*.wav"))[:2]
    paths += sorted((folder / "broken" / "valve_00").iterdir())
    samples = [soundfile.read(path, dtype="int16")[0] for path in paths]
    return paths, np.concatenate([*samples, samples[0][:8000]])


def test_a_stream_is_judged_like_recordings(run, model, stream, long_sound):
    paths, samples = long_sound
    raw = ["--format", "s16le", "--rate", RATE, "--keep", "alarms", "--before", "3"]
    code, output, errors = stream(samples.astype("<i2").tobytes(), *raw)
    assert code == 0, errors
    assert "The stream has ended" in errors
    rows = [json.loads(line) for line in output.splitlines()]
    _, score, _ = run("score", model, *paths, "--json")
    scored = [json.loads(line) for line in score.splitlines()]
    assert [row["score"] for row in rows] == pytest.approx(
        [row["score"] for row in scored], abs=1e-6
    )
    assert [row["stop"] for row in rows] == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert events() == ["normal", "suspect", "alarm"]
    (kept,) = Path("alarms").rglob("sound.flac")
    sound, _ = soundfile.read(kept, dtype="int16")
    np.testing.assert_allclose(sound, samples[7 * RATE : 10 * RATE], atol=1)
    wav = BytesIO()
    soundfile.write(wav, samples, RATE, format="WAV", subtype="PCM_16")
    rows = [json.loads(line) for line in stream(wav.getvalue())[1].splitlines()]
    assert [row["state"] for row in rows] == 5 * ["alarm"]  # two normals end none


def test_a_stream_that_falls_silent_has_no_data(stream, long_sound):
    source, sink = os.pipe()
    content = long_sound[1].astype("<i2").tobytes()[: 2 * 2 * RATE]  # a window

    def play():
        with os.fdopen(sink, "wb", buffering=0) as file:
            file.write(content)
            wait_for(lambda: "no data" in events(), "no data")
            file.write(content)

    player = threading.Thread(target=play)
    player.start()
    raw = ["--format", "s16le", "--rate", RATE, "--no-data-after", "0.3"]
    assert stream(os.fdopen(source, "rb"), *raw)[0] == 0
    player.join()
    assert events() == ["normal", "no data", "normal"]


def test_what_is_no_stream_is_refused_with_the_remedy(stream):
    for content, options, message in (
        (b"fLaC" + bytes(99), [], "does not begin like a WAV"),
        (b"", ["--rate", "16000"], "raw samples need both --format and --rate"),
        (bytes(99), ["--format", "s16le", "--rate", "8000"], "of the stream, 8000 Hz"),
    ):
        code, _, errors = stream(content, *options)
        assert code == 2
        assert message in errors
        assert not re.search(r"sample_rate|window=", errors)


def test_a_stream_of_several_machines_is_one_that_is_named(run, model, site):
    code, _, errors = run("watch", model, "-")
    assert code == 2
    assert "the model knows 2 machines: name the one of the stream" in errors


def need(*programs):
    for program in programs:
        if shutil.which(program) is None and not Path("/usr/sbin", program).exists():
            pytest.skip(f"{program} is not installed")


def test_ffmpeg_is_a_source(stream, long_sound):
    need("ffmpeg")
    soundfile.write("long.flac", long_sound[1], RATE)
    words = "ffmpeg -nostdin -loglevel error -i long.flac -ac 1 -ar 16000 -f wav -"
    ffmpeg = subprocess.Popen(words.split(), stdout=subprocess.PIPE)
    code, output, errors = stream(ffmpeg.stdout)
    assert (code, ffmpeg.wait()) == (0, 0), errors
    rows = [json.loads(line) for line in output.splitlines()]
    assert len(rows) == 5
    assert [row["verdict"] for row in rows[2:]] == 3 * ["anomalous"]
    assert rows[-1]["event"] == "alarm"


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_broker_gets_the_events(run, model, site, recorder):
    need("mosquitto", "mosquitto_pub", "mosquitto_sub")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("m.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    path = os.environ["PATH"] + ":/usr/sbin"
    program = shutil.which("mosquitto", path=path)
    broker = subprocess.Popen([program, "-c", "m.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_open(port), "the broker")
        recorder("normal", "broken", "broken", "broken")
        page = Path(PACKAGE, "docs", "guide", "production.md").read_text()
        tell = re.search(r'--run "(mosquitto_pub .*?)"', page)[1] + f" -r -p {port}"
        assert run("watch", model, "new", "--once", *NOW, "--run", tell)[0] == 0
        heard = subprocess.run(
            ["mosquitto_sub", "-p", str(port), "-t", "machines", "-C", "1"],
            capture_output=True,
            check=True,
            timeout=60,
        )
    finally:
        broker.terminate()
        broker.wait()
    told = json.loads(heard.stdout)
    assert (told["machine"], told["event"]) == ("valve_00", "alarm")  # the last one


@pytest.mark.slow
def test_a_supervisor_begins_a_killed_watch_again(model, site, recorder):
    """As systemd with Restart=always: whatever kills it, and until it is stopped."""
    command = shlex.join(
        [sys.executable, "-m", "sklearn_asd", "watch", str(model), "new", *NOW]
    )
    loop = f"while [ ! -e stop ]; do {command} & echo $! > pid; wait $!; done"
    supervisor = subprocess.Popen(
        ["sh", "-c", loop],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": PACKAGE},
    )
    try:
        for number in (1, 2):
            recorder("normal")
            wait_for(lambda n=number: len(judged()) == n, "a verdict")
            if number == 2:
                Path("stop").touch()
            os.kill(int(Path("pid").read_text()), signal.SIGKILL)
        assert supervisor.wait(60) is not None
    finally:
        supervisor.kill()
        supervisor.wait()
    check_complete((site / "new").rglob("*.*"))


@pytest.mark.slow
def test_10000_waiting_files_are_judged_at_the_speed_of_score(run, model, recorder):
    for _ in range(100):
        first = recorder("normal")
    for number in range(10_000 - 100):
        os.link(first, first.with_name(f"link_{number}{first.suffix}"))
    seconds = {}
    for name, more in (("score", ["--json"]), ("watch", ["--once", *NOW])):
        started = time.process_time()
        assert run(name, model, "new", *more)[0] in (0, 1)
        seconds[name] = time.process_time() - started
    assert len(judged()) == 10_000
    print(seconds)
    assert seconds["watch"] <= 1.25 * seconds["score"]


def test_a_service_that_is_restarted_goes_on(model, site, recorder):
    """As systemd does: started again after a kill, ended by SIGTERM."""
    arguments = [sys.executable, "-m", "sklearn_asd", "watch", model, "new", *NOW]
    n_files = 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        recorder("normal", "broken")
        n_files += 2
        with open("out.txt", "ab") as out:
            service = subprocess.Popen(
                list(map(str, arguments)),
                stdout=out,
                stderr=out,
                env=os.environ | {"PYTHONPATH": PACKAGE},
            )
        wait_for(lambda n=n_files: len(judged()) == n, "verdicts")
        service.send_signal(number)
        assert service.wait() == (0 if number == signal.SIGTERM else -number)
    check_complete((site / "new").rglob("*.*"))
