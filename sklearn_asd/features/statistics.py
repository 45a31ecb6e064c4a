"""SpectrumStatistics: clips as rows of numbers, for any outlier detector."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import NotRequired

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import EstimatorMixin
from sklearn_asd.features.spectrograms import BAND_NAMES, check_spectrograms

__all__ = ["STATISTICS", "SpectrumStatistics"]

# Statistics over time by name: each gives one value per mel band of a log-mel of shape
# (n_mels, n_frames). export/features.py computes the same in a graph.
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda log_mel: log_mel.mean(axis=1),
    "std": lambda log_mel: log_mel.std(axis=1),
}


class SpectrumStatistics(EstimatorMixin, TransformerMixin, BaseEstimator):
    """Mean and standard deviation of every mel band over a clip's time.

    Turns each clip, whatever its length, into one row of numbers, which any detector
    of scikit-learn or PyOD can take.

    Attributes
    ----------
    n_features_in_ : int
        Number of mel bands of the clips it was fitted on.

    band_scale_ : {"mel", "log"}
        How these bands are spaced; see :class:`ClipSpectrograms`.

    See Also
    --------
    LogMelSegmenter, PowerSpectrum : Make its input.
    PerMachine : Fits a detector for each machine.

    Notes
    -----
    Stateless: nothing is learnt, and `transform` works without `fit`. All frames of a
    clip count, whether a segment holds them or not. Of a power spectrum, which is one
    frame, the mean is the spectrum and the standard deviation is 0.

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
    """

    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "band_scale_": NotRequired[str],
    }

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
        """
        X = check_spectrograms(X, type(self).__name__)
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
        statistics : ndarray of shape (n_clips, 2 * n_mels), float64
            The means in dB, then the standard deviations in dB, each from the lowest
            band to the highest; NaN for clips that could not be used.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.

        ValueError
            If X has other bands than in `fit`, or several views and no original among
            them.
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
        statistics = np.full((len(X), len(STATISTICS) * X.n_mels), np.nan)
        for clip in np.flatnonzero((X.stops > X.starts)[:, 0]).tolist():
            log_mel = X.log_mel(clip).astype(np.float64)  # half precision adds badly
            pooled = [pool(log_mel) for pool in STATISTICS.values()]
            statistics[clip] = np.concatenate(pooled)
        return statistics

    def get_feature_names_out(self, input_features=None):
        """Name the columns.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        names : ndarray of shape (2 * n_mels,), object
            "mean_mel_000", "mean_mel_001", ..., "std_mel_000", ...; mel band 000 is
            the lowest. Bands of a power spectrum are "band_000", ....
        """
        check_is_fitted(self, "n_features_in_")
        kind_of_band = BAND_NAMES[getattr(self, "band_scale_", "mel")]
        bands = [f"{kind_of_band}_{band:03d}" for band in range(self.n_features_in_)]
        names = [f"{kind}_{band}" for kind in STATISTICS for band in bands]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False  # ClipSpectrograms only
        tags.transformer_tags.preserves_dtype = []
        return tags
