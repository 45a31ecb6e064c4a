"""Synthetic recordings of machines, normal and with physical faults."""

# Authors: The sklearn_asd developers
# SPDX-License-Identifier: BSD-3-Clause

import difflib
import zlib
from collections.abc import Callable
from numbers import Integral, Real
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklearn_asd.datasets._synthesis import (
    BEARING,
    Synthesizer,
    Trait,
    bearing_impacts,
    factory_noise,
    falling,
    fixed_trait,
    level_trait,
    pitch_trait,
    rate_trait,
    rms,
    swinging,
    tilt_spectrum,
    weakened,
)

_CLIP_RMS = 0.03  # of a healthy clip, noise included; MIMII and ToyADMOS: 0.01-0.09
_PEAK_LIMIT = 0.9
_SEVERITY = (0.3, 1.0)  # of a fault: from barely audible to plain


# --- What a machine is: numbers, and faults that change them --------------------------


class _MachineKind(NamedTuple):
    traits: dict[str, Trait]
    faults: dict[str, dict[str, float]]
    run: Callable[[SimpleNamespace, Synthesizer], np.ndarray]


_MACHINE_KINDS: dict[str, _MachineKind] = {}


def _machine_kind(name, traits, faults):
    """Register the decorated function ``run(m, synth) -> signal`` as a kind of machine.

    `traits` are the numbers a machine has; `run` finds them as attributes of `m`.
    `faults` give for each fault the factors by which it changes traits when severe:
    a fault moves a machine along the axes on which healthy machines differ. Several
    factors at once are physical: what drags slows the shaft, what is loose rings lower.
    """

    def register(run):
        _MACHINE_KINDS[name] = _MachineKind(traits, faults, run)
        return run

    return register


# --- The kinds of machine -------------------------------------------------------------


@_machine_kind(
    "fan",
    traits={
        "shaft_rate": rate_trait(23.5, 27),
        "blades": fixed_trait(4.5, 7.5),
        "slots": fixed_trait(31, 39),
        "blade_tone": level_trait(0.36, 0.5),
        "slot_tone": level_trait(0.1, 0.16),
        "airflow": level_trait(0.56, 0.71),
        "airflow_pitch": pitch_trait(420, 590),
        "wobble": level_trait(0.1, 0.14),
        **BEARING,
    },
    faults={
        "bearing tone": {"bearing": 5.0, "bearing_pitch": 0.85, "shaft_rate": 0.96},
        "imbalance": {"wobble": 4.0, "slot_tone": 0.6, "shaft_rate": 0.96},
        "clogging": {"airflow": 0.8, "airflow_pitch": 1.3, "shaft_rate": 1.06},
    },
)
def _run_fan(m, synth):
    """Blades chop the air at the blade-pass rate; the motor's slots whine."""
    turns = synth.turns(m.shaft_rate * synth.wander(0.003))
    swing = swinging(turns, m.wobble)
    blades = synth.harmonics(turns * round(m.blades), falling(8, 1.2))
    slots = synth.harmonics(turns * round(m.slots), falling(4, 1.0)) * swing
    airflow = synth.band_noise(m.airflow_pitch, octaves=1.6) * synth.wander(0.1) * swing
    return (
        m.blade_tone * blades
        + m.slot_tone * slots
        + m.wobble * synth.harmonics(turns, falling(4, 0.7))
        + m.airflow * airflow
        + bearing_impacts(m, synth, turns)
    )


@_machine_kind(
    "pump",
    traits={
        "stroke_rate": rate_trait(2.1, 2.8),
        "shaft_rate": rate_trait(24.5, 27.5),
        "hum": level_trait(0.19, 0.31),
        "slots": fixed_trait(27, 35),
        "slot_tone": level_trait(0.075, 0.12),
        "thump": level_trait(1.2, 1.7),
        "thump_pitch": pitch_trait(107, 150),
        "flow": level_trait(0.92, 1.22),
        "flow_pitch": pitch_trait(830, 1180),
        "flow_decay": level_trait(0.07, 0.1),
        "hiss": level_trait(0.036, 0.05),
        "hiss_pitch": pitch_trait(3200, 4300),
        "unevenness": level_trait(0.1, 0.14),
        **BEARING,
    },
    faults={
        "leak": {"hiss": 4.0, "hiss_pitch": 1.3, "thump": 0.7, "shaft_rate": 1.04},
        "missed stroke": {"unevenness": 8.0, "hum": 0.7, "shaft_rate": 1.06},
        "clogging": {"flow": 0.8, "flow_pitch": 0.75, "shaft_rate": 0.92},
    },
)
def _run_pump(m, synth):
    """Strokes of the piston, each a thump and a gush of water, over the motor's hum."""
    turns = synth.turns(m.shaft_rate * synth.wander(0.003))
    strokes = synth.events(synth.turns(m.stroke_rate * synth.wander(0.01)), 0.004)
    strengths = weakened(strokes, 3, by=m.unevenness) * synth.strengths(strokes, 0.1)
    case = synth.modes(m.thump_pitch * np.array([1, 2.3, 3.9, 6.1]), decay=0.06)
    gush = synth.place(strokes + 0.02, strengths, synth.puff(0.02, m.flow_decay))
    return (
        m.hum * synth.harmonics(turns, falling(8, 0.8))
        + m.slot_tone * synth.harmonics(turns * round(m.slots), falling(3, 1.0))
        + m.thump * synth.place(strokes, strengths, case)
        + m.flow * (0.15 + gush) * synth.band_noise(m.flow_pitch, octaves=0.9)
        + m.hiss * synth.wander(0.15) * synth.band_noise(m.hiss_pitch, octaves=0.6)
        + bearing_impacts(m, synth, turns)
    )


@_machine_kind(
    "slider",
    traits={
        "stroke_rate": rate_trait(0.5, 0.9),
        "whine_pitch": pitch_trait(1400, 2400),
        "whine": level_trait(0.3, 0.6),
        "friction": level_trait(0.25, 0.5),
        "friction_pitch": pitch_trait(2000, 4000),
        "stop": level_trait(1.0, 2.0),
        "stop_pitch": pitch_trait(300, 600),
        "screw_rate": rate_trait(14, 22),
        "play": level_trait(0.05, 0.1),
        "play_pitch": pitch_trait(1200, 2400),
        "stick": level_trait(0.02, 0.05),
        **BEARING,
    },
    faults={
        "rattle": {"play": 6.0, "play_pitch": 0.8, "stop_pitch": 0.93},
        "bearing tone": {"bearing": 6.0, "bearing_pitch": 0.85, "whine_pitch": 0.94},
        "stick-slip": {"stick": 2.5, "friction": 1.2, "whine_pitch": 0.97},
    },
)
def _run_slider(m, synth):
    """A carriage to and fro: whine and friction follow its speed, end stops knock."""
    travel = synth.turns(m.stroke_rate * synth.wander(0.01))
    # Speed of the carriage as a share of the top speed: up, cruise, down, and back.
    speed = np.tanh(2.5 * np.abs(np.sin(2 * np.pi * travel)))
    screw = synth.turns(m.screw_rate * speed)
    speed = speed * (1 + m.stick * np.sign(np.sin(2 * np.pi * screw)))
    stops = synth.events(2 * travel)
    knock = synth.modes(m.stop_pitch * np.array([1, 1.9, 3.3, 5.2]), decay=0.03)
    shakes = synth.events(2 * screw, jitter=0.01)
    loose = synth.modes(m.play_pitch * np.array([1, 1.6, 2.3]), decay=0.006)
    return (
        m.whine * speed * synth.harmonics(synth.turns(m.whine_pitch * speed), [1, 0.4])
        + m.friction * speed * synth.band_noise(m.friction_pitch, octaves=0.8)
        + m.stop * synth.place(stops, synth.strengths(stops), knock)
        + m.play * synth.place(shakes, synth.strengths(shakes, 0.6), loose)
        + bearing_impacts(m, synth, screw)
    )


@_machine_kind(
    "valve",
    traits={
        "cycle_rate": rate_trait(0.9, 1.8),
        "hold": level_trait(0.12, 0.24),
        "click": level_trait(0.6, 1.0),
        "click_pitch": pitch_trait(700, 1400),
        "close": level_trait(0.5, 0.8),
        "close_pitch": pitch_trait(1000, 1900),
        "ringing": level_trait(0.01, 0.02),
        "puff": level_trait(0.3, 0.6),
        "puff_pitch": pitch_trait(3000, 5500),
        "puff_decay": level_trait(0.02, 0.05),
        "hiss": level_trait(0.004, 0.01),
        "unevenness": level_trait(0.06, 0.12),
    },
    faults={
        "leak": {"hiss": 3.0, "puff": 0.5, "puff_pitch": 1.4, "click_pitch": 0.94},
        "missed stroke": {"unevenness": 10.0, "click": 0.7, "click_pitch": 0.95},
        "slow closing": {"hold": 1.4, "close": 0.5, "close_pitch": 0.92},
    },
)
def _run_valve(m, synth):
    """The valve snaps open, lets a puff of air through and snaps shut."""
    opens = synth.events(synth.turns(m.cycle_rate), jitter=0.003)
    strengths = weakened(opens, 3, by=m.unevenness) * synth.strengths(opens, 0.1)
    closes = opens + m.hold
    body = synth.modes(m.click_pitch * np.array([1, 2.1, 3.7, 5.3]), decay=m.ringing)
    seat = synth.modes(m.close_pitch * np.array([1, 1.9, 3.1]), decay=m.ringing)
    puff = synth.place(opens, strengths, synth.puff(0.003, m.puff_decay))
    air = synth.band_noise(m.puff_pitch, octaves=0.7)
    return (
        m.click * synth.place(opens, strengths, body)
        + m.close * synth.place(closes, strengths, seat)
        + (m.puff * puff + m.hiss * synth.wander(0.1)) * air
    )


@_machine_kind(
    "ToyCar",
    traits={
        "wheel_rate": rate_trait(9.9, 11.9),
        "teeth": fixed_trait(38, 47),
        "mesh": level_trait(0.36, 0.5),
        "motor_ratio": fixed_trait(9.9, 11.9),
        "commutator": level_trait(0.125, 0.2),
        "rolling": level_trait(0.46, 0.61),
        "rolling_pitch": pitch_trait(600, 840),
        "chassis": level_trait(0.24, 0.34),
        "chassis_pitch": pitch_trait(1500, 2000),
        "bend": level_trait(0.12, 0.17),
        "tooth": level_trait(0.36, 0.5),
        **BEARING,
    },
    faults={
        "broken tooth": {"tooth": 4.0, "chassis_pitch": 0.9, "mesh": 0.8},
        "bent shaft": {"bend": 4.0, "wheel_rate": 0.95},
        "bearing tone": {"bearing": 5.0, "bearing_pitch": 0.85, "wheel_rate": 0.96},
    },
)
def _run_toy_car(m, synth):
    """Gears mesh with sidebands at the wheel's rate, at a speed that wanders."""
    speed = m.wheel_rate * synth.wander(0.015)
    wheel = synth.turns(speed)
    swing = swinging(wheel, m.bend)
    motor = wheel * m.motor_ratio
    hits = synth.events(wheel, jitter=0.001)
    tooth = synth.modes(m.chassis_pitch * np.array([1, 1.7, 2.9]), decay=0.008)
    return (
        m.mesh * swing * synth.harmonics(wheel * round(m.teeth), falling(8, 1.0))
        + m.commutator * synth.harmonics(motor * 6, falling(4, 0.6))
        + m.rolling * swing * synth.band_noise(m.rolling_pitch, octaves=1.4)
        + m.chassis * synth.band_noise(m.chassis_pitch, octaves=0.3)
        + m.tooth * synth.place(hits, synth.strengths(hits), tooth)
        + bearing_impacts(m, synth, motor)
    )


@_machine_kind(
    "ToyConveyor",
    traits={
        "roller_rate": rate_trait(6, 10),
        "belt_ratio": fixed_trait(0.06, 0.12),
        "motor_ratio": fixed_trait(10, 16),
        "motor": level_trait(0.25, 0.5),
        "belt": level_trait(0.5, 0.8),
        "belt_pitch": pitch_trait(400, 800),
        "joint": level_trait(0.6, 1.2),
        "joint_pitch": pitch_trait(150, 300),
        "play": level_trait(0.3, 0.6),
        "play_pitch": pitch_trait(1500, 3000),
        "wobble": level_trait(0.08, 0.16),
        **BEARING,
    },
    faults={
        "rattle": {"play": 1.8, "play_pitch": 0.85},
        "imbalance": {"wobble": 3.0, "roller_rate": 0.95, "play_pitch": 0.97},
        "clogging": {"roller_rate": 0.92, "motor": 1.2, "belt_pitch": 1.2},
    },
)
def _run_toy_conveyor(m, synth):
    """A belt over rollers that rattle, driven by a humming motor."""
    roller = synth.turns(m.roller_rate * synth.wander(0.005))
    swing = swinging(roller, m.wobble)
    motor = roller * m.motor_ratio
    joints = synth.events(roller * m.belt_ratio)
    plate = synth.modes(m.joint_pitch * np.array([1, 1.8, 3.1]), decay=0.05)
    shakes = synth.events(roller * 5, jitter=0.02)
    loose = synth.modes(m.play_pitch * np.array([1, 1.5, 2.2]), decay=0.005)
    return (
        m.motor * synth.harmonics(motor, falling(12, 0.7))
        + m.belt * swing * synth.wander(0.08) * synth.band_noise(m.belt_pitch, 1.5)
        + m.joint * synth.place(joints, synth.strengths(joints), plate)
        + m.play * synth.place(shakes, synth.strengths(shakes, 0.6), loose)
        + bearing_impacts(m, synth, motor)
    )


# --- From a machine to a recording ----------------------------------------------------


class _Clip(NamedTuple):
    """Name of one recording, which alone decides everything random in it."""

    seed: int
    machine_type: str
    machine: int
    split: str
    label: int
    number: int

    @property
    def fault(self):
        """Name of the fault; the faults of a kind take turns."""
        faults = list(_MACHINE_KINDS[self.machine_type].faults)
        return "none" if self.label == 1 else faults[self.number % len(faults)]

    def machine_rng(self):
        """Chance in the making of the machine."""
        return np.random.default_rng(self._seed_of(self.machine))

    def part_seed(self, part):
        """Chance in a part of this recording."""
        parts = ("operation", "sound", "factory", "microphone")
        key = (self.split == "test", self.label == -1, self.number, parts.index(part))
        return self._seed_of(self.machine, *map(int, key))

    def _seed_of(self, *key):
        # The type enters by its name: its place in a list would tie it to other types.
        type_key = zlib.crc32(self.machine_type.encode())
        return np.random.SeedSequence(self.seed, spawn_key=(type_key, *key))


def _operate(clip, fault):
    """Traits of the clip's machine as it runs in this clip with `fault`."""
    kind = _MACHINE_KINDS[clip.machine_type]
    build = clip.machine_rng()
    rng = np.random.default_rng(clip.part_seed("operation"))
    severity = rng.uniform(*_SEVERITY)
    factors = kind.faults.get(fault, {})
    traits = {
        name: trait.draw(build)
        * np.exp(trait.jitter * rng.standard_normal())
        * factors.get(name, 1.0) ** severity
        for name, trait in kind.traits.items()
    }
    return SimpleNamespace(**traits)


def _machine_sound(clip, fault, n_samples, sample_rate):
    """Sound of the clip's machine with `fault`, without noise, at its own level."""
    synth = Synthesizer(clip.part_seed("sound"), n_samples, sample_rate)
    return _MACHINE_KINDS[clip.machine_type].run(_operate(clip, fault), synth)


def _record(clip, n_samples, sample_rate, snr):
    """Machine and factory in one clip, as the microphone hears each of them."""
    healthy = _machine_sound(clip, "none", n_samples, sample_rate)
    machine = healthy
    if clip.fault != "none":
        machine = _machine_sound(clip, clip.fault, n_samples, sample_rate)
    noise = factory_noise(
        Synthesizer(clip.part_seed("factory"), n_samples, sample_rate)
    )
    rng = np.random.default_rng(clip.part_seed("microphone"))
    tilt = rng.normal(0, 0.05)
    healthy, machine, noise = (
        tilt_spectrum(sound, tilt) for sound in (healthy, machine, noise)
    )
    # Levels come from the healthy machine: a loud fault makes a loud clip, not more
    # factory noise.
    noise *= rms(healthy) / rms(noise) * 10 ** (-snr / 20)
    gain = _CLIP_RMS / rms(healthy + noise) * 10 ** (rng.uniform(-1.5, 1.5) / 20)
    return gain * machine, gain * noise


def _mix(machine, noise):
    """Audio of a clip; one that would overload is turned down as a whole."""
    audio = machine + noise
    peak = np.abs(audio).max()
    return (audio * min(1.0, _PEAK_LIMIT / peak)).astype(np.float32)


# --- The public function --------------------------------------------------------------

_COLUMNS = [
    "audio",
    "sample_rate",
    "machine_type",
    "machine_id",
    "split",
    "label",
    "fault",
]


def _check_types(machine_types):
    """Return the kinds of machine asked for as a list of known names."""
    names = [machine_types] if isinstance(machine_types, str) else list(machine_types)
    for name in names:
        if name not in _MACHINE_KINDS:
            close = difflib.get_close_matches(
                str(name), _MACHINE_KINDS, n=1, cutoff=0.4
            )
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"machine type {name!r} is unknown: {hint}choose from "
                f"{', '.join(_MACHINE_KINDS)}"
            )
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"machine_types is {names}: name one type or more, each of them once"
        )
    return names


def _check_number(name, value, kind, low, high=np.inf):
    """Raise ValueError unless `value` is a `kind` of number within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, kind):
        what = "an integer" if kind is Integral else "a number"
        raise ValueError(f"{name} is {value!r}: give {what}")
    if not low <= value <= high or not np.isfinite(value):
        wanted = f"from {low} to {high}" if np.isfinite(high) else f"of at least {low}"
        raise ValueError(f"{name} is {value!r}: give a finite value {wanted}")


def _draw_seed(random_state):
    # check_random_state(None) would draw from NumPy's global generator.
    if random_state is None:
        random_state = np.random.RandomState()
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def make_machine_sounds(
    machine_types=("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor"),
    *,
    n_machines=4,
    n_train=20,
    n_test_normal=10,
    n_test_anomalous=10,
    duration=10.0,
    sample_rate=16000,
    snr=0.0,
    random_state=None,
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
        Types of machines; the default is all there are.
    n_machines : int, default=4
        Machines of each type, from 1 to 100. Their IDs are "00", "01", ...
    n_train : int, default=20
        Normal clips of each machine in the split "train", at least 0.
    n_test_normal : int, default=10
        Normal clips of each machine in the split "test", at least 0.
    n_test_anomalous : int, default=10
        Faulty clips of each machine in the split "test", at least 0. The faults of the
        type take turns.
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
        Decides every sound. An int makes the same table each time, to the bit. None
        takes a new seed from the operating system; NumPy's global generator is not
        touched.

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
    `sample_rate` and `snr`). So asking for more clips, machines or types leaves the
    others as they are.

    The table takes `4 * duration * sample_rate` bytes a clip, 614 MB by default, and
    about 40 ms a clip to make.

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
    machine_types = _check_types(machine_types)
    _check_number("n_machines", n_machines, Integral, 1, 100)
    _check_number("n_train", n_train, Integral, 0)
    _check_number("n_test_normal", n_test_normal, Integral, 0)
    _check_number("n_test_anomalous", n_test_anomalous, Integral, 0)
    _check_number("duration", duration, Real, 0.5)
    _check_number("sample_rate", sample_rate, Integral, 8000)
    _check_number("snr", snr, Real, -60, 60)
    seed = _draw_seed(random_state)
    n_samples = round(duration * sample_rate)
    groups = [
        ("train", 1, n_train),
        ("test", 1, n_test_normal),
        ("test", -1, n_test_anomalous),
    ]
    clips = [
        _Clip(seed, machine_type, machine, split, label, number)
        for machine_type in machine_types
        for machine in range(n_machines)
        for split, label, n_clips in groups
        for number in range(n_clips)
    ]
    rows = [
        (
            _mix(*_record(clip, n_samples, sample_rate, snr)),
            int(sample_rate),
            clip.machine_type,
            f"{clip.machine:02d}",
            clip.split,
            clip.label,
            clip.fault,
        )
        for clip in clips
    ]
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"label": "Int64"})
