"""Format 1: brings its files to the names of format 2."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["upgrade"]

_LOSSES = {"arcface": "ArcFace", "adacos": "AdaCos"}

# Attributes of all confidence detectors, and of EmbeddingNeighborDetector.
_RENAMED = {
    "_machines": "machines_",
    "_neighbors": "_training_points",
    "_whiten": "_whitening",
}


def upgrade(objects: list[Any], tensors: dict[str, np.ndarray]) -> None:
    """Change a file of format 1 to format 2, in place.

    Parameters
    ----------
    objects : list of dict
        The estimators of the file, as JSON.

    tensors : dict of str to ndarray
        Its arrays.
    """
    for name in list(tensors):
        prefix = name.removesuffix("net_.directions")
        if prefix != name:
            tensors[f"{prefix}net_.head.directions"] = tensors.pop(name)
    for one in objects:
        params = one["params"]
        n_sub_centers = params.pop("n_sub_centers", 1)  # now a setting of the loss
        if n_sub_centers != 1 and params.get("loss") in list(_LOSSES):
            loss = _LOSSES[params["loss"]]
            params["loss"] = {"loss": [loss, {"n_sub_centers": n_sub_centers}]}
        one["fitted"] = {
            _RENAMED.get(k, k): value for k, value in one["fitted"].items()
        }
        if one["type"] == "EmbeddingNeighborDetector" and one["fitted"]:
            _upgrade_neighbors(one["fitted"], objects, tensors)


def _upgrade_neighbors(
    fitted: dict[str, Any], objects: list[Any], tensors: dict[str, np.ndarray]
) -> None:
    machines = objects[fitted["detector_"]["object"]]["fitted"]["machines_"]
    index = tensors.pop(fitted.pop("_machine")["array"][0])
    if machines is not None:
        names, dtype = machines["strings"]
        machines = {"strings": [[names[i] for i in index], dtype]}
    fitted["_training_machines"] = machines
    fitted.setdefault("_whitening", None)
    fitted.pop("_frames_fitted_on")  # the inner detector has the same
