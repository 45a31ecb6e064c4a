"""Anomalous sounds of machines, found with normal recordings alone."""

from sklearn_asd.audio import BadClipError, Clips, MissingClipError, load_clips
from sklearn_asd.detectors import IDConfidenceDetector
from sklearn_asd.features import ClipSpectrograms, LogMelSegmenter

__version__ = "0.1.0"

__all__ = [
    "BadClipError",
    "ClipSpectrograms",
    "Clips",
    "IDConfidenceDetector",
    "LogMelSegmenter",
    "MissingClipError",
    "load_clips",
]
