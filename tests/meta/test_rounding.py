"""Detectors that know their training clips by heart, as members and with thresholds."""

import warnings

import numpy as np
import pandas as pd
import pytest
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd.meta.scoring import anomaly_scores, honest_training_scores


@pytest.fixture
def normal():
    return np.random.default_rng(0).normal(size=(80, 4))


@pytest.fixture
def unseen():
    return np.random.default_rng(1).normal(size=(200, 4))


class Near(BaseEstimator):
    """The nearest training row in PyOD's manner, which for a training row is itself."""

    def __init__(self, keeps="nothing", unit=1.0):
        self.keeps = keeps
        self.unit = unit

    def fit(self, X, y=None):
        X = np.asarray(X, dtype=float)
        self.search_ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(X)
        self.decision_scores_ = self.decision_function(X)
        if self.keeps == "honest":
            self.decision_scores_ = self.unit * self.search_.kneighbors()[0][:, 0]
        if self.keeps == "rounding":
            self.decision_scores_ = 1e-12 * np.abs(X[:, 0])
        self.threshold_ = np.percentile(self.decision_scores_, 90)
        return self

    def decision_function(self, X):
        return self.unit * self.search_.kneighbors(np.asarray(X, dtype=float))[0][:, 0]


class Table(OutlierMixin, BaseEstimator):
    """Looks rows up, and scores known ones by a number and others by their length."""

    def __init__(self, known=0.0, level=0.0):
        self.known = known
        self.level = level

    def fit(self, X, y=None):
        self.rows_ = {row.tobytes() for row in np.asarray(X)}
        return self

    def score_samples(self, X):
        X = np.asarray(X)
        is_known = np.array([row.tobytes() in self.rows_ for row in X])
        length = np.linalg.norm(X, axis=1)
        return -self.level - np.where(is_known, self.known * length, length)


class Counts(OutlierMixin, BaseEstimator):
    """How many columns lie outside what was seen: few different scores."""

    def fit(self, X, y=None):
        self.low_, self.high_ = np.quantile(X, [0.05, 0.95], axis=0)
        return self

    def score_samples(self, X):
        return -((X < self.low_) | (X > self.high_)).sum(axis=1).astype(float)


def alarms(detector, X):
    return (detector.predict(X) == -1).mean()


HONEST = {
    "PyOD's nearest neighbour": KNN(n_neighbors=1),
    "one in its manner": Near("honest"),
    "one in small units": Near("honest", unit=1e-9),
    "local outlier factor": LocalOutlierFactor(n_neighbors=1, novelty=True),
    "in a Pipeline": make_pipeline(StandardScaler(), KNN(n_neighbors=1)),
}
LAZY = {
    "neighbours": Near(),
    "neighbours that keep other rounding": Near("rounding"),
    "neighbours in small units": Near(unit=1e-9),
    "neighbours in large units": Near(unit=1e6),
    "in a Pipeline": make_pipeline(StandardScaler(), Near()),
    "a table": Table(),
    "a table with tiny scores": Table(known=1e-12),
    "a table far from 0": Table(known=1e-9, level=1.0),
    "a table of tiny rows": make_pipeline(
        FunctionTransformer(lambda X: 1e-8 * X), Table(known=1e-10)
    ),
}
FINE = {
    "forest": IsolationForest(random_state=0),
    "PyOD's forest": IForest(random_state=0),
    "support vectors": OneClassSVM(),
    "few different scores": Counts(),
    "a scale of its own": make_pipeline(
        FunctionTransformer(lambda X: 1e-9 * X), Table(known=0.9)
    ),
    "too sure, but no rounding": Table(known=0.1),
}


def cases(table):
    return pytest.mark.parametrize("detector", table.values(), ids=table)


# -- known answers ---------------------------------------------------------------


def test_scores_that_a_detector_keeps_are_those_of_rows_left_out():
    X = np.array([[0.0], [1.0], [3.0], [7.0]])
    knn = KNN(n_neighbors=1).fit(X)
    np.testing.assert_allclose(anomaly_scores(knn, X), 0)
    np.testing.assert_allclose(honest_training_scores(knn, X), [1, 1, 2, 4])
    assert honest_training_scores(knn) is None
    assert honest_training_scores(FrozenEstimator(knn), X) is None
    assert honest_training_scores(knn, X[:3]) is None
    behind = make_pipeline(StandardScaler(), KNN(n_neighbors=1)).fit(X)
    np.testing.assert_allclose(
        honest_training_scores(behind, X), [1, 1, 2, 4] / X.std()
    )


def test_scores_that_are_what_a_detector_says_of_its_training_rows_are_not_honest(
    normal,
):
    factor = LocalOutlierFactor(novelty=True)  # by the contract of scikit-learn
    for detector in (IForest(random_state=0), Near(), factor):
        assert honest_training_scores(detector.fit(normal), normal) is None


def test_a_detector_in_pyods_manner_scores_anomalies_high(normal):
    detector = Near().fit(normal)
    assert anomaly_scores(detector, np.array([[9.0] * 4, [0.0] * 4])).argmax() == 0


# -- the ensemble of probabilities -----------------------------------------------


@cases(HONEST)
def test_scores_that_a_member_keeps_calibrate_it(detector, normal, unseen):
    ensemble = GammaProbabilityEnsemble([("m", detector)]).fit(normal)
    assert alarms(ensemble, unseen) < 0.25
    assert alarms(ensemble, unseen + 100) == 1
    assert np.isfinite(ensemble.training_score_samples_).all()


def test_one_lazy_member_drowns_no_other(normal, unseen):
    members = [
        ("near", KNN(n_neighbors=1)),
        ("forest", IsolationForest(n_estimators=20, random_state=0)),
    ]
    assert alarms(GammaProbabilityEnsemble(members).fit(normal), unseen) < 0.3


@cases(LAZY)
def test_scores_of_rounding_are_refused_with_a_remedy(detector, normal, unseen):
    members = [
        ("forest", IsolationForest(n_estimators=20, random_state=0)),
        ("lazy", detector),
    ]
    with pytest.raises(ValueError, match=r"member 'lazy' knows .*set calibration_cv=5"):
        GammaProbabilityEnsemble(members).fit(normal)
    healed = GammaProbabilityEnsemble(members, calibration_cv=5).fit(normal)
    assert alarms(healed, unseen) < 0.3


@cases(FINE)
def test_other_scores_are_taken_as_they_are(detector, normal):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GammaProbabilityEnsemble([("m", detector)]).fit(normal)


def test_a_member_that_is_not_scaled_needs_no_spread(normal):
    squashed = make_pipeline(FunctionTransformer(lambda X: X / 100), Table())
    GammaProbabilityEnsemble([("m", squashed)], scaling=None).fit(normal)


def test_equal_scores_of_equal_clips_are_no_rounding():
    with pytest.raises(ValueError, match="'m' are all equal.*add normal clips"):
        GammaProbabilityEnsemble([("m", IsolationForest())]).fit(np.ones((20, 3)))


def test_tables_of_all_kinds_have_a_largest_number(normal):
    for make in (pd.DataFrame, csr_array, list):
        X = make(normal)
        GammaProbabilityEnsemble([("svm", OneClassSVM())]).fit(X)
    with pytest.raises(ValueError, match="by heart"):
        GammaProbabilityEnsemble([("m", Near())]).fit(pd.DataFrame(1e6 * normal))


# -- inside others ---------------------------------------------------------------


def make_table(X):
    columns = {f"x{j}": X[:, j] for j in range(X.shape[1])}
    return pd.DataFrame(
        {"path": "x.wav", "machine_id": np.arange(len(X)) % 2} | columns
    )


def numbers(table):
    return table[["x0", "x1", "x2", "x3"]].to_numpy()


def per_machine(detector):
    return PerMachine(make_pipeline(FunctionTransformer(numbers), detector))


@pytest.mark.parametrize("detector", [KNN(n_neighbors=1), Near("honest")])
def test_kept_scores_reach_through_machines(detector, normal, unseen):
    table = make_table(normal)
    member = per_machine(detector)
    assert np.median(member.fit(table).training_score_samples_) < -0.1
    ensemble = GammaProbabilityEnsemble([("m", member)]).fit(table)
    assert alarms(ensemble, make_table(unseen)) < 0.3


def test_a_lazy_detector_of_each_machine_is_refused(normal):
    table = make_table(normal)
    for detector in (Near(), Table(1e-12)):
        with pytest.raises(ValueError, match="'m' knows these clips by heart"):
            GammaProbabilityEnsemble([("m", per_machine(detector))]).fit(table)
    GammaProbabilityEnsemble([("m", per_machine(Near()))], calibration_cv=4).fit(table)


def test_a_machine_with_one_clip_leaves_none_out(normal):
    """What cannot be known is not refused."""
    table = make_table(normal[:9]).assign(machine_id=[0] * 8 + [1])
    GammaProbabilityEnsemble([("m", per_machine(Table(1e-12)))]).fit(table)


@pytest.mark.parametrize(
    "make",
    [
        lambda frozen: GammaProbabilityEnsemble([("m", frozen)]),
        lambda frozen: GammaProbabilityEnsemble([("m", frozen)], calibration_cv=3),
        lambda frozen: ZScoreEnsemble([("m", frozen)]),
        lambda frozen: ThresholdTuner(frozen, "gamma"),
        lambda frozen: ThresholdTuner(frozen),
    ],
    ids=["probabilities", "with folds", "z-scores", "gamma tail", "threshold"],
)
@pytest.mark.parametrize("detector", [KNN(n_neighbors=1), Near(), Table(1e-12)])
def test_a_fitted_detector_and_the_clips_of_its_fit_are_refused(
    detector, make, normal, unseen
):
    frozen = FrozenEstimator(detector.fit(normal))
    with pytest.raises(
        ValueError, match="by heart.*pass clips that it was not trained"
    ):
        make(frozen).fit(normal)
    assert alarms(make(frozen).fit(unseen), unseen + 100) == 1


def test_a_fitted_detector_of_ours_is_compared_with_the_scores_that_it_keeps():
    rng = np.random.default_rng(0)
    X = ClipSpectrograms.from_arrays(rng.normal(size=(20, 4, 9)), segment_frames=9)
    for metric in ("cosine", "mahalanobis"):
        near = EmbeddingNeighborDetector(SpectrumStatistics(), metric=metric).fit(X)
        with pytest.raises(ValueError, match="'m' knows these clips by heart"):
            GammaProbabilityEnsemble([("m", FrozenEstimator(near))]).fit(X)


@cases(LAZY)
def test_clips_left_out_calibrate_z_scores_and_thresholds(detector, normal, unseen):
    for made in (
        ZScoreEnsemble([("m", detector)]),
        ThresholdTuner(detector, false_alarm_rate=0.2, random_state=0),
    ):
        assert alarms(made.fit(normal), unseen) < 0.4
