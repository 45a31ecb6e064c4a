"""Detectors ready to fit: recommended ones, and the paper's systems (Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sklearn_asd._utils.messages import check_choice, did_you_mean, shorten
from sklearn_asd.audio.machines import DCASE2020_TYPES, MIMII_TYPES, TOYADMOS_TYPES
from sklearn_asd.detectors import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    EmbeddingNeighborDetector,
    GaussianDetector,
    IDConfidenceDetector,
)
from sklearn_asd.features import (
    AugmentationExpander,
    LogMelSegmenter,
    SpectrumStatistics,
)
from sklearn_asd.features.segmenter import SEGMENT_DURATION
from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes
from sklearn_asd.meta.per_machine_type import PerMachineType
from sklearn_asd.meta.structure import walk
from sklearn_asd.meta.zscore import ZScoreEnsemble

__all__ = [
    "DETECTORS",
    "ID_SYSTEMS",
    "NETWORK_DETECTORS",
    "PAPER_SYSTEMS",
    "make_detector",
    "make_paper_system",
    "scored_types",
    "training_types",
]


class _IDSystem(NamedTuple):
    """A row of Table 2: what the paper chose for one machine type."""

    training_types: tuple[str, ...]
    network: str
    segment_duration: float | None
    center_loss_weight: float
    batch_size: int


_TABLE_2 = {
    "ToyCar": _IDSystem(TOYADMOS_TYPES, "pvmilk20", SEGMENT_DURATION, 0.1, 384),
    "ToyConveyor": _IDSystem(("ToyConveyor",), "pvmilk20", SEGMENT_DURATION, 0.2, 384),
    "fan": _IDSystem(MIMII_TYPES, "pvmilk20", SEGMENT_DURATION, 0.1, 384),
    "pump": _IDSystem(DCASE2020_TYPES, "pvmilk20", None, 0.0075, 384),
    "slider": _IDSystem(MIMII_TYPES, "pvmilk20", SEGMENT_DURATION, 0.1, 384),
    "valve": _IDSystem(DCASE2020_TYPES, "inouet18", None, 0.15, 256),
}


# What the frames of a clip may become. Which one is best is a matter of the
# machine: a car is heard in its mean, a valve in its peaks.
_STATISTICS = {
    "mean": ("mean",),
    "max": ("max",),
    "rank": ("rank",),
    "mean_rank": ("mean", "rank"),
    "power": ("relative_power",),
}


def make_detector(name="default", **overrides):
    """Build a recommended detector of ClipSpectrograms.

    Parameters
    ----------
    name : {"default", "ensemble", "spectrum", "neighbors", "networks"}, \
            default="default"
        - "default" describes each clip by a statistic of its frames, and asks how far
          it is from its machine's mean (:class:`~sklearn_asd.GaussianDetector`). Of
          five statistics it chooses, for each machine type, the one that best tells
          the type's machines apart (sibling AUC). For a type of one machine all five
          are asked, and the largest z-score counts. Fits in seconds.
        - "ensemble" is the mean z-score of the default, of two others with correlations
          of frequency bands, and of "networks". It needs two machines or more, and
          minutes.
        - "spectrum" is one Gaussian of the mean and the rank-weighted mean of the
          frames; nothing is chosen.
        - "neighbors" is the distance to the nearest training clip by the same two
          statistics, divided by the usual distance there.
        - "networks" is the mean z-score of three networks that learn to tell the
          machines apart: distances to the nearest training clip in their embeddings.
          It needs two machines or more, and minutes.

    **overrides : any
        Parameters to change, by their own names, in every estimator of the detector
        that has them: ``contamination=0.05``, ``max_epochs=5``, ``device="cpu"``...
        ``random_state=0`` gives the networks the seeds 0, 1 and 2.

    Returns
    -------
    detector : ZScoreEnsemble
        Unfitted. Its input comes from :class:`~sklearn_asd.LogMelSegmenter`; only the
        networks use segments. ``score_samples`` is in standard deviations: a clip that
        scores -3 is three of them more anomalous than left-out training clips of its
        machine type are on average.

    Raises
    ------
    ValueError
        If the name is unknown.

    TypeError
        If no estimator of the detector has a parameter of that name.

    See Also
    --------
    make_paper_system : The systems of the paper.
    sklearn_asd.ZScoreEnsemble : Combines or chooses detectors of your own.

    Notes
    -----
    "default" is what ``sklearn-asd fit`` fits. The page on accuracy compares all on
    real recordings.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.presets import make_detector
    >>> clips = make_machine_sounds(
    ...     "valve", n_machines=2, n_train=8, n_test_normal=2, n_test_anomalous=2,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> pipe = make_pipeline(LogMelSegmenter(), make_detector()).fit(train)
    >>> list(pipe[-1].selected_)  # a statistic for each type
    ['valve']
    >>> pipe.score_samples(test).shape  # higher is more normal
    (8,)
    """
    check_choice("name", name, _DETECTORS)
    seed = overrides.pop("random_state", None)
    built = _DETECTORS[name]()
    networks = [one for one in walk(built) if "network" in one.get_params(deep=False)]
    for place, network in enumerate(networks):
        network.set_params(random_state=None if seed is None else seed + place)
    _override(built, name, overrides)
    return built


def _make_default() -> ZScoreEnsemble:
    # Of one machine nothing can be chosen: the largest z-score of distances counts,
    # whose tails are long.
    return _make_gaussians().set_params(log_scores=True)


def _make_gaussians(*more: str, standardization: Any = 1.0) -> ZScoreEnsemble:
    """Choose among Gaussians of statistics, each with some more statistics."""
    members = [
        (
            name,
            GaussianDetector(
                SpectrumStatistics((*statistics, *more)),
                standardization=standardization,
            ),
        )
        for name, statistics in _STATISTICS.items()
    ]
    return ZScoreEnsemble(members, n_selected=1)


def _make_networks() -> ZScoreEnsemble:
    """Three starts of one network, whose neighbours differ from one to the next."""
    network = IDConfidenceDetector(
        loss="arcface",
        mixup=0.5,
        random_starts=True,
        center_loss_weight=0.0,
        batch_size=64,
        max_epochs=25,
    )
    members = [
        (name, EmbeddingNeighborDetector(clone(network)))
        for name in ("first", "second", "third")
    ]
    return ZScoreEnsemble(members, aggregation="mean")


def _make_strongest() -> ZScoreEnsemble:
    members = [
        ("spectrum", _make_gaussians()),
        ("correlations", _make_gaussians("correlations", standardization="auto")),
        ("spread", _make_gaussians("std", "correlations", standardization="auto")),
        ("networks", _make_networks()),
    ]
    return ZScoreEnsemble(members, aggregation="mean")


def _make_spectrum() -> ZScoreEnsemble:
    gaussian = GaussianDetector(SpectrumStatistics(("mean", "rank")))
    return ZScoreEnsemble([("spectrum", gaussian)])


def _make_neighbors() -> ZScoreEnsemble:
    near = EmbeddingNeighborDetector(
        SpectrumStatistics(("mean", "rank")), metric="mahalanobis", density="ratio"
    )
    return ZScoreEnsemble([("neighbors", near)])


_DETECTORS = {
    "default": _make_default,
    "ensemble": _make_strongest,
    "spectrum": _make_spectrum,
    "neighbors": _make_neighbors,
    "networks": _make_networks,
}

DETECTORS = tuple(_DETECTORS)
"""Names of the recommended detectors."""

NETWORK_DETECTORS = ("ensemble", "networks")
"""Those that learn to tell machine IDs apart, and so need two machines or more."""


def make_paper_system(machine_type, system="i", **overrides):
    """Build one of the paper's systems, for one or more machine types of DCASE 2020.

    Parameters
    ----------
    machine_type : {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}, \
            sequence of these, or "all"
        Type of the machines whose clips are to be scored, spelt exactly so. Several
        types, or "all" six, make one detector, in which each clip is judged by the
        networks of its own type.

    system : {"i", "ii", "iii", "iv", "baseline"}, default="i"
        - "iii" tells machine types and IDs apart, with the network, input, centre
          loss weight and batch size of the type in Table 2;
        - "iv" tells views of the type's clips apart, with the same settings for all
          types;
        - "i" and "ii" combine the two: "i" their scores as they are, "ii" after
          scaling them by Gamma distributions. With several types, the networks of one
          kind share a distribution, the paper's MI; ``group_by="machine_type"`` fits
          one for each type, MD;
        - "baseline" is the challenge's autoencoder.

    **overrides : any
        Parameters to change, by their own names, in every estimator of the system that
        has them: ``max_epochs=5``, ``random_state=0``, ``n_jobs=2``,
        ``cache_dir="frames"``, ``on_bad_clip="nan"``... To change one in a single
        estimator, use `set_params` on the result, as in
        ``set_params(id__estimator__detect__lr=1e-4)``.

    Returns
    -------
    system : OnlyMachineTypes, PerMachineType or GammaProbabilityEnsemble
        Unfitted. It learns from normal clips of `training_types` and ignores other
        types, so one table of all clips serves every system.

        "iii", "iv" and "baseline" are a Pipeline with the steps "segment" and
        "detect" ("iv": "expand" before) in an
        :class:`~sklearn_asd.OnlyMachineTypes`, or one for each of several types in a
        :class:`~sklearn_asd.PerMachineType`; "i" and "ii" are
        an ensemble of two such members, "id" and "augment".

    Raises
    ------
    ValueError
        If the machine type or the system is unknown.

    TypeError
        If no estimator of the system has a parameter of that name.

    See Also
    --------
    training_types : The types that a system learns from.
    scored_types : The types that a system scores.
    sklearn_asd.GammaProbabilityEnsemble : Combines any detectors.

    Notes
    -----
    The paper's authors chose the epoch of "iii" by hand, by its accuracy on
    validation clips. Here a tenth of each machine's normal clips is held out, and the
    best of 100 epochs by that measure is kept.

    The paper fits the Gamma distributions of "ii" to scores of all six types'
    networks: ``make_paper_system("all", "ii")``, which trains twelve. The system of a
    single type does not contain the other networks, so its distributions are fitted to
    its own training clips.

    The settings suit about a thousand clips or more of each type. With fewer, use a
    smaller `batch_size`: each batch is one step of learning.

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
    types = DCASE2020_TYPES if machine_type == "all" else machine_type
    if types == [] or types == ():
        raise ValueError("machine_type is empty: name one or more types, or take 'all'")
    for kind in types if isinstance(types, list | tuple) else [types]:
        _check_names(kind, system)
    built = _BUILDERS[system](types)
    _override(built, system, overrides)
    return built


def training_types(machine_type, system="i"):
    """List the machine types whose clips a system of the paper learns from.

    Parameters
    ----------
    machine_type : {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}
        Type of the machines whose clips are to be scored.

    system : {"i", "ii", "iii", "iv", "baseline"}, default="i"
        The system, as in :func:`make_paper_system`.

    Returns
    -------
    types : tuple of str
        For "i", "ii" and "iii" those of Table 2, which include the type itself; for
        "iv" and "baseline" the type itself.

    Raises
    ------
    ValueError
        If the machine type or the system is unknown.

    See Also
    --------
    make_paper_system : Builds the system.
    scored_types : The types that a system scores.

    Examples
    --------
    >>> from sklearn_asd.presets import training_types
    >>> training_types("fan")
    ('fan', 'pump', 'slider', 'valve')
    >>> training_types("fan", "iv")
    ('fan',)
    """
    _check_names(machine_type, system)
    if system in ID_SYSTEMS:
        return _TABLE_2[machine_type].training_types
    return (machine_type,)


def scored_types(machine_type, system="i"):
    """List the machine types whose clips a system of the paper scores.

    Parameters
    ----------
    machine_type : {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}
        Type of the machines that the system is made for.

    system : {"i", "ii", "iii", "iv", "baseline"}, default="i"
        The system, as in :func:`make_paper_system`.

    Returns
    -------
    types : tuple of str
        For "iii" all types that it learns from, for the others the type itself. Clips
        of other types score NaN.

    Raises
    ------
    ValueError
        If the machine type or the system is unknown.

    See Also
    --------
    training_types : The types that a system learns from.

    Examples
    --------
    >>> from sklearn_asd.presets import scored_types
    >>> scored_types("ToyCar", "iii")
    ('ToyCar', 'ToyConveyor')
    >>> scored_types("ToyCar", "i")
    ('ToyCar',)
    """
    types = training_types(machine_type, system)
    return types if system == "iii" else (machine_type,)


def _check_names(machine_type: str, system: str) -> None:
    check_choice("machine_type", machine_type, _TABLE_2)
    check_choice("system", system, PAPER_SYSTEMS)


def _make_for(
    machine_type: str | Sequence[str], system: str, make: Callable[[str], Pipeline]
) -> OnlyMachineTypes | PerMachineType:
    """Make a detector of one type, or one that judges each type by its own."""
    if isinstance(machine_type, str):
        types = training_types(machine_type, system)
        return OnlyMachineTypes(make(machine_type), types)
    return PerMachineType(
        [(kind, make(kind)) for kind in machine_type],
        training_types={kind: training_types(kind, system) for kind in machine_type},
    )


def _make_id_pipeline(machine_type: str) -> Pipeline:
    """System (iii), sections 2.1 and 4.1.3."""
    row = _TABLE_2[machine_type]
    detect = IDConfidenceDetector(
        network=row.network,
        center_loss_weight=row.center_loss_weight,
        batch_size=row.batch_size,
        validation_fraction=0.1,
    )
    segment = LogMelSegmenter(segment_duration=row.segment_duration)
    return Pipeline([("segment", segment), ("detect", detect)])


def _make_augment_pipeline(machine_type: str) -> Pipeline:
    """System (iv), sections 2.2 and 4.1.4."""
    detect = AugmentConfidenceDetector(
        network="inouet18",
        center_loss_weight=0.005,
        batch_size=300,
        weight_decay=1e-3,
        max_epochs=100,
    )
    # Their defaults are the paper's.
    expand, segment = AugmentationExpander(), LogMelSegmenter()
    return Pipeline([("expand", expand), ("segment", segment), ("detect", detect)])


def _make_ensemble(
    machine_type: str | Sequence[str], scaling: str | None
) -> GammaProbabilityEnsemble:
    """Systems (i) and (ii), sections 3.3 and 4.1.5."""
    members = [
        ("id", _make_for(machine_type, "iii", _make_id_pipeline)),
        ("augment", _make_for(machine_type, "iv", _make_augment_pipeline)),
    ]
    return GammaProbabilityEnsemble(members, scaling=scaling, aggregation="probability")


def _make_baseline(machine_type: str) -> Pipeline:
    """The challenge's baseline, which reconstructs every five frames of a clip."""
    detect = AutoencoderDetector(n_frames=5, batch_size=512, max_epochs=100)
    segment = LogMelSegmenter(segment_duration=None)
    return Pipeline([("segment", segment), ("detect", detect)])


_BUILDERS = {
    "i": lambda types: _make_ensemble(types, None),
    "ii": lambda types: _make_ensemble(types, "gamma"),
    "iii": lambda types: _make_for(types, "iii", _make_id_pipeline),
    "iv": lambda types: _make_for(types, "iv", _make_augment_pipeline),
    "baseline": lambda types: _make_for(types, "baseline", _make_baseline),
}

PAPER_SYSTEMS = tuple(_BUILDERS)
"""Names of the systems: the paper's four, and the challenge's baseline."""

ID_SYSTEMS = ("i", "ii", "iii")
"""Those that learn to tell machine IDs apart, and so need two machines or more."""


def _override(built: Any, system: str, overrides: dict[str, Any]) -> None:
    """Set parameters in each estimator that has them."""
    owners = [
        one
        for one in walk(built)
        # The others define the system.
        if not isinstance(one, OnlyMachineTypes | PerMachineType | Pipeline)
    ]
    names = {name for owner in owners for name in owner.get_params(deep=False)}
    names.discard("estimators")
    for name in overrides:
        if name not in names:
            kinds = sorted({type(owner).__name__ for owner in owners})
            raise TypeError(
                f"system {shorten(system)} has no parameter {shorten(name)}:"
                f"{did_you_mean(name, sorted(names))} It takes those of "
                f"{', '.join(kinds)}"
            )
    for owner in owners:
        own = overrides.keys() & owner.get_params(deep=False).keys()
        owner.set_params(**{name: overrides[name] for name in own})
