"""Graphs of export_onnx: their size, and one 10 s file's time against Python's.

Both read the file, compute its log-mel and score it, on one thread, in turn. Of many
times the shortest is given: what else the processor does makes others longer.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import torch
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    export_onnx,
    save_model,
)
from sklearn_asd.audio import Clips, read_file
from sklearn_asd.datasets import make_machine_sounds

RATE = 16000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=200, help="default: 200")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = make_machine_sounds(
        ["fan", "valve"],
        n_machines=2,
        n_train=8,
        n_test_normal=2,
        n_test_anomalous=2,
        duration=10.0,
        random_state=0,
    )
    train, test = (clips[clips["split"] == split] for split in ("train", "test"))
    print(
        "| model | graph | model file | graph, one file | Python | largest difference |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, detector in make_detectors(args.epochs).items():
            model = make_pipeline(LogMelSegmenter(), detector).fit(train)
            print(compare(name, model, test, Path(folder), args.repeats), flush=True)


def make_detectors(epochs):
    """Both networks, and an ensemble of two."""

    def make(network):
        return IDConfidenceDetector(
            network=network, batch_size=32, max_epochs=epochs, random_state=0
        )

    both = [("small", make("pvmilk20")), ("large", make("inouet18"))]
    return {
        "pvmilk20": make("pvmilk20"),
        "inouet18": make("inouet18"),
        "Gamma ensemble of the two": GammaProbabilityEnsemble(both),
    }


def compare(name, model, test, folder, repeats):
    """A row of the table: sizes, shortest times, and how far scores differ."""
    machines = export_onnx(model, folder / "model.onnx")
    save_model(model, folder / "model.asd")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    paths = []
    for number, audio in enumerate(test["audio"]):
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], audio, RATE)

    def by_graph(path, machine):
        inputs = {
            "waveform": read_file(path, RATE),
            "machine": np.array(machines.index(machine)),
        }
        return session.run(["anomaly_score"], inputs)[0]

    def by_python(path, machine):
        kind, identity = machine.split("/")
        clip = Clips([path], machine_type=[kind], machine_id=[identity])
        return -model.score_samples(clip)[0]

    labels = test["machine_type"] + "/" + test["machine_id"]
    times = {by_graph: [], by_python: []}
    worst = 0.0
    for turn in range(repeats):
        number = turn % len(paths)
        scores = []
        for score in times:
            start = time.perf_counter()
            scores.append(score(paths[number], labels.iloc[number]))
            times[score].append(1e3 * (time.perf_counter() - start))
        worst = max(worst, abs(scores[0] - scores[1]))
    sizes = [
        (folder / f"model.{kind}").stat().st_size / 1e3 for kind in ("onnx", "asd")
    ]
    graph, python = (min(taken) for taken in times.values())
    return (
        f"| {name} | {sizes[0]:.0f} kB | {sizes[1]:.0f} kB | {graph:.1f} ms | "
        f"{python:.1f} ms | {worst:.0e} |"
    )


if __name__ == "__main__":
    main()
