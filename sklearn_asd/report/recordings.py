"""The names and the sounds of the clips that a report is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio import Clips
from sklearn_asd.features import ClipSpectrograms, LogMelSegmenter
from sklearn_asd.meta.structure import walk

__all__ = ["find_segmenter", "has_sound", "name_clips", "read_clip"]


def find_segmenter(detector: Any) -> LogMelSegmenter | None:
    """Find the first segmenter inside a detector.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted or not.

    Returns
    -------
    segmenter : LogMelSegmenter or None
        None if the detector reads no audio.
    """
    segmenters = (one for one in walk(detector) if isinstance(one, LogMelSegmenter))
    return next(segmenters, None)


def has_sound(detector: Any, X: Any) -> bool:
    """Tell whether there is something to listen to.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        The detector.

    X : any
        The clips, as it takes them.

    Returns
    -------
    has_sound : bool
        False for spectrograms and rows of numbers.
    """
    return find_segmenter(detector) is not None and not isinstance(X, ClipSpectrograms)


def read_clip(detector: Any, X: Any) -> np.ndarray:
    """Read a clip as the detector does.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        The detector.

    X : any, of length 1
        The clip, as it takes it.

    Returns
    -------
    samples : ndarray of shape (n_samples,), float32
        Samples at the sample rate of the segmenter.
    """
    segmenter = find_segmenter(detector)
    if segmenter is None:
        raise TypeError(f"{type(detector).__name__} reads no audio")
    return Clips.from_X(X).read(0, segmenter.sample_rate, segmenter.channel)


def name_clips(detector: Any, X: Any) -> list[str]:
    """Name clips for people.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        The detector.

    X : any
        The clips, as it takes them.

    Returns
    -------
    names : list of str
        Paths below the folder that all files are in; or the clips' numbers.
    """
    names = [f"clip {row}" for row in range(_num_samples(X))]
    if not has_sound(detector, X):
        return names
    sources = enumerate(Clips.from_X(X).sources)
    paths = {
        row: Path(os.path.abspath(source))
        for row, source in sources
        if isinstance(source, str | os.PathLike)
    }
    try:
        folder = os.path.commonpath([path.parent for path in paths.values()])
    except ValueError:  # no paths, or on different drives
        folder = ""
    for row, path in paths.items():
        names[row] = str(path.relative_to(folder) if folder else path)
    return names
