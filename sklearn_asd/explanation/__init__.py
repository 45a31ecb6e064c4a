"""Why a clip has its score: when, in which mel bands, and by which detector inside."""

from sklearn_asd.explanation.localization import band_scores, segment_scores
from sklearn_asd.explanation.parts import (
    Part,
    clip_embeddings,
    clip_spectrograms,
    detector_parts,
)

__all__ = [
    "Part",
    "band_scores",
    "clip_embeddings",
    "clip_spectrograms",
    "detector_parts",
    "segment_scores",
]
