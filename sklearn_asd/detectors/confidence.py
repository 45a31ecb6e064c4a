"""ConfidenceDetector: what the two confidence detectors share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.utils import check_random_state

from sklearn_asd._utils.parameters import HasMethods, Interval, StrOptions
from sklearn_asd.audio.machines import hold_out
from sklearn_asd.detectors.base import BaseDetector, usable_normal_rows
from sklearn_asd.detectors.doubt import log_probabilities, pool_doubt
from sklearn_asd.features import ClipSpectrograms, Windows
from sklearn_asd.features.pooling import (
    SCORE_POOLINGS,
    Pooling,
    check_score_pooling,
)
from sklearn_asd.features.spectrograms import SEGMENT_FRAMES
from sklearn_asd.networks.architectures import (
    NETWORKS,
    Network,
    find_min_frames,
    takes_spectrum,
)
from sklearn_asd.networks.best_epoch import KeepBestEpoch
from sklearn_asd.networks.checkpoint import open_checkpoint
from sklearn_asd.networks.losses import LOSSES, Loss
from sklearn_asd.networks.self_supervision import SELF_SUPERVISIONS
from sklearn_asd.networks.training import AutocastNet, fit_net, make_net
from sklearn_asd.networks.windows import (
    WindowDataset,
    pool_outputs,
    summarize_windows,
)

__all__ = ["ConfidenceDetector"]


@dataclass(kw_only=True, eq=False, repr=False)
class ConfidenceDetector(BaseDetector):
    """Outlier detector that scores how confidently a classifier recognises a clip.

    A class is a pair of a machine and a view: all views of the first machine, then
    all of the second. A child selects the views (`_select_views`), and names the
    machines of clips to learn from (`_label_training_clips`) and to score
    (`_label_clips`).
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "network": [StrOptions(set(NETWORKS)), callable],
        "loss": [StrOptions(set(LOSSES)), HasMethods(["make_head", "adjust_logits"])],
        "pooling": [StrOptions(set(SCORE_POOLINGS)), callable],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "self_supervision": [StrOptions(set(SELF_SUPERVISIONS)), None],
        "n_networks": [Interval(Integral, 1, None, closed="left")],
        "random_starts": ["boolean"],
        "center_loss_weight": [Interval(Real, 0, None, closed="left")],
        "center_lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    }
    _fitted_attributes = {
        "classes_": np.ndarray,
        "centers_": np.ndarray | None,
        "machines_": np.ndarray | None,
    }

    network: Network
    loss: str | Loss = "softmax"
    center_loss_weight: float
    center_lr: float = 0.5
    lr: float = 1e-3
    weight_decay: float
    batch_size: int
    max_epochs: int = 100
    mixup: float = 0.0
    self_supervision: str | None = None
    n_networks: int = 1
    random_starts: bool = False
    validation_fraction: float = 0.0
    pooling: str | Pooling = "mean"
    contamination: float = 0.1
    device: str = "auto"
    precision: str = "auto"
    checkpoint_dir: str | PathLike | None = None
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0

    @abstractmethod
    def _label_training_clips(self, X: ClipSpectrograms) -> np.ndarray | None:
        """Name each clip's machine; None without machine IDs."""

    @abstractmethod
    def _label_clips(self, X: ClipSpectrograms) -> np.ndarray | None:
        """Name each clip's machine, one of `machines_`; None if `machines_` is None."""

    def _fit(self, X: ClipSpectrograms) -> None:
        check_score_pooling(self.pooling)  # before the network is trained
        labels = self._label_training_clips(X)
        if labels is None:
            self.machines_, machine = None, np.zeros(len(X), dtype=int)
        else:
            self.machines_, machine = np.unique(labels.astype(str), return_inverse=True)
        self.classes_ = _name_classes(self.machines_, X.view_names)
        own = _index_classes(machine, X)
        rng = check_random_state(self.random_state)
        held_out = self._hold_out(machine, rng)
        seed = rng.randint(2**31 - 1)
        dataset = self._make_dataset(X[~held_out], own[~held_out])
        self.net_ = self._make_net(self.device, dataset.n_frames)
        validation = None
        if held_out.any():
            validation = KeepBestEpoch(X[held_out], own[held_out])
        checkpoint = open_checkpoint(self, X, labels, validation)
        self.history_, self.centers_ = fit_net(
            self.net_, dataset, seed, validation, checkpoint
        )

    @property
    def _min_frames(self) -> int:
        return find_min_frames(self.network)

    def _make_net(self, device: str, n_frames: int = SEGMENT_FRAMES) -> AutocastNet:
        """Build an untrained network; any number of frames makes the same weights."""
        n_classes, n_mels = len(self.classes_), self.n_features_in_
        n_spectrum = self._frames_fitted_on.get("n_spectrum", 0)
        return make_net(self, n_classes, n_mels, n_frames, device, n_spectrum)

    def _make_dataset(self, X: ClipSpectrograms, own: np.ndarray) -> WindowDataset:
        """Segments of every view, at their own places or at random ones."""
        windows = X.windows()
        if self.random_starts:
            starts, stops = (b[windows.clip, windows.view] for b in (X.starts, X.stops))
            windows = Windows(windows.clip, windows.view, starts, stops - starts)
        y = own[windows.clip, windows.view]
        with_spectra = takes_spectrum(self.network)
        return WindowDataset(X, windows, y, X.segment_frames, self.mixup, with_spectra)

    def _hold_out(self, machine: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Hold out validation clips of every machine; none if the share is 0."""
        rows = rng.permutation(len(machine))
        if self.validation_fraction == 0:
            rows = rows[:0]
        return hold_out(rows, machine, self.validation_fraction)

    def _find_own_classes(self, X: ClipSpectrograms) -> np.ndarray:
        """Index into `classes_` of each view of each clip, (n_clips, n_views)."""
        labels = self._label_clips(X)
        if labels is None or self.machines_ is None:
            return _index_classes(np.zeros(len(X), dtype=int), X)
        return _index_classes(np.searchsorted(self.machines_, labels.astype(str)), X)

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips to score.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            Minus the doubt 1 - p, pooled over a view's segments (`pooling`) and
            averaged over the views, from -1.00005 to 0; NaN for clips that could not
            be used.
        """
        X = self._check_clips(X)
        return -self._pool_doubt(X, self._find_own_classes(X))

    def _pool_doubt(self, X: ClipSpectrograms, own: np.ndarray | None) -> np.ndarray:
        """Pool 1 - p of the class of each view, or with None of the likeliest one."""

        def look_up(logits, embedding, windows):
            if own is None:
                return log_probabilities(logits, logits.argmax(axis=1))
            return log_probabilities(logits, own[windows.clip, windows.view])

        windows = X.windows()
        logs = summarize_windows(self.net_, X, windows, look_up)
        return pool_doubt(logs, windows, len(X), len(X.view_names), self.pooling)

    def _average_probabilities(self, X: ClipSpectrograms) -> np.ndarray:
        """Average the probability of each class over each view's segments.

        Of shape (n_clips, n_views, n_classes); NaN for clips that could not be used.
        """
        return pool_outputs(self.net_, X, lambda logits, *_: softmax(logits, axis=1))

    def score(self, X, y=None):
        """Accuracy of the classifier on normal clips.

        A search without anomalies maximises it: the better the classifier, the better
        the detector (section 4.1.3). Compare settings with the same classes only: with
        fewer views, any classifier is right more often.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips, with machine IDs if the detector was fitted with them.

        y : array-like of shape (n_clips,) or None, default=None
            Clips marked -1 do not count; None takes all as normal.

        Returns
        -------
        accuracy : float in [0, 1]
            Share of the usable normal clips, or of their views where there are
            several, whose own class is the most probable one on average over their
            segments.
        """
        X = self._check_clips(X)
        X = X[usable_normal_rows(X, y)]
        own = self._find_own_classes(X)
        return float(np.mean(self._average_probabilities(X).argmax(axis=-1) == own))

    def embed(self, X, *, average=True, pooling="mean"):
        """Compute the network's embedding of the clips.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips, of machines known or not.

        average : bool, default=True
            Whether to pool over each view's segments, and average over the views.

        pooling : str, callable or sequence of these, default="mean"
            How to pool over the segments: one or several of what
            :func:`~sklearn_asd.features.pool` takes. Not used with
            ``average=False``.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_embedding), float64
            With another pooling than the mean, as many columns as it gives. Without
            averaging, of shape (n_clips, n_segments, n_embedding), where n_segments is
            the largest number of segments of a clip, those of the first view first;
            the rest of shorter clips is NaN. NaN for clips that could not
            be used.

        Raises
        ------
        ValueError
            If a pooling is unknown, or gives anything but as many finite numbers for
            every clip.
        """
        X = self._check_clips(X)
        if average:
            return pool_outputs(self.net_, X, _take_embedding, pooling).mean(axis=1)
        windows = X.windows()
        embedding = summarize_windows(self.net_, X, windows, _take_embedding)
        number = pd.Series(windows.clip).groupby(windows.clip).cumcount()
        n_segments = X.n_segments.sum(axis=1).max(initial=0)
        padded = np.full((len(X), n_segments, embedding.shape[1]), np.nan)
        padded[windows.clip, number] = embedding
        return padded


def _take_embedding(
    logits: np.ndarray, embedding: np.ndarray, *_: object
) -> np.ndarray:
    return embedding


def _name_classes(
    machines: np.ndarray | None, view_names: tuple[str, ...]
) -> np.ndarray:
    """Name the classes by machine, by view, or by both."""
    if machines is None:
        return np.array(view_names)
    if len(view_names) == 1:
        return machines
    return np.array(
        [f"{machine}: {view}" for machine in machines for view in view_names]
    )


def _index_classes(machine: np.ndarray, X: ClipSpectrograms) -> np.ndarray:
    """Class of each view of clips of these machines, (n_clips, n_views)."""
    n_views = len(X.view_names)
    return machine[:, None] * n_views + np.arange(n_views)
