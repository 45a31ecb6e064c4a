import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.base import clone

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    IDConfidenceDetector,
    load_model,
    save_model,
)
from sklearn_asd.networks import PVMilk20
from sklearn_asd.networks.losses import CenterLoss
from sklearn_asd.networks.several import AveragedNetworks, SeveralLosses

DETECTOR = IDConfidenceDetector(
    network=partial(PVMilk20, n_embedding=8, dropout=0.0),
    batch_size=6,
    max_epochs=2,
    precision="float32",
    random_state=0,
)


@pytest.fixture
def spectrograms(rng):
    """Clips of two machines that differ in level."""
    log_mels = rng.normal(size=(12, 8, 16)) + np.repeat([0, 1], 6)[:, None, None]
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=list("aaaaaabbbbbb"), segment_frames=16
    )


class Fixed(torch.nn.Module):
    """Gives known outputs."""

    def __init__(self, logits, embedding):
        super().__init__()
        self.outputs = torch.tensor([logits]), torch.tensor([embedding])

    def forward(self, inputs):
        return self.outputs


def test_probabilities_are_averaged_and_embeddings_stand_side_by_side():
    several = AveragedNetworks(
        [Fixed([0.0, 0.0], [3.0, 4.0]), Fixed([math.log(3), 0.0], [0.0, 2.0])]
    )
    logits, embedding = several.eval()(torch.zeros(1))
    probabilities = torch.tensor([[(0.5 + 0.75) / 2, (0.5 + 0.25) / 2]])
    torch.testing.assert_close(logits.exp(), probabilities)
    torch.testing.assert_close(embedding, torch.tensor([[0.6, 0.8, 0, 1]]))


def test_the_loss_is_the_mean_of_the_losses():
    losses = SeveralLosses(CenterLoss, 2, n_classes=2, n_embedding=3, weight=0.0)
    outputs, y = [torch.randn(4, n) for n in (2, 3, 2, 3)], torch.tensor([0, 1, 1, 0])
    one = CenterLoss(2, n_embedding=3, weight=0.0)
    expected = (one(outputs[:2], y) + one(outputs[2:], y)) / 2
    torch.testing.assert_close(losses(tuple(outputs), y), expected)
    assert losses.centers is None


def test_networks_differ_and_each_learns_as_if_it_were_alone(spectrograms):
    several = clone(DETECTOR).set_params(n_networks=2).fit(spectrograms)
    first, second = several.net_.module_.networks
    assert not first.embed.weight.equal(second.embed.weight)
    alone = clone(DETECTOR).fit(spectrograms)
    # The batches come after the weights of all networks, so they are others.
    assert several.history_["train_loss"].iloc[-1] == pytest.approx(
        alone.history_["train_loss"].iloc[-1], rel=0.5
    )


def test_scores_embeddings_and_centers_are_those_of_all(spectrograms):
    several = clone(DETECTOR).set_params(n_networks=3).fit(spectrograms)
    assert several.centers_.shape == (2, 24)
    embedding = several.embed(spectrograms)
    parts = embedding.reshape(12, 3, 8)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 1, rtol=1e-6)
    near = EmbeddingNeighborDetector(several).fit(spectrograms)
    parts = near.embed(spectrograms).reshape(12, 3, 8)
    distances = [cdist(parts[:, k], parts[:6, k], "cosine") for k in range(3)]
    distances = np.mean(distances, axis=0)[:6]
    np.fill_diagonal(distances, np.inf)
    expected = -distances.min(axis=1)
    np.testing.assert_allclose(near.training_score_samples_[:6], expected, atol=1e-6)


def test_a_fit_is_the_same_again_and_resumes(spectrograms, tmp_path):
    several = clone(DETECTOR).set_params(n_networks=2, mixup=0.5, random_starts=True)
    scores = clone(several).fit(spectrograms).score_samples(spectrograms)
    several.set_params(checkpoint_dir=tmp_path)
    again = several.fit(spectrograms).score_samples(spectrograms)
    np.testing.assert_array_equal(again, scores)


@pytest.mark.parametrize("self_supervision", [None, "statex"])
def test_a_model_comes_back_from_its_file(spectrograms, tmp_path, self_supervision):
    several = clone(DETECTOR).set_params(
        n_networks=2,
        self_supervision=self_supervision,
        loss="subcluster_adacos",
        validation_fraction=0.2,
    )
    scores = several.fit(spectrograms).score_samples(spectrograms)
    save_model(several, tmp_path / "model.asd")
    again = load_model(tmp_path / "model.asd")
    np.testing.assert_array_equal(again.score_samples(spectrograms), scores)
    assert again.n_networks == 2


def test_no_clips_have_embeddings_of_all_networks(spectrograms):
    several = clone(DETECTOR).set_params(n_networks=2).fit(spectrograms)
    assert several.embed(spectrograms[:0]).shape == (0, 16)
