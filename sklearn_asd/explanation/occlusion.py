"""Scores of a clip with pieces of normal clips in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.explanation.axes import band_edges, frame_duration
from sklearn_asd.explanation.parts import score_variants
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.structure import Opened

__all__ = [
    "LARGEST_BATCH",
    "Occluded",
    "cut_cells",
    "occlude",
    "score_cells",
    "spread_evenly",
]

# Pieces come from the 3 most similar of 20 normal clips.
_MAX_NORMAL = 20
_N_SIMILAR = 3

# Bytes of the variants that are scored at a time.
LARGEST_BATCH = 32e6


class Occluded(NamedTuple):
    """Anomaly scores of a clip, of normal clips, and of mixtures of both.

    All but the first are means over the normal clips.

    Attributes
    ----------
    score : float
        The clip's own.

    normal_score : float
        The score of the normal clips, at the level of the clip.

    without : ndarray of shape (n_cells,)
        The clip's score if the normal clips' sound replaces its own in one cell.

    alone : ndarray of shape (n_cells,) or (0,)
        The score if the normal clips' sound replaces its own in all other cells; empty
        if it is not asked for.

    cells : ndarray of shape (n_cells, 4)
        Start, stop, low and high edge of each cell, in s and Hz, or in frames and
        bands where rates and frequencies are not known.
    """

    score: float
    normal_score: float
    without: np.ndarray
    alone: np.ndarray
    cells: np.ndarray


def score_cells(
    opened: Opened,
    normal: Opened,
    n_times: int,
    n_bands: int,
    n_similar: int = _N_SIMILAR,
) -> pd.DataFrame:
    """Cut a clip into cells of time and frequency, and find what each contributes.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    normal : Opened
        The same detector with normal clips, of which similar ones of the clip's machine
        are used.

    n_times, n_bands : int >= 1
        Number of cells along each axis.

    n_similar : int, default=3
        Number of normal clips to use.

    Returns
    -------
    scores : DataFrame of n_times * n_bands rows
        `start`, `stop`, `low`, `high`, `anomaly_score`, `drop`, `rise` and
        `contribution`, as of :func:`occlusion_map`. Its ``attrs`` hold the clip's
        `score` and the `normal_score`.
    """

    def _cut(X: ClipSpectrograms) -> np.ndarray:
        return cut_cells(X, n_times, n_bands)

    found = occlude(opened, normal, _cut, n_similar=n_similar)
    scores = pd.DataFrame(found.cells, columns=["start", "stop", "low", "high"])
    scores["anomaly_score"] = found.without
    scores["drop"] = found.score - found.without
    scores["rise"] = found.alone - found.normal_score
    scores["contribution"] = (scores["drop"] + scores["rise"]) / 2
    scores.attrs = {"score": found.score, "normal_score": found.normal_score}
    return scores


def occlude(
    opened: Opened,
    normal: Opened,
    cut: Callable[[ClipSpectrograms], np.ndarray],
    *,
    alone: bool = True,
    n_similar: int = _N_SIMILAR,
) -> Occluded:
    """Score a clip with cells of it replaced by those of similar normal clips.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    normal : Opened
        The same detector with normal clips, of which similar ones of the clip's machine
        are used.

    cut : callable
        Gives the cells of a clip's spectrogram, an ndarray of int and shape
        (n_cells, 4): first and last frame and band of each, the last ones exclusive.

    alone : bool, default=True
        Whether to score each cell among those of normal clips, too.

    n_similar : int, default=3
        Number of normal clips to use.

    Returns
    -------
    occluded : Occluded
        The scores.
    """

    def _vary(
        X: ClipSpectrograms, others: ClipSpectrograms | None
    ) -> tuple[Iterator[ClipSpectrograms], np.ndarray]:
        if others is None:
            raise ValueError("no normal clip could be used: give others")
        cells = cut(X)
        frames = [_fit_length(X, 0, X), *_find_similar(X, others, n_similar)]
        return _batch(X, _mix(X, frames, cells, alone)), _describe(X, cells)

    normal = normal.take(_choose_normal(opened.X, normal.X))
    (score, *mixed), cells = score_variants(opened, normal, _vary)
    n_cells = len(cells)
    by_kind = np.reshape(mixed, (-1, 1 + n_cells * (1 + alone))).mean(axis=0)
    return Occluded(
        score,
        by_kind[0],
        by_kind[1 : n_cells + 1],
        by_kind[n_cells + 1 :],
        cells,
    )


def cut_cells(X: ClipSpectrograms, n_times: int, n_bands: int) -> np.ndarray:
    """Cut a clip into cells of about the same number of frames and bands.

    Parameters
    ----------
    X : ClipSpectrograms of length 1
        The clip.

    n_times, n_bands : int >= 1
        Number of cells along each axis; at most the number of frames and bands.

    Returns
    -------
    cells : ndarray of shape (n_cells, 4), int
        As `cut` of :func:`occlude`, of the main view; those of one time follow each
        other.
    """
    n_frames = int(X.stops[0, X.main_view] - X.starts[0, X.main_view])
    times, bands = (
        pairwise(np.unique(np.linspace(0, size, n_cells + 1).round().astype(int)))
        for size, n_cells in ((n_frames, n_times), (X.n_mels, n_bands))
    )
    return np.array([(*time, *band) for time, band in product(times, bands)])


def spread_evenly(rows: np.ndarray, n_most: int) -> np.ndarray:
    """Choose rows that are spread evenly over others.

    Parameters
    ----------
    rows : ndarray of int
        Rows.

    n_most : int
        Number of rows to choose, if there are more.

    Returns
    -------
    chosen : ndarray of int
        Some of the rows, or all.
    """
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), n_most)).astype(int)]


def _describe(X: ClipSpectrograms, cells: np.ndarray) -> np.ndarray:
    """Cells in s and Hz, as far as these are known."""
    times = cells[:, :2] * (frame_duration(X) or 1)
    return np.column_stack([times, band_edges(X)[cells[:, 2:]]])


class _Mixture(NamedTuple):
    """Frames of a clip, with those of another one in some places and bands."""

    frames: np.ndarray
    other: np.ndarray
    places: list[slice]
    bands: slice


def _mix(
    X: ClipSpectrograms, frames: list[np.ndarray], cells: np.ndarray, alone: bool
) -> list[_Mixture]:
    """A clip, then each normal clip, and the mixtures of both."""
    own, *others = frames
    places = [_find_frames(X, start, stop) for start, stop in cells[:, :2]]
    bands = [slice(low, high) for low, high in cells[:, 2:]]
    nowhere: list[slice] = []
    mixtures = [_Mixture(own, own, nowhere, slice(None))]
    for other in others:
        mixtures.append(_Mixture(other, other, nowhere, slice(None)))
        for into, out_of in [(own, other), (other, own)][: 1 + alone]:
            mixtures += [
                _Mixture(into, out_of, *where)
                for where in zip(places, bands, strict=True)
            ]
    return mixtures


def _find_frames(X: ClipSpectrograms, start: int, stop: int) -> list[slice]:
    """Rows of a piece of time in the frames of all views, one after the other."""
    lengths = (X.stops - X.starts)[0]
    first = np.cumsum(lengths) - lengths
    begin, end = (
        first + np.rint(frame * lengths / lengths[X.main_view]).astype(int)
        for frame in (start, stop)
    )
    return [slice(*one) for one in zip(begin, end, strict=True)]


def _batch(X: ClipSpectrograms, mixtures: list[_Mixture]) -> Iterator[ClipSpectrograms]:
    """Mixtures as clips, some at a time."""
    lengths = (X.stops - X.starts)[0]
    own = mixtures[0].frames
    n_most = max(1, int(LARGEST_BATCH / own.nbytes))
    for first in range(0, len(mixtures), n_most):
        some = mixtures[first : first + n_most]
        frames = np.empty((len(some), *own.shape), dtype=own.dtype)
        for variant, mixture in zip(frames, some, strict=True):
            variant[:] = mixture.frames
            for place in mixture.places:
                variant[place, mixture.bands] = mixture.other[place, mixture.bands]
        stops = np.cumsum(lengths) + lengths.sum() * np.arange(len(some))[:, None]
        same_clip = X[np.zeros(len(some), dtype=int)]
        frames = frames.reshape(-1, X.n_mels)
        yield same_clip.with_frames(frames, stops - lengths, stops)


def _find_similar(
    X: ClipSpectrograms, normal: ClipSpectrograms, n_similar: int
) -> list[np.ndarray]:
    """Frames of the most similar normal clips, shifted to the level of the clip.

    Clips are compared by the median over time, which a short anomaly does not change.
    """
    own = np.median(_fit_length(X, 0, X), axis=0)
    others = [_fit_length(normal, row, X) for row in range(len(normal))]
    differences = own - [np.median(frames, axis=0) for frames in others]
    levels = np.median(differences, axis=1)
    distances = np.abs(differences - levels[:, None]).sum(axis=1)
    nearest = np.argsort(distances, kind="stable")[:n_similar]
    return [others[row] + levels[row] for row in nearest]


def _fit_length(X: ClipSpectrograms, row: int, like: ClipSpectrograms) -> np.ndarray:
    """Frames of all views of a clip, mirrored or cut to the lengths of another one."""
    fitted = []
    for view, n_frames in enumerate((like.stops - like.starts)[0]):
        frames = X.log_mel(row, view).T
        missing = max(0, n_frames - len(frames))
        frames = np.pad(frames, ((0, missing), (0, 0)), "symmetric")
        fitted.append(frames[:n_frames])
    return np.concatenate(fitted, dtype=np.float32)


def _choose_normal(one: Any, X_normal: Any) -> np.ndarray:
    """Rows of at most 20 normal clips of a clip's machine, or of all if not known."""
    own, others = machine_labels(one), machine_labels(X_normal)
    if own is None or others is None:
        rows = np.arange(_num_samples(X_normal))
    else:
        rows = np.flatnonzero(others == own[0])
        if len(rows) == 0:
            raise ValueError(
                f"X_normal holds no clip of machine {own[0]}: add some, as their sound "
                "replaces that of the clip"
            )
    return spread_evenly(rows, _MAX_NORMAL)
