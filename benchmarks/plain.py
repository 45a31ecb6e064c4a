"""The straightforward way, to which the library's speed is compared.

Networks as the paper prints them, in float32 and torch's default memory layout; a
DataLoader that collates single segments; one optimiser for the network and one for the
centres, each stepped once a batch; scoring in batches of the same loader.
"""

import itertools

import librosa
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH_SIZE = 384


class PVMilk20(nn.Module):
    def __init__(self, n_classes, n_mels=128):
        super().__init__()
        self.features = nn.Sequential(
            *convolve(1, 8, (7, 1), (1, 1), (3, 0)),
            *convolve(8, 8, (1, 7), (1, 3), (0, 2)),
            *convolve(8, 16, (5, 1), (1, 1), (2, 0)),
            *convolve(16, 16, (5, 1), (1, 1), (2, 0)),
            *convolve(16, 32, (1, 5), (1, 3), (0, 1)),
        )
        self.dropout = nn.Dropout(0.2)
        self.embed = nn.Linear(n_mels, 128)
        self.classify = nn.Linear(128, n_classes)

    def forward(self, log_mel):
        maps = self.features(log_mel.unsqueeze(1)).transpose(1, 2)
        embedding = self.embed(self.dropout(maps.amax(dim=(2, 3))))
        return self.classify(embedding), embedding


class InoueT18(nn.Module):
    def __init__(self, n_classes, n_mels=128):
        super().__init__()
        self.features = nn.Sequential(
            *convolve(1, 64, (7, 1), (1, 1), (3, 0)),
            nn.MaxPool2d((8, 1)),
            nn.Dropout(0.2),
            *convolve(64, 128, (n_mels // 8, 1), (1, 1), (0, 0)),
            *convolve(128, 256, (1, 7), (1, 1), (0, 3)),
        )
        self.dropout = nn.Dropout(0.5)
        self.embed = nn.Linear(256, 128)
        self.classify = nn.Linear(128, n_classes)

    def forward(self, log_mel):
        maps = self.features(log_mel.unsqueeze(1))
        embedding = self.embed(self.dropout(maps.amax(dim=(2, 3))))
        return self.classify(embedding), embedding


NETWORKS = {"pvmilk20": PVMilk20, "inouet18": InoueT18}


def convolve(n_in, n_out, kernel, stride, padding):
    return (
        nn.Conv2d(n_in, n_out, kernel, stride, padding),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


class Segments(Dataset):
    """Single segments, cut out of the log-mels of clips."""

    def __init__(self, log_mels, y, n_frames=96, hop=48):
        self.log_mels, self.y, self.n_frames = log_mels, y, n_frames
        self.places = [
            (clip, start)
            for clip, log_mel in enumerate(log_mels)
            for start in range(0, log_mel.shape[1] - n_frames + 1, hop)
        ]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        clip, start = self.places[index]
        segment = self.log_mels[clip][:, start : start + self.n_frames]
        return torch.tensor(segment), self.y[clip]


class CenterLoss(nn.Module):
    """Half the mean squared distance to the classes' centres."""

    def __init__(self, n_classes, n_embedding=128):
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(n_classes, n_embedding))

    def forward(self, embedding, y):
        return (embedding - self.centers[y]).square().sum(dim=1).mean() / 2


class Training:
    """Trains a network, an epoch at a time."""

    def __init__(self, network, segments, n_classes, weight=0.1, device="cpu"):
        self.net = network(n_classes).to(device)
        self.center_loss = CenterLoss(n_classes).to(device)
        self.weight, self.device = weight, device
        self.loader = DataLoader(segments, BATCH_SIZE, shuffle=True)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.mover = torch.optim.SGD(self.center_loss.parameters(), lr=0.5)

    def run_epoch(self):
        self.net.train()
        for log_mel, y in self.loader:
            log_mel, y = log_mel.to(self.device), y.to(self.device)
            logits, embedding = self.net(log_mel)
            loss = nn.functional.cross_entropy(logits, y)
            loss = loss + self.weight * self.center_loss(embedding, y)
            self.optimizer.zero_grad()
            self.mover.zero_grad()
            loss.backward()
            self.center_loss.centers.grad /= self.weight
            self.optimizer.step()
            self.mover.step()


@torch.no_grad()
def score(net, segments, own):
    """Mean of 1 - p over the segments of each clip."""
    net.eval()
    p = [net(log_mel)[0].softmax(dim=1) for log_mel, _ in DataLoader(segments, 128)]
    clip = np.array([clip for clip, _ in segments.places])
    doubt = 1 - torch.cat(p).numpy()[np.arange(len(clip)), own[clip]]
    return np.bincount(clip, doubt) / np.bincount(clip)


def log_mel(y, sample_rate=16000):
    power = librosa.feature.melspectrogram(
        y=y, sr=sample_rate, n_fft=1024, hop_length=512, n_mels=128
    )
    return librosa.power_to_db(power, top_db=None)


def read_log_mel(path):
    y, _ = librosa.load(path, sr=16000)
    return log_mel(y)


def log_mels_of_views(y, sample_rate=16000):
    """Log-mels of nine views of one clip, in a simple loop."""
    log_mels = []
    for steps, rate in itertools.product((-0.1, 0, 0.1), (0.9, 1.0, 1.1)):
        view = y
        if steps != 0:
            view = librosa.effects.pitch_shift(view, sr=sample_rate, n_steps=steps)
        if rate != 1:
            view = librosa.effects.time_stretch(view, rate=rate)
        log_mels.append(log_mel(view, sample_rate))
    return log_mels
