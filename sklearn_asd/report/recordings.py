"""The names and the sounds of the clips that a report is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio import BadClipError, Clips
from sklearn_asd.features import ClipSpectrograms, LogMelSegmenter

__all__ = ["Recordings"]


class Recordings:
    """Clips by name, and their sound where there is any.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        What hears them.

    X : any
        The clips, as it takes them.

    Attributes
    ----------
    names : list of str
        Paths below the folder that all files are in; or the clips' numbers.
    """

    def __init__(self, detector: Any, X: Any) -> None:
        self._segmenter = _find_segmenter(detector)
        self._clips = None
        if self._segmenter is not None and not isinstance(X, ClipSpectrograms):
            self._clips = Clips.from_X(X)
        self.names = self._name_clips(_num_samples(X))

    @property
    def have_sound(self) -> bool:
        """Tell whether there is anything to listen to.

        Returns
        -------
        have_sound : bool
            False for spectrograms and rows of numbers.
        """
        return self._clips is not None

    @property
    def sample_rate(self) -> float:
        """Give the rate of what is read.

        Returns
        -------
        sample_rate : float
            In Hz.
        """
        return self._segmenter.sample_rate

    def read(self, row: int) -> np.ndarray:
        """Read what the detector hears.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            Samples at `sample_rate`.
        """
        return self._clips.read(row, self.sample_rate, self._segmenter.channel)

    def explain_bad(self, row: int) -> str:
        """Tell why a clip could not be used.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        reason : str
            To complete "the clip ...".
        """
        if self._clips is None:
            return "has no segments, or the detector gives it no score"
        strict = LogMelSegmenter(
            **{**self._segmenter.get_params(), "on_bad_clip": "raise", "verbose": 0}
        )
        one = self._clips[row]
        try:
            strict.transform(one)
        except BadClipError as error:
            return str(error).removeprefix(one.name(0)).strip()
        return "gets no score from the detector, as its machine type was not learnt"

    def _name_clips(self, n_clips: int) -> list[str]:
        """Paths below the folder that all files are in; or the clips' numbers."""
        sources = [None] * n_clips if self._clips is None else self._clips.sources
        are_paths = [isinstance(source, str | os.PathLike) for source in sources]
        names = [f"clip {row}" for row in range(n_clips)]
        if not any(are_paths):
            return names
        paths = {
            row: Path(os.path.abspath(sources[row]))
            for row in np.flatnonzero(are_paths)
        }
        try:
            folder = os.path.commonpath([path.parent for path in paths.values()])
        except ValueError:  # on different drives
            folder = ""
        for row, path in paths.items():
            names[row] = str(path.relative_to(folder) if folder else path)
        return names


def _find_segmenter(estimator: Any) -> LogMelSegmenter | None:
    """First segmenter anywhere in an estimator; it is the same fitted or not."""
    if isinstance(estimator, LogMelSegmenter):
        return estimator
    if isinstance(estimator, Pipeline):
        inner = [step for _, step in estimator.steps]
    elif isinstance(estimator, FrozenEstimator):
        inner = [estimator.estimator]
    elif hasattr(estimator, "get_params"):
        values = estimator.get_params(deep=False)
        members = values.pop("estimators", ())
        inner = [pair[1] for pair in members if isinstance(pair, tuple)]
        inner += values.values()
    else:
        return None
    found = (_find_segmenter(one) for one in inner)
    return next((one for one in found if one is not None), None)
