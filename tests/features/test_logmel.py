import librosa
import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklearn_asd.audio import read_file
from sklearn_asd.features import log_mel_spectrogram, logmel
from sklearn_asd.features.logmel import mel_filters, mel_frequencies

RATE = 16000
DEFAULTS = {
    "sample_rate": RATE,
    "n_fft": 1024,
    "hop_length": 512,
    "n_mels": 128,
    "fmin": 0.0,
    "fmax": None,
}


def librosa_log_mel(samples, sample_rate, **settings):
    power = librosa.feature.melspectrogram(
        y=samples, sr=sample_rate, pad_mode="constant", **settings
    )
    return librosa.power_to_db(power, top_db=None).T


def assert_equals_librosa(samples, **changes):
    settings = DEFAULTS | changes
    samples = np.asarray(samples, dtype=np.float32)
    result = log_mel_spectrogram(samples, **settings)
    expected = librosa_log_mel(samples, **settings)
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    assert_allclose(result, expected, rtol=0, atol=1e-3)


def noise(n_samples, level=0.1):
    return level * np.random.default_rng(0).standard_normal(n_samples)


def tone(frequency, n_samples=RATE):
    return 0.5 * np.sin(2 * np.pi * frequency / RATE * np.arange(n_samples))


def click(n_samples=RATE, at=5000):
    return np.eye(1, n_samples, at)[0]


@pytest.mark.parametrize(
    "samples",
    [
        noise(RATE),
        noise(RATE, level=1e-5),
        noise(RATE, level=1000),
        tone(0),
        tone(440),
        tone(7999),
        click(),
        np.zeros(RATE),
        np.concatenate([noise(5000), np.zeros(9000), tone(100, 3000)]),
    ],
    ids=["noise", "quiet", "loud", "dc", "a4", "nyquist", "click", "silence", "mixed"],
)
def test_sounds_give_what_librosa_gives(samples):
    assert_equals_librosa(samples)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_mels": 1},
        {"n_mels": 64},
        {"fmin": 50.0, "fmax": 4000.0, "n_mels": 32},
        {"fmax": 7800.0},
        {"hop_length": 160, "n_fft": 400, "n_mels": 40},
        {"hop_length": 3000},
        {"n_fft": 1023},
        {"n_fft": 4096, "hop_length": 1024},
        {"sample_rate": 44100, "n_fft": 2048},
        {"sample_rate": 22050.5},
    ],
    ids=str,
)
def test_settings_give_what_librosa_gives(settings):
    assert_equals_librosa(noise(RATE), **settings)


# librosa warns of windows longer than the sound.
@pytest.mark.filterwarnings("ignore:n_fft=1024 is too large")
# The longest spans several of the blocks that are transformed at once.
@pytest.mark.parametrize(
    "n_samples", [1, 2, 511, 512, 513, 1023, 16001, 128 * 512 - 1, 128 * 512, 200_003]
)
def test_lengths_give_what_librosa_gives(n_samples):
    assert_equals_librosa(noise(n_samples))


def test_ten_seconds_have_313_frames_and_silence_is_minus_100_db():
    result = log_mel_spectrogram(np.zeros(160_000, dtype=np.float32))
    assert_allclose(result, np.full((313, 128), -100), rtol=0, atol=1e-5)


def test_a_tone_is_loudest_in_the_band_of_its_frequency():
    centres = librosa.mel_frequencies(n_mels=130, fmax=RATE / 2)[1:-1]
    for band in (20, 60, 100):
        result = log_mel_spectrogram(tone(centres[band]).astype(np.float32))
        assert result[16].argmax() == band


def test_twice_the_amplitude_is_6_db_more():
    samples = noise(RATE).astype(np.float32)
    gain = log_mel_spectrogram(2 * samples) - log_mel_spectrogram(samples)
    assert_allclose(gain, 20 * np.log10(2), rtol=0, atol=1e-3)


def test_frames_do_not_depend_on_what_comes_after_their_window():
    samples = noise(200_000).astype(np.float32)
    whole, beginning = (log_mel_spectrogram(x) for x in (samples, samples[:100_000]))
    # Frame 194 ends at 194 * 512 + 512 = 99,840.
    np.testing.assert_array_equal(whole[:195], beginning[:195])


@pytest.mark.parametrize("level", [1e-5, 0.03, 1.0], ids=["silent", "quiet", "loud"])
@pytest.mark.parametrize("noise_level", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("sound", [tone(0.01), tone(1234.5), noise(RATE), click()])
def test_a_loud_sound_hides_no_quiet_band(level, noise_level, sound):
    assert_equals_librosa(level * (sound + noise(RATE, level=noise_level)), fmin=50.0)


def test_frames_do_not_depend_on_how_many_are_transformed_at_once(monkeypatch):
    quiet = noise(RATE, level=1e-3)
    samples = np.concatenate([quiet + tone(440), quiet, quiet + tone(100)])
    samples = samples.astype(np.float32)
    expected = log_mel_spectrogram(samples)
    for n_frames in (1, 3, 7, 1000):
        monkeypatch.setattr(logmel, "_FRAMES_AT_ONCE", n_frames)
        np.testing.assert_array_equal(log_mel_spectrogram(samples), expected)


def test_samples_are_left_as_they_were():
    samples = noise(RATE).astype(np.float32)
    before = samples.copy()
    log_mel_spectrogram(samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("kind", ["ToyCar", "fan", "pump", "slider", "valve"])
def test_real_recordings_give_what_librosa_gives(recordings, kind):
    path = next((recordings("dcase2020_samples") / kind).rglob("*.wav"))
    assert_equals_librosa(read_file(path, RATE))


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050.5, 44100])
@pytest.mark.parametrize(
    ("n_fft", "n_mels"), [(1024, 128), (2048, 40), (1023, 64), (512, 1)]
)
@pytest.mark.parametrize(("fmin", "fmax"), [(0, None), (50, 3000.5), (1000, 4000)])
@pytest.mark.filterwarnings("ignore:Empty filters|.*are always silent")
def test_mel_filters_are_librosas_to_the_bit(sample_rate, n_fft, n_mels, fmin, fmax):
    filters = mel_filters(sample_rate, n_fft, n_mels, fmin, fmax)
    expected = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax
    )
    assert filters.dtype == expected.dtype
    np.testing.assert_array_equal(filters.toarray(), expected)
    highest = fmax or sample_rate / 2
    np.testing.assert_array_equal(
        mel_frequencies(n_mels, fmin, highest),
        librosa.mel_frequencies(n_mels, fmin=fmin, fmax=highest),
    )


def test_bands_without_a_bin_are_warned_of():
    with pytest.warns(UserWarning, match=r"\d+ of n_mels=128 bands lie .* raise n_fft"):
        mel_filters(16000, 128, 128, 50.0, None)
