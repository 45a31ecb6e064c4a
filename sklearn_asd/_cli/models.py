"""A detector from a file, with what the command knows about its recordings."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import joblib
import numpy as np
import pandas as pd

from sklearn_asd._base import is_frozen
from sklearn_asd._utils.text import one_form
from sklearn_asd.audio.naming import NamePattern
from sklearn_asd.audio.pieces import TOLERANCE, cut_into_pieces, measure_durations
from sklearn_asd.meta.scoring import honest_training_scores
from sklearn_asd.meta.structure import walk
from sklearn_asd.persistence.files import is_model_file
from sklearn_asd.persistence.models import load_with_notes

__all__ = [
    "Machine",
    "Model",
    "Pieces",
    "choose_pieces",
    "cut_recordings",
    "has_networks",
    "make_notes",
    "piece_option",
    "pieces_to_judge",
    "read_model",
    "trust_option",
    "undo_calibration",
]

trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Read MODEL even if joblib.dump wrote it. Such a file can run code. A name "
    "that ends in .asd is kept for model files, which cannot.",
)

_CUT = (
    "Cut longer recordings into pieces of this length. Default: the length of the "
    "training recordings."
)


def piece_option(text: str = _CUT) -> Callable[..., Any]:
    """Make the option ``--piece``, with its help: by default that of judging."""
    seconds = click.FloatRange(0, min_open=True)
    return click.option("--piece", metavar="SECONDS", type=seconds, help=text)


_NOTES = {"id_column", "machines", "training"}
_COLUMNS = {"path", "machine_type", "machine_id"}
_PIECE_COLUMNS = {"start", "stop"}


class Machine(NamedTuple):
    """A machine by its names, as in the columns of the same name."""

    machine_type: str | None
    machine_id: str

    def __str__(self) -> str:
        return "/".join(name for name in self if name is not None)


class Pieces(NamedTuple):
    """How long recordings are cut.

    `duration` is the length of a piece in s. Recordings up to `longest` s stay whole;
    None is a tenth more than `duration`.
    """

    duration: float
    longest: float | None = None


class Model(NamedTuple):
    """A detector and the recordings that it is for.

    `id_column` is the column of `load_clips` that tells machines apart, and
    `machine_from` its pattern of paths, if there is one. `machines` are
    those that the detector knows, and `training` is a table of its training recordings,
    for reports; both are None if the model was not made by this command. `pieces` says
    how to cut recordings that are longer; None if this is not known. `versions` are
    those of the packages that wrote the file, and `checksum` says whether it has a
    checksum, which was right; both are None for a file of joblib. `notes` are those of
    the file, and `history` lists what was done after the model was fitted. `files` are
    the SHA-256 of the recordings of the fit, by path; empty if they are not known.
    """

    detector: Any
    id_column: str = "machine_id"
    machines: list[Machine] | None = None
    training: pd.DataFrame | None = None
    pieces: Pieces | None = None
    machine_from: str | None = None
    versions: dict[str, str] | None = None
    checksum: bool | None = None
    notes: Any = None
    history: list[dict[str, Any]] = []
    files: dict[str, str] = {}


def has_networks(detector: Any) -> bool:
    """Tell whether a fitted detector holds networks, which take long to train."""
    return any("history_" in vars(one) for one in walk(detector))


def choose_pieces(clips: pd.DataFrame) -> Pieces | None:
    """Choose how to cut recordings that are longer than those of training.

    Returns
    -------
    pieces : Pieces or None
        As long as most training recordings. Whatever is as long as the longest of them
        stays whole. None if their length is not known.
    """
    known = [length for length in measure_durations(clips) if length > 0]
    if not known:
        return None
    usual = float(np.median(known))
    return Pieces(usual, max(usual * (1 + TOLERANCE), *known))


def pieces_to_judge(model: Model, piece: float | None) -> Pieces | None:
    """Choose how recordings to judge are cut: as asked for, or as the model says."""
    if piece is None:
        return model.pieces
    if honest_training_scores(model.detector) is None:
        raise ValueError(
            "the model kept no scores of training recordings that were left out, so "
            "the false alarms of many pieces cannot be bounded: leave out --piece, or "
            "give a model of sklearn-asd fit"
        )
    return Pieces(piece)


def cut_recordings(judged: pd.DataFrame, pieces: Pieces | None) -> pd.DataFrame:
    """Cut recordings as the model judges them; a table with a row for each piece."""
    clips = judged[["path", "machine_type", "machine_id"]]
    if pieces is None:
        return clips
    table = cut_into_pieces(clips, pieces.duration, longest=pieces.longest)
    return table.reset_index(drop=True)


def undo_calibration(detector: Any) -> Any:
    """Take the detector out of an earlier calibration, if there was one."""
    inner: Any = getattr(detector, "detector", None)
    return inner.estimator if is_frozen(inner) else detector


def make_notes(
    id_column: str,
    clips: pd.DataFrame,
    pieces: Pieces | None = None,
    machine_from: str | None = None,
) -> dict[str, Any]:
    """Collect what `read_model` needs to know about training recordings.

    Returns
    -------
    notes : dict
        For `save_model`.
    """
    names = [name for name in _COLUMNS | _PIECE_COLUMNS if name in clips]
    training = clips[sorted(names)].astype(object)
    training["path"] = [os.path.abspath(path) for path in training["path"]]
    training = training.where(training.notna(), None)
    machines = set(map(Machine, training["machine_type"], training["machine_id"]))
    return {
        "id_column": id_column,
        "machines": [list(machine) for machine in sorted(machines, key=str)],
        "training": training.to_dict("list"),
        "pieces": None if pieces is None else list(pieces),
        "machine_from": machine_from,
    }


def read_model(path: str, trust: bool) -> Model:
    """Read a file of `fit` or `save_model`, or with `trust` one of joblib."""
    if not Path(path).exists():
        raise ValueError(f"there is no model {path!r}: make one with sklearn-asd fit")
    named_so = path.endswith(".asd")  # then it is never unpickled
    if is_model_file(path):
        loaded = load_with_notes(path)  # one reading, as the file may be replaced
        model = _add_notes(loaded.estimator, loaded.notes)._replace(
            versions=loaded.content["versions"],
            checksum="digest" in loaded.content,
            notes=loaded.notes,
            history=_read_history(loaded.notes),
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
    if not isinstance(notes, dict) or not set(notes) >= _NOTES:
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
        Pieces(*notes["pieces"]) if notes.get("pieces") else None,
        notes.get("machine_from"),
        files=notes.get("files", {}),
    )


def _read_history(notes: Any) -> list[dict[str, Any]]:
    """Read what was done after the fit; refuse what is no history."""
    history = notes.get("history", []) if isinstance(notes, dict) else []
    if not isinstance(history, list) or not all(map(_is_entry, history)):
        raise ValueError(
            "the history in the model's notes is not that of sklearn-asd calibrate, "
            "verify and add-normals: fit it again"
        )
    return history


def _is_entry(entry: Any) -> bool:
    """Whether this is an entry of `make_entry`."""
    if not isinstance(entry, dict):
        return False
    fine = all(isinstance(entry.get(name), str) for name in ("command", "date"))
    rate = entry.get("rate")
    unknown = rate is None and entry.get("command") == "add-normals"
    fine = fine and (isinstance(rate, float) or unknown)
    return (
        fine and _maps_to(entry, "n_recordings", int) and _maps_to(entry, "files", str)
    )


def _maps_to(entry: dict[str, Any], name: str, kind: type) -> bool:
    """Whether a value of an entry is a dict with values of a kind."""
    values = entry.get(name)
    return isinstance(values, dict) and all(
        isinstance(one, kind) for one in values.values()
    )


def _check_notes(notes: dict[str, Any]) -> None:
    """Refuse notes that look like those of `make_notes`, and are not."""
    machines = notes["machines"]
    fine = isinstance(notes["id_column"], str) and _is_table(notes["training"])
    fine = fine and isinstance(machines, list) and len(machines) > 0
    fine = fine and _is_pieces(notes.get("pieces"))
    fine = fine and _is_pattern(notes.get("machine_from"))
    fine = fine and ("files" not in notes or _maps_to(notes, "files", str))
    if not fine or not all(map(_is_machine, machines)):
        raise ValueError(
            "the notes of the model about its recordings are not those of sklearn-asd "
            "fit: fit it again"
        )


def _is_table(training: Any) -> bool:
    if not isinstance(training, dict):
        return False
    times = training.keys() & _PIECE_COLUMNS
    if training.keys() - times != _COLUMNS or len(times) == 1:
        return False
    fine = all(_is_column(training[name], str) for name in _COLUMNS)
    fine = fine and all(_is_column(training[name], float) for name in times)
    one_length = fine and len(set(map(len, training.values()))) == 1
    return one_length and None not in training["path"]


def _is_column(column: Any, kind: type) -> bool:
    if not isinstance(column, list):
        return False
    return all(one is None or isinstance(one, kind) for one in column)


def _is_pieces(values: Any) -> bool:
    """Whether these are the values of `Pieces`, which make sense, or None."""
    if values is None:
        return True
    if not isinstance(values, list) or len(values) != 2:
        return False
    if not all(isinstance(one, float | None) for one in values) or not values[0]:
        return False
    duration, longest = values
    return 0 < duration <= (duration if longest is None else longest) < np.inf


def _is_pattern(pattern: Any) -> bool:
    """Whether this is a pattern of `--machine-from`, or None."""
    if not isinstance(pattern, str):
        return pattern is None
    with contextlib.suppress(ValueError):
        NamePattern(pattern)
        return True
    return False


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
