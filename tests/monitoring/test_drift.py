"""Drift: known answers, the promise on unchanged streams, and real changes."""

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest

from sklearn_asd import (
    ClipSpectrograms,
    LogMelSegmenter,
    cut_into_pieces,
    load_clips,
)
from sklearn_asd.monitoring import (
    DriftTest,
    benjamini_hochberg,
    conformal_p_values,
)
from sklearn_asd.presets import make_detector


def test_p_values_by_hand():
    p_values = conformal_p_values([0.0, 1.0, np.nan, 5.0], [3.0, np.nan, 1.0, 2.0])
    np.testing.assert_allclose(p_values, [1 / 4, 2 / 4, np.nan, 1.0])
    with pytest.raises(ValueError, match="holds no scores"):
        conformal_p_values([0.0], [np.nan])


def test_p_values_of_normals_are_no_smaller_than_uniform_ones(rng):
    scores = rng.integers(0, 5, size=(4000, 20))  # many are equal
    p_values = np.array([conformal_p_values(s[:1], s[1:])[0] for s in scores])
    for level in (0.05, 0.1, 0.2, 0.5):
        assert np.mean(p_values <= level) <= level + 3 * np.sqrt(level / 4000)


def test_discoveries_by_hand_and_as_scipy_makes_them(rng):
    # Example of Benjamini and Hochberg's paper, section 3.2: four of fifteen at 0.05.
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    published += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert benjamini_hochberg(published, 0.05).sum() == 4
    for _ in range(50):
        p_values = rng.uniform(size=30) ** rng.integers(1, 5)
        expected = false_discovery_control(p_values) <= 0.1
        np.testing.assert_array_equal(benjamini_hochberg(p_values, 0.1), expected)
    with_unknown = benjamini_hochberg([np.nan, *published], 0.05)
    assert with_unknown.tolist() == [False, *benjamini_hochberg(published, 0.05)]
    assert not benjamini_hochberg([np.nan]).any()
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([1.5])
    with pytest.raises(ValueError, match="rate=0"):
        benjamini_hochberg([0.5], rate=0)


def test_the_capital_by_hand():
    """One reference score, and one lower window: p is half of what is drawn."""
    drift = DriftTest([1.0], random_state=0)
    drift.update(0.0)
    p_value = (1 - np.random.RandomState(0).uniform()) / 2
    powers = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 2.0, 3.0])
    won = [powers * p ** (powers - 1) for p in (p_value, 1 - p_value)]
    unused = 1 / (1 + np.log(2))
    assert drift.capital == pytest.approx(unused + (1 - unused) * np.mean(won))


def test_windows_without_a_score_are_passed_over():
    drift = DriftTest([1.0, 2.0])
    assert not drift.update(np.nan)
    assert (drift.n_windows, drift.capital) == (0, 1.0)
    with pytest.raises(ValueError, match="holds no scores"):
        DriftTest([])
    with pytest.raises(ValueError, match="between 0 and 1"):
        DriftTest([1.0], false_alarm_rate=0.0)


def count_found(streams, n_reference, rate):
    n_found = 0
    for seed, stream in enumerate(streams):
        drift = DriftTest(stream[:n_reference], rate, random_state=seed)
        for score in stream[n_reference:]:
            drift.update(score)
        n_found += drift.found
    return n_found


@pytest.mark.parametrize("decimals", [9, 0])  # 0: most scores are equal
def test_nothing_is_found_in_unchanged_streams(decimals, rng):
    streams = rng.normal(size=(1000, 40)).round(decimals)
    assert count_found(streams, 10, 0.05) <= 50


@pytest.mark.parametrize("n_cells", [4, 4096])
def test_the_ranks_that_are_bet_on_are_uniform(n_cells, rng, monkeypatch):
    monkeypatch.setattr("sklearn_asd.monitoring.drift._MOST_CELLS", n_cells)
    drift = DriftTest(rng.normal(size=20).round(1))
    ranks = [drift._rank(score) for score in rng.normal(size=1000).round(1)]
    assert kstest(ranks, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) < 0.1


def test_few_numbers_are_kept_and_ranks_stay_the_same(rng, monkeypatch):
    """Of 20,000 scores 256 cells: a rank is off by the share of its cell at most."""
    scores = 1e6 + np.append(rng.standard_t(2, size=20_000), -1e9)
    exact = DriftTest(scores[:100])
    monkeypatch.setattr("sklearn_asd.monitoring.drift._MOST_CELLS", 256)
    rounded = DriftTest(scores[:100])
    for score in scores[100:-1]:
        rounded._rank(score)
    kept = rounded._scores
    assert 128 <= len(kept._cells) <= 256
    assert kept._counts.sum() == kept._n_scores == 20_000
    monkeypatch.undo()
    for score in scores[100:-1]:
        exact._rank(score)
    assert len(exact._scores._cells) <= 4096
    largest = kept._counts.max() / 20_000
    assert largest < 0.1
    for score in [*rng.normal(1e6, size=50), -1e9]:
        assert rounded._rank(score) == pytest.approx(exact._rank(score), abs=largest)
    # The cells follow from the scores alone.
    again = DriftTest(scores[:100])
    monkeypatch.setattr("sklearn_asd.monitoring.drift._MOST_CELLS", 256)
    again = DriftTest(np.append(scores[:1], rng.permutation(scores[1:-1])))
    first = DriftTest(scores[:-1])
    np.testing.assert_array_equal(again._scores._cells, first._scores._cells)
    np.testing.assert_array_equal(again._scores._counts, first._scores._counts)


def test_infinite_scores_and_equal_ones_can_be_ranked(monkeypatch):
    monkeypatch.setattr("sklearn_asd.monitoring.drift._MOST_CELLS", 3)
    drift = DriftTest([1.0, 2.0])
    for score in [-np.inf, 3.5, 3.5, -np.inf, 1e300, 2.0]:
        assert 0 < drift._rank(score) <= 1
    assert drift._scores._counts.sum() == 8


@pytest.mark.parametrize("shift", [-2.0, 3.0])
@pytest.mark.parametrize("n_before", [0, 100, 2000])
def test_a_change_is_named_soon_and_since_when(shift, n_before, rng):
    drift = DriftTest(rng.normal(size=60))
    for time in range(n_before + 60):
        if drift.update(rng.normal() + shift * (time >= n_before), time):
            break
    assert drift.found
    assert n_before <= time < n_before + 40
    assert abs(drift.since - n_before) <= 10
    since = drift.since
    for score in rng.normal(size=50):
        assert drift.update(score)  # what was found stays found
    assert drift.since == since


@pytest.fixture(scope="module")
def toy_cars(recordings):
    """Normals of four cars of DCASE 2020: labels of cars, and log-mels."""
    with np.load(recordings("toycar2020_logmel") / "clips.npz") as file:
        some = np.flatnonzero(file["label"] == 1)[::2]
        return file["machine_id"][some].astype(str), file["log_mel"][some]


@pytest.fixture(scope="module")
def car_scores(toy_cars):
    """Reference, new normals, and normals of other cars, by the model of two cars.

    The sounds of these two differ from those of the other cars, by AUC of 0.8 to 0.95.
    """
    car, log_mels = toy_cars
    learnt = np.arange(len(car)) % 2 == 0
    scores = {}
    for own in ("02", "04"):
        X = [
            ClipSpectrograms.from_arrays(
                np.float32(log_mels[rows]),
                machine_id=[own] * rows.sum(),
                machine_type=["ToyCar"] * rows.sum(),
            )
            for rows in (
                learnt & (car == own),
                ~learnt & (car == own),
                ~learnt & (car != own),
            )
        ]
        detector = make_detector().fit(X[0])
        scores[own] = (
            detector.training_score_samples_,
            *map(detector.score_samples, X[1:]),
        )
    return scores


def test_another_real_car_is_named(car_scores):
    n_before = n_within = 60
    for seed, own in zip(range(20), itertools.cycle(car_scores), strict=False):
        rng = np.random.default_rng(seed)
        reference, new, others = map(rng.permutation, car_scores[own])
        drift = DriftTest(reference, random_state=seed)
        stream = [*new[:n_before], *others[:n_within]]
        found = [drift.update(score, time) for time, score in enumerate(stream)]
        assert found[-1]
        assert not found[n_before - 1]
        assert abs(drift.since - n_before) <= 30


def test_nothing_is_found_in_real_normals_that_are_shuffled(car_scores, rng):
    scores = [np.concatenate(car_scores[own][:2])[:80] for own in car_scores]
    streams = [rng.permutation(scores[n % 2]) for n in range(1000)]
    assert count_found(streams, 50, 0.05) <= 50


def score_cars(X, car, learnt):
    """Reference, new normals and those of each other car, by the model of each car."""
    for own in np.unique(car):
        detector = make_detector().fit(X[np.flatnonzero(learnt & (car == own))])
        rest = X[np.flatnonzero(~learnt)].as_machine("ToyCar", own)
        scores = detector.score_samples(rest)
        parts = {one: scores[car[~learnt] == one] for one in np.unique(car)}
        new = parts.pop(own)
        yield from ((detector.training_score_samples_, new, o) for o in parts.values())


def read_cars(recordings, name):
    """All normals of ToyCar: clips, cars, and which are learnt from."""
    if name == "toycar2020":
        with np.load(recordings("toycar2020_logmel") / "clips.npz") as file:
            normal = file["label"] == 1
            car, log_mels = file["machine_id"][normal], file["log_mel"][normal]
        car = car.astype(str)
        X = ClipSpectrograms.from_arrays(
            np.float32(log_mels), machine_type=["ToyCar"] * len(car), machine_id=car
        )
        return X, car, np.arange(len(car)) % 2 == 0
    clips = load_clips(recordings("toycar2023") / "ToyCar" / "train")
    clips = clips.assign(machine_id=clips["car"])
    number = clips.groupby("car").cumcount().to_numpy()
    pieces = cut_into_pieces(clips, 3.0)
    X = LogMelSegmenter(segment_duration=None).transform(pieces)
    return X, pieces["car"].to_numpy(str), number[pieces.index] % 2 == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("toycar2020", 70), ("toycar2023", 35)]
)  # as docs/guide/listening.md says
def test_any_other_real_car_is_named_within_the_stated_windows(recordings, name, most):
    pairs = list(score_cars(*read_cars(recordings, name)))
    for seed in range(max(20, len(pairs))):
        rng = np.random.default_rng(seed)
        reference, new, others = map(rng.permutation, pairs[seed % len(pairs)])
        drift = DriftTest(reference, random_state=seed)
        stream = [*new, *others[:most]]
        found = [drift.update(score, time) for time, score in enumerate(stream)]
        assert found[-1]
        assert not found[len(new) - 1]
