import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_asd import (
    ClipSpectrograms,
    GammaProbabilityEnsemble,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
)
from sklearn_asd.meta.structure import Opened, scatter, walk


class CountedStatistics(TransformerMixin, BaseEstimator):
    """The statistics of each clip, and how often they were asked for."""

    calls = 0

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        type(self).calls += 1
        return SpectrumStatistics().transform(X)


class Constant(OutlierMixin, BaseEstimator):
    """Decides by a threshold of 0, without score_samples."""

    def fit(self, X, y=None):
        self.is_fitted_ = True
        return self

    def decision_function(self, X):
        return np.asarray(X)[:, 0]


@pytest.fixture
def X(rng):
    return ClipSpectrograms.from_arrays(
        rng.normal(size=(40, 4, 8)),
        machine_type=["fan"] * 20 + ["pump"] * 20,
        machine_id=["0", "1"] * 20,
        segment_frames=8,
    )


def make_members():
    rows = make_pipeline(CountedStatistics(), StandardScaler(), MahalanobisDetector())
    forest = make_pipeline(SpectrumStatistics(), IsolationForest(random_state=0))
    return [("machines", PerMachine(rows)), ("forest", forest)]


@pytest.fixture
def tuner(X):
    ensemble = GammaProbabilityEnsemble(make_members())
    return make_pipeline(
        "passthrough", ThresholdTuner(ensemble, "gamma", random_state=0)
    ).fit(X)


def test_an_opened_detector_gives_the_scores_and_thresholds_of_the_detector(tuner, X):
    opened = Opened(tuner, X)
    np.testing.assert_array_equal(-opened.scores, tuner.score_samples(X))
    np.testing.assert_array_equal(
        opened.thresholds - opened.scores, tuner.decision_function(X)
    )


def test_each_transformer_runs_once_for_all_questions(tuner, X):
    opened = Opened(tuner, X)
    CountedStatistics.calls = 0
    assert opened.scores.shape == opened.thresholds.shape == (40,)
    assert next(iter(opened)).estimator is tuner
    for row in (3, 27):
        clip = opened.take([row])
        assert clip.scores == opened.scores[row]
        assert [one.name for one in clip.find_all("member_scores")] == [""]
    assert CountedStatistics.calls == 4  # the machines


def test_taken_clips_are_those_asked_for_in_their_order(tuner, X):
    opened = Opened(tuner, X)
    assert len(opened.scores) == 40
    rows = [31, 0, 30, 0]
    taken = opened.take(rows)
    np.testing.assert_allclose(taken.scores, opened.scores[rows], rtol=1e-12)
    np.testing.assert_array_equal(taken.thresholds, opened.thresholds[rows])
    again = taken.take([1, 3])
    np.testing.assert_allclose(again.scores, opened.scores[[0, 0]], rtol=1e-12)


def test_machines_and_types_have_the_thresholds_of_their_own_detectors(X):
    rows = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    machines = PerMachine(rows).fit(X)
    expected = [-machines.offsets_[f"fan/{row % 2}"] for row in range(20)]
    np.testing.assert_array_equal(Opened(machines, X[:20]).thresholds, expected)
    fans = OnlyMachineTypes(PerMachine(rows), "fan").fit(X)
    thresholds = Opened(fans, X).thresholds
    np.testing.assert_array_equal(thresholds[:20], expected)
    assert np.isnan(thresholds[20:]).all()
    assert np.isnan(Opened(fans, X).scores[20:]).all()
    tuner = ThresholdTuner(PerMachine(rows), false_alarm_rate=0.4).fit(X)
    opened = Opened(make_pipeline("passthrough", tuner), X)
    np.testing.assert_allclose(
        opened.scores - opened.thresholds, -tuner.decision_function(X)
    )
    assert set(-opened.thresholds) == set(tuner.offsets_.values())


def test_a_detector_without_scores_has_a_threshold_of_0(rng):
    rows = rng.normal(size=(5, 2))
    opened = Opened(make_pipeline(StandardScaler(), Constant()).fit(rows), rows)
    np.testing.assert_allclose(opened.thresholds, 0, atol=1e-15)


def test_the_detector_for_all_clips_is_found_and_no_one_elses(tuner, X):
    assert Opened(tuner, X).find("member_scores").estimator is tuner[-1].detector_
    assert Opened(FrozenEstimator(tuner), X).find("false_alarm_interval").X is X
    each = PerMachine(GammaProbabilityEnsemble(make_members()[1:])).fit(X)
    assert Opened(each, X).find("member_scores") is None
    assert len(list(Opened(each, X).find_all("member_scores"))) == 4


def test_problems_are_those_of_the_clips_in_their_rows(X):
    segments = X[[0, 1, 20, 21]]
    segments.problems = {2: "is silent"}
    pumps = OnlyMachineTypes(make_pipeline(SpectrumStatistics(), Constant()), "pump")
    assert Opened(pumps.fit(X), segments).problems == {2: "is silent"}


def test_walking_meets_every_estimator_fitted_ones_first(tuner):
    kinds = [type(one).__name__ for one in walk(tuner)]
    assert kinds[:3] == ["Pipeline", "ThresholdTuner", "GammaProbabilityEnsemble"]
    assert kinds.count("CountedStatistics") == 4
    members = GammaProbabilityEnsemble([*make_members(), ("none", "drop")])
    unfitted = [type(one).__name__ for one in walk(members)]
    assert unfitted.count("CountedStatistics") == 1
    assert unfitted[-1] == "IsolationForest"


def test_values_are_put_into_their_rows():
    scattered = scatter([(np.array([2, 0]), np.array([1.0, 2.0]))], 4)
    np.testing.assert_array_equal(scattered, [2, np.nan, 1, np.nan])
    ones = np.ones((2, 3))
    np.testing.assert_array_equal(scatter([(None, ones)], 2), ones)
    np.testing.assert_array_equal(scatter([], 2), [np.nan, np.nan])
