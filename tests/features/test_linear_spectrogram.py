import functools

import joblib
import librosa
import numpy as np
import pytest
import soundfile
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    ClipSpectrograms,
    LinearSpectrogram,
    LogMelSegmenter,
    LogMelView,
    MissingClipError,
    SpectrumStatistics,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.features.linear_spectrogram import (
    clip_spectrum,
    magnitude_spectrogram,
)

RATE = 16000
# Small, for tests that ask what is shared with other front ends.
Small = functools.partial(LinearSpectrogram, n_fft=256, hop_length=128, n_spectrum=300)


@pytest.fixture
def waves(rng):
    """Clips of 0.3 to 1 s."""
    lengths = [5000, 16000, 7001, 12345, 5000]
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in lengths]


def tone(pitch, seconds=4, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * pitch * np.arange(seconds * RATE) / RATE)


# -- what is computed ------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [512, 5000])
def test_magnitudes_are_those_of_librosa(rng, n_samples):
    samples = rng.normal(size=n_samples)
    expected = np.abs(librosa.stft(samples, n_fft=512, hop_length=128)).T
    magnitudes = magnitude_spectrogram(samples, 512, 128)
    np.testing.assert_allclose(magnitudes, expected, atol=1e-4)


def test_the_spectrum_is_that_of_the_whole_clip(rng):
    """Bands as wide as a bin, but for the last one, which holds the highest bin too."""
    samples = rng.normal(size=4000)
    expected = np.abs(np.fft.rfft(samples)) / np.sqrt(4000)
    spectrum = clip_spectrum(samples, 8000, 1000, 0, 4000)
    pairs = expected[:-1].reshape(1000, 2).mean(axis=1)
    np.testing.assert_allclose(spectrum[:-1], pairs[:-1], rtol=1e-5)
    assert spectrum[-1] == pytest.approx(expected[-3:].mean(), rel=1e-5)


@pytest.mark.parametrize(("fmax", "means"), [(4.0, [0.5, 3.0]), (4.5, [1.0, 3.5])])
def test_the_last_band_ends_with_fmax(fmax, means):
    """Bins are 1 Hz apart; the magnitude of each is its frequency."""
    samples = np.fft.irfft(np.arange(9.0)) * np.sqrt(16)
    spectrum = clip_spectrum(samples, 16, 2, 0.0, fmax)
    np.testing.assert_allclose(spectrum, means, rtol=1e-6)


def test_each_band_has_a_bin_however_short_the_clip_is(rng):
    spectrum = clip_spectrum(rng.normal(size=100), RATE, 8000, 0, 8000)
    assert spectrum.shape == (8000,)
    assert (spectrum > 0).all()


def test_noise_has_the_same_level_in_clips_of_any_length(rng):
    X = LinearSpectrogram().transform([rng.normal(size=n * RATE) for n in (1, 4, 9)])
    levels = X.spectra[:, 0].mean(axis=1)
    assert levels == pytest.approx(np.sqrt(np.pi) / 2, rel=0.01)  # Rayleigh's mean


def test_bands_and_bins_lie_between_fmin_and_fmax():
    front_end = LinearSpectrogram(fmin=200, fmax=4200, n_spectrum=4000)
    X = front_end.transform([tone(1000.5)])
    assert X.n_mels == 256  # 203.125 to 4187.5 Hz
    assert X.spectra[0, 0].argmax() == 800
    assert X.frames[60].argmax() == round(1000.5 / 15.625) - 13
    assert (X.fmin, X.fmax, X.band_scale, X.n_spectrum) == (200, 4200, "linear", 4000)


def test_frames_and_spectra_of_a_clip_do_not_depend_on_the_others(waves):
    X = Small().transform(waves)
    assert X.spectra.shape == (5, 1, 300)
    assert X.n_segments.ravel().tolist() == [1] * 5
    for row, samples in enumerate(waves):
        expected = magnitude_spectrogram(samples, 256, 128)
        np.testing.assert_array_equal(X.log_mel(row).T, expected)
        spectrum = clip_spectrum(samples, RATE, 300, 0, 8000)
        np.testing.assert_array_equal(X.spectra[row, 0], spectrum)


def test_without_spectra_the_frames_are_the_same(waves):
    X = Small(n_spectrum=0).transform(waves)
    assert X.spectra is None
    assert X.n_spectrum == 0
    np.testing.assert_array_equal(X.log_mel(2), Small().transform(waves).log_mel(2))


def test_silence_and_the_shortest_clip_are_finite():
    X = Small().transform([np.zeros(1), np.zeros(3000)])
    assert not X.frames.any()
    assert not X.spectra.any()


# -- what is shared with other front ends ----------------------------------------


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_do_not_change_a_bit(waves, backend):
    alone = Small(n_jobs=1).transform(waves)
    with joblib.parallel_config(backend):
        together = Small(n_jobs=2).transform(waves)
    np.testing.assert_array_equal(together.frames, alone.frames)
    np.testing.assert_array_equal(together.spectra, alone.spectra)


def test_a_cache_holds_frames_and_spectra(tmp_path, waves, monkeypatch):
    cached = Small(cache_dir=tmp_path, dtype="float16")
    X = cached.transform(waves)
    LogMelSegmenter(segment_duration=None, cache_dir=tmp_path).transform(waves)
    assert len(list(tmp_path.glob("linear-spectrogram-*.sqlite"))) == 1

    def fail(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(LinearSpectrogram, "_compute_frames", fail)
    again = cached.transform(waves[::-1])
    assert isinstance(again.frames, np.memmap)
    for row in range(5):
        np.testing.assert_array_equal(again.log_mel(4 - row), X.log_mel(row))
    np.testing.assert_array_equal(again.spectra[::-1], X.spectra)


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 8000},
        {"n_fft": 512},
        {"hop_length": 64},
        {"n_spectrum": 301},
        {"fmin": 20.0},
        {"fmax": 4000.0},
        {"dtype": "float16"},
        {"channel": 0},
    ],
    ids=str,
)
def test_other_settings_have_another_cache(tmp_path, waves, change):
    Small(cache_dir=tmp_path).transform(waves)
    cached = Small(**{"cache_dir": tmp_path} | change).transform(waves)
    plain = Small(**change).transform(waves)
    np.testing.assert_array_equal(cached.spectra, plain.spectra)
    np.testing.assert_array_equal(cached.log_mel(1), plain.log_mel(1))
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_views_have_spectra_of_their_own_and_those_of_a_log_mel_are_refused(waves):
    expand = AugmentationExpander(pitch_steps=[0, 1], stretch_rates=[1])
    X = make_pipeline(expand, Small()).transform(waves)
    assert X.spectra.shape == (5, 2, 300)
    original = X.select_view("original")
    np.testing.assert_array_equal(original.spectra, Small().transform(waves).spectra)
    assert (X.select_view("pitch +1").spectra != original.spectra).any()

    def mirror(log_mel):
        return log_mel[::-1]

    expand = AugmentationExpander(extra=[LogMelView(mirror)])
    with pytest.raises(ValueError, match="LinearSpectrogram computes no log-mel"):
        make_pipeline(expand, Small()).transform(waves)


def test_bad_clips_are_named_or_get_no_frame(tmp_path, waves):
    soundfile.write(tmp_path / "good.wav", waves[0], RATE)
    paths = [tmp_path / "good.wav", tmp_path / "gone.wav"]
    with pytest.raises(MissingClipError, match=r"^clip 1 \(gone\.wav\) does not exist"):
        Small().transform(paths)
    with pytest.warns(UserWarning, match="1 of 2 clips cannot be used"):
        X = Small(on_bad_clip="nan").transform(paths)
    assert X.usable.tolist() == [True, False]
    assert np.isnan(X.spectra).all(axis=(1, 2)).tolist() == [False, True]
    assert np.isnan(SpectrumStatistics().transform(X)).all(axis=1).tolist() == [0, 1]


# -- as clips --------------------------------------------------------------------


def test_spectra_follow_their_clips(tmp_path, waves):
    X = Small(cache_dir=tmp_path).transform(waves)
    for chosen, rows in [(X[3], [3]), (X[[4, 0]], [4, 0]), (X[X.starts[:, 0] > 0], [])]:
        rows = rows or np.flatnonzero(X.starts[:, 0] > 0)
        np.testing.assert_array_equal(chosen.spectra, X.spectra[rows])
    joblib.dump(X[1:3], tmp_path / "X.joblib")
    again = joblib.load(tmp_path / "X.joblib")
    np.testing.assert_array_equal(again.spectra, X.spectra[1:3])
    np.testing.assert_array_equal(again.log_mel(1), X.log_mel(2))


def test_segments_have_the_spectrum_of_their_clip(waves):
    segments = Small().transform(waves[:2]).resegment(20, 20).split_segments()
    np.testing.assert_array_equal(segments.spectra[0], segments.spectra[1])
    assert (segments.spectra[-1] != segments.spectra[0]).any()


def test_spectra_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"spectra has the shape \(2, 5\); it must be"):
        ClipSpectrograms(
            np.zeros((4, 3)), np.array([0, 2]), [2, 4], spectra=np.zeros((2, 5))
        )


# -- as an estimator -------------------------------------------------------------


@pytest.mark.parametrize(
    "parameter",
    [{"sample_rate": 0}, {"n_fft": 1}, {"hop_length": 0}, {"n_spectrum": -1}],
    ids=str,
)
def test_wrong_parameters_are_refused(waves, parameter):
    (name,) = parameter
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        LinearSpectrogram(**parameter).fit(waves)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fmin": 4000, "fmax": 400}, "^bins from fmin=4000 to fmax=400 Hz .* choose"),
        ({"fmax": 8001}, "fmax=8001 Hz .* half of sample_rate, 8000 Hz"),
        ({"fmin": 16, "fmax": 31}, "no bin of n_fft=1024 .* 15.625 Hz apart: raise"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(waves, parameters, message):
    with pytest.raises(ValueError, match=message):
        LinearSpectrogram(**parameters).fit(waves)


def test_a_clone_has_the_same_parameters():
    front_end = clone(LinearSpectrogram(n_spectrum=64))
    assert repr(front_end) == "LinearSpectrogram(n_spectrum=64)"
