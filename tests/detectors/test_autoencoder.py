import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_asd import ClipSpectrograms, LogMelSegmenter, load_model, save_model
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.detectors import AutoencoderDetector
from sklearn_asd.explanation import segment_scores

N_MELS = 16
WHOLE = {"segment_frames": None}


def make_clips(n_clips=24, seed=0, band=4, n_frames=40, **segments):
    """Clips in dB that hum in one band."""
    log_mels = np.random.default_rng(seed).normal(size=(n_clips, N_MELS, n_frames)) - 40
    log_mels[:, band] += 10
    segments = {"segment_frames": 16, "segment_hop_frames": 8} | segments
    return ClipSpectrograms.from_arrays(log_mels, **segments)


def make_detector(**parameters):
    defaults = {"max_epochs": 10, "batch_size": 64, "lr": 1e-2, "random_state": 0}
    return AutoencoderDetector(**defaults | parameters)


@pytest.fixture(scope="module")
def trained():
    """Careful: shared by the module, so neither fit it again nor set its parameters."""
    return make_detector().fit(make_clips())


# --- known answers


def test_the_score_is_the_mean_square_of_what_is_not_reconstructed():
    """By a network that gives the training clips' level, whatever it hears."""
    detector = make_detector(n_frames=2, max_epochs=1)
    with pytest.warns(UserWarning, match="all 3 training clips are equal"):
        detector.fit(ClipSpectrograms.from_arrays(np.full((3, 1, 4), -40.0), **WHOLE))
    X = ClipSpectrograms.from_arrays([[[-40.0, -38, -40]], [[-37.0, -40]]], **WHOLE)
    np.testing.assert_allclose(detector.anomaly_score(X), [(4 + 4) / 4, 9 / 2])
    np.testing.assert_array_equal(detector.score_samples(X), -detector.anomaly_score(X))


def test_the_score_of_the_middle_target_is_the_mean_square_over_middle_frames():
    """By a network that predicts the training clips' level, whatever it hears."""
    detector = make_detector(target="middle", n_frames=3, max_epochs=1)
    with pytest.warns(UserWarning, match="all 3 training clips are equal"):
        detector.fit(ClipSpectrograms.from_arrays(np.full((3, 1, 4), -40.0), **WHOLE))
    assert detector.net_.module_.layers[0].in_features == 2
    log_mels = [[[-10.0, -38, -40, -39, -10]], [[-37.0, -43, -40]]]
    X = ClipSpectrograms.from_arrays(log_mels, **WHOLE)
    np.testing.assert_allclose(detector.anomaly_score(X), [(4 + 0 + 1) / 3, 9])
    np.testing.assert_array_equal(detector.score_samples(X), -detector.anomaly_score(X))


def test_the_defaults_are_the_baselines():
    detector = AutoencoderDetector()
    for name, value in {
        "target": "window",
        "n_frames": 5,
        "n_hidden": 128,
        "n_bottleneck": 8,
        "lr": 1e-3,
        "batch_size": 512,
        "max_epochs": 100,
    }.items():
        assert getattr(detector, name) == value
    log_mels = np.random.default_rng(0).normal(size=(2, 128, 6))
    net = clone(detector).set_params(max_epochs=1)
    net.fit(ClipSpectrograms.from_arrays(log_mels, **WHOLE))
    assert net.net_.module_.layers[0].in_features == 640


def test_threshold_is_the_contamination_percentile_of_the_training_scores(trained):
    scores = trained.score_samples(make_clips())
    assert trained.offset_ == pytest.approx(np.percentile(scores, 10))
    half = make_detector(contamination=0.5, max_epochs=1).fit(make_clips())
    assert (half.predict(make_clips()) == -1).mean() == 0.5


def test_history_and_number_of_features(trained):
    assert list(trained.history_) == ["epoch", "train_loss", "seconds", "kept"]
    assert trained.history_["epoch"].tolist() == list(range(1, 11))
    assert trained.n_features_in_ == N_MELS


# --- relations


def test_a_clip_scores_the_same_alone_and_in_any_order_to_the_bit(trained):
    rng = np.random.default_rng(0)
    log_mels = [rng.normal(size=(N_MELS, n)) - 40 for n in (40, 17, 1200, 33, 40)]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=16)
    scores = trained.score_samples(X)
    alone = np.concatenate([trained.score_samples(X[row]) for row in range(5)])
    np.testing.assert_array_equal(alone, scores)
    order = rng.permutation(5)
    np.testing.assert_array_equal(trained.score_samples(X[order]), scores[order])


def test_all_frames_of_a_clip_count_however_it_is_cut(trained):
    """19 frames hold one segment of 16, and 3 frames that are in none."""
    X = make_clips(n_frames=19)
    for segments in ({"segment_frames": None}, {"segment_frames": 8}):
        other = make_clips(n_frames=19, **segments)
        np.testing.assert_array_equal(
            trained.score_samples(other), trained.score_samples(X)
        )
    X.frames[18::19] += 30
    louder_at_the_end = trained.score_samples(X)
    assert (louder_at_the_end < trained.score_samples(other)).all()


def test_the_seed_alone_decides_and_global_generators_are_untouched():
    X = make_clips()
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    fits = [make_detector(max_epochs=2, random_state=s).fit(X) for s in (3, 3, 4)]
    scores = [fit.score_samples(X) for fit in fits]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()
    torch.testing.assert_close(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_half_precision_frames_score_as_in_single_precision(trained):
    X = make_clips()
    half = ClipSpectrograms(
        X.frames.astype(np.float16), X.starts, X.stops, segment_frames=16
    )
    np.testing.assert_allclose(
        trained.score_samples(half), trained.score_samples(X), rtol=0.05
    )


def test_of_several_views_the_original_only_is_heard(trained):
    X = make_clips()
    starts = np.hstack([np.roll(X.starts, 1, axis=0), X.starts])
    views = ClipSpectrograms(
        X.frames,
        starts,
        starts + 40,
        segment_frames=16,
        view_names=("pitch +1", "original"),
    )
    np.testing.assert_array_equal(
        trained.score_samples(views), trained.score_samples(X)
    )
    views.view_names = ("pitch +1", "vocoded")
    with pytest.raises(ValueError, match=r"AutoencoderDetector uses .* 'original'"):
        trained.score_samples(views)


# --- target="middle"


@pytest.fixture(scope="module")
def interpolating():
    """Careful: shared by the module, so neither fit it again nor set its parameters."""
    return make_detector(target="middle", n_frames=3, max_epochs=2).fit(make_clips())


def test_the_network_does_not_hear_the_frame_that_it_predicts(interpolating):
    """The only window's middle frame changes; so does the score, by its square."""
    log_mel = make_clips(1).log_mel(0)[:, :3]
    heard = np.repeat(log_mel[None], 3, axis=0)
    heard[1, 0, 1] += 1
    heard[2, 0, 1] -= 1
    X = ClipSpectrograms.from_arrays(heard, segment_frames=None)
    same, louder, softer = interpolating.anomaly_score(X)
    np.testing.assert_allclose(louder + softer - 2 * same, 2 / N_MELS, rtol=1e-2)


def test_clips_score_alike_alone_and_loaded_with_the_middle_target(
    interpolating, tmp_path
):
    X = make_clips(seed=1)
    scores = interpolating.score_samples(X)
    assert scores.shape == (24,)
    alone = [interpolating.score_samples(X[row])[0] for row in range(24)]
    np.testing.assert_array_equal(alone, scores)
    save_model(interpolating, tmp_path / "model.asd")
    joblib.dump(interpolating, tmp_path / "model.joblib")
    for loaded in (
        load_model(tmp_path / "model.asd"),
        joblib.load(tmp_path / "model.joblib"),
    ):
        assert loaded.target == "middle"
        np.testing.assert_array_equal(loaded.score_samples(X), scores)


def test_segments_of_a_clip_are_scored_with_the_middle_target(interpolating):
    X = make_clips(1)
    X.frames[0:10] += 20
    by_segment = segment_scores(interpolating, X)
    assert by_segment["anomaly_score"].argmax() == 0
    assert len(by_segment) == 4


@pytest.mark.parametrize("n_frames", [1, 2, 4])
def test_windows_without_a_middle_frame_are_refused(n_frames):
    detector = make_detector(target="middle", n_frames=n_frames)
    message = f"n_frames={n_frames} has no middle frame.*odd number from 3 on"
    with pytest.raises(ValueError, match=message):
        detector.fit(make_clips())


def test_a_model_file_without_the_target_is_of_the_baseline(trained):
    """Files of earlier versions name no target."""
    state = {k: v for k, v in trained.__getstate__().items() if k != "target"}
    earlier = AutoencoderDetector.__new__(AutoencoderDetector)
    earlier.__setstate__(state)
    assert earlier.get_params()["target"] == "window"
    X = make_clips(seed=1)
    np.testing.assert_array_equal(earlier.score_samples(X), trained.score_samples(X))


# --- bad clips


def test_unusable_clips_score_nan_and_are_not_trained_on(trained):
    X = make_clips()
    X.stops[7] = X.starts[7]
    good = np.arange(24) != 7
    np.testing.assert_array_equal(
        make_detector(max_epochs=1).fit(X).score_samples(X[good]),
        make_detector(max_epochs=1).fit(X[good]).score_samples(X[good]),
    )
    scores = trained.score_samples(X)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [7]
    np.testing.assert_array_equal(
        scores[good], trained.score_samples(make_clips())[good]
    )
    assert trained.predict(X)[7] == -1
    with pytest.raises(ValueError, match="no usable normal clip"):
        make_detector().fit(X[7])


def test_an_empty_selection_has_empty_results(trained):
    assert trained.score_samples(make_clips()[:0]).shape == (0,)


# --- searches and saving


def test_grid_search_by_roc_auc_over_the_bottleneck():
    """Without machine IDs, from recordings."""
    clips = make_machine_sounds(
        "fan",
        n_machines=1,
        n_train=8,
        n_test_normal=4,
        n_test_anomalous=6,
        duration=4.0,
        random_state=0,
    ).drop(columns="machine_id")
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(
        make_pipeline(LogMelSegmenter(n_mels=32), make_detector(batch_size=32)),
        {"autoencoderdetector__n_bottleneck": [4, 8]},
        scoring="roc_auc",
        cv=folds,
        error_score="raise",
    ).fit(clips, clips["label"])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(search.score_samples(clips)).all()


def test_a_detector_loaded_in_a_new_process_scores_the_same_to_the_bit(
    trained, tmp_path
):
    X = make_clips(seed=1)
    joblib.dump((trained, X), tmp_path / "model.joblib")
    script = (
        "import joblib, numpy, sys, torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "detector, X = joblib.load(sys.argv[1])\n"
        "numpy.save(sys.argv[2], detector.score_samples(X))\n"
    )
    paths = [str(tmp_path / "model.joblib"), str(tmp_path / "scores.npy")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True)
    np.testing.assert_array_equal(np.load(paths[1]), trained.score_samples(X))
    loaded = joblib.load(paths[0])[0]
    pd.testing.assert_frame_equal(loaded.history_, trained.history_)


def test_a_fitted_detector_pickles_without_its_training_data(tmp_path):
    sizes = []
    for n_clips in (4, 64):
        path = tmp_path / f"{n_clips}.joblib"
        joblib.dump(make_detector(max_epochs=1).fit(make_clips(n_clips)), path)
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0] + 1000


def test_only_the_net_holds_tensors(trained):
    others = {name: v for name, v in vars(trained).items() if name != "net_"}
    assert not any(isinstance(v, torch.Tensor | nn.Module) for v in others.values())


# --- errors


def test_anything_but_spectrograms_is_refused_with_the_remedy(trained):
    for method in (make_detector().fit, trained.score_samples):
        with pytest.raises(TypeError, match=r"got ndarray: put LogMelSegmenter\(\)"):
            method(np.zeros((4, 100)))


def test_clips_shorter_than_a_window_score_nan_and_are_named(trained):
    log_mels = [np.full((N_MELS, n), float(n)) for n in (9, 4, 5, 1)]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    message = "clips 1, 3 have fewer than the 5 frames that the network needs, and sco"
    with pytest.warns(UnusableClipWarning, match=message):
        scores = trained.score_samples(X)
    np.testing.assert_array_equal(scores[[0, 2]], trained.score_samples(X[[0, 2]]))
    assert np.isnan(scores[[1, 3]]).all()
    with pytest.warns(UnusableClipWarning, match=message):
        detector = make_detector().fit(X)
    alone = make_detector().fit(X[[0, 2]])
    assert detector.offset_ == alone.offset_
    with pytest.raises(ValueError, match="no usable normal clip: .* is long enough"):
        make_detector().fit(X[[1, 3]])


def test_a_single_window_is_too_few():
    X = ClipSpectrograms.from_arrays(np.zeros((1, N_MELS, 5)), segment_frames=None)
    with pytest.raises(ValueError, match="X holds 1 window of n_frames=5.*add normal"):
        make_detector().fit(X)


@pytest.mark.parametrize("n_frames", [6, 7, 8, 9, 10])
def test_a_few_windows_in_the_smallest_batches_can_be_trained_on(n_frames):
    log_mels = np.random.default_rng(0).normal(size=(1, N_MELS, n_frames))
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    detector = make_detector(batch_size=3, max_epochs=1).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


@pytest.mark.parametrize(
    "parameter",
    [
        {"target": "last"},
        {"n_frames": 0},
        {"n_hidden": 0},
        {"n_bottleneck": 2.5},
        {"lr": 0},
        {"batch_size": 2},
        {"max_epochs": 0},
        {"contamination": 0.6},
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


def test_a_trained_model_finds_anomalous_sounds():
    clips = make_machine_sounds(
        "fan",
        n_machines=1,
        n_train=16,
        n_test_normal=8,
        n_test_anomalous=8,
        duration=4.0,
        random_state=0,
    )
    train = clips[clips["split"] == "train"]
    test = clips[clips["split"] == "test"]
    detector = make_detector(max_epochs=20, lr=1e-3)
    pipe = make_pipeline(LogMelSegmenter(), detector).fit(train)
    assert roc_auc_score(test["label"], pipe.score_samples(test)) > 0.6


def test_a_frame_unlike_its_neighbours_stands_out_more_if_it_is_predicted():
    """Each level, and each step of 10 dB, is normal: an autoencoder can copy them."""
    rng = np.random.default_rng(1)
    steps = rng.choice([-10, 10], size=(64, 2))
    level = np.repeat(np.cumsum(steps, axis=1), 20, axis=1) - 40
    log_mels = level[:, None] + rng.normal(size=(64, 4, 40))
    train, normal, faulty = log_mels[:32], log_mels[32:], log_mels[32:].copy()
    faulty[:, :, 10] += rng.choice([-10, 10], size=(32, 1))
    rise, found = {}, {}
    for target in ("window", "middle"):
        detector = make_detector(
            target=target,
            n_frames=3,
            n_hidden=32,
            n_bottleneck=16,
            max_epochs=60,
            lr=5e-3,
        ).fit(ClipSpectrograms.from_arrays(train, **WHOLE))
        before, after = (
            detector.anomaly_score(ClipSpectrograms.from_arrays(clips, **WHOLE))
            for clips in (normal, faulty)
        )
        rise[target] = (after / before).mean()
        found[target] = roc_auc_score(np.repeat([0, 1], 32), np.r_[before, after])
    assert rise["middle"] > rise["window"] + 0.2
    assert found["middle"] > 0.9
