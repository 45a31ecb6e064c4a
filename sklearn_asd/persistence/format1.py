"""Names in files of format 1 that have changed since the files were written."""

from __future__ import annotations

from typing import Any

from sklearn_asd.networks.losses import LOSSES

__all__ = ["rename_weight", "update_fitted", "update_params"]

# Attributes of all confidence detectors, and of EmbeddingNeighborDetector.
_RENAMED = {
    "_machines": "machines_",
    "_neighbors": "_training_points",
    "_whiten": "_whitening",
}


def update_params(params: dict[str, Any]) -> dict[str, Any]:
    """Translate an estimator's parameters.

    Parameters
    ----------
    params : dict
        As the file has them.

    Returns
    -------
    params : dict
        As the estimator takes them.
    """
    params = dict(params)
    if "loss" in params and "n_sub_centers" in params:  # now of the loss itself
        n_sub_centers = params.pop("n_sub_centers")
        if n_sub_centers != 1 and params["loss"] in ("arcface", "adacos"):
            params["loss"] = LOSSES[params["loss"]](n_sub_centers=n_sub_centers)
    return params


def update_fitted(owner: str, fitted: dict[str, Any]) -> dict[str, Any]:
    """Translate an estimator's fitted attributes.

    Parameters
    ----------
    owner : str
        Name of the estimator's class.

    fitted : dict
        As the file has them.

    Returns
    -------
    fitted : dict
        As the estimator has them.
    """
    fitted = {_RENAMED.get(name, name): value for name, value in fitted.items()}
    if owner == "EmbeddingNeighborDetector" and "_machine" in fitted:
        machines, index = fitted["detector_"].machines_, fitted.pop("_machine")
        fitted["_training_machines"] = None if machines is None else machines[index]
        fitted.setdefault("_whitening", None)
        fitted.pop("_frames_fitted_on")  # the inner detector checks them
    return fitted


def rename_weight(name: str) -> str:
    """Translate the name of a network's weight.

    Parameters
    ----------
    name : str
        As the file has it.

    Returns
    -------
    name : str
        As the network has it.
    """
    return "head.directions" if name == "directions" else name
