"""Detectors as torch modules, and the table of all that can be exported.

Each module is made of a fitted estimator and the names of the machines, and gives the
score of one clip: ``module(clip, machine)``. The clip is what the estimator takes, and
`machine` the place of its machine among the names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from sklearn_asd.audio.machines import type_prefix
from sklearn_asd.detectors import (
    EmbeddingNeighborDetector,
    GaussianDetector,
    IDConfidenceDetector,
    MahalanobisDetector,
)
from sklearn_asd.detectors.constants import are_copies, find_units
from sklearn_asd.export.doubt import log_confidence, pool_doubt
from sklearn_asd.export.features import (
    TRACED_FRAMES,
    LogMel,
    Scale,
    Spectrogram,
    Statistics,
    Welch,
    count_up,
)
from sklearn_asd.export.gamma import GammaProbabilities, log_complement
from sklearn_asd.export.pooling import TensorPooling, make_pooling
from sklearn_asd.features import (
    LogMelSegmenter,
    PowerSpectrum,
    RecordingCheck,
    SpectrumStatistics,
)
from sklearn_asd.meta import (
    GammaProbabilityEnsemble,
    OnlyMachineTypes,
    PerMachine,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd.meta.structure import list_inside

__all__ = ["ByMachine", "SoundCheck", "find_machines", "make_module", "walk_used"]

_GROUPINGS = ("machine_id", "machine_type")
_BELOW_1 = 1 - torch.finfo(torch.float64).eps / 2


class ByMachine(nn.Module):
    """A number for each machine.

    Parameters
    ----------
    values : list of number
        The numbers. Where all are equal, the graph does not ask for the machine.
    """

    def __init__(self, values: Any) -> None:
        super().__init__()
        self.values = torch.as_tensor(values)
        self.are_equal = len(self.values.unique()) <= 1

    def forward(self, machine: torch.Tensor) -> torch.Tensor:
        """Look it up.

        Parameters
        ----------
        machine : tensor of shape (), int64
            The machine.

        Returns
        -------
        value : tensor of shape ()
            Its number.
        """
        return self.values[0] if self.are_equal else self.values[machine]


class _Confidence(nn.Module):
    """The score of an :class:`IDConfidenceDetector`."""

    def __init__(self, detector: IDConfidenceDetector, machines: list[str]) -> None:
        super().__init__()
        self.network = copy.deepcopy(detector.net_.module_).cpu().eval()
        self.min_frames = _find_min_frames(self.network, detector.n_features_in_)
        self.by_id = detector.confidence == "id"
        self.pool = make_pooling(detector.pooling)
        asked = machines if self.by_id else []
        self.own_class = ByMachine(np.searchsorted(detector.classes_, asked))

    def forward(self, sound: Spectrogram, machine: torch.Tensor) -> torch.Tensor:
        logits, _, is_heard = self._run(sound)
        asked = self.own_class(machine) if self.by_id else logits.argmax(1, True)
        is_asked = torch.arange(logits.shape[1]) == asked
        score = pool_doubt(logits, is_asked, self.pool)
        return torch.where(is_heard, score, torch.nan)

    def embed(self, sound: Spectrogram, pool: TensorPooling) -> torch.Tensor:
        """Pool the embeddings of the segments, (n_pooled,)."""
        _, embeddings, is_heard = self._run(sound)
        return torch.where(is_heard, pool(embeddings), torch.nan)

    def _run(self, sound: Spectrogram) -> tuple[torch.Tensor, ...]:
        """Logits and embeddings of the segments, and whether it can hear any."""
        segments, is_heard = sound.segments, sound.has_segment
        n_frames = segments.shape[2]
        if not isinstance(n_frames, int):  # of a whole clip, whose length is open
            is_heard = torch.tensor(self.min_frames) <= n_frames
            padded = functional.pad(segments, (0, self.min_frames))
            segments = padded[:, :, count_up(self.min_frames, n_frames)]
        logits, embeddings = self.network(segments)
        return logits.double(), embeddings.double(), is_heard


def _find_min_frames(network: nn.Module, n_mels: int) -> int:
    """Find the shortest whole clip that a network takes, in frames."""
    named = max(getattr(part, "min_frames", 1) for part in network.modules())
    for n_frames in range(named, TRACED_FRAMES):
        try:
            with torch.no_grad():
                network(torch.zeros(1, n_mels, n_frames))
        except Exception:  # a network of the user's own raises what it will
            continue
        return n_frames
    return max(named, TRACED_FRAMES)


class _Neighbors(nn.Module):
    """The score of an :class:`EmbeddingNeighborDetector`."""

    def __init__(
        self, detector: EmbeddingNeighborDetector, machines: list[str]
    ) -> None:
        super().__init__()
        _refuse_what_no_graph_holds(detector)
        points, names, whitening = detector.training_points()
        self.shifts = torch.from_numpy(detector.shifts_[:, 0])
        self.scales = torch.from_numpy(detector.scales_[:, 0])
        self.points = torch.from_numpy(points)
        self.copies = _Copies(points, names)
        self.whitening = None if whitening is None else torch.from_numpy(whitening)
        if self.whitening is None:
            self.points = _normalize(self.points)
        places = {name: place for place, name in enumerate(machines)}
        of_all = [0] * len(points)
        owner = of_all if names is None else [places.get(name, -1) for name in names]
        self.owner = torch.tensor(owner)
        self.own = ByMachine([0] if names is None else list(places.values()))
        self.encode = _Encode(detector.encoder_, machines, detector.pooling)
        self.n_neighbors = min(detector.n_neighbors, len(points))

    def forward(self, sound: Spectrogram, machine: torch.Tensor) -> torch.Tensor:
        point = self.encode(sound, machine)
        if self.whitening is not None:
            point = point @ self.whitening
        place = _normalize(point) if self.whitening is None else point
        squared = (self.points - place).square().sum(1)
        distances = squared / 2 if self.whitening is None else squared.sqrt()
        distances = self.copies(point, distances)
        distances = (distances - self.shifts) / self.scales
        of_others = torch.where(self.owner == self.own(machine), 0.0, torch.inf)
        nearest = (distances + of_others).topk(self.n_neighbors, largest=False).values
        # The machine may have fewer training clips than others.
        n_own = (nearest < torch.inf).sum()
        return nearest.masked_fill(nearest == torch.inf, 0).sum() / n_own


class _Copies(nn.Module):
    """Distances to training clips of machines whose clips are all equal."""

    def __init__(self, points: np.ndarray, names: np.ndarray | None) -> None:
        super().__init__()
        units, are_equal = np.ones(points.shape), np.zeros(len(points), dtype=bool)
        names = np.zeros(len(points)) if names is None else names
        for name in np.unique(names):
            rows = np.flatnonzero(names == name)
            if are_copies(points[rows]):
                are_equal[rows], units[rows] = True, find_units(points[rows])
        self.points, self.units = torch.from_numpy(points), torch.from_numpy(units)
        self.are_equal = torch.from_numpy(are_equal)
        self.is_empty = not are_equal.any()

    def forward(self, point: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        if self.is_empty:
            return others
        far = ((point - self.points) / self.units).square().sum(1).sqrt()
        explained = self.points.shape[1] ** 0.5
        far = torch.where(far < explained, 0, far - explained)
        return torch.where(self.are_equal, far, others)


class _Mahalanobis(nn.Module):
    """The score of a :class:`MahalanobisDetector`."""

    def __init__(self, detector: MahalanobisDetector, machines: list[str]) -> None:
        super().__init__()
        self.mean = torch.from_numpy(detector.covariance_.location_)
        self.precision = torch.from_numpy(detector.covariance_.get_precision())

    def forward(self, row: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        difference = row - self.mean
        squared = (difference @ self.precision * difference).sum()
        return torch.where(squared < 0, 0, squared).sqrt()


def _refuse_what_no_graph_holds(detector: EmbeddingNeighborDetector) -> None:
    if detector.metric not in ("cosine", "mahalanobis"):
        raise ValueError(
            f"EmbeddingNeighborDetector has metric={detector.metric!r:.200}, which a "
            'graph cannot hold: fit with metric="cosine" or "mahalanobis"'
        )
    if detector.by_domain or detector.scales_.shape[1] > 1:
        raise ValueError(
            f"EmbeddingNeighborDetector has by_domain={detector.by_domain} and "
            f"n_bands={detector.scales_.shape[1]}, which a graph cannot hold: fit "
            "with by_domain=False and n_bands=1, or keep the model with save_model "
            "and score in Python"
        )


class _Gaussian(nn.Module):
    """The score of a :class:`GaussianDetector`."""

    def __init__(self, detector: GaussianDetector, machines: list[str]) -> None:
        super().__init__()
        if detector.by_domain:
            raise ValueError(
                "GaussianDetector has by_domain=True, which a graph cannot hold: fit "
                "with by_domain=False, or keep the model with save_model and score in "
                "Python"
            )
        known = list(getattr(detector, "classes_", [""]))
        own = [known.index(machine) for machine in machines] if len(known) > 1 else [0]
        self.means = torch.from_numpy(detector.means_[own])
        self.whitenings = torch.from_numpy(detector.whitenings_[own])
        self.place = ByMachine(list(range(len(own))))
        self.encode = None
        if detector.encoder_ is not None:
            self.encode = _Encode(detector.encoder_, machines)

    def forward(self, clip: Any, machine: torch.Tensor) -> torch.Tensor:
        row = clip if self.encode is None else self.encode(clip, machine)
        one = self.place(machine)
        whitened = (row - self.means[one]) @ self.whitenings[one]
        return whitened.square().sum().sqrt()


class _Encode(nn.Module):
    """What turns a clip into a row of numbers: a transformer or an embedding."""

    def __init__(self, encoder: Any, machines: list[str], pooling: Any = None) -> None:
        super().__init__()
        # An embedding does not depend on the machine.
        self.module: Any = make_module(encoder, [])
        self.pool = make_pooling(pooling)

    def forward(self, clip: Any, machine: torch.Tensor) -> torch.Tensor:
        if hasattr(self.module, "embed"):
            return self.module.embed(clip, self.pool)
        return self.module(clip, machine)


class SoundCheck(nn.Module):
    """A :class:`RecordingCheck`, without remarks: the graph refuses silent samples."""

    def forward(self, clip: Any, machine: torch.Tensor) -> Any:
        """Pass the clip on.

        Parameters
        ----------
        clip : any
            A clip, as the step before gives it.

        machine : Tensor of shape ()
            Place of its machine.

        Returns
        -------
        clip : any
            The same.
        """
        return clip


class _Steps(nn.Module):
    """What a :class:`Pipeline` does."""

    def __init__(self, pipeline: Pipeline, machines: list[str]) -> None:
        super().__init__()
        steps = [s for _, s in pipeline.steps if s not in (None, "passthrough")]
        self.steps = nn.ModuleList(make_module(step, machines) for step in steps)
        if isinstance(self.steps[0], LogMel | Welch):
            _check_frames(self.steps[0], *steps)

    def forward(self, clip: Any, machine: torch.Tensor) -> Any:
        for step in self.steps:
            clip = step(clip, machine)
        return clip


class _PerMachine(nn.Module):
    """The score of the machine's own detector."""

    def __init__(self, detector: PerMachine, machines: list[str]) -> None:
        super().__init__()
        own = [detector.estimators_[machine] for machine in machines]
        self.detectors = nn.ModuleList(make_module(one, machines) for one in own)
        self.place = ByMachine(list(range(len(machines))))

    def forward(self, clip: Any, machine: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([detector(clip, machine) for detector in self.detectors])
        return scores[self.place(machine)]


class _Ensemble(nn.Module):
    """The score of a :class:`GammaProbabilityEnsemble`: -log(1 - f)."""

    def __init__(self, ensemble: GammaProbabilityEnsemble, machines: list[str]) -> None:
        super().__init__()
        members = [make_module(member, machines) for member in ensemble.estimators_]
        self.members = nn.ModuleList(members)
        self.aggregate = _AGGREGATIONS[ensemble.aggregation]
        self.scale = None
        if ensemble.scaling is not None:
            groups = [group for group, scales in ensemble.scales_.items() if scales]
            self.scale = GammaProbabilities([ensemble.scales_[g] for g in groups])
            own = [_group_of(ensemble, machine) for machine in machines or [""]]
            self.group = ByMachine([groups.index(group) for group in own])

    def forward(self, clip: Any, machine: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([member(clip, machine) for member in self.members])
        if self.scale is None:
            # Scores of 1 count as the next lower number, as in Python.
            log_f = torch.where(scores == 1, _BELOW_1, scores).log()
            beyond, log_p = scores > 1, log_confidence(scores)
            log_rest = torch.where(beyond, log_p, log_complement(log_f))
            log_f = torch.where(beyond, -log_p.exp(), log_f)
            return -self.aggregate(log_f, log_rest)
        return -self.aggregate(*self.scale(scores, self.group(machine)))


class _ZScores(nn.Module):
    """The score of a :class:`ZScoreEnsemble`: its largest or mean z-score, scaled."""

    def __init__(self, ensemble: ZScoreEnsemble, machines: list[str]) -> None:
        super().__init__()
        used = _list_used(ensemble)
        members = [make_module(member, machines) for member in used.values()]
        self.members = nn.ModuleList(members)
        self.is_max = ensemble.aggregation == "max"
        self.log_scores = ensemble.log_scores
        groups = list(ensemble.selected_)
        # Of a member that was not selected, the scale changes nothing.
        scales = torch.tensor([[[0.0, 1.0]] * len(used)] * len(groups)).double()
        self.selected = torch.zeros(scales.shape[:2], dtype=torch.bool)
        for row, group in enumerate(groups):
            columns = [list(used).index(name) for name in ensemble.selected_[group]]
            scales[row, columns] = torch.tensor(ensemble.scales_[group]).double()
            self.selected[row, columns] = True
        self.centers, self.scales = scales.unbind(2)
        totals = [ensemble.total_scales_[group] for group in groups]
        self.totals = torch.tensor(totals, dtype=torch.float64)
        own = [_group_of(ensemble, machine) for machine in machines or [""]]
        self.group = ByMachine([groups.index(group) for group in own])

    def forward(self, clip: Any, machine: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([member(clip, machine) for member in self.members])
        group = self.group(machine)
        selected = self.selected[group]
        if self.log_scores:
            tiny = torch.finfo(torch.float64).tiny
            scores = torch.where(scores < tiny, tiny, scores).log()  # keeps NaN
        z = (scores - self.centers[group]) / self.scales[group]
        z = torch.where(selected, z, 0)
        combined = z.sum() / selected.sum()
        if self.is_max:
            # The largest one of some runtimes passes over NaN, and the sum keeps it.
            largest = torch.where(selected, z, -torch.inf).max()
            combined = torch.where(combined.isnan(), combined, largest)
        total = self.totals[group]
        return (combined - total[0]) / total[1]


# What can be exported, and what makes a module of it.
_MODULES: dict[type, Callable[[Any, list[str]], nn.Module]] = {
    LogMelSegmenter: lambda segmenter, _: LogMel(segmenter),
    PowerSpectrum: lambda spectrum, _: Welch(spectrum),
    RecordingCheck: lambda *_: SoundCheck(),
    SpectrumStatistics: lambda statistics, _: Statistics(statistics),
    StandardScaler: lambda scaler, _: Scale(scaler),
    MahalanobisDetector: _Mahalanobis,
    IDConfidenceDetector: _Confidence,
    EmbeddingNeighborDetector: _Neighbors,
    GaussianDetector: _Gaussian,
    Pipeline: _Steps,
    PerMachine: _PerMachine,
    GammaProbabilityEnsemble: _Ensemble,
    ZScoreEnsemble: _ZScores,
    ThresholdTuner: lambda tuner, names: make_module(tuner.detector_, names),
    OnlyMachineTypes: lambda only, names: make_module(only.estimator_, names),
    FrozenEstimator: lambda frozen, names: make_module(frozen.estimator, names),
}


def make_module(estimator: Any, machines: list[str]) -> nn.Module:
    """Make the torch module of a fitted estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    machines : list of str
        The machines, which the module is given by their places in this list.

    Returns
    -------
    module : torch module
        ``module(clip, machine)`` gives the anomaly score of one clip as a tensor of
        shape (), float64; of a transformer, the transformed clip.

    Raises
    ------
    ValueError
        If it cannot be exported.
    """
    return _look_up(estimator)(estimator, machines)


def _look_up(estimator: Any) -> Callable[[Any, list[str]], nn.Module]:
    if type(estimator) in _MODULES:
        return _MODULES[type(estimator)]
    known = ", ".join(kind.__name__ for kind in _MODULES)
    raise ValueError(
        f"{type(estimator).__name__} cannot be exported: a graph holds {known}. Export "
        "a model of these, or keep this one with save_model and score in Python"
    )


def find_machines(estimator: Any) -> list[str]:
    """Name the machines that all of a fitted model knows.

    Parameters
    ----------
    estimator : estimator
        The model.

    Returns
    -------
    machines : list of str
        As in `classes_`, sorted; empty if nothing in the model tells machines apart.

    Raises
    ------
    ValueError
        If something in the model cannot be exported, or there is no machine that it
        can score.
    """
    inside = list(walk_used(estimator))
    for one in inside:
        _look_up(one)
    known = [set(map(str, one.classes_)) for one in inside if hasattr(one, "classes_")]
    named = set().union(*known) if known else {""}  # one machine without a name
    machines = sorted(machine for machine in named if _knows(estimator, machine))
    if not machines:
        raise ValueError(
            "no machine is known to all members of the ensemble and to its group_by: "
            "export the members one by one, or fit with group_by=None, "
            '"machine_type" or "machine_id" (a ZScoreEnsemble without machine types)'
        )
    return machines if known else []


def walk_used(estimator: Any) -> Iterator[Any]:
    """Go through an estimator and what is inside it, as far as scores depend on it.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    Yields
    ------
    estimator : estimator
        From the outside in, without members that their ensemble did not select.
    """
    yield estimator
    for one in _list_scoring(estimator):
        yield from walk_used(one)


def _list_scoring(estimator: Any) -> list[Any]:
    """Estimators directly inside one on which its scores depend."""
    selects = "selected_" in vars(estimator)
    return [*_list_used(estimator).values()] if selects else list_inside(estimator)


def _knows(estimator: Any, machine: str) -> bool:
    """Whether all of an estimator that scores the clips of a machine knows it."""
    names = getattr(estimator, "classes_", [machine])
    if machine not in map(str, names) or not _is_scaled(estimator, machine):
        return False
    # Of detectors that have a machine each, only its own.
    own = vars(estimator).get("estimators_")
    inside = [own[machine]] if isinstance(own, dict) else _list_scoring(estimator)
    return all(_knows(one, machine) for one in inside)


def _list_used(ensemble: ZScoreEnsemble) -> dict[str, Any]:
    """Members that are selected for some machine type, by name."""
    names = set().union(*ensemble.selected_.values())
    return {k: one for k, one in ensemble.named_estimators_.items() if k in names}


def _is_scaled(estimator: Any, machine: str) -> bool:
    """Whether an ensemble has scales for a machine; True of others."""
    groups = _list_groups(estimator)
    return groups is None or _find_group(estimator, groups, machine) is not None


def _list_groups(estimator: Any) -> list[str] | None:
    """Groups of machines that an ensemble scales apart; None if it does not."""
    scales = getattr(estimator, "scales_", None)
    if not isinstance(scales, dict) or None in scales or not scales:
        return None
    if _grouping(estimator) not in _GROUPINGS:
        return []
    return [str(group) for group, of in scales.items() if of]


def _grouping(ensemble: Any) -> Any:
    """What an ensemble with groups tells them by: the type, if nothing is said."""
    return ensemble.group_by or "machine_type"


def _find_group(ensemble: Any, groups: list[str], machine: str) -> str | None:
    """Group of a machine, if any."""
    if _grouping(ensemble) == "machine_id":
        return machine if machine in groups else None
    own = [group for group in groups if machine.startswith(type_prefix(group))]
    return own[0] if own else None


def _group_of(ensemble: Any, machine: str) -> str | None:
    """Group by whose scales an ensemble scales a machine; None if there is one."""
    return _find_group(ensemble, _list_groups(ensemble) or [], machine)


def _check_frames(module: LogMel | Welch, front_end: Any, *others: Any) -> None:
    """Refuse segments other than those that the detectors were fitted on."""
    silence = np.zeros(module.n_samples(1), dtype=np.float32)
    uncached = clone(front_end).set_params(cache_dir=None, n_jobs=None, verbose=0)
    clips = uncached.transform([silence])
    for one in walk_used(others[-1]):
        if hasattr(one, "embed"):
            one.embed(clips)


def _normalize(points: torch.Tensor) -> torch.Tensor:
    length = points.square().sum(-1, keepdim=True).sqrt()
    return points / torch.where(length == 0, 1, length)


def _aggregate_mean(log_f: torch.Tensor, log_rest: torch.Tensor) -> torch.Tensor:
    mean = log_f.exp().mean()
    far = log_rest.logsumexp(dim=0) - np.log(len(log_rest))
    return torch.where(mean < 0.5, log_complement(mean.log()), far)


def _aggregate_product(log_f: torch.Tensor, log_rest: torch.Tensor) -> torch.Tensor:
    far = log_rest.logsumexp(dim=0)
    return torch.where(log_rest.max() < -30, far, log_complement(log_f.sum()))


# As in sklearn_asd.meta.ensemble, of one clip.
_AGGREGATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "probability": lambda log_f, log_rest: log_rest.sum(),
    "mean": _aggregate_mean,
    "product": _aggregate_product,
}
