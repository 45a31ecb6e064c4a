"""The score of confidence detectors, as :mod:`sklearn_asd.detectors.doubt` has it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sklearn_asd.detectors import doubt

__all__ = ["log_confidence", "pool_doubt"]

# As tensors, since the exporter rounds plain numbers to float32.
_LARGEST, _STEP, _SMALLEST, _ONE, _ENOUGH = torch.tensor(
    [
        doubt.LARGEST_LOG_DOUBT,
        doubt.DOUBT_STEP,
        doubt.SMALLEST_LOG_DOUBT,
        1.0,
        1e40,
    ],
    dtype=torch.float64,
)


def pool_doubt(
    logits: torch.Tensor,
    is_asked: torch.Tensor,
    pool: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Pool 1 - p of a class over the segments of a clip.

    Parameters
    ----------
    logits : tensor of shape (n_segments, n_classes), float64
        Class scores before the softmax.

    is_asked : tensor of shape (n_segments, n_classes) or (1, n_classes), bool
        The class that is asked for.

    pool : callable
        Pools a tensor of shape (n_segments, 2) to one of shape (2,).

    Returns
    -------
    score : tensor of shape (), float64
        NaN if there is no segment.
    """
    of_all = logits.logsumexp(dim=1)
    others = logits.masked_fill(is_asked, -torch.inf).logsumexp(dim=1)
    own = logits.masked_fill(is_asked.logical_not(), -torch.inf).amax(dim=1)
    logs = torch.stack([others - of_all, own - of_all], dim=1)
    # A row more, as runtimes find no largest value of nothing.
    nothing = torch.full((1, 2), -torch.inf, dtype=logs.dtype)
    largest = torch.cat([logs, nothing]).amax(dim=0)
    largest = torch.where(largest == -torch.inf, 0, largest)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    pooled = pool(signs * (logs - largest).exp())
    logs = largest + pooled.abs().log()
    score = _extend_doubt(logs[0], logs[1])
    # The largest one of some runtimes passes over NaN.
    return torch.where(pooled[0].isnan(), pooled[0], score)


def _extend_doubt(log_doubt: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    low = torch.maximum(log_doubt, _SMALLEST).exp()
    below = (_SMALLEST - log_doubt).clamp_min(0)
    low = low / (_ONE + (_ONE + below).log())
    beyond = torch.minimum(torch.maximum(-log_p, _LARGEST), _ENOUGH) / _LARGEST
    far = log_p < -_LARGEST
    high = torch.where(far, _ONE + _STEP * beyond.log(), _ONE - log_p.exp())
    return torch.where(log_p < -_ONE, high, low)


def log_confidence(scores: torch.Tensor) -> torch.Tensor:
    """Give back log(p) of scores above 1.

    Parameters
    ----------
    scores : tensor, float64
        From `pool_doubt`.

    Returns
    -------
    log_p : tensor of the same shape
        Where the score is above 1; elsewhere without a meaning.
    """
    return -_LARGEST * ((scores - _ONE) / _STEP).exp()
