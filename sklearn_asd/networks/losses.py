"""Cross-entropy that also draws each class together in the embedding."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CenterLoss"]


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
    ) -> None:
        super().__init__()
        self.weight = weight
        self.center_lr = center_lr
        if weight > 0:
            self.register_buffer("centers", torch.zeros(n_classes, n_embedding))

    def forward(
        self, outputs: tuple[torch.Tensor, torch.Tensor], y: torch.Tensor
    ) -> torch.Tensor:
        """Compute the loss and, in training mode, move the centres.

        Parameters
        ----------
        outputs : (logits, embedding)
            Tensors of shape (batch, n_classes) and (batch, n_embedding).

        y : tensor of shape (batch,), int64
            Classes.

        Returns
        -------
        loss : tensor of shape ()
            Mean over the batch.
        """
        logits, embedding = outputs
        loss = functional.cross_entropy(logits, y)
        if self.weight == 0:
            return loss
        offset = embedding - self.centers[y]
        loss = loss + self.weight / 2 * offset.square().sum(dim=1).mean()
        if self.training:
            step = offset.detach().to(self.centers.dtype) * (self.center_lr / len(y))
            self.centers.index_add_(0, y, step)
        return loss
