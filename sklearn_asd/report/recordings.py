"""Names and sounds of the clips of a report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.utils.validation import _num_samples

from sklearn_asd.audio import Clips
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.features.front_end import FrontEnd
from sklearn_asd.meta.structure import find_front_end

__all__ = ["find_paths", "find_segmenter", "name_clips"]


def find_segmenter(detector: Any, X: Any) -> FrontEnd | None:
    """Find the segmenter that reads the clips.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted or not.

    X : any
        Clips, as it takes them.

    Returns
    -------
    segmenter : LogMelSegmenter, PowerSpectrum or None
        The first one inside the detector; None if the clips are spectrograms or rows
        of numbers, so that there is no sound.
    """
    if isinstance(X, ClipSpectrograms):
        return None
    return find_front_end(detector)


def find_paths(X: Any, segmenter: FrontEnd | None) -> dict[int, Path]:
    """Find the files of clips.

    Parameters
    ----------
    X : any
        Clips.

    segmenter : LogMelSegmenter, PowerSpectrum or None
        From :func:`find_segmenter`.

    Returns
    -------
    paths : dict of int to Path
        The absolute path of each clip that has a file, by row.
    """
    if segmenter is None:
        return {}
    return {
        row: Path(os.path.abspath(source))
        for row, source in enumerate(Clips.from_X(X).sources)
        if isinstance(source, str | os.PathLike)
    }


def name_clips(X: Any, segmenter: FrontEnd | None) -> list[str]:
    """Name clips for people.

    Parameters
    ----------
    X : any
        Clips.

    segmenter : LogMelSegmenter, PowerSpectrum or None
        From :func:`find_segmenter`.

    Returns
    -------
    names : list of str
        Paths relative to the common folder of all files, or the numbers of the rows.
    """
    names = [f"recording {row}" for row in range(_num_samples(X))]
    paths = find_paths(X, segmenter)
    try:
        folder = os.path.commonpath([path.parent for path in paths.values()])
    except ValueError:  # no paths, or on different drives
        folder = ""
    for row, path in paths.items():
        names[row] = str(path.relative_to(folder) if folder else path)
    return names
