"""What `describe_model` shows of a model without loading it."""

from __future__ import annotations

import math
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_asd.meta.scoring import final_step
from sklearn_asd.meta.structure import list_inside, walk

__all__ = ["summarize"]


def summarize(estimator: BaseEstimator) -> dict[str, Any]:
    """Sum up a fitted model.

    Parameters
    ----------
    estimator : estimator
        The model.

    Returns
    -------
    summary : dict
        See :func:`sklearn_asd.describe_model`.
    """
    classes = _find_first(estimator, "classes_")
    rate = _find_first(estimator, "sample_rate", "sample_rate_")
    networks = [one for one in walk(estimator) if "history_" in vars(one)]
    return {
        "model": _name(estimator),
        "sample_rate": None if rate is None else float(rate),
        "classes": None if classes is None else [str(name) for name in classes],
        "threshold": _threshold(final_step(estimator)),
        "training": [_training(one) for one in networks],
        "encoders": [
            {
                "encoder": one.name_encoder(),
                "revision": getattr(one, "revision_", None),
                "weights": getattr(one, "weights_", None),
            }
            for one in walk(estimator)
            if hasattr(one, "name_encoder")
        ],
    }


def _name(estimator: BaseEstimator) -> str:
    inside = dict.fromkeys(_name(one) for one in list_inside(estimator))
    return type(estimator).__name__ + (f"({', '.join(inside)})" if inside else "")


def _find_first(estimator: BaseEstimator, *names: str) -> Any:
    """Find the first value of an attribute, from the outside in."""
    found = (getattr(one, name, None) for one in walk(estimator) for name in names)
    return next((value for value in found if value is not None), None)


def _threshold(detector: Any) -> Any:
    threshold = getattr(detector, "offset_", getattr(detector, "offsets_", None))
    if isinstance(threshold, dict):
        return {name: _number(value) for name, value in threshold.items()}
    return None if threshold is None else _number(threshold)


def _training(detector: Any) -> dict[str, Any]:
    kept = detector.history_[detector.history_["kept"]].iloc[0]
    training = {
        "detector": type(detector).__name__,
        "n_epochs": len(detector.history_),
        "kept_epoch": int(kept["epoch"]),
        "train_loss": _number(kept["train_loss"]),
    }
    if "valid_accuracy" in kept:
        training["valid_accuracy"] = _number(kept["valid_accuracy"])
    return training


def _number(value: Any) -> float | str:
    """Turn a number into what JSON can hold: ThresholdTuner may set minus infinity."""
    value = float(value)
    return value if math.isfinite(value) else str(value)
