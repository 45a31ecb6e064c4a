"""EmbeddingNeighborDetector: anomalous is what lies far from all training clips."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.covariance import LedoitWolf

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import HasMethods, Interval, StrOptions
from sklearn_asd.detectors.base import BaseDetector
from sklearn_asd.features import ClipSpectrograms

__all__ = ["EmbeddingNeighborDetector"]


class EmbeddingNeighborDetector(MetaEstimatorMixin, BaseDetector):
    """Anomalous is a clip far from its machine's training clips in an embedding.

    Fits a confidence detector and keeps the embedding of each training clip, averaged
    over its segments and views. A clip scores its mean distance to the `n_neighbors`
    nearest training clips of its own machine. With few training clips that finds
    more than the classifier's confidence, which says little of clips that lie beyond
    all machines.

    Parameters
    ----------
    detector : IDConfidenceDetector or AugmentConfidenceDetector
        What learns the embedding; it is cloned. Without machine IDs, all clips are
        one machine's.

    metric : {"cosine", "mahalanobis"}, default="cosine"
        "cosine" is one minus the cosine of the angle between two embeddings, in
        [0, 2]. "mahalanobis" is the distance after the embedding is whitened by the
        training clips' covariance around their machines' means (Ledoit-Wolf).

    n_neighbors : int, default=1
        Number of nearest training clips whose distances are averaged; where a machine
        has fewer, all.

    contamination : float in (0, 0.5], default=0.1
        Share of the training clips that the threshold calls anomalous, each clip
        judged by the others.

    Attributes
    ----------
    detector_ : IDConfidenceDetector or AugmentConfidenceDetector
        The fitted detector.

    training_score_samples_ : ndarray of shape (n_clips,)
        Score of each clip that was passed to `fit`, with the clip itself left out of
        the neighbours (its distance to itself is 0); NaN for those that were not
        learnt from. :class:`~sklearn_asd.GammaProbabilityEnsemble` calibrates on it.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of mel bands.

    See Also
    --------
    IDConfidenceDetector : Learns the embedding, and has a score of its own.

    Notes
    -----
    The network has seen the training clips, so they lie closer together than new
    ones do, also with each clip left out.

    Cost: as the detector's; then n_clips times n_training distances, in memory too.

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
        "metric": [StrOptions({"cosine", "mahalanobis"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }
    _fitted_attributes: dict = {
        "training_score_samples_": np.ndarray,
        "detector_": BaseEstimator,
        "_machine": np.ndarray,
        "_neighbors": np.ndarray,
        "_training_rows": np.ndarray,
        "_whiten": NotRequired[np.ndarray],
    }

    def __init__(self, detector, *, metric="cosine", n_neighbors=1, contamination=0.1):
        self.detector = detector
        self.metric = metric
        self.n_neighbors = n_neighbors
        self.contamination = contamination

    def _hear(self, X: Any) -> ClipSpectrograms:
        return self.detector._hear(X)

    def _fit(self, X: ClipSpectrograms) -> None:
        self._check_neighbors(self.detector._machines_to_learn(X), len(X))
        self.detector_ = clone(self.detector).fit(X, None)  # FrozenEstimator needs y
        self._machine = self.detector_._find_machines(X)
        embedding = self.detector_.embed(X)
        if self.metric == "mahalanobis":
            self._whiten = _whitening(embedding, self._machine)
        self._neighbors = self._place(embedding)

    @staticmethod
    def _check_neighbors(labels: np.ndarray | None, n_clips: int) -> None:
        """Refuse machines whose only clip would have no neighbour."""
        machines, counts = (
            (["X"], [n_clips]) if labels is None else np.unique(labels, return_counts=1)
        )
        alone = [str(m) for m, n in zip(machines, counts, strict=True) if n < 2]
        if alone:
            raise ValueError(
                f"{abbreviate(alone)} has one usable training clip, which has no "
                "neighbour: add recordings, or leave it out"
            )

    def _place(self, embedding: np.ndarray) -> np.ndarray:
        """Turn embeddings into points whose Euclidean distances are the metric."""
        if self.metric == "mahalanobis":
            return embedding @ self._whiten
        length = np.linalg.norm(embedding, axis=1, keepdims=True)
        return embedding / np.maximum(length, np.finfo(float).tiny)

    def _anomaly_score(self, X: ClipSpectrograms) -> np.ndarray:
        machine = self.detector_._find_machines(X)
        return self._mean_distance(self._place(self.detector_.embed(X)), machine)

    def _score_training_clips(self, X: ClipSpectrograms) -> np.ndarray:
        return self._mean_distance(self._neighbors, self._machine, leave_out=True)

    def _keep_training_scores(self, scores: np.ndarray, learnt: np.ndarray) -> None:
        self.training_score_samples_ = np.full(len(learnt), np.nan)
        self.training_score_samples_[learnt] = scores
        self._training_rows = np.flatnonzero(learnt)

    def nearest_training_clips(self, X):
        """Find the training clip that lies nearest to each clip: why it scores so.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips to score.

        Returns
        -------
        nearest : DataFrame of n_clips rows
            `row` is the row, in the X that was passed to `fit`, of the nearest training
            clip of the clip's own machine; `distance` is its distance, which with
            ``n_neighbors=1`` is the anomaly score. <NA> and NaN for clips that could
            not be used.
        """
        X = self._check(X)
        machine = self.detector_._find_machines(X)
        points = self._place(self.detector_.embed(X))
        nearest = pd.DataFrame({"row": pd.NA, "distance": np.nan}, index=range(len(X)))
        nearest["row"] = nearest["row"].astype("Int64")
        for rows, neighbors, distances in self._distances_by_machine(points, machine):
            usable = ~np.isnan(distances).any(axis=1)
            first = distances[usable].argmin(axis=1)
            nearest.loc[rows[usable], "row"] = self._training_rows[neighbors[first]]
            nearest.loc[rows, "distance"] = distances.min(axis=1)
        return nearest

    def _distances_by_machine(
        self, points: np.ndarray, machine: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows of each machine, its training clips, and distances between them."""
        for one in np.unique(machine):
            rows = np.flatnonzero(machine == one)
            neighbors = np.flatnonzero(self._machine == one)
            near = self._neighbors[neighbors]
            yield rows, neighbors, _distances(points[rows], near, self.metric)

    def _mean_distance(
        self, points: np.ndarray, machine: np.ndarray, leave_out: bool = False
    ) -> np.ndarray:
        """Mean distance to the nearest of the own machine's training clips."""
        scores = np.full(len(points), np.nan)
        for rows, neighbors, distances in self._distances_by_machine(points, machine):
            if leave_out:
                np.fill_diagonal(distances, np.inf)
            n_neighbors = min(self.n_neighbors, len(neighbors) - leave_out)
            nearest = np.partition(distances, n_neighbors - 1, axis=1)
            scores[rows] = nearest[:, :n_neighbors].mean(axis=1)
        scores[np.isnan(points).any(axis=1)] = np.nan
        return scores


def _distances(points: np.ndarray, neighbors: np.ndarray, metric: str) -> np.ndarray:
    """Distance of each point to each neighbour."""
    # Differences, since 1 - cosine of nearly equal directions would lose all digits.
    squared = np.stack([((neighbors - point) ** 2).sum(axis=1) for point in points])
    return squared / 2 if metric == "cosine" else np.sqrt(squared)


def _whitening(embedding: np.ndarray, machine: np.ndarray) -> np.ndarray:
    """Matrix that gives the deviations from the machines' means unit covariance."""
    means = np.stack([embedding[machine == one].mean(axis=0) for one in machine])
    covariance = LedoitWolf(assume_centered=True).fit(embedding - means)
    values, vectors = np.linalg.eigh(covariance.covariance_)
    return vectors / np.sqrt(np.maximum(values, values.max() * 1e-12))
