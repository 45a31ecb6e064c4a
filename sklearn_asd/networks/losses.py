"""Losses: which layer computes the logits, and how training changes them.

A loss is an object with the two methods of :class:`Loss`. A new one is one class: here,
with a row in `LOSSES`, or in your own code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from sklearn_asd._utils.parameters import Interval, validate_parameter_constraints

__all__ = [
    "LOSSES",
    "AdaCos",
    "AdaProj",
    "ArcFace",
    "CenterLoss",
    "Loss",
    "Softmax",
    "SubClusterAdaCos",
    "find_loss",
    "list_targets",
]

# Settings of the losses.
_CONSTRAINTS: dict = {
    "scale": [Interval(Real, 0, math.inf, closed="neither")],
    "margin": [Interval(Real, 0, math.pi, closed="left")],
    "n_sub_centers": [Interval(Integral, 1, None, closed="left")],
    "trained_centers": ["boolean"],
}


class Loss(Protocol):
    """The interface of a loss: two methods. Losses need not inherit from it.

    Losses with the same settings should be equal, and picklable: write a frozen
    dataclass at the top of a module.
    """

    def make_head(self, n_classes: int, n_embedding: int) -> nn.Module | None:
        """Make the layer that computes the logits.

        Parameters
        ----------
        n_classes, n_embedding : int
            Number of classes, and size of the embedding.

        Returns
        -------
        head : module or None
            Maps embeddings (batch, n_embedding) to logits (batch, n_classes). None
            keeps the network's own last layer.
        """

    def adjust_logits(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Change the logits before the cross-entropy is computed in training.

        Parameters
        ----------
        logits : tensor of shape (batch, n_classes)
            As the network gives them.

        y : tensor of shape (batch,), int64
            Own classes.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            Used for the loss only. Scores are computed from the unchanged logits.
        """


@dataclass(frozen=True)
class Softmax:
    """The paper's loss: cross-entropy of the logits of the network's last layer.

    Examples
    --------
    >>> from sklearn_asd import IDConfidenceDetector
    >>> from sklearn_asd.networks import Softmax
    >>> IDConfidenceDetector(loss=Softmax())  # the same as loss="softmax"
    IDConfidenceDetector(loss=Softmax())
    """

    def make_head(self, n_classes: int, n_embedding: int) -> nn.Module | None:
        """Keep the network's own last layer.

        Parameters
        ----------
        n_classes, n_embedding : int
            Not used.

        Returns
        -------
        head : None
            There is no other layer.
        """

    def adjust_logits(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Leave the logits as they are.

        Parameters
        ----------
        logits : tensor of shape (batch, n_classes)
            The network's.

        y : tensor of shape (batch,), int64
            Not used.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            The same.
        """
        return logits


@dataclass(frozen=True)
class ArcFace:  # numpydoc ignore=PR02
    """Classes are directions in the embedding, with a margin between their angles.

    Logits are `scale` times the cosine of the angle between the embedding and the
    direction of a class. In training the own class must win by `margin`.

    Parameters
    ----------
    scale : float > 0, default=30.0
        Logits lie in [-scale, scale].

    margin : float in [0, pi), default=0.25
        Angle in radians. Faces take 0.5; machines of one type are more alike.

    n_sub_centers : int >= 1, default=1
        Directions of each class, of which the nearest counts.

    References
    ----------
    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition",
    CVPR 2019.

    Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web
    Faces", ECCV 2020.

    Examples
    --------
    >>> from sklearn_asd import IDConfidenceDetector
    >>> from sklearn_asd.networks import ArcFace
    >>> IDConfidenceDetector(loss=ArcFace(margin=0.5))
    IDConfidenceDetector(loss=ArcFace(scale=30.0, margin=0.5, n_sub_centers=1))
    """

    scale: float = 30.0
    margin: float = 0.25
    n_sub_centers: int = 1

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "ArcFace")

    def make_head(self, n_classes: int, n_embedding: int) -> CosineHead:
        """Make directions of the classes.

        Parameters
        ----------
        n_classes, n_embedding : int
            Number of classes, and size of the embedding.

        Returns
        -------
        head : CosineHead
            Maps embeddings to logits.
        """
        return CosineHead(n_classes, n_embedding, self.scale, self.n_sub_centers)

    def adjust_logits(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Widen the angle to the own class, so that training makes up for it.

        Parameters
        ----------
        logits : tensor of shape (batch, n_classes)
            `scale` times the cosines.

        y : tensor of shape (batch,), int64
            Own classes.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            ``scale * cos(angle + margin)`` for the own class. Beyond an angle of
            ``pi - margin``, where that would rise again, it falls linearly.
        """
        if self.margin == 0:
            return logits
        own = logits.gather(1, y[:, None]) / self.scale
        sine = (1 - own.square()).clamp_min(1e-12).sqrt()
        widened = own * math.cos(self.margin) - sine * math.sin(self.margin)
        falling = own - self.margin * math.sin(self.margin)
        widened = torch.where(own > math.cos(math.pi - self.margin), widened, falling)
        return logits.scatter(1, y[:, None], (self.scale * widened).to(logits.dtype))


@dataclass(frozen=True)
class AdaCos(Softmax):  # numpydoc ignore=PR02
    """Classes are directions in the embedding, on a scale that suits their number.

    Logits are cosines, as those of :class:`ArcFace`, times the scale at which a
    softmax of them is most sensitive: ``sqrt(2) * log(n_classes - 1)``, for two classes
    as for three. There is no margin. This is the paper's fixed AdaCos.

    Parameters
    ----------
    n_sub_centers : int >= 1, default=1
        Directions of each class, of which the nearest counts.

    References
    ----------
    Zhang et al., "AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning
    Deep Face Representations", CVPR 2019, Eq. (11).

    Examples
    --------
    >>> from sklearn_asd.networks import AdaCos
    >>> round(AdaCos().make_head(n_classes=41, n_embedding=128).scale, 2)
    5.22
    """

    n_sub_centers: int = 1

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "AdaCos")

    def make_head(self, n_classes: int, n_embedding: int) -> CosineHead:
        """Make directions of the classes.

        Parameters
        ----------
        n_classes, n_embedding : int
            Number of classes, and size of the embedding.

        Returns
        -------
        head : CosineHead
            Maps embeddings to logits.
        """
        scale = _find_scale(n_classes)
        return CosineHead(n_classes, n_embedding, scale, self.n_sub_centers)


@dataclass(frozen=True)
class SubClusterAdaCos(Softmax):  # numpydoc ignore=PR02
    """Classes are clusters of directions in the embedding, whose probabilities add up.

    Logits are ``log(sum_k exp(scale * cosine_k))`` over the sub-centres of a class, so
    its probability is the sum of theirs. Directions at random that stay fixed leave the
    embedding no single place to collapse to.

    Parameters
    ----------
    n_sub_centers : int >= 1, default=16
        Directions of each class.

    trained_centers : bool, default=False
        Whether the directions are learnt; otherwise they stay as they are drawn.

    Notes
    -----
    The scale is :class:`AdaCos`'s, for as many classes as there are directions, and
    stays fixed too.

    References
    ----------
    K. Wilkinghoff, "Sub-Cluster AdaCos: Learning Representations for Anomalous Sound
    Detection", IJCNN 2021.

    Examples
    --------
    >>> from sklearn_asd.networks import SubClusterAdaCos
    >>> head = SubClusterAdaCos().make_head(n_classes=6, n_embedding=256)
    >>> round(head.scale, 2), sum(p.numel() for p in head.parameters())
    (6.44, 0)
    """

    n_sub_centers: int = 16
    trained_centers: bool = False

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "SubClusterAdaCos")

    def make_head(self, n_classes: int, n_embedding: int) -> SubClusterHead:
        """Make directions of the classes.

        Parameters
        ----------
        n_classes, n_embedding : int
            Number of classes, and size of the embedding.

        Returns
        -------
        head : SubClusterHead
            Maps embeddings to logits.
        """
        centers = torch.randn(n_classes, self.n_sub_centers, n_embedding)
        scale = _find_scale(n_classes * self.n_sub_centers)
        return SubClusterHead(centers, scale, self.trained_centers)


@dataclass(frozen=True)
class AdaProj(Softmax):  # numpydoc ignore=PR02
    """Classes are subspaces of the embedding; only the angle to them counts.

    Logits are :class:`AdaCos`'s scale times the cosine of the angle between the
    embedding and its projection onto the subspace of a class. Within that, clips of a
    class may differ, which restricts the embedding less than a single direction does.

    Parameters
    ----------
    n_sub_centers : int >= 1, default=32
        Number of directions that span the subspace of a class; fewer than the embedding
        has columns.

    trained_centers : bool, default=False
        Whether the directions are learnt; otherwise they stay as they are drawn.

    References
    ----------
    K. Wilkinghoff, "AdaProj: Adaptively Scaled Angular Margin Subspace Projections for
    Anomalous Sound Detection with Auxiliary Classification Tasks", DCASE 2024 Workshop;
    here with a fixed scale.

    Examples
    --------
    >>> from sklearn_asd import IDConfidenceDetector
    >>> from sklearn_asd.networks import AdaProj
    >>> IDConfidenceDetector(network="dualpath", loss=AdaProj(n_sub_centers=8))
    IDConfidenceDetector(loss=AdaProj(n_sub_centers=8, trained_centers=False),
                         network='dualpath')
    """

    n_sub_centers: int = 32
    trained_centers: bool = False

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "AdaProj")

    def make_head(self, n_classes: int, n_embedding: int) -> SubspaceHead:
        """Make subspaces of the classes.

        Parameters
        ----------
        n_classes, n_embedding : int
            Number of classes, and size of the embedding.

        Returns
        -------
        head : SubspaceHead
            Maps embeddings to logits.

        Raises
        ------
        ValueError
            If the subspaces would be the whole space.
        """
        if self.n_sub_centers >= n_embedding:
            raise ValueError(
                f"n_sub_centers={self.n_sub_centers} directions span all {n_embedding} "
                f"columns of the embedding: lower it to {n_embedding - 1} or less"
            )
        centers = torch.randn(n_classes, self.n_sub_centers, n_embedding)
        return SubspaceHead(centers, _find_scale(n_classes), self.trained_centers)


LOSSES: dict[str, type[Loss]] = {
    "softmax": Softmax,
    "arcface": ArcFace,
    "adacos": AdaCos,
    "subcluster_adacos": SubClusterAdaCos,
    "adaproj": AdaProj,
}


def _find_scale(n_directions: int) -> float:
    """Scale of the fixed AdaCos, at which a softmax of cosines is most sensitive."""
    return math.sqrt(2) * math.log(max(n_directions, 3) - 1)


def _keep_centers(head: nn.Module, centers: torch.Tensor, trained: bool) -> None:
    if trained:
        head.centers = nn.Parameter(centers)
    else:
        head.register_buffer("centers", centers)


def _make_basis(centers: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows that span what the centres of each class span."""
    basis, _ = torch.linalg.qr(centers.transpose(1, 2))
    return basis.transpose(1, 2)


def find_loss(loss: str | Loss) -> Loss:
    """Look up a loss that is given by its name.

    Parameters
    ----------
    loss : str or loss
        A name in `LOSSES`, for the loss with its default settings, or an object.

    Returns
    -------
    loss : loss
        The object.

    Raises
    ------
    ValueError
        If it is a class.
    """
    if isinstance(loss, type):
        name = loss.__name__
        raise ValueError(f"loss is the class {name}; give an object, {name}(...)")
    return LOSSES[loss]() if isinstance(loss, str) else loss


class CosineHead(nn.Module):
    """Logits that are scaled cosines between an embedding and directions of classes.

    Parameters
    ----------
    n_classes, n_embedding : int
        Sizes.

    scale : float > 0
        Logits are cosines times this.

    n_sub_centers : int, default=1
        Directions of each class, of which the nearest counts.
    """

    def __init__(
        self, n_classes: int, n_embedding: int, scale: float, n_sub_centers: int = 1
    ) -> None:
        super().__init__()
        self.scale = scale
        directions = torch.empty(n_classes, n_sub_centers, n_embedding)
        self.directions = nn.Parameter(nn.init.xavier_normal_(directions))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Classify embeddings.

        Parameters
        ----------
        embedding : tensor of shape (batch, n_embedding)
            Of any length.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            In [-scale, scale].
        """
        directions = functional.normalize(self.directions, dim=-1)
        cosines = functional.linear(
            functional.normalize(embedding), directions.flatten(0, 1)
        )
        return self.scale * cosines.unflatten(1, directions.shape[:2]).amax(dim=2)


class SubClusterHead(nn.Module):
    """Logits whose exponentials are sums over the directions of each class.

    Parameters
    ----------
    centers : tensor of shape (n_classes, n_sub_centers, n_embedding)
        Directions to begin with, of any length.

    scale : float > 0
        Factor of the cosines.

    trained : bool, default=False
        Whether the directions are learnt.
    """

    centers: torch.Tensor

    def __init__(
        self, centers: torch.Tensor, scale: float, trained: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        _keep_centers(self, centers, trained)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Classify embeddings.

        Parameters
        ----------
        embedding : tensor of shape (batch, n_embedding)
            Of any length.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            Their softmax gives the classes' probabilities.
        """
        centers = functional.normalize(self.centers, dim=-1)
        cosines = functional.linear(
            functional.normalize(embedding), centers.flatten(0, 1)
        )
        by_class = cosines.unflatten(1, centers.shape[:2])
        return (self.scale * by_class).logsumexp(dim=2)


class SubspaceHead(nn.Module):
    """Logits that are scaled cosines between an embedding and subspaces of classes.

    Parameters
    ----------
    centers : tensor of shape (n_classes, n_sub_centers, n_embedding)
        Directions that span the subspaces to begin with.

    scale : float > 0
        Logits are cosines times this.

    trained : bool, default=False
        Whether the directions are learnt.
    """

    centers: torch.Tensor

    def __init__(
        self, centers: torch.Tensor, scale: float, trained: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        self.trained = trained
        _keep_centers(self, centers if trained else _make_basis(centers), trained)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Classify embeddings.

        Parameters
        ----------
        embedding : tensor of shape (batch, n_embedding)
            Of any length.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            In [0, scale].
        """
        basis = _make_basis(self.centers) if self.trained else self.centers
        inside = functional.linear(functional.normalize(embedding), basis.flatten(0, 1))
        by_class = inside.unflatten(1, basis.shape[:2])
        return self.scale * torch.linalg.vector_norm(by_class, dim=2)


class CenterLoss(nn.Module):
    """Cross-entropy plus centre loss (section 3.2, Eqs. (3) and (4)).

    ``cross_entropy(logits, y) + weight / 2 * mean(||embedding_i - center_{y_i}||^2)``

    It differs from the printed equation in two ways, both needed for the centres to
    converge: the squared distances are averaged over the batch, not summed (with the
    sum, the centres become NaN at the paper's learning rate of 0.5), and the step of
    the centres does not depend on `weight`.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    n_embedding : int, default=128
        Size of the embedding.

    weight : float >= 0, default=0.1
        Weight of the centre term, lambda_c. At 0 there are no centres and no cost.

    center_lr : float > 0, default=0.5
        Learning rate of the centres.

    loss : loss or None, default=None
        Adjusts the logits that the cross-entropy is computed from; None leaves them.

    Attributes
    ----------
    centers : tensor of shape (n_classes, n_embedding)
        The centres, initially 0. Absent if `weight` is 0.

    Notes
    -----
    The centres are updated in the forward pass, in closed form:
    ``c_j -= center_lr * sum_{i: y_i = j} (c_j - x_i) / batch_size``. That equals
    a separate SGD optimiser, without a second backward pass. They move in training
    mode only, and after the loss is computed.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import CenterLoss
    >>> loss = CenterLoss(n_classes=2, n_embedding=1, weight=1.0)
    >>> logits, embedding = torch.zeros(1, 2), torch.full((1, 1), 4.0)
    >>> loss((logits, embedding), torch.tensor([1]))  # log(2) + 4 ** 2 / 2
    tensor(8.6931)
    >>> loss.centers.squeeze()  # half way from 0 to 4
    tensor([0., 2.])
    """

    centers: torch.Tensor

    def __init__(
        self,
        n_classes: int,
        n_embedding: int = 128,
        weight: float = 0.1,
        center_lr: float = 0.5,
        loss: Loss | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.center_lr = center_lr
        self.loss = Softmax() if loss is None else loss
        if weight > 0:
            self.register_buffer("centers", torch.zeros(n_classes, n_embedding))

    def forward(
        self,
        outputs: tuple[torch.Tensor, torch.Tensor],
        y: torch.Tensor | list[torch.Tensor],
    ) -> torch.Tensor:
        """Compute the loss and, in training mode, move the centres.

        Parameters
        ----------
        outputs : (logits, embedding)
            Tensors of shape (batch, n_classes) and (batch, n_embedding).

        y : tensor of shape (batch,), int64, or (y, other, share)
            Classes. For mixed windows, the classes of both and the share of the first;
            the losses are mixed with the same shares.

        Returns
        -------
        loss : tensor of shape ()
            Mean over the batch.
        """
        parts = list_targets(y)
        losses = [share * self._loss(outputs, classes) for classes, share in parts]
        if self.training and self.weight > 0:
            for classes, share in parts:
                self._move_centers(outputs[1], classes, share)
        return torch.stack(losses).sum()

    def _loss(
        self, outputs: tuple[torch.Tensor, torch.Tensor], y: torch.Tensor
    ) -> torch.Tensor:
        logits, embedding = outputs
        loss = functional.cross_entropy(self.loss.adjust_logits(logits, y), y)
        if self.weight == 0:
            return loss
        offset = embedding - self.centers[y]
        return loss + self.weight / 2 * offset.square().sum(dim=1).mean()

    @torch.no_grad()
    def _move_centers(
        self, embedding: torch.Tensor, y: torch.Tensor, share: float | torch.Tensor
    ) -> None:
        step = (embedding - self.centers[y]).to(self.centers.dtype)
        self.centers.index_add_(0, y, step * (share * self.center_lr / len(y)))


def list_targets(
    y: torch.Tensor | list[torch.Tensor],
) -> list[tuple[torch.Tensor, Any]]:
    """List the classes of a batch with their shares.

    Parameters
    ----------
    y : tensor of shape (batch,), int64, or (y, other, share)
        Classes; for mixed windows, the classes of both and the share of the first.

    Returns
    -------
    targets : list of (classes, share)
        Shares sum to 1.
    """
    if isinstance(y, torch.Tensor):
        return [(y, 1.0)]
    first, other, share = y
    return [(first, share), (other, 1 - share)]
