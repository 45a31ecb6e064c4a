"""Detectors inside detectors, and the clips that each of them scores.

A detector made of others inherits from :class:`MetaDetectorMixin` and defines its inner
detectors (`inner_detectors`) and how to combine their scores (`combine_scores`). The
scores, explanations and reports follow from these two methods, verdicts from `offset_`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, NotRequired

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import JudgingMixin
from sklearn_asd._utils.validation import refuse_masked
from sklearn_asd.audio.machines import (
    group_labels,
    known_labels,
    refuse_unseen,
    refuse_unseen_groups,
)
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.features.front_end import FrontEnd
from sklearn_asd.meta import scoring

__all__ = [
    "Inner",
    "MetaDetectorMixin",
    "Opened",
    "compares_machines",
    "find_front_end",
    "find_offsets",
    "list_inside",
    "scatter",
    "take_rows",
    "threshold_labels",
    "walk",
]


class Inner(NamedTuple):
    """A fitted detector inside another one.

    Attributes
    ----------
    estimator : outlier detector or Pipeline
        The inner detector.

    rows : ndarray of int or None, default=None
        Rows of X that it scores, in ascending order; None is all of them.

    name : str, default=""
        Its name, for members of an ensemble.
    """

    estimator: Any
    rows: np.ndarray | None = None
    name: str = ""


class MetaDetectorMixin(MetaEstimatorMixin, JudgingMixin):
    """An outlier detector made of others.

    A subclass, which lists this class before BaseEstimator, defines `fit` and
    `inner_detectors`, and `combine_scores` where several detectors score the same clip.
    `fit` sets `offset_`: a clip of a lower score is anomalous. Where machines have
    thresholds of their own it sets `offsets_` instead, by the names of the machines. A
    subclass without either does not combine scores: each clip is then judged by the
    threshold of the detector that scores it.

    The attribute `compares_machines` of a subclass says whether its scores of different
    machines can be compared; by default they can if those of all inner detectors can.

    Examples
    --------
    One detector scores the clips of even number, another one the others.

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator, clone
    >>> from sklearn_asd import MahalanobisDetector
    >>> class Halves(MetaDetectorMixin, BaseEstimator):
    ...     def __init__(self, detector):
    ...         self.detector = detector
    ...
    ...     def fit(self, X, y=None):
    ...         self.halves_ = [clone(self.detector).fit(X[i::2]) for i in range(2)]
    ...         self.offset_ = -10.0
    ...         return self
    ...
    ...     def inner_detectors(self, X):
    ...         rows = [np.arange(i, len(X), 2) for i in range(2)]
    ...         pairs = zip(self.halves_, rows, strict=True)
    ...         return [Inner(half, some) for half, some in pairs if len(some)]
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> Halves(MahalanobisDetector()).fit(X).predict([[0, 0], [0, 0], [50, 50]])
    array([ 1,  1, -1])
    """

    _fitted_attributes: dict = {"training_score_samples_": NotRequired[np.ndarray]}

    def inner_detectors(self, X):
        """List the fitted detectors that score some of the clips.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        inner : list of Inner
            The detectors with the rows of X that each scores; detectors that score no
            row are left out.
        """
        raise NotImplementedError("a subclass defines which detectors score the clips")

    def combine_scores(self, scores, rows, X):
        """Combine the scores of the inner detectors.

        Parameters
        ----------
        scores : list of ndarray of shape (n_rows,)
            Anomaly scores, one array for each of ``inner_detectors(X)``.

        rows : list of ndarray of int or None
            Rows of X that the scores belong to; None is all. Explanations score many
            variants of one clip: X is then that clip, repeated, and all rows are None.

        X : any
            The same clips.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            The higher, the more normal: by default each clip's own score, or NaN.
        """
        own = [(where, -values) for where, values in zip(rows, scores, strict=True)]
        return scatter(own, _num_samples(X))

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            NaN for clips that could not be used.
        """
        check_is_fitted(self)
        refuse_masked(X, "X")
        inner = self.inner_detectors(X)
        scores = self._score_inner(inner, X)
        return self.combine_scores(scores, [one.rows for one in inner], X)

    def decision_function(self, X):
        """Score clips relative to the threshold.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        decisions : ndarray of shape (n_clips,), float64
            ``score_samples(X)`` minus `offset_`, or minus the value of the clip's
            machine in `offsets_`: negative for anomalous clips. Without these, the
            decisions of the detectors that score the clips; NaN for clips of none.
        """
        if hasattr(self, "offset_") or hasattr(self, "offsets_"):
            return self.score_samples(X) - find_offsets(self, X)
        return self._decide_inside(X)

    def _decide_inside(self, X):
        """Decisions of the inner detectors, each on its own clips."""
        check_is_fitted(self)
        values = [
            (one.rows, scoring.decisions(one.estimator, take_rows(X, one.rows)))
            for one in self.inner_detectors(X)
        ]
        return scatter(values, _num_samples(X))

    def _score_inner(self, inner, X):
        return [
            scoring.anomaly_scores(one.estimator, take_rows(X, one.rows))
            for one in inner
        ]

    def _keep_training_scores(self, inner, X):
        """Set `training_score_samples_`, if each detector has honest scores."""
        scores = [
            scoring.honest_training_scores(one.estimator, take_rows(X, one.rows))
            for one in inner
        ]
        if all(values is not None for values in scores):
            rows = [one.rows for one in inner]
            self.training_score_samples_ = self.combine_scores(scores, rows, X)


@dataclass(eq=False)
class Opened:
    """A fitted detector with clips, and its inner detectors with their clips.

    The inner detectors are looked up when they are first needed. Each transformer of a
    Pipeline runs once, so each file is read once for all questions about the clips.

    Attributes
    ----------
    estimator : outlier detector or Pipeline
        Fitted.

    X : any
        Clips, as it takes them.

    rows : ndarray of int or None, default=None
        Rows of these clips among the outer detector's clips; None is all of them.

    name : str, default=""
        Name of the member of an ensemble that it belongs to, or of the member's member
        as "outer/inner"; "" outside ensembles.
    """

    estimator: Any
    X: Any
    rows: np.ndarray | None = None
    name: str = ""

    @cached_property
    def inner(self) -> list[Opened]:
        """Detectors directly inside, each with its clips."""
        if isinstance(self.estimator, Pipeline):
            return [Opened(*_run_first_step(self.estimator, self.X), name=self.name)]
        if isinstance(self.estimator, FrozenEstimator):
            return [Opened(self.estimator.estimator, self.X, name=self.name)]
        if not hasattr(self.estimator, "inner_detectors"):
            return []
        return [
            Opened(
                inner.estimator,
                take_rows(self.X, inner.rows),
                inner.rows,
                f"{self.name}/{inner.name}".strip("/"),
            )
            for inner in self.estimator.inner_detectors(self.X)
        ]

    @cached_property
    def scores(self) -> np.ndarray:
        """Anomaly score of each clip, (n_clips,)."""
        if not self.inner:
            return scoring.anomaly_scores(self.estimator, self.X)
        scores = [one.scores for one in self.inner]
        if hasattr(self.estimator, "combine_scores"):
            rows = [one.rows for one in self.inner]
            return -self.estimator.combine_scores(scores, rows, self.X)
        return scores[0]  # of a Pipeline's or FrozenEstimator's only inner detector

    @cached_property
    def thresholds(self) -> np.ndarray:
        """Threshold of each clip's anomaly score, (n_clips,): higher is anomalous.

        NaN for clips that no inner detector scores, if the thresholds are theirs.
        Raises TypeError if there is no threshold.
        """
        if not hasattr(self.estimator, "decision_function"):
            name = type(scoring.final_step(self.estimator)).__name__
            raise TypeError(
                f"{name} has no threshold, so it cannot judge clips: wrap it in "
                "ThresholdTuner"
            )
        n_clips = _num_samples(self.X)
        if hasattr(self.estimator, "offset_"):
            return np.full(n_clips, -scoring.own_offset(self.estimator, self.X))
        if hasattr(self.estimator, "offsets_"):
            rows = self._scored_rows()
            own = find_offsets(self.estimator, take_rows(self.X, rows))
            return scatter([(rows, -own)], n_clips)
        if self.inner:
            return scatter([(one.rows, one.thresholds) for one in self.inner], n_clips)
        return self.scores + scoring.decisions(self.estimator, self.X)

    def _scored_rows(self) -> np.ndarray | None:
        """Rows that inner detectors score; None for all."""
        rows = [one.rows for one in self.inner]
        known = [some for some in rows if some is not None]
        return np.concatenate(known) if 0 < len(known) == len(rows) else None

    @property
    def problems(self) -> dict[int, str]:
        """Why clips could not be used, by row; see `ClipSpectrograms`."""
        found = {
            row if one.rows is None else int(one.rows[row]): reason
            for one in reversed(self.inner)
            for row, reason in one.problems.items()
        }
        own = self.X.problems if isinstance(self.X, ClipSpectrograms) else {}
        return found | own

    @property
    def remarks(self) -> dict[int, str]:
        """What is unlike the training recordings, by row; see `RecordingCheck`."""
        found = {
            row if one.rows is None else int(one.rows[row]): remark
            for one in reversed(self.inner)
            for row, remark in one.remarks.items()
        }
        if isinstance(self.estimator, Pipeline):
            first = self.estimator.steps[0][1]
            made = first.remarks(self.X) if hasattr(first, "remarks") else []
            found |= {row: remark for row, remark in enumerate(made) if remark}
        return found

    def __iter__(self) -> Iterator[Opened]:
        """Go through the detector and its inner detectors, from the outside in."""
        yield self
        for one in self.inner:
            yield from one

    def find(self, method: str) -> Opened | None:
        """Find the outermost detector that has a method and scores all the clips.

        Parameters
        ----------
        method : str
            Its name.

        Returns
        -------
        opened : Opened or None
            That detector; None if no detector has the method, or each machine has its
            own detector.
        """
        if hasattr(type(self.estimator), method):
            return self
        if len(self.inner) != 1 or _num_samples(self.inner[0].X) < _num_samples(self.X):
            return None
        return self.inner[0].find(method)

    def find_all(self, method: str) -> Iterator[Opened]:
        """Find all detectors inside that have a method.

        Parameters
        ----------
        method : str
            Its name.

        Yields
        ------
        opened : Opened
            From the outside in.
        """
        yield from (one for one in self if hasattr(type(one.estimator), method))

    def take(self, rows: Any) -> Opened:
        """Choose some of the clips, without transforming them again.

        Parameters
        ----------
        rows : array-like of int
            Rows of the clips.

        Returns
        -------
        opened : Opened
            The same detector with these clips.
        """
        rows = np.asarray(rows, dtype=int)
        some = Opened(self.estimator, _safe_indexing(self.X, rows), name=self.name)
        if "inner" in vars(self):
            some.inner = [
                taken for one in self.inner if (taken := one.take_outer(rows))
            ]
        for name in vars(self).keys() & {"scores", "thresholds"}:
            setattr(some, name, getattr(self, name)[rows])
        return some

    def take_outer(self, rows: np.ndarray) -> Opened | None:
        """Choose clips by their rows among the outer detector's clips.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the outer detector's clips.

        Returns
        -------
        opened : Opened or None
            The same detector with those of its clips; None if it scores none of them.
        """
        if self.rows is None:
            return self.take(rows)
        ours = np.flatnonzero(np.isin(rows, self.rows))
        if len(ours) == 0:
            return None
        taken = self.take(np.searchsorted(self.rows, rows[ours]))
        taken.rows = ours
        return taken


def walk(estimator: Any) -> Iterator[Any]:
    """Go through an estimator and all transformers and detectors inside it.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Yields
    ------
    estimator : estimator
        From the outside in; of a fitted and an unfitted one, the fitted one.
    """
    yield estimator
    for one in list_inside(estimator):
        yield from walk(one)


def find_front_end(estimator: Any) -> FrontEnd | None:
    """Find what reads the recordings.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Returns
    -------
    front_end : LogMelSegmenter, PowerSpectrum or None
        The first one inside; None if there is none.
    """
    return next((one for one in walk(estimator) if isinstance(one, FrontEnd)), None)


def list_inside(estimator: Any) -> list[Any]:
    """List the transformers and detectors directly inside an estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Returns
    -------
    inside : list of estimator
        The fitted ones if the estimator is fitted, or else those of its parameters.
    """
    held = vars(estimator)
    fitted = {name: value for name, value in held.items() if name.endswith("_")}
    return list(_find_estimators(fitted)) or list(_find_estimators(held))


def compares_machines(estimator: Any) -> bool:
    """Whether scores of different machines can be compared.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Fitted or not.

    Returns
    -------
    compares : bool
        False if a detector inside, such as :class:`~sklearn_asd.PerMachine`, scores
        each machine by a detector of its own, and nothing makes the scores comparable.
    """
    own = getattr(estimator, "compares_machines", None)
    return all(map(compares_machines, list_inside(estimator))) if own is None else own


def find_offsets(detector: Any, X: Any) -> float | np.ndarray:
    """Find what the score of each clip is compared with.

    Parameters
    ----------
    detector : outlier detector
        Fitted, with `offset_`, or with `offsets_` by the names of machines, or of the
        groups of clips that its `group_by_` names.

    X : any
        Clips; their machines or groups are read where there are `offsets_`.

    Returns
    -------
    offsets : float, or ndarray of shape (n_clips,)
        Lower scores are anomalous.

    Raises
    ------
    ValueError
        If a clip is of a machine or group without a threshold.
    """
    if not hasattr(detector, "offsets_"):
        return detector.offset_
    labels = threshold_labels(detector, X)
    return np.array([detector.offsets_[label] for label in labels], dtype=np.float64)


def threshold_labels(detector: Any, X: Any) -> np.ndarray:
    """Name the machine or the group of each clip, by which it has a threshold.

    Parameters
    ----------
    detector : outlier detector
        Fitted, with `offsets_`.

    X : any
        Clips.

    Returns
    -------
    labels : ndarray of shape (n_clips,), str
        Keys of `offsets_`.

    Raises
    ------
    ValueError
        If a clip is of a machine or group without a threshold.
    """
    if not hasattr(detector, "group_by_"):
        labels = known_labels(X, "as each machine has its own threshold")
        refuse_unseen(labels, detector.offsets_)
        return labels
    labels = group_labels(X, detector.group_by_)
    refuse_unseen_groups(labels, detector.offsets_, detector.group_by_, "thresholds")
    return labels


def take_rows(X: Any, rows: np.ndarray | None) -> Any:
    """Choose clips by their rows.

    Parameters
    ----------
    X : any
        Clips.

    rows : ndarray of int or None
        Rows; None is all of them.

    Returns
    -------
    X : any
        Those clips.
    """
    return X if rows is None else _safe_indexing(X, rows)


def scatter(parts: list[tuple[Any, Any]], n_clips: int) -> np.ndarray:
    """Put values into their rows.

    Parameters
    ----------
    parts : list of (rows, values)
        Rows are an ndarray of int, or None for all of them.

    n_clips : int
        Number of clips.

    Returns
    -------
    scattered : ndarray of shape (n_clips, ...), float64
        NaN in rows without a value.
    """
    shape = parts[0][1].shape[1:] if parts else ()
    scattered = np.full((n_clips, *shape), np.nan)
    for rows, values in parts:
        scattered[slice(None) if rows is None else rows] = values
    return scattered


def _run_first_step(pipeline: Pipeline, X: Any) -> tuple[Any, Any]:
    """Steps of a Pipeline after the first, and the clips transformed by the first."""
    first = pipeline.steps[0][1]
    if len(pipeline) == 1:
        return first, X
    if first is not None and first != "passthrough":
        X = first.transform(X)
    rest = pipeline[1:]
    return (rest.steps[0][1] if len(rest) == 1 else rest), X


def _find_estimators(value: Any) -> Iterator[Any]:
    """Transformers and detectors in a value, or in lists and dicts of them."""
    if isinstance(value, BaseEstimator):
        if hasattr(value, "transform") or hasattr(value, "score_samples"):
            yield value
    elif type(value) in (list, tuple, dict):
        for one in value.values() if type(value) is dict else value:
            yield from _find_estimators(one)
