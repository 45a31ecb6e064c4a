"""Margins and states of a watched machine over time, as a small picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from urllib.parse import quote

import numpy as np
import pandas as pd

from sklearn_asd.report.media import Image
from sklearn_asd.report.watch_summary import WatchedMachine

__all__ = ["STATE_COLORS", "draw_watch"]

STATE_COLORS = {
    "normal": "#8fbbe0",
    "suspect": "#e6b422",
    "alarm": "#c2410c",
    "acknowledged": "#e39a78",
    "no data": "#a4a9b2",
    "stopped": "#5b6f9c",
    "bad audio": "#a06ab4",
}

# Of the states within a bin, the first one of these is shown.
_ORDER = ("alarm", "acknowledged", "bad audio", "stopped", "suspect", "normal")

# The picture is stretched to the width of the page; lines keep their width.
_WIDTH, _PLOT, _HEIGHT = 1000, 120, 136
_EDGE = 6
_STYLE = (
    "<style>svg{--ink:#565b64;--fine:#005a94;--alarm:#c2410c}"
    "@media (prefers-color-scheme:dark)"
    "{svg{--ink:#a9aeb8;--fine:#7cc0f0;--alarm:#ff9a5c}}"
    "path{fill:none;stroke-linecap:round;vector-effect:non-scaling-stroke}"
    ".m{stroke:var(--fine);stroke-width:1;opacity:.6}"
    ".f{stroke:var(--fine);stroke-width:4}.a{stroke:var(--alarm);stroke-width:4}"
    ".z{stroke:var(--ink);stroke-width:1}"
    ".s{stroke:var(--alarm);stroke-width:1;stroke-dasharray:3 3}</style>"
)


def draw_watch(
    machine: WatchedMachine, since: float, until: float, n_bins: int
) -> Image:
    """Draw margins with the threshold, and below them a strip of states.

    Parameters
    ----------
    machine : WatchedMachine
        The machine.

    since, until : float
        Time of the left and the right edge, in s.

    n_bins : int
        Into how many equal parts the time is divided.

    Returns
    -------
    image : Image
        For each part of the time that has margins a line from the lowest to the median,
        below the threshold in the colour of alarms. Medians are
        joined, unless there is a time without data between them. Dashed lines are the
        beginnings of alarms. Far from the threshold margins are drawn closer together
        (inverse hyperbolic sine).
    """
    rows = machine.rows
    bins = _number_bins(rows["time"].to_numpy(), since, until, n_bins)
    has_margin = np.isfinite(rows["margin"].to_numpy())
    margins = rows["margin"][has_margin].groupby(bins[has_margin])
    table = pd.DataFrame({"lowest": margins.min(), "median": margins.median()})
    starts = np.array([one.start for one in machine.alarms if one.start >= since])
    lines = "".join(
        f"M{x:.1f} 0V{_PLOT}"
        for x in _place(_number_bins(starts, since, until, n_bins), n_bins)
    )
    strip = _draw_states(_find_states(machine, bins, since, until, n_bins), n_bins)
    silent = _find_silent(machine.gaps, since, until, n_bins)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none">{_STYLE}{strip}'
        f'<path class="s" d="{lines}"/>{_draw_margins(table, silent, n_bins)}</svg>'
    )
    alt = (
        f"Margins of {int(has_margin.sum())} windows over time, "
        f"{int((rows['margin'] < 0).sum())} of them below the threshold, with "
        f"{len(machine.alarms)} alarms"
    )
    uri = f"data:image/svg+xml,{quote(svg, safe=' /:;=,+@')}"
    return Image(uri, _WIDTH, _HEIGHT, alt)


def _number_bins(
    times: np.ndarray, since: float, until: float, n_bins: int
) -> np.ndarray:
    share = (times - since) / ((until - since) or 1.0)
    return np.clip(share * n_bins, 0, n_bins - 1).astype(int)


def _place(bins: np.ndarray, n_bins: int) -> np.ndarray:
    return (np.asarray(bins) + 0.5) * _WIDTH / n_bins


def _draw_margins(table: pd.DataFrame, silent: np.ndarray, n_bins: int) -> str:
    """Draw lowest and median margins, with the threshold at 0."""
    unit = np.median(np.abs(table["median"])) if len(table) else 1.0
    lowest, median = (
        np.arcsinh(table[name].to_numpy() / (unit or 1.0))
        for name in ("lowest", "median")
    )
    around = np.concatenate((lowest, median, [0.0]))
    span = np.ptp(around) or 1.0

    def rise(values: np.ndarray) -> np.ndarray:
        share = (values - around.min()) / span
        return _PLOT - _EDGE - (_PLOT - 2 * _EDGE) * share

    x, low, middle = _place(table.index, n_bins), rise(lowest), rise(median)
    zero = rise(np.zeros(1))[0]
    # Below the threshold a bar has the colour of alarms; heights grow downwards.
    fine = _draw_bars(x, np.minimum(low, zero), middle, middle <= zero)
    below = _draw_bars(x, low, np.maximum(middle, zero), low > zero)
    # A line is broken where a part without data lies between.
    n_silent = np.cumsum(silent)[table.index.to_numpy(dtype=int)]
    breaks = np.diff(n_silent, prepend=-1) > 0
    joined = "".join(
        f"{'M' if new else 'L'}{a:.1f} {b:.1f}"
        for a, b, new in zip(x, middle, breaks, strict=True)
    )
    return (
        f'<path class="z" d="M0 {zero:.1f}H{_WIDTH}"/><path class="m" d="{joined}"/>'
        f'<path class="f" d="{fine}"/><path class="a" d="{below}"/>'
    )


def _draw_bars(
    x: np.ndarray, start: np.ndarray, stop: np.ndarray, is_there: np.ndarray
) -> str:
    ends = zip(x[is_there], start[is_there], stop[is_there], strict=True)
    return "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in ends)


def _find_silent(
    gaps: Sequence[tuple[float, float]], since: float, until: float, n_bins: int
) -> np.ndarray:
    """Mark the parts of the time whose middle lies in a time without data."""
    middles = since + (np.arange(n_bins) + 0.5) * (until - since) / n_bins
    silent = np.zeros(n_bins, dtype=bool)
    for begin, stop in gaps:
        silent |= (middles >= begin) & (middles <= stop)
    return silent


def _find_states(
    machine: WatchedMachine, bins: np.ndarray, since: float, until: float, n_bins: int
) -> list[str]:
    """Give the state in each part of the time; "" before the machine is known."""
    states: list[str] = [""] * n_bins
    rank = {state: number for number, state in enumerate(_ORDER)}
    known = machine.rows["state"].isin(_ORDER).to_numpy()
    ranks = machine.rows["state"][known].map(rank).astype(int)
    worst = ranks.groupby(bins[known]).min()
    last = ranks.groupby(bins[known]).last()
    silent = _find_silent(machine.gaps, since, until, n_bins)
    state = ""
    for number in range(n_bins):
        if number in worst.index:
            states[number] = _ORDER[worst[number]]
            state = _ORDER[last[number]]
        else:
            states[number] = "no data" if silent[number] else state
    return states


def _draw_states(states: list[str], n_bins: int) -> str:
    """Draw a strip of one rectangle for each run of equal states."""
    width, start, strip = _WIDTH / n_bins, 0, ""
    for state, run in groupby(states):
        n = len(list(run))
        if state:
            strip += (
                f'<rect x="{start * width:.1f}" y="{_PLOT + 2}" '
                f'width="{n * width:.1f}" height="{_HEIGHT - _PLOT - 2}" '
                f'fill="{STATE_COLORS[state]}"/>'
            )
        start += n
    return strip
