"""The paper's two networks: log-mel segments in, class logits and an embedding out.

Both end in a maximum over time, so they take segments of any length, and both map
``(batch, n_mels, n_frames)`` to ``(logits, embedding)``. Any module class with the same
input and outputs can replace them. If it has ``takes_spectrum = True`` and clips have
spectra, it is called with `n_spectrum` too and given pairs: segments, and the spectra
(batch, n_spectrum) of the clips that these are of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from sklearn_asd._utils.messages import shorten
from sklearn_asd.networks.dual_path import DualPathNetwork
from sklearn_asd.networks.fast_layers import (
    FastDropout,
    FittedConv2d,
    convolve_norm_pool,
    run_folded,
)

__all__ = [
    "NETWORKS",
    "InoueT18",
    "Network",
    "PVMilk20",
    "find_class",
    "find_min_batch",
    "find_min_frames",
    "takes_spectrum",
]


class PVMilk20(nn.Module):
    """The small network of Table 1 (a), with convolutions along one axis at a time.

    22,510 parameters with 6 classes, 129 more for each further class.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    n_mels : int, default=128
        Number of mel bands. The embedding has one input value for each.

    n_embedding : int, default=128
        Size of the embedding.

    dropout : float, default=0.2
        Dropout rate before the embedding.

    embedding_activation : {"linear", "relu"}, default="linear"
        Activation of the embedding, which the paper does not state.

    Attributes
    ----------
    min_frames : int
        Length in frames of the shortest segment the network can take.

    Notes
    -----
    Channels are 8-8-16-16-32: that gives the published numbers of parameters, and
    after swapping the axes the printed (freq, 32, time).

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import PVMilk20
    >>> logits, embedding = PVMilk20(n_classes=6)(torch.zeros(2, 128, 96))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 6]), torch.Size([2, 128]))
    """

    min_frames = 9  # what two convolutions of stride 3 need

    def __init__(
        self,
        n_classes: int,
        n_mels: int = 128,
        n_embedding: int = 128,
        dropout: float = 0.2,
        embedding_activation: str = "linear",
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolve(1, 8, kernel=(7, 1), padding=(3, 0)),
            *_convolve(8, 8, kernel=(1, 7), stride=(1, 3), padding=(0, 2)),
            *_convolve(8, 16, kernel=(5, 1), padding=(2, 0)),
            *_convolve(16, 16, kernel=(5, 1), padding=(2, 0)),
            *_convolve(16, 32, kernel=(1, 5), stride=(1, 3), padding=(0, 1)),
        )
        self.dropout = nn.Dropout(dropout)
        self.embed = _embed(n_mels, n_embedding, embedding_activation)
        self.classify = nn.Linear(n_embedding, n_classes)

    def forward(self, log_mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify segments.

        Parameters
        ----------
        log_mel : tensor of shape (batch, n_mels, n_frames)
            Log-mels in dB.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            Class scores before the softmax.

        embedding : tensor of shape (batch, n_embedding)
            The logits are a linear function of it.
        """
        # Channels last is the faster order in memory, in training and in scoring.
        maps = log_mel.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        learning = self.training or torch.is_grad_enabled()
        maps = self.features(maps) if learning else run_folded(self.features, maps)
        loudest = maps.amax(dim=(1, 3))  # swap channel and frequency, global max pool
        embedding = self.embed(self.dropout(loudest))
        return self.classify(embedding), embedding


class InoueT18(nn.Module):
    """The larger network, of DCASE 2018 Task 5: all frequencies first, then time.

    396,039 parameters with 7 classes, 129 more for each further class.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    n_mels : int, default=128
        Number of mel bands; at least 8.

    n_embedding : int, default=128
        Size of the embedding.

    dropout : (float, float), default=(0.2, 0.5)
        Dropout rates after the first pooling and before the embedding.

    embedding_activation : {"linear", "relu"}, default="linear"
        Activation of the embedding, which the paper does not state.

    Attributes
    ----------
    min_frames : int
        Length in frames of the shortest segment the network can take.

    References
    ----------
    T. Inoue et al., "Domestic activities classification based on CNN using shuffling
    and mixing data augmentation", DCASE 2018 Challenge; here with 128 mel bands
    (section 4.1.2 and Table 1 (b) of the 2020 paper).

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import InoueT18
    >>> logits, embedding = InoueT18(n_classes=7)(torch.zeros(2, 128, 96))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 7]), torch.Size([2, 128]))
    """

    min_frames = 1

    def __init__(
        self,
        n_classes: int,
        n_mels: int = 128,
        n_embedding: int = 128,
        dropout: tuple[float, float] = (0.2, 0.5),
        embedding_activation: str = "linear",
    ) -> None:
        super().__init__()
        if n_mels < 8:
            raise ValueError(f"InoueT18 needs at least 8 mel bands, got {n_mels}")
        self.features = nn.Sequential(
            *_convolve(1, 64, kernel=(7, 1), padding=(3, 0)),
            nn.MaxPool2d((8, 1)),
            FastDropout(dropout[0]),
            *_convolve(64, 128, kernel=(n_mels // 8, 1)),  # one frequency is left
            *_convolve(128, 256, kernel=(1, 7), padding=(0, 3)),
        )
        self.dropout = nn.Dropout(dropout[1])
        self.embed = _embed(256, n_embedding, embedding_activation)
        self.classify = nn.Linear(n_embedding, n_classes)

    def forward(self, log_mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify segments.

        Parameters
        ----------
        log_mel : tensor of shape (batch, n_mels, n_frames)
            Log-mels in dB.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            Class scores before the softmax.

        embedding : tensor of shape (batch, n_embedding)
            The logits are a linear function of it.
        """
        exported = torch.compiler.is_exporting()  # a graph needs standard layers
        on_cpu = log_mel.device.type == "cpu"
        if on_cpu and not log_mel.requires_grad and not exported:
            maps = self._features_on_cpu(log_mel)
        else:
            maps = self.features(log_mel.unsqueeze(1))  # (batch, channel, 1, time)
        embedding = self.embed(self.dropout(maps.amax(dim=(2, 3))))
        return self.classify(embedding), embedding

    def _features_on_cpu(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Compute what `features` does, channels last and faster.

        The second convolution spans all frequencies, so it is a dense layer.
        """
        conv, norm, _, pool, dropout, dense, *rest = cast(Any, self.features)
        maps = dropout(convolve_norm_pool(log_mel, conv, norm, pool.kernel_size[0]))
        weight = dense.weight[..., 0].transpose(1, 2).flatten(1)
        maps = functional.linear(maps.flatten(2), weight, dense.bias)
        maps = maps.transpose(1, 2).unsqueeze(2)
        for layer in rest:
            maps = layer(maps)
        return maps


# A network of the library is a class above and a row here. Detectors take it by this
# name; model files hold the name of its class.
NETWORKS: dict[str, type[nn.Module]] = {
    "pvmilk20": PVMilk20,
    "inouet18": InoueT18,
    "dualpath": DualPathNetwork,
}

# What the parameter `network` of detectors takes: a name, or a class or factory.
Network = str | Callable[..., nn.Module]


def find_min_frames(network: Network) -> int:
    """Find the length of the shortest segment that a network can take.

    Parameters
    ----------
    network : str or callable
        Name, class or `functools.partial` of a network.

    Returns
    -------
    min_frames : int
        Its attribute of that name, in frames; 1 if it has none.
    """
    return getattr(find_class(network), "min_frames", 1)


def find_min_batch(network: Network) -> int:
    """Find the smallest batch that a network can be trained on.

    Parameters
    ----------
    network : str or callable
        Name, class or `functools.partial` of a network.

    Returns
    -------
    min_batch : int
        Its attribute of that name, in segments; 1 if it has none.
    """
    return getattr(find_class(network), "min_batch", 1)


def takes_spectrum(network: Network) -> bool:
    """Tell whether a network also hears the spectra of whole clips.

    Parameters
    ----------
    network : str or callable
        Name, class or `functools.partial` of a network.

    Returns
    -------
    takes_it : bool
        Its attribute `takes_spectrum`; False if it has none.
    """
    return getattr(find_class(network), "takes_spectrum", False)


def find_class(network: Network) -> Callable[..., nn.Module]:
    """Find the class of a network, or the factory that makes it.

    Parameters
    ----------
    network : str or callable
        Name, class or `functools.partial` of a network.

    Returns
    -------
    factory : callable
        Makes the network.
    """
    factory = NETWORKS[network] if isinstance(network, str) else network
    return getattr(factory, "func", factory)


def _convolve(
    n_in: int,
    n_out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> tuple[nn.Module, ...]:
    """Convolution over (frequency, time) with the batch norm and ReLU that follow."""
    layer = nn.Conv2d if stride == (1, 1) else FittedConv2d
    return (
        layer(n_in, n_out, kernel, stride, padding),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


def _embed(n_in: int, n_embedding: int, activation: str) -> nn.Module:
    """Dense layer whose output is the embedding."""
    dense = nn.Linear(n_in, n_embedding)
    if activation == "linear":
        return dense
    if activation == "relu":
        return nn.Sequential(dense, nn.ReLU())
    raise ValueError(
        f'embedding_activation is {shorten(activation)}; it must be "linear" or "relu"'
    )
