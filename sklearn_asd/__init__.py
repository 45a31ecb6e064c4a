"""Anomalous sounds of machines, found with normal recordings alone."""

from sklearn_asd.audio import (
    BadClipError,
    Clips,
    MissingClipError,
    load_clips,
    register_view,
)
from sklearn_asd.detectors import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    EmbeddingNeighborDetector,
    IDConfidenceDetector,
)
from sklearn_asd.ensemble import GammaProbabilityEnsemble
from sklearn_asd.export import export_onnx
from sklearn_asd.features import (
    AugmentationExpander,
    ClipSpectrograms,
    LogMelSegmenter,
    SpectrumStatistics,
)
from sklearn_asd.mahalanobis import MahalanobisDetector
from sklearn_asd.only_machine_types import OnlyMachineTypes
from sklearn_asd.per_machine import PerMachine
from sklearn_asd.persistence import describe_model, load_model, save_model
from sklearn_asd.thresholds import ThresholdTuner

__version__ = "0.1.0"

__all__ = [
    "AugmentConfidenceDetector",
    "AugmentationExpander",
    "AutoencoderDetector",
    "BadClipError",
    "ClipSpectrograms",
    "Clips",
    "EmbeddingNeighborDetector",
    "GammaProbabilityEnsemble",
    "IDConfidenceDetector",
    "LogMelSegmenter",
    "MahalanobisDetector",
    "MissingClipError",
    "OnlyMachineTypes",
    "PerMachine",
    "SpectrumStatistics",
    "ThresholdTuner",
    "describe_model",
    "export_onnx",
    "load_clips",
    "load_model",
    "register_view",
    "save_model",
]
