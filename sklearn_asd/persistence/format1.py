"""Names in files of format 1 that have changed since the files were written."""

from __future__ import annotations

from typing import Any

from sklearn_asd.networks.losses import LOSSES

__all__ = ["rename_weight", "update_params"]


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
