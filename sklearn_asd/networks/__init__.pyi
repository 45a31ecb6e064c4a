from .architectures import InoueT18, PVMilk20
from .dual_path import DualPathNetwork
from .losses import (
    AdaCos,
    AdaProj,
    ArcFace,
    CenterLoss,
    Softmax,
    SubClusterAdaCos,
)
from .reconstruction import DenseAutoencoder, DenseInterpolator

__all__ = [
    "AdaCos",
    "AdaProj",
    "ArcFace",
    "CenterLoss",
    "DenseAutoencoder",
    "DenseInterpolator",
    "DualPathNetwork",
    "InoueT18",
    "PVMilk20",
    "Softmax",
    "SubClusterAdaCos",
]
