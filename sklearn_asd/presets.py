"""The paper's systems for each machine type of DCASE 2020 (Table 2), ready to fit."""

from __future__ import annotations

from typing import Any, NamedTuple

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from sklearn_asd._utils.messages import check_choice, did_you_mean
from sklearn_asd.detectors import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    IDConfidenceDetector,
)
from sklearn_asd.features import AugmentationExpander, LogMelSegmenter
from sklearn_asd.features.segmenter import SEGMENT_DURATION, SEGMENT_HOP
from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes

__all__ = ["make_paper_system", "training_types"]


class _IDSystem(NamedTuple):
    """A row of Table 2: what the paper chose for one machine type."""

    training_types: tuple[str, ...]
    network: str
    input: str
    center_loss_weight: float
    batch_size: int


_GROUP_A = ("ToyCar", "ToyConveyor")
_GROUP_B = ("fan", "pump", "slider", "valve")
_ALL = _GROUP_A + _GROUP_B

_TABLE_2 = {
    "ToyCar": _IDSystem(_GROUP_A, "pvmilk20", "segment", 0.1, 384),
    "ToyConveyor": _IDSystem(("ToyConveyor",), "pvmilk20", "segment", 0.2, 384),
    "fan": _IDSystem(_GROUP_B, "pvmilk20", "segment", 0.1, 384),
    "pump": _IDSystem(_ALL, "pvmilk20", "clip", 0.0075, 384),
    "slider": _IDSystem(_GROUP_B, "pvmilk20", "segment", 0.1, 384),
    "valve": _IDSystem(_ALL, "inouet18", "clip", 0.15, 256),
}

_SEGMENTS = {"segment_duration": SEGMENT_DURATION, "segment_hop": SEGMENT_HOP}
_INPUTS = {"segment": _SEGMENTS, "clip": {"segment_duration": None}}


def make_paper_system(machine_type, system="i", **overrides):
    """Build one of the paper's systems for one machine type of DCASE 2020.

    Parameters
    ----------
    machine_type : {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}
        Type of the machines whose clips are to be scored, to the letter.

    system : {"i", "ii", "iii", "iv", "baseline"}, default="i"
        - "iii" tells machine types and IDs apart, with the network, input, centre
          loss weight and batch size that Table 2 gives the type;
        - "iv" tells views of the type's clips apart, with the same settings for all
          types;
        - "i" and "ii" combine the two: "i" their scores as they are, "ii" after
          scaling them by Gamma distributions;
        - "baseline" is the challenge's autoencoder.

    **overrides : any
        Parameters to set otherwise, by their own names, in every part that has them:
        ``max_epochs=5``, ``random_state=0``, ``n_jobs=2``, ``cache_dir="frames"``,
        ``on_bad_clip="nan"``... To set one in one part only, use `set_params` on the
        result, as in ``set_params(id__estimator__detect__lr=1e-4)``.

    Returns
    -------
    system : OnlyMachineTypes or GammaProbabilityEnsemble
        Unfitted, to be fitted to normal clips of `training_types`. It picks them from
        a table that holds more, so the same table of all clips serves every system.

        "iii", "iv" and "baseline" are a Pipeline with the steps "segment" and
        "detect" ("iv": "expand" before) in an
        :class:`~sklearn_asd.OnlyMachineTypes`; "i" and "ii" are
        an ensemble of two such members, "id" and "augment".

    Raises
    ------
    ValueError
        If there is no such machine type or system.

    TypeError
        If no part of the system has a parameter of that name.

    See Also
    --------
    training_types : Which clips a system learns from.
    sklearn_asd.GammaProbabilityEnsemble : Combines any detectors.

    Notes
    -----
    The paper's authors chose the epoch of "iii" by hand, by its accuracy on
    validation clips. Here a tenth of each machine's normal clips is held out, and the
    best of 100 epochs by that measure is kept.

    The paper fits the Gamma distribution of "ii" to scores of all six types'
    networks. Here it is fitted to those of the member's own training clips, since
    the networks of the other types are not part of the system.

    The settings are meant for some thousand clips of each type. With fewer, use a
    smaller `batch_size`, as each batch is one step of learning.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, section 4 and Table 2.

    Koizumi et al., "Description and Discussion on DCASE2020 Challenge Task2:
    Unsupervised Anomalous Sound Detection for Machine Condition Monitoring", DCASE
    2020 Workshop, section 4.

    Examples
    --------
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.presets import make_paper_system
    >>> clips = make_machine_sounds(
    ...     "ToyConveyor", n_machines=2, n_train=4, n_test_normal=1,
    ...     n_test_anomalous=1, duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> system = make_paper_system(
    ...     "ToyConveyor", "iii", max_epochs=2, batch_size=8, random_state=0)
    >>> system.fit(train).score_samples(test).shape  # higher is more normal
    (4,)
    """
    check_choice("machine_type", machine_type, _TABLE_2)
    check_choice("system", system, _BUILDERS)
    built = _BUILDERS[system](machine_type)
    _override(built, system, overrides)
    return built


def training_types(machine_type, system="i"):
    """Say which machine types a system of the paper learns from.

    Parameters
    ----------
    machine_type : {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}
        Type of the machines whose clips are to be scored.

    system : {"i", "ii", "iii", "iv", "baseline"}, default="i"
        The system, as in :func:`make_paper_system`.

    Returns
    -------
    types : tuple of str
        For "i", "ii" and "iii" those of Table 2, the type itself among them; for
        "iv" and "baseline" the type itself.

    Raises
    ------
    ValueError
        If there is no such machine type or system.

    See Also
    --------
    make_paper_system : Builds the system.

    Examples
    --------
    >>> from sklearn_asd.presets import training_types
    >>> training_types("fan")
    ('fan', 'pump', 'slider', 'valve')
    >>> training_types("fan", "iv")
    ('fan',)
    """
    check_choice("machine_type", machine_type, _TABLE_2)
    check_choice("system", system, _BUILDERS)
    if system in ("iv", "baseline"):
        return (machine_type,)
    return _TABLE_2[machine_type].training_types


def _make_id_system(machine_type: str) -> OnlyMachineTypes:
    """System (iii), sections 2.1 and 4.1.3."""
    row = _TABLE_2[machine_type]
    detect = IDConfidenceDetector(
        network=row.network,
        center_loss_weight=row.center_loss_weight,
        batch_size=row.batch_size,
        weight_decay=0.0,
        validation_fraction=0.1,
    )
    segment = LogMelSegmenter(**_INPUTS[row.input])
    pipe = Pipeline([("segment", segment), ("detect", detect)])
    return OnlyMachineTypes(pipe, training_types(machine_type, "iii"))


def _make_augment_system(machine_type: str) -> OnlyMachineTypes:
    """System (iv), sections 2.2 and 4.1.4."""
    detect = AugmentConfidenceDetector(
        network="inouet18",
        center_loss_weight=0.005,
        batch_size=300,
        weight_decay=1e-3,
        max_epochs=100,
    )
    expand = AugmentationExpander(
        pitch_steps=(-0.1, 0, 0.1), stretch_rates=(0.9, 1.0, 1.1)
    )
    segment = LogMelSegmenter(**_SEGMENTS)
    pipe = Pipeline([("expand", expand), ("segment", segment), ("detect", detect)])
    return OnlyMachineTypes(pipe, training_types(machine_type, "iv"))


def _make_ensemble(machine_type: str, scaling: str | None) -> GammaProbabilityEnsemble:
    """Systems (i) and (ii), sections 3.3 and 4.1.5."""
    members = [
        ("id", _make_id_system(machine_type)),
        ("augment", _make_augment_system(machine_type)),
    ]
    return GammaProbabilityEnsemble(members, scaling=scaling, aggregation="probability")


def _make_baseline(machine_type: str) -> OnlyMachineTypes:
    """The challenge's baseline, which hears every window of five frames of a clip."""
    detect = AutoencoderDetector(n_frames=5, batch_size=512, max_epochs=100)
    segment = LogMelSegmenter(segment_duration=None)
    pipe = Pipeline([("segment", segment), ("detect", detect)])
    return OnlyMachineTypes(pipe, training_types(machine_type, "baseline"))


_BUILDERS = {
    "i": lambda machine_type: _make_ensemble(machine_type, None),
    "ii": lambda machine_type: _make_ensemble(machine_type, "gamma"),
    "iii": _make_id_system,
    "iv": _make_augment_system,
    "baseline": _make_baseline,
}


def _override(built: Any, system: str, overrides: dict[str, Any]) -> None:
    """Set parameters in each part that has them."""
    parts = _parts(built)
    names = {name for part in parts for name in part.get_params(deep=False)}
    names.discard("estimators")
    for name in overrides:
        if name not in names:
            owners = sorted({type(part).__name__ for part in parts})
            raise TypeError(
                f"system {system!r} has no parameter {name!r}:"
                f"{did_you_mean(name, sorted(names))} It takes those of "
                f"{', '.join(owners)}"
            )
    for part in parts:
        own = part.get_params(deep=False)
        part.set_params(**{k: v for k, v in overrides.items() if k in own})


def _parts(built: Any) -> list[BaseEstimator]:
    """Ensemble, steps and detectors, each of which has parameters of its own."""
    if isinstance(built, GammaProbabilityEnsemble):
        members = [part for _, member in built.estimators for part in _parts(member)]
        return [built, *members]
    return [step for _, step in built.estimator.steps]
