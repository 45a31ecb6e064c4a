"""The kinds of machine that make_machine_sounds knows, and their faults."""

# Authors: The sklearn_asd developers
# SPDX-License-Identifier: BSD-3-Clause

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from sklearn_asd.datasets._synthesis import (
    BEARING,
    Synthesizer,
    Trait,
    bearing_impacts,
    falling,
    fixed_trait,
    level_trait,
    pitch_trait,
    rate_trait,
    swinging,
    weakened,
)

# --- What a machine is: numbers, and faults that change them --------------------------


class MachineKind(NamedTuple):
    """Numbers that make a machine of the kind, its faults, and how it sounds."""

    traits: dict[str, Trait]
    faults: dict[str, dict[str, float]]
    run: Callable[[SimpleNamespace, Synthesizer], np.ndarray]


MACHINE_KINDS: dict[str, MachineKind] = {}


def machine_kind(name, traits, faults):
    """Register the decorated function ``run(m, synth) -> signal`` as a kind of machine.

    `traits` are the numbers a machine has; `run` finds them as attributes of `m`.
    `faults` give for each fault the factors by which it changes traits when severe:
    a fault moves a machine along the axes on which healthy machines differ. Several
    factors at once are physical: what drags slows the shaft, what is loose rings lower.
    """

    def register(run):
        MACHINE_KINDS[name] = MachineKind(traits, faults, run)
        return run

    return register


# --- The kinds of machine -------------------------------------------------------------


@machine_kind(
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


@machine_kind(
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


@machine_kind(
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


@machine_kind(
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


@machine_kind(
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


@machine_kind(
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
