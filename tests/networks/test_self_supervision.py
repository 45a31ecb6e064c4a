import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_asd import ClipSpectrograms, IDConfidenceDetector
from sklearn_asd.networks import ArcFace, DualPathNetwork
from sklearn_asd.networks.losses import CenterLoss
from sklearn_asd.networks.self_supervision import (
    ExchangeLoss,
    ExchangeNetwork,
    exchange_features,
    exchange_statistics,
)

DETECTOR = IDConfidenceDetector(
    network=partial(DualPathNetwork, n_embedding=16, n_channels=2),
    center_loss_weight=0.0,
    batch_size=6,
    max_epochs=2,
    precision="float32",
    random_state=0,
)


@pytest.fixture
def spectrograms(rng):
    """Clips of two machines that differ in level."""
    log_mels = rng.normal(size=(12, 8, 16)) + np.repeat([0, 4], 6)[:, None, None]
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=list("aaaaaabbbbbb"), segment_frames=16
    )


# -- exchanges by hand -----------------------------------------------------------


def test_statistics_over_time_come_from_the_window_before():
    """Of a batch of four, of one band: means 2, 10, 0, 5 and deviations 1, 4, 1, 0."""
    frames = torch.tensor([[1.0, 3], [6, 14], [1, -1], [5, 5]])[:, None]
    exchanged = exchange_statistics(frames)[:, 0]
    expected = torch.tensor([[1.0, 3], [6, 14], [14, 6], [0, 0]])
    torch.testing.assert_close(exchanged, expected)


def test_each_band_has_statistics_of_its_own_and_spectra_stay():
    frames, spectra = torch.randn(5, 3, 40), torch.randn(5, 7)
    exchanged, same = exchange_statistics((frames, spectra))
    assert same is spectra
    assert exchanged[:2].equal(frames[:2])
    for row in range(2, 5):
        found = torch.std_mean(exchanged[row], dim=1)
        wanted = torch.std_mean(frames[row - 1], dim=1)
        torch.testing.assert_close(found, wanted)
        correlation = torch.corrcoef(torch.cat([exchanged[row], frames[row]]))
        torch.testing.assert_close(correlation.diagonal(3), torch.ones(3))


def test_the_second_path_comes_from_the_window_before():
    embedding = torch.arange(20).reshape(5, 4)
    expected = embedding.clone()
    expected[2:, 2:] = embedding[1:4, 2:]
    assert exchange_features(embedding).equal(expected)


def test_the_loss_of_an_exchange_is_half_that_of_both_classes():
    """Two classes, so six of the network; the second window is made of both."""
    logits = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 0, 0, 3.0, 1.0, 0]])
    loss = ExchangeLoss(2, n_embedding=1, weight=0.0)
    y = torch.tensor([0, 1])  # so the exchanged one has the classes 2 + 1 and 4 + 0
    plain = math.log(math.exp(2) + 5) - 2
    total = math.log(math.exp(3) + math.exp(1) + 4)
    exchanged = ((total - 3) + (total - 1)) / 2
    expected = torch.tensor((plain + exchanged) / 2)
    torch.testing.assert_close(loss((logits, torch.zeros(2, 1)), y), expected)


def test_the_loss_of_mixed_windows_is_mixed():
    logits, embedding = torch.randn(5, 6), torch.randn(5, 3)
    y, other = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([1, 1, 0, 0, 1])
    share = torch.tensor(0.3)
    loss = ExchangeLoss(2, n_embedding=3, weight=0.0, loss=ArcFace())
    expected = 0.3 * loss((logits, embedding), y) + 0.7 * loss(
        (logits, embedding), other
    )
    torch.testing.assert_close(loss((logits, embedding), [y, other, share]), expected)


def test_centers_follow_the_windows_that_are_not_exchanged():
    embedding, y = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    loss, plain = (kind(2, n_embedding=3) for kind in (ExchangeLoss, CenterLoss))
    loss((torch.randn(4, 6), embedding), y)
    plain((torch.randn(2, 2), embedding[:2]), y[:2])
    torch.testing.assert_close(loss.centers, plain.centers)


class Bare(torch.nn.Module):
    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.classify = torch.nn.Linear(n_mels, n_classes)

    def forward(self, log_mel):
        embedding = log_mel.mean(dim=2)
        return self.classify(embedding), embedding


def test_scores_use_the_classes_as_they_are():
    head = torch.nn.Linear(4, 9)
    network = ExchangeNetwork(Bare(9, 4), head, 3, "statex")
    frames = torch.randn(2, 4, 5)
    assert network(frames)[0].shape == (2, 9)
    logits, embedding = network.eval()(frames)
    torch.testing.assert_close(logits, head(frames.mean(dim=2))[:, :3])
    torch.testing.assert_close(embedding, frames.mean(dim=2))


# -- in detectors ----------------------------------------------------------------


@pytest.mark.parametrize("self_supervision", ["statex", "featex"])
@pytest.mark.parametrize("loss", ["softmax", "arcface", "subcluster_adacos"])
def test_a_detector_is_trained_with_it(spectrograms, self_supervision, loss):
    changes = {"self_supervision": self_supervision, "loss": loss, "mixup": 0.5}
    detector = clone(DETECTOR).set_params(**changes, center_loss_weight=0.1)
    scores = detector.fit(spectrograms).score_samples(spectrograms)
    assert (scores > -1.1).all()
    assert detector.centers_.shape == (2, 16)
    assert detector.classes_.tolist() == ["a", "b"]
    assert set(detector.predict_id(spectrograms)) <= {"a", "b"}
    again = clone(detector).fit(spectrograms).score_samples(spectrograms)
    np.testing.assert_array_equal(again, scores)


def test_without_it_the_network_is_as_before(spectrograms):
    detector = clone(DETECTOR).set_params(self_supervision=None).fit(spectrograms)
    assert isinstance(detector.net_.module_, DualPathNetwork)


def test_networks_of_one_path_exchange_no_features(spectrograms):
    detector = clone(DETECTOR).set_params(network=Bare, self_supervision="featex")
    with pytest.raises(ValueError, match="Bare has no n_paths = 2: use network=.*stat"):
        detector.fit(spectrograms)
    detector.set_params(self_supervision="statex").fit(spectrograms)


def test_a_batch_of_one_has_nothing_to_exchange(spectrograms):
    detector = clone(DETECTOR).set_params(
        network=Bare, self_supervision="statex", batch_size=1
    )
    with pytest.raises(ValueError, match="into batches of 1, and Bare needs 2"):
        detector.fit(spectrograms)
