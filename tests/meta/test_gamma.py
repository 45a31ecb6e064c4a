import numpy as np
import pytest
from scipy.special import gammaincc
from scipy.stats import gamma

from sklearn_asd.meta.gamma import GammaScale, _log_tail


@pytest.mark.parametrize("shape", [0.05, 1.0, 7.0, 1e4])
def test_the_fit_is_scipys_maximum_likelihood(rng, shape):
    scores = rng.gamma(shape, 3.0, size=400)
    expected_shape, _, expected_scale = gamma.fit(scores, floc=0)
    scale = GammaScale.fit(scores, "x")
    assert scale.shape == pytest.approx(expected_shape, rel=1e-6)
    assert scale.scale == pytest.approx(expected_scale, rel=1e-6)
    assert scale.shift == 0


def test_probabilities_are_those_of_scipy(rng):
    scores = np.append(rng.gamma(2.5, 0.1, size=50), [1e-30, 0.0])
    log_cdf, log_sf = GammaScale(2.5, 0.1, 0.0).log_cdf_sf(scores)
    np.testing.assert_allclose(
        np.exp(log_cdf), gamma.cdf(scores, 2.5, scale=0.1), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.exp(log_sf), gamma.sf(scores, 2.5, scale=0.1), rtol=1e-12
    )


def test_the_tail_is_exact_where_probabilities_round_to_0():
    """By hand: 1 - F is exp(-x) for shape 1, and (1 + x) exp(-x) for shape 2."""
    x = np.array([10.0, 500.0, 600.0, 800.0, 1e4, 1e6])
    np.testing.assert_allclose(GammaScale(1, 1, 0).log_cdf_sf(x)[1], -x, rtol=1e-13)
    np.testing.assert_allclose(
        GammaScale(2, 1, 0).log_cdf_sf(x)[1], np.log1p(x) - x, rtol=1e-13
    )


@pytest.mark.parametrize("shape", [0.03, 1.0, 30.0, 1e4])
def test_the_tails_formula_agrees_with_scipys_function_where_both_hold(shape):
    x = shape + np.geomspace(30, 400, 50) * max(1, shape**0.5 / 16)
    survival = gammaincc(shape, x)
    assert (survival > 0).all()
    np.testing.assert_allclose(_log_tail(shape, x), np.log(survival), rtol=1e-10)


def test_scores_of_0_and_below_are_shifted_to_one_deviation_above_0():
    scores = np.array([-2.0, 0.0, 1.0, 3.0])
    scale = GammaScale.fit(scores, "x")
    assert scale.shift == pytest.approx(2 + scores.std())
    log_cdf, log_sf = scale.log_cdf_sf(np.array([-99.0, -2.0, 3.0, 99.0]))
    assert np.all(np.diff(log_cdf) > 0)
    assert np.all(np.diff(log_sf) < 0)
    assert log_cdf[0] == -np.inf  # less than ever seen counts as 0


def test_nearly_equal_scores_can_be_fitted():
    scale = GammaScale.fit(np.array([1.0, 1.0 + 1e-15, 1.0]), "x")
    assert np.isfinite(scale).all()
    assert np.isfinite(scale.log_cdf_sf(np.array([1.0, 2.0]))[1]).all()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, 0.5], "scores of member 'a' are all equal"),
        ([0.5, np.nan], "scores of member 'a' are of 1 clip"),
        ([0.5, np.inf], "scores of member 'a' hold infinity"),
    ],
)
def test_scores_without_a_distribution_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        GammaScale.fit(np.array(scores), "member 'a'")


def test_an_infinite_score_is_beyond_doubt():
    log_cdf, log_sf = GammaScale(2.0, 1.0, 0.0).log_cdf_sf(np.array([np.inf, 1.0]))
    assert (log_cdf[0], log_sf[0]) == (0.0, -np.inf)
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(ValueError, match="as large as 1.7e.308, too large"),
    ):
        GammaScale.fit(np.array([1e308, 1.7e308, 1.2e308]), "x")
