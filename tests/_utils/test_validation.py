import numpy as np
import pandas as pd
import pytest

from sklearn_asd import Clips
from sklearn_asd._utils.validation import is_table_of_numbers, normal_rows


@pytest.mark.parametrize(
    "y", [[1, -1, 1], np.array([1.0, -1.0, 1.0]), pd.Series([1, -1, 1], dtype="Int64")]
)
def test_normal_clips_are_labelled_1(y):
    assert normal_rows(y, 3).tolist() == [True, False, True]


def test_without_labels_all_clips_are_normal():
    assert normal_rows(None, 2).tolist() == [True, True]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1], r"y has shape \(1,\) for 2 clips"),
        ([[1, 1]], r"y has shape \(1, 2\) for 2 clips"),
        ([1, 0], "y holds 0; labels are \\+1 normal and -1"),
        ([True, 1], "y holds True"),
        (["fan", None], "y holds None, fan"),
        ([1, np.nan], "y holds nan"),
    ],
)
def test_other_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        normal_rows(y, 2)


def test_lenient_detectors_ignore_other_labels():
    with pytest.warns(UserWarning, match="y is ignored"):
        assert normal_rows(["fan", "pump"], 2, lenient=True).tolist() == [True, True]


@pytest.mark.parametrize(
    ("X", "numbers"),
    [
        (np.zeros((2, 3)), True),
        ([[1.0, 2.0]], True),
        (pd.DataFrame({"a": [1.0]}), True),
        (pd.DataFrame({"path": ["a.wav"]}), False),
        (pd.DataFrame({"audio": [np.zeros(3)]}), False),
        (["a.wav"], False),
        ([np.zeros(3)], False),
        (np.array(["a.wav"], dtype=object), False),
        (Clips(["a.wav"]), False),
    ],
)
def test_tables_of_numbers_are_told_from_clips(X, numbers):
    assert is_table_of_numbers(X) == numbers
