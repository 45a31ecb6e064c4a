"""JSON and arrays to estimators, by nothing but what is listed in `known`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch
from skorch import NeuralNet

from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.persistence.format1 import (
    rename_weight,
    update_fitted,
    update_params,
)
from sklearn_asd.persistence.known import (
    ESTIMATORS,
    LEFT_OUT,
    LOSSES,
    NETWORKS,
    SavedNet,
    check_fitted,
    check_views,
)

__all__ = ["Decoder"]

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Decoder:
    """Puts estimators together; calls nothing but what is listed in `known`.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The arrays of a file.

    Attributes
    ----------
    objects : list of estimator
        Those put together so far.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.objects: list[BaseEstimator] = []
        self._tensors = tensors
        self._tables: dict[str, pd.DataFrame] = {}
        self._arrays: dict[tuple[str, str], np.ndarray] = {}
        self._nets: dict[str, NeuralNet] = {}
        self._used: set[str] = set()

    def unused(self) -> set[str]:
        """Find what a file holds without need.

        Returns
        -------
        names : set of str
            Of the arrays that nothing refers to.
        """
        return set(self._tensors) - self._used

    def add(self, encoded: Any) -> None:
        """Put the next estimator together.

        Parameters
        ----------
        encoded : dict
            As :class:`Encoder` made it.

        Raises
        ------
        ValueError
            If it is not of that form, or holds what is not known.
        """
        estimator = self._build(encoded)
        fitted = update_fitted(encoded["type"], self._named(encoded["fitted"]))
        fitted = check_fitted(estimator, fitted)
        net = fitted.pop("net_", None)
        vars(estimator).update(fitted)
        if net is not None:
            estimator.net_ = self._restore_net(estimator, net)
        if fitted and isinstance(estimator, GammaProbabilityEnsemble):
            names = [name for name, one in estimator.estimators if one != "drop"]
            pairs = zip(names, estimator.estimators_, strict=True)
            estimator.named_estimators_ = Bunch(**dict(pairs))
        self.objects.append(estimator)

    def decode(self, encoded: Any) -> Any:
        """Turn what JSON holds back into a value.

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
            If it is not of that form.
        """
        if isinstance(encoded, list):
            return [self.decode(one) for one in encoded]
        if not isinstance(encoded, dict):
            return encoded
        try:
            ((tag, content),) = encoded.items()
            return self._METHODS[tag](self, content)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"{encoded!r:.80} is no value: {error}") from error

    def _build(self, encoded: Any) -> BaseEstimator:
        """Give an estimator its parameters, with which it is not fitted yet."""
        if type(encoded) is not dict or set(encoded) != {"type", "params", "fitted"}:
            raise ValueError(f"{encoded!r:.80} is no estimator")
        if encoded["type"] not in list(ESTIMATORS):
            raise ValueError(f"the estimator {encoded['type']!r:.80} is unknown")
        kind = ESTIMATORS[encoded["type"]]
        params = update_params(self._named(encoded["params"]))
        unknown = set(params) - set(kind._get_param_names())
        if unknown:
            raise ValueError(f"{kind.__name__} has no parameters {sorted(unknown)}")
        if any(params.get(name) is not None for name in LEFT_OUT):
            raise ValueError(f"{kind.__name__} names a folder for intermediate results")
        estimator = kind(**params)
        _check_params(estimator)
        return estimator

    def _named(self, encoded: Any) -> dict[str, Any]:
        if type(encoded) is not dict:
            raise ValueError(f"{encoded!r:.80} is no table of values")
        return {name: self.decode(value) for name, value in encoded.items()}

    def _special(self, content: str) -> float:
        return _FLOATS[content]

    def _array(self, content: list[str]) -> np.ndarray | np.generic:
        name, order = content
        if order not in ("C", "F"):
            raise ValueError(f"order {order!r:.20} is unknown")
        if (name, order) not in self._arrays:
            # A copy: aligned as NumPy does it, and free to be written to.
            array = np.array(self._tensors[name], order="C")
            self._arrays[name, order] = array if order == "C" else array.T
            self._used.add(name)
        array = self._arrays[name, order]
        return array[()] if array.ndim == 0 else array

    def _strings(self, content: list[Any]) -> np.ndarray:
        texts, dtype = content
        if not all(type(text) is str for text in texts):
            raise ValueError("not all are texts")
        return np.array(texts, dtype={"str": str, "object": object}[dtype])

    def _tuple(self, content: list[Any]) -> tuple:
        return tuple(self._items(content))

    def _dict(self, content: list[list[Any]]) -> dict:
        pairs = [self._items(pair) for pair in content]
        decoded = dict(pairs)
        if len(decoded) < len(pairs):
            raise ValueError("a key stands twice in it")
        return decoded

    def _scale(self, content: list[float]) -> GammaScale:
        shape, scale, shift = (float(number) for number in self._items(content))
        if min(shape, scale) <= 0 or not math.isfinite(shape + scale + shift):
            raise ValueError("no Gamma distribution has such parameters")
        return GammaScale(shape, scale, shift)

    def _table(self, content: list[list[Any]]) -> pd.DataFrame:
        columns = {name: self.decode(column) for name, column in content}
        if not all(isinstance(c, np.ndarray) and c.ndim == 1 for c in columns.values()):
            raise ValueError("its columns are no arrays")
        # Estimators that shared one share it again, as they do arrays.
        return self._tables.setdefault(repr(content), pd.DataFrame(columns))

    def _network(self, content: list[Any]) -> Any:
        name, settings = content
        network = NETWORKS[name]
        if settings is None:
            return network
        settings = self.decode(settings)
        if not isinstance(settings, dict) or "n_classes" in settings:
            raise ValueError("its settings are none")
        return partial(network, **settings)

    def _loss(self, content: list[Any]) -> Any:
        name, settings = content
        return LOSSES[name](**self._named(settings))

    def _net(self, content: str) -> SavedNet:
        prefix = f"{content}."
        state = {
            rename_weight(name.removeprefix(prefix)): array
            for name, array in self._tensors.items()
            if name.startswith(prefix)
        }
        self._used.update(n for n in self._tensors if n.startswith(prefix))
        return SavedNet(content, state)

    def _object(self, content: int) -> BaseEstimator:
        if type(content) is not int or not 0 <= content < len(self.objects):
            raise ValueError(f"no estimator {content!r:.20} stands before it")
        return self.objects[content]

    def _items(self, content: Any) -> list[Any]:
        if not isinstance(content, list):
            raise ValueError("no list")
        return self.decode(content)

    def _restore_net(self, estimator: Any, saved: SavedNet) -> NeuralNet:
        net = estimator._restore_net(saved.state)
        # Estimators that shared one share it again.
        shared = self._nets.setdefault(saved.name, net)
        return shared if repr(shared.module_) == repr(net.module_) else net

    _METHODS: dict[str, Callable[..., Any]] = {
        "float": _special,
        "array": _array,
        "strings": _strings,
        "tuple": _tuple,
        "dict": _dict,
        "gamma": _scale,
        "table": _table,
        "network": _network,
        "loss": _loss,
        "net": _net,
        "object": _object,
    }


def _check_params(estimator: BaseEstimator) -> None:
    """Refuse parameters that no fit would take."""
    name = type(estimator).__name__
    for parts in ("steps", "estimators"):
        if hasattr(type(estimator), "_validate_names") and hasattr(estimator, parts):
            pairs = getattr(estimator, parts)
            if not isinstance(pairs, list) or not all(map(_is_named_part, pairs)):
                raise ValueError(f"{name}.{parts} is no list of (name, estimator)")
    if hasattr(estimator, "_parameter_constraints"):
        estimator._validate_params()
    check_views(estimator)


def _is_named_part(pair: Any) -> bool:
    return (
        isinstance(pair, tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], BaseEstimator | str | None)
    )
