"""Thresholds of the worst of many pieces."""

import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    ClipSpectrograms,
    GaussianDetector,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
)
from sklearn_asd.meta.pieces import piece_thresholds, raise_threshold
from sklearn_asd.meta.structure import Opened

NS = (1, 2, 10, 60, 600)


@pytest.mark.parametrize("draw", ["exponential", "gamma", "pareto"])
def test_the_worst_of_many_exceeds_its_threshold_as_rarely_as_one(rng, draw):
    def scores(size):
        if draw == "gamma":
            return rng.gamma(4, 1, size)
        return getattr(rng, draw)(*([4] if draw == "pareto" else []), size=size)

    left_out = scores(20_000)
    threshold = np.quantile(left_out, 0.95)
    for n in NS[:4]:
        raised = raise_threshold(threshold, left_out, n)
        alarms = (scores((4000, n)).max(axis=1) > raised).mean()
        # The tail of a Gamma distribution is lighter than exponential.
        assert (0.02 if draw == "gamma" else 0.035) < alarms < 0.065
    one = (scores((4000, 60)).max(axis=1) > threshold).mean()
    assert one > 0.9


@pytest.mark.parametrize("n_scores", [20, 30, 120])
@pytest.mark.parametrize("tail", [stats.expon(), stats.lognorm(0.5), stats.t(5)])
def test_few_scores_promise_no_more_than_they_show(tail, n_scores):
    """With a tail as the scores show it, 8 to 10 % of 60 pieces raised an alarm."""
    rates = []
    for left_out in tail.rvs((200, n_scores), random_state=0):
        threshold = np.quantile(left_out, 0.95, method="weibull")
        raised = raise_threshold(threshold, left_out, 60)
        rates.append(-np.expm1(60 * np.log1p(-tail.sf(raised))))
    assert 0.015 < np.mean(rates) < 0.06


def test_one_piece_has_exactly_the_threshold_and_more_have_higher_ones(rng):
    left_out = rng.gamma(4, 1, 30)
    for threshold in (np.quantile(left_out, 0.5), 8.0, 40.0, np.inf, -np.inf):
        raised = [raise_threshold(threshold, left_out, n) for n in NS]
        assert raised[0] == threshold
        assert np.all(np.diff(raised[np.isfinite(threshold) - 1 :]) >= 0)
        assert np.isfinite(raised).all() == np.isfinite(threshold)
    rises = [raise_threshold(8.0, left_out, n) for n in NS]
    assert np.all(np.diff(rises) > 0)


@pytest.mark.parametrize(
    "left_out", [[], [1.0], [1.0] * 50, [np.nan, 1, 2, np.nan], [0.0] * 40 + [9.0]]
)
def test_scores_without_a_tail_raise_no_threshold_below_itself(left_out):
    raised = raise_threshold(1.5, np.array(left_out, float), 10)
    assert np.isfinite(raised)
    assert raised >= 1.5


def test_each_machine_has_thresholds_of_its_own_scores(rng):
    spread = np.repeat([1.0, 5.0], 30)
    log_mels = rng.normal(scale=spread[:, None, None], size=(60, 4, 3))
    machines = np.repeat(["a", "b"], 30)
    X = ClipSpectrograms.from_arrays(log_mels, machine_id=machines, segment_frames=None)
    detector = make_pipeline(SpectrumStatistics(("mean",)), MahalanobisDetector())
    detector = PerMachine(detector).fit(X)
    rows, n_pieces = np.array([0, 1, 58, 59]), np.array([1, 20, 1, 20])
    thresholds = piece_thresholds(Opened(detector, X[rows]), n_pieces)
    for machine, pair in (("a", thresholds[:2]), ("b", thresholds[2:])):
        own = detector.estimators_[machine][-1]
        left_out = -own.training_score_samples_
        assert pair[0] == -own.offset_
        assert pair[1] == raise_threshold(-own.offset_, left_out, 20) > pair[0]


def test_detectors_without_left_out_scores_keep_their_threshold(rng):
    X = rng.normal(size=(40, 2))
    opened = Opened(IsolationForest(random_state=0).fit(X), X[:2])
    n_pieces = np.array([1, 50])
    np.testing.assert_array_equal(piece_thresholds(opened, n_pieces), opened.thresholds)
    tuned = ThresholdTuner(GaussianDetector(), "gamma", random_state=0).fit(X)
    low, high = piece_thresholds(Opened(tuned, X[:2]), n_pieces)
    assert low == -tuned.offset_ < high
