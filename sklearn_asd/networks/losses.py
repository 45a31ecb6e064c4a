"""Cross-entropy that also draws each class together in the embedding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CenterLoss", "add_angular_margin"]


class CenterLoss(nn.Module):
    """Cross-entropy plus centre loss (section 3.2, Eqs. (3) and (4)).

    ``cross_entropy(logits, y) + weight / 2 * mean(||embedding_i - center_{y_i}||^2)``

    Two things differ from the printed equation, both needed for centres that
    converge: the squared distances are averaged over the batch, not summed (the sum
    sends the centres to NaN at the paper's learning rate of 0.5), and the step of
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
        Learning rate of the centres' own gradient descent.

    scale : float > 0, default=1.0
        What the logits are divided by to get cosines; for `margin` only.

    margin : float >= 0, default=0.0
        Angular margin in radians by which the own class is to win, as in ArcFace.

    Attributes
    ----------
    centers : tensor of shape (n_classes, n_embedding)
        The centres, at first 0. Absent if `weight` is 0.

    Notes
    -----
    The centres take their step in the forward pass, in closed form:
    ``c_j -= center_lr * sum_{i: y_i = j} (c_j - x_i) / batch_size``. That equals
    an SGD optimiser of their own, without a second backward pass. They move in
    training mode only, and after the loss is computed.

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
        scale: float = 1.0,
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.center_lr = center_lr
        self.scale = scale
        self.margin = margin
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
            Classes. For windows that are mixed, the classes of both and the share of
            the first: the loss is mixed as the windows are.

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
        if self.margin > 0:
            logits = add_angular_margin(logits, y, self.scale, self.margin)
        loss = functional.cross_entropy(logits, y)
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


def add_angular_margin(
    logits: torch.Tensor, y: torch.Tensor, scale: float, margin: float
) -> torch.Tensor:
    """Widen the angle to the own class, so that training makes up for it.

    Parameters
    ----------
    logits : tensor of shape (batch, n_classes)
        `scale` times the cosines of the angles between embedding and classes.

    y : tensor of shape (batch,), int64
        Own classes.

    scale : float > 0
        See `logits`.

    margin : float > 0
        Angle in radians.

    Returns
    -------
    logits : tensor of shape (batch, n_classes)
        ``scale * cos(angle + margin)`` for the own class. Beyond an angle of
        ``pi - margin``, where that would rise again, it falls linearly.

    References
    ----------
    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition",
    CVPR 2019.
    """
    own = logits.gather(1, y[:, None]) / scale
    sine = (1 - own.square()).clamp_min(1e-12).sqrt()
    widened = own * math.cos(margin) - sine * math.sin(margin)
    falling = own - margin * math.sin(margin)
    widened = torch.where(own > math.cos(math.pi - margin), widened, falling)
    return logits.scatter(1, y[:, None], (scale * widened).to(logits.dtype))
