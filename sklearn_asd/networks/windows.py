"""Windows of spectrograms on their way into a network, and what comes out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch.utils.data import Dataset

from sklearn_asd.features import ClipSpectrograms, Windows

__all__ = ["WindowDataset", "average_segments", "gather", "predict_windows"]

# Frames scored at once: more do not fit the processor's cache.
_FRAMES_SCORED_AT_ONCE = 64 * 96


class WindowDataset(Dataset):
    """Windows of spectrograms with their targets, gathered a batch at a time.

    Parameters
    ----------
    spectrograms : ClipSpectrograms
        Where the windows lie.

    windows : Windows
        The windows. Longer ones than `n_frames` are cut to that length, at a place
        drawn anew each time from torch's generator.

    y : ndarray of shape (n_windows,), int, or None, default=None
        Class of each window; None makes each window its own target.

    n_frames : int or None, default=None
        Length that the network is given; None is that of the shortest window.

    mixup : float >= 0, default=0.0
        Above 0, the windows of a batch are mixed with each other, with shares of
        Beta(mixup, mixup); see :class:`~sklearn_asd.IDConfidenceDetector`.

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
    ) -> None:
        self.frames = spectrograms.frames
        self.start = windows.start
        self.n_frames = _shortest(windows) if n_frames is None else n_frames
        self.spare = windows.n_frames - self.n_frames
        self.y = None if y is None else torch.as_tensor(y)
        self.mixup = mixup

    def __len__(self) -> int:
        return len(self.start)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, Any]:
        """Gather a batch in one go; the loader then has nothing to collate."""
        start, spare = self.start[indices], self.spare[indices]
        if spare.any():
            start = start + (torch.rand(len(start)).numpy() * (spare + 1)).astype(int)
        log_mel = gather(self.frames, start, self.n_frames)
        y = log_mel if self.y is None else self.y[indices]
        return (log_mel, y) if self.mixup == 0 else _mix(log_mel, y, self.mixup)


def _shortest(windows: Windows) -> int:
    shortest, median = int(windows.n_frames.min()), int(np.median(windows.n_frames))
    if shortest < median / 2:
        warnings.warn(
            f"the shortest training clip, or view of one, has {shortest} frames and "
            f"the median {median}; whole-clip training uses {shortest} of each: "
            "leave short clips or fast views out, or train on segments",
            stacklevel=3,
        )
    return shortest


def _mix(
    log_mel: torch.Tensor, y: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, Any]:
    """Mix each window with another one of the batch, all with one share."""
    share = torch.distributions.Beta(alpha, alpha).sample()
    partner = torch.randperm(len(y))
    return torch.lerp(log_mel[partner], log_mel, share), (y, y[partner], share)


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
        The windows.

    Returns
    -------
    logits : ndarray of shape (n_windows, n_classes), float64
        Class scores before the softmax.

    embedding : ndarray of shape (n_windows, n_embedding), float32
        The embedding.
    """
    if len(windows.clip) == 0:
        logits = np.empty((0, net.module__n_classes))
        return logits, np.empty((0, net.criterion__n_embedding), dtype=np.float32)
    module = net.module_.eval()
    order, outputs = [], []
    # Without TF32, to which CUDA would otherwise round.
    full_precision = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), full_precision:
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
