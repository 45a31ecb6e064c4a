import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_asd import ClipSpectrograms
from sklearn_asd.features import (
    POOLINGS,
    BandCorrelations,
    Percentile,
    RankWeightedMean,
    SpectrumStatistics,
)

LOG_MELS = [np.array([[1.0, 3.0], [5.0, 5.0]]), np.array([[0.0, 3.0, 6.0], [2, 2, 5]])]
# By hand: means of both bands, then standard deviations (divided by the count).
STATISTICS = [[2, 5, 1, 0], [3, 3, np.sqrt(6), np.sqrt(2)]]


@pytest.fixture
def X():
    return ClipSpectrograms.from_arrays(LOG_MELS, segment_frames=2)


# --- known answers


def test_statistics_of_clips_of_any_length_by_hand(X):
    statistics = SpectrumStatistics().fit_transform(X)
    np.testing.assert_allclose(statistics, STATISTICS, rtol=1e-12)
    assert statistics.dtype == np.float64


def test_columns_are_named_by_statistic_and_band():
    X = ClipSpectrograms.from_arrays(np.zeros((1, 128, 3)), segment_frames=None)
    names = SpectrumStatistics().fit(X).get_feature_names_out()
    assert len(names) == 256
    assert [*names[[0, 127, 128, 255]]] == [
        "mean_mel_000",
        "mean_mel_127",
        "std_mel_000",
        "std_mel_127",
    ]


def test_set_output_makes_a_table(X):
    table = SpectrumStatistics().set_output(transform="pandas").fit_transform(X)
    np.testing.assert_allclose(table["mean_mel_001"], [5, 3])
    np.testing.assert_allclose(table["std_mel_000"], [1, np.sqrt(6)])


def test_half_precision_frames_are_added_up_in_double_precision():
    frames = np.full((4000, 1), 60.03, dtype=np.float16)
    X = ClipSpectrograms(frames, [0], [4000], segment_frames=None)
    mean, std = SpectrumStatistics().fit_transform(X)[0]
    assert mean == float(frames[0, 0])
    assert std == 0


def test_statistics_are_chosen_by_name_object_and_function(X):
    def first(frames):
        return frames[0, :1]

    chosen = ["max", RankWeightedMean(0.5), Percentile(100), first]
    estimator = SpectrumStatistics(chosen).fit(X)
    # 3 and 1, then 6, 3 and 0, with the weights 1, 1 / 2, 1 / 4
    expected = [
        [3, 5, 3.5 / 1.5, 5, 3, 5, 1],
        [6, 5, 7.5 / 1.75, 6.5 / 1.75, 6, 5, 0],
    ]
    np.testing.assert_allclose(estimator.transform(X), expected)
    assert estimator.get_feature_names_out().tolist() == [
        "max_mel_000",
        "max_mel_001",
        "rank_weighted_mean_0.5_mel_000",
        "rank_weighted_mean_0.5_mel_001",
        "percentile_100.0_mel_000",
        "percentile_100.0_mel_001",
        "first_000",
    ]
    one = SpectrumStatistics("median")
    np.testing.assert_allclose(one.fit_transform(X), [[2, 5], [3, 2]])


def test_correlations_are_named_by_number_even_if_they_are_as_many_as_bands(rng):
    X = ClipSpectrograms.from_arrays(rng.normal(size=(2, 3, 9)), segment_frames=None)
    for statistic, stem in (
        ("correlations", "correlations"),
        (BandCorrelations(3),) * 2,
    ):
        names = SpectrumStatistics(statistic).fit(X).get_feature_names_out()
        stem = getattr(stem, "name", stem)
        assert names.tolist() == [f"{stem}_{n:03d}" for n in range(3)]


# --- relations


@pytest.mark.parametrize("name", POOLINGS)
def test_a_clip_of_one_frame_has_every_statistic(name):
    X = ClipSpectrograms.from_arrays([[[1.0], [4.0]]], segment_frames=None)
    row = SpectrumStatistics(name).fit_transform(X)[0]
    expected = {"relative_power": [-1.5, 1.5], "correlations": [0]}
    if name in ("std", "skewness"):
        expected[name] = [0, 0]
    np.testing.assert_allclose(row, expected.get(name, [1, 4]))


def test_a_short_noise_moves_the_maximum_more_than_the_mean(rng):
    log_mels = rng.normal(size=(2, 4, 100))
    log_mels[1, 2, 30:40] += 20
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)

    def moved(statistic):
        return np.abs(np.diff(SpectrumStatistics(statistic).fit_transform(X), axis=0))

    assert moved("mean").max() < 3
    assert moved("rank").max() > 15
    assert moved("max").max() > 15


def test_a_clip_has_the_same_statistics_alone_in_any_order_and_however_cut(X):
    statistics = SpectrumStatistics().fit_transform(X)
    np.testing.assert_array_equal(SpectrumStatistics().transform(X[1]), statistics[1:])
    np.testing.assert_array_equal(
        SpectrumStatistics().transform(X[[1, 0]]), statistics[::-1]
    )
    np.testing.assert_array_equal(
        SpectrumStatistics().transform(X.resegment(None, 1)), statistics
    )


def test_nothing_is_learnt(X):
    """Only numbers of values and the scale of bands are remembered, for checks."""
    statistics = SpectrumStatistics().transform(X)
    np.testing.assert_array_equal(
        SpectrumStatistics().fit(X[0]).transform(X), statistics
    )
    fitted = {"n_features_in_": 2, "band_scale_": "mel"}
    fitted |= {"n_values_": {"mean": 2, "std": 2}, "statistics": ("mean", "std")}
    assert vars(SpectrumStatistics().fit(X)) == fitted
    assert not hasattr(clone(SpectrumStatistics().fit(X)), "n_features_in_")


def test_of_several_views_the_original_is_taken(X):
    starts = np.hstack([X.starts[::-1], X.starts])
    stops = np.hstack([X.stops[::-1], X.stops])
    views = ClipSpectrograms(
        X.frames, starts, stops, view_names=("pitch +1", "original")
    )
    np.testing.assert_allclose(SpectrumStatistics().fit_transform(views), STATISTICS)
    only = views.select_view("pitch +1")
    np.testing.assert_allclose(
        SpectrumStatistics().fit_transform(only), STATISTICS[::-1]
    )
    views.view_names = ("pitch +1", "vocoded")
    with pytest.raises(ValueError, match="SpectrumStatistics uses .* 'original' only"):
        SpectrumStatistics().fit_transform(views)


def test_a_pipeline_with_any_detector_survives_joblib(tmp_path):
    rng = np.random.default_rng(0)
    X = ClipSpectrograms.from_arrays(rng.normal(size=(20, 4, 9)), segment_frames=None)
    loud = ClipSpectrograms.from_arrays(
        rng.normal(size=(3, 4, 9)) + 9, segment_frames=None
    )
    pipe = make_pipeline(SpectrumStatistics(), IsolationForest(random_state=0)).fit(X)
    assert pipe.score_samples(loud).max() < pipe.score_samples(X).min()
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(loaded.score_samples(X), pipe.score_samples(X))


# --- bad clips and errors


def test_clips_that_could_not_be_used_are_rows_of_nan(X):
    X.stops[0] = X.starts[0]
    statistics = SpectrumStatistics().fit_transform(X)
    assert np.isnan(statistics[0]).all()
    np.testing.assert_allclose(statistics[1], STATISTICS[1])
    assert SpectrumStatistics().transform(X[:0]).shape == (0, 4)
    correlations = SpectrumStatistics(["correlations", "max"])
    assert correlations.transform(X[:1]).shape == (1, 3)
    assert correlations.fit(X[:1]).transform(X).shape == (2, 3)


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_anything_but_spectrograms_is_refused_with_the_remedy(method):
    with pytest.raises(
        TypeError,
        match=r"SpectrumStatistics takes .*, got ndarray: put LogMelSegmenter\(\)",
    ):
        getattr(SpectrumStatistics(), method)(np.zeros((4, 100)))


def test_another_number_of_bands_than_fitted_is_refused(X):
    wider = ClipSpectrograms.from_arrays(np.zeros((1, 3, 2)), segment_frames=2)
    with pytest.raises(ValueError, match="n_mels=3, and .* fitted on n_mels=2"):
        SpectrumStatistics().fit(X).transform(wider)


def test_names_need_the_number_of_bands():
    with pytest.raises(NotFittedError):
        SpectrumStatistics().get_feature_names_out()


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ("largest", "The 'statistics' parameter of SpectrumStatistics must be"),
        (["mean", "largest"], "statistic over time 'largest' is unknown: choose of"),
        ([], "no statistic over time is given"),
        (["std", "std"], "two statistics over time are called 'std'"),
        (lambda frames: frames[:, 0], "'<lambda>' gave 3 numbers .* and 2 before"),
    ],
)
def test_statistics_that_make_no_row_are_refused(X, statistics, message):
    with pytest.raises(ValueError, match=message):
        SpectrumStatistics(statistics).fit(X).transform(X)
