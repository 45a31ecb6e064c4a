"""Device and precision."""

from __future__ import annotations

import warnings

import torch

from sklearn_asd._utils.messages import shorten

__all__ = [
    "choose_device",
    "choose_device_or_cpu",
    "has_bfloat16",
    "refuse_forked_cuda",
    "uses_bfloat16",
]

# torch 2.13 on a CPU with AMX: a bfloat16 convolution whose output has a width of 1
# reads beyond its input, and gives wrong numbers or NaN. That happens in the last layer
# of pvmilk20 below 18 frames.
_MIN_FRAMES_BFLOAT16 = 32


def choose_device(device: str) -> str:
    """Choose where to compute.

    Parameters
    ----------
    device : str
        "auto", or one of torch's names such as "cpu", "cuda" or "cuda:1".

    Returns
    -------
    device : str
        For "auto", "cuda" if it is available, otherwise "cpu".

    Raises
    ------
    ValueError
        If there is no such device.

    RuntimeError
        If it is a GPU that the parent of this process uses.
    """
    if device == "auto":
        found = "cuda" if torch.cuda.is_available() else "cpu"
        refuse_forked_cuda(found)
        return found
    refuse_forked_cuda(device)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f'device={shorten(device)} cannot be used ({reason}): choose "auto" or '
            '"cpu"'
        ) from error
    return device


def refuse_forked_cuda(device: str) -> None:
    """Refuse to use CUDA in a process forked from one that uses it.

    Parameters
    ----------
    device : str
        One of torch's names.

    Raises
    ------
    RuntimeError
        If CUDA would be used in such a process.
    """
    if device.partition(":")[0] == "cuda" and torch.cuda._is_in_bad_fork():
        raise RuntimeError(
            f"device={device!r} cannot be used in this process, which was forked from "
            "one that uses CUDA: start processes with "
            'multiprocessing.get_context("spawn"), load the model in each process and '
            'not before the fork, or use device="cpu"'
        )


def choose_device_or_cpu(device: str) -> str:
    """Choose where to compute with a model that was fitted on another computer.

    Parameters
    ----------
    device : str
        As for :func:`choose_device`.

    Returns
    -------
    device : str
        "cpu" if there is no such device here, or this process cannot use it.

    Warns
    -----
    UserWarning
        If there is no such device, or it is a GPU that the parent of this process uses.
    """
    try:
        return choose_device(device)
    except (ValueError, RuntimeError) as error:
        warnings.warn(
            f"{error}. The model is on the CPU; set its parameter device before you "
            "fit it again",
            stacklevel=2,
        )
        return "cpu"


def uses_bfloat16(precision: str, device: str, n_frames: int) -> bool:
    """Decide whether to train in bfloat16.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 if the processor supports it, except for windows so short
        that its convolutions are not reliable.

    device : str
        From :func:`choose_device`.

    n_frames : int
        Length of the training windows.

    Returns
    -------
    bfloat16 : bool
        Whether to.

    Raises
    ------
    ValueError
        If bfloat16 is asked for where it is not reliable.
    """
    on_cpu = torch.device(device).type == "cpu"
    reliable = n_frames >= _MIN_FRAMES_BFLOAT16 or not on_cpu
    if precision == "bfloat16" and not reliable:
        raise ValueError(
            f'precision="bfloat16" is not reliable on a CPU for segments of {n_frames} '
            f"frames, below {_MIN_FRAMES_BFLOAT16}: use longer segments, or float32"
        )
    if precision != "auto":
        return precision == "bfloat16"
    return reliable and has_bfloat16(device)


def has_bfloat16(device: str = "cpu") -> bool:
    """Ask torch whether a device computes in bfloat16 itself.

    Parameters
    ----------
    device : str, default="cpu"
        One of torch's names.

    Returns
    -------
    has_it : bool
        False for devices other than CPUs and CUDA.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.cpu._is_avx512_bf16_supported()
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
