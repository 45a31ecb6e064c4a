import librosa
import numpy as np
import pytest
import soundfile

from sklearn_asd import BadClipError, MissingClipError
from sklearn_asd.audio import read_array, read_file

RATE = 16000


# librosa.load imports a module that is deprecated
uses_librosa_load = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def noise(rng):
    return rng.uniform(-0.9, 0.9, RATE).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Write samples to a file and give its path."""

    def write(samples, rate=RATE, name="clip.wav", subtype=None):
        path = tmp_path / name
        soundfile.write(path, samples, rate, subtype=subtype)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("clip.wav", "PCM_U8", 2**-7),
        ("clip.wav", "PCM_16", 2**-15),
        ("clip.wav", "PCM_24", 2**-23),
        ("clip.wav", "FLOAT", 0),
        ("clip.flac", "PCM_16", 2**-15),
        ("clip.flac", "PCM_24", 2**-23),
    ],
)
def test_files_read_back_what_was_written(write, noise, name, subtype, step):
    samples = read_file(write(noise, name=name, subtype=subtype), RATE)
    assert samples.dtype == np.float32
    assert samples.shape == noise.shape
    np.testing.assert_allclose(samples, noise, rtol=0, atol=1.01 * step)


def test_path_may_be_a_string(write, noise):
    path = write(noise)
    np.testing.assert_array_equal(read_file(str(path), RATE), read_file(path, RATE))


@pytest.fixture
def eight_channels(write):
    """A file whose channel k is constantly k / 8."""
    return write(np.tile(np.arange(8) / 8, (100, 1)), subtype="FLOAT")


@pytest.mark.parametrize(
    ("channel", "level"), [("mix", 3.5 / 8), (0, 0), (3, 3 / 8), (7, 7 / 8)]
)
def test_channels_are_averaged_or_chosen(eight_channels, channel, level):
    samples = read_file(eight_channels, RATE, channel)
    np.testing.assert_array_equal(samples, np.full(100, level))
    assert samples.flags.c_contiguous


@pytest.mark.parametrize("channel", [8, -1])
def test_a_channel_that_the_file_lacks_is_refused(eight_channels, channel):
    message = rf'has 8 channel.*channel={channel} .* choose at most 7, or "mix"'
    with pytest.raises(BadClipError, match=message):
        read_file(eight_channels, RATE, channel)


@uses_librosa_load
@pytest.mark.parametrize("rate", [44100, 48000, 16001])
def test_resampling_equals_librosa(write, rng, rate):
    path = write(rng.uniform(-0.9, 0.9, rate), rate)
    expected, _ = librosa.load(path, sr=RATE)
    np.testing.assert_allclose(read_file(path, RATE), expected, rtol=0, atol=1e-6)


def test_a_file_below_the_sample_rate_is_refused_with_the_remedy(write, noise):
    with pytest.raises(BadClipError, match=r"8000 Hz.* set sample_rate=8000"):
        read_file(write(noise, 8000), RATE)


def test_a_missing_file_is_an_error_of_both_kinds(tmp_path):
    with pytest.raises(MissingClipError, match=r"check the path '.*gone\.wav'") as e:
        read_file(tmp_path / "gone.wav", RATE)
    assert isinstance(e.value, BadClipError)
    assert isinstance(e.value, FileNotFoundError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e13])
def test_files_with_values_that_are_no_sound_are_refused(write, noise, value):
    noise[[7, 9]] = value
    message = rf"holds {value:g} at sample 7 of {RATE}.* repair it or leave it out"
    with pytest.raises(BadClipError, match=message.replace("+", r"\+")):
        read_file(write(noise, subtype="FLOAT"), RATE)


def test_opposite_infinities_in_two_channels_are_refused_without_warning(write):
    with pytest.raises(BadClipError, match="holds nan at sample 0 of 5"):
        read_file(write(np.full((5, 2), [np.inf, -np.inf]), subtype="FLOAT"), RATE)


@pytest.mark.parametrize(
    ("dtype", "full_scale"),
    [
        ("int16", 2**15),
        (">i2", 2**15),
        ("int32", 2**31),
        ("float16", 1),
        ("float32", 1),
        ("float64", 1),
        (">f8", 1),
    ],
)
def test_arrays_become_floats_of_full_scale_one(dtype, full_scale):
    samples = (np.array([-1, -0.5, 0, 0.25]) * full_scale).astype(dtype)
    result = read_array(samples, None, RATE)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [-1, -0.5, 0, 0.25])


def test_an_array_of_float32_is_not_copied(noise):
    assert np.shares_memory(read_array(noise, None, RATE), noise)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "uint16", "int64", "bool", "complex64", "object", "U5"]
)
def test_arrays_of_other_types_are_refused(dtype):
    samples = np.zeros(5).astype(dtype)
    message = f"has samples of type {samples.dtype}; pass floats .* int16 or int32"
    with pytest.raises(BadClipError, match=message):
        read_array(samples, None, RATE)


@pytest.mark.parametrize("shape", [(), (2, 5)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(BadClipError, match=r"array of shape \(.*average the channels"):
        read_array(np.zeros(shape), None, RATE)


def test_an_array_without_samples_is_refused():
    with pytest.raises(BadClipError, match="holds no samples"):
        read_array(np.zeros(0), None, RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_arrays_with_values_that_are_no_sound_are_refused(value):
    with pytest.raises(BadClipError, match="at sample 1 of 3, which is not sound"):
        read_array(np.array([0, value, 0]), None, RATE)


def test_an_array_is_resampled_from_its_own_rate(noise):
    expected = librosa.resample(noise, orig_sr=44100, target_sr=RATE)
    result = read_array(noise.astype(float), 44100, RATE)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_an_array_below_the_sample_rate_is_refused(noise):
    with pytest.raises(BadClipError, match="sampled at 8000 Hz, below"):
        read_array(noise, 8000, RATE)


@uses_librosa_load
def test_real_recordings_read_as_librosa_reads_them(recordings):
    for kind in ("fan", "ToyCar"):
        path = next((recordings("dcase2020_samples") / kind).rglob("*.wav"))
        expected, _ = librosa.load(path, sr=RATE)
        np.testing.assert_array_equal(read_file(path, RATE), expected)
