"""What was done with a model after it was fitted, as its file tells."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd._cli.models import Model
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.meta.scoring import final_step
from sklearn_asd.meta.structure import Opened, list_inside
from sklearn_asd.persistence import save_model

__all__ = [
    "describe_change",
    "describe_history",
    "find_rate",
    "hash_files",
    "label_machines",
    "list_changes",
    "make_entry",
    "save_entry",
]

_BLOCK = 1 << 20  # bytes


def find_rate(detector: Any) -> float | None:
    """Find the share of false alarms that the thresholds were set for, if there is one.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    Returns
    -------
    rate : float or None
        None if the thresholds promise no rate, or several.
    """
    last = final_step(detector)
    if hasattr(last, "false_alarm_rate"):
        promises = last.policy in ("false_alarm_rate", "gamma")
        return float(last.false_alarm_rate) if promises else None
    rate = getattr(last, "contamination", None)
    if hasattr(last, "inner_detectors") and rate is None:
        # Of PerMachine and the like the detectors inside have the thresholds.
        rates = {find_rate(one) for one in list_inside(last)}
        rate = rates.pop() if len(rates) == 1 else None
    return float(rate) if isinstance(rate, Real) else None


def hash_files(paths: Iterable[str]) -> dict[str, str]:
    """Compute the SHA-256 of each file.

    Parameters
    ----------
    paths : iterable of str
        Files.

    Returns
    -------
    digests : dict of str to str
        In hexadecimal, by path; without files that cannot be read any more.
    """
    digests = {}
    for path in paths:
        with suppress(OSError):
            digests[path] = _hash_file(path)
    return digests


def _hash_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def make_entry(
    command: str,
    judged: pd.DataFrame,
    digests: Mapping[str, str],
    rate: float | None,
    **results: Any,
) -> dict[str, Any]:
    """Describe what was done, for the model's history.

    Parameters
    ----------
    command : str
        "add-normals", "calibrate" or "verify".

    judged : DataFrame
        The recordings that were used.

    digests : mapping of str to str
        Their SHA-256, by path.

    rate : float or None
        Share of false alarms that the thresholds were set for; None of "add-normals" if
        they promise none.

    **results : any
        What else to keep; values of JSON.

    Returns
    -------
    entry : dict
        Values of JSON.
    """
    files = judged.drop_duplicates("path")
    counts = files.groupby(label_machines(files)).size()
    return {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_recordings": {str(name): int(n) for name, n in counts.items()},
        "files": {path: digests.get(path, "") for path in files["path"]},
        "rate": rate,
        **results,
    }


def save_entry(
    model: Model, detector: Any, entry: dict[str, Any], path: str, **changes: Any
) -> None:
    """Write a model with one more entry in its history.

    Parameters
    ----------
    model : Model
        As it was read.

    detector : outlier detector or Pipeline
        What to write in place of its detector; may be the same.

    entry : dict
        From `make_entry`.

    path : str
        File to write. An older file is replaced once the new one is complete.

    **changes : any
        Notes to replace.
    """
    notes = {} if model.notes is None else model.notes
    if not isinstance(notes, dict):
        raise ValueError(
            "the notes of the model are not those of sklearn-asd fit, so they have no "
            "place for a history: save it with notes that are a dict, or None"
        )
    changes |= {"history": [*model.history, entry]}
    save_model(detector, path, {**notes, **changes})


def describe_history(history: list[dict[str, Any]]) -> str:
    """Write a line for each entry.

    Parameters
    ----------
    history : list of dict
        Of a model.

    Returns
    -------
    text : str
        When it was done, what, and with how many recordings.
    """
    return "\n  ".join(["", *map(_describe_entry, history)]).strip() or "none"


def _describe_entry(entry: dict[str, Any]) -> str:
    counts = entry["n_recordings"]
    text = (
        f"{entry['date']}  {entry['command']}  "
        f"{count(sum(counts.values()), 'normal recording')} of "
        f"{count(len(counts), 'machine')}"
    )
    if entry["command"] != "add-normals":
        text += f", {100 * entry['rate']:.3g} %"
    if "passed" in entry:
        text += ", passed" if entry["passed"] else ", failed"
    return printable(text)


def list_changes(
    before: Any, after: Any, clips: pd.DataFrame
) -> dict[str, list[float | None]]:
    """List the threshold of each machine before and after.

    Parameters
    ----------
    before, after : outlier detector or Pipeline
        Fitted.

    clips : DataFrame of n_clips rows
        Recordings of the machines.

    Returns
    -------
    thresholds : dict of str to list
        Values of JSON, by the name of the machine: None stands for infinity.
    """
    first = clips.assign(label=label_machines(clips)).drop_duplicates("label")
    rows = first.drop(columns="label").reset_index(drop=True)
    old, new = (_find_thresholds(one, rows) for one in (before, after))
    return {
        str(name): [_finite(a), _finite(b)]
        for name, a, b in zip(first["label"], old, new, strict=True)
    }


def describe_change(name: str, before: float | None, after: float | None) -> str:
    """Write how the threshold of a machine changed.

    Parameters
    ----------
    name : str
        The machine.

    before, after : float or None
        From :func:`list_changes`.

    Returns
    -------
    text : str
        A line.
    """
    old, new = ("none" if one is None else f"{one:.6g}" for one in (before, after))
    return f"{printable(name)}  threshold {old} -> {new}"


def label_machines(clips: pd.DataFrame) -> Any:
    """Name the machine of each recording, or "all" if no machines are known.

    Parameters
    ----------
    clips : DataFrame of n_clips rows
        Recordings.

    Returns
    -------
    labels : sequence of str
        One for each.
    """
    labels = machine_labels(clips)
    return ["all"] * len(clips) if labels is None else labels


def _find_thresholds(detector: Any, rows: pd.DataFrame) -> np.ndarray:
    return -Opened(final_step(detector), rows).thresholds


def _finite(threshold: float) -> float | None:
    """Write a threshold for JSON, which has no infinity."""
    return float(threshold) if math.isfinite(threshold) else None
