"""Estimators to JSON and arrays.

JSON's own values stand for themselves. Anything else is an object with one key that
says what it is: ``{"tuple": [...]}``, ``{"array": [name, order]}``... Estimators are
in a list of their own, each after those it holds.
"""

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
from sklearn_asd.persistence.known import (
    ESTIMATORS,
    LEFT_OUT,
    LOSSES,
    NETWORKS,
    NOTES,
    check_fitted,
    check_views,
)

__all__ = ["Encoder"]

_PLAIN = (bool, int, float, str, type(None))


class Encoder:
    """Takes estimators apart.

    Attributes
    ----------
    objects : list of dict
        The estimators, each after those it holds.

    tensors : dict of str to ndarray
        Their arrays.
    """

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}
        # What is held twice is kept once. The values are kept alive, so that no other
        # is given the identity of one.
        self._seen: dict[int, tuple[Any, Any]] = {}

    def encode(self, value: Any, where: str) -> Any:
        """Turn a value into what JSON can hold, and put its arrays aside.

        Parameters
        ----------
        value : any
            The value.

        where : str
            What it is called, in errors.

        Returns
        -------
        encoded : any
            For JSON.

        Raises
        ------
        ValueError
            If there is no way to.
        """
        if type(value) in _PLAIN and not _is_special(value):
            return value
        for types, method in self._METHODS:
            if isinstance(value, types):
                return method(self, value, where)
        if isinstance(value, type) or callable(value):
            return self._network(value, where)
        raise _no_way(where, f"is {value!r:.80}")

    def _special(self, value: Any, where: str) -> Any:
        if not _is_special(value):  # a child of int or str, such as an IntEnum
            raise _no_way(where, f"is {value!r:.80}")
        return {"float": str(float(value))}

    def _scalar(self, value: np.generic, where: str) -> Any:
        if isinstance(value, np.str_):
            return str(value)
        return self._array(np.asarray(value), where)

    def _array(self, value: np.ndarray, where: str) -> Any:
        if value.dtype.kind in "UO":
            return self._strings(value, where)
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise _no_way(where, f"is an array of {value.dtype}")
        name, _ = self._seen.get(id(value), (where, None))
        self._seen[id(value)] = name, value
        # Products of matrices round by the order in memory.
        turned = value.flags.f_contiguous and not value.flags.c_contiguous
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        # A copy of one number must keep its shape.
        self.tensors[name] = np.array(native.T if turned else native, order="C")
        return {"array": [name, "F" if turned else "C"]}

    def _strings(self, value: np.ndarray, where: str) -> Any:
        texts = value.tolist()
        if value.ndim != 1 or not all(type(text) is str for text in texts):
            raise _no_way(
                where, f"is an array of {value.dtype} that holds {texts!r:.80}"
            )
        return {"strings": [texts, "object" if value.dtype == object else "str"]}

    def _list(self, value: list, where: str) -> Any:
        return [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]

    def _tuple(self, value: tuple, where: str) -> Any:
        if len(value) == 2 and isinstance(value[0], str):  # a step or a member
            return {"tuple": [value[0], self.encode(value[1], f"{where} {value[0]!r}")]}
        return {"tuple": self._list(list(value), where)}

    def _dict(self, value: dict, where: str) -> Any:
        return {
            "dict": [
                [self.encode(k, where), self.encode(v, f"{where} {k!r}")]
                for k, v in value.items()
            ]
        }

    def _scale(self, value: GammaScale, where: str) -> Any:
        return {"gamma": self._list(list(value), where)}

    def _table(self, value: pd.DataFrame, where: str) -> Any:
        columns = [
            [name, self._array(value[name].to_numpy(), f"{where}.{name}")]
            for name in value.columns
        ]
        return {"table": columns}

    def _network(self, value: Any, where: str) -> Any:
        """Give the class of one of our networks, or functools.partial of one."""
        network, settings = value, None
        if type(value) is partial and not value.args:
            network = value.func
            settings = self._dict(value.keywords, where)
        if network not in NETWORKS.values():
            raise _no_way(
                where,
                f"is {value!r:.80}, code that a file must not hold (it may be the name "
                f"of a network, {', '.join(NETWORKS)}, or functools.partial of these)",
            )
        return {"network": [network.__name__, settings]}

    def _loss(self, value: Any, where: str) -> Any:
        name = type(value).__name__
        if LOSSES.get(name) is not type(value):
            raise _no_way(where, f"is {value!r:.80}")
        return {"loss": [name, self._attributes(vars(value), where)]}

    def _net(self, value: NeuralNet, where: str) -> Any:
        name, _ = self._seen.get(id(value), (where, None))
        self._seen[id(value)] = name, value
        for key, weights in value.module_.state_dict().items():
            self.tensors[f"{name}.{key}"] = np.array(weights.cpu().numpy(), order="C")
        return {"net": name}

    def _estimator(self, value: BaseEstimator, where: str) -> Any:
        if id(value) in self._seen:
            return {"object": self._seen[id(value)][0]}
        kind = type(value).__name__
        if ESTIMATORS.get(kind) is not type(value):
            raise _no_way(
                where, f"is {kind}, which is none of {', '.join(sorted(ESTIMATORS))}"
            )
        check_views(value)
        params = {
            name: None if name in LEFT_OUT else param
            for name, param in value.get_params(deep=False).items()
        }
        known = {*params, *NOTES}
        fitted = {k: v for k, v in vars(value).items() if k not in known}
        try:
            if hasattr(value, "_parameter_constraints"):  # as when it is loaded
                value._validate_params()
            fitted = check_fitted(value, fitted)
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise ValueError(f"{reason}. To keep it, use joblib.dump") from error
        encoded = {
            "type": kind,
            "params": self._attributes(params, where),
            "fitted": self._attributes(fitted, where),
        }
        self._seen[id(value)] = len(self.objects), value
        self.objects.append(encoded)
        return {"object": len(self.objects) - 1}

    def _attributes(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        prefix = f"{where}." if where else ""
        return {k: self.encode(v, prefix + k) for k, v in values.items()}

    # The first that fits; GammaScale is a tuple, and a NumPy float is a float.
    _METHODS: tuple[tuple[Any, Callable[..., Any]], ...] = (
        (np.generic, _scalar),
        (_PLAIN, _special),
        (np.ndarray, _array),
        (GammaScale, _scale),
        (list, _list),
        (tuple, _tuple),
        (dict, _dict),
        (pd.DataFrame, _table),
        (NeuralNet, _net),
        (tuple(LOSSES.values()), _loss),
        (BaseEstimator, _estimator),
    )


def _is_special(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _no_way(where: str, what: str) -> ValueError:
    return ValueError(
        f"{where or 'the model'} {what}, and save_model has no way to keep that: use "
        "joblib.dump, or change it"
    )
