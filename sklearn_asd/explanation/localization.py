"""When in a clip, and at which frequencies, a detector finds the anomaly."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from sklearn_asd.explanation.occlusion import cut_cells, occlude, score_cells
from sklearn_asd.explanation.parts import take_clip
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.structure import Opened

__all__ = [
    "Location",
    "band_scores",
    "locate",
    "locate_anomaly",
    "map_cells",
    "occlusion_map",
    "time_scores",
]

_N_TIMES = 12
_N_BANDS = 16
_WIDEST = 4  # cells of a place that is named, next to each other

_TIME = ["start", "stop"]
_BAND = ["low", "high"]

# A place is named if it takes away this share of the score above the threshold, and
# this share of what the clip scores above normal clips. Unlike the first, the second
# does not vanish for clips that are just above the threshold.
_LEAST_OF_EXCESS = 1 / 3
_LEAST_OF_WHOLE = 1 / 2
# And if it holds this share of all contributions: where normal sound in any piece takes
# the anomaly away, as that of bands which are missing throughout, no piece is special.
_LEAST_OF_CONTRIBUTIONS = 0.4


class Location(NamedTuple):
    """When and in which band a clip is anomalous.

    Attributes
    ----------
    time : tuple of (float, float) or None
        Start and stop of the piece of time that carries most of the anomaly, in s, or
        in frames if the frame rate is not known; None if no piece does.

    band : tuple of (float, float) or None
        Low and high edge of the band that carries most of the anomaly, in Hz, or in
        bands counted from 0 if the frequencies are not known; None if no band does.

    time_drop, band_drop : float
        By how much the anomaly score falls if normal sound replaces that piece of time
        or that band; NaN if none is named.

    times : DataFrame or None
        As of :func:`time_scores`; None if time has no meaning, as the detector hears
        one spectrum of the whole clip.

    bands : DataFrame
        As of :func:`band_scores`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.explanation import Location
    >>> Location((1.5, 2.0), None, 7.2, np.nan, None, None).is_named
    True
    """

    time: tuple[float, float] | None
    band: tuple[float, float] | None
    time_drop: float
    band_drop: float
    times: pd.DataFrame | None
    bands: pd.DataFrame

    @property
    def is_named(self) -> bool:
        """Whether a time or a band carries most of the anomaly.

        Returns
        -------
        is_named : bool
            True if there is a `time` or a `band`.
        """
        return self.time is not None or self.band is not None


def time_scores(detector, X, clip=0, *, X_normal, n_times=12):
    """Find when a clip is anomalous, by replacing one piece of it after the other.

    A piece is replaced by the same piece of a normal clip of the same machine, shifted
    by the difference in level between the two clips. Scores are means over the three
    normal clips with the most similar spectra.

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

    X_normal : any
        Normal clips of the same kind. If machines are known, only those of the clip's
        own machine are used. Of more than 20, 20 are used, spread evenly.

    n_times : int, default=12
        Number of pieces, each about as long; at most the number of frames.

    Returns
    -------
    scores : DataFrame of n_times rows
        For each piece:

        - `start` and `stop`, in s, or in frames if the frame rate is not known;
        - `anomaly_score`: the clip's, without the piece;
        - `drop`: how much lower that is than the score of the unchanged clip;
        - `rise`: how much higher the normal clips score if they get the piece;
        - `contribution`: the mean of `drop` and `rise`. Above 0, the piece makes the
          clip more anomalous.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used, no normal clip is of its machine, members of an
        ensemble have different frames, or the detector hears a clip as one spectrum, as
        behind :class:`~sklearn_asd.PowerSpectrum`, so that time has no meaning.

    See Also
    --------
    locate_anomaly : Names the time and the band, or says that there is none.
    band_scores : The same for bands of frequencies.
    occlusion_map : The same for both together.

    Notes
    -----
    If the score is a sum over pieces, `drop`, `rise` and `contribution` are each
    piece's share of it. Few scores are: if the loudest moment counts, and there are
    two, neither of them alone lowers the score, but each raises that of a normal clip.
    So `contribution` weighs both: it is the piece's Shapley value in a game of two
    players, the piece and the rest of the clip.

    Small contributions of either sign mean little, as no training clip is put together
    of pieces. The same time is replaced in all views of a clip. Views that move time,
    such as "flip_time", have something else there.

    Cost: 6 `n_times` + 4 scorings.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     ClipSpectrograms, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.explanation import time_scores
    >>> log_mels = np.random.default_rng(0).normal(size=(20, 8, 40))
    >>> normal = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    >>> log_mels[0, :, 20:30] += 10  # the third quarter
    >>> X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> scores = time_scores(detector.fit(normal), X, X_normal=normal, n_times=4)
    >>> int(scores["contribution"].argmax())
    2
    """
    check_scalar(n_times, "n_times", Integral, min_val=1)
    opened = Opened(detector, take_clip(X, clip))
    scores = _score_times(opened, Opened(detector, X_normal), n_times)
    if scores is None:
        raise ValueError(
            "the detector hears the clip as one spectrum, so time has no meaning: use "
            "band_scores"
        )
    return scores


def band_scores(detector, X, clip=0, *, X_normal, n_bands=16):
    """Find the bands that make a clip anomalous, by replacing one after the other.

    As :func:`time_scores`, for bands of frequencies.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        As in :func:`time_scores`.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    X_normal : any
        Normal clips of the same kind, as in :func:`time_scores`.

    n_bands : int, default=16
        Number of bands, each of about as many mels; at most the number of mels.

    Returns
    -------
    scores : DataFrame of n_bands rows
        Edges of each band, `low` and `high`, in Hz, or in mel bands counted from 0 if
        the frequencies are not known; `anomaly_score`, `drop`, `rise` and
        `contribution` as in :func:`time_scores`.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used, no normal clip is of its machine, or members of
        an ensemble have different mel bands.

    See Also
    --------
    locate_anomaly : Names the time and the band, or says that there is none.
    time_scores : The same for pieces of time; its notes hold for bands, too.

    Notes
    -----
    Scores of confidence detectors are at most 1: if a clip is anomalous for several
    reasons, it may happen that no single band lowers the score.

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
    >>> int(scores["contribution"].argmax())  # the fourth band
    3
    """
    check_scalar(n_bands, "n_bands", Integral, min_val=1)
    opened = Opened(detector, take_clip(X, clip))
    return _score_bands(opened, Opened(detector, X_normal), n_bands)


def occlusion_map(detector, X, clip=0, *, X_normal, n_times=12, n_bands=16):
    """Find when and in which bands a clip is anomalous, as a map of its spectrogram.

    As :func:`time_scores`, for cells of time and frequency, and with the one normal
    clip that has the most similar spectrum.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        As in :func:`time_scores`.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    X_normal : any
        Normal clips of the same kind, as in :func:`time_scores`.

    n_times : int, default=12
        Number of cells in time; at most the number of frames.

    n_bands : int, default=16
        Number of cells in frequency; at most the number of mels.

    Returns
    -------
    scores : DataFrame of n_times * n_bands rows
        `start`, `stop`, `low` and `high` of each cell, and `anomaly_score`, `drop`,
        `rise` and `contribution`, as of :func:`time_scores` and :func:`band_scores`.
        Cells of one time follow each other.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used, no normal clip is of its machine, or members of
        an ensemble have different frames or mel bands.

    See Also
    --------
    locate_anomaly : Names the time and the band, or says that there is none.

    Notes
    -----
    Cost: 2 `n_times` * `n_bands` + 2 scorings.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     ClipSpectrograms, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.explanation import occlusion_map
    >>> log_mels = np.random.default_rng(0).normal(size=(20, 8, 40))
    >>> normal = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    >>> log_mels[0, 6:, 20:30] += 10
    >>> X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> scores = occlusion_map(
    ...     detector.fit(normal), X, X_normal=normal, n_times=4, n_bands=4)
    >>> scores.iloc[scores["contribution"].argmax()][["start", "stop", "low", "high"]]
    start    20.0
    stop     30.0
    low       6.0
    high      8.0
    Name: 11, dtype: float64
    """
    check_scalar(n_times, "n_times", Integral, min_val=1)
    check_scalar(n_bands, "n_bands", Integral, min_val=1)
    opened = Opened(detector, take_clip(X, clip))
    return map_cells(opened, Opened(detector, X_normal), n_times, n_bands)


def map_cells(
    opened: Opened, normal: Opened, n_times: int = _N_TIMES, n_bands: int = _N_BANDS
) -> pd.DataFrame:
    """Find what each cell of a clip contributes; see :func:`occlusion_map`.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    normal : Opened
        The same detector with normal clips.

    n_times, n_bands : int >= 1
        Number of cells.

    Returns
    -------
    scores : DataFrame of n_times * n_bands rows
        As of :func:`occlusion_map`.
    """
    return score_cells(opened, normal, n_times, n_bands, n_similar=1)


def locate_anomaly(detector, X, clip=0, *, X_normal):
    """Name the piece of time and the band that carry most of a clip's anomaly.

    A place is named only if the anomaly score falls by at least half of what the clip
    scores above its most similar normal clips, and by at least a third of what it
    scores above the threshold, when normal sound replaces it, and if its pieces hold
    at least 40 % of all contributions. Nothing is named for clips that are not called
    anomalous.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        As in :func:`time_scores`. Without a threshold, every clip counts as anomalous.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    X_normal : any
        Normal clips of the same kind, as in :func:`time_scores`.

    Returns
    -------
    location : Location
        `time` and `band`, each None where no place carries most of the anomaly, and the
        scores of :func:`time_scores` and :func:`band_scores`.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used, no normal clip is of its machine, or members of
        an ensemble have different frames or mel bands.

    See Also
    --------
    occlusion_map : What each cell of time and frequency contributes.

    Notes
    -----
    Of one to four neighbouring pieces (twelfths of the clip, sixteenths of the mel
    bands), the fewest that suffice are named. Faults that are spread over more than a
    third of the clip or a quarter of the bands, or that come back, are not named.

    On planted faults that raised an alarm, the named place is the right one for more
    than 90 % of the clips; ``benchmarks/accuracy_localization.py`` measures it.

    Cost: about 200 scorings.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     ClipSpectrograms, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.explanation import locate_anomaly
    >>> log_mels = np.random.default_rng(0).normal(size=(20, 16, 48))
    >>> normal = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    >>> log_mels[0, 6, 20:24] += 10
    >>> X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    >>> found = locate_anomaly(detector.fit(normal), X, X_normal=normal)
    >>> found.time, found.band  # in frames and mel bands
    ((20.0, 24.0), (6.0, 7.0))
    """
    opened = Opened(detector, take_clip(X, clip))
    return locate(opened, Opened(detector, X_normal))


def locate(opened: Opened, normal: Opened) -> Location:
    """Name the place that carries most of the anomaly; see :func:`locate_anomaly`.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    normal : Opened
        The same detector with normal clips.

    Returns
    -------
    location : Location
        The place.
    """
    times = _score_times(opened, normal, _N_TIMES)
    bands = _score_bands(opened, normal, _N_BANDS)
    least = _find_least_drop(opened, bands)
    time, time_drop = None, np.nan
    if times is not None:
        time, time_drop = _name_place(opened, normal, times, least)
    band, band_drop = _name_place(opened, normal, bands, least)
    return Location(time, band, time_drop, band_drop, times, bands)


def _score_times(opened: Opened, normal: Opened, n_times: int) -> pd.DataFrame | None:
    """Scores of pieces of time; None if time has no meaning."""
    scores = score_cells(opened, normal, n_times, 1)
    hears_one_frame = len(scores) == 1 < n_times
    return None if hears_one_frame else scores.drop(columns=_BAND)


def _score_bands(opened: Opened, normal: Opened, n_bands: int) -> pd.DataFrame:
    return score_cells(opened, normal, 1, n_bands).drop(columns=_TIME)


def _find_least_drop(opened: Opened, scores: pd.DataFrame) -> float:
    """By how much the score falls at least without a place that is named."""
    score = scores.attrs["score"]
    above_normal = score - scores.attrs["normal_score"]
    if not hasattr(opened.estimator, "decision_function"):
        return _LEAST_OF_WHOLE * above_normal if above_normal > 0 else np.inf
    excess = score - opened.thresholds[0]
    if excess <= 0 or above_normal <= 0:
        return np.inf
    return max(_LEAST_OF_EXCESS * excess, _LEAST_OF_WHOLE * above_normal)


def _name_place(
    opened: Opened, normal: Opened, scores: pd.DataFrame, least: float
) -> tuple[tuple[float, float] | None, float]:
    """Find the fewest neighbouring cells without which the score falls enough."""
    n_cells = len(scores)
    widths = np.arange(1, min(_WIDEST, n_cells) + 1)
    if np.isinf(least):
        return None, np.nan
    total = np.concatenate([[0], np.cumsum(scores["contribution"])])
    firsts = np.array([(total[width:] - total[:-width]).argmax() for width in widths])
    lasts = firsts + widths - 1
    in_time = "start" in scores

    def _cut(X: ClipSpectrograms) -> np.ndarray:
        cells = cut_cells(X, *((n_cells, 1) if in_time else (1, n_cells)))
        merged = cells[firsts]
        merged[:, [1, 3]] = cells[lasts][:, [1, 3]]
        return merged

    drops = scores.attrs["score"] - occlude(opened, normal, _cut, alone=False).without
    enough = np.flatnonzero(drops >= least)
    if len(enough) == 0:
        return None, np.nan
    place = enough[0]
    shares = scores["contribution"].clip(lower=0).to_numpy()
    own = shares[firsts[place] : lasts[place] + 1].sum()
    if own < _LEAST_OF_CONTRIBUTIONS * shares.sum():
        return None, np.nan
    low, high = scores.columns[:2]
    edges = (
        float(scores[low].iloc[firsts[place]]),
        float(scores[high].iloc[lasts[place]]),
    )
    return edges, float(drops[place])
