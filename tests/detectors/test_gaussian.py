import time

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import FunctionTransformer

from sklearn_asd import (
    ClipSpectrograms,
    GaussianDetector,
    SpectrumStatistics,
    load_model,
    save_model,
)

MEAN = SpectrumStatistics()


def make_clips(points, machine_id, machine_type=None):
    """Clips whose two frames are a row of numbers."""
    log_mels = np.repeat(np.asarray(points)[:, :, None], 2, axis=2)
    return ClipSpectrograms.from_arrays(
        log_mels, machine_type, machine_id, segment_frames=None
    )


@pytest.fixture
def fleet(rng):
    """Six machines of 20 clips each, which differ in their means."""
    machine = np.repeat(np.arange(6), 20)
    mixing = rng.normal(size=(8, 8))
    points = rng.normal(size=(120, 8)) @ mixing + 3 * rng.normal(size=(6, 8))[machine]
    return points, machine


def test_sharing_all_is_the_common_covariance(fleet):
    points, machine = fleet
    X = make_clips(points, machine)
    first_frames = FunctionTransformer(lambda X: X.frames[X.starts[:, 0]])
    detector = GaussianDetector(first_frames, sharing=1, shrinkage=0).fit(X)
    means = np.stack([points[machine == m].mean(axis=0) for m in range(6)])
    deviations = points - means[machine]
    precision = np.linalg.inv(deviations.T @ deviations / (120 - 6))
    squared = np.einsum("ij,jk,ik->i", deviations, precision, deviations)
    np.testing.assert_allclose(detector.anomaly_score(X), np.sqrt(squared), rtol=1e-4)


def test_sharing_nothing_is_ledoit_and_wolfs_covariance_of_each_machine(rng):
    """With their shrinkage; it divides by n, and this detector by n - 1."""
    X = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5))
    expected = LedoitWolf().fit(X)
    detector = GaussianDetector(
        sharing=0, shrinkage=expected.shrinkage_, standardization=0
    ).fit(X)
    np.testing.assert_allclose(
        detector.anomaly_score(X), np.sqrt(expected.mahalanobis(X) * 29 / 30)
    )


def test_training_scores_are_those_of_a_fit_without_the_clip(rng):
    X = rng.normal(size=(15, 3))
    settings = {"sharing": 0, "shrinkage": 0.1, "standardization": 0}
    detector = GaussianDetector(**settings).fit(X)
    for row in range(15):
        without = GaussianDetector(**settings).fit(np.delete(X, row, axis=0))
        expected = without.score_samples(X[[row]])
        np.testing.assert_allclose(detector.training_score_samples_[[row]], expected)


@pytest.mark.parametrize("contamination", [0.05, 0.2])
def test_the_threshold_holds_on_unseen_rows_with_more_columns_than_rows(
    rng, contamination
):
    detector = GaussianDetector(contamination=contamination)
    detector.fit(rng.normal(size=(150, 200)))
    false_alarms = (detector.predict(rng.normal(size=(1000, 200))) == -1).mean()
    assert contamination / 3 < false_alarms < 2 * contamination


def test_what_was_learnt_of_each_machine_is_readable(fleet):
    points, machine = fleet
    X = make_clips(points[:-5], [f"{m:02}" for m in machine[:-5]], ["fan"] * 115)
    detector = GaussianDetector(MEAN).fit(X)
    table = detector.machines_
    assert (
        list(table.index) == list(detector.classes_) == [f"fan/0{m}" for m in range(6)]
    )
    assert table["n_clips"].tolist() == [20] * 5 + [15]
    assert table["sharing"].between(0, 1).all()
    assert table["sibling_auc"].between(0.9, 1).all()
    scores = GaussianDetector(MEAN, sharing=0.3, shrinkage=0.2).fit(X).machines_
    assert scores["sharing"].iloc[0] == pytest.approx(0.3)
    assert (scores["shrinkage"] == 0.2).all()


def test_types_are_learnt_apart(rng):
    """A loud type changes nothing for a quiet one."""
    quiet, loud = rng.normal(size=(40, 4)), 100 * rng.normal(size=(40, 4))
    ids, kinds = np.tile(["00", "01"], 40), ["fan"] * 40 + ["pump"] * 40
    both = make_clips(np.concatenate([quiet, loud]), ids, kinds)
    detector = GaussianDetector(MEAN).fit(both)
    alone = GaussianDetector(MEAN).fit(both[:40])
    np.testing.assert_allclose(
        detector.score_samples(both[:40]), alone.score_samples(both[:40])
    )
    assert detector.machines_.loc["fan/00"].equals(alone.machines_.loc["fan/00"])


def test_a_type_of_one_machine_has_no_siblings(rng):
    detector = GaussianDetector().fit(rng.normal(size=(9, 2)))
    assert detector.machines_["sibling_auc"].isna().all()
    assert list(detector.machines_.index) == [""]
    assert not hasattr(detector, "classes_")


def test_clips_marked_anomalous_are_never_learnt_from(rng):
    X, y = rng.normal(size=(60, 3)), np.ones(60)
    X[::4] += 9
    y[::4] = -1
    detector, without = GaussianDetector(), GaussianDetector()
    verdicts = detector.fit_predict(X, y)
    without.fit(X[y == 1])
    np.testing.assert_array_equal(detector.score_samples(X), without.score_samples(X))
    assert (verdicts[::4] == -1).all()
    assert (np.isnan(detector.training_score_samples_) == (y == -1)).all()


def test_machines_with_too_few_clips_are_named(rng):
    X = make_clips(rng.normal(size=(5, 2)), ["00", "00", "01", "02", "02"])
    with pytest.raises(ValueError, match="01 has fewer than 2 usable normal clips"):
        GaussianDetector(MEAN).fit(X)
    with pytest.raises(ValueError, match="fewer than 3 usable normal clips"):
        GaussianDetector(MEAN).fit(X[:2])
    X = X[[0, 1, 3, 4]]
    scores = GaussianDetector(MEAN).fit(X).training_score_samples_
    assert np.isfinite(scores).all()


def test_equal_training_clips_are_warned_of_and_all_others_are_anomalous():
    with pytest.warns(UserWarning, match="all 20 training clips are equal"):
        detector = GaussianDetector().fit(np.zeros((20, 3)))
    assert detector.predict([[0, 0, 0], [1e-3, 0, 0], [1e6] * 3]).tolist() == [
        1,
        -1,
        -1,
    ]


def test_copies_but_for_rounding_score_as_copies(rng):
    row = rng.normal(size=5)
    X = row * (1 + 1e-15 * rng.normal(size=(20, 5)))
    with pytest.warns(UserWarning, match="all 20 training clips are equal"):
        detector = GaussianDetector().fit(X)
    assert not detector.training_score_samples_.any()
    assert detector.predict(X * (1 + 3e-16)).tolist() == [1] * 20
    assert detector.score_samples([row + 0.1])[0] < -1000


def test_unseen_machines_are_refused(fleet):
    points, machine = fleet
    X = make_clips(points, machine)
    detector = GaussianDetector(MEAN).fit(X[:100])
    with pytest.raises(ValueError, match="not among those fitted: 5"):
        detector.score_samples(X)


def test_thousands_of_clips_take_seconds(rng):
    frames = pd.DataFrame(rng.normal(size=(4000, 128)))
    start = time.perf_counter()
    GaussianDetector().fit(frames)
    assert time.perf_counter() - start < 30


# -- a mean for each domain ------------------------------------------------------------


def make_domains(rng, n_source=60, n_target=4, shift=8.0):
    """Two machines, whose target domain lies elsewhere in two of four columns."""
    rows, machine, domain = [], [], []
    for one, mean in (("00", 0.0), ("01", 20.0)):
        for name, n, far in (("source", n_source, 0.0), ("target", n_target, shift)):
            points = rng.normal(size=(n, 4)) + mean
            points[:, :2] += far
            rows.append(points)
            machine += [one] * n
            domain += [name] * n
    return pd.DataFrame(np.concatenate(rows), columns=list("abcd")), machine, domain


def clips_of(rows, machine, domain):
    log_mels = np.repeat(np.asarray(rows)[:, :, None], 2, axis=2)
    return ClipSpectrograms.from_arrays(
        log_mels, None, machine, domain=domain, segment_frames=None
    )


def test_each_domain_has_a_mean_and_a_clip_the_distance_to_the_nearest(rng):
    rows, machine, domain = make_domains(rng)
    X = clips_of(rows, machine, domain)
    detector = GaussianDetector(MEAN, by_domain=True).fit(X)
    assert detector.classes_.tolist() == ["00", "01"]
    assert list(detector.machines_.index) == [
        *("00, domain source", "00, domain target"),
        *("01, domain source", "01, domain target"),
    ]
    assert detector.machines_["n_clips"].tolist() == [60, 4, 60, 4]
    distances = {
        mean: np.linalg.norm(
            (detector.encoder_.transform(X) - detector.means_[mean])
            @ detector.whitenings_[mean],
            axis=1,
        )
        for mean in range(4)
    }
    first = np.array(machine) == "00"
    expected = np.where(
        first,
        np.minimum(distances[0], distances[1]),
        np.minimum(distances[2], distances[3]),
    )
    np.testing.assert_allclose(detector.anomaly_score(X), expected)
    # The domain of a clip to score is not used, and need not be known.
    unknown = clips_of(rows, machine, None)
    np.testing.assert_array_equal(
        detector.score_samples(unknown), detector.score_samples(X)
    )


def test_clips_of_a_rare_domain_are_as_normal_as_others(rng):
    rows, machine, domain = make_domains(rng)
    X = clips_of(rows, machine, domain)
    new_rows, new_machine, new_domain = make_domains(rng, 40, 40)
    new = clips_of(new_rows, new_machine, new_domain)
    target = np.array(new_domain) == "target"
    ratios = []
    for by_domain in (True, False):
        scores = GaussianDetector(MEAN, by_domain=by_domain).fit(X).anomaly_score(new)
        ratios.append(np.median(scores[target]) / np.median(scores[~target]))
    assert ratios[0] < 1.6
    assert ratios[1] > 2


def test_left_out_scores_of_domains_are_those_of_a_fit_without_the_clip(rng):
    rows, machine, domain = make_domains(rng, 12, 5)
    settings = {"sharing": 0.5, "shrinkage": 0.1, "standardization": 0}
    X = clips_of(rows, machine, domain)
    detector = GaussianDetector(MEAN, by_domain=True, **settings).fit(X)
    for row in (0, 13, 20):
        keep = np.delete(np.arange(len(X)), row)
        without = GaussianDetector(MEAN, by_domain=True, **settings).fit(X[keep])
        # The weight of the common covariance follows the median number of clips.
        np.testing.assert_allclose(
            detector.training_score_samples_[row],
            without.score_samples(X[row])[0],
            rtol=0.1,
        )


def test_a_domain_is_no_sibling_of_its_own_machine(rng):
    rows, machine, domain = make_domains(rng, 20, 5)
    of_one = [row for row, one in enumerate(machine) if one == "00"]
    X = clips_of(rows, machine, domain)
    alone = GaussianDetector(MEAN, by_domain=True).fit(X[of_one])
    assert alone.machines_["sibling_auc"].isna().all()
    both = GaussianDetector(MEAN, by_domain=True).fit(X)
    assert (both.machines_["sibling_auc"] > 0.99).all()


def test_one_domain_is_as_none(rng):
    rows = rng.normal(size=(20, 4))
    X = clips_of(rows, ["00"] * 20, ["source"] * 20)
    scores = [
        GaussianDetector(MEAN, by_domain=by_domain).fit(X).score_samples(X)
        for by_domain in (True, False)
    ]
    np.testing.assert_array_equal(*scores)


def test_domains_that_are_missing_or_have_one_clip_are_refused(rng):
    rows, machine, domain = make_domains(rng, 10, 1)
    detector = GaussianDetector(MEAN, by_domain=True)
    with pytest.raises(ValueError, match=r"00, domain target.* set by_domain=False"):
        detector.fit(clips_of(rows, machine, domain))
    with pytest.raises(ValueError, match=r"no domains, .* needed with by_domain=True"):
        detector.fit(clips_of(rows, machine, None))


def test_domains_without_machines_and_saved(rng, tmp_path):
    rows, _, domain = make_domains(rng, 20, 5)
    X = clips_of(rows, None, domain)
    detector = GaussianDetector(MEAN, by_domain=True).fit(X)
    assert list(detector.machines_.index) == ["domain source", "domain target"]
    save_model(detector, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
