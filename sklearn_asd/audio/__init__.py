"""Recordings: where they are, which machine made them, and how they are read."""

from sklearn_asd.audio.clips import Clips
from sklearn_asd.audio.folders import load_clips
from sklearn_asd.audio.pieces import cut_into_pieces
from sklearn_asd.audio.reading import (
    BadClipError,
    MissingClipError,
    read_array,
    read_file,
)
from sklearn_asd.audio.views import ORIGINAL, LogMelView, View, WaveformView
from sklearn_asd.audio.vocoder import PhaseVocoder

__all__ = [
    "ORIGINAL",
    "BadClipError",
    "Clips",
    "LogMelView",
    "MissingClipError",
    "PhaseVocoder",
    "View",
    "WaveformView",
    "cut_into_pieces",
    "load_clips",
    "read_array",
    "read_file",
]
