from .architectures import InoueT18, PVMilk20
from .losses import AdaCos, ArcFace, CenterLoss, Softmax
from .reconstruction import DenseAutoencoder, DenseInterpolator

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
