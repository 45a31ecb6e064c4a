"""BaseDetector: what the detectors of spectrograms share."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from sklearn_asd._base import JudgingMixin, all_or_nothing
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import Interval, validates_parameters
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.features.spectrograms import check_spectrograms
from sklearn_asd.networks.devices import choose_device_or_cpu
from sklearn_asd.networks.training import restore_net

__all__ = ["BaseDetector", "usable_normal_rows"]


class BaseDetector(JudgingMixin, BaseEstimator, ABC):
    """Outlier detector that trains a network on :class:`ClipSpectrograms`.

    A child has the parameters below. It selects the views that it uses
    (`_select_views`), builds its network (`_make_net`), learns from normal clips
    (`_fit`), and scores clips (`score_samples`, which begins with `_check_clips`).
    """

    # A clip's score is pooled from those of its segments; see `segment_scores`.
    pools_segments = True

    _parameter_constraints: dict = {
        "lr": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "device": [str],
        "checkpoint_dir": [str, PathLike, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _fitted_attributes: dict = {
        "n_features_in_": Integral,
        "_frames_fitted_on": dict,
        "history_": pd.DataFrame,
        "net_": NeuralNet,
        "offset_": Real,
    }

    @validates_parameters(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None):
        """Learn what is normal.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Training clips, from :class:`LogMelSegmenter`. Clips that could not be
            used (``on_bad_clip="nan"``), or are too short, are left out.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : object
            Fitted.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.

        ValueError
            If y holds anything but +1 and -1, or X cannot be learnt from.
        """
        X = self._select_views(check_spectrograms(X, type(self).__name__))
        if (_count_frames(X) >= self._min_frames).any():  # else the network refuses
            X = self._leave_out_short(X)
        X = X[usable_normal_rows(X, y)]
        self.n_features_in_ = X.n_mels
        self._frames_fitted_on = _describe_frames(X)
        self._fit(X)
        scores = self.score_samples(X)
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        return self

    def restore_net(self, state: dict[str, np.ndarray]) -> NeuralNet:
        """Build the trained network again, without training.

        Parameters
        ----------
        state : dict of str to ndarray
            Weights of ``net_.module_``, from a file.

        Returns
        -------
        net : skorch net
            As `fit` leaves it in ``net_``.

        Raises
        ------
        ValueError
            If the weights do not fit the network of these parameters.
        """
        with torch.device("meta"):  # no weights are drawn
            net = self._make_net("meta")
        return restore_net(net, state, choose_device_or_cpu(self.device))

    @property
    def sample_rate_(self) -> float | None:
        """Sample rate of the training clips in Hz; None if they do not name it."""
        return self._frames_fitted_on["sample_rate"]

    @abstractmethod
    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips to score.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            NaN for clips that could not be used.
        """

    @property
    @abstractmethod
    def _min_frames(self) -> int:
        """Length in frames of the shortest clip that the network can take."""

    @abstractmethod
    def _select_views(self, X: ClipSpectrograms) -> ClipSpectrograms:
        """Select what the detector uses of the clips, to fit and to score."""

    @abstractmethod
    def _make_net(self, device: str) -> NeuralNet:
        """Build an untrained network by the parameters and the number of mel bands."""

    @abstractmethod
    def _fit(self, X: ClipSpectrograms) -> None:
        """Learn from normal clips, all of them usable."""

    def _check_clips(self, X: Any) -> ClipSpectrograms:
        """Select the views of clips to score; refuse frames of other settings."""
        check_is_fitted(self)
        X = self._select_views(check_spectrograms(X, type(self).__name__))
        # Models of earlier versions were all fitted on mel bands.
        fitted_on = {"band_scale": "mel", "n_spectrum": 0} | self._frames_fitted_on
        for name, value in _describe_frames(X).items():
            fitted = fitted_on[name]
            unknown = name in ("sample_rate", "hop_length") and None in (value, fitted)
            if value != fitted and not unknown:
                raise ValueError(
                    f"X has {name}={value}, and {type(self).__name__} was fitted on "
                    f"{name}={fitted}: make both with the same settings"
                )
        return self._leave_out_short(X)

    def _leave_out_short(self, X: ClipSpectrograms) -> ClipSpectrograms:
        """Leave out clips that are too short, so that the others can be used."""
        n_frames = _count_frames(X)
        short = np.flatnonzero((n_frames > 0) & (n_frames < self._min_frames))
        if not len(short):
            return X
        problem = f"fewer than the {self._min_frames} frames that the network needs"
        warnings.warn(
            f"clips {abbreviate(short)} have {problem}, and score NaN: leave them out",
            UnusableClipWarning,
            stacklevel=3,
        )
        return X.leave_out(short, f"has {problem}: leave it out")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # ClipSpectrograms only
        return tags


def usable_normal_rows(X: ClipSpectrograms, y: Any) -> np.ndarray:
    """Find the clips to learn from.

    Parameters
    ----------
    X : ClipSpectrograms of n_clips
        Clips.

    y : array-like of shape (n_clips,) or None
        +1 for normal clips, -1 for anomalous ones; None takes all as normal.

    Returns
    -------
    usable : ndarray of shape (n_clips,), bool
        Which clips are normal and usable.

    Raises
    ------
    ValueError
        If there are no such clips, or y has other values.
    """
    usable = normal_rows(y, len(X)) & X.usable
    if not usable.any():
        raise ValueError(
            "X holds no usable normal clip: y is -1 for all, or no clip could be read "
            "and is long enough"
        )
    return usable


def _count_frames(X: ClipSpectrograms) -> np.ndarray:
    """Count the frames of each clip, or of its shortest view, (n_clips,)."""
    return (X.stops - X.starts).min(axis=1)


def _describe_frames(X: ClipSpectrograms) -> dict[str, Any]:
    return {
        "n_mels": X.n_mels,
        "band_scale": X.band_scale,
        "segment_frames": X.segment_frames,
        "sample_rate": X.sample_rate,
        "hop_length": X.hop_length,
        "view_names": X.view_names,
        "n_spectrum": X.n_spectrum,
    }
