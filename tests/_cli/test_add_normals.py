"""False alarms that a model learns from, by the command."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import soundfile
from command import RATE, exit_code, write
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AutoencoderDetector,
    GaussianDetector,
    LogMelSegmenter,
    SpectrumStatistics,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd._cli.models import read_model
from sklearn_asd.meta import add_normals
from sklearn_asd.persistence.models import load_with_notes

ONE = ("--machine-id", "valve_00")


@pytest.fixture(scope="module")
def site(tmp_path_factory, folder):
    """Recordings of valve_00 with a hum that belongs there, of two weeks."""
    root = tmp_path_factory.mktemp("site")
    hum = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    for number, path in enumerate(sorted((folder / "recordings/valve_00").iterdir())):
        samples = soundfile.read(path)[0] + 0.02 * hum
        write(root / f"week_{1 + number % 2}" / "valve_00" / path.name, samples)
    return root


def count_alarms(run, model, folder):
    lines = run("score", model, folder, "--json")[1].splitlines()
    return sum(json.loads(line)["verdict"] == "anomalous" for line in lines)


def test_false_alarms_become_normal_and_faults_stay_faults(
    run, model, site, folder, tmp_path
):
    new, before = tmp_path / "new.asd", model.read_bytes()
    assert count_alarms(run, model, site / "week_2") == 10
    code, lines, errors = run("add-normals", model, site / "week_1", "-o", new)
    assert (code, errors) == (0, "")
    assert "valve_00  10 recordings added" in lines
    assert "valve_00  threshold" in lines
    assert "networks" not in lines
    assert count_alarms(run, new, site / "week_2") <= 1
    assert count_alarms(run, new, folder / "broken" / "valve_01") == 3
    assert model.read_bytes() == before


def test_the_model_is_that_of_a_fit_to_all(run, model, site, folder, tmp_path):
    new, whole = tmp_path / "new.asd", tmp_path / "whole.asd"
    run("add-normals", model, site / "week_1", "-o", new)
    shutil.copytree(folder / "recordings", tmp_path / "all")
    for path in (site / "week_1" / "valve_00").iterdir():
        shutil.copy(path, tmp_path / "all" / "valve_00" / f"x{path.name}")
    run("fit", tmp_path / "all", "-o", whole)
    clips = load_clips(site / "week_2")
    added, fitted = load_model(new), load_model(whole)
    expected = fitted.decision_function(clips)
    np.testing.assert_allclose(added.decision_function(clips), expected)


def test_the_model_keeps_files_hashes_and_thresholds(run, model, site, tmp_path):
    new = shutil.copy(model, tmp_path / "new.asd")
    run("add-normals", new, site / "week_1")  # in place
    loaded = read_model(str(new), trust=False)
    (entry,) = loaded.history
    assert entry["command"] == "add-normals"
    assert entry["n_recordings"] == {"valve_00": 10}
    for path, digest in entry["files"].items():
        with open(path, "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == digest
    before, after = entry["thresholds"]["valve_00"]
    assert (before, after) == (
        load_model(model)[-1].offset_,
        loaded.detector[-1].offset_,
    )
    assert len(loaded.training) == len(loaded.detector[-1].training_score_samples_)
    lines = run("info", new)[1]
    assert "add-normals  10 normal recordings of 1 machine" in lines
    assert "2, with 50 training recordings" in lines


def test_what_the_model_knows_is_refused_under_any_name(
    run, model, site, folder, tmp_path
):
    new = tmp_path / "new.asd"
    for known in (folder / "recordings", tmp_path / "copies"):
        code, _, errors = run("add-normals", model, known, "-o", new)
        assert code == 2
        assert "Left out: 40 recordings that" in errors
        shutil.copytree(folder / "recordings", tmp_path / "copies", dirs_exist_ok=True)
    run("add-normals", model, site / "week_1", "-o", new)
    shutil.copytree(site / "week_1", tmp_path / "again")
    shutil.copytree(site / "week_1", tmp_path / "again" / "twice")
    for command in ("add-normals", "calibrate", "verify"):
        code, _, errors = run(command, new, tmp_path / "again", *ONE)
        assert code == 2
        assert "Left out: 20 recordings that are copies of those of train" in errors
    twice = shutil.copytree(site / "week_2", tmp_path / "two" / "a")
    shutil.copytree(site / "week_2", tmp_path / "two" / "b")
    code, lines, errors = run("add-normals", new, twice.parent, *ONE)
    assert code == 0
    assert "Left out: 10 recordings that are copies of others" in errors
    assert "10 recordings added" in lines
    # The same sound in another file.
    samples, _ = soundfile.read(next((site / "week_1" / "valve_00").iterdir()))
    write(tmp_path / "same.flac", samples)
    code, _, errors = run("add-normals", new, tmp_path / "same.flac", *ONE)
    assert code == 2
    assert "1 of 1 clip to add are copies" in errors


def test_a_calibration_is_undone_and_said_so(run, model, site, folder, tmp_path):
    new = tmp_path / "new.asd"
    weeks = site / "week_1", site / "week_2"
    run("calibrate", model, weeks[0], "-o", new, "--false-alarm-rate", "0.1")
    code, lines, _ = run("add-normals", new, weeks[1])
    assert code == 0
    assert "is undone" in lines
    loaded = read_model(str(new), trust=False)
    assert [one["command"] for one in loaded.history] == ["calibrate", "add-normals"]
    plain = add_normals(load_model(model), load_clips(weeks[1]))
    assert loaded.detector[-1].offset_ == pytest.approx(plain[-1].offset_)
    assert run("calibrate", new, weeks[0], "--false-alarm-rate", "0.1")[0] == 0


def test_recordings_that_cannot_be_used_are_named(run, model, site, tmp_path):
    place = tmp_path / "files" / "valve_00"
    shutil.copytree(site / "week_1" / "valve_00", place)
    (place / "bad.wav").write_bytes(b"RIFF")
    write(place / "silent.wav", np.zeros(2 * RATE))
    samples, _ = soundfile.read(next((site / "week_2" / "valve_00").iterdir()))
    write(place / "clipped.wav", np.clip(50 * samples, -1, 1))
    write(tmp_path / "files" / "anomaly" / "valve_00" / "fault.wav", samples)
    write(tmp_path / "files" / "valve_09" / "x.wav", samples)
    new = tmp_path / "new.asd"
    code, lines, errors = run("add-normals", model, place.parent, "-o", new)
    assert code == 2
    for name in ("bad.wav", "silent.wav", "valve_09"):
        assert name in errors
    assert "1 recording in which the machine cannot be heard" in errors
    assert "1 recording labelled anomalous" in errors
    assert "valve_00  10 recordings added" in lines


def test_a_recording_that_stays_anomalous_is_named(run, tmp_path, rng):
    """One among 150; a fault among 20 may become normal at once."""
    noise = rng.normal(scale=0.01, size=(150, RATE // 4))
    detector = GaussianDetector(SpectrumStatistics("mean"), contamination=0.05)
    pipe = make_pipeline(LogMelSegmenter(segment_duration=None), detector)
    path, new = tmp_path / "noise.asd", tmp_path / "new.asd"
    save_model(pipe.fit(noise), path)
    tone = tmp_path / "tone.wav"
    write(tone, noise[0] + 0.1 * np.sin(np.arange(RATE // 4)))
    code, lines, _ = run("add-normals", path, tone, "-o", new)
    assert code == 0
    assert "1 recording added" in lines
    assert f"{tone} is still anomalous, with a margin of -" in lines


def test_pieces_of_long_recordings_are_added(run, model, site, tmp_path):
    paths = sorted((site / "week_1" / "valve_00").iterdir())[:3]
    samples = np.concatenate([soundfile.read(path)[0] for path in paths])
    write(tmp_path / "long.wav", samples)
    new = tmp_path / "new.asd"
    code, lines, _ = run("add-normals", model, tmp_path / "long.wav", "-o", new, *ONE)
    assert code == 0
    assert "valve_00  1 recording added" in lines
    loaded = read_model(str(new), trust=False)
    assert loaded.training["start"].tolist()[-3:] == [0.0, 2.0, 4.0]
    assert len(loaded.training) == 43
    assert run("score", new, site / "week_2")[0] in (0, 1)


def test_networks_that_judge_are_refused_by_name(run, model, site, tmp_path):
    loaded = load_with_notes(model)
    network = AutoencoderDetector(max_epochs=1, batch_size=64, random_state=0)
    pipe = make_pipeline(LogMelSegmenter(segment_duration=None), network)
    path = tmp_path / "network.asd"
    save_model(pipe.fit(load_clips(site / "week_1")), path, loaded.notes)
    code, _, errors = run("add-normals", path, site / "week_1")
    assert code == 2
    assert "AutoencoderDetector cannot learn from more clips without a full" in errors


def test_networks_keep_their_weights_and_say_so(run, tmp_path, rng):
    for number in range(30):
        noise = rng.normal(scale=0.01, size=4 * RATE)
        kind = "new" if number >= 20 else "old"
        write(tmp_path / kind / f"fan_{number % 2}" / f"{number}.wav", noise)
    path, new = tmp_path / "networks.asd", tmp_path / "new.asd"
    few = ("--system", "networks", "--epochs", "1", "--batch-size", "32")
    assert exit_code("fit", tmp_path / "old", "-o", path, *few) == 0
    code, lines, _ = run("add-normals", path, tmp_path / "new", "-o", new)
    assert code == 0
    assert "The networks keep their weights." in lines
    assert "sklearn-asd calibrate" in lines  # held-out recordings set the threshold
    before, after = (load_model(one)[-1] for one in (path, new))
    before = before.detector_
    for one, two in zip(before.estimators_, after.estimators_, strict=True):
        weights, same = (list(e.encoder_.net_.module_.parameters()) for e in (one, two))
        assert all((a == b).all() for a, b in zip(weights, same, strict=True))
        assert len(two.training_points()[0]) == len(one.training_points()[0]) + 10
