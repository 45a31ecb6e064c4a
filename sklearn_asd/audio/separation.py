"""Harmonic and percussive part of a clip, by librosa."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

__all__ = ["separate"]


def separate(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate what lasts in time from what is spread over frequencies.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1]; at least 2048.

    Returns
    -------
    harmonic, percussive : ndarray of shape (n_samples,), float32
        The two parts, of ``librosa.effects.hpss``.

    Raises
    ------
    OSError
        If there is no folder at all that librosa's compiler may write to.

    References
    ----------
    D. Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio.separation import separate
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    >>> harmonic, percussive = separate(tone)
    >>> bool(np.square(harmonic).mean() > 100 * np.square(percussive).mean())
    True
    """
    return _load_effects().hpss(samples)


@cache
def _load_effects() -> Any:
    """Import librosa when it is needed: nothing else here needs its compiler, numba.

    Numba refuses to be used where it finds no folder to keep compiled functions in, as
    in containers. It then gets one that lasts as long as the process.
    """
    try:
        return import_module("librosa.effects")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "librosa"]:
            del sys.modules[name]  # half imported
        import_module("numba").config.CACHE_DIR = _make_folder().name
        return import_module("librosa.effects")


@cache
def _make_folder() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="sklearn_asd-")
