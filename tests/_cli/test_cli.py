"""``sklearn-asd``, on real files."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
from command import RATE, in_a_process, write

from sklearn_asd import (
    __version__,
    describe_model,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd._cli import evaluate as evaluate_module
from sklearn_asd._cli.systems import SYSTEMS, make_system
from sklearn_asd.audio import reading
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.meta.scoring import final_step
from sklearn_asd.meta.structure import walk
from sklearn_asd.persistence.allowed import ESTIMATORS
from sklearn_asd.presets import NETWORK_DETECTORS, make_paper_system

# -- the two commands of a newcomer --------------------------------------------------


def test_two_commands_give_a_model_and_verdicts(folder, tmp_path):
    fit = in_a_process("fit", "recordings", "-o", tmp_path / "m.asd", cwd=folder)
    assert fit.returncode == 0, fit.stderr
    assert "40 normal recordings of 2 machines:\n  valve_00  20\n" in fit.stderr
    assert (
        "about 5 % (leave-one-out on 40 training recordings of 2 machines)"
        in fit.stdout
    )
    assert "This holds for recordings like those of training. Recordings" in fit.stdout
    lines = fit.stdout.splitlines()
    first = [line.startswith("This holds") for line in lines].index(True)
    assert max(map(len, lines[first : first + 2])) <= 80
    score = in_a_process("score", tmp_path / "m.asd", "broken", "new", cwd=folder)
    assert score.returncode == 1, score.stderr
    lines = score.stdout.splitlines()
    assert len(lines) == 12
    verdict, margin, machine, path = lines[0].split()
    assert (verdict, machine) == ("anomalous", "valve_00")
    assert float(margin) < 0
    assert path.startswith("broken/valve_00/")
    assert all(line.startswith("anomalous") for line in lines[:6])
    assert "12 recordings: " in score.stderr
    assert " 0 unusable" in score.stderr


def test_the_exit_code_says_whether_there_are_anomalies(run, model, folder):
    verdicts = {}
    for path in sorted((folder / "new").rglob("*.wav")):
        code, output, _ = run("score", model, path)
        verdicts[path] = output.split()[0]
        assert code == {"normal": 0, "anomalous": 1}[verdicts[path]]
    assert "normal" in verdicts.values()
    code, output, _ = run("score", model, folder / "broken")
    assert code == 1
    assert "normal" not in output.split()


def test_the_model_is_an_ordinary_detector(model, folder, run):
    detector = load_model(model)
    clips = load_clips(folder / "broken")
    clips["machine_id"] = [path.split(os.sep)[-2] for path in clips["path"]]
    margins = detector.decision_function(clips)
    assert (detector.predict(clips) == -1).all()
    _, output, _ = run("score", model, folder / "broken")
    printed = [float(line.split()[1]) for line in output.splitlines()]
    np.testing.assert_allclose(printed, margins, atol=5e-4)


def test_the_model_file_knows_the_training_recordings(model, folder):
    notes = describe_model(model)["notes"]
    assert notes["id_column"] == "machine_id"
    assert notes["machines"] == [[None, "valve_00"], [None, "valve_01"]]
    paths = [str(path.resolve()) for path in (folder / "recordings").rglob("*.wav")]
    assert sorted(notes["training"]["path"]) == sorted(paths)
    assert notes["training"]["machine_type"] == [None] * 40


@pytest.mark.parametrize("notes", [None, {"machine": "pump"}])
def test_any_saved_detector_can_judge(run, model, tmp_path, folder, notes):
    save_model(load_model(model), tmp_path / "own.asd", notes)
    paths = sorted((folder / "broken" / "valve_00").iterdir())
    code, output, _ = run("score", tmp_path / "own.asd", *paths)
    assert code == 1
    assert output.count("anomalous") == 3


def test_a_joblib_file_is_read_only_if_it_is_trusted(run, model, tmp_path, folder):
    own, new = tmp_path / "own.joblib", folder / "broken" / "valve_00"
    joblib.dump(load_model(model), own, compress=3)
    for command in ("score", "evaluate"):
        code, output, errors = run(command, own, new)
        assert (code, output) == (2, "")
        assert "add --trust: such a file can run code" in errors
    code, output, _ = run("score", own, new, "--trust")
    assert code == 1
    assert output.count("anomalous") == 3
    joblib.dump({"a": 1}, own)
    code, _, errors = run("score", own, new, "--trust")
    assert code == 2
    assert "holds a dict, which is not a fitted detector" in errors


class Bomb:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("options", [{}, {"compress": 3}, {"protocol": 0}], ids=str)
def test_a_pickle_named_asd_is_never_unpickled(run, tmp_path, folder, options):
    joblib.dump(Bomb(tmp_path / "trace"), tmp_path / "m.asd", **options)
    for trust in ([], ["--trust"]):
        code, output, errors = run("score", tmp_path / "m.asd", folder / "new", *trust)
        assert (code, output) == (2, "")
        assert "a name that ends in .joblib, and add --trust" in errors
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "sparse"])
def test_what_is_no_regular_file_is_no_model(run, tmp_path, folder, kind):
    path = tmp_path / "m.asd"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 10**12)
    for trust in ([], ["--trust"]):
        code, output, errors = run("score", path, folder / "new", *trust)
        assert (code, output) == (2, "")
        assert "is no model: it is a" in errors or "is not a model file" in errors


@pytest.mark.parametrize(
    "change",
    [
        {"id_column": 1},
        {"machines": []},
        {"machines": [["a"]]},
        {"machines": [[1, "a"]]},
        {"machines": {"a": 1}},
        {"training": [1]},
        {"training": {"path": ["a"], "machine_type": [], "machine_id": ["b"]}},
        {"training": {"path": [1], "machine_type": [None], "machine_id": ["b"]}},
        {"training": {"path": ["a"], "machine_type": [[]], "machine_id": ["b"]}},
        {"training": {"path": ["a"]}},
    ],
    ids=str,
)
def test_notes_that_fit_did_not_write_are_refused(run, model, tmp_path, folder, change):
    notes = describe_model(model)["notes"] | change
    save_model(load_model(model), tmp_path / "m.asd", notes)
    code, output, errors = run("score", tmp_path / "m.asd", folder / "new")
    assert (code, output) == (2, "")
    assert "are not those of sklearn-asd fit" in errors


def test_a_damaged_model_is_refused(run, model, tmp_path, folder):
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    (tmp_path / "m.asd").write_bytes(data)
    code, output, errors = run("score", tmp_path / "m.asd", folder / "new", "--trust")
    assert (code, output) == (2, "")
    assert "its checksum does not match" in errors


# -- which machine a recording is of ---------------------------------------------------


def test_folders_between_a_machine_and_its_recording_do_not_matter(run, model, folder):
    code, output, _ = run("score", model, folder / "new")
    assert code in (0, 1)
    machines = [line.split()[2] for line in output.splitlines()]
    assert machines == ["valve_00"] * 3 + ["valve_01"] * 3


def test_a_recording_of_an_unknown_machine_is_named_with_the_remedy(
    run, model, new_folder
):
    (new_folder / "valve_00").rename(new_folder / "valve_07")
    code, output, errors = run("score", model, new_folder)
    assert code == 2
    bad, *others = output.splitlines()[::-1]
    assert bad.startswith("unusable")
    assert (
        "0.wav: is of machine 'valve_07', which the model does not know: name it with "
        "--machine-id, one of valve_00, valve_01, or fit again"
    ) in output
    assert len(others) + 1 == len(output.splitlines())
    assert "unusable" in errors


def test_machine_id_names_the_machine_of_all_recordings(run, model, tmp_path, folder):
    path = next((folder / "broken" / "valve_01").iterdir())
    stray = tmp_path / "stray.flac"
    stray.write_bytes(path.read_bytes())
    code, output, _ = run("score", model, stray)
    assert code == 2
    code, output, _ = run("score", model, stray, "--machine-id", "valve_01")
    assert code == 1
    assert output.split()[2] == "valve_01"


def test_an_unknown_machine_id_is_refused_with_the_nearest(run, model, folder):
    code, _, errors = run("score", model, folder / "new", "--machine-id", "valve_00x")
    assert code == 2
    assert "--machine-id 'valve_00x' fits no machines of the model:" in errors
    assert "did you mean 'valve_00'?" in errors


def test_a_model_of_one_machine_takes_recordings_for_its_own_and_says_so(
    run, folder, tmp_path
):
    one = tmp_path / "one.asd"
    assert run("fit", folder / "recordings" / "valve_00", "-o", one)[0] == 0
    stray = tmp_path / "stray.flac"
    stray.write_bytes(next((folder / "broken" / "valve_00").iterdir()).read_bytes())
    code, output, errors = run("score", one, stray)
    assert code == 1
    assert output.split()[2] == "valve_00"
    assert "1 recording taken to be of valve_00, the only machine" in errors
    labelled = tmp_path / "anomaly" / "stray.flac"
    labelled.parent.mkdir()
    stray.rename(labelled)
    code, _, errors = run("evaluate", one, labelled.parent)
    assert code == 0
    assert "1 recording taken to be of valve_00, the only machine" in errors


@pytest.fixture(scope="module")
def dcase(tmp_path_factory, sounds):
    """Valves under names of 2020 and 2023, and by type and machine."""
    root = tmp_path_factory.mktemp("dcase")
    for number, clip in enumerate(sounds.itertuples()):
        label = "normal" if clip.label == 1 else "anomaly"
        names = {
            "2020": f"valve/{clip.split}/{label}_id_{clip.machine_id}_{number:08d}.wav",
            "2023": f"valve/{clip.split}/section_00_source_{clip.split}_{label}_"
            f"{number:04d}_pat_{clip.machine_id}.wav",
            "plain": f"valve/{clip.machine_id}/{clip.split}/{label}/{number:03d}.wav",
        }
        for layout, name in names.items():
            write(root / layout / name, clip.audio)
    return root


def test_names_of_dcase_tell_the_machine_wherever_the_folder_is_read(
    run, dcase, tmp_path
):
    code, _, errors = run("fit", dcase / "2020", "-o", tmp_path / "m.asd")
    assert code == 0
    assert "Left out: 12 recordings outside of folders called train" in errors
    assert "  valve/00  20\n  valve/01  20\n" in errors
    for path in (dcase / "2020" / "valve", dcase / "2020" / "valve" / "test"):
        code, output, _ = run("score", tmp_path / "m.asd", path)
        assert code in (0, 1)
        assert {line.split()[2] for line in output.splitlines()} == {
            "valve/00",
            "valve/01",
        }


def test_a_name_of_dcase_is_not_overruled_by_the_only_machine(run, dcase, tmp_path):
    normal = dcase / "plain" / "valve" / "00"
    run("fit", normal, "-o", tmp_path / "m.asd")
    other = next((dcase / "2020" / "valve" / "test").glob("*id_01*"))
    code, output, _ = run("score", tmp_path / "m.asd", other)
    assert code == 2
    assert "is of machine 'valve/01'" in output


def test_type_and_machine_are_found_in_the_folders_of_a_single_file(
    run, dcase, tmp_path
):
    run("fit", dcase / "plain", "-o", tmp_path / "m.asd")
    path = next((dcase / "plain" / "valve" / "01" / "test" / "normal").iterdir())
    _, output, _ = run("score", tmp_path / "m.asd", path)
    assert output.split()[2] == "valve/01"
    _, output, _ = run("score", tmp_path / "m.asd", path, "--machine-id", "00")
    assert output.split()[2] == "valve/00"


def test_an_attribute_can_tell_machines_apart(run, dcase, tmp_path):
    model = tmp_path / "m.asd"
    code, _, errors = run("fit", dcase / "2023", "-o", model, "--id-column", "pat")
    assert code == 0
    assert "  valve/00  20\n  valve/01  20\n" in errors
    code, output, _ = run("score", model, dcase / "2023")
    assert code in (0, 1)
    assert "valve/01" in output
    nameless = tmp_path / "valve" / "section_00_source_test_normal_0000.wav"
    write(nameless, np.zeros(2 * RATE))
    code, output, _ = run("score", model, nameless)
    assert code == 2
    assert "has no 'pat' in its name" in output


def test_an_unknown_attribute_is_refused_with_the_nearest(run, dcase, tmp_path):
    code, _, errors = run(
        "fit", dcase / "2023", "-o", tmp_path / "m", "--id-column", "path_"
    )
    assert code == 2
    assert "have no 'path_': did you mean 'pat'? --id-column is one of" in errors


# -- recordings that cannot be used ----------------------------------------------------


def test_one_bad_file_does_not_stop_the_rest(run, model, new_folder):
    (new_folder / "valve_00" / "9.wav").write_bytes(b"noise")
    (new_folder / "valve_00" / "a.wav").touch()
    code, output, errors = run("score", model, new_folder, new_folder / "gone.wav")
    assert code == 2
    lines = {line.split(".wav")[0].split("/")[-1]: line for line in output.splitlines()}
    assert len(lines) == 5
    assert "valve_00" in lines["9"]
    assert "9.wav: cannot be decoded" in lines["9"]
    assert "a.wav: is an empty file of 0 bytes" in lines["a"]
    assert lines["gone"].startswith("unusable")
    assert lines["0"].split()[0] in ("normal", "anomalous")
    assert ", 3 unusable" in errors
    alone = run("score", model, new_folder / "valve_00" / "0.wav")[1]
    assert alone.strip() == lines["0"].strip()


def test_a_bad_training_file_is_named_and_left_out(run, folder, tmp_path):
    for path in (folder / "recordings" / "valve_00").iterdir():
        target = tmp_path / "recordings" / "valve_00" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "recordings" / "valve_00" / "bad.wav").write_bytes(b"noise")
    code, _, errors = run("fit", tmp_path / "recordings", "-o", tmp_path / "m.asd")
    assert code == 0
    bad = tmp_path / "recordings" / "valve_00" / "bad.wav"
    assert f"Left out: {bad} cannot be decoded" in errors
    assert "Used: 20 of 21 normal recordings.\n  valve_00  20 of 21" in errors


def test_recordings_of_a_low_sample_rate_are_analysed_at_theirs(run, rng, tmp_path):
    for number in range(4):
        path = tmp_path / "r" / "pump" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(scale=0.1, size=16000), 8000)
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m.asd")
    assert code == 0
    assert "Sample rate: 8000 Hz" in errors
    assert "cannot be used" not in errors
    assert run("score", tmp_path / "m.asd", tmp_path / "r")[0] in (0, 1)


def test_one_recording_of_a_low_sample_rate_is_named(run, folder, tmp_path):
    for number, path in enumerate((folder / "recordings" / "valve_00").iterdir()):
        target = tmp_path / "r" / "valve_00" / f"{number}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    soundfile.write(target.with_name("a.wav"), np.zeros(16000), 8000)
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m.asd")
    assert code == 0
    assert "a.wav is sampled at 8000 Hz, below the sample rate of 16000 Hz" in errors
    assert "fit the model with --sample-rate 8000, or leave it out" in errors
    assert "sample_rate=" not in errors
    code, output, _ = run("score", tmp_path / "m.asd", tmp_path / "r", "--quiet")
    assert code == 2
    assert "fit the model with --sample-rate 8000, or leave it out" in output


def test_a_folder_without_recordings_is_named(run, model, tmp_path, new_folder):
    (tmp_path / "empty").mkdir()
    code, output, _ = run("score", model, tmp_path / "empty", new_folder)
    assert code == 2
    assert "empty: holds no recordings: no file below it ends in .wav, .flac" in output
    assert len(output.splitlines()) == 3


# -- what is written -------------------------------------------------------------------


def test_the_table_holds_a_row_for_each_recording(run, model, new_folder, tmp_path):
    (new_folder / "valve_00" / "9.wav").write_bytes(b"noise")
    run("score", model, new_folder, "--csv", tmp_path / "v.csv")
    table = pd.read_csv(tmp_path / "v.csv")
    assert list(table.columns) == [
        "path",
        "machine_type",
        "machine_id",
        "verdict",
        "margin",
        "reason",
        "remark",
        "start",
        "stop",
    ]
    assert table["machine_id"].tolist() == ["valve_00"] * 3
    assert table["verdict"].tolist()[-1] == "unusable"
    assert table["margin"].notna().tolist() == [True, True, False]
    assert table["reason"].isna().tolist() == [True, True, False]
    normal = table["verdict"] == "normal"
    assert (table["margin"] >= 0).tolist() == normal.tolist()


def test_a_table_that_cannot_be_written_leaves_the_earlier_one(
    run, model, new_folder, tmp_path, monkeypatch
):
    (tmp_path / "v.csv").write_text("earlier")

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    code, _, errors = run("score", model, new_folder, "--csv", tmp_path / "v.csv")
    assert code == 2
    assert "no space left" in errors
    assert (tmp_path / "v.csv").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "v.csv"]


@pytest.fixture
def reports(monkeypatch):
    """What is passed to the report's writer."""
    seen = []
    monkeypatch.setattr(
        "sklearn_asd.report.page.write_page",
        lambda template, findings, path, **_: seen.append((findings, path)),
    )
    return seen


def test_the_report_is_written_of_all_that_was_judged(
    run, model, new_folder, tmp_path, reports
):
    (new_folder / "valve_00" / "9.wav").write_bytes(b"noise")
    code, _, errors = run("score", model, new_folder, "--report", tmp_path / "r.html")
    assert code == 2
    assert "Warning" not in errors  # the table names the clip and the reason
    ((findings, path),) = reports
    assert path == str(tmp_path / "r.html")
    assert len(findings.names) == 3
    (row,) = findings.unusable
    assert findings.names[row] == "9.wav"
    assert "cannot be decoded" in findings.explain_unusable(row)
    assert len(findings.X_train) == 40
    assert findings.model_path == str(model)


def test_training_recordings_that_are_gone_are_no_part_of_the_report(
    run, folder, tmp_path, reports
):
    gone = tmp_path / "gone"
    shutil.copytree(folder / "recordings", gone)
    run("fit", gone, "-o", tmp_path / "m.asd")
    shutil.rmtree(gone)
    run("score", tmp_path / "m.asd", folder / "new", "--report", tmp_path / "r.html")
    assert reports[0][0].normal_clips is None


def test_with_a_report_each_file_is_read_once(
    run, model, folder, tmp_path, monkeypatch
):
    read, reads = reading.open_file, []

    def count(path, *arguments):
        reads.append(str(path))
        return read(path, *arguments)

    monkeypatch.setattr(reading, "open_file", count)
    code, _, _ = run("score", model, folder / "broken", "--report", tmp_path / "r.html")
    assert code == 1
    assert "in detail" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert set(map(str, (folder / "broken").rglob("*.flac"))) < set(reads)
    assert len(reads) == len(set(reads))


def test_of_nothing_there_is_no_report(run, model, tmp_path, reports):
    bad = tmp_path / "valve_00" / "bad.wav"
    bad.parent.mkdir()
    bad.touch()
    code, _, errors = run("score", model, bad, "--report", tmp_path / "r.html")
    assert code == 2
    assert "No report" in errors
    assert reports == []


def test_a_report_without_its_extra_is_refused_before_anything_is_scored(
    run, model, new_folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, output, errors = run(
        "score", model, new_folder, "--report", tmp_path / "r.html"
    )
    assert (code, output) == (2, "")
    assert "needs jinja2" in errors
    assert 'pip install -e ".[report]"' in errors


@pytest.mark.parametrize("option", ["--csv", "--report"])
def test_what_cannot_be_written_is_refused_before_anything_is_done(
    run, model, folder, tmp_path, option
):
    target = tmp_path / "nowhere" / "out"
    code, output, errors = run("score", model, folder / "new", option, target)
    assert code == 2
    assert output == ""
    assert f"cannot be written: {str(target.parent)!r} does not exist" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/stdout")
def test_the_table_can_go_to_standard_output(model, folder):
    score = in_a_process("score", model, folder / "broken", "--csv", "/dev/stdout")
    assert score.returncode == 1, score.stderr
    assert (
        "path,machine_type,machine_id,verdict,margin,reason,remark,start,"
        in score.stdout
    )
    assert score.stdout.count(",anomalous,-") == 6


def test_quiet_leaves_results_and_problems(run, model, new_folder):
    (new_folder / "notes.txt").touch()
    loud = run("score", model, new_folder)
    code, output, errors = run("score", model, new_folder, "--quiet")
    assert (code, output, errors) == (loud[0], loud[1], "")
    assert "Passed over: 1 " in loud[2]
    assert "2 recordings: " in loud[2]


# -- evaluate --------------------------------------------------------------------------


def test_evaluate_tells_auc_false_alarms_and_misses(run, dcase, tmp_path):
    run("fit", dcase / "plain", "-o", tmp_path / "m.asd")
    code, output, _ = run("evaluate", tmp_path / "m.asd", dcase / "plain")
    assert code == 0
    assert output.splitlines()[0].split() == ["n_normal", "n_anomalous", "auc", "pauc"]
    assert "average" in output
    assert " of 6 normal recordings (" in output.split("False alarms:")[1]
    assert (
        "Missed:       0 of 6 anomalous recordings (0 %, 95 % interval 0 to 46"
        in output
    )


def test_an_interval_says_what_few_recordings_leave_possible():
    def share(n_hits, n):
        return evaluate_module._share(pd.Series([True] * n_hits + [False] * n)[:n], "x")

    # 1 - 0.025^(1/n) if none is hit; 6 of 25 as in tables of Clopper and Pearson.
    assert share(6, 25) == "6 of 25 x recordings (24 %, 95 % interval 9 to 45 %)"
    assert share(0, 10) == "0 of 10 x recordings (0 %, 95 % interval 0 to 31 %)"
    assert share(2, 2) == "2 of 2 x recordings (100 %, 95 % interval 16 to 100 %)"
    assert share(0, 0) == "0 of 0 x recordings"


def test_evaluate_names_what_it_cannot_judge(run, dcase, tmp_path):
    run("fit", dcase / "plain", "-o", tmp_path / "m.asd")
    bad = tmp_path / "more" / "valve" / "00" / "normal" / "bad.wav"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"noise")
    code, _, errors = run("evaluate", tmp_path / "m.asd", tmp_path / "more")
    assert code == 2
    assert "bad.wav cannot be decoded" in errors
    assert "none of the recordings could be judged" in errors


def test_evaluate_needs_labels(run, model, folder):
    code, _, errors = run("evaluate", model, folder / "new")
    assert code == 2
    assert "no labelled recordings" in errors


# -- systems ---------------------------------------------------------------------------


@pytest.mark.parametrize("types", [["fan"], ["fan", "pump"]])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_model_file_can_hold_every_system(system, types):
    options = {
        "sample_rate": 16000,
        "max_epochs": 1,
        "batch_size": None,
        "device": "cpu",
        "n_jobs": 1,
        "random_state": 0,
    }
    counts = pd.Series([9, 9], ["fan/0", "fan/1"])
    detector = make_system(system, types, counts, 0.05, options)
    assert {type(one).__name__ for one in walk(detector)} <= set(ESTIMATORS)


def test_the_paper_systems_are_fitted_for_one_type(run, dcase, tmp_path):
    model = tmp_path / "m.asd"
    options = ["--system", "baseline", "--epochs", "1", "--batch-size", "64"]
    code, output, errors = run("fit", dcase / "2020", "-o", model, *options)
    assert code == 0, errors
    assert "Expected false alarms: " in output
    assert "train_loss" not in errors  # as standard error is no terminal
    code, output, _ = run("score", model, dcase / "2020")
    assert code in (0, 1)
    assert "valve/00" in output


def test_a_paper_system_is_fitted_for_several_types(run, tmp_path, monkeypatch):
    """With two views, so that four networks are trained in seconds."""
    few = {"pitch_steps": (0, 2), "stretch_rates": (1,)}
    small = partial(make_paper_system, **few)
    monkeypatch.setattr("sklearn_asd._cli.systems.make_paper_system", small)
    sounds = make_machine_sounds(
        ["ToyCar", "ToyConveyor"],
        n_machines=2,
        n_train=8,
        n_test_normal=1,
        n_test_anomalous=0,
        duration=4.0,
        random_state=0,
    )
    for number, clip in enumerate(sounds.itertuples()):
        name = f"{clip.machine_type}/{clip.machine_id}/{clip.split}/{number}.wav"
        write(tmp_path / "toys" / name, clip.audio)
    model = tmp_path / "m.asd"
    options = ["--system", "ii", "--epochs", "1", "--batch-size", "16"]
    code, output, errors = run("fit", tmp_path / "toys", "-o", model, *options)
    assert code == 0, errors
    promise = "Threshold: of each of 4 machines, 5 % of unseen normal clips are called"
    assert promise in output
    tuner = load_model(model)
    machines = {f"{kind}/0{n}" for kind in ("ToyCar", "ToyConveyor") for n in (0, 1)}
    assert set(tuner.offsets_) == machines
    assert list(tuner.detector_.scales_) == [None]  # the paper's MI
    for member in tuner.detector_.estimators_:
        assert list(member.named_estimators_) == ["ToyCar", "ToyConveyor"]
    code, output, _ = run("score", model, tmp_path / "toys")
    assert code in (0, 1)
    assert all(machine in output for machine in machines)


def test_a_type_to_judge_needs_recordings_to_learn_from(run, tmp_path):
    for kind, split in (("ToyCar", "test"), ("ToyConveyor", "train")):
        for number in range(6):
            name = f"{kind}/{split}/normal_id_0{number % 2}_{number}.wav"
            write(tmp_path / "r" / name, np.zeros(RATE))
    options = ["--machine-type", "ToyCar", "--system", "iii"]
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m", *options)
    assert code == 2
    assert "no training recordings of ToyCar: add some, or name other" in errors


def test_types_that_a_system_learns_from_are_all_named(run, tmp_path):
    for kind in ("fan", "pump", "slider"):
        for number in range(3):
            write(tmp_path / "r" / kind / "00" / f"{number}.wav", np.zeros(RATE))
    options = ["--machine-type", "fan", "--machine-type", "pump", "--system", "iii"]
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m", *options)
    assert code == 2
    assert "'iii' of fan, pump learns from recordings of slider too: name" in errors
    twice = ["--machine-type", "fan", "--machine-type", "fan", "--system", "baseline"]
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m", *twice)
    assert code == 2
    assert "needs 2 held-out recordings, and fan/00 has 3 recordings" in errors


def test_the_default_is_fitted_and_chooses_a_statistic(model, run, folder, tmp_path):
    default = final_step(load_model(model))
    assert default.contamination == 0.05
    assert list(default.sibling_aucs_.columns) == list(default.named_estimators_)
    ((_, chosen),) = default.selected_.items()
    assert len(chosen) == 1
    one = tmp_path / "one.asd"
    assert run("fit", folder / "recordings" / "valve_00", "-o", one)[0] == 0
    ((_, chosen),) = final_step(load_model(one)).selected_.items()
    assert len(chosen) == 5  # nothing to choose by


@pytest.mark.parametrize("system", ["spectrum", "neighbors"])
def test_systems_without_networks_judge_one_machine(run, folder, tmp_path, system):
    model = tmp_path / "m.asd"
    valve = folder / "recordings" / "valve_00"
    code, output, errors = run("fit", valve, "-o", model, "--system", system)
    assert code == 0, errors
    assert "Expected false alarms: about 5 %" in output
    code, output, _ = run("score", model, folder / "broken" / "valve_00")
    assert code == 1
    assert output.count("anomalous") == 3


def test_few_recordings_are_said_to_raise_more_alarms(run, folder, tmp_path):
    options = ["--false-alarm-rate", "0.02"]
    for machine in ("", "valve_00"):
        path = folder / "recordings" / machine
        code, output, _ = run("fit", path, "-o", tmp_path / "m.asd", *options)
        n_clips = 20 if machine else 40
        assert code == 0
        assert f"leave-one-out on {n_clips} training recordings of " in output
        assert "Expect more, as there are so few." in output


def test_the_ensemble_is_fitted_and_judges(run, tmp_path):
    sounds = make_machine_sounds(
        "valve",
        n_machines=2,
        n_train=8,
        n_test_normal=0,
        n_test_anomalous=2,
        duration=4.0,
        random_state=0,
    )
    for number, clip in enumerate(sounds.itertuples()):
        machine = f"valve_{clip.machine_id}"
        write(tmp_path / clip.split / machine / f"{number}.wav", clip.audio)
    model = tmp_path / "m.asd"
    options = ["--system", "ensemble", "--epochs", "1", "--batch-size", "16"]
    code, output, errors = run("fit", tmp_path / "train", "-o", model, *options)
    assert code == 0, errors
    assert (
        "Expected false alarms: 5 %, extrapolated from 4 held-out recordings of 2 "
        "machines (Gamma fit)."
    ) in output
    assert "train_loss" not in errors
    assert "\x1b" not in errors
    members = final_step(load_model(model)).detector_.named_estimators_
    assert set(members) == {"spectrum", "correlations", "spread", "networks"}
    inner = members["networks"].named_estimators_
    networks = [inner[name].encoder_ for name in ("first", "second", "third")]
    assert set(inner) == {"first", "second", "third"}
    assert [network.random_state for network in networks] == [0, 1, 2]
    assert {network.loss for network in networks} == {"arcface"}
    assert {network.max_epochs for network in networks} == {1}
    assert {network.batch_size for network in networks} == {16}
    code, output, _ = run("score", model, tmp_path / "test")
    assert code in (0, 1)
    assert len(output.splitlines()) == 4
    options = ["--machine-type", "valves"]
    code, _, errors = run("fit", tmp_path / "train", "-o", model, *options)
    assert code == 2
    assert "no recordings of the machine type 'valves'" in errors


def test_progress_is_for_whoever_looks_at_it(run, dcase, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    model = tmp_path / "m.asd"
    options = ["--system", "baseline", "--epochs", "1", "--batch-size", "64"]
    for more in ([], options):
        errors = run("fit", dcase / "2020", "-o", model, *more)[2]
        assert "log-mel: 100%" in errors
        assert ("train_loss" in errors) == bool(more)
        code, output, errors = run("fit", dcase / "2020", "-o", model, "--quiet", *more)
        assert (code, errors) == (0, "")
        assert "Trained in" in output
        _, output, errors = run("score", model, dcase / "2020")
        assert "%" not in output
        assert "log-mel" not in errors


def test_the_threshold_is_set_by_enough_recordings_or_else_by_a_distribution(
    run, dcase, tmp_path
):
    options = ["--system", "baseline", "--epochs", "1", "--batch-size", "64"]
    promises = {
        "0.2": "at most 20 %, by 8 held-out recordings of 2 machines.",
        "0.05": "5 %, extrapolated from 8 held-out recordings of 2 machines (Gamma",
    }
    for rate, promise in promises.items():
        _, output, _ = run(
            "fit",
            dcase / "2020",
            "-o",
            tmp_path / "m",
            *options,
            "--false-alarm-rate",
            rate,
        )
        assert f"Expected false alarms: {promise}" in output


def test_a_folder_of_test_recordings_alone_is_refused(run, dcase, tmp_path):
    shutil.copytree(dcase / "2020" / "valve" / "test", tmp_path / "valve" / "test")
    code, _, errors = run("fit", tmp_path, "-o", tmp_path / "m")
    assert code == 2
    assert "no training recordings, only 12 recordings marked as test: give a" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--system", "spectrumm"],
            "'spectrumm' is not one of 'default', 'ensemble', 'spectrum'",
        ),
        (["--machine-typ", "fan"], "'--machine-type'"),
        (["--machine-type", "valv"], "type 'valv': did you mean 'valve'?"),
        (["--false-alarm-rate", "0.9"], "0.9 is not in the range 0<x<=0.5"),
    ],
)
def test_mistyped_options_of_fit_are_refused(run, dcase, tmp_path, options, message):
    code, _, errors = run("fit", dcase / "2020", "-o", tmp_path / "m", *options)
    assert code == 2
    assert message in errors


def test_a_paper_system_needs_one_of_its_types(run, folder, tmp_path):
    code, _, errors = run(
        "fit", folder / "recordings", "-o", tmp_path / "m", "--system", "ii"
    )
    assert code == 2
    assert "choose --system default or ensemble" in errors


def test_what_cannot_be_learnt_is_refused_before_anything_is_read(run, tmp_path):
    for name in ["a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "b/3.wav"]:
        path = tmp_path / "r" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m")
    assert code == 2
    assert "machine 'a' has 2 normal recordings, and at least three are" in errors
    for system in NETWORK_DETECTORS:
        code, _, errors = run(
            "fit", tmp_path / "r" / "b", "-o", tmp_path / "m", "--system", system
        )
        assert code == 2
        assert f"system '{system}' learns to tell machines apart" in errors
        assert "all recordings are of 'b': choose --system default" in errors


# -- errors and conventions ------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no model", b"\x80\x05N."])
def test_what_is_not_a_model_is_refused(run, tmp_path, folder, content):
    path = tmp_path / "m.joblib"
    path.write_bytes(content)
    for options, message in (([], "is not a model file"), (["--trust"], "not a")):
        code, output, errors = run("score", path, folder / "new", *options)
        assert (code, output) == (2, "")
        assert message in errors
        assert "Traceback" not in errors


def test_a_missing_model_is_named(run, tmp_path):
    code, _, errors = run("score", tmp_path / "m.asd", tmp_path)
    assert code == 2
    assert "there is no model" in errors


def test_an_unforeseen_error_is_not_taken_for_anomalies(run, monkeypatch, model):
    def fail(*arguments):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("sklearn_asd._cli.score.read_model", fail)
    code, _, errors = run("score", model, "x.wav")
    assert code == 2
    assert "RuntimeError: unforeseen" in errors


def test_a_mistyped_command_is_refused_with_the_nearest(run):
    code, _, errors = run("scroe", "m.asd", "x.wav")
    assert code == 2
    assert "Did you mean 'score'" in errors


@pytest.mark.parametrize(
    "command",
    [
        "fit",
        "score",
        "evaluate",
        "check",
        "calibrate",
        "verify",
        "info",
        "demo",
        "report",
    ],
)
def test_help_gives_examples(run, command):
    code, output, _ = run(command, "--help")
    assert code == 0
    assert "Example" in output
    assert f"\n    sklearn-asd {command} " in output
    assert max(map(len, output.splitlines())) <= 88


def test_help_lists_commands_in_whole_sentences(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, output, _ = run("--help")
    assert "..." not in output.split("Commands:")[1]
    assert "  evaluate     Measure a model on labelled recordings.\n" in output


@pytest.mark.parametrize(
    "command",
    [
        "",
        "fit",
        "score",
        "evaluate",
        "check",
        "calibrate",
        "verify",
        "info",
        "demo",
        "report",
    ],
)
def test_no_line_of_help_is_longer_than_a_terminal(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = run(*command.split(), "--help")
    assert max(map(len, output.splitlines())) <= 80


def test_help_gives_commands_and_exit_codes(run):
    code, output, _ = run("--help")
    assert code == 0
    for word in ("fit", "score", "evaluate", "demo", "Exit codes:", "1  score found"):
        assert word in output


def test_the_version_is_the_library_s(run):
    assert run("--version") == (0, f"sklearn-asd, version {__version__}\n", "")
