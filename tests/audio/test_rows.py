import numpy as np
import pytest

from sklearn_asd import Clips
from sklearn_asd.audio.rows import as_row_index, count_clips


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (np.int64(-1), [3]),
        (slice(1, 3), [1, 2]),
        ([True, False, False, True], [0, 3]),
        ([2, 0, 2], [2, 0, 2]),
        (([1], ...), [1]),
        ([], []),
    ],
)
def test_what_containers_are_indexed_with_becomes_rows(index, rows):
    assert np.arange(4)[as_row_index(index, 4)].tolist() == rows


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (4, "there is no clip 4 among 4"),
        (-5, "there is no clip -5 among 4"),
        ([[0, 1]], "indexed by an integer, a slice, a boolean mask or an array"),
        ("x", "not by 'x'"),
    ],
)
def test_what_names_no_rows_is_refused(index, message):
    with pytest.raises(IndexError, match=message):
        as_row_index(index, 4)


def test_a_column_may_be_absent():
    clips = Clips(["a.wav", "b.wav", "c.wav"], machine_id=["x", "y", "z"])
    assert clips[[2, 0]].machine_id.tolist() == ["z", "x"]
    assert clips[1].machine_type is None
    with pytest.raises(ValueError, match="machine_id has 2 values for 3 clips"):
        Clips(clips.sources, machine_id=["a", "b"])


def test_clips_and_machines_are_counted():
    assert count_clips(1, None) == "1 clip"
    assert count_clips(3, np.array(["a", None, "a"])) == "3 clips, 1 machine"
