import functools
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    BadClipError,
    ClipSpectrograms,
    IDConfidenceDetector,
    LogMelSegmenter,
    LogMelView,
    MahalanobisDetector,
    MissingClipError,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    WaveformView,
    load_clips,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.audio import PhaseVocoder
from sklearn_asd.features.power_spectrum import band_filters, mean_power_density
from sklearn_asd.metrics import auc_table

RATE = 16000

# The power density itself, in dB.
Plain = functools.partial(PowerSpectrum, remove_level=False)


@pytest.fixture
def waves(rng):
    """Clips of 0.3 to 1 s."""
    lengths = [5000, 16000, 7001, 12345, 5000]
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in lengths]


def edges_of(X):
    return np.geomspace(X.fmin, X.fmax, X.n_mels + 1)


def tone(pitch, seconds=10, rate=RATE, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * pitch * np.arange(seconds * rate) / rate)


# -- what is computed ------------------------------------------------------------


def test_filters_by_hand():
    """Bins at 0, 2, 4, 6 and 8 Hz; the second stands for all up to 3 Hz."""
    filters = band_filters(16, 8, 3, 1, 8).toarray()
    assert filters == pytest.approx(
        np.array(
            [
                [0, 1, 0, 0, 0],  # from 1 to 2 Hz
                [0, 0.5, 0.5, 0, 0],  # from 2 to 4 Hz
                [0, 0, 0.25, 0.5, 0.25],  # from 4 to 8 Hz
            ]
        )
    )


@pytest.mark.parametrize("n_fft", [2, 3, 64, 1001, 8192])
@pytest.mark.parametrize(("n_bands", "fmin"), [(1, 10), (96, 10), (1000, 0.01)])
def test_no_band_is_empty(n_fft, n_bands, fmin):
    filters = band_filters(RATE, n_fft, n_bands, fmin, RATE / 2)
    assert filters.sum(axis=1) == pytest.approx(np.ones(n_bands))


@pytest.mark.parametrize("n_fft", [512, 511, 8192])
def test_the_density_is_that_of_scipy(rng, n_fft):
    samples = rng.normal(size=40_000)
    _, expected = scipy.signal.welch(samples, RATE, nperseg=n_fft)
    density = mean_power_density(samples, RATE, n_fft)
    np.testing.assert_allclose(density[1:-1], expected[1:-1], rtol=1e-9)


def test_of_a_shorter_clip_too(rng):
    samples = rng.normal(size=5000)
    _, expected = scipy.signal.welch(samples, RATE, nperseg=5000, nfft=8192)
    density = mean_power_density(samples, RATE, 8192)
    np.testing.assert_allclose(density[1:-1], expected[1:-1], rtol=1e-9)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_white_noise_has_the_same_known_level_in_all_bands(rng, rate):
    noise = 0.1 * rng.standard_normal(60 * rate)
    X = Plain(sample_rate=rate, fmin=100.0, n_bands=12).transform([noise])
    expected = 10 * np.log10(2 * 0.1**2 / rate)
    assert X.frames[0] == pytest.approx(np.full(12, expected), abs=0.5)
    assert (X.sample_rate, X.fmin, X.fmax) == (rate, 100, rate / 2)


def test_the_bands_hold_the_power_of_a_tone():
    X = Plain().transform([tone(1000)])
    widths = np.diff(edges_of(X))
    powers = 10 ** (X.frames[0].astype(float) / 10) * widths
    assert powers.sum() == pytest.approx(0.5**2 / 2, rel=1e-3)
    loudest = powers.argmax()
    assert edges_of(X)[loudest] < 1000 < edges_of(X)[loudest + 1]


def test_a_tone_that_is_as_low_as_the_bands_are_narrow_is_found():
    X = Plain().transform([tone(20)])
    loudest = np.flatnonzero(X.frames[0] > X.frames[0].max() - 0.1)
    low, high = edges_of(X)[loudest[0]], edges_of(X)[loudest[-1] + 1]
    assert low < 20 < high
    assert high - low < 4  # two bins


def test_a_clip_shorter_than_the_window_keeps_its_level():
    X = Plain(n_bands=12).transform([tone(1000), tone(1000)[:4096]])
    long, short = X.frames
    assert long.argmax() == short.argmax()
    assert short.max() == pytest.approx(long.max(), abs=0.1)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 8192, 20_000])
def test_silence_is_finite(n_samples):
    silence = [np.zeros(n_samples)]
    assert Plain().transform(silence).frames[0] == pytest.approx(np.full(96, -160.0))
    assert PowerSpectrum().transform(silence).frames[0] == pytest.approx(np.zeros(96))


def test_the_offset_of_a_sensor_changes_nothing(rng):
    noise = 0.1 * rng.standard_normal(20_000)
    X = Plain(fmin=1.0).transform([noise, noise + 0.5, np.full(20_000, 0.5)])
    np.testing.assert_allclose(X.frames[1], X.frames[0], atol=1e-3)
    assert X.frames[2] == pytest.approx(np.full(96, -160.0))


def test_the_level_is_removed_on_request(rng):
    noise = 0.1 * rng.standard_normal(20_000)
    X = PowerSpectrum().transform([noise, noise / 10])
    np.testing.assert_allclose(X.frames[1], X.frames[0], atol=1e-3)
    plain = Plain().transform([noise, noise / 10]).frames
    np.testing.assert_allclose(plain[0] - plain[1], np.full(96, 20), atol=1e-3)
    expected = plain[0] - plain[0].mean()
    np.testing.assert_allclose(X.frames[0], expected, atol=1e-4)


def test_float16_is_the_rounded_float32(waves):
    half = Plain(dtype="float16").transform(waves)
    assert half.frames.dtype == np.float16
    expected = Plain().transform(waves).frames.astype(np.float16)
    np.testing.assert_array_equal(half.frames, expected)


# -- what is returned ------------------------------------------------------------


def test_each_clip_is_one_frame_and_one_segment(waves):
    table = pd.DataFrame({"audio": waves, "machine_type": "fan", "machine_id": "00"})
    X = PowerSpectrum(n_bands=20).fit_transform(table)
    assert repr(X) == "ClipSpectrograms(5 clips, 1 machine, 20 bands, whole clips)"
    assert X.frames.shape == (5, 20)
    assert X.segment_frames is None
    assert X.n_segments.tolist() == [[1]] * 5
    assert (X.stops - X.starts).tolist() == [[1]] * 5
    assert (X.band_scale, X.fmin, X.fmax) == ("log", 10, 8000)
    assert (X.sample_rate, X.hop_length) == (RATE, None)
    assert X[3:].band_scale == "log"
    assert np.asarray(X).shape == (5, 20, 1)
    assert len(X.split_segments()) == 5


def test_statistics_are_the_spectrum_and_no_deviation(waves):
    X = PowerSpectrum(n_bands=3).transform(waves)
    statistics = SpectrumStatistics().fit(X)
    rows = statistics.transform(X)
    np.testing.assert_array_equal(rows[:, :3], X.frames)
    np.testing.assert_array_equal(rows[:, 3:], 0)
    names = statistics.get_feature_names_out().tolist()
    assert names[:3] == ["mean_band_000", "mean_band_001", "mean_band_002"]


def test_bands_of_one_scale_are_not_taken_for_those_of_another(waves):
    X = PowerSpectrum(n_bands=32).transform(waves)
    log_mels = LogMelSegmenter(n_mels=32, segment_duration=None).transform(waves)
    message = "X has bands on the log scale, .* fitted on the mel scale"
    with pytest.raises(ValueError, match=message):
        SpectrumStatistics().fit(log_mels).transform(X)


def test_networks_that_need_time_say_so(waves):
    clips = pd.DataFrame({"audio": waves, "machine_id": [0, 0, 2, 2, 2]})
    X = PowerSpectrum().transform(clips)
    message = "needs segments of at least 9 frames, got 1: .*LogMelSegmenter where the"
    with pytest.raises(ValueError, match=message):
        IDConfidenceDetector(max_epochs=1).fit(X)


# -- views -----------------------------------------------------------------------


def test_views_of_the_waveform_have_a_spectrum_each(waves):
    def reverse(samples, sample_rate):
        return samples[::-1]

    expand = AugmentationExpander(
        pitch_steps=[0, 2], stretch_rates=[1], extra=[WaveformView(reverse)]
    )
    X = PowerSpectrum().transform(expand.transform(waves))
    assert X.view_names == ("original", "pitch +2", "reverse")
    assert X.frames.shape == (15, 96)
    for clip, wave in enumerate(waves):
        for view, samples in enumerate(
            [wave, PhaseVocoder(wave).transform(2, 1), wave[::-1]]
        ):
            (expected,) = PowerSpectrum().transform([samples]).frames
            np.testing.assert_array_equal(X.log_mel(clip, view)[:, 0], expected)


@pytest.mark.parametrize("method", ["fit", "transform"])
@pytest.mark.parametrize(
    "view", ["flip_time", "rotate", LogMelView(lambda x: x + 6, name="louder")]
)
def test_views_of_a_log_mel_are_refused_by_name(waves, view, method):
    clips = AugmentationExpander(extra=["harmonic", view]).transform(waves)
    message = rf"computes no log-mel, and the views {getattr(view, 'name', view)} chan"
    with pytest.raises(ValueError, match=message + ".*WaveformView, or use LogMelSeg"):
        getattr(PowerSpectrum(), method)(clips)


# -- what is shared with LogMelSegmenter -----------------------------------------


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_do_not_change_a_bit(waves, backend):
    alone = PowerSpectrum(n_jobs=1).transform(waves)
    with joblib.parallel_config(backend):
        together = PowerSpectrum(n_jobs=2).transform(waves)
    np.testing.assert_array_equal(together.frames, alone.frames)


def test_a_clip_does_not_depend_on_the_others(waves):
    X = PowerSpectrum().transform(waves)
    again = PowerSpectrum().transform([waves[3], waves[0]])
    np.testing.assert_array_equal(again.frames, X.frames[[3, 0]])


def test_memory_does_not_grow_with_the_length_of_a_clip():
    """Half an hour in windows of 8192 would take 460 MB in float64."""
    samples = np.zeros(1800 * RATE, dtype=np.float32)
    tracemalloc.start()
    mean_power_density(samples, RATE, 8192)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_cache_may_hold_log_mels_too(tmp_path, waves, monkeypatch):
    cached = PowerSpectrum(cache_dir=tmp_path)
    X = cached.transform(waves)
    LogMelSegmenter(segment_duration=None, cache_dir=tmp_path).transform(waves)
    assert len(list(tmp_path.glob("power-spectrum-*.sqlite"))) == 1
    assert len(list(tmp_path.glob("log-mel-*.sqlite"))) == 1

    def fail(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(PowerSpectrum, "_compute_frames", fail)
    again = cached.transform(waves)
    assert isinstance(again.frames, np.memmap)
    np.testing.assert_array_equal(again.frames, X.frames)


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 8000},
        {"n_fft": 4096},
        {"n_bands": 95},
        {"fmin": 20.0},
        {"fmax": 4000.0},
        {"remove_level": False},
        {"dtype": "float16"},
        {"channel": 0},
    ],
    ids=str,
)
def test_other_settings_have_another_cache(tmp_path, waves, change):
    PowerSpectrum(cache_dir=tmp_path).transform(waves)
    cached = PowerSpectrum(cache_dir=tmp_path, **change).transform(waves)
    np.testing.assert_array_equal(
        cached.frames, PowerSpectrum(**change).transform(waves).frames
    )
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_shown_on_request(capsys, waves, verbose):
    PowerSpectrum(verbose=verbose).transform(waves)
    assert ("power spectrum: " in capsys.readouterr().err) == bool(verbose)


def test_bad_clips_are_named_or_get_no_frame(tmp_path, waves):
    soundfile.write(tmp_path / "good.wav", waves[0], RATE)
    paths = [tmp_path / "good.wav", tmp_path / "gone.wav"]
    with pytest.raises(MissingClipError, match=r"^clip 1 \(gone\.wav\) does not exist"):
        PowerSpectrum().transform(paths)
    with pytest.warns(UserWarning, match="1 of 2 clips cannot be used") as caught:
        X = PowerSpectrum(on_bad_clip="nan").transform(paths)
    assert caught[0].filename == __file__
    assert X.usable.tolist() == [True, False]
    assert list(X.problems) == [1]
    assert np.isnan(SpectrumStatistics().transform(X)).all(axis=1).tolist() == [0, 1]
    with pytest.raises(BadClipError, match="clip 0 holds no samples"):
        PowerSpectrum().transform([np.zeros(0)])


# -- as an estimator -------------------------------------------------------------


@pytest.mark.parametrize(
    "parameter",
    [
        {"sample_rate": 0},
        {"n_fft": 1},
        {"n_fft": 512.0},
        {"n_bands": 0},
        {"fmin": 0.0},
        {"fmax": 0},
        {"remove_level": "yes"},
        {"channel": -1},
        {"on_bad_clip": "ignore"},
        {"dtype": "float64"},
        {"cache_dir": 3},
        {"n_jobs": "all"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_wrong_parameters_are_refused(waves, parameter, method):
    (name,) = parameter
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        getattr(PowerSpectrum(**parameter), method)(waves)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fmin": 4000, "fmax": 400}, "^bands from fmin=4000 to fmax=400 Hz .* choose"),
        ({"fmax": 8001}, "fmax=8001 Hz .* half of sample_rate, 8000 Hz"),
        ({"sample_rate": 16}, "fmin=10 to fmax=8 Hz"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(waves, parameters, message):
    with pytest.raises(ValueError, match=message):
        PowerSpectrum(**parameters).fit(waves)


def test_a_clone_has_the_same_parameters(tmp_path):
    changed = {"n_bands": 64, "cache_dir": tmp_path, "remove_level": False}
    spectrum = clone(PowerSpectrum(**changed))
    assert spectrum.get_params() == PowerSpectrum().get_params() | changed
    assert repr(clone(PowerSpectrum(n_bands=64))) == "PowerSpectrum(n_bands=64)"


# -- what it is for --------------------------------------------------------------


def make_hum(n, speed=49.0, seed=0):
    """Clips of 4 s of a machine that hums at its speed, as loud as it happens to be."""
    rng = np.random.default_rng(seed)
    return [
        (tone(speed, 4, amplitude=0.1) + 0.01 * rng.normal(size=4 * RATE))
        * rng.uniform(0.1, 1)
        for _ in range(n)
    ]


def test_a_fan_that_runs_slightly_slower_is_anomalous_at_any_level():
    detector = make_pipeline(
        PowerSpectrum(), SpectrumStatistics(), MahalanobisDetector()
    ).fit(make_hum(20))
    normal = detector.score_samples(make_hum(10, seed=1))
    slower = detector.score_samples(make_hum(10, speed=45.0, seed=2))
    assert slower.max() < normal.min()
    assert (detector.predict(make_hum(10, speed=45.0, seed=2)) == -1).all()


def test_valves_are_told_apart_in_part(recordings):
    clips = load_clips(recordings("valve2023"))
    clips["machine_id"] = clips["pat"]
    train, test = (clips[clips["split"] == split] for split in ("train", "test"))
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    pipe = make_pipeline(PowerSpectrum(), detector).fit(train)
    table = auc_table(test, test["label"].to_numpy(int), pipe.score_samples(test))
    assert table["auc"].iloc[-1] > 0.74


def test_spectra_come_back_from_a_pickle(tmp_path, waves):
    X = PowerSpectrum(cache_dir=tmp_path).transform(waves)
    joblib.dump(X, tmp_path / "X.joblib")
    again = joblib.load(tmp_path / "X.joblib")
    assert isinstance(again, ClipSpectrograms)
    assert again.band_scale == "log"
    np.testing.assert_array_equal(again.frames, X.frames)
