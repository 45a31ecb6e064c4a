"""Folds that hold every machine."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    Clips,
    ClipSpectrograms,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import auc_table, mean_auc_scorer
from sklearn_asd.model_selection import MachineStratifiedKFold


def table(machine_id, **columns):
    return pd.DataFrame({"machine_id": list(machine_id), **columns})


def list_tests(folds, X, y=None):
    """Rows of each test part; the training parts hold the others."""
    tests = []
    for train, test in folds.split(X, y):
        both = np.concatenate([train, test])
        assert sorted(both) == list(range(len(X)))
        tests.append(test.tolist())
    return tests


# --- known answers


def test_successive_clips_of_each_machine_make_the_folds():
    X = table("aaaabbbb")
    y = [1, 1, 1, -1, 1, 1, -1, -1]
    # a: normal 0 1 | 2, anomalous 3 |; b: normal 4 | 5, anomalous 6 | 7.
    assert list_tests(MachineStratifiedKFold(2), X, y) == [[0, 1, 3, 4, 6], [2, 5, 7]]


def test_clips_left_over_go_to_the_fold_whose_turn_it_is():
    X = table("aaaabbbbcccc")
    tests = list_tests(MachineStratifiedKFold(3), X)
    # a: 0 1 | 2 | 3, b: 4 | 5 6 | 7, c: 8 | 9 | 10 11.
    assert tests == [[0, 1, 4, 8], [2, 5, 6, 9], [3, 7, 10, 11]]


def test_single_anomalies_of_machines_lie_in_different_folds():
    X, y = table("aaabbbccc"), [1, 1, -1] * 3
    tests = list_tests(MachineStratifiedKFold(2), X, y)
    assert [sum(y[row] == -1 for row in test) for test in tests] == [2, 1]


def test_machines_mixed_in_any_order_keep_the_order_of_their_own_clips():
    assert list_tests(MachineStratifiedKFold(2), table("abbabaab")) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


def test_the_same_id_in_two_types_is_two_machines():
    X = table("aaaa", machine_type=["fan", "fan", "pump", "pump"])
    assert list_tests(MachineStratifiedKFold(2), X) == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((4, 9)),
        ["1.wav", "2.wav", "3.wav", "4.wav"],
        pd.DataFrame({"path": list("1234")}),
        table([None] * 4),
        ClipSpectrograms.from_arrays(np.zeros((4, 2, 96))),
    ],
    ids=["waveforms", "paths", "table", "missing IDs", "spectrograms"],
)
def test_clips_without_machines_are_of_one(X):
    assert list_tests(MachineStratifiedKFold(2), X) == [[0, 1], [2, 3]]


def test_machines_of_all_kinds_of_clips_are_read():
    machine_id = list("abbabaab")
    for X in (
        Clips(["x.wav"] * 8, machine_id=machine_id),
        ClipSpectrograms.from_arrays(np.zeros((8, 2, 96)), machine_id=machine_id),
    ):
        expected = list_tests(MachineStratifiedKFold(2), table(machine_id))
        assert list_tests(MachineStratifiedKFold(2), X) == expected


def test_clips_of_no_known_machine_count_as_one_machine():
    X = table(["a", "a", None, None])
    assert list_tests(MachineStratifiedKFold(2), X) == [[0, 2], [1, 3]]


# --- relations


@st.composite
def machines_and_labels(draw):
    """Of each machine at least as many normal clips as folds, in any order."""
    n_splits = draw(st.integers(2, 5))
    rows = []
    for machine in range(draw(st.integers(1, 4))):
        rows += [(machine, 1)] * draw(st.integers(n_splits, 12))
        rows += [(machine, -1)] * draw(st.integers(0, 7))
    machine, y = np.array(draw(st.permutations(rows))).T
    shuffle = draw(st.booleans())
    seed = draw(st.integers(0, 9)) if shuffle else None
    return MachineStratifiedKFold(n_splits, shuffle=shuffle, random_state=seed), (
        machine,
        y,
    )


@settings(deadline=None, max_examples=100, database=None)
@given(machines_and_labels())
def test_every_machine_is_in_every_fold(drawn):
    folds, (machine, y) = drawn
    X = table(machine)
    assert folds.get_n_splits(X, y) == len(list_tests(folds, X, y))
    tests = [test for _, test in folds.split(X, y)]
    assert (np.sort(np.concatenate(tests)) == np.arange(len(X))).all()
    for one in np.unique(machine):
        normal = [((machine == one) & (y == 1))[test].sum() for test in tests]
        anomalous = [((machine == one) & (y == -1))[test].sum() for test in tests]
        assert min(normal) >= 1
        assert np.ptp(normal) <= 1
        assert np.ptp(anomalous) <= 1
    for label in (1, -1):
        assert np.ptp([(y[test] == label).sum() for test in tests]) <= 1
    again = list_tests(folds, X, y)
    assert again == [test.tolist() for test in tests]


def test_the_folds_do_not_depend_on_the_index_of_a_table_or_the_kind_of_y():
    X, y = table("aaabbb"), [1, 1, -1, 1, 1, -1]
    expected = list_tests(MachineStratifiedKFold(2), X, y)
    labels = pd.Series(y, index=range(10, 16))
    assert (
        list_tests(MachineStratifiedKFold(2), X.set_axis([7] * 6), labels) == expected
    )


def test_shuffled_folds_follow_the_seed():
    X = table("a" * 20 + "b" * 20)

    def draw(seed):
        return list_tests(MachineStratifiedKFold(4, shuffle=True, random_state=seed), X)

    assert draw(0) == draw(0) == draw(np.random.RandomState(0))
    assert draw(0) != draw(1)
    assert draw(0) != list_tests(MachineStratifiedKFold(4), X)


def test_it_is_a_splitter_of_scikit_learn():
    folds = MachineStratifiedKFold(3, shuffle=True, random_state=1)
    text = "MachineStratifiedKFold(n_splits=3, random_state=1, shuffle=True)"
    assert MachineStratifiedKFold().get_n_splits() == 5
    assert check_cv(folds) is folds
    for other in (
        folds,
        copy.deepcopy(folds),
        clone(folds, safe=False),
        pickle.loads(pickle.dumps(folds)),
    ):
        assert repr(other) == text
        assert list_tests(other, table("aaa")) == list_tests(folds, table("aaa"))
    search = clone(GridSearchCV(IsolationForest(), {}, cv=folds))
    assert repr(search.cv) == text


# --- errors


def test_a_machine_with_fewer_normal_clips_than_folds_is_named():
    X = table("aaaaabbbcc", machine_type=["fan"] * 10)
    message = r"n_splits=4 needs 4 normal .*\(fan/b: 3, fan/c: 2\): lower n_splits to 2"
    with pytest.raises(ValueError, match=message):
        MachineStratifiedKFold(4).split(X)
    y = [1] * 8 + [-1] * 2
    message = r"\(fan/b: 3, fan/c: 0\): add normal clips of these machines, or leave"
    with pytest.raises(ValueError, match=message):
        MachineStratifiedKFold(4).split(X, y)
    with pytest.raises(ValueError, match=r"\(clips without machine ID: 2\)"):
        MachineStratifiedKFold(3).split(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="X holds 0 clips"):
        MachineStratifiedKFold(3).split(table(""))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_splits": 1}, "The 'n_splits' parameter"),
        ({"n_splits": 2.5}, "The 'n_splits' parameter"),
        ({"shuffle": "yes"}, "The 'shuffle' parameter"),
        ({"shuffle": True, "random_state": "a"}, "The 'random_state' parameter"),
        ({"random_state": 0}, "random_state=0 changes nothing.*set shuffle=True"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        MachineStratifiedKFold(**parameters).split(table("aaaaa"))


def test_bad_labels_and_groups_are_explained():
    folds = MachineStratifiedKFold(2)
    with pytest.raises(ValueError, match="y holds 0; labels are"):
        folds.split(table("aa"), [0, 1])
    with pytest.raises(ValueError, match=r"y has shape \(1,\) for 2 clips"):
        folds.split(table("aa"), [1])
    with pytest.warns(UserWarning, match="groups is not used.*machines from X"):
        folds.split(table("aa"), groups=[0, 1])


# --- a search


def test_a_search_keeps_every_machine_in_every_fold():
    """PerMachine would refuse to score a machine that it was not fitted on."""
    clips = make_machine_sounds(
        ["fan", "valve"],
        n_machines=2,
        n_train=6,
        n_test_normal=0,
        n_test_anomalous=3,
        duration=4.0,
        random_state=0,
    )
    spectrum = make_pipeline(SpectrumStatistics(), MahalanobisDetector(n_folds=2))
    search = GridSearchCV(
        make_pipeline(LogMelSegmenter(n_mels=16), PerMachine(spectrum)),
        {"logmelsegmenter__n_mels": [8, 32]},
        scoring=mean_auc_scorer,
        cv=MachineStratifiedKFold(3),
        error_score="raise",
    ).fit(clips, clips["label"])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    scores = search.score_samples(clips)
    assert (
        search.score(clips, clips["label"])
        == (auc_table(clips, clips["label"], scores).iloc[-1]["auc"])
    )
