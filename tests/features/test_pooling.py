from dataclasses import FrozenInstanceError
from functools import partial, wraps

import numpy as np
import pytest
from scipy.stats import skew

from sklearn_asd.features import (
    POOLINGS,
    BandCorrelations,
    DeviationWeightedMean,
    GeneralizedMean,
    Percentile,
    RankWeightedMean,
    pool,
)
from sklearn_asd.features.pooling import (
    check_score_pooling,
    list_own,
    mean,
    median,
    name_poolings,
    relative_power,
    skewness,
    std,
)

VALUES = np.array([[1.0, 0.0], [4.0, 0.0], [2.0, 6.0]])  # 3 times, 2 columns
LEVEL = 10 * np.log10(5.5)  # of 0 dB and 10 dB: (1 + 10) / 2


# --- known answers


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [7 / 3, 2]),
        ("std", [np.sqrt(14 / 9), np.sqrt(8)]),
        ("max", [4, 6]),
        ("median", [2, 0]),
        # moments of (-4, 5, -1) / 3 and (-2, -2, 4)
        ("skewness", [(60 / 27 / 3) / (42 / 9 / 3) ** 1.5, 16 / 8**1.5]),
        ("rank", [(4 + 2 * 0.7 + 1 * 0.49) / 2.19, 6 / 2.19]),
        (RankWeightedMean(0.5), [(4 + 1 + 0.25) / 1.75, 6 / 1.75]),
        (RankWeightedMean(1), [7 / 3, 2]),
        (RankWeightedMean(0), [4, 6]),
        (Percentile(0), [1, 0]),
        (Percentile(25), [1.5, 0]),
        (Percentile(90), [2 + 0.8 * 2, 0.8 * 6]),
        (Percentile(100), [4, 6]),
        ("generalized_mean", [(73 / 3) ** (1 / 3), 72 ** (1 / 3)]),
        (GeneralizedMean(1), [7 / 3, 2]),
        (GeneralizedMean(2), [7**0.5, 12**0.5]),
        # lengths of (-4, -6) / 3, (5, -6) / 3 and (-1, 12) / 3, relative to each other
        (
            "deviation_weighted",
            np.sqrt([52, 61, 145]) @ VALUES / np.sqrt([52, 61, 145]).sum(),
        ),
        (DeviationWeightedMean(2), [(52 + 244 + 290) / 258, 6 * 145 / 258]),
        (DeviationWeightedMean(0), [7 / 3, 2]),
        # of the same two
        ("correlations", [(8 - 10 - 4) / 3 / np.sqrt(14 / 3 * 24)]),
    ],
    ids=str,
)
def test_poolings_by_hand(pooling, expected):
    np.testing.assert_allclose(pool(VALUES, pooling), expected, rtol=1e-12)


@pytest.mark.parametrize("tiny", [1e-12, 1e300])
def test_ranks_are_those_of_float64(tiny):
    # 1 and 1 + 1e-12 are one number in float32, and 1e300 is none.
    values = np.array([[1.0], [1 + tiny], [0.0]])
    expected = (1 + tiny + 1 / 2) / 1.75
    pooled = pool(values, RankWeightedMean(0.5))
    np.testing.assert_allclose(pooled, [expected], rtol=1e-15)


def test_relative_power_is_that_of_mean_power_not_of_mean_decibels():
    values = np.array([[0.0, 0.0], [10.0, 0.0]])
    expected = [LEVEL / 2, -LEVEL / 2]  # 7.40 dB and 0 dB, minus their mean
    np.testing.assert_allclose(relative_power(values), expected, rtol=1e-12)
    # without overflow, and whatever the level
    for level in (-1e5, 1e5):
        np.testing.assert_allclose(relative_power(values + level), expected, rtol=1e-9)
    np.testing.assert_array_equal(pool([[0.0], [10.0]], "relative_power"), [0])


def test_bands_are_neighbours_and_constant_bands_correlate_with_none():
    rising = np.arange(3.0)
    columns = [rising, rising + 2, [5, 5, 5], [1, 1, 1], -rising]
    values = np.stack(columns, axis=1)
    # bands of columns (0, 1), (2, 3) and (4,)
    np.testing.assert_allclose(BandCorrelations(3)(values), [0, -1, 0])
    assert len(BandCorrelations()(values)) == 10  # as many bands as columns
    assert len(pool(np.zeros((4, 128)), "correlations")) == 32 * 31 / 2
    # columns whose mean is constant but for rounding
    noise = np.random.default_rng(0).normal(size=50)
    values = np.stack([0.1 + noise, 0.2 - noise, noise, noise], axis=1)
    np.testing.assert_array_equal(BandCorrelations(2)(values), [0])


def test_several_poolings_follow_each_other_with_names():
    several = ["max", std, Percentile(90), "mean"]
    expected = np.concatenate([pool(VALUES, one) for one in several])
    np.testing.assert_array_equal(pool(VALUES, several), expected)
    several += [RankWeightedMean(0.9), BandCorrelations(4)]
    assert list(name_poolings(tuple(several))) == [
        "max",
        "std",
        "percentile_90.0",
        "mean",
        "rank_weighted_mean_0.9",
        "correlations_4",
    ]


# --- relations


@pytest.mark.parametrize("name", POOLINGS)
def test_one_time_or_a_constant_column_gives_no_nan(name):
    constant = np.full((60, 3), 60.03)  # whose mean has a rounding error
    expected = {"skewness": 0, "correlations": 0, "relative_power": 0}
    for values in (constant, constant[:1]):
        pooled = pool(values, name)
        wanted = expected.get(name, 0 if name == "std" else 60.03)
        np.testing.assert_allclose(pooled, wanted, atol=1e-12)
    assert np.isfinite(pool(np.zeros((1, 1)), name)).all()


def test_skewness_is_scipys_for_any_unit(rng):
    values = rng.gamma(2.0, size=(50, 3))
    for unit in (1, 1e-150, 1e150):
        np.testing.assert_allclose(skewness(values * unit), skew(values, axis=0))


def test_poolings_lie_between_mean_and_maximum_by_their_settings(rng):
    values = rng.normal(size=(40, 5))
    ranks = [RankWeightedMean(decay)(values) for decay in (1, 0.9, 0.7, 0.3, 0)]
    assert (np.diff(ranks, axis=0) > 0).all()
    np.testing.assert_allclose(Percentile(50)(values), median(values))


@pytest.mark.parametrize("name", POOLINGS)
def test_the_order_of_times_does_not_matter(name, rng):
    values = rng.normal(size=(40, 5))
    np.testing.assert_allclose(pool(values[::-1], name), pool(values, name))


def test_the_generalized_mean_keeps_signs_and_has_no_limits():
    np.testing.assert_array_equal(pool([[-2.0], [2.0]], "generalized_mean"), [0])
    np.testing.assert_array_equal(pool([[-2.0], [-2.0]], "generalized_mean"), [-2])
    for unit in (1e-200, 1e200):
        pooled = pool(VALUES * unit, GeneralizedMean(9)) / unit
        np.testing.assert_allclose(pooled, pool(VALUES, GeneralizedMean(9)))
    np.testing.assert_allclose(pool(VALUES, GeneralizedMean(1e4)), [4, 6], rtol=1e-3)


def test_a_single_odd_frame_decides_more_with_every_weight(rng):
    values = rng.normal(size=(40, 5))
    values[7] += 50
    near = [
        np.abs(DeviationWeightedMean(weight)(values) - values[7]).max()
        for weight in (0, 1, 2, 5)
    ]
    assert (np.diff(near) < 0).all()
    for unit in (1e-200, 1e200):
        pooled = pool(values * unit, "deviation_weighted") / unit
        np.testing.assert_allclose(pooled, pool(values, "deviation_weighted"))


def test_settings_are_equal_and_frozen():
    assert Percentile(90) == Percentile(90) != Percentile(91)
    assert {RankWeightedMean(), RankWeightedMean(0.7)} == {POOLINGS["rank"]}
    with pytest.raises(FrozenInstanceError):
        Percentile(90).q = 3


# --- your own, and errors


def test_a_function_of_your_own_pools():
    def level_range(values):
        return values.max(axis=0) - values.min(axis=0)

    np.testing.assert_array_equal(pool(VALUES, level_range), [3, 6])
    assert list(name_poolings([level_range, "mean"])) == ["level_range", "mean"]
    assert list(name_poolings(partial(np.quantile, q=0.5, axis=0))) == ["partial"]


def test_poolings_of_your_own_are_told_from_those_of_the_library():
    class Mine(Percentile):
        """Its name hides what it does."""

    @wraps(std)
    def other(values):
        return values[0]

    own = [Mine(90), other, RankWeightedMean(0.1).__call__, lambda values: values[0]]
    assert list_own(own) == ["percentile_90.0", "std", "__call__", "<lambda>"]
    assert list_own([*POOLINGS, Percentile(90), RankWeightedMean(0.1)]) == []
    assert list_own([mean, "std"]) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RankWeightedMean(1.1), "'decay' parameter of RankWeightedMean must"),
        (lambda: RankWeightedMean(np.nan), "'decay' parameter of RankWeightedMean"),
        (lambda: Percentile(-1), "'q' parameter of Percentile must be a float in"),
        (lambda: Percentile([5, 95]), "'q' parameter of Percentile must be a float"),
        (lambda: BandCorrelations(1), "'n_bands' parameter of BandCorrelations must"),
        (lambda: GeneralizedMean(0.5), "'power' parameter of GeneralizedMean must"),
        (
            lambda: DeviationWeightedMean(-1),
            "'weight' parameter of DeviationWeightedMean must",
        ),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("poolings", "message"),
    [
        ("largest", "'largest' is unknown: choose of mean, std, max, .* Percentile"),
        ([], "no statistic over time is given: choose one or several of mean, std"),
        (["max", "max"], "two statistics over time are called 'max': leave one out"),
        ([lambda v: v[0], lambda v: v[1]], "are called '<lambda>': .* __name__"),
        (
            RankWeightedMean,
            r"is the class RankWeightedMean; give .* RankWeightedMean\(",
        ),
        (90, "statistic over time 90 is unknown"),
        (lambda v: v, r"'<lambda>' gave an array of shape \(3, 2\) for values of sha"),
        (lambda v: "loud", "'<lambda>' gave a str, which is no array of numbers"),
        (lambda v: v[0] / 0, "gave NaN or infinity for .* return 0 or another number"),
    ],
)
@pytest.mark.filterwarnings("ignore:(invalid|divide):RuntimeWarning")
def test_what_does_not_pool_is_refused_with_the_remedy(poolings, message):
    with pytest.raises(ValueError, match=message):
        pool(VALUES, poolings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0], r"values have the shape \(2,\); it must be \(n_times, n_columns"),
        (np.zeros((0, 4)), r"the shape \(0, 4\); .* at least one of each"),
        ([[1.0, np.nan]], "values hold NaN or infinity: repair or leave them out"),
        ([["a"]], r"values are no array of numbers .* give \(n_times, n_columns"),
    ],
)
def test_values_that_cannot_be_pooled_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        pool(values, "mean")


def test_poolings_that_do_not_rise_with_scores_make_no_score():
    for pooling in ("mean", "max", "rank", Percentile(90), lambda scores: scores[0]):
        check_score_pooling(pooling)
    assert check_score_pooling(GeneralizedMean(2)) is None
    never = (BandCorrelations(2), DeviationWeightedMean(2))
    for pooling in ("std", skewness, relative_power, *never):
        with pytest.raises(ValueError, match=r"does not rise .* choose of mean, max"):
            check_score_pooling(pooling)
