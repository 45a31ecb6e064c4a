import numpy as np
import pandas as pd
import pytest

from sklearn_asd import Clips
from sklearn_asd.audio.machines import (
    as_labels,
    count_held_out,
    hold_out,
    known_labels,
    machine_columns,
    machine_labels,
    refuse_unseen,
)

PATHS = ["a.wav", "b.wav", "c.wav"]
WAVES = np.zeros((3, 5))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 2, 4], ["0", "2", "4"]),
        ([0.0, np.nan, 4.0], ["0", None, "4"]),
        ([1.5, np.int64(3), np.float32(2)], ["1.5", "3", "2"]),
        (["00", "02", ""], ["00", "02", ""]),
        (["00", None, pd.NA], ["00", None, None]),
        (pd.Series(["00", "02", None], dtype="category"), ["00", "02", None]),
        (pd.Series([1, None, 3], dtype="Int64"), ["1", None, "3"]),
        (np.array(["00", "02", "04"]), ["00", "02", "04"]),
    ],
)
def test_labels_become_strings(values, labels):
    assert list(Clips(PATHS, machine_id=values).machine_id) == labels
    table = pd.DataFrame({"path": PATHS, "machine_id": values}).set_axis([4, 4, 2])
    assert list(Clips.from_X(table).machine_id) == labels


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_column_of_missing_labels_is_no_column(missing):
    table = pd.DataFrame({"path": PATHS, "machine_id": missing})
    assert Clips.from_X(table).machine_id is None
    assert machine_columns(table) == (None, None)


def test_machine_labels_join_type_and_id():
    table = pd.DataFrame(
        {
            "path": ["a.wav"] * 4,
            "machine_type": ["fan", "fan", None, "pump"],
            "machine_id": [0, 2, 4, None],
        }
    )
    for X in (table, Clips.from_X(table)):
        assert list(machine_labels(X)) == ["fan/0", "fan/2", "4", None]


def test_machine_labels_are_ids_where_there_are_no_types():
    assert list(machine_labels(Clips(PATHS, machine_id=list("xyz")))) == list("xyz")


@pytest.mark.parametrize("X", [Clips(PATHS, machine_type=["fan"] * 3), PATHS, WAVES])
def test_without_ids_there_are_no_machine_labels(X):
    assert machine_labels(X) is None


def test_labels_are_given_one_by_one():
    with pytest.raises(ValueError, match="domains are given as one string, 'fan'"):
        as_labels("fan")
    with pytest.raises(ValueError, match=r"named \['a', 'b'\]; give each clip one"):
        as_labels([["a", "b"]])


def test_machines_that_must_be_known_are_asked_for():
    clips = Clips(PATHS, machine_type=["fan"] * 3, machine_id=[0, 2, 4])
    assert known_labels(clips, "to fit").tolist() == ["fan/0", "fan/2", "fan/4"]
    with pytest.raises(ValueError, match="no machine IDs, which are needed to fit: "):
        known_labels(Clips(PATHS), "to fit")
    message = "missing for clips 0, 2 of those used, and is needed to fit: fill it in"
    with pytest.raises(ValueError, match=message):
        known_labels(Clips(PATHS, machine_id=[None, 2, None]), "to fit")


def test_machines_that_were_not_fitted_are_refused():
    refuse_unseen(np.array(["a", "b"]), ["b", "a", "c"])
    message = "not among those fitted: d; known are a, b.*recordings, or else"
    with pytest.raises(ValueError, match=message):
        refuse_unseen(np.array(["a", "d"]), ["b", "a"], ", or else")


@pytest.mark.parametrize(
    ("share", "n_clips", "n_held_out"),
    [(0.2, 100, 20), (0.25, 12, 3), (0.1, 4, 1), (0.9, 3, 2), (0.5, 1, 0)],
)
def test_a_share_is_at_least_one_clip_and_never_all(share, n_clips, n_held_out):
    assert count_held_out(share, n_clips) == n_held_out


def test_the_first_rows_of_each_machine_are_held_out():
    machine = np.array(list("aabbbb"))
    held_out = hold_out(np.array([5, 1, 3, 0, 2]), machine, 0.5)  # not row 4
    assert np.flatnonzero(held_out).tolist() == [1, 3, 5]


def test_the_only_clip_of_a_machine_is_not_held_out():
    assert not hold_out(np.array([0]), np.array(["a"]), 0.5).any()
