"""Outlier detectors on spectrograms, in scikit-learn's manner."""

from sklearn_asd.detectors.confidence import IDConfidenceDetector

__all__ = ["IDConfidenceDetector"]
