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

    def __init__(self, scales: list[list[GammaScale]]) -> None:
        super().__init__()
        values = torch.tensor(scales, dtype=torch.float64)
        self.shape, self.scale, self.shift = values.unsqueeze(-1).unbind(2)
        v = torch.linspace(-4, 5, _N_POINTS, dtype=torch.float64)
        self.points = (v - (-v).exp()).exp()
        self.weights = self.points * (1 + (-v).exp()) * (v[1] - v[0])
        # The sides add up to the whole wherever they meet.
        self.log_whole = torch.logaddexp(*self._log_sides(self.shape, self.shape + 1))

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
        x = (scores.unsqueeze(1) + self.shift[group]) / self.scale[group]
        x = torch.where(x < 0, 0, x)
        is_low = x < shape + 1
        smaller = torch.where(is_low, *self._log_sides(shape, x))
        smaller = smaller - self.log_whole[group]
        larger = log_complement(smaller)
        log_cdf = torch.where(is_low, smaller, larger).squeeze(1)
        return log_cdf, torch.where(is_low, larger, smaller).squeeze(1)

    def _log_sides(
        self, shape: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithms of the integrals of the density up to x and from x on.

        Up to a constant that they share. The first is right up to shape + 1, and
        integrates exp(x (1 - exp(-s)) - shape s) over s, for t = x exp(-s). The second
        is right from there on, and integrates (1 + s / x)^(shape - 1) exp(-s) / x, for
        t = x + s.
        """
        root = torch.where(shape < 1, shape, shape.sqrt())
        unit = 1 / (torch.where(x < shape, shape - x, 0) + root)
        s = unit * self.points
        density = (x * (1 - (-s).exp()) - shape * s).exp()
        below = unit * (density * self.weights).sum(-1, keepdim=True)
        unit = 1 / (1 - (shape - 1) / x + 1 / (1 + shape.sqrt()))
        s = unit * self.points
        density = ((shape - 1) * (1 + s / x).log() - s).exp() / x
        above = unit * (density * self.weights).sum(-1, keepdim=True)
        peak = shape * (x / shape).log() - (x - shape)
        return peak + below.log(), peak + above.log()


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
