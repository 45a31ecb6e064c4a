"""Building blocks of synthetic sounds: components of one clip, and a factory."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len
from scipy.signal import oaconvolve

__all__ = ["Synthesizer", "factory_noise", "falling", "rms", "swinging", "weakened"]


def rms(signal: np.ndarray) -> float:
    """Root mean square of a signal.

    Parameters
    ----------
    signal : ndarray of shape (n_samples,)
        The signal.

    Returns
    -------
    rms : float
        In the unit of the signal.
    """
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


class Synthesizer:
    """Make the components of one clip's sound.

    Every random component draws from its own stream. A call with other arguments (a
    fault that adds impacts, say) does not change the components made after it.

    Parameters
    ----------
    seed : numpy.random.SeedSequence
        Fresh seed that has spawned no other.

    n_samples : int
        Length of the clip in samples.

    sample_rate : int
        Samples per second (Hz).

    Attributes
    ----------
    duration : float
        Length of the clip in seconds.
    """

    def __init__(
        self, seed: np.random.SeedSequence, n_samples: int, sample_rate: int
    ) -> None:
        self.n_samples = n_samples
        self.sample_rate = sample_rate
        self.duration = n_samples / sample_rate
        self._seed = seed

    def stream(self) -> np.random.Generator:
        """Make a generator that is independent of all others of this clip.

        Returns
        -------
        stream : numpy.random.Generator
            The generator.
        """
        return np.random.default_rng(self._seed.spawn(1)[0])

    @cached_property
    def _frequencies(self) -> np.ndarray:
        n_fft = next_fast_len(self.n_samples, real=True)
        frequencies = np.fft.rfftfreq(n_fft, 1 / self.sample_rate).astype(np.float32)
        frequencies[0] = frequencies[1]  # keeps logarithms and powers finite
        return frequencies

    def _make_noise(self, gain: np.ndarray) -> np.ndarray:
        """Gaussian noise of unit RMS whose spectrum follows `gain` (n_frequencies,)."""
        pairs = self.stream().standard_normal((gain.size, 2), dtype=np.float32)
        spectrum = pairs.view(np.complex64)[:, 0] * gain
        spectrum[0] = 0  # no constant offset
        noise = irfft(spectrum)[: self.n_samples]
        return noise / rms(noise)

    def pink_noise(self, slope: float = 1.0) -> np.ndarray:
        """Noise whose power falls with frequency as ``1 / f ** slope``.

        Below 40 Hz it is flat: microphones in workshops are high-passed about there.

        Parameters
        ----------
        slope : float, default=1.0
            Exponent of the fall.

        Returns
        -------
        noise : ndarray of shape (n_samples,)
            With an RMS of 1.
        """
        return self._make_noise(np.maximum(self._frequencies, 40.0) ** (-slope / 2))

    def band_noise(self, center: float, octaves: float = 1.0) -> np.ndarray:
        """Noise with a bell-shaped band.

        Parameters
        ----------
        center : float
            Centre of the band (Hz).

        octaves : float, default=1.0
            Standard deviation of the bell.

        Returns
        -------
        noise : ndarray of shape (n_samples,)
            With an RMS of 1.
        """
        distance = np.log2(self._frequencies / center) / octaves
        return self._make_noise(np.exp(-0.5 * distance**2))

    def wander(self, depth: float, interval: float = 0.5) -> np.ndarray:
        """Factor that drifts at random around 1.

        Parameters
        ----------
        depth : float
            Standard deviation of the factor.

        interval : float, default=0.5
            Time in which it changes (s).

        Returns
        -------
        factor : ndarray of shape (n_samples,)
            The factor.
        """
        n_knots = int(self.duration / interval) + 3
        steps = self.stream().standard_normal(n_knots)
        samples = np.arange(self.n_samples) / (interval * self.sample_rate)
        return 1 + depth * np.interp(samples, np.arange(n_knots), steps)

    def turns(self, rate: ArrayLike) -> np.ndarray:
        """Revolutions made up to each sample, from a random angle.

        Parameters
        ----------
        rate : float or ndarray of shape (n_samples,)
            Constant or changing speed (1/s).

        Returns
        -------
        turns : ndarray of shape (n_samples,)
            Revolutions.
        """
        steps = np.broadcast_to(rate, self.n_samples) / self.sample_rate
        return np.cumsum(steps) + self.stream().random()

    def harmonics(self, turns: np.ndarray, amplitudes: ArrayLike) -> np.ndarray:
        """Sum of sines at 1, 2, ... times the rate of a revolution, in random phase.

        Parameters
        ----------
        turns : ndarray of shape (n_samples,)
            Revolutions.

        amplitudes : array-like of shape (n_harmonics,)
            Amplitude of each sine.

        Returns
        -------
        tone : ndarray of shape (n_samples,)
            The sum, without harmonics above the Nyquist frequency.
        """
        amplitudes = np.asarray(amplitudes)
        angles = self.stream().random(amplitudes.size)
        n_audible = int(0.5 / np.abs(np.diff(turns)).max())
        phasors = (amplitudes * np.exp(2j * np.pi * angles))[:n_audible]
        # A polynomial in the fundamental costs one multiplication a harmonic, not one
        # sine. Whole turns go first: single precision would lose the fraction.
        angle = (2 * np.pi * (turns - np.floor(turns))).astype(np.float32)
        fundamental = np.cos(angle) + 1j * np.sin(angle)
        powers = np.append(phasors[::-1], 0).astype(np.complex64)
        return np.polyval(powers, fundamental).imag

    def events(self, turns: np.ndarray, jitter: float = 0.0) -> np.ndarray:
        """Times at which a revolution is completed.

        Parameters
        ----------
        turns : ndarray of shape (n_samples,)
            Revolutions.

        jitter : float, default=0.0
            Standard deviation of each time's delay (s).

        Returns
        -------
        times : ndarray of shape (n_events,)
            In seconds.
        """
        times = np.flatnonzero(np.diff(np.floor(turns))) / self.sample_rate
        return times + jitter * self.stream().standard_normal(times.size)

    def strengths(self, times: np.ndarray, spread: float = 0.2) -> np.ndarray:
        """Log-normal strengths around 1.

        Parameters
        ----------
        times : ndarray of shape (n_events,)
            Times, of which only the number counts.

        spread : float, default=0.2
            Standard deviation of the logarithm.

        Returns
        -------
        strengths : ndarray of shape (n_events,)
            One for each of the times.
        """
        return np.exp(spread * self.stream().standard_normal(len(times)))

    def modes(self, pitches: ArrayLike, decay: float) -> np.ndarray:
        """Sound of a body struck at time 0: damped sines.

        Parameters
        ----------
        pitches : array-like of shape (n_modes,)
            Frequencies (Hz). Each mode starts as loud as the first.

        decay : float
            Time in which the first mode falls to 1 / e (s). The others fall faster in
            proportion to their pitch.

        Returns
        -------
        response : ndarray of shape (n_response_samples,)
            The sound until it has died away.
        """
        time = np.arange(int(7 * decay * self.sample_rate) + 1) / self.sample_rate
        pitches = np.asarray(pitches, dtype=float)
        audible = pitches[pitches < self.sample_rate / 2, np.newaxis]
        damping = audible / (pitches[0] * decay)
        return np.sum(np.exp(-damping * time) * np.sin(2 * np.pi * audible * time), 0)

    def puff(self, attack: float, decay: float) -> np.ndarray:
        """Envelope of a burst of air.

        Parameters
        ----------
        attack : float
            Time constant of the rise (s).

        decay : float
            Time constant of the fall (s).

        Returns
        -------
        envelope : ndarray of shape (n_response_samples,)
            The envelope until it has died away.
        """
        n_samples = int(7 * (attack + decay) * self.sample_rate) + 1
        time = np.arange(n_samples) / self.sample_rate
        return -np.expm1(-time / attack) * np.exp(-time / decay)

    def place(
        self, times: ArrayLike, strengths: ArrayLike, response: np.ndarray
    ) -> np.ndarray:
        """Start a response at each of several times, and add all up.

        Parameters
        ----------
        times : array-like of shape (n_events,)
            Starts (s). Those outside the clip are left out.

        strengths : array-like of shape (n_events,)
            Factor of each response.

        response : ndarray of shape (n_response_samples,)
            Sound or envelope.

        Returns
        -------
        signal : ndarray of shape (n_samples,)
            The sum.
        """
        starts = np.round(np.asarray(times) * self.sample_rate).astype(int)
        inside = (starts >= 0) & (starts < self.n_samples)
        train = np.zeros(self.n_samples, dtype=np.float32)
        np.add.at(train, starts[inside], np.asarray(strengths)[inside])
        return oaconvolve(train, response.astype(np.float32))[: self.n_samples]

    def strike(
        self, times: np.ndarray, response: np.ndarray, spread: float = 0.2
    ) -> np.ndarray:
        """Start a response at each of several times with random strengths.

        Parameters
        ----------
        times : ndarray of shape (n_events,)
            Starts (s).

        response : ndarray of shape (n_response_samples,)
            Sound of the struck body.

        spread : float, default=0.2
            Of :meth:`strengths`.

        Returns
        -------
        signal : ndarray of shape (n_samples,)
            The sum.
        """
        return self.place(times, self.strengths(times, spread), response)


def falling(n_harmonics: int, power: float) -> np.ndarray:
    """Amplitudes of harmonics that fall as ``1 / k ** power``.

    Parameters
    ----------
    n_harmonics : int
        Number of harmonics.

    power : float
        Exponent of the fall.

    Returns
    -------
    amplitudes : ndarray of shape (n_harmonics,)
        From 1 downwards.
    """
    return np.arange(1.0, n_harmonics + 1) ** -power


def swinging(turns: np.ndarray, depth: float) -> np.ndarray:
    """Amplitude modulation once a revolution.

    Parameters
    ----------
    turns : ndarray of shape (n_samples,)
        Revolutions.

    depth : float
        Amplitude of the swing; above 1 it counts as 1.

    Returns
    -------
    factor : ndarray of shape (n_samples,)
        Around 1.
    """
    return 1 + min(depth, 1.0) * np.sin(2 * np.pi * turns)


def weakened(times: np.ndarray, every: int, by: float) -> np.ndarray:
    """Strengths of events of which some are weaker.

    Parameters
    ----------
    times : ndarray of shape (n_events,)
        Times, of which only the number counts.

    every : int
        Each `every`-th event is weaker.

    by : float
        Share that it loses; above 1 it counts as 1.

    Returns
    -------
    strengths : ndarray of shape (n_events,)
        1, or 1 - `by`.
    """
    weak = np.arange(len(times)) % every == 0
    return 1 - min(by, 1.0) * weak


def factory_noise(synth: Synthesizer) -> np.ndarray:
    """Sound of a workshop: pinkish noise, hum of distant machines, some clanks.

    Parameters
    ----------
    synth : Synthesizer
        Source of the components.

    Returns
    -------
    noise : ndarray of shape (n_samples,)
        With an RMS of about 1.
    """
    rng = synth.stream()  # which machines run, how dull the noise is
    noise = synth.pink_noise(rng.uniform(0.8, 1.6)) * synth.wander(0.15, interval=1.0)
    for _ in range(rng.integers(1, 4)):
        turns = synth.turns(rng.uniform(15, 120) * synth.wander(0.001))
        amplitudes = rng.uniform(0.05, 0.3) * rng.exponential(size=8) / np.arange(1, 9)
        noise += synth.harmonics(turns, amplitudes)
    draught = synth.band_noise(300 * 16 ** rng.random(), octaves=rng.uniform(0.4, 1.0))
    noise += rng.uniform(0.05, 0.3) * synth.wander(0.2, interval=1.5) * draught
    stream = synth.stream()
    clanks = stream.uniform(0, synth.duration, stream.poisson(0.2 * synth.duration))
    body = synth.modes(np.cumsum(rng.uniform(300, 1200, size=4)), decay=0.06)
    return noise + synth.strike(clanks, body, 0.6)
