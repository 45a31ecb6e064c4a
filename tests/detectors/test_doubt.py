"""Scores 1 - p of probabilities that float64 could not tell from 0 or 1."""

import mpmath
import numpy as np
import pytest
from fixed_network import FixedLogits
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from sklearn_asd import (
    ClipSpectrograms,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    ThresholdTuner,
)
from sklearn_asd.detectors.doubt import (
    DOUBT_STEP,
    LARGEST_DOUBT,
    extend_doubt,
    log_confidence,
    log_probabilities,
    pool_doubt,
)
from sklearn_asd.features import Percentile, RankWeightedMean, Windows
from sklearn_asd.networks import AdaCos, ArcFace

settings.register_profile("doubt", deadline=None, max_examples=40, database=None)
settings.load_profile("doubt")


def score(log_p):
    log_p = np.asarray(log_p, dtype=float)
    return extend_doubt(np.stack([np.log(-np.expm1(log_p)), log_p], axis=1))


def two_classes(differences):
    """Scores of the first of two classes, by how far its logit is above the other's."""
    logits = np.stack([differences, np.zeros(len(differences))], axis=1)
    return extend_doubt(log_probabilities(logits, np.zeros(len(logits), dtype=int)))


# -- known answers ---------------------------------------------------------------


def test_logarithms_are_those_of_p_and_of_the_other_classes():
    logits = np.log([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]) + 5
    logs = log_probabilities(logits, np.array([0, 2]))
    np.testing.assert_allclose(logs, np.log([[0.3, 0.7], [0.9, 0.1]]))
    large = log_probabilities(np.array([[1e4, 1e4 - 50]]), np.array([1]))
    np.testing.assert_allclose(large, [[-np.exp(-50), -50]], rtol=1e-12)


def test_the_score_is_one_minus_p_down_to_1e_8():
    p = np.array([1 - 1e-12, 0.7, 0.3, 1e-3, 1.01e-8])
    np.testing.assert_allclose(score(np.log(p)), 1 - p, rtol=1e-15, atol=1e-16)


def test_below_1e_8_the_score_goes_on_beyond_1_by_the_logarithm_of_the_logarithm():
    log_p = -np.log(10) * np.array([16, 64, 1e3])
    expected = 1 + DOUBT_STEP * np.log([2, 8, 125])
    np.testing.assert_allclose(score(log_p), expected, rtol=1e-15)
    assert abs(score(log_p[:2]) - 1).max() < 1e-6
    assert score([-7e38])[0] < LARGEST_DOUBT < 1.0001
    np.testing.assert_allclose(log_confidence(score(log_p)), log_p, rtol=1e-9)


def test_nothing_is_lost_where_every_exponential_would_be_0_or_1():
    apart = np.array([-3e38, -1e4, -1e3, -999.9, -40, -36, 36, 40, 800, 1e3, 1e4, 3e38])
    scores = two_classes(apart)
    assert (np.diff(scores) < 0).all()
    assert (scores > 0).all()


def test_unknown_stays_unknown():
    assert np.isnan(extend_doubt(np.full((1, 2), np.nan)))


# -- laws ------------------------------------------------------------------------

finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(finite, min_size=2, max_size=12, unique=True))
def test_numbers_that_float32_tells_apart_are_never_tied(differences):
    apart = np.sort(np.array(differences))
    # Of logits next to 0, float64 itself has no digits left for 1 - p.
    apart = apart[np.abs(apart) > 1e-6]
    assert (np.diff(two_classes(apart)) < 0).all()


clips = st.lists(
    st.lists(st.floats(-600, 60, width=32), min_size=1, max_size=4),
    min_size=2,
    max_size=6,
)
POOLINGS = {
    "mean": lambda p: sum(p) / len(p),
    "max": min,
    "median": lambda p: (sorted(p)[(len(p) - 1) // 2] + sorted(p)[len(p) // 2]) / 2,
    "rank": lambda p: weigh(sorted(p), mpmath.mpf("0.7")),
    "half": lambda p: weigh(sorted(p), mpmath.mpf("0.5")),
}


def weigh(p, decay):
    weights = [decay**k for k in range(len(p))]
    return sum(w * one for w, one in zip(weights, p, strict=True)) / sum(weights)


@given(clips, st.sampled_from(list(POOLINGS)))
def test_clips_are_in_the_order_of_exact_arithmetic(clips, pooling):
    """1 - p of every segment, pooled with 1,000 digits."""
    with mpmath.workdps(1000):
        exact = []
        for segments in clips:
            p = [1 / (1 + mpmath.exp(-mpmath.mpf(float(x)))) for x in segments]
            exact.append(POOLINGS[pooling](p))
        # As close as rounding of the sums may come, order means nothing.
        logs = np.array([float(mpmath.log(p / (1 - p))) for p in exact])
    counts = [len(segments) for segments in clips]
    clip = np.repeat(np.arange(len(clips)), counts)
    windows = Windows(clip, 0 * clip, 0 * clip, 0 * clip)
    logits = np.concatenate([np.array(segments) for segments in clips])
    logits = np.stack([logits, 0 * logits], axis=1)
    named = RankWeightedMean(0.5) if pooling == "half" else pooling
    asked = np.zeros(len(logits), dtype=int)
    found = pool_doubt(log_probabilities(logits, asked), windows, len(clips), 1, named)
    apart = np.abs(logs[:, None] - logs) > 1e-6 * np.maximum(1, np.abs(logs)[:, None])
    lower = logs[:, None] < logs
    assert (found[:, None] > found)[apart & lower].all()
    np.testing.assert_allclose(found, 1 - np.array(exact, dtype=float), atol=2e-6)


def test_poolings_of_ones_own_get_the_scores_of_segments():
    logs = log_probabilities(np.array([[-50.0, 0], [-60.0, 0]]), np.zeros(2, int))
    windows = Windows(*np.array([[0, 1], [0, 0], [0, 0], [1, 1]]))
    found = pool_doubt(logs, windows, 2, 1, lambda doubts: doubts.max(axis=0))
    np.testing.assert_array_equal(found, extend_doubt(logs))
    percentile = pool_doubt(logs, windows, 2, 1, Percentile(50))
    np.testing.assert_allclose(percentile, found, rtol=1e-15)


# -- detectors -------------------------------------------------------------------


def spell_logits(logits, machine_id):
    """Clips of segments of 2 frames that FixedLogits reads off."""
    return ClipSpectrograms.from_arrays(
        [np.repeat(segments, 2, axis=0).T for segments in np.float64(logits)],
        machine_id=machine_id,
        segment_frames=2,
        segment_hop_frames=2,
    )


def auc(normal, anomalous):
    y = np.repeat([0, 1], [len(normal), len(anomalous)])
    return roc_auc_score(y, np.append(normal, anomalous))


@pytest.fixture(scope="module")
def saturated():
    """A detector, normal and anomalous clips whose p is far below float64's 1 - p."""
    rng = np.random.default_rng(0)
    normal, anomalous = rng.uniform(-60, 20, 40), rng.uniform(-90, -37, 60)
    X = [
        spell_logits([[[x, 0.0], [x - 1, 0]] for x in some], ["a"] * len(some))
        for some in (normal, anomalous)
    ]
    detector = IDConfidenceDetector(
        network=FixedLogits, max_epochs=1, center_loss_weight=0, precision="float32"
    ).fit(spell_logits([[[4.0, 0]], [[0, 4.0]]], ["a", "b"]))
    return detector, X, auc(-normal, -anomalous)


def test_the_auc_is_that_of_the_logits(saturated):
    detector, X, expected = saturated
    scores = [detector.anomaly_score(some) for some in X]
    assert len(np.unique(scores[1])) == 60
    assert auc(*scores) == expected


@pytest.mark.parametrize("aggregation", ["probability", "mean", "product"])
@pytest.mark.parametrize("scaling", ["gamma", None])
def test_the_auc_behind_an_ensemble_is_that_of_the_logits(
    saturated, scaling, aggregation
):
    detector, X, expected = saturated
    members = [(name, FrozenEstimator(detector)) for name in "ab"]
    ensemble = GammaProbabilityEnsemble(
        members, scaling=scaling, aggregation=aggregation
    ).fit(X[0])
    scores = [ensemble.anomaly_score(some) for some in X]
    assert len(np.unique(scores[1])) == 60
    assert auc(*scores) == expected
    tuner = ThresholdTuner(FrozenEstimator(ensemble), false_alarm_rate=0.2).fit(X[0])
    assert auc(*(-tuner.decision_function(some) for some in X)) == expected


def test_unscaled_members_multiply_their_probabilities(saturated):
    """log(1 - f) is the sum of log(p), however small."""
    detector, X, _ = saturated
    members = [(name, FrozenEstimator(detector)) for name in "ab"]
    ensemble = GammaProbabilityEnsemble(members, scaling=None).fit(X[0])
    log_p = log_confidence(detector.anomaly_score(X[1]))
    np.testing.assert_allclose(ensemble.score_samples(X[1]), 2 * log_p, rtol=1e-9)


@pytest.mark.parametrize(
    "loss",
    ["softmax", "arcface", ArcFace(scale=64.0), ArcFace(n_sub_centers=2), AdaCos()],
)
def test_no_loss_ties_clips(loss):
    rng = np.random.default_rng(0)
    log_mels = rng.normal(scale=0.3, size=(90, 16, 20))
    machine = np.repeat(["a", "b", "c"], 30)
    sounds_like = np.where(np.arange(90) % 30 < 10, np.arange(90) // 30, 0)
    sounds_like[30:][np.arange(60) % 30 >= 10] = 0
    sounds_like[10:30] = 1
    for row, own in enumerate(sounds_like):
        log_mels[row, 4 * own] += 4 + rng.random()
    X = ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine, segment_frames=16, segment_hop_frames=4
    )
    is_normal = np.arange(90) % 30 < 10
    detector = IDConfidenceDetector(
        loss=loss, max_epochs=25, batch_size=16, random_state=0, precision="float32"
    ).fit(X[is_normal])
    anomalous = detector.score_samples(X[~is_normal])
    assert len(np.unique(anomalous)) == 60
    assert detector.score_samples(X[is_normal]).min() > anomalous.max()
