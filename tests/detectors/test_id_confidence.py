import copy
import functools
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from fixed_network import FixedLogits, spell
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
)
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.detectors import GaussianDetector
from sklearn_asd.features.pooling import Percentile, RankWeightedMean, skewness
from sklearn_asd.networks import AdaCos, ArcFace, InoueT18, PVMilk20, Softmax

N_MELS = 16


@pytest.fixture(scope="module")
def fixed():
    """Detector of machines a, b and c whose probabilities are known."""
    X = ClipSpectrograms.from_arrays(
        [spell([np.eye(3)[j] * 0.8 + 0.1]) for j in range(3)],
        machine_id=list("abc"),
        segment_frames=2,
        segment_hop_frames=2,
    )
    detector = IDConfidenceDetector(
        network=FixedLogits, max_epochs=1, center_loss_weight=0, precision="float32"
    )
    return detector.fit(X)


def clips_of(*probabilities, machine_id=None):
    return ClipSpectrograms.from_arrays(
        [spell(p) for p in probabilities],
        machine_id=machine_id,
        segment_frames=2,
        segment_hop_frames=2,
    )


def make_clips(n_per_machine=12, machines=("a", "b", "c"), seed=0, n_frames=40):
    """Clips of machines that each hum in a band of their own."""
    rng = np.random.default_rng(seed)
    machine = np.repeat(machines, n_per_machine)
    log_mels = rng.normal(size=(len(machine), N_MELS, n_frames))
    for row, name in enumerate(machine):
        log_mels[row, 4 * list(machines).index(name)] += 4
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine, segment_frames=16, segment_hop_frames=8
    )


def make_anomalies(machines=("a", "b", "c"), seed=1):
    """Clips that hum in no machine's band."""
    rng = np.random.default_rng(seed)
    log_mels = rng.normal(size=(len(machines) * 4, N_MELS, 40))
    log_mels[:, 14] += 4
    return ClipSpectrograms.from_arrays(
        log_mels,
        machine_id=np.repeat(machines, 4),
        segment_frames=16,
        segment_hop_frames=8,
    )


def make_detector(**parameters):
    defaults = {"max_epochs": 12, "batch_size": 32, "random_state": 0}
    return IDConfidenceDetector(**defaults | parameters)


@pytest.fixture(scope="module")
def trained():
    """Careful: shared by the module, so neither fit it again nor set its parameters."""
    return make_detector().fit(make_clips())


# --- known answers


def test_score_is_one_minus_own_probability_averaged_over_segments(fixed):
    X = clips_of(
        [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]],  # two segments
        [[0.6, 0.3, 0.1]],
        [[0.2, 0.3, 0.5]],
        machine_id=["a", "b", "b"],
    )
    expected = [(0.3 + 0.5) / 2, 0.7, 0.7]
    np.testing.assert_allclose(fixed.anomaly_score(X), expected, atol=1e-6)
    np.testing.assert_array_equal(fixed.score_samples(X), -fixed.anomaly_score(X))


def test_msp_is_one_minus_the_largest_probability_of_each_segment(fixed):
    msp = (
        clone(fixed)
        .set_params(confidence="msp")
        .fit(
            clips_of(
                [[0.8, 0.1, 0.1]],
                [[0.1, 0.8, 0.1]],
                [[0.1, 0.1, 0.8]],
                machine_id=list("abc"),
            )
        )
    )
    X = clips_of([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(msp.anomaly_score(X), [0.35, 0.5], atol=1e-6)


def with_pooling(detector, pooling):
    """The same trained network, whose segments are pooled otherwise."""
    return copy.copy(detector).set_params(pooling=pooling)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", (0.3 + 0.5 + 0.1 + 0.1) / 4),
        ("max", 0.5),
        ("median", 0.2),
        ("rank", (0.5 + 0.3 * 0.7 + 0.1 * 0.49 + 0.1 * 0.343) / 2.533),
        (RankWeightedMean(0.5), (0.5 + 0.3 / 2 + 0.1 / 4 + 0.1 / 8) / 1.875),
        (Percentile(100 * 2 / 3), 0.3),
        (lambda doubts: doubts[0], 0.3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("confidence", ["id", "msp"])
def test_doubts_of_segments_are_pooled(fixed, pooling, expected, confidence):
    segments = [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.9, 0.1, 1e-9]]
    X = clips_of(segments, [[0.6, 0.3, 0.1]], machine_id=["a", "a"])
    detector = with_pooling(fixed, pooling).set_params(confidence=confidence)
    scores = detector.anomaly_score(X)
    np.testing.assert_allclose(scores, [expected, 0.4], atol=1e-6)


def test_embeddings_of_segments_are_pooled(fixed):
    X = clips_of([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], [[0.6, 0.3, 0.1]])
    low, high = np.log([[0.5, 0.2], [0.7, 0.3]])
    np.testing.assert_allclose(fixed.embed(X, pooling="max")[0], high, rtol=1e-6)
    both = fixed.embed(X, pooling=["max", Percentile(0)])
    np.testing.assert_allclose(both[0], [*high, *low], rtol=1e-6)
    np.testing.assert_array_equal(both[1, :2], both[1, 2:])
    np.testing.assert_array_equal(fixed.embed(X, pooling="mean"), fixed.embed(X))
    X.stops[0] = X.starts[0]
    assert np.isnan(fixed.embed(X, pooling="max")[0]).all()
    assert fixed.embed(X[:0], pooling=["max", "std"]).shape == (0, 4)


def test_a_clip_that_is_anomalous_in_one_segment_stands_out_by_the_largest(fixed):
    short = [[0.9, 0.05, 0.05]] * 9 + [[0.1, 0.8, 0.1]]
    long = [[0.75, 0.15, 0.1]] * 10  # a bit doubtful throughout
    X = clips_of(short, long, machine_id=["a", "a"])
    by_mean = with_pooling(fixed, "mean").anomaly_score(X)
    assert by_mean[0] < by_mean[1]
    for pooling in ("max", "rank", Percentile(95)):
        by_pooling = with_pooling(fixed, pooling).anomaly_score(X)
        assert by_pooling[0] > by_pooling[1]
        assert by_pooling[0] > by_mean[0]


def test_poolings_that_make_no_score_are_refused_before_the_training():
    X = make_clips(2)
    for pooling in ("std", ["mean", "max"]):
        with pytest.raises(ValueError, match="The 'pooling' parameter of IDConfidence"):
            make_detector(pooling=pooling).fit(X)
    with pytest.raises(ValueError, match="'skewness', which does not rise with the"):
        make_detector(pooling=skewness, max_epochs=10**9).fit(X)


def test_very_normal_clips_are_not_tied(fixed):
    """Also where 1 - p in float32, or from a softmax, would be 0 for all of them."""
    tails = np.array([1e-12, 1e-13, 1e-20, 1e-30])
    X = clips_of(*[[[1, t / 2, t / 2]] for t in tails], machine_id=["a"] * 4)
    np.testing.assert_allclose(fixed.anomaly_score(X), tails, rtol=1e-4)


def test_predict_id_goes_by_the_mean_probability(fixed):
    X = clips_of([[0.9, 0.1, 1e-9], [0.4, 0.6, 1e-9]], [[0.1, 0.2, 0.7]])
    assert fixed.predict_id(X).tolist() == ["a", "c"]


def test_score_is_the_accuracy_on_normal_clips(fixed):
    X = clips_of(
        [[0.8, 0.1, 0.1]], [[0.8, 0.1, 0.1]], [[0.1, 0.8, 0.1]], machine_id=list("abb")
    )
    assert fixed.score(X) == pytest.approx(2 / 3)
    assert fixed.score(X, [1, -1, 1]) == 1.0


def test_embeddings_are_averaged_or_padded_with_nan(fixed):
    X = clips_of([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], [[0.125, 0.5, 0.375]])
    segments = np.log([[[0.5, 0.25], [0.25, 0.5]], [[0.125, 0.5], [np.nan, np.nan]]])
    np.testing.assert_allclose(fixed.embed(X, average=False), segments, rtol=1e-6)
    np.testing.assert_allclose(fixed.embed(X), np.nanmean(segments, axis=1), rtol=1e-6)


def test_threshold_is_the_contamination_percentile_of_the_training_scores(trained):
    scores = trained.score_samples(make_clips())
    assert trained.offset_ == pytest.approx(np.percentile(scores, 10), abs=1e-9)
    half = make_detector(contamination=0.5).fit(make_clips())
    assert (half.predict(make_clips()) == -1).mean() == pytest.approx(0.5)


# --- relations


@pytest.mark.parametrize("network", ["pvmilk20", "inouet18"])
def test_whole_clips_of_mixed_lengths_score_as_if_alone(network):
    rng = np.random.default_rng(0)
    log_mels = [rng.normal(size=(N_MELS, n)) for n in (40, 33, 44, 40, 36, 40)]
    X = ClipSpectrograms.from_arrays(
        log_mels, machine_id=list("ababab"), segment_frames=None
    )
    detector = make_detector(network=network, max_epochs=2).fit(X)
    scores = detector.score_samples(X)
    alone = np.concatenate([detector.score_samples(X[row]) for row in range(6)])
    np.testing.assert_allclose(alone, scores, atol=1e-6)


def test_the_same_seed_gives_the_same_fit():
    X = make_clips()
    fits = [make_detector(max_epochs=2, random_state=s).fit(X) for s in (3, 3, 4)]
    scores = [fit.score_samples(X) for fit in fits]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


def test_machine_type_and_id_together_make_a_class():
    X = make_clips(machines=("a", "b"))
    X.machine_type = np.array(["fan"] * 12 + ["pump"] * 12, dtype=object)
    X.machine_id = np.array(["00"] * 24, dtype=object)
    detector = make_detector(max_epochs=1).fit(X)
    assert detector.classes_.tolist() == ["fan/00", "pump/00"]


def test_center_loss_draws_the_clips_of_a_machine_together():
    X = make_clips()
    machine = np.searchsorted(["a", "b", "c"], X.machine_id.astype(str))

    def spread(weight):
        detector = make_detector(center_loss_weight=weight, max_epochs=25).fit(X)
        z = detector.embed(X)
        means = np.stack([z[machine == j].mean(axis=0) for j in range(3)])
        return ((z - means[machine]) ** 2).sum(axis=1).mean()

    assert spread(0.2) < spread(0.0)


def test_centers_follow_the_embedding_and_are_absent_without_center_loss(trained):
    assert trained.centers_.shape == (3, 128)
    assert isinstance(trained.centers_, np.ndarray)
    assert (
        make_detector(center_loss_weight=0, max_epochs=1).fit(make_clips()).centers_
        is None
    )


@pytest.mark.parametrize("center_loss_weight", [0, 0.0075, 0.1, 0.2])
def test_paper_weights_train_without_nan(center_loss_weight):
    detector = make_detector(center_loss_weight=center_loss_weight, max_epochs=40)
    detector.fit(make_clips())
    assert np.isfinite(detector.history_["train_loss"]).all()
    assert np.isfinite(detector.score_samples(make_clips())).all()


def test_validation_clips_are_of_every_machine_that_has_several():
    X = make_clips()
    detector = make_detector(validation_fraction=0.25, max_epochs=3).fit(X)
    assert list(detector.history_) == [
        "epoch",
        "train_loss",
        "valid_loss",
        "valid_accuracy",
        "seconds",
        "kept",
    ]
    assert detector.history_["kept"].sum() == 1
    y = np.repeat([0, 1, 2], [12, 4, 1])
    held_out = detector._hold_out(y, np.random.RandomState(0))
    assert held_out.shape == (17,)
    assert np.bincount(y[held_out], minlength=3).tolist() == [3, 1, 0]


def test_a_network_may_be_any_module_class_or_a_partial_one():
    X = make_clips()
    network = functools.partial(PVMilk20, dropout=0.0, n_embedding=8)
    detector = make_detector(network=network, max_epochs=1).fit(X)
    assert detector.embed(X).shape == (36, 8)
    by_class = make_detector(network=InoueT18, max_epochs=1).fit(X)
    by_name = make_detector(network="inouet18", max_epochs=1).fit(X)
    np.testing.assert_array_equal(by_class.score_samples(X), by_name.score_samples(X))


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_precision_is_of_training_only(precision):
    X = make_clips()
    X.segment_frames = 40
    detector = make_detector(precision=precision, max_epochs=25).fit(X)
    assert detector.score(X) == 1.0
    alone = detector.score_samples(X[3])
    np.testing.assert_allclose(alone, detector.score_samples(X)[3:4], atol=1e-6)


@functools.cache
def score_without_options():
    plain = make_detector(max_epochs=25).fit(make_clips())
    return plain.score_samples(make_clips(seed=5))


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "arcface"},
        {"loss": ArcFace(n_sub_centers=3), "mixup": 0.5},
        {"loss": "adacos", "random_starts": True},
        {"mixup": 0.5, "random_starts": True},
    ],
    ids=str,
)
def test_options_of_training_learn_and_are_reproducible(options):
    detector = make_detector(**{"max_epochs": 25} | options)
    normal = make_clips(seed=5)
    scores = detector.fit(make_clips()).score_samples(normal)
    assert detector.score(normal) > 0.9
    assert detector.score_samples(make_anomalies()).max() < np.median(scores)
    again = clone(detector).fit(make_clips()).score_samples(normal)
    np.testing.assert_array_equal(again, scores)
    assert (score_without_options() != scores).any()


@pytest.mark.parametrize(
    ("name", "loss"),
    [("softmax", Softmax()), ("arcface", ArcFace()), ("adacos", AdaCos())],
)
def test_the_name_of_a_loss_is_the_loss_with_its_defaults(name, loss):
    X = make_clips()
    named, given = (make_detector(loss=one, max_epochs=2) for one in (name, loss))
    scores = named.fit(X).score_samples(X)
    np.testing.assert_array_equal(given.fit(X).score_samples(X), scores)


def test_a_search_tries_losses():
    losses = ["softmax", ArcFace(margin=0.5), ArcFace(n_sub_centers=2)]
    every = np.arange(36)
    detector = make_detector(max_epochs=1)
    search = GridSearchCV(detector, {"loss": losses}, cv=[(every, every)])
    search.fit(make_clips())
    assert search.best_params_["loss"] in losses


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("cosface", "'loss' parameter"),
        (0.5, "'loss' parameter"),
        (ArcFace, r"loss is the class ArcFace; give an object, ArcFace\(\.\.\.\)"),
    ],
)
def test_what_is_no_loss_is_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        make_detector(loss=loss).fit(make_clips())


# --- bad clips


def test_unusable_clips_score_nan_and_are_not_trained_on(trained):
    X = make_clips()
    X.stops[7] = X.starts[7]
    good = np.arange(36) != 7
    np.testing.assert_array_equal(
        make_detector(max_epochs=2).fit(X).score_samples(X[good]),
        make_detector(max_epochs=2).fit(X[good]).score_samples(X[good]),
    )
    scores = trained.score_samples(X)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [7]
    np.testing.assert_allclose(
        scores[good], trained.score_samples(make_clips())[good], atol=1e-6
    )
    assert trained.predict(X)[7] == -1
    assert trained.predict_id(X)[7] is None
    assert np.isnan(trained.embed(X)[7]).all()
    assert trained.score(X) == 1.0


def test_clips_that_are_all_unusable_score_nan(trained):
    X = make_clips()[:2]
    X.stops[:] = X.starts
    assert np.isnan(trained.score_samples(X)).all()
    assert trained.predict_id(X).tolist() == [None, None]
    assert trained.embed(X, average=False).shape == (2, 0, 128)
    assert np.isnan(trained.embed(X)).all()
    with pytest.raises(ValueError, match="no usable normal clip"):
        make_detector().fit(X)


def test_an_empty_selection_has_empty_results(trained):
    X = make_clips()[:0]
    assert trained.score_samples(X).shape == (0,)
    assert trained.predict(X).shape == (0,)
    assert trained.predict_id(X).shape == (0,)
    assert trained.embed(X).shape == (0, 128)
    assert trained.embed(X, average=False).shape == (0, 0, 128)


# --- searches and saving


def make_waveforms(n_per_machine=6, seed=0):
    """Table of 1 s tones, one pitch for each machine, then as many off-pitch ones."""
    rng = np.random.default_rng(seed)
    time = np.arange(16000) / 16000
    rows = [
        {
            "audio": np.sin(2 * np.pi * pitch * time) + 0.3 * rng.normal(size=16000),
            "machine_id": machine,
            "label": label,
        }
        for label, factor in [(1, 1.0), (-1, 1.4)]
        for machine, pitch in [("a", 500 * factor), ("b", 900 * factor)]
        for _ in range(n_per_machine)
    ]
    return pd.DataFrame(rows)


def make_pipeline(**parameters):
    segment = LogMelSegmenter(segment_duration=0.512, segment_hop=0.256, n_mels=32)
    return Pipeline([("segment", segment), ("detect", make_detector(**parameters))])


WEIGHTS = {"detect__center_loss_weight": [0.0, 0.1]}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_by_roc_auc_over_the_center_loss_weight(n_jobs):
    clips = make_waveforms()
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    by_machine = clips["machine_id"] + clips["label"].astype(str)
    search = GridSearchCV(
        make_pipeline(max_epochs=30),
        WEIGHTS,
        scoring="roc_auc",
        cv=list(folds.split(clips, by_machine)),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(clips, clips["label"])
    assert (search.cv_results_["mean_test_score"] > 0.9).all()
    assert np.isfinite(search.score_samples(clips)).all()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_without_anomalies_goes_by_classification_accuracy(n_jobs):
    clips = make_waveforms().query("label == 1")
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(
        make_pipeline(),
        WEIGHTS,
        cv=list(folds.split(clips, clips["machine_id"])),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(clips)
    assert search.best_score_ == 1.0


def test_a_search_over_the_detector_copies_no_frames(monkeypatch):
    X, used = make_clips(), []
    monkeypatch.setattr(
        IDConfidenceDetector,
        "_fit",
        lambda self, X, fit=IDConfidenceDetector._fit: (used.append(X), fit(self, X)),
    )
    folds = StratifiedKFold(2).split(np.zeros(36), X.machine_id.astype(str))
    GridSearchCV(
        make_detector(max_epochs=1),
        {"center_loss_weight": [0.0, 0.1]},
        cv=list(folds),
        error_score="raise",
    ).fit(X)
    assert len(used) == 5
    assert all(fold.frames is X.frames for fold in used)


def test_clone_and_set_params_reach_every_parameter(trained):
    copy = clone(trained)
    assert copy.get_params() == trained.get_params()
    assert not hasattr(copy, "net_")
    pipe = make_pipeline().set_params(detect__center_loss_weight=0.7, detect__lr=0.01)
    assert pipe["detect"].center_loss_weight == 0.7
    assert clone(pipe)["detect"].lr == 0.01


def test_a_pipeline_loaded_in_a_new_process_scores_the_same_to_the_bit(tmp_path):
    clips = make_waveforms()
    pipe = make_pipeline(max_epochs=2).fit(clips.query("label == 1"))
    joblib.dump((pipe, clips), tmp_path / "model.joblib")
    script = (
        "import joblib, numpy, sys, torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "pipe, clips = joblib.load(sys.argv[1])\n"
        "numpy.save(sys.argv[2], pipe.score_samples(clips))\n"
    )
    paths = [str(tmp_path / "model.joblib"), str(tmp_path / "scores.npy")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True)
    np.testing.assert_array_equal(np.load(paths[1]), pipe.score_samples(clips))
    loaded = joblib.load(paths[0])[0]["detect"]
    pd.testing.assert_frame_equal(loaded.history_, pipe["detect"].history_)


def test_a_fitted_detector_pickles_without_its_training_data(tmp_path):
    sizes = []
    for n_per_machine in (4, 64):
        detector = make_detector(max_epochs=1, validation_fraction=0.2)
        path = tmp_path / f"{n_per_machine}.joblib"
        joblib.dump(detector.fit(make_clips(n_per_machine)), path)
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0] + 1000
    assert sizes[1] < 500_000


# --- errors


def test_fitting_needs_ids_of_at_least_two_machines():
    X = make_clips()
    with pytest.raises(ValueError, match="one machine only .a.*another machine"):
        make_detector().fit(X[:12])
    X.machine_id = None
    with pytest.raises(ValueError, match="no machine IDs.*column machine_id"):
        make_detector().fit(X)
    X = make_clips()
    X.machine_id[[3, 9]] = None
    with pytest.raises(ValueError, match="missing for clips 3, 9"):
        make_detector().fit(X)


def test_scoring_needs_ids_that_were_fitted_unless_msp(trained):
    X = make_clips(machines=("a", "z", "y"))
    with pytest.raises(ValueError, match=r"not among those fitted: y, z; known are a"):
        trained.score_samples(X)
    X.machine_id = None
    with pytest.raises(ValueError, match=r'no machine IDs.*confidence="id"'):
        trained.predict(X)
    assert trained.predict_id(X).shape == (36,)
    msp = make_detector(confidence="msp", max_epochs=1).fit(make_clips())
    assert np.isfinite(msp.score_samples(X)).all()


def test_anything_but_spectrograms_is_refused_with_the_remedy(trained):
    for method in (make_detector().fit, trained.score_samples, trained.predict_id):
        with pytest.raises(TypeError, match=r"got ndarray: put LogMelSegmenter\(\)"):
            method(np.zeros((4, 100)))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0] * 36, "y holds 0; labels are"),
        (["normal"] * 36, "y holds normal;"),
        ([1] * 35, r"y has shape \(35,\) for 36 clips"),
        ([1.0] * 35 + [np.nan], "y holds nan"),
        ([True] * 36, "y holds True"),
        ([-1] * 36, "no usable normal clip"),
    ],
)
def test_labels_other_than_plus_and_minus_one_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        make_detector().fit(make_clips(), y)


@pytest.mark.parametrize("dtype", [int, float, np.int8, object, "Int64"])
def test_labels_may_be_numbers_of_any_type(dtype):
    y = pd.Series([1] * 35 + [-1]).astype(dtype)
    make_detector(max_epochs=1).fit(make_clips(), y)


def test_frames_made_otherwise_are_refused(trained):
    X = make_clips()
    X.segment_frames = 20
    with pytest.raises(ValueError, match="segment_frames=20.*fitted on.*frames=16"):
        trained.score_samples(X)
    half = ClipSpectrograms(X.frames[:, :8], X.starts, X.stops, segment_frames=16)
    with pytest.raises(ValueError, match="n_mels=8.*fitted on n_mels=16"):
        trained.score_samples(half)


def test_another_sample_rate_is_refused():
    pipe = make_pipeline(max_epochs=1).fit(make_waveforms())
    clips = make_waveforms()
    slower = LogMelSegmenter(
        sample_rate=8000, segment_duration=1.024, segment_hop=0.512, n_mels=32
    )
    with pytest.raises(ValueError, match="sample_rate=8000.*fitted on sample_rate=16"):
        pipe["detect"].score_samples(slower.transform(clips))


def with_views(X, names):
    """The same clips with their only view, and others that are wrong on purpose."""
    other = np.roll(X.starts, 1, axis=0)
    starts = np.hstack([X.starts if n == "original" else other for n in names])
    return ClipSpectrograms(
        X.frames,
        starts,
        starts + (X.stops - X.starts),
        machine_id=X.machine_id,
        segment_frames=X.segment_frames,
        segment_hop_frames=X.segment_hop_frames,
        view_names=names,
    )


def test_of_several_views_the_original_only_is_heard(trained):
    X = make_clips()
    views = with_views(X, ("pitch +1", "original"))
    np.testing.assert_array_equal(
        make_detector().fit(views).score_samples(views),
        make_detector().fit(X).score_samples(X),
    )
    np.testing.assert_array_equal(trained.embed(views), trained.embed(X))
    without = with_views(X, ("pitch +1", "vocoded"))
    with pytest.raises(ValueError, match="views pitch .1, vocoded; .* 'original' only"):
        trained.score_samples(without)


def test_segments_too_short_for_the_network_are_refused():
    X = make_clips()
    X.segment_frames = 8
    with pytest.raises(
        ValueError, match="PVMilk20 needs segments of at least 9 frames"
    ):
        make_detector().fit(X)


def short_and_long(n_frames):
    """Whole clips of two machines, of these lengths."""
    rng = np.random.default_rng(0)
    log_mels = [
        rng.normal(size=(8, n)) + 3 * (row % 2) for row, n in enumerate(n_frames)
    ]
    return ClipSpectrograms.from_arrays(
        log_mels,
        machine_id=[str(row % 2) for row in range(len(n_frames))],
        segment_frames=None,
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: one,
        EmbeddingNeighborDetector,
        lambda one: GammaProbabilityEnsemble([("a", one)]),
        GaussianDetector,
    ],
    ids=["alone", "neighbors", "ensemble", "gaussian"],
)
def test_whole_clips_that_are_too_short_are_left_out_one_by_one(wrap):
    """PVMilk20 needs 9 frames."""
    lengths = [20] * 12
    X = short_and_long([*lengths, 8, 1, 9, 5])
    fit = {"max_epochs": 1, "batch_size": 16, "random_state": 0}
    message = "clips 12, 13, 15 have fewer than the 9 frames that the network needs"
    detector = wrap(IDConfidenceDetector(**fit)).fit(X[:12])
    with pytest.warns(UnusableClipWarning, match=message):
        scores = detector.score_samples(X)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(scores)), [12, 13, 15])
    np.testing.assert_allclose(scores[:12], detector.score_samples(X[:12]))
    with pytest.warns(UnusableClipWarning, match=r"score NaN: leave them out"):
        assert np.isnan(detector.score_samples(X[[13]])).all()
    rows = [*range(12), 12, 13]
    with pytest.warns(UnusableClipWarning, match="clips 12, 13 have fewer"):
        mixed = wrap(IDConfidenceDetector(**fit)).fit(X[rows])
    np.testing.assert_array_equal(
        mixed.score_samples(X[:12]), detector.score_samples(X[:12])
    )


def test_an_unfitted_detector_says_so():
    for method in ("score_samples", "predict", "embed", "predict_id", "score"):
        with pytest.raises(NotFittedError):
            getattr(make_detector(), method)(make_clips())


@pytest.mark.parametrize(
    "parameter",
    [
        {"network": "resnet"},
        {"confidence": "softmax"},
        {"contamination": 0.6},
        {"contamination": 0.0},
        {"center_loss_weight": -0.1},
        {"center_lr": 0},
        {"validation_fraction": 1.0},
        {"max_epochs": 0},
        {"precision": "float64"},
    ],
)
def test_parameters_out_of_range_are_refused_at_fit(parameter):
    with pytest.raises(ValueError, match=f"The '{next(iter(parameter))}' parameter"):
        make_detector(**parameter).fit(make_clips())


def test_verbose_prints_an_epoch_a_line(capsys):
    make_detector(verbose=1, max_epochs=2).fit(make_clips())
    assert "train_loss" in capsys.readouterr().out
    make_detector(max_epochs=2).fit(make_clips())
    assert capsys.readouterr().out == ""
