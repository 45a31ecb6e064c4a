"""A Gamma distribution's logarithms as tables, for graphs without its functions."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import gammaln
from torch import nn

from sklearn_asd.meta.gamma import GammaScale

__all__ = ["GammaTables"]

# Scores below count as this; a confidence in float64 hardly goes there.
_LOWEST_SCORE = 1e-30
_N_POINTS = [2**power for power in range(9, 17)]
# Of the logarithms, relative where they are beyond 1: a float32 network's rounding
# moves them more.
_TOLERANCE = 1e-7
_LOG_OF_NOTHING = -700.0  # float64 ends a little below


class GammaTables(nn.Module):
    """Scores in [0, 1] to logarithms of probabilities, by cubic interpolation.

    Over the logarithm of the score, in which both are smooth.

    Parameters
    ----------
    scales : list of list of GammaScale
        For each group of machines, one for each member.

    Raises
    ------
    ValueError
        If the tables do not come near enough.
    """

    starts: torch.Tensor
    steps: torch.Tensor
    shifts: torch.Tensor
    values: torch.Tensor
    slopes: torch.Tensor

    def __init__(self, scales: list[list[GammaScale]]) -> None:
        super().__init__()
        flat = [scale for of_group in scales for scale in of_group]
        self.n_members = len(scales[0])
        self.n_points = max(_enough_points(scale) for scale in flat)
        tables = [_Table(scale, self.n_points) for scale in flat]
        for name in ("start", "step", "shift"):
            column = torch.tensor([getattr(t, name) for t in tables]).double()
            self.register_buffer(f"{name}s", column.view(len(scales), -1))
        for name in ("values", "slopes"):
            rows = np.stack([getattr(table, name) for table in tables])
            self.register_buffer(name, torch.from_numpy(rows).flatten(0, 1))

    def forward(
        self, scores: torch.Tensor, group: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Look scores up.

        Parameters
        ----------
        scores : tensor of shape (n_members,), float64
            One clip's anomaly scores in [0, 1].

        group : tensor of shape (), int64
            The group of its machine.

        Returns
        -------
        log_cdf, log_sf : tensor of shape (n_members,), float64
            As of :meth:`GammaScale.log_cdf_sf`.
        """
        # A score of NaN has no place in a table.
        shifted = scores.nan_to_num(0.0) + self.shifts[group]
        place = shifted.clamp_min(_LOWEST_SCORE).log() - self.starts[group]
        step = self.steps[group]
        place = (place / step).clamp(0, self.n_points - 1)
        left = place.floor().clamp_max(self.n_points - 2)
        row = group * self.n_members + torch.arange(self.n_members)
        index = row * self.n_points + left.long()
        t = (place - left).unsqueeze(1)
        h = step.unsqueeze(1)
        looked_up = (
            self.values[index] * (2 * t + 1) * (1 - t) * (1 - t)
            + self.values[index + 1] * t * t * (3 - 2 * t)
            + h * self.slopes[index] * t * (1 - t) * (1 - t)
            - h * self.slopes[index + 1] * t * t * (1 - t)
        )
        unknown = scores.isnan().unsqueeze(1)
        log_cdf, log_sf = looked_up.masked_fill(unknown, torch.nan).unbind(1)
        return log_cdf, log_sf


class _Table:
    """Both logarithms and their slopes at equal steps of the logarithm of the score."""

    def __init__(self, scale: GammaScale, n_points: int) -> None:
        self.shift = scale.shift
        self.start = _lowest_place(scale)
        self.step = (np.log1p(scale.shift) - self.start) / (n_points - 1)
        shifted = np.exp(self.start + self.step * np.arange(n_points))
        self.values = _logarithms(scale, shifted)
        x = shifted / scale.scale
        log_density = (scale.shape * np.log(x) - x - gammaln(scale.shape))[:, None]
        # Of either with respect to the logarithm of the score.
        self.slopes = np.exp(log_density - self.values) * [1, -1]

    def error(self, scale: GammaScale) -> float:
        """Measure it half way between two points, where interpolation errs most."""
        places = self.start + self.step * (np.arange(len(self.values) - 1) + 0.5)
        exact = _logarithms(scale, np.exp(places))
        v, s = self.values, self.slopes * self.step
        between = (v[:-1] + v[1:]) / 2 + (s[:-1] - s[1:]) / 8
        return (np.abs(between - exact) / np.maximum(1, np.abs(exact))).max()


def _lowest_place(scale: GammaScale) -> float:
    """Logarithm of a score below which the distribution function is nothing."""
    low = np.log(max(scale.shift, _LOWEST_SCORE))
    high = np.log1p(scale.shift)
    if _logarithms(scale, np.exp([low]))[0, 0] > _LOG_OF_NOTHING:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        if _logarithms(scale, np.exp([middle]))[0, 0] > _LOG_OF_NOTHING:
            high = middle
        else:
            low = middle
    return high


def _logarithms(scale: GammaScale, shifted: np.ndarray) -> np.ndarray:
    """Columns log_cdf and log_sf of scores to which the shift is added."""
    return np.column_stack(scale._replace(shift=0.0).log_cdf_sf(shifted))


def _enough_points(scale: GammaScale) -> int:
    for n_points in _N_POINTS:
        if _Table(scale, n_points).error(scale) < _TOLERANCE:
            return n_points
    raise ValueError(
        f"a Gamma distribution of shape {scale.shape:.3g} and scale {scale.scale:.3g} "
        "is too narrow for a table, as a member's training scores are nearly equal: "
        "drop the member, or fit with scaling=None"
    )
