"""Windows of spectrograms as input of a network, and its outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch.utils.data import Dataset

from sklearn_asd._utils.messages import shorten
from sklearn_asd.features import ClipSpectrograms, Windows
from sklearn_asd.features.pooling import Poolings, is_mean, name_poolings, pool_with
from sklearn_asd.features.spectrograms import find_used_frames
from sklearn_asd.networks.devices import refuse_forked_cuda
from sklearn_asd.networks.draws import own_draws

__all__ = [
    "Inputs",
    "WindowDataset",
    "average_segments",
    "gather",
    "gather_spectra",
    "pool_outputs",
    "pool_segments",
    "predict_windows",
    "summarize_windows",
]

# What a network is given: windows of frames, and the spectra of their whole clips if it
# hears them and there are some.
Inputs = torch.Tensor | tuple[torch.Tensor, torch.Tensor]

# Windows whose logits and embeddings are in memory at once.
_WINDOWS_SUMMARIZED_AT_ONCE = 4096

# Share of a GPU's free memory that the training frames may take.
_SHARE_FOR_FRAMES = 0.5

# Frames scored at once, on a CPU, whose cache holds no more, and on a GPU.
_FRAMES_SCORED_AT_ONCE = (16 * 96, 2048 * 96)


class WindowDataset(Dataset):
    """Windows of spectrograms with their targets, gathered a batch at a time.

    Parameters
    ----------
    spectrograms : ClipSpectrograms
        Contains the windows.

    windows : Windows
        The windows. Windows longer than `n_frames` are cut to that length, each time
        at a place drawn from torch's generator.

    y : ndarray of shape (n_windows,), int, or None, default=None
        Class of each window; None makes each window its own target.

    n_frames : int or None, default=None
        Length of the network's input; None is that of the shortest window.

    mixup : float >= 0, default=0.0
        Above 0, the windows of a batch are mixed with each other, with shares drawn
        from Beta(mixup, mixup); see :class:`~sklearn_asd.IDConfidenceDetector`.

    with_spectra : bool, default=False
        Whether a batch is a pair: the windows, and the spectra of their whole clips.

    Warns
    -----
    UserWarning
        If the shortest is less than half as long as the median.
    """

    def __init__(
        self,
        spectrograms: ClipSpectrograms,
        windows: Windows,
        y: np.ndarray | None = None,
        n_frames: int | None = None,
        mixup: float = 0.0,
        with_spectra: bool = False,
    ) -> None:
        self.frames: np.ndarray | torch.Tensor = spectrograms.frames
        self.spectra = spectrograms.spectra if with_spectra else None
        self.view = windows.clip, windows.view
        self.start = windows.start
        self.n_frames = _shortest(windows) if n_frames is None else n_frames
        self.spare = windows.n_frames - self.n_frames
        self.y = None if y is None else torch.as_tensor(y)
        self.mixup = mixup
        self.device = torch.device("cpu")

    def move_to(self, device: str) -> None:
        """Give batches on a device, and keep the frames there if they fit.

        Parameters
        ----------
        device : str
            One of torch's names. On the CPU the frames stay where they are, which may
            be a file. On a GPU the frames inside windows are copied once if they need
            no more than half of the free memory, otherwise batch by batch.
        """
        self.device = torch.device(device)
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            self.hold_frames(_SHARE_FOR_FRAMES * free)

    def hold_frames(self, n_bytes: float) -> None:
        """Copy the frames inside windows to the device, if they fit.

        Parameters
        ----------
        n_bytes : float
            Memory that they may need.
        """
        frames = np.asarray(self.frames)
        stop = self.start + self.n_frames + self.spare
        used = find_used_frames(len(frames), self.start, stop)
        if used.sum() * frames[:1].nbytes <= n_bytes:
            self.frames = torch.from_numpy(frames[used]).to(self.device)
            self.start = np.cumsum(used)[self.start] - 1

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, indices: list[int]) -> tuple[Inputs, Any]:
        """Gather a whole batch, so that the loader has nothing to collate."""
        with own_draws():
            return self._gather(indices)

    def _gather(self, indices: list[int]) -> tuple[Inputs, Any]:
        start, spare = self.start[indices], self.spare[indices]
        if spare.any():
            start = start + (torch.rand(len(start)).numpy() * (spare + 1)).astype(int)
        log_mel = move(gather(self.frames, start, self.n_frames), self.device)
        if self.y is None:
            return log_mel, log_mel
        inputs: Inputs = log_mel
        if self.spectra is not None:
            clip, view = (numbers[indices] for numbers in self.view)
            spectra = gather_spectra(self.spectra, clip, view)
            inputs = log_mel, move(spectra, self.device)
        y = self.y[indices].to(self.device)
        return (inputs, y) if self.mixup == 0 else _mix(inputs, y, self.mixup)


def _shortest(windows: Windows) -> int:
    shortest, median = int(windows.n_frames.min()), int(np.median(windows.n_frames))
    if shortest < median / 2:
        warnings.warn(
            f"the shortest training clip, or view of one, has {shortest} frames and "
            f"the median {median}; whole-clip training uses {shortest} of each: "
            "leave out short clips or fast views, or train on segments",
            stacklevel=3,
        )
    return shortest


def _mix(inputs: Inputs, y: torch.Tensor, alpha: float) -> tuple[Inputs, Any]:
    """Mix each window with another one of the batch, all with the same share."""
    share = torch.distributions.Beta(alpha, alpha).sample()
    partner = torch.randperm(len(y)).to(y.device)

    def mix(one: torch.Tensor) -> torch.Tensor:
        return torch.lerp(one[partner], one, share.to(one.device))

    if isinstance(inputs, torch.Tensor):
        return mix(inputs), (y, y[partner], share)
    return (mix(inputs[0]), mix(inputs[1])), (y, y[partner], share)


def gather(
    frames: np.ndarray | torch.Tensor, start: np.ndarray, n_frames: int
) -> torch.Tensor:
    """Copy windows of one length out of the frames.

    Parameters
    ----------
    frames : ndarray or tensor of shape (total_frames, n_mels)
        Frames in dB.

    start : ndarray of shape (n_windows,)
        First row of each window.

    n_frames : int
        Length of the windows.

    Returns
    -------
    log_mel : tensor of shape (n_windows, n_mels, n_frames), float32
        The windows, on the device of the frames.
    """
    rows = start[:, None] + np.arange(n_frames)
    if isinstance(frames, torch.Tensor):
        windows = frames[torch.from_numpy(rows).to(frames.device)].float()
    else:
        windows = torch.from_numpy(frames[rows].astype(np.float32, copy=False))
    return windows.transpose(1, 2)


def gather_spectra(
    spectra: np.ndarray, clip: np.ndarray, view: np.ndarray
) -> torch.Tensor:
    """Copy the spectra of the whole clips that windows are of.

    Parameters
    ----------
    spectra : ndarray of shape (n_clips, n_views, n_spectrum)
        The spectra.

    clip, view : ndarray of shape (n_windows,), int
        The clip and the view of each window.

    Returns
    -------
    spectra : tensor of shape (n_windows, n_spectrum), float32
        One for each window.
    """
    return torch.from_numpy(spectra[clip, view].astype(np.float32, copy=False))


def move(batch: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a batch to a device, without waiting for a GPU.

    Parameters
    ----------
    batch : tensor
        On any device.

    device : torch.device
        The device to move it to.

    Returns
    -------
    batch : tensor
        On that device.
    """
    if batch.device.type == "cpu" and device.type == "cuda":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


def predict_windows(
    net: NeuralNet, spectrograms: ClipSpectrograms, windows: Windows
) -> tuple[np.ndarray, np.ndarray]:
    """Run a trained net on windows, in float32.

    Windows of the same length share a batch and are never padded, so that no window's
    result depends on the others.

    Parameters
    ----------
    net : skorch net
        Initialised.

    spectrograms : ClipSpectrograms
        Contains the windows.

    windows : Windows
        The windows.

    Returns
    -------
    logits : ndarray of shape (n_windows, n_classes), float64
        Class scores before the softmax.

    embedding : ndarray of shape (n_windows, n_embedding), float32
        The embedding.

    Raises
    ------
    RuntimeError
        If the net is on a GPU that the parent of this process uses.
    """
    if len(windows.clip) == 0:
        logits = np.empty((0, net.module__n_classes))
        n_columns = net.criterion__n_embedding * getattr(net, "module__n_networks", 1)
        return logits, np.empty((0, n_columns), dtype=np.float32)
    refuse_forked_cuda(net.device)
    module = net.module_.eval()
    device = torch.device(net.device)
    spectra = spectrograms.spectra if getattr(net, "module__n_spectrum", 0) else None
    n_frames_at_once = _FRAMES_SCORED_AT_ONCE[device.type == "cuda"]
    order, outputs = [], []
    # Without TF32, which CUDA would otherwise use.
    full_precision = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), full_precision:
        for n_frames in np.unique(windows.n_frames):
            same = np.flatnonzero(windows.n_frames == n_frames)
            batch_size = max(1, n_frames_at_once // n_frames)
            for first in range(0, len(same), batch_size):
                rows = same[first : first + batch_size]
                batch = gather(spectrograms.frames, windows.start[rows], n_frames)
                batch = move(batch, device)
                inputs: Inputs = batch
                if spectra is not None:
                    clip, view = windows.clip[rows], windows.view[rows]
                    own = gather_spectra(spectra, clip, view)
                    inputs = batch, move(own, device)
                outputs.append([o.cpu() for o in module(inputs)])
                order.append(rows)
    inverse = np.argsort(np.concatenate(order))
    logits, embedding = (
        torch.cat(parts).numpy()[inverse] for parts in zip(*outputs, strict=True)
    )
    return logits.astype(np.float64), embedding


def summarize_windows(
    net: NeuralNet,
    spectrograms: ClipSpectrograms,
    windows: Windows,
    summarize: Callable[[np.ndarray, np.ndarray, Windows], np.ndarray],
) -> np.ndarray:
    """Run a trained net on any number of windows, and keep a summary of its outputs.

    Parameters
    ----------
    net, spectrograms, windows : skorch net, ClipSpectrograms, Windows
        See :func:`predict_windows`.

    summarize : callable
        Called as ``summarize(logits, embedding, windows)`` with some thousand windows
        at a time, returns an array with a row for each.

    Returns
    -------
    summary : ndarray of shape (n_windows, ...)
        The results of all calls.
    """
    parts = []
    for first in range(0, max(1, len(windows.clip)), _WINDOWS_SUMMARIZED_AT_ONCE):
        last = first + _WINDOWS_SUMMARIZED_AT_ONCE
        some = Windows(*(values[first:last] for values in windows))
        parts.append(summarize(*predict_windows(net, spectrograms, some), some))
    return np.concatenate(parts)


def pool_outputs(
    net: NeuralNet,
    spectrograms: ClipSpectrograms,
    summarize: Callable[..., np.ndarray],
    pooling: Poolings = "mean",
) -> np.ndarray:
    """Pool a summary of a trained net's outputs over each view's segments.

    Parameters
    ----------
    net, spectrograms, summarize : skorch net, ClipSpectrograms, callable
        See :func:`summarize_windows`.

    pooling : str, callable or sequence of these, default="mean"
        See :func:`pool_segments`.

    Returns
    -------
    pooled : ndarray of shape (n_clips, n_views, ...), float64
        NaN for clips that could not be used.
    """
    windows = spectrograms.windows()
    values = summarize_windows(net, spectrograms, windows, summarize)
    n_views = len(spectrograms.view_names)
    return pool_segments(values, windows, len(spectrograms), n_views, pooling)


def pool_segments(
    values: np.ndarray,
    windows: Windows,
    n_clips: int,
    n_views: int,
    pooling: Poolings = "mean",
) -> np.ndarray:
    """Pool the values of each view's segments.

    Parameters
    ----------
    values : ndarray of shape (n_windows,) or (n_windows, n_columns)
        A score, or a row of numbers, for each segment.

    windows : Windows of n_windows
        The clip and the view of each segment.

    n_clips, n_views : int
        Numbers of clips and of views.

    pooling : str, callable or sequence of these, default="mean"
        See :func:`~sklearn_asd.features.pool`.

    Returns
    -------
    pooled : ndarray of shape (n_clips, n_views) or (n_clips, n_views, n_pooled)
        NaN for clips without segments.

    Raises
    ------
    ValueError
        If scores are pooled to anything but one number, or results are not as many
        finite numbers for each clip.
    """
    if is_mean(pooling):
        return average_segments(values, windows, n_clips, n_views)
    columns = values.reshape(len(values), *values.shape[1:] or (1,)).astype(np.float64)
    named = name_poolings(pooling)
    example = columns[:1] if len(columns) else np.zeros((1, columns.shape[1]))
    counts = {name: len(pool_with(example, one, name)) for name, one in named.items()}
    n_pooled = sum(counts.values())
    if values.ndim == 1 and n_pooled != 1:
        raise ValueError(
            f"pooling={shorten(pooling)} gives {n_pooled} numbers for the scores of a "
            "clip's "
            "segments; it must give one"
        )
    pooled = np.full((n_clips * n_views, n_pooled), np.nan)
    place = windows.clip * n_views + windows.view
    order = np.argsort(place, kind="stable")  # in time within each view
    places, first = np.unique(place[order], return_index=True)
    for row, segments in zip(places, np.split(order, first[1:]), strict=False):
        parts = [
            pool_with(columns[segments], p, n, counts[n]) for n, p in named.items()
        ]
        pooled[row] = np.concatenate(parts)
    return pooled.reshape(n_clips, n_views, *(n_pooled,) * (values.ndim - 1))


def average_segments(
    values: np.ndarray, windows: Windows, n_clips: int, n_views: int
) -> np.ndarray:
    """Average the values of each view's segments.

    Parameters
    ----------
    values : ndarray of shape (n_windows, ...)
        A value for each segment.

    windows : Windows of n_windows
        The clip and the view of each segment.

    n_clips, n_views : int
        Numbers of clips and of views.

    Returns
    -------
    means : ndarray of shape (n_clips, n_views, ...), float64
        NaN for clips without segments.
    """
    rest = values.shape[1:]
    sums = np.zeros((n_clips, n_views, *rest))
    np.add.at(sums, (windows.clip, windows.view), values)
    counts = np.zeros((n_clips, n_views))
    np.add.at(counts, (windows.clip, windows.view), 1)
    counts[counts == 0] = np.nan
    return sums / counts.reshape(n_clips, n_views, *[1] * len(rest))
