"""``sklearn-asd check`` and ``info``: what to expect of a model."""

import json
import shutil

import joblib
import numpy as np
import pandas as pd
import pytest
from command import RATE, exit_code, write

from sklearn_asd import load_model, save_model
from sklearn_asd._cli import check as check_module
from sklearn_asd._cli import info as info_module

# -- check -----------------------------------------------------------------------------


def make_table(machines):
    """What `audibility_table` gives: by machine, levels of the faults and alarms."""
    faults = ["tone", "noise", "short_noise", "knocks"]
    rows = {
        (machine, fault): {"audible_from": level, "without": share, "n_clips": 10}
        for machine, (levels, share) in machines.items()
        for fault, level in zip(faults, levels, strict=True)
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["machine", "fault"])


def test_a_machine_has_one_sentence(capsys):
    table = make_table(
        {
            "pump_3": ([-12, -24, -12, np.nan], 0.2),
            "pump\n4": ([-30, -30, -30, -30], 0.7),
            "pump_5": ([-30, 6, 0, -6], 0.0),
        }
    )
    check_module._show(table, ["pump_6"], left_out=False)
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "pump_3 (10 recordings): a tone from -12 dB, white noise from -24 dB, noise "
        "for a second from -12 dB, knocks not at all up to 6 dB; 2 of 10 raise an "
        "alarm without a fault.",
        r"pump\n4 (10 recordings): 7 of 10 raise an alarm without a fault, so alarms "
        "say nothing about faults.",
        "pump_5 (10 recordings): a tone already at -30 dB, white noise from 6 dB, "
        "noise for a second from 0 dB, knocks from -6 dB; 0 of 10 raise an alarm "
        "without a fault.",
        "No usable recordings of pump_6.",
    ]
    assert "real ones may sound otherwise" in lines[4]
    assert len(lines) == 5


@pytest.fixture(scope="module")
def hum(tmp_path_factory):
    """Two machines that hum at 400 and at 900 Hz, in noise: any other sound is new."""
    root = tmp_path_factory.mktemp("hum")
    rng = np.random.default_rng(0)
    time = np.arange(4 * RATE) / RATE
    for number in range(24):
        machine = ("pump_3", "pump_4")[number % 2]
        tone = np.sin(2 * np.pi * (400, 900)[number % 2] * time)
        samples = 0.1 * tone + rng.normal(scale=0.003, size=4 * RATE)
        part = "recordings" if number < 16 else "new"
        write(root / part / machine / f"{number:02d}.wav", samples)
    return root


@pytest.fixture(scope="module")
def hum_model(hum):
    assert exit_code("fit", hum / "recordings", "-o", hum / "m.asd") == 0
    return hum / "m.asd"


def test_training_recordings_are_left_out_in_turn(run, hum_model):
    code, output, errors = run("check", hum_model)
    assert code == 0
    assert errors == (
        "Fitting the model 5 times, and planting faults for 2 machines ...\n"
    )
    legend, one, two, caution, left_out = output.splitlines()
    assert legend.startswith("Levels: at 0 dB a fault is as loud as the recording")
    for line, machine in ((one, "pump_3"), (two, "pump_4")):
        assert line.startswith(f"{machine} (8 recordings): a tone ")
        # The noise of a recording is at -27 dB.
        assert "white noise already at -30 dB" in line or "noise from -2" in line
    assert "planted" in caution
    assert "fitted without it" in left_out


def test_other_recordings_are_judged_by_the_model_as_it_is(run, hum, hum_model):
    _, first, _ = run("check", hum_model, hum / "new", "--json")
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["machine"] for row in rows] == ["pump_3", "pump_4"]
    assert [row["n_recordings"] for row in rows] == [4, 4]
    assert set(rows[0]["audible_from"]) == {"tone", "noise", "short_noise", "knocks"}
    assert rows[0]["audible_from"]["noise"] <= -12
    code, second, _ = run("check", hum_model, hum / "new", "--json")
    assert (code, second) == (0, first)


def test_recordings_that_were_learnt_or_are_anomalous_are_left_out(
    run, hum, hum_model, tmp_path
):
    shutil.copytree(hum / "new" / "pump_3", tmp_path / "pump_3" / "train")
    shutil.copytree(hum / "new" / "pump_3", tmp_path / "pump_3" / "anomaly")
    code, output, _ = run("check", hum_model, tmp_path, "--json")
    assert code == 0
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["n_recordings"] for row in rows] == [4, 0]
    # Of others there are two, so those in train are not used.
    for path in sorted((hum / "new" / "pump_4").iterdir())[:2]:
        (tmp_path / "pump_4").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "pump_4")
    (tmp_path / "pump_4" / "known.wav").symlink_to(
        next((hum / "recordings" / "pump_4").iterdir())
    )
    code, output, errors = run("check", hum_model, tmp_path, "--json")
    rows = [json.loads(line) for line in output.splitlines()]
    assert [(row["machine"], row["n_recordings"]) for row in rows] == [
        ("pump_4", 2),
        ("pump_3", 0),
    ]
    assert "Left out: 1 recording that the model learnt from." in errors
    code, output, errors = run("check", hum_model, hum / "recordings")
    assert (code, output) == (2, "")
    assert "holds no normal recordings to check the model with, only 16 that" in errors


def test_unknown_machines_are_named(run, hum, hum_model, tmp_path):
    shutil.copytree(hum / "new" / "pump_3", tmp_path / "pump_3")
    shutil.copytree(hum / "new" / "pump_4", tmp_path / "pump_7")
    code, output, errors = run("check", hum_model, tmp_path)
    assert code == 2
    assert "No usable recordings of pump_4.\n" in output
    unknown = "is of machine 'pump_7', which the model does not know"
    assert f"left out: 4 files, each {unknown}" in errors
    code, output, errors = run("check", hum_model, tmp_path / "pump_7")
    assert (code, output) == (2, "")
    assert "no recording is of a known machine" in errors


def test_recordings_that_are_gone_are_told_of(run, hum, tmp_path):
    shutil.copytree(hum / "recordings", tmp_path / "r")
    model = tmp_path / "m.asd"
    assert run("fit", tmp_path / "r", "-o", model)[0] == 0
    paths = sorted((tmp_path / "r" / "pump_3").iterdir())
    for path in paths[:5]:
        path.unlink()
    code, output, errors = run("check", model)
    assert code == 0
    assert "5 training recordings no longer there." in errors
    assert "pump_3 (3 recordings): " in output
    paths[5].unlink()
    code, output, errors = run("check", model)
    assert (code, output) == (2, "")
    assert "machine 'pump_3' has 2 recordings left, and at least three" in errors
    shutil.rmtree(tmp_path / "r")
    code, output, errors = run("check", model)
    assert (code, output) == (2, "")
    assert "none of the 16 training recordings is where it was" in errors


def test_networks_are_not_trained_again(run, hum, tmp_path):
    model = tmp_path / "m.asd"
    options = ["--system", "networks", "--epochs", "1", "--batch-size", "8"]
    assert run("fit", hum / "recordings", "-o", model, *options)[0] == 0
    code, output, errors = run("check", model)
    assert (code, output) == (2, "")
    assert "holds networks, which would be trained again several times: give" in errors
    assert run("check", model, hum / "new")[0] == 0
    assert "networks that tell the machines apart" in run("info", model)[1]


def test_a_model_of_python_needs_a_folder(run, hum, hum_model, tmp_path):
    save_model(load_model(hum_model), tmp_path / "own.asd")
    code, _, errors = run("check", tmp_path / "own.asd")
    assert code == 2
    assert "does not say what it learnt from" in errors
    code, output, _ = run("check", tmp_path / "own.asd", hum / "new")
    assert code == 0
    assert "pump_3 (4 recordings)" in output


# -- info ------------------------------------------------------------------------------


def test_info_says_what_the_file_is(run, hum_model):
    code, output, errors = run("info", hum_model)
    assert (code, errors) == (0, "")
    lines = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    assert lines["Judges by"].strip() == "how the spectrum of each machine varies"
    assert lines["Sample rate"].strip() == "16000 Hz"
    threshold = float(lines["Threshold"].split()[0])
    assert threshold == pytest.approx(load_model(hum_model)[-1].offset_, rel=1e-5)
    assert lines["False alarms"].strip().startswith("5 % of the training recordings")
    assert "sklearn_asd " in lines["Written by"]
    assert lines["Checksum"].strip() == "right"
    machines = output.split("Machines:")[1].split("History:")[0]
    assert machines.split("\n  ")[1:] == ["pump_3  8", "pump_4  8\n"]
    assert lines["History"].strip() == "none"
    assert "with 16 training recordings" in machines


def test_info_of_models_that_the_command_did_not_write(run, hum_model, tmp_path):
    save_model(load_model(hum_model), tmp_path / "own.asd")
    code, output, _ = run("info", tmp_path / "own.asd")
    assert code == 0
    assert "the model was not written by sklearn-asd fit" in output
    joblib.dump(load_model(hum_model), tmp_path / "own.joblib")
    assert run("info", tmp_path / "own.joblib")[0] == 2
    code, output, _ = run("info", tmp_path / "own.joblib", "--trust")
    assert code == 0
    assert "joblib.dump, so reading it can run code" in output
    assert "Checksum:     none" in output


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (None, "unknown"),
        (-1.5, "-1.5 (lower scores are anomalous)"),
        ("-inf", "-inf (lower scores are anomalous)"),
        (
            {"a\n": -1.0, "b": "-inf"},
            "one for each machine (lower scores are anomalous):\n  a\\n  -1\n  b  -inf",
        ),
    ],
)
def test_a_threshold_may_be_infinite_or_one_for_each_machine(threshold, text):
    assert info_module._describe_threshold(threshold) == text
