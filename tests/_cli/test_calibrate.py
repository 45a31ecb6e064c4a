"""Thresholds by normal recordings of the site, and false alarms on later ones."""

import hashlib
import json
import shutil

import graphs
import numpy as np
import pandas as pd
import pytest
import soundfile
from command import write
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    GaussianDetector,
    LogMelSegmenter,
    PerMachine,
    SpectrumStatistics,
    export_onnx,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd._cli.models import read_model
from sklearn_asd.persistence.models import load_with_notes


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


def save_per_machine(model, path):
    """Fit a detector with a threshold for each machine, known as the model's."""
    notes = load_with_notes(model).notes
    training = pd.DataFrame(notes["training"], dtype=object)
    detector = PerMachine(GaussianDetector(SpectrumStatistics()))
    detector = make_pipeline(LogMelSegmenter(segment_duration=None), detector)
    save_model(detector.fit(training), path, notes)
    return path


def test_machines_with_their_own_thresholds_keep_them_apart(run, model, site, tmp_path):
    path = save_per_machine(model, tmp_path / "own.asd")
    new = tmp_path / "site.asd"
    rate = ("--false-alarm-rate", "0.1")
    code, _, _ = run("calibrate", path, site / "week_1", "-o", new, *rate)
    assert code == 0
    clips = load_clips(site / "week_1")
    calibrated = load_model(new)
    scores = calibrated.score_samples(clips)
    for name, threshold in calibrated.offsets_.items():
        own = scores[(clips["machine_id"] == name).to_numpy()]
        assert threshold == np.sort(own)[int(0.1 * (len(own) + 1)) - 1]
    thresholds = read_model(str(new), trust=False).history[0]["thresholds"]
    old = load_model(path)[-1].offsets_
    assert {name: before for name, (before, _) in thresholds.items()} == old


def test_a_machine_without_recordings_is_refused_its_own_threshold(
    run, model, site, tmp_path
):
    path = save_per_machine(model, tmp_path / "own.asd")
    before = path.read_bytes()
    one = shutil.copytree(site / "week_1" / "valve_00", tmp_path / "week" / "valve_00")
    code, _, errors = run("calibrate", path, one.parent)
    assert code == 2
    assert "no recordings of valve_01" in errors
    assert path.read_bytes() == before


def test_long_recordings_count_by_their_pieces(run, model, site, tmp_path):
    parts = [soundfile.read(one)[0] for one in sorted(site.rglob("week_1/*/*.wav"))[:5]]
    write(tmp_path / "week" / "long.wav", np.concatenate(parts))
    new = tmp_path / "site.asd"
    week, machine = tmp_path / "week", ("--machine-id", "valve_00")
    code, lines, errors = run("calibrate", model, week, "-o", new, *machine)
    assert code == 0, errors
    assert "based on 5 normal clips" in lines
    assert read_model(str(new), trust=False).history[0]["n_recordings"] == {
        "valve_00": 1
    }


def test_a_history_of_another_kind_is_refused(run, model, tmp_path):
    loaded = load_with_notes(model)
    path = tmp_path / "odd.asd"
    save_model(loaded.estimator, path, {**loaded.notes, "history": [{"date": 3}]})
    code, _, errors = run("info", path)
    assert code == 2
    assert "history" in errors


@pytest.mark.slow
def test_cars_of_other_days_raise_fewer_alarms(run, recordings, tmp_path):
    cars = recordings("toycar2023") / "ToyCar"
    path, new = tmp_path / "cars.asd", tmp_path / "site.asd"
    run("fit", cars / "train", "-o", path, "--id-column", "car")
    normal = sorted((cars / "test").glob("*_normal_*.flac"))
    for number, one in enumerate(normal):
        week = tmp_path / f"week_{1 + number % 2}" / "ToyCar" / "test"
        week.mkdir(parents=True, exist_ok=True)
        (week / one.name).symlink_to(one)
    assert run("verify", path, tmp_path / "week_2")[0] == 1
    assert run("calibrate", path, tmp_path / "week_1", "-o", new)[0] == 0
    assert run("verify", new, tmp_path / "week_2")[0] == 0


def test_copies_of_training_recordings_are_left_out(run, model, folder, site, tmp_path):
    week = shutil.copytree(site / "week_1", tmp_path / "week")
    for path in (folder / "recordings" / "valve_00").iterdir():
        shutil.copy(path, week / "valve_00" / f"copy_{path.name}")
    new = tmp_path / "site.asd"
    code, lines, errors = run("calibrate", model, week, "-o", new)
    assert code == 0
    assert "Left out: 20 recordings that are copies of those of training." in errors
    assert "based on 20 normal clips" in lines
    _, lines, errors = run("verify", model, week)
    assert "Left out: 20 recordings that are copies of those of training." in errors
    assert "all machines  20 of 20" in lines


def test_the_length_of_pieces_is_asked_for_and_kept(run, model, site, tmp_path):
    new = tmp_path / "site.asd"
    piece = ("--piece", "1")
    code, lines, errors = run("calibrate", model, site / "week_1", "-o", new, *piece)
    assert code == 0, errors
    assert "based on 40 normal clips" in lines
    assert tuple(read_model(str(new), trust=False).pieces) == (1.0, None)
    path = next((site / "week_2" / "valve_00").iterdir())
    row = json.loads(run("score", new, path, "--json")[1])
    assert row["stop"] - row["start"] == pytest.approx(1.0)
    plain = tmp_path / "plain.asd"
    save_model(load_model(model), plain)
    code, _, errors = run("calibrate", plain, site / "week_1", *piece)
    assert code == 2
    assert "cannot keep the length of --piece" in errors


@pytest.mark.slow
def test_a_graph_of_a_calibrated_model_gives_the_same_verdicts(
    run, model, site, folder, tmp_path
):
    own = save_per_machine(model, tmp_path / "own.asd")
    for name, path in (("common", model), ("own", own)):
        new, graph = tmp_path / f"{name}.site.asd", tmp_path / f"{name}.onnx"
        rate = ("--false-alarm-rate", "0.1")
        assert run("calibrate", path, site / "week_1", "-o", new, *rate)[0] == 0
        calibrated = load_model(new)
        machines = export_onnx(calibrated, graph)
        clips = pd.concat(
            [load_clips(site / "week_2"), load_clips(folder / "broken")]
        ).reset_index(drop=True)
        waveforms = [soundfile.read(one, dtype="float32")[0] for one in clips["path"]]
        places = [machines.index(one) for one in clips["machine_id"]]
        scores, verdicts = graphs.run(graph, waveforms, places)
        expected = -calibrated.score_samples(clips)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(verdicts, calibrated.predict(clips))
        before = load_model(path).predict(clips)
        assert (verdicts != before).any()
        assert set(verdicts) == {1, -1}
