"""The table of views, and how a view is added to it."""

import functools
import itertools
import pickle
import subprocess
import sys
import threading

import joblib
import librosa
import numpy as np
import pytest

from sklearn_asd import BadClipError, register_view
from sklearn_asd.audio import ORIGINAL, PhaseVocoder
from sklearn_asd.audio import views as views_module
from sklearn_asd.audio.views import (
    EXTRA_VIEWS,
    FunctionView,
    PitchStretchView,
    Sound,
    VocodedView,
)

RATE = 16000


@pytest.fixture(autouse=True)
def _table_as_it_was(monkeypatch):
    monkeypatch.setattr(views_module, "EXTRA_VIEWS", dict(EXTRA_VIEWS))


@pytest.fixture
def sound(rng):
    return Sound(rng.uniform(-0.5, 0.5, RATE).astype(np.float32), RATE)


LOG_MEL = np.arange(32.0, dtype=np.float32).reshape(4, 8)  # 4 bands, 8 frames


def view(name):
    return views_module.EXTRA_VIEWS[name]


def test_the_original_is_the_clip_itself(sound):
    assert ORIGINAL.waveform(sound) is sound.samples
    assert ORIGINAL.log_mel(LOG_MEL) is LOG_MEL


def test_all_views_of_a_sound_share_one_analysis(sound, monkeypatch):
    analysed = []

    class Counted(PhaseVocoder):
        def __init__(self, samples):
            analysed.append(len(samples))
            super().__init__(samples)

    monkeypatch.setattr(views_module, "PhaseVocoder", Counted)
    for steps, rate in itertools.product((-0.1, 0.1), (0.9, 1.1)):
        made = PitchStretchView("", steps, rate).waveform(sound)
        np.testing.assert_array_equal(
            made, PhaseVocoder(sound.samples).transform(steps, rate)
        )
    assert analysed == [RATE]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flip_time", LOG_MEL[:, ::-1]),
        ("flip_frequency", LOG_MEL[::-1]),
        ("shift_time", LOG_MEL[:, [6, 7, 0, 1, 2, 3, 4, 5]]),
        ("shift_frequency", LOG_MEL[[3, 0, 1, 2]]),
        ("rotate", LOG_MEL[::-1, ::-1]),
    ],
)
def test_views_of_the_log_mel_are_what_is_worked_out_by_hand(name, expected, sound):
    np.testing.assert_array_equal(view(name).log_mel(LOG_MEL), expected)
    assert view(name).waveform(sound) is sound.samples


def test_harmonic_and_percussive_are_librosas(rng):
    t = np.arange(RATE) / RATE
    y = (np.sin(2 * np.pi * 440 * t) + (np.arange(RATE) % 4000 == 0)).astype("f4") / 2
    sound = Sound(y, RATE)
    for name in ("harmonic", "percussive"):
        expected = getattr(librosa.effects, name)(y)
        np.testing.assert_array_equal(view(name).waveform(sound), expected)
        assert view(name).log_mel(LOG_MEL) is LOG_MEL
    assert view("harmonic").waveform(sound) is sound.parts["harmonic"]  # once for both
    short = Sound(y[:300], RATE)
    assert len(view("harmonic").waveform(short)) == 300


def test_the_vocoded_view_has_traces_like_those_of_a_stretch(rng):
    """A stretch by 1 would be the clip itself, and have none."""

    def unevenness(samples):
        """Noise that a vocoder has smeared is less even."""
        return librosa.feature.rms(y=samples, frame_length=256, hop_length=128).std()

    noise = Sound(rng.uniform(-0.5, 0.5, 4 * RATE).astype(np.float32), RATE)
    vocoded = VocodedView("vocoded", 0.9).waveform(noise)
    assert vocoded.shape == noise.samples.shape
    stretched = PhaseVocoder(noise.samples).stretch(0.9)
    assert unevenness(vocoded) == pytest.approx(unevenness(stretched), rel=0.25)
    assert unevenness(vocoded) > 1.3 * unevenness(noise.samples)


# -- views that users register ---------------------------------------------------


def test_one_function_is_a_view_of_the_waveform(sound):
    @register_view
    def reverse(samples, sample_rate):
        assert sample_rate == RATE
        return samples[::-1]

    np.testing.assert_array_equal(view("reverse").waveform(sound), sound.samples[::-1])
    assert reverse(sound.samples, RATE)[0] == sound.samples[-1]  # still a function


def test_or_of_the_log_mel_under_another_name():
    @register_view(on="log_mel", name="louder")
    def _(log_mel):
        log_mel += 6  # in place, which must not reach other views
        return log_mel

    before = LOG_MEL.copy()
    np.testing.assert_array_equal(view("louder").log_mel(LOG_MEL), before + 6)
    np.testing.assert_array_equal(LOG_MEL, before)


def test_views_of_the_library_cannot_be_replaced_and_own_ones_can(sound):
    for name in ("harmonic", "original"):
        with pytest.raises(ValueError, match=f"'{name}' is a view of the library"):
            register_view(lambda samples, rate: samples, name=name)
    with pytest.raises(ValueError, match="on='phase' is neither"):
        register_view(name="new", on="phase")
    with pytest.raises(ValueError, match="a lambda has no name"):
        register_view(lambda samples, rate: samples)
    for function in (functools.partial(np.negative), "reverse", [].append):
        with pytest.raises(TypeError, match="a view is a plain function, got"):
            register_view(function)
    for factor in (2, 3):
        register_view(lambda samples, rate, f=factor: f * samples, name="mine")
    np.testing.assert_array_equal(view("mine").waveform(sound), 3 * sound.samples)


@pytest.mark.parametrize(
    ("function", "on", "message"),
    [
        (lambda samples, rate: 1 / 0, "waveform", "raised ZeroDivisionError: division"),
        (
            lambda samples, rate: samples * np.nan,
            "waveform",
            "returned NaN or infinity",
        ),
        (lambda samples, rate: samples[:0], "waveform", r"returned shape \(0,\)"),
        (lambda samples, rate: samples[None], "waveform", r"returned shape \(1, 16000"),
        (lambda samples, rate: "loud", "waveform", "raised ValueError"),
        (
            lambda log_mel: log_mel[:3],
            "log_mel",
            r"returned shape \(3, 8\) in place of \(4, n_",
        ),
        (lambda log_mel: log_mel[0], "log_mel", r"returned shape \(8,\)"),
    ],
)
def test_a_function_that_fails_is_named_with_the_reason(sound, function, on, message):
    broken = FunctionView("broken", function, on)
    with pytest.raises(BadClipError, match=f"no view 'broken': its function {message}"):
        broken.log_mel(LOG_MEL) if on == "log_mel" else broken.waveform(sound)


def test_keys_tell_apart_what_gives_other_frames():
    def by(factor):
        return lambda samples, rate: factor * samples

    views = [
        ORIGINAL,
        PitchStretchView("a", 0.1, 1.0),
        PitchStretchView("a", 0.1, 0.9),
        VocodedView("a", 0.9),
        FunctionView("a", by(2), "waveform"),
        FunctionView("a", by(3), "waveform"),
        FunctionView("a", lambda samples, rate, more=1: samples, "waveform"),
        FunctionView("a", lambda log_mel: 2 * log_mel, "log_mel"),
        *(FunctionView("a", f, "log_mel") for f in (lambda x: x + 1, lambda x: x + 2)),
        *(FunctionView("a", wrap(by(f)), "waveform") for f in (2, 3)),
        FunctionView("a", lambda x: [y.mean() for y in x], "log_mel"),
        FunctionView("a", lambda x: [y.max() for y in x], "log_mel"),
    ]
    keys = [view.key() for view in views]
    assert len(set(keys)) == len(keys)
    assert FunctionView("a", by(2), "waveform").key() == keys[4]
    assert FunctionView("a", wrap(by(2)), "waveform").key() == keys[10]


def wrap(function):
    return lambda samples, rate: function(samples, rate)


def test_a_view_that_closes_over_what_has_no_content_is_refused():
    lock = threading.Lock()
    view = FunctionView("locked", lambda samples, rate: (lock, samples), "waveform")
    with pytest.raises(ValueError, match="view 'locked' closes over.*cannot pickle"):
        view.key()


def changing(samples, sample_rate):
    return samples


def changed(samples, sample_rate):
    return -samples


def test_a_view_whose_function_changed_since_it_was_saved_is_warned_of(monkeypatch):
    """Pickle names a function; a memory that hashes pickles must see its code."""
    view = FunctionView("changing", changing, "waveform")
    saved, hashed = pickle.dumps(view), joblib.hash(view)
    assert pickle.loads(saved) == view
    changed.__qualname__ = changed.__name__ = "changing"
    monkeypatch.setattr(sys.modules[__name__], "changing", changed)
    with pytest.warns(UserWarning, match="'changing' is not the one that was saved"):
        pickle.loads(saved)
    assert joblib.hash(FunctionView("changing", changed, "waveform")) != hashed


def test_keys_are_the_same_in_another_process():
    code = (
        "from sklearn_asd.audio.views import *;"
        "print(EXTRA_VIEWS['rotate'].key(), PitchStretchView('a', .1, 1.).key())"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(keys) == 1
