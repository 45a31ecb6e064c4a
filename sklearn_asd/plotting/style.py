"""Colours of all displays, and the import of matplotlib when it is first needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sklearn_asd._utils.validation import normal_rows

__all__ = [
    "ANOMALOUS",
    "COLORS",
    "NEW",
    "NORMAL",
    "TRAINING",
    "import_pyplot",
    "ink",
    "label_groups",
    "make_axes",
]

# Okabe and Ito's colours, which colour-blind people can tell apart. In grey prints
# they differ in lightness, or else in hatch or marker.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
TRAINING = "#9a9a9a"
NORMAL = NEW = "#0072B2"
ANOMALOUS = "#D55E00"


def import_pyplot(caller: str) -> Any:
    """Import matplotlib.pyplot, or raise an error that tells how to install it.

    Parameters
    ----------
    caller : str
        Name of the display, for the error.

    Returns
    -------
    pyplot : module
        The module.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with matplotlib, which is not installed: pip install "
            '"sklearn_asd[plot]"'
        ) from error
    return pyplot


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
    """
    if ax is not None:
        return ax
    pyplot = import_pyplot(caller)
    return pyplot.subplots(layout="constrained", **figure_settings)[1]


def label_groups(y: ArrayLike | None, n_clips: int) -> list[tuple[str, str, Any]]:
    """Group new clips by their label.

    Parameters
    ----------
    y : array-like of shape (n_clips,) or None
        +1 for normal clips, -1 for anomalous ones.

    n_clips : int
        Number of clips.

    Returns
    -------
    groups : list of (name, color, rows)
        "normal" and "anomalous", or "new" for all if y is None.
    """
    if y is None:
        return [("new", NEW, np.ones(n_clips, dtype=bool))]
    normal = normal_rows(y, n_clips)
    return [("normal", NORMAL, normal), ("anomalous", ANOMALOUS, ~normal)]
