"""What a training has come to, on disk, for a process that is killed to go on from."""

from __future__ import annotations

import hashlib
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
from sklearn_asd._version import __version__
from sklearn_asd.features import ClipSpectrograms

__all__ = ["Checkpoint", "name_training"]

_FORMAT = 1


class Checkpoint(Callback):
    """Save a training after each epoch, and take up one that was saved.

    Parameters
    ----------
    folder : str or path-like
        Where to; created if it does not exist.

    name : str
        What the training is known by, from :func:`name_training`.

    validation : object or None, default=None
        A callback with `get_state` and `set_state`, saved along.
    """

    def __init__(
        self, folder: str | os.PathLike[str], name: str, validation: Any = None
    ) -> None:
        self.path = Path(folder) / f"training-{name}.pt"
        self.validation = validation

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Save."""
        self.save(_state(net, self.validation))

    def restore(self, net: NeuralNet) -> int:
        """Bring a net, and torch's generators, to where the training had come.

        Parameters
        ----------
        net : skorch net
            Initialised as for that training.

        Returns
        -------
        n_epochs : int
            Number of epochs that are done.

        Raises
        ------
        ValueError
            If the file is of another training after all.
        """
        state = self.load()
        if state is None:
            return 0
        try:
            self._restore(net, state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            raise ValueError(
                f"the checkpoint {os.fspath(self.path)!r} is not of this training, "
                f"although it has its name ({reason}): delete it"
            ) from error
        return len(net.history)

    def _restore(self, net: NeuralNet, state: dict[str, Any]) -> None:
        net.module_.load_state_dict(state["module"])
        net.criterion_.load_state_dict(state["criterion"])
        net.optimizer_.load_state_dict(state["optimizer"])
        for row in state["history"]:
            net.history.new_epoch()
            for column, value in row.items():
                net.history.record(column, value)
        if self.validation is not None:
            self.validation.set_state(state["validation"])
        torch.set_rng_state(state["generator"])
        # The machine that goes on may have fewer GPUs.
        n_devices = torch.cuda.device_count()
        torch.cuda.set_rng_state_all(state["cuda_generators"][:n_devices])

    def load(self) -> dict[str, Any] | None:
        """Read what was saved; no code in it is run.

        Returns
        -------
        state : dict or None
            None if there is nothing, or nothing that can be read.

        Warns
        -----
        UserWarning
            If it cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["format"] != _FORMAT:
                raise ValueError(f"it has format {state['format']}")
        except Exception as error:  # a damaged file may raise any
            reason = str(error).partition("\n")[0]
            warnings.warn(
                f"the checkpoint {os.fspath(self.path)!r} cannot be read ({reason}): "
                "training starts anew, and writes over it",
                stacklevel=2,
            )
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file as a whole, so that a killed process leaves old or new.

        Parameters
        ----------
        state : dict
            Of tensors, numbers and strings.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # The same fit, elsewhere, may be done, and have taken it away.
            with suppress(FileNotFoundError), replacing(self.path) as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch's, of a full disk
            raise OSError(
                f"no checkpoint can be written to checkpoint_dir "
                f"{os.fspath(self.path.parent)!r} ({error}): free some space, or set "
                "checkpoint_dir=None. The one before is kept, and the same fit goes on "
                "from it"
            ) from error

    def remove(self) -> None:
        """Forget the training, which is done, and what killed processes left of it."""
        for path in [self.path, *unfinished(self.path)]:
            path.unlink(missing_ok=True)


def name_training(
    detector: Any, X: ClipSpectrograms, y: Any, unrelated: tuple[str, ...]
) -> str:
    """Name a training by all that decides it.

    Parameters
    ----------
    detector : estimator
        What is trained, with an integer parameter `random_state`.

    X : ClipSpectrograms
        Training clips.

    y : any
        What else is learnt of them: machines.

    unrelated : tuple of str
        Parameters that do not matter.

    Returns
    -------
    name : str
        Equal for equal trainings. The clips count by their frames, wherever these lie.

    Raises
    ------
    ValueError
        If two fits cannot be known to be the same: `random_state` is no integer, or a
        parameter has no name.
    """
    if not isinstance(detector.random_state, Integral):
        raise ValueError(
            f"checkpoint_dir needs an integer random_state, got "
            f"{detector.random_state!r}: without one, a fit that is run again is "
            "another one, and cannot go on where the first was stopped"
        )
    parameters = detector.get_params(deep=False)
    parameters["random_state"] = int(detector.random_state)  # NumPy's hash otherwise
    for name in (*unrelated, "checkpoint_dir"):
        parameters.pop(name, None)
    try:
        digest = hashlib.blake2b(
            joblib.hash(
                [
                    type(detector).__qualname__,
                    parameters,
                    None if y is None else np.asarray(y).tolist(),
                    (X.segment_frames, X.segment_hop_frames, X.view_names),
                    (_FORMAT, __version__, torch.__version__),
                ]
            ).encode(),
            digest_size=12,
        )
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"checkpoint_dir cannot tell this fit from others, as a parameter has no "
            f"name ({error}): define network at the top of a module"
        ) from error
    digest.update(repr((X.frames.dtype.str, (X.stops - X.starts).tolist())).encode())
    for clip in range(len(X)):
        for view in range(len(X.view_names)):
            digest.update(np.ascontiguousarray(X.log_mel(clip, view).T).data)
    return digest.hexdigest()


def _state(net: NeuralNet, validation: Any) -> dict[str, Any]:
    rows = [
        {column: value for column, value in row.items() if column != "batches"}
        for row in net.history
    ]
    return {
        "format": _FORMAT,
        "module": net.module_.state_dict(),
        "criterion": net.criterion_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        "history": [{c: _plain(value) for c, value in row.items()} for row in rows],
        "validation": None if validation is None else validation.get_state(),
        "generator": torch.get_rng_state(),
        "cuda_generators": torch.cuda.get_rng_state_all(),
    }


def _plain(value: Any) -> Any:
    """Python's own number, the only kind that loads without running code."""
    return value.item() if isinstance(value, np.generic) else value
