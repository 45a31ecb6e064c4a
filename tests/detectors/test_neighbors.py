import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics.pairwise import manhattan_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklearn_asd import (
    Clips,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    IDConfidenceDetector,
    SpectrumStatistics,
    load_model,
    save_model,
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
    assert not hasattr(detector, "classes_")
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


class Pools(MeanLevel):
    """An encoder that says how it was asked to pool."""

    def embed(self, X, *, pooling="mean"):
        level = {"mean": 0.0, "max": 1.0}[pooling]
        return np.asarray(X)[:, :2] + level


def test_the_pooling_is_passed_to_the_encoder():
    X = np.array(TRAIN)
    for pooling, level in ((None, 0), ("mean", 0), ("max", 1)):
        detector = EmbeddingNeighborDetector(Pools(), pooling=pooling).fit(X)
        np.testing.assert_array_equal(detector.embed(X), X + level)
    frozen = FrozenEstimator(Pools().fit(X))
    detector = EmbeddingNeighborDetector(frozen, pooling="max").fit(X)
    np.testing.assert_array_equal(detector.embed(X), X + 1)


def test_encoders_that_take_no_pooling_refuse_it_with_the_remedy():
    X = at(TRAIN, MACHINES)
    detector = EmbeddingNeighborDetector(SpectrumStatistics(), pooling="max")
    with pytest.raises(
        ValueError,
        match=r"pooling='max', and SpectrumStatistics has no embed.*statistics=",
    ):
        detector.fit(X)
    assert not hasattr(detector, "encoder_")
    with pytest.raises(ValueError, match=r"MeanLevel.embed has no parameter pooling"):
        EmbeddingNeighborDetector(MeanLevel(), pooling="max").fit(X)
    with pytest.raises(ValueError, match="'pooling' parameter of EmbeddingNeighborDe"):
        EmbeddingNeighborDetector(Pools(), pooling="largest").fit(X)
    with pytest.raises(ValueError, match="'largest' is unknown: choose of mean, std"):
        EmbeddingNeighborDetector(Pools(), pooling=["largest"]).fit(X)


def test_embeddings_pooled_by_the_largest_keep_what_sounds_in_one_segment():
    short, steady = np.ones((4, 20)), np.ones((4, 20)) + 1
    short[0, 4:6] += 9  # one segment of ten
    settings = {"segment_frames": 2, "segment_hop_frames": 2}
    train = ClipSpectrograms.from_arrays(
        np.ones((4, 4, 20)), machine_id=list("aabb"), **settings
    )
    asked = ClipSpectrograms.from_arrays(
        [short, steady], machine_id=["b", "b"], **settings
    )

    def score(pooling):
        detector = make_detector(metric=manhattan_distances, pooling=pooling)
        with pytest.warns(UserWarning, match="a, b: all 4 training clips are equal"):
            return detector.fit(train).anomaly_score(asked)

    np.testing.assert_allclose(score(None), [0.9, 2])
    np.testing.assert_array_equal(score("mean"), score(None))
    np.testing.assert_allclose(score("max"), [9, 2])
    np.testing.assert_allclose(score(["mean", "max"]), [9.9, 4])


# -- transformers as encoders ----------------------------------------------------


def test_a_transformer_is_an_encoder_too():
    X = np.array(TRAIN, dtype=float)
    detector = EmbeddingNeighborDetector(StandardScaler()).fit(X)
    assert detector.n_features_in_ == 2
    rows = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(detector.embed(X), rows)
    expected = EmbeddingNeighborDetector(MeanLevel()).fit(rows)
    np.testing.assert_array_equal(
        detector.score_samples(X), expected.score_samples(rows)
    )


def test_statistics_need_no_network():
    X = at(TRAIN, MACHINES)
    detector = EmbeddingNeighborDetector(SpectrumStatistics()).fit(X)
    assert detector.classes_.tolist() == ["a", "b"]
    half = 1 - np.sqrt(0.5)
    scores = detector.anomaly_score(at([[5, 5], [0, 3]], ["a", "b"]))
    np.testing.assert_allclose(scores, [half, 0], atol=1e-6)
    X.stops[1] = X.starts[1]  # cannot be used
    assert np.flatnonzero(np.isnan(detector.score_samples(X))).tolist() == [1]
    with pytest.raises(ValueError, match="a has one usable training clip"):
        EmbeddingNeighborDetector(SpectrumStatistics()).fit(X)


def test_an_encoder_that_has_both_methods_embeds():
    class Both(MeanLevel):
        def transform(self, X):
            raise AssertionError

    assert EmbeddingNeighborDetector(Both()).fit(np.array(TRAIN)).embed([[1, 2]]).any()


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda X: X * np.inf, "transform gave infinity for clips 0, 1"),
        (
            lambda X: X[:, :0],
            r"gave an array of shape \(5, 0\) for 5 clips; it must be",
        ),
        (lambda X: X[1:], r"gave an array of shape \(4, 2\) for 5 clips"),
        (
            lambda X: np.full(X.shape, "x"),
            "gave a ndarray, which is no array of numbers",
        ),
    ],
)
def test_what_an_encoder_must_not_give_is_named(give, message):
    encoder = FunctionTransformer(give)
    with pytest.raises(ValueError, match=message):
        EmbeddingNeighborDetector(encoder).fit(np.array(TRAIN, dtype=float) + 1)


# -- density ---------------------------------------------------------------------


def on_a_line(**parameters):
    """Rows are their own embedding; the distance is that of their first numbers."""
    return EmbeddingNeighborDetector(
        FunctionTransformer(), **{"metric": distance_on_a_line} | parameters
    )


def distance_on_a_line(points, others):
    return np.abs(points[:, :1] - others[:, 0])


LINE = np.array([[0.0], [1.0], [10.0], [14.0]])  # spreads 1, 1, 4, 4


def test_ratios_are_worked_by_hand():
    detector = on_a_line(density="ratio").fit(LINE)
    X = [[2.0], [18.0], [6.0], [1.0]]
    # 6 is 5 from 1, which is 5 spreads, and 4 from 10, which is 1 spread.
    np.testing.assert_allclose(detector.anomaly_score(X), [1, 1, 1, 0])
    assert detector.scales_.ravel().tolist() == [1, 1, 4, 4]
    two = on_a_line(density="ratio", n_neighbors=2).fit(LINE)
    # 2 is 1 and 2 spreads from 1 and 0, but also 8 / 4 from 10.
    np.testing.assert_allclose(two.anomaly_score([[2.0]]), [1.5])
    spread = on_a_line(density="ratio", n_density_neighbors=2).fit(LINE)
    assert spread.scales_.ravel().tolist() == [5.5, 5, 6.5, 8.5]  # of two others each
    # Without 0, the spread of 1 is 9; without 10, that of 14 is 13; and so on.
    np.testing.assert_allclose(
        detector.training_score_samples_, [-1 / 9, -1 / 10, -4 / 13, -4 / 9]
    )


def test_differences_are_worked_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [7.0]])
    detector = on_a_line(density="varmin").fit(X)
    # Of each pair: the distance, and the spread of the second without the first.
    d = [1, 3, 7, 1, 2, 6, 3, 2, 4, 7, 6, 4]
    b = [2, 2, 4, 3, 3, 4, 1, 1, 6, 1, 1, 2]
    a = np.cov(d, b)[0, 1] / np.var(b, ddof=1)
    np.testing.assert_allclose(detector.shifts_.ravel(), a * np.array([1, 1, 2, 4]))
    expected = min(1.5 - a * 1, 0.5 - a * 2)  # near 1 and 3
    np.testing.assert_allclose(
        detector.anomaly_score([[2.5]]), min(expected, 4.5 - a * 4)
    )


def test_equal_spreads_change_nothing_but_the_unit(rng):
    X = np.arange(6)[:, None] * [3.0]
    asked = rng.uniform(-10, 30, size=(8, 1))
    plain = on_a_line().fit(X).anomaly_score(asked)
    ratio = on_a_line(density="ratio").fit(X).anomaly_score(asked)
    np.testing.assert_allclose(ratio, plain / 3)


@pytest.mark.parametrize("density", [None, "ratio", "varmin"])
@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("n_density_neighbors", [1, 2, 9])
@pytest.mark.parametrize("n_clips", [4, 5, 12])
def test_a_training_clip_scores_as_if_it_had_not_been_fitted(
    rng, density, n_neighbors, n_density_neighbors, n_clips
):
    detector = on_a_line(
        density=density,
        n_neighbors=n_neighbors,
        n_density_neighbors=n_density_neighbors,
    )
    X = rng.normal(size=(n_clips, 1))
    X[1] = X[0]
    scores = detector.fit(X).training_score_samples_
    for row in range(n_clips):
        without = clone(detector).fit(np.delete(X, row, axis=0))
        np.testing.assert_allclose(
            without.score_samples(X[[row]]), scores[row], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("density", ["ratio", "varmin"])
def test_the_score_of_three_clips_is_that_of_two_others(density):
    detector = on_a_line(density=density).fit([[0.0], [1.0], [5.0]])
    # Of two clips both spreads are their distance; nothing tells spreads apart.
    expected = {"ratio": [1 / 4, 1 / 5, 4 / 1], "varmin": [1, 1, 4]}[density]
    np.testing.assert_allclose(-detector.training_score_samples_, expected)
    with pytest.raises(
        ValueError,
        match=f"^X has fewer than 3 usable .* density='{density}' needs: add",
    ):
        on_a_line(density=density).fit([[0.0], [1.0]])


@pytest.mark.parametrize("density", ["ratio", "varmin"])
def test_copies_keep_scores_finite_and_ordered(density):
    X = np.array([[0.0], [0.0], [1.0], [3.0], [6.0], [10.0]])
    detector = on_a_line(density=density).fit(X)
    assert np.isfinite(detector.training_score_samples_).all()
    near, far = detector.anomaly_score([[0.5], [40.0]])
    assert near < far < np.inf
    assert detector.predict([[40.0], [-40.0]]).tolist() == [-1, -1]
    if density == "ratio":  # a hundredth of the median of 1, 2, 3 and 4
        np.testing.assert_allclose(detector.scales_[:3, 0], [0.025, 0.025, 1])


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis", distance_on_a_line])
@pytest.mark.parametrize("density", [None, "ratio", "varmin"])
@pytest.mark.parametrize("n_bands", [1, 2])
def test_equal_training_clips_make_any_deviation_anomalous(metric, density, n_bands):
    row = np.array([[0.1, 0.3, 0.7]])  # whose mean rounds
    detector = on_a_line(metric=metric, density=density, n_bands=n_bands)
    with pytest.warns(UserWarning, match="^all 7 training clips are equal"):
        detector.fit(np.repeat(row, 7, axis=0))
    assert detector.training_score_samples_.tolist() == [0] * 7
    assert detector.score_samples(row).tolist() == [0]
    assert detector.predict(row).tolist() == [1]
    other = row * [[1.001, 1.1, 1.5]]
    assert np.isfinite(detector.score_samples(other)).all()
    assert detector.predict(other).tolist() == [-1]


@pytest.mark.parametrize("density", [None, "ratio", "varmin"])
@pytest.mark.parametrize("n_bands", [1, 2])
def test_the_whitening_of_a_training_clip_leaves_it_out(rng, density, n_bands):
    X = rng.normal(size=(60, 24)) * rng.uniform(0.1, 10, size=24)
    detector = on_a_line(metric="mahalanobis", density=density, n_bands=n_bands).fit(X)
    scores = detector.training_score_samples_
    refitted = [
        clone(detector).fit(np.delete(X, row, axis=0)).score_samples(X[[row]])[0]
        for row in range(60)
    ]
    np.testing.assert_allclose(np.mean(scores), np.mean(refitted), rtol=0.05)
    assert np.abs(scores - refitted).max() < 0.2 * np.abs(refitted).mean()


# -- bands -----------------------------------------------------------------------


def test_bands_are_worked_by_hand():
    X = np.array([[0.0, 0.0], [1.0, 8.0], [3.0, 2.0]])
    detector = on_a_line(n_bands=2).fit(X)
    # Distances left out: 1, 1, 2 of the first column, and 2, 6, 2 of the second.
    np.testing.assert_allclose(detector.scales_, [[1, 2]] * 3)
    # The nearest is another clip in each column: 0.5 / 1 and 1 / 2.
    np.testing.assert_allclose(detector.anomaly_score([[0.5, 3.0]]), [0.5])
    np.testing.assert_allclose(
        -detector.training_score_samples_, [(1 + 1) / 2, (1 + 3) / 2, (2 + 1) / 2]
    )
    nearest = detector.nearest_training_clips([[0.5, 3.0]])
    assert nearest["row"].tolist() == [0]  # 0.5 / 1 and 3 / 2; others are farther
    assert nearest["distance"].tolist() == [(0.5 + 3) / 2]


def test_a_band_holds_the_same_frequencies_of_every_statistic(rng):
    X = at(rng.normal(size=(8, 2)), ["a"] * 8)
    bands = []

    def measure(points, others):
        bands.append(points[0])
        return np.abs(points[:, None] - others).sum(axis=2)

    detector = EmbeddingNeighborDetector(SpectrumStatistics(), metric=measure)
    detector.set_params(n_bands=2).fit(X)
    mean_and_std = detector.embed(X)[0]
    for band, columns in zip(bands, ([0, 1, 4, 5], [2, 3, 6, 7]), strict=True):
        np.testing.assert_array_equal(band, mean_and_std[columns])
    with pytest.raises(ValueError, match="n_bands=5 exceeds the 4 columns, or mel"):
        detector.set_params(n_bands=5).fit(X)


def test_each_band_is_whitened_apart(rng):
    X = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    detector = on_a_line(metric="mahalanobis", n_bands=2).fit(X)
    _, _, whitening = detector.training_points()
    assert not whitening[:2, 2:].any()
    assert not whitening[2:, :2].any()
    alone = on_a_line(metric="mahalanobis").fit(X[:, :2])
    np.testing.assert_allclose(whitening[:2, :2], alone.training_points()[2])


# -- domains ---------------------------------------------------------------------


def in_domains(points, domain, machine_id=None):
    log_mels = np.asarray(points, dtype=np.float32).reshape(-1, 1, 1)
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine_id, segment_frames=1, domain=domain
    )


DOMAINS = ["source"] * 3 + ["target"] * 3
SHIFTED = [0, 1, 2, 100, 110, 130]  # distances left out: 1, 1, 1 and 10, 10, 20


def make_banks(**parameters):
    return EmbeddingNeighborDetector(
        SpectrumStatistics(), metric=distance_on_a_line, by_domain=True, **parameters
    )


def test_banks_of_domains_are_worked_by_hand():
    detector = make_banks().fit(in_domains(SHIFTED, DOMAINS))
    np.testing.assert_allclose(detector.scales_.ravel(), [1, 1, 1, 10, 10, 10])
    X = in_domains([4, 95, 56], None)  # 56 is 54 from 2 and 44 from 100
    np.testing.assert_allclose(detector.anomaly_score(X), [2, 0.5, 4.4])
    # 0 is judged by 1, and by the other bank, which is 10 units away.
    np.testing.assert_allclose(-detector.training_score_samples_, [1, 1, 1, 1, 1, 2])
    nearest = detector.nearest_training_clips(in_domains([4, 95, 56], None))
    assert nearest["row"].tolist() == [2, 3, 3]
    assert nearest["distance"].tolist() == [2, 5, 44]
    reverse = make_banks().fit(in_domains([0, 1, 2, 5, 15, 35], DOMAINS))
    # 2 is 1 from its own bank's 1, and 3 / 10 from the other bank's 5.
    np.testing.assert_allclose(
        -reverse.training_score_samples_, [0.5, 0.4, 0.3, 1, 1, 2]
    )


def test_domains_are_banks_of_each_machine():
    ids = ["a"] * 6 + ["b"] * 3
    X = in_domains([*SHIFTED, 500, 501, 502], [*DOMAINS, *["source"] * 3], ids)
    detector = make_banks().fit(X)
    asked = in_domains([500, 500], None, ["a", "b"])
    np.testing.assert_allclose(detector.anomaly_score(asked), [37, 0])
    table = pd.DataFrame(
        {"audio": [np.ones(4)] * 9, "machine_id": ids, "domain": X.domain}
    )
    clips = Clips.from_X(table)
    assert clips[3:].domain.tolist() == X[3:].domain.tolist()
    assert Clips.from_X(table[["audio"]]).domain is None


def test_the_domain_of_a_test_clip_is_not_used():
    detector = make_banks().fit(in_domains(SHIFTED, DOMAINS))
    asked = [detector.score_samples(in_domains([4], d)) for d in (["target"], ["x"])]
    assert asked[0] == asked[1]


def test_domains_and_density_go_together():
    detector = make_banks(density="ratio").fit(in_domains(SHIFTED, DOMAINS))
    # Spreads 1, 1, 1, 10, 10, 20, and ratios left out 1, 1/2, 1 and 1/2, 1/3, 2.
    np.testing.assert_allclose(detector.scales_[:, 0], [1, 1, 1, 5, 5, 10])
    differences = make_banks(density="varmin").fit(in_domains(SHIFTED, DOMAINS))
    np.testing.assert_allclose(differences.scales_.ravel(), [1, 1, 1, 10, 10, 10])


def test_missing_and_small_domains_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match="X has no domains, .* by_domain=True: give X"):
        make_banks().fit(in_domains(SHIFTED, None))
    with pytest.raises(ValueError, match="domain is missing for clips 5 of those used"):
        make_banks().fit(in_domains(SHIFTED, [*DOMAINS[:5], None]))
    with pytest.raises(
        ValueError, match="^X, domain target has one usable .* set by_domain=False$"
    ):
        make_banks().fit(in_domains(SHIFTED[:4], DOMAINS[:4]))
    with pytest.raises(ValueError, match="^X, domain target has fewer than 3 usable"):
        make_banks(density="ratio").fit(in_domains(SHIFTED[:5], DOMAINS[:5]))


def test_a_model_file_keeps_banks_bands_and_density(rng, tmp_path):
    X = at(rng.normal(size=(12, 2)), list("ab") * 6)
    X.domain = np.repeat(DOMAINS, 2)
    encoder = make_pipeline(SpectrumStatistics(), StandardScaler())
    for density in ("ratio", "varmin"):
        detector = EmbeddingNeighborDetector(
            encoder, metric="mahalanobis", density=density, n_bands=2, by_domain=True
        ).fit(X)
        save_model(detector, tmp_path / "near.asd")
        loaded = load_model(tmp_path / "near.asd")
        np.testing.assert_array_equal(
            loaded.score_samples(X), detector.score_samples(X)
        )
        assert loaded.nearest_training_clips(X).equals(
            detector.nearest_training_clips(X)
        )


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
    "parameter",
    [
        {"metric": "manhattan"},
        {"n_neighbors": 0},
        {"encoder": "id"},
        {"density": "local"},
        {"n_density_neighbors": 0},
        {"n_bands": 0},
        {"by_domain": "source"},
    ],
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
