"""Which faults a detector would hear, found out with normal clips alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_random_state

from sklearn_asd.audio import BadClipError, Clips
from sklearn_asd.audio.faults import FAULTS, Fault, plant_fault
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.features.front_end import FrontEnd
from sklearn_asd.meta.structure import find_front_end
from sklearn_asd.model_selection import MachineStratifiedKFold

__all__ = ["LEVELS", "audibility_table"]

LEVELS = (-30, -24, -18, -12, -6, 0, 6)
"""Levels of planted faults in dB."""

_COLUMNS = ("machine_type", "machine_id", "domain")

# Share of the recordings in which an audible fault is heard.
_MOST = 0.9


def audibility_table(
    detector: Any,
    X: Any,
    *,
    faults: Mapping[str, Fault] | None = None,
    levels: Sequence[float] = LEVELS,
    cv: Any = 5,
    n_clips: int = 10,
    random_state: Any = None,
) -> pd.DataFrame:
    """Find out which faults a detector would hear on each machine, by normal clips.

    Faults of several kinds and levels are planted into normal clips that the detector
    was not fitted on, which are judged by its threshold. That is the only answer where
    there are no recordings of faults; real ones may sound otherwise.

    Parameters
    ----------
    detector : Pipeline or other detector of recordings
        With a front end, such as :class:`~sklearn_asd.LogMelSegmenter`, and a
        threshold.

    X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
        Normal clips.

    faults : mapping of str to callable or None, default=None
        Kinds of faults; None takes all of ``sklearn_asd.audio.faults.FAULTS``.

    levels : sequence of float, default=(-30, -24, -18, -12, -6, 0, 6)
        Levels in dB relative to the clip, while the fault sounds.

    cv : int, cross-validation generator or None, default=5
        How clips are left out: a clone of the detector is fitted for each fold, of
        :class:`~sklearn_asd.model_selection.MachineStratifiedKFold` for an int. None:
        the detector is fitted already, on other clips.

    n_clips : int, default=10
        Number of clips of each machine that faults are planted into, the first ones of
        each fold; all if there are fewer.

    random_state : int, RandomState or None, default=None
        Draws what is random in the faults.

    Returns
    -------
    table : DataFrame
        A row for each machine and kind of fault. Columns: one for each level, from the
        lowest, with the share of the clips in which the fault was heard; "without",
        the share of the same clips that are called anomalous without a fault;
        "audible_from", the lowest level from which on it is heard in at least 90 % of
        the clips, or NaN; and "n_clips", on how many clips this is based.

    Raises
    ------
    ValueError
        If the detector reads no recordings, a machine has fewer clips than there are
        folds, or no clip can be used.

    Notes
    -----
    Cost: as many fits as there are folds, and the scoring of ``n_clips`` clips of each
    machine for each fault and level.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter
    >>> from sklearn_asd.audibility import audibility_table
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.presets import make_detector
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=1, n_train=20, duration=2.0, random_state=0)
    >>> normal = clips[clips["split"] == "train"]
    >>> pipe = make_pipeline(LogMelSegmenter(segment_duration=None), make_detector())
    >>> table = audibility_table(
    ...     pipe, normal, levels=[-30, 10], cv=2, n_clips=4, random_state=0)
    >>> float(table.loc[("fan/00", "noise"), 10])  # heard in all recordings
    1.0
    """
    front_end = find_front_end(detector)
    if front_end is None:
        raise ValueError(
            f"{type(detector).__name__} reads no recordings, so no fault can be "
            "planted into what it takes: give a Pipeline that begins with "
            "LogMelSegmenter or PowerSpectrum"
        )
    faults = FAULTS if faults is None else faults
    seed = check_random_state(random_state).randint(2**31 - 1)
    rng = np.random.default_rng(seed)
    folds = list(_leave_out(detector, X, cv))
    n_each = -(-n_clips // len(folds))
    judged = []
    for fitted, X_new in folds:
        clips = _read_some(Clips.from_X(X_new), front_end, n_each)
        for case, planted in _plant(clips, faults, sorted(levels), rng):
            alarm = fitted.predict(planted) == -1
            judged.append(clips[["machine"]].assign(**case, alarm=alarm))
    return _tabulate(pd.concat(judged), list(faults), sorted(levels))


def _leave_out(detector: Any, X: Any, cv: Any) -> Iterator[tuple[Any, Any]]:
    """Fitted detectors, each with clips that it was not fitted on."""
    if cv is None:
        yield detector, X
        return
    splitter = MachineStratifiedKFold(cv) if isinstance(cv, Integral) else cv
    for train, test in splitter.split(X):
        yield clone(detector).fit(_safe_indexing(X, train)), _safe_indexing(X, test)


def _read_some(clips: Clips, front_end: FrontEnd, n_each: int) -> pd.DataFrame:
    """Read the first usable clips of each machine."""
    labels = machine_labels(clips)
    rows: list[dict[str, Any]] = []
    n_read: Counter[str] = Counter()
    for row in range(len(clips)):
        machine = "" if labels is None else labels[row] or ""
        if n_read[machine] == n_each:
            continue
        with suppress(BadClipError):  # training and scoring name them
            samples = clips.read(row, front_end.sample_rate, front_end.channel)
            n_read[machine] += 1
            facts = {name: _take(getattr(clips, name), row) for name in _COLUMNS}
            rows.append({"machine": machine, "audio": samples, **facts})
    if not rows:
        raise ValueError("none of the clips can be used: give normal recordings")
    return pd.DataFrame(rows).assign(sample_rate=front_end.sample_rate)


def _take(column: np.ndarray | None, row: int) -> Any:
    return None if column is None else column[row]


def _plant(
    clips: pd.DataFrame,
    faults: Mapping[str, Fault],
    levels: Sequence[float],
    rng: np.random.Generator,
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The clips as they are, and with each fault at each level."""
    yield {"fault": "", "level": -np.inf}, clips
    for name, fault in faults.items():
        for level in levels:
            planted = [
                plant_fault(samples, fault, level, rate, rng)
                for samples, rate in zip(
                    clips["audio"], clips["sample_rate"], strict=True
                )
            ]
            yield {"fault": name, "level": level}, clips.assign(audio=planted)


def _tabulate(
    judged: pd.DataFrame, faults: list[str], levels: list[float]
) -> pd.DataFrame:
    """Share of alarms of each machine, fault and level."""
    planted = judged[judged["fault"] != ""]
    shares = planted.groupby(["machine", "fault", "level"])["alarm"].mean()
    table = shares.unstack("level")[levels]
    table.columns.name = None
    table = table.reindex(faults, level="fault")
    clean = judged[judged["fault"] == ""].groupby("machine")["alarm"]
    machines = table.index.get_level_values("machine")
    # Heard at this level and at all above it.
    heard = (table >= _MOST).iloc[:, ::-1].cummin(axis=1).iloc[:, ::-1]
    first = heard.apply(lambda row: row.index[row].min(), axis=1)
    return table.assign(
        without=clean.mean()[machines].to_numpy(),
        audible_from=first.astype(float),
        n_clips=clean.size()[machines].to_numpy(),
    )
