import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin, clone, is_outlier_detector
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from sklearn_asd import (
    ClipSpectrograms,
    LogMelSegmenter,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
)
from sklearn_asd.audio import Clips
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.detectors import AutoencoderDetector
from sklearn_asd.features import SpectrumStatistics
from sklearn_asd.metrics import auc_table

LEVELS = {"a": 0.0, "b": 5.0, "c": 10.0}


class Level(OutlierMixin, BaseEstimator):
    """Anomalous is what is far from the training clips' mean level."""

    def fit(self, X, y=None):
        assert y is None
        self.n_fitted_ = len(X)
        self.level_ = self.levels(X).mean()
        self.offset_ = -2.0
        return self

    def levels(self, X):
        if isinstance(X, pd.DataFrame):
            return np.array([np.mean(audio) for audio in X["audio"]])
        if isinstance(X, Clips):
            return np.array([np.mean(audio) for audio in X.sources])
        return np.array([X.log_mel(row).mean() for row in range(len(X))])

    def score_samples(self, X):
        return -np.abs(self.levels(X) - self.level_)

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        return np.where(self.decision_function(X) >= 0, 1, -1)


def make_clips(n_per_machine=20, machines="cab", seed=0, shift=0.0):
    """Clips of machines that differ in level, in an order that is not theirs."""
    rng = np.random.default_rng(seed)
    machine = np.array(list(machines) * n_per_machine)
    level = np.array([LEVELS[name] for name in machine]) + shift
    log_mels = rng.normal(size=(len(machine), 4, 12)) + level[:, None, None]
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine, segment_frames=6, segment_hop_frames=6
    )


def make_forests(**parameters):
    forest = IsolationForest(random_state=0, n_estimators=20)
    return PerMachine(make_pipeline(SpectrumStatistics(), forest), **parameters)


def rows_of(X, machine):
    return np.flatnonzero(X.machine_id == machine)


# --- known answers


def test_each_clip_is_scored_by_the_detector_of_its_machine():
    audio = [[1.0, 1.0], [10.0, 10.0], [3.0, 3.0], [14.0, 14.0]]
    clips = pd.DataFrame(
        {"audio": map(np.array, audio), "machine_id": ["00", "02", "00", "02"]},
        index=[7, 7, 3, 1],  # rows count, not the index
    )
    detector = PerMachine(Level()).fit(clips)
    assert detector.classes_.tolist() == ["00", "02"]
    assert {k: e.level_ for k, e in detector.estimators_.items()} == {
        "00": 2.0,
        "02": 12.0,
    }
    new = pd.DataFrame({"audio": [np.array([11.0])] * 2, "machine_id": ["02", "00"]})
    np.testing.assert_array_equal(detector.score_samples(new), [-1, -9])
    np.testing.assert_array_equal(detector.decision_function(new), [1, -7])
    np.testing.assert_array_equal(detector.predict(new), [1, -1])
    assert detector.offsets_ == {"00": -2.0, "02": -2.0}


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(random_state=0),
        LocalOutlierFactor(n_neighbors=3, novelty=True),
        OneClassSVM(),
        GridSearchCV(
            IsolationForest(random_state=0),
            {"n_estimators": [10]},
            scoring=lambda estimator, X: 0.0,
        ),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_results_are_those_of_detectors_fitted_one_by_one(detector):
    X, new = make_clips(), make_clips(5, seed=1, shift=0.5)
    estimator = make_pipeline(SpectrumStatistics(), StandardScaler(), detector)
    together = PerMachine(estimator).fit(X)
    for machine in LEVELS:
        alone = clone(estimator).fit(X[rows_of(X, machine)])
        rows = rows_of(new, machine)
        for method in ("decision_function", "predict"):
            np.testing.assert_allclose(
                getattr(together, method)(new)[rows],
                getattr(alone, method)(new[rows]),
                atol=1e-12,
            )
        if hasattr(alone, "score_samples"):
            np.testing.assert_array_equal(
                together.score_samples(new)[rows], alone.score_samples(new[rows])
            )


def test_scores_of_detectors_in_pyods_manner_are_turned():
    class Base(BaseEstimator):  # as pyod.models.base.BaseDetector
        __module__ = "pyod.models.base"

        def fit(self, X, y=None):
            self.threshold_ = 7.0
            return self

        def decision_function(self, X):
            return X[:, 0]

    X = make_clips(1)
    detector = PerMachine(make_pipeline(SpectrumStatistics(), Base())).fit(X)
    level = SpectrumStatistics().transform(X)[:, 0]
    np.testing.assert_array_equal(detector.score_samples(X), -level)
    np.testing.assert_allclose(detector.decision_function(X), 7 - level)
    assert set(detector.offsets_.values()) == {-7.0}


def test_machines_are_named_by_type_and_id():
    X = make_clips(4, machines="ab")
    X.machine_type = np.array(["pump", "fan"] * 4, dtype=object)
    detector = PerMachine(Level()).fit(X)
    assert detector.classes_.tolist() == ["fan/b", "pump/a"]
    assert list(detector.estimators_) == ["fan/b", "pump/a"]


def test_clips_whose_audio_is_elsewhere_are_passed_on_as_such():
    clips = Clips([np.array([1.0]), np.array([5.0])], machine_id=["a", "b"])
    np.testing.assert_array_equal(PerMachine(Level()).fit(clips).predict(clips), [1, 1])


# --- honest training scores


def test_honest_training_scores_of_all_machines_are_put_together():
    X, y = make_clips(), np.ones(60, dtype=int)
    y[:2] = -1
    X.stops[3] = X.starts[3]
    distance = MahalanobisDetector(n_folds=3)
    detector = PerMachine(make_pipeline(SpectrumStatistics(), distance)).fit(X, y)
    scores = detector.training_score_samples_
    assert np.flatnonzero(np.isnan(scores)).tolist() == [0, 1, 3]
    trained_on = ~np.isnan(scores)
    for machine, estimator in detector.estimators_.items():
        rows = np.flatnonzero(trained_on & (X.machine_id == machine))
        np.testing.assert_array_equal(
            scores[rows], estimator[-1].training_score_samples_
        )


def test_training_scores_are_absent_without_honest_ones():
    X = make_clips()
    distance = MahalanobisDetector(n_folds=3)
    detector = PerMachine(make_pipeline(SpectrumStatistics(), distance)).fit(X)
    assert hasattr(detector, "training_score_samples_")
    detector.set_params(estimator=Level()).fit(X)
    assert not hasattr(detector, "training_score_samples_")


# --- relations


def test_the_chain_of_methods():
    X, new = make_clips(), make_clips(5, seed=1, shift=1.0)
    detector = make_forests().fit(X)
    offset = np.array([detector.offsets_[machine] for machine in new.machine_id])
    decisions = detector.decision_function(new)
    np.testing.assert_array_equal(decisions, detector.score_samples(new) - offset)
    np.testing.assert_array_equal(
        detector.predict(new), np.where(decisions >= 0, 1, -1)
    )
    np.testing.assert_array_equal(
        detector.anomaly_score(new), -detector.score_samples(new)
    )
    assert decisions.dtype == np.float64
    assert detector.predict(new).dtype.kind == "i"
    assert is_outlier_detector(detector)


def test_a_machine_with_anomalies_only_is_not_learnt():
    X = make_clips()
    detector = PerMachine(Level()).fit(X, np.where(X.machine_id == "b", -1, 1))
    assert detector.classes_.tolist() == ["a", "c"]


@pytest.mark.parametrize(
    "estimator",
    [
        make_forests().estimator,
        AutoencoderDetector(max_epochs=2, batch_size=32, random_state=0),
    ],
    ids=["forest", "autoencoder"],
)
def test_two_jobs_give_the_result_of_one(estimator):
    X = make_clips()
    one = PerMachine(estimator).fit(X)
    two = PerMachine(estimator, n_jobs=2).fit(X)
    np.testing.assert_allclose(two.score_samples(X), one.score_samples(X), rtol=1e-6)
    np.testing.assert_array_equal(two.classes_, one.classes_)


def test_a_random_state_that_is_drawn_from_serves_each_machine_alike():
    X = make_clips()
    forest = make_forests().estimator
    forest.set_params(isolationforest__random_state=np.random.RandomState(3))
    scores = [PerMachine(forest).fit(X).score_samples(X) for _ in range(2)]
    np.testing.assert_array_equal(scores[0], scores[1])


def test_fit_leaves_the_estimator_unfitted():
    level = Level()
    PerMachine(level).fit(make_clips())
    assert not hasattr(level, "level_")


# --- bad clips


@pytest.mark.parametrize("kind", [PerMachine, OnlyMachineTypes])
def test_a_frozen_detector_is_not_fitted_again(kind):
    sounds = make_machine_sounds(
        "fan", n_machines=1, n_train=6, duration=4.0, random_state=0
    )
    train = sounds[sounds["split"] == "train"]
    fitted = make_pipeline(
        LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()
    ).fit(train)
    first = {"machine_types": "fan"} if kind is OnlyMachineTypes else {}
    detector = kind(estimator=FrozenEstimator(fitted), **first).fit(train)
    np.testing.assert_array_equal(
        detector.score_samples(train), fitted.score_samples(train)
    )


def test_unusable_clips_are_not_passed_on_and_score_nan():
    """LocalOutlierFactor would refuse their rows of NaN."""
    factor = LocalOutlierFactor(n_neighbors=3, novelty=True)
    estimator = make_pipeline(SpectrumStatistics(), factor)
    X = make_clips()
    X.stops[[3, 7]] = X.starts[[3, 7]]
    good = np.setdiff1d(np.arange(60), [3, 7])
    detector = PerMachine(estimator).fit(X)
    scores = detector.score_samples(X)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [3, 7]
    np.testing.assert_array_equal(
        scores[good], PerMachine(estimator).fit(X[good]).score_samples(X[good])
    )
    assert (detector.predict(X)[[3, 7]] == -1).all()
    assert np.isnan(detector.score_samples(X[[3]])).all()
    with pytest.raises(ValueError, match="no usable normal clip"):
        PerMachine(estimator).fit(X[[3, 7]])


def test_an_empty_selection_has_empty_results():
    X = make_clips()
    detector = make_forests().fit(X)
    assert detector.score_samples(X[:0]).shape == (0,)
    assert detector.predict(X[:0]).shape == (0,)


# --- searches and saving


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_reaches_the_estimator_inside(n_jobs):
    normal, anomalous = make_clips(), make_clips(seed=1, shift=3.0)
    X = ClipSpectrograms(
        np.vstack([normal.frames, anomalous.frames]),
        np.vstack([normal.starts, anomalous.starts + len(normal.frames)]),
        np.vstack([normal.stops, anomalous.stops + len(normal.frames)]),
        machine_id=[*normal.machine_id, *anomalous.machine_id],
        segment_frames=6,
    )
    y = np.repeat([1, -1], 60)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(
        make_forests(),
        {"estimator__isolationforest__n_estimators": [5, 20]},
        scoring="roc_auc",
        cv=list(folds.split(y, X.machine_id + y.astype(str))),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X, y)
    assert (search.cv_results_["mean_test_score"] > 0.75).all()
    n_estimators = search.best_params_["estimator__isolationforest__n_estimators"]
    inner = search.best_estimator_.estimators_["a"]
    assert inner["isolationforest"].n_estimators == n_estimators


def test_a_pipeline_from_recordings_survives_joblib(tmp_path):
    clips = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=12,
        n_test_normal=6,
        n_test_anomalous=6,
        duration=4.0,
        random_state=0,
    )
    train = clips[clips["split"] == "train"]
    test = clips[clips["split"] == "test"]
    factor = LocalOutlierFactor(n_neighbors=2, novelty=True)
    detect = PerMachine(make_pipeline(SpectrumStatistics(), factor))
    pipe = make_pipeline(LogMelSegmenter(), detect).fit(train, train["label"])
    scores = pipe.score_samples(test)
    table = auc_table(test, test["label"], scores)
    assert table["auc"].iloc[-1] > 0.6
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(loaded.score_samples(test), scores)
    assert not hasattr(clone(pipe)["permachine"], "estimators_")


# --- errors


def test_missing_machine_ids_are_refused_with_the_remedy():
    X = make_clips()
    detector = PerMachine(Level()).fit(X)
    X.machine_id[[2, 5]] = None
    with pytest.raises(
        ValueError, match="missing for clips 2, 5 of those used, and is needed to fit"
    ):
        PerMachine(Level()).fit(X)
    X.machine_id = None
    with pytest.raises(ValueError, match="no machine IDs.*choose the detector.*column"):
        detector.score_samples(X)
    with pytest.raises(ValueError, match="no machine IDs.*column machine_id"):
        PerMachine(Level()).fit(np.zeros((4, 100)))


def test_unseen_machines_are_refused_by_name():
    detector = PerMachine(Level()).fit(make_clips(machines="ab"))
    with pytest.raises(
        ValueError, match="not among those fitted: c; known are a, b.*or fit again"
    ):
        detector.predict(make_clips())


@pytest.mark.parametrize(
    "estimator",
    [
        LocalOutlierFactor(),
        make_pipeline(SpectrumStatistics(), LocalOutlierFactor()),
        StandardScaler(),
    ],
    ids=["factor", "pipeline", "scaler"],
)
def test_an_estimator_that_cannot_score_is_refused_before_it_is_fitted(estimator):
    with pytest.raises(TypeError, match="has neither score_samples nor .*novelty=True"):
        PerMachine(estimator).fit(make_clips())


def test_parameters_that_are_not_estimators_are_refused():
    with pytest.raises(ValueError, match="The 'estimator' parameter"):
        PerMachine("forest").fit(make_clips())
    with pytest.raises(ValueError, match="The 'n_jobs' parameter"):
        PerMachine(Level(), n_jobs=1.5).fit(make_clips())


def test_an_estimator_without_threshold_scores_and_does_not_judge():
    mixture = make_pipeline(SpectrumStatistics(), GaussianMixture(random_state=0))
    detector = PerMachine(mixture).fit(make_clips())
    assert np.isfinite(detector.score_samples(make_clips())).all()
    for name in ("decision_function", "predict", "offsets_"):
        assert not hasattr(detector, name)


@pytest.mark.parametrize("y", [[0] * 60, [1] * 59, [-1] * 60])
def test_labels_that_cannot_be_used_are_refused(y):
    with pytest.raises(ValueError, match="y holds 0|y has shape|no usable normal clip"):
        PerMachine(Level()).fit(make_clips(), y)
