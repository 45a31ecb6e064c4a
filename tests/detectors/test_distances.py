import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sklearn_asd.detectors.distances import (
    DISTANCES,
    cosine,
    euclidean,
    make_whitening,
    own_shares,
    without_own_share,
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


@pytest.mark.parametrize("value", [0.1, 1e9 / 3])
def test_rows_that_are_equal_for_each_machine_are_measured_by_rounding(value):
    rows = np.repeat([[value, 2 * value], [value, -value]], 9, axis=0)
    whitening = make_whitening(rows, np.repeat([0, 1], 9))
    np.testing.assert_allclose(whitening, np.diag([1e7 / value, 5e6 / value]))


def test_whitened_deviations_have_unit_covariance(rng):
    machine = np.repeat([0, 1], 5000)
    points = rng.normal(size=(10000, 2)) * [2, 1] + 50 * machine[:, None]
    whitened = points @ make_whitening(points, machine)
    for one in (0, 1):
        covariance = np.cov(whitened[machine == one].T)
        np.testing.assert_allclose(covariance, np.eye(2), atol=0.1)


def test_a_clip_is_measured_by_the_covariance_without_its_own_share(rng):
    points = rng.normal(size=(9, 3))
    machine = np.repeat([0, 1], [4, 5])
    deviations = points - np.repeat(
        [points[:4].mean(axis=0), points[4:].mean(axis=0)], [4, 5], axis=0
    )
    whitening = make_whitening(points, machine)
    shares = own_shares(points, machine)
    whitened = points @ whitening
    found = without_own_share(
        cdist(whitened, whitened), whitened, whitened, deviations @ whitening, shares
    )
    covariance = np.linalg.inv(whitening @ whitening.T)
    for clip in range(9):
        own = shares[clip] * np.outer(deviations[clip], deviations[clip])
        inverse = np.linalg.inv(covariance - own)
        expected = cdist(points[[clip]], points, "mahalanobis", VI=inverse)
        np.testing.assert_allclose(found[[clip]], expected, atol=1e-12)


def test_the_share_of_a_clip_is_what_the_scatter_loses_without_it(rng):
    points = rng.normal(size=(2000, 1))
    (first, *_) = own_shares(points, np.zeros(2000))  # hardly any shrinkage in 1-D
    points[0] = 50.0
    share = own_shares(points, np.zeros(2000))[0]
    scatter, without = points.var(), points[1:].var() * 1999 / 2000
    deviation = 50 - points.mean()
    np.testing.assert_allclose(scatter - share * deviation**2, without, rtol=1e-6)
    assert share == pytest.approx(first)
