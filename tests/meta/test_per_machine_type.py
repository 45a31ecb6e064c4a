"""Detectors of several types in one, and the paper's two ways to scale their scores."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    GaussianDetector,
    PerMachineType,
    SpectrumStatistics,
    ThresholdTuner,
    load_model,
    save_model,
)
from sklearn_asd._cli.history import list_changes
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.explanation import detector_parts
from sklearn_asd.meta.structure import Opened
from sklearn_asd.metrics import auc_table


class Known(OutlierMixin, BaseEstimator):
    """Its anomaly scores are a column of the table; it keeps what it was fitted to."""

    def __init__(self, column="id", offset=-3.0):
        self.column = column
        self.offset = offset

    def fit(self, X, y=None):
        self.kinds_ = X["machine_type"].tolist()
        self.offset_ = self.offset
        return self

    def score_samples(self, X):
        return -X[self.column].to_numpy(float)

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_


class Honest(Known):
    """Says of the clips that it was fitted to that they score as twice themselves."""

    leaves_clips_out = True

    def fit(self, X, y=None):
        super().fit(X)
        self.training_score_samples_ = 2 * self.score_samples(X)
        return self


# Two types and two sub-models, as of systems (iii) and (iv).
CLIPS = pd.DataFrame(
    {
        "machine_type": ["fan", "pump"] * 4,
        "machine_id": "00",
        "id": [0.1, 1.0, 0.2, 2.0, 0.3, 3.0, 0.4, 6.0],
        "augment": [0.5, 0.1, 0.6, 0.2, 0.9, 0.3, 0.7, 0.8],
    }
)
FANS, PUMPS = (CLIPS["machine_type"] == kind for kind in ("fan", "pump"))


def of_both(column, kind=Known):
    return PerMachineType([("fan", kind(column)), ("pump", kind(column))])


def test_each_type_is_scored_and_judged_by_its_own_detector():
    detect = PerMachineType([("pump", Known("augment")), ("fan", Known("id", -0.25))])
    detect.fit(CLIPS)
    expected = np.where(FANS, -CLIPS["id"], -CLIPS["augment"])
    np.testing.assert_array_equal(detect.score_samples(CLIPS), expected)
    offsets = np.where(FANS, -0.25, -3)
    np.testing.assert_array_equal(detect.decision_function(CLIPS), expected - offsets)
    assert detect.predict(CLIPS).tolist() == [1, 1, 1, 1, -1, 1, -1, 1]
    np.testing.assert_array_equal(Opened(detect, CLIPS).scores, -expected)
    np.testing.assert_array_equal(Opened(detect, CLIPS).thresholds, -offsets)


def test_a_type_is_itself_however_it_is_written():
    """Blanks, and an "ü" of two signs as of macOS."""
    clips = CLIPS.replace({"machine_type": {"fan": "L\u00fcfter"}})
    detect = PerMachineType([("Lu\u0308fter", Known()), ("pump ", Known("augment"))])
    scores = detect.fit(clips).score_samples(clips)
    np.testing.assert_array_equal(
        scores, np.where(FANS, -CLIPS["id"], -CLIPS["augment"])
    )


def test_thresholds_of_each_type_are_listed_for_a_history():
    before, after = (
        PerMachineType([("fan", Known(offset=-one)), ("pump", Known(offset=-2 * one))])
        for one in (1.0, 3.0)
    )
    changes = list_changes(before.fit(CLIPS), after.fit(CLIPS), CLIPS)
    assert changes == {"fan/00": [-1.0, -3.0], "pump/00": [-2.0, -6.0]}


def test_a_detector_learns_from_its_own_type_or_from_those_that_it_is_told():
    detect = of_both("id").set_params(training_types={"pump": ("fan", "pump")})
    detect.fit(CLIPS, [1] * 6 + [-1, 1])
    assert detect.named_estimators_.fan.kinds_ == ["fan"] * 3
    assert detect.named_estimators_.pump.kinds_ == ["fan", "pump"] * 3 + ["pump"]


def test_clips_of_other_types_score_nan_and_are_judged_anomalous():
    detect = PerMachineType([("fan", Known()), ("pump", "drop")]).fit(CLIPS)
    np.testing.assert_array_equal(np.isnan(detect.score_samples(CLIPS)), PUMPS)
    assert detect.predict(CLIPS).tolist() == [1, -1] * 4
    assert np.isnan(detect.score_samples(CLIPS[PUMPS])).all()


def test_training_scores_are_those_of_the_type_itself():
    detect = of_both("id", Honest).set_params(training_types={"fan": ["fan", "pump"]})
    detect.fit(CLIPS)
    np.testing.assert_array_equal(detect.training_score_samples_, -2 * CLIPS["id"])
    assert detect.leaves_clips_out
    assert not of_both("id").leaves_clips_out
    assert not hasattr(of_both("id").fit(CLIPS), "training_score_samples_")


def test_thresholds_that_promise_something_say_so_for_each_type():
    tuned = ThresholdTuner(
        Honest(), false_alarm_rate=0.4, validation_fraction="training_scores"
    )
    detect = PerMachineType([("fan", tuned), ("pump", clone(tuned))]).fit(CLIPS)
    assert "40 %" in detect.promise_
    assert not hasattr(of_both("id").fit(CLIPS), "promise_")


# -- Gamma distributions of all types, or of each -----------------------------------


def f_of(scores, fitted_to):
    """Eq. (5), by scipy's own fit."""
    shape, _, scale = gamma.fit(fitted_to, floc=0)
    return gamma.cdf(scores, shape, scale=scale)


COMBINED = {
    "probability": lambda f: 1 - np.prod(1 - f, axis=0),  # Eq. (6)
    "mean": lambda f: np.mean(f, axis=0),
    "product": lambda f: np.prod(f, axis=0),
}


@pytest.mark.parametrize("aggregation", COMBINED)
@pytest.mark.parametrize("group_by", [None, "machine_type"])
def test_the_types_share_a_gamma_distribution_or_have_one_each(aggregation, group_by):
    ensemble = GammaProbabilityEnsemble(
        [("id", of_both("id")), ("augment", of_both("augment"))],
        aggregation=aggregation,
        group_by=group_by,
    ).fit(CLIPS)
    f = np.zeros((2, len(CLIPS)))
    for row, column in enumerate(["id", "augment"]):
        for own in [FANS, PUMPS]:
            fitted_to = CLIPS[column] if group_by is None else CLIPS.loc[own, column]
            f[row, own] = f_of(CLIPS.loc[own, column], fitted_to)
    np.testing.assert_allclose(
        ensemble.anomaly_probability(CLIPS), COMBINED[aggregation](f), rtol=1e-5
    )


def test_known_answers_of_one_distribution_for_both_types():
    """Exponential scores: where the shape is 1, F(s) = 1 - exp(-s / mean)."""
    n = 4000
    s = -np.log1p(-(np.arange(n) + 0.5) / n)  # quantiles of the mean 1
    clips = pd.DataFrame({"machine_type": ["fan", "pump"] * (n // 2), "machine_id": 0})
    clips["id"], clips["augment"] = s, 10 * s
    ensemble = GammaProbabilityEnsemble(
        [("id", of_both("id")), ("augment", of_both("augment"))]
    ).fit(clips)
    asked = clips[:2].assign(id=[1.0, 3.0], augment=[20.0, 0.5])
    # 1 - (1 - f_1) (1 - f_2), which is 1 - exp(-s_1 - s_2 / 10)
    expected = -np.expm1([-1 - 2, -3 - 0.05])
    np.testing.assert_allclose(ensemble.anomaly_probability(asked), expected, atol=2e-3)


def test_scores_that_are_not_scaled_are_combined_as_they_are():
    clips = CLIPS.assign(id=CLIPS["id"] / 10)
    ensemble = GammaProbabilityEnsemble(
        [("id", of_both("id")), ("augment", of_both("augment"))], scaling=None
    ).fit(clips)
    np.testing.assert_allclose(
        ensemble.anomaly_probability(clips),
        1 - (1 - clips["id"]) * (1 - clips["augment"]),
    )


def test_both_ways_and_their_members_are_searched():
    clips = pd.concat([CLIPS] * 4, ignore_index=True)
    clips["id"] *= np.random.default_rng(0).uniform(0.5, 1.5, len(clips))
    y = np.where(np.arange(len(clips)) < 24, 1, np.where(clips.index % 3 == 0, -1, 1))
    ensemble = GammaProbabilityEnsemble(
        [("id", of_both("id")), ("augment", FrozenEstimator(of_both("augment")))]
    )
    ensemble.estimators[1][1].estimator.fit(clips)
    grid = {
        "group_by": [None, "machine_type"],
        "aggregation": list(COMBINED),
        "id__fan__column": ["id", "augment"],
    }

    def mean_auc(fitted, X, y):
        return auc_table(X, y, fitted.score_samples(X))["auc"].iloc[-1]

    cv = PredefinedSplit(np.where(np.arange(len(clips)) < 24, -1, 0))
    search = GridSearchCV(ensemble, grid, scoring=mean_auc, cv=cv, error_score="raise")
    search.fit(clips, y)
    assert len(search.cv_results_["params"]) == 12
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# -- of clips -----------------------------------------------------------------------


@pytest.fixture
def spectrograms(rng):
    return ClipSpectrograms.from_arrays(
        rng.normal(size=(48, 4, 12)),
        machine_type=["fan", "pump"] * 24,
        machine_id=[0, 0, 1, 1] * 12,
        segment_frames=12,
    )


def make_ensemble():
    mean, top = SpectrumStatistics(("mean",)), SpectrumStatistics(("max",))
    members = {
        "gaussian": [GaussianDetector(mean), GaussianDetector(top)],
        "near": [EmbeddingNeighborDetector(top), EmbeddingNeighborDetector(mean)],
    }
    return GammaProbabilityEnsemble(
        [
            (name, PerMachineType(list(zip(("fan", "pump"), pair, strict=True))))
            for name, pair in members.items()
        ],
        group_by="machine_type",
    )


def test_it_is_saved_and_explained_like_any_other(spectrograms, tmp_path):
    ensemble = make_ensemble().fit(spectrograms)
    save_model(ensemble, tmp_path / "both.asd")
    loaded = load_model(tmp_path / "both.asd")
    scores = ensemble.score_samples(spectrograms)
    np.testing.assert_array_equal(loaded.score_samples(spectrograms), scores)
    np.testing.assert_allclose(-Opened(loaded, spectrograms).scores, scores)
    for row, statistic in [(0, ("mean",)), (1, ("max",))]:
        parts = {
            part.member: part for part in detector_parts(loaded, spectrograms, row)
        }
        assert parts["gaussian"].estimator.encoder.statistics == statistic
    assert ensemble.training_score_samples_.shape == (len(spectrograms),)


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detect", "error", "message"),
    [
        (PerMachineType([]), ValueError, "at least one"),
        (PerMachineType([("fan", "drop")]), ValueError, "at least one is needed"),
        (PerMachineType([("fan", Known()), ("fan", Known())]), ValueError, "unique"),
        (PerMachineType([("fan", BaseEstimator())]), TypeError, "cannot score clips"),
        (PerMachineType([("Fan", Known())]), ValueError, "no normal clip of .*Fan"),
        (PerMachineType("fan"), InvalidParameterError, "must be .* 'list'"),
        (
            PerMachineType([("fan", Known())], training_types={"pump": ["fan"]}),
            ValueError,
            "training_types is of pump, and estimators has fan",
        ),
        (
            PerMachineType([("fan", Known())], training_types=["fan"]),
            InvalidParameterError,
            "training_types",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(detect, error, message):
    with pytest.raises(error, match=message):
        detect.fit(CLIPS)


def test_clips_without_a_type_are_refused():
    with pytest.raises(ValueError, match="machine_type"):
        of_both("id").fit(CLIPS.drop(columns="machine_type"))
    fitted = of_both("id").fit(CLIPS)
    with pytest.raises(ValueError, match="machine_type"):
        fitted.score_samples(CLIPS.assign(machine_type=[None] * 8))


def test_types_that_a_detector_should_learn_from_are_missed_aloud():
    detect = of_both("id").set_params(training_types={"pump": ["pump", "valve"]})
    with pytest.warns(UserWarning, match="no normal clip of valve"):
        detect.fit(CLIPS)
