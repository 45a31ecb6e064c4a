import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from sklearn_asd import (
    Clips,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import (
    auc_table,
    mean_auc_scorer,
    mean_pauc_scorer,
)
from sklearn_asd.model_selection import MachineStratifiedKFold


@pytest.fixture
def scored(rng):
    """40 clips of 4 machines, labels and scores that know something of them."""
    clips = pd.DataFrame(
        {
            "machine_type": np.repeat(["fan", "pump"], 20),
            "machine_id": np.tile(np.repeat(["00", "02"], 10), 2),
        }
    )
    y = np.tile([1, 1, 1, -1, -1], 8)
    return clips, y, y + rng.normal(size=40)


class ByTable(OutlierMixin, BaseEstimator):
    """Detector whose score is one column of a table."""

    def __init__(self, column="good"):
        self.column = column

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return X[self.column].to_numpy()


def table_of_scores():
    """Two machines told apart well by one column, whose levels differ."""
    return pd.DataFrame(
        {
            "machine_id": ["a"] * 4 + ["b"] * 4,
            "good": [3.0, 2, 1, 0, 13, 12, 11, 10],
            "half": [1.0, 0, 1, 0, 1, 0, 0, 1],
        }
    ), [1, 1, -1, -1] * 2


def test_machines_are_ranked_apart_where_roc_auc_pools_them():
    clips, y = table_of_scores()
    assert mean_auc_scorer(ByTable().fit(clips), clips, y) == 1.0
    assert roc_auc_score(y, clips["good"]) == 0.75  # b's anomalies outrank a's normals


def test_the_scorers_are_the_last_row_of_the_table_exactly(scored):
    clips, y, scores = scored
    clips = clips.assign(good=scores)
    average = auc_table(clips, y, scores).iloc[-1]
    assert mean_auc_scorer(ByTable(), clips, y) == average["auc"]
    assert mean_pauc_scorer(ByTable(), clips, y) == average["pauc"]
    fans = slice(0, 20)
    average = auc_table(clips[fans], y[fans], scores[fans]).iloc[-1]
    assert average.name == ("fan", "average")
    assert mean_pauc_scorer(ByTable(), clips[fans], y[fans]) == average["pauc"]


def test_machines_of_one_kind_of_clips_are_left_out_of_the_average():
    clips, _ = table_of_scores()
    y = [1, 1, -1, -1, 1, 1, 1, 1]
    assert mean_auc_scorer(ByTable("half"), clips, y) == 0.5


@pytest.mark.parametrize(
    ("y", "counts"),
    [([1] * 8, "8 normal and 0"), ([1] * 4 + [-1] * 4, "4 normal and 4")],
)
def test_an_average_of_no_machine_is_an_error_with_the_remedy(y, counts):
    clips, _ = table_of_scores()
    message = f"mean_pauc_scorer needs a machine .* the 8 clips.*{counts}.*pass y with"
    with pytest.raises(ValueError, match=message):
        mean_pauc_scorer(ByTable(), clips, y)
    with pytest.raises(ValueError, match="y is None; labels are needed"):
        mean_auc_scorer(ByTable(), clips)


def test_scorers_have_names_and_can_be_pickled_and_copied():
    clips, y = table_of_scores()
    for scorer in (mean_auc_scorer, mean_pauc_scorer):
        assert repr(scorer).endswith("auc_scorer")
        for other in (pickle.loads(pickle.dumps(scorer)), copy.deepcopy(scorer)):
            assert repr(other) == repr(scorer)
            assert other(ByTable(), clips, y) == 1.0
    assert "scoring=mean_auc_scorer" in repr(
        GridSearchCV(ByTable(), {}, scoring=mean_auc_scorer)
    )


def test_the_scorers_stand_in_a_table_of_several():
    clips, y = table_of_scores()
    scoring = {"mean": mean_auc_scorer, "partial": mean_pauc_scorer}
    folds = MachineStratifiedKFold(2)
    results = cross_validate(ByTable(), clips, y, scoring=scoring, cv=folds)
    assert results["test_mean"].tolist() == results["test_partial"].tolist() == [1, 1]


@pytest.fixture(scope="module")
def sounds():
    return make_machine_sounds(
        ["fan", "pump"],
        n_machines=2,
        n_train=8,
        n_test_normal=0,
        n_test_anomalous=4,
        duration=4.0,
        random_state=0,
    )


def test_all_kinds_of_clips_and_detectors_are_scored(sounds):
    """With score_samples, and with nothing but decision_function."""
    y = sounds["label"]
    segment = LogMelSegmenter(n_mels=16)
    X = segment.fit_transform(sounds)

    class OnlyDecisions(OutlierMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.svm_ = OneClassSVM().fit(X)
            return self

        def decision_function(self, X):
            return self.svm_.decision_function(X)

    for detect in (MahalanobisDetector(), OnlyDecisions()):
        pipe = make_pipeline(SpectrumStatistics(), detect).fit(X, y)
        method = getattr(pipe, "score_samples", None) or pipe.decision_function
        expected = auc_table(sounds, y, method(X)).iloc[-1]["auc"]
        whole = make_pipeline(segment, pipe)
        assert mean_auc_scorer(pipe, X, y) == expected
        assert mean_auc_scorer(whole, sounds, y) == expected
        assert mean_auc_scorer(whole, Clips.from_X(sounds), y) == expected


def test_a_search_of_two_workers_finds_what_the_table_finds(sounds):
    X, y = LogMelSegmenter(n_mels=16).fit_transform(sounds), sounds["label"]
    detect = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    folds = MachineStratifiedKFold(2)
    name = "estimator__mahalanobisdetector__n_folds"
    search = GridSearchCV(
        detect,
        {name: [2, 4]},
        scoring=mean_auc_scorer,
        cv=folds,
        n_jobs=2,
        error_score="raise",
    ).fit(X, y)
    for number, (train, test) in enumerate(folds.split(X, y)):
        detect.fit(X[train], y.iloc[train])
        table = auc_table(X[test], y.iloc[test], detect.score_samples(X[test]))
        assert not table["auc"].isna().any()  # every machine is in every fold
        scores = search.cv_results_[f"split{number}_test_score"]
        assert scores.tolist() == [table.iloc[-1]["auc"]] * 2
    aucs = cross_val_score(detect, X, y, scoring=mean_pauc_scorer, cv=folds)
    assert ((aucs >= 0) & (aucs <= 1)).all()
