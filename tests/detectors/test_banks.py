"""Banks of other points than the training clips: centres and synthetic ones."""

import numpy as np
import pandas as pd
import pytest
from model_files import read, write
from sklearn.base import clone
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_limits

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    SpectrumStatistics,
    load_model,
    save_model,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.detectors import banks
from sklearn_asd.detectors.banks import kmeans_centers, resize, smote

# -- fewer and more points -------------------------------------------------------------


def test_the_centres_of_three_heaps_are_their_means():
    heaps = np.array([[0, 0], [0, 2], [50, 0], [50, 4], [0, 90], [3, 90]], dtype=float)
    centers = kmeans_centers(heaps, 3, seed=0)
    np.testing.assert_allclose(np.sort(centers[:, 0]), [0, 1.5, 50], atol=1e-12)
    np.testing.assert_allclose(np.sort(centers[:, 1]), [1, 2, 90], atol=1e-12)


def test_centres_are_the_same_bits_for_a_seed_and_any_number_of_threads(rng):
    rows = rng.normal(size=(3000, 5))
    first = kmeans_centers(rows, 16, seed=1)
    for n_threads in (1, 2, 4):
        with threadpool_limits(n_threads):
            np.testing.assert_array_equal(kmeans_centers(rows, 16, seed=1), first)
    assert (kmeans_centers(rows, 16, seed=2) != first).any()


def test_rows_that_repeat_have_a_centre_each(rng):
    rows = np.repeat([[0.0, 1.0], [5.0, 1.0]], 10, axis=0)
    nearly = rows + 1e-13 * rng.normal(size=rows.shape)
    for some in (rows, nearly):  # without KMeans' warning of fewer clusters
        centers = kmeans_centers(some, 4, seed=0)
        np.testing.assert_allclose(
            sorted(centers.tolist()), [[0, 1], [5, 1]], atol=1e-12
        )
    assert len(kmeans_centers(np.zeros((3, 2)), 4, seed=0)) == 1


@pytest.mark.parametrize("seed", range(6))
def test_the_centre_of_equal_rows_is_one_of_them(seed):
    rows = np.random.default_rng(seed).normal(size=(3, 4))
    centers = kmeans_centers(np.repeat(rows, [20, 1, 1], axis=0), 4, seed=0)
    assert set(map(tuple, centers)) == set(map(tuple, rows))


def assert_between_neighbors(synthetic, rows, n_neighbors):
    """Give the place of each on its segment, from 0 to 1, and the segment's start."""
    distances = euclidean_distances(rows)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :n_neighbors]
    start = np.repeat(np.arange(len(rows)), nearest.shape[1])
    step = rows[nearest.ravel()] - rows[start]
    shares, starts = [], []
    for one in synthetic:
        along = ((one - rows[start]) * step).sum(axis=1) / (step**2).sum(axis=1)
        aside = np.linalg.norm(one - rows[start] - along[:, None] * step, axis=1)
        aside[(along < -1e-9) | (along > 1 + 1e-9)] = np.inf
        assert aside.min() < 1e-9
        shares.append(along[aside.argmin()])
        starts.append(start[aside.argmin()])
    return np.array(shares), np.array(starts)


def test_synthetic_rows_lie_on_segments_to_nearest_neighbours(rng):
    rows = rng.normal(size=(20, 3))
    new = smote(rows, 1000, 3, seed=0)
    shares, starts = assert_between_neighbors(new, rows, 3)
    assert len(new) == 1000
    counts = np.histogram(shares, np.linspace(0, 1, 6))[0]
    assert 150 < counts.min() < counts.max() < 250  # uniform
    assert set(starts) == set(range(20))
    np.testing.assert_array_equal(smote(rows, 1000, 3, seed=0), new)
    assert (smote(rows, 1000, 3, seed=1) != new).any()


def test_all_rows_have_as_many_synthetic_ones():
    rows = np.array([0.0, 1, 100, 101, 200, 201])[:, None]
    for n_new in (12, 15):
        new = smote(rows, n_new, 1, seed=0)
        heaps = np.histogram(new, [0, 50, 150, 250])[0]
        assert set(heaps) <= ({4} if n_new == 12 else {4, 5, 6})


def test_few_rows_have_few_neighbours_and_one_has_none():
    two = smote(np.array([[0.0], [1.0]]), 7, 5, seed=0)
    assert two.shape == (7, 1)
    assert (0 <= two.min()) & (two.max() <= 1)
    assert smote(np.array([[3.0]]), 7, 5, seed=0).shape == (0, 1)


def test_rows_become_fewer_or_more(rng):
    rows = rng.normal(size=(10, 2))
    assert resize(rows, 10, seed=0) is rows
    assert resize(rows, 4, seed=0).shape == (4, 2)
    more = resize(rows, 25, seed=0)
    np.testing.assert_array_equal(more[:10], rows)
    assert_between_neighbors(more[10:], rows, 5)
    copies = np.ones((6, 2))
    assert resize(copies, 3, seed=0) is resize(copies, 9, seed=0) is copies


# -- detectors -------------------------------------------------------------------------


def as_clips(points, domain=None, machine_id=None):
    """Clips whose means over time are these points."""
    return ClipSpectrograms.from_arrays(
        np.asarray(points, dtype=np.float32)[:, :, None],
        machine_id=machine_id,
        domain=domain,
        segment_frames=1,
    )


def make_near(metric=euclidean_distances, **parameters):
    parameters = {"random_state": 0} | parameters
    return EmbeddingNeighborDetector(
        SpectrumStatistics("mean"), metric=metric, **parameters
    )


@pytest.fixture
def clips(rng):
    """Two machines, each with 30 clips of the source and 6 of the target domain."""
    machine = np.arange(72) % 2
    is_target = np.arange(72) >= 60
    points = rng.normal(size=(72, 4)) + 5 * machine[:, None] + 8
    points[is_target, 1] += 9
    domain = np.where(is_target, "target", "source")
    return as_clips(points, domain.tolist(), np.array(["a", "b"])[machine].tolist())


def count(detector, machine):
    return (detector.training_points()[1] == machine).sum()


def test_large_banks_hold_centres_and_small_ones_their_clips(rng):
    states = np.repeat([[0, 0], [0, 80], [90, 0]], 12, axis=0)
    source = (states + rng.normal(size=states.shape)).astype(np.float32)
    target = np.array([[500, 500], [500, 510], [530, 500]], dtype=np.float32)
    X = as_clips(np.vstack([source, target]), ["source"] * 36 + ["target"] * 3)
    detector = make_near(by_domain=True, n_centers=3).fit(X)
    points, machines, _ = detector.training_points()
    assert machines is None
    assert len(points) == len(detector.scales_) == len(detector.shifts_) == 6
    means = source.reshape(3, 12, 2).mean(axis=1)
    apart = euclidean_distances(points, np.vstack([means, target]))
    np.testing.assert_allclose(apart.min(axis=0), 0, atol=1e-4)
    nearest = detector.nearest_training_clips(as_clips([[0, 60], [500, 506]]))
    clip = np.linalg.norm(source - means[1], axis=1).argmin()
    assert nearest["row"].tolist() == [clip, 37]
    np.testing.assert_allclose(
        nearest["distance"], [np.linalg.norm(means[1] - [0, 60]), 4], rtol=1e-5
    )


def test_without_domains_the_bank_of_each_machine_has_centres(clips):
    detector = make_near(n_centers=4).fit(clips)
    assert [count(detector, machine) for machine in "ab"] == [4, 4]
    assert make_near(n_centers=36).fit(clips).training_points()[0].shape == (72, 4)


@pytest.mark.parametrize("by_domain", [False, True])
def test_small_domains_are_filled_up_between_their_clips(clips, by_domain):
    detector = make_near(by_domain=by_domain, oversampling="smote").fit(clips)
    points, machines, _ = detector.training_points()
    plain = make_near().fit(clips).training_points()[0]
    for number, machine in enumerate("ab"):
        own = points[machines == machine]
        target = own[own[:, 1] > 12 + 5 * number]
        assert len(own) == 60
        assert len(target) == 30
        assert_between_neighbors(target, plain[60 + number :: 2], 5)


def test_domains_are_filled_up_to_the_number_of_centres(clips):
    detector = make_near(n_centers=10, oversampling="smote").fit(clips)
    assert [count(detector, machine) for machine in "ab"] == [20, 20]


def test_directions_are_what_is_clustered_for_cosine_distances():
    # Two directions, whose clips are near or far; the centres lie between.
    X = as_clips([[1, 0], [100, 0], [1, 0.1], [0, 1], [0, 100], [0.1, 1]])
    detector = make_near("cosine", n_centers=2).fit(X)
    along = detector.training_points()[0]
    angles = np.sort(np.degrees(np.arctan2(along[:, 1], along[:, 0])))
    third = np.degrees(np.arctan(0.1)) / 3
    np.testing.assert_allclose(angles, [third, 90 - third], atol=0.01)


def test_the_seed_decides_the_fit(clips, rng):
    points = 8 + rng.normal(size=(20, 4))
    points[10:, 1] += 9  # of the target domain
    new = as_clips(points, machine_id=["a"] * 20)
    kinds = {"n_centers": 8}, {"oversampling": "smote"}
    for options in kinds:
        fits = [
            make_near(**options, random_state=seed).fit(clips) for seed in (0, 0, 1)
        ]
        scores = [fit.score_samples(new) for fit in fits]
        np.testing.assert_array_equal(scores[0], scores[1])
        np.testing.assert_array_equal(
            fits[0].training_score_samples_, fits[1].training_score_samples_
        )
        assert (scores[0] != scores[2]).any()


def test_a_machines_points_do_not_depend_on_other_machines(clips):
    options = {"n_centers": 8, "oversampling": "smote"}
    both = make_near(**options).fit(clips).score_samples(clips[::2])
    alone = make_near(**options).fit(clips[::2]).score_samples(clips[::2])
    np.testing.assert_array_equal(both, alone)


# -- clips left out --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "density"),
    [("cosine", None), (euclidean_distances, "ratio"), ("cosine", "varmin")],
)
@pytest.mark.parametrize(
    "options",
    [
        {"n_centers": 4},
        {"oversampling": "smote"},
        {"n_centers": 8, "oversampling": "smote"},
    ],
    ids=["centres", "synthetic", "both"],
)
def test_training_scores_are_of_fits_without_the_clip(
    clips, monkeypatch, options, metric, density
):
    monkeypatch.setattr(banks, "_N_PARTS", 1000)  # one by one
    X = clips[::2]
    detector = make_near(metric, density=density, n_neighbors=2, **options).fit(X)
    monkeypatch.setattr(banks, "_N_PARTS", 2)  # for speed
    for row in (0, 17, 30, 35):  # 30 of the source, 6 of the target
        rest = clone(detector).fit(X[np.arange(36) != row])
        np.testing.assert_allclose(
            detector.training_score_samples_[row],
            rest.score_samples(X[row])[0],
            rtol=1e-6,
        )


@pytest.mark.parametrize("options", [{"n_centers": 12}, {"oversampling": "smote"}])
def test_the_whitening_of_a_training_clip_leaves_it_out(rng, monkeypatch, options):
    monkeypatch.setattr(banks, "_N_PARTS", 1000)  # one by one
    points = rng.normal(size=(40, 15)) * np.linspace(1, 9, 15)
    X = as_clips(points, 30 * ["source"] + 10 * ["target"])
    detector = make_near("mahalanobis", **options).fit(X)
    expected = [
        clone(detector).fit(X[np.arange(40) != row]).score_samples(X[row])[0]
        for row in range(0, 40, 2)
    ]
    found = detector.training_score_samples_[::2]
    assert found.mean() == pytest.approx(np.mean(expected), rel=0.04)


def test_a_tenth_of_the_clips_is_left_out_at_a_time(clips, monkeypatch):
    left_out = []
    make = banks.BankMaker.make

    def spy(maker, own, out=None):
        left_out.append([] if out is None else out.tolist())
        return make(maker, own, out)

    monkeypatch.setattr(banks.BankMaker, "make", spy)
    make_near(by_domain=True, n_centers=5).fit(clips)
    # Once for all; then ten times 3 clips of 30, and 6 times one clip of 6.
    assert sorted(map(len, left_out)) == [0] + 12 * [1] + 20 * [3]
    assert sorted(np.concatenate(left_out)) == list(range(72))


def test_a_clip_that_is_a_centre_does_not_score_itself(rng):
    points = rng.normal(size=(30, 2))
    points[7] = [60, 80]
    detector = make_near(n_centers=3).fit(as_clips(points))
    assert detector.anomaly_score(as_clips(points[7:8]))[0] == pytest.approx(0)
    assert -detector.training_score_samples_[7] == pytest.approx(100, abs=5)


def test_synthetic_points_next_to_a_clip_do_not_score_it():
    triangle = [[0, 0], [10, 0], [5, 20]]
    source = np.column_stack([np.arange(200), np.full(200, 1000)])
    X = as_clips(np.vstack([source, triangle]), 200 * ["source"] + 3 * ["target"])
    detector = make_near(oversampling="smote").fit(X)
    seen = detector.anomaly_score(X)[200:]
    np.testing.assert_allclose(seen, 0, atol=1e-6)
    # The height of the triangle above the side between the two others.
    area, sides = 200, np.array([20.6155, 20.6155, 10])
    np.testing.assert_allclose(
        -detector.training_score_samples_[200:], area / sides, rtol=0.05
    )


def test_a_domain_of_two_clips_has_no_synthetic_point_when_one_is_left_out():
    points = np.array([[0, 0], [3, 4], [7, 0], [900, 0], [900, 10]])
    domain = 3 * ["source"] + 2 * ["target"]
    detector = make_near(oversampling="smote").fit(as_clips(points, domain))
    np.testing.assert_allclose(-detector.training_score_samples_[3:], 10, rtol=1e-6)
    assert len(detector.training_points()[0]) == 6
    more = points[[0, 1, 2, 2, 3, 3, 4]] + np.eye(7, 2)
    three = as_clips(more, 4 * ["source"] + 3 * ["target"])
    for density in ("ratio", "varmin"):
        detector = make_near(oversampling="smote", by_domain=True, density=density)
        detector.fit(three)
        assert np.isfinite(detector.training_score_samples_).all()


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
def test_thresholds_hold_for_new_clips(rng, metric):
    draw = rng.normal(size=(1500, 12)) * np.linspace(1, 3, 12)
    domain = np.where(np.arange(300) < 240, "source", "target").tolist()
    X, new = as_clips(draw[:300], domain), as_clips(draw[300:])
    for options in (
        {"n_centers": 8},
        {"oversampling": "smote"},
        {"n_centers": 8, "by_domain": True},
    ):
        detector = make_near(metric, contamination=0.2, **options).fit(X)
        assert (detector.predict(new) == -1).mean() == pytest.approx(0.2, abs=0.06)


# -- what goes along -------------------------------------------------------------------

OPTIONS = {
    "centres": {"n_centers": 5},
    "centres, ratios": {"n_centers": 5, "density": "ratio", "n_bands": 2},
    "centres of domains": {"n_centers": 5, "by_domain": True, "density": "varmin"},
    "synthetic": {"oversampling": "smote"},
    "synthetic in banks": {"oversampling": "smote", "by_domain": True},
    "both": {"n_centers": 8, "oversampling": "smote", "n_neighbors": 3},
}


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
@pytest.mark.parametrize("name", OPTIONS)
def test_files_and_added_clips_make_the_same_detector(clips, tmp_path, name, metric):
    whole = make_near(metric, **OPTIONS[name]).fit(clips)
    first = make_near(metric, **OPTIONS[name]).fit(clips[np.r_[:50, 60:70]])
    save_model(first, tmp_path / "first.asd")
    added = load_model(tmp_path / "first.asd").add_normals(clips[np.r_[50:60, 70:72]])
    order = np.r_[:50, 60:70, 50:60, 70:72]
    # k-means and what is drawn depend on the order of the clips.
    expected = clone(whole).fit(clips[order])
    for one in (added, expected):
        assert np.isfinite(one.training_score_samples_).all()
    np.testing.assert_array_equal(
        added.score_samples(clips), expected.score_samples(clips)
    )
    np.testing.assert_array_equal(
        added.training_score_samples_, expected.training_score_samples_
    )
    assert added.offset_ == expected.offset_
    save_model(whole, tmp_path / "whole.asd")
    loaded = load_model(tmp_path / "whole.asd")
    np.testing.assert_array_equal(
        loaded.score_samples(clips), whole.score_samples(clips)
    )
    assert loaded.nearest_training_clips(clips).equals(
        whole.nearest_training_clips(clips)
    )


def test_a_seed_that_was_drawn_is_kept_for_added_clips(clips):
    drawn = make_near(n_centers=5, random_state=np.random.RandomState(3))
    drawn.fit(clips[:60]).add_normals(clips[60:])
    again = make_near(n_centers=5, random_state=np.random.RandomState(3)).fit(clips)
    np.testing.assert_array_equal(
        drawn.score_samples(clips), again.score_samples(clips)
    )


def test_files_of_earlier_versions_have_banks_of_clips(clips, tmp_path):
    detector = make_near("cosine").fit(clips)
    save_model(detector, tmp_path / "new.asd")
    content, tensors = read(tmp_path / "new.asd")
    for one in content["objects"]:
        if one["type"] == "EmbeddingNeighborDetector":
            for name in ("n_centers", "oversampling", "random_state"):
                del one["params"][name]
            for name in ("_bank_points", "_bank_clips", "_seed"):
                del one["fitted"][name]
    write(tmp_path / "old.asd", content, tensors)
    loaded = load_model(tmp_path / "old.asd")
    np.testing.assert_array_equal(
        loaded.score_samples(clips), detector.score_samples(clips)
    )
    points = loaded.training_points()[0]
    np.testing.assert_array_equal(points, detector.training_points()[0])


CHANGES = {
    "clips that are not": ("_bank_clips", lambda a: a + 100),
    "clips below 0": ("_bank_clips", lambda a: a - 100),
    "fewer clips": ("_bank_clips", lambda a: a[:-1]),
    "clips of one machine": ("_bank_clips", lambda a: 0 * a),
    "numbers with points": ("_bank_clips", lambda a: a.astype(float)),
    "fewer points": ("_bank_points", lambda a: a[:-1]),
    "fewer columns": ("_bank_points", lambda a: a[:, :-1]),
    "NaN": ("_bank_points", lambda a: a * np.nan),
    "fewer scales": ("scales_", lambda a: a[:-1]),
}


def change_file(path, change):
    content, tensors = read(path)
    (held,) = [
        one["fitted"]
        for one in content["objects"]
        if one["type"] == "EmbeddingNeighborDetector"
    ]
    change(held, tensors)
    write(path, content, tensors)
    with pytest.raises(ValueError, match="is not a file of save_model"):
        load_model(path)


@pytest.mark.parametrize("name", CHANGES)
def test_points_that_no_fit_makes_are_refused(clips, tmp_path, name):
    attribute, new = CHANGES[name]
    save_model(make_near("cosine", n_centers=5).fit(clips), tmp_path / "evil.asd")

    def change(held, tensors):
        place = held[attribute]["array"][0]
        tensors[place] = np.ascontiguousarray(new(tensors[place]))

    change_file(tmp_path / "evil.asd", change)


@pytest.mark.parametrize("missing", [["_bank_clips"], ["_bank_points", "_bank_clips"]])
def test_points_without_clips_and_scales_without_points_are_refused(
    clips, tmp_path, missing
):
    save_model(make_near("cosine", n_centers=5).fit(clips), tmp_path / "evil.asd")

    def change(held, tensors):
        for attribute in missing:
            del tensors[held.pop(attribute)["array"][0]]

    change_file(tmp_path / "evil.asd", change)


# -- limits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameter", [{"n_centers": 1}, {"oversampling": "adasyn"}, {"random_state": "x"}]
)
def test_wrong_options_are_refused(parameter, clips):
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        make_near(**parameter).fit(clips)


def test_oversampling_asks_for_domains_of_two_clips(clips):
    without = as_clips(np.eye(4))
    with pytest.raises(ValueError, match="no domains, .* with oversampling='smote'"):
        make_near(oversampling="smote").fit(without)
    some = clips[np.r_[:61]]
    with pytest.raises(
        ValueError, match=r"^a, domain target has one usable .*set oversampling=None$"
    ):
        make_near(oversampling="smote").fit(some)
    with pytest.raises(ValueError, match=r"domain target has fewer than 3 usable"):
        make_near(oversampling="smote", density="ratio").fit(clips[np.r_[:63, 65]])


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
@pytest.mark.parametrize("options", [{"n_centers": 3}, {"oversampling": "smote"}])
def test_copies_stay_what_they_are(rng, metric, options):
    points = np.vstack([rng.normal(size=(20, 4)), np.tile([-5.0, 1, 2, 3], (16, 1))])
    X = as_clips(points, ["x"] * 20 + ["y"] * 16, ["a"] * 36)
    with pytest.warns(UserWarning, match="all 16 training clips are equal"):
        detector = make_near(metric, by_domain=True, **options).fit(X)
    assert (detector.anomaly_score(X)[20:] == 0).all()
    assert np.isnan(detector.training_score_samples_[20:]).all()
    assert np.isfinite(detector.training_score_samples_[:20]).all()


@pytest.mark.parametrize(
    "options", [{}, {"n_centers": 8}, {"oversampling": "smote", "by_domain": True}]
)
@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
def test_what_differs_in_constant_columns_is_anomalous(rng, metric, options):
    """As where the bands above an upsampled recording's are empty."""
    X = np.column_stack([rng.normal(5, 1, (43, 3)), np.full((43, 3), -80.0)])
    X[40:, 3:] += [[1.0], [3.0], [10.0]]
    domain = np.where(np.arange(43) % 4, "source", "target")
    X = pd.DataFrame(X).add_prefix("x").assign(domain=domain)
    encoder = FunctionTransformer(lambda X: X.drop(columns="domain").to_numpy(float))
    near = EmbeddingNeighborDetector(
        encoder, metric=metric, n_bands=2, random_state=0, **options
    ).fit(X[:40])
    assert (near.score_samples(X[40:]) < 100 * near.offset_).all()


def test_what_makes_banks_is_not_changed_before_clips_are_added(clips):
    near = EmbeddingNeighborDetector(SpectrumStatistics(), by_domain=True).fit(clips)
    with pytest.raises(ValueError, match="by_domain=False or .* fit again"):
        near.set_params(by_domain=False).add_normals(clips)


def test_directions_that_are_equal_are_no_copies():
    X = np.outer(np.arange(1.0, 21), [3, 4])
    detector = EmbeddingNeighborDetector(
        FunctionTransformer(), n_centers=4, random_state=0
    ).fit(X)
    np.testing.assert_allclose(detector.anomaly_score([[30, 40], [-4, 3]]), [0, 1])


def test_bands_in_which_centres_agree_are_no_constants():
    """Two columns of signs, whose means in both clusters are 0."""
    signs = np.array([[1, 1], [-1, -1]] * 20, dtype=float)
    X = np.column_stack([signs, np.repeat([[0, 1], [90, 1]], 20, axis=0)])
    X[:, 2:] += 0.1 * np.random.default_rng(0).normal(size=(40, 2))
    detector = EmbeddingNeighborDetector(
        FunctionTransformer(), metric=euclidean_distances, n_centers=2, n_bands=2
    )
    for metric in ("mahalanobis", euclidean_distances):
        detector.set_params(metric=metric, random_state=0).fit(X)
        assert detector.anomaly_score([[1.0, 1, 0, 1]])[0] < 10
