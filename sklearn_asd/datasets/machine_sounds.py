"""Synthetic recordings of machines, normal and with physical faults."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import product
from numbers import Integral, Real
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.signal import lfilter
from sklearn.utils import check_random_state
from tqdm.auto import tqdm

from sklearn_asd._utils.messages import check_choice
from sklearn_asd._utils.parameters import Interval, validate_params
from sklearn_asd.audio.machines import MIMII_TYPES, TOYADMOS_TYPES
from sklearn_asd.datasets.machine_kinds import MACHINE_KINDS
from sklearn_asd.datasets.synthesis import Synthesizer, factory_noise, rms

__all__ = ["make_machine_sounds"]

_CLIP_RMS = 0.03  # of a healthy clip, noise included; MIMII and ToyADMOS: 0.01-0.09
_PEAK_LIMIT = 0.9
_SEVERITY = (0.3, 1.0)  # of a fault: from barely audible to plain

_COUNT = Interval(Integral, 0, None, closed="left")


@validate_params(
    {
        "n_machines": [Interval(Integral, 1, 100, closed="both")],
        "n_train": [_COUNT],
        "n_test_normal": [_COUNT],
        "n_test_anomalous": [_COUNT],
        "duration": [Interval(Real, 0.5, None, closed="left")],
        "sample_rate": [Interval(Integral, 8000, None, closed="left")],
        "snr": [Interval(Real, -60, 60, closed="both")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def make_machine_sounds(
    machine_types=(*MIMII_TYPES, *TOYADMOS_TYPES),
    *,
    n_machines=4,
    n_train=20,
    n_test_normal=10,
    n_test_anomalous=10,
    duration=10.0,
    sample_rate=16000,
    snr=0.0,
    random_state=None,
    n_jobs=None,
    verbose=0,
):
    """Make recordings of healthy and faulty machines in a noisy factory.

    The sounds are built from physical parts (shafts, gears, strokes, impacts that ring,
    flowing air). Machines of a type are siblings: each has its own speeds, resonances
    and levels, all within narrow ranges. A fault changes those same numbers by a
    severity that differs from clip to clip, so some faults are easy to hear and some
    are hard. Every clip has its own speed (about 1 %), levels (about 1 dB), microphone
    and factory noise.

    Parameters
    ----------
    machine_types : str or sequence of str, \
            default=("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
        Types of machines; the default is all that exist.

    n_machines : int, default=4
        Machines of each type, from 1 to 100. Their IDs are "00", "01", ...

    n_train : int, default=20
        Normal clips of each machine in the split "train".

    n_test_normal : int, default=10
        Normal clips of each machine in the split "test".

    n_test_anomalous : int, default=10
        Faulty clips of each machine in the split "test". The faults of the type take
        turns.

    duration : float, default=10.0
        Length of every clip in seconds, at least 0.5.

    sample_rate : int, default=16000
        Samples per second (Hz), at least 8000. Tones above half of it are left out.

    snr : float, default=0.0
        Signal-to-noise ratio in dB, from -60 to 60: 20 times the decimal logarithm of
        the RMS of the machine's sound over the RMS of the factory's, each over the
        whole clip. It is exact for normal clips. An anomalous clip has the noise that
        its machine would have without the fault, so that a loud fault is loud.

    random_state : int, RandomState instance or None, default=None
        Decides every sound. An int gives the same table each time, bit for bit. None
        takes a new seed from the operating system; NumPy's global generator is not
        touched.

    n_jobs : int or None, default=None
        Clips made in parallel, on joblib's threads or the backend in force
        (``joblib.parallel_config``). None is 1 unless that says otherwise; -1 is all
        cores. The sounds are the same for any number.

    verbose : int, default=0
        Above 0, show progress.

    Returns
    -------
    clips : pandas.DataFrame
        One row per clip, with the columns

        - `audio`: ndarray of shape (round(duration * sample_rate),), float32, with a
          peak of at most 0.9 and, for healthy machines, an RMS of about 0.03;
        - `sample_rate`: int, in Hz;
        - `machine_type` and `machine_id`: str; IDs repeat between types;
        - `split`: "train" or "test";
        - `label`: Int64, +1 for normal and -1 for anomalous;
        - `fault`: str, the fault's name, "none" for normal clips.

    Raises
    ------
    ValueError
        If a machine type is unknown or repeated, or a number is out of its range.

    Notes
    -----
    The faults of each type:

    - fan: "bearing tone" (a worn bearing rings at its ball-pass rate), "imbalance"
      (the shaft's rate swells all else), "clogging" (less air, higher, a faster shaft);
    - pump: "leak" (hiss, weaker strokes), "missed stroke" (every third one, and a
      motor with less to do), "clogging" (weaker and duller flow, a slower motor);
    - slider: "rattle" (a loose part shaken by the screw), "bearing tone", "stick-slip"
      (a jerking carriage that grinds on its rail);
    - valve: "leak" (hiss all the time, a weaker puff), "missed stroke" (every third
      one), "slow closing" (late, soft and dull);
    - ToyCar: "broken tooth" (a knock each turn of the wheel), "bent shaft" (the gears'
      tone swells each turn), "bearing tone";
    - ToyConveyor: "rattle" (loose rollers), "imbalance" (a roller that wobbles),
      "clogging" (a belt that drags).

    A machine depends only on `random_state`, its type and its ID, and a clip on these,
    its split, its label and its number among such clips (and on `duration`,
    `sample_rate` and `snr`). So asking for more clips, machines or types does not
    change the others.

    The table takes `4 * duration * sample_rate` bytes a clip, 614 MB by default.

    Examples
    --------
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=1, n_test_normal=0, n_test_anomalous=1,
    ...     duration=1.0, random_state=0,
    ... )
    >>> clips[["machine_type", "machine_id", "split", "label", "fault"]]
      machine_type machine_id  split  label         fault
    0          fan         00  train      1          none
    1          fan         00   test     -1  bearing tone
    2          fan         01  train      1          none
    3          fan         01   test     -1  bearing tone
    >>> clips["audio"][0].shape
    (16000,)
    """
    seed = _draw_seed(random_state)
    n_samples = round(duration * sample_rate)
    groups = [
        ("train", 1, n_train),
        ("test", 1, n_test_normal),
        ("test", -1, n_test_anomalous),
    ]
    clips = [
        _Clip(seed, machine_type, machine, split, label, number)
        for machine_type, machine, (split, label, n_clips) in product(
            _check_types(machine_types), range(n_machines), groups
        )
        for number in range(n_clips)
    ]
    sounds = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_make_sound)(clip, n_samples, sample_rate, snr)
        for clip in tqdm(clips, desc="sounds", unit="clip", disable=not verbose)
    )
    table = pd.DataFrame(
        {
            "audio": sounds,
            "sample_rate": int(sample_rate),
            "machine_type": [clip.machine_type for clip in clips],
            "machine_id": [f"{clip.machine:02d}" for clip in clips],
            "split": [clip.split for clip in clips],
            "label": [clip.label for clip in clips],
            "fault": [clip.fault for clip in clips],
        },
        dtype=object,
    )
    return table.infer_objects().astype({"label": "Int64"})


def _check_types(machine_types: str | Sequence[str]) -> list[str]:
    names = [machine_types] if isinstance(machine_types, str) else list(machine_types)
    for name in names:
        check_choice("machine type", name, MACHINE_KINDS)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"machine_types is {names}: name one type or more, each of them once"
        )
    return names


def _draw_seed(random_state: int | np.random.RandomState | None) -> int:
    # check_random_state(None) would draw from NumPy's global generator.
    if random_state is None:
        random_state = np.random.RandomState()
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


class _Clip(NamedTuple):
    """The identity of one recording, which decides everything random in it."""

    seed: int
    machine_type: str
    machine: int
    split: str
    label: int
    number: int

    @property
    def fault(self) -> str:
        """Name of the fault; the faults of a kind take turns."""
        faults = list(MACHINE_KINDS[self.machine_type].faults)
        return "none" if self.label == 1 else faults[self.number % len(faults)]

    def derive_seed(self, purpose: str) -> np.random.SeedSequence:
        """Derive the seed of one purpose; "build" is the same for all of a machine."""
        # The type enters by its name: its place in a list would tie it to other types.
        key = [zlib.crc32(self.machine_type.encode()), self.machine]
        if purpose != "build":
            place = ("operation", "sound", "factory", "microphone").index(purpose)
            key += [self.split == "test", self.label == -1, self.number, place]
        return np.random.SeedSequence(self.seed, spawn_key=[int(part) for part in key])


def _make_sound(
    clip: _Clip, n_samples: int, sample_rate: int, snr: float
) -> np.ndarray:
    """Record a clip as a microphone in the factory would."""
    return _mix(*_record(clip, n_samples, sample_rate, snr))


def _record(
    clip: _Clip, n_samples: int, sample_rate: int, snr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Make the machine's and the factory's share of the microphone's signal."""
    healthy = machine = _run_machine(clip, "none", n_samples, sample_rate)
    if clip.fault != "none":
        machine = _run_machine(clip, clip.fault, n_samples, sample_rate)
    factory = Synthesizer(clip.derive_seed("factory"), n_samples, sample_rate)
    noise = factory_noise(factory)
    rng = np.random.default_rng(clip.derive_seed("microphone"))
    tilt = rng.normal(0, 0.05)
    # A turned microphone brightens or dulls: 0.05 gives the highest frequencies 0.9 dB
    # more than the lowest.
    healthy, machine, noise = (
        lfilter([1.0, -tilt], [1.0], sound) for sound in (healthy, machine, noise)
    )
    # Levels come from the healthy machine: a loud fault makes a loud clip, not more
    # factory noise.
    noise *= rms(healthy) / rms(noise) * 10 ** (-snr / 20)
    gain = _CLIP_RMS / rms(healthy + noise) * 10 ** (rng.uniform(-1.5, 1.5) / 20)
    return gain * machine, gain * noise


def _run_machine(
    clip: _Clip, fault: str, n_samples: int, sample_rate: int
) -> np.ndarray:
    """Make the sound of the clip's machine, running with `fault`, at its own level."""
    kind = MACHINE_KINDS[clip.machine_type]
    build = np.random.default_rng(clip.derive_seed("build"))
    operation = np.random.default_rng(clip.derive_seed("operation"))
    severity = operation.uniform(*_SEVERITY)
    factors = kind.faults.get(fault, {})
    traits = {
        name: trait.draw(build)
        * np.exp(trait.jitter * operation.standard_normal())
        * factors.get(name, 1.0) ** severity
        for name, trait in kind.traits.items()
    }
    synth = Synthesizer(clip.derive_seed("sound"), n_samples, sample_rate)
    return kind.run(SimpleNamespace(**traits), synth)


def _mix(machine: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Add both up; a clip that would overload is turned down as a whole."""
    audio = machine + noise
    peak = np.abs(audio).max()
    return (audio * min(1.0, _PEAK_LIMIT / peak)).astype(np.float32)
