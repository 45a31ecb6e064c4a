"""Format 1: reads names that have changed since its files were written."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_asd.persistence.allowed import LOSSES
from sklearn_asd.persistence.from_json import Decoder

__all__ = ["Format1Decoder"]

_LOSSES = {"arcface": "ArcFace", "adacos": "AdaCos"}

# Attributes of all confidence detectors, and of EmbeddingNeighborDetector.
_RENAMED = {
    "_machines": "machines_",
    "_neighbors": "_training_points",
    "_whiten": "_whitening",
}


class Format1Decoder(Decoder):
    """Builds estimators from a file of format 1.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The arrays of the file.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        super().__init__({_rename_weight(k): array for k, array in tensors.items()})

    def _decode_params(self, encoded: dict[str, Any]) -> dict[str, Any]:
        params = super()._decode_params(encoded)
        n_sub_centers = params.pop("n_sub_centers", 1)  # now a setting of the loss
        if n_sub_centers != 1 and params.get("loss") in list(_LOSSES):
            loss: Any = LOSSES[_LOSSES[params["loss"]]]
            params["loss"] = loss(n_sub_centers=n_sub_centers)
        return params

    def _decode_fitted(self, encoded: dict[str, Any]) -> dict[str, Any]:
        fitted = super()._decode_fitted(encoded)
        fitted = {_RENAMED.get(name, name): value for name, value in fitted.items()}
        if encoded["type"] == "EmbeddingNeighborDetector" and fitted:
            machines, index = fitted["detector_"].machines_, fitted.pop("_machine")
            fitted["_training_machines"] = None if machines is None else machines[index]
            fitted.setdefault("_whitening", None)
            fitted.pop("_frames_fitted_on")  # the inner detector has the same
        return fitted


def _rename_weight(name: str) -> str:
    old = "net_.directions"
    return (
        name.removesuffix(old) + "net_.head.directions" if name.endswith(old) else name
    )
