"""The kinds of machine that make_machine_sounds makes, and their faults."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from sklearn_asd.datasets.synthesis import (
    BEARING,
    FIXED,
    LEVEL,
    PITCH,
    RATE,
    Synthesizer,
    Trait,
    bearing_impacts,
    falling,
    swinging,
    weakened,
)

__all__ = ["MACHINE_KINDS", "MachineKind"]

_Run = Callable[[SimpleNamespace, Synthesizer], np.ndarray]


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


MACHINE_KINDS: dict[str, MachineKind] = {}


def _machine_kind(
    name: str, traits: dict[str, Trait], faults: dict[str, dict[str, float]]
) -> Callable[[_Run], _Run]:
    """Register the decorated function as `run` of a kind of machine."""

    def register(run: _Run) -> _Run:
        MACHINE_KINDS[name] = MachineKind(traits, faults, run)
        return run

    return register


@_machine_kind(
    "fan",
    traits={
        "shaft_rate": Trait(23.5, 27, RATE),
        "blades": Trait(4.5, 7.5, FIXED),
        "slots": Trait(31, 39, FIXED),
        "blade_tone": Trait(0.36, 0.5, LEVEL),
        "slot_tone": Trait(0.1, 0.16, LEVEL),
        "airflow": Trait(0.56, 0.71, LEVEL),
        "airflow_pitch": Trait(420, 590, PITCH),
        "wobble": Trait(0.1, 0.14, LEVEL),
        **BEARING,
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
        + bearing_impacts(m, synth, turns)
    )


@_machine_kind(
    "pump",
    traits={
        "stroke_rate": Trait(2.1, 2.8, RATE),
        "shaft_rate": Trait(24.5, 27.5, RATE),
        "hum": Trait(0.19, 0.31, LEVEL),
        "slots": Trait(27, 35, FIXED),
        "slot_tone": Trait(0.075, 0.12, LEVEL),
        "thump": Trait(1.2, 1.7, LEVEL),
        "thump_pitch": Trait(107, 150, PITCH),
        "flow": Trait(0.92, 1.22, LEVEL),
        "flow_pitch": Trait(830, 1180, PITCH),
        "flow_decay": Trait(0.07, 0.1, LEVEL),
        "hiss": Trait(0.036, 0.05, LEVEL),
        "hiss_pitch": Trait(3200, 4300, PITCH),
        "unevenness": Trait(0.1, 0.14, LEVEL),
        **BEARING,
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
        + bearing_impacts(m, synth, turns)
    )


@_machine_kind(
    "slider",
    traits={
        "stroke_rate": Trait(0.5, 0.9, RATE),
        "whine_pitch": Trait(1400, 2400, PITCH),
        "whine": Trait(0.3, 0.6, LEVEL),
        "friction": Trait(0.25, 0.5, LEVEL),
        "friction_pitch": Trait(2000, 4000, PITCH),
        "stop": Trait(1.0, 2.0, LEVEL),
        "stop_pitch": Trait(300, 600, PITCH),
        "screw_rate": Trait(14, 22, RATE),
        "play": Trait(0.05, 0.1, LEVEL),
        "play_pitch": Trait(1200, 2400, PITCH),
        "stick": Trait(0.02, 0.05, LEVEL),
        **BEARING,
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
        + bearing_impacts(m, synth, screw)
    )


@_machine_kind(
    "valve",
    traits={
        "cycle_rate": Trait(0.9, 1.8, RATE),
        "hold": Trait(0.12, 0.24, LEVEL),
        "click": Trait(0.6, 1.0, LEVEL),
        "click_pitch": Trait(700, 1400, PITCH),
        "close": Trait(0.5, 0.8, LEVEL),
        "close_pitch": Trait(1000, 1900, PITCH),
        "ringing": Trait(0.01, 0.02, LEVEL),
        "puff": Trait(0.3, 0.6, LEVEL),
        "puff_pitch": Trait(3000, 5500, PITCH),
        "puff_decay": Trait(0.02, 0.05, LEVEL),
        "hiss": Trait(0.004, 0.01, LEVEL),
        "unevenness": Trait(0.06, 0.12, LEVEL),
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
        "wheel_rate": Trait(9.9, 11.9, RATE),
        "teeth": Trait(38, 47, FIXED),
        "mesh": Trait(0.36, 0.5, LEVEL),
        "motor_ratio": Trait(9.9, 11.9, FIXED),
        "commutator": Trait(0.125, 0.2, LEVEL),
        "rolling": Trait(0.46, 0.61, LEVEL),
        "rolling_pitch": Trait(600, 840, PITCH),
        "chassis": Trait(0.24, 0.34, LEVEL),
        "chassis_pitch": Trait(1500, 2000, PITCH),
        "bend": Trait(0.12, 0.17, LEVEL),
        "tooth": Trait(0.36, 0.5, LEVEL),
        **BEARING,
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
        + bearing_impacts(m, synth, motor)
    )


@_machine_kind(
    "ToyConveyor",
    traits={
        "roller_rate": Trait(6, 10, RATE),
        "belt_ratio": Trait(0.06, 0.12, FIXED),
        "motor_ratio": Trait(10, 16, FIXED),
        "motor": Trait(0.25, 0.5, LEVEL),
        "belt": Trait(0.5, 0.8, LEVEL),
        "belt_pitch": Trait(400, 800, PITCH),
        "joint": Trait(0.6, 1.2, LEVEL),
        "joint_pitch": Trait(150, 300, PITCH),
        "play": Trait(0.3, 0.6, LEVEL),
        "play_pitch": Trait(1500, 3000, PITCH),
        "wobble": Trait(0.08, 0.16, LEVEL),
        **BEARING,
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
        + bearing_impacts(m, synth, motor)
    )
