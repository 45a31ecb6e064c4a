"""Poolings over time as functions of tensors, for any number of times."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from sklearn_asd.features import pooling
from sklearn_asd.features.pooling import Poolings, name_poolings

__all__ = ["TensorPooling", "make_pooling"]

# Above it, nearly all times of a usual clip have a weight.
_MOST_DECAY = 0.8

TensorPooling = Callable[[torch.Tensor], torch.Tensor]


def make_pooling(poolings: Poolings | None) -> TensorPooling:
    """Make the function that pools a tensor as :func:`sklearn_asd.features.pool` does.

    Parameters
    ----------
    poolings : str, callable, sequence of these, or None
        One or several poolings of the library; None is the mean.

    Returns
    -------
    pool : callable
        Takes a tensor of shape (n_times, n_columns), float64, of at least one time,
        and gives one of shape (n_pooled,).

    Raises
    ------
    ValueError
        If one is a function of the user's own.
    """
    named = name_poolings(poolings or "mean")
    functions = [_look_up(name, one) for name, one in named.items()]
    return lambda values: torch.cat([function(values) for function in functions])


def _look_up(name: str, one: Any) -> TensorPooling:
    if type(one) in _WITH_SETTINGS:
        return partial(_WITH_SETTINGS[type(one)], one)
    for known, function in _FUNCTIONS:
        if one is known:
            return function
    raise ValueError(
        f"the statistic over time {name!r:.200} is a function of yours, which a graph "
        "cannot hold: use those of sklearn_asd.features.pooling, or keep the model "
        "with save_model or joblib and score in Python"
    )


def _std(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean(0)).square().mean(0).sqrt()


def _center(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    spread = values.amax(0) - values.amin(0)
    constant = spread <= pooling.CONSTANT_SPREAD * values.abs().amax(0)
    return torch.where(constant, 0.0, values - values.mean(0)), constant


def _skewness(values: torch.Tensor) -> torch.Tensor:
    centered, constant = _center(values)
    scaled = centered / torch.where(constant, 1.0, centered.abs().amax(0))
    variance = torch.where(constant, 1.0, scaled.square().mean(0))
    third = (scaled * scaled.square()).mean(0)
    return third / (variance * variance.sqrt())


def _relative_power(values: torch.Tensor) -> torch.Tensor:
    nepers = math.log(10) / 10
    largest = values.amax(0)
    power = (nepers * (values - largest)).exp().mean(0)
    level = largest + power.log() / nepers
    return level - level.mean()


def _count(values: torch.Tensor) -> torch.Tensor:
    """Number the times from 0 on, as the runtime finds them and not as torch does."""
    return torch.ones_like(values[:, 0]).cumsum(0) - 1


def _percentile(q: float, values: torch.Tensor) -> torch.Tensor:
    """Interpolate between neighbours in rising order, by a weight for each value."""
    places = _count(values)
    place = torch.tensor(q / 100, dtype=torch.float64) * places.amax(0)
    weights = (1 - (places - place).abs()).clamp_min(0)
    return weights @ values.sort(dim=0).values


def _rank_weighted_mean(decay: float, values: torch.Tensor) -> torch.Tensor:
    n_kept = _count_weights(decay)
    if n_kept is None:
        ranks = _count(values)
        largest = values.sort(dim=0, descending=True).values
    else:  # runtimes take half the time to sort the largest values only
        ranks = torch.arange(n_kept)
        padded = functional.pad(values, (0, 0, 0, n_kept), value=-math.inf)
        largest = padded.topk(n_kept, dim=0).values
    # As a tensor: the exporter rounds a plain number to float32 here.
    weights = torch.tensor(decay, dtype=torch.float64) ** ranks
    weights = torch.where(ranks == 0, 1.0, weights)  # 0 ** 0 is 1 in every runtime
    if n_kept is not None:
        is_value = ranks <= _count(values).amax(0)
        weights = torch.where(is_value, weights, 0.0)
        largest = torch.where(is_value[:, None], largest, 0.0)
    return weights / weights.sum() @ largest


def _count_weights(decay: float) -> int | None:
    """Count the weights that float64 can tell from 0; None if they are many."""
    if not 0 < decay < _MOST_DECAY:
        return None
    return math.ceil(math.log(torch.finfo(torch.float64).eps / 4) / math.log(decay))


def _correlations(
    correlations: pooling.BandCorrelations, values: torch.Tensor
) -> torch.Tensor:
    bands = correlations.cut(values.shape[1])
    columns = [values[:, band[0] : band[-1] + 1].mean(1) for band in bands]
    centered, constant = _center(torch.stack(columns, dim=1))
    length = torch.where(constant, 1.0, centered.square().sum(0).sqrt())
    unit = centered / length
    upper = torch.triu_indices(len(bands), len(bands), 1)
    # No product of transposed matrices: some runtimes have none of double precision.
    return (unit[:, upper[0]] * unit[:, upper[1]]).sum(dim=0).clamp(-1, 1)


_FUNCTIONS: list[tuple[pooling.Pooling, TensorPooling]] = [
    (pooling.mean, lambda values: values.mean(0)),
    (pooling.std, _std),
    (pooling.maximum, lambda values: values.amax(0)),
    (pooling.median, partial(_percentile, 50.0)),
    (pooling.skewness, _skewness),
    (pooling.relative_power, _relative_power),
]
_WITH_SETTINGS: dict[type, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    pooling.RankWeightedMean: lambda one, x: _rank_weighted_mean(float(one.decay), x),
    pooling.Percentile: lambda one, x: _percentile(float(one.q), x),
    pooling.BandCorrelations: _correlations,
}
