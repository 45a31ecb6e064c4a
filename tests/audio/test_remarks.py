import numpy as np
import pytest

from sklearn_asd.audio.remarks import (
    FACTS,
    Channels,
    find_copies,
    is_cancelled,
    is_silent,
    make_remark,
    measure_recording,
)

RATE = 16_000


def measure(channels, file_rate=RATE, **options):
    """Facts of a recording by name; (n_samples,) or (n_samples, n_channels)."""
    mix = channels = np.asarray(channels, dtype=np.float32)
    if channels.ndim == 2:
        mix, options["channels"] = channels.mean(axis=1), Channels()
        for block in np.array_split(channels, 3):
            options["channels"].add(block)
    return measure_recording(mix, file_rate, mix, RATE, **options)


def named(facts):
    return dict(zip(FACTS, facts.tolist(), strict=True))


def remark(recording, training, file_rate=RATE, **options):
    """Remark on a recording by the limits of some others."""
    facts = np.array([measure(one) for one in training])
    given = measure(recording, file_rate, **options)
    return make_remark(given, facts.min(axis=0), facts.max(axis=0))


@pytest.fixture
def noises(rng):
    return list(rng.normal(scale=0.05, size=(8, 4 * RATE)).astype(np.float32))


# --- known answers


def test_facts_of_a_square_wave_by_hand():
    wave = np.tile(np.repeat([0.3, -0.1], 4), RATE // 8)  # 2 kHz around 0.1
    facts = named(measure(wave))
    assert facts["duration"] == 1
    assert facts["offset"] == pytest.approx(0.1)
    assert facts["level"] == pytest.approx(20 * np.log10(0.2), abs=1e-3)
    # Of the eight samples of a period three repeat the high and three the low value.
    assert facts["clipped"] == pytest.approx(6 / 8, abs=1e-3)
    assert facts["held"] == 0  # four samples are 0.25 ms
    assert facts["cancellation"] == 0
    assert facts["silent_channels"] == 0


def test_the_level_of_a_band_is_that_of_the_tone_in_it():
    time = np.arange(4 * RATE) / RATE
    tone = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * 1250 * time)  # in the third band
    facts = named(measure(tone))
    assert facts["level"] == pytest.approx(-20, abs=0.01)
    assert facts["band_02"] == pytest.approx(-20, abs=0.1)
    assert facts["relative_band_02"] == pytest.approx(0, abs=0.1)
    assert facts["band_05"] < -80


def test_channels_are_compared_with_their_mix(rng):
    sound = rng.normal(scale=0.1, size=RATE)
    opposite, single = np.stack([sound, -sound], 1), np.stack([sound, 0 * sound], 1)
    alike, unlike = np.stack([sound, sound], 1), rng.normal(size=(RATE, 2)) / 10
    expected = {"alike": 0, "unlike": -3, "single": -3}
    for name, channels in [("alike", alike), ("unlike", unlike), ("single", single)]:
        cancellation = named(measure(channels))["cancellation"]
        assert cancellation == pytest.approx(expected[name], abs=0.2)
        assert not is_cancelled(measure(channels))
    assert is_cancelled(measure(opposite))
    assert is_silent(measure(opposite))
    assert named(measure(single))["silent_channels"] == 1
    assert named(measure(alike))["silent_channels"] == 0


def test_held_samples_are_counted_in_seconds(noises):
    gaps = noises[0].copy()
    gaps[1000:1160] = 0  # 10 ms
    gaps[9000:9400] = gaps[8999]  # 401 samples, the one before included
    gaps[20_000:20_060] = 0  # less than 5 ms
    assert named(measure(gaps))["held"] == pytest.approx(561 / RATE)


def test_short_recordings_have_no_bands_and_no_remark_on_them(noises):
    short = noises[0][:1000]
    assert np.isnan(named(measure(short))["band_00"])
    said = remark(short, noises)
    assert said == "0.0625 s long, the training recordings 4 s"


# --- relations


def cut_off(sound, fmax):
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / RATE) > fmax] = 0
    return np.round(2**15 * np.fft.irfft(spectrum, len(sound))) / 2**15


def lose_parts(sound):
    sound = sound.copy()
    sound[5000:5800] = 0
    return sound


UNLIKE = {
    "no sound: is the microphone off": lambda x: 0 * x,
    "the channels cancel each other": lambda x: np.stack([x, -x], axis=1),
    "no sound in 1 of the channels": lambda x: np.stack([x, 0 * x], axis=1),
    "20 dB quieter than all training": lambda x: 0.1 * x,
    "20 dB louder than all training": lambda x: 10 * x,
    "clipped: ": lambda x: np.clip(x, -0.1, 0.1),
    "offset of 0.05 of full scale": lambda x: x + 0.05,
    "dropouts: samples do not change for 0.05 s": lose_parts,
    "nothing above 4.0 kHz": lambda x: cut_off(x, 4000),
    "2 s long, the training recordings 4 s": lambda x: x[: len(x) // 2],
    "8 s long, the training recordings 4 s": lambda x: np.tile(x, 2),
}


@pytest.mark.parametrize("expected", UNLIKE)
def test_unlike_recordings_get_the_remark(expected, noises):
    assert remark(UNLIKE[expected](noises[0]), noises[1:]).startswith(expected)


def test_the_file_itself_may_be_unlike(noises):
    said = remark(np.repeat(noises[0], 3)[: 4 * 44_100], noises[1:], 44_100)
    assert "recorded at 44100 Hz, the training recordings at 16000 Hz" in said
    said = remark(noises[0], noises[1:], compressed=True)
    assert said == "a compressed format, unlike the training recordings"


def test_recordings_like_those_of_training_have_no_remark(noises):
    assert remark(noises[0], noises[1:]) == ""
    assert remark(1.9 * noises[0], noises[1:]) == ""  # 5.6 dB
    # A fault may be loud at low frequencies; the others are not missing then.
    time = np.arange(len(noises[0])) / RATE
    said = remark(noises[0] + 0.9 * np.sin(2 * np.pi * 100 * time), noises[1:])
    assert "above" not in said


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_training_recordings_have_in_common_is_not_remarked(kind, noises):
    unlike = [UNLIKE[kind](noise) for noise in noises]
    said = remark(unlike[0], unlike[1:])
    # There is nothing to hear in silence, however it was learnt.
    assert (
        said.startswith("no sound: is") if is_silent(measure(unlike[0])) else not said
    )


def test_copies_are_found_by_their_facts(noises):
    facts = np.array([measure(noises[i]) for i in (0, 1, 0, 2, 1, 0)])
    silent = np.array([measure(0 * noises[0])] * 2)
    groups = find_copies(
        np.concatenate([facts, silent, np.full((2, len(FACTS)), np.nan)])
    )
    assert sorted(rows.tolist() for rows in groups) == [[0, 2, 5], [1, 4]]


def test_nothing_measured_is_no_remark(noises):
    nothing = np.full(len(FACTS), np.nan)
    facts = measure(noises[0])
    assert make_remark(nothing, facts, facts) == ""
    assert make_remark(facts, nothing, nothing) == ""
    assert find_copies(np.array([nothing, nothing])) == []
