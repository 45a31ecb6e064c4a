import math
import pickle

import pytest
import torch
from sklearn.base import clone
from torch.nn import functional

from sklearn_asd import IDConfidenceDetector
from sklearn_asd.networks import (
    AdaCos,
    AdaProj,
    ArcFace,
    CenterLoss,
    Softmax,
    SubClusterAdaCos,
)
from sklearn_asd.networks.losses import (
    LOSSES,
    SubClusterHead,
    SubspaceHead,
    find_loss,
)

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


# -- losses as objects -----------------------------------------------------------


@pytest.mark.parametrize("loss", [Softmax(), ArcFace(20.0, 0.5, 2), AdaCos(3)])
def test_losses_are_values(loss):
    copy = pickle.loads(pickle.dumps(loss))
    assert copy == loss
    assert hash(copy) == hash(loss)
    assert eval(repr(loss)) == loss
    assert clone(IDConfidenceDetector(loss=loss)).loss == loss


def test_losses_have_names():
    assert {name: find_loss(name) for name in LOSSES} == {
        "softmax": Softmax(),
        "arcface": ArcFace(scale=30.0, margin=0.25, n_sub_centers=1),
        "adacos": AdaCos(n_sub_centers=1),
        "subcluster_adacos": SubClusterAdaCos(n_sub_centers=16, trained_centers=False),
        "adaproj": AdaProj(n_sub_centers=32, trained_centers=False),
    }
    assert find_loss(ArcFace(margin=0.1)) == ArcFace(margin=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArcFace(scale=0), r"'scale' parameter of ArcFace .* \(0\.0, inf\)"),
        (lambda: ArcFace(scale=math.inf), r"\(0\.0, inf\)\. Got inf instead"),
        (lambda: ArcFace(margin=4), r"'margin' .* \[0\.0, 3\.14\d*\)\. Got 4 instead"),
        (lambda: ArcFace(n_sub_centers=0), r"'n_sub_centers' parameter of ArcFace"),
        (lambda: AdaCos(1.5), r"'n_sub_centers' .* AdaCos must be an int .* Got 1\.5"),
        (lambda: AdaCos("2"), r"'n_sub_centers' .* AdaCos must be an int .* Got '2'"),
    ],
)
def test_settings_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_softmax_keeps_the_networks_own_last_layer():
    assert Softmax().make_head(2, 2) is None
    assert Softmax().adjust_logits(LOGITS, Y) is LOGITS


def make_head(directions, scale=10.0):
    directions = torch.tensor(directions)
    head = ArcFace(scale, n_sub_centers=directions.shape[1]).make_head(
        len(directions), 2
    )
    head.directions.data[:] = directions
    return head


def test_logits_are_scaled_cosines_worked_by_hand():
    head = make_head([[[2.0, 0.0]], [[1.0, 1.0]]])
    logits = head(torch.tensor([[3.0, 0.0], [0.0, -5.0]]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(
        logits, 10 * torch.tensor([[1.0, half], [0.0, -half]]), atol=1e-6, rtol=0
    )


def test_the_nearest_direction_of_a_class_counts():
    head = make_head([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    logits = head(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(logits, torch.tensor([[10.0, 0.0]]))


def test_the_margin_widens_the_angle_of_the_own_class_only():
    cosines = torch.tensor([[math.cos(0.5), 0.3], [0.2, math.cos(2.0)]])
    logits = ArcFace().adjust_logits(30 * cosines, torch.tensor([0, 1]))
    expected = [[30 * math.cos(0.75), 9.0], [6.0, 30 * math.cos(2.25)]]
    torch.testing.assert_close(logits, torch.tensor(expected))


def test_beyond_the_margin_of_pi_the_logit_goes_on_falling_with_a_gradient():
    loss = ArcFace(scale=1.0, margin=0.5)
    angles = torch.linspace(0.01, math.pi - 1e-3, 200)
    cosines = torch.cos(angles)[:, None].requires_grad_()
    y = torch.zeros(200, dtype=torch.int64)
    logits = loss.adjust_logits(cosines, y)[:, 0]
    assert (logits.diff() < 0).all()
    logits.sum().backward()
    assert (cosines.grad > 0).all()
    exact = torch.ones(2, 1, requires_grad=True)  # an angle of 0
    loss.adjust_logits(exact, y[:2]).sum().backward()
    assert torch.isfinite(exact.grad).all()


def test_a_margin_of_0_changes_no_logit():
    assert ArcFace(margin=0).adjust_logits(LOGITS, Y) is LOGITS


@pytest.mark.parametrize("training", [True, False])
def test_the_margin_makes_the_loss_larger_in_training_and_rating_alike(training):
    logits, embedding = torch.tensor([[5.0, 1.0]]), torch.zeros(1, 2)
    y = torch.tensor([0])
    plain = CenterLoss(2, 2, weight=0)((logits, embedding), y)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, y))
    criterion = CenterLoss(2, 2, weight=0, loss=ArcFace(scale=10.0, margin=0.25))
    assert criterion.train(training)((logits, embedding), y) > plain


def test_the_scale_of_adacos_is_that_of_its_paper():
    scales = [AdaCos().make_head(n_classes, 2).scale for n_classes in (41, 3, 2)]
    assert scales[0] == pytest.approx(math.sqrt(2) * math.log(40))
    assert scales[2] == scales[1] > 0  # log(2 - 1) would be 0


# -- several directions for each class -------------------------------------------


def test_the_probabilities_of_sub_clusters_add_up():
    """Two classes of two directions each, along the axes, at a scale of 3."""
    centers = torch.eye(4).reshape(2, 2, 4)
    logits = SubClusterHead(centers, scale=3.0)(torch.tensor([[2.0, 0, 0, 0]]))
    expected = torch.tensor([math.e**3 + 1, 1 + 1]) / (math.e**3 + 3)
    torch.testing.assert_close(logits.softmax(dim=1)[0], expected)


def test_one_sub_cluster_is_adacos():
    embedding = torch.randn(5, 8)
    centers = torch.randn(3, 1, 8)
    head = AdaCos().make_head(3, 8)
    head.directions.data = centers
    same = SubClusterHead(centers, head.scale)
    torch.testing.assert_close(same(embedding), head(embedding))


def test_a_subspace_has_the_cosine_of_the_projection():
    """Of (3, 4, 12): the x-y plane has 5 / 13, and the z axis 12 / 13."""
    plane, axis = [[1.0, 0, 0], [1, 1, 0]], [[0.0, 0, 2], [0, 0, 2]]
    head = SubspaceHead(torch.tensor([plane]), scale=26.0)
    embedding = torch.tensor([[3.0, 4, 12]])
    torch.testing.assert_close(head(embedding), torch.tensor([[10.0]]))
    head = SubspaceHead(torch.tensor([axis])[:, :1], scale=26.0)
    torch.testing.assert_close(head(embedding), torch.tensor([[24.0]]))


@pytest.mark.parametrize("loss", [SubClusterAdaCos, AdaProj])
@pytest.mark.parametrize("trained", [False, True])
def test_centers_are_learnt_on_request(loss, trained):
    head = loss(n_sub_centers=2, trained_centers=trained).make_head(3, 8)
    embedding = torch.randn(4, 8, requires_grad=True)
    head(embedding).square().sum().backward()
    assert embedding.grad.abs().sum() > 0
    assert [name for name, _ in head.named_parameters()] == ["centers"] * trained
    assert list(head.state_dict()) == ["centers"]
    if trained:
        assert head.centers.grad.abs().sum() > 0


def test_a_subspace_that_is_the_whole_space_is_refused():
    with pytest.raises(ValueError, match="n_sub_centers=8 directions span all 8 col"):
        AdaProj(n_sub_centers=8).make_head(3, 8)


@pytest.mark.parametrize("loss", [SubClusterAdaCos, AdaProj])
def test_settings_of_several_directions_are_checked(loss):
    assert loss() == loss(trained_centers=False)
    assert pickle.loads(pickle.dumps(loss(n_sub_centers=3))) == loss(n_sub_centers=3)
    with pytest.raises(ValueError, match="'n_sub_centers' parameter"):
        loss(n_sub_centers=0)
    with pytest.raises(ValueError, match="'trained_centers' parameter"):
        loss(trained_centers="yes")
