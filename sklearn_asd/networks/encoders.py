"""Encoders of waveforms: functions, torch modules and models of transformers.

Each turns waveforms (n_clips, n_samples), all of one length, into frames
(n_clips, n_times, n_features). Nothing is trained.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sklearn_asd._utils.messages import cut, shorten
from sklearn_asd.audio import BadClipError

__all__ = ["Encoder", "encode_all", "find_folder", "name_code", "open_encoder"]

# Of a model of transformers: no code, and no pickle.
_FILES = ("config.json", "preprocessor_config.json", "*.safetensors*")

# A network is used by one thread at a time, as it may have to change its mode.
_ONE_ENCODING = threading.RLock()


def _forget_encodings() -> None:
    """In a child, the thread that would free the lock does not exist."""
    global _ONE_ENCODING
    _ONE_ENCODING = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_encodings)

_PROBE = 1.0  # s of noise, by which an encoder is known
_TAIL = 0.05  # s at the end of a clip, of which an encoder must hear something

# Weights that files may lack, as no frame depends on them.
_UNUSED = ("masked_spec_embed", "pooler")


class Encoder(ABC):
    """An encoder that is ready for use.

    Attributes
    ----------
    name : str
        What it is called, in messages and in model files.

    sample_rate : float or None
        Rate in Hz that it was trained on; None if it does not say so.

    weights : str or None
        SHA-256 of its weights; None if it has none that are known.

    revision : str or None
        Commit of a model from a hub.
    """

    name: str
    sample_rate: float | None = None
    weights: str | None = None
    revision: str | None = None

    @abstractmethod
    def _encode(self, waveforms: np.ndarray) -> Any:
        """Encode waveforms of one length; what comes out is not checked."""

    @abstractmethod
    def describe(self, sample_rate: float, duration: float | None) -> list[str]:
        """Name all that its frames depend on, for the name of a cache.

        Parameters
        ----------
        sample_rate : float
            Rate of the waveforms in Hz.

        duration : float or None
            As of :meth:`probe`.

        Returns
        -------
        identity : list of str
            Equal only for encoders that give the same frames.
        """

    def __call__(self, waveforms: np.ndarray) -> np.ndarray:
        """Encode waveforms of one length, and check what comes out.

        Parameters
        ----------
        waveforms : ndarray of shape (n_clips, n_samples), float32
            Samples in [-1, 1].

        Returns
        -------
        frames : ndarray of shape (n_clips, n_times, n_features), float32
            May hold NaN.

        Raises
        ------
        ValueError
            If the result is no array of numbers of that shape.
        """
        with _ONE_ENCODING:
            given = self._encode(waveforms)
        given = getattr(given, "last_hidden_state", given)
        if isinstance(given, torch.Tensor):
            given = given.detach().float().cpu().numpy()
        frames = np.asarray(given)
        fine = frames.ndim == 3 and len(frames) == len(waveforms)
        if not (fine and 0 not in frames.shape and frames.dtype.kind in "fiu"):
            raise ValueError(
                f"the encoder {self.name} gave {frames.dtype} of shape {frames.shape} "
                f"for waveforms of shape {waveforms.shape}; it must give numbers of "
                "shape (n_clips, n_times, n_features): one vector for each clip is "
                "frames[:, None]"
            )
        return frames.astype(np.float32, copy=False)

    def probe(self, sample_rate: float, duration: float | None = None) -> np.ndarray:
        """Encode noise that is always the same.

        Parameters
        ----------
        sample_rate : float
            Rate in Hz.

        duration : float or None, default=None
            Length in s; None is 1 s.

        Returns
        -------
        frames : ndarray of shape (n_times, n_features), float32
            Its frames.

        Raises
        ------
        ValueError
            If the encoder fails.
        """
        n_samples = max(1, round((duration or _PROBE) * sample_rate))
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (1, n_samples))
        try:
            return self(noise.astype(np.float32))[0]
        except BadClipError as error:
            raise ValueError(f"noise to probe the encoder {error}") from error
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"the encoder {self.name} cannot encode {n_samples} samples of noise "
                f"at {sample_rate:g} Hz ({_first_line(error)}): set max_duration to "
                "the length of sound that it takes, in s"
            ) from error

    def _hash_probe(self, sample_rate: float, duration: float | None) -> str:
        frames = self.probe(sample_rate, duration)
        return hashlib.sha256(frames.tobytes()).hexdigest()


class FunctionEncoder(Encoder):
    """Any callable that takes and gives arrays.

    Parameters
    ----------
    function : callable
        The function.
    """

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self.function = function
        self.name = name_code(function)

    def _encode(self, waveforms: np.ndarray) -> Any:
        """Call the function."""
        return self.function(waveforms)

    def describe(self, sample_rate: float, duration: float | None) -> list[str]:
        """Give its name and what it makes of a fixed sound."""
        return [self.name, self._hash_probe(sample_rate, duration)]


class ModuleEncoder(Encoder):
    """A torch module that takes and gives tensors.

    Parameters
    ----------
    module : torch.nn.Module
        The module. It is left in the mode and on the device that it is in.

    device : str
        Where to compute.
    """

    def __init__(self, module: torch.nn.Module, device: str) -> None:
        self.module, self.device = module, device
        self.name = name_code(module)

    @property
    def weights(self) -> str:  # type: ignore[override]  # numpydoc ignore=RT01
        """SHA-256 of its state."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
        return digest.hexdigest()

    def _encode(self, waveforms: np.ndarray) -> Any:
        """Call the module, frozen and in evaluation mode."""
        with _evaluating(self.module, self.device), torch.inference_mode():
            return self.module(torch.from_numpy(waveforms).to(self.device))

    def describe(self, sample_rate: float, duration: float | None) -> list[str]:
        """Give its layers, its weights, and what it makes of a fixed sound.

        Neither layers nor weights tell of plain attributes and of code.
        """
        heard = self._hash_probe(sample_rate, duration)
        return [repr(self.module), self.weights, torch.__version__, heard]


class TransformersEncoder(Encoder):
    """A model of transformers, with the feature extractor that it was trained with.

    Parameters
    ----------
    folder : Path
        Where its files are.

    device : str
        Where to compute.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.name, self.device = str(folder), device
        self.model, self.extractor = _load_model(folder)
        self.model = self.model.to(device)
        self.weights = _hash_files(folder)
        self.revision = _read_revision(folder)
        self.sample_rate = float(self.extractor.sampling_rate)
        self._heard: dict[int, bool] = {}

    def _encode(self, waveforms: np.ndarray) -> Any:
        """Extract the features of the model, and call it."""
        self._refuse_unheard(waveforms.shape[1])
        with torch.inference_mode():
            return self.model(**self._extract(waveforms).to(self.device))

    def describe(self, sample_rate: float, duration: float | None) -> list[str]:
        """Give its weights, and the versions that compute with them."""
        transformers = _import_transformers(self.name)
        return [self.weights, torch.__version__, transformers.__version__]

    def _extract(self, waveforms: np.ndarray) -> Any:
        rate = self.extractor.sampling_rate
        try:
            return self.extractor(
                list(waveforms), sampling_rate=rate, return_tensors="pt"
            )
        except ValueError as error:  # as for clips that are too short
            raise RuntimeError(str(error)) from error

    def _refuse_unheard(self, n_samples: int) -> None:
        """Refuse clips of which the extractor cuts off the end."""
        rate = self.extractor.sampling_rate
        if n_samples not in self._heard:
            noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, n_samples))
            noise[1] = noise[0]
            noise[1, -max(1, round(_TAIL * rate)) :] *= 3
            one, other = (self._extract(row[None].astype(np.float32)) for row in noise)
            self._heard[n_samples] = not all(
                torch.equal(values, other[key]) for key, values in one.items()
            )
        if not self._heard[n_samples]:
            raise BadClipError(
                f"is {n_samples / rate:.4g} s long, and the encoder {self.name} does "
                "not hear its end: set max_duration to the length of sound that the "
                "encoder takes, in s"
            )


def open_encoder(
    encoder: Any,
    revision: str | None = None,
    device: str = "cpu",
    download: bool = True,
) -> Encoder:
    """Make an encoder ready for use.

    Parameters
    ----------
    encoder : str, path-like, torch.nn.Module or callable
        Folder or name of a model of transformers, or what computes the frames.

    revision : str or None, default=None
        Revision of a model from a hub.

    device : str, default="cpu"
        Where networks compute.

    download : bool, default=True
        Whether a model that is not on this computer may be downloaded.

    Returns
    -------
    opened : Encoder
        Ready for use. A model of transformers is read once for all uses.

    Raises
    ------
    ValueError
        If there is no such model, or it is of another form.

    ImportError
        If it is a model of transformers, which is not installed.
    """
    if isinstance(encoder, torch.nn.Module):
        return ModuleEncoder(encoder, device)
    if not isinstance(encoder, str | os.PathLike):
        return FunctionEncoder(encoder)
    folder = find_folder(os.fspath(encoder), revision, download)
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in _list(folder)]
    return _open_folder(folder, tuple(files), device)


@lru_cache(maxsize=4)
def _open_folder(folder: Path, files: tuple, device: str) -> TransformersEncoder:
    """Open a folder once, and again if its files have changed."""
    return TransformersEncoder(folder, device)


def find_folder(name: str, revision: str | None, download: bool) -> Path:
    """Find the files of a model of transformers.

    Parameters
    ----------
    name : str
        A folder, or the model's name on a hub.

    revision : str or None
        Its revision there.

    download : bool
        Whether it may be downloaded if it is not on this computer.

    Returns
    -------
    folder : Path
        Where they are.

    Raises
    ------
    ValueError
        If they are not to be found.
    """
    if Path(name).is_dir():
        return Path(name)
    _import_transformers(name)
    from huggingface_hub import snapshot_download

    reason: Exception | None = None
    for local in (True, False) if download else (True,):
        try:
            folder = Path(
                snapshot_download(
                    name,
                    revision=revision,
                    local_files_only=local,
                    allow_patterns=list(_FILES),
                )
            )
        except (OSError, ValueError) as error:
            reason = error
            continue
        if any(folder.glob("*.safetensors")) or not (local and download):
            return folder
    raise ValueError(
        f"the encoder {shorten(name)} is neither a folder on this computer nor a model "
        f"that was downloaded to it{', nor can it be downloaded' if download else ''}"
        f" ({_first_line(reason)}): give the folder that save_pretrained wrote, or "
        "check the name and the connection"
    ) from reason


def encode_all(
    encoder: Encoder,
    waveforms: Sequence[np.ndarray],
    batch_size: int,
    max_samples: int | None = None,
) -> list[np.ndarray | BadClipError]:
    """Encode waveforms of any lengths, those of one length together.

    Parameters
    ----------
    encoder : Encoder
        What encodes.

    waveforms : sequence of ndarray of shape (n_samples,), float32
        Samples in [-1, 1].

    batch_size : int
        Most waveforms, or pieces of them, that are encoded at once.

    max_samples : int or None, default=None
        Longer waveforms are encoded in pieces of this length; the last one ends where
        the waveform does.

    Returns
    -------
    results : list of ndarray of shape (n_times, n_features), or BadClipError
        Frames of each waveform, or why there are none.

    Raises
    ------
    RuntimeError
        If the device has too little memory.
    """
    groups: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for place, waveform in enumerate(waveforms):
        for piece in _cut(waveform, max_samples):
            groups[len(piece)].append((place, piece))
    frames: list[list[np.ndarray]] = [[] for _ in waveforms]
    errors: dict[int, BadClipError] = {}
    for group in groups.values():
        for first in range(0, len(group), batch_size):
            places, pieces = zip(*group[first : first + batch_size], strict=True)
            made = _encode_batch(encoder, np.stack(pieces))
            for place, of_piece in zip(places, made, strict=True):
                if isinstance(of_piece, BadClipError):
                    errors[place] = of_piece
                else:
                    frames[place].append(of_piece)
    return [
        errors[place] if place in errors else np.concatenate(parts)
        for place, parts in enumerate(frames)
    ]


def _cut(waveform: np.ndarray, max_samples: int | None) -> Iterable[np.ndarray]:
    n_samples = len(waveform)
    if max_samples is None or n_samples <= max_samples:
        return [waveform]
    starts = [*range(0, n_samples - max_samples, max_samples), n_samples - max_samples]
    return [waveform[start : start + max_samples] for start in starts]


def _encode_batch(
    encoder: Encoder, waveforms: np.ndarray
) -> list[np.ndarray | BadClipError]:
    """Encode a batch; if that fails, each clip alone, as only one may be bad."""
    try:
        return list(encoder(waveforms))
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"the encoder {encoder.name} needs more memory for {len(waveforms)} clips "
            f"of {waveforms.shape[1]:,} samples than the device has: lower batch_size, "
            'set max_duration, or use device="cpu"'
        ) from error
    except (BadClipError, RuntimeError, IndexError) as error:  # as for short clips
        failure = error
    if len(waveforms) > 1:
        return [_encode_batch(encoder, one[None])[0] for one in waveforms]
    if isinstance(failure, BadClipError):
        return [failure]
    return [
        BadClipError(
            f"has {waveforms.shape[1]:,} samples, which the encoder {encoder.name} "
            f"cannot encode ({_first_line(failure)}): pad it or leave it out"
        )
    ]


def name_code(code: Any) -> str:
    """Name a callable.

    Parameters
    ----------
    code : callable
        A function, or an object of a class.

    Returns
    -------
    name : str
        Such as "my_module:my_function".
    """
    named = code if hasattr(code, "__qualname__") else type(code)
    return f"{named.__module__}:{named.__qualname__}"


@contextmanager
def _evaluating(module: torch.nn.Module, device: str) -> Iterator[None]:
    """Put a module into evaluation mode on a device, and back."""
    modes = {part: part.training for part in module.modules()}
    tensors = chain(module.parameters(), module.buffers())
    home = next((tensor.device for tensor in tensors), None)
    try:
        module.eval().to(device)
        yield
    finally:
        module.to(home or device)
        for part, mode in modes.items():
            part.training = mode


def _import_transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"the encoder {shorten(name)} is named by a text, so it is a model of "
            "transformers, which is not installed: in a checkout of sklearn_asd, run "
            'pip install -e ".[encoders]"'
        ) from error
    return transformers


def _list(folder: Path) -> list[Path]:
    """List the files that a model consists of."""
    return sorted(path for pattern in _FILES for path in folder.glob(pattern))


def _hash_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _list(folder):
        with path.open("rb") as file:
            of_file = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {of_file}\n".encode())
    return digest.hexdigest()


def _read_revision(folder: Path) -> str | None:
    """Commit of a model in the cache of a hub, which is its folder's name."""
    return folder.name if folder.parent.name == "snapshots" else None


def _load_model(folder: Path) -> tuple[Any, Any]:
    """Load a model and its feature extractor; refuse weights that are missing."""
    transformers = _import_transformers(str(folder))
    log = transformers.utils.logging
    shows_progress = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            folder, trust_remote_code=False
        )
        model, loaded = transformers.AutoModel.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"the encoder {folder} is no audio model of transformers with weights as "
            f"safetensors ({_first_line(error)}): give a folder that save_pretrained "
            "of the model and of its feature extractor wrote"
        ) from error
    finally:
        if shows_progress:
            log.enable_progress_bar()
    missing = [
        key for key in loaded["missing_keys"] if not any(u in key for u in _UNUSED)
    ]
    if missing:
        raise ValueError(
            f"the files of the encoder {folder} lack {len(missing)} weights, such as "
            f"{cut(sorted(missing)[0])}, which would be random: give the files of the "
            "whole model"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return model.float().eval(), extractor


def _first_line(error: Exception | None) -> str:
    return cut(str(error).partition("\n")[0].rstrip(".:"))
