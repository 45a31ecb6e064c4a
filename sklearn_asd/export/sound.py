"""From samples to segments, as torch modules for a graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sklearn_asd.features import LogMelSegmenter
from sklearn_asd.features.logmel import MIN_POWER, hann_window, mel_filters
from sklearn_asd.features.spectrograms import SEGMENT_FRAMES

__all__ = ["LogMelSegments"]


class LogMelSegments(nn.Module):
    """What a :class:`LogMelSegmenter` does to the samples of one clip.

    Parameters
    ----------
    segmenter : LogMelSegmenter
        Its settings.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, segmenter: LogMelSegmenter) -> None:
        super().__init__()
        self.sample_rate = float(segmenter.sample_rate)
        self.n_fft, self.hop_length = segmenter.n_fft, segmenter.hop_length
        self.segment_frames, self.segment_hop_frames = segmenter.segment_frames()
        self.half = segmenter.dtype == "float16"
        filters = mel_filters(
            segmenter.sample_rate,
            segmenter.n_fft,
            segmenter.n_mels,
            segmenter.fmin,
            segmenter.fmax,
        )
        self.register_buffer("window", torch.from_numpy(hann_window(self.n_fft)))
        self.register_buffer("filters", torch.from_numpy(filters.toarray().T.copy()))

    def n_samples(self, n_segments: int) -> int:
        """Tell how long a clip must be.

        Parameters
        ----------
        n_segments : int
            Wanted number of segments; whole clips get as many frames as a segment has
            by default.

        Returns
        -------
        n_samples : int
            Of the shortest such clip.
        """
        if self.segment_frames is None:
            return SEGMENT_FRAMES * self.hop_length
        n_frames = self.segment_frames + (n_segments - 1) * self.segment_hop_frames
        return n_frames * self.hop_length + self.n_fft

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Cut a clip into segments.

        Parameters
        ----------
        waveform : tensor of shape (n_samples,), float32
            Samples in [-1, 1].

        Returns
        -------
        segments : tensor of shape (n_segments, n_mels, n_frames), float32
            In dB.
        """
        frames = self._log_mel(waveform)
        if self.half:
            frames = frames.half().float()
        if self.segment_frames is None:
            return frames.T.unsqueeze(0)
        spare = frames.shape[0] - self.segment_frames
        n_segments = spare // self.segment_hop_frames + 1
        starts = torch.arange(n_segments) * self.segment_hop_frames
        rows = starts[:, None] + torch.arange(self.segment_frames)
        return frames[rows].transpose(1, 2)

    def _log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log-mel power in dB, (n_frames, n_mels); the FFT in float64, as there."""
        padded = functional.pad(waveform, (self.n_fft // 2, self.n_fft // 2)).double()
        n_frames = (padded.shape[0] - self.n_fft) // self.hop_length + 1
        starts = torch.arange(n_frames) * self.hop_length
        windows = padded[starts[:, None] + torch.arange(self.n_fft)] * self.window
        spectrum = torch.fft.rfft(windows)
        power = spectrum.real.float().square() + spectrum.imag.float().square()
        return 10 * torch.log10((power @ self.filters).clamp_min(MIN_POWER))
