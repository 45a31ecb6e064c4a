"""Long recordings: the worst piece decides, and is named."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile
from command import RATE, exit_code

from sklearn_asd import load_model, save_model
from sklearn_asd._cli import verdicts as blocks
from sklearn_asd._cli.models import Pieces, read_model
from sklearn_asd.audio import reading
from sklearn_asd.persistence.models import load_with_notes

N_PIECES = 12


def read(path):
    return soundfile.read(path, dtype="float32")[0]


@pytest.fixture(scope="module")
def normal(folder):
    """The training recordings of a machine, one behind the other: 24 s."""
    paths = sorted((folder / "recordings" / "valve_00").iterdir())
    return np.concatenate([read(path) for path in paths[:N_PIECES]])


@pytest.fixture(scope="module")
def faulty(normal):
    """The same with a hum in the fifth piece."""
    samples, at = normal.copy(), slice(8 * RATE, 10 * RATE)
    hum = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    samples[at] += 0.05 * hum.astype(np.float32)
    return samples


@pytest.fixture(scope="module")
def long(tmp_path_factory, normal, faulty):
    folder = tmp_path_factory.mktemp("long") / "valve_00"
    folder.mkdir()
    soundfile.write(folder / "faulty.flac", faulty, RATE)
    soundfile.write(folder / "normal.flac", normal, RATE)
    return folder


def score(run, *arguments):
    code, lines, errors = run("score", *arguments, "--json")
    return code, [json.loads(line) for line in lines.splitlines()], errors


def test_lines_table_json_and_report_say_when(run, model, long, tmp_path):
    table, page = tmp_path / "v.csv", tmp_path / "v.html"
    code, lines, _ = run("score", model, long, "--csv", table, "--report", page)
    faulty, normal = lines.splitlines()
    assert code == 1
    assert faulty.startswith("anomalous")
    assert faulty.endswith("faulty.flac from 8 to 10 s")
    assert normal.startswith("normal")
    assert normal.endswith("normal.flac")
    rows = pd.read_csv(table)
    assert rows.loc[0, ["start", "stop"]].tolist() == [8, 10]
    assert rows["remark"].isna().all()  # no longer than those of training, any more
    _, objects, _ = score(run, model, long)
    assert [objects[0][name] for name in ("start", "stop")] == [8, 10]
    assert objects[0]["margin"] == pytest.approx(rows["margin"][0])
    html = page.read_text(encoding="utf-8")
    assert html.count("worst piece from 8 to 10 s") == 2  # in its table, and in detail
    assert "times count from its beginning" in html
    assert html.count("<audio") >= 1


def test_a_piece_scores_as_a_recording_of_it(run, model, long, faulty, tmp_path):
    alone = tmp_path / "valve_00" / "alone.flac"
    alone.parent.mkdir()
    soundfile.write(alone, faulty[8 * RATE : 10 * RATE], RATE)
    _, (one,), _ = score(run, model, alone)
    _, (many, _), _ = score(run, model, long)
    assert many["score"] == pytest.approx(one["score"], rel=1e-9)
    assert many["threshold"] < one["threshold"]  # it is the worst of twelve
    assert one["threshold"] == load_model(model)[-1].offset_
    assert (one["start"], one["stop"]) == (None, None)


def test_recordings_as_long_as_those_of_training_have_the_verdicts_of_python(
    run, model, folder
):
    paths = sorted((folder / "new").rglob("*.wav"))
    table = pd.DataFrame({"path": paths})
    table["machine_id"] = [path.parts[-3] for path in paths]
    _, found, _ = score(run, model, *paths)
    detector = load_model(model)
    scores = detector.score_samples(table)
    np.testing.assert_allclose([one["score"] for one in found], scores, rtol=1e-12)
    assert {one["threshold"] for one in found} == {detector[-1].offset_}
    assert {one["start"] for one in found} == {None}


def test_the_length_of_a_piece_can_be_chosen(run, model, long):
    _, (faulty, _), _ = score(run, model, long, "--piece", 4)
    assert (faulty["start"], faulty["stop"]) == (8, 12)
    _, whole, _ = score(run, model, long, "--piece", 24)
    assert [one["start"] for one in whole] == [None, None]
    assert all("24 s long" in one["remark"] for one in whole)
    code, _, errors = run("score", model, long, "--piece", 0)
    assert code == 2
    assert "--piece" in errors


def test_a_model_learns_from_pieces(run, long, folder, tmp_path):
    for machine in ("valve_00", "valve_01"):
        target = tmp_path / "recordings" / machine
        target.mkdir(parents=True)
        paths = sorted((folder / "recordings" / machine).iterdir())
        joined = np.concatenate([read(path) for path in paths])
        soundfile.write(target / "all.flac", joined, RATE)
    path = tmp_path / "m.asd"
    code, _, errors = run(
        "fit",
        tmp_path / "recordings",
        "-o",
        path,
        "--piece",
        2,
        "--false-alarm-rate",
        0.1,
    )
    assert code == 0
    assert "2 recordings cut into pieces of 2 s" in errors
    assert "valve_00  20" in errors
    loaded = read_model(str(path), trust=False)
    assert loaded.pieces == Pieces(2.0)
    assert loaded.training["stop"].tolist()[:3] == [2, 4, 6]
    _, (faulty, _), _ = score(run, path, long)
    assert (faulty["verdict"], faulty["start"]) == ("anomalous", 8)
    run("score", path, long, "--report", tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "all.flac" in html  # the nearest normal piece


def test_models_that_know_no_length_judge_recordings_whole(run, model, long, tmp_path):
    loaded = load_with_notes(str(model))
    notes = {k: v for k, v in loaded.notes.items() if k != "pieces"}
    save_model(loaded.estimator, tmp_path / "old.asd", notes)
    _, found, _ = score(run, tmp_path / "old.asd", long)
    assert [one["start"] for one in found] == [None, None]
    for pieces in ([0.0, None], [2.0], [3.0, 2.0], [-1.0, None], ["2", None]):
        save_model(loaded.estimator, tmp_path / "bad.asd", notes | {"pieces": pieces})
        code, _, errors = run("score", tmp_path / "bad.asd", long)
        assert (code, "are not those of sklearn-asd fit" in errors) == (2, True)


def test_a_piece_that_cannot_be_read_is_not_normal(
    run, model, long, normal, faulty, tmp_path, monkeypatch
):
    open_file, bad = reading.open_file, (20.0, 22.0)

    def fail(source, rate, channel, span=reading.WHOLE):
        if tuple(span) == bad:
            raise reading.BadClipError("cannot be decoded: leave it out")
        return open_file(source, rate, channel, span)

    monkeypatch.setattr(reading, "open_file", fail)
    code, (alarm, unknown), _ = score(run, model, long)
    assert code == 2
    assert alarm["verdict"] == "anomalous"
    assert "not all of it is judged: from 20 to 22 s it cannot" in alarm["remark"]
    assert (unknown["verdict"], unknown["margin"]) == ("unusable", None)
    assert unknown["reason"].startswith("from 20 to 22 s it cannot be decoded")


def test_what_is_unlike_training_in_another_piece_is_remarked(
    run, model, faulty, tmp_path
):
    samples = faulty.copy()
    samples[2 * RATE : 4 * RATE] *= 8
    path = tmp_path / "valve_00" / "loud.wav"
    path.parent.mkdir()
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    _, (one,), _ = score(run, model, path)
    if one["start"] == 2:
        assert "dB louder" in one["remark"]
    else:
        assert one["remark"].startswith("from 2 s: ")


def test_a_long_recording_is_never_in_memory_whole(
    run, model, normal, tmp_path, monkeypatch
):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    path = tmp_path / "valve_00" / "hour.wav"
    path.parent.mkdir()
    soundfile.write(path, np.tile(normal, 10), RATE)  # 4 minutes, 15 MB as floats
    tracemalloc.start()
    try:
        _, (one,), _ = score(run, model, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert one["start"] is not None
    assert peak < 10e6


def test_evaluate_counts_long_recordings_by_their_worst_piece(
    run, model, long, tmp_path
):
    for name, label in (("faulty", "anomaly"), ("normal", "normal")):
        target = tmp_path / "valve_00" / label / f"{name}.flac"
        target.parent.mkdir(parents=True)
        target.write_bytes((long / f"{name}.flac").read_bytes())
    code, output, _ = run("evaluate", model, tmp_path)
    assert code == 0
    assert "False alarms: 0 of 1" in output
    assert "Missed:       0 of 1" in output


def test_a_fault_of_12_s_in_12_minutes_is_found(recordings, run, tmp_path):
    """Judged whole, the recording with the fault is normal: its mean hides it."""
    source = recordings("toycar2023") / "ToyCar" / "train"
    training = tmp_path / "recordings"
    for path in source.glob("*_car_B*.flac"):
        target = training / path.name.split("_car_")[1].split("_")[0]
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{path.name.split('_')[5]}.flac").symlink_to(path)
    model, new = tmp_path / "m.asd", tmp_path / "new" / "B2"
    assert exit_code("fit", training, "-o", model, "--quiet") == 0
    clips = [read(path) for path in sorted((training / "B2").iterdir())] * 2
    new.mkdir(parents=True)
    soundfile.write(new / "normal.wav", np.concatenate(clips), RATE)
    tone = np.sin(2 * np.pi * 3000 * np.arange(12 * RATE) / RATE)
    level = np.sqrt(2 * np.mean(clips[30] ** 2)) * 10 ** (-15 / 20)
    clips[30] = clips[30] + level * tone
    soundfile.write(new / "fault.wav", np.concatenate(clips), RATE)
    _, (fault, normal), _ = score(run, model, new)
    assert (fault["verdict"], fault["start"], fault["stop"]) == ("anomalous", 360, 372)
    assert normal["verdict"] == "normal"
    _, whole, _ = score(run, model, new, "--piece", 720)
    assert [one["verdict"] for one in whole] == ["normal", "normal"]
