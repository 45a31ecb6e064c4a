"""Remarks of the command on one clip, recorded or stored in many ways."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from command import RATE, exit_code
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, load_clips, load_model, save_model
from sklearn_asd.presets import make_detector

# What was done to a normal recording, and the remark on it.
CASES = {
    "44k.flac": "recorded at 44100 Hz, the training recordings at 16000 Hz",
    "vorbis.ogg": "a compressed format, unlike the training recordings",
    "mp3.mp3": "a compressed format, unlike the training recordings",
    "from_8k.flac": "nothing above 4.0 kHz, where the training recordings have sound",
    "offset.flac": "offset of 0.05 of full scale",
    "clipped.flac": "clipped: ",
    "half.flac": "1 s long, the training recordings 2 s",
    "plain.flac": "",
}


def resample(samples, rate):
    return np.fft.irfft(np.fft.rfft(samples), len(samples) * rate // RATE) * rate / RATE


def low_pass(samples):
    spectrum = np.fft.rfft(samples)
    spectrum[len(spectrum) // 2 :] = 0
    return np.fft.irfft(spectrum, len(samples))


@pytest.fixture(scope="session")
def cases(tmp_path_factory, sounds):
    """One normal clip in many ways."""
    folder = tmp_path_factory.mktemp("cases") / "valve_00"
    folder.mkdir()
    normal = (sounds["split"] == "test") & (sounds["label"] == 1)
    clip = sounds[normal]["audio"].iloc[0]
    limit = np.percentile(np.abs(clip), 99)
    made = {
        "44k.flac": resample(clip, 44_100),
        "vorbis.ogg": clip,
        "mp3.mp3": clip,
        "from_8k.flac": low_pass(clip),
        "offset.flac": clip + 0.05,
        "clipped.flac": np.clip(clip, -limit, limit),
        "half.flac": clip[:RATE],
        "plain.flac": clip,
    }
    for name, samples in made.items():
        rate = 44_100 if name == "44k.flac" else RATE
        try:
            soundfile.write(folder / name, samples, rate)
        except soundfile.LibsndfileError:
            continue  # an old libsndfile writes no MP3
    return folder


def test_each_case_has_its_remark_in_lines_table_json_and_report(
    run, model, cases, tmp_path
):
    paths = sorted(cases.iterdir())
    table, page = tmp_path / "v.csv", tmp_path / "v.html"
    _, lines, counts = run("score", model, *paths, "--csv", table, "--report", page)
    _, objects, _ = run("score", model, *paths, "--json")
    rows = pd.read_csv(table, keep_default_na=False)
    html, n_remarks = page.read_text(), 0
    said = [json.loads(line)["remark"] for line in objects.splitlines()]
    for path, line, cell, field in zip(
        paths, lines.splitlines(), rows["remark"], said, strict=True
    ):
        expected = CASES[path.name]
        assert cell == (field or "")
        assert line.endswith(f"{path} ({cell})" if expected else str(path))
        assert cell.startswith(expected) or f"; {expected}" in cell
        assert bool(cell) == bool(expected)
        n_remarks += bool(expected)
    # Beside the clip in its table, and where it is explained.
    assert html.count('class="remark"') == n_remarks
    n_anomalous = (rows["verdict"] == "anomalous").sum()
    in_summary = (
        f"<strong>{n_remarks} recordings</strong> cannot be compared with those"
    )
    assert html.count(in_summary) == 1
    assert f"; {n_remarks} cannot be compared with those of training (see" in counts
    assert html.count("cannot be compared with those of training") == 1 + min(
        10, (rows[rows["verdict"] == "anomalous"]["remark"] != "").sum()
    )
    assert n_anomalous >= 3
    assert html.count("Remark under the name of a recording") == 1


NO_SOUND = "holds no sound: is the microphone off, muted or unplugged?"
CANCEL = "holds no sound, as the channels cancel each other ("


def test_a_recording_without_sound_is_never_normal(run, model, cases, tmp_path):
    clip, _ = soundfile.read(cases / "plain.flac")
    folder = tmp_path / "valve_00"
    folder.mkdir()
    idle = np.random.default_rng(0).integers(-1, 2, size=len(clip)) / 2**15
    for name, samples in {
        "cancel": np.stack([clip, -clip], 1),
        "constant": 0 * clip + 0.3,
        "idle": idle,
        "zeros": 0 * clip,
    }.items():
        soundfile.write(folder / f"{name}.flac", samples, RATE)
    table, page = tmp_path / "v.csv", tmp_path / "v.html"
    code, lines, _ = run("score", model, folder, "--csv", table)
    assert code == 2
    reasons = pd.read_csv(table)["reason"]
    assert reasons[0].startswith(CANCEL)
    assert reasons[1:].tolist() == [NO_SOUND] * 3
    assert [line.split()[0] for line in lines.splitlines()] == ["unusable"] * 4
    run("score", model, folder, cases / "plain.flac", "--report", page)
    assert page.read_text().count(NO_SOUND) == 3


def test_a_machine_that_was_never_heard_is_refused_by_name(run, tmp_path, rng):
    for machine, level in (("pump_1", 0.05), ("pump_2", 0), ("pump_3", 0.05)):
        (tmp_path / "normal" / machine).mkdir(parents=True)
        for number, sound in enumerate(level * rng.normal(size=(6, RATE))):
            path = tmp_path / "normal" / machine / f"{number}.wav"
            soundfile.write(path, sound, RATE)
    model = tmp_path / "m.asd"
    code, _, errors = run("fit", tmp_path / "normal", "-o", model)
    assert code == 2
    assert "recordings to learn from of pump_2 hold no sound" in errors
    assert not model.exists()
    soundfile.write(path.parents[1] / "pump_2" / "0.wav", sound, RATE)
    code, _, errors = run("fit", tmp_path / "normal", "-o", model)
    assert code == 2  # one recording is too few
    assert "5 recordings to learn from without any sound" in errors
    assert "pump_2" in errors.splitlines()[-1]


def test_channels_that_are_dead_or_cancel_are_remarked(run, model, cases, tmp_path):
    clip, _ = soundfile.read(cases / "plain.flac")
    folder = tmp_path / "valve_00"
    folder.mkdir()
    nearly = -0.9 * clip
    for name, second in (("alike", clip), ("dead", 0 * clip), ("opposite", nearly)):
        soundfile.write(folder / f"{name}.flac", np.stack([clip, second], 1), RATE)
    _, lines, _ = run("score", model, folder)
    alike, dead, opposite = lines.splitlines()
    assert alike.endswith("alike.flac")
    assert dead.endswith("(no sound in 1 of the channels: take the other)")
    assert "(the channels cancel each other" in opposite


def test_new_normal_recordings_have_no_remark(run, model, folder):
    _, lines, _ = run("score", model, folder / "new")
    assert "(" not in lines.replace(str(folder), "")


def test_models_without_the_step_make_no_remarks(run, folder, model, tmp_path):
    zeros = tmp_path / "valve_00" / "zeros.wav"
    zeros.parent.mkdir()
    soundfile.write(zeros, np.zeros(2 * RATE), RATE)
    old = make_pipeline(LogMelSegmenter(segment_duration=None), make_detector())
    save_model(old.fit(load_clips(folder / "recordings")), tmp_path / "old.asd")
    code, lines, _ = run("score", tmp_path / "old.asd", zeros, "--json")
    line = json.loads(lines)
    assert (code, line["verdict"], line["remark"]) == (1, "anomalous", None)
    assert "recordingcheck" in load_model(model).named_steps


def test_fit_names_copies_and_cancelling_channels(capsys, folder, tmp_path):
    training = tmp_path / "recordings" / "valve_00"
    training.mkdir(parents=True)
    paths = sorted((folder / "recordings" / "valve_00").iterdir())[:6]
    for path in paths:
        (training / path.name).write_bytes(path.read_bytes())
    (training / "copy.wav").write_bytes(paths[0].read_bytes())
    noise = np.random.default_rng(0).normal(scale=1e-3, size=2 * RATE)
    sound, _ = soundfile.read(paths[1])
    opposite = np.stack([sound + noise, -sound], axis=1)
    soundfile.write(training / "opposite.wav", opposite, RATE)
    assert exit_code("fit", training.parent, "-o", tmp_path / "model.asd") == 0
    errors = capsys.readouterr().err
    assert errors.count("copies of each other") == 1
    assert "copy.wav" in errors
    assert errors.count("channels cancel each other") == 1
    assert "opposite.wav" in errors


def test_a_channel_is_chosen_where_the_mix_is_silent(run, tmp_path, rng):
    folder = tmp_path / "stereo" / "pump_1"
    folder.mkdir(parents=True)
    for number, sound in enumerate(rng.normal(scale=0.05, size=(6, RATE))):
        soundfile.write(folder / f"{number}.wav", np.stack([sound, -sound], 1), RATE)
    model = tmp_path / "m.asd"
    code, _, errors = run("fit", folder.parent, "-o", model)
    assert code == 2  # there is nothing to learn from
    assert "of pump_1" in errors
    assert "take one of them (--channel 0)" in errors
    _, _, errors = run("fit", folder.parent, "-o", model, "--channel", 1)
    assert "Warning" not in errors
    _, output, _ = run("score", model, folder)
    assert "cancel" not in output
    _, _, errors = run("fit", folder.parent, "-o", model, "--channel", 2)
    assert "has 2 channel(s), and --channel 2 counts from 0" in errors


def test_the_demo_takes_a_channel_too(run, tmp_path, rng):
    for machine in ("pump_1", "pump_2"):
        folder = tmp_path / "stereo" / machine
        folder.mkdir(parents=True)
        for number, sound in enumerate(rng.normal(scale=0.05, size=(6, 4 * RATE))):
            path = folder / f"{number}.wav"
            soundfile.write(path, np.stack([sound, -sound], 1), RATE)
    picture = tmp_path / "demo.png"
    demo = ("demo", "--data", tmp_path / "stereo", "--epochs", 1, "--picture", picture)
    _, _, errors = run(*demo)
    assert "take one of them (--channel 0)" in errors
    code, output, errors = run(*demo, "--channel", 1)
    assert (code, "Warning" in errors) == (0, False)
    assert "The least normal clips are" in output
