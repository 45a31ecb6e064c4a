"""Pitch shifts and time stretches, against librosa's."""

import tracemalloc
import warnings

import librosa
import numpy as np
import pytest
from scipy.signal import chirp

from sklearn_asd.audio import PhaseVocoder, read_file
from sklearn_asd.features import log_mel_spectrogram

RATE = 16000

# librosa 1.0 warns of parameters that its own functions pass on, and of memory that it
# is about to fill.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:The .(hop_length|n_fft). parameter is deprecated as of 1:FutureWarning"
    ),
    pytest.mark.filterwarnings(
        "ignore:invalid value encountered in cast:RuntimeWarning:numba.np.ufunc.dufunc"
    ),
]


def machine(rng, seconds=3.0):
    """A hum with harmonics, knocks, and noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    hum = sum(np.sin(2 * np.pi * f * t) / f for f in (90, 180, 270, 1440))
    knocks = chirp(t % 0.25, 3000, 0.25, 300) * np.exp(-60 * (t % 0.25))
    sound = hum + 0.3 * knocks + 0.02 * rng.standard_normal(len(t))
    return (0.1 * sound).astype(np.float32)


def difference(samples, expected):
    """Mean absolute difference of the log-mels in dB."""
    assert len(samples) == len(expected)
    log_mels = log_mel_spectrogram(samples), log_mel_spectrogram(expected)
    return np.abs(np.subtract(*log_mels)).mean()


@pytest.mark.parametrize("rate", [0.9, 1.1, 0.5, 2.0])
def test_time_stretch_agrees_with_librosa(rng, rate):
    y = machine(rng)
    expected = librosa.effects.time_stretch(y, rate=rate)
    assert difference(PhaseVocoder(y).transform(stretch_rate=rate), expected) < 0.1


@pytest.mark.parametrize("n_steps", [-0.1, 0.1, 3, -12])
def test_pitch_shift_agrees_with_librosa(rng, n_steps):
    y = machine(rng)
    expected = librosa.effects.pitch_shift(y, sr=RATE, n_steps=n_steps)
    assert difference(PhaseVocoder(y).transform(n_steps), expected) < 0.1


@pytest.mark.parametrize("machine_type", ["fan", "slider", "valve", "ToyCar"])
def test_single_transforms_agree_with_librosa_on_real_machines(
    recordings, machine_type
):
    """The views of the paper, within the 0.1 dB that the library promises."""
    folder = recordings("dcase2020_samples") / machine_type / "test"
    y = read_file(sorted(folder.glob("*.wav"))[0], RATE)
    vocoder = PhaseVocoder(y)
    for rate in (0.9, 1.1):
        expected = librosa.effects.time_stretch(y, rate=rate)
        assert difference(vocoder.transform(stretch_rate=rate), expected) < 0.1
    for n_steps in (-0.1, 0.1):
        expected = librosa.effects.pitch_shift(y, sr=RATE, n_steps=n_steps)
        assert difference(vocoder.transform(n_steps), expected) < 0.1


def test_a_rate_of_1_gives_the_clip_back(rng):
    y = machine(rng)
    np.testing.assert_allclose(PhaseVocoder(y).transform(0, 1), y, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 0.1, -2])
@pytest.mark.parametrize("rate", [0.9, 1.0, 1.25])
def test_a_tone_moves_by_the_steps_and_keeps_its_level(steps, rate):
    t = np.arange(3 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    moved = PhaseVocoder(tone).transform(steps, rate)
    assert len(moved) == round(len(tone) / rate)
    middle = moved[len(moved) // 4 : -len(moved) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 2**20))
    frequency = spectrum.argmax() * RATE / 2**20
    assert frequency == pytest.approx(1000 * 2 ** (steps / 12), rel=1e-4)
    # Bins that drift apart take up to a tenth of the level, in librosa too.
    assert middle.std() == pytest.approx(tone.std(), rel=0.12)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.1, 10.0])
def test_resynthesis_keeps_pitch_time_and_level(rate):
    t = np.arange(3 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * t) * (t > 1)).astype(np.float32)
    back = PhaseVocoder(tone).resynthesize(rate)
    assert len(back) == len(tone)
    spectra = [np.abs(np.fft.rfft(y, 2**20)) for y in (tone, back)]
    assert spectra[1].argmax() == pytest.approx(spectra[0].argmax(), abs=20)  # 0.3 Hz
    assert back[: RATE - 2048].std() < 0.01
    assert back[RATE + 2048 :].std() == pytest.approx(0.5 / 2**0.5, rel=0.12)


def test_knocks_keep_their_place_in_the_stretched_time():
    y = np.zeros(4 * RATE, dtype=np.float32)
    y[[RATE, 3 * RATE]] = 1
    slow = PhaseVocoder(y).transform(stretch_rate=0.8)
    for expected in (1 / 0.8, 3 / 0.8):
        near = slice(round((expected - 0.2) * RATE), round((expected + 0.2) * RATE))
        energy = slow[near].astype(float) ** 2
        center = np.average(np.arange(near.start, near.stop), weights=energy) / RATE
        assert center == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("n_samples", [1, 2, 511, 512, 2047, 2049])
@pytest.mark.parametrize(("steps", "rate"), [(0, 0.5), (0, 3.0), (0.1, 0.9), (-5, 1)])
def test_short_clips_have_the_length_asked_for(rng, n_samples, steps, rate):
    y = rng.standard_normal(n_samples).astype(np.float32)
    with warnings.catch_warnings(action="error"):
        moved = PhaseVocoder(y).transform(steps, rate)
    assert len(moved) == round(n_samples / rate)
    assert moved.dtype == np.float32
    assert np.isfinite(moved).all()


def test_silence_stays_silent():
    y = np.zeros(RATE, dtype=np.float32)
    assert not PhaseVocoder(y).transform(0.1, 0.9).any()
    y[5000:6000] = 0.5  # silence and sound
    assert np.isfinite(PhaseVocoder(y).transform(0.1, 0.9)).all()


@pytest.mark.parametrize("level", [1e-37, 1e-40, 1e-43, 1e-45])
def test_sound_below_the_smallest_normal_number_is_no_trouble(rng, level):
    y = (level * rng.standard_normal(RATE)).astype(np.float32)
    y[8000:] = 0.1 * rng.standard_normal(RATE - 8000)
    with np.errstate(all="raise", under="ignore"):
        for rate in (0.1, 0.9, 1.1):
            assert np.isfinite(PhaseVocoder(y).transform(0.1, rate)).all()
    t = np.arange(4 * RATE) / RATE
    decay = (np.exp(-t / 0.02) * np.sin(2 * np.pi * 700 * t)).astype(np.float32)
    assert np.isfinite(PhaseVocoder(decay).transform(stretch_rate=0.9)).all()


def test_extreme_transforms_take_little_memory(rng):
    y = machine(rng, seconds=10)
    tracemalloc.start()
    PhaseVocoder(y).transform(36, 0.2)  # every step is uneven
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_a_vocoder_gives_the_same_twice_and_leaves_the_clip_alone(rng):
    y = machine(rng, seconds=1)
    before = y.copy()
    vocoder = PhaseVocoder(y)
    first = vocoder.transform(0.1, 0.9)
    vocoder.transform(-0.1, 1.1)
    np.testing.assert_array_equal(vocoder.transform(0.1, 0.9), first)
    np.testing.assert_array_equal(y, before)
