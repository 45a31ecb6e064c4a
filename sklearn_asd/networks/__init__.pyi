from .architectures import InoueT18, PVMilk20
from .encoder_embedding import EncoderEmbedding
from .losses import AdaCos, ArcFace, CenterLoss, Softmax
from .reconstruction import DenseAutoencoder, DenseInterpolator

__all__ = [
    "AdaCos",
    "ArcFace",
    "CenterLoss",
    "DenseAutoencoder",
    "DenseInterpolator",
    "EncoderEmbedding",
    "InoueT18",
    "PVMilk20",
    "Softmax",
]
