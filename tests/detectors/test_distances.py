import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sklearn_asd.detectors.distances import (
    DISTANCES,
    cosine,
    euclidean,
    make_whitening,
)


@pytest.mark.parametrize(
    ("distance", "name"), [(cosine, "cosine"), (euclidean, "euclidean")]
)
def test_distances_are_those_of_scipy(rng, distance, name):
    points, others = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(distance(points, others), cdist(points, others, name))


def test_distances_have_names():
    assert DISTANCES == {"cosine": cosine, "mahalanobis": euclidean}


def test_tiny_angles_keep_their_digits():
    angle = 1e-9  # whose cosine rounds to 1
    (distance,) = cosine(np.array([[1.0, angle]]), np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(distance, angle**2 / 2)


def test_a_point_of_0_has_a_distance():
    assert cosine(np.zeros((1, 2)), np.array([[3.0, 0.0]])).tolist() == [[0.5]]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 / 3])
def test_rows_that_are_equal_for_each_machine_are_left_as_they_are(value):
    rows = np.repeat([[value, 2 * value], [7.0, value]], 9, axis=0)
    whitening = make_whitening(rows, np.repeat([0, 1], 9))
    np.testing.assert_array_equal(whitening, np.eye(2))


def test_whitened_deviations_have_unit_covariance(rng):
    machine = np.repeat([0, 1], 5000)
    points = rng.normal(size=(10000, 2)) * [2, 1] + 50 * machine[:, None]
    whitened = points @ make_whitening(points, machine)
    for one in (0, 1):
        covariance = np.cov(whitened[machine == one].T)
        np.testing.assert_allclose(covariance, np.eye(2), atol=0.1)
