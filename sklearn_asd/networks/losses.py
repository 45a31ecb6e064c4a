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

__all__ = ["LOSSES", "AdaCos", "ArcFace", "CenterLoss", "Loss", "Softmax", "find_loss"]

# Settings of the losses.
_CONSTRAINTS: dict = {
    "scale": [Interval(Real, 0, math.inf, closed="neither")],
    "margin": [Interval(Real, 0, math.pi, closed="left")],
    "n_sub_centers": [Interval(Integral, 1, None, closed="left")],
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
        scale = math.sqrt(2) * math.log(max(n_classes, 3) - 1)
        return CosineHead(n_classes, n_embedding, scale, self.n_sub_centers)


LOSSES: dict[str, type[Loss]] = {
    "softmax": Softmax,
    "arcface": ArcFace,
    "adacos": AdaCos,
}


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
        parts = [(y, 1.0)] if isinstance(y, torch.Tensor) else _parts(*y)
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


def _parts(
    y: torch.Tensor, other: torch.Tensor, share: torch.Tensor
) -> list[tuple[torch.Tensor, Any]]:
    return [(y, share), (other, 1 - share)]
