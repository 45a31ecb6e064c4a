"""Judge recordings some files at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_asd._cli.conventions import in_terms_of_command, shows_progress
from sklearn_asd._cli.models import Pieces
from sklearn_asd.audio.pieces import cut_into_pieces
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["BLOCK", "UNUSABLE", "judge"]

UNUSABLE = "unusable"

# Files, or pieces of files, in memory at a time. A score depends on its recording
# alone, so this changes only how often verdicts appear.
BLOCK = 32


def judge(
    detector: Any,
    clips: pd.DataFrame,
    pieces: Pieces | None = None,
    n_details: int = 0,
    show: Callable[[pd.DataFrame], None] | None = None,
) -> tuple[pd.DataFrame, Verdicts]:
    """Judge recordings in blocks.

    Parameters
    ----------
    detector : outlier detector
        Fitted, with a threshold.

    clips : DataFrame
        All recordings, from `assign_machines`.

    pieces : Pieces or None, default=None
        How long recordings are cut; None judges all of them whole.

    n_details : int, default=0
        Number of anomalous recordings to keep for explanations.

    show : callable, default=None
        Gets the rows of each block as soon as they are judged.

    Returns
    -------
    judged : DataFrame
        The recordings with `score` (`score_samples`: the higher, the more normal),
        `threshold` of it, `margin` (the detector's decision: negative is anomalous),
        `verdict`, `reason` and `remark`. `start` and `stop` are those of the worst
        piece in s, NaN for recordings judged whole.

    verdicts : Verdicts
        Verdicts on the recordings of known machines.
    """
    known = clips[clips["reason"] == ""]
    verdicts = Verdicts(detector, known, n_details)
    judged = []
    hidden = not shows_progress()
    with tqdm(total=len(clips), desc="score", unit="file", disable=hidden) as progress:
        for start in range(0, len(clips), BLOCK):
            block = clips.iloc[start : start + BLOCK]
            rows = known.index.get_indexer(block.index[block["reason"] == ""])
            if len(rows):
                with warnings.catch_warnings():
                    # The table names each unusable recording with its reason.
                    warnings.simplefilter("ignore", UnusableClipWarning)
                    _judge(verdicts, rows, pieces)
            judged.append(_tabulate(block, rows, verdicts))
            if show:
                show(judged[-1])
            progress.update(len(block))
    return pd.concat(judged), verdicts


def _judge(verdicts: Verdicts, rows: np.ndarray, pieces: Pieces | None) -> None:
    """Judge a block, or each recording alone if one of them raises an error."""
    try:
        _judge_pieces(verdicts, rows, pieces)
        for row, reason in verdicts.problems.items():
            verdicts.problems[row] = in_terms_of_command(reason)
    except Exception as error:  # of any detector, also of other libraries
        if len(rows) == 1:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            verdicts.refuse(int(rows[0]), in_terms_of_command(reason))
            return
        for row in rows:
            _judge(verdicts, np.array([row]), pieces)


def _judge_pieces(verdicts: Verdicts, rows: np.ndarray, pieces: Pieces | None) -> None:
    """Judge recordings, long ones some pieces at a time."""
    if pieces is None:
        verdicts.judge(rows)
        return
    clips = verdicts.X.iloc[rows].set_axis(rows)
    table = cut_into_pieces(clips, pieces.duration, longest=pieces.longest)
    owners = table.index.to_numpy()
    n_pieces = table.groupby(level=0).size()[owners].to_numpy()
    for start in range(0, len(table), BLOCK):
        block = slice(start, start + BLOCK)
        verdicts.judge_pieces(table.iloc[block], owners[block], n_pieces[block])


def _tabulate(
    block: pd.DataFrame, rows: np.ndarray, verdicts: Verdicts
) -> pd.DataFrame:
    """Add verdicts to a block; `rows` are the rows of its known recordings."""
    known = block.index[block["reason"] == ""]
    scores = pd.Series(-verdicts.scores[rows], known)
    thresholds = pd.Series(-verdicts.thresholds[rows], known)
    block = block.assign(
        score=scores,
        threshold=thresholds,
        margin=scores - thresholds,
        verdict=UNUSABLE,
        remark="",
        start=np.nan,
        stop=np.nan,
    )
    block.loc[block["margin"] >= 0, "verdict"] = "normal"
    block.loc[block["margin"] < 0, "verdict"] = "anomalous"
    no_score = (
        "scores NaN: it is too short for the model, or the model was not fitted on its "
        "machine type"
    )
    for place, row in zip(known, rows, strict=True):
        if np.isnan(block.loc[place, "margin"]):
            block.loc[place, "reason"] = verdicts.problems.get(int(row), no_score)
        else:
            block.loc[place, "remark"] = verdicts.remarks.get(int(row), "")
            if int(row) in verdicts.spans:
                block.loc[place, ["start", "stop"]] = verdicts.spans[int(row)]
    return block
