from .augment_confidence import AugmentConfidenceDetector
from .autoencoder import AutoencoderDetector
from .gaussian import GaussianDetector
from .id_confidence import IDConfidenceDetector
from .mahalanobis import MahalanobisDetector
from .neighbors import EmbeddingNeighborDetector

__all__ = [
    "AugmentConfidenceDetector",
    "AutoencoderDetector",
    "EmbeddingNeighborDetector",
    "GaussianDetector",
    "IDConfidenceDetector",
    "MahalanobisDetector",
]
