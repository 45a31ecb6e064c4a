"""What is known of each machine: its recordings, its threshold and its margins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sklearn_asd._base import is_frozen
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.meta.scoring import final_step, honest_training_scores
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["ALL", "count_recordings", "group_recordings", "tabulate_machines"]

ALL = "all recordings"
"""Stands for the machine where machines are not known."""


def count_recordings(X: Any) -> int:
    """Count recordings, of which X may hold several pieces each.

    Parameters
    ----------
    X : any
        Clips.

    Returns
    -------
    n_recordings : int
        Number of different files, or of rows without a file.
    """
    if isinstance(X, pd.DataFrame) and "path" in X:
        return int(X["path"].nunique() + X["path"].isna().sum())
    return _num_samples(X)


def group_recordings(verdicts: Verdicts) -> dict[str, np.ndarray]:
    """Group the judged recordings by their machines.

    Parameters
    ----------
    verdicts : Verdicts
        Verdicts on all recordings.

    Returns
    -------
    rows : dict of str to ndarray of int
        Rows of the recordings of each machine, by its name, in alphabetical order. All
        rows of `ALL` if no machine is known.
    """
    if verdicts.machines is None:
        return {ALL: np.arange(len(verdicts.scores))}
    machines = np.array(verdicts.machines, dtype=object)
    return {name: np.flatnonzero(machines == name) for name in sorted(set(machines))}


def tabulate_machines(verdicts: Verdicts, X_train: Any = None) -> pd.DataFrame:
    """Tabulate what is known of each machine.

    Parameters
    ----------
    verdicts : Verdicts
        Verdicts on all recordings.

    X_train : any, default=None
        The clips that the detector was fitted to, in the same order.

    Returns
    -------
    machines : DataFrame of n_machines rows
        By name:

        - `n_anomalous`, `n_normal`, `n_unusable`: numbers of recordings;
        - `median` and `worst` margin of the recordings, NaN if none is usable;
        - `n_training`: number of training recordings, NaN if not known;
        - `n_left_out`: number of training recordings whose score is as if they had been
          left out of training, `n_false_alarms`: how many of them would raise an alarm,
          and `usual`: their median margin. 0, 0 and NaN if not known.
    """
    training = _score_training(verdicts.detector, X_train, verdicts.machines is None)
    rows = group_recordings(verdicts)
    table = [
        _count(verdicts.margins[some])
        | _compare_training(training.get(name), _find_threshold(verdicts, some))
        for name, some in rows.items()
    ]
    return pd.DataFrame(table, index=list(rows))


def _count(margins: np.ndarray) -> dict[str, Any]:
    """Sum up margins, which are negative for anomalous recordings."""
    known = margins[~np.isnan(margins)]
    return {
        "n_anomalous": int((known < 0).sum()),
        "n_normal": int((known >= 0).sum()),
        "n_unusable": len(margins) - len(known),
        "median": float(np.median(known)) if len(known) else np.nan,
        "worst": float(known.min()) if len(known) else np.nan,
    }


def _score_training(
    detector: Any, X_train: Any, is_one: bool
) -> dict[str, tuple[int | None, np.ndarray]]:
    """Number of training recordings of each machine, and scores if left out."""
    scores = honest_training_scores(detector)
    if is_frozen(getattr(final_step(detector), "detector", None)):
        scores = None  # of other recordings, by which the threshold was set later
    if X_train is None:  # whose scores they are is known only if all are of one group
        return {ALL: (None, scores)} if is_one and scores is not None else {}
    n_clips = _num_samples(X_train)
    scores = np.full(n_clips, np.nan) if scores is None else scores
    if len(scores) != n_clips:  # without recordings that could not be used
        scores = scores[~np.isnan(scores)]
    if len(scores) != n_clips:  # it is not known whose scores they are
        scores = np.full(n_clips, np.nan)
    return {
        name: (count_recordings(_safe_indexing(X_train, some)), scores[some])
        for name, some in _group(X_train, is_one).items()
    }


def _group(X_train: Any, is_one: bool) -> dict[str, np.ndarray]:
    """Rows of the training recordings of each machine."""
    labels = None if is_one else machine_labels(X_train)
    if labels is None:
        return {ALL: np.arange(_num_samples(X_train))}
    names = np.array([label or "" for label in labels], dtype=object)
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}


def _find_threshold(verdicts: Verdicts, rows: np.ndarray) -> float | None:
    """Threshold of recordings that are judged whole, if it is the same for all."""
    whole = [row for row in rows.tolist() if row not in verdicts.spans]
    known = verdicts.thresholds[whole]
    known = known[np.isfinite(known)]
    if len(known) == 0 or not np.allclose(known, known[0], rtol=1e-9, atol=0):
        return None
    return float(known[0])


def _compare_training(
    training: tuple[int | None, np.ndarray] | None, threshold: float | None
) -> dict[str, Any]:
    n_training, scores = training or (None, np.empty(0))
    margins = np.empty(0) if threshold is None else threshold - scores
    margins = margins[~np.isnan(margins)]
    return {
        "n_training": np.nan if n_training is None else n_training,
        "n_left_out": len(margins),
        "n_false_alarms": int((margins < 0).sum()),
        "usual": float(np.median(margins)) if len(margins) else np.nan,
    }
