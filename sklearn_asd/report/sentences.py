"""Sentences and numbers of the report, in words of those who look after machines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from sklearn_asd.meta import PerMachine
from sklearn_asd.meta.scoring import final_step, leaves_clips_out
from sklearn_asd.plotting import ClipScoreDisplay

__all__ = [
    "choose_digits",
    "describe_place",
    "describe_threshold",
    "format_margin",
    "format_share",
]

_MOST_DIGITS = 6
_CLIP = re.compile(r"\bclip(s?)\b")  # as Python's users say
_CAUTION = (
    "Recordings of other days, places or devices than those of training may raise more "
    "alarms."
)
_BOUNDED = ("false_alarm_rate", "gamma")  # policies that promise a rate


def choose_digits(margins: Iterable[float]) -> int:
    """Choose how many digits behind the point margins have on a page, all the same.

    Parameters
    ----------
    margins : iterable of float
        All margins of the page.

    Returns
    -------
    digits : int
        So that large margins have three digits in all.
    """
    sizes = np.abs([one for one in margins if np.isfinite(one) and one != 0])
    if len(sizes) == 0:
        return 2
    return int(
        np.clip(2 - np.floor(np.log10(np.quantile(sizes, 0.9))), 0, _MOST_DIGITS)
    )


def format_margin(margin: float, digits: int) -> str:
    """Write a margin with its sign.

    Parameters
    ----------
    margin : float
        Below 0 is anomalous. It may be infinite, or NaN.

    digits : int
        Digits behind the point.

    Returns
    -------
    text : str
        Such as "+1.52" or "\u22120.02"; a dash where there is no number.
    """
    if not np.isfinite(margin):
        return "\u2013"
    return f"{margin:+.{digits}f}".replace("-", "\u2212")


def describe_threshold(detector: Any, n_clips: int) -> list[str]:
    """Explain how many false alarms to expect.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    n_clips : int
        Number of scored clips.

    Returns
    -------
    sentences : list of str
        What the threshold promises, or what is known of it.
    """
    last = final_step(detector)
    if hasattr(last, "promise_"):
        promise = _CLIP.sub(r"recording\1", last.promise_)
        promise = promise.replace("scored NaN", "could not be judged")
        promise = f"{promise[0].upper()}{promise[1:]}."
        promises = getattr(last, "policy", None) in _BOUNDED
        promises = promises and bool(np.isfinite(getattr(last, "offset_", 0.0)))
        return [promise, *_bound(last, n_clips), *[_CAUTION] * promises]
    each = ""
    if isinstance(last, PerMachine):
        last, each = final_step(last.estimator), " of each machine"
    share: Any = getattr(last, "contamination", None)
    if leaves_clips_out(last):
        return [
            f"Expected false alarms: about {100 * share:.3g} % of normal recordings"
            f"{each}, estimated from training recordings, each of which was left out "
            "in turn. Machines with few training recordings may have more.",
            _CAUTION,
        ]
    known = [
        "How many false alarms to expect is not known: the threshold was set by "
        "recordings that the model was trained on."
    ]
    if isinstance(share, Real):
        known.append(
            f"{100 * share:.3g} % of the training recordings{each} lie beyond it."
        )
    return known


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
        unknown = " When it occurs is not known: the model hears the mean spectrum."
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
        return f"Of the frequencies, {_round(low)} to {_round(high)} Hz"
    kind = "mel bands" if display.band_scale == "mel" else "bands"
    return f"Of the {kind}, {low:.0f} to {high:.0f}"


def _round(frequency: float) -> str:
    """Write a frequency with three digits, which is finer than the bands are."""
    return f"{float(f'{frequency:.3g}'):.0f}"


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
    return "over 99.99 %" if share > 0.9999 else f"{100 * share:.2f} %"


def _bound(tuner: Any, n_clips: int) -> list[str]:
    """Number of false alarms to expect, if the policy bounds it."""
    has_one = hasattr(tuner, "false_alarm_interval") and hasattr(tuner, "offset_")
    if n_clips == 0 or not has_one or tuner.policy != "false_alarm_rate":
        return []
    if np.isinf(tuner.offset_):
        return []
    low, high = tuner.false_alarm_interval(n_clips)
    return [
        f"If all {n_clips} recordings here are normal, between {100 * low:.3g} and "
        f"{100 * high:.3g} % of them are called anomalous in 95 of 100 cases."
    ]
