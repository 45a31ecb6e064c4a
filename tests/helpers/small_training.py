"""An untrained network for a training of a second."""

from sklearn_asd import IDConfidenceDetector
from sklearn_asd.networks.training import make_net

PARAMETERS = {"batch_size": 8, "max_epochs": 3, "precision": "float32"}


def make_small_net(n_frames=12, **parameters):
    detector = IDConfidenceDetector(**PARAMETERS | parameters)
    return make_net(detector, n_classes=2, n_mels=8, n_frames=n_frames, device="cpu")
