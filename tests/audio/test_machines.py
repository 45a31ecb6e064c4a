import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_asd import Clips
from sklearn_asd.audio.machines import (
    as_labels,
    count_held_out,
    hold_out,
    known_labels,
    machine_columns,
    machine_labels,
    refuse_unseen,
    type_prefix,
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


NAMES = st.text("ab/\\ ", min_size=1, max_size=4).filter(str.strip)


@given(st.lists(st.tuples(st.none() | NAMES, NAMES), min_size=2, max_size=6))
@settings(deadline=None, database=None, max_examples=200)
def test_names_of_machines_are_equal_only_if_type_and_id_are(machines):
    kinds, ids = zip(*machines, strict=True)
    clips = Clips(PATHS[:1] * len(ids), machine_type=kinds, machine_id=ids)
    if clips.machine_type is None:
        return
    labels = machine_labels(clips)
    pairs = list(zip(clips.machine_type, clips.machine_id, strict=True))
    for one, label in zip(pairs, labels, strict=True):
        assert [pair == one for pair in pairs] == [name == label for name in labels]
        if one[0] is not None:
            starts = [name.startswith(type_prefix(one[0])) for name in labels]
            assert starts == [kind == one[0] for kind, _ in pairs]


def test_ordinary_names_are_written_as_they_are():
    clips = Clips(
        PATHS, machine_type=["fan 1", "Lüfter", "a"], machine_id=["a", "/", "b/c"]
    )
    assert list(machine_labels(clips)) == ["fan 1/a", "Lüfter//", "a/b/c"]
    clips = Clips(PATHS[:2], machine_type=["a/b", "a"], machine_id=["c", "b/c"])
    assert list(machine_labels(clips)) == ["a\\/b/c", "a/b/c"]


@pytest.mark.parametrize("name", ["Gerät", "Å 7", "펌프", "é", "pump"])
def test_a_name_is_one_in_every_unicode_form_and_with_blanks_around(name):
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    forms += [f"  {name}\t", f"{forms[1]} "]
    assert len(set(as_labels(forms))) == 1
    table = pd.DataFrame({"path": "a.wav", "machine_type": forms, "machine_id": "7"})
    assert len(set(machine_labels(table))) == 1
    assert len(set(Clips.from_X(table).machine_type)) == 1


def test_masked_labels_are_missing():
    labels = np.ma.array(["00", "02", "04"], mask=[0, 1, 0])
    assert list(as_labels(labels)) == ["00", None, "04"]
    assert as_labels(np.ma.masked_all(2)) is None
    rates = np.ma.array([8000.0, 1.0, 2.0], mask=[0, 1, 0])
    found = Clips(PATHS, sample_rate=rates).sample_rate
    np.testing.assert_array_equal(found, [8000, np.nan, 2])


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
