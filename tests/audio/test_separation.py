"""Harmonic and percussive part, against librosa's."""

import librosa
import numpy as np
import pytest

from sklearn_asd.audio.separation import separate

RATE = 16000
T = np.arange(RATE) / RATE
NOISE = np.random.default_rng(0).normal(scale=0.1, size=50_000)

SOUNDS = {
    "a tone and clicks": np.sin(2 * np.pi * 440 * T) + (np.arange(RATE) % 4000 == 0),
    "noise": NOISE,
    "noise after silence": np.concatenate([np.zeros(9000), NOISE[:7001]]),
    "silence": np.zeros(5000),
    "almost silence": 1e-20 * NOISE[:3000],
    "one window": NOISE[:2048],
}


def test_tones_are_harmonic_and_clicks_percussive():
    click = (np.arange(RATE) % 4000 == 2000).astype(np.float32)
    tone = np.sin(2 * np.pi * 440 * T).astype(np.float32)
    harmonic, percussive = separate(tone + click)
    middle = slice(2048, -2048)
    np.testing.assert_allclose(harmonic[middle], tone[middle], atol=0.03)
    assert percussive[[6000, 10_000]].min() > 0.8


@pytest.mark.parametrize("kind", SOUNDS)
def test_both_parts_are_librosas_and_sum_to_the_sound(kind):
    samples = SOUNDS[kind].astype(np.float32)
    parts = separate(samples)
    for ours, expected in zip(parts, librosa.effects.hpss(samples), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(sum(parts), samples, atol=1e-6)
