"""JSON and arrays to estimators: calls nothing but what `allowed` lists."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from skorch import NeuralNet

from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.persistence.allowed import (
    ESTIMATORS,
    FOLDERS,
    LOSSES,
    NETWORKS,
    SavedNet,
    check_fitted,
)

__all__ = ["Decoder"]

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Decoder:
    """Builds estimators; calls nothing but what `allowed` lists.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The arrays of a file.

    Attributes
    ----------
    objects : list of estimator
        The estimators built so far.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.objects: list[BaseEstimator] = []
        self._tensors = tensors
        self._tables: dict[str, pd.DataFrame] = {}
        self._arrays: dict[tuple[str, str], np.ndarray] = {}
        self._nets: dict[str, NeuralNet] = {}
        self._used: set[str] = set()

    def unused(self) -> list[str]:
        """List the arrays that no estimator has.

        Returns
        -------
        names : list of str
            Their names, sorted.
        """
        return sorted(set(self._tensors) - self._used)

    def add(self, encoded: Any) -> None:
        """Build the next estimator.

        Parameters
        ----------
        encoded : dict
            As :class:`Encoder` made it.

        Raises
        ------
        ValueError
            If it has another form, or holds anything that is not allowed.
        """
        estimator = self._build(encoded)
        fitted = check_fitted(estimator, self._decode_fitted(encoded))
        vars(estimator).update(fitted)
        if "net_" in fitted:
            estimator.net_ = self._restore_net(estimator, fitted["net_"])
        self.objects.append(estimator)

    def decode(self, encoded: Any) -> Any:
        """Turn JSON back into a value.

        Parameters
        ----------
        encoded : any
            As :class:`Encoder` made it.

        Returns
        -------
        value : any
            The value.

        Raises
        ------
        ValueError
            If it has another form.
        """
        if isinstance(encoded, list):
            return [self.decode(one) for one in encoded]
        if not isinstance(encoded, dict):
            return encoded
        try:
            ((tag, content),) = encoded.items()
            return self._METHODS[tag](self, content)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(
                f"the value {encoded!r:.80} is unknown: {error}"
            ) from error

    def _build(self, encoded: Any) -> BaseEstimator:
        """Build an estimator with its parameters, unfitted."""
        if type(encoded) is not dict or set(encoded) != {"type", "params", "fitted"}:
            raise ValueError(f"{encoded!r:.80} is not an estimator")
        if encoded["type"] not in list(ESTIMATORS):
            raise ValueError(f"the estimator {encoded['type']!r:.80} is unknown")
        kind: Any = ESTIMATORS[encoded["type"]]
        params = self._decode_params(encoded)
        unknown = set(params) - set(kind._get_param_names())
        if unknown:
            raise ValueError(f"{kind.__name__} has no parameters {sorted(unknown)}")
        if any(params.get(name) is not None for name in FOLDERS):
            raise ValueError(f"{kind.__name__} names a folder for intermediate results")
        estimator = kind(**params)
        if hasattr(estimator, "_parameter_constraints"):
            estimator._validate_params()
        return estimator

    def _decode_params(self, encoded: dict[str, Any]) -> dict[str, Any]:
        return self._decode_named(encoded["params"])

    def _decode_fitted(self, encoded: dict[str, Any]) -> dict[str, Any]:
        return self._decode_named(encoded["fitted"])

    def _decode_named(self, encoded: Any) -> dict[str, Any]:
        if type(encoded) is not dict:
            raise ValueError(f"{encoded!r:.80} is not a table of values")
        return {name: self.decode(value) for name, value in encoded.items()}

    def _decode_list(self, content: Any) -> list[Any]:
        if not isinstance(content, list):
            raise ValueError("it must hold a list")
        return self.decode(content)

    def _decode_float(self, content: str) -> float:
        return _FLOATS[content]

    def _decode_array(self, content: list[str]) -> np.ndarray | np.generic:
        name, order = content
        if (name, order) not in self._arrays:
            # A copy is writable, and aligned as NumPy does it.
            array = np.array(self._tensors[name], order="C")
            self._arrays[name, order] = {"C": array, "F": array.T}[order]
            self._used.add(name)
        array = self._arrays[name, order]
        return array[()] if array.ndim == 0 else array

    def _decode_strings(self, content: list[Any]) -> np.ndarray:
        texts, dtype = content
        if not all(type(text) is str for text in texts):
            raise ValueError("it must hold strings")
        return np.array(texts, dtype={"str": str, "object": object}[dtype])

    def _decode_tuple(self, content: list[Any]) -> tuple:
        return tuple(self._decode_list(content))

    def _decode_dict(self, content: list[list[Any]]) -> dict:
        return dict(self._decode_list(pair) for pair in content)

    def _decode_gamma(self, content: list[float]) -> GammaScale:
        shape, scale, shift = self._decode_list(content)
        return GammaScale(float(shape), float(scale), float(shift))

    def _decode_table(self, content: list[list[Any]]) -> pd.DataFrame:
        columns = {name: self.decode(column) for name, column in content}
        # Estimators that shared one share it again, as they do arrays.
        return self._tables.setdefault(repr(content), pd.DataFrame(columns))

    def _decode_network(self, content: list[Any]) -> Any:
        name, settings = content
        network = NETWORKS[name]
        return (
            network if settings is None else partial(network, **self.decode(settings))
        )

    def _decode_loss(self, content: list[Any]) -> Any:
        name, settings = content
        return LOSSES[name](**self._decode_named(settings))

    def _decode_net(self, content: str) -> SavedNet:
        prefix = f"{content}."
        state = {
            name.removeprefix(prefix): array
            for name, array in self._tensors.items()
            if name.startswith(prefix)
        }
        self._used.update(prefix + name for name in state)
        return SavedNet(content, state)

    def _decode_object(self, content: int) -> BaseEstimator:
        if type(content) is not int or content not in range(len(self.objects)):
            raise ValueError("no estimator before it has this number")
        return self.objects[content]

    def _restore_net(self, estimator: Any, saved: SavedNet) -> NeuralNet:
        net = estimator.restore_net(saved.state)
        # Estimators that shared one share it again.
        shared = self._nets.setdefault(saved.name, net)
        return shared if repr(shared.module_) == repr(net.module_) else net

    _METHODS: dict[str, Callable[..., Any]] = {
        "float": _decode_float,
        "array": _decode_array,
        "strings": _decode_strings,
        "tuple": _decode_tuple,
        "dict": _decode_dict,
        "gamma": _decode_gamma,
        "table": _decode_table,
        "network": _decode_network,
        "loss": _decode_loss,
        "net": _decode_net,
        "object": _decode_object,
    }
