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

__all__ = ["UNUSABLE", "assign_machines", "judge"]

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
        machines, n_assumed = [pick_machine(machine_id, known)] * len(clips), 0
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


def judge(clips: pd.DataFrame, model: Model) -> Iterator[pd.DataFrame]:
    """Judge recordings, a block of them at a time.

    Yields
    ------
    judged : DataFrame of at most _BLOCK rows
        With `margin` (the detector's decision: negative is anomalous), `verdict`
        and `reason`.
    """
    with tqdm(total=len(clips), desc="score", unit="file", disable=None) as progress:
        for start in range(0, len(clips), _BLOCK):
            block = clips.iloc[start : start + _BLOCK]
            yield _judge_block(block, model.detector)
            progress.update(len(block))


def _judge_block(block: pd.DataFrame, detector: Any) -> pd.DataFrame:
    judged = block.assign(margin=np.nan, verdict=UNUSABLE)
    usable = block.index[block["reason"] == ""]
    if len(usable):
        with warnings.catch_warnings():
            # Each bad file is named below, with its reason.
            warnings.filterwarnings("ignore", message=".* cannot be used and score NaN")
            judged.loc[usable, "margin"] = detector.decision_function(block.loc[usable])
    for row in usable[judged.loc[usable, "margin"].isna()]:
        judged.loc[row, "reason"] = _explain_bad(block.loc[[row]], detector)
    heard = judged["margin"].notna()
    anomalous = judged.loc[heard, "margin"] < 0
    judged.loc[heard, "verdict"] = np.where(anomalous, "anomalous", "normal")
    return judged


def _explain_bad(clip: pd.DataFrame, detector: Any) -> str:
    """Ask again about one recording that scored NaN, for the library's reason."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.decision_function(clip)
    for warning in caught:
        _, named, reason = str(warning.message).rpartition("\n  clip 0 ")
        if named:
            return reason.partition(") ")[2]
    return "scores NaN: the model has not learnt recordings of its machine type"
