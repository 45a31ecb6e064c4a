"""Memory maps of frames in pickles: the name of their file in place of the frames."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FileFrames", "maps_a_file"]


@dataclass(frozen=True)
class FileFrames:
    """Stands for a memory map of frames in a pickle.

    Attributes
    ----------
    path : str
        Absolute path of the file.

    offset : int
        Bytes before the frames.

    shape : (int, int)
        Numbers of frames and of mel bands.

    dtype : str
        Type of the frames.

    digest : bytes
        Digest of some of the frames.
    """

    path: str
    offset: int
    shape: tuple[int, int]
    dtype: str
    digest: bytes

    @classmethod
    def of(cls, frames: Any, n_frames: int, rows: np.ndarray) -> FileFrames:
        """Describe the beginning of a memory map.

        Parameters
        ----------
        frames : memmap of shape (total_frames, n_mels)
            One for which :func:`maps_a_file` holds.

        n_frames : int
            Number of frames that are needed. Frames appended later change nothing.

        rows : ndarray of int
            Frames that identify the file.

        Returns
        -------
        description : FileFrames
            A few hundred bytes in a pickle.
        """
        path = str(Path(str(frames.filename)).absolute())
        digest = _digest_rows(frames, rows)
        shape = (n_frames, frames.shape[1])
        return cls(path, frames.offset, shape, frames.dtype.str, digest)

    def open(self, rows: np.ndarray) -> np.memmap:
        """Map the file into memory again.

        Parameters
        ----------
        rows : ndarray of int
            The same frames.

        Returns
        -------
        frames : memmap of shape (n_frames, n_mels)
            Read-only.

        Raises
        ------
        ValueError
            If the file is missing, or its frames have changed.
        """
        remedy = (
            "run LogMelSegmenter again, with a cache_dir that exists here (or "
            "PowerSpectrum, if it made them)"
        )
        try:
            frames = np.memmap(
                self.path, self.dtype, "r", offset=self.offset, shape=self.shape
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the frames of these ClipSpectrograms are in {self.path}, which "
                f"cannot be read ({error}): {remedy}"
            ) from error
        if _digest_rows(frames, rows) != self.digest:
            raise ValueError(
                f"{self.path} holds other frames than when these ClipSpectrograms "
                f"were pickled: {remedy}"
            )
        return frames


def maps_a_file(frames: np.ndarray) -> bool:
    """Tell whether an array is a memory map of a file, and not a part of one.

    Parameters
    ----------
    frames : ndarray
        Any array.

    Returns
    -------
    maps : bool
        Whether its rows can be found in the file again.
    """
    return (
        isinstance(frames, np.memmap)
        and isinstance(frames.base, mmap.mmap)
        and frames.filename is not None
        and frames.flags.c_contiguous
    )


def _digest_rows(frames: np.ndarray, rows: np.ndarray) -> bytes:
    return hashlib.blake2b(frames[rows].tobytes(), digest_size=16).digest()
