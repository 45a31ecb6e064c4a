"""SpectrumStatistics: clips as rows of numbers, for any outlier detector."""

from __future__ import annotations

from numbers import Integral
from typing import NotRequired

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import EstimatorMixin
from sklearn_asd._utils.parameters import StrOptions, validates_parameters
from sklearn_asd.features.check import refuse_silent_machines
from sklearn_asd.features.pooling import (
    POOLINGS,
    BandCorrelations,
    name_poolings,
    pool_with,
)
from sklearn_asd.features.spectrograms import (
    BAND_NAMES,
    ClipSpectrograms,
    check_spectrograms,
)

__all__ = ["SpectrumStatistics"]


class SpectrumStatistics(EstimatorMixin, TransformerMixin, BaseEstimator):
    """Statistics of every mel band over a clip's time: mean and deviation by default.

    Turns each clip, whatever its length, into one row of numbers, which any detector
    of scikit-learn or PyOD can take.

    Parameters
    ----------
    statistics : str, callable or sequence of these, default=("mean", "std")
        What is computed over time, in this order. Names, of which all but
        "correlations" give a number for each band:

        - "mean", "std", "max", "median", in dB;
        - "skewness": above 0 where a band is loud now and then;
        - "rank": :class:`~sklearn_asd.features.RankWeightedMean` with its default,
          between mean and maximum, in dB;
        - "relative_power": mean power of each band in dB, minus its mean over the
          bands, so that loudness does not count;
        - "correlations": of 32 groups of neighbouring bands with each other; see
          :class:`~sklearn_asd.features.BandCorrelations`;
        - "generalized_mean" and "deviation_weighted", for the frames of an
          :class:`~sklearn_asd.EncoderEmbedding`: see
          :class:`~sklearn_asd.features.GeneralizedMean` and
          :class:`~sklearn_asd.features.DeviationWeightedMean`.

        Objects have settings: ``RankWeightedMean(decay=0.9)``, ``Percentile(95)``,
        ``BandCorrelations(n_bands=8)`` of ``sklearn_asd.features``. A function of
        yours takes the frames (n_frames, n_mels) in dB, and gives a 1-D array of
        finite numbers, as many for every clip. Columns are named by its `__name__`.

    Attributes
    ----------
    n_features_in_ : int
        Number of mel bands of the clips it was fitted on.

    band_scale_ : {"mel", "log", "linear", "feature"}
        How these bands are spaced; see :class:`ClipSpectrograms`.

    n_values_ : dict of str to int
        How many numbers each statistic gives, by its name.

    See Also
    --------
    sklearn_asd.features.pool : Does the same to one array.
    LogMelSegmenter, PowerSpectrum : Make its input.
    PerMachine : Fits a detector for each machine.

    Notes
    -----
    Stateless: nothing is learnt, and `transform` works without `fit`. All frames of a
    clip count, whether a segment holds them or not. Of a power spectrum, which is one
    frame, the mean is the spectrum, and standard deviation, skewness and correlations
    are 0.

    A fault that sounds for one second of ten moves the mean by a tenth. "max" and
    "rank" keep it, and "max" keeps any other short noise too.

    Of clips of several views it takes the original one.

    Clips that could not be used become rows of NaN, which most detectors refuse:
    leave them out, or wrap the detector in :class:`~sklearn_asd.PerMachine`,
    which does so.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import ClipSpectrograms
    >>> from sklearn_asd.features import SpectrumStatistics
    >>> X = ClipSpectrograms.from_arrays(
    ...     [[[0.0, 2.0], [5.0, 5.0]]], segment_frames=None)  # 1 clip, 2 mel bands
    >>> SpectrumStatistics().fit_transform(X)
    array([[1., 5., 1., 0.]])
    >>> SpectrumStatistics(["max", "median"]).fit(X).get_feature_names_out().tolist()
    ['max_mel_000', 'max_mel_001', 'median_mel_000', 'median_mel_001']
    """

    _parameter_constraints: dict = {
        "statistics": [StrOptions(set(POOLINGS)), callable, list, tuple],
    }
    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "band_scale_": NotRequired[str],
        "n_values_": NotRequired[dict],
    }

    def __init__(self, statistics=("mean", "std")):
        self.statistics = statistics

    @validates_parameters(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the form of X and count its mel bands; nothing is learnt.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            The clips.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : SpectrumStatistics
            Itself.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.

        ValueError
            If a statistic is unknown, two have the same name, or one gives anything but
            a 1-D array of finite numbers; or if no clip of a machine holds sound.
        """
        X = check_spectrograms(X, type(self).__name__)
        refuse_silent_machines(X)
        self.n_values_ = self._count_values(X)
        self.n_features_in_, self.band_scale_ = X.n_mels, X.band_scale
        return self

    def transform(self, X):
        """Compute the statistics of each clip.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            The clips.

        Returns
        -------
        statistics : ndarray of shape (n_clips, n_columns), float64
            The values of each statistic, one statistic after the other, each from the
            lowest band to the highest; NaN for clips that could not be used. By
            default means in dB, then standard deviations in dB: 2 * n_mels columns.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.

        ValueError
            If X has other bands than in `fit`, or several views and no original among
            them, or a statistic gives anything but as many finite numbers for each
            clip.
        """
        name = type(self).__name__
        X = check_spectrograms(X, name)
        n_mels = getattr(self, "n_features_in_", X.n_mels)
        if X.n_mels != n_mels:
            raise ValueError(
                f"X has n_mels={X.n_mels}, and {name} was fitted on n_mels={n_mels}: "
                "make both with the same settings"
            )
        band_scale = getattr(self, "band_scale_", X.band_scale)
        if X.band_scale != band_scale:
            raise ValueError(
                f"X has bands on the {X.band_scale} scale, and {name} was fitted on "
                f"the {band_scale} scale: make both with the same settings"
            )
        if len(X.view_names) > 1:
            X = X.select_original(name)
        poolings = name_poolings(self.statistics)
        counts = getattr(self, "n_values_", {})
        if not set(poolings) <= set(counts):  # not fitted, or by an earlier version
            counts = self._count_values(X)
        statistics = np.full((len(X), sum(counts[name] for name in poolings)), np.nan)
        for clip in _find_clips_with_frames(X):
            frames = _take_frames(X, clip)
            pooled = [pool_with(frames, p, n, counts[n]) for n, p in poolings.items()]
            statistics[clip] = np.concatenate(pooled)
        return statistics

    def _count_values(self, X: ClipSpectrograms) -> dict[str, int]:
        """Count what each statistic gives for the first clip, or for silence."""
        clips = _find_clips_with_frames(X)
        frames = _take_frames(X, clips[0]) if clips else np.zeros((1, X.n_mels))
        poolings = name_poolings(self.statistics)
        return {n: len(pool_with(frames, p, n)) for n, p in poolings.items()}

    def get_feature_names_out(self, input_features=None):
        """Name the columns.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        names : ndarray of shape (n_columns,), object
            "mean_mel_000", "mean_mel_001", ..., "std_mel_000", ...; mel band 000 is
            the lowest. Bands of a power spectrum are "band_000", ..., bins of a linear
            spectrogram "bin_000", ..., features of an encoder "feature_000", ....
            Statistics without a number for each band are "correlations_000", ....
        """
        check_is_fitted(self, "n_features_in_")
        kind_of_band = BAND_NAMES[getattr(self, "band_scale_", "mel")]
        n_mels, names = self.n_features_in_, []
        for name, pooling in name_poolings(self.statistics).items():
            # Absent from models of earlier versions.
            n_values = getattr(self, "n_values_", {}).get(name, n_mels)
            of_bands = n_values == n_mels and not isinstance(pooling, BandCorrelations)
            stem = f"{name}_{kind_of_band}" if of_bands else name
            names += [f"{stem}_{number:03d}" for number in range(n_values)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False  # ClipSpectrograms only
        tags.transformer_tags.preserves_dtype = []
        return tags


def _find_clips_with_frames(X: ClipSpectrograms) -> list[int]:
    return np.flatnonzero((X.stops > X.starts)[:, 0]).tolist()


def _take_frames(X: ClipSpectrograms, clip: int) -> np.ndarray:
    """Frames of a clip, (n_frames, n_mels), float64: half precision adds badly."""
    return X.log_mel(clip).T.astype(np.float64)
