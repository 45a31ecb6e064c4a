"""What was learnt from rows that do not differ, by every detector of rows."""

import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_asd import (
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GaussianDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
    export_onnx,
    load_clips,
)
from sklearn_asd.detectors.constants import (
    are_copies,
    find_constants,
    find_means,
    find_units,
    measure_from_copies,
)
from sklearn_asd.detectors.covariance import shrink_covariance
from sklearn_asd.presets import make_detector

ROW = np.array([0.1, -3.0, 0.7])

DETECTORS = {
    "mahalanobis": MahalanobisDetector,
    "gaussian": GaussianDetector,
    "gaussian, not standardised": lambda: GaussianDetector(standardization=0),
    "gaussian, any": lambda: GaussianDetector(standardization="auto"),
} | {
    f"{metric}, {density}, {n_bands}": lambda m=metric, d=density, n=n_bands: (
        EmbeddingNeighborDetector(FunctionTransformer(), metric=m, density=d, n_bands=n)
    )
    for metric in ("cosine", "mahalanobis")
    for density in (None, "ratio", "varmin")
    for n_bands in (1, 2)
}


def fit_quietly(name, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DETECTORS[name]().fit(X)


# -- known answers -----------------------------------------------------------------


def test_units_are_what_float32_rounds_and_less_for_zeros():
    rows = np.array([[0.0, 0.5, -100.0], [0.0, 0.2, 80.0]])
    np.testing.assert_allclose(find_units(rows), [5e-15, 5e-8, 1e-5])
    np.testing.assert_allclose(find_units(np.zeros((2, 1))), [1e-14])


def test_columns_are_constant_but_for_rounding_of_float64():
    rows = np.array([[1.0, 1.0, 0.0, 1e9], [1.0 + 1e-14, 1.0 + 1e-9, 0.0, 1e9 + 1]])
    constant = find_constants(rows, rows - rows[0])
    assert constant.tolist() == [True, False, True, False]
    assert not are_copies(rows)
    assert are_copies(rows[:, [0, 2]])
    assert not are_copies(np.array([[1.0], [1.0], [1.1]]))


def test_distances_from_copies_are_in_units_less_what_rounding_explains():
    others = np.array([[1.0, 0.0, 2.0, 5.0]] * 3)
    points = others[:2] + np.array([[0, 0, 4e-7, 0], [0, 3e-14, 8e-7, 0]])
    distances = measure_from_copies(points, others)
    np.testing.assert_allclose(distances, [[0] * 3, [3] * 3], rtol=1e-5, atol=1e-9)


def test_means_of_equal_rows_are_exact():
    rows = np.repeat([[0.1, 1 / 3], [7.7, 1e9 / 3]], 1000, axis=0)
    np.testing.assert_array_equal(
        find_means(rows, np.repeat([0, 1], 1000)), rows[[0, -1]]
    )


def test_a_constant_column_changes_nothing_in_the_others(rng):
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
    wide = np.insert(X, 1, -80.0, axis=1)
    alone, both = MahalanobisDetector().fit(X), MahalanobisDetector().fit(wide)
    np.testing.assert_allclose(both.score_samples(wide), alone.score_samples(X))
    assert both.offset_ == pytest.approx(alone.offset_)
    np.testing.assert_allclose(
        both.covariance_.precision_ @ both.covariance_.covariance_, np.eye(4), atol=1e-9
    )
    np.testing.assert_allclose(both.covariance_.covariance_[1, 1], 8e-6**2)


def test_rows_of_two_values_leave_no_direction_out():
    deviations = np.array([[1.0, 1.0], [-1.0, -1.0]] * 10)
    found = shrink_covariance(deviations, np.zeros(2, bool), np.ones(2))
    assert found.shrinkage == 1 / 20
    np.testing.assert_allclose(found.covariance, [[1, 0.95], [0.95, 1]])
    detector = MahalanobisDetector().fit(deviations)
    assert detector.predict([[1e6, -1e6], [1, -1], [1, 1]]).tolist() == [-1, -1, 1]


def test_machines_of_copies_are_named_and_say_nothing_of_the_others(rng):
    points = rng.normal(size=(30, 4))
    points[:10] = -100.0
    X = ClipSpectrograms.from_arrays(
        points[:, :, None], ["fan"] * 30, np.repeat(list("abc"), 10), segment_frames=1
    )
    for detector in (
        GaussianDetector(SpectrumStatistics("mean")),
        EmbeddingNeighborDetector(SpectrumStatistics("mean"), metric="mahalanobis"),
    ):
        with pytest.warns(UserWarning, match="^fan/a: all 10 training clips are equal"):
            detector.fit(X)
        alone = type(detector)(**detector.get_params(deep=False)).fit(X[10:])
        np.testing.assert_allclose(detector.offset_, alone.offset_, rtol=0.3)
        assert np.isnan(detector.training_score_samples_).tolist() == [
            row < 10 for row in range(30)
        ]
        asked = ClipSpectrograms.from_arrays(
            np.float32([[[-100]] * 4, [[-99.9]] * 4, [[-100], [-100], [-100], [0]]]),
            ["fan"] * 3,
            ["a"] * 3,
            segment_frames=1,
        )
        assert detector.predict(asked).tolist() == [1, -1, -1]
        assert detector.predict(asked.as_machine("fan", "b")).tolist() == [-1] * 3


# -- every detector, every constant ------------------------------------------------

CONSTANTS = {
    "zeros": np.zeros((20, 3)),
    "a number": np.full((20, 3), 5.0),
    "a row": np.repeat([ROW], 20, axis=0),
    "large and small": np.repeat([[1e9 / 3, 1.0, -7e-9]], 20, axis=0),
    "small": np.full((20, 3), -1e-12),
    "smallest": np.full((20, 3), 1e-320),
    "silence, few rows": np.full((3, 50), -100.0),
    "many rows": np.repeat([ROW], 3000, axis=0)[:200],
    "rounded": ROW * (1 + 1e-15 * np.random.default_rng(0).normal(size=(20, 3))),
}


@pytest.mark.parametrize("kind", CONSTANTS)
@pytest.mark.parametrize("name", DETECTORS)
def test_any_deviation_from_a_constant_is_anomalous(name, kind):
    X = CONSTANTS[kind]
    with pytest.warns(UserWarning, match="training clips are equal, so nothing"):
        detector = DETECTORS[name]().fit(X)
    row, size = X[0], max(np.abs(X).max(), 1e-9)
    others = np.array([row + 1e6, row * -1.3 - size, row + size / 1e3, row])
    others[3, 1] += size / 100
    scores = detector.score_samples(others)
    assert np.isfinite(scores).all()
    assert (scores < detector.offset_ - 1).all()
    assert detector.predict(others).tolist() == [-1] * 4
    assert (detector.predict(X) == 1).all()
    assert (detector.predict(X[:2] * (1 + 3e-16)) == 1).all()
    assert not detector.training_score_samples_.any()


def test_a_threshold_set_by_copies_calls_only_copies_normal():
    tuner = ThresholdTuner(MahalanobisDetector(), false_alarm_rate=0.2)
    with pytest.warns(UserWarning, match="all 16 training clips are equal"):
        tuner.fit(CONSTANTS["a row"])
    assert tuner.predict([ROW, ROW * 1.001, ROW + 1e6]).tolist() == [1, -1, -1]


@pytest.mark.parametrize("name", [n for n in DETECTORS if "cosine" not in n])
@settings(max_examples=8, deadline=None, database=None)
@given(
    scale=st.sampled_from([1e-9, 1e-3, 1.0, 1e6]),
    shift=st.sampled_from([0.0, 1.0, -1e4, 1e6]),
    level=st.sampled_from([0.0, 1.0, -80.0]),
    n_rows=st.sampled_from([9, 40]),
)
def test_constant_columns_count_whatever_the_scale_and_the_shift(
    name, scale, shift, level, n_rows
):
    rng = np.random.default_rng(n_rows)
    X = np.column_stack([rng.normal(size=(n_rows, 11)), np.full(n_rows, level)])
    new = X[:3].copy()
    new[:, -1] += 1.0
    plain = fit_quietly(name, X)
    assert (plain.predict(new) == -1).all()
    moved = fit_quietly(name, scale * X + shift * scale)
    same = moved.predict(scale * X + shift * scale) == plain.predict(X)
    assert same.mean() >= 1 - 1 / n_rows
    assert (moved.predict(scale * new + shift * scale) == -1).all()


@pytest.mark.parametrize("name", [n for n in DETECTORS if "cosine" not in n])
@pytest.mark.parametrize("n_equal", [4, 9, 30])
@pytest.mark.parametrize("row", [ROW, np.zeros(3)], ids=["row", "zeros"])
def test_one_row_that_differs_does_not_make_all_others_normal(name, n_equal, row):
    """Left out, it leaves nothing that it could be measured by."""
    X = np.concatenate([np.repeat([row], n_equal, axis=0), [row + np.arange(1, 4)]])
    detector = fit_quietly(name, X)
    assert np.isfinite(detector.score_samples(X)).all()
    far = 1e4 * np.array([[1.0, 1, 1], [-1, 1, -1], [0, 0, 1]])
    assert (detector.predict(far) == -1).all()
    assert (detector.predict(X[:n_equal]) == 1).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_numbers_whose_squares_are_none_are_refused(name, rng):
    X = rng.normal(size=(20, 3))
    detector = fit_quietly(name, X)
    X[7, 1] = 1e200
    message = "row 7 holds 1e.200 in column 1.*up to 1e.50: scale the column"
    for method in (detector.fit, detector.score_samples):
        with pytest.raises(ValueError, match=message):
            method(X)


@pytest.mark.parametrize("n_rows", [1, 2])
@pytest.mark.parametrize("name", ["mahalanobis", "gaussian", "cosine, ratio, 1"])
def test_too_few_rows_are_refused_with_the_number(name, n_rows):
    with pytest.raises(ValueError, match=r"minimum of 3|fewer than [23]|one usable"):
        DETECTORS[name]().fit(np.zeros((n_rows, 3)))


# -- sound -------------------------------------------------------------------------

SEGMENT = LogMelSegmenter(segment_duration=0.5, n_mels=16, sample_rate=8000)
RATE = 8000


def noises(n=8, level=0.1):
    return list(level * np.random.default_rng(0).normal(size=(n, RATE)))


SILENT = {
    "zeros": np.zeros(RATE),
    "offset": np.full(RATE, 0.25),
    "cancelled": np.mean([noises(1)[0], -noises(1)[0]], axis=0),
}
OF_SOUND = {
    "gaussian": lambda: GaussianDetector(SpectrumStatistics(("mean", "rank"))),
    "near": lambda: EmbeddingNeighborDetector(SpectrumStatistics()),
    "rows": lambda: make_pipeline(SpectrumStatistics(), MahalanobisDetector()),
    "frames": lambda: AutoencoderDetector(max_epochs=1, n_frames=1),
}


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("name", OF_SOUND)
def test_silence_and_sound_are_not_taken_for_each_other(name, kind):
    of_silence, of_sound = (make_pipeline(SEGMENT, OF_SOUND[name]()) for _ in "12")
    with pytest.raises(ValueError, match=r"hold no sound.*microphone.*channel=0"):
        of_silence.fit([SILENT[kind]] * 8)
    assert of_sound.fit(noises()).predict([SILENT[kind]]).tolist() == [-1]


@pytest.mark.parametrize("name", ["default", "spectrum", "neighbors"])
def test_one_muted_machine_is_named_and_the_others_are_judged(name):
    X = SEGMENT.transform([*noises(8), *[np.zeros(RATE)] * 8])
    X = ClipSpectrograms(
        X.frames,
        X.starts,
        X.stops,
        machine_type=["fan"] * 16,
        machine_id=np.repeat(["a", "b"], 8),
        sample_rate=RATE,
        segment_frames=X.segment_frames,
        segment_hop_frames=X.segment_hop_frames,
    )
    with pytest.warns(UserWarning, match="^fan/b: all 8 training clips are equal"):
        detector = make_detector(name).fit(X)
    assert (detector.predict(X)[8:] == 1).all()
    assert (detector.predict(X)[:8] == 1).mean() > 0.5
    assert (detector.predict(X[:8].as_machine("fan", "b")) == -1).all()
    assert (detector.predict(X[8:].as_machine("fan", "a")) == -1).all()
    with (
        pytest.warns(UserWarning, match="^fan/b: all 8 training clips are equal"),
        pytest.raises(ValueError, match=r"of fan are all equal.*add.*nor silent"),
    ):
        make_detector(name).fit(X[8:])


@pytest.mark.parametrize(
    "metric",
    [
        "cosine",
        pytest.param("mahalanobis", marks=pytest.mark.slow),
        pytest.param(None, marks=pytest.mark.slow),
    ],
)
def test_graphs_of_what_was_learnt_from_silence_judge_alike(metric, tmp_path):
    detect = GaussianDetector(SpectrumStatistics())
    if metric is not None:
        detect = EmbeddingNeighborDetector(SpectrumStatistics(), metric=metric)
    X = SEGMENT.transform([*noises(8), *[np.zeros(RATE)] * 8])
    X = ClipSpectrograms(
        X.frames,
        X.starts,
        X.stops,
        machine_id=np.repeat(["a", "b"], 8),
        segment_frames=X.segment_frames,
        segment_hop_frames=X.segment_hop_frames,
    )
    with pytest.warns(UserWarning, match="b: all 8 training clips are equal"):
        detect.fit(X)
    ort = pytest.importorskip("onnxruntime")
    machines = export_onnx(make_pipeline(SEGMENT, detect), tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx")
    for audio in (np.zeros(RATE), noises(1)[0]):
        clip = SEGMENT.transform([audio])
        for place, machine in enumerate(machines):
            inputs = {"waveform": np.float32(audio), "machine": np.array(place)}
            score, verdict = session.run(None, inputs)
            own = clip.as_machine(None, machine)
            # Silence is -99.99999 dB in graphs: 0.8 units in each of 16 columns.
            expected = detect.anomaly_score(own)[0]
            np.testing.assert_allclose(score, expected, rtol=1e-4, atol=3.5)
            assert verdict == detect.predict(own)[0]


def test_recordings_from_the_field_without_sound_are_named_with_the_remedy(recordings):
    folder = recordings("field_cases")
    names = ["inverted_leg.wav", "zeros.wav", "plain.wav", "dead_channel.wav"]
    paths = [folder / name for name in names]
    segment = LogMelSegmenter(segment_duration=1.024)
    message = (
        r"2 recordings .* clip 0 \(inverted_leg.wav\), clip 1 \(zeros.wav\)\. .*"
        r"channel=0"
    )
    with pytest.warns(UserWarning, match=message):
        segment.fit_transform(paths)
    one = LogMelSegmenter(segment_duration=1.024, channel=0)
    with pytest.warns(UserWarning, match=r"1 recording .* clip 0 \(zeros.wav\)\. "):
        one.fit_transform(paths[1:3])
    one.fit_transform([paths[0]])
    message = r"2 recordings .* copies of each other: clip 0 \(plain.wav\), clip 1 \(d"
    with pytest.warns(UserWarning, match=message):  # in their first channel
        one.fit_transform(paths[2:])
    segment.fit_transform(paths[2:])


def test_channels_that_cancel_but_for_noise_and_copies_are_named(tmp_path, rng):
    sounds = rng.normal(scale=0.1, size=(3, RATE))
    recordings = {
        "a": sounds[0],
        "b": sounds[1],
        "copy": sounds[0],
        "opposite": np.stack([sounds[2], 1e-3 * sounds[0] - sounds[2]], axis=1),
    }
    for name, samples in recordings.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    paths = [str(tmp_path / f"{name}.wav") for name in recordings]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SEGMENT.fit_transform([*paths, paths[1], sounds[0]])  # the same row twice
    said = [str(one.message) for one in caught]
    assert said == [
        "1 recording to learn from whose channels cancel each other in their mean: "
        "clip 3 (opposite.wav). Take one of the channels (channel=0)",
        "2 recordings to learn from that are copies of each other: clip 0 (a.wav), "
        "clip 2 (copy.wav). They count as often as they are there: leave out all but "
        "one of each",
    ]


def test_machines_of_recordings_without_sound_are_named(tmp_path):
    (tmp_path / "pump 7").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "pump 7" / f"{name}.wav", np.zeros(RATE), RATE)
    with pytest.warns(UserWarning, match=r"clip 0 \(a.wav\) of pump 7, clip 1"):
        SEGMENT.fit_transform(load_clips(tmp_path))


def test_per_machine_detectors_learn_a_muted_machine_apart():
    X = ClipSpectrograms.from_arrays(
        np.concatenate(
            [
                np.random.default_rng(0).normal(size=(9, 4, 5)),
                np.full((9, 4, 5), -100.0),
            ]
        ),
        machine_id=np.repeat(["a", "b"], 9),
        segment_frames=5,
    )
    detect = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    with pytest.warns(UserWarning, match="all 9 training clips are equal"):
        detect.fit(X)
    assert (detect.predict(X[9:]) == 1).all()
    assert (detect.predict(X[:9].as_machine(None, "b")) == -1).all()
    assert (detect.predict(X[9:].as_machine(None, "a")) == -1).all()
