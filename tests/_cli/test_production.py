"""The lines of the guide's page on production run as they stand."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import RATE

import sklearn_asd

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")

PACKAGE = Path(sklearn_asd.__file__).parents[1]
PAGE = (PACKAGE / "docs" / "guide" / "production.md").read_text()
AT_ONCE = ["--once", "--settle", "0"]


def find_line(beginning):
    """The command of the page that begins so, without the ends of its lines."""
    text = PAGE.replace("\\\n", " ")
    (line,) = re.findall(rf"^ +({re.escape(beginning)}.*)$", text, re.M)
    return line


def find_block(beginning):
    (block,) = re.findall(
        rf"^```(?:ini)?\n({re.escape(beginning)}.*?)^```", PAGE, re.S | re.M
    )
    return block


@pytest.fixture
def site(tmp_path, monkeypatch, model, folder):
    """The folder of the page, with one normal recording and three that are not."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(model, "machines.asd")
    place = tmp_path / "new" / "valve_00"
    place.mkdir(parents=True)
    paths = sorted((folder / "new" / "valve_00").rglob("*.wav"))[:1]
    paths += sorted((folder / "broken" / "valve_00").iterdir())
    for number, path in enumerate(paths):
        shutil.copy(path, place / f"{number}{path.suffix}")
        os.utime(place / f"{number}{path.suffix}", (1e9 + number, 1e9 + number))
    return tmp_path


@pytest.fixture
def watch(run, site):
    """Run a line of the page once."""

    def watch(line):
        program, *words = shlex.split(line)
        assert program == "sklearn-asd"
        code, output, errors = run(*words, *AT_ONCE)
        assert (code, errors) == (0, "")
        return [json.loads(line) for line in output.splitlines()]

    return watch


def test_the_first_line_raises_an_alarm_and_keeps_its_sound(watch, site):
    rows = watch(find_line("sklearn-asd watch machines.asd new/ --alarm 3/5"))
    assert [row["state"] for row in rows] == ["normal", "suspect", "suspect", "alarm"]
    assert len(list((site / "alarms").rglob("*.*"))) == 4


def test_the_service_runs_what_it_says(site, run):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(find_block("[Unit]"))
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.startswith(unit["Service"]["WorkingDirectory"])
    assert run(*words, *AT_ONCE)[0] == 0


def test_systemd_takes_the_service(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "sklearn-asd.service"
    text = find_block("[Unit]").replace("User=machines", "User=root")
    program = text.split("ExecStart=")[1].split()[0]
    unit.write_text(text.replace(program, shutil.which("true")))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    if "Failed to" in done.stderr and "sklearn-asd" not in done.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr[:200]}")
    assert "sklearn-asd" not in done.stderr
    assert done.returncode == 0


def test_the_line_for_cron_prints_errors_only(site):
    line = find_line("*/5 * * * * ").removeprefix("*/5 * * * * ")
    program = site / ".venv" / "bin" / "sklearn-asd"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sklearn_asd "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", line.replace("/srv/machines", str(site))],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(PACKAGE)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(Path("watch.jsonl").read_text().splitlines()) == 5


def test_alarms_go_into_a_file(watch):
    watch(find_line('sklearn-asd watch machines.asd new --run "sh -c'))
    (line,) = Path("alarms.txt").read_text().splitlines()
    assert json.loads(line)["event"] == "alarm"


def test_the_line_acknowledges_an_alarm(watch, run, site):
    watch(find_line("sklearn-asd watch machines.asd new/ --alarm 3/5"))
    line = find_line("sklearn-asd acknowledge").replace("pump_3", "valve_00")
    assert run(*shlex.split(line)[1:])[0] == 0
    run("watch", "machines.asd", "new/", "--alarm", "3/5", *AT_ONCE)
    rows = [json.loads(row) for row in Path("watch.jsonl").read_text().splitlines()]
    assert rows[-1]["event"] == "acknowledged"


def test_the_line_learns_from_false_alarms(run, site):
    line = find_line("sklearn-asd add-normals")
    path = sorted((site / "new" / "valve_00").iterdir())[0]
    words = line.replace("new/pump_3/0900.wav new/pump_3/0910.wav", str(path))
    assert run(*shlex.split(words)[1:])[0] == 0


def test_events_go_to_a_web_service(watch):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    told = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as service:
        threading.Thread(target=service.serve_forever).start()
        line = find_line('sklearn-asd watch machines.asd new --run "curl')
        try:  # port 8000 may be in use here
            watch(line.replace("localhost:8000", f"127.0.0.1:{service.server_port}"))
        finally:
            service.shutdown()
    assert [row["event"] for row in told] == ["normal", "suspect", "alarm"]


def test_prometheus_gets_the_last_state_of_each_machine(site, run):
    run("watch", "machines.asd", "new", *AT_ONCE)
    Path("prometheus.py").write_text(find_block("import json"))
    words = shlex.split(re.search(r"`(python3 prometheus.py .*?)`", PAGE)[1])
    subprocess.run([sys.executable, *words[1:]], check=True)
    lines = dict(
        line.split() for line in Path("machines.prom").read_text().splitlines()
    )
    assert lines['machine_alarm{machine="valve_00"}'] == "1"
    assert lines['machine_heard{machine="valve_00"}'] == "1"
    assert float(lines['machine_margin{machine="valve_00"}']) < 0


def test_streams_come_from_a_microphone_and_from_a_camera(site, run, monkeypatch):
    paths = sorted((site / "new" / "valve_00").iterdir())
    samples = np.concatenate([soundfile.read(path)[0] for path in paths])
    for source, own in (
        ("arecord", None),
        ("ffmpeg", "ffmpeg"),
    ):
        if own and shutil.which(own) is None:
            pytest.skip(f"{own} is not installed")
        soundfile.write("a.wav", samples, RATE)
        before, after = find_line(source).split("|")
        monkeypatch.setattr(sys, "stdin", open_source(own, before, samples))
        words = shlex.split(after)[1:]
        words[words.index("pump_3")] = "valve_00"
        with sys.stdin:
            code, output, errors = run(*words)
        assert code == 0, errors
        rows = [json.loads(line) for line in output.splitlines()]
        assert len(rows) == 4
        assert rows[-1]["state"] == "alarm"
        os.unlink("pump_3.jsonl")


def open_source(program, line, samples):
    """What a line writes; there is no microphone here, and no camera."""
    if program is None:
        assert "-f S16_LE -r 16000 -c 1 -t raw" in line
        Path("raw").write_bytes((samples * 32767).astype("<i2").tobytes())
        return open("raw", "rb")
    words = shlex.split(line.replace("rtsp://camera/stream", "a.wav"))
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    Path("streamed").write_bytes(done.stdout)
    return open("streamed", "rb")


def test_the_end_of_a_log_is_enough(site, run):
    run("watch", "machines.asd", "new", *AT_ONCE)
    line = find_line("mv watch.jsonl old.jsonl")
    subprocess.run(["sh", "-c", line.replace("100000", "4")], check=True)
    assert run("watch", "machines.asd", "new", *AT_ONCE)[1] == ""
    find = find_line("find new alarms")
    Path("alarms").mkdir()
    subprocess.run(["sh", "-c", find], check=True)
    assert not list(Path("new").rglob("*.wav"))  # of 2001


def test_the_lines_of_the_page_of_the_watch_write_it(watch, run, site):
    watch(find_line("sklearn-asd watch machines.asd new/ --alarm 3/5"))
    for beginning, name in (("sklearn-asd report", "week"), ("0 6 * * *", "day")):
        line = find_line(beginning)
        words = shlex.split(line[line.index("report ") :])
        # The recordings of these tests are from 2001.
        words[words.index("--since") + 1] = "2001-01-01"
        assert run(*words)[0] == 0
        assert "<audio" in (site / f"{name}.html").read_text("utf-8")
