"""Margins over time as small pictures."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import pandas as pd

from sklearn_asd.report.media import Image

__all__ = ["draw_trend"]

_WIDTH, _HEIGHT = 220, 64  # pixels
_EDGE = 7
_STYLE = (
    "<style>svg{--ink:#565b64;--fine:#005a94;--alarm:#a63d00}"
    "@media (prefers-color-scheme:dark)"
    "{svg{--ink:#a9aeb8;--fine:#7cc0f0;--alarm:#ff9a5c}}"
    "path{fill:none;stroke-linecap:round}.f{stroke:var(--fine);stroke-width:4}"
    ".a{stroke:var(--alarm);stroke-width:2}.z{stroke:var(--ink);stroke-width:1}</style>"
)


def draw_trend(table: pd.DataFrame, alt: str) -> Image:
    """Draw margins over time, with the line below which they are anomalous.

    Parameters
    ----------
    table : DataFrame
        Columns `time` in any unit, or NaN throughout if times are not known, and
        `margin`: below 0 is anomalous. Rows whose margin is not finite are left out.

    alt : str
        Description for readers who do not see it.

    Returns
    -------
    image : Image
        A point for each normal row and a cross for each anomalous one. Without times
        they have equal distances, in the order of the rows. Far from the line margins
        are drawn closer together (inverse hyperbolic sine).
    """
    table = table[np.isfinite(table["margin"])]
    margins = table["margin"].to_numpy(dtype=np.float64)
    times = table["time"].to_numpy(dtype=np.float64)
    if np.isnan(times).any():
        times = np.arange(len(times), dtype=np.float64)
    x = _EDGE + (_WIDTH - 2 * _EDGE) * _scale(times, times)
    unit = np.median(np.abs(margins)) if len(margins) else 0
    heights = np.arcsinh(margins / (unit or 1))
    around = np.append(heights, 0)
    y = _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * _scale(heights, around)
    zero = _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * _scale(np.zeros(1), around)[0]
    is_anomalous = margins < 0
    points = "".join(
        f"M{left:.0f} {top:.1f}h0"
        for left, top in zip(x[~is_anomalous], y[~is_anomalous], strict=True)
    )
    crosses = "".join(
        f"M{left - 3:.0f} {top - 3:.1f}l6 6m0 -6l-6 6"
        for left, top in zip(x[is_anomalous], y[is_anomalous], strict=True)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'{_STYLE}<path class="z" d="M0 {zero:.1f}H{_WIDTH}"/>'
        f'<path class="f" d="{points}"/><path class="a" d="{crosses}"/></svg>'
    )
    uri = f"data:image/svg+xml,{quote(svg, safe=' /:;=,+@')}"
    return Image(uri, _WIDTH, _HEIGHT, alt)


def _scale(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scale values so that the reference reaches from 0 to 1."""
    if len(reference) == 0 or np.ptp(reference) == 0:
        return np.full(len(values), 0.5)
    return (values - reference.min()) / np.ptp(reference)
