"""Remarks on recordings that cannot be compared with those of training.

A wrong gain, a clipped input, a compressed file or a pulled plug sounds anomalous, and
no machine is at fault. Facts are measured on each recording as it is read. Their limits
are the lowest and the highest value among the training recordings of a machine; a
remark says what lies far outside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import scipy.fft

__all__ = [
    "FACTS",
    "Channels",
    "condition_of",
    "find_copies",
    "is_cancelled",
    "is_silent",
    "make_remark",
    "measure_recording",
]

_N_BANDS = 16  # of equal width, from 0 Hz to half of the sample rate
_N_FFT = 2048
_BLOCKS_AT_ONCE = 128  # so that memory is bounded, however long the recording
_WINDOW = np.hanning(_N_FFT).astype(np.float32)
_WINDOW_POWER = float(np.sum(_WINDOW**2))
_BANDS = tuple(f"band_{number:02d}" for number in range(_N_BANDS))
_RELATIVE_BANDS = tuple(f"relative_{band}" for band in _BANDS)

FACTS = (
    "duration",  # s
    "sample_rate",  # Hz, of the file
    "compressed",  # 1 for lossy formats such as MP3
    "level",  # dB: root mean square without offset, relative to full scale
    "offset",  # mean of the samples, relative to full scale
    "cancellation",  # dB: level of the mix relative to that of its channels
    "silent_channels",  # number of channels of constant samples beside others
    "clipped",  # share of samples that stay at the largest or smallest value
    "held",  # s in which samples do not change for 5 ms or longer
    "analysed_rate",  # Hz, of the bands
    *_BANDS,  # dB: level of each band
    *_RELATIVE_BANDS,  # dB: the same relative to the level
)
"""Names of what is measured on each recording, and its unit."""

_LEVEL = FACTS.index("level")

_SILENCE = -90.0  # dB; 16 bits resolve -96 dB
_FLOOR = 1e-10  # amplitude of what is nothing, so that it has a level
_CEILING = 1e15  # amplitude beyond which levels are not finite in float32
_HELD = 0.005  # s; shorter runs of equal samples occur in quiet recordings

# How far beyond the limits a recording must lie for a remark. Normal recordings of a
# machine differ from day to day by less, and faults rarely by so much.
_LEVEL_MARGIN = 6.0  # dB
_BAND_MARGIN = 20.0  # dB
_DURATION_MARGIN = 0.1  # share
_OFFSET_MARGIN = 0.1  # of the recording's amplitude
_CLIPPED_MARGIN = 1e-4
_HELD_MARGIN = 0.02  # s
_CANCELLATION = -20.0  # dB; unrelated channels lose 3 dB, and one of two at most 6


class Channels:
    """What is measured on each channel, block by block, before channels are mixed."""

    def __init__(self) -> None:
        self._n_samples = 0
        self._power = 0.0
        self._first: list[float] = []
        self._is_constant: list[bool] = []

    def add(self, block: np.ndarray) -> None:
        """Measure the next samples.

        Parameters
        ----------
        block : ndarray of shape (n_samples, n_channels), float32
            One sample at least.
        """
        if not self._first:
            self._first = block[0].tolist()
            self._is_constant = [True] * len(self._first)
        self._n_samples += len(block)
        for number, channel in enumerate(block.T):
            self._power += _sum_of_squares(channel) / len(self._first)
            if self._is_constant[number]:
                self._is_constant[number] = bool((channel == self._first[number]).all())

    def mean_power(self) -> float:
        """Average the power of all channels so far.

        Returns
        -------
        power : float
            0 before the first samples.
        """
        return self._power / max(1, self._n_samples)

    def count_silent(self) -> int:
        """Count constant channels, if others are not.

        Returns
        -------
        n_silent : int
            0 if all are constant.
        """
        return 0 if all(self._is_constant) else sum(self._is_constant)


def measure_recording(
    signal: np.ndarray,
    file_rate: float,
    samples: np.ndarray,
    sample_rate: float,
    channels: Channels | None = None,
    compressed: bool = False,
) -> np.ndarray:
    """Measure the facts of a recording.

    Parameters
    ----------
    signal : ndarray of shape (n_samples,), float32
        The recording as it was made: the mix of its channels, or the chosen one.

    file_rate : float
        Its sample rate in Hz.

    samples : ndarray of shape (n_analysed,), float32
        What is analysed, at `sample_rate`.

    sample_rate : float
        In Hz.

    channels : Channels or None, default=None
        What was measured on the channels of a mix; None if there was one.

    compressed : bool, default=False
        Whether the file's format is lossy.

    Returns
    -------
    facts : ndarray of shape (n_facts,), float64
        In the order of `FACTS`. Levels of bands are NaN where the recording is shorter
        than 2048 samples.
    """
    power, offset = _sum_of_squares(signal) / len(signal), float(signal.mean())
    rest = power - offset**2
    if rest < 0.01 * power:  # little is left, and much of it is rounding
        rest = _sum_of_squares(signal - np.float32(offset)) / len(signal)
    level = _as_decibels(rest)
    cancellation, n_silent = 0.0, 0
    if channels is not None:
        cancellation = _as_decibels(power) - _as_decibels(channels.mean_power())
        n_silent = channels.count_silent()
    bands = _measure_bands(samples)
    return np.array(
        [
            len(signal) / file_rate,
            file_rate,
            compressed,
            level,
            offset,
            cancellation,
            n_silent,
            _clipped_share(signal),
            _count_held(signal, _HELD * file_rate) / file_rate,
            sample_rate,
            *bands,
            *(bands - level),
        ]
    )


def _sum_of_squares(samples: np.ndarray) -> float:
    # In float32, which is exact enough for decibels, and three times as fast.
    with np.errstate(all="ignore"):  # who checks the samples reports what is no sound
        return float(np.dot(samples, samples))


def _as_decibels(power: float) -> float:
    return 10 * math.log10(min(max(power, _FLOOR**2), _CEILING**2))


def _clipped_share(samples: np.ndarray) -> float:
    """Share of samples that equal the extreme, and so does the one before."""
    low, high = samples.min(), samples.max()
    if low == high:
        return 0.0
    extreme = [samples == limit for limit in (low, high)]
    return sum(np.count_nonzero(at[1:] & at[:-1]) for at in extreme) / len(samples)


def _count_held(samples: np.ndarray, n_least: float) -> int:
    """Count samples in runs of equal ones that are so long."""
    moves = (samples[1:] != samples[:-1]).tobytes()
    n_still = max(1, math.ceil(n_least) - 1)
    first = moves.find(bytes(n_still))  # most recordings have none, and this is fast
    if first < 0:
        return 0
    runs = re.compile(rb"\0{%d,}" % n_still).finditer(moves, first)
    return sum(run.end() - run.start() + 1 for run in runs)


def _measure_bands(samples: np.ndarray) -> np.ndarray:
    """Levels of the bands in dB."""
    n_blocks = len(samples) // _N_FFT
    if n_blocks == 0:
        return np.full(_N_BANDS, np.nan)
    blocks = samples[: n_blocks * _N_FFT].reshape(n_blocks, _N_FFT)
    power = np.zeros(_N_FFT + 2)
    for start in range(0, n_blocks, _BLOCKS_AT_ONCE):
        windowed = blocks[start : start + _BLOCKS_AT_ONCE] * _WINDOW
        parts = scipy.fft.rfft(windowed, axis=1).view(np.float32)
        power += np.einsum("ij,ij->j", parts, parts)  # of real and imaginary parts
    of_bands = 2 * power[2:].reshape(_N_BANDS, -1).sum(axis=1) / n_blocks
    return 10 * np.log10(of_bands / (_N_FFT * _WINDOW_POWER) + _FLOOR**2)


def is_silent(facts: np.ndarray) -> np.ndarray:
    """Whether recordings hold no sound.

    Parameters
    ----------
    facts : ndarray of shape (..., n_facts)
        Of the recordings.

    Returns
    -------
    silent : ndarray of shape (...), bool
        Whether the level is below -90 dB.
    """
    return facts[..., _LEVEL] < _SILENCE


def is_cancelled(facts: np.ndarray) -> np.ndarray:
    """Whether the channels of recordings cancel each other in the mix.

    Parameters
    ----------
    facts : ndarray of shape (..., n_facts)
        Of the recordings.

    Returns
    -------
    cancelled : ndarray of shape (...), bool
        Whether the mix is more than 20 dB below its channels.
    """
    return facts[..., FACTS.index("cancellation")] < _CANCELLATION


def find_copies(facts: np.ndarray) -> list[np.ndarray]:
    """Find recordings that are copies of each other.

    Parameters
    ----------
    facts : ndarray of shape (n_clips, n_facts)
        Of the recordings.

    Returns
    -------
    copies : list of ndarray of int
        Rows of each group of two or more recordings with sound that have all facts in
        common.
    """
    sound = np.flatnonzero(facts[:, _LEVEL] >= _SILENCE)  # not NaN
    _, group = np.unique(facts[sound], axis=0, return_inverse=True, equal_nan=True)
    groups = [sound[group == one] for one in range(group.max(initial=-1) + 1)]
    return [rows for rows in groups if len(rows) > 1]


def condition_of(remark: str) -> str:
    """Tell from a remark whether the machine can be judged by the recording.

    Parameters
    ----------
    remark : str
        As :func:`make_remark` writes it.

    Returns
    -------
    condition : {"", "stopped", "bad audio"}
        "stopped" if the recording is far quieter than those of training. "bad audio" if
        it has no sound, is clipped, or has an offset, dropouts, no sound in a channel
        or in upper bands. "" if the machine can be judged: what is louder, longer or
        shorter, or of another format may be a fault, or sounds much the same.
    """
    # A quiet recording has dropouts and offsets too, relative to its level.
    for condition, pattern in _CONDITIONS:
        if pattern.search(remark):
            return condition
    return ""


_CONDITIONS = (
    ("stopped", re.compile(r"dB quieter than all training recordings")),
    (
        "bad audio",
        re.compile(
            r"no sound|the channels cancel|clipped:|offset of|dropouts:|nothing above"
        ),
    ),
)


def make_remark(facts: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Say why a recording cannot be compared with those of training.

    Parameters
    ----------
    facts : ndarray of shape (n_facts,)
        Of the recording.

    low, high : ndarray of shape (n_facts,)
        Lowest and highest value of each fact among the training recordings.

    Returns
    -------
    remark : str
        Phrases with their values, separated by "; ". Empty if it can be compared.
    """
    given, low_of, high_of = (
        dict(zip(FACTS, values.tolist(), strict=True)) for values in (facts, low, high)
    )
    if is_cancelled(facts) and not low_of["cancellation"] < _CANCELLATION:
        return (
            f"the channels cancel each other ({given['cancellation']:.0f} dB): take "
            "one of them"
        )
    if is_silent(facts):
        return "no sound: is the microphone off, muted or unplugged?"
    if np.isnan(facts[_LEVEL] + low[_LEVEL]):  # not measured, here or in training
        return ""
    phrases = [rule(given, low_of, high_of) for rule in _RULES]
    return "; ".join(phrase for phrase in phrases if phrase)


Facts = dict[str, float]


def _find_silent_channels(given: Facts, low: Facts, high: Facts) -> str:
    n_silent = int(given["silent_channels"])
    if n_silent <= high["silent_channels"]:
        return ""
    return f"no sound in {n_silent} of the channels: take the other"


def _find_level(given: Facts, low: Facts, high: Facts) -> str:
    quieter, louder = low["level"] - given["level"], given["level"] - high["level"]
    if max(quieter, louder) <= _LEVEL_MARGIN:
        return ""
    how = f"{quieter:.0f} dB quieter" if quieter > 0 else f"{louder:.0f} dB louder"
    return f"{how} than all training recordings: another gain or place?"


def _find_clipping(given: Facts, low: Facts, high: Facts) -> str:
    if given["clipped"] <= 3 * high["clipped"] + _CLIPPED_MARGIN:
        return ""
    return f"clipped: {100 * given['clipped']:.2g} % of the samples are at the limit"


def _find_offset(given: Facts, low: Facts, high: Facts) -> str:
    distance = max(low["offset"] - given["offset"], given["offset"] - high["offset"])
    amplitude = 10 ** (given["level"] / 20)
    spread = high["offset"] - low["offset"]
    if distance <= max(spread, _OFFSET_MARGIN * amplitude):
        return ""
    return f"offset of {given['offset']:.2g} of full scale"


def _find_dropouts(given: Facts, low: Facts, high: Facts) -> str:
    if given["held"] <= 2 * high["held"] + _HELD_MARGIN:
        return ""
    return f"dropouts: samples do not change for {given['held']:.2g} s"


def _find_rate(given: Facts, low: Facts, high: Facts) -> str:
    value = given["sample_rate"]
    if low["sample_rate"] <= value <= high["sample_rate"]:
        return ""
    usual = _write_range(low["sample_rate"], high["sample_rate"])
    return f"recorded at {value:g} Hz, the training recordings at {usual} Hz"


def _find_compression(given: Facts, low: Facts, high: Facts) -> str:
    if given["compressed"] <= high["compressed"]:
        return ""
    return "a compressed format, unlike the training recordings"


def _find_bandwidth(given: Facts, low: Facts, high: Facts) -> str:
    """Find bands up to the highest that are far too weak, also for the level."""
    weak = [
        max(given[band] - low[band], given[relative] - low[relative]) < -_BAND_MARGIN
        for band, relative in zip(_BANDS, _RELATIVE_BANDS, strict=True)
    ]
    n_heard = max((n + 1 for n, is_weak in enumerate(weak) if not is_weak), default=0)
    if n_heard == _N_BANDS:
        return ""
    edge = n_heard / _N_BANDS * given["analysed_rate"] / 2
    return (
        f"nothing above {edge / 1000:.1f} kHz, where the training recordings have "
        "sound: compressed or upsampled?"
    )


def _find_length(given: Facts, low: Facts, high: Facts) -> str:
    value, shortest, longest = given["duration"], low["duration"], high["duration"]
    inside = shortest * (1 - _DURATION_MARGIN) <= value
    if inside and value <= longest * (1 + _DURATION_MARGIN):
        return ""
    usual = _write_range(shortest, longest)
    return f"{value:.3g} s long, the training recordings {usual} s"


def _write_range(low: float, high: float) -> str:
    return f"{low:.5g}" if low == high else f"{low:.5g} to {high:.5g}"


# In the order in which remarks are read: what makes others follow comes first.
_RULES: tuple[Callable[[Facts, Facts, Facts], str], ...] = (
    _find_silent_channels,
    _find_level,
    _find_clipping,
    _find_offset,
    _find_dropouts,
    _find_rate,
    _find_compression,
    _find_bandwidth,
    _find_length,
)
