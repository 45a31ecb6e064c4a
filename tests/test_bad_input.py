"""The table of docs/guide/bad_input.md: what happens to bad or unusual input.

Each is either refused, naming clip, fact and remedy, or has a stated result. Nothing
scores NaN unless that was asked for.
"""

import functools
import os
import re
import tracemalloc
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
from encoders import bands
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    BadClipError,
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
    load_clips,
)
from sklearn_asd._utils.messages import cut
from sklearn_asd.networks import DualPathNetwork

RATE = 16000

Short = functools.partial(
    LogMelSegmenter, segment_duration=0.512, segment_hop=0.256, n_mels=32
)


def make_tones(n=4, seed=0):
    """Table of 1 s tones in noise, n of each of two machines."""
    rng = np.random.default_rng(seed)
    t = np.arange(RATE) / RATE
    audio = [
        0.3 * np.sin(2 * np.pi * pitch * t) + 0.05 * rng.normal(size=RATE)
        for pitch in np.repeat([500, 900], n)
    ]
    return pd.DataFrame({"audio": audio, "machine_id": np.repeat(["00", "02"], n)})


TONES = make_tones()


def spectrum():
    return PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))


SMALL_DUAL_PATH = functools.partial(DualPathNetwork, n_embedding=16, n_channels=2)


def id_confidence():
    return IDConfidenceDetector(batch_size=16, max_epochs=6, random_state=0)


DETECTORS = {
    "id": lambda: make_pipeline(Short(), id_confidence()),
    "views": lambda: make_pipeline(
        AugmentationExpander(pitch_steps=(0, 4), stretch_rates=(1,)),
        Short(),
        AugmentConfidenceDetector(batch_size=16, max_epochs=1, random_state=0),
    ),
    "neighbors": lambda: make_pipeline(
        Short(), EmbeddingNeighborDetector(id_confidence())
    ),
    "dual path": lambda: make_pipeline(
        LinearSpectrogram(n_fft=256, hop_length=256, n_spectrum=100),
        EmbeddingNeighborDetector(id_confidence().set_params(network=SMALL_DUAL_PATH)),
    ),
    "autoencoder": lambda: make_pipeline(
        Short(), AutoencoderDetector(batch_size=64, max_epochs=1, random_state=0)
    ),
    "spectrum": lambda: make_pipeline(Short(), spectrum()),
    "power spectrum": lambda: make_pipeline(PowerSpectrum(), spectrum()),
    "encoder": lambda: make_pipeline(EncoderEmbedding(bands), spectrum()),
    "gaussian": lambda: make_pipeline(Short(), GaussianDetector(SpectrumStatistics())),
    "ensemble": lambda: make_pipeline(
        Short(),
        GammaProbabilityEnsemble([("id", id_confidence()), ("spectrum", spectrum())]),
    ),
    "z-scores": lambda: make_pipeline(
        Short(),
        ZScoreEnsemble(
            [
                ("near", EmbeddingNeighborDetector(SpectrumStatistics())),
                ("spectrum", spectrum()),
            ]
        ),
    ),
    "tuner": lambda: make_pipeline(
        Short(), ThresholdTuner(id_confidence(), false_alarm_rate=0.5, random_state=0)
    ),
}


@functools.cache
def fitted():
    """Careful: shared by the module, so neither fit it again nor set its parameters."""
    return DETECTORS["id"]().fit(TONES)


# -- files that are none, or damaged ---------------------------------------------


def noise(n_samples=RATE):
    return np.random.default_rng(0).uniform(-0.5, 0.5, n_samples)


def cut_short(path, share):
    """A file of which only the beginning was copied."""
    soundfile.write(path, noise(), RATE)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def write(samples, rate=RATE, subtype="FLOAT"):
    return lambda path: soundfile.write(path, samples, rate, subtype=subtype)


def with_sample(value):
    samples = noise()
    samples[7] = value
    return write(samples)


BAD_FILES = {
    "gone": ("clip.wav", lambda path: None, "does not exist: check the path '.*clip"),
    "folder": ("clip.wav", os.mkdir, r"is a folder; pass its files, or load_clips"),
    "dangling link": (
        "clip.wav",
        lambda path: os.symlink("gone.wav", path),
        "does not exist: .*, a link to 'gone.wav'",
    ),
    "link to itself": (
        "clip.wav",
        lambda path: os.symlink(path, path),
        "does not exist: .*, a link to ",
    ),
    "below a file": (
        "clip.wav/clip.wav",
        lambda path: path.parent.touch(),
        "does not exist: check the path",
    ),
    "name too long": ("n" * 5000, lambda path: None, "does not exist: check the path"),
    "pipe": ("clip.wav", os.mkfifo, "is a pipe or a device, not a file: leave it out"),
    "zero bytes": (
        "clip.wav",
        lambda path: path.touch(),
        "is an empty file of 0 bytes: leave it out",
    ),
    "text": (
        "clip.wav",
        lambda path: path.write_text("this is no sound"),
        r"cannot be decoded \(.*\): convert it to WAV or FLAC, or leave it out",
    ),
    "half a FLAC": (
        "clip.flac",
        lambda path: cut_short(path, 0.5),
        r"cannot be decoded \(.*\): convert it to WAV or FLAC, or leave it out",
    ),
    "a tenth of a WAV": (
        "clip.wav",
        lambda path: cut_short(path, 0.1),
        "is about 0.112 s .*; segments need 0.512 s .*: lower segment_duration, pad",
    ),
    "part of a header": (
        "clip.wav",
        lambda path: cut_short(path, 0.0006),
        r"cannot be decoded \(.*\): convert it to WAV or FLAC, or leave it out",
    ),
    "header alone": (
        "clip.wav",
        write(np.zeros(0)),
        "holds no samples: leave it out",
    ),
    "NaN": ("clip.wav", with_sample(np.nan), "holds nan at sample 7 of 16000, .*: rep"),
    "Inf": ("clip.wav", with_sample(np.inf), "holds inf at sample 7 of 16000, .*: rep"),
    "one sample": (
        "clip.wav",
        write([0.5]),
        "is about 0.016 s .1 frames.; segments need 0.512 s .*: lower segment_duration",
    ),
    "shorter than a segment": (
        "clip.wav",
        write(noise(8000 - 512)),
        "is about 0.464 s .15 frames.; segments need 0.512 s .16 frames.: lower",
    ),
    "8 kHz": (
        "clip.wav",
        write(noise(), 8000),
        "is sampled at 8000 Hz, below sample_rate=16000, .* set sample_rate=8000 for",
    ),
    "2 GHz": (
        "clip.wav",
        write(noise(), 2**31 - 1),
        "has the impossible sample rate 2.14748e.09 Hz: correct it, or",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_named_by_workers_or_score_nan_on_request(tmp_path, kind):
    name, make, message = BAD_FILES[kind]
    path, good = tmp_path / name, tmp_path / "good.wav"
    make(path)
    shown = re.escape(cut(path.name))
    soundfile.write(good, TONES["audio"][0], RATE)
    clips = pd.DataFrame({"path": [good, path, good], "machine_id": "00"}).astype(
        {"path": object}
    )
    pipe = fitted()
    for backend in ("threading", "loky"):
        with (
            joblib.parallel_config(backend, n_jobs=2),
            pytest.raises(BadClipError, match=rf"^clip 1 \({shown}\) {message}"),
        ):
            Short().transform(clips)
    cached = Short(cache_dir=tmp_path / "cache", on_bad_clip="nan")
    with pytest.warns(UserWarning, match=rf"1 of 3 clips .*\n  clip 1 .*{message}"):
        X = cached.transform(clips)
    scores = pipe[-1].score_samples(X)
    assert np.isnan(scores).tolist() == [False, True, False]
    assert scores[0] == pytest.approx(scores[2], rel=1e-6)
    assert pipe[-1].predict(X)[1] == -1


@pytest.mark.parametrize(
    "kind", [kind for kind, bad in BAD_FILES.items() if "segments need" not in bad[2]]
)
@pytest.mark.parametrize("front_end", [PowerSpectrum, LinearSpectrogram])
def test_bad_files_have_no_other_spectrum_either(tmp_path, kind, front_end):
    name, make, message = BAD_FILES[kind]
    path = tmp_path / name
    make(path)
    shown = re.escape(cut(path.name))
    with pytest.raises(BadClipError, match=rf"^clip 0 \({shown}\) {message}"):
        front_end().transform([path])


@pytest.fixture
def as_nobody():
    """Without the rights of root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("locked", ["clip.wav", "."])
def test_files_and_folders_that_may_not_be_read_are_named(tmp_path, request, locked):
    soundfile.write(tmp_path / "clip.wav", noise(), RATE)
    (tmp_path / locked).chmod(0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(BadClipError, match=r"^clip 0 \(clip.wav\) is not readable: gi"):
        Short().transform([tmp_path / "clip.wav"])


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no recordings: .* in .wav, .flac"):
        load_clips(tmp_path)
    with pytest.raises(ValueError, match="X holds 0 clips; at least 1 is needed"):
        Short().fit_transform([])


# -- files that are unusual ------------------------------------------------------


def test_what_is_there_of_a_wav_that_was_cut_short_is_used(tmp_path):
    cut_short(tmp_path / "clip.wav", 0.7)
    X = Short().transform([tmp_path / "clip.wav"])
    assert X.n_segments.tolist() == [[1]]


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [
        ("PCM_U8", 0.3),
        ("PCM_16", 1e-2),
        ("PCM_24", 1e-3),
        ("PCM_32", 1e-3),
        ("FLOAT", 1e-3),
        ("DOUBLE", 1e-3),
    ],
)
def test_files_of_any_number_of_bits_score_alike(tmp_path, subtype, tolerance):
    samples = TONES["audio"][0]
    soundfile.write(tmp_path / "clip.wav", samples, RATE, subtype=subtype)
    X = Short().transform([samples, tmp_path / "clip.wav"])
    difference = np.abs(X.log_mel(0) - X.log_mel(1))
    assert np.mean(difference) < tolerance  # in dB


@pytest.mark.parametrize("rate", [44100, 192000])
def test_files_of_higher_rates_are_resampled(tmp_path, rate):
    t = np.arange(rate) / rate
    soundfile.write(tmp_path / "clip.wav", 0.3 * np.sin(2 * np.pi * 500 * t), rate)
    X = Short().transform([tmp_path / "clip.wav"])
    same = Short().transform([0.3 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)])
    assert X.n_segments.tolist() == same.n_segments.tolist()
    middle = slice(4, -4)
    assert (
        X.log_mel(0)[:, middle].argmax(axis=0).tolist()
        == same.log_mel(0)[:, middle].argmax(axis=0).tolist()
    )


def test_eight_channels_are_averaged_or_one_is_chosen(tmp_path):
    samples = TONES["audio"][0][:, None] * np.linspace(0, 1, 8)
    soundfile.write(tmp_path / "clip.wav", samples, RATE, subtype="FLOAT")
    mixed = Short().transform([tmp_path / "clip.wav", samples.mean(axis=1)])
    np.testing.assert_allclose(mixed.log_mel(0), mixed.log_mel(1), atol=0.01)
    last = Short(channel=7).transform([tmp_path / "clip.wav", samples[:, 7]])
    np.testing.assert_allclose(last.log_mel(0), last.log_mel(1), atol=0.01)
    with pytest.raises(BadClipError, match=r"clip 0 has an array of shape \(16000, 8"):
        Short().transform([samples])


def test_an_hour_of_sound_takes_little_more_memory_than_its_samples_twice(tmp_path):
    n_samples, path = 3600 * RATE, tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE, dtype=np.int16))
    tracemalloc.start()
    X = Short(n_fft=512, n_mels=8).transform([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert X.n_segments.tolist() == [[1 + (112501 - 16) // 8]]
    assert peak < 2.3 * 4 * n_samples


def test_names_may_hold_spaces_any_letters_and_bytes_that_are_none(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), "Gerät 7, 泵 №3".encode(), b"\xff x")
    try:
        os.makedirs(folder)
    except OSError:
        pytest.skip("this file system takes no such names")
    for name in ("a b é.wav".encode(), b"\xfe.wav"):
        soundfile.write(os.path.join(folder, name), noise(), RATE)
    clips = load_clips(tmp_path)
    assert Short().transform(clips).n_segments.tolist() == [[3], [3]]
    assert Short(cache_dir=tmp_path / "ü c").transform(clips).n_segments.sum() == 6


# -- sound that is unusual -------------------------------------------------------

UNUSUAL = {
    "all zeros": np.zeros(RATE),
    "constant": np.full(RATE, 0.5),
    "clipped": np.clip(50 * TONES["audio"][0], -1, 1),
    "a click": np.eye(1, RATE)[0],
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_sound_has_a_score_like_any_other(kind):
    scores = fitted().score_samples(
        pd.DataFrame({"audio": [UNUSUAL[kind]], "machine_id": "00"})
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", ["all zeros", "constant"])
@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_learns_from_silence_alone(name, kind):
    clips = TONES.assign(audio=[UNUSUAL[kind]] * 8)
    with pytest.raises(ValueError, match="hold no sound, all are below -90 dB .*: che"):
        DETECTORS[name]().fit(clips)


@pytest.mark.parametrize("name", DETECTORS)
def test_clipped_sound_can_be_learnt_from(name):
    clips = TONES.assign(audio=[UNUSUAL["clipped"]] * 8)
    if name in ("ensemble", "z-scores"):  # equal clips make equal scores
        member = {"ensemble": "spectrum", "z-scores": "near"}[name]
        with (
            pytest.warns(UserWarning, match="training clips are equal"),
            pytest.raises(ValueError, match=f"'{member}' are all equal.*: add.*silent"),
        ):
            DETECTORS[name]().fit(clips)
        return
    warned = name in (
        "gaussian",
        "neighbors",
        "dual path",
        "spectrum",
        "power spectrum",
        "encoder",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipe = DETECTORS[name]().fit(clips)
    assert warned == any("clips are equal" in str(one.message) for one in caught)
    assert np.isfinite(pipe.score_samples(clips)).all()
    if warned:
        assert (pipe.predict(clips) == 1).all()
        assert (pipe.predict(TONES) == -1).all()  # nothing like it was heard


def test_arrays_are_taken_to_be_at_the_sample_rate_unless_the_table_says_otherwise():
    """At 44.1 kHz by mistake it is another sound, which no reader can know."""
    t = np.arange(44100) / 44100
    clips = pd.DataFrame(
        {"audio": [0.3 * np.sin(2 * np.pi * 500 * t)], "machine_id": "00"}
    )
    right = Short().transform(clips.assign(sample_rate=44100))
    wrong = Short().transform(clips)
    tone = Short().transform([0.3 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)])
    assert right.log_mel(0)[:, 16].argmax() == tone.log_mel(0)[:, 16].argmax()
    assert wrong.log_mel(0)[:, 16].argmax() < tone.log_mel(0)[:, 16].argmax()
    assert wrong.n_segments[0, 0] > right.n_segments[0, 0]


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (0, BadClipError, "clip 0 has the impossible sample rate 0 Hz"),
        (-16000, BadClipError, "clip 0 has the impossible sample rate -16000 Hz"),
        (np.inf, BadClipError, "clip 0 has the impossible sample rate inf Hz"),
        ("16k", ValueError, "sample_rate of clip 0 is '16k'; it must be a num"),
    ],
)
def test_impossible_rates_of_arrays_are_refused(rate, error, message):
    with pytest.raises(error, match=message):
        Short().transform(TONES.assign(sample_rate=rate))


# -- tables that are unusual -----------------------------------------------------


def test_duplicate_rows_are_clips_like_any_other():
    clips = TONES.iloc[[0, 0, 1, 2, 4, 4, 5, 6]]
    scores = DETECTORS["id"]().fit(clips).score_samples(clips)
    assert np.isfinite(scores).all()
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


ONE_CLIP = {
    "z-scores": "X holds 1 normal clips .*; at least two are needed",
    "id": "X holds one machine only .00.*: add normal recordings of another machine",
    "neighbors": "00 has one usable training clip, .*: add recordings, or leave",
    "gaussian": "00 has fewer than 3 usable normal clips, and 3 are needed to leave",
    "spectrum": "the detector of machine '00' cannot be fitted to its 1 normal clip",
    "power spectrum": "machine '00' cannot be fitted to its 1 normal clip",
    "encoder": "machine '00' cannot be fitted to its 1 normal clip",
    "ensemble": r"X holds 1 normal clips .n_samples=1.; at least two are needed",
    "tuner": "X holds 1 normal clip .n_samples=1.; at least two are needed",
}
ONE_CLIP["dual path"] = ONE_CLIP["neighbors"]


@pytest.mark.parametrize("name", DETECTORS)
def test_one_clip_is_learnt_from_or_refused(name):
    pipe, clips = DETECTORS[name](), TONES[:1]
    if name in ONE_CLIP:
        with pytest.raises(ValueError, match=ONE_CLIP[name]):
            pipe.fit(clips)
    else:
        assert np.isfinite(pipe.fit(clips).score_samples(clips)).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_one_id_is_learnt_from_or_refused(name):
    pipe, clips = DETECTORS[name](), TONES[:4]
    if name in ("id", "neighbors", "dual path", "ensemble", "tuner"):
        with pytest.raises(ValueError, match=ONE_CLIP["id"]):
            pipe.fit(clips)
    else:
        assert np.isfinite(pipe.fit(clips).score_samples(clips)).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_an_id_with_one_clip_is_learnt_from_or_refused_by_name(name):
    pipe, clips = DETECTORS[name](), TONES[:5]
    messages = {
        "neighbors": "02 has one usable training clip, which has no neighbour: add rec",
        "gaussian": "02 has fewer than 2 usable normal clips, and 2 are needed to leav",
        "z-scores": "02 has one usable training clip, which has no neighbour: add reco",
        "spectrum": "machine '02' cannot be fitted to its 1 normal clip.s.: .*minimum",
        "ensemble": "machine '02' cannot be fitted to its 1 normal clip.s.: .*minimum",
    }
    messages["power spectrum"] = messages["encoder"] = messages["spectrum"]
    messages["dual path"] = messages["neighbors"]
    if name in messages:
        with pytest.raises(ValueError, match=messages[name]):
            pipe.fit(clips)
    else:
        assert np.isfinite(pipe.fit(clips).score_samples(clips)).all()


def test_two_thousand_ids_are_told_apart():
    machines = [f"pump {number}" for number in range(2000)]
    clips = pd.DataFrame(
        {"audio": list(np.random.default_rng(0).normal(size=(2000, 8000)))}
    ).assign(machine_id=machines)
    segment = Short(segment_duration=0.288, n_mels=8)
    detector = IDConfidenceDetector(max_epochs=1, random_state=0)
    pipe = make_pipeline(segment, detector).fit(clips)
    assert len(detector.classes_) == 2000
    assert np.isfinite(pipe.score_samples(clips[-3:])).all()
    clips.loc[1999, "machine_id"] = "pump 2000"
    with pytest.raises(ValueError, match="fitted: pump 2000; known .* and 1992 more"):
        pipe.score_samples(clips)


@pytest.mark.parametrize("name", [n for n in DETECTORS if n != "autoencoder"])
def test_unseen_ids_are_refused_by_name_with_the_remedy(name):
    pipe = DETECTORS[name]().fit(TONES)
    new = TONES.assign(machine_id=["00"] * 7 + ["99"])
    with pytest.raises(ValueError, match="not among those fitted: 99; known are 00, 0"):
        pipe.score_samples(new)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("name", [n for n in DETECTORS if n != "autoencoder"])
def test_missing_ids_are_refused_by_row(name, missing):
    some = TONES.assign(machine_id=TONES["machine_id"].astype(object))
    some.loc[3, "machine_id"] = missing
    with pytest.raises(ValueError, match="machine_id is missing for clips [23] of tho"):
        DETECTORS[name]().fit(some)
    if name not in ("views", "gaussian"):  # which may take all as one machine
        with pytest.raises(ValueError, match="X has no machine IDs, which are needed"):
            DETECTORS[name]().fit(TONES.assign(machine_id=missing))


def test_ids_of_mixed_types_are_compared_as_text():
    clips = TONES.assign(machine_id=[1, "1", 1.0, np.int8(1), "b", "b", "01", "01"])
    pipe = DETECTORS["id"]().fit(clips)
    assert pipe[-1].classes_.tolist() == ["01", "1", "b"]
    assert np.isfinite(pipe.score_samples(clips)).all()
    for odd in ([1, 2], np.array([1, 2])):
        with pytest.raises(ValueError, match="domain is named .*give each clip one"):
            DETECTORS["id"]().fit(TONES.assign(machine_id=[odd] * 8))


@pytest.mark.parametrize("y", [[0, 1] * 4, ["normal"] * 8, [True, False] * 4])
@pytest.mark.parametrize("name", DETECTORS)
def test_labels_other_than_plus_and_minus_one_are_refused(name, y):
    with pytest.raises(ValueError, match=r"y holds (0|normal|False, True|False); lab"):
        DETECTORS[name]().fit(TONES, y)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_index_that_is_not_unique_is_ignored(name):
    y = pd.Series([1] * 7 + [-1], index=[3] * 8)
    if name == "spectrum":
        y.iloc[-1] = 1
    same = TONES.set_axis([3] * 8)
    scores = DETECTORS[name]().fit(same, y).score_samples(same)
    expected = DETECTORS[name]().fit(TONES, y.to_numpy()).score_samples(TONES)
    np.testing.assert_array_equal(scores, expected)
