"""False alarms that a model learns from, by the command."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import soundfile
from command import RATE, exit_code, write
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AutoencoderDetector,
    Clips,
    ClipSpectrograms,
    GaussianDetector,
    LogMelSegmenter,
    OnlyMachineTypes,
    PerMachine,
    PerMachineType,
    SpectrumStatistics,
    ThresholdTuner,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd._cli.history import find_rate
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


def test_a_file_with_other_content_under_a_known_name_is_taken(
    run, model, site, folder, tmp_path
):
    """A recorder may use its names again."""
    new, place = tmp_path / "new.asd", tmp_path / "recordings"
    shutil.copytree(folder / "recordings", place)
    assert run("fit", place, "-o", new)[0] == 0
    old = sorted((place / "valve_00").iterdir())
    fresh = sorted((site / "week_1" / "valve_00").iterdir())
    for first in (0, 5):  # the second time, what was added is written over too
        for path, content in zip(old, fresh[first : first + 5], strict=False):
            shutil.copy(content, path)
        code, lines, errors = run("add-normals", new, place)
        assert code == 0, errors
        assert "valve_00  5 recordings added" in lines
        assert "Left out: 35 recordings that the model was trained on" in errors
    code, _, errors = run("add-normals", new, place)
    assert code == 2
    assert "Left out: 40 recordings that the model was trained on" in errors
    # Without SHA-256, as in earlier files, the name is all that is known.
    loaded = load_with_notes(model)
    del loaded.notes["files"]
    save_model(loaded.estimator, new, loaded.notes)
    known = folder / "recordings" / "valve_00"
    code, _, errors = run("verify", new, known)
    assert code == 2
    assert "Left out: 20 recordings that the model was trained on" in errors


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


def test_a_rate_that_thresholds_do_not_promise_is_none(rng, tmp_path):
    X = rng.normal(size=(40, 3))
    one = GaussianDetector(contamination=0.2)
    tuned = ThresholdTuner(one, "gamma", false_alarm_rate=0.1, random_state=0)
    f1 = ThresholdTuner(one, "f1", random_state=0)
    rates = [find_rate(each.fit(X)) for each in (one, tuned)]
    assert rates == [0.2, 0.1]
    assert find_rate(f1.fit(X, np.where(np.arange(40) % 4, 1, -1))) is None
    clips = ClipSpectrograms.from_arrays(
        rng.normal(size=(40, 4, 6)),
        machine_type=["fan", "pump"] * 20,
        machine_id=["00"] * 40,
        segment_frames=None,
    )
    rows = GaussianDetector(SpectrumStatistics("mean"), contamination=0.2)
    other = clone(rows).set_params(contamination=0.1)
    each = ThresholdTuner(rows, false_alarm_rate=0.3, random_state=0)
    rates = [
        find_rate(one.fit(clips))
        for one in (
            PerMachine(each),
            OnlyMachineTypes(each, "fan"),
            PerMachineType([("fan", rows), ("pump", clone(rows))]),
            PerMachineType([("fan", rows), ("pump", other)]),
        )
    ]
    assert rates == [0.3, 0.3, 0.2, None]


def test_a_history_tells_no_rate_where_none_is_promised(run, tmp_path, rng):
    noise = rng.normal(scale=0.01, size=(40, RATE // 4))
    rates = {"fan": 0.1, "pump": 0.2}
    near = [
        (kind, GaussianDetector(SpectrumStatistics("mean"), contamination=rate))
        for kind, rate in rates.items()
    ]
    kinds = ["fan", "pump"] * 20
    clips = Clips(list(noise), machine_type=kinds, machine_id=["00"] * 40)
    pipe = make_pipeline(LogMelSegmenter(segment_duration=None), PerMachineType(near))
    path = tmp_path / "types.asd"
    save_model(pipe.fit(clips), path)
    tone = tmp_path / "new" / "fan" / "00" / "tone.wav"
    write(tone, rng.normal(scale=0.01, size=RATE // 4))
    code, _, errors = run("add-normals", path, tmp_path / "new")
    assert code == 0, errors
    (entry,) = read_model(str(path), trust=False).history
    assert entry["rate"] is None
    assert "add-normals  1 normal recording of 1 machine" in run("info", path)[1]


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
