"""Intervals over the choice of clips."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from sklearn_asd.metrics import dcase_score, score_interval


def mean_score(X, y, scores):
    return scores.mean()


@pytest.fixture
def clips(rng):
    return pd.DataFrame({"label": np.tile([1, -1], 50)}), rng.normal(size=100)


def test_the_jackknife_of_a_mean_is_the_textbook_error(clips):
    X, scores = clips
    interval = score_interval(mean_score, X, scores=scores, method="jackknife")
    half = 1.959963984540054 * scores.std(ddof=1) / 10
    assert interval.score == scores.mean()
    assert interval.low == pytest.approx(scores.mean() - half)
    assert interval.high == pytest.approx(scores.mean() + half)


def test_the_bootstrap_of_a_mean_is_close_to_it(clips):
    X, scores = clips
    interval = score_interval(
        mean_score, X, scores=scores, n_resamplings=2000, random_state=0
    )
    half = 1.96 * scores.std(ddof=1) / 10
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    narrow = score_interval(mean_score, X, scores=scores, level=0.5, random_state=0)
    assert narrow.high - narrow.low < 0.5 * (interval.high - interval.low)


def test_drawings_keep_each_machine_domain_and_label(rng):
    X = pd.DataFrame(
        {
            "machine_id": ["a", "a", "a", "b", "b", "b", "b"],
            "domain": ["source", "target", "source"] + ["source", "target"] * 2,
        }
    )
    y = [1, 1, -1, 1, 1, -1, -1]
    expected = X.assign(y=y).value_counts().sort_index()

    def measure(X, y, scores):
        pd.testing.assert_series_equal(
            X.assign(y=y).value_counts().sort_index(), expected
        )
        return dcase_score(X, y, scores, year=2023)

    scores = rng.normal(size=7)
    interval = score_interval(measure, X, y, scores, n_resamplings=20, random_state=0)
    assert interval.score == dcase_score(X, y, scores, year=2023)
    again = score_interval(measure, X, y, scores, n_resamplings=20, random_state=0)
    assert again == interval


def test_nine_of_ten_intervals_hold_the_truth(rng):
    held = 0
    for _ in range(60):
        y = np.tile([1, -1], 40)
        scores = 1.5 * (y > 0) + rng.normal(size=80)
        X = pd.DataFrame({"label": y, "domain": np.repeat(["source", "target"], 40)})
        interval = score_interval(
            partial(auc, max_fpr=1),
            X,
            scores=scores,
            level=0.9,
            n_resamplings=60,
            random_state=rng.integers(2**31),
        )
        held += interval.low <= 0.8556 <= interval.high  # Phi(1.5 / sqrt(2))
    assert 44 <= held <= 60


def auc(X, y, scores, max_fpr):
    normal, anomalous = scores[y > 0], scores[y < 0]
    return np.mean(normal[:, None] > anomalous)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "'bootstrap' or 'jackknife'"),
        ({"level": 1.0}, "level"),
        ({"n_resamplings": 0}, "n_resamplings"),
    ],
)
def test_wrong_options_are_explained(clips, options, message):
    X, scores = clips
    with pytest.raises(ValueError, match=message):
        score_interval(mean_score, X, scores=scores, **options)
