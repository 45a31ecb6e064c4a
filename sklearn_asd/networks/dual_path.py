"""DualPathNetwork: one path hears the spectrum of a clip, the other how it changes."""

from __future__ import annotations

from math import ceil

import torch
from torch import nn
from torch.nn import functional

from sklearn_asd.networks.fast_layers import FittedConv2d

__all__ = ["DualPathNetwork"]

# Values that the first convolution of the spectrum gives, at most.
_N_COARSE = 500


class DualPathNetwork(nn.Module):
    """Two paths: the spectrum of the whole clip, and the spectrogram without its mean.

    Convolutions of one dimension hear the magnitude spectrum of the whole clip, which
    is fine in frequency. A small residual network hears the spectrogram minus its mean
    over time, so only what changes, and ends in a maximum over time. The embedding is
    that of the one path, then that of the other.

    750,046 parameters with 6 classes and the defaults of
    :class:`~sklearn_asd.LinearSpectrogram`.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    n_mels : int, default=513
        Number of frequency bins (or mel bands) of the spectrogram.

    n_spectrum : int, default=0
        Number of values of the whole clip's spectrum. 0 is for clips that have none,
        such as log-mels: then the first path hears the mean over time.

    n_embedding : int, default=256
        Size of the embedding; each path has half of it.

    n_channels : int, default=8
        Channels of the residual network's first layers; there are eight times as many
        at its end. Wilkinghoff's has 16 and takes twice the time.

    Attributes
    ----------
    min_frames : int
        Length in frames of the shortest segment the network can take.

    n_paths : int
        2, each with half of the embedding.

    min_batch : int
        Number of segments in the smallest batch that it can be trained on.

    takes_spectrum : bool
        True: it also hears the spectra of whole clips, where there are some.

    Notes
    -----
    The spectrum is standardised as a whole, so its loud frequencies count most, and
    each bin of the spectrogram by itself: by the mean and the variance in training. So
    magnitudes of any unit will do, and decibels too. Bins of linear magnitudes whose
    noise is below about -76 dB of full scale count less than the others.

    References
    ----------
    K. Wilkinghoff, "Design choices for learning embeddings from auxiliary tasks for
    domain generalization in anomalous sound detection", ICASSP 2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import DualPathNetwork
    >>> network = DualPathNetwork(n_classes=6, n_mels=513, n_spectrum=8000)
    >>> logits, embedding = network((torch.zeros(2, 513, 313), torch.zeros(2, 8000)))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 6]), torch.Size([2, 256]))
    """

    min_frames = 1
    min_batch = 2  # what a batch norm of embeddings needs
    n_paths = 2
    takes_spectrum = True

    def __init__(
        self,
        n_classes: int,
        n_mels: int = 513,
        n_spectrum: int = 0,
        n_embedding: int = 256,
        n_channels: int = 8,
    ) -> None:
        super().__init__()
        if n_embedding % 2:
            raise ValueError(
                f"n_embedding={n_embedding} is odd; each path has half of it"
            )
        self.hear_spectrum = _SpectrumPath(n_spectrum or n_mels, n_embedding // 2)
        self.hear_changes = _ChangesPath(n_mels, n_embedding // 2, n_channels)
        self.classify = nn.Linear(n_embedding, n_classes)

    def forward(
        self, inputs: torch.Tensor | tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify segments.

        Parameters
        ----------
        inputs : pair of tensors, (batch, n_mels, n_frames) and (batch, n_spectrum)
            Segments, and the spectra of the whole clips that they are of; or segments
            alone, if `n_spectrum` is 0.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            Class scores before the softmax.

        embedding : tensor of shape (batch, n_embedding)
            The logits are a linear function of it.
        """
        frames = inputs if isinstance(inputs, torch.Tensor) else inputs[0]
        mean = frames.mean(dim=2)
        spectrum = mean if isinstance(inputs, torch.Tensor) else inputs[1]
        changes = frames - mean.unsqueeze(2)
        parts = self.hear_spectrum(spectrum), self.hear_changes(changes)
        embedding = torch.cat(parts, dim=1)
        return self.classify(embedding), embedding


class _SpectrumPath(nn.Module):
    """Spectra (batch, n_values) to embeddings."""

    def __init__(self, n_values: int, n_embedding: int) -> None:
        super().__init__()
        stride = ceil(n_values / _N_COARSE)
        self.standardize = _standardize(1)  # one scale for all frequencies
        self.convolve = nn.Sequential(
            *_convolve(1, 64, kernel=4 * stride, stride=stride),
            *_convolve(64, 64, kernel=16, stride=8),
            *_convolve(64, 128, kernel=8, stride=4),
            nn.Flatten(),
        )
        n_left = ((n_values // stride + 1) // 8 + 1) // 4 + 1
        self.embed = nn.Sequential(
            *_connect(128 * n_left, 128),
            *_connect(128, 128),
            nn.Linear(128, n_embedding),
        )

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        values = self.standardize(spectrum.unsqueeze(1))
        return self.embed(self.convolve(values))


class _ChangesPath(nn.Module):
    """Spectrograms (batch, n_bins, n_frames) to embeddings."""

    def __init__(self, n_bins: int, n_embedding: int, n_channels: int) -> None:
        super().__init__()
        self.standardize = _standardize(n_bins)
        blocks = [_Residual(n_channels, n_channels) for _ in range(2)]
        for n_in in (n_channels, 2 * n_channels, 4 * n_channels):
            blocks += [_Residual(n_in, 2 * n_in), _Residual(2 * n_in, 2 * n_in)]
        self.features = nn.Sequential(
            FittedConv2d(1, n_channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(n_channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            *blocks,
        )
        n_left = 8 * n_channels * ceil(n_bins / 32)  # halved five times
        self.embed = nn.Sequential(
            nn.BatchNorm1d(n_left), nn.Linear(n_left, n_embedding)
        )

    def forward(self, changes: torch.Tensor) -> torch.Tensor:
        maps = self.standardize(changes).unsqueeze(1)
        # Channels last is the faster order in memory.
        maps = maps.contiguous(memory_format=torch.channels_last)
        return self.embed(self.features(maps).amax(dim=3).flatten(1))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut; more channels halve frequency and time."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        stride = 1 if n_in == n_out else 2
        self.convolve = nn.Sequential(
            FittedConv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = FittedConv2d(n_in, n_out, 1, stride=stride, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.convolve(maps) + self.shortcut(maps))


def _standardize(n_bins: int) -> nn.Module:
    """Standardise each bin by its mean and variance in all batches of training.

    An average that forgets would hold on to the variance of 1 that it begins with.
    """
    return nn.BatchNorm1d(n_bins, momentum=None, affine=False)


def _convolve(n_in: int, n_out: int, kernel: int, stride: int) -> list[nn.Module]:
    """Convolution of n values to n // stride + 1, with batch norm and ReLU."""
    padding = kernel // 2
    return [
        nn.Conv1d(n_in, n_out, kernel, stride, padding, bias=False),
        nn.BatchNorm1d(n_out),
        nn.ReLU(inplace=True),
    ]


def _connect(n_in: int, n_out: int) -> list[nn.Module]:
    """Dense layer with batch norm and ReLU."""
    return [
        nn.Linear(n_in, n_out, bias=False),
        nn.BatchNorm1d(n_out),
        nn.ReLU(inplace=True),
    ]
