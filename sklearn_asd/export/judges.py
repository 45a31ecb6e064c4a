"""From segments to an anomaly score, as torch modules for a graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from sklearn_asd.detectors import IDConfidenceDetector
from sklearn_asd.export.gamma import GammaTables
from sklearn_asd.export.sound import LogMelSegments
from sklearn_asd.features import LogMelSegmenter
from sklearn_asd.meta.ensemble import ALMOST_1, GammaProbabilityEnsemble
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes
from sklearn_asd.meta.thresholds import ThresholdTuner

__all__ = ["find_machines", "make_judge"]


class _Confidence(nn.Module):
    """The score of an :class:`IDConfidenceDetector`."""

    own_class: torch.Tensor

    def __init__(self, detector: IDConfidenceDetector, machines: list[str]) -> None:
        super().__init__()
        self.network = copy.deepcopy(detector.net_.module_).cpu().eval()
        self.by_id = detector.confidence == "id"
        self.n_classes = len(detector.classes_)
        if self.by_id:
            own_class = np.searchsorted(detector.classes_, machines)
            self.register_buffer("own_class", torch.from_numpy(own_class))

    def forward(self, segments: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        logits = self.network(segments)[0].double()
        asked = self.own_class[machine] if self.by_id else logits.argmax(1, True)
        others = logits.masked_fill(torch.arange(self.n_classes) == asked, -torch.inf)
        # 1 - p is the share of the other classes: nothing is subtracted from 1.
        doubt = others.logsumexp(dim=1) - logits.logsumexp(dim=1)
        # A mean of nothing would be 0 in some runtimes, and 0 / 0 is NaN in all.
        return doubt.exp().sum() / doubt.shape[0]


class _Ensemble(nn.Module):
    """The score of a :class:`GammaProbabilityEnsemble`: -log(1 - f)."""

    group: torch.Tensor

    def __init__(
        self,
        ensemble: GammaProbabilityEnsemble,
        members: list[nn.Module],
        machines: list[str],
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.aggregate = _AGGREGATIONS[ensemble.aggregation]
        self.tables = None
        if ensemble.scaling is not None:
            groups = list(ensemble.scales_)
            self.tables = GammaTables([ensemble.scales_[group] for group in groups])
            index = [groups.index(_group_of(ensemble, name)) for name in machines]
            self.register_buffer("group", torch.tensor(index))

    def forward(self, sound: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([member(sound, machine) for member in self.members])
        if self.tables is None:
            f = scores.clamp_max(ALMOST_1)
            return -self.aggregate(f.log(), (-f).log1p())
        return -self.aggregate(*self.tables(scores, self.group[machine]))


class _Heard(nn.Module):
    """A judge of segments, given samples."""

    def __init__(self, sound: LogMelSegments, judge: nn.Module) -> None:
        super().__init__()
        self.sound = sound
        self.judge = judge

    def forward(self, waveform: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        return self.judge(self.sound(waveform), machine)


def find_machines(estimator: Any) -> list[str]:
    """Name the machines that all parts of a fitted model know.

    Parameters
    ----------
    estimator : estimator
        The model.

    Returns
    -------
    machines : list of str
        As in `classes_`, sorted; there may be none.
    """
    known = [{str(name) for name in one.classes_} for one in _detectors(estimator)]
    machines = sorted(set.intersection(*known)) if known else []
    for ensemble in _parts(estimator, GammaProbabilityEnsemble):
        if ensemble.scaling is not None and ensemble.group_by is not None:
            machines = [m for m in machines if _group_of(ensemble, m) is not None]
    return machines


def make_judge(estimator: Any, machines: list[str], where: str = "") -> nn.Module:
    """Build what scores a clip as a fitted model does.

    Parameters
    ----------
    estimator : estimator
        The model.

    machines : list of str
        The machines that are told by their place in this list.

    where : str, default=""
        Name of the step or member, in errors.

    Returns
    -------
    judge : torch module
        ``judge(waveform, machine)`` gives the anomaly score of one clip as a tensor
        of shape (), float64. Of a model that takes spectrograms,
        ``judge(segments, machine)``.

    Raises
    ------
    ValueError
        If a part cannot be exported.
    """
    if type(estimator) in _INSIDE:
        inside = getattr(estimator, _INSIDE[type(estimator)])
        return make_judge(inside, machines, where)
    if type(estimator) is IDConfidenceDetector:
        return _Confidence(estimator, machines)
    if type(estimator) is Pipeline:
        (_, segmenter), (name, detector) = _check_steps(estimator)
        _check_frames(segmenter, detector)
        return _Heard(LogMelSegments(segmenter), make_judge(detector, machines, name))
    if type(estimator) is GammaProbabilityEnsemble:
        members = [
            make_judge(_check_member(name, member), machines, name)
            for name, member in estimator.named_estimators_.items()
        ]
        return _Ensemble(estimator, members, machines)
    raise _no_way(estimator, where)


_INSIDE: dict[type, str] = {
    FrozenEstimator: "estimator",
    OnlyMachineTypes: "estimator_",
    ThresholdTuner: "detector_",
}


def _held(estimator: Any) -> list[Any]:
    if isinstance(estimator, Pipeline):
        return [step for _, step in estimator.steps]
    if isinstance(estimator, GammaProbabilityEnsemble):
        return list(estimator.estimators_)
    attribute = _INSIDE.get(type(estimator))
    return [] if attribute is None else [getattr(estimator, attribute)]


def _parts(estimator: Any, kind: type) -> list[Any]:
    """Parts of a kind, at any depth."""
    found = [part for one in _held(estimator) for part in _parts(one, kind)]
    return [estimator, *found] if isinstance(estimator, kind) else found


def _detectors(estimator: Any) -> list[IDConfidenceDetector]:
    return _parts(estimator, IDConfidenceDetector)


def _check_steps(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """Refuse steps other than a segmenter and what follows."""
    steps = [pair for pair in pipeline.steps if pair[1] not in (None, "passthrough")]
    for name, step in steps[:-1]:
        if type(step) is not LogMelSegmenter:
            raise _no_way(step, name)
    if len(steps) != 2:
        raise ValueError(
            f"the pipeline has the steps {[name for name, _ in steps]}, and a graph "
            "needs two, a LogMelSegmenter and a detector: fit such a pipeline"
        )
    return steps


def _check_frames(segmenter: LogMelSegmenter, detector: Any) -> None:
    """Refuse segments other than those that the detectors were fitted on."""
    here = clone(segmenter).set_params(cache_dir=None, n_jobs=None, verbose=0)
    silence = np.zeros(LogMelSegments(segmenter).n_samples(1), dtype=np.float32)
    for one in _detectors(detector):
        one._check_clips(here.transform([silence]))


def _check_member(name: str, member: Any) -> Any:
    """Refuse members whose scores are not in [0, 1], for which there are tables."""
    if _parts(member, GammaProbabilityEnsemble):
        raise _no_way(member, name)
    return member


def _group_of(ensemble: GammaProbabilityEnsemble, machine: str) -> str | None:
    """Group whose Gamma distributions a machine's scores are scaled by."""
    groups = {group for group, scales in ensemble.scales_.items() if scales}
    if ensemble.group_by is None:
        return None
    if ensemble.group_by == "machine_id":
        return machine if machine in groups else None
    if ensemble.group_by == "machine_type":
        kinds = [group for group in groups if machine.startswith(f"{group}/")]
        return max(kinds, key=len, default=None)
    raise ValueError(
        f"the ensemble has group_by={ensemble.group_by!r}, a column that a graph does "
        'not see: fit with group_by="machine_type", "machine_id" or None'
    )


def _no_way(part: Any, where: str) -> ValueError:
    name = type(part).__name__
    return ValueError(
        (f"{where!r}, {name}," if where else name)
        + " cannot be exported: a graph holds LogMelSegmenter, IDConfidenceDetector "
        "and ensembles of them (GammaProbabilityEnsemble), also in ThresholdTuner, "
        "OnlyMachineTypes or FrozenEstimator. Export the part that consists of these, "
        "or keep the model with save_model and score in Python"
    )


def _aggregate_probability(log_f: torch.Tensor, log_rest: torch.Tensor) -> torch.Tensor:
    return log_rest.sum()


def _aggregate_mean(log_f: torch.Tensor, log_rest: torch.Tensor) -> torch.Tensor:
    mean = log_f.exp().mean()
    far = log_rest.logsumexp(dim=0) - np.log(len(log_rest))
    return torch.where(mean < 0.5, (-mean.clamp_max(0.5)).log1p(), far)


def _aggregate_product(log_f: torch.Tensor, log_rest: torch.Tensor) -> torch.Tensor:
    log_all = log_f.sum()
    near = torch.where(
        log_all > -np.log(2), (-torch.expm1(log_all)).log(), (-log_all.exp()).log1p()
    )
    return torch.where(log_rest.max() < -30, log_rest.logsumexp(dim=0), near)


# As in sklearn_asd.meta.ensemble, of one clip.
_AGGREGATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "probability": _aggregate_probability,
    "mean": _aggregate_mean,
    "product": _aggregate_product,
}
