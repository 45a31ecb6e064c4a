"""An epoch of training, compared to the plain way and to a loop without skorch."""

import argparse
import functools

import measuring
import numpy as np
import plain
import torch

from sklearn_asd import ClipSpectrograms, IDConfidenceDetector
from sklearn_asd.networks.allocator import reuse_large_blocks
from sklearn_asd.networks.training import EqualBatches, make_net
from sklearn_asd.networks.windows import WindowDataset

N_CLASSES = 6
# Smallest acceptable ratio to the plain way: in bfloat16, and in float32.
BOUNDS = {"pvmilk20": (3, 1.5), "inouet18": (4, 1.5)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument("--clips", type=int, default=76, help="default: 76")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    args = parser.parse_args()
    figures = [
        figure
        for network in BOUNDS
        for figure in measure(network, args.repeats, args.clips, args.device)
    ]
    name = "training" if args.device == "cpu" else "training_gpu"
    measuring.keep(name, figures)


def make_data(n_clips):
    """Make log-mels of 10 s clips, and a machine for each class."""
    rng = np.random.default_rng(0)
    log_mels = rng.normal(-40, 10, size=(n_clips, 128, 313)).astype(np.float32)
    return log_mels, np.arange(n_clips) % N_CLASSES


def measure(network, repeats, n_clips, device="cpu"):
    make = functools.partial(make_epoch, network, n_clips, device)
    ways = {
        "plain": functools.partial(make_plain_epoch, network, n_clips, device),
        "bfloat16": functools.partial(make, "bfloat16"),
        "bare": functools.partial(make, "bfloat16", with_skorch=False),
        "float32": functools.partial(make, "float32"),
    }
    seconds = measuring.take_turns(ways, repeats)
    n_segments = 5 * n_clips

    def figure(what, reference, ours, theirs, bound=None):
        return measuring.compare(
            f"{network}, {what}",
            reference,
            seconds,
            ours,
            theirs,
            n_segments,
            "segments/s",
            bound,
        )

    on_cpu = device == "cpu"
    fast, exact = BOUNDS[network] if on_cpu else (None, None)
    return [
        figure("an epoch in bfloat16", "plain float32", "bfloat16", "plain", fast),
        figure("an epoch in float32", "plain float32", "float32", "plain", exact),
        # An overhead of 5 % is a ratio of 1 / 1.05.
        figure("skorch's share", "a bare loop", "bfloat16", "bare", 1 / 1.05),
    ]


def make_plain_epoch(network, n_clips, device):
    log_mels, y = make_data(n_clips)
    segments = plain.Segments(list(log_mels), y)
    net = plain.NETWORKS[network]
    return plain.Training(net, segments, N_CLASSES, device=device).run_epoch


def make_epoch(network, n_clips, device, precision, with_skorch=True):
    epochs = Epochs(network, n_clips, precision, device)
    return epochs.run if with_skorch else epochs.run_without_skorch


class Epochs:
    """The library's training, an epoch at a time."""

    def __init__(self, network, n_clips, precision, device):
        log_mels, y = make_data(n_clips)
        X = ClipSpectrograms.from_arrays(log_mels)
        windows = X.windows()
        self.dataset = WindowDataset(X, windows, y[windows.clip], X.segment_frames)
        self.dataset.move_to(device)
        detector = IDConfidenceDetector(
            network=network, precision=precision, batch_size=plain.BATCH_SIZE
        )
        self.net = make_net(
            detector, n_classes=N_CLASSES, n_mels=128, n_frames=96, device=device
        )
        batches = EqualBatches(len(self.dataset), plain.BATCH_SIZE)
        self.net.set_params(
            iterator_train__sampler=batches, iterator_train__batch_size=None
        )
        self.net.initialize()
        self.net.notify("on_train_begin", X=self.dataset, y=None)

    def run(self):
        with reuse_large_blocks():
            self.net.fit_loop(self.dataset, epochs=1)

    def run_without_skorch(self):
        """The same batches, network, loss and optimiser."""
        net = self.net
        net.module_.train()
        net.criterion_.train()
        with reuse_large_blocks():
            for rows in EqualBatches(len(self.dataset), plain.BATCH_SIZE):
                log_mel, y = self.dataset[rows]
                net.optimizer_.zero_grad()
                with torch.autocast(net.device, torch.bfloat16, net.autocast):
                    outputs = net.module_(log_mel)
                loss = net.criterion_(tuple(o.float() for o in outputs), y)
                loss.backward()
                net.optimizer_.step()


if __name__ == "__main__":
    main()
