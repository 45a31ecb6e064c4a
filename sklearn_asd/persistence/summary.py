"""What people want to know of a model file before they load it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from sklearn_asd.features import LogMelSegmenter
from sklearn_asd.meta.scoring import final_step

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
    parts = list(_parts(estimator))
    detector = final_step(estimator)
    return {
        "model": _name(estimator),
        "sample_rate": _first(parts, _sample_rate),
        "classes": _first(parts, _classes),
        "threshold": _threshold(detector),
        "training": [_training(part) for part in parts if hasattr(part, "history_")],
    }


def _held(estimator: BaseEstimator) -> list[BaseEstimator]:
    """Estimators that one is made of, fitted where there are both."""
    if isinstance(estimator, Pipeline):
        values = [step for _, step in estimator.steps]
    else:
        values = [value for name, value in vars(estimator).items() if name[-1] == "_"]
        values = values or list(vars(estimator).values())  # of a FrozenEstimator
    found = []
    for value in values:
        several = value.values() if type(value) is dict else value
        for one in several if type(value) in (dict, list) else [value]:
            # Not the network, nor a covariance.
            if isinstance(one, BaseEstimator) and _hears_or_judges(one):
                found.append(one)
    return found


def _hears_or_judges(estimator: BaseEstimator) -> bool:
    return hasattr(estimator, "transform") or hasattr(estimator, "score_samples")


def _parts(estimator: BaseEstimator) -> Iterator[BaseEstimator]:
    yield estimator
    for part in _held(estimator):
        yield from _parts(part)


def _name(estimator: BaseEstimator) -> str:
    inside = dict.fromkeys(_name(part) for part in _held(estimator))
    return type(estimator).__name__ + (f"({', '.join(inside)})" if inside else "")


def _first(parts: list[BaseEstimator], find: Any) -> Any:
    return next((value for value in map(find, parts) if value is not None), None)


def _sample_rate(part: Any) -> float | None:
    if isinstance(part, LogMelSegmenter):
        return float(part.sample_rate)
    rate = getattr(part, "_frames_fitted_on", {}).get("sample_rate")
    return None if rate is None else float(rate)


def _classes(part: Any) -> list[str] | None:
    if isinstance(part, Pipeline):  # which asks its last step
        return None
    classes = getattr(part, "classes_", None)
    return None if classes is None else [str(name) for name in classes]


def _threshold(detector: Any) -> float | dict[str, float] | None:
    threshold = getattr(detector, "offset_", getattr(detector, "offsets_", None))
    if isinstance(threshold, dict):
        return {name: _number(value) for name, value in threshold.items()}
    return None if threshold is None else _number(threshold)


def _training(part: Any) -> dict[str, Any]:
    kept = part.history_[part.history_["kept"]].iloc[0]
    training = {
        "detector": type(part).__name__,
        "n_epochs": len(part.history_),
        "kept_epoch": int(kept["epoch"]),
        "train_loss": _number(kept["train_loss"]),
    }
    if "valid_accuracy" in kept:
        training["valid_accuracy"] = _number(kept["valid_accuracy"])
    return training


def _number(value: Any) -> Any:
    """Float that JSON can hold: ThresholdTuner may set minus infinity."""
    value = float(value)
    return value if abs(value) < float("inf") else str(value)
