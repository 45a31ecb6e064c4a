"""Colours of all displays, and the import of matplotlib when it is first needed."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ANOMALOUS",
    "COLORS",
    "NEW",
    "NORMAL",
    "TRAINING",
    "ink",
    "make_axes",
]

# Okabe and Ito's colours, which colour-blind people can tell apart. In grey prints
# they differ in lightness, or else in hatch or marker.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
TRAINING = "#9a9a9a"
NORMAL = NEW = "#0072B2"
ANOMALOUS = "#D55E00"


def ink() -> str:
    """Colour of lines and text: black, or as matplotlib's current style sets it.

    Returns
    -------
    color : str
        In matplotlib's notation.
    """
    import matplotlib

    return matplotlib.rcParams["text.color"]


def make_axes(ax: Any, caller: str, **figure_settings: Any) -> Any:
    """Return the user's axes, or make new ones.

    Parameters
    ----------
    ax : matplotlib Axes or None
        The user's axes.

    caller : str
        Name of the display, for the error.

    **figure_settings : any
        Settings of the new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with matplotlib, which is not installed: in a checkout "
            'of sklearn_asd, run pip install -e ".[plot]"'
        ) from error
    return pyplot.subplots(layout="constrained", **figure_settings)[1]
