"""From recordings to what is learnt from: log-mel segments, or power spectra."""

from sklearn_asd.features.check import RecordingCheck
from sklearn_asd.features.expander import AugmentationExpander
from sklearn_asd.features.logmel import log_mel_spectrogram
from sklearn_asd.features.pooling import (
    POOLINGS,
    BandCorrelations,
    Percentile,
    RankWeightedMean,
    pool,
)
from sklearn_asd.features.power_spectrum import PowerSpectrum
from sklearn_asd.features.segmenter import LogMelSegmenter
from sklearn_asd.features.spectrograms import ClipSpectrograms, Windows
from sklearn_asd.features.statistics import SpectrumStatistics

__all__ = [
    "POOLINGS",
    "AugmentationExpander",
    "BandCorrelations",
    "ClipSpectrograms",
    "LogMelSegmenter",
    "Percentile",
    "PowerSpectrum",
    "RankWeightedMean",
    "RecordingCheck",
    "SpectrumStatistics",
    "Windows",
    "log_mel_spectrogram",
    "pool",
]
