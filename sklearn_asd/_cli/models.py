"""A fitted detector in a file, with what the command has to know of it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import joblib
import pandas as pd
from sklearn.base import BaseEstimator

import sklearn_asd
from sklearn_asd._cli.conventions import Failure
from sklearn_asd._cli.recordings import Machine

__all__ = ["Model", "load_model", "save_model"]


class Model(NamedTuple):
    """A detector, and which recordings it is for.

    `id_column` is what tells machines apart, as in the columns of `load_clips`.
    `machines` are those known, and `training` is a table of the recordings learnt from,
    for reports; None if the model was not made by this command.
    """

    detector: Any
    id_column: str = "machine_id"
    machines: list[Machine] | None = None
    training: pd.DataFrame | None = None


def save_model(model: Model, path: str) -> None:
    """Save the detector, which `joblib.load` gives back as it is.

    What the command has to know is an attribute of it. Progress of training was for
    whoever trained it.
    """
    for part in _walk(model.detector):
        if hasattr(part, "verbose"):
            part.verbose = False  # a Pipeline takes no number
    notes = model._asdict()
    model.detector.cli_ = {k: v for k, v in notes.items() if k != "detector"}
    joblib.dump(model.detector, path)


def load_model(path: str) -> Model:
    """Load any detector that was saved with joblib, or in a file without code."""
    try:
        detector = _read(path)
    except FileNotFoundError:
        raise Failure(
            f"there is no model {path!r}: make one with sklearn-asd fit"
        ) from None
    # What unpickling may raise of a file that is something else is beyond listing.
    except (pickle.UnpicklingError, KeyError, ValueError, EOFError, OSError) as error:
        raise Failure(
            f"{path!r} is no model ({error or type(error).__name__}): give a file that "
            "sklearn-asd fit, joblib.dump or save_model has written"
        ) from error
    if not hasattr(detector, "decision_function"):
        raise Failure(
            f"{path!r} holds a {type(detector).__name__}, which is no fitted detector "
            "with a threshold: give a file that sklearn-asd fit has written"
        )
    return Model(detector, **getattr(detector, "cli_", {}))


def _read(path: str) -> Any:
    with open(path, "rb") as file:
        start = file.read(9)
    # A model file begins with the length of its JSON, in eight bytes.
    return sklearn_asd.load_model(path) if start[8:] == b"{" else joblib.load(path)


def _walk(part: Any) -> Iterator[BaseEstimator]:
    """All estimators in one, fitted and not."""
    if isinstance(part, BaseEstimator):
        yield part
        part = vars(part)
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from _walk(inner)
