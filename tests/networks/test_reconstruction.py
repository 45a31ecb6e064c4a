import numpy as np
import pytest
import torch
from torch import nn

from sklearn_asd import AutoencoderDetector, ClipSpectrograms
from sklearn_asd.networks import DenseAutoencoder, DenseInterpolator
from sklearn_asd.networks.reconstruction import (
    make_autoencoder_net,
    reconstruction_errors,
)
from sklearn_asd.networks.training import fit_net
from sklearn_asd.networks.windows import WindowDataset

PARAMETERS = {"n_frames": 3, "n_hidden": 16, "n_bottleneck": 2, "batch_size": 20}


def make_small_net(max_epochs=3, lr=1e-2, target="window"):
    detector = AutoencoderDetector(
        target=target, max_epochs=max_epochs, lr=lr, **PARAMETERS
    )
    return make_autoencoder_net(detector, n_mels=4, device="cpu")


class FixedNet:
    """Stands in for a trained skorch net."""

    device = "cpu"

    def __init__(self, module):
        self.module_ = module


class Identity(nn.Module):
    def forward(self, log_mel):
        return log_mel


class Silence(nn.Module):
    def forward(self, log_mel):
        return torch.zeros_like(log_mel)


class Take(nn.Module):
    def __init__(self, row):
        super().__init__()
        self.row = row

    def forward(self, values):
        return values[:, self.row]


class MeanOfOthers(nn.Module):
    """Predicts the middle frame of three as the mean of the others."""

    def forward(self, log_mel):
        return (log_mel[:, :, :1] + log_mel[:, :, 2:]) / 2


def clips_of(*log_mels, n_frames=2):
    return ClipSpectrograms.from_arrays(log_mels, segment_frames=None).resegment(
        n_frames, 1
    )


@pytest.fixture
def spectrograms():
    """8 clips of 12 frames whose 4 bands rise and fall together: 80 windows of 3."""
    level = np.random.default_rng(0).normal(size=(8, 1, 12)) * 10 - 40
    log_mels = level + np.array([0, 1, 2, 3])[:, None]
    return clips_of(*log_mels, n_frames=3)


def test_layers_are_the_baselines():
    network = DenseAutoencoder()
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
    wide = [(128, 128)] * 3
    assert shapes == [(128, 640), *wide, (8, 128), (128, 8), *wide, (640, 128)]
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 9 + ["Linear"]


def test_layers_of_the_interpolator_are_the_same_but_for_inputs_and_outputs():
    network = DenseInterpolator()
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
    wide = [(128, 128)] * 3
    assert shapes == [(128, 512), *wide, (8, 128), (128, 8), *wide, (128, 128)]


def test_the_interpolator_is_given_all_frames_but_the_middle_one():
    """With layers that pass on the first or the second of the frames they are given."""
    network = DenseInterpolator(n_mels=2, n_frames=3)
    log_mel = torch.arange(12.0).reshape(2, 2, 3)
    for given, frame in ((0, 0), (1, 2)):
        network.layers = nn.Sequential(nn.Unflatten(1, (2, 2)), Take(given))
        assert torch.equal(network(log_mel), log_mel[:, :, [frame]])


def test_training_is_adam_on_the_mean_squared_error():
    net = make_small_net()
    assert net.optimizer is torch.optim.Adam
    assert net.criterion is nn.MSELoss


def test_a_reconstruction_keeps_the_place_of_each_band_and_frame():
    """With layers that pass everything on, the output is the input."""
    network = DenseAutoencoder(n_mels=4, n_frames=3)
    network.layers = Identity()
    log_mel = torch.arange(24.0).reshape(2, 4, 3)
    torch.testing.assert_close(network(log_mel), log_mel)


def test_nothing_lost_is_no_error(spectrograms):
    errors = reconstruction_errors(FixedNet(Identity()), spectrograms, 3)
    np.testing.assert_array_equal(errors, np.zeros(8))


def test_the_error_is_the_mean_square_over_all_windows_by_hand():
    """Of a silent reconstruction: frames inside a clip lie in two windows of two."""
    X = clips_of([[1.0, 2.0, 3.0]], [[4.0, 0.0]], [[9.0]])
    errors = reconstruction_errors(FixedNet(Silence()), X, 2)
    np.testing.assert_allclose(errors, [(1 + 4 + 4 + 9) / 4, 16 / 2, np.nan])
    assert errors.dtype == np.float64


def test_the_error_of_predicted_middle_frames_by_hand():
    X = clips_of([[1.0, 2.0, 5.0, 4.0]], [[0.0, 3.0, 2.0]], [[1.0, 2.0]], n_frames=3)
    errors = reconstruction_errors(FixedNet(MeanOfOthers()), X, 3)
    np.testing.assert_allclose(errors, [(1 + 4) / 2, 4, np.nan])


def test_a_clip_longer_than_a_batch_counts_as_a_whole():
    log_mel = np.arange(3000.0)[None] / 1000
    X = clips_of(log_mel, n_frames=1)
    errors = reconstruction_errors(FixedNet(Silence()), X, 1)
    np.testing.assert_allclose(errors, [np.mean(log_mel**2)], rtol=1e-6)


def test_training_learns_levels_in_decibels(spectrograms):
    net = make_small_net(max_epochs=200)
    dataset = WindowDataset(spectrograms, spectrograms.windows())
    history, centers = fit_net(net, dataset, seed=0)
    assert centers is None
    assert history["train_loss"].iloc[0] > 1000
    assert history["train_loss"].iloc[-1] < 50
    assert reconstruction_errors(net, spectrograms, 3).mean() < 50


def test_training_learns_to_predict_middle_frames(spectrograms):
    """By the mean squared error of the middle frames alone."""
    net = make_small_net(max_epochs=1, target="middle").initialize()
    dataset = WindowDataset(spectrograms, spectrograms.windows())
    windows, target = dataset[[0, 10]]
    loss = net.get_loss(torch.zeros(2, 4, 1), target)
    torch.testing.assert_close(loss, windows[:, :, 1].square().mean())
    levels = np.random.default_rng(0).normal(size=(8, 1, 1)) * 10 - 40
    constant = clips_of(*levels + np.zeros((8, 4, 12)), n_frames=3)
    net = make_small_net(max_epochs=200, target="middle")
    history, _ = fit_net(net, WindowDataset(constant, constant.windows()), seed=0)
    assert history["train_loss"].iloc[0] > 1000
    assert reconstruction_errors(net, constant, 3).mean() < 50


def test_windows_without_classes_are_their_own_target(spectrograms):
    dataset = WindowDataset(spectrograms, spectrograms.windows())
    log_mel, target = dataset[[0, 10]]
    assert log_mel is target
    np.testing.assert_array_equal(log_mel[1], spectrograms.log_mel(1)[:, :3])


def test_training_copies_a_batch_of_windows_at_a_time(spectrograms):
    dataset = WindowDataset(spectrograms, spectrograms.windows())
    assert dataset.frames is spectrograms.frames
    owned = [v for v in vars(dataset).values() if isinstance(v, np.ndarray)]
    assert all(v is spectrograms.frames or v.shape == (80,) for v in owned)


def test_a_loss_that_diverges_is_an_error_with_the_remedy(spectrograms):
    net = make_small_net(lr=1e30)
    dataset = WindowDataset(spectrograms, spectrograms.windows())
    with pytest.raises(ValueError, match=r"loss is (nan|inf) after epoch 3: lower lr$"):
        fit_net(net, dataset, seed=0)
