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
from sklearn_asd.meta.pieces import piece_thresholds
from sklearn_asd.meta.structure import Opened

__all__ = ["Verdicts"]


class Verdicts:
    """Verdicts on clips, which may be scored in several blocks.

    Each file is read once and each clip is scored once, even if it is explained. A
    clip that is judged in pieces has the score and the threshold of the worst piece.

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
        Anomaly scores and their thresholds; NaN before a clip is scored. The score is
        NaN too if a piece cannot be used, unless another one is anomalous.

    spans : dict of int to (start, stop)
        Worst piece of clips that are judged in pieces, in s, by row.

    problems : dict of int to str
        Why clips could not be used, by row; see :class:`ClipSpectrograms`.

    remarks : dict of int to str
        What is unlike the training recordings, by row; see :class:`RecordingCheck`. Of
        a clip in pieces, the remark on the worst piece, or on the first that has one.

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
        self.spans: dict[int, tuple[float, float]] = {}
        self.problems: dict[int, str] = {}
        self.remarks: dict[int, str] = {}
        self.opened: dict[int, Opened] = {}
        self._worst = self.scores.copy()
        self._unheard: set[int] = set()  # rows of clips with pieces without a score
        self._said: dict[int, dict[float, str]] = {}  # remarks by row, start of piece
        labels = machine_labels(X)
        self.machines = None if labels is None else [label or "" for label in labels]

    @property
    def margins(self) -> np.ndarray:
        """Threshold of each clip minus its anomaly score: below 0 is anomalous."""
        return self.thresholds - self.scores

    def judge(self, rows: np.ndarray) -> None:
        """Score some of the clips.

        Parameters
        ----------
        rows : ndarray of int
            Their rows.
        """
        self.judge_pieces(_safe_indexing(self.X, rows), rows, np.ones_like(rows))

    def judge_pieces(self, pieces: Any, rows: np.ndarray, n_pieces: np.ndarray) -> None:
        """Score some pieces of clips; all pieces of a clip may take several calls.

        Parameters
        ----------
        pieces : any of n_pieces rows
            The pieces, as the detector takes them.

        rows : ndarray of int
            Row of the clip that each piece is of.

        n_pieces : ndarray of int
            Number of all pieces of that clip.
        """
        opened = Opened(self.detector, keep_recordings(pieces))
        self.thresholds[rows] = piece_thresholds(opened, n_pieces)
        spans = _find_spans(pieces, n_pieces)
        for place in np.flatnonzero(np.isnan(opened.scores) & (n_pieces > 1)).tolist():
            self._unheard.add(int(rows[place]))
            reason = opened.problems.get(place, "has no score")
            text = f"from {spans[place][0]:.6g} to {spans[place][1]:.6g} s it {reason}"
            self.problems.setdefault(int(rows[place]), text)
        for place, reason in opened.problems.items():
            self.problems.setdefault(int(rows[place]), reason)
        for place, remark in opened.remarks.items():
            self._said.setdefault(int(rows[place]), {})[spans[place][0]] = remark
        worst = _find_worst(opened.scores, rows, self._worst)
        self._worst[rows[worst]] = opened.scores[worst]
        cut = worst[n_pieces[worst] > 1].tolist()
        self.spans |= {int(rows[place]): spans[place] for place in cut}
        for row in set(rows.tolist()):
            self._settle(row)
        self._keep_most_anomalous(rows, opened, worst)

    def refuse(self, row: int, reason: str) -> None:
        """State that a clip cannot be judged.

        Parameters
        ----------
        row : int
            Its row.

        reason : str
            To complete "the clip ...".
        """
        self.problems[row] = reason
        self._unheard.add(row)
        self._settle(row)

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
        return rows[np.lexsort([-self.scores[rows], self.margins[rows]])]

    def _settle(self, row: int) -> None:
        """Find the score and the remark of a clip by what is known of its pieces."""
        is_alarm = self._worst[row] > self.thresholds[row]
        unheard = row in self._unheard
        self.scores[row] = self._worst[row] if is_alarm or not unheard else np.nan
        said = self._said.get(row, {})
        start = self.spans[row][0] if row in self.spans else 0.0
        remarks = []
        if start in said:
            remarks.append(said[start])
        elif said:
            remarks.append(f"from {min(said):.6g} s: {said[min(said)]}")
        if is_alarm and unheard:
            remarks.append(f"not all of it is judged: {self.problems[row]}")
        if remarks:
            self.remarks[row] = "; ".join(remarks)

    def _keep_most_anomalous(
        self, rows: np.ndarray, opened: Opened, worst: np.ndarray
    ) -> None:
        """Keep the worst pieces of the clips that are furthest above the threshold."""
        above = worst[self._worst[rows[worst]] > self.thresholds[rows[worst]]]
        place = dict(zip(rows[above].tolist(), above, strict=True))
        best = self.rank(np.array([*{**self.opened, **place}], dtype=int))
        self.opened = {
            row: _copy_frames(opened.take([place[row]]))
            if row in place
            else self.opened[row]
            for row in best[: self.max_details].tolist()
        }


def _find_worst(scores: np.ndarray, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Find the highest score of each clip, where it is higher than what is known."""
    worst = known.copy()
    places: dict[int, int] = {}
    for place, (score, row) in enumerate(zip(scores, rows.tolist(), strict=True)):
        if score > worst[row] or (np.isnan(worst[row]) and not np.isnan(score)):
            worst[row], places[row] = score, place
    return np.array(sorted(places.values()), dtype=int)


def _find_spans(pieces: Any, n_pieces: np.ndarray) -> list[tuple[float, float]]:
    """Start and stop of each piece; 0 and NaN for all of a clip."""
    if (n_pieces == 1).all():
        return [(0.0, np.nan)] * len(n_pieces)
    starts = np.where(n_pieces > 1, pieces["start"], 0.0)
    return list(zip(starts.tolist(), pieces["stop"].tolist(), strict=True))


def _copy_frames(opened: Opened) -> Opened:
    """Copy the frames of the clips, so that those of all others can be freed."""
    for one in opened:
        if isinstance(one.X, ClipSpectrograms):
            one.X = copy.deepcopy(one.X)
    return opened
