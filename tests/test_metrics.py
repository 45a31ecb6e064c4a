import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from sklearn_asd import (
    Clips,
    ClipSpectrograms,
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
    pauc_score,
    pauc_scorer,
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


def test_table_is_the_challenge_s_own_computation(scored):
    """Per machine, anomalies positive; means over machines, then over types."""
    clips, y, scores = scored
    table = auc_table(clips, y, scores)
    of_types = []
    for kind in ("fan", "pump"):
        of_machines = []
        for machine in ("00", "02"):
            rows = (clips["machine_type"] == kind) & (clips["machine_id"] == machine)
            truth, anomaly = (y[rows] == -1).astype(int), -scores[rows]
            figures = [
                roc_auc_score(truth, anomaly),
                roc_auc_score(truth, anomaly, max_fpr=0.1),
            ]
            row = table.loc[(kind, machine)]
            np.testing.assert_allclose(row[["auc", "pauc"]].astype(float), figures)
            assert row[["n_normal", "n_anomalous"]].tolist() == [6, 4]
            of_machines.append(figures)
        of_types.append(np.mean(of_machines, axis=0))
        average = table.loc[(kind, "average"), ["auc", "pauc"]].astype(float)
        np.testing.assert_allclose(average, of_types[-1])
    average = table.loc[("average", ""), ["auc", "pauc"]].astype(float)
    np.testing.assert_allclose(average, np.mean(of_types, axis=0))
    assert len(table) == 7
    assert table.index.names == ["machine_type", "machine_id"]
    assert list(table.columns) == ["n_normal", "n_anomalous", "auc", "pauc"]
    assert table.dtypes.tolist() == [int, int, float, float]
    wider = auc_table(clips, y, scores, max_fpr=0.5)
    fan = clips["machine_type"] == "fan"
    rows = fan & (clips["machine_id"] == "00")
    expected = roc_auc_score(y[rows] == -1, -scores[rows], max_fpr=0.5)
    assert wider.loc[("fan", "00"), "pauc"] == pytest.approx(expected)
    of_fans = auc_table(clips[fan], y[fan], scores[fan])
    pd.testing.assert_frame_equal(of_fans, table.loc[["fan"]])


def test_machines_count_the_same_whatever_their_number_of_clips():
    clips = pd.DataFrame({"machine_id": ["a"] * 2 + ["b"] * 6})
    y = [1, -1, 1, 1, 1, -1, -1, -1]
    scores = [1, 0, 0, 0, 0, 1, 1, 1]
    assert auc_table(clips, y, scores).loc[("", "average"), "auc"] == 0.5


def test_a_machine_without_anomalies_is_nan_and_does_not_enter_averages():
    clips = pd.DataFrame({"machine_id": ["a", "a", "b"]})
    table = auc_table(clips, [1, -1, 1], [1, 0, 1])
    assert list(table.columns) == ["n_normal", "n_anomalous", "auc", "pauc"]
    assert np.isnan(table.loc[("", "b"), ["auc", "pauc"]].astype(float)).all()
    assert table.loc[("", "average"), "auc"] == 1.0
    assert table.loc[("", "average"), "n_normal"] == 2


def test_tables_are_made_of_spectrograms_and_of_clips_without_machines_too():
    X = ClipSpectrograms.from_arrays(
        np.zeros((4, 2, 96)), machine_id=["a", "a", "b", "b"]
    )
    y, scores = [1, -1, 1, -1], [1, 0, 0, 1]
    assert auc_table(X, y, scores)["auc"].tolist() == [1.0, 0.0, 0.5]
    nameless = auc_table(pd.DataFrame({"path": list("abcd")}), y, scores)
    assert nameless["auc"].tolist() == [0.5, 0.5]


def test_clips_of_no_known_machine_count_as_one():
    clips = pd.DataFrame({"machine_id": ["a", "a", None, None]})
    table = auc_table(clips, [1, -1, 1, -1], [1, 0, 0, 1])
    assert table.index.tolist() == [("", ""), ("", "a"), ("", "average")]
    assert table["auc"].tolist() == [0.0, 1.0, 0.5]


def test_scores_of_any_kind_of_number_are_taken():
    clips = pd.DataFrame({"machine_id": ["a", "a"]})
    for scores in (["1.5", "0"], np.array([2, 1], object), [np.float16(1), 0]):
        assert auc_table(clips, [1, -1], scores)["auc"].tolist() == [1.0, 1.0]


def test_order_and_index_of_the_rows_do_not_matter(scored, rng):
    clips, y, scores = scored
    order = rng.permutation(40)
    pd.testing.assert_frame_equal(
        auc_table(clips.iloc[order], y[order], scores[order]),
        auc_table(clips, y, scores),
    )


def test_pauc_limits_false_alarms_and_not_missed_anomalies():
    """10 normal and 10 anomalous clips, one normal clip ranking lowest of all."""
    y = np.repeat([1, -1], 10)
    scores = np.r_[-1, np.full(9, 3), np.arange(10) / 10]
    # The ROC curve: at a false positive rate of 0.1, from the first clip on, all
    # anomalies are found, so up to there nothing is.
    fpr, tpr, _ = roc_curve(y == -1, -scores)
    assert tpr[fpr < 0.1].max() == 0
    assert pauc_score(y, scores) == pytest.approx(
        roc_auc_score(y == -1, -scores, max_fpr=0.1)
    )
    assert pauc_score(y, scores) < 0.5
    # Taken the wrong way round, the same scores look far better.
    assert roc_auc_score(y, scores, max_fpr=0.1) > 0.9


def test_pauc_of_perfect_and_of_random_scores(rng):
    y = np.repeat([1, -1], 5000)
    assert pauc_score(y, y) == 1.0
    assert pauc_score(y, rng.normal(size=10_000)) == pytest.approx(0.5, abs=0.02)
    assert pauc_score(y, y, max_fpr=0.5) == 1.0


class ByColumn(OutlierMixin, BaseEstimator):
    """Detector whose score is one column of X."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        self.offset_ = 0.0
        return self

    def decision_function(self, X):
        return X[:, self.column]

    def predict(self, X):
        return np.where(self.decision_function(X) >= 0, 1, -1)


def test_pauc_scorer_guides_a_search(rng):
    y = np.tile([1, -1], 20)
    X = np.c_[-y, y + 0.1 * rng.normal(size=40)].astype(float)
    search = GridSearchCV(ByColumn(), {"column": [0, 1]}, scoring=pauc_scorer, cv=2)
    search.fit(X, y)
    assert search.best_params_ == {"column": 1}
    assert search.best_score_ == 1.0
    assert pauc_scorer(ByColumn(1), X, y) == pauc_score(y, X[:, 1])


@pytest.mark.parametrize(
    ("y", "scores", "message"),
    [
        ([1, 0], [1.0, 2.0], "y holds 0; labels are"),
        (None, [1.0, 2.0], "y is None; labels are needed"),
        ([1], [1.0, 2.0], r"y has shape \(1,\) for 2 clips"),
        ([1, -1], [1.0], r"scores have shape \(1,\) for 2 clips"),
        ([1, -1], [np.nan, 2.0], "scores are NaN for clips 0.*leave their rows out"),
    ],
)
def test_bad_labels_and_scores_are_explained(y, scores, message):
    with pytest.raises(ValueError, match=message):
        auc_table(pd.DataFrame({"machine_id": ["a", "a"]}), y, scores)


def test_pauc_needs_both_kinds_of_clips():
    with pytest.raises(ValueError, match="2 normal and 0 anomalous clips.*needs both"):
        pauc_score([1, 1], [0.0, 1.0])


# --- scorers of searches over several machines


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
