from .clips import Clips
from .folders import load_clips
from .pieces import cut_into_pieces
from .reading import BadClipError, MissingClipError, read_array, read_file
from .views import ORIGINAL, LogMelView, View, WaveformView
from .vocoder import PhaseVocoder

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
