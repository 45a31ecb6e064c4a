"""Samples from a stream of bytes: raw PCM, or WAV with a header of unknown length."""

from __future__ import annotations

import os
import queue
import struct
import threading

import numpy as np

__all__ = ["FORMATS", "ByteReader", "PcmDecoder", "StreamError"]

FORMATS = ("u8", "s16le", "s24le", "s32le", "f32le", "f64le")
"""Formats of samples, by the names that ffmpeg has for them."""

# Formats of WAV, by its numbers for kind and bits.
_WAV_FORMATS = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
}
_EXTENSIBLE = 0xFFFE

# A program that writes to a pipe promises as many bytes as it can, or none.
_UNKNOWN_SIZE = 0x7FFF0000
_LONGEST_HEADER = 2**16

# Bytes read at once, and how many such blocks wait in memory.
_BLOCK, _N_BLOCKS = 2**16, 64


class StreamError(ValueError):
    """A stream is not what it should be."""


class PcmDecoder:
    """Turns bytes into samples, in blocks of any size.

    Parameters
    ----------
    form : str or None
        One of `FORMATS` for raw samples. None is for WAV, whose header says it.

    sample_rate : float or None
        In Hz, for raw samples.

    n_channels : int > 0, default=1
        For raw samples.

    Attributes
    ----------
    sample_rate : float or None
        In Hz; None until the header of a WAV is complete.

    n_channels : int
        Number of channels.

    Raises
    ------
    StreamError
        If raw samples have no sample rate.
    """

    def __init__(
        self, form: str | None, sample_rate: float | None, n_channels: int = 1
    ) -> None:
        if form is not None and sample_rate is None:
            raise StreamError(f"the sample rate of raw {form} samples is not known")
        self.form = form
        self.sample_rate = sample_rate if form is not None else None
        self.n_channels = n_channels
        self._left: int | None = None  # bytes of samples to come, if that is known
        self._rest = b""
        self._stated: str | None = None  # format in the header

    def decode(self, content: bytes) -> np.ndarray:
        """Decode the next bytes.

        Parameters
        ----------
        content : bytes
            As many as there are.

        Returns
        -------
        samples : ndarray of shape (n_samples, n_channels), float32
            Samples in [-1, 1] whose bytes are complete; there may be none.

        Raises
        ------
        StreamError
            If the stream is no WAV, or one whose samples are compressed.
        """
        content = self._rest + content
        self._rest = b""
        if self.form is None:
            start = self._read_header(content)
            if start is None:
                self._rest = content
                return np.empty((0, self.n_channels), np.float32)
            content = content[start:]
        if self._left is not None:  # what follows the samples is no sound
            content = content[: self._left]
        n_bytes = self._n_bytes * self.n_channels
        whole = len(content) - len(content) % n_bytes
        self._rest = content[whole:]
        if self._left is not None:
            self._left -= whole
        samples = _to_floats(content[:whole], str(self.form))
        return samples.reshape(-1, self.n_channels)

    @property
    def _n_bytes(self) -> int:
        form = str(self.form)
        return int("".join(filter(str.isdigit, form))) // 8

    def _read_header(self, content: bytes) -> int | None:
        """Find where the samples start; None if that is still to come."""
        starts = b"RIFF".startswith(content[:4]), b"WAVE".startswith(content[8:12])
        if not all(starts):
            raise StreamError(
                "the stream does not begin like a WAV: give the format of raw samples, "
                "or have WAV written"
            )
        at = 12
        while at + 8 <= len(content):
            name, size = struct.unpack("<4sI", content[at : at + 8])
            if name == b"data":
                if self._stated is None:
                    raise StreamError("the WAV's samples precede their format")
                self._left = size if 0 < size < _UNKNOWN_SIZE else None
                self.form = self._stated
                return at + 8
            if name == b"fmt " and at + 8 + size <= len(content):
                self._read_format(content[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        if len(content) > _LONGEST_HEADER:
            raise StreamError("the WAV has no samples after its header")
        return None

    def _read_format(self, chunk: bytes) -> None:
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
        if kind == _EXTENSIBLE and len(chunk) >= 26:
            kind = struct.unpack("<H", chunk[24:26])[0]
        if (kind, bits) not in _WAV_FORMATS or not channels or not rate:
            raise StreamError(
                f"the WAV has samples of kind {kind} with {bits} bits in {channels} "
                "channels: have it written as PCM of 16 bits"
            )
        self.sample_rate, self.n_channels = float(rate), channels
        self._stated = _WAV_FORMATS[kind, bits]


def _to_floats(content: bytes, form: str) -> np.ndarray:
    if form == "u8":
        return (np.frombuffer(content, "u1").astype(np.float32) - 128) / 128
    if form == "s24le":
        padded = np.zeros((len(content) // 3, 4), "u1")
        padded[:, 1:] = np.frombuffer(content, "u1").reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float32) / 2**31
    if form.startswith("f"):
        return np.frombuffer(content, f"<f{int(form[1:3]) // 8}").astype(np.float32)
    n_bytes = int(form[1:3]) // 8
    whole = np.frombuffer(content, f"<i{n_bytes}")
    return whole.astype(np.float32) / 2.0 ** (8 * n_bytes - 1)


class ByteReader:
    """Reads bytes in a thread, so that nothing waits forever for those to come.

    Parameters
    ----------
    descriptor : int
        Of a file, such as ``sys.stdin.fileno()``.
    """

    def __init__(self, descriptor: int) -> None:
        # Its own, as others may close theirs, and the number be used again.
        self._descriptor = os.dup(descriptor)
        # A bound, so that a slow computer slows down what writes.
        self._blocks: queue.Queue[bytes | OSError] = queue.Queue(_N_BLOCKS)
        # It may wait for bytes when the watch ends, and must not hold it.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        content = b"-"
        try:
            while content:
                content = os.read(self._descriptor, _BLOCK)
                self._blocks.put(content)
        except OSError as error:
            self._blocks.put(error)
        finally:
            os.close(self._descriptor)

    def get(self, timeout: float) -> bytes | None:
        """Get the next bytes.

        Parameters
        ----------
        timeout : float
            Time in s to wait.

        Returns
        -------
        content : bytes or None
            Empty at the end; None if none came.

        Raises
        ------
        OSError
            If they cannot be read.
        """
        try:
            content = self._blocks.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(content, OSError):
            raise content
        return content
