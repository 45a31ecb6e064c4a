"""Names of devices, known without torch."""

from __future__ import annotations

__all__ = ["check_device_name"]

# Others, such as torch's "meta", hold no numbers or run none of our layers.
_KINDS = ("auto", "cpu", "cuda", "mps", "xpu")


def check_device_name(device: str) -> None:
    """Refuse a device of an unknown kind, whether this computer has it or not.

    Parameters
    ----------
    device : str
        As for :func:`choose_device`.

    Raises
    ------
    ValueError
        If it is unknown.
    """
    kind, _, number = device.partition(":")
    if kind not in _KINDS or (number and not number.isdecimal()):
        raise ValueError(
            f"device={device!r:.60} is unknown: choose one of {', '.join(_KINDS)}, or "
            'such as "cuda:1"'
        )
