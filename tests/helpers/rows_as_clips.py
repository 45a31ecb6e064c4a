"""Detectors of clips that take rows of numbers, so that scikit-learn can check them.

scikit-learn's checks know 2-D arrays only, and run 1 of some 50 on an estimator whose
tags say that it takes none. Here each row becomes a clip whose frames all are that row.
Nothing else of the estimators is changed.
"""

import zlib

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sklearn_asd import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GaussianDetector,
    IDConfidenceDetector,
    OnlyMachineTypes,
    PerMachine,
    PerMachineType,
    RecordingCheck,
    SpectrumStatistics,
)

N_FRAMES = 4


class TinyNetwork(nn.Module):
    """Logits and embedding of the mean frame."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.embed = nn.Linear(n_mels, 4)
        self.classify = nn.Linear(4, n_classes)

    def forward(self, log_mel):
        embedding = self.embed(log_mel.mean(dim=2))
        return self.classify(embedding), embedding


def as_clips(X, n_views=1):
    """Clips of the rows; the machine of a row follows from its bytes."""
    frames = np.repeat(X, n_views * N_FRAMES, axis=0).astype(np.float32)
    bounds = np.arange(0, len(frames) + 1, N_FRAMES)
    return ClipSpectrograms(
        frames,
        bounds[:-1].reshape(-1, n_views),
        bounds[1:].reshape(-1, n_views),
        machine_type=["fan"] * len(X),
        machine_id=[zlib.crc32(row.tobytes()) % 2 for row in X],
        segment_frames=N_FRAMES,
        view_names=["original", "other"][:n_views],
    )


class OnRows:
    """Turns X into clips wherever it enters; y, of class labels, is left out."""

    n_views = 1

    def _clips(self, X, reset=False):
        if isinstance(X, ClipSpectrograms):  # one public method has called another
            return X
        n_least = 2 if reset else 1
        X = validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_min_samples=n_least
        )
        return as_clips(X, self.n_views)

    def fit(self, X, y=None):
        clips = self._clips(X, reset=True)
        super().fit(clips)
        self._clips(X, reset=True)  # as a fit starts from a clean slate
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class DetectorOnRows(OnRows):
    def score_samples(self, X):
        return super().score_samples(self._clips(X))

    def decision_function(self, X):
        return super().decision_function(self._clips(X))

    def predict(self, X):
        return super().predict(self._clips(X))


class ConfidenceOnRows(DetectorOnRows):
    def score(self, X, y=None):
        return super().score(self._clips(X))


class IDConfidenceOnRows(ConfidenceOnRows, IDConfidenceDetector):
    pass


class AugmentConfidenceOnRows(ConfidenceOnRows, AugmentConfidenceDetector):
    n_views = 2


class AutoencoderOnRows(DetectorOnRows, AutoencoderDetector):
    pass


class NeighborsOnRows(DetectorOnRows, EmbeddingNeighborDetector):
    pass


class GaussianOnRows(DetectorOnRows, GaussianDetector):
    pass


class PerMachineOnRows(DetectorOnRows, PerMachine):
    pass


class OnlyMachineTypesOnRows(DetectorOnRows, OnlyMachineTypes):
    pass


class PerMachineTypeOnRows(DetectorOnRows, PerMachineType):
    pass


class StatisticsOnRows(OnRows, SpectrumStatistics):
    def transform(self, X):
        return super().transform(self._clips(X))


class CheckOnRows(OnRows, RecordingCheck):
    def transform(self, X):
        check_is_fitted(self)
        return super().transform(self._clips(X)).frames[::N_FRAMES]
