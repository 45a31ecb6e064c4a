"""A phase vocoder that analyses a clip once and then stretches it at any rate."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from sklearn_asd.audio.resampling import fix_length, resample
from sklearn_asd.audio.windows import hann_window

__all__ = ["PhaseVocoder", "vocoder_rate"]

# Window and hop of librosa.effects, whose transforms these are.
_N_FFT = 2048
_HOP_LENGTH = _N_FFT // 4

# Frames at once: few enough to stay in the processor's cache.
_FRAMES_AT_ONCE = 32

_HANN = hann_window(_N_FFT).astype(np.float32)


class PhaseVocoder:
    """Pitch shifts and time stretches of one clip, from one analysis of it.

    The transforms of ``librosa.effects.time_stretch`` and ``pitch_shift``, with what
    they share computed once. A pitch shift is a stretch that a resampling undoes, so
    that both together take one pass through the vocoder and one resampling.

    Nothing of librosa is called, so that a fitted model hears the same views whichever
    version is installed. Beyond the last frame it follows librosa 0.11, where silence
    follows; librosa 1.0 extrapolates the magnitudes there.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1]; at least one.

    Notes
    -----
    A phase vocoder steps through the frames of the clip at the given rate. It takes
    each output frame's magnitudes by interpolation, and advances its phases by what
    they advance between two frames of the clip. As long as the steps go from one
    frame to the next, that is the clip's own phase turned by one angle in each bin;
    the angles change only where a frame is skipped or repeated. So the phases are
    never computed: frames are multiplied by unit phasors.

    Cost: one analysis for each clip, one pass for each rate, and one resampling where
    the pitch is shifted; each grows with the number of samples.

    References
    ----------
    Ellis, "A phase vocoder in Matlab", 2002, which is librosa's.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio.vocoder import PhaseVocoder
    >>> vocoder = PhaseVocoder(np.zeros(16000, dtype=np.float32))
    >>> vocoder.transform(pitch_steps=0.1, stretch_rate=0.8).shape
    (20000,)
    """

    def __init__(self, samples: np.ndarray) -> None:
        self.n_samples = len(samples)
        padded = np.pad(samples, _N_FFT // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)
        frames = frames[::_HOP_LENGTH]
        self.n_frames = len(frames)
        # Two frames of silence follow: the last steps look ahead to them.
        shape = (self.n_frames + 2, 1 + _N_FFT // 2)
        self._magnitude = np.zeros(shape, dtype=np.float32)
        self._phasor = np.ones(shape, dtype=np.complex64)
        for start in range(0, self.n_frames, _FRAMES_AT_ONCE):
            block = slice(start, min(start + _FRAMES_AT_ONCE, self.n_frames))
            spectrum = scipy.fft.rfft(frames[block] * _HANN, axis=1)
            magnitude = np.abs(spectrum)
            # Below the smallest normal number, the quotient would be infinite.
            sounding = magnitude >= np.finfo(np.float32).tiny
            np.divide(spectrum, magnitude, out=self._phasor[block], where=sounding)
            self._magnitude[block] = magnitude

    def transform(
        self, pitch_steps: float = 0.0, stretch_rate: float = 1.0
    ) -> np.ndarray:
        """Shift the pitch and stretch the time.

        Parameters
        ----------
        pitch_steps : float, default=0.0
            Half steps (semitones) to shift up by.

        stretch_rate : float > 0, default=1.0
            How many times as fast the sound becomes, with its pitch kept.

        Returns
        -------
        samples : ndarray of shape (round(n_samples / stretch_rate),), float32
            The transformed sound.
        """
        rate = vocoder_rate(pitch_steps, stretch_rate)
        steps = np.arange(0, self.n_frames, rate, dtype=np.float64)
        stretched = self._walk(steps, length=round(self.n_samples / rate))
        # Undoing the excess of the stretch by resampling shifts the pitch. Only the
        # ratio of the two sample rates counts; equal ones return the sound as it is.
        shifted = resample(stretched, stretch_rate, rate)
        return fix_length(shifted, round(self.n_samples / stretch_rate))

    def resynthesize(self, rate: float) -> np.ndarray:
        """Keep pitch and time, but add the traces that a stretch leaves.

        A stretch by 1 would return the clip unchanged. This one alternates between too
        slow and too fast, by as much as `rate` differs from 1, one frame each way.

        Parameters
        ----------
        rate : float > 0
            The rate of the stretch whose traces are wanted; beyond 2 it counts as 2.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            The clip, at most 512 samples behind its own time.
        """
        n = np.arange(self.n_frames, dtype=np.float64)
        behind = 1 - np.abs(n * min(abs(1 - rate), 1) % 2 - 1)
        return self._walk(n - behind, length=self.n_samples)

    def _walk(self, steps: np.ndarray, length: int) -> np.ndarray:
        """Synthesise from frames at these places, which lie between the clip's."""
        steps = steps[: -(-(length + _N_FFT) // _HOP_LENGTH)]
        first = steps.astype(int)
        toward_next = (steps - first).astype(np.float32)[:, None]
        uneven = np.diff(first, prepend=first[0] - 1) != 1
        rotation = np.ones_like(self._phasor[:1])
        # Frames overlap by three quarters: rows of one hop each, four to a frame.
        rows = np.zeros((len(steps) + 3, _HOP_LENGTH), dtype=np.float32)
        for start in range(0, len(steps), _FRAMES_AT_ONCE):
            block = slice(start, start + _FRAMES_AT_ONCE)
            here = first[block]
            magnitude = self._magnitude[here]
            magnitude += (self._magnitude[here + 1] - magnitude) * toward_next[block]
            # At uneven steps, the phases turn from where they went to where they should
            # have gone: rotations as unit phasors of each bin.
            at = start + np.flatnonzero(uneven[block])
            rotations = self._phasor[first[at - 1] + 1] * self._phasor[first[at]].conj()
            rotations = np.concatenate([rotation, rotations])
            np.cumprod(rotations, axis=0, out=rotations)
            rotations /= np.abs(rotations)  # an hour of products drifts
            rotation = rotations[-1:]
            spectrum = self._phasor[here]
            spectrum *= rotations[np.cumsum(uneven[block])]
            spectrum *= magnitude
            sound = scipy.fft.irfft(spectrum, axis=1, overwrite_x=True)
            sound *= _HANN
            quarters = sound.reshape(len(here), 4, _HOP_LENGTH)
            for quarter in range(4):
                first_row = start + quarter
                rows[first_row : first_row + len(here)] += quarters[:, quarter]
        sound = rows.ravel() / _overlapped_hann(len(steps))
        return fix_length(sound[_N_FFT // 2 :], length)


def vocoder_rate(pitch_steps: float, stretch_rate: float) -> float:
    """Rate of the stretch that a resampling turns into both transforms.

    Parameters
    ----------
    pitch_steps : float
        Half steps to shift up by.

    stretch_rate : float > 0
        How many times as fast.

    Returns
    -------
    rate : float > 0
        Below `stretch_rate` where the pitch is shifted up.
    """
    return stretch_rate / 2.0 ** (pitch_steps / 12)  # half steps of an octave


@lru_cache(maxsize=16)
def _overlapped_hann(n_frames: int) -> np.ndarray:
    """Sum of the squared windows at each sample; 1 where there are none."""
    rows = np.zeros((n_frames + 3, _HOP_LENGTH), dtype=np.float32)
    for quarter, window in enumerate(_HANN.reshape(4, _HOP_LENGTH) ** 2):
        rows[quarter : quarter + n_frames] += window
    total = rows.ravel()
    total[total <= np.finfo(np.float32).tiny] = 1
    return total
