"""From one recording, file or array, to mono samples at the wanted sample rate."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile

from sklearn_asd._utils.messages import shorten
from sklearn_asd._utils.validation import fill_masked
from sklearn_asd.audio.cancelling import MIN_WINDOWS, ChannelPair
from sklearn_asd.audio.remarks import Channels, measure_recording
from sklearn_asd.audio.resampling import resample
from sklearn_asd.audio.unfinished import (
    UNKNOWN_LENGTH,
    SoundStream,
    finish_wav,
    is_whole_flac,
)

__all__ = [
    "MAX_AMPLITUDE",
    "BadClipError",
    "KeptRecording",
    "Measured",
    "MissingClipError",
    "Recording",
    "Span",
    "UnusableClipWarning",
    "as_floats",
    "measure_duration",
    "open_array",
    "open_file",
    "read_array",
    "read_bytes",
    "read_file",
]


# What is read of a recording's channels: their average, one, or a pair's combination.
Channel = Literal["mix"] | int | ChannelPair


class BadClipError(ValueError):
    """A recording cannot be used.

    The message begins with the recording, "clip 17 (pump_03.wav)", and ends with
    the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import BadClipError, LogMelSegmenter
    >>> try:
    ...     LogMelSegmenter().fit_transform([np.zeros(0)])
    ... except BadClipError as error:
    ...     print(error)
    clip 0 holds no samples: leave it out
    """


class MissingClipError(BadClipError, FileNotFoundError):
    """A recording's file does not exist.

    Examples
    --------
    >>> from sklearn_asd import LogMelSegmenter, MissingClipError
    >>> try:
    ...     LogMelSegmenter().fit_transform(["monday.wav"])
    ... except MissingClipError as error:
    ...     print(error)
    clip 0 (monday.wav) does not exist: check the path 'monday.wav'
    """


class UnusableClipWarning(UserWarning):
    """Clips cannot be used and score NaN.

    Parameters
    ----------
    message : str
        What is wrong, with each clip.

    problems : dict of int to str, default=None
        The reason of each row that cannot be used.
    """

    def __init__(self, message: str, problems: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or {}


class Span(NamedTuple):
    """Part of a recording.

    Attributes
    ----------
    start : float, default=0.0
        Its beginning in s.

    stop : float, default=inf
        Its end in s; infinity is that of the recording.
    """

    start: float = 0.0
    stop: float = math.inf

    @property
    def is_whole(self) -> bool:
        """True for all of the recording."""
        return self == WHOLE

    def to_samples(self, n_samples: int, rate: float) -> tuple[int, int]:
        """Find the samples of the part.

        Parameters
        ----------
        n_samples : int
            Those of the recording.

        rate : float > 0
            Its sample rate in Hz.

        Returns
        -------
        first, last : int
            The first sample, and the one after the last.

        Raises
        ------
        BadClipError
            If the recording ends before the part does.
        """
        if self.is_whole:
            return 0, n_samples
        first = round(self.start * rate)
        last = n_samples if math.isinf(self.stop) else round(self.stop * rate)
        if last > n_samples or first >= n_samples:
            needed = max(self.start, 0 if math.isinf(self.stop) else self.stop)
            raise BadClipError(
                f"is {n_samples / rate:.6g} s long, and its piece reaches to "
                f"{needed:.6g} s: choose one within the recording"
            )
        if first >= last:
            raise BadClipError(
                f"has a piece from {self.start:.6g} to {self.stop:.6g} s, which holds "
                "no samples: choose a longer one"
            )
        return first, last


WHOLE = Span()


class Measured(NamedTuple):
    """Samples of a recording, and the facts that were measured on it.

    Attributes
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1], at the wanted rate.

    facts : ndarray of shape (n_facts,), float64
        In the order of ``sklearn_asd.audio.remarks.FACTS``.
    """

    samples: np.ndarray
    facts: np.ndarray


@dataclass(frozen=True)
class Recording:
    """A recording that was read.

    Attributes
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1], at the wanted rate.

    sample_rate : float
        That rate in Hz.

    signal : ndarray of shape (n_recorded,), float32
        Samples at the rate of the recording.

    file_rate : float
        That rate in Hz.

    channels : Channels or None, default=None
        Of a mix of several channels.

    compressed : bool, default=False
        Whether the file's format is lossy.
    """

    samples: np.ndarray
    sample_rate: float
    signal: np.ndarray
    file_rate: float
    channels: Channels | None = None
    compressed: bool = False

    def measure(self) -> Measured:
        """Measure the recording.

        Returns
        -------
        measured : Measured
            Its samples, with the facts.
        """
        facts = measure_recording(
            self.signal,
            self.file_rate,
            self.samples,
            self.sample_rate,
            self.channels,
            self.compressed,
        )
        return Measured(self.samples, facts)


class KeptRecording(os.PathLike):
    """Path of a recording whose samples stay in memory once they are read.

    Parameters
    ----------
    path : str or path-like
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._measured: dict[tuple[float, Channel, Span], Measured] = {}

    def __fspath__(self) -> str:
        return self.path

    def measure(
        self, sample_rate: float, channel: Channel, span: Span = WHOLE
    ) -> Measured:
        """Read the file, unless that was done before.

        Parameters
        ----------
        sample_rate, channel, span : any
            See :func:`open_file`.

        Returns
        -------
        measured : Measured
            Samples and facts.

        Raises
        ------
        BadClipError
            See :func:`read_file`.
        """
        wanted = sample_rate, channel, span
        if wanted not in self._measured:
            self._measured[wanted] = open_file(self.path, *wanted).measure()
        return self._measured[wanted]


# Full scale is 1. Samples beyond this are bytes misread as floats, and their power
# would overflow.
MAX_AMPLITUDE = 1e12

# Hz. Ultrasound recorders stop far below; resampling from the rate in a damaged header
# could take forever.
_MAX_SAMPLE_RATE = 1e8

# Samples decoded at once. A damaged header may promise any number of samples: memory is
# not allocated for them.
_SAMPLES_AT_ONCE = 2**20

# Starts of the names of subtypes that lose some of the sound.
_LOSSY = ("VORBIS", "OPUS", "MPEG", "GSM", "G72", "ULAW", "ALAW", "IMA", "MS_", "VOX")

# Bytes of the longest header of an empty recording: recorders leave 4096 for it.
_LARGE_HEADER = 2**13


def read_file(
    path: str | os.PathLike[str],
    sample_rate: float,
    channel: Channel = "mix",
) -> np.ndarray:
    """Read a sound file as mono samples.

    Parameters
    ----------
    path : str or path-like
        A file that libsndfile reads: WAV, FLAC, OGG, AIFF and others.

    sample_rate : float > 0
        Wanted sample rate in Hz. A file with a higher rate is resampled (soxr, high
        quality, as in ``librosa.load``).

    channel : "mix", int or ChannelPair, default="mix"
        "mix" averages the channels; an index takes that one; a pair is combined.

    Returns
    -------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1].

    Raises
    ------
    MissingClipError
        If there is no such file.

    BadClipError
        If the file is not readable, not a file, empty, or cannot be decoded; if it
        holds NaN, infinity or absurdly large values, lacks the channel, or has a sample
        rate that is impossible or below the wanted one.
        Messages omit the clip's name: they complete the sentence "clip 17
        (pump_03.wav) ...".

    Examples
    --------
    >>> import tempfile, numpy as np, soundfile
    >>> from sklearn_asd.audio import read_file
    >>> with tempfile.NamedTemporaryFile(suffix=".wav") as file:
    ...     soundfile.write(file.name, np.zeros((32000, 2)), 32000)
    ...     read_file(file.name, sample_rate=16000).shape  # 1 s in stereo, as mono
    (16000,)
    """
    return open_file(path, sample_rate, channel).samples


def open_file(
    source: str | os.PathLike[str] | bytes,
    sample_rate: float,
    channel: Channel = "mix",
    span: Span = WHOLE,
) -> Recording:
    """Read a sound file, so that it can be measured too; see :func:`read_file`.

    Parameters
    ----------
    source : str, path-like or bytes
        The file, or what it holds.

    sample_rate, channel : any
        See :func:`read_file`.

    span : Span, default=Span(0.0, inf)
        Part to read, without decoding what precedes it where the format allows that.

    Returns
    -------
    recording : Recording
        Its samples, and what they came from.

    Raises
    ------
    BadClipError
        See :func:`read_file`.
    """
    if isinstance(source, bytes):
        return _read(BytesIO(source), sample_rate, channel, span)
    _refuse_unless_a_file(source)
    return _read(_name_file(source), sample_rate, channel, span)


def measure_duration(path: str | os.PathLike[str]) -> float:
    """Find how long a sound file is, by its header where that tells.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    duration : float
        In s.

    Raises
    ------
    BadClipError
        If the file cannot be opened; see :func:`read_file`.
    """
    _refuse_unless_a_file(path)
    with _explaining(), _open(_name_file(path)) as (file, _):
        if isinstance(file, SoundStream):
            n_samples = sum(map(len, _blocks(file)))
        else:
            n_samples = file.frames
        return n_samples / file.samplerate


def _name_file(path: str | os.PathLike[str]) -> str | bytes:
    # Names of files are bytes, and need not be text, except on Windows.
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a sound file as it is, for :func:`open_file`.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    content : bytes
        All of it.

    Raises
    ------
    BadClipError
        If it is not readable, not a file, or empty; see :func:`read_file`.
    """
    _refuse_unless_a_file(path)
    try:
        return Path(path).read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "memory does not hold it"
        raise BadClipError(
            f"cannot be read ({reason}): check its disk, or leave it out"
        ) from error


@contextmanager
def _explaining() -> Iterator[None]:
    """Add the remedy to errors of libsndfile."""
    try:
        yield
    except (soundfile.SoundFileError, OverflowError, MemoryError) as error:
        # soundfile has no text of its own for an error in mid-file.
        reason = str(getattr(error, "error_string", error) or "it cannot be read")
        raise BadClipError(
            f"cannot be decoded ({reason.strip().rstrip('.')}): convert it to WAV or "
            "FLAC, or leave it out"
        ) from error


def _read(
    source: str | bytes | BytesIO,
    sample_rate: float,
    channel: Channel,
    span: Span,
) -> Recording:
    """Read what libsndfile opens: the name of a file, or its content."""
    with _explaining():
        signal, file_rate, channels, compressed = _decode(source, channel, span)
    if isinstance(channel, ChannelPair):
        signal = _combine(signal, channel)
    samples = _resample(_check_samples(signal), file_rate, sample_rate)
    return Recording(samples, sample_rate, signal, file_rate, channels, compressed)


def read_array(
    samples: np.ndarray, array_rate: float | None, sample_rate: float
) -> np.ndarray:
    """Check an array of samples and bring it to the wanted sample rate.

    Parameters
    ----------
    samples : array-like of shape (n_samples,)
        Floats in [-1, 1], or int16 / int32 as sound files store them, which are
        divided by their full scale, 2**15 / 2**31.

    array_rate : float or None
        The array's sample rate in Hz; None takes it to be `sample_rate`.

    sample_rate : float > 0
        Wanted sample rate in Hz.

    Returns
    -------
    samples : ndarray of shape (n_samples,), float32
        The samples at `sample_rate`.

    Raises
    ------
    BadClipError
        As in :func:`read_file`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio import read_array
    >>> read_array(np.array([0, 16384, -32768], dtype=np.int16), None, 16000)
    array([ 0. ,  0.5, -1. ], dtype=float32)
    """
    return open_array(samples, array_rate, sample_rate).samples


def open_array(
    samples: np.ndarray,
    array_rate: float | None,
    sample_rate: float,
    span: Span = WHOLE,
    pair: ChannelPair | None = None,
) -> Recording:
    """Read an array, so that it can be measured too; see :func:`read_array`.

    Parameters
    ----------
    samples, array_rate, sample_rate : any
        See :func:`read_array`.

    span : Span, default=Span(0.0, inf)
        Part to read.

    pair : ChannelPair, default=None
        Combines the channels of samples of shape (n_samples, n_channels).

    Returns
    -------
    recording : Recording
        Its samples, and what they came from.

    Raises
    ------
    BadClipError
        See :func:`read_array`.
    """
    samples = _as_vector(samples) if pair is None else _as_channels(samples)
    if array_rate is None:
        array_rate = sample_rate
    if not span.is_whole:
        _check_rate(array_rate)
        samples = samples[slice(*span.to_samples(len(samples), array_rate))]
    if pair is None:
        signal = _check_samples(as_floats(samples))
    else:
        signal = _combine(np.stack(list(map(as_floats, samples.T)), axis=1), pair)
    samples = _resample(signal, array_rate, sample_rate)
    return Recording(samples, sample_rate, signal, array_rate)


def as_floats(samples: Any) -> np.ndarray:
    """Give samples their usual form, and leave open whether they are sound.

    Parameters
    ----------
    samples : array-like of shape (n_samples,)
        See :func:`read_array`.

    Returns
    -------
    samples : ndarray of shape (n_samples,), float32
        In [-1, 1] where they are sound.

    Raises
    ------
    BadClipError
        If they are of another shape or type.
    """
    samples = _as_vector(samples)
    if samples.dtype.kind == "i" and samples.itemsize in (2, 4):
        samples = samples / np.float32(-np.iinfo(samples.dtype).min)
    elif samples.dtype.kind != "f":
        raise BadClipError(
            f"has samples of type {samples.dtype}; pass floats in [-1, 1], int16 or "
            "int32"
        )
    with np.errstate(over="ignore"):  # overflow becomes infinity, which is no sound
        return samples.astype(np.float32, copy=False)


def _as_vector(samples: Any) -> np.ndarray:
    samples = np.asarray(fill_masked(samples))
    if samples.ndim != 1:
        raise BadClipError(
            f"has an array of shape {samples.shape}; one clip is a 1-D array: "
            "average the channels or take one"
        )
    return samples


def _as_channels(samples: Any) -> np.ndarray:
    samples = np.asarray(fill_masked(samples))
    if samples.ndim == 1:
        return samples[:, None]
    if samples.ndim != 2 or 0 < len(samples) < samples.shape[1]:
        raise BadClipError(
            f"has an array of shape {samples.shape}; several channels have the shape "
            "(n_samples, n_channels): transpose it"
        )
    return samples


def _combine(samples: np.ndarray, pair: ChannelPair) -> np.ndarray:
    """Combine the channels of a whole recording, (n_samples, n_channels)."""
    n_samples, n_channels = samples.shape
    if n_channels <= max(pair.near, pair.far):
        raise BadClipError(
            f"has {n_channels} channel(s), and NoiseCanceller needs the channels "
            f"near={pair.near} and far={pair.far}, counted from 0: record with two "
            "microphones, or leave NoiseCanceller out"
        )
    for channel in (pair.near, pair.far):
        _check_samples(samples[:, channel])
    if n_samples < (least := MIN_WINDOWS * pair.n_fft):
        raise BadClipError(
            f"has {n_samples} samples, and NoiseCanceller needs {least} to tell noise "
            f"from the machine, {MIN_WINDOWS} times n_fft={pair.n_fft}: lower n_fft"
        )
    return pair.combine(samples)


def _refuse_unless_a_file(path: str | os.PathLike[str]) -> None:
    """Check a path first, as libsndfile's messages are less clear."""
    path = Path(path)
    refusal = "is not readable: give this user permission, or leave it out"
    try:
        status = path.stat()
    except PermissionError as error:
        raise BadClipError(refusal) from error
    except (OSError, ValueError) as error:  # no such file, or an impossible name
        target = (
            f", a link to {shorten(os.readlink(path))}" if os.path.islink(path) else ""
        )
        raise MissingClipError(
            f"does not exist: check the path {shorten(os.fspath(path))}{target}"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise BadClipError("is a folder; pass its files, or load_clips(folder)")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe may wait forever
        raise BadClipError("is a pipe or a device, not a file: leave it out")
    if status.st_size == 0:
        raise BadClipError("is an empty file of 0 bytes: leave it out")
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise BadClipError(refusal) from error


def _decode(
    source: str | bytes | BytesIO, channel: Channel, span: Span
) -> tuple[np.ndarray, float, Channels | None, bool]:
    """Read one channel, the channels' average, or all for a pair, and about them."""
    with _open(source) as (file, content):
        decoded = _read_blocks(file, channel, span)
    if content is not None and not is_whole_flac(content):
        raise BadClipError(
            "cannot be decoded (it was cut short or is damaged): copy it again, or "
            "leave it out"
        )
    return decoded


@contextmanager
def _open(
    source: str | bytes | BytesIO,
) -> Iterator[tuple[soundfile.SoundFile, bytes | None]]:
    """Open a file; one without a length in its header is a stream, with its content."""
    with soundfile.SoundFile(source) as file:
        if 0 < file.frames < UNKNOWN_LENGTH:
            yield file, None
            return
        is_unfinished = file.frames == 0
    content = _content(source)
    if is_unfinished:
        finished = finish_wav(content)
        if finished is None:
            raise BadClipError(_describe_empty(len(content)))
        content = finished
    with SoundStream(BytesIO(content)) as file:
        yield file, content


def _content(source: str | bytes | BytesIO) -> bytes:
    if isinstance(source, BytesIO):
        return source.getvalue()
    return Path(os.fsdecode(source)).read_bytes()


def _describe_empty(n_bytes: int) -> str:
    """Tell an empty recording from one that its header calls empty."""
    if n_bytes <= _LARGE_HEADER:
        return "holds no samples: leave it out"
    return (
        f"holds no samples according to its header, although it has {n_bytes:,} bytes: "
        "if its recorder was stopped before it finished the file, convert it with a "
        "program that ignores the header's length, or leave it out"
    )


def _read_blocks(
    file: soundfile.SoundFile, channel: Channel, span: Span
) -> tuple[np.ndarray, float, Channels | None, bool]:
    compressed = file.subtype.startswith(_LOSSY)
    if isinstance(channel, ChannelPair):
        none = np.empty((0, file.channels), dtype=np.float32)
        blocks = np.concatenate([none, *_read_span(file, span)])
        return blocks, file.samplerate, None, compressed
    kept = []
    channels = Channels() if channel == "mix" and file.channels > 1 else None
    for block in _read_span(file, span):
        if channels is not None:
            channels.add(block)
        kept.append(_choose_channel(block, channel))
    samples = np.empty(0, dtype=np.float32)
    if kept:
        samples = kept[0] if len(kept) == 1 else np.concatenate(kept)
    return samples, file.samplerate, channels, compressed


def _read_span(file: soundfile.SoundFile, span: Span) -> Iterator[np.ndarray]:
    """Read a part of a file, block by block."""
    if span.is_whole:
        yield from _blocks(file)
        return
    if isinstance(file, SoundStream):  # its length is known at its end
        yield from _cut_stream(file, span)
        return
    first, last = span.to_samples(file.frames, file.samplerate)
    file.seek(first)
    n_read = 0
    for block in _blocks(file, last - first):
        n_read += len(block)
        yield block
    if n_read < last - first:
        raise BadClipError(
            "cannot be decoded (it was cut short or is damaged): copy it again, or "
            "leave it out"
        )


def _cut_stream(stream: SoundStream, span: Span) -> Iterator[np.ndarray]:
    """Read all of a stream, and give a part of it."""
    blocks = list(_blocks(stream))
    n_samples = sum(map(len, blocks))
    first, last = span.to_samples(n_samples, stream.samplerate)
    at = 0
    for block in blocks:
        part = block[max(0, first - at) : max(0, last - at)]
        at += len(block)
        if len(part):
            yield part


def _blocks(
    file: soundfile.SoundFile, n_samples: int | None = None
) -> Iterator[np.ndarray]:
    """Read the next samples, or all that follow."""
    size = max(1, _SAMPLES_AT_ONCE // file.channels)
    n_left = file.frames if n_samples is None else n_samples
    # libsndfile takes six times as long to make floats of them, which are the same.
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    while n_left and len(block := file.read(min(size, n_left), dtype, always_2d=True)):
        n_left -= len(block)
        if dtype == "int16":
            block = np.multiply(block, np.float32(2**-15), dtype=np.float32)
        yield block


def _choose_channel(samples: np.ndarray, channel: Literal["mix"] | int) -> np.ndarray:
    n_channels = samples.shape[1]
    if channel == "mix":
        with np.errstate(invalid="ignore", over="ignore"):  # NaN is reported later
            return samples[:, 0] if n_channels == 1 else samples.mean(axis=1)
    if not 0 <= channel < n_channels:
        raise BadClipError(
            f"has {n_channels} channel(s), and channel={channel} counts from 0: "
            f'choose at most {n_channels - 1}, or "mix"'
        )
    return np.ascontiguousarray(samples[:, channel])


def _check_samples(samples: np.ndarray) -> np.ndarray:
    if samples.size == 0:
        raise BadClipError("holds no samples: leave it out")
    # Both are NaN if a sample is.
    if not (samples.min() >= -MAX_AMPLITUDE and samples.max() <= MAX_AMPLITUDE):
        first = int(np.argmin(np.abs(samples) <= MAX_AMPLITUDE))
        raise BadClipError(
            f"holds {samples[first]:g} at sample {first} of {samples.size}, which is "
            "not sound: repair it or leave it out"
        )
    return samples


def _check_rate(rate: float) -> None:
    if not 0 < rate <= _MAX_SAMPLE_RATE:
        raise BadClipError(
            f"has the impossible sample rate {rate:g} Hz: correct it, or leave "
            "the clip out"
        )


def _resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample downwards; upwards would leave the upper bands silent."""
    if from_rate == to_rate:
        return samples
    _check_rate(from_rate)
    if from_rate < to_rate:
        raise BadClipError(
            f"is sampled at {from_rate:g} Hz, below sample_rate={to_rate:g}, so its "
            "upper frequencies are missing and would look anomalous: set "
            f"sample_rate={from_rate:g} for all clips, or leave it out"
        )
    return resample(samples, from_rate, to_rate)
