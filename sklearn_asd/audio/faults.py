"""Faults that are planted into recordings of normal machines.

A new fault is a function of the number of samples, the sample rate and a generator of
random numbers. It gives the samples to add, of any level, and has a row in `FAULTS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = [
    "FAULTS",
    "Fault",
    "knocks",
    "noise",
    "plant_fault",
    "short_noise",
    "tone",
]

Fault = Callable[[int, float, np.random.Generator], np.ndarray]


def tone(n_samples: int, sample_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Make a steady tone, as of a worn bearing or gear.

    Parameters
    ----------
    n_samples : int
        Number of samples.

    sample_rate : float
        In Hz.

    rng : numpy.random.Generator
        Draws the frequency: from 300 Hz to three quarters of the highest frequency,
        evenly on a logarithmic scale.

    Returns
    -------
    fault : ndarray of shape (n_samples,)
        The samples to add.
    """
    frequency = np.exp(rng.uniform(np.log(300), np.log(0.375 * sample_rate)))
    return np.sin(2 * np.pi * frequency * np.arange(n_samples) / sample_rate)


def noise(n_samples: int, sample_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Make white noise from beginning to end, as of a leak.

    Parameters
    ----------
    n_samples : int
        Number of samples.

    sample_rate : float
        In Hz.

    rng : numpy.random.Generator
        Draws the samples.

    Returns
    -------
    fault : ndarray of shape (n_samples,)
        The samples to add.
    """
    return rng.normal(size=n_samples)


def short_noise(
    n_samples: int, sample_rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Make white noise for one second, as of a part that rubs now and then.

    Parameters
    ----------
    n_samples : int
        Number of samples.

    sample_rate : float
        In Hz.

    rng : numpy.random.Generator
        Draws the samples and their place.

    Returns
    -------
    fault : ndarray of shape (n_samples,)
        The samples to add; 0 outside of that second.
    """
    length = min(round(sample_rate), n_samples)
    start = rng.integers(n_samples - length + 1)
    fault = np.zeros(n_samples)
    fault[start : start + length] = rng.normal(size=length)
    return fault


def knocks(n_samples: int, sample_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Make knocks of 5 ms, two a second, as of a loose part.

    Parameters
    ----------
    n_samples : int
        Number of samples.

    sample_rate : float
        In Hz.

    rng : numpy.random.Generator
        Draws the samples, and when the first knock comes.

    Returns
    -------
    fault : ndarray of shape (n_samples,)
        The samples to add; 0 between the knocks.
    """
    period = sample_rate / 2
    time = (np.arange(n_samples) + rng.uniform(0, period)) % period
    return rng.normal(size=n_samples) * (time < 0.005 * sample_rate)


FAULTS: dict[str, Fault] = {
    "tone": tone,
    "noise": noise,
    "short_noise": short_noise,
    "knocks": knocks,
}
"""Kinds of faults by name."""


def plant_fault(
    samples: np.ndarray,
    fault: Fault,
    level: float,
    sample_rate: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Add a fault to a recording.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,)
        The recording.

    fault : callable
        One of the functions in `FAULTS`, or of yours.

    level : float
        Level of the fault in dB, relative to that of the recording: the mean power over
        the times at which the fault sounds. 0 is as loud as the recording.

    sample_rate : float
        In Hz.

    rng : numpy.random.Generator
        Draws what is random in the fault.

    Returns
    -------
    planted : ndarray of shape (n_samples,), float32
        The recording with the fault. Silence stays silence.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.audio.faults import plant_fault, tone
    >>> rng = np.random.default_rng(0)
    >>> samples = rng.normal(scale=0.1, size=16_000)
    >>> planted = plant_fault(samples, tone, 0, 16_000, rng)
    >>> round(float(np.std(planted) / np.std(samples)), 1)  # the square root of 2
    1.4
    """
    added = fault(len(samples), sample_rate, rng)
    sounding = added[added != 0]
    power = np.mean(sounding**2) if len(sounding) else 1.0
    wanted = np.mean(np.square(samples, dtype=np.float64)) * 10 ** (level / 10)
    planted = samples + np.sqrt(wanted / power) * added
    return planted.astype(np.float32)
