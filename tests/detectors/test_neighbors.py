import joblib
import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    IDConfidenceDetector,
)
from sklearn_asd._utils.parameters import InvalidParameterError


class FirstBands(nn.Module):
    """The embedding is the first two mel bands of a segment's first frame."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.classify = nn.Linear(2, n_classes)

    def forward(self, log_mel):
        embedding = log_mel[:, :2, 0]
        return self.classify(embedding), embedding


def at(points, machine_id):
    """Clips of one segment each whose embeddings are these points."""
    log_mels = np.zeros((len(points), 4, 2), dtype=np.float32)
    log_mels[:, :2] = np.asarray(points, dtype=float)[:, :, None]
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine_id, segment_frames=2, segment_hop_frames=2
    )


def make_detector(**parameters):
    inner = IDConfidenceDetector(
        network=FirstBands,
        max_epochs=1,
        center_loss_weight=0,
        precision="float32",
        random_state=0,
    )
    return EmbeddingNeighborDetector(inner, **parameters)


TRAIN = [[1, 0], [3, 0], [0, 2], [0, 1], [1, 1]]
MACHINES = list("aabbb")


def test_cosine_distances_are_worked_by_hand():
    detector = make_detector().fit(at(TRAIN, MACHINES))
    half = 1 - np.sqrt(0.5)
    X = at([[5, 5], [0, 3], [5, 0], [-1, -1]], ["a", "a", "b", "b"])
    # Machine a lies along the first axis; b along the second and the diagonal.
    expected = [half, 1, half, 1 + np.sqrt(0.5)]
    np.testing.assert_allclose(detector.anomaly_score(X), expected, atol=1e-6)
    two = make_detector(n_neighbors=2).fit(at(TRAIN, MACHINES))
    expected = [half, 1, (half + 1) / 2, 1 + np.sqrt(0.5)]
    np.testing.assert_allclose(two.anomaly_score(X), expected, atol=1e-6)


def test_a_training_clip_is_judged_by_the_others():
    half = 1 - np.sqrt(0.5)
    X, y = at([*TRAIN, [9, 9]], [*MACHINES, "a"]), [1, 1, 1, 1, 1, -1]
    detector = make_detector(contamination=0.5).fit(X, y)
    np.testing.assert_allclose(
        detector.training_score_samples_, [0, 0, 0, 0, -half, np.nan], atol=1e-6
    )
    assert detector.offset_ == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(detector.anomaly_score(X)[:5], 0, atol=1e-6)


def test_tiny_angles_keep_their_digits():
    angles = np.array([1e-3, 1e-5, 1e-6])
    X = at(np.column_stack([np.cos(angles), angles]), list("aaa"))
    detector = make_detector().fit(at(TRAIN, MACHINES))
    np.testing.assert_allclose(
        detector.anomaly_score(X), angles**2 / 2, rtol=1e-3, atol=0
    )


def test_mahalanobis_measures_in_the_spread_around_the_machines_means(rng):
    spread = np.array([10.0, 0.1])
    points = np.vstack([c + spread * rng.normal(size=(200, 2)) for c in (0, 50)])
    machines = np.repeat(["a", "b"], 200)
    detector = make_detector(metric="mahalanobis").fit(at(points, machines))
    aside, across = detector.anomaly_score(at([[30, 0], [0, 3]], ["a", "a"]))
    assert across > 5 * aside  # 30 deviations against 3
    turned = make_detector(metric="mahalanobis").fit(at(points[:, ::-1], machines))
    np.testing.assert_allclose(
        turned.anomaly_score(at([[0, 30], [3, 0]], ["a", "a"])),
        [aside, across],
        rtol=1e-3,
    )


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
def test_easy_anomalies_rank_below_all_training_clips(rng, metric):
    points = np.vstack([c + rng.normal(size=(30, 2)) for c in ([20, 0], [0, 20])])
    X = at(points, np.repeat(["a", "b"], 30))
    detector = make_detector(metric=metric).fit(X)
    odd = at([[-20, 5], [20, 20]], ["a", "b"])
    assert detector.score_samples(odd).max() < detector.training_score_samples_.min()
    assert (detector.predict(odd) == -1).all()
    scores = detector.score_samples(X)
    order = rng.permutation(60)
    np.testing.assert_allclose(
        detector.score_samples(X[order]), scores[order], atol=1e-6
    )
    alone = [detector.score_samples(X[row])[0] for row in range(5)]
    np.testing.assert_allclose(alone, scores[:5], atol=1e-6)


def test_a_clip_that_cannot_be_used_scores_nan_and_is_no_neighbour():
    X = at(TRAIN, MACHINES)
    X.stops[1] = X.starts[1]
    with pytest.raises(ValueError, match="a has one usable training clip"):
        make_detector().fit(X)
    detector = make_detector().fit(at(TRAIN, MACHINES))
    assert np.flatnonzero(np.isnan(detector.score_samples(X))).tolist() == [1]


def test_parameters_reach_the_inner_detector_and_a_copy_is_unfitted(tmp_path):
    detector = make_detector().fit(at(TRAIN, MACHINES))
    copy = clone(detector).set_params(detector__lr=0.5, metric="mahalanobis")
    assert copy.detector.lr == 0.5
    assert not hasattr(copy, "detector_")
    assert not hasattr(detector.detector, "net_")
    joblib.dump(detector, tmp_path / "detector.joblib")
    np.testing.assert_array_equal(
        joblib.load(tmp_path / "detector.joblib").score_samples(at(TRAIN, MACHINES)),
        detector.score_samples(at(TRAIN, MACHINES)),
    )


@pytest.mark.parametrize(
    "parameter", [{"metric": "euclidean"}, {"n_neighbors": 0}, {"detector": "id"}]
)
def test_wrong_parameters_are_refused(parameter):
    detector = make_detector().set_params(**parameter)
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        detector.fit(at(TRAIN, MACHINES))


def test_machines_that_were_not_fitted_are_refused():
    detector = make_detector().fit(at(TRAIN, MACHINES))
    with pytest.raises(ValueError, match="not among those fitted: z; known are a, b"):
        detector.score_samples(at([[1, 0]], ["z"]))


def test_the_nearest_training_clip_is_named_by_its_row_in_the_table_that_was_fitted():
    points = [[9, 9], [1, 0], [0, 1], [1, 0.1], [0, 1], [0.2, 1]]
    X = at(points, ["a", "a", "a", "b", "b", "a"])
    detector = make_detector().fit(X, [-1, 1, 1, 1, 1, 1])
    asked = at([[1, 0], [0.1, 1], [1, 0]], ["a", "a", "b"])
    nearest = detector.nearest_training_clips(asked)
    assert nearest["row"].tolist() == [1, 5, 3]  # row 0 was not learnt from
    np.testing.assert_allclose(nearest["distance"], detector.anomaly_score(asked))


def test_unusable_clips_have_no_nearest_training_clip():
    X = at([[1, 0], [0, 1], [1, 1]], ["a"] * 3)
    detector = make_detector().fit(at([[1, 0], [0, 1], [1, 0], [0, 1]], list("aabb")))
    X.stops[1] = X.starts[1]
    nearest = detector.nearest_training_clips(X)
    assert nearest["row"].isna().tolist() == [False, True, False]
    assert nearest["distance"].isna().tolist() == [False, True, False]
