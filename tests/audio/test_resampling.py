import librosa
import numpy as np
import pytest

from sklearn_asd.audio.resampling import fix_length, resample


@pytest.mark.parametrize(
    ("from_rate", "to_rate", "n_samples"),
    [
        (44100, 16000, 44100),
        (48000, 16000, 48001),
        (22050.5, 16000, 7777),
        (16001, 16000, 5),
        (96000, 16000, 1),
        (1e8, 16000, 3),
        (0.9, 1.1, 3000),
    ],
)
def test_samples_are_resampled_as_librosa_does_to_the_bit(
    rng, from_rate, to_rate, n_samples
):
    samples = rng.normal(size=n_samples).astype(np.float32)
    result = resample(samples, from_rate, to_rate)
    expected = librosa.resample(samples, orig_sr=from_rate, target_sr=to_rate)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_equal_rates_change_nothing(rng):
    samples = rng.normal(size=5)
    assert resample(samples, 16000, 16000.0) is samples


def test_the_end_is_cut_off_or_zeros_are_appended():
    assert fix_length(np.arange(1, 4), 2).tolist() == [1, 2]
    assert fix_length(np.arange(1, 4), 3).tolist() == [1, 2, 3]
    assert fix_length(np.arange(1, 4), 5).tolist() == [1, 2, 3, 0, 0]
