"""Recordings in, verdicts out, some files at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_asd._cli.models import Model
from sklearn_asd._cli.recordings import explain_unknown, find_machines, pick_machine
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["UNUSABLE", "assign_machines", "judge", "select_known"]

UNUSABLE = "unusable"

# Files that are in memory together. A score depends on its recording alone, so this
# changes nothing but how often verdicts appear.
_BLOCK = 32


def assign_machines(
    clips: pd.DataFrame, model: Model, machine_id: str | None
) -> tuple[pd.DataFrame, int]:
    """Give each recording the machine that the model knows it as.

    Returns
    -------
    clips : DataFrame of n_clips rows
        With the machines, and `reason`: why a recording cannot be judged, or "".

    n_assumed : int
        How many were taken for the only machine that the model knows.
    """
    clips = clips.assign(reason="")
    known = model.machines
    if known is None:
        if machine_id is not None:
            clips["machine_id"] = machine_id
        return clips, 0
    if machine_id is not None:
        machines: list[Any] = [pick_machine(machine_id, known)] * len(clips)
        n_assumed = 0
    else:
        machines, n_assumed = find_machines(clips, known, model.id_column)
    rows = clips.to_dict("records")
    clips["reason"] = [
        "" if machine else explain_unknown(row, known, model.id_column)
        for row, machine in zip(rows, machines, strict=True)
    ]
    found = [machine or (None, None) for machine in machines]
    clips["machine_type"] = pd.Series([kind for kind, _ in found], dtype=object)
    clips["machine_id"] = pd.Series([identity for _, identity in found], dtype=object)
    return clips, n_assumed


def judge(clips: pd.DataFrame, verdicts: Verdicts) -> Iterator[pd.DataFrame]:
    """Judge recordings, a block of them at a time.

    Parameters
    ----------
    clips : DataFrame
        All recordings, from :func:`assign_machines`.

    verdicts : Verdicts
        On those of :func:`select_known`.

    Yields
    ------
    judged : DataFrame of at most _BLOCK rows
        With `margin` (the detector's decision: negative is anomalous), `verdict`
        and `reason`.
    """
    known = (clips["reason"] == "").to_numpy()
    place = np.cumsum(known) - 1
    with tqdm(total=len(clips), desc="score", unit="file", disable=None) as progress:
        for start in range(0, len(clips), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = place[block][known[block]]
            if len(rows):
                with warnings.catch_warnings():
                    # Each is named in the table, with its reason.
                    warnings.simplefilter("ignore", UnusableClipWarning)
                    verdicts.judge(rows)
            yield _tabulate(clips.iloc[block], known[block], rows, verdicts)
            progress.update(len(clips.iloc[block]))


def select_known(clips: pd.DataFrame) -> pd.DataFrame:
    """Choose the recordings that can be judged, as far as is known before reading."""
    return clips[clips["reason"] == ""]


def _tabulate(
    block: pd.DataFrame, known: np.ndarray, rows: np.ndarray, verdicts: Verdicts
) -> pd.DataFrame:
    """Verdicts on a block, whose known recordings are these rows of `verdicts`."""
    margins = np.full(len(block), np.nan)
    margins[known] = verdicts.thresholds[rows] - verdicts.scores[rows]
    reasons = block["reason"].to_numpy(dtype=object, copy=True)
    unscored = np.isnan(margins[known])
    unknown_type = "scores NaN: the model has not learnt recordings of its machine type"
    reasons[known & np.isnan(margins)] = [
        verdicts.problems.get(int(row), unknown_type) for row in rows[unscored]
    ]
    verdict = np.where(margins < 0, "anomalous", "normal").astype(object)
    verdict[np.isnan(margins)] = UNUSABLE
    return block.assign(margin=margins, verdict=verdict, reason=reasons)
