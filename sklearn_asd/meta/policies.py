"""Policies: how a threshold follows from the scores of validation clips.

A policy is a function of the normal clips' scores, the anomalous clips' scores and the
:class:`~sklearn_asd.ThresholdTuner`, whose parameters it may read. To add one, write a
function and list it in `POLICIES`, or pass the function to the tuner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammainccinv

from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd.meta.gamma import GammaScale

__all__ = ["POLICIES", "Policy", "Threshold", "describe_silence", "join_promises"]

# 0.29 * 100 is 28.999999999999996, but 29 is meant.
_ROUNDING = 1e-9


class Threshold(NamedTuple):
    """Decision of a policy.

    Attributes
    ----------
    offset : float
        Clips with a lower score are anomalous.

    promise : str
        What to expect of it, and how many clips this is based on.

    rank : int or None, default=None
        Rank of the threshold among the normal scores, 1 for the smallest; 0 if there
        are too few normal clips. None if the threshold is not one of the scores.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import MahalanobisDetector, ThresholdTuner
    >>> from sklearn_asd.meta.policies import Threshold
    >>> def below_all(normal, anomalous, tuner):
    ...     return Threshold(normal.min(), "no validation clip is a false alarm")
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> tuner = ThresholdTuner(MahalanobisDetector(), policy=below_all, random_state=0)
    >>> tuner.fit(X).promise_
    'no validation clip is a false alarm'
    """

    offset: float
    promise: str
    rank: int | None = None


Policy = Callable[[np.ndarray, np.ndarray, Any], Threshold]


def _keep_false_alarm_rate(
    normal: np.ndarray, anomalous: np.ndarray, tuner: Any
) -> Threshold:
    """Bound the false alarm rate by split conformal prediction."""
    rate = tuner.false_alarm_rate
    rank = math.floor(rate * (len(normal) + 1) + _ROUNDING)
    clips = _count_normal(normal, tuner)
    if rank == 0:
        n_needed = math.ceil(1 / rate - _ROUNDING) - 1
        promise = (
            f"no clip is called anomalous, as {clips} cannot promise "
            f"{_format_percent(rate)} of false alarms; it takes {n_needed}"
        )
        return Threshold(-np.inf, promise, rank)
    how = "about" if tuner.uses_training_scores_ else "at most"
    promise = (
        f"{how} {_format_percent(rate)} of unseen normal clips are called anomalous, "
        f"based on {clips}"
    )
    return Threshold(np.sort(normal)[rank - 1], promise, rank)


def _cut_gamma_tail(normal: np.ndarray, anomalous: np.ndarray, tuner: Any) -> Threshold:
    """Cut the tail of a Gamma distribution fitted to the normal anomaly scores."""
    remedy = 'add normal clips, or set policy="false_alarm_rate"'
    gamma = GammaScale.fit(-normal, "the normal validation clips", remedy)
    quantile = gammainccinv(gamma.shape, tuner.false_alarm_rate) * gamma.scale
    promise = (
        f"{_format_percent(tuner.false_alarm_rate)} of unseen normal clips are called "
        "anomalous if their scores follow the Gamma distribution of "
        f"{_count_normal(normal, tuner)}"
    )
    return Threshold(gamma.shift - quantile, promise)


def _maximize_f1(normal: np.ndarray, anomalous: np.ndarray, tuner: Any) -> Threshold:
    """Take the lowest threshold with the largest F1 of the anomalous class."""
    levels = np.unique(np.append(normal, anomalous))
    # For each level, with all clips up to it called anomalous.
    n_found = np.searchsorted(np.sort(anomalous), levels, side="right")
    n_alarms = np.searchsorted(np.sort(normal), levels, side="right")
    f1 = 2 * n_found / (n_found + n_alarms + len(anomalous))
    best = int(f1.argmax())
    promise = (
        f"F1 is {f1[best]:.3g} on {_count_normal(normal, tuner)} and "
        f"{len(anomalous)} anomalous; nothing is promised about unseen clips"
    )
    return Threshold(_next_gap(levels, best), promise)


def _limit_escapes(normal: np.ndarray, anomalous: np.ndarray, tuner: Any) -> Threshold:
    """Miss at most a share of the anomalous clips, with the fewest false alarms."""
    n_missed = math.floor(tuner.max_escape_rate * len(anomalous) + _ROUNDING)
    highest_found = np.sort(anomalous)[len(anomalous) - n_missed - 1]
    levels = np.unique(np.append(normal, anomalous))
    offset = _next_gap(levels, int(np.searchsorted(levels, highest_found)))
    promise = (
        f"{(anomalous >= offset).sum()} of {count(len(anomalous), 'anomalous clip')} "
        f"are missed, with {(normal < offset).sum()} of "
        f"{_count_normal(normal, tuner)} called anomalous; nothing is promised "
        "about unseen clips"
    )
    return Threshold(offset, promise)


# Each policy with the classes that it needs among the validation clips.
POLICIES: dict[str, tuple[Policy, tuple[str, ...]]] = {
    "false_alarm_rate": (_keep_false_alarm_rate, ("normal",)),
    "gamma": (_cut_gamma_tail, ("normal",)),
    "f1": (_maximize_f1, ("normal", "anomalous")),
    "escapes": (_limit_escapes, ("anomalous",)),
}


def join_promises(promises: dict[str, str]) -> str:
    """Write the promises of machines' own thresholds, equal ones once.

    Parameters
    ----------
    promises : dict of str to str
        By the name of the machine.

    Returns
    -------
    text : str
        Which promise is of which machines, if they differ.
    """
    machines: dict[str, list[str]] = {}
    for name, promise in promises.items():
        machines.setdefault(promise, []).append(name)
    if len(machines) == 1 < len(promises):
        return f"of each of {len(promises)} machines, {next(iter(machines))}"
    return "; ".join(f"of {', '.join(of)}, {one}" for one, of in machines.items())


def describe_silence(promises: dict[str, str]) -> str:
    """Name the machines that no alarm is raised for, and say why.

    Parameters
    ----------
    promises : dict of str to str
        What their thresholds promise, by the name of the machine.

    Returns
    -------
    text : str
        For a warning.
    """
    names = abbreviate(list(promises))
    return f"no alarm is raised for {names}: {join_promises(promises)}"


def _count_normal(normal: np.ndarray, tuner: Any) -> str:
    """Write how many normal clips a threshold rests on, and of which kind."""
    if tuner.uses_training_scores_:
        return f"{count(len(normal), 'training clip')} (each left out of the fit)"
    return count(len(normal), "normal clip")


def _format_percent(rate: float) -> str:
    return f"{100 * rate:.6g} %"


def _next_gap(levels: np.ndarray, last: int) -> float:
    """Half way from a level to the next one; just above it if it is the highest."""
    low = levels[last]
    if last + 1 == len(levels):
        return float(np.nextafter(low, np.inf))
    high = levels[last + 1]
    middle = low / 2 + high / 2
    # Between neighbouring floats, or from minus infinity, there is no middle.
    return float(middle if low < middle < high else high)
