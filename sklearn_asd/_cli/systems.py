"""The detectors that ``sklearn-asd fit`` offers, each with an honest threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_asd._cli.conventions import shows_progress
from sklearn_asd._utils.messages import abbreviate, count, did_you_mean
from sklearn_asd.audio.machines import DCASE2020_TYPES, count_held_out
from sklearn_asd.features import LogMelSegmenter, RecordingCheck
from sklearn_asd.features.segmenter import SEGMENT_DURATION
from sklearn_asd.meta import ThresholdTuner
from sklearn_asd.meta.scoring import final_step
from sklearn_asd.meta.structure import compares_machines, walk
from sklearn_asd.presets import (
    DETECTORS,
    NETWORK_DETECTORS,
    PAPER_SYSTEMS,
    make_detector,
    make_paper_system,
    scored_types,
    training_types,
)

__all__ = [
    "SYSTEMS",
    "choose_types",
    "explain_threshold",
    "make_system",
    "select_scored",
]

SYSTEMS = (*DETECTORS, *PAPER_SYSTEMS)
_VALIDATION_FRACTION = 0.2
_FEWEST_HELD_OUT = 2  # scores that a distribution is fitted to
_NETWORK_OPTIONS = ("batch_size", "max_epochs", "device", "random_state")


def choose_types(
    name: str, clips: pd.DataFrame, wanted: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Choose the machine types to judge and to train on.

    Returns
    -------
    judged : list of str
        The types that a system of the paper judges; empty for other systems.

    trained_on : list of str
        The types to train on.
    """
    present = sorted(set(clips["machine_type"].dropna()))
    for one in sorted(set(wanted) - set(present)):
        raise ValueError(
            f"there are no recordings of the machine type {one!r}:"
            f"{did_you_mean(one, present)} the folders name "
            f"{', '.join(present) or 'no types'}"
        )
    chosen = sorted(set(wanted)) or present
    if name not in PAPER_SYSTEMS:
        return [], chosen
    if not chosen or not set(chosen) <= set(DCASE2020_TYPES):
        raise ValueError(
            f"system {name!r} judges machine types of {', '.join(DCASE2020_TYPES)}, "
            f"and the recordings are of {', '.join(chosen) or 'no machine type'}: name "
            "some with --machine-type, or choose --system default or ensemble"
        )
    return chosen, _list_trained_on(name, chosen, present)


def _list_trained_on(name: str, judged: list[str], present: list[str]) -> list[str]:
    """List the types that a system of the paper learns from, to judge some."""
    learnt = set().union(*(training_types(kind, name) for kind in judged))
    others = sorted(learnt.intersection(present).difference(judged))
    if len(judged) > 1 and others:
        # Their machines would have thresholds, and no scores.
        raise ValueError(
            f"system {name!r} of {', '.join(judged)} learns from recordings of "
            f"{', '.join(others)} too: name these as well with --machine-type, or one "
            "type"
        )
    return sorted(learnt)


def select_scored(name: str, judged: list[str], clips: pd.DataFrame) -> pd.DataFrame:
    """Select the recordings that a system of the paper scores.

    Parameters
    ----------
    name : str
        The system.

    judged : list of str
        The types that it is made for.

    clips : DataFrame
        Training recordings.

    Returns
    -------
    scored : DataFrame
        Of several types, each is scored by its own networks alone.

    Raises
    ------
    ValueError
        If there is no recording of a type to judge.
    """
    types = scored_types(judged[0], name) if len(judged) == 1 else judged
    scored = clips[clips["machine_type"].isin(types)]
    missing = sorted(set(judged).difference(scored["machine_type"]))
    if missing:
        raise ValueError(
            f"no training recordings of {abbreviate(missing)}: add some, or name other "
            "types with --machine-type"
        )
    return scored


def make_system(
    name: str,
    judged: list[str],
    counts: pd.Series,
    rate: float,
    options: dict[str, Any],
) -> Any:
    """Build an unfitted detector of tables of recordings.

    Parameters
    ----------
    name : str
        One of `SYSTEMS`.

    judged : list of str
        The machine types that a system of the paper is for.

    counts : Series
        Number of recordings of each machine.

    rate : float
        Share of false alarms.

    options : dict
        Parameters of detectors and segmenters that the user can choose; None leaves
        the choice to the system.

    Returns
    -------
    detector : Pipeline or ThresholdTuner
        Its threshold comes from recordings that it was not trained on. It makes remarks
        on recordings that are unlike those of training.
    """
    seed, verbose = options["random_state"], int(shows_progress())
    chosen = {k: v for k, v in options.items() if v is not None}
    if name in PAPER_SYSTEMS:
        chosen |= {"on_bad_clip": "nan", "verbose": verbose}
        types = judged[0] if len(judged) == 1 else judged
        system = make_paper_system(types, name, **chosen)
        _add_checks(system)
        return _tune(system, counts, rate, seed)
    learns = name in NETWORK_DETECTORS
    segmenter = LogMelSegmenter(
        sample_rate=options["sample_rate"],
        channel=chosen.get("channel", "mix"),
        segment_duration=SEGMENT_DURATION if learns else None,
        on_bad_clip="nan",
        n_jobs=options["n_jobs"],
        verbose=verbose,
    )
    if not learns:
        detector = make_detector(name, contamination=rate)
        return make_pipeline(segmenter, RecordingCheck(), detector)
    chosen = {k: v for k, v in chosen.items() if k in _NETWORK_OPTIONS}
    detector = make_detector(name, contamination=rate, verbose=verbose, **chosen)
    tuned = _tune(detector, counts, rate, seed)
    return make_pipeline(segmenter, RecordingCheck(), tuned)


def explain_threshold(detector: Any, rate: float, counts: pd.Series) -> str:
    """Tell the share of false alarms to expect, and what this rests on."""
    last = final_step(detector)
    caution = (
        "\nThis holds for recordings like those of training. Recordings of other "
        "days,\nplaces or devices may raise more alarms: score normal ones to find out."
    )
    of = f"of {count(len(counts), 'machine')}"
    if hasattr(last, "promise_"):
        return _explain_held_out(last, of) + caution
    n_known = _count_known(last, counts)
    text = (
        f"Expected false alarms: about {100 * rate:g} % (leave-one-out on "
        f"{count(n_known, 'training recording')} {of})."
    )
    if n_known < 1 / rate - 1:
        text += " Expect more, as there are so few."
    return text + caution


def _add_checks(system: Any) -> None:
    """Let each Pipeline of a system make remarks."""
    for one in list(walk(system)):
        if hasattr(one, "steps"):
            one.steps.insert(-1, ("check", RecordingCheck()))


def _explain_held_out(tuner: Any, of: str) -> str:
    """Tell what a threshold promises that held-out recordings set."""
    if hasattr(tuner, "offsets_") or math.isinf(tuner.offset_):
        return f"Threshold: {tuner.promise_}."
    rests_on = f"{count(tuner.n_validation_normal_, 'held-out recording')} {of}"
    rate = f"{100 * tuner.false_alarm_rate:g} %"
    if tuner.policy == "gamma":
        return (
            f"Expected false alarms: {rate}, extrapolated from {rests_on} (Gamma fit)."
        )
    return f"Expected false alarms: at most {rate}, by {rests_on}."


def _count_known(detector: Any, counts: pd.Series) -> int:
    """Count the recordings that set the threshold: those that could be used."""
    scores = getattr(detector, "training_score_samples_", None)
    return int(counts.sum() if scores is None else (~np.isnan(scores)).sum())


def _tune(detector: Any, counts: pd.Series, rate: float, seed: int) -> ThresholdTuner:
    """Set thresholds with held-out clips: by rank if there are enough of them."""
    held_out = [count_held_out(_VALIDATION_FRACTION, n) for n in counts]
    # Machines whose scores cannot be compared have thresholds of their own.
    n_validation = sum(held_out) if compares_machines(detector) else min(held_out)
    enough = n_validation >= math.ceil(1 / rate) - 1
    if not enough and n_validation < _FEWEST_HELD_OUT:
        raise ValueError(
            f"a threshold needs {_FEWEST_HELD_OUT} held-out recordings, and "
            f"{counts.idxmin()} has {count(counts.min(), 'recording')}: add some, so "
            "that there are eight"
        )
    return ThresholdTuner(
        detector,
        "false_alarm_rate" if enough else "gamma",
        false_alarm_rate=rate,
        validation_fraction=_VALIDATION_FRACTION,
        random_state=seed,
    )
