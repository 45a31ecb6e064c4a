"""The paper's networks, their losses, and their training."""

from sklearn_asd.networks.architectures import InoueT18, PVMilk20
from sklearn_asd.networks.losses import AdaCos, ArcFace, CenterLoss, Softmax
from sklearn_asd.networks.reconstruction import DenseAutoencoder, DenseInterpolator

__all__ = [
    "AdaCos",
    "ArcFace",
    "CenterLoss",
    "DenseAutoencoder",
    "DenseInterpolator",
    "InoueT18",
    "PVMilk20",
    "Softmax",
]
