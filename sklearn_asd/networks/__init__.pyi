from .architectures import InoueT18, PVMilk20
from .dual_path import DualPathNetwork
from .encoder_embedding import EncoderEmbedding
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
    "EncoderEmbedding",
    "InoueT18",
    "PVMilk20",
    "Softmax",
    "SubClusterAdaCos",
]
