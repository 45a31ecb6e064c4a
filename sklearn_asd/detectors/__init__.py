"""Outlier detectors in scikit-learn's style."""

from sklearn_asd.detectors.augment_confidence import AugmentConfidenceDetector
from sklearn_asd.detectors.autoencoder import AutoencoderDetector
from sklearn_asd.detectors.gaussian import GaussianDetector
from sklearn_asd.detectors.id_confidence import IDConfidenceDetector
from sklearn_asd.detectors.mahalanobis import MahalanobisDetector
from sklearn_asd.detectors.neighbors import EmbeddingNeighborDetector

__all__ = [
    "AugmentConfidenceDetector",
    "AutoencoderDetector",
    "EmbeddingNeighborDetector",
    "GaussianDetector",
    "IDConfidenceDetector",
    "MahalanobisDetector",
]
