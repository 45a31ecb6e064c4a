"""Clips that are added to a fitted detector count as if `fit` had been given them."""

import copy

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_asd import (
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    PerMachineType,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
    load_model,
    save_model,
)
from sklearn_asd.meta import add_normals
from sklearn_asd.presets import make_detector

N_CLIPS, N_FIRST = 72, 48


@pytest.fixture(scope="module")
def clips():
    """Clips of two fans and a pump, which follow each other."""
    rng = np.random.default_rng(0)
    machine = np.arange(N_CLIPS) % 3
    log_mels = rng.normal(size=(N_CLIPS, 6, 12)) + machine[:, None, None]
    return ClipSpectrograms.from_arrays(
        log_mels,
        machine_type=np.array(["fan", "fan", "pump"])[machine].tolist(),
        machine_id=np.array(["00", "01", "00"])[machine].tolist(),
        segment_frames=None,
    )


MEAN, MAX = SpectrumStatistics("mean"), SpectrumStatistics("max")
ROWS = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
DETECTORS = {
    "gaussian": GaussianDetector(SpectrumStatistics()),
    "standardization": GaussianDetector(MEAN, standardization="auto"),
    "neighbors": EmbeddingNeighborDetector(MEAN, n_neighbors=2),
    "whitened": EmbeddingNeighborDetector(MEAN, metric="mahalanobis", density="ratio"),
    "bands": EmbeddingNeighborDetector(MEAN, density="varmin", n_bands=2),
    "each": PerMachine(ROWS),
    "tuned": ThresholdTuner(PerMachine(ROWS), false_alarm_rate=0.2),
    "types": OnlyMachineTypes(GaussianDetector(MEAN), "fan"),
    "by type": PerMachineType(
        [("pump", GaussianDetector(MAX)), ("fan", GaussianDetector(MEAN))]
    ),
    "of other types": PerMachineType(
        [("pump", EmbeddingNeighborDetector(MEAN)), ("no", "drop")],
        training_types={"pump": ["fan", "pump"]},
    ),
    "default": make_detector(),
    "mean": make_detector(aggregation="mean", n_selected=2),
    "groups": ZScoreEnsemble(
        [("a", GaussianDetector(MEAN)), ("b", GaussianDetector(MAX))],
        n_selected=1,
        group_by="machine_id",
    ),
    "gamma": GammaProbabilityEnsemble(
        [("a", GaussianDetector(MEAN)), ("b", EmbeddingNeighborDetector(MAX))],
        group_by="machine_id",
    ),
    "pipeline": make_pipeline(RecordingCheck(), GaussianDetector(MEAN)),
    "promised": ThresholdTuner(
        GaussianDetector(MEAN), validation_fraction="training_scores"
    ),
}


def thresholds(detector):
    last = detector[-1] if hasattr(detector, "steps") else detector
    return getattr(last, "offsets_", getattr(last, "offset_", None))


def assert_same(added, whole, X):
    np.testing.assert_allclose(added.score_samples(X), whole.score_samples(X))
    assert thresholds(added) == pytest.approx(thresholds(whole))
    decisions = whole.decision_function(X)
    np.testing.assert_allclose(added.decision_function(X), decisions, atol=1e-9)
    last, expected = (
        one[-1] if hasattr(one, "steps") else one for one in (added, whole)
    )
    np.testing.assert_allclose(
        last.training_score_samples_, expected.training_score_samples_
    )


@pytest.mark.parametrize("name", DETECTORS)
def test_a_part_and_then_the_rest_are_the_whole(clips, name, tmp_path):
    detector = copy.deepcopy(DETECTORS[name])
    whole = copy.deepcopy(detector).fit(clips)
    first = detector.fit(clips[:N_FIRST])
    before = first.score_samples(clips)
    save_model(first, tmp_path / "first.asd")  # as what a file keeps is enough
    added = add_normals(load_model(tmp_path / "first.asd"), clips[N_FIRST:60])
    added = add_normals(added, clips[60:])
    assert_same(added, whole, clips)
    save_model(added, tmp_path / "added.asd")
    assert_same(load_model(tmp_path / "added.asd"), whole, clips)
    np.testing.assert_array_equal(first.score_samples(clips), before)


def test_rows_of_numbers_are_added_in_place(rng):
    X = rng.normal(size=(60, 4))
    for detector in (GaussianDetector(), MahalanobisDetector()):
        whole = copy.deepcopy(detector).fit(X)
        assert detector.fit(X[:40]).add_normals(X[40:]) is detector
        assert_same(detector, whole, X)
        with pytest.raises(ValueError, match=r"4 features|has 3"):
            detector.add_normals(X[:, :3])
        assert_same(detector, whole, X)


def test_anomalies_of_the_fit_keep_their_rows(clips):
    y = np.where(np.arange(N_FIRST) % 5, 1, -1)
    normal = np.append(np.flatnonzero(y == 1), np.arange(N_FIRST, N_CLIPS))
    for name in ("gaussian", "neighbors", "each", "by type", "default", "gamma"):
        detector = copy.deepcopy(DETECTORS[name])
        whole = copy.deepcopy(detector).fit(clips[normal])
        added = add_normals(detector.fit(clips[:N_FIRST], y), clips[N_FIRST:])
        scores = added.training_score_samples_
        assert np.isnan(scores[:N_FIRST][y == -1]).all()
        np.testing.assert_allclose(scores[normal], whole.training_score_samples_)


def test_domains_are_added(rng):
    log_mels = rng.normal(size=(40, 6, 12))
    X = ClipSpectrograms.from_arrays(
        log_mels, domain=20 * ["source", "target"], segment_frames=None
    )
    for detector in (
        EmbeddingNeighborDetector(MEAN, by_domain=True),
        GaussianDetector(MEAN, by_domain=True),
        ThresholdTuner(
            GaussianDetector(MEAN),
            group_by="domain",
            false_alarm_rate=0.2,
            validation_fraction="training_scores",
        ),
        GammaProbabilityEnsemble([("a", GaussianDetector(MEAN))], group_by="domain"),
        ZScoreEnsemble([("a", GaussianDetector(MEAN))], group_by="domain"),
    ):
        whole = copy.deepcopy(detector).fit(X)
        assert_same(add_normals(detector.fit(X[:30]), X[30:]), whole, X)


def test_false_alarms_become_normal(clips, rng):
    """Ten clips of a new condition, five of which are added."""
    log_mels = rng.normal(size=(10, 6, 12)) + np.array([4, 0, 0, 0, 0, 0])[:, None]
    others = ClipSpectrograms.from_arrays(
        log_mels, ["pump"] * 10, ["00"] * 10, segment_frames=None
    )
    for name in ("neighbors", "gaussian", "default"):
        detector = copy.deepcopy(DETECTORS[name]).fit(clips)
        assert (detector.predict(others[5:]) == -1).all()
        added = add_normals(detector, others[:5])
        assert (added.predict(others[5:]) == 1).sum() >= 4


def test_a_check_widens_its_limits(rng):
    audio = rng.normal(scale=0.01, size=(6, 16_000))
    from sklearn_asd import LogMelSegmenter

    pipe = make_pipeline(
        LogMelSegmenter(segment_duration=None), RecordingCheck(), GaussianDetector(MEAN)
    ).fit(audio)
    loud = 10 * rng.normal(scale=0.01, size=(3, 16_000))
    added = add_normals(pipe, loud)
    assert pipe[1].remarks(pipe[0].transform(loud))[0].startswith("20 dB louder")
    assert added[1].remarks(added[0].transform(loud)) == ["", "", ""]
    whole = copy.deepcopy(pipe).fit(np.concatenate([audio, loud]))
    np.testing.assert_array_equal(added[1].low_, whole[1].low_)
    np.testing.assert_array_equal(added[1].high_, whole[1].high_)


def test_networks_and_scalers_keep_what_they_learnt(clips):
    network = IDConfidenceDetector(max_epochs=1, batch_size=16, random_state=0)
    X = ClipSpectrograms.from_arrays(
        np.random.default_rng(0).normal(size=(12, 32, 40)),
        machine_id=6 * ["a", "b"],
        segment_frames=32,
    )
    near = EmbeddingNeighborDetector(network).fit(X[:10])
    added = add_normals(near, X[10:])
    for one, two in zip(
        near.encoder_.net_.module_.parameters(),
        added.encoder_.net_.module_.parameters(),
        strict=True,
    ):
        assert (one == two).all()
    frozen = EmbeddingNeighborDetector(FrozenEstimator(near.encoder_)).fit(X)
    np.testing.assert_allclose(
        added.score_samples(X), frozen.score_samples(X), atol=1e-9
    )
    rows = np.random.default_rng(0).normal(size=(30, 3))
    pipe = make_pipeline(StandardScaler(), MahalanobisDetector()).fit(rows[:20])
    assert (add_normals(pipe, rows[20:])[0].mean_ == pipe[0].mean_).all()


@pytest.mark.parametrize(
    ("detector", "name"),
    [
        (IsolationForest(), "IsolationForest"),
        (make_pipeline(StandardScaler(), IsolationForest()), "IsolationForest"),
        (
            ZScoreEnsemble(
                [("a", MahalanobisDetector()), ("b", IsolationForest(random_state=0))]
            ),
            "IsolationForest",
        ),
    ],
)
def test_what_cannot_learn_more_is_named(detector, name, rng):
    X = rng.normal(size=(40, 3))
    detector.fit(X[:30])
    with pytest.raises(TypeError, match=f"^{name} cannot learn from more clips.*again"):
        add_normals(detector, X[30:])


def test_networks_that_judge_are_named(clips):
    network = AutoencoderDetector(max_epochs=1, batch_size=32, random_state=0)
    with pytest.raises(TypeError, match="AutoencoderDetector cannot learn"):
        add_normals(network.fit(clips[:12]), clips[12:])


@pytest.mark.parametrize(
    "name", ["gaussian", "neighbors", "whitened", "each", "by type"]
)
def test_copies_and_unknown_machines_are_refused(clips, name):
    detector = copy.deepcopy(DETECTORS[name]).fit(clips[:N_FIRST])
    with pytest.raises(ValueError, match="are copies of clips that were learnt from"):
        add_normals(detector, clips[45:51])
    other = ClipSpectrograms.from_arrays(
        np.ones((1, 6, 12)), ["fan"], ["07"], segment_frames=None
    )
    with pytest.raises(ValueError, match="fan/07"):
        add_normals(detector, other)


def test_thresholds_of_clips_that_were_held_out_are_not_left_behind(clips):
    detector = GaussianDetector(MEAN)
    tuner = ThresholdTuner(detector, false_alarm_rate=0.2, random_state=0)
    with pytest.raises(ValueError, match="the threshold is of clips that"):
        add_normals(tuner.fit(clips[:N_FIRST]), clips[N_FIRST:])
    frozen = FrozenEstimator(detector.fit(clips[:24]))
    tuner = ThresholdTuner(frozen, false_alarm_rate=0.2).fit(clips[24:N_FIRST])
    with pytest.raises(ValueError, match=r"FrozenEstimator\(detector\)"):
        add_normals(tuner, clips[N_FIRST:])
    y = np.where(np.arange(N_FIRST) < 4, -1, 1)
    tuner = ThresholdTuner(
        GaussianDetector(MEAN), "f1", validation_fraction="training_scores"
    ).fit(clips[:N_FIRST], y)
    with pytest.raises(ValueError, match="of 4 anomalous clips"):
        add_normals(tuner, clips[N_FIRST:])


@pytest.mark.parametrize(
    "name", ["gaussian", "whitened", "each", "by type", "default", "gamma"]
)
def test_models_of_earlier_versions_say_that_they_kept_nothing(clips, name):
    detector = copy.deepcopy(DETECTORS[name]).fit(clips[:N_FIRST])
    for attribute in [one for one in vars(detector) if one.startswith("_training_")]:
        if attribute != "_training_points" or name != "whitened":
            delattr(detector, attribute)
    with pytest.raises(ValueError, match="earlier version"):
        add_normals(detector, clips[N_FIRST:])


def test_an_error_changes_nothing(clips):
    detector = copy.deepcopy(DETECTORS["default"]).fit(clips[:N_FIRST])
    before = dict(vars(detector))
    members = [dict(vars(one)) for one in detector.estimators_]
    with pytest.raises(ValueError, match="copies"):
        detector.add_normals(clips[40:])
    assert vars(detector) == before
    for one, values in zip(detector.estimators_, members, strict=True):
        assert all(vars(one)[name] is value for name, value in values.items())


def test_types_without_machines_tell_no_clips_apart(clips):
    """Fans and pumps without IDs are one machine, whose mean is that of all."""
    log_mels = clips.frames.reshape(N_CLIPS, 12, 6).transpose(0, 2, 1)
    kinds = ["fan"] * 36 + ["pump"] * 36
    X = ClipSpectrograms.from_arrays(log_mels, machine_type=kinds, segment_frames=None)
    whole = GaussianDetector(MEAN).fit(X)
    plain = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    expected = GaussianDetector(MEAN).fit(plain)
    assert len(whole.machines_) == 1
    np.testing.assert_array_equal(whole.score_samples(X), expected.score_samples(plain))
    assert_same(add_normals(GaussianDetector(MEAN).fit(X[:48]), X[48:]), whole, X)


def test_clips_of_one_type_are_added_to_an_ensemble_over_types(clips):
    fans = np.flatnonzero(np.array(clips.machine_type) == "fan")
    first = np.setdiff1d(np.arange(N_CLIPS), fans[-6:])
    members = [
        (kind, OnlyMachineTypes(GaussianDetector(MEAN), kind))
        for kind in ("fan", "pump")
    ]
    order = np.append(first, fans[-6:])
    whole = ZScoreEnsemble(members).fit(clips[order])
    added = add_normals(ZScoreEnsemble(members).fit(clips[first]), clips[fans[-6:]])
    assert_same(added, whole, clips)


def test_clips_are_added_to_the_detectors_that_learn_from_their_type(clips):
    detect = PerMachineType(
        [("fan", GaussianDetector(MEAN)), ("pump", GaussianDetector(MEAN))],
        training_types={"pump": ["pump", "fan"]},
    ).fit(clips[:N_FIRST])
    kinds = np.array(clips.machine_type)[N_FIRST:]
    fans, pumps = (N_FIRST + np.flatnonzero(kinds == kind) for kind in ("fan", "pump"))
    before = [one.training_score_samples_ for one in detect.estimators_]
    more = add_normals(detect, clips[pumps])
    assert more.estimators_[0] is detect.estimators_[0]
    n_clips = [len(one.training_score_samples_) for one in more.estimators_]
    assert n_clips == [len(before[0]), len(before[1]) + len(pumps)]
    more = add_normals(more, clips[fans])
    whole = copy.deepcopy(detect).fit(clips[[*range(N_FIRST), *pumps, *fans]])
    assert_same(more, whole, clips)


def test_a_type_that_no_detector_learns_from_is_named(clips):
    valve = ClipSpectrograms.from_arrays(
        np.ones((1, 6, 12)), ["valve"], ["00"], segment_frames=None
    )
    detector = copy.deepcopy(DETECTORS["by type"]).fit(clips)
    with pytest.raises(ValueError, match="not among those fitted: valve; known are f"):
        add_normals(detector, valve)
    one = PerMachineType([("fan", GaussianDetector(MEAN))]).fit(clips)
    with pytest.raises(ValueError, match="not among those fitted: pump; known are fan"):
        add_normals(one, clips[2:3])


def test_a_detector_of_a_type_without_left_out_scores_learns(clips):
    """As one that was fitted earlier, whose training clips are not known."""
    one = GaussianDetector(MEAN)
    fans = np.flatnonzero(np.array(clips.machine_type) == "fan")
    frozen = FrozenEstimator(copy.deepcopy(one).fit(clips[fans[:20]]))
    detect = PerMachineType([("fan", frozen)]).fit(clips[fans[:20]])
    assert not hasattr(detect, "training_score_samples_")
    added = add_normals(add_normals(detect, clips[fans[20:30]]), clips[fans[30:]])
    expected = one.fit(clips[fans]).score_samples(clips[fans])
    np.testing.assert_allclose(added.score_samples(clips[fans]), expected)


def test_steps_that_are_frozen_stay_as_they_are(clips):
    check = RecordingCheck().fit(clips[:N_FIRST])
    pipe = make_pipeline(FrozenEstimator(check), GaussianDetector(MEAN))
    pipe.fit(clips[:N_FIRST])
    before = copy.deepcopy(vars(check))
    added = add_normals(pipe, clips[N_FIRST:])
    assert isinstance(added[0], FrozenEstimator)
    assert pipe[0].estimator is check
    assert repr(vars(check)) == repr(before)


def test_clips_of_a_domain_without_a_threshold_or_scales_are_refused(rng):
    log_mels = rng.normal(size=(60, 6, 12))
    domain = ["source"] * 30 + ["target"] * 30
    X = ClipSpectrograms.from_arrays(log_mels, domain=domain, segment_frames=None)
    tuner = ThresholdTuner(
        GaussianDetector(MEAN),
        validation_fraction="training_scores",
        group_by="domain",
        false_alarm_rate=0.2,
    ).fit(X[:50])
    other = ClipSpectrograms.from_arrays(
        log_mels[:3] + 1, domain=["moved"] * 3, segment_frames=None
    )
    with pytest.raises(ValueError, match=r"clips of moved, and thresholds are of sour"):
        add_normals(tuner, other)
    members = [("a", GaussianDetector(MEAN))]
    for kind in (ZScoreEnsemble, GammaProbabilityEnsemble):
        ensemble = kind(members, group_by="domain").fit(X[:50])
        with pytest.raises(ValueError, match="clips of moved, and scales are of sour"):
            add_normals(ensemble, other)
