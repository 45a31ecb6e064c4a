from .canceller import NoiseCanceller
from .check import RecordingCheck
from .expander import AugmentationExpander
from .linear_spectrogram import LinearSpectrogram
from .logmel import log_mel_spectrogram
from .pooling import (
    POOLINGS,
    BandCorrelations,
    DeviationWeightedMean,
    GeneralizedMean,
    Percentile,
    RankWeightedMean,
    pool,
)
from .power_spectrum import PowerSpectrum
from .segmenter import LogMelSegmenter
from .spectrograms import ClipSpectrograms, Windows
from .statistics import SpectrumStatistics

__all__ = [
    "POOLINGS",
    "AugmentationExpander",
    "BandCorrelations",
    "ClipSpectrograms",
    "DeviationWeightedMean",
    "GeneralizedMean",
    "LinearSpectrogram",
    "LogMelSegmenter",
    "NoiseCanceller",
    "Percentile",
    "PowerSpectrum",
    "RankWeightedMean",
    "RecordingCheck",
    "SpectrumStatistics",
    "Windows",
    "log_mel_spectrogram",
    "pool",
]
