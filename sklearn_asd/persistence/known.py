"""What a model file may hold: estimators, their fitted attributes, networks.

Nothing else is saved, and nothing else is loaded. A new estimator, or a new fitted
attribute of one, is added to the table here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.covariance import LedoitWolf
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet

from sklearn_asd.audio.views import BUILT_IN_VIEWS
from sklearn_asd.detectors import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    EmbeddingNeighborDetector,
    IDConfidenceDetector,
)
from sklearn_asd.detectors.mahalanobis import MahalanobisDetector
from sklearn_asd.features import (
    AugmentationExpander,
    LogMelSegmenter,
    SpectrumStatistics,
)
from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes
from sklearn_asd.meta.per_machine import PerMachine
from sklearn_asd.meta.thresholds import ThresholdTuner
from sklearn_asd.networks import architectures, losses

__all__ = [
    "ESTIMATORS",
    "LEFT_OUT",
    "LOSSES",
    "NETWORKS",
    "NOTES",
    "SavedNet",
    "check_fitted",
    "check_views",
]


@dataclass(frozen=True)
class SavedNet:
    """Weights in a file, before their network is built.

    Attributes
    ----------
    name : str
        What their names start with.

    state : dict of str to ndarray
        The weights.
    """

    name: str
    state: dict[str, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """What a fitted attribute may be.

    Attributes
    ----------
    says : str
        In words.

    fits : callable
        ``fits(value, sizes)`` tells whether a value is of this kind; sizes that are
        not known yet are noted by name, and those that are known must agree.

    optional : bool, default=False
        Whether the attribute may be absent.
    """

    says: str
    fits: Callable[[Any, dict[str, int]], bool]
    optional: bool = False


def _size(name: str) -> Kind:
    def fits(value, sizes):
        return _is_int(value) and value >= 0 and sizes.setdefault(name, value) == value

    return Kind(f"a whole number ({name})", fits)


def _array(dtype: str, *names: str) -> Kind:
    """Array of a dtype, such as "float64" or "str", whose sizes have names."""

    def fits(value, sizes):
        return (
            isinstance(value, np.ndarray)
            and value.ndim == len(names)
            and _has_dtype(value, dtype)
            and all(
                sizes.setdefault(name, n) == n
                for name, n in zip(names, value.shape, strict=True)
            )
        )

    return Kind(f"an array of {dtype} of shape ({', '.join(names)})", fits)


def _instance(*types: type) -> Kind:
    names = " or ".join(one.__name__ for one in types)
    return Kind(f"of type {names}", lambda value, sizes: isinstance(value, types))


def _each(kind: Kind, keys: Kind | None = None) -> Kind:
    """List of a kind, or with keys a dict of it."""
    if keys is None:
        return Kind(
            f"a list, each {kind.says}",
            lambda value, sizes: (
                type(value) is list and all(kind.fits(one, sizes) for one in value)
            ),
        )
    return Kind(
        f"a dict, each value {kind.says}",
        lambda value, sizes: (
            type(value) is dict
            and all(keys.fits(key, sizes) for key in value)
            and all(kind.fits(one, sizes) for one in value.values())
        ),
    )


def _or_none(kind: Kind) -> Kind:
    return replace(
        kind,
        says=f"None or {kind.says}",
        fits=lambda value, sizes: value is None or kind.fits(value, sizes),
    )


def _optional(kind: Kind) -> Kind:
    return replace(kind, optional=True)


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _has_dtype(value: np.ndarray, dtype: str) -> bool:
    if dtype == "str":  # which the codec makes of nothing but texts
        return value.dtype.kind in "UO"
    return value.dtype == np.dtype(dtype)


def _describes_frames(value: Any, sizes: dict[str, int]) -> bool:
    """As detectors keep it of their training clips."""
    return (
        type(value) is dict
        and set(value)
        == {"n_mels", "segment_frames", "sample_rate", "hop_length", "view_names"}
        and _size("mels").fits(value["n_mels"], sizes)
        and all(
            _or_none(_NUMBER).fits(value[name], sizes)
            for name in ("segment_frames", "sample_rate", "hop_length")
        )
        and type(value["view_names"]) is tuple
        and all(_TEXT.fits(name, sizes) for name in value["view_names"])
    )


_TEXT = _instance(str)
_INT = Kind("a whole number", lambda value, sizes: _is_int(value))
_NUMBER = Kind(
    "a number",
    lambda value, sizes: (
        isinstance(value, int | float | np.number) and not isinstance(value, bool)
    ),
)
_ESTIMATOR = _instance(BaseEstimator)
_NET = _instance(NeuralNet, SavedNet)
_TABLE = _instance(pd.DataFrame)
_FRAMES = Kind("what frames were made with", _describes_frames)

_COLUMNS = {
    "n_features_in_": _optional(_size("columns")),
    "feature_names_in_": _optional(_array("str", "columns")),
}
_DETECTOR = {
    "n_features_in_": _size("mels"),
    "_frames_fitted_on": _FRAMES,
    "offset_": _NUMBER,
}
_CLASSIFIER = {
    **_DETECTOR,
    "classes_": _array("str", "classes"),
    "centers_": _or_none(_array("float32", "classes", "embedding")),
    "history_": _TABLE,
    "machines_": _or_none(_array("str", "machines")),
    "net_": _NET,
}
_LEFT_OUT_SCORES = {
    "training_score_samples_": _optional(_array("float64", "training clips"))
}

# Estimators with their fitted attributes, in the order of a file.
_FITTED: dict[type, dict[str, Kind]] = {
    AugmentationExpander: {},
    AugmentConfidenceDetector: _CLASSIFIER,
    AutoencoderDetector: {**_DETECTOR, "history_": _TABLE, "net_": _NET},
    EmbeddingNeighborDetector: {
        **_LEFT_OUT_SCORES,
        "n_features_in_": _size("mels"),
        "offset_": _NUMBER,
        "detector_": _instance(
            IDConfidenceDetector, AugmentConfidenceDetector, FrozenEstimator
        ),
        "_training_machines": _or_none(_array("str", "clips")),
        "_training_points": _array("float64", "clips", "embedding"),
        "_training_rows": _array("int64", "clips"),
        "_whitening": _or_none(_array("float64", "embedding", "embedding")),
    },
    FrozenEstimator: {},
    GammaProbabilityEnsemble: {
        **_COLUMNS,
        **_LEFT_OUT_SCORES,
        "estimators_": _each(_ESTIMATOR),
        "scales_": _each(_each(_instance(GammaScale)), keys=_or_none(_TEXT)),
        "offset_": _NUMBER,
    },
    IDConfidenceDetector: _CLASSIFIER,
    LedoitWolf: {
        **_COLUMNS,
        "location_": _array("float64", "columns"),
        "covariance_": _array("float64", "columns", "columns"),
        "precision_": _array("float64", "columns", "columns"),
        "shrinkage_": _NUMBER,
    },
    LogMelSegmenter: {},
    MahalanobisDetector: {
        **_COLUMNS,
        **_LEFT_OUT_SCORES,
        "covariance_": _instance(LedoitWolf),
        "offset_": _NUMBER,
    },
    OnlyMachineTypes: {
        **_LEFT_OUT_SCORES,
        "estimator_": _ESTIMATOR,
        "offset_": _optional(_NUMBER),
    },
    PerMachine: {
        **_LEFT_OUT_SCORES,
        "classes_": _array("str", "machines"),
        "estimators_": _each(_ESTIMATOR, keys=_TEXT),
        "offsets_": _optional(_each(_NUMBER, keys=_TEXT)),
    },
    Pipeline: {},
    SpectrumStatistics: {"n_features_in_": _optional(_size("mels"))},
    StandardScaler: {
        **_COLUMNS,
        "mean_": _or_none(_array("float64", "columns")),
        "var_": _or_none(_array("float64", "columns")),
        "scale_": _or_none(_array("float64", "columns")),
        "n_samples_seen_": _NUMBER,
    },
    ThresholdTuner: {
        **_COLUMNS,
        **_LEFT_OUT_SCORES,
        "detector_": _ESTIMATOR,
        "offset_": _NUMBER,
        "promise_": _TEXT,
        "n_validation_normal_": _INT,
        "n_validation_anomalous_": _INT,
        "n_validation_unusable_": _INT,
        "_rank": _or_none(_INT),
    },
}
# Which follow from others, and are made of them again.
_DERIVED = {GammaProbabilityEnsemble: {"named_estimators_"}}

ESTIMATORS: dict[str, type] = {one.__name__: one for one in _FITTED}

NETWORKS = {one.__name__: one for one in architectures.NETWORKS.values()}

LOSSES = {one.__name__: one for one in losses.LOSSES.values()}

# Folders of the machine that a model was fitted on. What is in them may be unpickled.
LEFT_OUT = ("cache_dir", "checkpoint_dir", "memory")

# What the command line keeps of recordings of that machine, with a model it fitted.
NOTES = ("cli_",)


def check_fitted(estimator: BaseEstimator, fitted: dict[str, Any]) -> dict[str, Any]:
    """Refuse fitted attributes that are missing, unknown, or not what they should be.

    Parameters
    ----------
    estimator : estimator
        One of `ESTIMATORS`.

    fitted : dict
        All its fitted attributes by name, or none if it is not fitted.

    Returns
    -------
    fitted : dict
        Those to be kept in a file, in the order of the table.

    Raises
    ------
    ValueError
        If they do not fit the table.
    """
    owner = type(estimator).__name__
    kinds = _FITTED[type(estimator)]
    unknown = set(fitted) - set(kinds) - _DERIVED.get(type(estimator), set())
    if unknown:
        raise ValueError(f"{owner} has attributes unknown here: {sorted(unknown)}")
    required = {name for name, kind in kinds.items() if not kind.optional}
    if fitted and required - set(fitted):
        raise ValueError(f"{owner} lacks {sorted(required - set(fitted))}")
    sizes: dict[str, int] = {}
    for name, kind in kinds.items():
        if name in fitted and not kind.fits(fitted[name], sizes):
            raise ValueError(
                f"{owner}.{name} is {_describe(fitted[name])}; it must be {kind.says}"
                + (f", with {sizes}" if sizes else "")
            )
    return {name: fitted[name] for name in kinds if name in fitted}


def check_views(estimator: BaseEstimator) -> None:
    """Refuse views that are functions of the user's.

    Parameters
    ----------
    estimator : estimator
        Any.

    Raises
    ------
    ValueError
        If it asks for such views.
    """
    if not isinstance(estimator, AugmentationExpander):
        return
    foreign = [name for name in estimator.extra if name not in list(BUILT_IN_VIEWS)]
    if foreign:
        raise ValueError(
            f"AugmentationExpander asks for the views {foreign}, which are functions "
            "of yours, and a model file holds no code: leave them out of extra, or "
            "use joblib.dump"
        )


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"{str(value)[:40]!r} ({type(value).__name__})"
