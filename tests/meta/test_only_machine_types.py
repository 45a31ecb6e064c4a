import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin, clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_asd import ClipSpectrograms, GammaProbabilityEnsemble, OnlyMachineTypes
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.audio import Clips

KINDS = np.array(["fan", "pump", "fan", "valve", "pump", "fan"])
LEVELS = np.array([1.0, 5.0, 2.0, 9.0, 6.0, 4.0])


class Level(OutlierMixin, BaseEstimator):
    """The anomaly score is the level of a clip; it keeps those it was fitted to."""

    def fit(self, X, y=None):
        assert y is None
        self.levels_ = self.levels(X)
        self.offset_ = -3.0
        return self

    def levels(self, X):
        if isinstance(X, pd.DataFrame):
            return np.array([np.mean(audio) for audio in X["audio"]])
        if isinstance(X, Clips):
            return np.array([np.mean(audio) for audio in X.sources])
        return np.array([X.log_mel(row).mean() for row in range(len(X))])

    def score_samples(self, X):
        return -self.levels(X)

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_


class HonestLevel(Level):
    """Says of the clips that it was fitted to that they score as twice themselves."""

    def fit(self, X, y=None):
        super().fit(X)
        self.training_score_samples_ = -2 * self.levels_
        return self


class LikePyOD(BaseEstimator):
    """Without score_samples, and high for anomalies."""

    __module__ = "pyod.models.level"

    def fit(self, X, y=None):
        self.threshold_ = 3.0
        return self

    def decision_function(self, X):
        return Level().levels(X)


class Blind(BaseEstimator):
    """Learns, and cannot score."""

    def fit(self, X, y=None):
        return self


def make_table(kinds=KINDS, levels=LEVELS):
    audio = [np.full(8, level) for level in levels]
    return pd.DataFrame({"audio": audio, "machine_type": kinds, "machine_id": "00"})


def as_clips(table):
    return Clips.from_X(table)


def as_spectrograms(table):
    log_mels = np.stack([np.full((4, 12), audio[0]) for audio in table["audio"]])
    return ClipSpectrograms.from_arrays(
        log_mels, machine_type=table["machine_type"], segment_frames=12
    )


@pytest.mark.parametrize("form", [lambda X: X, as_clips, as_spectrograms])
def test_only_clips_of_the_types_are_learnt_from_and_scored(form):
    X = form(make_table())
    fans = OnlyMachineTypes(Level(), "fan").fit(X)
    assert fans.estimator_.levels_.tolist() == [1, 2, 4]
    nan = np.nan
    np.testing.assert_array_equal(fans.score_samples(X), [-1, nan, -2, nan, nan, -4])
    np.testing.assert_array_equal(fans.decision_function(X), [2, nan, 1, nan, nan, -1])
    assert fans.predict(X).tolist() == [1, -1, 1, -1, -1, -1]
    assert fans.fit_predict(X).tolist() == fans.predict(X).tolist()
    assert fans.offset_ == -3


def test_there_may_be_several_types():
    two = OnlyMachineTypes(Level(), ("pump", "valve")).fit(make_table())
    assert two.estimator_.levels_.tolist() == [5, 9, 6]
    assert (
        np.isnan(two.score_samples(make_table())).tolist() == (KINDS == "fan").tolist()
    )


def test_anomalous_clips_are_never_trained_on():
    y = [1, 1, -1, 1, 1, 1]
    fans = OnlyMachineTypes(Level(), "fan").fit(make_table(), y)
    assert fans.estimator_.levels_.tolist() == [1, 4]


def test_clips_of_other_types_alone_score_nan_and_are_not_passed_on():
    fans = OnlyMachineTypes(Level(), "fan").fit(make_table())
    others = make_table().assign(audio=None).iloc[[1, 3]]
    assert np.isnan(fans.score_samples(others)).all()


def test_honest_training_scores_pass_through():
    y = [1, 1, -1, 1, 1, 1]
    fans = OnlyMachineTypes(make_pipeline(FunctionTransformer(), HonestLevel()), "fan")
    fans.fit(make_table(), y)
    nan = np.nan
    np.testing.assert_array_equal(
        fans.training_score_samples_, [-2, nan, nan, nan, nan, -8]
    )
    fans.set_params(estimator=Level()).fit(make_table())
    assert not hasattr(fans, "training_score_samples_")


def test_thresholds_of_pyod_are_turned_round():
    fans = OnlyMachineTypes(LikePyOD(), "fan").fit(make_table())
    scores, decisions = (
        method(make_table())[KINDS == "fan"]
        for method in (fans.score_samples, fans.decision_function)
    )
    assert scores.tolist() == [-1, -2, -4]
    assert decisions.tolist() == [2, 1, -1]
    assert not hasattr(fans, "offset_")


def test_an_ensemble_judges_clips_that_all_its_members_score(rng):
    table = make_table(np.repeat(["fan", "pump"], 50), rng.gamma(2, 1, 100))
    members = [
        ("all", Level()),
        ("fans", OnlyMachineTypes(HonestLevel(), "fan")),
    ]
    ensemble = GammaProbabilityEnsemble(members, contamination=0.2).fit(table)
    scores = ensemble.score_samples(table)
    assert np.isfinite(scores[:50]).all()
    assert np.isnan(scores[50:]).all()
    one_member = GammaProbabilityEnsemble([("m", HonestLevel())]).fit(table[:50])
    np.testing.assert_allclose(
        ensemble.scales_[None][1], one_member.scales_[None][0], rtol=1e-9
    )
    assert np.isfinite(ensemble.offset_)
    ensemble.set_params(fans__estimator=Level(), calibration_cv=2).fit(table)
    np.testing.assert_allclose(
        ensemble.scales_[None][1],
        GammaProbabilityEnsemble([("m", Level())]).fit(table[:50]).scales_[None][0],
    )


def test_missing_types_are_refused_or_warned_of():
    table = make_table()
    with pytest.raises(ValueError, match="no normal clip of machine_types Fan; .* fan"):
        OnlyMachineTypes(Level(), "Fan").fit(table)
    with pytest.raises(ValueError, match="no normal clip of machine_types valve"):
        OnlyMachineTypes(Level(), "valve").fit(table, np.where(KINDS == "valve", -1, 1))
    with pytest.warns(UserWarning, match="no normal clip of slider to") as caught:
        OnlyMachineTypes(Level(), ["fan", "slider"]).fit(table)
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="X has no machine types"):
        OnlyMachineTypes(Level(), "fan").fit(table.drop(columns="machine_type"))
    table.loc[3, "machine_type"] = None
    with pytest.raises(ValueError, match="machine_type is missing for clips 3 of"):
        OnlyMachineTypes(Level(), "fan").fit(table)


@pytest.mark.parametrize("parameter", [{"machine_types": 3}, {"estimator": "fan"}])
def test_wrong_parameters_are_refused(parameter):
    detector = OnlyMachineTypes(Level(), "fan").set_params(**parameter)
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        detector.fit(make_table())


def test_estimators_that_cannot_score_are_refused():
    with pytest.raises(TypeError, match="Blind has neither score_samples nor"):
        OnlyMachineTypes(Blind(), "fan").fit(make_table())


def test_it_is_cloned_set_and_saved_as_any_estimator(tmp_path):
    detector = OnlyMachineTypes(Level(), ("fan", "pump"))
    assert is_outlier_detector(detector)
    with pytest.raises(NotFittedError):
        detector.score_samples(make_table())
    copy = clone(detector).set_params(machine_types="fan").fit(make_table())
    joblib.dump(copy, tmp_path / "fans.joblib")
    np.testing.assert_array_equal(
        joblib.load(tmp_path / "fans.joblib").score_samples(make_table()),
        copy.score_samples(make_table()),
    )
