"""Recordings: where they are, which machine made them, and how they are read."""

from sklearn_asd.audio.clips import Clips
from sklearn_asd.audio.folders import load_clips
from sklearn_asd.audio.reading import (
    BadClipError,
    MissingClipError,
    read_array,
    read_file,
)

__all__ = [
    "BadClipError",
    "Clips",
    "MissingClipError",
    "load_clips",
    "read_array",
    "read_file",
]
