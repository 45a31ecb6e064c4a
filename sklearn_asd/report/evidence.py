"""What the detectors inside a detector find in one clip: facts, without HTML."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio.clips import keep_recordings
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.detectors.distances import cosine
from sklearn_asd.explanation.localization import (
    choose_normal,
    score_bands,
    spread_evenly,
)
from sklearn_asd.explanation.parts import embed_clips, find_spectrograms
from sklearn_asd.meta.structure import Opened, scatter

__all__ = [
    "MemberVerdict",
    "Nearest",
    "NormalClips",
    "ViewVerdict",
    "find_nearest_in_training",
    "list_members",
    "list_views",
    "recognise_machines",
]

# Normal clips of a machine that a clip is compared with.
_MAX_COMPARED = 200


class MemberVerdict(NamedTuple):
    """The score of a member of an ensemble.

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
    """How a view of the clip was recognised.

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


def list_members(opened: Opened) -> list[MemberVerdict]:
    """List the scores of the members of the outermost ensemble.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    verdicts : list of MemberVerdict
        The member that finds the clip most anomalous comes first; empty where there is
        no ensemble.
    """
    for one in opened.find_all("member_scores"):
        ensemble = one.estimator
        scores = ensemble.member_scores(one.X, [member.scores for member in one.inner])
        raw, scaled = scores["raw"].iloc[0], scores["scaled"].iloc[0]
        scaled = scaled.sort_values(ascending=False)
        return [
            MemberVerdict(
                str(name),
                float(raw[name]),
                None if ensemble.scaling is None else float(probability),
            )
            for name, probability in scaled.items()
        ]
    return []


def list_views(opened: Opened) -> dict[str, list[ViewVerdict]]:
    """List which views of the clip were recognised.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    verdicts : dict of str to list of ViewVerdict
        For each detector that tells views apart, by the name of the member of the
        ensemble, "" outside ensembles; in the order of the views.
    """
    verdicts = {}
    for one in opened.find_all("view_scores"):
        scores = one.estimator.view_scores(one.X)
        confidence = scores["confidence"].iloc[0]
        heard_as = scores["heard_as"].iloc[0]
        verdicts[one.name] = [
            ViewVerdict(str(view), float(confidence[view]), str(heard_as[view]))
            for view in confidence.index
        ]
    return verdicts


def recognise_machines(opened: Opened) -> dict[str, str]:
    """Find the machine that the clip sounds most like.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    machines : dict of str to str
        For each detector that tells machines apart, by the name of the member of the
        ensemble, "" outside ensembles.
    """
    return {
        one.name: str(one.estimator.predict_id(one.X)[0])
        for one in opened.find_all("predict_id")
    }


def find_nearest_in_training(opened: Opened) -> Nearest | None:
    """Find the nearest training clip, where a detector keeps them.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    nearest : Nearest or None
        None where no detector keeps training clips.
    """
    for one in opened.find_all("nearest_training_clips"):
        nearest = one.estimator.nearest_training_clips(one.X).iloc[0]
        measure = f"{one.estimator.metric} distance in the embedding"
        return Nearest(int(nearest["row"]), float(nearest["distance"]), measure)
    return None


class NormalClips:
    """Normal clips to compare others with, opened for each machine when it is needed.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    X : any
        Normal clips, as it takes them.
    """

    def __init__(self, detector: Any, X: Any) -> None:
        self._detector = detector
        self._X = keep_recordings(X)
        self._machines = machine_labels(X)
        self._opened: dict[str | None, tuple[np.ndarray, Opened]] = {}

    def open(self, machine: str | None) -> tuple[np.ndarray, Opened]:
        """Open the detector for normal clips of one machine.

        Parameters
        ----------
        machine : str or None
            The machine, or None for all where it is not known.

        Returns
        -------
        rows : ndarray of int
            Their rows among the normal clips: all of the machine, or 200 spread evenly
            over them if there are more.

        opened : Opened
            The detector with these clips.
        """
        if self._machines is None:
            machine = None
        if machine not in self._opened:
            rows = np.arange(_num_samples(self._X))
            if machine is not None:
                rows = np.flatnonzero(self._machines == machine)
            rows = spread_evenly(rows, _MAX_COMPARED)
            opened = Opened(self._detector, _safe_indexing(self._X, rows))
            self._opened[machine] = rows, opened
        return self._opened[machine]

    def score_all(self) -> np.ndarray:
        """Score the normal clips that can be opened.

        Returns
        -------
        scores : ndarray of shape (n_clips,)
            Anomaly scores.
        """
        machines = [None] if self._machines is None else dict.fromkeys(self._machines)
        return np.concatenate([self.open(machine)[1].scores for machine in machines])

    def find_nearest(self, opened: Opened) -> tuple[Nearest, Opened] | None:
        """Find the normal clip that is most like a clip.

        Parameters
        ----------
        opened : Opened
            The detector with one clip.

        Returns
        -------
        nearest : Nearest
            Of the same machine, where clips tell machines. None in place of both if
            there is none.

        normal : Opened
            The detector with that clip.
        """
        rows, normal = self.open(_find_machine(opened))
        if len(rows) == 0:
            return None
        distances, measure = _compare(opened, normal)
        if np.isnan(distances).all():
            return None
        place = int(np.nanargmin(distances))
        nearest = Nearest(int(rows[place]), float(distances[place]), measure)
        return nearest, normal.take([place])

    def score_bands(self, opened: Opened) -> pd.DataFrame:
        """Occlude mel bands of a clip; see :func:`band_scores`.

        Parameters
        ----------
        opened : Opened
            The detector with one clip.

        Returns
        -------
        scores : DataFrame of n_bands rows
            As of :func:`band_scores`.
        """
        _, normal = self.open(_find_machine(opened))
        return score_bands(opened, normal.take(choose_normal(opened.X, normal.X)))


def _find_machine(opened: Opened) -> str | None:
    labels = machine_labels(opened.X)
    return None if labels is None else labels[0]


def _compare(opened: Opened, normal: Opened) -> tuple[np.ndarray, str]:
    """Distance of one clip to each of the normal clips, and what it measures."""
    point, others = embed_clips(opened), embed_clips(normal)
    if point is not None and others is not None:
        return cosine(point, others)[0], "cosine distance in the embedding"
    spectra = _mean_spectra(normal) - _mean_spectra(opened)[0]
    return np.sqrt(np.square(spectra).mean(axis=1)), "dB between mean spectra"


def _mean_spectra(opened: Opened) -> np.ndarray:
    """Mean level in dB of each mel band of each clip; NaN for unusable clips."""
    spectra = []
    for row in range(_num_samples(opened.X)):
        with suppress(ValueError):  # of an unusable clip
            clip = find_spectrograms(opened.take([row]))
            log_mel = clip.log_mel(0, clip.main_view).astype(np.float64)
            spectra.append((np.array([row]), log_mel.mean(axis=1)[None]))
    return scatter(spectra, _num_samples(opened.X))
