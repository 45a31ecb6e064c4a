import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_asd import (
    Clips,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.audio.machines import machine_columns, machine_labels, relabel
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.detectors.siblings import sibling_separation
from sklearn_asd.meta.siblings import own_table, sibling_table
from sklearn_asd.metrics import sibling_auc
from sklearn_asd.model_selection import MachineStratifiedKFold


class AsMachine(OutlierMixin, BaseEstimator):
    """The anomaly score of a clip judged as machine A is its column A."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y=None):
        assert y is None or (np.asarray(y) == 1).all()
        self.fitted_ = True
        return self

    def score_samples(self, X):
        rows = zip(machine_labels(X), range(len(X)), strict=True)
        scores = np.array([X[label].iloc[row] for label, row in rows])
        return -np.sign(scores) * np.abs(scores) ** self.power


def table_of(rows, kinds=None):
    """Clips of (machine, score as a, score as b, ...)."""
    names = sorted({row[0] for row in rows})
    table = pd.DataFrame(rows, columns=["machine_id", *names])
    return table if kinds is None else table.assign(machine_type=kinds)


# -- known answers ---------------------------------------------------------------


def test_separation_worked_by_hand():
    # Of four pairs (1, 2), (1, 4), (3, 2), (3, 4), three are in order; means 2 and 3,
    # both variances 1.
    assert sibling_separation([1, 3], [2, 4]) == (0.75, 1.0)
    assert sibling_separation([2, 4], [1, 3]) == (0.25, -1.0)
    # Equal scores count half.
    assert sibling_separation([1, 2], [2, 3])[0] == (1 + 1 + 0.5 + 1) / 4
    # Variances of 1 and 4 average to 2.5.
    assert sibling_separation([0, 2], [1, 5])[1] == pytest.approx(2 / np.sqrt(2.5))


def test_separation_of_scores_without_spread():
    assert sibling_separation([1, 1], [1, 1]) == (0.5, 0.0)
    assert sibling_separation([1, 1], [2, 2]) == (1.0, np.inf)
    assert sibling_separation([1], [0]) == (0.0, -np.inf)


def test_separation_leaves_nan_out():
    assert sibling_separation([1, np.nan, 3], [2, 4, np.nan]) == (0.75, 1.0)
    assert np.isnan(sibling_separation([np.nan], [1, 2])).all()
    assert np.isnan(sibling_separation([1, 2], [])).all()


def test_two_machines_worked_by_hand():
    X = table_of([("a", 1, 2), ("b", 9, 1), ("a", 3, 4), ("b", 4, 3)])
    table = sibling_table(AsMachine().fit(X), X)
    # As a: own 1 and 3, siblings 9 and 4. As b: own 1 and 3, siblings 2 and 4.
    assert table.index.tolist() == ["a", "b"]
    assert table["sibling_auc"].tolist() == [1.0, 0.75]
    spread = np.sqrt((1 + 2.5**2) / 2)
    np.testing.assert_allclose(table["sibling_gap"], [4.5 / spread, 1.0])
    assert sibling_auc(AsMachine().fit(X), X) == 0.875


def test_siblings_are_machines_of_the_same_type_where_there_are_some():
    X = pd.DataFrame(
        {
            "machine_type": ["fan", "fan", "pump"],
            "machine_id": ["0", "1", "0"],
            "fan/0": [1, 2, 0],
            "fan/1": [3, 2, 0],
            "pump/0": [1, 2, 1.5],
        }
    )
    table = sibling_table(AsMachine().fit(X), X)
    # A pump would score below the fans; the only pump has no siblings but the fans.
    assert table["sibling_auc"].to_dict() == {"fan/0": 1, "fan/1": 1, "pump/0": 0.5}


def test_clips_become_clips_of_another_machine_and_share_the_rest():
    table = pd.DataFrame({"machine_id": ["0", "1"], "level": [1, 2]})
    assert relabel(table, None, "7").to_dict("list") == {
        "machine_id": ["7", "7"],
        "level": [1, 2],
    }
    assert table["machine_id"].tolist() == ["0", "1"]
    clips = Clips([np.zeros(9), np.ones(9)], machine_id=["0", "1"], domain=["s", "t"])
    spectrograms = ClipSpectrograms.from_arrays(
        np.zeros((2, 4, 6)), ["fan", "fan"], ["0", "1"], segment_frames=3
    )
    for X in (clips, spectrograms):
        for kind in ("pump", None):
            other = relabel(X, kind, "7")
            types, ids = machine_columns(other)
            assert ids.tolist() == ["7", "7"]
            assert types is None if kind is None else types.tolist() == [kind] * 2
            assert X.machine_id.tolist() == ["0", "1"]
    assert relabel(clips, "fan", "7").domain.tolist() == ["s", "t"]
    assert np.shares_memory(relabel(spectrograms, "a", "7").frames, spectrograms.frames)


# -- relations -------------------------------------------------------------------


def test_one_machine_is_refused_and_what_remains_is_said():
    X = table_of([("a", 1), ("a", 3)])
    with pytest.raises(ValueError, match=r"1 machine \(a\).*mean_auc_scorer.*likeli"):
        sibling_table(AsMachine().fit(X), X)
    with pytest.raises(ValueError, match="X has no machine IDs, which are needed to"):
        sibling_table(AsMachine(), X.drop(columns="machine_id"))
    with pytest.raises(ValueError, match="operating patterns as machine_id"):
        sibling_auc(AsMachine().fit(X), X)


def test_anomalous_clips_are_left_out_by_the_scorer():
    X = table_of([("a", 1, 2), ("b", 9, 1), ("a", 3, 4), ("b", 4, 3), ("a", 99, 0)])
    assert sibling_auc(AsMachine().fit(X), X, [1, 1, 1, 1, -1]) == 0.875
    assert sibling_auc(AsMachine().fit(X), X) < 0.875
    with pytest.raises(ValueError, match="holds 0 normal clips"):
        sibling_auc(AsMachine().fit(X), X, [-1] * 5)


def test_a_detector_that_scores_nothing_has_no_sibling_auc():
    X = table_of([("a", np.nan, 2), ("b", 9, np.nan)])
    with pytest.raises(ValueError, match="scores are NaN"):
        sibling_auc(AsMachine().fit(X), X)
    X = table_of([("a", 1, np.nan), ("b", 9, np.nan)])
    assert sibling_auc(AsMachine().fit(X), X) == 1.0


def test_transformers_run_once():
    calls = []

    def record(X):
        calls.append(len(X))
        return X

    X = table_of([("a", 1, 2), ("b", 9, 1), ("a", 3, 4), ("b", 4, 3)])
    pipe = make_pipeline(FunctionTransformer(record), AsMachine()).fit(X)
    calls.clear()
    expected = sibling_table(AsMachine().fit(X), X)
    pd.testing.assert_frame_equal(sibling_table(pipe, X), expected)
    assert calls == [4]
    pd.testing.assert_frame_equal(sibling_table(FrozenEstimator(pipe), X), expected)


def test_tables_of_detectors_are_told_from_other_attributes():
    detector = AsMachine()
    assert own_table(detector) is None
    detector.machines_ = np.array(["a"])  # as of confidence detectors
    assert own_table(detector) is None
    detector.machines_ = pd.DataFrame({"alpha": [1]})
    assert own_table(detector) is None
    detector.machines_ = pd.DataFrame(
        {"sibling_auc": [1.0], "sibling_gap": [2.0], "alpha": [1]}, index=["a"]
    )
    for one in (detector, make_pipeline(detector), FrozenEstimator(detector)):
        assert own_table(one).columns.tolist() == ["sibling_auc", "sibling_gap"]


def test_a_search_chooses_what_tells_siblings_apart():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 2))
    scores[::2, 1] += 2
    scores[1::2, 0] += 2
    X = table_of([("ab"[i % 2], *scores[i]) for i in range(20)])
    search = GridSearchCV(
        AsMachine(),
        {"power": [1, 0]},  # 0 keeps the signs only
        scoring=sibling_auc,
        cv=MachineStratifiedKFold(2),
    ).fit(X)
    assert search.best_params_ == {"power": 1}
    assert repr(sibling_auc) == "sibling_auc"


# -- trained models --------------------------------------------------------------


@pytest.fixture(scope="module")
def clips():
    return make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=8,
        n_test_normal=0,
        n_test_anomalous=2,
        duration=2.0,
        random_state=0,
    )


@pytest.mark.parametrize(
    "detector",
    [
        PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector())),
        EmbeddingNeighborDetector(SpectrumStatistics()),
        GammaProbabilityEnsemble(
            [("near", EmbeddingNeighborDetector(SpectrumStatistics()))]
        ),
    ],
)
def test_detectors_of_machines_tell_siblings_apart(clips, detector):
    pipe = make_pipeline(LogMelSegmenter(segment_duration=None), detector)
    y = clips["label"].to_numpy()
    cv = MachineStratifiedKFold(2)
    aucs = cross_val_score(pipe, clips, y, cv=cv, scoring=sibling_auc)
    assert (aucs > 0.8).all()
    X = pipe[:-1].fit_transform(clips)
    again = cross_val_score(detector, X, y, cv=cv, scoring=sibling_auc)
    np.testing.assert_allclose(again, aucs)
