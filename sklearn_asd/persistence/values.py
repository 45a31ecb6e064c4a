"""Estimators to JSON and arrays, and back; calls nothing but what `allowed` lists.

JSON's own values stand for themselves. Any other value becomes an object with one key,
its tag: ``{"tuple": [...]}``, ``{"array": [name, order]}``... The guide's page "Save a
model" lists the tags. Estimators are in a list, each after those inside it.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator

from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.zscale import ZScale
from sklearn_asd.persistence import allowed
from sklearn_asd.persistence.checks import check_values

if TYPE_CHECKING:
    from skorch import NeuralNet

__all__ = ["Decoder", "Encoder"]

# Limits on what a file may grow into; the guide's page "Save a model" states them.
_MOST_ESTIMATORS = 100_000
_MOST_NESTED = 50  # estimators inside each other
_MOST_VISITS = 32  # of an estimator from the outermost one, on average
_GROWTH = 32  # bytes in memory for each byte of the file
_FREE_GROWTH = 32 * 1024**2  # bytes in memory for any file
# Counted for a network beside its weights, and more for one that is built again.
_NET_BYTES = {"first": 256 * 1024, "again": 2 * 1024**2}

_PLAIN = (bool, int, float, str, type(None))
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Encoder:
    """Turns estimators into JSON and arrays.

    Attributes
    ----------
    objects : list of dict
        The estimators, each after those inside it.

    tensors : dict of str to ndarray
        Their arrays.

    seen : dict of int to tuple
        A name and the value itself, by the value's id: a value that is held twice is
        stored once. Keeping the values alive keeps their ids unique.
    """

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.seen: dict[int, tuple[Any, Any]] = {}

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
        if isinstance(value, np.generic):
            value = str(value) if isinstance(value, np.str_) else np.asarray(value)
        if isinstance(value, list):
            return [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):  # which JSON lacks
            return {"float": str(float(value))}
        if type(value) in _PLAIN:
            return value
        tag = _find_tag(value)
        if tag is None:
            raise _unsavable(where, f"is {value!r:.80}")
        return {tag: _CODECS[tag].encode(self, value, where)}

    def encode_named(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Encode values by name.

        Parameters
        ----------
        values : dict of str to any
            The values.

        where : str
            The place of what they belong to.

        Returns
        -------
        encoded : dict
            What JSON can hold, by the same names.
        """
        prefix = f"{where}." if where else ""
        return {k: self.encode(v, prefix + k) for k, v in values.items()}


class Decoder:
    """Builds estimators; calls nothing but what `allowed` lists.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The arrays of a file.

    size : int
        Length of the file in bytes, which limits what is built.

    Attributes
    ----------
    names : list of str
        Names of the arrays, sorted.

    objects : list of estimator
        The estimators built so far.

    used : set of str
        Names of the arrays that these hold.

    shared : dict
        Arrays, tables and networks built so far. Estimators that shared one share it
        again.
    """

    def __init__(self, tensors: dict[str, np.ndarray], size: int) -> None:
        self.tensors = tensors
        self.names = sorted(tensors)
        self.objects: list[BaseEstimator] = []
        self.used: set[str] = set()
        self.shared: dict[Any, Any] = {}
        self.bytes_left = _FREE_GROWTH + _GROWTH * size
        # Of each estimator: how many are visited from it, and how deep they are nested.
        # The last entry is of the one that is being built.
        self.visits = [1]
        self.depths = [1]

    def add(self, encoded: Any) -> None:
        """Build the next estimator.

        Parameters
        ----------
        encoded : dict
            As :class:`Encoder` made it.

        Raises
        ------
        ValueError
            If it has another form, holds anything that is not allowed, or would not
            score.
        """
        if type(encoded) is not dict or set(encoded) != {"type", "params", "fitted"}:
            raise ValueError(f"{encoded!r:.80} is not an estimator")
        if encoded["type"] not in list(allowed.ESTIMATORS):
            raise ValueError(f"the estimator {encoded['type']!r:.80} is unknown")
        kind = allowed.ESTIMATORS[encoded["type"]]
        estimator = _build(kind, self.decode_named(encoded["params"]))
        fitted = allowed.check_fitted(estimator, self.decode_named(encoded["fitted"]))
        self._end_object()
        check_values(estimator, fitted)
        vars(estimator).update(fitted)
        if "net_" in fitted:
            net = estimator.restore_net(fitted["net_"].state)
            shared = self.shared.setdefault(fitted["net_"].name, net)
            is_equal = repr(shared.module_) == repr(net.module_)
            estimator.net_ = shared if is_equal else net
        self.objects.append(estimator)

    def _end_object(self) -> None:
        """Refuse estimators that stand so often in each other that scores never end."""
        n_objects = len(self.visits)
        if self.visits[-1] > _MOST_VISITS * n_objects or n_objects > _MOST_ESTIMATORS:
            raise ValueError(
                f"its {n_objects} estimators stand {self.visits[-1]} times in each "
                f"other; {_MOST_ESTIMATORS}, and {_MOST_VISITS} times as many, are "
                "the most"
            )
        if self.depths[-1] > _MOST_NESTED:
            raise ValueError(f"its estimators are nested {self.depths[-1]} deep")
        self.visits.append(1)
        self.depths.append(1)

    def visit(self, number: Any) -> BaseEstimator:
        """Give an estimator that the one being built holds.

        Parameters
        ----------
        number : int
            Its place.

        Returns
        -------
        estimator : estimator
            One of `objects`.

        Raises
        ------
        ValueError
            If there is none at this place yet.
        """
        if type(number) is not int or number not in range(len(self.objects)):
            raise ValueError("no estimator before it has this number")
        self.visits[-1] += self.visits[number]
        self.depths[-1] = max(self.depths[-1], self.depths[number] + 1)
        return self.objects[number]

    def spend(self, n_bytes: int) -> None:
        """Count memory before it is taken.

        Parameters
        ----------
        n_bytes : int
            How much.

        Raises
        ------
        ValueError
            If all values together take too much for a file of this length.
        """
        self.bytes_left -= n_bytes
        if self.bytes_left < 0:
            raise ValueError(
                f"its values take more than {_GROWTH} times its own length in memory"
            )

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
        if type(encoded) is int and abs(encoded) >= 2**63:
            raise ValueError("a whole number has more than 64 bits")
        if not isinstance(encoded, dict):
            return encoded
        try:
            ((tag, content),) = encoded.items()
            if tag == "float":
                return _FLOATS[content]
            return _CODECS[tag].decode(self, content)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(
                f"the value {encoded!r:.80} is unknown: {error}"
            ) from error

    def decode_named(self, encoded: Any) -> dict[str, Any]:
        """Decode values by name.

        Parameters
        ----------
        encoded : dict
            From :meth:`Encoder.encode_named`.

        Returns
        -------
        values : dict of str to any
            Decoded, by the same names.

        Raises
        ------
        ValueError
            If it has another form.
        """
        if type(encoded) is not dict:
            raise ValueError(f"{encoded!r:.80} is not a table of values")
        return {name: self.decode(value) for name, value in encoded.items()}


def _encode_array(encoder: Encoder, value: np.ndarray, where: str) -> list[str]:
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise _unsavable(where, f"is an array of {value.dtype}")
    name, _ = encoder.seen.setdefault(id(value), (where, value))
    # Products of matrices round by the order in memory.
    transposed = value.flags.f_contiguous and not value.flags.c_contiguous
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    # np.array keeps the shape () of a single number.
    encoder.tensors[name] = np.array(native.T if transposed else native, order="C")
    return [name, "F" if transposed else "C"]


def _decode_array(decoder: Decoder, content: list[str]) -> np.ndarray | np.generic:
    name, order = content
    if (name, order) not in decoder.shared:
        # A copy is writable, and aligned as NumPy does it.
        decoder.spend(decoder.tensors[name].nbytes)
        array = np.array(decoder.tensors[name], order="C")
        decoder.shared[name, order] = {"C": array, "F": array.T}[order]
        decoder.used.add(name)
    array = decoder.shared[name, order]
    return array[()] if array.ndim == 0 else array


def _encode_strings(encoder: Encoder, value: np.ndarray, where: str) -> list[Any]:
    texts = value.tolist()
    if value.ndim != 1 or not all(type(text) is str for text in texts):
        raise _unsavable(
            where, f"is an array of {value.dtype} that holds {texts!r:.80}"
        )
    return [texts, "object" if value.dtype == object else "str"]


def _decode_strings(decoder: Decoder, content: list[Any]) -> np.ndarray:
    texts, dtype = content
    if not all(type(text) is str for text in texts):
        raise ValueError("it must hold strings")
    if dtype == "str":  # all become as long as the longest
        decoder.spend(4 * len(texts) * max(map(len, texts), default=0))
    return np.array(texts, dtype={"str": str, "object": object}[dtype])


def _encode_tuple(encoder: Encoder, value: tuple, where: str) -> list[Any]:
    if len(value) == 2 and isinstance(value[0], str):  # a step or a member
        return [value[0], encoder.encode(value[1], f"{where} {value[0]!r}")]
    return encoder.encode(list(value), where)


def _decode_list(decoder: Decoder, content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError("it must hold a list")
    return decoder.decode(content)


def _decode_tuple(decoder: Decoder, content: Any) -> tuple:
    return tuple(_decode_list(decoder, content))


def _encode_dict(encoder: Encoder, value: dict, where: str) -> list[list[Any]]:
    return [
        [encoder.encode(k, where), encoder.encode(v, f"{where} {k!r}")]
        for k, v in value.items()
    ]


def _decode_dict(decoder: Decoder, content: list[Any]) -> dict:
    decoded = dict(_decode_list(decoder, pair) for pair in content)
    if len(decoded) != len(content):
        raise ValueError("a key stands twice")
    return decoded


def _decode_gamma(decoder: Decoder, content: Any) -> GammaScale:
    gamma = GammaScale(*map(float, _decode_list(decoder, content)))
    if not (min(gamma.shape, gamma.scale) > 0 and math.isfinite(sum(gamma))):
        raise ValueError("no Gamma distribution has such parameters")
    return gamma


def _decode_zscale(decoder: Decoder, content: Any) -> ZScale:
    zscale = ZScale(*map(float, _decode_list(decoder, content)))
    if not (zscale.scale > 0 and math.isfinite(sum(zscale))):
        raise ValueError("no scores have such a mean and standard deviation")
    return zscale


def _encode_table(encoder: Encoder, value: pd.DataFrame, where: str) -> list[Any]:
    return [
        [name, encoder.encode(value[name].to_numpy(), f"{where}.{name}")]
        for name in value.columns
    ]


def _decode_table(decoder: Decoder, content: list[list[Any]]) -> pd.DataFrame:
    columns = {name: decoder.decode(column) for name, column in content}
    if not all(isinstance(column, np.ndarray) for column in columns.values()):
        raise ValueError("its columns are no arrays")
    decoder.spend(sum(column.nbytes for column in columns.values()))
    return decoder.shared.setdefault(repr(content), pd.DataFrame(columns))


def _encode_named_rows(encoder: Encoder, value: pd.DataFrame, where: str) -> list[Any]:
    names = encoder.encode(value.index.tolist(), f"{where}.index")
    return [names, _encode_table(encoder, value, where)]


def _decode_named_rows(decoder: Decoder, content: list[Any]) -> pd.DataFrame:
    names, columns = content
    index = pd.Index(_decode_list(decoder, names), dtype=object)
    return _decode_table(decoder, columns).set_axis(index)


def _encode_network(encoder: Encoder, value: Any, where: str) -> list[Any]:
    """Encode one of our network classes, or functools.partial of one."""
    network, settings = value, None
    if type(value) is partial and not value.args:
        network, settings = value.func, encoder.encode(value.keywords, where)
    if not allowed.NETWORKS.has(network):
        raise _unsavable(
            where,
            f"is {value!r:.80}, code that a file must not hold (a network may be "
            f"{', '.join(allowed.NETWORKS)}, its name, or functools.partial of it; a "
            "statistic over time, or pooling, one of sklearn_asd.features.pooling)",
        )
    return [network.__name__, settings]


def _decode_network(decoder: Decoder, content: list[Any]) -> Any:
    name, settings = content
    network = allowed.NETWORKS[name]
    return network if settings is None else partial(network, **decoder.decode(settings))


def _encode_loss(encoder: Encoder, value: Any, where: str) -> list[Any]:
    return [type(value).__name__, encoder.encode_named(vars(value), where)]


def _decode_loss(decoder: Decoder, content: list[Any]) -> Any:
    name, settings = content
    return allowed.LOSSES[name](**decoder.decode_named(settings))


def _encode_pooling(encoder: Encoder, value: Any, where: str) -> list[Any]:
    if _is_function(value):
        return [value.__name__, None]
    if type(value) not in allowed.POOLINGS.values():
        raise _unsavable(where, f"is {value!r:.80}")
    return [type(value).__name__, encoder.encode_named(vars(value), where)]


def _decode_pooling(decoder: Decoder, content: list[Any]) -> Any:
    name, settings = content
    if settings is None:
        return allowed.POOLING_FUNCTIONS[name]
    return allowed.POOLINGS[name](**decoder.decode_named(settings))


def _is_function(value: Any) -> bool:
    """Whether a value is one of the functions that pool over time."""
    return any(value is one for one in allowed.POOLING_FUNCTIONS.values())


def _encode_net(encoder: Encoder, value: NeuralNet, where: str) -> str:
    name, _ = encoder.seen.setdefault(id(value), (where, value))
    for key, weights in value.module_.state_dict().items():
        encoder.tensors[f"{name}.{key}"] = np.array(weights.cpu().numpy(), order="C")
    return name


def _decode_net(decoder: Decoder, content: str) -> allowed.SavedNet:
    prefix = f"{content}."
    first = bisect_left(decoder.names, prefix)
    beyond = bisect_left(decoder.names, f"{content}/")  # "/" comes after "."
    names = decoder.names[first:beyond]
    state = {name.removeprefix(prefix): decoder.tensors[name] for name in names}
    known = decoder.used.issuperset(names)
    decoder.spend(_NET_BYTES["again" if known else "first"])
    decoder.spend(sum(weights.nbytes for weights in state.values()))
    decoder.used.update(names)
    for name, weights in state.items():
        if weights.dtype.kind == "f" and not np.isfinite(weights).all():
            raise ValueError(f"the weights {name!r:.80} hold NaN or infinity")
        if name.endswith("running_var") and (weights < 0).any():
            raise ValueError(f"the variances {name!r:.80} are negative")
    return allowed.SavedNet(content, state)


def _encode_estimator(encoder: Encoder, value: Any, where: str) -> int:
    if id(value) in encoder.seen:
        return encoder.seen[id(value)][0]
    kind = type(value).__name__
    if not allowed.ESTIMATORS.has(type(value)):
        names = ", ".join(sorted(allowed.ESTIMATORS))
        raise _unsavable(where, f"is {kind}, which is not one of {names}")
    params = value.get_params(deep=False)
    fitted = {k: v for k, v in vars(value).items() if k not in params}
    params |= {name: None for name in allowed.FOLDERS if name in params}
    if hasattr(value, "name_encoder"):  # its weights stay where they are
        params["encoder"] = value.name_encoder()
    try:
        _check_params(value)  # as load_model does
        fitted = allowed.check_fitted(value, fitted)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{reason}. Use joblib.dump to save it all the same"
        ) from error
    encoded = {
        "type": kind,
        "params": encoder.encode_named(params, where),
        "fitted": encoder.encode_named(fitted, where),
    }
    encoder.seen[id(value)] = len(encoder.objects), value
    encoder.objects.append(encoded)
    return len(encoder.objects) - 1


def _build(kind: Any, params: dict[str, Any]) -> BaseEstimator:
    """Build an unfitted estimator."""
    unknown = set(params) - set(kind._get_param_names())
    if unknown:
        raise ValueError(f"{kind.__name__} has no parameters {sorted(unknown)}")
    if any(params.get(name) is not None for name in allowed.FOLDERS):
        raise ValueError(f"{kind.__name__} names a folder for intermediate results")
    estimator = kind(**params)
    _check_params(estimator)
    return estimator


def _check_params(estimator: Any) -> None:
    params = estimator.get_params(deep=False)
    for name in {"steps", "estimators"} & set(params):
        if not isinstance(params[name], list) or not all(map(_is_part, params[name])):
            kind = type(estimator).__name__
            raise ValueError(f"{kind}.{name} is no list of (name, estimator)")
    if hasattr(estimator, "_parameter_constraints"):
        estimator._validate_params()


def _is_part(part: Any) -> bool:
    is_pair = isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], str)
    return is_pair and (
        hasattr(part[1], "get_params") or isinstance(part[1], str | None)
    )


def _unsavable(where: str, what: str) -> ValueError:
    return ValueError(
        f"{where or 'the model'} {what}. save_model cannot save that: change it, or "
        "use joblib.dump"
    )


class _Codec(NamedTuple):
    """How values of some types are written under a tag, and read."""

    matches: Callable[[Any], bool]
    encode: Callable[[Encoder, Any, str], Any]
    decode: Callable[[Decoder, Any], Any]


def _is_a(*types: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_net(value: Any) -> bool:
    """Whether a value is a net of skorch, which only holds once skorch is imported."""
    skorch = sys.modules.get("skorch")
    return skorch is not None and isinstance(value, skorch.NeuralNet)


def _is_loss(value: Any) -> bool:
    return allowed.LOSSES.has(type(value))


# The first match counts: scales are tuples, and poolings and networks are callable.
_CODECS = {
    "strings": _Codec(_is_a(), _encode_strings, _decode_strings),  # arrays of text
    "array": _Codec(_is_a(np.ndarray), _encode_array, _decode_array),
    "gamma": _Codec(_is_a(GammaScale), _encode_tuple, _decode_gamma),
    "zscale": _Codec(_is_a(ZScale), _encode_tuple, _decode_zscale),
    "tuple": _Codec(_is_a(tuple), _encode_tuple, _decode_tuple),
    "dict": _Codec(_is_a(dict), _encode_dict, _decode_dict),
    "table": _Codec(_is_a(pd.DataFrame), _encode_table, _decode_table),
    "named_rows": _Codec(_is_a(), _encode_named_rows, _decode_named_rows),  # tables too
    "net": _Codec(_is_net, _encode_net, _decode_net),
    "loss": _Codec(_is_loss, _encode_loss, _decode_loss),
    "pooling": _Codec(
        _is_a(*allowed.POOLINGS.values()), _encode_pooling, _decode_pooling
    ),
    "object": _Codec(_is_a(BaseEstimator), _encode_estimator, Decoder.visit),
    "network": _Codec(callable, _encode_network, _decode_network),
}


def _find_tag(value: Any) -> str | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        return "strings"
    if _is_function(value):
        return "pooling"
    if isinstance(value, pd.DataFrame) and not is_numeric_dtype(value.index.dtype):
        return "named_rows"
    matches = (tag for tag, codec in _CODECS.items() if codec.matches(value))
    return next(matches, None)
