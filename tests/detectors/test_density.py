import numpy as np
import pytest

from sklearn_asd.detectors.density import mean_smallest, typical


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 3, 2], 2),
        ([0, 0, 0, 4, 6], 5),
        ([1e-16, 1e-17, 0, 3], 3),
        ([0, 0], 1),
    ],
)
def test_the_typical_value_is_the_median_of_what_is_above_0(values, expected):
    assert typical(np.array(values, dtype=float)) == expected


def test_the_smallest_values_are_averaged_along_the_last_axis():
    values = np.array([[[5.0, 1, 2], [np.inf, 7, 9]]])
    assert mean_smallest(values, 2).tolist() == [[1.5, 8]]
