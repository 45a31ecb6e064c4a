"""Format 1: names that have changed since its files were written."""

from __future__ import annotations

from typing import Any

__all__ = ["rename_weights", "update_params"]

_LOSSES = {"arcface": "ArcFace", "adacos": "AdaCos"}


def update_params(objects: Any) -> None:
    """Give the encoded estimators of a file their parameters of today.

    Parameters
    ----------
    objects : list of dict
        The estimators; changed in place.
    """
    for one in objects:
        params = one.get("params") if isinstance(one, dict) else None
        if isinstance(params, dict) and "n_sub_centers" in params:
            n_sub_centers = params.pop("n_sub_centers")  # now of the loss
            loss = _LOSSES.get(str(params.get("loss")))
            if n_sub_centers != 1 and loss is not None:
                params["loss"] = {"loss": [loss, {"n_sub_centers": n_sub_centers}]}


def rename_weights(tensors: dict[str, Any]) -> dict[str, Any]:
    """Give the weights of a file their names of today.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The arrays.

    Returns
    -------
    tensors : dict of str to ndarray
        The same arrays.
    """
    old, new = "net_.directions", "net_.head.directions"
    return {
        name.removesuffix(old) + new if name.endswith(old) else name: array
        for name, array in tensors.items()
    }
