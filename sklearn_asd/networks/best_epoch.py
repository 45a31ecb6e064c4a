"""KeepBestEpoch: held-out clips decide which epoch of a training is kept."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from scipy.special import log_softmax
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.windows import average_segments, summarize_windows

__all__ = ["KeepBestEpoch"]


class KeepBestEpoch(Callback):
    """Restore the epoch that classified held-out clips best; ties by lower loss.

    Parameters
    ----------
    spectrograms : ClipSpectrograms
        Held-out normal clips.

    y : ndarray of shape (n_clips, n_views), int
        The class of each of their views.

    Attributes
    ----------
    state : dict
        The best epoch so far, with its weights: tensors and numbers, for a checkpoint.
    """

    def __init__(self, spectrograms: ClipSpectrograms, y: np.ndarray) -> None:
        self.spectrograms = spectrograms
        self.y = y
        self.state: dict[str, Any] = {"best": [-1.0, 0.0]}  # accuracy, minus the loss

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Rate the network, and keep a copy if it is the best so far."""
        accuracy, loss = self.rate(net)
        net.history.record("valid_loss", loss)
        net.history.record("valid_accuracy", accuracy)
        if [accuracy, -loss] > self.state["best"]:
            self.state = {
                "best": [accuracy, -loss],
                "best_epoch": len(net.history),
                "module": copy.deepcopy(net.module_.state_dict()),
                "criterion": copy.deepcopy(net.criterion_.state_dict()),
            }

    def rate(self, net: NeuralNet) -> tuple[float, float]:
        """Classify the held-out clips.

        Parameters
        ----------
        net : skorch net
            In training.

        Returns
        -------
        accuracy : float in [0, 1]
            Share of the clips' views recognised, by the mean probabilities of each.

        loss : float
            Mean cross-entropy of their segments.
        """
        windows = self.spectrograms.windows()
        log_p = summarize_windows(
            net, self.spectrograms, windows, lambda z, _, rows: log_softmax(z, axis=1)
        )
        p = average_segments(np.exp(log_p), windows, *self.y.shape)
        own = log_p[np.arange(len(log_p)), self.y[windows.clip, windows.view]]
        return float(np.mean(p.argmax(axis=-1) == self.y)), -float(own.mean())

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best network and its centres."""
        net.module_.load_state_dict(self.state["module"])
        net.criterion_.load_state_dict(self.state["criterion"])
