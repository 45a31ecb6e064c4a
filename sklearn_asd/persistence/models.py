"""Save, load and describe fitted models, in files that contain no code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._version import __version__
from sklearn_asd.persistence import early_format2, format1
from sklearn_asd.persistence.files import read_file, write_file
from sklearn_asd.persistence.summary import summarize
from sklearn_asd.persistence.values import Decoder, Encoder

__all__ = ["describe_model", "load_model", "save_model"]

# Rises when earlier versions cannot read new files. All earlier formats are read:
# tests/persistence/models has files of each.
_FORMAT = 2

_FIELDS = {"format_version", "versions", "summary", "objects"}
_FIELDS_OF_FORMAT = {1: _FIELDS, 2: _FIELDS | {"digest", "notes"}}

# Errors of estimators that are given values of the wrong kind.
_FROM_WRONG_VALUES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def save_model(estimator, path, notes=None):
    """Save a fitted model as a file that contains no code.

    Weights and arrays are stored as safetensors, everything else as JSON. Loading runs
    nothing from the file, so unlike a pickle it may come from a source that you do not
    trust. A model loaded with :func:`load_model` gives the same scores to the bit.

    Parameters
    ----------
    estimator : estimator
        Any fitted estimator of this library, or a scikit-learn Pipeline of them.
        FrozenEstimator, LedoitWolf and StandardScaler of scikit-learn may be inside.

    path : str or path-like
        The file, such as "pump.asd". An existing file is replaced once the new one is
        complete.

    notes : any JSON value, default=None
        Anything else to keep in the file, such as the name of a plant or a table of the
        recordings: None, bool, int, finite float, str, and lists and dicts of these.
        :func:`describe_model` returns it.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    ValueError
        If the model holds what cannot be saved without code: another estimator, a
        network, loss or view of your own, a random generator. The message names it, and
        ``joblib.dump`` saves it. Also if a parameter was set after `fit` to a value
        that `fit` would refuse, or if `notes` is not a JSON value.

    See Also
    --------
    load_model : Reads the file.
    describe_model : Shows what is in the file.

    Notes
    -----
    Parameters that name folders of your computer, as
    ``LogMelSegmenter(cache_dir=...)`` and ``Pipeline(memory=...)`` do, are saved as
    None. Equal models with equal notes make equal files.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_asd import MahalanobisDetector, load_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> detector = MahalanobisDetector().fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(detector, Path(folder) / "spectrum.asd")
    ...     loaded = load_model(Path(folder) / "spectrum.asd")
    >>> np.array_equal(loaded.score_samples(X), detector.score_samples(X))
    True
    """
    check_is_fitted(estimator)
    try:
        json.dumps(notes, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"notes is not a JSON value: {error}") from error
    encoder = Encoder()
    encoder.encode(estimator, "")
    content = {
        "format_version": _FORMAT,
        "versions": {
            "sklearn_asd": __version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "summary": summarize(estimator),
        "notes": notes,
        "objects": encoder.objects,
    }
    write_file(path, content, encoder.tensors)


def load_model(path):
    """Load a model that :func:`~sklearn_asd.save_model` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator : estimator
        Fitted. It scores like the one that was saved, and can be fitted again. A model
        that was fitted on a GPU moves to the CPU where there is none.

    Raises
    ------
    ValueError
        If the file is damaged, holds anything unknown, or has the format of a later
        version.

    Warns
    -----
    UserWarning
        If the model was fitted with ``device="cuda"`` or another device that this
        computer lacks.

    See Also
    --------
    describe_model : Shows what is in the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_asd import MahalanobisDetector, load_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spectrum.asd"
    ...     save_model(MahalanobisDetector().fit(X), path)
    ...     load_model(path).predict([[0, 0, 0], [9, 9, 9]])  # +1 is normal
    array([ 1, -1])
    """
    content, tensors = _read(path)
    decoder = Decoder(tensors)
    with _naming(path, "its model cannot be built: "):
        if content["format_version"] == 1:
            format1.upgrade(content["objects"], tensors)
        early_format2.upgrade(content["objects"], tensors)
        for encoded in content["objects"]:
            decoder.add(encoded)
        unused = sorted(set(tensors) - decoder.used)
        if unused:
            raise ValueError(f"no estimator has the arrays {unused}")
    return decoder.objects[-1]


def describe_model(path):
    """Show what is in a model file, without building the model.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save_model` wrote.

    Returns
    -------
    description : dict
        - "format_version": int, of the file;
        - "versions": dict of package to version, those that wrote the file;
        - "notes": the notes that were passed to :func:`save_model`, or None;
        - "model": str, the estimators with those inside them;
        - "sample_rate": float, in Hz, or None if the model reads no audio;
        - "classes": list of str, or None: machines, or views of them, that the model
          tells apart;
        - "threshold": float, dict of machine to float, or None: scores below it are
          anomalous;
        - "training": list of dict, for each network its "detector", "n_epochs",
          "kept_epoch", the "train_loss" of that epoch, and with validation its
          "valid_accuracy".

    Raises
    ------
    ValueError
        If it is not such a file, or damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_asd import MahalanobisDetector, describe_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spectrum.asd"
    ...     save_model(MahalanobisDetector().fit(X), path)
    ...     describe_model(path)["model"]
    'MahalanobisDetector'
    """
    content, _ = _read(path)
    described = {name: content[name] for name in ("format_version", "versions")}
    return described | {"notes": content.get("notes")} | content["summary"]


def _read(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file, and check that it is whole."""
    with _naming(path):
        content, tensors = read_file(Path(path).read_bytes())
    version: Any = content.get("format_version")
    if type(version) is int and version > _FORMAT:
        raise ValueError(
            f"{os.fspath(path)} has format version {version}, and sklearn_asd "
            f"{__version__} reads {_FORMAT}: install a later sklearn_asd"
        )
    with _naming(path):
        if set(content) != _FIELDS_OF_FORMAT.get(version):
            raise ValueError(
                f"it has the format version {version!r:.20} and the fields "
                f"{sorted(content)!r:.80}"
            )
        if not isinstance(content["objects"], list) or not content["objects"]:
            raise ValueError("it holds no estimator")
        if not isinstance(content["summary"], dict):
            raise ValueError("it has no summary")
    return content, tensors


@contextmanager
def _naming(path: str | os.PathLike[str], fact: str = "") -> Iterator[None]:
    """Name the file in errors about what it holds."""
    try:
        yield
    except _FROM_WRONG_VALUES as error:
        raise ValueError(
            f"{os.fspath(path)} is not a file of save_model, or it is damaged: {fact}"
            f"{error}. Save the model again. If joblib.dump wrote it, and you trust "
            "its source, use joblib.load"
        ) from error
