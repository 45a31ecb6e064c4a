import numpy as np
import pytest

from sklearn_asd.detectors import shared_covariance
from sklearn_asd.detectors.shared_covariance import fit_gaussians


@pytest.fixture
def clips(rng):
    """Two machines of 8 and 12 clips, with different covariances."""
    machine = np.repeat([0, 1], [8, 12])
    points = rng.normal(size=(20, 4)) * [1.0, 2.0, 3.0, 4.0]
    points[machine == 1] = points[machine == 1, ::-1] + 5
    return points, machine


def distance(point, points, machine, one, sharing, shrinkage, power):
    """Distance of a point to a machine, by the definition."""
    means = np.stack([points[machine == m].mean(axis=0) for m in range(2)])
    deviations = points - means[machine]
    scale = np.sqrt((deviations**2).sum(axis=0) / (len(points) - 2)) ** power
    deviations = deviations / scale
    own = deviations[machine == one]
    covariance = (1 - sharing) * own.T @ own / (len(own) - 1)
    covariance += sharing * deviations.T @ deviations / (len(points) - 2)
    identity = np.trace(covariance) / 4 * np.eye(4)
    covariance = (1 - shrinkage) * covariance + shrinkage * identity
    z = (point - means[one]) / scale
    return np.sqrt(z @ np.linalg.solve(covariance, z))


@pytest.mark.parametrize("sharing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
def test_distances_and_those_of_left_out_clips_are_those_of_the_definition(
    clips, sharing, shrinkage
):
    points, machine = clips
    fitted = fit_gaussians(points, machine, [sharing], [shrinkage], [0.0])
    for one in range(2):
        settings = fitted.sharings[one], shrinkage, 0.0
        expected = distance(points[3], points, machine, one, *settings)
        whitened = (points[3] - fitted.means[one]) @ fitted.whitenings[one]
        assert np.linalg.norm(whitened) == pytest.approx(expected)
        for row in range(20):
            kept = np.arange(20) != row
            expected = distance(
                points[row], points[kept], machine[kept], one, *settings
            )
            assert fitted.to_siblings[one, row] == pytest.approx(expected)
    own = fitted.to_siblings[machine, np.arange(20)]
    np.testing.assert_array_equal(fitted.left_out, own)


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
def test_standardized_distances_are_close_to_a_fit_without_the_clip(
    rng, shrinkage, power
):
    """What a clip adds to standard deviations counts to first order."""
    machine = np.repeat([0, 1], 100)
    points = rng.normal(size=(200, 4)) * [1.0, 2.0, 3.0, 4.0] + machine[:, None]
    fitted = fit_gaussians(points, machine, [0.5], [shrinkage], [power])
    expected = np.empty((2, 200))
    for one, row in np.ndindex(2, 200):
        kept = np.arange(200) != row
        # As in a fit with 100 clips in the median, whichever clip is left out.
        sharing = fitted.sharings[one]
        settings = one, sharing, shrinkage, power
        expected[one, row] = distance(
            points[row], points[kept], machine[kept], *settings
        )
    np.testing.assert_allclose(fitted.to_siblings, expected, rtol=3e-3)
    assert abs((fitted.left_out / expected[machine, range(200)] - 1).mean()) < 2e-4


@pytest.mark.parametrize("sharing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_few_clips_of_many_columns_are_fitted_in_the_space_that_they_span(
    rng, sharing, power, monkeypatch
):
    machine = np.repeat([0, 1], [9, 11])
    points = rng.normal(size=(20, 60)) * np.linspace(1, 3, 60) + machine[:, None]
    settings = [sharing], [0.1, 0.3], [power]
    fitted = fit_gaussians(points, machine, *settings)
    monkeypatch.setattr(shared_covariance, "_find_span", lambda points: None)
    expected = fit_gaussians(points, machine, *settings)
    assert fitted.shrinkage == expected.shrinkage
    np.testing.assert_allclose(fitted.to_siblings, expected.to_siblings)
    new = rng.normal(size=(5, 60)) - fitted.means[0]
    found, wanted = (new @ one.whitenings[0] for one in (fitted, expected))
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1), np.linalg.norm(wanted, axis=1)
    )


def test_the_common_covariance_counts_as_many_clips_everywhere(rng):
    """Half of the weight at the median of 10 clips, so as much as 10 clips have."""
    machine = np.repeat([0, 1, 2], [5, 10, 30])
    fitted = fit_gaussians(rng.normal(size=(45, 2)), machine, [0.5], [0.1])
    np.testing.assert_allclose(fitted.sharings, [10 / 15, 10 / 20, 10 / 40])


def test_the_likelihood_chooses_to_share_what_is_alike_and_else_not(rng):
    alike = rng.normal(size=(200, 20)) @ rng.normal(size=(20, 20))
    machine = np.repeat(np.arange(8), 25)
    assert fit_gaussians(alike, machine).sharings.min() > 0.8
    apart = np.concatenate(
        [rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) for _ in range(2)]
    )
    assert fit_gaussians(apart, np.repeat([0, 1], 200)).sharings.max() < 0.3


def test_the_likelihood_is_that_of_the_density_whatever_the_standardization(rng):
    """Where nothing is to be shrunk, all standardizations are one Gaussian."""
    points = rng.normal(size=(500, 2)) * [1.0, 100.0]
    machine = np.zeros(500, dtype=int)
    fitted = [fit_gaussians(points, machine, [0], [0.0], [p]) for p in (0.0, 1.0)]
    np.testing.assert_allclose(fitted[0].left_out, fitted[1].left_out)
    # Shrinkage would hold the first column back, so the likelihood standardizes.
    chosen = fit_gaussians(points, machine, [0], [0.3], [0.0, 1.0])
    assert chosen.standardization == 1.0


def test_machines_of_two_clips_and_more_columns_than_clips_have_finite_distances(rng):
    points, machine = rng.normal(size=(6, 50)), np.repeat([0, 1, 2], 2)
    fitted = fit_gaussians(points, machine)
    assert np.isfinite(fitted.to_siblings).all()
    assert np.isfinite(fitted.whitenings).all()


@pytest.mark.parametrize("level", [0.0, 5.0, -1e-12, 1e9])
@pytest.mark.parametrize("standardization", [0.0, 1.0])
def test_any_deviation_from_constant_columns_is_far(level, standardization):
    points = np.full((20, 3), level)
    fitted = fit_gaussians(
        points, np.zeros(20, dtype=int), standardizations=[standardization]
    )
    np.testing.assert_allclose(fitted.left_out, 0, atol=1e-6)
    new = points[0] + [0, max(abs(level), 1) / 10, 0]
    assert np.linalg.norm((new - fitted.means[0]) @ fitted.whitenings[0]) > 1000


def test_constant_columns_among_others_do_not_hide_their_deviations(rng):
    points = np.column_stack([rng.normal(size=(30, 2)), np.full(30, -80.0)])
    fitted = fit_gaussians(points, np.zeros(30, dtype=int))
    new = points[0] + [0, 0, 0.1]
    whitened = (new - fitted.means[0]) @ fitted.whitenings[0]
    assert np.linalg.norm(whitened) > 100 * fitted.left_out.max()
