"""PerMachineType: each machine type judged by a detector of its own choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import adds_or_not, all_or_nothing
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import validates_parameters
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import as_labels, known_labels, refuse_unseen
from sklearn_asd.detectors.adding import append_known, refuse_without_rows
from sklearn_asd.meta.adding import add_normals, new_training_scores
from sklearn_asd.meta.members import EnsembleOfMembers
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes
from sklearn_asd.meta.policies import join_promises
from sklearn_asd.meta.scoring import final_step, leaves_clips_out
from sklearn_asd.meta.structure import Inner, scatter, take_rows

__all__ = ["PerMachineType"]

_PURPOSE = "to choose the detector of a clip"


class PerMachineType(EnsembleOfMembers):
    """Judge the clips of each machine type by a detector chosen for the type.

    The paper's systems have other settings, and other training clips, for each machine
    type (Table 2). This makes one detector of them, which judges clips of all types. As
    a member of a :class:`~sklearn_asd.GammaProbabilityEnsemble`, its scores of all
    types share one Gamma distribution, or have one for each type (section 4.1.5).

    Parameters
    ----------
    estimators : list of (str, estimator)
        Machine types, spelt as in the column `machine_type` of X, with an outlier
        detector or a Pipeline that ends in one for each. ``"drop"`` leaves a type out;
        ``FrozenEstimator(fitted)`` uses a detector that is already fitted.

    training_types : dict of str to sequence of str, default=None
        For a machine type of `estimators` the types whose clips its detector is fitted
        to: a network may learn to tell a type from others. A type that is not a key,
        and each type if this is None, is fitted to its own clips.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted detectors, without those dropped.

    named_estimators_ : Bunch
        The same by machine type.

    promise_ : str
        What the thresholds promise, if each detector is a
        :class:`~sklearn_asd.ThresholdTuner`.

    training_score_samples_ : ndarray of shape (n_clips,), float64
        Score of each clip passed to `fit`, and then to `add_normals`, as if it had been
        left out of it; NaN for clips of other types. Present if all detectors have such
        scores, as
        :class:`~sklearn_asd.EmbeddingNeighborDetector` does.

    See Also
    --------
    sklearn_asd.PerMachine : Fits clones of one detector, one for each machine.
    sklearn_asd.OnlyMachineTypes : A detector for some types only.
    sklearn_asd.presets.make_paper_system : Where it is used.

    Notes
    -----
    Clips of other types score NaN and cost nothing; `predict` counts them as anomalous.

    Scores of different types come from different detectors, and so does the threshold
    of each clip: there is no common `offset_`. Compare decisions, or make the scores
    comparable by a GammaProbabilityEnsemble.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, Table 2 and section 4.1.5.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import GaussianDetector, LogMelSegmenter, PerMachineType
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.features import SpectrumStatistics
    >>> clips = make_machine_sounds(
    ...     ["fan", "valve"], n_machines=2, n_train=8, n_test_normal=1,
    ...     n_test_anomalous=0, duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = PerMachineType([
    ...     ("fan", GaussianDetector(SpectrumStatistics(("mean",)))),
    ...     ("valve", GaussianDetector(SpectrumStatistics(("max",))))])
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (4,)
    """

    _parameter_constraints: dict = {
        "estimators": [list],
        "training_types": [dict, None],
    }
    # Each type's clips are scored by its own detector.
    compares_machines = False

    _fitted_attributes: dict = {}

    def __init__(self, estimators, *, training_types=None):
        self.estimators = estimators
        self.training_types = training_types

    # The estimators validate their own parameters.
    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit each type's detector to the normal clips of its training types.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Training clips with machine types, as the detectors take them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : PerMachineType
            Fitted.

        Raises
        ------
        TypeError
            If a detector cannot score clips.

        ValueError
            If there are no detectors or two of one type, `training_types` is of a type
            without a detector, the machine type is missing for a clip, X holds no
            normal clip that a detector is to be fitted to, or y holds anything but +1
            and -1.

        Warns
        -----
        UserWarning
            If X holds no normal clips of some of a detector's training types.
        """
        kinds, detectors = self._list_members()
        learnt = self.training_types or {}
        unknown = sorted(set(learnt) - set(kinds))
        if unknown:
            raise ValueError(
                f"training_types is of {abbreviate(unknown)}, and estimators has "
                f"{abbreviate(kinds)}: add a detector of the type, or leave it out"
            )
        fitted = [
            OnlyMachineTypes(detector, learnt.get(kind, kind)).fit(X, y)
            for kind, detector in zip(kinds, detectors, strict=True)
        ]
        self.estimators_ = [one.estimator_ for one in fitted]
        own = list(self._own_rows(X))
        if all(hasattr(one, "training_score_samples_") for one in fitted):
            scores = [one.training_score_samples_ for one in fitted]
            self.training_score_samples_ = scatter(
                [(rows, scores[place][rows]) for place, rows in own], len(X)
            )
        types = known_labels(X, _PURPOSE, "machine_type")
        used = np.isin(types.astype(str), list(set().union(*self._list_learnt())))
        rows = np.flatnonzero(normal_rows(y, len(X)) & used)
        self._keep_groups(rows, types[rows])
        return self

    @adds_or_not
    def add_normals(self, X):
        """Add normal clips to the detectors that learn from their types.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Normal clips. Each is added to its type's detector, and to those with its
            type among their `training_types`.

        Returns
        -------
        self : PerMachineType
            Itself.

        Raises
        ------
        TypeError
            If a detector that clips are added to cannot learn more.

        ValueError
            If a clip is of a type that no detector learns from, of an unknown machine,
            or a copy of one that was learnt from; or the detector comes from a file of
            an earlier version.
        """
        refuse_without_rows(self, "_training_rows")
        types = known_labels(X, _PURPOSE, "machine_type")
        learnt = self._list_learnt()
        refuse_unseen(types, set().union(*learnt))
        rows = [np.flatnonzero(np.isin(types.astype(str), kinds)) for kinds in learnt]
        self.estimators_ = [
            add_normals(one, take_rows(X, some)) if len(some) else one
            for one, some in zip(self.estimators_, rows, strict=True)
        ]
        if hasattr(self, "training_score_samples_"):
            n_before = len(self.training_score_samples_)
            append_known(self, np.arange(len(types)), groups=types)
            self.training_score_samples_ = scatter(
                list(self._list_training_scores()), n_before + len(types)
            )
        return self

    def _list_learnt(self) -> list[list[str]]:
        """Types that each detector learns from."""
        learnt = self.training_types or {}
        labels: list[Any] = [
            as_labels(np.atleast_1d(learnt.get(kind, kind)))
            for kind in self.named_estimators_
        ]
        return [kinds.tolist() for kinds in labels]

    def _list_training_scores(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of each type's training clips, with their left-out scores."""
        types = self._list_training_groups().astype(str)
        known = zip(
            self._list_kinds(), self._list_learnt(), self.estimators_, strict=True
        )
        for kind, learnt, detector in known:
            scores = -new_training_scores(detector, f"the detector of {kind!r:.200}")
            seen = np.flatnonzero(np.isin(types, learnt))
            own = types[seen] == kind
            yield self._training_rows[seen[own]], scores[own]

    def inner_detectors(self, X):
        """List the detector of each type, with its clips."""
        check_is_fitted(self)
        own = self._own_rows(X)
        return [Inner(self.estimators_[place], rows) for place, rows in own]

    @property
    def promise_(self) -> str:
        """What the thresholds promise, if each detector says so.

        Returns
        -------
        promise : str
            The promises of the types' detectors.
        """
        named = self.named_estimators_.items()
        return join_promises({kind: final_step(one).promise_ for kind, one in named})

    @property
    def leaves_clips_out(self) -> bool:
        """Whether all detectors score their training clips as if left out.

        Returns
        -------
        leaves_out : bool
            What the detectors say.
        """
        _, detectors = self._list_members()
        return all(map(leaves_clips_out, detectors))

    def _list_kinds(self) -> list[str]:
        """Type of each detector, in the form that clips have it in."""
        labels: Any = as_labels(list(self.named_estimators_))
        return labels.tolist()

    def _own_rows(self, X: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Place of each detector whose type X holds, and the rows of the type."""
        types = known_labels(X, _PURPOSE, "machine_type")
        for place, kind in enumerate(self._list_kinds()):
            rows = np.flatnonzero(types.astype(str) == kind)
            if len(rows):
                yield place, rows

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # clips, whose types are known
        return tags
