"""EmbeddingNeighborDetector: a clip is anomalous if it is far from training clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import JudgingMixin, all_or_nothing, fit_clone
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import (
    HasMethods,
    Interval,
    StrOptions,
    validates_parameters,
)
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.detectors.base import label_clips, label_training_clips
from sklearn_asd.detectors.distances import DISTANCES, make_whitening

__all__ = ["EmbeddingNeighborDetector"]


class EmbeddingNeighborDetector(MetaEstimatorMixin, JudgingMixin, BaseEstimator):
    """A clip is anomalous if it is far from its machine's training clips.

    Fits a detector that learns an embedding, and keeps the embedding of each training
    clip. The anomaly score is the mean distance to the `n_neighbors` nearest training
    clips of the clip's own machine. With few training clips that finds more anomalies
    than the confidence of a classifier, which says little about clips far from all
    machines.

    Parameters
    ----------
    detector : IDConfidenceDetector, AugmentConfidenceDetector or other encoder
        Learns the embedding; it is cloned. An encoder is any estimator with the methods
        ``fit(X)`` and ``embed(X)``, which gives an array (n_clips, n_features) with
        rows of NaN for clips that cannot be used.
        ``FrozenEstimator(fitted)`` takes one that is fitted.

    metric : {"cosine", "mahalanobis"} or callable, default="cosine"
        "cosine" is one minus the cosine of the angle between two embeddings, in
        [0, 2]. "mahalanobis" is the distance after the embedding is whitened by the
        training clips' covariance around their machines' means (Ledoit-Wolf). A
        callable is called with two arrays of embeddings, (n_points, n_features) and
        (n_others, n_features), and gives their distances (n_points, n_others).

    n_neighbors : int, default=1
        Number of nearest training clips whose distances are averaged; where a machine
        has fewer, all.

    contamination : float in (0, 0.5], default=0.1
        Share of the training clips that the threshold calls anomalous, each compared
        with the other ones.

    Attributes
    ----------
    detector_ : estimator
        The fitted detector.

    training_score_samples_ : ndarray of shape (n_clips,)
        Score of each clip that was passed to `fit`, with the clip itself left out of
        the neighbours (its distance to itself is 0); NaN for anomalous and unusable
        clips. :class:`~sklearn_asd.GammaProbabilityEnsemble` calibrates on it.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of mel bands, or of what the encoder counts. Absent if it has none.

    See Also
    --------
    IDConfidenceDetector : Learns an embedding, and has a score of its own.

    Notes
    -----
    X is passed to the encoder as it is: ClipSpectrograms for the detectors of this
    library. Machines are read from X where it has them (ClipSpectrograms, Clips, a
    table with the column `machine_id`); without IDs, all clips are one machine's.
    Clips fitted without IDs are scored without them.

    The network has seen the training clips, so they are closer together than new
    clips, even when each is compared with the other ones.

    Cost: that of the detector; then time and memory grow with the number of clips
    times the number of training clips of their machine.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     EmbeddingNeighborDetector, IDConfidenceDetector, LogMelSegmenter)
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=4, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = EmbeddingNeighborDetector(
    ...     IDConfidenceDetector(mixup=0.5, max_epochs=2, random_state=0))
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (4,)
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods(["fit", "embed"])],
        "metric": [StrOptions(set(DISTANCES)), callable],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }
    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "training_score_samples_": np.ndarray,
        "offset_": Real,
        "detector_": BaseEstimator,
        "_training_machines": np.ndarray | None,
        "_training_points": np.ndarray,
        "_training_rows": np.ndarray,
        "_whitening": np.ndarray | None,
    }

    def __init__(self, detector, *, metric="cosine", n_neighbors=1, contamination=0.1):
        self.detector = detector
        self.metric = metric
        self.n_neighbors = n_neighbors
        self.contamination = contamination

    @validates_parameters(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the detector, and keep the embedding of the normal clips.

        Parameters
        ----------
        X : any of n_clips
            Training clips, as the detector takes them. Clips that cannot be used are
            left out.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : EmbeddingNeighborDetector
            Fitted.

        Raises
        ------
        ValueError
            If y holds anything but +1 and -1, no clip can be used, a machine has a
            single usable clip, or some clips have a machine ID and others have none.
        """
        n_clips = _num_samples(X)
        normal = np.flatnonzero(normal_rows(y, n_clips))
        X = _safe_indexing(X, normal)
        _refuse_single_clips(machine_labels(X), len(normal))  # before the training
        self.detector_ = fit_clone(self.detector, X)
        if hasattr(self.detector_, "n_features_in_"):
            self.n_features_in_ = self.detector_.n_features_in_
        embedding = self.embed(X)
        usable = np.flatnonzero(~np.isnan(embedding).any(axis=1))
        self._keep_neighbors(_safe_indexing(X, usable), embedding[usable])
        self._training_rows = normal[usable]
        scores = -self._mean_distance(
            self._training_points, self._training_machines, leave_out=True
        )
        self.training_score_samples_ = np.full(n_clips, np.nan)
        self.training_score_samples_[self._training_rows] = scores
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        return self

    def _keep_neighbors(self, X: Any, embedding: np.ndarray) -> None:
        """Keep points and machines of the usable normal clips."""
        if len(embedding) == 0:
            raise ValueError("X holds no usable normal clip: all embeddings are NaN")
        machines = label_training_clips(X)
        _refuse_single_clips(machines, len(embedding))
        self._training_machines = machines
        self._whitening = None
        if self.metric == "mahalanobis":
            groups = _group(machines, len(embedding))
            self._whitening = make_whitening(embedding, groups)
        self._training_points = self._place(embedding)

    def embed(self, X):
        """Embed clips: the points between which distances are measured.

        Parameters
        ----------
        X : any of n_clips
            Clips, of known machines or not, as the detector takes them.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_features), float64
            As the detector gives it, before any whitening; NaN for clips that could
            not be used.

        Raises
        ------
        ValueError
            If the detector gives an array of another shape.
        """
        check_is_fitted(self, "detector_")
        embedding = np.asarray(self.detector_.embed(X), dtype=np.float64)
        n_clips = _num_samples(X)
        if embedding.ndim != 2 or len(embedding) != n_clips:
            raise ValueError(
                f"{type(self.detector_).__name__}.embed gave an array of shape "
                f"{embedding.shape} for {n_clips} clips; it must be "
                f"({n_clips}, n_features)"
            )
        return embedding

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : any of n_clips
            Clips, as the detector takes them.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            Minus the mean distance to the nearest training clips, at most 0; NaN for
            clips that could not be used.
        """
        check_is_fitted(self)
        points = self._place(self.embed(X))
        return -self._mean_distance(points, label_clips(X, self._training_machines))

    def nearest_training_clips(self, X):
        """Find the training clip nearest to each clip: the reason for its score.

        Parameters
        ----------
        X : any of n_clips
            Clips, as the detector takes them.

        Returns
        -------
        nearest : DataFrame of n_clips rows
            `row` is the row, in the X that was passed to `fit`, of the nearest training
            clip of the clip's own machine; `distance` is its distance, which with
            ``n_neighbors=1`` is the anomaly score. <NA> and NaN for clips that could
            not be used.
        """
        check_is_fitted(self)
        points = self._place(self.embed(X))
        unknown = pd.array([pd.NA] * len(points), dtype="Int64")
        nearest = pd.DataFrame({"row": unknown, "distance": np.nan})
        labels = label_clips(X, self._training_machines)
        for rows, neighbors, distances in self._measure(points, labels):
            first = distances.argmin(axis=1)
            nearest.loc[rows, "row"] = self._training_rows[neighbors[first]]
            nearest.loc[rows, "distance"] = distances.min(axis=1)
        return nearest

    def training_points(self):
        """Give the training clips as the points that distances are measured to.

        Returns
        -------
        points : ndarray of shape (n_training, n_features), float64
            Their embeddings, multiplied by `whitening` if there is one.

        machines : ndarray of shape (n_training,), str, or None
            The machine of each; None if the training clips had no IDs.

        whitening : ndarray of shape (n_features, n_features) or None
            Of the metric "mahalanobis".
        """
        check_is_fitted(self)
        return self._training_points, self._training_machines, self._whitening

    def _place(self, embedding: np.ndarray) -> np.ndarray:
        """Turn embeddings into the points that the metric is for."""
        return embedding if self._whitening is None else embedding @ self._whitening

    def _mean_distance(
        self, points: np.ndarray, labels: np.ndarray | None, leave_out: bool = False
    ) -> np.ndarray:
        """Mean distance to the nearest of the own machine's training clips."""
        scores = np.full(len(points), np.nan)
        for rows, neighbors, distances in self._measure(points, labels):
            if leave_out:
                np.fill_diagonal(distances, np.inf)
            n_neighbors = min(self.n_neighbors, len(neighbors) - leave_out)
            nearest = np.partition(distances, n_neighbors - 1, axis=1)
            scores[rows] = nearest[:, :n_neighbors].mean(axis=1)
        return scores

    def _measure(
        self, points: np.ndarray, labels: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Usable rows of each machine, its training clips, distances between them."""
        groups = _group(labels, len(points))
        training_groups = _group(self._training_machines, len(self._training_points))
        usable = ~np.isnan(points).any(axis=1)
        distance = self.metric if callable(self.metric) else DISTANCES[self.metric]
        for one in np.unique(groups[usable]):
            rows = np.flatnonzero((groups == one) & usable)
            neighbors = np.flatnonzero(training_groups == one)
            distances = np.array(
                distance(points[rows], self._training_points[neighbors]), dtype=float
            )
            if distances.shape != (len(rows), len(neighbors)):
                raise ValueError(
                    f"metric={self.metric!r} gave an array of shape {distances.shape} "
                    f"for {len(rows)} and {len(neighbors)} embeddings; it must be "
                    f"({len(rows)}, {len(neighbors)})"
                )
            yield rows, neighbors, distances

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        with suppress(TypeError, AttributeError):  # fit refuses a wrong detector
            inner = get_tags(self.detector).input_tags
            tags.input_tags.two_d_array = inner.two_d_array
        return tags


def _group(labels: np.ndarray | None, n_clips: int) -> np.ndarray:
    """Labels to group clips by; one group for all if there are none."""
    return np.zeros(n_clips) if labels is None else labels


def _refuse_single_clips(labels: np.ndarray | None, n_clips: int) -> None:
    """Refuse machines whose only clip would have no neighbour."""
    counts = Counter({"X": n_clips} if labels is None else labels)
    single = sorted(name for name, n in counts.items() if n == 1 and name is not None)
    if single:
        raise ValueError(
            f"{abbreviate(single)} has one usable training clip, which has no "
            "neighbour: add recordings, or leave it out"
        )
