"""Classes as directions in the embedding, in place of a network's last layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ANGULAR_LOSSES", "AngularHead", "adacos_scale"]

# ArcFace's own settings for its scale, and half of its margin: machines of one type are
# more alike than faces.
_ARCFACE_SCALE = 30.0
_ARCFACE_MARGIN = 0.25


class AngularHead(nn.Module):
    """A network whose logits are scaled cosines between embedding and class directions.

    Parameters
    ----------
    network : callable
        Called as ``network(n_classes=..., n_mels=...)``, gives a module that maps
        log-mels to (logits, embedding). Its own logits are not used.

    n_classes, n_mels, n_embedding : int
        Sizes.

    scale : float > 0
        Logits are cosines times this.

    n_sub_centers : int, default=1
        Directions of each class, of which the nearest counts.

    Attributes
    ----------
    min_frames : int
        That of the network.

    References
    ----------
    Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web
    Faces", ECCV 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import PVMilk20
    >>> from sklearn_asd.networks.angular import AngularHead
    >>> net = AngularHead(PVMilk20, 6, 128, 128, scale=30.0, n_sub_centers=2)
    >>> logits, embedding = net(torch.zeros(2, 128, 96))
    >>> logits.shape, bool(logits.abs().max() <= 30)
    (torch.Size([2, 6]), True)
    """

    def __init__(
        self,
        network: Callable[..., nn.Module],
        n_classes: int,
        n_mels: int,
        n_embedding: int,
        scale: float,
        n_sub_centers: int = 1,
    ) -> None:
        super().__init__()
        self.network = network(n_classes=n_classes, n_mels=n_mels)
        self.min_frames = getattr(self.network, "min_frames", 1)
        self.scale = scale
        directions = torch.empty(n_classes, n_sub_centers, n_embedding)
        self.directions = nn.Parameter(nn.init.xavier_normal_(directions))

    def forward(self, log_mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify segments.

        Parameters
        ----------
        log_mel : tensor of shape (batch, n_mels, n_frames)
            Log-mels in dB.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            In [-scale, scale].

        embedding : tensor of shape (batch, n_embedding)
            The network's, of any length.
        """
        _, embedding = self.network(log_mel)
        directions = functional.normalize(self.directions, dim=-1)
        cosines = functional.linear(
            functional.normalize(embedding), directions.flatten(0, 1)
        )
        cosines = cosines.unflatten(1, directions.shape[:2]).amax(dim=2)
        return self.scale * cosines, embedding


def adacos_scale(n_classes: int) -> float:
    """Scale at which a softmax of cosines is most sensitive: fixed AdaCos.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    Returns
    -------
    scale : float > 0
        ``sqrt(2) * log(n_classes - 1)``, for two classes as for three.

    References
    ----------
    Zhang et al., "AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning
    Deep Face Representations", CVPR 2019, Eq. (11).

    Examples
    --------
    >>> round(adacos_scale(41), 2)
    5.22
    """
    return math.sqrt(2) * math.log(max(n_classes, 3) - 1)


# Name of a loss to (scale, margin) for a number of classes.
ANGULAR_LOSSES: dict[str, Callable[[int], tuple[float, float]]] = {
    "arcface": lambda n_classes: (_ARCFACE_SCALE, _ARCFACE_MARGIN),
    "adacos": lambda n_classes: (adacos_scale(n_classes), 0.0),
}
