"""Building blocks of synthetic machine sounds: traits, parts of a sound, a factory."""

# Authors: The sklearn_asd developers
# SPDX-License-Identifier: BSD-3-Clause

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len
from scipy.signal import lfilter, oaconvolve


def rms(signal):
    """Root mean square of a signal."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


class Synthesizer:
    """Make the parts of one clip's sound.

    Every call that needs chance draws from a stream of its own, so a call with other
    arguments (a fault that adds impacts, say) leaves all later parts as they were.

    Parameters
    ----------
    seed : numpy.random.SeedSequence
        Fresh seed, not spawned from before.
    n_samples : int
        Length of the clip in samples.
    sample_rate : int
        Samples per second (Hz).
    """

    def __init__(self, seed, n_samples, sample_rate):
        self.n_samples = n_samples
        self.sample_rate = sample_rate
        self._seed = seed

    def stream(self):
        """Return a new generator, independent of all others of this clip."""
        return np.random.default_rng(self._seed.spawn(1)[0])

    @property
    def duration(self):
        """Length of the clip in seconds."""
        return self.n_samples / self.sample_rate

    @cached_property
    def _frequencies(self):
        n_fft = next_fast_len(self.n_samples, real=True)
        frequencies = np.fft.rfftfreq(n_fft, 1 / self.sample_rate).astype(np.float32)
        frequencies[0] = frequencies[1]  # keeps logarithms and powers finite
        return frequencies

    def _noise(self, gain):
        """Gaussian noise of unit RMS whose spectrum follows `gain` (n_frequencies,)."""
        parts = self.stream().standard_normal((gain.size, 2), dtype=np.float32)
        spectrum = parts.view(np.complex64)[:, 0] * gain
        spectrum[0] = 0  # no constant offset
        noise = irfft(spectrum)[: self.n_samples]
        return noise / rms(noise)

    def pink_noise(self, slope=1.0):
        """Noise whose power falls with frequency as ``1 / f ** slope``; unit RMS.

        Below 40 Hz it is flat: microphones in workshops are high-passed about there.
        """
        return self._noise(np.maximum(self._frequencies, 40.0) ** (-slope / 2))

    def band_noise(self, center, octaves=1.0):
        """Noise with a bell-shaped band around `center` (Hz); unit RMS."""
        distance = np.log2(self._frequencies / center) / octaves
        return self._noise(np.exp(-0.5 * distance**2))

    def wander(self, depth, interval=0.5):
        """Factor around 1 that drifts at random by `depth`, in about `interval` s."""
        n_knots = int(self.duration / interval) + 3
        steps = self.stream().standard_normal(n_knots)
        samples = np.arange(self.n_samples) / (interval * self.sample_rate)
        return 1 + depth * np.interp(samples, np.arange(n_knots), steps)

    def turns(self, rate):
        """Revolutions made up to each sample, from a random angle.

        `rate` (1/s) is a scalar, or an array (n_samples,) for a changing speed.
        """
        steps = np.broadcast_to(rate, self.n_samples) / self.sample_rate
        return np.cumsum(steps) + self.stream().random()

    def harmonics(self, turns, amplitudes):
        """Sum of sines at 1, 2, ... times the rate of `turns`, in random phase.

        Harmonics that would pass the Nyquist frequency are left out.
        """
        amplitudes = np.asarray(amplitudes)
        angles = self.stream().random(amplitudes.size)
        n_audible = int(0.5 / np.abs(np.diff(turns)).max())
        phasors = (amplitudes * np.exp(2j * np.pi * angles))[:n_audible]
        # A polynomial in the fundamental: one multiplication a harmonic, not one sine.
        # Whole turns go first, as single precision would lose the fraction in them.
        angle = (2 * np.pi * (turns - np.floor(turns))).astype(np.float32)
        fundamental = np.cos(angle) + 1j * np.sin(angle)
        powers = np.append(phasors[::-1], 0).astype(np.complex64)
        return np.polyval(powers, fundamental).imag

    def events(self, turns, jitter=0.0):
        """Times (s) at which `turns` completes a revolution, each late by a jitter."""
        times = np.flatnonzero(np.diff(np.floor(turns))) / self.sample_rate
        return times + jitter * self.stream().standard_normal(times.size)

    def random_times(self, rate):
        """Times (s) of a Poisson process with `rate` events a second."""
        stream = self.stream()
        n_events = stream.poisson(rate * self.duration)
        return stream.uniform(0, self.duration, n_events)

    def strengths(self, times, spread=0.2):
        """Log-normal strengths around 1, one for each of `times`."""
        return np.exp(spread * self.stream().standard_normal(len(times)))

    def modes(self, pitches, decay):
        """Sound of a body struck at time 0: damped sines at `pitches` (Hz).

        The first mode dies away by 1 / e in `decay` s, the others as much faster as
        they are higher; each is as loud as the first at the start.
        """
        time = np.arange(int(7 * decay * self.sample_rate) + 1) / self.sample_rate
        pitches = np.asarray(pitches, dtype=float)
        audible = pitches[pitches < self.sample_rate / 2, np.newaxis]
        damping = audible / (pitches[0] * decay)
        return np.sum(np.exp(-damping * time) * np.sin(2 * np.pi * audible * time), 0)

    def puff(self, attack, decay):
        """Envelope of a burst of air: rises in `attack` s, falls in `decay` s."""
        time = np.arange(int(7 * (attack + decay) * self.sample_rate) + 1)
        time = time / self.sample_rate
        return -np.expm1(-time / attack) * np.exp(-time / decay)

    def place(self, times, strengths, response):
        """Sum of `response` started at each of `times` (s), times its strength."""
        starts = np.round(np.asarray(times) * self.sample_rate).astype(int)
        inside = (starts >= 0) & (starts < self.n_samples)
        train = np.zeros(self.n_samples, dtype=np.float32)
        np.add.at(train, starts[inside], np.asarray(strengths)[inside])
        return oaconvolve(train, response.astype(np.float32))[: self.n_samples]


class Trait(NamedTuple):
    """Range (log-uniform over machines) of a number, and its jitter from clip to clip.

    The jitter is the standard deviation of the number's logarithm.
    """

    low: float
    high: float
    jitter: float

    def draw(self, rng):
        """Value of a new machine."""
        return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


def fixed_trait(low, high):
    """Ratio or count set by the machine's build."""
    return Trait(low, high, jitter=0.0)


def rate_trait(low, high):
    """Speed (1/s), which the load changes a little."""
    return Trait(low, high, jitter=0.01)


def pitch_trait(low, high):
    """Resonance or centre of a noise band (Hz)."""
    return Trait(low, high, jitter=0.005)


def level_trait(low, high):
    """Amplitude or other quantity that varies from clip to clip by about 1 dB."""
    return Trait(low, high, jitter=0.12)


# Traits of a shaft's bearing; only a worn one is heard.
BEARING = {
    "ball_pass": fixed_trait(3.1, 5.4),  # impacts a revolution
    "bearing_pitch": pitch_trait(2200, 4200),
    "bearing": level_trait(0.02, 0.05),
}


def bearing_impacts(m, synth, turns):
    """Balls that roll over a spot: impacts which the turning load swells."""
    times = synth.events(m.ball_pass * turns, jitter=0.0004)
    angle = np.interp(times, np.arange(turns.size) / synth.sample_rate, turns)
    load = 1 + 0.5 * np.sin(2 * np.pi * angle)
    shell = synth.modes(m.bearing_pitch * np.array([1.0, 1.31, 1.74]), decay=0.003)
    return m.bearing * synth.place(times, load * synth.strengths(times, 0.3), shell)


def falling(n_harmonics, power):
    """Amplitudes of harmonics that fall as ``1 / k ** power``."""
    return np.arange(1.0, n_harmonics + 1) ** -power


def swinging(turns, depth):
    """Amplitude modulation once a revolution."""
    return 1 + min(depth, 1.0) * np.sin(2 * np.pi * turns)


def weakened(times, every, by):
    """Strengths of 1, but weaker by the share `by` at each `every`-th event."""
    weak = np.arange(len(times)) % every == 0
    return 1 - min(by, 1.0) * weak


def factory_noise(synth):
    """Sound of a workshop: pinkish noise, hum of distant machines, some clanks.

    Parameters
    ----------
    synth : Synthesizer
        Source of the parts.

    Returns
    -------
    noise : ndarray of shape (n_samples,)
        Of RMS about 1.
    """
    rng = synth.stream()  # which machines run, how dull the noise is
    noise = synth.pink_noise(rng.uniform(0.8, 1.6)) * synth.wander(0.15, interval=1.0)
    for _ in range(rng.integers(1, 4)):
        turns = synth.turns(rng.uniform(15, 120) * synth.wander(0.001))
        amplitudes = rng.uniform(0.05, 0.3) * rng.exponential(size=8) / np.arange(1, 9)
        noise += synth.harmonics(turns, amplitudes)
    draught = synth.band_noise(300 * 16 ** rng.random(), octaves=rng.uniform(0.4, 1.0))
    noise += rng.uniform(0.05, 0.3) * synth.wander(0.2, interval=1.5) * draught
    clanks = synth.random_times(rate=0.2)
    body = synth.modes(np.cumsum(rng.uniform(300, 1200, size=4)), decay=0.06)
    return noise + synth.place(clanks, synth.strengths(clanks, 0.6), body)


def tilt_spectrum(signal, tilt):
    """Brighten (tilt > 0) or dull (tilt < 0) a signal, as a turned microphone does.

    At `tilt` = 0.05 the highest frequencies gain 0.9 dB over the lowest.
    """
    return lfilter([1.0, -tilt], [1.0], signal)
