"""Scores, thresholds and problems of clips, and the most anomalous clips."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio.clips import keep_recordings
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.structure import Opened

__all__ = ["Verdicts"]


class Verdicts:
    """Verdicts on clips, which may be scored in several blocks.

    Each file is read once and each clip is scored once, even if it is explained.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted, with a threshold.

    X : any
        Clips to score, as it takes them.

    max_details : int, default=0
        Number of clips to keep for explanations: the most anomalous of those called
        anomalous.

    Attributes
    ----------
    scores, thresholds : ndarray of shape (n_clips,)
        Anomaly scores and their thresholds; NaN before a clip is scored.

    problems : dict of int to str
        Why clips could not be used, by row; see :class:`ClipSpectrograms`.

    remarks : dict of int to str
        What is unlike the training recordings, by row; see :class:`RecordingCheck`.

    opened : dict of int to Opened
        The detector with each of the clips to explain, by row.

    machines : list of str or None
        Machine of each clip, "" if it is not known; None if no machine is known.
    """

    def __init__(self, detector: Any, X: Any, max_details: int = 0) -> None:
        self.detector = detector
        self.X = X
        self.max_details = max_details
        self.scores = np.full(_num_samples(X), np.nan)
        self.thresholds = self.scores.copy()
        self.problems: dict[int, str] = {}
        self.remarks: dict[int, str] = {}
        self.opened: dict[int, Opened] = {}
        labels = machine_labels(X)
        self.machines = None if labels is None else [label or "" for label in labels]

    @property
    def margins(self) -> np.ndarray:
        """Anomaly score of each clip minus its threshold: anomalous above 0."""
        return self.scores - self.thresholds

    def judge(self, rows: np.ndarray) -> None:
        """Score some of the clips.

        Parameters
        ----------
        rows : ndarray of int
            Their rows.
        """
        opened = Opened(self.detector, keep_recordings(_safe_indexing(self.X, rows)))
        self.thresholds[rows] = opened.thresholds
        self.scores[rows] = opened.scores
        problems = opened.problems.items()
        self.problems |= {int(rows[row]): reason for row, reason in problems}
        remarks = opened.remarks.items()
        self.remarks |= {int(rows[row]): remark for row, remark in remarks}
        self._keep_most_anomalous(rows, opened)

    def rank(self, rows: np.ndarray) -> np.ndarray:
        """Sort clips by how far they are above the threshold, then by their scores.

        Parameters
        ----------
        rows : ndarray of int
            Their rows.

        Returns
        -------
        rows : ndarray of int
            The most anomalous first.
        """
        return rows[np.lexsort([-self.scores[rows], -self.margins[rows]])]

    def _keep_most_anomalous(self, rows: np.ndarray, opened: Opened) -> None:
        above = np.flatnonzero(self.scores[rows] > self.thresholds[rows])
        place = dict(zip(rows[above].tolist(), above, strict=True))
        best = self.rank(np.array([*self.opened, *place], dtype=int))
        self.opened = {
            row: self.opened.get(row) or _copy_frames(opened.take([place[row]]))
            for row in best[: self.max_details].tolist()
        }


def _copy_frames(opened: Opened) -> Opened:
    """Copy the frames of the clips, so that those of all others can be freed."""
    for one in opened:
        if isinstance(one.X, ClipSpectrograms):
            one.X = copy.deepcopy(one.X)
    return opened
