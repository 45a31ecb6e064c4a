"""A network whose answers are known, for scores that are worked out by hand."""

import numpy as np
import torch
from torch import nn


class FixedLogits(nn.Module):
    """Gives the logits that the first frame of a segment spells out."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.n_classes = n_classes
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, log_mel):
        logits = log_mel[:, : self.n_classes, 0] + 0 * self.unused
        return logits, log_mel[:, :2, 0]


def spell(probabilities):
    """Log-mel of 2 frames a segment whose logits FixedLogits reads off."""
    logits = np.log(np.asarray(probabilities, dtype=float))
    return np.repeat(logits, 2, axis=0).T
