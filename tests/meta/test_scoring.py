from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from sklearn_asd.meta.scoring import (
    anomaly_scores,
    check_scores_clips,
    copy_features,
    decisions,
    final_step,
    honest_training_scores,
    own_offset,
)


@pytest.fixture
def X(rng):
    return np.vstack([rng.normal(size=(60, 3)), [[9, 9, 9]]])


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(random_state=0),
        LocalOutlierFactor(novelty=True),
        EllipticEnvelope(random_state=0),
        OneClassSVM(),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_scores_are_high_for_anomalies_also_behind_a_pipeline(X, detector):
    for estimator in (detector, make_pipeline(StandardScaler(), detector)):
        scores = anomaly_scores(estimator.fit(X), X)
        assert scores.dtype == np.float64
        assert scores.argmax() == 60
        np.testing.assert_array_equal(
            anomaly_scores(FrozenEstimator(estimator), X), scores
        )


def test_pyods_scores_keep_their_sign(X):
    class Base:  # as pyod.models.base.BaseDetector
        __module__ = "pyod.models.base"

        def decision_function(self, X):
            return X[:, 0]

    class Own(Base):
        __module__ = "user"

    detector = Own()
    np.testing.assert_array_equal(anomaly_scores(detector, X), X[:, 0])
    detector.threshold_ = 0.5
    np.testing.assert_array_equal(decisions(detector, X), 0.5 - X[:, 0])
    assert own_offset(detector, X[:1]) == -0.5


def test_decisions_are_scores_where_there_are_no_others(X):
    class Decides(OutlierMixin, BaseEstimator):
        def decision_function(self, X):
            return np.float32(X[:, 0])

    detector = Decides()
    scores = anomaly_scores(detector, X)
    np.testing.assert_array_equal(scores, -np.float32(X[:, 0]))
    assert scores.dtype == decisions(detector, X).dtype == np.float64
    assert own_offset(detector, X[:1]) == 0


def test_the_offset_that_a_detector_states_is_taken_without_a_score(X):
    forest = IsolationForest(random_state=0).fit(X)
    assert own_offset(forest, X[:0]) == forest.offset_


def test_columns_are_copied_from_the_first_member_that_has_them():
    ensemble, without, with_names = (SimpleNamespace() for _ in range(3))
    with_names.n_features_in_ = 2
    with_names.feature_names_in_ = ["level", "pitch"]
    copy_features(ensemble, [without, with_names])
    assert vars(ensemble) == vars(with_names)


def test_estimators_that_cannot_score_are_refused_with_a_remedy(X):
    with pytest.raises(TypeError, match=r"LocalOutlierFactor has.*novelty=True"):
        anomaly_scores(LocalOutlierFactor().fit(X), X)
    with pytest.raises(TypeError, match=r"LocalOutlierFactor has.*novelty=True"):
        check_scores_clips(make_pipeline(StandardScaler(), LocalOutlierFactor()))


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(contamination=0.2, random_state=0),
        LocalOutlierFactor(novelty=True),
        OneClassSVM(),
        GridSearchCV(
            IsolationForest(random_state=0),
            {"n_estimators": [10]},
            scoring=lambda estimator, X: 0.0,
        ),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_scores_minus_the_own_threshold_are_decisions(X, detector):
    for estimator in (detector, make_pipeline(StandardScaler(), detector)):
        estimator.fit(X)
        relative = -anomaly_scores(estimator, X) - own_offset(estimator, X[:1])
        np.testing.assert_allclose(relative, estimator.decision_function(X), atol=1e-12)
        np.testing.assert_array_equal(
            decisions(estimator, X), estimator.decision_function(X)
        )


def test_final_step_is_found_inside_pipelines():
    detector = IsolationForest()
    inner = make_pipeline(StandardScaler(), detector)
    assert final_step(make_pipeline(StandardScaler(), inner)) is detector
    assert final_step(FrozenEstimator(inner)) is detector
    assert final_step(detector) is detector


def test_honest_scores_come_from_those_that_have_them(X):
    forest = IsolationForest(random_state=0).fit(X)
    assert honest_training_scores(forest) is None
    forest.training_score_samples_ = np.array([-1.0, np.nan])
    behind = make_pipeline(StandardScaler(), forest)
    np.testing.assert_array_equal(honest_training_scores(behind), [1.0, np.nan])
    assert honest_training_scores(FrozenEstimator(behind)) is None  # of other clips
    assert honest_training_scores(make_pipeline(FrozenEstimator(forest))) is None
