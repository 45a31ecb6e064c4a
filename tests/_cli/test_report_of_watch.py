"""``sklearn-asd report``: the page of a watch, by the real command."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import in_a_process

from sklearn_asd.monitoring.events import write_time

START = 1_795_000_000.0
HOSTILE = "</title><script>alert(1)</script>\"'&\u202e\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    tzset = getattr(time, "tzset", lambda: None)  # Windows has none
    tzset()
    yield tmp_path
    monkeypatch.undo()
    tzset()


def begin(**facts):
    return {"watch": "begins", "runs_commands": False, "source": "new"} | facts


def line(minutes, margin=1.0, state="normal", machine="pump", **more):
    """A window, or with margin=None and verdict=None a change between windows."""
    verdict = None
    if margin is not None:
        verdict = "anomalous" if margin < 0 else "normal"
    row = {
        "time": write_time(START + 60 * minutes),
        "machine": machine,
        "verdict": verdict,
        "margin": margin,
        "state": state,
        "event": None,
        "remark": None,
    }
    return row | more


def write_log(*rows, path="watch.jsonl", end=""):
    logged = {"logged": write_time(START + 86400)}
    Path(path).write_text("".join(json.dumps(logged | r) + "\n" for r in rows) + end)
    return path


@pytest.fixture
def page(run, site):
    """Write the page of a log; its text without the spaces of the template."""

    def page(*options, log="watch.jsonl"):
        code, output, errors = run("report", log, "-o", "page.html", *options)
        assert (code, output) == (0, "")
        assert errors.startswith("Wrote page.html: ")
        return re.sub(r"\s+", " ", Path("page.html").read_text("utf-8"))

    return page


def read_table(page, heading):
    """Cells of a section's first table."""
    section = page[page.index(f'<h2 id="{heading}">') :]
    body = re.search(r"<tbody>(.*?)</tbody>", section)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", body)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    texts = [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in cells]
    return [[text.replace("\N{MINUS SIGN}", "-") for text in row] for row in texts]


ALARM = [
    line(0),
    line(10, -1.0, "suspect"),
    line(20, -3.5, "alarm", event="alarm", remark="9 dB louder"),
    line(30, -2.0, "alarm", remark="12 dB louder"),
    line(40, 2.0, "normal", event="normal"),
    line(50, -0.5, "suspect"),
    line(60),
    line(70),
]


# -- known answers ---------------------------------------------------------------------


def test_windows_alarms_and_single_anomalous_windows_are_counted(page):
    write_log(begin(), *ALARM)
    text = page()
    assert read_table(text, "summary") == [
        ["pump", "normal", "1", "8", "4", "1", "0", "0.0 %", "-3.50", "0.25"]
    ]
    assert read_table(text, "alarms") == [
        ["pump", "2026-11-18 11:26:40", "20 min", "2", "-3.50", "9 dB louder", ""]
    ]
    assert "Windows by state: normal 4, suspect 2, alarm 2." in text
    # Remarks that differ in numbers only are one.
    assert '<td>12 dB louder</td><td class="number">2</td>' in text


def test_an_alarm_goes_on_while_the_machine_cannot_be_judged(page):
    silent = {"alarm": "alarm", "condition": "no data", "recent": [], "since": 0}
    write_log(
        begin(no_data_after=600),
        line(0, -1.0, "alarm", event="alarm"),
        line(20, None, "no data", event="no data", alarm_state=silent),
        line(40, -2.0, "alarm", event="alarm"),
    )
    ((_, _, lasted, n_windows, worst, *_),) = read_table(page(), "alarms")
    assert (lasted, n_windows, worst) == ("40 min still on", "2", "-2.00")


def test_times_without_data_count_whether_or_not_the_watch_ran(page):
    rows = [line(0), line(10), line(70), line(80)]
    write_log(begin(no_data_after=660), *rows)
    assert read_table(page(), "summary")[0][7] == "75.0 %"
    write_log(begin(no_data_after=3600), *rows)
    assert read_table(page(), "summary")[0][7] == "0.0 %"


def test_a_machine_that_is_not_heard_at_the_end_is_not_normal(page):
    write_log(
        begin(no_data_after=600),
        line(0),
        line(60, machine="fan"),
        line(60, None, "no data", machine="never heard"),
    )
    states = {row[0]: (row[1], row[7]) for row in read_table(page(), "summary")}
    assert states == {
        "pump": ("no data", "100.0 %"),
        "fan": ("normal", "0.0 %"),
        "never heard": ("no data", "100.0 %"),
    }


def test_what_could_not_be_judged_is_not_normal(page):
    write_log(begin(), line(0, None, None, verdict="unusable", reason="is damaged"))
    text = page()
    assert "<strong>1</strong> of them not usable" in text
    assert "is damaged" in text
    assert read_table(text, "summary")[0][1] == "not known"


def test_a_period_holds_what_was_heard_in_it(page):
    write_log(begin(), *ALARM)
    text = page("--since", "2026-11-18T11:35", "--until", "2026-11-18T12:00")
    (row,) = read_table(text, "summary")
    assert row[:5] == ["pump", "suspect", "1", "3", "2"]
    assert read_table(text, "alarms")[0][1] == "2026-11-18 11:26:40"  # was still on
    assert read_table(page("--since", "2026-11-18T11:50"), "summary")[0][2] == "0"


def test_the_picture_has_threshold_states_and_alarms(page):
    write_log(begin(), *ALARM)
    (picture,) = re.findall(
        r'<img class="strip" src="data:image/svg\+xml,(.*?)"', page()
    )
    assert picture.count("%3Cpath") == 5
    threshold = re.search(r"class=%22z%22 d=%22M0 ([\d.]+)H1000", picture)[1]
    assert 0 < float(threshold) < 120
    assert len(re.findall(r"class=%22s%22 d=%22M[\d.]+ 0V120%22", picture)) == 1
    for color in ("8fbbe0", "e6b422", "c2410c"):
        assert f"fill=%22%23{color}" in picture


# -- logs as they are ------------------------------------------------------------------


def test_names_are_shown_and_not_obeyed(page):
    write_log(
        begin(model=HOSTILE, rule=HOSTILE),
        line(0, -1.0, "alarm", machine=HOSTILE, remark=HOSTILE, kept=HOSTILE),
    )
    text = page()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text
    assert "default-src 'none'; img-src data:; media-src data:" in text


def test_a_half_written_line_and_foreign_lines_are_left_out_and_told(page):
    strange = [
        line(5, machine=["a list"], margin=True, state="unheard of", new_field={}),
        line(6) | {"time": "yesterday"},
        line(7) | {"time": 12},
        line(8, float("nan")) | {"margin": 10**400},
    ]
    write_log(begin(), line(0), *strange, end='[1]\n\n{"logged"\n{"time": "2026-')
    text = page()
    assert "5 lines of the log could not be read" in text
    assert "The last line of the log is incomplete" in text
    assert sum(int(row[3]) for row in read_table(text, "summary")) == 3


def test_a_clock_that_ran_ahead_does_not_stretch_the_page(page):
    write_log(begin(), *ALARM, line(1e7))
    text = page()
    assert "1 line left out: by their times" in text
    assert "2026-11-18 11:06:40 to 2026-11-18 12:16:40" in text


def test_a_clock_that_is_set_back_gives_no_wrong_duration(page):
    write_log(begin(), line(60, -1.0, "alarm"), line(0), line(70))
    assert read_table(page(), "alarms")[0][2].startswith("not known")


def test_a_watch_that_ended_long_ago_is_told(page):
    old = line(0) | {"logged": "2001-01-01T00:00:00.000Z"}
    Path("watch.jsonl").write_text(json.dumps(old) + "\n")
    assert "before this page was written" in page()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no judged recording yet"),
        (json.dumps(begin(logged="2026-11-26T00:00:00Z")) + "\n", "holds no judged"),
        ("RIFF\nWAVE\n", "is not the log of a watch"),
        ('{"verdict": "normal"}\n', "is not the log of a watch"),
    ],
)
def test_a_log_without_recordings_is_refused(run, site, text, reason):
    Path("watch.jsonl").write_text(text)
    code, _, errors = run("report", "watch.jsonl", "-o", "page.html")
    assert code == 2
    assert reason in errors
    assert not Path("page.html").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--since", "2030-01-01", "--until", "2031-01-01"], "the log reaches from"),
        (["--since", "last week"], "is no time: write 2026-11-26"),
        (["--since", "1d", "--until", "2d"], "--since is not before --until"),
        (["-o", "watch.jsonl"], "would be lost"),
    ],
)
def test_what_cannot_be_is_refused(run, site, options, reason):
    path = write_log(begin(), *ALARM)
    before = Path(path).read_bytes()
    code, _, errors = run("report", path, *options)
    assert code == 2
    assert reason in " ".join(errors.split())
    assert Path(path).read_bytes() == before


def test_a_long_log_of_many_machines_makes_a_small_page(page):
    n_machines = 500
    rows = []
    for number in range(6 * n_machines):
        margin = -1.0 if number % 7 == 0 else 1.0
        state = "alarm" if margin < 0 else "normal"
        machine = f"machine_{number % n_machines:03d}"
        rows.append(line(number / 10, margin, state, machine, remark="loud " * 99))
    write_log(begin(), *rows)
    text = page()
    assert len(text) < 1e6
    assert "100 further machines with fewer alarms" in text
    assert "440 further machines without a picture" in text
    assert "earlier alarms not listed" in text
    assert f"<strong>{len(rows)}</strong> windows" in text


# -- sounds ----------------------------------------------------------------------------


def keep_sound(folder, duration=12.0, rate=16000):
    Path(folder).mkdir()
    samples = np.random.default_rng(0).normal(size=round(duration * rate)) / 20
    soundfile.write(f"{folder}/00_before.flac", samples[:rate], rate)
    soundfile.write(f"{folder}/01_alarm.flac", samples, rate)
    return str(Path(folder).resolve())


def test_the_latest_alarms_are_heard_as_far_as_their_sound_is_there(page):
    rows = []
    for number in range(4):
        kept = keep_sound(f"kept_{number}")
        rows += [line(number, -1.0, "alarm", kept=kept), line(number + 0.5)]
    shutil.rmtree("kept_3")
    Path("kept_2/02_noise.flac").write_bytes(b"no sound")
    write_log(begin(), *rows)
    text = page()
    assert text.count("<audio") == 2
    assert text.count("the last 10 of 12 s, played") == 2
    assert text.count("is gone, or cannot be read") == 2
    assert page("--sounds", "1").count("<audio") == 1
    assert "<audio" not in page("--sounds", "0")


# -- a real watch ----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="watch needs signals")
def test_the_log_of_a_watch_is_read_while_it_is_written(run, page, model, folder, site):
    paths = sorted((folder / "new" / "valve_00").rglob("*.wav"))[:1]
    paths += sorted((folder / "broken" / "valve_00").iterdir())
    place = site / "new" / "valve_00"
    place.mkdir(parents=True)
    for number, path in enumerate(paths):
        target = shutil.copy(path, place / f"{number}{path.suffix}")
        os.utime(target, (START + 60 * number, START + 60 * number))
    options = ["--once", "--settle", "0", "--keep", "alarms"]
    assert run("watch", model, "new", *options)[0] == 0
    before = Path("watch.jsonl").read_bytes()
    rows = [json.loads(row) for row in before.splitlines()]
    windows = [row for row in rows if row.get("verdict")]
    with open("watch.jsonl", "ab") as file:
        file.write(b'{"time": "2026')
    text = page()
    assert Path("watch.jsonl").read_bytes() == before + b'{"time": "2026'
    (alarm,) = read_table(text, "alarms")
    assert alarm[0] == "valve_00"
    assert alarm[1] == "2026-11-18 11:09:40"
    worst = windows[-1]["margin"]
    assert alarm[4] == f"{worst:.2f}".replace("-", "-")
    assert text.count("<audio") == 1
    assert "Windows by state: normal 1, suspect 2, alarm 1." in text


def test_the_command_runs_as_a_process(site):
    write_log(begin(), *ALARM)
    done = in_a_process("report", "watch.jsonl", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Path("watch.html").read_text("utf-8").startswith("<!DOCTYPE html>")
