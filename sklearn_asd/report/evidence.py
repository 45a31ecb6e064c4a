"""Findings of the detectors inside a detector about one clip, without HTML."""

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
from sklearn_asd.explanation.localization import Location, locate, map_cells
from sklearn_asd.explanation.occlusion import spread_evenly
from sklearn_asd.explanation.parts import embed_clips, find_spectrograms
from sklearn_asd.meta.structure import Opened, scatter
from sklearn_asd.report.recordings import find_segmenter, name_clips

__all__ = [
    "Nearest",
    "NormalClips",
    "find_nearest_in_training",
    "list_members",
    "list_views",
    "recognise_machines",
]

# Normal clips of a machine that a clip is compared with.
_MAX_COMPARED = 200


class Nearest(NamedTuple):
    """A normal clip that is similar to the clip.

    Attributes
    ----------
    name : str
        Its name.

    distance : float
        Its distance from the clip.

    measure : str
        Name of the distance.

    opened : Opened or None, default=None
        The detector with the normal clip; None if it is known by its row only.
    """

    name: str
    distance: float
    measure: str
    opened: Opened | None = None


def list_members(opened: Opened) -> pd.DataFrame | None:
    """List the scores of the members of the outermost ensemble.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    scores : DataFrame or None
        Columns `raw` and `scaled`, or `raw` and `z`, as of `member_scores`, without
        `scaled` if the ensemble does not scale. The member that finds the clip most
        anomalous comes first. None where there is no ensemble.
    """
    for one in opened.find_all("member_scores"):
        raw = [member.scores for member in one.inner]
        scores = _pivot(one.estimator.member_scores(one.X, raw))
        scores = scores.sort_values(scores.columns[-1], ascending=False)
        is_scaled = getattr(one.estimator, "scaling", "z") is not None
        return scores if is_scaled else scores[["raw"]]
    return None


def list_views(opened: Opened) -> dict[str, pd.DataFrame]:
    """List what each view of the clip was recognised as.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    views : dict of str to DataFrame
        `confidence` and `heard_as` of each view, as of `view_scores`. One table for
        each detector that tells views apart, by the name of the member of the
        ensemble, "" outside ensembles.
    """
    return {
        one.name: _pivot(one.estimator.view_scores(one.X))
        for one in opened.find_all("view_scores")
    }


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
    """Find the nearest training clip, if a detector keeps its training clips.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    nearest : Nearest or None
        None if no detector keeps training clips.
    """
    for one in opened.find_all("nearest_training_clips"):
        nearest = one.estimator.nearest_training_clips(one.X).iloc[0]
        metric = one.estimator.metric
        measure = f"{getattr(metric, '__name__', metric)} distance in the embedding"
        name = f"row {int(nearest['row'])}"
        return Nearest(name, float(nearest["distance"]), measure)
    return None


class NormalClips:
    """Normal clips to compare others with, opened for each machine when needed.

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
        self._names = name_clips(X, find_segmenter(detector, X))
        self._machines = machine_labels(X)
        self._opened: dict[str | None, tuple[np.ndarray, Opened]] = {}

    def open(self, machine: str | None) -> tuple[np.ndarray, Opened]:
        """Open the detector for normal clips of one machine.

        Parameters
        ----------
        machine : str or None
            The machine; None, if it is not known, is all of them.

        Returns
        -------
        rows : ndarray of int
            Their rows among the normal clips: all of the machine, or 200 of them,
            spread evenly.

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

    def take_first(self, machine: str) -> tuple[str, Any]:
        """Choose one normal clip of a machine, without opening it.

        Parameters
        ----------
        machine : str
            The machine; any clip will do if machines are not known.

        Returns
        -------
        name : str
            Of the clip; "" if there is none.

        X : any of one row, or None
            The clip.
        """
        rows = np.arange(len(self._names))
        if self._machines is not None:
            rows = np.flatnonzero(self._machines == machine)
        if len(rows) == 0:
            return "", None
        return self._names[rows[0]], _safe_indexing(self._X, rows[:1])

    def find_nearest(self, opened: Opened) -> Nearest | None:
        """Find the normal clip that is most similar to a clip.

        Parameters
        ----------
        opened : Opened
            The detector with one clip.

        Returns
        -------
        nearest : Nearest or None
            A clip of the same machine, if machines are known. None if there is none,
            or if the detector has neither embeddings nor spectrograms to compare.
        """
        rows, normal = self.open(_find_machine(opened))
        if len(rows) == 0:
            return None
        try:
            distances, measure = _compare(opened, normal)
        except TypeError:  # no spectrograms to compare
            return None
        if np.isnan(distances).all():
            return None
        place = int(np.nanargmin(distances))
        name = self._names[rows[place]]
        return Nearest(name, float(distances[place]), measure, normal.take([place]))

    def locate(self, opened: Opened) -> tuple[Location, pd.DataFrame | None]:
        """Find the place that carries most of a clip's anomaly.

        Parameters
        ----------
        opened : Opened
            The detector with one clip.

        Returns
        -------
        location : Location
            As of :func:`locate_anomaly`.

        cells : DataFrame or None
            As of :func:`occlusion_map`; None if no place carries most of the anomaly.
        """
        _, normal = self.open(_find_machine(opened))
        location = locate(opened, normal)
        return location, map_cells(opened, normal) if location.is_named else None


def _find_machine(opened: Opened) -> str | None:
    labels = machine_labels(opened.X)
    return None if labels is None else labels[0]


def _pivot(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of one clip: the first level of its columns becomes the only one."""
    return pd.DataFrame(
        {kind: scores[kind].iloc[0] for kind in scores.columns.unique(0)}
    )


def _compare(opened: Opened, normal: Opened) -> tuple[np.ndarray, str]:
    """Distances of one clip to each normal clip, and the name of the distance."""
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
