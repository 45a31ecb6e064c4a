import numpy as np
import pytest
import torch
from small_training import make_small_net

from sklearn_asd import ClipSpectrograms
from sklearn_asd.networks.best_epoch import KeepBestEpoch
from sklearn_asd.networks.training import (
    fit_net,
)


def test_the_epoch_that_classifies_held_out_clips_best_is_restored(
    spectrograms, dataset, monkeypatch
):
    states, accuracies = [], iter([0.5, 0.9, 0.9, 0.7])
    losses = iter([1.0, 0.5, 0.4, 0.3])
    validation = KeepBestEpoch(spectrograms, np.repeat([[0], [1]], 10, axis=0))

    def rate(net):
        states.append(net.module_.state_dict()["classify.weight"].clone())
        return next(accuracies), next(losses)

    monkeypatch.setattr(validation, "rate", rate)
    net = make_small_net(max_epochs=4)
    history, _ = fit_net(net, dataset, 0, validation)
    assert history["valid_accuracy"].tolist() == [0.5, 0.9, 0.9, 0.7]
    assert history.loc[history["kept"], "epoch"].tolist() == [3]  # the lower loss
    torch.testing.assert_close(net.module_.classify.weight, states[2])
    assert not torch.equal(states[2], states[3])


def test_validation_rates_clips_not_segments(spectrograms):
    """A clip with one segment right for sure and one barely wrong is recognised."""
    X = ClipSpectrograms.from_arrays(
        np.zeros((2, 1, 4)), segment_frames=2, segment_hop_frames=2
    )
    logits = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.2, 0.8]])
    net = FixedNet(logits)
    accuracy, loss = KeepBestEpoch(X, np.array([[0], [1]])).rate(net)
    assert accuracy == 1.0
    assert loss == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.8]).mean(), abs=1e-6)


class FixedNet:
    """Stands in for a skorch net; returns its logits in order."""

    device = "cpu"

    def __init__(self, logits):
        self.logits = torch.tensor(logits, dtype=torch.float32)
        self.module_ = self

    def eval(self):
        return self

    def __call__(self, log_mel):
        return self.logits, torch.zeros(len(log_mel), 1)


def test_validation_rates_every_view_of_a_clip():
    X = ClipSpectrograms(
        np.zeros((6, 1)),
        [[0, 2], [2, 4]],
        [[2, 4], [4, 6]],
        segment_frames=2,
        segment_hop_frames=2,
        view_names=("original", "other"),
    )
    net = FixedNet(np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.2, 0.8]]))
    accuracy, loss = KeepBestEpoch(X, np.array([[0, 1], [0, 1]])).rate(net)
    assert accuracy == 3 / 4
    assert loss == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.2, 0.8])))
