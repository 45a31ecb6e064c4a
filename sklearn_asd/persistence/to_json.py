"""Estimators to JSON and arrays.

JSON's own values stand for themselves. Any other value becomes an object with one key,
its tag: ``{"tuple": [...]}``, ``{"array": [name, order]}``... The guide's page "Save a
model" lists the tags. Estimators are in a list, each after those inside it.
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
from sklearn_asd.persistence.allowed import (
    ESTIMATORS,
    FOLDERS,
    LOSSES,
    NETWORKS,
    check_fitted,
)

__all__ = ["Encoder"]

_PLAIN = (bool, int, float, str, type(None))


class Encoder:
    """Turns estimators into JSON and arrays.

    Attributes
    ----------
    objects : list of dict
        The estimators, each after those inside it.

    tensors : dict of str to ndarray
        Their arrays.
    """

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}
        # A value that is held twice is stored once. Keeping the values alive keeps
        # their ids unique.
        self._seen: dict[int, tuple[Any, Any]] = {}

    def encode(self, value: Any, where: str) -> Any:
        """Turn a value into JSON, and collect its arrays.

        Parameters
        ----------
        value : any
            The value.

        where : str
            Its place in the model, for errors and for names of arrays.

        Returns
        -------
        encoded : any
            What JSON can hold.

        Raises
        ------
        ValueError
            If the value cannot be saved.
        """
        if type(value) in _PLAIN and not _is_infinite(value):
            return value
        for types, method in self._METHODS:
            if isinstance(value, types):
                return method(self, value, where)
        if callable(value):
            return self._encode_network(value, where)
        raise _unsavable(where, f"is {value!r:.80}")

    def _encode_float(self, value: Any, where: str) -> Any:
        if not _is_infinite(value):  # a child of int or str, such as an IntEnum
            raise _unsavable(where, f"is {value!r:.80}")
        return {"float": str(float(value))}

    def _encode_scalar(self, value: np.generic, where: str) -> Any:
        if isinstance(value, np.str_):
            return str(value)
        return self._encode_array(np.asarray(value), where)

    def _encode_array(self, value: np.ndarray, where: str) -> Any:
        if value.dtype.kind in "UO":
            return self._encode_strings(value, where)
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise _unsavable(where, f"is an array of {value.dtype}")
        name, _ = self._seen.setdefault(id(value), (where, value))
        # Products of matrices round by the order in memory.
        transposed = value.flags.f_contiguous and not value.flags.c_contiguous
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        # np.array keeps the shape () of a single number.
        self.tensors[name] = np.array(native.T if transposed else native, order="C")
        return {"array": [name, "F" if transposed else "C"]}

    def _encode_strings(self, value: np.ndarray, where: str) -> Any:
        texts = value.tolist()
        if value.ndim != 1 or not all(type(text) is str for text in texts):
            raise _unsavable(
                where, f"is an array of {value.dtype} that holds {texts!r:.80}"
            )
        return {"strings": [texts, "object" if value.dtype == object else "str"]}

    def _encode_list(self, value: list, where: str) -> Any:
        return [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]

    def _encode_tuple(self, value: tuple, where: str) -> Any:
        if len(value) == 2 and isinstance(value[0], str):  # a step or a member
            return {"tuple": [value[0], self.encode(value[1], f"{where} {value[0]!r}")]}
        return {"tuple": self._encode_list(list(value), where)}

    def _encode_dict(self, value: dict, where: str) -> Any:
        return {
            "dict": [
                [self.encode(k, where), self.encode(v, f"{where} {k!r}")]
                for k, v in value.items()
            ]
        }

    def _encode_gamma(self, value: GammaScale, where: str) -> Any:
        return {"gamma": self._encode_list(list(value), where)}

    def _encode_table(self, value: pd.DataFrame, where: str) -> Any:
        columns = [
            [name, self._encode_array(value[name].to_numpy(), f"{where}.{name}")]
            for name in value.columns
        ]
        return {"table": columns}

    def _encode_network(self, value: Any, where: str) -> Any:
        """Encode one of our network classes, or functools.partial of one."""
        network, settings = value, None
        if type(value) is partial and not value.args:
            network = value.func
            settings = self._encode_dict(value.keywords, where)
        if network not in NETWORKS.values():
            raise _unsavable(
                where,
                f"is {value!r:.80}, code that a file must not hold (a network may be "
                f"{', '.join(NETWORKS)}, its name, or functools.partial of it)",
            )
        return {"network": [network.__name__, settings]}

    def _encode_loss(self, value: Any, where: str) -> Any:
        name = type(value).__name__
        if type(value) not in LOSSES.values():
            raise _unsavable(where, f"is {value!r:.80}")
        return {"loss": [name, self._encode_named(vars(value), where)]}

    def _encode_net(self, value: NeuralNet, where: str) -> Any:
        name, _ = self._seen.setdefault(id(value), (where, value))
        for key, weights in value.module_.state_dict().items():
            self.tensors[f"{name}.{key}"] = np.array(weights.cpu().numpy(), order="C")
        return {"net": name}

    def _encode_estimator(self, value: Any, where: str) -> Any:
        if id(value) in self._seen:
            return {"object": self._seen[id(value)][0]}
        kind = type(value).__name__
        if type(value) not in ESTIMATORS.values():
            allowed = ", ".join(sorted(ESTIMATORS))
            raise _unsavable(where, f"is {kind}, which is not one of {allowed}")
        params = {
            name: None if name in FOLDERS else param
            for name, param in value.get_params(deep=False).items()
        }
        fitted = {k: v for k, v in vars(value).items() if k not in params}
        try:
            if hasattr(value, "_parameter_constraints"):  # load_model does the same
                value._validate_params()
            fitted = check_fitted(value, fitted)
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise ValueError(
                f"{reason}. Use joblib.dump to save it all the same"
            ) from error
        encoded = {
            "type": kind,
            "params": self._encode_named(params, where),
            "fitted": self._encode_named(fitted, where),
        }
        self._seen[id(value)] = len(self.objects), value
        self.objects.append(encoded)
        return {"object": len(self.objects) - 1}

    def _encode_named(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        prefix = f"{where}." if where else ""
        return {k: self.encode(v, prefix + k) for k, v in values.items()}

    # The first match counts; GammaScale is a tuple, and a NumPy float is a float.
    _METHODS: tuple[tuple[Any, Callable[..., Any]], ...] = (
        (np.generic, _encode_scalar),
        (_PLAIN, _encode_float),
        (np.ndarray, _encode_array),
        (GammaScale, _encode_gamma),
        (list, _encode_list),
        (tuple, _encode_tuple),
        (dict, _encode_dict),
        (pd.DataFrame, _encode_table),
        (NeuralNet, _encode_net),
        (tuple(LOSSES.values()), _encode_loss),
        (BaseEstimator, _encode_estimator),
    )


def _is_infinite(value: Any) -> bool:
    """Tell whether a value is a float that JSON lacks: NaN or infinity."""
    return isinstance(value, float) and not math.isfinite(value)


def _unsavable(where: str, what: str) -> ValueError:
    return ValueError(
        f"{where or 'the model'} {what}. save_model cannot save that: change it, or "
        "use joblib.dump"
    )
