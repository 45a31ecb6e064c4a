"""A detector from a file, with what the command knows about its recordings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import click
import joblib
import pandas as pd

from sklearn_asd._utils.text import one_form
from sklearn_asd.meta.structure import walk
from sklearn_asd.persistence.files import is_model_file
from sklearn_asd.persistence.models import load_with_notes

__all__ = [
    "Machine",
    "Model",
    "has_networks",
    "make_notes",
    "read_model",
    "trust_option",
]

trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Read MODEL even if joblib.dump wrote it. Such a file can run code. A name "
    "that ends in .asd is kept for model files, which cannot.",
)

_NOTES = {"id_column", "machines", "training"}
_COLUMNS = {"path", "machine_type", "machine_id"}


class Machine(NamedTuple):
    """A machine by its names, as in the columns of the same name."""

    machine_type: str | None
    machine_id: str

    def __str__(self) -> str:
        return "/".join(name for name in self if name is not None)


class Model(NamedTuple):
    """A detector and the recordings that it is for.

    `id_column` is the column of `load_clips` that tells machines apart. `machines` are
    those that the detector knows, and `training` is a table of its training recordings,
    for reports; both are None if the model was not made by this command. `versions` are
    those of the packages that wrote the file, and `checksum` says whether it has a
    checksum, which was right; both are None for a file of joblib.
    """

    detector: Any
    id_column: str = "machine_id"
    machines: list[Machine] | None = None
    training: pd.DataFrame | None = None
    versions: dict[str, str] | None = None
    checksum: bool | None = None


def has_networks(detector: Any) -> bool:
    """Tell whether a fitted detector holds networks, which take long to train."""
    return any("history_" in vars(one) for one in walk(detector))


def make_notes(id_column: str, clips: pd.DataFrame) -> dict[str, Any]:
    """Collect what `read_model` needs to know about training recordings.

    Returns
    -------
    notes : dict
        For `save_model`.
    """
    training = clips[["path", "machine_type", "machine_id"]].astype(object)
    training["path"] = [os.path.abspath(path) for path in training["path"]]
    training = training.where(training.notna(), None)
    machines = set(map(Machine, training["machine_type"], training["machine_id"]))
    return {
        "id_column": id_column,
        "machines": [list(machine) for machine in sorted(machines, key=str)],
        "training": training.to_dict("list"),
    }


def read_model(path: str, trust: bool) -> Model:
    """Read a file of `fit` or `save_model`, or with `trust` one of joblib."""
    if not Path(path).exists():
        raise ValueError(f"there is no model {path!r}: make one with sklearn-asd fit")
    named_so = path.endswith(".asd")  # then it is never unpickled
    if is_model_file(path):
        loaded = load_with_notes(path)  # one reading, as the file may be replaced
        model = _add_notes(loaded.estimator, loaded.notes)._replace(
            versions=loaded.content["versions"], checksum="digest" in loaded.content
        )
    elif trust and not named_so:
        model = Model(_unpickle(path))
    else:
        rename = "give it a name that ends in .joblib, and " if named_so else ""
        raise ValueError(
            f"{path!r} is not a model file: give one that sklearn-asd fit or "
            "save_model wrote. If joblib.dump wrote it, and you trust its source, "
            f"{rename}add --trust: such a file can run code"
        )
    if not hasattr(model.detector, "decision_function"):
        raise ValueError(
            f"{path!r} holds a {type(model.detector).__name__}, which is not a fitted "
            "detector with a threshold: give a file that sklearn-asd fit wrote"
        )
    return model


def _add_notes(detector: Any, notes: Any) -> Model:
    if not isinstance(notes, dict) or set(notes) != _NOTES:
        return Model(detector)  # saved in Python
    _check_notes(notes)
    machines = [
        Machine(kind and one_form(kind), one_form(identity))
        for kind, identity in notes["machines"]
    ]
    return Model(
        detector,
        one_form(notes["id_column"]),
        machines,
        pd.DataFrame(notes["training"], dtype=object),
    )


def _check_notes(notes: dict[str, Any]) -> None:
    """Refuse notes that look like those of `make_notes`, and are not."""
    machines = notes["machines"]
    fine = isinstance(notes["id_column"], str) and _is_table(notes["training"])
    fine = fine and isinstance(machines, list) and len(machines) > 0
    if not fine or not all(map(_is_machine, machines)):
        raise ValueError(
            "the notes of the model about its recordings are not those of sklearn-asd "
            "fit: fit it again"
        )


def _is_table(training: Any) -> bool:
    if not isinstance(training, dict) or set(training) != _COLUMNS:
        return False
    columns = list(training.values())
    if not all(isinstance(column, list) for column in columns):
        return False
    values = [one for column in columns for one in column]
    texts = all(isinstance(one, str | None) for one in values)
    return texts and len(set(map(len, columns))) == 1 and None not in training["path"]


def _is_machine(names: Any) -> bool:
    pair = isinstance(names, list) and len(names) == 2
    return pair and isinstance(names[0], str | None) and isinstance(names[1], str)


def _unpickle(path: str) -> Any:
    try:
        return joblib.load(path)
    # Unpickling a file of another kind may raise almost anything.
    except Exception as error:
        raise ValueError(
            f"{path!r} is not a model ({error or type(error).__name__}): give a file "
            "that sklearn-asd fit, save_model or joblib.dump wrote"
        ) from error
