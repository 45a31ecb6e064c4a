"""The kinds of machine that make_machine_sounds makes, and their faults."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from sklearn_asd.datasets.synthesis import Synthesizer, falling, swinging, weakened

__all__ = ["MACHINE_KINDS", "MachineKind", "Trait"]

_Run = Callable[[SimpleNamespace, Synthesizer], np.ndarray]


class Trait(NamedTuple):
    """A number of a machine: its range over machines, and its jitter over clips.

    Attributes
    ----------
    low, high : float
        Range, log-uniform over machines.

    jitter : float
        Standard deviation of the number's logarithm from clip to clip: `_FIXED`,
        `_RATE`, `_PITCH` or `_LEVEL`.
    """

    low: float
    high: float
    jitter: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw the number of a new machine.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        value : float
            In the range.
        """
        return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


class MachineKind(NamedTuple):
    """A kind of machine: its numbers, its faults, and how it sounds.

    A fault moves a machine along the axes on which healthy machines differ. It changes
    several traits at once, for physical reasons: what drags slows the shaft, and what
    is loose rings lower.

    Attributes
    ----------
    traits : dict of str to Trait
        The numbers of a machine.

    faults : dict of str to dict of str to float
        For each fault, the factors by which it changes traits when it is severe.

    run : callable
        ``run(m, synth) -> signal``, which finds the traits as attributes of `m`.
    """

    traits: dict[str, Trait]
    faults: dict[str, dict[str, float]]
    run: _Run


# Jitter of traits.
_FIXED = 0.0  # ratios and counts set by the machine's build
_RATE = 0.01  # speeds (1/s), which the load changes a little
_PITCH = 0.005  # resonances and centres of noise bands (Hz)
_LEVEL = 0.12  # amplitudes and other quantities that vary by about 1 dB

# Traits of a shaft's bearing; only a worn one is audible.
_BEARING = {
    "ball_pass": Trait(3.1, 5.4, _FIXED),  # impacts a revolution
    "bearing_pitch": Trait(2200, 4200, _PITCH),
    "bearing": Trait(0.02, 0.05, _LEVEL),
}

MACHINE_KINDS: dict[str, MachineKind] = {}


def _machine_kind(
    name: str, traits: dict[str, Trait], faults: dict[str, dict[str, float]]
) -> Callable[[_Run], _Run]:
    """Register the decorated function as `run` of a kind of machine."""

    def register(run: _Run) -> _Run:
        MACHINE_KINDS[name] = MachineKind(traits, faults, run)
        return run

    return register


def _strike_bearing(
    m: SimpleNamespace, synth: Synthesizer, turns: np.ndarray
) -> np.ndarray:
    """Balls roll over a worn spot; the impacts swell with the turning load."""
    times = synth.events(m.ball_pass * turns, jitter=0.0004)
    angle = np.interp(times, np.arange(turns.size) / synth.sample_rate, turns)
    load = 1 + 0.5 * np.sin(2 * np.pi * angle)
    shell = synth.modes(m.bearing_pitch * np.array([1.0, 1.31, 1.74]), decay=0.003)
    return m.bearing * synth.place(times, load * synth.strengths(times, 0.3), shell)


@_machine_kind(
    "fan",
    traits={
        "shaft_rate": Trait(23.5, 27, _RATE),
        "blades": Trait(4.5, 7.5, _FIXED),
        "slots": Trait(31, 39, _FIXED),
        "blade_tone": Trait(0.36, 0.5, _LEVEL),
        "slot_tone": Trait(0.1, 0.16, _LEVEL),
        "airflow": Trait(0.56, 0.71, _LEVEL),
        "airflow_pitch": Trait(420, 590, _PITCH),
        "wobble": Trait(0.1, 0.14, _LEVEL),
        **_BEARING,
    },
    faults={
        "bearing tone": {"bearing": 5.0, "bearing_pitch": 0.85, "shaft_rate": 0.96},
        "imbalance": {"wobble": 4.0, "slot_tone": 0.6, "shaft_rate": 0.96},
        "clogging": {"airflow": 0.8, "airflow_pitch": 1.3, "shaft_rate": 1.06},
    },
)
def _run_fan(m: SimpleNamespace, synth: Synthesizer) -> np.ndarray:
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
        + _strike_bearing(m, synth, turns)
    )


@_machine_kind(
    "pump",
    traits={
        "stroke_rate": Trait(2.1, 2.8, _RATE),
        "shaft_rate": Trait(24.5, 27.5, _RATE),
        "hum": Trait(0.19, 0.31, _LEVEL),
        "slots": Trait(27, 35, _FIXED),
        "slot_tone": Trait(0.075, 0.12, _LEVEL),
        "thump": Trait(1.2, 1.7, _LEVEL),
        "thump_pitch": Trait(107, 150, _PITCH),
        "flow": Trait(0.92, 1.22, _LEVEL),
        "flow_pitch": Trait(830, 1180, _PITCH),
        "flow_decay": Trait(0.07, 0.1, _LEVEL),
        "hiss": Trait(0.036, 0.05, _LEVEL),
        "hiss_pitch": Trait(3200, 4300, _PITCH),
        "unevenness": Trait(0.1, 0.14, _LEVEL),
        **_BEARING,
    },
    faults={
        "leak": {"hiss": 4.0, "hiss_pitch": 1.3, "thump": 0.7, "shaft_rate": 1.04},
        "missed stroke": {"unevenness": 8.0, "hum": 0.7, "shaft_rate": 1.06},
        "clogging": {"flow": 0.8, "flow_pitch": 0.75, "shaft_rate": 0.92},
    },
)
def _run_pump(m: SimpleNamespace, synth: Synthesizer) -> np.ndarray:
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
        + _strike_bearing(m, synth, turns)
    )


@_machine_kind(
    "slider",
    traits={
        "stroke_rate": Trait(0.5, 0.9, _RATE),
        "whine_pitch": Trait(1400, 2400, _PITCH),
        "whine": Trait(0.3, 0.6, _LEVEL),
        "friction": Trait(0.25, 0.5, _LEVEL),
        "friction_pitch": Trait(2000, 4000, _PITCH),
        "stop": Trait(1.0, 2.0, _LEVEL),
        "stop_pitch": Trait(300, 600, _PITCH),
        "screw_rate": Trait(14, 22, _RATE),
        "play": Trait(0.05, 0.1, _LEVEL),
        "play_pitch": Trait(1200, 2400, _PITCH),
        "stick": Trait(0.02, 0.05, _LEVEL),
        **_BEARING,
    },
    faults={
        "rattle": {"play": 6.0, "play_pitch": 0.8, "stop_pitch": 0.93},
        "bearing tone": {"bearing": 6.0, "bearing_pitch": 0.85, "whine_pitch": 0.94},
        "stick-slip": {"stick": 2.5, "friction": 1.2, "whine_pitch": 0.97},
    },
)
def _run_slider(m: SimpleNamespace, synth: Synthesizer) -> np.ndarray:
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
        + m.stop * synth.strike(stops, knock)
        + m.play * synth.strike(shakes, loose, 0.6)
        + _strike_bearing(m, synth, screw)
    )


@_machine_kind(
    "valve",
    traits={
        "cycle_rate": Trait(0.9, 1.8, _RATE),
        "hold": Trait(0.12, 0.24, _LEVEL),
        "click": Trait(0.6, 1.0, _LEVEL),
        "click_pitch": Trait(700, 1400, _PITCH),
        "close": Trait(0.5, 0.8, _LEVEL),
        "close_pitch": Trait(1000, 1900, _PITCH),
        "ringing": Trait(0.01, 0.02, _LEVEL),
        "puff": Trait(0.3, 0.6, _LEVEL),
        "puff_pitch": Trait(3000, 5500, _PITCH),
        "puff_decay": Trait(0.02, 0.05, _LEVEL),
        "hiss": Trait(0.004, 0.01, _LEVEL),
        "unevenness": Trait(0.06, 0.12, _LEVEL),
    },
    faults={
        "leak": {"hiss": 3.0, "puff": 0.5, "puff_pitch": 1.4, "click_pitch": 0.94},
        "missed stroke": {"unevenness": 10.0, "click": 0.7, "click_pitch": 0.95},
        "slow closing": {"hold": 1.4, "close": 0.5, "close_pitch": 0.92},
    },
)
def _run_valve(m: SimpleNamespace, synth: Synthesizer) -> np.ndarray:
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
        "wheel_rate": Trait(9.9, 11.9, _RATE),
        "teeth": Trait(38, 47, _FIXED),
        "mesh": Trait(0.36, 0.5, _LEVEL),
        "motor_ratio": Trait(9.9, 11.9, _FIXED),
        "commutator": Trait(0.125, 0.2, _LEVEL),
        "rolling": Trait(0.46, 0.61, _LEVEL),
        "rolling_pitch": Trait(600, 840, _PITCH),
        "chassis": Trait(0.24, 0.34, _LEVEL),
        "chassis_pitch": Trait(1500, 2000, _PITCH),
        "bend": Trait(0.12, 0.17, _LEVEL),
        "tooth": Trait(0.36, 0.5, _LEVEL),
        **_BEARING,
    },
    faults={
        "broken tooth": {"tooth": 4.0, "chassis_pitch": 0.9, "mesh": 0.8},
        "bent shaft": {"bend": 4.0, "wheel_rate": 0.95},
        "bearing tone": {"bearing": 5.0, "bearing_pitch": 0.85, "wheel_rate": 0.96},
    },
)
def _run_toy_car(m: SimpleNamespace, synth: Synthesizer) -> np.ndarray:
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
        + m.tooth * synth.strike(hits, tooth)
        + _strike_bearing(m, synth, motor)
    )


@_machine_kind(
    "ToyConveyor",
    traits={
        "roller_rate": Trait(6, 10, _RATE),
        "belt_ratio": Trait(0.06, 0.12, _FIXED),
        "motor_ratio": Trait(10, 16, _FIXED),
        "motor": Trait(0.25, 0.5, _LEVEL),
        "belt": Trait(0.5, 0.8, _LEVEL),
        "belt_pitch": Trait(400, 800, _PITCH),
        "joint": Trait(0.6, 1.2, _LEVEL),
        "joint_pitch": Trait(150, 300, _PITCH),
        "play": Trait(0.3, 0.6, _LEVEL),
        "play_pitch": Trait(1500, 3000, _PITCH),
        "wobble": Trait(0.08, 0.16, _LEVEL),
        **_BEARING,
    },
    faults={
        "rattle": {"play": 1.8, "play_pitch": 0.85},
        "imbalance": {"wobble": 3.0, "roller_rate": 0.95, "play_pitch": 0.97},
        "clogging": {"roller_rate": 0.92, "motor": 1.2, "belt_pitch": 1.2},
    },
)
def _run_toy_conveyor(m: SimpleNamespace, synth: Synthesizer) -> np.ndarray:
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
        + m.joint * synth.strike(joints, plate)
        + m.play * synth.strike(shakes, loose, 0.6)
        + _strike_bearing(m, synth, motor)
    )
