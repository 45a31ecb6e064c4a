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
    Synthesizer,
    factory_noise,
    rms,
    tilt_spectrum,
)

_CLIP_RMS = 0.03  # of a healthy clip, noise included; MIMII and ToyADMOS: 0.01-0.09
_PEAK_LIMIT = 0.9
_SEVERITY = (0.3, 1.0)  # of a fault: from barely audible to plain


# --- What a machine is: numbers, and faults that change them --------------------------


class _Trait(NamedTuple):
    """Range (log-uniform over machines) of a number, and its jitter from clip to clip.

    The jitter is the standard deviation of the number's logarithm.
    """

    low: float
    high: float
    jitter: float

    def draw(self, rng):
        return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


def _fixed(low, high):
    """Ratio or count set by the machine's build."""
    return _Trait(low, high, jitter=0.0)


def _rate(low, high):
    """Speed (1/s), which the load changes a little."""
    return _Trait(low, high, jitter=0.01)


def _pitch(low, high):
    """Resonance or centre of a noise band (Hz)."""
    return _Trait(low, high, jitter=0.005)


def _level(low, high):
    """Amplitude or other quantity that varies from clip to clip by about 1 dB."""
    return _Trait(low, high, jitter=0.12)


class _MachineKind(NamedTuple):
    traits: dict[str, _Trait]
    faults: dict[str, dict[str, float]]
    run: Callable[[SimpleNamespace, Synthesizer], np.ndarray]


_MACHINE_KINDS: dict[str, _MachineKind] = {}


def _machine_kind(name, traits, faults):
    """Register the decorated function ``run(m, synth) -> signal`` as a kind of machine.

    `traits` are the numbers a machine has; `run` finds them as attributes of `m`.
    `faults` give for each fault the factors by which it changes traits when severe.
    So a fault moves a machine along the very axes on which sound machines differ.
    """

    def register(run):
        _MACHINE_KINDS[name] = _MachineKind(traits, faults, run)
        return run

    return register


# --- Parts that several kinds share ---------------------------------------------------

_BEARING = {
    "ball_pass": _fixed(3.1, 5.4),  # impacts a revolution
    "bearing_pitch": _pitch(2200, 4200),
    "bearing": _level(0.02, 0.05),
}


def _bearing(m, synth, turns):
    """Balls that roll over a spot: impacts which the turning load swells."""
    times = synth.events(m.ball_pass * turns, jitter=0.0004)
    load = 1 + 0.5 * np.sin(
        2 * np.pi * np.interp(times * synth.sample_rate, np.arange(turns.size), turns)
    )
    shell = synth.modes(m.bearing_pitch * np.array([1.0, 1.31, 1.74]), decay=0.003)
    return m.bearing * synth.place(times, load * synth.strengths(times, 0.3), shell)


def _fall(n_harmonics, power):
    """Amplitudes of harmonics that fall as ``1 / k ** power``."""
    return np.arange(1.0, n_harmonics + 1) ** -power


def _swing(turns, depth):
    """Amplitude modulation once a revolution."""
    return 1 + min(depth, 1.0) * np.sin(2 * np.pi * turns)


def _weaken(times, every, by):
    """Strengths of 1, but weaker by the share `by` at each `every`-th event."""
    weak = np.arange(len(times)) % every == 0
    return 1 - min(by, 1.0) * weak


# --- The kinds of machine -------------------------------------------------------------


@_machine_kind(
    "fan",
    traits={
        "shaft_rate": _rate(22, 29),
        "blades": _fixed(4.5, 7.5),
        "slots": _fixed(28, 44),
        "blade_tone": _level(0.3, 0.6),
        "slot_tone": _level(0.08, 0.2),
        "airflow": _level(0.5, 0.8),
        "airflow_pitch": _pitch(350, 700),
        "wobble": _level(0.08, 0.16),
        **_BEARING,
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
    swing = _swing(turns, m.wobble)
    blades = synth.harmonics(turns * round(m.blades), _fall(8, 1.2))
    slots = synth.harmonics(turns * round(m.slots), _fall(4, 1.0)) * swing
    airflow = synth.band_noise(m.airflow_pitch, octaves=1.6) * synth.wander(0.1) * swing
    return (
        m.blade_tone * blades
        + m.slot_tone * slots
        + m.wobble * synth.harmonics(turns, _fall(4, 0.7))
        + m.airflow * airflow
        + _bearing(m, synth, turns)
    )


@_machine_kind(
    "pump",
    traits={
        "stroke_rate": _rate(1.8, 3.2),
        "shaft_rate": _rate(23, 29),
        "hum": _level(0.15, 0.4),
        "slots": _fixed(24, 40),
        "slot_tone": _level(0.06, 0.15),
        "thump": _level(1.0, 2.0),
        "thump_pitch": _pitch(90, 180),
        "flow": _level(0.8, 1.4),
        "flow_pitch": _pitch(700, 1400),
        "flow_decay": _level(0.06, 0.12),
        "hiss": _level(0.03, 0.06),
        "hiss_pitch": _pitch(2800, 5000),
        "unevenness": _level(0.08, 0.16),
        **_BEARING,
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
    strengths = _weaken(strokes, 3, by=m.unevenness) * synth.strengths(strokes, 0.1)
    case = synth.modes(m.thump_pitch * np.array([1, 2.3, 3.9, 6.1]), decay=0.06)
    gush = synth.place(strokes + 0.02, strengths, synth.puff(0.02, m.flow_decay))
    return (
        m.hum * synth.harmonics(turns, _fall(8, 0.8))
        + m.slot_tone * synth.harmonics(turns * round(m.slots), _fall(3, 1.0))
        + m.thump * synth.place(strokes, strengths, case)
        + m.flow * (0.15 + gush) * synth.band_noise(m.flow_pitch, octaves=0.9)
        + m.hiss * synth.wander(0.15) * synth.band_noise(m.hiss_pitch, octaves=0.6)
        + _bearing(m, synth, turns)
    )


@_machine_kind(
    "slider",
    traits={
        "stroke_rate": _rate(0.5, 0.9),
        "whine_pitch": _pitch(1400, 2400),
        "whine": _level(0.3, 0.6),
        "friction": _level(0.25, 0.5),
        "friction_pitch": _pitch(2000, 4000),
        "stop": _level(1.0, 2.0),
        "stop_pitch": _pitch(300, 600),
        "screw_rate": _rate(14, 22),
        "play": _level(0.05, 0.1),
        "play_pitch": _pitch(1200, 2400),
        "stick": _level(0.02, 0.05),
        **_BEARING,
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
        + _bearing(m, synth, screw)
    )


@_machine_kind(
    "valve",
    traits={
        "cycle_rate": _rate(0.9, 1.8),
        "hold": _level(0.12, 0.24),
        "click": _level(0.6, 1.0),
        "click_pitch": _pitch(700, 1400),
        "close": _level(0.5, 0.8),
        "close_pitch": _pitch(1000, 1900),
        "ringing": _level(0.01, 0.02),
        "puff": _level(0.3, 0.6),
        "puff_pitch": _pitch(3000, 5500),
        "puff_decay": _level(0.02, 0.05),
        "hiss": _level(0.004, 0.01),
        "unevenness": _level(0.06, 0.12),
    },
    faults={
        "leak": {"hiss": 4.0, "puff": 0.5, "puff_pitch": 1.4},
        "missed stroke": {"unevenness": 10.0, "click": 0.7, "click_pitch": 0.95},
        "slow closing": {"hold": 1.4, "close": 0.5, "close_pitch": 0.92},
    },
)
def _run_valve(m, synth):
    """The valve snaps open, lets a puff of air through and snaps shut."""
    opens = synth.events(synth.turns(m.cycle_rate), jitter=0.003)
    strengths = _weaken(opens, 3, by=m.unevenness) * synth.strengths(opens, 0.1)
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
        "wheel_rate": _rate(9, 13),
        "teeth": _fixed(34, 52),
        "mesh": _level(0.3, 0.6),
        "motor_ratio": _fixed(9, 13),
        "commutator": _level(0.1, 0.25),
        "rolling": _level(0.4, 0.7),
        "rolling_pitch": _pitch(500, 1000),
        "chassis": _level(0.2, 0.4),
        "chassis_pitch": _pitch(1300, 2300),
        "bend": _level(0.1, 0.2),
        "tooth": _level(0.3, 0.6),
        **_BEARING,
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
    swing = _swing(wheel, m.bend)
    motor = wheel * m.motor_ratio
    hits = synth.events(wheel, jitter=0.001)
    tooth = synth.modes(m.chassis_pitch * np.array([1, 1.7, 2.9]), decay=0.008)
    return (
        m.mesh * swing * synth.harmonics(wheel * round(m.teeth), _fall(8, 1.0))
        + m.commutator * synth.harmonics(motor * 6, _fall(4, 0.6))
        + m.rolling * swing * synth.band_noise(m.rolling_pitch, octaves=1.4)
        + m.chassis * synth.band_noise(m.chassis_pitch, octaves=0.3)
        + m.tooth * synth.place(hits, synth.strengths(hits), tooth)
        + _bearing(m, synth, motor)
    )


@_machine_kind(
    "ToyConveyor",
    traits={
        "roller_rate": _rate(6, 10),
        "belt_ratio": _fixed(0.06, 0.12),
        "motor_ratio": _fixed(10, 16),
        "motor": _level(0.25, 0.5),
        "belt": _level(0.5, 0.8),
        "belt_pitch": _pitch(400, 800),
        "joint": _level(0.6, 1.2),
        "joint_pitch": _pitch(150, 300),
        "play": _level(0.3, 0.6),
        "play_pitch": _pitch(1500, 3000),
        "wobble": _level(0.08, 0.16),
        **_BEARING,
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
    swing = _swing(roller, m.wobble)
    motor = roller * m.motor_ratio
    joints = synth.events(roller * m.belt_ratio)
    plate = synth.modes(m.joint_pitch * np.array([1, 1.8, 3.1]), decay=0.05)
    shakes = synth.events(roller * 5, jitter=0.02)
    loose = synth.modes(m.play_pitch * np.array([1, 1.5, 2.2]), decay=0.005)
    return (
        m.motor * synth.harmonics(motor, _fall(12, 0.7))
        + m.belt * swing * synth.wander(0.08) * synth.band_noise(m.belt_pitch, 1.5)
        + m.joint * synth.place(joints, synth.strengths(joints), plate)
        + m.play * synth.place(shakes, synth.strengths(shakes, 0.6), loose)
        + _bearing(m, synth, motor)
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
