"""An epoch of training, compared to the plain way and to a loop without skorch."""

import argparse
import functools

import measuring
import numpy as np
import plain
import roofline
import torch

from sklearn_asd import ClipSpectrograms, IDConfidenceDetector
from sklearn_asd.networks.allocator import reuse_large_blocks
from sklearn_asd.networks.training import EqualBatches, make_net
from sklearn_asd.networks.windows import WindowDataset

N_CLASSES = 6
# Smallest acceptable ratio to the plain way: in bfloat16, and in float32.
BOUNDS = {"pvmilk20": (3, 3), "inouet18": (4, 6)}
NO_BFLOAT16 = "this processor has no bfloat16, and imitates it"
# Steps of an epoch that its profile names.
N_STEPS = 6


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
    if args.device == "cpu":
        measuring.keep("training", figures, explain(figures, args.repeats, args.clips))
    else:
        measuring.keep("training_gpu", figures)


def explain(figures, repeats, n_clips):
    """Say what takes the time in float32, and how far that is from the limits."""
    limits = roofline.measure_limits(repeats)
    rates = {figure.what: figure.ours for figure in figures}
    notes = []
    for network in BOUNDS:
        rate = rates[f"{network}, an epoch in float32"]
        text = roofline.describe(network, "training", rate, limits)
        notes.append(f"{text} Time goes into {profile(network, n_clips)}.")
    return notes


def profile(network, n_clips):
    """Name torch's functions that take most of an epoch, and their shares."""
    epochs = Epochs(network, n_clips, "float32", "cpu")
    epochs.run()
    with torch.profiler.profile() as taken:
        epochs.run()
    times = {step.key: step.self_cpu_time_total for step in taken.key_averages()}
    most = sorted(times, key=times.get, reverse=True)[:N_STEPS]
    total = sum(times.values())
    names = [name.removeprefix("aten::") for name in most]
    shares = [100 * times[name] / total for name in most]
    steps = zip(names, shares, strict=True)
    return ", ".join(f"{name} ({share:.0f} %)" for name, share in steps)


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

    def figure(what, reference, ours, theirs, bound=None, reason=""):
        return measuring.compare(
            f"{network}, {what}",
            reference,
            seconds,
            ours,
            theirs,
            n_segments,
            "segments/s",
            bound,
            reason,
        )

    on_cpu = device == "cpu"
    fast, exact = BOUNDS[network] if on_cpu else (None, None)
    reference, profile = "plain float32", "see the profile below"
    no_bf16 = "" if measuring.computes_bfloat16() else NO_BFLOAT16
    return [
        figure("an epoch in bfloat16", reference, "bfloat16", "plain", fast, no_bf16),
        figure("an epoch in float32", reference, "float32", "plain", exact, profile),
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
