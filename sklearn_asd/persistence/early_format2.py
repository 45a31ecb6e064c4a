"""Early files of format 2: brings them to the names that the estimators have now."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["upgrade"]


def upgrade(objects: list[Any], tensors: dict[str, np.ndarray]) -> None:
    """Change a file of format 2 in place, if it is an early one.

    Parameters
    ----------
    objects : list of dict
        The estimators of the file, as JSON.

    tensors : dict of str to ndarray
        Its arrays.
    """
    for one in objects:
        if not isinstance(one, dict) or one["type"] != "EmbeddingNeighborDetector":
            continue
        if "detector" in one["params"]:
            one["params"]["encoder"] = one["params"].pop("detector")
            if one["fitted"]:
                _upgrade_neighbors(one["fitted"], tensors)


def _upgrade_neighbors(fitted: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Add what normalises distances, and changes nothing."""
    fitted["encoder_"] = fitted.pop("detector_")
    fitted["_training_domains"] = None
    points = fitted["_training_points"]["array"][0]
    for name, value in (("shifts_", 0.0), ("scales_", 1.0)):
        tensors[f"{points}.{name}"] = np.full((len(tensors[points]), 1), value)
        fitted[name] = {"array": [f"{points}.{name}", "C"]}
