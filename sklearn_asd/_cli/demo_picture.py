"""The picture that ``sklearn-asd demo`` writes: how well two detectors find faults."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sklearn_asd.plotting.style import COLORS, ink

__all__ = ["write_picture"]

_MARKERS = ("o", "D")  # also tell detectors apart in grey prints


def write_picture(tables: dict[str, pd.DataFrame], path: str) -> None:
    """Draw the AUC of each machine, and the average of each type, as a PNG file.

    Parameters
    ----------
    tables : dict of str to DataFrame
        What :func:`~sklearn_asd.metrics.auc_table` returns, for each of two detectors.

    path : str
        The file to write or replace.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(_split_averages(next(iter(tables.values())))[1].index))
    figure = Figure(figsize=(7, 1.6 + 0.55 * len(kinds)), layout="constrained")
    ax = figure.add_subplot()
    for place, (name, table) in enumerate(tables.items()):
        _draw_detector(ax, name, table, kinds, place)
    ax.axvline(0.5, color=ink(), linestyle=":", linewidth=1)
    ax.set_yticks(range(len(kinds)), [kind or "all machines" for kind in kinds])
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_xlim(right=1.02)
    ax.set_xlabel(
        "AUC (large: average of the type, small: each machine, dotted: chance)"
    )
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, format="png", dpi=150)


def _draw_detector(
    ax: Any, name: str, table: pd.DataFrame, kinds: list[str], place: int
) -> None:
    """Draw one detector's row within the band of each type."""
    machines, averages = _split_averages(table)
    color, marker = COLORS[0 if place == 0 else 5], _MARKERS[place]
    shift = -0.17 + 0.34 * place
    rows = [kinds.index(kind) + shift for kind in machines.index]
    ax.plot(machines, rows, marker, color=color, alpha=0.35, markersize=5)
    rows = [kinds.index(kind) + shift for kind in averages.index]
    ax.plot(averages, rows, marker, color=color, markersize=10, label=name)
    for area, row in zip(averages, rows, strict=True):
        ax.annotate(
            f"{area:.2f}",
            (area, row),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )


def _split_averages(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """AUC of machines, and averages of types; both indexed by the type."""
    areas = table["auc"]
    if table.index[-1] == ("average", ""):
        areas = areas.iloc[:-1]
    last = ~areas.index.get_level_values(0).duplicated(keep="last")  # the average
    return areas[~last].droplevel(1), areas[last].droplevel(1)
