"""Training a network on windows of spectrograms with skorch, and running it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

from sklearn_asd.features import ClipSpectrograms, Windows
from sklearn_asd.networks.architectures import InoueT18, PVMilk20
from sklearn_asd.networks.losses import CenterLoss
from sklearn_asd.networks.memory import reuse_large_blocks

__all__ = [
    "NETWORKS",
    "AutocastNet",
    "KeepBestEpoch",
    "WindowDataset",
    "average_over_clips",
    "choose_device",
    "fit_net",
    "make_net",
    "predict_windows",
]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "pvmilk20": PVMilk20,
    "inouet18": InoueT18,
}

# Frames scored at once: more do not fit the processor's cache.
_FRAMES_SCORED_AT_ONCE = 64 * 96


class WindowDataset(Dataset):
    """Windows of spectrograms with their classes, gathered a batch at a time.

    Parameters
    ----------
    spectrograms : ClipSpectrograms
        Where the windows lie.

    windows : Windows
        The windows. Longer ones than the shortest are cut to its length, at a place
        drawn anew each time from torch's generator.

    y : ndarray of shape (n_windows,), int
        Class of each window.
    """

    def __init__(
        self, spectrograms: ClipSpectrograms, windows: Windows, y: np.ndarray
    ) -> None:
        self.frames = spectrograms.frames
        self.start = windows.start
        self.n_frames = int(windows.n_frames.min())
        self.spare = windows.n_frames - self.n_frames
        self.y = torch.as_tensor(y)

    def __len__(self) -> int:
        return len(self.start)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather a batch in one go; the loader then has nothing to collate."""
        start, spare = self.start[indices], self.spare[indices]
        if spare.any():
            start = start + (torch.rand(len(start)).numpy() * (spare + 1)).astype(int)
        return gather(self.frames, start, self.n_frames), self.y[indices]


def gather(frames: np.ndarray, start: np.ndarray, n_frames: int) -> torch.Tensor:
    """Copy windows of one length out of the frames.

    Parameters
    ----------
    frames : ndarray of shape (total_frames, n_mels)
        Frames in dB.

    start : ndarray of shape (n_windows,)
        First row of each window.

    n_frames : int
        Length of the windows.

    Returns
    -------
    log_mel : tensor of shape (n_windows, n_mels, n_frames), float32
        The windows, as networks take them.
    """
    windows = frames[start[:, None] + np.arange(n_frames)]
    return torch.from_numpy(windows.astype(np.float32, copy=False)).transpose(1, 2)


class AutocastNet(NeuralNet):
    """A skorch net whose module can run in bfloat16.

    Weights, loss and optimiser stay float32.

    Parameters
    ----------
    *args, **kwargs : any
        Passed to skorch.

    autocast : bool, default=False
        Whether to run the module in bfloat16 where torch deems it safe.
    """

    def __init__(self, *args: Any, autocast: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.autocast = autocast

    def infer(self, x: torch.Tensor, **fit_params: Any) -> tuple[torch.Tensor, ...]:
        """Run the module; see :meth:`skorch.NeuralNet.infer`."""
        device = torch.device(self.device).type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast):
            outputs = super().infer(x, **fit_params)
        return tuple(output.float() for output in outputs)


class KeepBestEpoch(Callback):
    """Restore the epoch that classified held-out clips best; ties by lower loss.

    Parameters
    ----------
    spectrograms : ClipSpectrograms
        Held-out normal clips.

    y : ndarray of shape (n_clips,), int
        Their classes.
    """

    def __init__(self, spectrograms: ClipSpectrograms, y: np.ndarray) -> None:
        self.spectrograms = spectrograms
        self.y = y

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget earlier trainings."""
        self.best_ = (-1.0, 0.0)
        self.best_epoch_ = 0

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Classify the held-out clips, and remember the network if it is the best."""
        windows = self.spectrograms.windows()
        logits, _ = predict_windows(net, self.spectrograms, windows)
        own = special.log_softmax(logits, axis=1)[
            np.arange(len(logits)), self.y[windows.clip]
        ]
        probabilities = average_over_clips(
            special.softmax(logits, axis=1), windows.clip, len(self.y)
        )
        accuracy = float(np.mean(probabilities.argmax(axis=1) == self.y))
        net.history.record("valid_loss", -float(own.mean()))
        net.history.record("valid_accuracy", accuracy)
        if (accuracy, own.mean()) > self.best_:
            self.best_ = (accuracy, own.mean())
            self.best_epoch_ = len(net.history)
            self.state_ = copy.deepcopy(
                (net.module_.state_dict(), net.criterion_.state_dict())
            )

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best network and its centres."""
        module_state, criterion_state = self.state_
        net.module_.load_state_dict(module_state)
        net.criterion_.load_state_dict(criterion_state)


def make_net(
    network: str | Callable[..., nn.Module],
    *,
    n_classes: int,
    n_mels: int,
    n_frames: int,
    n_windows: int,
    center_loss_weight: float,
    center_lr: float,
    lr: float,
    batch_size: int,
    max_epochs: int,
    device: str,
    precision: str,
    verbose: int,
) -> AutocastNet:
    """Build an untrained net from named parameters.

    Parameters
    ----------
    network : str or callable
        A name in `NETWORKS`, or what is called as
        ``network(n_classes=..., n_mels=...)`` and gives a module.

    n_classes, n_mels : int
        Numbers of classes and of mel bands.

    n_frames : int
        Length of the training windows.

    n_windows : int
        Number of training windows.

    center_loss_weight, center_lr : float
        See :class:`CenterLoss`.

    lr : float
        Learning rate of Adam.

    batch_size : int
        Largest number of windows in a batch. An epoch is cut into equal batches, so
        that none is too small for the batch norm's statistics.

    max_epochs : int
        Number of epochs.

    device, precision : str
        See :func:`choose_device` and :func:`uses_bfloat16`.

    verbose : int
        Above 0, a line is printed after each epoch.

    Returns
    -------
    net : AutocastNet
        Not yet initialised.

    Raises
    ------
    ValueError
        If the network does not fit the data; see `check_network`.
    """
    factory = NETWORKS.get(network, network) if isinstance(network, str) else network
    n_embedding = check_network(factory, n_classes, n_mels, n_frames)
    device = choose_device(device)
    return AutocastNet(
        factory,
        module__n_classes=n_classes,
        module__n_mels=n_mels,
        criterion=CenterLoss,
        criterion__n_classes=n_classes,
        criterion__n_embedding=n_embedding,
        criterion__weight=center_loss_weight,
        criterion__center_lr=center_lr,
        optimizer=torch.optim.Adam,
        lr=lr,
        batch_size=math.ceil(n_windows / math.ceil(n_windows / batch_size)),
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        iterator_train__collate_fn=_pass_through,
        train_split=None,
        device=device,
        autocast=uses_bfloat16(precision, device),
        verbose=verbose,
    )


def fit_net(
    net: AutocastNet,
    dataset: WindowDataset,
    seed: int,
    validation: KeepBestEpoch | None = None,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Train a net, and strip it of what only training needs.

    Parameters
    ----------
    net : AutocastNet
        From :func:`make_net`.

    dataset : WindowDataset
        Training windows.

    seed : int
        Decides the weights, the batches and the dropout. The global generators are
        left as they were.

    validation : KeepBestEpoch or None, default=None
        Chooses the epoch that is kept; None keeps the last.

    Returns
    -------
    history : DataFrame
        A row for each epoch: `epoch`, `train_loss`, with validation `valid_loss` and
        `valid_accuracy`, then `seconds` and whether it was `kept`.

    centers : ndarray of shape (n_classes, n_embedding) or None
        The centres of the centre loss, if its weight is not 0.
    """
    if validation is not None:
        net.callbacks = [("keep_best_epoch", validation)]
    with _seeded(seed), reuse_large_blocks():
        net.initialize()
        # net.fit would swallow Ctrl-C and leave a half-trained net looking fitted.
        net.notify("on_train_begin", X=dataset, y=None)
        net.fit_loop(dataset)
        net.notify("on_train_end", X=dataset, y=None)
    history = _tabulate(net, validation)
    centers = getattr(net.criterion_, "centers", None)
    net.trim_for_prediction()
    return history, None if centers is None else centers.cpu().numpy()


def predict_windows(
    net: NeuralNet, spectrograms: ClipSpectrograms, windows: Windows
) -> tuple[np.ndarray, np.ndarray]:
    """Run a trained net on windows, in float32.

    Windows of one length share a batch and are never padded, so that no window's
    result depends on the others.

    Parameters
    ----------
    net : skorch net
        Initialised.

    spectrograms : ClipSpectrograms
        Where the windows lie.

    windows : Windows
        The windows; at least one.

    Returns
    -------
    logits : ndarray of shape (n_windows, n_classes), float64
        Class scores before the softmax.

    embedding : ndarray of shape (n_windows, n_embedding), float32
        The embedding.
    """
    module = net.module_.eval()
    order, outputs = [], []
    with torch.inference_mode():
        for n_frames in np.unique(windows.n_frames):
            same = np.flatnonzero(windows.n_frames == n_frames)
            batch_size = max(1, _FRAMES_SCORED_AT_ONCE // n_frames)
            for first in range(0, len(same), batch_size):
                rows = same[first : first + batch_size]
                batch = gather(spectrograms.frames, windows.start[rows], n_frames)
                outputs.append([o.cpu() for o in module(batch.to(net.device))])
                order.append(rows)
    inverse = np.argsort(np.concatenate(order))
    logits, embedding = (
        torch.cat(parts).numpy()[inverse] for parts in zip(*outputs, strict=True)
    )
    return logits.astype(np.float64), embedding


def average_over_clips(
    values: np.ndarray, clip: np.ndarray, n_clips: int
) -> np.ndarray:
    """Average the values of each clip's windows.

    Parameters
    ----------
    values : ndarray of shape (n_windows, ...)
        A value for each window.

    clip : ndarray of shape (n_windows,), int
        The clip of each window.

    n_clips : int
        Number of clips.

    Returns
    -------
    means : ndarray of shape (n_clips, ...), float64
        NaN for clips without windows.
    """
    sums = np.zeros((n_clips, *values.shape[1:]))
    np.add.at(sums, clip, values)
    counts = np.bincount(clip, minlength=n_clips).astype(float)
    counts[counts == 0] = np.nan
    return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def check_network(
    factory: Any, n_classes: int, n_mels: int, n_frames: int
) -> int:
    """Try a network on silence, and measure its embedding.

    Parameters
    ----------
    factory : callable
        Called as ``factory(n_classes=..., n_mels=...)``.

    n_classes, n_mels : int
        Numbers of classes and of mel bands.

    n_frames : int
        Length of the shortest window it will be given.

    Returns
    -------
    n_embedding : int
        Size of its embedding.

    Raises
    ------
    ValueError
        If the windows are too short for it, or it does not return
        ``(logits, embedding)`` of the right shapes.
    """
    with _seeded(0), torch.inference_mode():
        module = factory(n_classes=n_classes, n_mels=n_mels).eval()
        name = type(module).__name__
        min_frames = getattr(module, "min_frames", 1)
        if n_frames < min_frames:
            raise ValueError(
                f"{name} needs segments of at least {min_frames} frames, got "
                f"{n_frames}: use longer segments or clips"
            )
        outputs = module(torch.zeros(2, n_mels, n_frames))
    shapes = (
        [tuple(output.shape) for output in outputs]
        if isinstance(outputs, tuple)
        else type(outputs).__name__
    )
    if len(shapes) != 2 or shapes[0] != (2, n_classes) or len(shapes[1]) != 2:
        raise ValueError(
            f"{name} must return a tuple (logits, embedding) of shapes (batch, "
            f"{n_classes}) and (batch, n_embedding); for a batch of 2 it returned "
            f"{shapes}"
        )
    return shapes[1][1]


def choose_device(device: str) -> str:
    """Choose where to compute.

    Parameters
    ----------
    device : str
        "auto", or one of torch's names such as "cpu", "cuda" or "cuda:1".

    Returns
    -------
    device : str
        For "auto", "cuda" where there is one, otherwise "cpu".
    """
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def uses_bfloat16(precision: str, device: str) -> bool:
    """Tell whether to train in bfloat16.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 where the processor computes in it.

    device : str
        From :func:`choose_device`.

    Returns
    -------
    bfloat16 : bool
        Whether to.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _tabulate(net: NeuralNet, validation: KeepBestEpoch | None) -> pd.DataFrame:
    columns = ["epoch", "train_loss", "valid_loss", "valid_accuracy", "dur"]
    if validation is None:
        columns = [column for column in columns if not column.startswith("valid")]
    history = pd.DataFrame(
        [[epoch[column] for column in columns] for epoch in net.history],
        columns=columns,
    ).rename(columns={"dur": "seconds"})
    kept = len(history) if validation is None else validation.best_epoch_
    return history.assign(kept=history["epoch"] == kept)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch while the context lasts."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _pass_through(batch: Any) -> Any:
    return batch
