"""Several networks, trained on the same batches, whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sklearn_asd.networks.windows import Inputs

__all__ = ["AveragedNetworks", "SeveralLosses"]


class AveragedNetworks(nn.Module):
    """Networks of one kind, each from its own random start.

    Parameters
    ----------
    networks : iterable of module
        Each maps windows to (logits, embedding).
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Classify windows by all networks.

        In training, the outputs are those of the first network, then those of the
        second, and so on.

        Parameters
        ----------
        inputs : tensor of shape (batch, n_mels, n_frames), or pair
            Whatever the networks take.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            Logarithms of the networks' mean probabilities.

        embedding : tensor of shape (batch, n_networks * n_embedding)
            The networks' embeddings side by side, each divided by its length: the
            cosine of the angle between two is the mean of the networks' cosines.
        """
        outputs = [network(inputs) for network in self.networks]
        if self.training:
            return tuple(part for of_one in outputs for part in of_one)
        logits = torch.stack([functional.log_softmax(one[0], dim=1) for one in outputs])
        embeddings = [functional.normalize(one[1], dim=1) for one in outputs]
        mean = logits.logsumexp(dim=0) - log(len(outputs))
        return mean, torch.cat(embeddings, dim=1)


class SeveralLosses(nn.Module):
    """The mean loss of several networks, each with centres of its own.

    Parameters
    ----------
    make_loss : callable
        Makes the loss of one network.

    n_networks : int
        Number of networks.

    **settings : any
        Passed to `make_loss`.
    """

    def __init__(
        self, make_loss: Callable[..., nn.Module], n_networks: int, **settings: Any
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleList(make_loss(**settings) for _ in range(n_networks))

    @property
    def centers(self) -> torch.Tensor | None:
        """The networks' centres side by side.

        Returns
        -------
        centers : tensor of shape (n_classes, n_networks * n_embedding) or None
            None if they have none.
        """
        losses: Any = self.losses
        centers = [one.centers for one in losses if hasattr(one, "centers")]
        return torch.cat(centers, dim=1) if centers else None

    def forward(self, outputs: tuple[torch.Tensor, ...], y: Any) -> torch.Tensor:
        """Compute the loss.

        Parameters
        ----------
        outputs : tuple of tensor
            The networks' logits and embeddings in turn.

        y : tensor or list of tensor
            See :class:`~sklearn_asd.networks.CenterLoss`.

        Returns
        -------
        loss : tensor of shape ()
            Mean over the networks. Adam's steps do not depend on its scale, so each
            network is trained as it would be alone.
        """
        pairs = zip(outputs[::2], outputs[1::2], strict=True)
        losses = [loss(pair, y) for loss, pair in zip(self.losses, pairs, strict=True)]
        return torch.stack(losses).mean()
