"""What joblib does for models, without trusting the file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._version import __version__
from sklearn_asd.persistence.decoding import Decoder
from sklearn_asd.persistence.encoding import Encoder
from sklearn_asd.persistence.files import read_content, read_file, write_file
from sklearn_asd.persistence.summary import summarize

__all__ = ["describe_model", "load_model", "save_model"]

# Raised when files are written that earlier versions cannot read. All that were ever
# written are read: tests/models holds some of each.
_FORMAT = 1

# What parts raise that are given values of the wrong kind.
_FROM_WRONG_VALUES = (ArithmeticError, AttributeError, LookupError, RuntimeError)
_FROM_WRONG_VALUES += (TypeError, ValueError)

_KEYS = {"format_version", "versions", "summary", "objects"}


def save_model(estimator, path):
    """Save a fitted model as a file without code.

    Weights and arrays are kept as safetensors, all else as JSON, so that nothing of a
    file is ever run: unlike a pickle's, its source need not be trusted. Loaded with
    :func:`load_model`, it gives the same scores to the bit.

    Parameters
    ----------
    estimator : estimator
        Any fitted estimator of this library, or a scikit-learn Pipeline of them. Of
        scikit-learn's own, FrozenEstimator, LedoitWolf and StandardScaler may be
        inside.

    path : str or path-like
        The file, such as "pump.asd". One that is there is replaced, once the new one is
        complete.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    ValueError
        If it holds what cannot be kept without code: another estimator, a network or a
        view of your own, a random generator. The message names it; ``joblib.dump``
        keeps it. Or if a parameter was set after `fit` to what no fit would take.

    See Also
    --------
    load_model : Reads it.
    describe_model : Says what is in a file.

    Notes
    -----
    ``LogMelSegmenter(cache_dir=...)`` and ``Pipeline(memory=...)`` name folders of this
    machine; they are saved as None. What ``sklearn-asd fit`` notes with a model, such
    as its training recordings, is left out. Equal models make equal files.

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
        Fitted. It scores, is cloned and fitted again as the one that was saved. A model
        fitted on a GPU comes to the CPU where there is none.

    Raises
    ------
    ValueError
        If the file is damaged, or holds anything that is not known: a file of a later
        version, or one made to do harm.

    Warns
    -----
    UserWarning
        If the model was fitted with ``device="cuda"``, or another that is not here.

    See Also
    --------
    describe_model : Says what is in a file.

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
    content, tensors = read_file(path)
    _check_form(path, content)
    decoder = Decoder(tensors)
    try:
        for encoded in content["objects"]:
            decoder.add(encoded)
        if decoder.unused():
            raise ValueError(f"nothing refers to the arrays {sorted(decoder.unused())}")
    except _FROM_WRONG_VALUES as error:
        raise _refusal(path, f"holds what is not known here: {error}") from error
    return decoder.objects[-1]


def describe_model(path):
    """Say what is in a model file, without loading it.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save_model` wrote.

    Returns
    -------
    description : dict
        - "format_version": int, of the file;
        - "versions": dict of package to version, of what wrote it;
        - "model": str, the estimators inside each other;
        - "sample_rate": float, in Hz, or None where no audio is read;
        - "classes": list of str, or None: machines (or views of them) told apart;
        - "threshold": float, dict of machine to float, or None: scores below it are
          anomalous;
        - "training": list of dict, for each network its "detector", "n_epochs",
          "kept_epoch", the "train_loss" of that epoch, and with validation its
          "valid_accuracy".

    Raises
    ------
    ValueError
        If it is no such file.

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
    content = read_content(path)
    _check_form(path, content)
    summary = content["summary"]
    if not isinstance(summary, dict):
        raise _refusal(path, "has no summary")
    return {name: content[name] for name in ("format_version", "versions")} | summary


def _check_form(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise _refusal(path, f"has the format version {version!r:.20}")
    if version > _FORMAT:
        raise ValueError(
            f"{os.fspath(path)} has format version {version}, and sklearn_asd "
            f"{__version__} reads {_FORMAT}: install a later sklearn_asd"
        )
    if set(content) != _KEYS or not isinstance(content["objects"], list):
        raise _refusal(path, f"holds {sorted(content)!r:.80}")
    if not content["objects"]:
        raise _refusal(path, "holds no estimator")


def _refusal(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(
        f"{os.fspath(path)} {what}. It was not written by save_model of this or an "
        "earlier version of sklearn_asd, or is damaged: save the model again"
    )
