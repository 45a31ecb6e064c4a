"""Gamma distributions in operations that a graph has: exponentials and logarithms."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sklearn_asd.meta.gamma import GammaScale

__all__ = ["GammaProbabilities", "log_complement"]

# Points of the integration: the error is below 1e-7 for shapes from 0.001 on, and
# rounding takes over at 0.01.
_N_POINTS = 100


class GammaProbabilities(nn.Module):
    """Logarithms of probabilities of any scores, as :meth:`GammaScale.log_cdf_sf`.

    An integral over the smaller side of the distribution, by the double exponential
    rule (Takahasi and Mori, 1974), which takes the same points whatever the score. The
    logarithms differ by less than 1e-7 of themselves, for shapes from 0.001 to 1e8.

    Parameters
    ----------
    scales : list of list of GammaScale
        For each group of machines, one for each member.
    """

    scale: torch.Tensor
    shift: torch.Tensor
    shape: torch.Tensor
    log_total: torch.Tensor
    points: torch.Tensor
    weights: torch.Tensor

    def __init__(self, scales: list[list[GammaScale]]) -> None:
        super().__init__()
        for name in GammaScale._fields:
            values = [[getattr(one, name) for one in group] for group in scales]
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        v = torch.linspace(-4, 5, _N_POINTS, dtype=torch.float64)
        points = (v - (-v).exp()).exp()
        self.register_buffer("points", points)
        self.register_buffer("weights", points * (1 + (-v).exp()) * (v[1] - v[0]))
        # Both sides add up to the whole, wherever they meet.
        sides = (
            self._log_below(self.shape, self.shape + 1),
            self._log_above(self.shape, self.shape + 1),
        )
        self.register_buffer("log_total", torch.logaddexp(*sides))

    def forward(
        self, scores: torch.Tensor, group: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn scores into logarithms of probabilities.

        Parameters
        ----------
        scores : tensor of shape (n_members,), float64
            One clip's anomaly scores.

        group : tensor of shape (), int64
            The group of its machine.

        Returns
        -------
        log_cdf, log_sf : tensor of shape (n_members,), float64
            Logarithms of the probabilities of a lower and of a higher score.
        """
        shape = self.shape[group]
        x = (scores + self.shift[group]) / self.scale[group]
        x = torch.where(x < 0, 0, x)
        is_low = x < shape + 1
        side = torch.where(is_low, self._log_below(shape, x), self._log_above(shape, x))
        side = side - self.log_total[group]
        rest = log_complement(side)
        return torch.where(is_low, side, rest), torch.where(is_low, rest, side)

    def _log_below(self, shape: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Logarithm of the integral from 0 to x < shape + 1, up to a constant.

        With t = x exp(-s), it is of exp(-shape s + x (1 - exp(-s))) from 0 on.
        """
        unit = 1 / (torch.where(x < shape, shape - x, 0) + _smaller_root(shape))
        s = unit[..., None] * self.points
        density = (-shape[..., None] * s + x[..., None] * (1 - (-s).exp())).exp()
        integral = unit * (density * self.weights).sum(-1)
        return shape * (x / shape).log() - (x - shape) + integral.log()

    def _log_above(self, shape: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Logarithm of the integral from x >= shape + 1 on, up to the same constant.

        With t = x + s, it is of (1 + s / x)^(shape - 1) exp(-s) from 0 on.
        """
        slope = 1 - (shape - 1) / x
        unit = 1 / (slope + 1 / (1 + shape.sqrt()))
        s = unit[..., None] * self.points
        power = (shape[..., None] - 1) * (1 + s / x[..., None]).log()
        integral = unit * ((power - s).exp() * self.weights).sum(-1) / x
        return shape * (x / shape).log() - (x - shape) + integral.log()


def log_complement(log_p: torch.Tensor) -> torch.Tensor:
    """Turn log(p) into log(1 - p), to full precision; ONNX lacks log1p and expm1.

    Parameters
    ----------
    log_p : tensor, float64
        Logarithms of probabilities.

    Returns
    -------
    log_rest : tensor of the same shape
        NaN where p is above 1.
    """
    p = log_p.exp()
    rest = 1 - p
    # The rounding of 1 - p cancels in the quotient.
    of_small = torch.where(rest == 1, -p, rest.log() * p / (1 - rest))
    of_large = (-(log_p / 2).tanh() * (p + 1)).log()
    return torch.where(log_p > -np.log(2), of_large, of_small)


def _smaller_root(shape: torch.Tensor) -> torch.Tensor:
    return torch.where(shape < 1, shape, shape.sqrt())
