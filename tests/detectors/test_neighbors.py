import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.metrics.pairwise import manhattan_distances
from torch import nn

from sklearn_asd import (
    Clips,
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


class MeanLevel(BaseEstimator):
    """An encoder from outside: the mean of each row, column or clip, as two numbers."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y=None):
        self.n_fitted_ = len(X)
        return self

    def embed(self, X):
        if isinstance(X, ClipSpectrograms):
            rows = [X.log_mel(row)[:2].mean(axis=1) for row in range(len(X))]
            return np.array(rows) + self.shift
        if isinstance(X, pd.DataFrame):
            return np.stack([audio[:2] for audio in X["audio"]]) + self.shift
        return np.asarray(X)[:, :2] + self.shift


def as_table(points, machine_id):
    audio = [np.asarray(point, dtype=float) for point in points]
    return pd.DataFrame({"audio": audio, "machine_id": machine_id})


@pytest.mark.parametrize(
    "make",
    [at, as_table, lambda points, machine_id: Clips(points, machine_id=machine_id)],
    ids=["spectrograms", "table", "clips"],
)
def test_an_encoder_from_outside_is_enough(make):
    encoder = MeanLevel()
    if make not in (at, as_table):
        encoder = FirstSamples()
    detector = EmbeddingNeighborDetector(encoder).fit(make(TRAIN, MACHINES))
    expected = make_detector().fit(at(TRAIN, MACHINES))
    asked = [[5, 5], [0, 3], [5, 0], [-1, -1]], ["a", "a", "b", "b"]
    np.testing.assert_allclose(
        detector.score_samples(make(*asked)),
        expected.score_samples(at(*asked)),
        atol=1e-6,
    )
    assert detector.embed(make(*asked)).tolist() == asked[0]
    with pytest.raises(ValueError, match="not among those fitted: z; known are a, b"):
        detector.score_samples(make([[1, 0]], ["z"]))
    with pytest.raises(ValueError, match="which are needed to score clips"):
        detector.score_samples(make([[1, 0]], None))
    with pytest.raises(ValueError, match="missing for clips 1 of .* all training"):
        detector.fit(make(TRAIN, ["a", None, "a", "b", "b"]))


class FirstSamples(MeanLevel):
    """The embedding of a clip is its audio."""

    def embed(self, X):
        return np.stack([source[:2] for source in X.sources])


def test_without_ids_all_rows_are_one_machines():
    X = np.array(TRAIN, dtype=float)
    detector = EmbeddingNeighborDetector(MeanLevel()).fit(X)
    near = detector.nearest_training_clips([[5, 0.1], [0.1, 5]])
    assert near["row"].tolist() == [0, 2]
    labelled = as_table([[5, 0.1]], ["z"])  # an ID says nothing then
    assert detector.score_samples(labelled) == detector.score_samples([[5, 0.1]])


def test_rows_of_nan_are_unusable_and_anomalous_rows_are_not_learnt_from():
    X, y = np.array([[1.0, 0], [np.nan, 0], [9, 9], [0, 1]]), [1, 1, -1, 1]
    detector = EmbeddingNeighborDetector(MeanLevel()).fit(X, y)
    assert detector.encoder_.n_fitted_ == 3
    known = ~np.isnan(detector.training_score_samples_)
    assert known.tolist() == [True, False, False, True]
    scores = detector.score_samples(X)
    assert np.isnan(scores).tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="no usable normal clip: all embeddings are"):
        EmbeddingNeighborDetector(MeanLevel()).fit(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="X has one usable training clip"):
        EmbeddingNeighborDetector(MeanLevel()).fit(X[:2])


def test_an_embedding_of_another_shape_is_refused():
    class Wrong(MeanLevel):
        def embed(self, X):
            return super().embed(X)[:, 0]

    with pytest.raises(ValueError, match=r"Wrong.embed gave an array of shape \(5,\)"):
        EmbeddingNeighborDetector(Wrong()).fit(np.array(TRAIN))


def test_a_distance_from_outside_is_used():
    X = np.array(TRAIN, dtype=float)
    detector = EmbeddingNeighborDetector(MeanLevel(), metric=manhattan_distances)
    assert detector.fit(X).anomaly_score([[5, 5]]) == [7]
    assert detector.nearest_training_clips([[5, 5]])["row"].tolist() == [1]
    with_nan = detector.score_samples(
        [[5, 5], [np.nan, 0]]
    )  # which scikit-learn refuses
    assert np.isnan(with_nan).tolist() == [False, True]
    wrong = EmbeddingNeighborDetector(MeanLevel(), metric=lambda a, b: a - b[0])
    with pytest.raises(ValueError, match=r"an array of shape \(5, 2\) for 5 and 5"):
        wrong.fit(X)


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
    copy = clone(detector).set_params(encoder__lr=0.5, metric="mahalanobis")
    assert copy.encoder.lr == 0.5
    assert not hasattr(copy, "encoder_")
    assert not hasattr(detector.encoder, "net_")
    joblib.dump(detector, tmp_path / "detector.joblib")
    np.testing.assert_array_equal(
        joblib.load(tmp_path / "detector.joblib").score_samples(at(TRAIN, MACHINES)),
        detector.score_samples(at(TRAIN, MACHINES)),
    )


@pytest.mark.parametrize(
    "parameter", [{"metric": "manhattan"}, {"n_neighbors": 0}, {"encoder": "id"}]
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


def test_training_points_are_what_distances_are_measured_to(rng):
    X = at(rng.normal(size=(12, 2)), list("ab") * 6)
    points, machines, whitening = make_detector().fit(X).training_points()
    assert machines.tolist() == list("ab") * 6
    assert whitening is None
    detector = make_detector(metric="mahalanobis").fit(X)
    whitened, _, whitening = detector.training_points()
    np.testing.assert_allclose(whitened, points @ whitening)
    np.testing.assert_allclose(detector.embed(X) @ whitening, whitened)


def test_unusable_clips_have_no_nearest_training_clip():
    X = at([[1, 0], [0, 1], [1, 1]], ["a"] * 3)
    detector = make_detector().fit(at([[1, 0], [0, 1], [1, 0], [0, 1]], list("aabb")))
    X.stops[1] = X.starts[1]
    nearest = detector.nearest_training_clips(X)
    assert nearest["row"].isna().tolist() == [False, True, False]
    assert nearest["distance"].isna().tolist() == [False, True, False]
