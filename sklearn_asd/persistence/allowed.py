"""What a model file may hold: nothing else is saved, and nothing else is loaded.

A new estimator is added to the table here. Its fitted attributes are declared in its
class, as `_fitted_attributes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from typing import Any, NotRequired, get_args, get_origin

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_asd._base import fitted_attributes
from sklearn_asd.features import pooling

__all__ = [
    "ESTIMATORS",
    "FOLDERS",
    "LOSSES",
    "NETWORKS",
    "POOLINGS",
    "POOLING_FUNCTIONS",
    "SavedNet",
    "check_fitted",
]

_COLUMNS: dict[str, Any] = {
    "n_features_in_": NotRequired[int],
    "feature_names_in_": NotRequired[np.ndarray],
}
_SCIKIT_LEARN: dict[str, dict[str, Any]] = {
    "FrozenEstimator": {},
    "LedoitWolf": {
        **_COLUMNS,
        "location_": np.ndarray,
        "covariance_": np.ndarray,
        "precision_": np.ndarray,
        "shrinkage_": Real,
    },
    "Pipeline": {},
    "StandardScaler": {
        **_COLUMNS,
        "mean_": np.ndarray | None,
        "var_": np.ndarray | None,
        "scale_": np.ndarray | None,
        "n_samples_seen_": Real,
    },
}


class Kinds(Mapping[str, Any]):
    """Classes by their names, each imported when it is looked up.

    So a file without networks is read without torch.

    Parameters
    ----------
    modules : dict of str to sequence of str
        Names of modules, and of the classes in them.
    """

    def __init__(self, modules: dict[str, tuple[str, ...]]) -> None:
        self._modules = {name: m for m, names in modules.items() for name in names}

    def __getitem__(self, name: str) -> Any:
        return getattr(import_module(self._modules[name]), name)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def has(self, kind: Any) -> bool:
        """Tell whether a class is one of them, and not another of the same name.

        Parameters
        ----------
        kind : any
            The class.

        Returns
        -------
        has : bool
            Whether it is.
        """
        name = getattr(kind, "__name__", None)
        return isinstance(name, str) and name in self and self[name] is kind


ESTIMATORS = Kinds(
    {
        "sklearn.covariance": ("LedoitWolf",),
        "sklearn.frozen": ("FrozenEstimator",),
        "sklearn.pipeline": ("Pipeline",),
        "sklearn.preprocessing": ("StandardScaler",),
        "sklearn_asd.detectors": (
            "AugmentConfidenceDetector",
            "AutoencoderDetector",
            "EmbeddingNeighborDetector",
            "GaussianDetector",
            "IDConfidenceDetector",
            "MahalanobisDetector",
        ),
        "sklearn_asd.features": (
            "AugmentationExpander",
            "LinearSpectrogram",
            "LogMelSegmenter",
            "NoiseCanceller",
            "PowerSpectrum",
            "RecordingCheck",
            "SpectrumStatistics",
        ),
        "sklearn_asd.networks": ("EncoderEmbedding",),
        "sklearn_asd.meta": (
            "GammaProbabilityEnsemble",
            "OnlyMachineTypes",
            "PerMachine",
            "PerMachineType",
            "ThresholdTuner",
            "ZScoreEnsemble",
        ),
    }
)

NETWORKS = Kinds({"sklearn_asd.networks": ("PVMilk20", "InoueT18", "DualPathNetwork")})

LOSSES = Kinds(
    {
        "sklearn_asd.networks": (
            "Softmax",
            "ArcFace",
            "AdaCos",
            "SubClusterAdaCos",
            "AdaProj",
        )
    }
)

_NETS = Kinds({"skorch": ("NeuralNet",)})

# Poolings with settings, and those without.
POOLINGS = {
    one.__name__: one
    for one in (
        pooling.BandCorrelations,
        pooling.DeviationWeightedMean,
        pooling.GeneralizedMean,
        pooling.Percentile,
        pooling.RankWeightedMean,
    )
}
POOLING_FUNCTIONS = {
    one.__name__: one
    for one in (
        pooling.maximum,
        pooling.mean,
        pooling.median,
        pooling.relative_power,
        pooling.skewness,
        pooling.std,
    )
}

# Parameters that name folders of the computer that fitted a model. They are saved as
# None: loading could unpickle what is in such a folder.
FOLDERS = ("cache_dir", "checkpoint_dir", "memory")


@dataclass(frozen=True)
class SavedNet:
    """Weights in a file, before their network is built.

    Attributes
    ----------
    name : str
        Start of the weights' names in the file.

    state : dict of str to ndarray
        The weights.
    """

    name: str
    state: dict[str, np.ndarray]


def check_fitted(estimator: BaseEstimator, fitted: dict[str, Any]) -> dict[str, Any]:
    """Refuse fitted attributes that are missing, unknown or of another type.

    Parameters
    ----------
    estimator : estimator
        One of `ESTIMATORS`.

    fitted : dict
        All its fitted attributes by name; empty if it is not fitted.

    Returns
    -------
    fitted : dict
        The same, in the order of the table.

    Raises
    ------
    ValueError
        If they do not fit the table.
    """
    kind = type(estimator)
    types = _SCIKIT_LEARN.get(kind.__name__, fitted_attributes(kind))
    unknown = set(fitted) - set(types)
    if unknown:
        raise ValueError(f"{kind.__name__} has unknown attributes {sorted(unknown)}")
    required = {name for name, t in types.items() if get_origin(t) is not NotRequired}
    if fitted and required - set(fitted):
        raise ValueError(f"{kind.__name__} lacks {sorted(required - set(fitted))}")
    for name, value in fitted.items():
        _check_type(f"{kind.__name__}.{name}", value, types[name])
    return {name: fitted[name] for name in types if name in fitted}


def _check_type(name: str, value: Any, expected: Any) -> None:
    if get_origin(expected) is NotRequired:
        (expected,) = get_args(expected)
    if isinstance(value, SavedNet) and _NETS.has(expected):
        return
    is_number = not isinstance(value, bool) or expected is bool
    if not (isinstance(value, expected) and is_number):
        raise ValueError(
            f"{name} is {str(value)[:40]!r} of type {type(value).__name__}; it must be "
            f"of type {getattr(expected, '__name__', expected)}"
        )
