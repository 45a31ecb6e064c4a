"""Save, load and describe fitted models, in files that contain no code."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import abbreviate, shorten
from sklearn_asd._version import __version__
from sklearn_asd.persistence import early_format2, format1
from sklearn_asd.persistence.files import Unpacked, pack, read_file, unpack
from sklearn_asd.persistence.summary import summarize
from sklearn_asd.persistence.values import Decoder, Encoder

__all__ = [
    "LoadedModel",
    "describe_model",
    "load_model",
    "load_with_notes",
    "save_model",
]

# Rises when earlier versions cannot read new files. All earlier formats are read:
# tests/persistence/models has files of each.
_FORMAT = 2

_FIELDS = {"format_version", "versions", "summary", "objects"}
_FIELDS_OF_FORMAT = {1: _FIELDS, 2: _FIELDS | {"digest", "notes"}}

_LONGEST_REASON = 1000  # characters

# Errors of estimators that are given values of the wrong kind.
_FROM_WRONG_VALUES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
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
        that `fit` would refuse, if `notes` is not a JSON value, or if
        :func:`load_model` would refuse the file.

    See Also
    --------
    load_model : Reads the file.
    describe_model : Shows what is in the file.

    Notes
    -----
    Parameters that name folders of your computer, as
    ``LogMelSegmenter(cache_dir=...)`` and ``Pipeline(memory=...)`` do, are saved as
    None. Equal models with equal notes make equal files.

    The encoder of an :class:`~sklearn_asd.EncoderEmbedding` is not copied: the file
    holds its name, its revision and the hash of its weights.

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
            "torch": metadata.version("torch"),
            "numpy": np.__version__,
        },
        "summary": summarize(estimator),
        "notes": notes,
        "objects": encoder.objects,
    }
    data = pack(content, encoder.tensors)
    _check_readable(data)
    with replacing(path) as file:
        file.write(data)


def _check_readable(data: bytes) -> None:
    """Refuse to write a file that could not be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about this computer's devices
            _build(unpack(BytesIO(data), len(data)))
    except _FROM_WRONG_VALUES as error:
        raise ValueError(
            f"the model cannot be saved, as load_model would refuse it: {error}. "
            "Change it, or use joblib.dump"
        ) from error


def load_model(path, encoders=None):
    """Load a model that :func:`~sklearn_asd.save_model` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    encoders : dict or None, default=None
        What takes the place of the encoders of :class:`~sklearn_asd.EncoderEmbedding`
        that the file names, by these names: a folder that was moved, or code, which no
        file holds, such as ``{"my_module:my_function": my_function}``. The others are
        looked for where they were; nothing is downloaded.

    Returns
    -------
    estimator : estimator
        Fitted. It scores like the one that was saved, and can be fitted again. A model
        that was fitted on a GPU moves to the CPU where there is none.

    Raises
    ------
    ValueError
        If the file is damaged, holds anything unknown or values that no `fit` sets,
        would take far more memory than its own length, is a folder, pipe or device, or
        has the format of a later version; or an encoder is missing, or has other
        weights than in `fit`.

    OSError
        If the file cannot be read.

    ImportError
        If an encoder is a model of transformers, which is not installed.

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
    return load_with_notes(path, encoders).estimator


def describe_model(path):
    """Show what is in a model file.

    The model is loaded and checked as by :func:`load_model`, and described as it is,
    whatever the file says of it. Encoders are not looked for.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save_model` wrote.

    Returns
    -------
    description : dict
        - "format_version": int, of the file;
        - "versions": dict of package to version, those that wrote the file, as it says;
        - "notes": the notes that were passed to :func:`save_model`, as the file says,
          or None;
        - "checksum": bool, whether the file has a checksum, which was right then. Files
          of format 1 have none, so damage to their numbers may stay unknown;
        - "model": str, the estimators with those inside them;
        - "sample_rate": float, in Hz, or None if the model reads no audio;
        - "classes": list of str, or None: machines, or views of them, that the model
          tells apart;
        - "threshold": float, dict of machine to float, or None: scores below it are
          anomalous;
        - "training": list of dict, for each network its "detector", "n_epochs",
          "kept_epoch", the "train_loss" of that epoch, and with validation its
          "valid_accuracy";
        - "encoders": list of dict, for each :class:`~sklearn_asd.EncoderEmbedding` the
          name of its "encoder", its "revision" and the SHA-256 of its "weights", or
          None for what is not known.

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
    loaded = _load(path)[0]
    return {
        "format_version": loaded.content["format_version"],
        "versions": loaded.content["versions"],
        "notes": loaded.notes,
        "checksum": "digest" in loaded.content,
        **summarize(loaded.estimator),
    }


class LoadedModel(NamedTuple):
    """What one reading of a file gave.

    Attributes
    ----------
    estimator : estimator
        The model.

    content : dict
        The JSON of the file.

    notes : any
        The notes in it, or None.
    """

    estimator: Any
    content: dict[str, Any]

    @property
    def notes(self) -> Any:  # numpydoc ignore=RT01
        """Notes of the file."""
        return self.content.get("notes")


def load_with_notes(
    path: str | os.PathLike[str], encoders: dict[str, Any] | None = None
) -> LoadedModel:
    """Load a model with what else its file holds, from one reading.

    Parameters
    ----------
    path : str or path-like
        The file.

    encoders : dict or None, default=None
        As of :func:`load_model`.

    Returns
    -------
    loaded : LoadedModel
        The model and the content of the file.

    Raises
    ------
    ValueError, OSError, ImportError
        As :func:`load_model` does.
    """
    encoders = encoders or {}
    loaded, embeddings = _load(path)
    names = [one.name_encoder() for one in embeddings]
    unknown = sorted(set(encoders) - set(names))
    if unknown:
        known = f"it has {abbreviate(sorted(set(names)))}" if names else "it has none"
        raise ValueError(
            f"{os.fspath(path)} has no encoder {abbreviate(unknown)}: {known}"
        )
    for one in embeddings:
        _place_encoder(path, one, encoders)
    return loaded


def _place_encoder(
    path: str | os.PathLike[str], one: Any, encoders: dict[str, Any]
) -> None:
    """Give an estimator its encoder, and check that it is the one of its fit."""
    name = one.name_encoder()
    one.encoder = encoders.get(name, one.encoder)
    if not hasattr(one, "weights_"):  # not fitted
        return
    try:
        one.check_weights()
    except ValueError as error:
        facts = {"revision": one.revision_, "SHA-256": one.weights_}
        known = ", ".join(f"{k} {fact}" for k, fact in facts.items() if fact)
        moved = f"encoders={{{shorten(name)}: ...}}"
        remedy = "" if "encoders=" in str(error) else f"; what has moved: {moved}"
        raise ValueError(
            f"{os.fspath(path)} needs the encoder {shorten(name)}"
            f"{f' ({known})' if known else ''}: {error}{remedy}"
        ) from error


def _load(path: str | os.PathLike[str]) -> tuple[LoadedModel, list[Any]]:
    """Load a model, and list the estimators whose encoders it only names."""
    with _naming(path):
        unpacked = read_file(path)
    _check_fields(path, unpacked.content)
    with _naming(path, "its model cannot be built: "):
        built = _build(unpacked)
    embeddings = [one for one in built if hasattr(one, "name_encoder")]
    return LoadedModel(built[-1], unpacked.content), embeddings


def _build(unpacked: Unpacked) -> list[Any]:
    """Build the estimators of a file, of which the last is the model."""
    content, tensors, size = unpacked
    if content["format_version"] == 1:
        format1.upgrade(content["objects"], tensors)
    early_format2.upgrade(content["objects"], tensors)
    decoder = Decoder(tensors, size)
    for encoded in content["objects"]:
        decoder.add(encoded)
    unused = sorted(set(tensors) - decoder.used)
    if unused:
        raise ValueError(f"no estimator has the arrays {unused}")
    check_is_fitted(decoder.objects[-1])
    return decoder.objects


def _check_fields(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Refuse another format than the known ones, and what they do not hold."""
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
        for name in ("summary", "versions"):
            if not isinstance(content[name], dict):
                raise ValueError(f"it has no {name}")


@contextmanager
def _naming(path: str | os.PathLike[str], fact: str = "") -> Iterator[None]:
    """Name the file in errors about what it holds."""
    try:
        yield
    except _FROM_WRONG_VALUES as error:
        reason = str(error)[:_LONGEST_REASON] or type(error).__name__
        raise ValueError(
            f"{os.fspath(path)} is not a file of save_model, or it is damaged: {fact}"
            f"{reason}. Save the model again. If joblib.dump wrote it, and you trust "
            "its source, use joblib.load"
        ) from error
