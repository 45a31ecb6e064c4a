"""What is known of each machine, for the table of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.report.media import Image
from sklearn_asd.report.times import Times
from sklearn_asd.report.trends import draw_trend
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["MachineSummary", "summarize_machines"]


class MachineSummary(NamedTuple):
    """What is known of one machine.

    Attributes
    ----------
    name : str
        The machine; "" if it is not known.

    n_anomalous, n_normal, n_unusable : int
        Numbers of clips with each verdict.

    n_training : int or None
        Number of its training clips, or of the normal clips to compare with; None if
        they are not known.

    threshold : float
        Threshold of the anomaly score; NaN if it differs among the clips.

    worst, median : float
        Lowest and median margin: below 0 is anomalous. NaN if there is none.

    trend : Image or None
        Margins over time; None for fewer than two clips.
    """

    name: str
    n_anomalous: int
    n_normal: int
    n_unusable: int
    n_training: int | None
    threshold: float
    worst: float
    median: float
    trend: Image | None


def summarize_machines(
    verdicts: Verdicts, times: Times, training: Any
) -> Iterator[MachineSummary]:
    """Summarize each machine.

    Parameters
    ----------
    verdicts : Verdicts
        Verdicts on all clips.

    times : Times
        When the clips were recorded.

    training : any or None
        Training clips, or normal clips to compare with, as the detector takes them.

    Yields
    ------
    summary : MachineSummary
        In the order of the machines' names; one of all clips where no machine is known.
    """
    n_clips = len(verdicts.scores)
    machines = np.array(verdicts.machines or [""] * n_clips, dtype=object)
    counts = _count(training)
    for name in sorted(set(machines)):
        rows = np.flatnonzero(machines == name)
        margins = -verdicts.margins[rows]
        seconds = None if times.seconds is None else times.seconds[rows]
        known = pd.Series(margins).dropna()
        counted = None if counts is None else counts.get(name, 0)
        yield MachineSummary(
            name,
            int((known < 0).sum()),
            int((known >= 0).sum()),
            len(rows) - len(known),
            len(training) if counts is not None and not name else counted,
            _find_common(verdicts.thresholds[rows][~np.isnan(margins)]),
            float(known.min()),
            float(known.median()),
            _draw(name, margins, seconds),
        )


def _find_common(thresholds: np.ndarray) -> float:
    if len(thresholds) and np.allclose(thresholds, thresholds[0]):
        return float(thresholds[0])
    return np.nan


def _count(training: Any) -> dict[str, int] | None:
    if training is None:
        return None
    labels = machine_labels(training)
    return {} if labels is None else dict(pd.Series(labels).value_counts())


def _draw(name: str, margins: np.ndarray, seconds: np.ndarray | None) -> Image | None:
    if np.isfinite(margins).sum() < 2:
        return None
    table = pd.DataFrame({"time": np.nan, "margin": margins})
    if seconds is not None:
        table["time"] = seconds
    n_anomalous = int((margins < 0).sum())
    alt = f"Margins of {name or 'all clips'}: {n_anomalous} of {len(margins)} below 0"
    return draw_trend(table, alt)
