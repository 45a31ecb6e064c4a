"""``sklearn-asd info``: what a model file holds."""

from __future__ import annotations

from typing import Any

import click

from sklearn_asd._cli.conventions import CONTEXT, echo
from sklearn_asd._cli.history import describe_history, find_rate
from sklearn_asd._cli.models import Model, read_model, trust_option
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.meta.scoring import final_step, leaves_clips_out
from sklearn_asd.meta.structure import walk
from sklearn_asd.persistence.summary import summarize

__all__ = ["info"]

# What the detectors inside of a model do.
_KINDS = {
    "GaussianDetector": "how the spectrum of each machine varies",
    "MahalanobisDetector": "how the spectrum varies",
    "EmbeddingNeighborDetector": "distance to the most similar training recordings",
    "IDConfidenceDetector": "networks that tell the machines apart",
    "AugmentConfidenceDetector": "networks that tell shifts of pitch and time apart",
    "AutoencoderDetector": "networks that reproduce the spectrum",
}


@click.command(context_settings=CONTEXT)
@click.argument("model")
@trust_option
def info(model, trust):
    """Describe MODEL: how it judges, and what it was trained on.

    Prints what kind of model it is, its sample rate, threshold and rate of false
    alarms, the versions that wrote it, whether the file has a checksum, and its
    machines with their numbers of training recordings. The history lists when it was
    calibrated and verified, and with how many recordings.

    \b
    Example:
      sklearn-asd info machines.asd

    \b
    Exit codes:
      0  the model is described
      2  an error
    """
    loaded = read_model(model, trust)
    summary = summarize(loaded.detector)
    rate = summary["sample_rate"]
    lines = {
        "Judges by": _describe_kind(loaded.detector),
        "Built of": summary["model"],
        "Sample rate": "reads no audio" if rate is None else f"{rate:g} Hz",
        "Threshold": _describe_threshold(summary["threshold"]),
        "False alarms": _describe_rate(final_step(loaded.detector)),
        "Written by": _describe_versions(loaded.versions),
        "Checksum": _describe_checksum(loaded.checksum),
        "Paths": _describe_paths(loaded),
        "Machines": _describe_machines(loaded, summary["classes"]),
        "History": describe_history(loaded.history),
    }
    for name, text in lines.items():
        echo(f"{name + ':':<14}{text}")


def _describe_paths(model: Model) -> str:
    """Say what tells the machine of a recording."""
    if model.machine_from is not None:
        return printable(model.machine_from)
    if model.id_column != "machine_id":
        return f"machines are told by {printable(model.id_column)!r} in the names"
    return "machines are told by folders and names"


def _describe_kind(detector: Any) -> str:
    names = [type(one).__name__ for one in walk(detector)]
    kinds = dict.fromkeys(_KINDS[name] for name in names if name in _KINDS)
    return "; ".join(kinds) or "detectors of other kinds"


def _describe_threshold(threshold: Any) -> str:
    """Write the threshold, below which a score is anomalous."""
    lower = "(lower scores are anomalous)"
    if threshold is None:
        return "unknown"
    if not isinstance(threshold, dict):
        return f"{float(threshold):.6g} {lower}"
    lines = [
        f"{printable(name)}  {float(value):.6g}" for name, value in threshold.items()
    ]
    return "\n  ".join([f"one for each machine {lower}:", *lines])


def _describe_rate(detector: Any) -> str:
    """Write the rate that the threshold was set for, and what it rests on."""
    if hasattr(detector, "promise_"):
        return detector.promise_
    rate = find_rate(detector)
    if rate is None:
        return "unknown"
    below = f"{100 * rate:g} % of the training recordings lie below the threshold"
    if leaves_clips_out(detector):
        below += ", each judged as if the model had not been trained on it"
    return below


def _describe_versions(versions: dict[str, str] | None) -> str:
    if versions is None:
        return "joblib.dump, so reading it can run code"
    return ", ".join(printable(f"{name} {one}") for name, one in versions.items())


def _describe_checksum(checksum: bool | None) -> str:
    if checksum:
        return "right"
    return "none, so damage may stay unknown"


def _describe_machines(model: Model, classes: list[str] | None) -> str:
    """List the machines, with the number of training recordings if it is known."""
    if model.training is None:
        names = [printable(name) for name in classes or ()]
        begin = "tells these apart" if names else "unknown"
        text = f"{begin} (the model was not written by sklearn-asd fit)"
        return "\n  ".join([text, *names])
    counts = model.training.groupby(machine_labels(model.training)).size()
    total = count(int(counts.sum()), "training recording")
    lines = [f"{printable(name)}  {n}" for name, n in counts.items()]
    return "\n  ".join([f"{len(counts)}, with {total}:", *lines])
