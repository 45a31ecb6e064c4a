"""Training a network on windows of spectrograms with skorch."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from skorch import NeuralNet
from torch import nn

from sklearn_asd._utils.messages import shorten
from sklearn_asd.networks.allocator import reuse_large_blocks
from sklearn_asd.networks.architectures import (
    NETWORKS,
    find_class,
    find_min_batch,
    takes_spectrum,
)
from sklearn_asd.networks.best_epoch import KeepBestEpoch
from sklearn_asd.networks.checkpoint import Checkpoint
from sklearn_asd.networks.devices import choose_device, uses_bfloat16
from sklearn_asd.networks.draws import Draws, own_draws, seeded
from sklearn_asd.networks.losses import CenterLoss, Loss, find_loss
from sklearn_asd.networks.self_supervision import (
    N_KINDS,
    ExchangeLoss,
    ExchangeNetwork,
)
from sklearn_asd.networks.several import AveragedNetworks, SeveralLosses
from sklearn_asd.networks.windows import Inputs, WindowDataset

__all__ = [
    "AutocastNet",
    "EqualBatches",
    "build_classifier",
    "check_network",
    "fit_net",
    "make_net",
    "restore_net",
]

# The allocator's settings belong to the process, and each training uses all cores.
_ONE_TRAINING = threading.RLock()


def _forget_trainings() -> None:
    """In a child, training that the parent had begun in a thread never ends."""
    global _ONE_TRAINING
    _ONE_TRAINING = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_trainings)


class AutocastNet(NeuralNet):
    """A skorch net whose module can run in bfloat16.

    Weights, loss and optimiser stay float32.

    Parameters
    ----------
    *args : any
        Passed to skorch.

    autocast : bool, default=False
        Whether to run the module in bfloat16, in the layers that torch considers safe.

    **kwargs : any
        Passed to skorch.
    """

    def __init__(self, *args: Any, autocast: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.autocast = autocast

    def infer(self, x: torch.Tensor, **fit_params: Any) -> tuple[torch.Tensor, ...]:
        """Run the module; see :meth:`skorch.NeuralNet.infer`."""
        device = torch.device(self.device).type
        autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast)
        with own_draws(), autocast:
            outputs = super().infer(x, **fit_params)
        return tuple(output.float() for output in outputs)

    def get_loss(self, y_pred: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute the loss; see :meth:`skorch.NeuralNet.get_loss`."""
        with own_draws():  # a loss may draw too
            return super().get_loss(y_pred, *args, **kwargs)


class EqualBatches:
    """Shuffled batches whose sizes differ by one at most.

    Otherwise the last batch of an epoch could be small, which would disturb the batch
    norm's statistics and the centres.

    Parameters
    ----------
    n_windows : int
        Number of windows.

    batch_size : int
        Largest number of windows in a batch.
    """

    def __init__(self, n_windows: int, batch_size: int) -> None:
        self.n_windows = n_windows
        self.n_batches = math.ceil(n_windows / batch_size)

    @property
    def smallest(self) -> int:
        """Number of windows in the smallest batch.

        Returns
        -------
        smallest : int
            At least 1.
        """
        return self.n_windows // self.n_batches

    def __iter__(self) -> Iterator[list[int]]:
        with own_draws():
            order = torch.randperm(self.n_windows)
        for batch in order.tensor_split(self.n_batches):
            yield batch.tolist()


def make_net(
    detector: Any,
    n_classes: int,
    n_mels: int,
    n_frames: int,
    device: str,
    n_spectrum: int = 0,
) -> AutocastNet:
    """Build an untrained net by the parameters of a detector.

    Parameters
    ----------
    detector : estimator
        With the parameters of :class:`~sklearn_asd.IDConfidenceDetector`.

    n_classes, n_mels : int
        Numbers of classes and of mel bands.

    n_frames : int
        Length of the training windows.

    device : str
        See :func:`choose_device`.

    n_spectrum : int, default=0
        Number of values of whole clips' spectra, for a network that hears them.

    Returns
    -------
    net : AutocastNet
        Not yet initialised.

    Raises
    ------
    ValueError
        If the network does not fit the data; see `check_network`.
    """
    network = detector.network
    factory = NETWORKS[network] if isinstance(network, str) else network
    if not takes_spectrum(network):
        n_spectrum = 0
    n_embedding = check_network(factory, n_classes, n_mels, n_frames, n_spectrum)
    device = choose_device(device)
    loss = find_loss(detector.loss)
    return AutocastNet(
        build_classifier,
        module__network=factory,
        module__loss=loss,
        module__n_classes=n_classes,
        module__n_mels=n_mels,
        module__n_embedding=n_embedding,
        module__n_spectrum=n_spectrum,
        module__self_supervision=detector.self_supervision,
        module__n_networks=detector.n_networks,
        **_choose_criterion(detector),
        criterion__n_classes=n_classes,
        criterion__n_embedding=n_embedding,
        criterion__weight=detector.center_loss_weight,
        criterion__center_lr=detector.center_lr,
        criterion__loss=loss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=detector.weight_decay,
        lr=detector.lr,
        batch_size=detector.batch_size,
        max_epochs=detector.max_epochs,
        device=device,
        autocast=uses_bfloat16(detector.precision, device, n_frames),
        verbose=detector.verbose,
        train_split=None,
    )


def build_classifier(
    network: Callable[..., nn.Module],
    loss: Loss,
    n_classes: int,
    n_mels: int,
    n_embedding: int,
    n_spectrum: int = 0,
    self_supervision: str | None = None,
    n_networks: int = 1,
) -> nn.Module:
    """Build a network whose logits are those of the loss, or several.

    Parameters
    ----------
    network : callable
        Called as ``network(n_classes=..., n_mels=...)``, gives a module.

    loss : loss
        Decides whether the network's own last layer computes the logits.

    n_classes, n_mels, n_embedding : int
        Sizes.

    n_spectrum : int, default=0
        Passed to the network, unless it is 0.

    self_supervision : {"statex", "featex"} or None, default=None
        What is exchanged between windows in training.

    n_networks : int, default=1
        Number of networks.

    Returns
    -------
    module : module
        Maps log-mels to (logits, embedding).
    """
    n_learnt = n_classes * (1 if self_supervision is None else N_KINDS)

    def build_one() -> nn.Module:
        """Make one network with its head.

        Returns
        -------
        module : module
            As that of the whole.
        """
        module = network(**_name_sizes(n_learnt, n_mels, n_spectrum))
        head = loss.make_head(n_learnt, n_embedding)
        if self_supervision is not None:
            head = nn.Linear(n_embedding, n_learnt) if head is None else head
            return ExchangeNetwork(module, head, n_classes, self_supervision)
        return module if head is None else NetworkWithHead(module, head)

    if n_networks == 1:
        return build_one()
    return AveragedNetworks(build_one() for _ in range(n_networks))


def _choose_criterion(detector: Any) -> dict[str, Any]:
    criterion = CenterLoss if detector.self_supervision is None else ExchangeLoss
    if detector.n_networks == 1:
        return {"criterion": criterion}
    return {
        "criterion": SeveralLosses,
        "criterion__make_loss": criterion,
        "criterion__n_networks": detector.n_networks,
    }


class NetworkWithHead(nn.Module):
    """A network whose last layer is replaced by another.

    Parameters
    ----------
    network : module
        Maps log-mels to (logits, embedding). Its logits are not used.

    head : module
        Maps embeddings to logits.
    """

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify segments.

        Parameters
        ----------
        inputs : tensor of shape (batch, n_mels, n_frames), or pair
            Log-mels in dB; whatever the network takes.

        Returns
        -------
        logits : tensor of shape (batch, n_classes)
            The head's.

        embedding : tensor of shape (batch, n_embedding)
            The network's.
        """
        _, embedding = self.network(inputs)
        return self.head(embedding), embedding


def fit_net(
    net: NeuralNet,
    dataset: WindowDataset,
    seed: int,
    validation: KeepBestEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Train a net, and remove what only training needs.

    Parameters
    ----------
    net : skorch net
        From :func:`make_net`, or another that takes batches of the dataset.

    dataset : WindowDataset
        Training windows.

    seed : int
        Decides the weights, the batches and the dropout, whatever other threads draw.
        torch's own generators are not used.

    validation : KeepBestEpoch or None, default=None
        Chooses the epoch that is kept; None keeps the last.

    checkpoint : Checkpoint or None, default=None
        Saves every epoch. Epochs that it has saved of the same training are not
        trained again; the result is the same. It is removed at the end.

    Returns
    -------
    history : DataFrame
        A row for each epoch: `epoch`, `train_loss`, with validation `valid_loss` and
        `valid_accuracy`, then `seconds` and whether it was `kept`.

    centers : ndarray of shape (n_classes, n_embedding) or None
        The centres of the centre loss, if its weight is not 0.

    Raises
    ------
    ValueError
        If the loss became NaN or infinite, or a batch is smaller than the network's
        `min_batch`.
    """
    net.callbacks = [one for one in (validation, checkpoint) if one is not None]
    batches = EqualBatches(len(dataset), net.batch_size)
    _check_batches(net, batches)
    net.set_params(
        iterator_train__sampler=batches,
        iterator_train__batch_size=None,  # the sampler's indices are whole batches
    )
    dataset.move_to(net.device)
    with _ONE_TRAINING, seeded(seed) as draws, reuse_large_blocks():
        # Otherwise the loader would draw a number from torch's generator.
        net.set_params(iterator_train__generator=draws.generator("cpu"))
        with draws:
            net.initialize()
        # net.fit would swallow Ctrl-C and leave a half-trained net looking fitted.
        net.notify("on_train_begin", X=dataset, y=None)
        net.fit_loop(dataset, epochs=net.max_epochs - len(net.history))
        net.notify("on_train_end", X=dataset, y=None)
    history = _tabulate(net, validation)
    if not np.isfinite(history["train_loss"]).all():
        autocast = getattr(net, "autocast", False)
        raise ValueError(
            f"the training loss is {history['train_loss'].iloc[-1]} after epoch "
            f"{len(history)}: lower lr"
            + (" or center_lr" if hasattr(net.criterion_, "center_lr") else "")
            + (', or set precision="float32"' if autocast else "")
        )
    centers = getattr(net.criterion_, "centers", None)
    net.iterator_train__generator = None  # no part of the model
    net.trim_for_prediction()
    return history, None if centers is None else centers.cpu().numpy()


def restore_net(net: NeuralNet, state: dict[str, np.ndarray], device: str) -> NeuralNet:
    """Load weights into an untrained net, which is then as `fit_net` leaves it.

    Parameters
    ----------
    net : skorch net
        From :func:`make_net` or `make_autoencoder_net`, with ``device="meta"``, so that
        no memory is allocated before the weights have been checked.

    state : dict of str to ndarray
        The module's weights.

    device : str
        Where to compute.

    Returns
    -------
    net : skorch net
        The same.

    Raises
    ------
    ValueError
        If the weights are not those of the module.
    """
    with Draws(0), torch.device("meta"):
        net.initialize()
    expected = {k: (v.dtype, v.shape) for k, v in net.module_.state_dict().items()}
    # A copy with torch's alignment.
    weights = {name: torch.from_numpy(array).clone() for name, array in state.items()}
    given = {name: (value.dtype, value.shape) for name, value in weights.items()}
    for name in expected | given:
        if expected.get(name) != given.get(name):
            raise ValueError(
                f"the weights {shorten(name)} of {type(net.module_).__name__} are "
                f"{given.get(name)}, and must be {expected.get(name)}"
            )
    net.module_.load_state_dict(weights, assign=True)
    net.device = device
    net.module_.to(device)
    net.trim_for_prediction()
    return net


def check_network(
    factory: Callable[..., nn.Module],
    n_classes: int,
    n_mels: int,
    n_frames: int,
    n_spectrum: int = 0,
) -> int:
    """Run a network on silence, and measure its embedding.

    Parameters
    ----------
    factory : callable
        Called as ``factory(n_classes=..., n_mels=...)``.

    n_classes, n_mels : int
        Numbers of classes and of mel bands.

    n_frames : int
        Length of the shortest window that it must take.

    n_spectrum : int, default=0
        Number of values of the spectra that it must take too; 0 for none.

    Returns
    -------
    n_embedding : int
        Size of its embedding.

    Raises
    ------
    ValueError
        If it cannot be built, the windows are too short for it, or it does not return
        ``(logits, embedding)`` of the right shapes.
    """
    with Draws(0), torch.inference_mode():
        sizes = _name_sizes(n_classes, n_mels, n_spectrum)
        module = _build(factory, sizes).eval()
        name = type(module).__name__
        min_frames = getattr(module, "min_frames", 1)
        if n_frames < min_frames:
            raise ValueError(
                f"{name} needs segments of at least {min_frames} frames, got "
                f"{n_frames}: use longer segments or clips, or LogMelSegmenter where "
                "the clips are power spectra, of 1 frame each"
            )
        frames = torch.zeros(2, n_mels, n_frames)
        silence: Inputs = frames
        if n_spectrum:
            silence = frames, torch.zeros(2, n_spectrum)
        outputs = module(silence)
    if not isinstance(outputs, tuple):
        outputs = (outputs,)
    shapes = [tuple(output.shape) for output in outputs]
    if len(shapes) != 2 or shapes[0] != (2, n_classes) or len(shapes[1]) != 2:
        raise ValueError(
            f"{name} must return a tuple (logits, embedding) of shapes (batch, "
            f"{n_classes}) and (batch, n_embedding); for a batch of 2 it returned "
            f"{shapes}"
        )
    return shapes[1][1]


def _check_batches(net: NeuralNet, batches: EqualBatches) -> None:
    network = getattr(net, "module__network", net.module)
    least, smallest = find_min_batch(network), batches.smallest
    if getattr(net, "module__self_supervision", None) is not None:
        least = max(2, least)  # to exchange something
    if smallest < least:
        raise ValueError(
            f"batch_size={net.batch_size} cuts {batches.n_windows} training segments "
            f"into batches of {smallest}, and {find_class(network).__name__} needs "
            f"{least}: raise batch_size, or add normal clips"
        )


def _name_sizes(n_classes: int, n_mels: int, n_spectrum: int) -> dict[str, int]:
    """Name the sizes that a network is called with."""
    sizes = {"n_classes": n_classes, "n_mels": n_mels}
    return sizes | ({"n_spectrum": n_spectrum} if n_spectrum else {})


def _build(factory: Callable[..., nn.Module], sizes: dict[str, int]) -> nn.Module:
    if isinstance(factory, nn.Module):
        raise ValueError(
            f"network is a module, {type(factory).__name__}(...); give its class, or "
            "functools.partial(class, ...), which is called for each fit"
        )
    try:
        return factory(**sizes)
    except TypeError as error:
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(
            f"network={shorten(factory)} cannot be called with {given}: {error}"
        ) from error


def _tabulate(net: NeuralNet, validation: KeepBestEpoch | None) -> pd.DataFrame:
    columns = ["epoch", "train_loss", "valid_loss", "valid_accuracy", "dur"]
    history = pd.DataFrame(list(net.history)).filter(columns)  # those that it has
    history = history.rename(columns={"dur": "seconds"})
    kept = len(history) if validation is None else validation.state["best_epoch"]
    return history.assign(kept=history["epoch"] == kept)
