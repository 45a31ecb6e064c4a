"""Files, names and folders that are odd: none costs the verdicts on the others."""

import csv
import errno
import io
import json
import os
import re
import shutil
import sys
import unicodedata

import joblib
import numpy as np
import pytest
import soundfile
from command import RATE, write
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    SpectrumStatistics,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd._cli import score as score_module
from sklearn_asd.features.segmenter import LogMelSegmenter as Segmenter

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and links")

ODD_NAMES = [
    b"\xff\xfe",
    "Latin-\xe9".encode("latin-1"),
    b"a\nnormal      9.999  valve_00  b",
    b"a\rb",
    b"\x1b[2J\x1b]0;title\x07",
    "\u202egnp".encode(),
    "a\u2028b\x85c".encode(),
    b"=cmd|' -C'!A0",
    b"-1+1",
    b"@SUM(1)",
    b"\t=1",
    b'a,b;c"d',
    "\u6cf5 \u2116 3".encode(),
    b"$x^$ <b>&",
    b" ",
    b"--csv",
]


@pytest.fixture
def valve(tmp_path, folder):
    """Twenty training recordings of a machine, in a folder to break things in."""
    shutil.copytree(folder / "recordings" / "valve_00", tmp_path / "r" / "valve_00")
    return tmp_path / "r"


def copy_as(path, names):
    for name in names:
        target = os.path.join(os.fsencode(path.parent), name + b".wav")
        shutil.copy(os.fsencode(path), target)


# -- names ---------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_any_name_is_judged_and_printed_on_a_line_of_its_own(
    model, new_folder, tmp_path, monkeypatch, run, encoding
):
    copy_as(new_folder / "valve_00" / "0.wav", ODD_NAMES)
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    code, _, errors = run("score", model, new_folder, "--csv", tmp_path / "v.csv")
    out.flush()
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert code == 0
    assert "18 recordings: 18 normal" in errors
    assert len(lines) == 18
    assert all(re.match(r"normal +\d+\.\d{3}  valve_00  /", line) for line in lines)
    assert all(line.replace("\xa0", "").isprintable() for line in lines)
    with open(tmp_path / "v.csv", encoding="utf-8", newline="") as file:
        text = file.read()
    assert len(text.splitlines()) == 19
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["verdict"] for row in rows] == ["normal"] * 18


@posix
def test_json_is_the_exact_form(run, model, new_folder, monkeypatch):
    monkeypatch.chdir(new_folder / "valve_00")
    copy_as(new_folder / "valve_00" / "0.wav", ODD_NAMES)
    (new_folder / "valve_00" / "bad.wav").touch()
    code, output, _ = run("score", model, ".", "gone.wav", "--json")
    assert code == 2
    rows = {
        os.fsencode(row["path"]): row for row in map(json.loads, output.splitlines())
    }
    assert set(rows) == set(os.listdir(b".")) | {b"gone.wav"}
    for row in rows.values():
        assert (row["machine"], row["machine_id"]) == ("valve_00", "valve_00")
        assert row["machine_type"] is None
    bad, good = rows.pop(b"bad.wav"), rows.pop(b"0.wav")
    assert (bad["verdict"], bad["score"], bad["margin"]) == ("unusable", None, None)
    assert bad["reason"] == "is an empty file of 0 bytes: leave it out"
    assert (good["verdict"], good["reason"]) == ("normal", None)
    assert good["score"] - good["threshold"] == good["margin"] > 0
    clips = load_clips(".").iloc[[0]].assign(path="0.wav", machine_id="valve_00")
    assert load_model(model).score_samples(clips)[0] == pytest.approx(good["score"])


@pytest.mark.parametrize(
    ("threshold", "expected"), [(np.inf, None), (-np.inf, None), (np.nan, None)]
)
def test_what_json_lacks_is_null(run, model, new_folder, tmp_path, threshold, expected):
    detector = load_model(model)
    detector[-1].offset_ = threshold
    joblib.dump(detector, tmp_path / "m.joblib")  # save_model refuses such models
    arguments = [new_folder / "valve_00", "--json", "--trust"]
    _, output, _ = run("score", tmp_path / "m.joblib", *arguments)
    for line in output.splitlines():
        assert json.loads(line, parse_constant=pytest.fail)["margin"] is expected


names = st.text(
    st.characters(exclude_categories=[])
    | st.sampled_from("=+-@\t\r\n,;\"'\uff1d1e. \x1b\udcff"),
    max_size=8,
)


@given(names)
def test_a_cell_is_one_cell_and_no_formula(name):
    text = score_module._as_cell(name)
    for delimiter in ",;\t|":
        ((cell,),) = csv.reader([text], delimiter=delimiter) if text else [[""]]
    assert len(text.splitlines()) <= 1
    text.encode()
    if re.match(r"\s*[=+@\-\uff1d\uff0b\uff0d\uff20]", cell):
        float(cell)
    assert cell.lstrip("'").endswith(name) or not name.isprintable() or "'" in name


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("new/pump_3/1.wav", "new/pump_3/1.wav"),
        ("=1+1", '"\'=1+1"'),
        ("+49 30", '"\'+49 30"'),
        ("-1", "-1"),
        ("+1.5e-3", '"+1.5e-3"'),
        ("-a", '"\'-a"'),
        ("@x", '"\'@x"'),
        (" =1", '"\' =1"'),
        ("\uff1d1", '"\'\uff1d1"'),
        ("\t=1", '"\\t=1"'),
        ('a,"b"', '"a,""b"""'),
        ("a;=1", '"a;=1"'),
        ("", ""),
        (-0.25, "-0.25"),
        (float("-inf"), "-inf"),
    ],
)
def test_cells_that_a_spreadsheet_would_compute_begin_with_an_apostrophe(value, cell):
    assert score_module._as_cell(value) == cell


@posix
def test_odd_names_are_learnt_evaluated_and_reported(run, valve, folder, tmp_path):
    copy_as(next((valve / "valve_00").iterdir()), ODD_NAMES)
    (valve / "valve_00" / "bad\nnormal.wav").touch()
    odd_machine = valve / "valve\x1b[2J\n\u202e_01"
    shutil.copytree(folder / "recordings" / "valve_01", odd_machine)
    code, output, errors = run("fit", valve, "-o", tmp_path / "m.asd")
    assert code == 0, errors
    assert "  valve\\x1b[2J\\n\\u202e_01  20\n" in errors
    assert r"bad\nnormal.wav is an empty file" in errors
    labelled = tmp_path / "l" / "valve_00"
    for label in ("normal", "anomaly"):
        shutil.copytree(valve / "valve_00", labelled / label)
    code, table, errors = run("evaluate", tmp_path / "m.asd", labelled)
    assert code == 2
    assert r"bad\nnormal.wav" in errors
    page = tmp_path / "r.html"
    code, output, _ = run("score", tmp_path / "m.asd", valve, "--report", page)
    assert code == 2
    assert len(output.splitlines()) == 57
    page.read_text(encoding="utf-8")
    everything = output + errors + table
    assert not re.search("[\x1b\u202e\u2028\udcff]", everything)


@posix
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFKD")])
def test_a_machine_learnt_in_one_form_of_unicode_is_scored_in_another(
    run, valve, tmp_path, forms
):
    learnt, scored = (
        unicodedata.normalize(form, "G\xe9r\xe4t \ud55c") for form in forms
    )
    (valve / "valve_00").rename(valve / learnt)
    shutil.copytree(valve / learnt, valve / "other")
    assert run("fit", valve, "-o", tmp_path / "m.asd")[0] == 0
    new = tmp_path / "new" / scored / "tuesday"
    shutil.copytree(valve / learnt, new)
    code, output, _ = run("score", tmp_path / "m.asd", tmp_path / "new", "--json")
    rows = [json.loads(line) for line in output.splitlines()]
    assert code in (0, 1)
    assert {os.path.dirname(row["path"]) for row in rows} == {str(new)}
    assert {row["machine"] for row in rows} == {unicodedata.normalize("NFC", learnt)}
    stray = tmp_path / "stray.wav"
    shutil.copy(rows[0]["path"], stray)
    named = ["--machine-id", scored]
    assert run("score", tmp_path / "m.asd", stray, *named)[0] in (0, 1)


# -- files ---------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("rate", [8000, RATE])
def test_pipes_hang_no_command(run, tmp_path, rng, rate):
    for machine in ("a", "b"):
        for label in ("normal", "anomaly"):
            folder = tmp_path / "r" / machine / label
            folder.mkdir(parents=True)
            os.mkfifo(folder / "0.wav")  # the first one read
            for number in range(1, 7):
                samples = rng.normal(scale=0.1, size=4 * rate)
                soundfile.write(folder / f"{number}.wav", samples, rate)
    (tmp_path / "r" / "a" / "normal" / "null.wav").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "r" / "not sound")
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m.asd")
    assert code == 0
    assert "Used: 12 of 15 normal recordings" in errors
    for command in ("score", "evaluate"):
        code, output, errors = run(command, tmp_path / "m.asd", tmp_path / "r")
        assert code == 2
        assert "is a pipe or a device, not a file: leave it out" in output + errors
    picture = ("--picture", tmp_path / "demo.png")
    assert run("demo", "--data", tmp_path / "r", "--epochs", 1, *picture)[0] == 0


def judge_with_bad_ones(run, detector, folder, new_folder, tmp_path):
    """Verdicts by a detector that was saved in Python, of good and of bad clips."""
    save_model(detector, tmp_path / "m.asd")
    (new_folder / "valve_00" / "bad.wav").write_bytes(b"noise")
    soundfile.write(new_folder / "valve_00" / "short.wav", np.ones(600), RATE)
    code, output, errors = run("score", tmp_path / "m.asd", new_folder, "--json")
    assert code == 2, errors
    rows = [json.loads(line) for line in output.splitlines()]
    return {os.path.basename(row["path"]): row for row in rows}


def test_a_detector_that_refuses_bad_clips_judges_the_others(
    run, folder, new_folder, tmp_path
):
    detector = make_pipeline(
        LogMelSegmenter(segment_duration=1.0),
        SpectrumStatistics(),
        MahalanobisDetector(),
    )
    detector.fit(load_clips(folder / "recordings"))
    rows = judge_with_bad_ones(run, detector, folder, new_folder, tmp_path)
    assert rows["0.wav"]["verdict"] != "unusable"
    assert rows["1.wav"]["verdict"] != "unusable"
    assert "(bad.wav) cannot be decoded" in rows["bad.wav"]["reason"]
    assert "(short.wav) is about" in rows["short.wav"]["reason"]


def test_a_network_of_whole_clips_judges_the_others_of_a_short_one(
    run, folder, new_folder, tmp_path
):
    segmenter = LogMelSegmenter(segment_duration=None, on_bad_clip="nan")
    network = IDConfidenceDetector(
        confidence="msp", max_epochs=1, batch_size=16, random_state=0
    )
    detector = make_pipeline(segmenter, network).fit(load_clips(folder / "recordings"))
    rows = judge_with_bad_ones(run, detector, folder, new_folder, tmp_path)
    assert rows["0.wav"]["verdict"] != "unusable"
    assert rows["bad.wav"]["reason"].startswith("cannot be decoded")
    assert rows["short.wav"]["reason"].startswith("scores NaN: it is too short for")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("of torch"), KeyError("x"), ZeroDivisionError()],
)
def test_an_error_of_any_kind_is_kept_to_its_recording(
    run, model, new_folder, monkeypatch, error
):
    compute = Segmenter._compute_frames

    def fail(self, sound, view):
        if len(sound.samples) == 600:
            raise error
        return compute(self, sound, view)

    soundfile.write(new_folder / "valve_00" / "huge.wav", np.ones(600), RATE)
    monkeypatch.setattr(Segmenter, "_compute_frames", fail)
    code, output, _ = run("score", model, new_folder)
    assert code == 2
    assert output.count("normal ") == 2
    (line,) = (line for line in output.splitlines() if "huge.wav" in line)
    assert line.startswith("unusable")
    assert (
        "needs more memory" if isinstance(error, MemoryError) else repr(error)
    ) in line


# -- what is passed over -------------------------------------------------------------


def forbid(monkeypatch, folder):
    """Make a folder unreadable, also for root."""
    scan = os.scandir

    def fail(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", fail)


def test_a_machine_that_cannot_be_listed_is_not_normal(
    run, model, new_folder, folder, tmp_path, monkeypatch
):
    for label in ("normal", "anomaly"):
        shutil.copytree(new_folder, tmp_path / "l" / label)
    locked = new_folder / "valve_01"
    locked.mkdir()
    forbid(monkeypatch, locked)
    code, output, errors = run("score", model, new_folder)
    assert code == 2
    assert f"{locked}: cannot be listed (Permission denied): give this user" in output
    assert "3 recordings: 2 normal, 0 anomalous, 1 unusable" in errors
    code, _, errors = run("fit", new_folder, "-o", tmp_path / "m.asd")
    assert code == 2
    assert "not all recordings can be found: " in errors
    assert not (tmp_path / "m.asd").exists()
    locked = tmp_path / "l" / "normal" / "locked"
    locked.mkdir()
    forbid(monkeypatch, locked)
    code, _, errors = run("evaluate", model, tmp_path / "l")
    assert code == 2
    assert f"unusable: {locked} cannot be listed" in errors
    forbid(monkeypatch, new_folder)
    code, output, _ = run("score", model, new_folder)
    assert code == 2
    assert f"{new_folder}: cannot be listed" in output


@posix
def test_linked_machines_and_recordings_are_judged_by_their_own_names(
    run, model, folder, tmp_path
):
    """As in stores of DVC and of model hubs."""
    store = tmp_path / ".cache"
    shutil.copytree(folder / "broken" / "valve_00", store / "ab12")
    recording = next((folder / "new" / "valve_01" / "tuesday").iterdir())
    shutil.copy(recording, store / "cd34")
    new = tmp_path / "new"
    (new / "valve_01").mkdir(parents=True)
    (new / "valve_00").symlink_to(store / "ab12")
    (new / "valve_01" / "a.wav").symlink_to("../../.cache/cd34")
    code, output, errors = run("score", model, new)
    assert code == 1
    assert [line.split()[2] for line in output.splitlines()] == ["valve_00"] * 3 + [
        "valve_01"
    ]
    for path in (new / "valve_01" / "a.wav", new / "valve_00"):
        assert path.name in run("score", model, path)[1]
        assert "unusable" not in run("score", model, path)[1]
    (new / "valve_02").symlink_to("nowhere")
    (new / "valve_01" / "up").symlink_to("..")
    code, output, errors = run("score", model, new)
    assert code == 2
    assert "valve_02: is a link to 'nowhere', which cannot be found" in output
    assert "Passed over: 1 links that lead back" in errors
    assert len(output.splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[
            (f"{n}", 2)
            for n in ("b.mp2", "b.M4A", "b.wma", "b.raw", ".b.wav", ".x/b.wav")
        ],
        *[(f"{n}", 0) for n in ("b.txt", "._b.wav", ".x/y", "README", "b.wav.part")],
    ],
)
def test_what_may_be_a_recording_counts_and_other_files_are_counted(
    run, model, new_folder, valve, tmp_path, name, code
):
    for folder in (new_folder, valve):
        (folder / "valve_00" / name).parent.mkdir(exist_ok=True)
        (folder / "valve_00" / name).touch()
    found, output, errors = run("score", model, new_folder, "--csv", tmp_path / "v.csv")
    assert found == code
    named = name.split("/")[0]
    assert (f"{named}: " in output) == (code == 2)
    assert (named in (tmp_path / "v.csv").read_text()) == (code == 2)
    assert ("Passed over: 1 " in errors) == (code == 0)
    found, _, errors = run("fit", valve, "-o", tmp_path / "m.asd")
    assert found == 0
    assert (f"{named} " in errors) == (code == 2)


# -- outputs -------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("link", [None, "soft", "hard"])
@pytest.mark.parametrize("target", ["model", "recording", "training"])
@pytest.mark.parametrize("option", ["--csv", "--report"])
def test_an_output_of_score_is_none_of_its_inputs(
    run, model, new_folder, folder, tmp_path, option, target, link
):
    own = tmp_path / "m.asd"
    shutil.copy(model, own)
    inputs = {
        "model": own,
        "recording": new_folder / "valve_00" / "0.wav",
        "training": next((folder / "recordings" / "valve_01").iterdir()),
    }
    read, output = inputs[target], tmp_path / "output"
    if link is None:
        output = read
    else:
        (os.symlink if link == "soft" else os.link)(read, output)
    before = read.read_bytes()
    code, printed, errors = run("score", own, new_folder, option, output)
    assert (code, printed) == (2, "")
    assert (
        f"{option} {str(output)!r} is the file {str(read)!r}, which is read" in errors
    )
    assert read.read_bytes() == before


@posix
@pytest.mark.parametrize("link", [None, "soft", "hard"])
def test_a_model_is_not_written_over_a_recording(run, valve, tmp_path, link):
    read = next((valve / "valve_00").iterdir())
    output = tmp_path / "m.asd" if link else read
    if link:
        (os.symlink if link == "soft" else os.link)(read, output)
    before = read.read_bytes()
    code, _, errors = run("fit", valve, "-o", output)
    assert code == 2
    assert f"--output {str(output)!r} is the file" in errors
    assert "Trained" not in errors
    assert read.read_bytes() == before
    assert run("fit", valve, "-o", valve)[0] == 2


def test_table_and_report_are_two_files(run, model, new_folder, tmp_path):
    both = tmp_path / "v"
    code, output, errors = run(
        "score", model, new_folder, "--csv", both, "--report", both
    )
    assert (code, output) == (2, "")
    assert "--report and --csv are one file" in errors


@posix
@pytest.mark.parametrize("target", ["m.asd", "gone/x", ".cache/ab12"])
def test_a_model_replaces_a_link_and_not_what_it_leads_to(run, valve, tmp_path, target):
    store = tmp_path / ".cache" / "ab12"
    write(store.with_suffix(".wav"), np.zeros(9))
    store.write_bytes(b"of yesterday")
    (tmp_path / "m.asd").symlink_to(target)
    code, _, errors = run("fit", valve, "-o", tmp_path / "m.asd")
    assert code == 0
    note = f"m.asd will be a file, and no link to {target}\n"
    assert (note in errors) == (target == ".cache/ab12")
    assert store.read_bytes() == b"of yesterday"
    assert not (tmp_path / "m.asd").is_symlink()
    load_model(tmp_path / "m.asd")


def test_errors_are_short_whatever_was_given(run, model, new_folder):
    for arguments in (
        ("score", model, new_folder, "--machine-id", "x" * 100_000),
        ("fit", new_folder, "-o", "m.asd", "--id-column", "x" * 100_000),
        ("fit", "x" * 100_000, "-o", "m.asd"),
        ("info", "x" * 100_000),
    ):
        code, _, errors = run(*arguments)
        assert code == 2
        assert len(errors) < 7000
