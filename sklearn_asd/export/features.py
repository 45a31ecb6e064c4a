"""Transformers as torch modules: from samples to spectrograms and rows of numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from sklearn_asd.audio.windows import hann_window
from sklearn_asd.export.pooling import make_pooling
from sklearn_asd.features import LogMelSegmenter, PowerSpectrum, SpectrumStatistics
from sklearn_asd.features.logmel import MIN_POWER, RESOLVED, mel_filters
from sklearn_asd.features.power_spectrum import MIN_DENSITY, band_filters

__all__ = [
    "TRACED_FRAMES",
    "LogMel",
    "Scale",
    "Spectrogram",
    "Statistics",
    "Welch",
    "count_up",
]

# Mel bands computed at once: the less there are, the fewer bins they reach.
_BANDS_AT_ONCE = 32

# Frames of the whole clip that torch traces.
TRACED_FRAMES = 96


def count_up(least: int, n: int) -> torch.Tensor:
    """Count from 0, so many numbers as a clip's length asks for, and some at least.

    Torch takes it for granted that a clip has two samples or more, so a graph's
    ``max(n, least)`` may be missing. But a range whose end lies before its start is
    empty in every runtime.

    Parameters
    ----------
    least : int
        How many numbers there are at least.

    n : int
        How many are wanted.

    Returns
    -------
    numbers : tensor of shape (max(n, least),), int64
        0, 1, 2, ...
    """
    more = torch.arange(least, torch.sym_max(n, least))
    return torch.cat([torch.arange(least), more])


class Spectrogram(NamedTuple):
    """The log-mel of one clip.

    Attributes
    ----------
    frames : tensor of shape (n_frames, n_mels), float32
        All frames, in dB.

    segments : tensor of shape (n_segments, n_mels, segment_frames), float32
        The segments that networks classify; at least one, as runtimes stop at the
        largest value of nothing.

    has_segment : tensor of shape (), bool
        False for a clip shorter than a segment. What is computed of it becomes NaN.
    """

    frames: torch.Tensor
    segments: torch.Tensor
    has_segment: torch.Tensor


class LogMel(nn.Module):
    """What a :class:`LogMelSegmenter` does to the samples of one clip.

    Parameters
    ----------
    segmenter : LogMelSegmenter
        Its settings.
    """

    def __init__(self, segmenter: LogMelSegmenter) -> None:
        super().__init__()
        self.sample_rate = float(segmenter.sample_rate)
        self.n_fft, self.hop_length = segmenter.n_fft, segmenter.hop_length
        self.segment_frames, self.segment_hop_frames = segmenter.segment_frames()
        self.is_half = segmenter.dtype == "float16"
        names = ("sample_rate", "n_fft", "n_mels", "fmin", "fmax")
        filters = mel_filters(*(getattr(segmenter, name) for name in names)).toarray()
        self.window = torch.from_numpy(hann_window(self.n_fft))
        self.bands = _Bands(filters)
        self.fourier = _Fourier(self.n_fft)
        least = np.float32(RESOLVED) * filters.sum(axis=1, dtype=np.float32)
        self.least = torch.from_numpy(least)

    def n_samples(self, n_segments: int) -> int:
        """Count the samples of the shortest clip with some segments.

        Parameters
        ----------
        n_segments : int
            Number of segments; whole clips get some frames, whatever the rate.

        Returns
        -------
        n_samples : int
            Number of samples.
        """
        if self.segment_frames is None:
            return TRACED_FRAMES * self.hop_length
        n_frames = self.segment_frames + (n_segments - 1) * self.segment_hop_frames
        return n_frames * self.hop_length + self.n_fft

    def forward(
        self, waveform: torch.Tensor, machine: torch.Tensor | None = None
    ) -> Spectrogram:
        """Compute the spectrogram, and cut it into segments.

        Parameters
        ----------
        waveform : tensor of shape (n_samples,), float32
            Samples in [-1, 1].

        machine : tensor, default=None
            Not used.

        Returns
        -------
        spectrogram : Spectrogram
            Of the clip.
        """
        frames = self._log_mel(waveform)
        if self.is_half:
            frames = frames.half().float()
        if self.segment_frames is None:
            return Spectrogram(frames, frames.T.unsqueeze(0), torch.tensor(True))
        n_frames = frames.shape[0]
        spare = n_frames - self.segment_frames
        # At least one. Below 0, runtimes do not divide as Python does.
        starts = count_up(1, spare // self.segment_hop_frames + 1)
        rows = starts[:, None] * self.segment_hop_frames
        rows = rows + torch.arange(self.segment_frames)
        padded = functional.pad(frames, (0, 0, 0, self.segment_frames))
        has_segment = torch.tensor(self.segment_frames) <= n_frames
        return Spectrogram(frames, padded[rows].transpose(1, 2), has_segment)

    def _log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log-mel power in dB, (n_frames, n_mels), in two precisions as there."""
        windows = self._cut(waveform)
        power = self.fourier(windows * self.window.float()[:, None])
        mel = self.bands(power).clamp_min(MIN_POWER)
        hidden = mel < power.sum(dim=0) / len(power) * self.least[:, None]
        # At least one, as runtimes stop at a spectrum of nothing.
        rows = torch.cat([torch.tensor([0]), hidden.any(dim=0).nonzero()[:, 0]])
        some = windows.index_select(1, rows).double() * self.window[:, None]
        spectrum = torch.fft.rfft(some.T)
        power = spectrum.real.float().square() + spectrum.imag.float().square()
        exact = self.bands(power.T).clamp_min(MIN_POWER)
        return 10 * torch.log10(mel.T.index_copy(0, rows, exact.T))

    def _cut(self, waveform: torch.Tensor) -> torch.Tensor:
        """Cut a clip into windows, (n_fft, n_frames)."""
        half = self.n_fft // 2
        # Runtimes copy pieces, of which windows are made up, faster than samples.
        size = math.gcd(self.n_fft, self.hop_length)
        n_frames = (waveform.shape[0] + 2 * half - self.n_fft) // self.hop_length + 1
        starts = count_up(1, n_frames) * (self.hop_length // size)
        # Enough on the right for one frame of no samples, and for a whole last piece.
        n_right = self.n_fft - half + size
        padded = functional.pad(waveform, (half, n_right))
        n_pieces = padded.shape[0] // size
        pieces = padded[: n_pieces * size].reshape(n_pieces, size)
        windows = pieces[torch.arange(self.n_fft // size)[:, None] + starts]
        return windows.transpose(1, 2).reshape(self.n_fft, starts.shape[0])


class _Bands(nn.Module):
    """Power of mel bands, computed of those bins that some of them reach.

    Parameters
    ----------
    filters : ndarray of shape (n_mels, n_bins), float32
        Weight of each bin in each band.
    """

    def __init__(self, filters: np.ndarray) -> None:
        super().__init__()
        self.parts = []
        for start in range(0, len(filters), _BANDS_AT_ONCE):
            part = filters[start : start + _BANDS_AT_ONCE]
            bins = np.flatnonzero(part.any(axis=0))
            first, last = (bins[0], bins[-1] + 1) if bins.size else (0, 1)
            weights = torch.from_numpy(part[:, first:last].copy())
            self.parts.append((int(first), int(last), weights))

    def forward(self, power: torch.Tensor) -> torch.Tensor:
        """Compute the power of the bands.

        Parameters
        ----------
        power : tensor of shape (n_bins, n_windows), float32
            Power of each bin.

        Returns
        -------
        mel : tensor of shape (n_mels, n_windows), float32
            Power of each band.
        """
        return torch.cat([part @ power[a:b] for a, b, part in self.parts])


class _Fourier(nn.Module):
    """Power of each bin of some windows, by two products of matrices.

    Runtimes multiply matrices at full speed, and are slow at their own Fourier
    transform. With n = B n1 + n2 and k = k1 + A k2, where n_fft = A B, the transform is
    one over n1 followed by one over n2, which differs for each k1 (Cooley and Tukey).

    Parameters
    ----------
    n_fft : int
        Samples of a window.
    """

    def __init__(self, n_fft: int) -> None:
        super().__init__()
        # Most work is done if A is twice B, as half of all k1 are enough: bins above
        # half of the sample rate mirror those below.
        sizes = [size for size in range(1, n_fft + 1) if n_fft % size == 0]
        self.n_first = min(sizes, key=lambda size: (size + 2 * n_fft // size, -size))
        self.n_second = n_fft // self.n_first
        k1 = np.arange(self.n_first // 2 + 1)
        k2 = n2 = np.arange(self.n_second)
        first = _rotate(k1[:, None] * np.arange(self.n_first) / self.n_first)
        bins = k1[:, None] + self.n_first * k2
        second = _rotate(bins[:, :, None] * n2 / n_fft)
        # Of real samples: the real part, then the imaginary part.
        self.first = _as_tensor(np.stack([first.real, first.imag], axis=1))
        # Of complex numbers: the real part of the result, then the imaginary part.
        self.second = _as_tensor(
            np.block([[second.real, -second.imag], [second.imag, second.real]])
        )
        mirrored = np.minimum(bins, n_fft - bins).ravel()
        _, places = np.unique(mirrored, return_index=True)
        self.places = torch.from_numpy(places)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Compute the power.

        Parameters
        ----------
        windows : tensor of shape (n_fft, n_windows), float32
            Weighted samples.

        Returns
        -------
        power : tensor of shape (n_fft // 2 + 1, n_windows), float32
            Of each bin.
        """
        n_windows = windows.shape[1]
        columns = windows.reshape(self.n_first, self.n_second * n_windows)
        halves = self.first.flatten(0, 1) @ columns
        shape = len(self.first), 2 * self.n_second, n_windows
        spectrum = self.second @ halves.reshape(shape)
        real, imaginary = spectrum.split(self.n_second, dim=1)
        # Runtimes take three times as long to square by a power.
        power = real * real + imaginary * imaginary
        return power.flatten(0, 1)[self.places]


def _rotate(turns: np.ndarray) -> np.ndarray:
    return np.exp(-2j * np.pi * turns)


def _as_tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


class Welch(nn.Module):
    """What a :class:`PowerSpectrum` does to the samples of one clip.

    Parameters
    ----------
    spectrum : PowerSpectrum
        Its settings.
    """

    def __init__(self, spectrum: PowerSpectrum) -> None:
        super().__init__()
        self.sample_rate = float(spectrum.sample_rate)
        self.n_fft, self.remove_level = spectrum.n_fft, spectrum.remove_level
        self.is_half = spectrum.dtype == "float16"
        names = ("sample_rate", "n_fft", "n_bands", "fmin", "fmax")
        filters = band_filters(*(getattr(spectrum, name) for name in names))
        self.bands = _Bands(filters.toarray())

    def n_samples(self, n_segments: int) -> int:
        """Count the samples of a clip that is not short; see `LogMel.n_samples`.

        Parameters
        ----------
        n_segments : int
            Not used, as each clip is one segment.

        Returns
        -------
        n_samples : int
            Number of samples, which makes several windows.
        """
        return 4 * self.n_fft

    def forward(
        self, waveform: torch.Tensor, machine: torch.Tensor | None = None
    ) -> Spectrogram:
        """Compute the power spectrum.

        Parameters
        ----------
        waveform : tensor of shape (n_samples,), float32
            Samples in [-1, 1].

        machine : tensor, default=None
            Not used.

        Returns
        -------
        spectrogram : Spectrogram
            One frame, which is one segment.
        """
        density = self.bands(self._density(waveform))
        level = 10 * torch.log10(density.clamp_min(MIN_DENSITY))
        if self.remove_level:
            level = level - level.mean()
        frames = level.float().unsqueeze(0)
        if self.is_half:
            frames = frames.half().float()
        return Spectrogram(frames, frames.T.unsqueeze(0), torch.tensor(True))

    def _density(self, waveform: torch.Tensor) -> torch.Tensor:
        """Mean power density; a clip shorter than the window has one of its length."""
        n_samples, hop = waveform.shape[0], self.n_fft - self.n_fft // 2
        places = torch.arange(self.n_fft)
        inside = places < n_samples
        length = inside.sum()
        # The square of a sine, as some runtimes have no cosine of double precision.
        hann = torch.sin(math.pi * places.double() / length).square()
        window = torch.where(length == 1, 1.0, hann) * inside
        # Padded, so that there is a window at each hop, and an even number of them;
        # those beyond the end are empty.
        starts = torch.arange((n_samples // hop + 2) // 2 * 2) * hop
        whole = (starts + length <= n_samples).double()
        windows = self._cut(waveform, starts // hop).double()
        windows = windows - windows.sum(1, keepdim=True) / length
        windows = windows * (whole[:, None] * window)
        # Two windows are the real and the imaginary part of one transform: the powers
        # of a bin and its mirror image add up to those of both windows in both bins.
        pairs = torch.complex(windows[0::2], windows[1::2])
        spectrum = torch.fft.fft(pairs)
        power = spectrum.real * spectrum.real + spectrum.imag * spectrum.imag
        both = power.sum(dim=0)
        bins = torch.arange(self.n_fft // 2 + 1)
        both = (both[bins] + both[(self.n_fft - bins) % self.n_fft]) / 2
        scale = 2 / (self.sample_rate * window.square().sum() * whole.sum())
        return scale * both

    def _cut(self, waveform: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Cut a clip into windows, (n_windows, n_fft), by pieces that they share."""
        hop = self.n_fft - self.n_fft // 2
        size = math.gcd(self.n_fft, hop)
        padded = functional.pad(waveform, (0, 2 * self.n_fft + size))
        n_pieces = padded.shape[0] // size
        pieces = padded[: n_pieces * size].reshape(n_pieces, size)
        rows = numbers[:, None] * (hop // size) + torch.arange(self.n_fft // size)
        return pieces[rows].flatten(1)


class Statistics(nn.Module):
    """What :class:`SpectrumStatistics` computes.

    Parameters
    ----------
    statistics : SpectrumStatistics
        Its settings.
    """

    def __init__(self, statistics: SpectrumStatistics) -> None:
        super().__init__()
        self.pool = make_pooling(statistics.statistics)

    def forward(self, sound: Spectrogram, machine: torch.Tensor) -> torch.Tensor:
        """Pool all frames over time.

        Parameters
        ----------
        sound : Spectrogram
            Of one clip.

        machine : tensor
            Not used.

        Returns
        -------
        row : tensor of shape (n_columns,), float64
            NaN where the clip has no segment.
        """
        pooled = self.pool(sound.frames.double())
        return torch.where(sound.has_segment, pooled, torch.nan)


class Scale(nn.Module):
    """What a :class:`StandardScaler` does to a row.

    Parameters
    ----------
    scaler : StandardScaler
        Fitted.
    """

    def __init__(self, scaler: StandardScaler) -> None:
        super().__init__()
        mean = scaler.mean_ if scaler.with_mean else 0.0
        scale = scaler.scale_ if scaler.with_std else 1.0
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.scale = torch.as_tensor(scale, dtype=torch.float64)

    def forward(self, row: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        """Scale a row.

        Parameters
        ----------
        row : tensor of shape (n_columns,), float64
            Numbers.

        machine : tensor
            Not used.

        Returns
        -------
        scaled : tensor of shape (n_columns,), float64
            The same, centred and scaled.
        """
        return (row - self.mean) / self.scale
