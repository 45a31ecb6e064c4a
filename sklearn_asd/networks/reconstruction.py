"""Networks that reconstruct a few frames, or the middle one from its neighbours."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.devices import choose_device, refuse_forked_cuda

__all__ = [
    "DenseAutoencoder",
    "DenseInterpolator",
    "always_give",
    "make_autoencoder_net",
    "reconstruction_errors",
]

# Windows of a clip scored at once: more would only need more memory.
_WINDOWS_SCORED_AT_ONCE = 1024


class DenseAutoencoder(nn.Module):
    """Dense layers that narrow to a bottleneck and widen again.

    Four layers of `n_hidden` units, one of `n_bottleneck`, four of `n_hidden`, each
    dense with batch norm and ReLU; then one dense layer of as many units as inputs.

    Parameters
    ----------
    n_mels : int, default=128
        Number of mel bands.

    n_frames : int, default=5
        Number of frames in a window; the network has n_mels * n_frames inputs.

    n_hidden : int, default=128
        Number of units of a hidden layer.

    n_bottleneck : int, default=8
        Number of units in the middle.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import DenseAutoencoder
    >>> DenseAutoencoder()(torch.zeros(2, 128, 5)).shape
    torch.Size([2, 128, 5])
    """

    def __init__(
        self,
        n_mels: int = 128,
        n_frames: int = 5,
        n_hidden: int = 128,
        n_bottleneck: int = 8,
    ) -> None:
        super().__init__()
        n_inputs = n_mels * n_frames
        self.layers = _make_layers(n_inputs, n_hidden, n_bottleneck, n_inputs)

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Reconstruct windows.

        Parameters
        ----------
        log_mel : tensor of shape (batch, n_mels, n_frames)
            Windows in dB.

        Returns
        -------
        reconstruction : tensor of shape (batch, n_mels, n_frames)
            The reconstructed windows.
        """
        # Frame after frame, which is their order in memory.
        by_frame = log_mel.transpose(1, 2)
        return self.layers(by_frame.flatten(1)).view(by_frame.shape).transpose(1, 2)


class DenseInterpolator(nn.Module):
    """Predict the middle frame of a window from the other frames.

    The layers of :class:`DenseAutoencoder`, with the other frames as inputs and the
    middle frame as output.

    Parameters
    ----------
    n_mels : int, default=128
        Number of mel bands.

    n_frames : int, default=5
        Number of frames in a window, odd and at least 3; the network has
        n_mels * (n_frames - 1) inputs and n_mels outputs.

    n_hidden : int, default=128
        Number of units of a hidden layer.

    n_bottleneck : int, default=8
        Number of units in the middle layer.

    References
    ----------
    Suefusa et al., "Anomalous Sound Detection Based on Interpolation Deep Neural
    Network", ICASSP 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn_asd.networks import DenseInterpolator
    >>> DenseInterpolator()(torch.zeros(2, 128, 5)).shape
    torch.Size([2, 128, 1])
    """

    def __init__(
        self,
        n_mels: int = 128,
        n_frames: int = 5,
        n_hidden: int = 128,
        n_bottleneck: int = 8,
    ) -> None:
        super().__init__()
        n_inputs = n_mels * (n_frames - 1)
        self.layers = _make_layers(n_inputs, n_hidden, n_bottleneck, n_mels)

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Predict middle frames.

        Parameters
        ----------
        log_mel : tensor of shape (batch, n_mels, n_frames)
            Windows in dB, whose middle frames are not used.

        Returns
        -------
        prediction : tensor of shape (batch, n_mels, 1)
            The predicted middle frames.
        """
        by_frame = log_mel.transpose(1, 2)
        middle = by_frame.shape[1] // 2
        others = torch.cat([by_frame[:, :middle], by_frame[:, middle + 1 :]], dim=1)
        return self.layers(others.flatten(1)).unsqueeze(2)


def _make_layers(
    n_inputs: int, n_hidden: int, n_bottleneck: int, n_outputs: int
) -> nn.Sequential:
    sizes = [n_inputs, *[n_hidden] * 4, n_bottleneck, *[n_hidden] * 4]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(n_hidden, n_outputs))


class _MiddleError(nn.MSELoss):
    """Mean squared error of predicted middle frames, given whole windows."""

    def forward(self, prediction: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        return super().forward(prediction, _take_middle(windows, prediction.shape[2]))


# What a network is asked for, and how it learns that, by detector.target.
_TARGETS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "window": (DenseAutoencoder, nn.MSELoss),
    "middle": (DenseInterpolator, _MiddleError),
}


def make_autoencoder_net(detector: Any, n_mels: int, device: str) -> NeuralNet:
    """Build an untrained network that learns its target by mean squared error.

    Parameters
    ----------
    detector : estimator
        With the parameters of :class:`~sklearn_asd.AutoencoderDetector`.

    n_mels : int
        Number of mel bands.

    device : str
        "auto", or one of torch's names such as "cpu", "cuda" or "cuda:1".

    Returns
    -------
    net : skorch net
        Not yet initialised.
    """
    network, criterion = _TARGETS[detector.target]
    return NeuralNet(
        network,
        module__n_mels=n_mels,
        module__n_frames=detector.n_frames,
        module__n_hidden=detector.n_hidden,
        module__n_bottleneck=detector.n_bottleneck,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=detector.lr,
        batch_size=detector.batch_size,
        max_epochs=detector.max_epochs,
        device=choose_device(device),
        verbose=detector.verbose,
        train_split=None,
    )


def always_give(net: NeuralNet, frame: np.ndarray) -> None:
    """Make a network give one frame, whatever it is shown.

    Parameters
    ----------
    net : skorch net
        Trained, from :func:`make_autoencoder_net`.

    frame : ndarray of shape (n_mels,)
        In dB.
    """
    last = net.module_.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.from_numpy(frame).repeat(len(last.bias) // len(frame)))


def reconstruction_errors(
    net: NeuralNet, spectrograms: ClipSpectrograms, n_frames: int
) -> np.ndarray:
    """Mean squared error of each clip, averaged over its windows with a hop of 1.

    Each clip has batches of its own, so that its error does not depend on the others.

    Parameters
    ----------
    net : skorch net
        Trained. Its output is compared with as many frames in the middle of the
        window, which may be all of them.

    spectrograms : ClipSpectrograms of n_clips
        Clips of one view.

    n_frames : int
        Length of the windows.

    Returns
    -------
    errors : ndarray of shape (n_clips,), float64
        In dB squared; NaN for clips shorter than a window.

    Raises
    ------
    RuntimeError
        If the net is on a GPU that the parent of this process uses.
    """
    refuse_forked_cuda(net.device)
    module = net.module_.eval()
    errors = np.full(len(spectrograms), np.nan)
    with torch.inference_mode():
        for clip in range(len(spectrograms)):
            frames = spectrograms.log_mel(clip).T.astype(np.float32)
            if len(frames) < n_frames:
                continue
            windows = torch.from_numpy(frames).unfold(0, n_frames, 1)
            parts = windows.split(_WINDOWS_SCORED_AT_ONCE)
            squares = [_squared_errors(module, part.to(net.device)) for part in parts]
            errors[clip] = torch.cat(squares).double().mean().item()
    return errors


def _squared_errors(module: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    output = module(windows)
    target = _take_middle(windows, output.shape[2])
    return (output - target).square().mean(dim=(1, 2))


def _take_middle(windows: torch.Tensor, n_frames: int) -> torch.Tensor:
    first = (windows.shape[2] - n_frames) // 2
    return windows[:, :, first : first + n_frames]
