"""Numbers as people read them in columns: as many decimals for one as for all."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["choose_decimals", "format_count", "format_number", "format_share"]

_DIGITS = 3  # of a usual number
_MOST_DECIMALS = 6
_LARGE = 1e7  # longer numbers are written with a power of ten


def choose_decimals(values: Any) -> int:
    """Choose the decimals of all numbers of one kind.

    Parameters
    ----------
    values : array-like of float
        The numbers. Those that are not finite do not count.

    Returns
    -------
    decimals : int
        So many that their median has three digits that count.
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if len(sizes) == 0:
        return 0
    before = int(np.floor(np.log10(np.median(sizes)))) + 1
    return int(np.clip(_DIGITS - before, 0, _MOST_DECIMALS))


def format_number(value: float, decimals: int) -> str:
    """Write a number.

    Parameters
    ----------
    value : float
        The number.

    decimals : int
        Decimals of all numbers of its kind.

    Returns
    -------
    text : str
        With a minus as wide as a digit; a dash for what is not finite.
    """
    if not np.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.2e}" if abs(value) >= _LARGE else f"{value:.{decimals}f}"
    is_zero = not any(digit in text for digit in "123456789")
    return (text.lstrip("-") if is_zero else text).replace("-", "\N{MINUS SIGN}")


def format_count(value: float) -> str:
    """Write an expected number of clips.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    text : str
        Without decimals from 10 on.
    """
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def format_share(share: float) -> str:
    """Write a share in per cent, without rounding it up to 100 %.

    Parameters
    ----------
    share : float
        In [0, 1].

    Returns
    -------
    text : str
        Such as "99.1 %".
    """
    return "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"
