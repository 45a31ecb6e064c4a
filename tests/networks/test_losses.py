import pytest
import torch
from torch.nn import functional

from sklearn_asd.networks import CenterLoss

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
EMBEDDING = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 0.0]])
Y = torch.tensor([0, 1, 0])


def test_loss_is_cross_entropy_plus_half_the_mean_squared_distance():
    loss = CenterLoss(2, 2, weight=0.5).eval()
    loss.centers[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # Squared distances to the own centres are 0, 1 and 9.
    expected = functional.cross_entropy(LOGITS, Y) + 0.5 / 2 * (0 + 1 + 9) / 3
    torch.testing.assert_close(loss((LOGITS, EMBEDDING), Y), expected)


def test_centers_take_the_step_of_an_sgd_optimiser_of_their_own():
    loss = CenterLoss(2, 2, weight=0.1, center_lr=0.5)
    loss((LOGITS, EMBEDDING), Y)
    centers = torch.zeros(2, 2, requires_grad=True)
    optimiser = torch.optim.SGD([centers], lr=0.5)
    (0.5 * (EMBEDDING - centers[Y]).square().sum(dim=1).mean()).backward()
    optimiser.step()
    torch.testing.assert_close(loss.centers, centers.detach())


@pytest.mark.parametrize("weight", [0.0075, 0.1, 0.2])
def test_step_of_the_centers_does_not_depend_on_the_weight(weight):
    losses = CenterLoss(2, 2, weight=weight), CenterLoss(2, 2, weight=1.0)
    for loss in losses:
        loss((LOGITS, EMBEDDING), Y)
    torch.testing.assert_close(losses[0].centers, losses[1].centers)


def test_loss_is_computed_before_the_centers_move():
    loss = CenterLoss(2, 2, weight=1.0)
    before = loss.eval()((LOGITS, EMBEDDING), Y)
    torch.testing.assert_close(loss.train()((LOGITS, EMBEDDING), Y), before)


def test_centers_stand_still_in_evaluation():
    loss = CenterLoss(2, 2, weight=1.0).eval()
    loss((LOGITS, EMBEDDING), Y)
    assert not loss.centers.any()


def test_centers_of_absent_classes_stand_still():
    loss = CenterLoss(3, 2, weight=1.0)
    loss((torch.zeros(3, 3), EMBEDDING), Y)
    assert loss.centers[:2].any(dim=1).all()
    assert not loss.centers[2].any()


def test_gradient_draws_embeddings_to_their_centers():
    embedding = EMBEDDING.clone().requires_grad_()
    CenterLoss(2, 2, weight=0.3)((LOGITS, embedding), Y).backward()
    torch.testing.assert_close(embedding.grad, 0.3 * EMBEDDING / 3)


def test_weight_zero_is_cross_entropy_without_centers():
    loss = CenterLoss(2, 2, weight=0.0)
    torch.testing.assert_close(
        loss((LOGITS, EMBEDDING), Y), functional.cross_entropy(LOGITS, Y)
    )
    assert list(loss.buffers()) == []


@pytest.mark.parametrize("center_lr", [0.5, 1.0, 1.9])
def test_centers_converge_to_the_class_means(center_lr):
    loss = CenterLoss(2, 2, weight=0.1, center_lr=center_lr)
    for _ in range(200):
        loss((LOGITS, EMBEDDING), Y)
    means = torch.stack([EMBEDDING[Y == j].mean(dim=0) for j in (0, 1)])
    torch.testing.assert_close(loss.centers, means)


def test_the_loss_of_mixed_windows_is_mixed_as_they_are():
    other, share = torch.tensor([1, 0, 0]), torch.tensor(0.3)
    loss = CenterLoss(2, 2, weight=0.5).eval()
    loss.centers[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = 0.3 * loss((LOGITS, EMBEDDING), Y) + 0.7 * loss(
        (LOGITS, EMBEDDING), other
    )
    torch.testing.assert_close(loss((LOGITS, EMBEDDING), [Y, other, share]), expected)


def test_centers_of_mixed_windows_move_by_their_shares():
    loss = CenterLoss(2, 2, weight=0.5, center_lr=0.5)
    loss((EMBEDDING[:1], EMBEDDING[:1]), [Y[:1], Y[1:2], torch.tensor(0.25)])
    expected = 0.5 * torch.tensor([[0.25, 0.0], [0.75, 0.0]])
    torch.testing.assert_close(loss.centers, expected)
