"""What learns: the paper's networks, their loss, and how they are trained."""

from sklearn_asd.networks.architectures import InoueT18, PVMilk20
from sklearn_asd.networks.losses import CenterLoss

__all__ = ["CenterLoss", "InoueT18", "PVMilk20"]
