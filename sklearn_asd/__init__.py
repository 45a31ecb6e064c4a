"""Anomalous sounds of machines, found with normal recordings alone."""

from sklearn_asd._utils.forking import make_children_compute
from sklearn_asd._version import __version__ as __version__
from sklearn_asd.audio import (
    BadClipError,
    Clips,
    LogMelView,
    MissingClipError,
    WaveformView,
    cut_into_pieces,
    load_clips,
)
from sklearn_asd.detectors import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    EmbeddingNeighborDetector,
    GaussianDetector,
    IDConfidenceDetector,
    MahalanobisDetector,
)
from sklearn_asd.export import export_onnx
from sklearn_asd.features import (
    AugmentationExpander,
    ClipSpectrograms,
    LogMelSegmenter,
    PowerSpectrum,
    RecordingCheck,
    SpectrumStatistics,
)
from sklearn_asd.meta import (
    GammaProbabilityEnsemble,
    OnlyMachineTypes,
    PerMachine,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd.persistence import describe_model, load_model, save_model

__all__ = [
    "AugmentConfidenceDetector",
    "AugmentationExpander",
    "AutoencoderDetector",
    "BadClipError",
    "ClipSpectrograms",
    "Clips",
    "EmbeddingNeighborDetector",
    "GammaProbabilityEnsemble",
    "GaussianDetector",
    "IDConfidenceDetector",
    "LogMelSegmenter",
    "LogMelView",
    "MahalanobisDetector",
    "MissingClipError",
    "OnlyMachineTypes",
    "PerMachine",
    "PowerSpectrum",
    "RecordingCheck",
    "SpectrumStatistics",
    "ThresholdTuner",
    "WaveformView",
    "ZScoreEnsemble",
    "cut_into_pieces",
    "describe_model",
    "export_onnx",
    "load_clips",
    "load_model",
    "save_model",
]

make_children_compute()
