from .localization import (
    Location,
    band_scores,
    locate_anomaly,
    occlusion_map,
    time_scores,
)
from .parts import Part, clip_embeddings, clip_spectrograms, detector_parts
from .segments import segment_scores

__all__ = [
    "Location",
    "Part",
    "band_scores",
    "clip_embeddings",
    "clip_spectrograms",
    "detector_parts",
    "locate_anomaly",
    "occlusion_map",
    "segment_scores",
    "time_scores",
]
