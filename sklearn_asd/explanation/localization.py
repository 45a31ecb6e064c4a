"""When in a clip, and in which bands, a detector finds the anomaly."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.explanation.parts import score_variants, take_clip
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.features.logmel import mel_frequencies
from sklearn_asd.features.spectrograms import SEGMENT_FRAMES, SEGMENT_HOP_FRAMES
from sklearn_asd.meta.structure import Opened

__all__ = [
    "band_edges",
    "band_scores",
    "frame_duration",
    "score_bands",
    "score_segments",
    "segment_scores",
    "spread_evenly",
]

# Occluded bands are replaced by those of the 3 most similar of 20 normal clips.
_MAX_NORMAL = 20
_N_SIMILAR = 3


def segment_scores(detector, X, clip=0):
    """Score each segment of a clip, as if it were the whole clip.

    For detectors that average over segments, such as confidence detectors and the
    autoencoder, the mean of the scores is the clip's score; with several views it is
    close to it.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted; of this library, or one on rows of numbers behind
        :class:`~sklearn_asd.SpectrumStatistics`. It may be inside Pipelines,
        ensembles, :class:`~sklearn_asd.ThresholdTuner`,
        :class:`~sklearn_asd.PerMachine` and so on.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    Returns
    -------
    scores : DataFrame of n_segments rows
        `start` and `stop` of each segment in s, or in frames if the frame rate is not
        known, and its `anomaly_score`: the higher, the more anomalous. Detectors of
        whole clips also get segments of 96 frames, or the whole clip if it is shorter.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used, or members of an ensemble cut it into different
        segments.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     ClipSpectrograms, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.explanation import segment_scores
    >>> log_mels = np.random.default_rng(0).normal(size=(20, 8, 40))
    >>> X = ClipSpectrograms.from_arrays(
    ...     log_mels, segment_frames=16, segment_hop_frames=8)
    >>> detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector()).fit(X)
    >>> X.frames[:16] += 10  # the beginning of the first clip
    >>> segment_scores(detector, X).round(0)
       start  stop  anomaly_score
    0      0    16          207.0
    1      8    24          139.0
    2     16    32            5.0
    3     24    40            8.0
    """
    return score_segments(Opened(detector, take_clip(X, clip)))


def score_segments(opened: Opened) -> pd.DataFrame:
    """Score each segment of a clip; see :func:`segment_scores`.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    scores : DataFrame of n_segments rows
        As of :func:`segment_scores`.
    """
    scores, grid = score_variants(opened, None, _split_clip)
    start, stop = grid.T
    return pd.DataFrame({"start": start, "stop": stop, "anomaly_score": scores})


def band_scores(detector, X, clip=0, *, X_normal, n_bands=16):
    """Find the mel bands that make a clip anomalous, by occluding one after the other.

    An occluded band is replaced by the same band of a normal clip of the same machine,
    shifted by the difference in level between the two clips. Scores are the mean over
    the three normal clips with the most similar mean spectra.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        As in :func:`segment_scores`.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    X_normal : any
        Normal clips of the same kind. If machines are known, only those of the clip's
        own machine are used. Of more than 20, 20 are used, spread evenly.

    n_bands : int, default=16
        Number of bands, each of about as many mels; at most the number of mels.

    Returns
    -------
    scores : DataFrame of n_bands rows
        Edges of each band, `low` and `high`, in Hz, or in mel bands counted from 0 if
        the frequencies are not known; the clip's `anomaly_score` with the band
        occluded; and the `drop` from its unchanged score. A drop above 0 means that the
        band carries some of the anomaly.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used, no normal clip is of its machine, or members of
        an ensemble have different mel bands.

    Notes
    -----
    No training clip has one band of another clip, so small drops of either sign mean
    little. Scores of confidence detectors are at most 1: if a clip is anomalous for
    several reasons, it may happen that no single band lowers the score. The same bands
    are occluded in all views of a clip.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     ClipSpectrograms, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.explanation import band_scores
    >>> log_mels = np.random.default_rng(0).normal(size=(20, 8, 40))
    >>> normal = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    >>> log_mels[0, 6:] += 10  # the two highest mels
    >>> X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> scores = band_scores(detector.fit(normal), X, X_normal=normal, n_bands=4)
    >>> int(scores["drop"].argmax())  # the fourth band
    3
    """
    check_scalar(n_bands, "n_bands", Integral, min_val=1)
    opened = Opened(detector, take_clip(X, clip))
    return score_bands(opened, Opened(detector, X_normal), n_bands)


def score_bands(opened: Opened, normal: Opened, n_bands: int = 16) -> pd.DataFrame:
    """Occlude the mel bands of a clip one after the other; see :func:`band_scores`.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    normal : Opened
        The same detector with normal clips, of which similar ones of the clip's machine
        are used.

    n_bands : int >= 1, default=16
        Number of bands.

    Returns
    -------
    scores : DataFrame of n_bands rows
        As of :func:`band_scores`.
    """

    def _occlude_bands(
        X: ClipSpectrograms, normal: ClipSpectrograms | None
    ) -> tuple[ClipSpectrograms, np.ndarray]:
        if normal is None:
            raise ValueError("no normal clip could be used: give others")
        edges = np.unique(np.linspace(0, X.n_mels, n_bands + 1).round().astype(int))
        return _occlude(X, edges, _replacements(X, normal)), band_edges(X)[edges]

    normal = normal.take(_choose_normal(opened.X, normal.X))
    (score, *occluded), limits = score_variants(opened, normal, _occlude_bands)
    low, high = limits[:-1], limits[1:]
    by_band = np.reshape(occluded, (-1, len(low))).mean(axis=0)
    return pd.DataFrame(
        {"low": low, "high": high, "anomaly_score": by_band, "drop": score - by_band}
    )


def frame_duration(X: ClipSpectrograms) -> float | None:
    """Compute the time between successive frames.

    Parameters
    ----------
    X : ClipSpectrograms
        Clips.

    Returns
    -------
    duration : float or None
        In s; None if it is not known.
    """
    if X.sample_rate is None or X.hop_length is None:
        return None
    return X.hop_length / X.sample_rate


def band_edges(X: ClipSpectrograms) -> np.ndarray:
    """Compute where each band begins and ends.

    Parameters
    ----------
    X : ClipSpectrograms
        Clips.

    Returns
    -------
    edges : ndarray of shape (n_mels + 1,)
        Frequencies in Hz: of mel bands half way, in mel, between the centres of
        successive bands, as they overlap. The numbers of the bands if the frequencies
        are not known.
    """
    if X.fmin is None or X.fmax is None:
        return np.arange(X.n_mels + 1.0)
    if X.band_scale == "log":
        return np.geomspace(X.fmin, X.fmax, X.n_mels + 1)
    # The centres of the bands are halves[2:-1:2].
    halves = mel_frequencies(2 * X.n_mels + 3, X.fmin, X.fmax)
    return halves[1::2]


def _split_clip(X: ClipSpectrograms, _: Any) -> tuple[ClipSpectrograms, np.ndarray]:
    """Segments of one clip as clips, and when each starts and stops."""
    if X.segment_frames is None:
        # Whole-clip detectors score the segments of the paper's other systems.
        shortest = int((X.stops - X.starts).min())
        segmented = X.resegment(min(SEGMENT_FRAMES, shortest), SEGMENT_HOP_FRAMES)
        segments = segmented.split_segments().resegment(None, X.segment_hop_frames)
    else:
        segments = X.split_segments()
    view = X.main_view
    frames = np.column_stack([segments.starts[:, view], segments.stops[:, view]])
    return segments, (frames - X.starts[0, view]) * (frame_duration(X) or 1)


def _occlude(
    X: ClipSpectrograms, edges: np.ndarray, replacements: list[np.ndarray]
) -> ClipSpectrograms:
    """The unchanged clip, then variants with one band replaced, by each replacement."""
    lengths = (X.stops - X.starts)[0]
    variants = [_fit_length(X, 0, lengths)]
    for replacement in replacements:
        for low, high in pairwise(edges):
            variant = variants[0].copy()
            variant[:, low:high] = replacement[:, low:high]
            variants.append(variant)
    stops = np.cumsum(lengths) + lengths.sum() * np.arange(len(variants))[:, None]
    same_clip = X[np.zeros(len(variants), dtype=int)]
    return same_clip.with_frames(np.concatenate(variants), stops - lengths, stops)


def _replacements(X: ClipSpectrograms, normal: ClipSpectrograms) -> list[np.ndarray]:
    """Frames of similar normal clips, all views, shifted to the level of the clip."""
    lengths = (X.stops - X.starts)[0]
    own = _fit_length(X, 0, lengths)
    others = [_fit_length(normal, row, lengths) for row in range(len(normal))]
    differences = own.mean(axis=0) - [frames.mean(axis=0) for frames in others]
    levels = np.median(differences, axis=1)
    distances = np.square(differences - levels[:, None]).sum(axis=1)
    return [others[row] + levels[row] for row in np.argsort(distances)[:_N_SIMILAR]]


def _fit_length(X: ClipSpectrograms, row: int, lengths: np.ndarray) -> np.ndarray:
    """Frames of all views of a clip, mirrored or cut to lengths."""
    views = enumerate(lengths)
    return np.concatenate(
        [
            np.pad(X.log_mel(row, view).T, ((0, n), (0, 0)), "symmetric")[:n]
            for view, n in views
        ],
        dtype=np.float32,
    )


def _choose_normal(one: Any, X_normal: Any) -> np.ndarray:
    """Rows of at most 20 normal clips of a clip's machine, or of all if not known."""
    own, others = machine_labels(one), machine_labels(X_normal)
    if own is None or others is None:
        rows = np.arange(_num_samples(X_normal))
    else:
        rows = np.flatnonzero(others == own[0])
        if len(rows) == 0:
            raise ValueError(
                f"X_normal holds no clip of machine {own[0]}: add some, as their bands "
                "replace the occluded ones"
            )
    return spread_evenly(rows, _MAX_NORMAL)


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
