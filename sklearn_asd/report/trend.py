"""Margins of one machine over time, as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd.plotting.style import ANOMALOUS, NORMAL, TRAINING, ink
from sklearn_asd.report.media import Image, draw
from sklearn_asd.report.sentences import format_margin

__all__ = ["draw_trend"]

_SIZE = (3.6, 1.9)

# With more points, these are pixels: each would take a hundred bytes.
_MOST_SHAPES = 500

# Year, month, day, hour, minute and second on the axis, and the first of each.
_DATES = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
_FIRST_DATES = ["", "%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M"]


def draw_trend(trend: pd.DataFrame, name: str, usual: float | None = None) -> Image:
    """Draw the margins of one machine's recordings over time.

    Parameters
    ----------
    trend : DataFrame of n_clips rows
        `time` (datetime64, or numbers that count recordings) and `margin`, finite:
        below 0 is anomalous.

    name : str
        Of the machine.

    usual : float or None, default=None
        Median margin of its training recordings.

    Returns
    -------
    image : Image
        Anomalous recordings are diamonds, normal ones are dots.
    """
    trend = trend.sort_values("time", kind="stable")
    is_low = trend["margin"] < 0
    digits = max(0, 2 - int(np.floor(np.log10(trend["margin"].abs().max() or 1))))
    alt = (
        f"Margins of {len(trend)} recordings of {name} over time, {is_low.sum()} below "
        f"0: the first {format_margin(trend['margin'].iloc[0], digits)}, the last "
        f"{format_margin(trend['margin'].iloc[-1], digits)}"
    )
    return draw(lambda ax: _plot(ax, trend, is_low, usual), _SIZE, alt)


def _plot(ax: Any, trend: pd.DataFrame, is_low: pd.Series, usual: float | None) -> None:
    is_dense = len(trend) > _MOST_SHAPES
    ax.plot(
        trend["time"],
        trend["margin"],
        color=TRAINING,
        linewidth=0.6,
        rasterized=is_dense,
    )
    shapes = {"linestyle": "none", "rasterized": is_dense, "zorder": 3}
    for some, marker, color in (
        (trend[~is_low], "o", NORMAL),
        (trend[is_low], "D", ANOMALOUS),
    ):
        ax.plot(
            some["time"], some["margin"], marker, color=color, markersize=4, **shapes
        )
    ax.axhline(0, color=ink(), linewidth=1)
    low, high = min(trend["margin"].min(), 0), max(trend["margin"].max(), 0)
    if usual is not None and np.isfinite(usual):
        ax.axhline(usual, color=TRAINING, linewidth=1, linestyle="--")
        low, high = min(low, usual), max(high, usual)
    room = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - room, high + room)
    ax.set_ylabel("margin")
    ax.locator_params(axis="y", nbins=4)
    ax.spines[["top", "right"]].set_visible(False)
    _mark_times(ax, trend["time"])


def _mark_times(ax: Any, times: pd.Series) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if not pd.api.types.is_datetime64_any_dtype(times):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.locator_params(axis="x", nbins=5)
        ax.set_xlabel("number of the recording")
        return
    locator = AutoDateLocator(minticks=2, maxticks=5)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(
        ConciseDateFormatter(locator, formats=_DATES, zero_formats=_FIRST_DATES)
    )
