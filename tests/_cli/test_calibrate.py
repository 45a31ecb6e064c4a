"""Thresholds by normal recordings of the site, and false alarms on later ones."""

import hashlib
import shutil

import numpy as np
import pytest
import soundfile
from command import write

from sklearn_asd import load_clips, load_model
from sklearn_asd._cli.models import read_model


@pytest.fixture(scope="module")
def site(tmp_path_factory, folder):
    """Training recordings with a faint hum: normal here, and unlike training."""
    root = tmp_path_factory.mktemp("site")
    paths = sorted((folder / "recordings").rglob("*.wav"))
    for number, path in enumerate(paths):
        samples, rate = soundfile.read(path)
        hum = np.sin(2 * np.pi * 440 * np.arange(len(samples)) / rate)
        week = "week_1" if number % 2 else "week_2"
        write(root / week / path.parent.name / path.name, samples + 0.02 * hum)
    return root


@pytest.fixture(scope="module")
def n_per_week(site):
    return len(list((site / "week_1").rglob("*.wav")))


def test_calibrating_makes_a_model_that_fails_pass(run, model, site, tmp_path):
    before = model.read_bytes()
    assert run("verify", model, site / "week_2")[0] == 1
    new = tmp_path / "site.asd"
    code, lines, _ = run("calibrate", model, site / "week_1", "-o", new)
    assert code == 0
    assert "at most 5 % of unseen normal clips" in lines
    code, lines, _ = run("verify", new, site / "week_2")
    assert code == 0
    assert "Verification passed" in lines
    assert model.read_bytes() == before


def test_scores_stay_and_the_threshold_is_the_kth_lowest(run, model, site, tmp_path):
    new = tmp_path / "site.asd"
    run("calibrate", model, site / "week_1", "-o", new, "--false-alarm-rate", "0.1")
    clips = load_clips(site / "week_1")
    old, calibrated = load_model(model), load_model(new)
    scores = old.score_samples(clips)
    np.testing.assert_array_equal(calibrated.score_samples(clips), scores)
    k = int(0.1 * (len(clips) + 1))
    assert calibrated.offset_ == np.sort(scores)[k - 1]


def test_the_history_holds_files_hashes_and_thresholds(run, model, site, tmp_path):
    new = tmp_path / "site.asd"
    shutil.copy(model, new)
    run("calibrate", new, site / "week_1")  # in place
    run("verify", new, site / "week_2", "--record")
    first, second = read_model(str(new), trust=False).history
    assert first["command"] == "calibrate"
    for path, digest in first["files"].items():
        with open(path, "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == digest
    assert set(first["n_recordings"]) == {"valve_00", "valve_01"}
    before, after = first["thresholds"]["valve_00"]
    assert after < before
    assert after == load_model(new).offset_
    assert second["passed"] is True
    assert second["n_alarms"]["all machines"] <= 4
    _, lines, _ = run("info", new)
    assert f"calibrate  {len(first['files'])} normal recordings of 2 machines" in lines
    assert "passed" in lines


def test_verify_writes_nothing_unless_asked(run, model, site):
    before = model.read_bytes()
    run("verify", model, site / "week_2")
    assert model.read_bytes() == before


def test_recordings_used_before_are_left_out(run, model, folder, site, tmp_path):
    code, _, errors = run("calibrate", model, folder / "recordings")
    assert code == 2
    assert "not trained on" in errors
    new = tmp_path / "site.asd"
    run("calibrate", model, site / "week_1", "-o", new)
    copies = tmp_path / "copies"
    shutil.copytree(site / "week_1", copies)  # other names, the same bytes
    code, _, errors = run("verify", new, copies)
    assert code == 2
    assert "that the model was calibrated on" in errors


def test_few_recordings_are_warned_of_and_promise_less(run, model, site, tmp_path):
    few = tmp_path / "few" / "valve_00"
    few.mkdir(parents=True)
    for path in sorted((site / "week_1" / "valve_00").iterdir())[:4]:
        shutil.copy(path, few)
    new = tmp_path / "site.asd"
    code, lines, errors = run("calibrate", model, few.parent, "-o", new)
    assert code == 0
    assert "cannot promise 5 %" in errors
    assert "no recordings of valve_01" in errors
    assert "at most 20 %" in lines
    assert np.isfinite(load_model(new).offset_)


def test_calibrating_again_starts_from_the_model_of_fit(run, model, site, tmp_path):
    one, two = tmp_path / "one.asd", tmp_path / "two.asd"
    run("calibrate", model, site / "week_1", "-o", one)
    run("calibrate", one, site / "week_2", "-o", two)
    assert len(read_model(str(two), trust=False).history) == 2
    assert "FrozenEstimator(FrozenEstimator" not in run("info", two)[1]
    assert run("info", two)[1].count("ThresholdTuner") == 1


def test_a_damaged_recording_is_named_and_the_others_count(run, model, site, tmp_path):
    week = tmp_path / "week"
    shutil.copytree(site / "week_1", week)
    (week / "valve_00" / "bad.wav").write_bytes(b"RIFF")
    new = tmp_path / "site.asd"
    code, _, errors = run("calibrate", model, week, "-o", new)
    assert code == 2
    assert "bad.wav" in errors
    assert new.exists()


def test_anomalies_are_not_counted(run, model, site, folder, tmp_path):
    week = tmp_path / "week"
    shutil.copytree(site / "week_1", week)
    shutil.copytree(folder / "broken" / "valve_00", week / "anomaly" / "valve_00")
    code, _, errors = run("verify", model, week)
    assert code == 1
    assert "3 recordings labelled anomalous" in errors
