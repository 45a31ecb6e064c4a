"""Folders as recorders and people make them: understood, or asked about."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from command import RATE, write

from sklearn_asd import save_model
from sklearn_asd.persistence.models import load_with_notes

CARS = ["car_B1", "car_B2", "car_C1"]
PATHS = {
    "A": "{car}/{date}_{time}.wav",
    "B": "{car}_{date}_{time}.flac",
    "C": "{car}/{date}_{time}.wav",
    "D": "{date}/{car}/{time}.flac",
    "E": "{date}/{car}_{time}.flac",
}
THREE = "18 normal recordings of 3 machines:\n  car_B1  6\n  car_B2  6\n  car_C1  6"


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """The same recordings of three cars on three days, in each layout."""
    root = tmp_path_factory.mktemp("layouts")
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    for number, car in enumerate(CARS):
        tone = 0.1 * np.sin(2 * np.pi * (300 + 200 * number) * time)
        for k in range(6):
            samples = tone + 0.1 * rng.normal(size=len(time))
            names = {"car": car, "date": f"2024-05-0{k % 3 + 1}"}
            names["time"] = f"{8 + k // 3:02d}00"
            for layout, pattern in PATHS.items():
                path = root / layout / pattern.format(**names)
                path.parent.mkdir(parents=True, exist_ok=True)
                low = layout == "C" and names["time"] == "0800" and k < 2
                rate = 8000 if low else RATE
                soundfile.write(path, samples[:: RATE // rate], rate)
    return root


@pytest.fixture(scope="module")
def cars(works):
    """A model of the folders of cars."""
    from command import exit_code

    assert exit_code("fit", works / "A", "-o", works / "A.asd", "--quiet") == 0
    return works / "A.asd"


def test_a_folder_for_each_machine_is_right_at_once(run, works, tmp_path):
    code, _, errors = run("fit", works / "A", "-o", tmp_path / "m.asd")
    assert code == 0
    assert THREE in errors
    assert "Warning" not in errors


def test_one_folder_of_several_machines_is_asked_about(run, works, tmp_path):
    code, _, errors = run("fit", works / "B", "-o", tmp_path / "m.asd")
    assert code == 0
    assert "Warning: all recordings are taken to be of one machine, B, but" in errors
    assert "begin in 3 ways: car_B1, car_B2, car_C1" in errors
    assert '--machine-from "{machine}_{date}" would find 3 machines' in errors
    pattern = "{machine}_{date}"
    model = tmp_path / "n.asd"
    code, _, errors = run("fit", works / "B", "-o", model, "--machine-from", pattern)
    assert code == 0
    assert THREE in errors
    assert "Warning" not in errors
    code, output, _ = run("score", model, works / "B", "--json")
    assert code in (0, 1)
    machines = [json.loads(line)["machine"] for line in output.splitlines()]
    assert machines == np.repeat(CARS, 6).tolist()
    _, output, _ = run("info", model)
    assert "Paths:        {machine}_{date}\n" in output


def test_files_whose_names_begin_with_a_known_machine_are_of_it(run, works, cars):
    code, output, errors = run("score", cars, works / "B")
    assert code in (0, 1)
    assert "18 recordings assigned by the beginning of the name" in errors
    assert output.count("  car_B1  ") == 6


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("car_B1_2024-05-01", True),
        ("car_B1 left", True),
        ("car_B1", True),
        ("car_B1-2_0800", False),
        ("car_B1_2_0800", False),
        ("car_B10_0800", False),
    ],
)
def test_other_machines_are_not_known_by_their_beginning(
    run, works, cars, tmp_path, name, known
):
    recording = next((works / "A" / "car_B1").iterdir()).read_bytes()
    (tmp_path / f"{name}.wav").write_bytes(recording)
    code, _, _ = run("score", cars, tmp_path / f"{name}.wav")
    assert (code in (0, 1)) == known


def test_a_pattern_decides_alone(run, works, cars, tmp_path):
    path = tmp_path / "car_B1" / "2024-05-09" / "car_B9_0800.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(next((works / "A" / "car_B1").iterdir()).read_bytes())
    code, output, _ = run("score", cars, path)
    assert code in (0, 1)
    pattern = ["--machine-from", "{date}/{machine}_{time}"]
    code, output, _ = run("score", cars, path, *pattern)
    assert code == 2
    assert "is of machine 'car_B9', which the model does not know" in output


def test_notes_of_a_later_version_are_read(run, cars, works, tmp_path):
    loaded = load_with_notes(cars)
    later = tmp_path / "later.asd"
    save_model(loaded.estimator, later, {**loaded.notes, "colour": "blue"})
    code, output, _ = run("info", later)
    assert code == 0
    assert "3, with 18 training recordings:" in output


def test_low_rates_are_told_once_and_counts_are_of_what_is_used(run, works, tmp_path):
    code, output, errors = run("fit", works / "C", "-o", tmp_path / "m.asd")
    assert code == 0
    assert errors.count("is sampled at 8000 Hz") == 1
    assert "Left out: 6 files, each is sampled at 8000 Hz" in errors
    assert "fit the model with --sample-rate 8000" in errors
    assert f"{works / 'C' / 'car_B1' / '2024-05-01_0800.wav'}" in errors
    assert " s on 12 of 18 recordings found. The model" in output
    assert "Used: 12 of 18 normal recordings.\n  car_B1  4 of 6\n" in errors
    _, output, _ = run("info", tmp_path / "m.asd")
    assert "3, with 12 training recordings:\n  car_B1  4" in output
    code, output, _ = run("score", tmp_path / "m.asd", works / "C")
    assert code == 2
    assert output.count("is sampled at 8000 Hz") == 1
    assert output.count("unusable") == 6
    assert output.count(": as above") == 5


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [("D", "{date}/{machine}/*"), ("E", "{date}/{machine}_{time}")],
)
def test_dates_are_not_learnt_as_machines(run, works, tmp_path, layout, pattern):
    model = tmp_path / "m.asd"
    code, _, errors = run("fit", works / layout, "-o", model)
    assert code == 2
    assert (
        "folders look like dates and would be taken for machines: 2024-05-01" in errors
    )
    assert f'--machine-from "{pattern}" would find 3 machines, car_B1, ' in errors
    assert not model.exists()
    arguments = [works / layout, "--machine-from", f"{pattern}.flac"]
    code, _, errors = run("fit", *arguments, "-o", model)
    assert code == 0
    assert THREE in errors
    code, output, _ = run("score", model, works / layout / "2024-05-02", "--quiet")
    assert code in (0, 1)
    assert len(output.splitlines()) == 6
    by_day = ["--machine-from", "{machine}/*"]
    code, _, errors = run("fit", works / "E", "-o", tmp_path / "d.asd", *by_day)
    assert code == 0
    assert "18 normal recordings of 3 machines:\n  2024-05-01  6" in errors


def test_a_pattern_with_two_readings_is_told(run, works, tmp_path):
    pattern = ["--machine-from", "{machine}_{place}_{time}"]
    arguments = ["fit", works / "B", "-o", tmp_path / "m.asd"]
    code, output, errors = run(*arguments, *pattern)
    assert code == 0
    assert "can be read in two ways" in errors
    assert "is taken to be of machine car_B1, and not of car. If" in errors
    assert "Trained in " in output
    assert " s on all 18 recordings found. The model" in output
    _, _, errors = run(*arguments, "--machine-from", "{machine}_{date}")
    assert "two ways" not in errors


def test_a_recording_that_does_not_fit_the_pattern_is_named(run, works, tmp_path):
    odd = tmp_path / "r" / "spare.wav"
    for path in (works / "A" / "car_B1").iterdir():
        target = tmp_path / "r" / f"car_B1_{path.name}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    odd.write_bytes(path.read_bytes())
    pattern = ["--machine-from", "{machine}_{date}"]
    code, _, errors = run("fit", odd.parent, "-o", tmp_path / "m.asd", *pattern)
    assert code == 0
    assert f"Left out: 1 recording that --machine-from does not fit: {odd}" in errors
    code, output, _ = run("score", tmp_path / "m.asd", odd.parent)
    assert code == 2
    assert (
        "spare.wav: has a path that the pattern '{machine}_{date}' does not" in output
    )
    code, _, errors = run("score", tmp_path / "m.asd", odd, "--machine-id", "car_B1")
    assert code in (0, 1)
    pattern = ["--machine-from", "{date}/{machine}_{speed}_{number}"]
    code, _, errors = run("fit", odd.parent, "-o", tmp_path / "n.asd", *pattern)
    assert code == 2
    assert "fits none of 7 recordings, such as " in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--machine-from", "{date}"], "has no field {machine}: say where"),
        (["--machine-from", "{machine}", "--id-column", "car"], "both say what tells"),
    ],
)
def test_wrong_patterns_are_refused(run, works, tmp_path, arguments, message):
    code, _, errors = run("fit", works / "A", "-o", tmp_path / "m.asd", *arguments)
    assert code == 2
    assert message in errors


def test_faults_are_not_learnt_as_machines(run, works, tmp_path):
    for number, name in enumerate(["pump_3", "pump_3_NG", "ok/pump_3", "NG/pump_3"]):
        for path in sorted((works / "A" / "car_B1").iterdir()):
            target = tmp_path / "r" / name / f"{number}{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m.asd")
    assert code == 2
    assert "seem to hold recordings of faults" in errors
    assert "pump_3_NG" in errors
    (tmp_path / "r" / "pump_3_NG").rename(tmp_path / "r" / "NG" / "broken")
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m.asd")
    assert code == 0
    assert "Left out: 12 recordings labelled anomalous." in errors
    assert "12 normal recordings of 1 machine:\n  pump_3  12" in errors


def test_the_model_has_a_name_if_none_is_given(run, works, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, _ = run("fit", works / "A")
    assert code == 0
    assert "The model is in machines.asd." in output
    written = (tmp_path / "machines.asd").read_bytes()
    code, _, errors = run("fit", works / "A")
    assert code == 2
    assert "there is a file 'machines.asd' in this folder: name the model" in errors
    assert (tmp_path / "machines.asd").read_bytes() == written


def test_other_formats_are_judged_in_folders_as_by_name(run, works, cars, tmp_path):
    samples, _ = soundfile.read(works / "A" / "car_B1" / "2024-05-01_0800.wav")
    folder = tmp_path / "car_B1"
    folder.mkdir()
    formats = {"ogg": "OGG", "mp3": "MP3", "aiff": "AIFF", "W64": "W64", "caf": "CAF"}
    for suffix, kind in formats.items():
        if kind in soundfile.available_formats():
            soundfile.write(folder / f"a.{suffix}", samples, RATE, format=kind)
    (folder / "b.m4a").touch()
    (folder / "notes.txt").touch()
    code, output, errors = run("score", cars, folder, "--csv", tmp_path / "v.csv")
    table = pd.read_csv(tmp_path / "v.csv").set_index("path")
    n_read = len(list(folder.glob("a.*")))
    assert n_read >= 4
    assert table["margin"].notna().sum() == n_read
    assert code == 2
    assert "b.m4a: is of a format that cannot be read: convert it to WAV" in output
    assert "Passed over: 1 ending in .txt" in errors


def test_unicode_forms_of_a_name_are_one_machine(run, works, tmp_path):
    for number, name in enumerate(["Gerät", "Gera\u0308t", "Gerät "]):
        paths = sorted((works / "A" / "car_B1").iterdir())
        for path in paths[2 * number : 2 * number + 2]:
            target = tmp_path / "r" / f"{name}_2024-05-0{number + 1}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    pattern = ["--machine-from", "{machine}_{date}/*"]
    code, _, errors = run("fit", tmp_path / "r", "-o", tmp_path / "m.asd", *pattern)
    assert code == 0
    assert "6 normal recordings of 1 machine:\n  Gerät  6" in errors


def test_folders_of_types_with_one_machine_name_it(run, tmp_path, rng):
    """Names of the challenge below car_B1 are of car_B1/00, and so are others."""
    for car in ("car_B1", "car_B2"):
        for number in range(4):
            noise = rng.normal(scale=0.01, size=RATE)
            name = f"section_00_source_train_normal_{number:04d}_spd_31V.wav"
            write(tmp_path / "old" / car / name, noise)
            write(tmp_path / "new" / car / f"{number}.wav", noise[::-1])
    model = tmp_path / "cars.asd"
    code, _, errors = run("fit", tmp_path / "old", "-o", model)
    assert code == 0
    assert "car_B1/00  4" in errors
    code, lines, errors = run("score", model, tmp_path / "new", "--json")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["machine"] for row in rows] == 4 * ["car_B1/00"] + 4 * ["car_B2/00"]
    assert "4 recordings taken to be of car_B1/00, the only machine of its" in errors
    watch = ("watch", model, tmp_path / "new", "--once", "--settle", "0")
    _, lines, _ = run(*watch, "--log", tmp_path / "log.jsonl")
    assert {json.loads(line)["machine"] for line in lines.splitlines()} == {
        "car_B1/00",
        "car_B2/00",
    }
