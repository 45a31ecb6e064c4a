"""Graphs of export_onnx: their size, and the time from a file to its score.

The graph and Python both read the file, compute its log-mel and score it, on one
thread.
"""

import argparse
import functools
import tempfile
from pathlib import Path

import measuring
import numpy as np
import onnxruntime
import soundfile
import torch
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    export_onnx,
    load_model,
    save_model,
)
from sklearn_asd.audio import Clips, read_file
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.presets import make_detector

POWER = "power spectrum"
REASON = "the runtime's Fourier transform in double precision"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20, help="default: 20")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    args = parser.parse_args()
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
    figures, notes = [], []
    for name, detector in make_detectors(args.epochs).items():
        front_end = PowerSpectrum() if name == POWER else LogMelSegmenter()
        model = make_pipeline(front_end, detector).fit(train)
        with tempfile.TemporaryDirectory() as folder:
            figure, note = compare(name, model, test, Path(folder), args.repeats)
        figures.append(figure)
        notes.append(f"- {note}")
    measuring.keep("onnx", figures, notes)


def make_detectors(epochs):
    """What is exported: spectra, both networks, neighbours, and an ensemble."""

    def make(network):
        return IDConfidenceDetector(
            network=network, batch_size=32, max_epochs=epochs, random_state=0
        )

    both = [("small", make("pvmilk20")), ("large", make("inouet18"))]
    spectrum = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    return {
        "the default": make_detector("default"),
        "spectrum": PerMachine(spectrum),
        POWER: PerMachine(spectrum),
        "neighbors": EmbeddingNeighborDetector(make("pvmilk20")),
        "pvmilk20": make("pvmilk20"),
        "inouet18": make("inouet18"),
        "Gamma ensemble of the two": GammaProbabilityEnsemble(both),
    }


def compare(name, model, test, folder, repeats):
    """Compare times for one file; note the sizes and how much the scores differ."""
    machines = export_onnx(model, folder / "model.onnx")
    save_model(model, folder / "model.asd")
    labels = list(test["machine_type"] + "/" + test["machine_id"])
    files = []
    for number, audio in enumerate(test["audio"]):
        files.append((folder / f"{number}.wav", labels[number]))
        soundfile.write(files[-1][0], audio, measuring.RATE)
    ways = {
        "graph": functools.partial(make_graph_scoring, folder, machines, files),
        "python": functools.partial(make_python_scoring, folder, files),
    }
    seconds = {
        way: total / len(files)
        for way, total in measuring.take_turns(ways, repeats).items()
    }
    figure = measuring.compare_latency(
        f"{name}, a file of 10 s to its score, 1 thread, the graph",
        "Python",
        seconds,
        "graph",
        "python",
        bound=1,
        reason=REASON if name == POWER else "",
    )
    difference = np.abs(np.subtract(*(make()() for make in ways.values()))).max()
    graph, file = (
        (folder / f"model.{kind}").stat().st_size / 1e3 for kind in ("onnx", "asd")
    )
    return figure, (
        f"{name}: a graph of {graph:.0f} kB, where `save_model` takes {file:.0f} kB; "
        f"scores differ by at most {difference:.0e}."
    )


def make_graph_scoring(folder, machines, files):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)

    def score(path, machine):
        inputs = {
            "waveform": read_file(path, measuring.RATE),
            "machine": np.array(machines.index(machine)),
        }
        return session.run(["anomaly_score"], inputs)[0]

    return lambda: [score(*file) for file in files]


def make_python_scoring(folder, files):
    torch.set_num_threads(1)
    model = load_model(folder / "model.asd")

    def score(path, machine):
        kind, identity = machine.split("/")
        clip = Clips([path], machine_type=[kind], machine_id=[identity])
        return -model.score_samples(clip)[0]

    return lambda: [score(*file) for file in files]


if __name__ == "__main__":
    main()
