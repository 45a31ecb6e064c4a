import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.stats import gamma
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from sklearn_asd import (
    Clips,
    ClipSpectrograms,
    GammaProbabilityEnsemble,
    LogMelSegmenter,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    ThresholdTuner,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.features import SpectrumStatistics
from sklearn_asd.meta.policies import Threshold


class Column(OutlierMixin, BaseEstimator):
    """The score is a column of X, of numbers or of a table of clips."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        self.fitted_on_ = X
        return self

    def score_samples(self, X):
        if isinstance(X, pd.DataFrame):
            return X["score"].to_numpy(float)
        return np.asarray(X)[:, self.column]


def tune(normal, anomalous=(), **parameters):
    """Set the threshold by these scores."""
    X = np.append(normal, anomalous).astype(float)[:, None]
    y = np.repeat([1, -1], [len(normal), len(anomalous)])
    order = np.random.default_rng(0).permutation(len(X))
    detector = FrozenEstimator(Column().fit(X))
    return ThresholdTuner(detector, **parameters).fit(X[order], y[order])


# -- known answers ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "rate", "rank"),
    [(19, 0.05, 1), (38, 0.05, 1), (39, 0.05, 2), (4, 0.5, 2), (99, 0.29, 29)],
)
def test_the_false_alarm_rate_puts_the_threshold_at_a_ranked_score(n, rate, rank):
    """The last one is 28.999999999999996 in floats."""
    tuner = tune(np.arange(1, n + 1), false_alarm_rate=rate)
    assert tuner.offset_ == rank
    assert tuner.predict([[rank - 0.1], [rank], [n]]).tolist() == [-1, 1, 1]


def test_the_promise_states_the_number_of_clips():
    assert tune(np.arange(95)).promise_ == (
        "at most 5 % of unseen normal clips are called anomalous, based on 95 normal "
        "clips"
    )
    assert tune([1], false_alarm_rate=0.5).promise_ == (
        "at most 50 % of unseen normal clips are called anomalous, based on 1 normal "
        "clip"
    )


def test_tied_scores_raise_no_further_alarms():
    tuner = tune([0, 0, 0, *range(1, 17)], false_alarm_rate=0.1)  # the second
    assert tuner.offset_ == 0
    assert tuner.predict([[0.0], [-1.0]]).tolist() == [1, -1]


@pytest.mark.parametrize(("rate", "n_needed"), [(0.05, 19), (0.07, 14), (1 / 49, 48)])
def test_too_few_normal_clips_are_warned_of_and_raise_no_alarm(rate, n_needed):
    scores = np.arange(n_needed - 1)
    with pytest.warns(
        UserWarning, match=rf"{n_needed - 1} normal.*takes {n_needed}; add"
    ) as caught:
        tuner = tune(scores, false_alarm_rate=rate)
    assert caught[0].filename == __file__
    assert tuner.offset_ == -np.inf
    assert tuner.predict([[-1e300]]).tolist() == [1]
    assert tuner.promise_.startswith("no clip is called anomalous, as")
    assert tuner.false_alarm_interval(10) == (0, 0)
    assert tune([*scores, 7], false_alarm_rate=rate).offset_ == 0


@pytest.mark.parametrize(
    ("normal", "anomalous", "offset"),
    [
        ([3, 5, 6], [1, 2, 4], 4.5),  # F1 6/7, and 4/5 at 2.5
        ([1, 2, 4], [0, 3], 0.5),  # 2/3, as at 3.5
        ([1, 2], [1], 1.5),  # a tie between the classes is not torn
        ([0], [1, 2], np.nextafter(2, 3)),  # a detector that is upside down
        ([np.nextafter(1, 2)], [1], np.nextafter(1, 2)),  # no float lies between
        ([3, 5], [-np.inf, -np.inf], 3),
    ],
)
def test_thresholds_of_the_largest_f1_worked_by_hand(normal, anomalous, offset):
    assert tune(normal, anomalous, policy="f1").offset_ == offset


@pytest.mark.parametrize(
    ("normal", "anomalous", "rate", "offset"),
    [
        ([4, 6, 8], [1, 2, 3, 10], 0.25, 3.5),  # misses 10
        ([4, 6, 8], [1, 2, 3, 10], 0.24, np.nextafter(10, 11)),
        ([4, 6, 8], [1, 2, 3, 5], 0.0, 5.5),  # at the cost of 4
        ([5, 9], [1, 3, 3, 3], 0.25, 4),  # the tied ones are missed all or none
        ([3, 9], [1, 3], 0.0, 6),
        ([5], [1, 2], 0.5, 1.5),
    ],
)
def test_thresholds_of_few_escapes_worked_by_hand(normal, anomalous, rate, offset):
    tuner = tune(normal, anomalous, policy="escapes", max_escape_rate=rate)
    assert tuner.offset_ == offset


def test_results_on_validation_clips_are_reported_and_not_promised():
    assert tune([3, 5, 6], [1, 2, 4], policy="f1").promise_ == (
        "F1 is 0.857 on 3 normal clips and 3 anomalous; nothing is promised about "
        "unseen clips"
    )
    tuner = tune([4, 6, 8], [1, 2, 5], policy="escapes", max_escape_rate=0.0)
    assert tuner.promise_ == (
        "0 of 3 anomalous clips are missed, with 1 of 3 normal clips called "
        "anomalous; nothing is promised about unseen clips"
    )


def test_the_gamma_threshold_is_scipys_quantile(rng):
    anomaly = rng.gamma(3.0, 0.2, size=50)
    tuner = tune(-anomaly, policy="gamma", false_alarm_rate=0.01)
    shape, _, scale = gamma.fit(anomaly, floc=0)
    expected = -gamma.isf(0.01, shape, scale=scale)
    assert tuner.offset_ == pytest.approx(expected, rel=1e-6)
    assert tuner.promise_ == (
        "1 % of unseen normal clips are called anomalous if their scores follow the "
        "Gamma distribution of 50 normal clips"
    )


def test_anomaly_scores_that_no_gamma_distribution_has_are_shifted():
    anomaly = np.array([-2.0, 0.0, 1.0, 3.0])
    shift = 2 + anomaly.std()
    shape, _, scale = gamma.fit(anomaly + shift, floc=0)
    expected = shift - gamma.isf(0.05, shape, scale=scale)
    assert tune(-anomaly, policy="gamma").offset_ == pytest.approx(expected, rel=1e-6)


def test_with_one_clip_the_interval_is_widest():
    """Of 19 clips any number from 0 to 19 is as likely: 1/20 each."""
    tuner = tune([7], false_alarm_rate=0.5)
    assert tuner.false_alarm_interval(19, level=0.75) == (2 / 19, 17 / 19)
    assert tuner.false_alarm_interval(1, level=0.99) == (0, 1)


# -- which clips set the threshold -----------------------------------------------


def test_a_share_of_each_machines_normal_clips_is_held_out():
    table = pd.DataFrame(
        {
            "path": "x.wav",
            "machine_id": ["a"] * 10 + ["b"] * 5 + ["c"] + [None] * 2,
            "score": np.arange(18),
        }
    )
    tuner = ThresholdTuner(Column(), false_alarm_rate=0.5, random_state=0).fit(table)
    left = tuner.detector_.fitted_on_["machine_id"].value_counts(dropna=False)
    assert left.tolist() == [8, 4, 1, 1]
    assert tuner.n_validation_normal_ == 2 + 1 + 0 + 1
    kept = set(table["score"]) - set(tuner.detector_.fitted_on_["score"])
    assert tuner.offset_ == sorted(kept)[1]  # the second of four


def test_anomalous_clips_are_never_trained_on(rng):
    X, y = rng.normal(size=(100, 1)), np.where(np.arange(100) % 4, 1, -1)
    tuner = ThresholdTuner(Column(), policy="f1", random_state=0).fit(X, y)
    assert set(tuner.detector_.fitted_on_[:, 0]) <= set(X[y == 1, 0])
    assert len(tuner.detector_.fitted_on_) == 60
    assert tuner.n_validation_normal_ == 15
    assert tuner.n_validation_anomalous_ == 25


def test_the_split_is_drawn_by_random_state(rng):
    X = rng.normal(size=(100, 1))
    offsets = [
        ThresholdTuner(Column(), random_state=seed).fit(X).offset_ for seed in (0, 0, 1)
    ]
    assert offsets[0] == offsets[1] != offsets[2]


def test_a_frozen_detector_is_not_fitted_and_all_clips_set_the_threshold(rng):
    X = rng.normal(size=(60, 2))
    forest = IsolationForest(random_state=0).fit(X[:40])
    expected = forest.score_samples(X)
    tuner = ThresholdTuner(FrozenEstimator(forest)).fit(X[40:])
    assert tuner.detector_.estimator is forest
    np.testing.assert_array_equal(tuner.score_samples(X), expected)
    assert tuner.offset_ == expected[40:].min()
    assert tuner.n_validation_normal_ == 20
    assert tuner.n_features_in_ == 2


class Remember(Column):
    """Takes anything that has rows."""

    def score_samples(self, X):
        return np.zeros(X.shape[0] if hasattr(X, "shape") else len(X))


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((10, 3)),
        np.zeros((10, 3)).tolist(),
        np.zeros((10, 3, 4)),
        pd.DataFrame({"a": np.zeros(10)}, index=[7] * 10),
        [f"{i}.wav" for i in range(10)],
        [np.zeros(4)] * 10,
        Clips(["a.wav"] * 10, machine_id=["a", "b"] * 5),
        ClipSpectrograms.from_arrays(np.zeros((10, 8, 20)), segment_frames=16),
    ],
    ids=lambda X: type(X).__name__,
)
def test_rows_are_taken_of_all_kinds_of_x(X):
    tuner = ThresholdTuner(Remember(), false_alarm_rate=0.5).fit(X, [1] * 9 + [-1])
    seen = tuner.detector_.fitted_on_
    assert type(seen) is type(X)
    assert len(seen) in (7, 8)  # of 9 normal clips, or of 5 and 4
    assert tuner.predict(X).tolist() == [1] * 10


def test_sparse_tables_are_taken_where_the_detector_takes_them(rng):
    X = rng.normal(size=(100, 2))
    svm = ThresholdTuner(OneClassSVM(), random_state=0)
    dense = clone(svm).fit(X)
    np.testing.assert_array_equal(
        svm.fit(coo_array(X)).predict(X.copy()), dense.predict(X)
    )
    assert svm.__sklearn_tags__().input_tags.sparse
    assert not ThresholdTuner(Column()).__sklearn_tags__().input_tags.sparse


def test_clips_that_score_nan_are_counted_and_left_out_and_anomalous():
    tuner = tune([np.nan, np.nan, *range(19)], [np.nan])
    assert tuner.offset_ == 0
    assert tuner.n_validation_normal_ == 19
    assert tuner.n_validation_anomalous_ == 0
    assert tuner.n_validation_unusable_ == 3
    assert tuner.promise_.endswith(
        "based on 19 normal clips; without 3 clips that scored NaN"
    )
    assert tuner.predict([[np.nan], [0.0]]).tolist() == [-1, 1]
    assert tune([3, np.nan], [1, np.nan], policy="f1").offset_ == 2


# -- relations -------------------------------------------------------------------


def test_unseen_normal_clips_raise_the_promised_rate_of_false_alarms():
    rates = []
    for seed in range(200):
        X = np.random.default_rng(seed).normal(size=(1120, 1))
        tuner = ThresholdTuner(Column(), validation_fraction=0.5, random_state=seed)
        rates.append((tuner.fit(X[:120]).predict(X[120:]) == -1).mean())
    # 60 clips: the third, so 3/61, with a deviation of 0.028 in each of 200.
    assert np.mean(rates) == pytest.approx(3 / 61, abs=0.006)


@pytest.mark.parametrize("n_clips", [20, 1000])
def test_the_interval_covers_the_rate_with_its_probability(n_clips):
    covered = 0
    for seed in range(400):
        X = np.random.default_rng(seed).exponential(size=(100 + n_clips, 1))
        detector = FrozenEstimator(Column().fit(X))
        tuner = ThresholdTuner(detector, false_alarm_rate=0.1).fit(X[:100])
        low, high = tuner.false_alarm_interval(n_clips, level=0.9)
        covered += low <= (tuner.predict(X[100:]) == -1).mean() <= high
    assert covered / 400 > 0.9 - 3 * np.sqrt(0.9 * 0.1 / 400)


def test_more_clips_make_the_interval_narrower(rng):
    def width(n_validation, n_clips):
        low, high = tune(rng.normal(size=n_validation)).false_alarm_interval(n_clips)
        assert low <= 0.05 <= high
        return high - low

    assert width(100, 100) > width(100, 10_000) > width(1000, 10_000)


@pytest.mark.parametrize("policy", ["false_alarm_rate", "gamma", "f1", "escapes"])
def test_decisions_are_scores_relative_to_the_threshold(rng, policy):
    normal, anomalous = rng.normal(size=50), rng.normal(-4, 1, size=20)
    tuner = tune(normal, anomalous, policy=policy)
    X = np.append(normal, anomalous)[:, None]
    np.testing.assert_array_equal(tuner.score_samples(X), X[:, 0])
    np.testing.assert_array_equal(tuner.anomaly_score(X), -X[:, 0])
    np.testing.assert_array_equal(tuner.decision_function(X), X[:, 0] - tuner.offset_)
    np.testing.assert_array_equal(tuner.predict(X) == 1, X[:, 0] >= tuner.offset_)
    assert -4.5 < tuner.offset_ < -0.5


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5])
def test_no_lower_threshold_keeps_the_rate_of_escapes(rng, rate):
    normal, anomalous = rng.normal(size=200), rng.normal(-2, 1, size=50)
    tuner = tune(normal, anomalous, policy="escapes", max_escape_rate=rate)
    assert (anomalous >= tuner.offset_).mean() <= rate
    lower = anomalous[anomalous < tuner.offset_].max()  # an offset there misses it
    assert (anomalous >= lower).mean() > rate


# -- as an estimator -------------------------------------------------------------


@pytest.fixture
def X(rng):
    return np.vstack([rng.normal(size=(300, 2)), rng.normal(5, 1, size=(30, 2))])


@pytest.fixture
def y():
    return np.repeat([1, -1], [300, 30])


@pytest.mark.parametrize("policy", ["false_alarm_rate", "gamma", "f1", "escapes"])
def test_every_policy_finds_anomalies_in_a_pipeline(X, y, policy):
    detector = make_pipeline(StandardScaler(), IsolationForest(random_state=0))
    tuner = ThresholdTuner(detector, policy=policy, random_state=0).fit(X, y)
    verdicts = tuner.predict(X)
    assert (verdicts[y == -1] == -1).mean() > 0.9
    assert (verdicts[y == 1] == -1).mean() < 0.15
    outer = make_pipeline(StandardScaler(), clone(tuner).set_params(detector=detector))
    np.testing.assert_array_equal(outer.fit(X, y).predict(X), verdicts)


class DecisionsOnly(OutlierMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def decision_function(self, X):
        return X[:, 0]


@pytest.mark.parametrize(
    "detector", [OneClassSVM(), LocalOutlierFactor(novelty=True), DecisionsOnly()]
)
def test_detectors_of_all_kinds_are_tuned(X, detector):
    tuner = ThresholdTuner(detector, policy="gamma", random_state=0).fit(X[:300])
    scored = getattr(detector, "score_samples", detector.decision_function)
    scored = getattr(tuner.detector_, scored.__name__)
    np.testing.assert_array_equal(tuner.score_samples(X), scored(X))
    assert 0 < (tuner.predict(X[:300]) == -1).mean() < 0.2


def test_columns_and_their_names_are_the_detectors(X):
    table = pd.DataFrame(X, columns=["a", "b"])
    tuner = ThresholdTuner(IsolationForest(random_state=0)).fit(table)
    assert tuner.n_features_in_ == 2
    assert tuner.feature_names_in_.tolist() == ["a", "b"]
    tuner.set_params(detector=Column()).fit(X)
    assert not hasattr(tuner, "n_features_in_")
    assert not hasattr(tuner, "feature_names_in_")


def test_fit_predict_judges_the_clips_it_does_not_train_on(X, y):
    tuner = ThresholdTuner(IsolationForest(random_state=0), "f1", random_state=0)
    verdicts = tuner.fit_predict(X, y)
    assert verdicts.shape == (330,)
    np.testing.assert_array_equal(verdicts, clone(tuner).fit(X, y).predict(X))


def test_a_search_over_the_detector_and_the_policy(X, y):
    search = GridSearchCV(
        ThresholdTuner(IsolationForest(random_state=0), random_state=0),
        {"policy": ["gamma", "f1"], "detector__n_estimators": [5, 20]},
        scoring="balanced_accuracy",
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X, y)
    assert search.cv_results_["mean_test_score"].min() > 0.9


def test_saved_and_loaded_it_judges_and_promises_the_same(X, tmp_path):
    tuner = ThresholdTuner(IsolationForest(random_state=0), random_state=0).fit(X[:300])
    joblib.dump(tuner, tmp_path / "tuner.joblib")
    loaded = joblib.load(tmp_path / "tuner.joblib")
    np.testing.assert_array_equal(loaded.predict(X), tuner.predict(X))
    assert loaded.promise_ == tuner.promise_
    assert loaded.false_alarm_interval(50) == tuner.false_alarm_interval(50)


# -- errors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "needed"), [("f1", "normal and anomalous"), ("escapes", "anomalous")]
)
def test_policies_that_need_anomalies_say_so_before_anything_is_fitted(
    X, policy, needed
):
    tuner = ThresholdTuner(Column(), policy=policy, random_state=0)
    for labels, remedy in ((None, "pass them, marked"), (np.ones(330), "add some, ")):
        with pytest.raises(
            ValueError,
            match=f"66 are normal and 0 anomalous; .* needs {needed} ones: {remedy}",
        ):
            tuner.fit(X, labels)
    assert not hasattr(tuner, "detector_")


def test_f1_needs_normal_clips_too():
    with pytest.raises(
        ValueError, match="0 are normal and 2 anomalous; .*f1.*add normal"
    ):
        tune([], [1, 2], policy="f1")


@pytest.mark.parametrize("policy", ["false_alarm_rate", "gamma"])
def test_no_normal_clips_are_refused(policy):
    with pytest.raises(
        ValueError, match=r"0 are normal and 2 anomalous.*add normal clips, marked \+1"
    ):
        tune([], [1, 2], policy=policy)
    for y, seen in (([-1, -1], "0 normal clips"), ([1, -1], "1 normal clip")):
        with pytest.raises(ValueError, match=rf"{seen} \(n_samples=2\); at least two"):
            ThresholdTuner(Column(), policy=policy).fit(np.zeros((2, 1)), y)


def test_machines_with_one_clip_each_have_no_validation_clips():
    table = pd.DataFrame({"path": "x", "machine_id": ["a", "b"], "score": [1, 2]})
    with pytest.raises(ValueError, match="0 are normal and 0 anomalous.*add normal"):
        ThresholdTuner(Column()).fit(table)


@pytest.mark.parametrize("policy", ["false_alarm_rate", "gamma", "f1", "escapes"])
def test_scores_that_are_all_nan_are_refused(policy):
    with pytest.raises(ValueError, match="0 anomalous, and 5 scored NaN; .*find out"):
        tune([np.nan] * 3, [np.nan] * 2, policy=policy)


@pytest.mark.parametrize("scores", [[1.0], [1.0, 1.0], [1.0, -np.inf]])
def test_scores_without_a_gamma_distribution_are_refused(scores):
    with pytest.raises(ValueError, match="two different finite ones: .*set policy="):
        tune(scores, policy="gamma")


@pytest.mark.parametrize("policy", ["gamma", "f1", "escapes"])
def test_other_policies_have_no_interval_of_false_alarms(policy):
    tuner = tune([5, 6, 7], [1, 2], policy=policy)
    # What was fitted counts, not what is set for the next fit.
    tuner.set_params(policy="false_alarm_rate")
    with pytest.raises(ValueError, match="does not bound .*: fit with policy="):
        tuner.false_alarm_interval(10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "n_clips == 0"), ((10, 1.0), "level == 1.0"), ((10, 0.0), "level == 0.0")],
)
def test_impossible_intervals_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tune(np.arange(20)).false_alarm_interval(*arguments)


def test_labels_other_than_plus_and_minus_one(X):
    strange = np.arange(330) % 2
    with pytest.warns(UserWarning, match="y is ignored") as caught:
        ThresholdTuner(Column()).fit(X, strange)
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="y holds 0; labels are"):
        ThresholdTuner(Column(), policy="f1").fit(X, strange)
    clips = Clips(["a.wav"] * 4)
    with pytest.raises(ValueError, match="y holds 0; labels are"):
        ThresholdTuner(Remember()).fit(clips, [0, 1, 0, 1])


def test_detectors_that_cannot_score_are_refused_with_a_remedy(X):
    with pytest.raises(TypeError, match="LocalOutlierFactor has.*novelty=True"):
        ThresholdTuner(LocalOutlierFactor()).fit(X)


@pytest.mark.parametrize(
    "parameter",
    [
        {"detector": None},
        {"policy": "youden"},
        {"false_alarm_rate": 0},
        {"max_escape_rate": 1.0},
        {"validation_fraction": 1.0},
        {"random_state": "0"},
    ],
)
def test_wrong_parameters_are_refused(X, parameter):
    tuner = ThresholdTuner(**{"detector": Column()} | parameter)
    with pytest.raises(InvalidParameterError, match=f"'{next(iter(parameter))}'"):
        tuner.fit(X)


def test_nothing_is_judged_before_the_fit(X):
    tuner = ThresholdTuner(IsolationForest())
    for ask in (tuner.predict, tuner.score_samples, tuner.anomaly_score):
        with pytest.raises(NotFittedError):
            ask(X)
    with pytest.raises(NotFittedError):
        tuner.false_alarm_interval(10)


def test_scores_of_the_validation_clips_are_offered_to_an_ensemble(rng):
    X, y = rng.normal(size=(50, 2)), np.where(np.arange(50) % 10, 1, -1)
    tuner = ThresholdTuner(
        IsolationForest(random_state=0), false_alarm_rate=0.2, random_state=0
    ).fit(X, y)
    scored = ~np.isnan(tuner.training_score_samples_)
    assert scored.sum() == tuner.n_validation_normal_ == 9
    assert not (scored & (y == -1)).any()
    np.testing.assert_array_equal(
        tuner.training_score_samples_[scored], tuner.score_samples(X[scored])
    )


# -- a threshold for each machine ------------------------------------------------


class Mean(OutlierMixin, BaseEstimator):
    """Scores the level of each clip, of a table, and keeps no training scores."""

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return np.array([np.mean(audio) for audio in X["audio"]], dtype=float)


class LeftOut(Mean):
    """Knows its training clips' scores as if each had been left out: 1 lower."""

    leaves_clips_out = True

    def fit(self, X, y=None):
        self.training_score_samples_ = self.score_samples(X) - 1
        return self


def table_of(levels):
    """Clips of machines, each of a level."""
    rows = [(m, level) for m, values in levels.items() for level in values]
    machine, level = zip(*rows, strict=True)
    audio = [np.full(2, float(one)) for one in level]
    return pd.DataFrame({"audio": audio, "machine_id": machine})


def machines_apart(n=19):
    return table_of({"a": np.arange(n), "b": 100 + np.arange(n)})


def test_each_machine_whose_scores_are_its_own_gets_a_threshold():
    tuner = ThresholdTuner(PerMachine(LeftOut()), false_alarm_rate=0.1)
    tuner.fit(machines_apart())
    assert tuner.offsets_ == {"a": 0.0, "b": 100.0}  # the second of 19, 1 lower
    assert not hasattr(tuner, "offset_")
    assert tuner.uses_training_scores_
    assert tuner.n_validation_normal_ == 38
    new = table_of({"b": [99, 100], "a": [-1, 99]})
    np.testing.assert_array_equal(tuner.score_samples(new), [99, 100, -1, 99])
    np.testing.assert_array_equal(tuner.decision_function(new), [-1, 0, -1, 99])
    np.testing.assert_array_equal(tuner.predict(new), [-1, 1, -1, 1])
    assert tuner.promise_ == (
        "of each of 2 machines, about 10 % of unseen normal clips are called "
        "anomalous, based on 19 training clips (each left out of the fit)"
    )


def test_a_share_is_held_out_of_detectors_without_training_scores():
    tuner = ThresholdTuner(PerMachine(Mean()), false_alarm_rate=0.5, random_state=0)
    tuner.fit(machines_apart(20))
    assert not tuner.uses_training_scores_
    assert tuner.n_validation_normal_ == 8
    assert tuner.offsets_["a"] < 20 < 100 <= tuner.offsets_["b"]
    assert tuner.promise_ == (
        "of each of 2 machines, at most 50 % of unseen normal clips are called "
        "anomalous, based on 4 normal clips"
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda detector: detector,
        lambda detector: make_pipeline("passthrough", detector),
        lambda detector: OnlyMachineTypes(detector, "fan"),
        lambda detector: ThresholdTuner(detector, false_alarm_rate=0.3),
    ],
    ids=["alone", "pipeline", "types", "tuner"],
)
def test_machines_apart_are_found_inside_of_other_detectors(wrap):
    X = machines_apart().assign(machine_type="fan")
    tuner = ThresholdTuner(
        wrap(PerMachine(LeftOut())),
        false_alarm_rate=0.1,
        validation_fraction="training_scores",
    )
    assert tuner.fit(X).offsets_ == {"fan/a": 0.0, "fan/b": 100.0}
    frozen = ThresholdTuner(FrozenEstimator(tuner.detector_), false_alarm_rate=0.1)
    assert frozen.fit(X).offsets_ == {"fan/a": 1.0, "fan/b": 101.0}  # as they are


def test_scores_that_an_ensemble_makes_comparable_have_one_threshold(rng):
    X = table_of({"a": rng.normal(size=40), "b": 100 + rng.normal(size=40)})
    members = [("mean", PerMachine(Mean()))]
    for group_by, is_by_machine in (("machine_id", False), (None, True)):
        ensemble = GammaProbabilityEnsemble(members, group_by=group_by)
        tuner = ThresholdTuner(ensemble, false_alarm_rate=0.2, random_state=0).fit(X)
        assert hasattr(tuner, "offsets_") == is_by_machine
        assert hasattr(tuner, "offset_") != is_by_machine


@pytest.mark.parametrize(
    ("policy", "offsets"),
    [
        ("f1", {"a": 2.0, "b": 97.5}),
        ("escapes", {"a": 2.0, "b": 97.5}),
        (
            lambda normal, anomalous, tuner: Threshold(normal.min(), "lowest"),
            {"a": 3.0, "b": 99.0},
        ),
    ],
)
def test_every_policy_decides_for_each_machine(policy, offsets):
    X = table_of({"a": [4, 6, 8, 1], "b": [100, 106, 96]})
    y = [1, 1, 1, -1, 1, 1, -1]
    tuner = ThresholdTuner(PerMachine(LeftOut()), policy).fit(X, y)
    assert tuner.offsets_ == offsets


def test_gamma_distributions_are_of_each_machine(rng):
    scores = -rng.gamma(3, size=60)
    X = table_of({"a": scores[:30], "b": 50 * scores[30:]})
    tuner = ThresholdTuner(PerMachine(LeftOut()), "gamma").fit(X)
    for name, own in (("a", scores[:30] - 1), ("b", 50 * scores[30:] - 1)):
        expected = tune(own, policy="gamma").offset_  # the sum is in another order
        assert tuner.offsets_[name] == pytest.approx(expected, rel=1e-12)


def test_machines_without_the_clips_that_a_policy_needs_are_named():
    X = table_of({"a": [4, 6, 8, 1], "b": [100, 106, 109]})
    y = [1, 1, 1, -1, 1, 1, 1]
    tuner = ThresholdTuner(PerMachine(LeftOut()), "f1")
    with pytest.raises(
        ValueError, match="of machine 'b', 3 are normal and 0 anomalous; .*add some"
    ):
        tuner.fit(X, y)
    tuner.set_params(policy="gamma", validation_fraction=0.5)
    with pytest.raises(ValueError, match="of machine 'c', 0 are normal and 0 anom"):
        tuner.fit(table_of({"a": [4, 6, 8], "c": [1]}))
    with pytest.raises(ValueError, match="^machine 'c': the scores .* are of 1 clip"):
        tuner.fit(table_of({"a": [4, 6, 8], "c": [1, 2]}))


def test_promises_and_warnings_name_machines_that_differ():
    X = table_of({"a": np.arange(19), "b": np.arange(8), "c": np.arange(9)})
    tuner = ThresholdTuner(PerMachine(LeftOut()), false_alarm_rate=0.1)
    with pytest.warns(UserWarning, match="no alarm is raised for b: of b, ") as caught:
        tuner.fit(X)
    assert caught[0].filename == __file__
    assert tuner.promise_ == (
        "of a, about 10 % of unseen normal clips are called anomalous, based on 19 "
        "training clips (each left out of the fit); of b, no clip is called "
        "anomalous, as 8 training clips (each left out of the fit) cannot promise "
        "10 % of false alarms; it takes 9; of c, about 10 % of unseen normal clips are "
        "called anomalous, based on 9 training clips (each left out of the fit)"
    )
    assert tuner.predict(table_of({"b": [-99], "c": [-99]})).tolist() == [1, -1]


def test_machines_with_a_tuner_of_their_own_are_named_in_the_warning():
    X = table_of({"a": np.arange(30), "b": np.arange(100)})
    detector = PerMachine(ThresholdTuner(LeftOut(), random_state=0))
    with pytest.warns(UserWarning, match="no clip is called anomalous") as caught:
        detector.fit(X)
    inner, outer = [str(one.message) for one in caught]
    assert 'set validation_fraction="training_scores", or raise' in inner
    assert outer.startswith("no alarm is raised for a: of a, no clip is called anom")
    assert caught[1].filename == __file__
    assert detector.promise_.startswith("of a, no clip is called anomalous, as 6 norm")
    assert detector.promise_.endswith("based on 20 normal clips")


def test_training_scores_set_one_threshold_where_they_are_asked_for(rng):
    X = rng.normal(size=(99, 2))
    detector = MahalanobisDetector()
    tuner = ThresholdTuner(detector, validation_fraction="training_scores").fit(X)
    expected = detector.fit(X).training_score_samples_
    assert tuner.offset_ == np.sort(expected)[4]
    np.testing.assert_array_equal(tuner.training_score_samples_, expected)
    np.testing.assert_array_equal(tuner.score_samples(X), detector.score_samples(X))
    assert not ThresholdTuner(detector).fit(X).uses_training_scores_


def test_training_scores_that_do_not_exist_are_refused_with_a_remedy(rng):
    X = rng.normal(size=(50, 2))
    tuner = ThresholdTuner(IsolationForest(), validation_fraction="training_scores")
    with pytest.raises(ValueError, match=r"IsolationForest has no scores .* as 0\.2"):
        tuner.fit(X)
    frozen = FrozenEstimator(MahalanobisDetector().fit(X))
    with pytest.raises(ValueError, match="FrozenEstimator was fitted earlier"):
        tuner.set_params(detector=frozen).fit(X)


def test_intervals_are_of_one_machine():
    tuner = ThresholdTuner(PerMachine(LeftOut()), false_alarm_rate=0.1)
    tuner.fit(table_of({"a": np.arange(19), "b": np.arange(39)}))
    for name, n in (("a", 19), ("b", 39)):
        one = tune(np.arange(n), false_alarm_rate=0.1)
        assert tuner.false_alarm_interval(50, machine=name) == (
            one.false_alarm_interval(50)
        )
    with pytest.raises(ValueError, match="own threshold: set machine to one of a, b"):
        tuner.false_alarm_interval(50)
    with pytest.raises(ValueError, match="'c'"):
        tuner.false_alarm_interval(50, machine="c")
    with pytest.raises(ValueError, match="leave machine at None"):
        one.false_alarm_interval(50, machine="a")


def test_unknown_machines_are_refused_as_by_the_detector():
    tuner = ThresholdTuner(PerMachine(LeftOut()), false_alarm_rate=0.1)
    tuner.fit(machines_apart())
    for ask in (tuner.predict, tuner.detector_.score_samples):
        with pytest.raises(ValueError, match="not among those fitted: c; known are"):
            ask(table_of({"c": [1]}))
    with pytest.raises(ValueError, match="to set a threshold for each machine"):
        tuner.fit(machines_apart().drop(columns="machine_id"))
    frozen = FrozenEstimator(tuner.fit(machines_apart()).detector_)
    only_a = ThresholdTuner(frozen, false_alarm_rate=0.1).fit(
        table_of({"a": np.arange(19)})
    )
    with pytest.raises(ValueError, match="not among those fitted: b; known are a"):
        only_a.predict(table_of({"b": [100]}))


def test_clips_that_score_nan_are_left_out_of_their_machine():
    X = table_of({"a": np.arange(19), "b": [*range(19), np.nan]})
    tuner = ThresholdTuner(PerMachine(LeftOut()), false_alarm_rate=0.1).fit(X)
    assert tuner.offsets_ == {"a": 0.0, "b": 0.0}
    assert tuner.n_validation_unusable_ == 1
    assert tuner.promise_.endswith("; without 1 clip that scored NaN")
    assert tuner.predict(table_of({"b": [np.nan]})) == -1
    with pytest.raises(ValueError, match="of machine 'b', 0 .* and 19 scored NaN"):
        tuner.fit(table_of({"a": np.arange(19), "b": [np.nan] * 19}))


def test_thresholds_of_machines_are_kept_in_files(tmp_path, rng):
    X = ClipSpectrograms.from_arrays(
        rng.normal(size=(60, 4, 12)),
        machine_id=np.repeat(["a", "b"], 30),
        segment_frames=6,
    )
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    for model in (
        ThresholdTuner(detector, false_alarm_rate=0.2),
        ThresholdTuner(detector, "gamma"),
        PerMachine(
            make_pipeline(
                SpectrumStatistics(),
                ThresholdTuner(MahalanobisDetector(), false_alarm_rate=0.3),
            )
        ),
    ):
        save_model(model.fit(X), tmp_path / "model.asd")
        loaded = load_model(tmp_path / "model.asd")
        np.testing.assert_array_equal(
            loaded.decision_function(X), model.decision_function(X)
        )
        assert loaded.offsets_ == model.offsets_
        assert loaded.promise_ == model.promise_
    tuner = ThresholdTuner(detector, false_alarm_rate=0.2).fit(X)
    save_model(tuner, tmp_path / "model.asd")
    assert load_model(tmp_path / "model.asd").false_alarm_interval(
        9, machine="a"
    ) == tuner.false_alarm_interval(9, machine="a")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"offsets_": {"a": np.nan, "b": 0.0}}, "offsets_ is nan"),
        ({"offsets_": {"a": "0", "b": 0.0}}, "offsets_ holds '0', which is no number"),
        ({"offsets_": {"a": 0.0}}, "_ranks is not of the machines of offsets_"),
        ({"offsets_": {}, "_ranks": {}}, "_ranks is not of the machines of offsets_"),
        ({"_ranks": {"a": (9, 8), "b": (1, 8)}}, "a threshold of rank 9 of 8 clips"),
        ({"_ranks": {"a": (1.5, 8), "b": (1, 8)}}, "_ranks holds"),
        ({"offset_": 0.0}, "has one threshold and several"),
    ],
)
def test_files_hold_no_thresholds_that_no_fit_sets(tmp_path, rng, broken, message):
    X = ClipSpectrograms.from_arrays(
        rng.normal(size=(40, 4, 12)),
        machine_id=np.repeat(["a", "b"], 20),
        segment_frames=6,
    )
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    tuner = ThresholdTuner(detector, false_alarm_rate=0.2).fit(X)
    vars(tuner).update(broken)
    with pytest.raises(ValueError, match=message):
        save_model(tuner, tmp_path / "model.asd")


# -- the case of a new user ------------------------------------------------------


def detect_cars(normal, test, **parameters):
    """Alarms on clips of machines whose distances are of different scales."""
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    tuner = ThresholdTuner(detector, random_state=0, **parameters).fit(normal)
    return tuner.predict(test) == -1


def test_anomalies_of_machines_of_different_scales_are_found(rng):
    """One threshold finds those of the widest machine only."""
    scale, machine = np.repeat([1.0, 10, 100], 30), np.repeat(["a", "b", "c"], 30)

    def draw(shift):
        frames = rng.normal(size=(90, 8, 1)) * scale[:, None, None]
        frames = frames + shift * scale[:, None, None] * (np.arange(8) == 3)[:, None]
        noise = 0.1 * rng.normal(size=(90, 8, 10))
        return ClipSpectrograms.from_arrays(
            frames + noise, machine_id=machine, segment_frames=5
        )

    normal, test, faulty = draw(0), draw(0), draw(12)
    assert detect_cars(normal, faulty).mean() > 0.9
    assert detect_cars(normal, test).mean() < 0.15


def test_anomalies_of_the_cars_of_2023_are_found(recordings):
    """With one threshold for all cars 0 of 25 were found, at 10 % and 5 % (2 and 0).

    The test clips are of other days, so more of them raise an alarm.
    """
    clips = load_clips(recordings("toycar2023"))
    clips["machine_id"] = clips["car"]
    train, test = (clips[clips["split"] == part] for part in ("train", "test"))
    y = test["label"].to_numpy()
    segment = LogMelSegmenter(segment_duration=None, n_jobs=2).fit(train)
    normal, new = segment.transform(train), segment.transform(test)
    alarm = detect_cars(normal, new)
    assert (alarm[y == -1].sum(), alarm[y == 1].sum()) == (3, 2)
    alarm = detect_cars(normal, new, false_alarm_rate=0.1)
    assert (alarm[y == -1].sum(), alarm[y == 1].sum()) == (11, 7)


# -- a threshold for each group of clips ------------------------------------------


def domains_apart(n=19):
    table = table_of({"a": np.append(np.arange(n), 100 + np.arange(n))})
    return table.assign(domain=np.repeat(["source", "target"], n))


@pytest.mark.parametrize("group_by", ["domain", ["domain"], ("domain",)])
def test_each_domain_gets_a_threshold(group_by):
    tuner = ThresholdTuner(LeftOut(), false_alarm_rate=0.1, group_by=group_by).fit(
        domains_apart()
    )
    assert tuner.offsets_ == {"source": 0.0, "target": 100.0}
    assert tuner.group_by_ == ["domain"]
    assert not hasattr(tuner, "offset_")
    new = table_of({"a": [-1, 0, 99, 100]})
    new["domain"] = ["source", "source", "target", "target"]
    np.testing.assert_array_equal(tuner.decision_function(new), [-1, 0, -1, 0])
    assert tuner.false_alarm_interval(10, machine="target")[0] == 0
    with pytest.raises(ValueError, match="no 'domain' for some or all .* group_by"):
        tuner.predict(new.drop(columns="domain"))
    with pytest.raises(
        ValueError, match=r"X holds clips of other, and .* source, targ"
    ):
        tuner.predict(new.assign(domain="other"))


def test_machines_whose_scores_are_their_own_are_groups_too():
    X = pd.concat([domains_apart(), domains_apart().assign(machine_id="b")])
    tuner = ThresholdTuner(
        PerMachine(LeftOut()), false_alarm_rate=0.1, group_by="domain"
    ).fit(X)
    assert tuner.group_by_ == ["machine_id", "domain"]
    assert tuner.offsets_ == {
        f"{machine}, domain {domain}": offset
        for machine in "ab"
        for domain, offset in (("source", 0.0), ("target", 100.0))
    }
    only = OnlyMachineTypes(tuner, "fan").fit(X.assign(machine_type="fan"))
    new = X.assign(machine_type="fan")
    np.testing.assert_array_equal(only.predict(new), tuner.predict(X))


def test_clips_are_held_out_of_each_group():
    tuner = ThresholdTuner(
        Mean(), false_alarm_rate=0.2, group_by="domain", random_state=0
    ).fit(domains_apart(20))
    assert tuner.n_validation_normal_ == 8
    assert tuner.offsets_["source"] < 20 < 100 <= tuner.offsets_["target"]


def test_one_threshold_for_a_machine_cannot_be_one_for_each_domain():
    X = domains_apart()
    wrong = PerMachine(
        ThresholdTuner(LeftOut(), false_alarm_rate=0.1, group_by="domain")
    )
    with pytest.raises(
        ValueError, match=r"thresholds by \['domain'\], and one is need"
    ):
        wrong.fit(X)


def test_thresholds_of_groups_are_saved(rng, tmp_path):
    log_mels = ClipSpectrograms.from_arrays(
        rng.normal(size=(40, 4, 20)),
        machine_id=["00"] * 40,
        domain=["source", "target"] * 20,
        segment_frames=10,
    )
    statistics = make_pipeline(SpectrumStatistics(), MahalanobisDetector(n_folds=3))
    tuner = ThresholdTuner(
        statistics, false_alarm_rate=0.5, group_by=["machine_id", "domain"]
    ).fit(log_mels)
    save_model(tuner, tmp_path / "tuner.asd")
    loaded = load_model(tmp_path / "tuner.asd")
    assert loaded.offsets_ == tuner.offsets_
    assert set(loaded.offsets_) == {"00, domain source", "00, domain target"}
    np.testing.assert_array_equal(loaded.predict(log_mels), tuner.predict(log_mels))
