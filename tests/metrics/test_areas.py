import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GridSearchCV

from sklearn_asd import (
    ClipSpectrograms,
)
from sklearn_asd.metrics import (
    auc_table,
    pauc_score,
    pauc_scorer,
)


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
