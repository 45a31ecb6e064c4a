"""What the parts of a detector say about one clip: facts, without a word of HTML."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.detectors import EmbeddingNeighborDetector, IDConfidenceDetector
from sklearn_asd.explanation import Part, clip_embeddings, clip_spectrograms
from sklearn_asd.explanation.parts import take_clip
from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble

__all__ = [
    "MemberVerdict",
    "Nearest",
    "NormalClips",
    "ViewVerdict",
    "ask_members",
    "ask_views",
    "nearest_in_training",
    "recognise",
]


class MemberVerdict(NamedTuple):
    """What a member of an ensemble says.

    Attributes
    ----------
    name : str
        The member.

    score : float
        Its own anomaly score.

    probability : float or None
        Share of normal clips that score less; None where the ensemble does not scale.
    """

    name: str
    score: float
    probability: float | None


class ViewVerdict(NamedTuple):
    """How a view of the clip was heard.

    Attributes
    ----------
    view : str
        The view.

    confidence : float
        Probability that it was recognised with, in [0, 1].

    heard_as : str
        The view that it sounds most like.
    """

    view: str
    confidence: float
    heard_as: str


class Nearest(NamedTuple):
    """A normal clip that is like the clip.

    Attributes
    ----------
    row : int
        Its row among the normal clips, or among those that were passed to `fit`.

    distance : float
        How unlike it is.

    measure : str
        What the distance is.
    """

    row: int
    distance: float
    measure: str


def ask_members(parts: list[Part]) -> list[MemberVerdict]:
    """Ask the members of the outermost ensemble.

    Parameters
    ----------
    parts : list of Part
        Of :func:`~sklearn_asd.explanation.detector_parts`.

    Returns
    -------
    verdicts : list of MemberVerdict
        The member that finds the clip most anomalous comes first; empty where there is
        no ensemble.
    """
    for _, estimator, X in parts:
        if isinstance(estimator, GammaProbabilityEnsemble):
            scores = estimator.member_scores(X)
            raw, scaled = scores["raw"].iloc[0], scores["scaled"].iloc[0]
            is_scaled = estimator.scaling is not None
            verdicts = [
                MemberVerdict(
                    str(name),
                    float(raw[name]),
                    float(scaled[name]) if is_scaled else None,
                )
                for name in scaled.sort_values(ascending=False).index
            ]
            return verdicts
    return []


def ask_views(parts: list[Part]) -> dict[str, list[ViewVerdict]]:
    """Ask the detectors that tell views apart.

    Parameters
    ----------
    parts : list of Part
        Of :func:`~sklearn_asd.explanation.detector_parts`.

    Returns
    -------
    verdicts : dict of str to list of ViewVerdict
        By member of the ensemble, "" outside ensembles; in the order of the views.
    """
    verdicts = {}
    for member, estimator, X in parts:
        if hasattr(estimator, "view_scores"):
            scores = estimator.view_scores(X)
            confidence = scores["confidence"].iloc[0]
            heard_as = scores["heard_as"].iloc[0]
            verdicts[member] = [
                ViewVerdict(str(view), float(confidence[view]), str(heard_as[view]))
                for view in confidence.index
            ]
    return verdicts


def recognise(parts: list[Part]) -> dict[str, str]:
    """Ask the detectors that tell machines apart.

    Parameters
    ----------
    parts : list of Part
        Of :func:`~sklearn_asd.explanation.detector_parts`.

    Returns
    -------
    machines : dict of str to str
        By member of the ensemble, "" outside ensembles: the machine that the clip
        sounds most like.
    """
    return {
        member: str(estimator.predict_id(X)[0])
        for member, estimator, X in parts
        if isinstance(estimator, IDConfidenceDetector)
    }


def nearest_in_training(parts: list[Part]) -> Nearest | None:
    """Ask a detector that judges by distances to training clips.

    Parameters
    ----------
    parts : list of Part
        Of :func:`~sklearn_asd.explanation.detector_parts`.

    Returns
    -------
    nearest : Nearest or None
        None where there is no such detector.
    """
    for _, estimator, X in parts:
        if isinstance(estimator, EmbeddingNeighborDetector):
            nearest = estimator.nearest_training_clips(X).iloc[0]
            measure = f"{estimator.metric} distance in the embedding"
            return Nearest(int(nearest["row"]), float(nearest["distance"]), measure)
    return None


class NormalClips:
    """Normal clips to compare others with, by what the detector hears of them.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    X_normal : any
        Normal clips, as it takes them.
    """

    def __init__(self, detector: Any, X_normal: Any) -> None:
        self._detector = detector
        self._machines = machine_labels(X_normal)
        try:
            self._points = clip_embeddings(detector, X_normal)
            self._has_embedding = True
        except TypeError:  # there is no embedding of all clips
            self._points = _mean_spectra(detector, X_normal)
            self._has_embedding = False

    def nearest_to(self, X: Any) -> Nearest | None:
        """Find the normal clip that is most like a clip.

        Parameters
        ----------
        X : any, of length 1
            The clip.

        Returns
        -------
        nearest : Nearest or None
            Of the same machine, where clips tell machines; None if there is none.
        """
        if self._has_embedding:
            distances = _cosine_distances(
                clip_embeddings(self._detector, X)[0], self._points
            )
            measure = "cosine distance in the embedding"
        else:
            difference = _mean_spectra(self._detector, X)[0] - self._points
            distances = np.sqrt(np.square(difference).mean(axis=1))
            measure = "dB between mean spectra"
        own = machine_labels(X)
        if own is not None and self._machines is not None:
            distances[self._machines != own[0]] = np.nan
        if np.isnan(distances).all():
            return None
        row = int(np.nanargmin(distances))
        return Nearest(row, float(distances[row]), measure)


def _cosine_distances(point: np.ndarray, others: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(point) * np.linalg.norm(others, axis=1)
    return 1 - others @ point / np.maximum(lengths, np.finfo(float).tiny)


def _mean_spectra(detector: Any, X: Any) -> np.ndarray:
    """Mean level in dB of each mel band of each clip; NaN for unusable clips."""
    spectra = []
    for row in range(_num_samples(X)):
        try:
            heard = clip_spectrograms(detector, take_clip(X, row))
        except ValueError:
            spectra.append(None)
            continue
        log_mel = heard.log_mel(0, heard.main_view)
        spectra.append(log_mel.astype(np.float64).mean(axis=1))
    n_mels = next((len(one) for one in spectra if one is not None), 1)
    unusable = np.full(n_mels, np.nan)
    return np.stack([unusable if one is None else one for one in spectra])
