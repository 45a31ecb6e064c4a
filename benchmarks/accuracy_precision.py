"""Whether bfloat16 costs accuracy: AUC with precision="auto" and with "float32".

    python benchmarks/accuracy_precision.py FOLDER [--seeds 5] [--networks ...]

FOLDER holds `toycar2020_logmel/clips.npz`; see accuracy_real_clips.py. The mean
difference may be at most one standard error below 0.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from accuracy_real_clips import read_log_mels

from sklearn_asd import IDConfidenceDetector
from sklearn_asd.metrics import auc_table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the recordings")
    parser.add_argument("--seeds", type=int, default=5, help="default: 5")
    parser.add_argument("--networks", nargs="+", default=["pvmilk20", "inouet18"])
    parser.add_argument("--epochs", type=int, default=25, help="default: 25")
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    data, seeds = read_log_mels(args.folder), range(args.seeds)
    print("| network | auto | float32 | difference | standard error | |")
    print("|---|---|---|---|---|---|")
    for network in args.networks:
        auto, float32 = (
            np.array([rate(data, network, one, seed, args.epochs) for seed in seeds])
            for one in ("auto", "float32")
        )
        print(compare(network, auto, float32), flush=True)


def rate(data, network, precision, seed, epochs):
    """Mean AUC of the machines."""
    X_train, X_test, y_test = data
    detector = IDConfidenceDetector(
        network=network,
        batch_size=64,
        max_epochs=epochs,
        precision=precision,
        random_state=seed,
    ).fit(X_train)
    table = auc_table(X_test, y_test, detector.score_samples(X_test))
    return table["auc"].iloc[-1]


def compare(network, auto, float32):
    """A row of the table."""
    difference = auto - float32
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    verdict = "held" if difference.mean() >= -error else "MISSED"
    auto, float32 = (f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in (auto, float32))
    mean = difference.mean()
    return f"| {network} | {auto} | {float32} | {mean:+.3f} | {error:.3f} | {verdict} |"


if __name__ == "__main__":
    main()
