"""Facts as front ends measure them, and what RecordingCheck makes of them."""

import numpy as np
import pytest
import soundfile
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    Clips,
    ClipSpectrograms,
    GaussianDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    load_clips,
)
from sklearn_asd.audio.clips import keep_recordings
from sklearn_asd.audio.remarks import FACTS
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.meta.structure import Opened

RATE = 16_000
SEGMENT = LogMelSegmenter(segment_duration=None, n_mels=16)
NO_SOUND = "no sound: is the microphone off, muted or unplugged?"


@pytest.fixture
def noises(rng):
    return list(rng.normal(scale=0.05, size=(12, 2 * RATE)).astype(np.float32))


def fact(X, name):
    return X.facts[:, FACTS.index(name)].tolist()


def write(path, samples, rate=RATE, **more):
    soundfile.write(path, samples, rate, **more)
    return str(path)


# -- known answers -----------------------------------------------------------------


def test_facts_of_files_and_arrays(tmp_path, noises):
    one, other = noises[:2]
    paths = [
        write(tmp_path / "mono.wav", one),
        write(tmp_path / "dead.wav", np.stack([one, 0 * one], axis=1)),
        write(tmp_path / "fast.flac", np.repeat(one, 3), 3 * RATE),
        write(tmp_path / "vorbis.ogg", one),
        write(tmp_path / "opposite.wav", np.stack([other, -other], axis=1)),
    ]
    X = SEGMENT.transform(paths)
    assert fact(X, "duration") == pytest.approx([2] * 5)
    assert fact(X, "sample_rate") == [RATE, RATE, 3 * RATE, RATE, RATE]
    assert fact(X, "compressed") == [0, 0, 0, 1, 0]
    assert fact(X, "silent_channels") == [0, 1, 0, 0, 0]
    expected = [0, -3, 0, 0, -70]  # of 16 bits, rounding is left
    assert fact(X, "cancellation") == pytest.approx(expected, abs=5)
    assert fact(X, "level")[0] == pytest.approx(20 * np.log10(0.05), abs=0.1)
    # Of a chosen channel, the others say nothing.
    first = SEGMENT.set_params(channel=0).transform(paths)
    SEGMENT.set_params(channel="mix")
    assert fact(first, "silent_channels") == fact(first, "cancellation") == [0] * 5
    arrays = SEGMENT.transform(noises[:2])
    assert fact(arrays, "level")[0] == pytest.approx(fact(X, "level")[0], abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_24"),
        ("WAV", "ULAW"),
        ("WAV", "IMA_ADPCM"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_lossy_formats_are_known_by_their_subtype(tmp_path, noises, kind, subtype):
    try:
        path = write(tmp_path / "a", noises[0], format=kind, subtype=subtype)
    except soundfile.LibsndfileError:
        pytest.skip("the libsndfile that is installed does not write it")
    assert fact(SEGMENT.transform([path]), "compressed") == [subtype != "PCM_24"]


def test_channels_are_measured_in_blocks_of_bounded_memory(tmp_path, rng):
    """More samples than are decoded at once: a channel is silent in its beginning."""
    samples = np.zeros((700_000, 2), dtype=np.float32)
    samples[:, 0] = rng.normal(scale=0.1, size=len(samples))
    samples[-1, 1] = 0.5
    path = write(tmp_path / "late.wav", samples)
    samples[-1, 1] = 0
    X = SEGMENT.transform([path, write(tmp_path / "never.wav", samples)])
    assert fact(X, "silent_channels") == [0, 1]
    assert fact(X, "cancellation") == pytest.approx([-3, -3], abs=0.1)


def test_facts_are_the_same_from_wherever_the_recording_comes(tmp_path, noises):
    paths = [write(tmp_path / f"{n}.wav", one) for n, one in enumerate(noises[:4])]
    X = SEGMENT.transform(paths)
    kept = keep_recordings(paths)
    views = AugmentationExpander(pitch_steps=(0, 1), stretch_rates=(1,))
    cached = LogMelSegmenter(
        segment_duration=None, n_mels=16, cache_dir=tmp_path, n_jobs=2
    )
    same = {
        "kept": SEGMENT.transform(kept),
        "kept, read again": SEGMENT.transform(kept),
        "content": SEGMENT.transform(Clips(paths).with_content()),
        "views": SEGMENT.transform(views.fit_transform(paths)),
        "cached": cached.transform(paths),
        "from the cache": cached.transform(paths),
        "power": PowerSpectrum().transform(paths),
    }
    for name, other in same.items():
        np.testing.assert_array_equal(other.facts, X.facts, err_msg=name)
    np.testing.assert_array_equal(X[[2, 0]].facts, X.facts[[2, 0]])


def test_clips_that_cannot_be_used_have_no_facts(noises):
    segment = LogMelSegmenter(segment_duration=1.0, on_bad_clip="nan")
    X = [noises[0], noises[1][:100], np.full(RATE, np.nan)]
    with pytest.warns(UserWarning, match="2 of 3 clips cannot be used"):
        X = segment.transform(X)
    assert np.isnan(X.facts).all(axis=1).tolist() == [False, True, True]
    check = RecordingCheck().fit(X)
    assert check.remarks(X) == ["", "", ""]
    assert not np.isnan(check.low_).any()


def test_limits_are_of_each_machine_and_of_all(noises):
    loud = [10 * one for one in noises[6:9]]
    clips = Clips([*noises[:3], *loud], machine_id=list("aaabbb"))
    X = SEGMENT.transform(clips)
    check = RecordingCheck().fit(X)
    assert check.machines_.tolist() == ["a", "b"]
    assert check.low_.shape == check.high_.shape == (3, len(FACTS))
    level = FACTS.index("level")
    np.testing.assert_allclose(check.low_[:, level], [-26, -6, -26], atol=0.3)
    np.testing.assert_allclose(check.high_[:, level], [-26, -6, -6], atol=0.3)
    asked = Clips([noises[0], loud[0], loud[0], noises[0]], machine_id=list("abac"))
    assert check.remarks(SEGMENT.transform(asked)) == [
        "",
        "",
        "20 dB louder than all training recordings: another gain or place?",
        "",
    ]
    assert check.transform(X) is X


def test_anomalous_clips_are_not_learnt_from(noises):
    X = SEGMENT.transform([*noises[:3], 100 * noises[3], 0 * noises[4]])
    check = RecordingCheck().fit(X, [1, 1, 1, -1, 1])
    assert [bool(one) for one in check.remarks(X)] == [False] * 3 + [True] * 2


def test_of_precomputed_log_mels_nothing_is_known(noises):
    X = ClipSpectrograms.from_arrays(np.zeros((3, 16, 96)))
    assert RecordingCheck().fit(X).remarks(X) == [""] * 3
    known = SEGMENT.transform(noises[:3])
    assert RecordingCheck().fit(known).remarks(X) == [""] * 3
    assert RecordingCheck().fit(X).remarks(known) == [""] * 3


def test_clips_without_sound_are_not_normal_whatever_was_learnt(noises):
    detect = GaussianDetector(SpectrumStatistics())
    heard = make_pipeline(SEGMENT, clone(detect)).fit(noises)
    for n_silent in (0, 5):
        train = [*noises, *[0 * noises[0]] * n_silent]
        pipe = make_pipeline(SEGMENT, RecordingCheck(), clone(detect)).fit(train)
        asked = [noises[0], 0 * noises[0], 1e-3 + 0 * noises[0]]
        np.testing.assert_array_equal(np.isnan(pipe.score_samples(asked)), [0, 1, 1])
        assert pipe.predict(asked).tolist() == [1, -1, -1]
        # Silence among the training clips was not learnt.
        np.testing.assert_allclose(
            pipe.score_samples(noises), heard.score_samples(noises)
        )
        reason = f"holds {NO_SOUND}"
        assert Opened(pipe, asked).problems == {1: reason, 2: reason}


def test_machines_of_which_nothing_was_heard_are_refused(noises):
    silent = [0 * noises[0]] * 9
    clips = Clips([*noises[:3], *silent], machine_id=list("a" * 8 + "bbcc"))
    X = SEGMENT.transform(clips)
    y = np.where(np.arange(12) == 0, -1, 1)
    with pytest.raises(ValueError, match="learn from of b, c hold no sound"):
        RecordingCheck().fit(X)
    X = SEGMENT.transform([*noises[:1], *silent])
    with pytest.raises(ValueError, match="learn from hold no sound"):
        RecordingCheck().fit(X, y[: len(X)])


@pytest.mark.parametrize("name", ["toycar2023/ToyCar", "valve2023/valve"])
def test_a_quiet_machine_is_heard(recordings, name):
    """Real recordings of a level of -60 dB."""
    clips = load_clips(recordings(name))
    clips = clips[clips["split"] == "train"].iloc[:24]
    audio = [soundfile.read(path)[0] for path in clips["path"]]
    quiet = [0.001 / sound.std() * sound for sound in audio]
    X = SEGMENT.transform(quiet)
    check = RecordingCheck().fit(X[::2])
    assert check.transform(X).usable.all()
    assert check.remarks(X[1::2]) == [""] * 12


def test_rows_of_numbers_are_refused():
    with pytest.raises(TypeError, match=r"RecordingCheck takes ClipSpectrograms"):
        RecordingCheck().fit(np.zeros((3, 2)))


# -- inside detectors --------------------------------------------------------------


def spectrum(*steps):
    detect = MahalanobisDetector(n_folds=3)
    return make_pipeline(*steps, SpectrumStatistics(), detect)


DETECTORS = {
    "pipeline": lambda: spectrum(SEGMENT, RecordingCheck()),
    "machines with a check each": lambda: make_pipeline(
        SEGMENT, PerMachine(spectrum(RecordingCheck()))
    ),
    "machines with a reader each": lambda: PerMachine(
        spectrum(SEGMENT, RecordingCheck())
    ),
    "tuned": lambda: ThresholdTuner(
        spectrum(SEGMENT, RecordingCheck()), "gamma", random_state=0
    ),
    "check first": lambda: make_pipeline(
        SEGMENT, RecordingCheck(), PerMachine(spectrum())
    ),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_remarks_are_found_inside_detectors(name, noises):
    train = Clips(noises, machine_id=list("ab") * 6)
    detector = DETECTORS[name]().fit(train)
    asked = [noises[0], 0 * noises[1], noises[2], noises[3][:RATE]]
    opened = Opened(detector, Clips(asked, machine_id=list("abab")))
    short = "1 s long, the training recordings 2 s"
    assert opened.remarks == {1: NO_SOUND, 3: short}
    assert opened.take([3, 0]).remarks == {0: short}


def test_a_check_changes_no_score(noises):
    with_check = spectrum(SEGMENT, RecordingCheck()).fit(noises)
    without = spectrum(SEGMENT).fit(noises)
    np.testing.assert_array_equal(
        with_check.score_samples(noises), without.score_samples(noises)
    )
    assert Opened(without, [0 * noises[0]]).remarks == {}


# -- unlike recordings of all machines ---------------------------------------------


def cut_off(sound):
    """As if it had been recorded at 8 kHz."""
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / RATE) > 4000] = 0
    return np.fft.irfft(spectrum, len(sound))


def lose_parts(sound):
    sound = sound.copy()
    sound[5000:6000] = 0
    return sound


KINDS = {
    "no sound": lambda x: 0 * x,
    "cancel": lambda x: np.stack([x, -x], axis=1),
    "no sound in 1": lambda x: np.stack([x, 0 * x], axis=1),
    "quieter": lambda x: 0.1 * x,
    "louder": lambda x: 4 * x,
    "clipped": lambda x: np.clip(x, *np.percentile(x, [2, 98])),
    "offset": lambda x: x + 0.5 * x.std() + 0.05,
    "dropouts": lose_parts,
    "above": cut_off,
    "long, the": lambda x: x[: len(x) // 2],
    "48000 Hz": lambda x: np.repeat(x, 3),
    "compressed format": lambda x: x,
}


def write_kind(path, kind, sound):
    rate = 3 * RATE if kind == "48000 Hz" else RATE
    suffix = ".ogg" if kind == "compressed format" else ".flac"
    return write(path.with_suffix(suffix), KINDS[kind](sound), rate)


def test_unlike_recordings_of_all_machines_get_the_remark(tmp_path):
    clips = make_machine_sounds(
        n_machines=1,
        n_train=12,
        n_test_normal=6,
        n_test_anomalous=1,
        duration=4.0,
        random_state=0,
    )
    clips["audio"] = [0.2 * audio / np.abs(audio).max() for audio in clips["audio"]]
    train = clips[clips["split"] == "train"]
    left_out = clips[(clips["split"] == "test") & (clips["label"] == 1)]
    check = RecordingCheck().fit(SEGMENT.transform(train))
    assert check.remarks(SEGMENT.transform(left_out)) == [""] * len(left_out)
    missed, n_machines = [], left_out["machine_type"].nunique()
    assert n_machines == 6
    for kind in KINDS:
        some = left_out.groupby("machine_type").head(2)
        paths = [
            write_kind(tmp_path / str(row), kind, audio)
            for row, audio in some["audio"].items()
        ]
        unlike = some.assign(path=paths).drop(columns="audio")
        said = check.remarks(SEGMENT.transform(unlike))
        machines = zip(unlike["machine_type"], said, strict=True)
        missed += [(kind, *one) for one in machines if kind not in one[1]]
    assert len(missed) <= 0.05 * 2 * n_machines * len(KINDS), missed


@pytest.mark.parametrize("name", ["toycar2023/ToyCar", "valve2023/valve"])
def test_real_left_out_normals_get_no_remark(recordings, name):
    clips = load_clips(recordings(name))
    train = clips[clips["split"] == "train"].reset_index(drop=True)
    X = SEGMENT.transform(train)
    n_remarks = n_left_out = 0
    for fold in range(5):
        rest = np.arange(len(train)) % 5 == fold
        check = RecordingCheck().fit(X[~rest])
        n_left_out += rest.sum()
        n_remarks += sum(map(bool, check.remarks(X[rest])))
    assert n_remarks <= 0.01 * n_left_out
