import functools
import math

import pytest
import torch
from torch.nn import functional

from sklearn_asd.networks import CenterLoss, PVMilk20
from sklearn_asd.networks.angular import ANGULAR_LOSSES, AngularHead, adacos_scale
from sklearn_asd.networks.losses import add_angular_margin


class Fixed(torch.nn.Module):
    """An embedding of two numbers: the first frame of the first two mel bands."""

    def __init__(self, n_classes, n_mels):
        super().__init__()

    def forward(self, log_mel):
        return None, log_mel[:, :2, 0]


def make_head(directions, scale=10.0):
    directions = torch.tensor(directions)
    head = AngularHead(Fixed, len(directions), 4, 2, scale, directions.shape[1])
    head.directions.data[:] = directions
    return head


def embed(*points):
    return torch.tensor(points).unsqueeze(-1).repeat(1, 1, 3)


def test_logits_are_scaled_cosines_worked_by_hand():
    head = make_head([[[2.0, 0.0]], [[1.0, 1.0]]])
    logits, embedding = head(embed([3.0, 0.0], [0.0, -5.0]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(
        logits, 10 * torch.tensor([[1.0, half], [0.0, -half]]), atol=1e-6, rtol=0
    )
    assert embedding.tolist() == [[3.0, 0.0], [0.0, -5.0]]


def test_the_nearest_direction_of_a_class_counts():
    head = make_head([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    logits, _ = head(embed([0.0, 2.0]))
    torch.testing.assert_close(logits, torch.tensor([[10.0, 0.0]]))


def test_the_margin_widens_the_angle_of_the_own_class_only():
    cosines = torch.tensor([[math.cos(0.5), 0.3], [0.2, math.cos(2.0)]])
    logits = add_angular_margin(30 * cosines, torch.tensor([0, 1]), 30.0, 0.25)
    expected = [[30 * math.cos(0.75), 9.0], [6.0, 30 * math.cos(2.25)]]
    torch.testing.assert_close(logits, torch.tensor(expected))


def test_beyond_the_margin_of_pi_the_logit_goes_on_falling_with_a_gradient():
    angles = torch.linspace(0.01, math.pi - 1e-3, 200)
    cosines = torch.cos(angles)[:, None].requires_grad_()
    y = torch.zeros(200, dtype=torch.int64)
    logits = add_angular_margin(cosines, y, 1.0, 0.5)[:, 0]
    assert (logits.diff() < 0).all()
    logits.sum().backward()
    assert (cosines.grad > 0).all()
    exact = torch.ones(2, 1, requires_grad=True)  # an angle of 0
    add_angular_margin(exact, y[:2], 1.0, 0.5).sum().backward()
    assert torch.isfinite(exact.grad).all()


def test_the_margin_makes_the_loss_larger_and_is_of_training_and_rating_alike():
    logits, embedding = torch.tensor([[5.0, 1.0]]), torch.zeros(1, 2)
    y = torch.tensor([0])
    plain = CenterLoss(2, 2, weight=0)((logits, embedding), y)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, y))
    wide = CenterLoss(2, 2, weight=0, scale=10.0, margin=0.25)((logits, embedding), y)
    assert wide > plain


def test_adacos_scale_is_that_of_its_paper():
    assert adacos_scale(41) == pytest.approx(math.sqrt(2) * math.log(40))
    assert ANGULAR_LOSSES["adacos"](2)[0] > 0  # log(2 - 1) would be 0
    assert ANGULAR_LOSSES["arcface"](6) == (30.0, 0.25)


def test_any_network_can_take_it():
    network = functools.partial(PVMilk20, n_embedding=8)
    head = AngularHead(network, 3, 16, 8, scale=30.0)
    assert head.min_frames == PVMilk20.min_frames
    logits, embedding = head(torch.randn(2, 16, 40))
    assert (logits.shape, embedding.shape) == ((2, 3), (2, 8))
