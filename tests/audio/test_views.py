"""The library's views, and views of one's own."""

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

from sklearn_asd import BadClipError
from sklearn_asd.audio import ORIGINAL, PhaseVocoder
from sklearn_asd.audio import views as views_module
from sklearn_asd.audio.views import (
    BUILT_IN_VIEWS,
    LogMelView,
    PitchStretchView,
    Sound,
    VocodedView,
    WaveformView,
)

RATE = 16000


@pytest.fixture
def sound(rng):
    return Sound(rng.uniform(-0.5, 0.5, RATE).astype(np.float32), RATE)


LOG_MEL = np.arange(32.0, dtype=np.float32).reshape(4, 8)  # 4 bands, 8 frames


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
    view = BUILT_IN_VIEWS[name]
    assert view.name == name
    np.testing.assert_array_equal(view.log_mel(LOG_MEL), expected)
    assert view.waveform(sound) is sound.samples


def test_harmonic_and_percussive_are_librosas(rng):
    t = np.arange(RATE) / RATE
    y = (np.sin(2 * np.pi * 440 * t) + (np.arange(RATE) % 4000 == 0)).astype("f4") / 2
    sound = Sound(y, RATE)
    for name in ("harmonic", "percussive"):
        expected = getattr(librosa.effects, name)(y)
        view = BUILT_IN_VIEWS[name]
        np.testing.assert_array_equal(view.waveform(sound), expected)
        assert view.waveform(sound) is sound.parts[name]  # one separation for both
        assert view.log_mel(LOG_MEL) is LOG_MEL
    short = Sound(y[:300], RATE)
    assert len(BUILT_IN_VIEWS["harmonic"].waveform(short)) == 300


def test_the_vocoded_view_has_traces_like_those_of_a_stretch(rng):
    """A stretch by 1 would be the clip itself, without traces."""

    def unevenness(samples):
        """Noise that a vocoder has smeared is less even."""
        return librosa.feature.rms(y=samples, frame_length=256, hop_length=128).std()

    noise = Sound(rng.uniform(-0.5, 0.5, 4 * RATE).astype(np.float32), RATE)
    vocoded = VocodedView("vocoded", 0.9).waveform(noise)
    assert vocoded.shape == noise.samples.shape
    stretched = PhaseVocoder(noise.samples).transform(stretch_rate=0.9)
    assert unevenness(vocoded) == pytest.approx(unevenness(stretched), rel=0.25)
    assert unevenness(vocoded) > 1.3 * unevenness(noise.samples)


# -- views of one's own ----------------------------------------------------------


def reverse(samples, sample_rate):
    assert sample_rate == RATE
    return samples[::-1]


def louder(log_mel):
    log_mel += 6  # in place, which must not reach other views
    return log_mel


def test_a_function_makes_a_view_of_the_waveform(sound):
    view = WaveformView(reverse)
    assert view.name == "reverse"
    assert repr(view) == "WaveformView(name='reverse')"
    np.testing.assert_array_equal(view.waveform(sound), sound.samples[::-1])
    assert view.log_mel(LOG_MEL) is LOG_MEL


def test_or_of_the_log_mel_under_another_name(sound):
    view = LogMelView(louder, name="6 dB more")
    assert view.name == "6 dB more"
    before = LOG_MEL.copy()
    np.testing.assert_array_equal(view.log_mel(LOG_MEL), before + 6)
    np.testing.assert_array_equal(LOG_MEL, before)
    assert view.waveform(sound) is sound.samples


@pytest.mark.parametrize("kind", [WaveformView, LogMelView])
def test_only_functions_with_a_name_make_views(kind):
    with pytest.raises(ValueError, match="a lambda has no name.*give name="):
        kind(lambda x, *_: x)
    assert kind(lambda x, *_: x, name="mine").name == "mine"
    for function in (functools.partial(np.negative), "reverse", [].append):
        with pytest.raises(TypeError, match="made by a plain function, got"):
            kind(function)


def test_views_are_equal_if_function_and_name_are():
    assert WaveformView(reverse) == WaveformView(reverse)
    assert WaveformView(reverse) != WaveformView(reverse, name="backwards")
    assert WaveformView(reverse) != LogMelView(reverse)


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda samples, rate: 1 / 0, WaveformView, "raised ZeroDivisionError"),
        (
            lambda samples, rate: samples * np.nan,
            WaveformView,
            "returned NaN or infinity",
        ),
        (lambda samples, rate: samples[:0], WaveformView, r"returned shape \(0,\)"),
        (lambda samples, rate: samples[None], WaveformView, r"returned shape \(1, 16"),
        (lambda samples, rate: "loud", WaveformView, "raised ValueError"),
        (
            lambda log_mel: log_mel[:3],
            LogMelView,
            r"returned shape \(3, 8\) in place of \(4, n_",
        ),
        (lambda log_mel: log_mel[0], LogMelView, r"returned shape \(8,\)"),
    ],
)
def test_a_function_that_fails_is_named_with_the_reason(sound, function, kind, message):
    broken = kind(function, name="broken")
    with pytest.raises(BadClipError, match=f"no view 'broken': its function {message}"):
        broken.log_mel(LOG_MEL) if kind is LogMelView else broken.waveform(sound)


def test_keys_tell_apart_what_gives_other_frames():
    def by(factor):
        return lambda samples, rate: factor * samples

    views = [
        ORIGINAL,
        PitchStretchView("a", 0.1, 1.0),
        PitchStretchView("a", 0.1, 0.9),
        VocodedView("a", 0.9),
        WaveformView(by(2), name="a"),
        WaveformView(by(3), name="a"),
        WaveformView(lambda samples, rate, more=1: samples, name="a"),
        LogMelView(lambda log_mel: 2 * log_mel, name="a"),
        *(LogMelView(f, name="a") for f in (lambda x: x + 1, lambda x: x + 2)),
        *(WaveformView(wrap(by(f)), name="a") for f in (2, 3)),
        LogMelView(lambda x: [y.mean() for y in x], name="a"),
        LogMelView(lambda x: [y.max() for y in x], name="a"),
    ]
    keys = [view.key() for view in views]
    assert len(set(keys)) == len(keys)
    assert WaveformView(by(2), name="a").key() == keys[4]
    assert WaveformView(wrap(by(2)), name="a").key() == keys[10]


def wrap(function):
    return lambda samples, rate: function(samples, rate)


def test_a_view_that_closes_over_what_has_no_content_is_refused():
    lock = threading.Lock()
    view = WaveformView(lambda samples, rate: (lock, samples), name="locked")
    with pytest.raises(ValueError, match="view 'locked' closes over.*cannot pickle"):
        view.key()


def changing(samples, sample_rate):
    return samples


def changed(samples, sample_rate):
    return -samples


def test_a_view_whose_function_changed_since_it_was_saved_is_warned_of(monkeypatch):
    """Pickle names a function; a memory that hashes pickles must see its code."""
    view = WaveformView(changing, name="changing")
    saved, hashed = pickle.dumps(view), joblib.hash(view)
    assert pickle.loads(saved) == view
    changed.__qualname__ = changed.__name__ = "changing"
    monkeypatch.setattr(sys.modules[__name__], "changing", changed)
    with pytest.warns(UserWarning, match="'changing' is not the one that was saved"):
        pickle.loads(saved)
    assert joblib.hash(WaveformView(changed, name="changing")) != hashed


def test_keys_are_the_same_in_another_process():
    code = (
        "from sklearn_asd.audio.views import *;"
        "print(BUILT_IN_VIEWS['rotate'].key(), PitchStretchView('a', .1, 1.).key())"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(keys) == 1


def test_a_function_that_closes_over_itself_is_refused_with_the_remedy():
    def again(samples, rate):
        return samples if len(samples) < 10 else again(samples[::2], rate)

    with pytest.raises(ValueError, match=r"'again' closes over .* recursion"):
        WaveformView(again).key()
