"""Self-supervision: a network also tells clips from those with exchanged parts.

From two clips a third one is made, which is of no machine: with the changes of the one
and the level of the other (StatEx), or with the paths' embeddings of both (FeatEx). The
network has three times the classes: each as it is, as the first, and as the second clip
of an exchange. Only the first third is used for scores.

Exchanges replace the second half of a batch, whose order is random, and take the other
part from the window before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sklearn_asd.networks.losses import CenterLoss, list_targets
from sklearn_asd.networks.windows import Inputs

__all__ = [
    "N_KINDS",
    "SELF_SUPERVISIONS",
    "ExchangeLoss",
    "ExchangeNetwork",
    "exchange_features",
    "exchange_statistics",
]

# Classes for each one: as it is, and as the first and the second part of an exchange.
N_KINDS = 3

_TINY = 1e-12  # in place of a standard deviation of 0


def exchange_statistics(inputs: Inputs) -> Inputs:
    """Give the second half of a batch the statistics of other windows (StatEx).

    Parameters
    ----------
    inputs : tensor of shape (batch, n_mels, n_frames), or pair of it and spectra
        Windows.

    Returns
    -------
    inputs : as given
        From half of the batch on, each window has the mean and the standard deviation
        over time, at each frequency, of the window before. Spectra are not changed.

    References
    ----------
    Chen et al., "An Effective Anomalous Sound Detection Method Based on Representation
    Learning with Simulated Anomalies", ICASSP 2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks.self_supervision import exchange_statistics
    >>> exchange_statistics(torch.tensor([[[0.0, 10.0]], [[7.0, 5.0]]]))
    tensor([[[ 0., 10.]],
    <BLANKLINE>
            [[10.,  0.]]])
    """
    frames = inputs if isinstance(inputs, torch.Tensor) else inputs[0]
    spread, mean = torch.std_mean(frames, dim=2, keepdim=True, correction=0)
    half = len(frames) // 2
    standard = (frames - mean)[half:] / spread[half:].clamp_min(_TINY)
    exchanged = standard * spread.roll(1, 0)[half:] + mean.roll(1, 0)[half:]
    frames = torch.cat([frames[:half], exchanged])
    return frames if isinstance(inputs, torch.Tensor) else (frames, inputs[1])


def exchange_features(embedding: torch.Tensor) -> torch.Tensor:
    """Give the second half of a batch the second path of other windows (FeatEx).

    Parameters
    ----------
    embedding : tensor of shape (batch, n_embedding)
        The first half of the columns is of the one path, the second of the other.

    Returns
    -------
    embedding : tensor of shape (batch, n_embedding)
        From half of the batch on, the second path is that of the window before.

    References
    ----------
    K. Wilkinghoff, "Self-Supervised Learning for Anomalous Sound Detection", ICASSP
    2024.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks.self_supervision import exchange_features
    >>> exchange_features(torch.tensor([[1, 2], [3, 4]]))
    tensor([[1, 2],
            [3, 2]])
    """
    half, column = len(embedding) // 2, embedding.shape[1] // 2
    own, other = embedding[half:, :column], embedding.roll(1, 0)[half:, column:]
    return torch.cat([embedding[:half], torch.cat([own, other], dim=1)])


# What is exchanged of inputs and of embeddings, by the name that detectors take.
SELF_SUPERVISIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "statex": (exchange_statistics, lambda embedding: embedding),
    "featex": (lambda inputs: inputs, exchange_features),
}


class ExchangeNetwork(nn.Module):
    """A network that is trained on exchanges, and scores without.

    Parameters
    ----------
    network : module
        Maps windows to (logits, embedding). Its logits are not used.

    head : module
        Maps embeddings to logits of three times the classes.

    n_classes : int
        Number of classes that are scored.

    self_supervision : {"statex", "featex"}
        What is exchanged.

    Raises
    ------
    ValueError
        If paths should be exchanged, and the network has one.
    """

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module,
        n_classes: int,
        self_supervision: str,
    ) -> None:
        super().__init__()
        if self_supervision == "featex" and getattr(network, "n_paths", 1) != 2:
            raise ValueError(
                'self_supervision="featex" exchanges the two paths of a network, and '
                f'{type(network).__name__} has no n_paths = 2: use network="dualpath", '
                'or self_supervision="statex"'
            )
        self.network = network
        self.head = head
        self.n_classes = n_classes
        self.self_supervision = self_supervision

    def forward(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify windows.

        Parameters
        ----------
        inputs : tensor of shape (batch, n_mels, n_frames), or pair
            Whatever the network takes.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            In training of three times the classes, with exchanges.

        embedding : tensor of shape (batch, n_embedding)
            The network's.
        """
        if not self.training:
            _, embedding = self.network(inputs)
            return self.head(embedding)[:, : self.n_classes], embedding
        before, after = SELF_SUPERVISIONS[self.self_supervision]
        embedding = after(self.network(before(inputs))[1])
        return self.head(embedding), embedding


class ExchangeLoss(CenterLoss):
    """The loss of an :class:`ExchangeNetwork`.

    The windows that are as they were count as in :class:`CenterLoss`, the exchanged
    ones half as those of the one window and half as those of the other.

    Parameters
    ----------
    n_classes : int
        Number of classes that are scored.

    **settings : any
        See :class:`CenterLoss`.
    """

    def __init__(self, n_classes: int, **settings: Any) -> None:
        super().__init__(n_classes, **settings)
        self.n_classes = n_classes

    def forward(
        self,
        outputs: tuple[torch.Tensor, torch.Tensor],
        y: torch.Tensor | list[torch.Tensor],
    ) -> torch.Tensor:
        """Compute the loss of a batch of two windows or more.

        Parameters
        ----------
        outputs : (logits, embedding)
            Tensors of shape (batch, 3 * n_classes) and (batch, n_embedding).

        y : tensor of shape (batch,), int64, or (y, other, share)
            See :class:`CenterLoss`.

        Returns
        -------
        loss : tensor of shape ()
            Mean over the batch.
        """
        logits, embedding = outputs
        half = len(logits) // 2
        plain = y[:half]
        if not isinstance(y, torch.Tensor):
            plain = [y[0][:half], y[1][:half], y[2]]
        loss = super().forward((logits[:half], embedding[:half]), plain)
        exchanged = logits.new_zeros(())
        for classes, share in list_targets(y):
            first = classes[half:] + self.n_classes
            second = classes.roll(1)[half:] + 2 * self.n_classes
            for target in (first, second):
                adjusted = self.loss.adjust_logits(logits[half:], target)
                entropy = functional.cross_entropy(adjusted, target)
                exchanged = exchanged + share / 2 * entropy
        share_of_plain = half / len(logits)
        return share_of_plain * loss + (1 - share_of_plain) * exchanged
