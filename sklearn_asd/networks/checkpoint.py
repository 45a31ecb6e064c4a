"""Checkpoints: training resumes after the process was killed."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_asd._utils.files import replacing, unfinished
from sklearn_asd._utils.messages import shorten
from sklearn_asd._version import __version__
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.draws import current_draws

__all__ = ["UNRELATED_PARAMETERS", "Checkpoint", "name_training", "open_checkpoint"]

_FORMAT = 2
_DIGEST_BYTES = 32  # at the start of a file, of all that follows

# Parameters of detectors that do not change what their network learns, or that the
# network has resolved: "auto" differs between computers.
UNRELATED_PARAMETERS = (
    "checkpoint_dir",
    "confidence",
    "contamination",
    "device",
    "pooling",
    "precision",
    "verbose",
)


class Checkpoint(Callback):
    """Save a training after each epoch, and restore it.

    Parameters
    ----------
    folder : str or path-like
        Folder for the file; created if it does not exist.

    name : str
        Name of the training, from :func:`name_training`.

    validation : object or None, default=None
        A callback with an attribute `state`, which is saved too.
    """

    def __init__(
        self, folder: str | os.PathLike[str], name: str, validation: Any = None
    ) -> None:
        self.path = Path(folder) / f"training-{name}.pt"
        self.validation = validation

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the net, its history, and torch's generators, if there is a file."""
        state = self.load() if self.path.exists() else None
        if state is None:
            return
        try:
            net.module_.load_state_dict(state["module"])
            net.criterion_.load_state_dict(state["criterion"])
            net.optimizer_.load_state_dict(state["optimizer"])
            net.history.extend({"batches": [], **row} for row in state["history"])
            if self.validation is not None:
                self.validation.state = state["validation"]
            draws = current_draws()
            if draws is not None:
                draws.restore(state["generators"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            raise ValueError(
                f"the checkpoint {shorten(os.fspath(self.path))} is not of this "
                "training, "
                f"although it has its name ({reason}): delete it"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Read the file; no code in it is run.

        Returns
        -------
        state : dict or None
            None if it cannot be read.

        Warns
        -----
        UserWarning
            If it cannot be read.
        """
        try:
            data = self.path.read_bytes()
            digest, data = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if digest != _compute_digest(data):
                raise ValueError("its checksum does not match its content")
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            if state["format"] != _FORMAT:
                raise ValueError(f"it has format {state['format']}")
        except Exception as error:  # a damaged file may raise any
            reason = str(error).partition("\n")[0]
            warnings.warn(
                f"the checkpoint {shorten(os.fspath(self.path))} cannot be read "
                f"({reason}): "
                "training starts again, and overwrites it",
                stacklevel=2,
            )
            return None
        return state

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Replace the file as a whole; a killed process leaves the old or new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Another process that ran the same fit may have removed it.
            with suppress(FileNotFoundError), replacing(self.path) as file:
                buffer = io.BytesIO()
                torch.save(_state(net, self.validation), buffer)
                file.write(_compute_digest(buffer.getbuffer()))
                file.write(buffer.getbuffer())
        except (OSError, RuntimeError) as error:  # torch's, of a full disk
            raise OSError(
                f"no checkpoint can be written to checkpoint_dir "
                f"{shorten(os.fspath(self.path.parent))} ({error}): free some space, "
                "or set "
                "checkpoint_dir=None. The previous checkpoint is kept, and the same "
                "fit resumes from it"
            ) from error

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Delete the file of a finished training, and what killed processes left."""
        for path in [self.path, *unfinished(self.path)]:
            path.unlink(missing_ok=True)


def open_checkpoint(
    detector: Any, X: ClipSpectrograms, y: Any = None, validation: Any = None
) -> Checkpoint | None:
    """Open the checkpoint of a detector's training, if it has a `checkpoint_dir`.

    Parameters
    ----------
    detector : estimator
        With the parameters `checkpoint_dir` and `random_state`, and with `net_`.

    X, y : ClipSpectrograms, any
        See :func:`name_training`.

    validation : object or None, default=None
        See :class:`Checkpoint`.

    Returns
    -------
    checkpoint : Checkpoint or None
        None if `checkpoint_dir` is None.

    Raises
    ------
    ValueError
        See :func:`name_training`.
    """
    if detector.checkpoint_dir is None:
        return None
    name = name_training(detector, X, y)
    return Checkpoint(detector.checkpoint_dir, name, validation)


def name_training(detector: Any, X: ClipSpectrograms, y: Any = None) -> str:
    """Name a training by everything that decides its result.

    Parameters
    ----------
    detector : estimator
        The detector, with an integer parameter `random_state` and an untrained `net_`.
        Its `device` and `precision` count as what they have come to in `net_`: a
        training that began on a GPU in bfloat16 is another one on a CPU.

    X : ClipSpectrograms
        Training clips.

    y : array-like or None, default=None
        Labels that the network learns, such as machines.

    Returns
    -------
    name : str
        Equal for equal trainings. The clips count by their frames, wherever these lie.

    Raises
    ------
    ValueError
        If two fits cannot be known to be the same: `random_state` is no integer, or a
        parameter cannot be pickled by name.
    """
    if not isinstance(detector.random_state, Integral):
        raise ValueError(
            f"checkpoint_dir needs an integer random_state, got "
            f"{shorten(detector.random_state)}: without one, the same fit run again "
            "trains "
            "another network, and cannot resume this training"
        )
    parameters = detector.get_params(deep=False)
    parameters["random_state"] = int(detector.random_state)  # NumPy's hash otherwise
    for unrelated in UNRELATED_PARAMETERS:
        parameters.pop(unrelated, None)
    identity = [
        type(detector).__qualname__,
        parameters,
        None if y is None else np.asarray(y).tolist(),
        torch.device(detector.net_.device).type,
        bool(getattr(detector.net_, "autocast", False)),  # in bfloat16
        (X.segment_frames, X.segment_hop_frames, X.view_names),
        (_FORMAT, __version__, torch.__version__),
    ]
    try:
        digest = hashlib.blake2b(joblib.hash(identity).encode(), digest_size=12)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"checkpoint_dir cannot distinguish this fit from others, as a parameter "
            f"cannot be pickled ({error}): define network and loss at the top of a "
            "module"
        ) from error
    _add_frames(digest, X)
    return digest.hexdigest()


def _compute_digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _add_frames(digest: Any, X: ClipSpectrograms) -> None:
    digest.update(repr((X.frames.dtype.str, (X.stops - X.starts).tolist())).encode())
    for clip in range(len(X)):
        for view in range(len(X.view_names)):
            digest.update(np.ascontiguousarray(X.log_mel(clip, view).T).data)
    if X.spectra is not None:
        digest.update(np.ascontiguousarray(X.spectra).data)


def _state(net: NeuralNet, validation: Any) -> dict[str, Any]:
    rows = [
        {name: _plain(value) for name, value in row.items() if name != "batches"}
        for row in net.history
    ]
    draws = current_draws()
    return {
        "format": _FORMAT,
        "module": net.module_.state_dict(),
        "criterion": net.criterion_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        "history": rows,
        "validation": getattr(validation, "state", None),
        "generators": draws.states() if draws else {},
    }


def _plain(value: Any) -> Any:
    """Python's own number, as only that loads without running code."""
    return value.item() if isinstance(value, np.generic) else value
