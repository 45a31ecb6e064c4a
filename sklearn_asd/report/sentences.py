"""Sentences of the report."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from sklearn_asd.meta import PerMachine
from sklearn_asd.meta.scoring import final_step, leaves_clips_out
from sklearn_asd.plotting import ClipScoreDisplay

__all__ = [
    "describe_distance",
    "describe_place",
    "describe_threshold",
    "expect_false_alarms",
]


def describe_threshold(detector: Any, n_clips: int) -> list[str]:
    """Explain what to expect of the threshold.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    n_clips : int
        Number of scored clips.

    Returns
    -------
    sentences : list of str
        The promise of a ThresholdTuner, or the share of training clips.
    """
    last = final_step(detector)
    if hasattr(last, "promise_"):
        promise = f"{last.promise_[0].upper()}{last.promise_[1:]}."
        return [promise, *_bound(last, n_clips)]
    each = ""
    if isinstance(last, PerMachine):
        last, each = final_step(last.estimator), " of each machine"
    share: Any = getattr(last, "contamination", None)
    if leaves_clips_out(last):
        return [
            f"Expected false alarms: about {100 * share:.3g} % of normal clips{each}, "
            "estimated from training clips that were left out of the fit. "
            "Machines with few clips may have more."
        ]
    said = [
        "It is not known how many false alarms to expect on new clips. To know it, set "
        "the threshold by clips that were not trained on."
    ]
    if isinstance(share, Real):
        said.insert(
            0,
            f"The detector calls {100 * share:.3g} % of its training clips{each} "
            "anomalous.",
        )
    return said


def describe_place(display: ClipScoreDisplay) -> str:
    """Describe when and in which band a clip is anomalous.

    Parameters
    ----------
    display : ClipScoreDisplay
        With or without its location.

    Returns
    -------
    text : str
        At most two sentences; a place is named only if it carries most of the anomaly.
    """
    location = display.location
    if location is None:
        return ""
    if location.times is None:
        unknown = " When it occurs is not known: the detector hears the mean spectrum."
        if location.band is None:
            return (
                f"No single band of frequencies carries most of the anomaly.{unknown}"
            )
        return (
            f"{_name_band(display, location.band)} carry most of the anomaly.{unknown}"
        )
    if not location.is_named:
        return (
            "No single moment and no single band of frequencies carries most of the "
            "anomaly."
        )
    if location.time is None:
        band = _name_band(display, location.band)
        return f"{band} carry most of the anomaly. No single moment does."
    time = f"Most of the anomaly is {_name_time(display, location.time)}."
    if location.band is None:
        return f"{time} No single band of frequencies carries it."
    return f"{time} {_name_band(display, location.band)} carry most of it."


def _name_time(display: ClipScoreDisplay, time: tuple[float, float]) -> str:
    if display.frame_duration is None:
        return f"in frames {time[0]:.0f} to {time[1]:.0f}"
    return f"heard from {time[0]:.1f} to {time[1]:.1f} s"


def _name_band(display: ClipScoreDisplay, band: tuple[float, float] | None) -> str:
    low, high = band or (0.0, 0.0)
    if display.edges is not None:
        return f"Of the frequencies, {low:.0f} to {high:.0f} Hz"
    kind = "mel bands" if display.band_scale == "mel" else "bands"
    return f"Of the {kind}, {low:.0f} to {high:.0f}"


def describe_distance(nearest: Any) -> str:
    """Describe how far the nearest normal clip is.

    Parameters
    ----------
    nearest : Nearest
        The normal clip.

    Returns
    -------
    text : str
        A sentence.
    """
    if nearest.measure == "dB":
        return f"Its mean spectrum differs by {nearest.distance:.1f} dB."
    if nearest.measure == "cosine":
        return (
            f"Its similarity to the clip is {1 - nearest.distance:.2f}, as the network "
            "hears it; 1 is the same."
        )
    return f"Its distance is {nearest.distance:.2f} in the detector's own measure."


def expect_false_alarms(detector: Any) -> float | None:
    """Find the share of normal clips that are expected to be called anomalous.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    Returns
    -------
    share : float or None
        None if it is not known.
    """
    last = final_step(detector)
    if isinstance(last, PerMachine):
        last = final_step(last.estimator)
    if getattr(last, "policy", None) in ("false_alarm_rate", "gamma"):
        return float(last.false_alarm_rate)
    share = getattr(last, "contamination", None)
    return float(share) if leaves_clips_out(last) and isinstance(share, Real) else None


def _bound(tuner: Any, n_clips: int) -> list[str]:
    """Number of false alarms to expect, if the policy bounds it."""
    has_one = hasattr(tuner, "false_alarm_interval") and hasattr(tuner, "offset_")
    if n_clips == 0 or not has_one or tuner.policy != "false_alarm_rate":
        return []
    if np.isinf(tuner.offset_):
        return []
    low, high = tuner.false_alarm_interval(n_clips)
    return [
        f"If all {n_clips} clips here are normal, between {100 * low:.3g} and "
        f"{100 * high:.3g} % of them are called anomalous in 95 of 100 cases."
    ]
