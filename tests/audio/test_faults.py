import numpy as np
import pytest

from sklearn_asd.audio.faults import FAULTS, plant_fault

RATE = 16_000


@pytest.fixture
def samples(rng):
    return rng.normal(scale=0.1, size=4 * RATE).astype(np.float32)


@pytest.mark.parametrize("level", [-20, 0, 6])
@pytest.mark.parametrize("kind", FAULTS)
def test_the_level_is_relative_to_the_recording_while_the_fault_sounds(
    kind, level, samples, rng
):
    added = plant_fault(samples, FAULTS[kind], level, RATE, rng) - samples
    sounding = added[np.abs(added) > 1e-7]
    power = np.mean(sounding**2) / np.mean(samples**2)
    assert 10 * np.log10(power) == pytest.approx(level, abs=0.1)


def test_faults_sound_when_they_say(samples, rng):
    def sounds(kind):
        return np.flatnonzero(FAULTS[kind](len(samples), RATE, rng))

    assert len(sounds("noise")) == len(samples)
    one = sounds("short_noise")
    assert len(one) == RATE
    assert one[-1] - one[0] == RATE - 1
    knocks = np.split(
        sounds("knocks"), np.flatnonzero(np.diff(sounds("knocks")) > 1) + 1
    )
    assert len(sounds("knocks")) == 8 * 0.005 * RATE  # two a second, 5 ms each
    assert len(knocks) in (8, 9)


def test_a_tone_has_one_frequency_that_can_be_heard(rng):
    for _ in range(20):
        spectrum = np.abs(np.fft.rfft(FAULTS["tone"](RATE, RATE, rng)))
        assert 299 <= spectrum.argmax() <= 6001


@pytest.mark.parametrize("kind", FAULTS)
def test_short_and_silent_recordings_stay_whole(kind, rng):
    assert plant_fault(np.ones(10), FAULTS[kind], 0, RATE, rng).shape == (10,)
    assert not plant_fault(np.zeros(RATE), FAULTS[kind], 0, RATE, rng).any()
