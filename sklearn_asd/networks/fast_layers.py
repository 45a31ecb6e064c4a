"""Layers that give what the paper's layers give, faster or more safely on a CPU.

The first layer of inouet18 convolves 128 frequencies with 64 filters, and max pooling
keeps one value of eight: computed layer by layer, nearly all time goes into the values
that are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

__all__ = [
    "FastDropout",
    "FittedConv2d",
    "convolve_norm_pool",
    "run_folded",
]

# Windows convolved at once: few enough that their outputs stay in the cache.
_WINDOWS_AT_ONCE = 2048


def convolve_norm_pool(
    log_mel: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, pool: int
) -> torch.Tensor:
    """Convolution along frequency, batch norm, max pooling and ReLU in one.

    Equals the four layers one after the other, apart from rounding. The statistics of
    the convolution's output, which the batch norm needs, are computed from those of
    its input, so that the batch norm can be folded into the filters; and the outputs
    are pooled while they are in the processor's cache. No gradient is computed for the
    input.

    Parameters
    ----------
    log_mel : tensor of shape (batch, n_mels, n_frames), float32
        Input, of one channel.

    conv : Conv2d of one input channel and a kernel of (odd number, 1)
        Padded to keep n_mels.

    norm : BatchNorm2d
        Its running statistics are updated in training.

    pool : int
        Number of frequencies of which the largest value is kept.

    Returns
    -------
    maps : tensor of shape (batch, n_frames, n_mels // pool, n_channels)
        In autocast's dtype, if it is on.
    """
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else log_mel.dtype
    with torch.autocast("cpu", enabled=False):
        filters, shift = _filters_with_norm(log_mel, conv, norm)
        n_taps = filters.shape[1]
        frames = functional.pad(log_mel.transpose(1, 2), [n_taps // 2, n_taps // 2])
        windows = frames.unfold(2, pool + n_taps - 1, pool)
        ones = windows.new_ones(()).expand(*windows.shape[:-1], 1)
        windows = torch.cat([windows, ones], dim=-1)  # for the shift
        # One product gives the outputs at all places that are pooled.
        bank = torch.cat([_place_filters(filters, pool), shift.repeat(pool)[None]])
        maps = _PooledProduct.apply(windows.flatten(0, 2), bank, pool)
    return maps.view(*windows.shape[:3], -1).to(dtype)


class FastDropout(nn.Dropout):
    """Dropout that draws 16 random bits for each value, which is faster."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Set values to 0 at random, in training.

        Parameters
        ----------
        x : tensor
            Any.

        Returns
        -------
        x : tensor
            Scaled so that the expected value is kept.
        """
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
        draws.random_(-(2**63), None)  # all 64 bits
        n_kept = round((1 - self.p) * 2**16)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) < n_kept - 2**15
        return x * (keep.to(x.dtype) * (2**16 / max(n_kept, 1)))


class FittedConv2d(nn.Conv2d):
    """Convolution that first cuts off the frames that no output covers.

    torch 2.13 on a CPU with several threads computes wrong gradients, different ones
    each time, if a stride leaves the last frames of the padded input uncovered. Cutting
    them off changes no output.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolve.

        Parameters
        ----------
        maps : tensor of shape (batch, n_in, n_mels, n_frames)
            Input.

        Returns
        -------
        maps : tensor of shape (batch, n_out, n_mels, n_frames_out)
            As of ``Conv2d``.
        """
        if torch.compiler.is_exporting():  # a graph has no gradients
            return super().forward(maps)
        kernel, stride = self.kernel_size[1], self.stride[1]
        padding = int(self.padding[1])
        n_outputs = (maps.shape[-1] + 2 * padding - kernel) // stride + 1
        covered = (n_outputs - 1) * stride + kernel
        maps = functional.pad(maps, (padding, covered - padding - maps.shape[-1]))
        return functional.conv2d(
            maps, self.weight, self.bias, self.stride, (int(self.padding[0]), 0)
        )


def run_folded(layers: nn.Sequential, maps: torch.Tensor) -> torch.Tensor:
    """Run convolutions, each with a batch norm and a ReLU, with the norms folded in.

    A fixed batch norm is a scale and a shift of each channel, which the convolution's
    weights can include, so that it needs no pass over the maps.

    Parameters
    ----------
    layers : Sequential
        Convolution, batch norm and ReLU, repeated, in evaluation mode.

    maps : tensor of shape (batch, n_in, n_mels, n_frames)
        Input.

    Returns
    -------
    maps : tensor of shape (batch, n_out, n_mels, n_frames_out)
        As of the layers one after the other, apart from rounding.
    """
    convs, norms = cast(Any, layers[::3]), cast(Any, layers[1::3])
    for conv, norm in zip(convs, norms, strict=True):
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        maps = functional.conv2d(
            maps,
            conv.weight * scale[:, None, None, None],
            norm.bias + scale * (conv.bias - norm.running_mean),
            conv.stride,
            conv.padding,
        ).relu_()
    return maps


def _filters_with_norm(
    log_mel: torch.Tensor, conv: Any, norm: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Filters (n_channels, n_taps) and shifts that do what both layers do."""
    filters = conv.weight[:, 0, :, 0]
    if norm.training:
        mean, variance, n_outputs = _output_statistics(log_mel, filters)
        mean = mean + conv.bias
        _update(norm, mean, variance * n_outputs / max(n_outputs - 1, 1))
    else:
        mean, variance = norm.running_mean, norm.running_var
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return scale[:, None] * filters, norm.bias + scale * (conv.bias - mean)


def _output_statistics(
    log_mel: torch.Tensor, filters: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and variance of each filter's output without bias, and how many there are.

    They are linear and quadratic in the filter: m . w and w' C w, with the mean m and
    the covariance C of the input's windows.
    """
    n_taps = filters.shape[1]
    batch, n_mels, n_frames = log_mel.shape
    n_outputs = batch * n_mels * n_frames
    with torch.no_grad():
        center = log_mel.mean()  # for accuracy; the padding is -center then
        rows = functional.pad(
            (log_mel - center).transpose(0, 1).flatten(1),
            [0, 0, n_taps // 2, n_taps // 2],
            value=-center.item(),
        )
        products = (rows @ rows.T).double()
        sums = rows.sum(dim=1).double()
        places = torch.arange(n_mels)[:, None] + torch.arange(n_taps)
        mean = sums[places].sum(dim=0) / n_outputs
        second = products[places[:, :, None], places[:, None, :]].sum(dim=0)
        covariance = second / n_outputs - mean[:, None] * mean
        mean += center
    weights = filters.double()
    variance = torch.einsum("ck,kl,cl->c", weights, covariance, weights)
    return (weights @ mean).float(), variance.clamp_min(0).float(), n_outputs


def _update(norm: Any, mean: torch.Tensor, variance: torch.Tensor) -> None:
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance, norm.momentum)


def _place_filters(filters: torch.Tensor, pool: int) -> torch.Tensor:
    """Place the filters at all offsets: (length of a window, pool * n_channels)."""
    bank = [
        functional.pad(filters.T, [0, 0, offset, pool - 1 - offset])
        for offset in range(pool)
    ]
    return torch.cat(bank, dim=1)


class _PooledProduct(torch.autograd.Function):
    """``relu(max over pool of windows @ bank)``, a few windows at a time."""

    @staticmethod
    def forward(
        ctx: Any, windows: torch.Tensor, bank: torch.Tensor, pool: int
    ) -> torch.Tensor:
        maps = windows.new_empty(len(windows), bank.shape[1] // pool)
        for some, into in _split(windows, maps):
            outputs = (some @ bank).view(-1, pool, maps.shape[1])
            torch.clamp_min(outputs.amax(dim=1), 0, out=into)
        ctx.save_for_backward(windows, bank, maps)
        ctx.pool = pool
        return maps

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        windows, bank, maps = ctx.saved_tensors
        grad_bank = torch.zeros_like(bank, dtype=torch.float32)
        for some, largest, slope in _split(windows, maps, grad):
            outputs = (some @ bank).view(-1, ctx.pool, maps.shape[1])
            # The gradient goes to the largest value, or is shared by several of them.
            share = outputs.eq_(largest[:, None])
            live = slope.where(largest > 0, 0) / share.sum(dim=1).clamp_min(1)
            share *= live[:, None]
            grad_bank += some.T @ share.flatten(1)
        return None, grad_bank.to(bank.dtype), None


def _split(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    return zip(*(one.split(_WINDOWS_AT_ONCE) for one in tensors), strict=True)
