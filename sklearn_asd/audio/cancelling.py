"""Two microphones: what the far one hears is taken off what the near one hears."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft

from sklearn_asd.audio.windows import hann_window

__all__ = ["MIN_WINDOWS", "ChannelPair", "cancel_noise"]

# Windows of the shortest recording. In one window all would be taken for noise.
MIN_WINDOWS = 8

# Frames at once, so that memory is bounded, however long the recording.
_FRAMES_AT_ONCE = 256
# Power, relative to the strongest frequency, below which the far microphone hears
# nothing.
_FLOOR = 1e-10


@dataclass(frozen=True)
class ChannelPair:
    """Which channels are the two microphones, and how they are combined.

    Attributes
    ----------
    near, far : int
        The channels, counted from 0.

    n_fft : int
        Length of the windows in samples; divisible by 4.
    """

    near: int
    far: int
    n_fft: int

    def combine(self, samples: np.ndarray) -> np.ndarray:
        """Take off the near channel what the far one tells of it.

        Parameters
        ----------
        samples : ndarray of shape (n_samples, n_channels)
            A recording that has both channels.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            As of :func:`cancel_noise`.
        """
        return cancel_noise(samples[:, self.near], samples[:, self.far], self.n_fft)


def cancel_noise(near: np.ndarray, far: np.ndarray, n_fft: int) -> np.ndarray:
    """Subtract H times the far signal from the near one, in each frequency.

    Parameters
    ----------
    near, far : ndarray of shape (n_samples,), float32
        The signals of both microphones; finite.

    n_fft : int
        Length of the windows in samples; divisible by 4.

    Returns
    -------
    samples : ndarray of shape (n_samples,), float32
        The near signal, with less noise.

    Notes
    -----
    ``H = sum_t near_t conj(far_t) / sum_t |far_t|^2``, over the frames of a short-time
    Fourier transform: least squares, and the Wiener filter of the recording. It is 0
    where the far microphone hears nothing. Frames overlap by three quarters.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio.cancelling import cancel_noise
    >>> noise = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    >>> float(np.abs(cancel_noise(0.5 * noise, noise, 256)).max()) < 1e-5
    True
    """
    hop_length, window = n_fft // 4, hann_window(n_fft).astype(np.float32)
    n_samples = len(near)
    # Every sample is in four frames.
    padding = n_fft, n_fft + -n_samples % hop_length
    near_frames, far_frames = (
        np.lib.stride_tricks.sliding_window_view(np.pad(x, padding), n_fft)[
            ::hop_length
        ]
        for x in (near, far)
    )
    transfer = _find_transfer(near_frames, far_frames, window)
    rows = np.zeros((len(far_frames) + 3, hop_length), dtype=np.float32)
    for block, spectrum in _transform(far_frames, window):
        noise = scipy.fft.irfft(transfer * spectrum, n_fft, axis=1) * window
        quarters = noise.reshape(-1, 4, hop_length)
        for quarter in range(4):
            rows[block.start + quarter : block.stop + quarter] += quarters[:, quarter]
    overlap = np.square(window).reshape(4, hop_length).sum(axis=0)
    noise = (rows / overlap).ravel()[n_fft : n_fft + n_samples]
    return near.astype(np.float32) - noise


def _transform(
    frames: np.ndarray, window: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Give the spectra of some frames at a time, and which frames these are."""
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        block = slice(start, min(start + _FRAMES_AT_ONCE, len(frames)))
        yield block, scipy.fft.rfft(frames[block] * window, axis=1)


def _find_transfer(
    near_frames: np.ndarray, far_frames: np.ndarray, window: np.ndarray
) -> np.ndarray:
    """Find how the far signal arrives at the near microphone: (n_fft // 2 + 1,)."""
    n_bins = len(window) // 2 + 1
    cross, power = np.zeros(n_bins, dtype=np.complex128), np.zeros(n_bins)
    pairs = zip(
        _transform(near_frames, window), _transform(far_frames, window), strict=True
    )
    for (_, near), (_, far) in pairs:
        cross += (near * far.conj()).sum(axis=0)
        power += np.square(np.abs(far)).sum(axis=0)
    heard = power > _FLOOR * power.max()
    transfer = np.zeros(n_bins, dtype=np.complex64)
    transfer[heard] = cross[heard] / power[heard]
    return transfer
