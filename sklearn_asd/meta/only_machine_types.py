"""OnlyMachineTypes: a detector for the clips of some machine types."""

from __future__ import annotations

import warnings
from numbers import Real
from operator import attrgetter
from typing import Any, NotRequired

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

from sklearn_asd._base import adds_or_not, all_or_nothing, fit_clone
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import HasMethods, validates_parameters
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import as_labels, known_labels
from sklearn_asd.detectors.adding import append_known, refuse_without_rows
from sklearn_asd.meta.adding import add_normals, new_training_scores
from sklearn_asd.meta.scoring import (
    check_scores_clips,
    final_step,
    leaves_clips_out,
)
from sklearn_asd.meta.structure import Inner, MetaDetectorMixin, scatter, take_rows

__all__ = ["OnlyMachineTypes"]

_PURPOSE = "to choose clips by their type"


class OnlyMachineTypes(MetaDetectorMixin, BaseEstimator):
    """Fit an outlier detector to clips of some machine types, and score only those.

    For members of a :class:`~sklearn_asd.GammaProbabilityEnsemble` that are trained on
    different types: one network may tell all fans, pumps and valves apart, and another
    one the views of fans. All members are given the same X.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Of this library, of scikit-learn or of PyOD; it is cloned.

    machine_types : str or sequence of str
        The type or types, spelt as in the column `machine_type` of X.

    Attributes
    ----------
    estimator_ : outlier detector or Pipeline
        The fitted one.

    offset_ : float
        Its threshold, if it has one for all clips.

    offsets_ : dict of str to float
        Its threshold of each machine or group, if these have their own.

    group_by_ : list of str
        The columns that tell the groups, if `offsets_` are of groups.

    promise_ : str
        What the thresholds promise, if it is a :class:`~sklearn_asd.ThresholdTuner`.

    training_score_samples_ : ndarray of shape (n_clips,), float64
        Score of each clip passed to `fit`, and then to `add_normals`, as if it had been
        left out of it; NaN for clips not trained on. Present if the estimator has such
        scores, as :class:`~sklearn_asd.EmbeddingNeighborDetector` does.

    See Also
    --------
    sklearn_asd.PerMachine : Fits one detector for each machine.
    sklearn_asd.presets.make_paper_system : Where it is used.

    Notes
    -----
    The other clips are not read, so they cost nothing. They score NaN: an ensemble
    leaves them out of its Gamma distributions and of its threshold, and `predict`
    counts them as anomalous.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import AutoencoderDetector, LogMelSegmenter
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd import OnlyMachineTypes
    >>> clips = make_machine_sounds(
    ...     ["fan", "pump"], n_machines=1, n_train=2, n_test_normal=1,
    ...     n_test_anomalous=0, duration=1.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = AutoencoderDetector(max_epochs=1, batch_size=32, random_state=0)
    >>> fans = OnlyMachineTypes(
    ...     make_pipeline(LogMelSegmenter(segment_duration=None), detect), "fan")
    >>> scores = fans.fit(train).score_samples(test)  # higher is more normal
    >>> np.isnan(scores)  # of a fan, and of a pump
    array([False,  True])
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "machine_types": [str, "array-like"],
    }
    _fitted_attributes: dict = {
        "estimator_": BaseEstimator,
        "offset_": NotRequired[Real],
        "offsets_": NotRequired[dict],
        "group_by_": NotRequired[list],
        "_training_rows": NotRequired[np.ndarray],  # earlier files have none
    }

    def __init__(self, estimator, machine_types):
        self.estimator = estimator
        self.machine_types = machine_types

    # The estimator validates its own parameters.
    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the estimator to the normal clips of the types.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Training clips of any types, as the estimator takes them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : OnlyMachineTypes
            Fitted.

        Raises
        ------
        TypeError
            If the estimator cannot score clips.

        ValueError
            If the machine type is missing for a clip, X holds no normal clip of the
            types, or y holds anything but +1 and -1.

        Warns
        -----
        UserWarning
            If X holds no normal clips of some of the types.
        """
        check_scores_clips(self.estimator)
        normal = normal_rows(y, len(X))
        types = known_labels(X, _PURPOSE, "machine_type")
        self._check_types_present(types[normal])
        rows = np.flatnonzero(normal & np.isin(types.astype(str), self._list_types()))
        self.estimator_ = fit_clone(self.estimator, take_rows(X, rows))
        self._training_rows = rows
        self._copy_thresholds()
        self._keep_training_scores([Inner(self.estimator_, rows)], X)
        return self

    @adds_or_not
    def add_normals(self, X):
        """Add normal clips of the types to the estimator.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Normal clips; those of other types are ignored, and may be all.

        Returns
        -------
        self : OnlyMachineTypes
            Itself.

        Raises
        ------
        TypeError
            If the estimator cannot learn more.

        ValueError
            If a clip is of an unknown machine, or a copy of one that was learnt from,
            or the detector comes from a file of an earlier version.
        """
        refuse_without_rows(self, "_training_rows")
        rows = self._own_rows(X)
        if len(rows):
            self.estimator_ = add_normals(self.estimator_, take_rows(X, rows))
            self._copy_thresholds()
        if hasattr(self, "training_score_samples_"):
            append_known(self, rows)
            scores = new_training_scores(self.estimator_, "the estimator")
            n_clips = len(self.training_score_samples_) + len(X)
            self.training_score_samples_ = scatter(
                [(self._training_rows, -scores)], n_clips
            )
        return self

    def _copy_thresholds(self) -> None:
        """Take over the thresholds of the estimator."""
        detector = final_step(self.estimator_)
        if hasattr(self.estimator_, "score_samples") and hasattr(detector, "offset_"):
            self.offset_ = float(np.squeeze(detector.offset_))
        if hasattr(detector, "offsets_"):
            self.offsets_ = dict(detector.offsets_)
        if hasattr(detector, "group_by_"):
            self.group_by_ = list(detector.group_by_)

    def inner_detectors(self, X):
        """List the fitted estimator, with the clips of its types."""
        rows = self._own_rows(X)
        return [Inner(self.estimator_, rows)] if len(rows) else []

    def _own_rows(self, X: Any) -> np.ndarray:
        """Rows of the clips of the types."""
        types = known_labels(X, _PURPOSE, "machine_type")
        return np.flatnonzero(np.isin(types.astype(str), self._list_types()))

    @available_if(attrgetter("estimator.decision_function"))
    def decision_function(self, X):
        """Score clips relative to the estimator's threshold.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Clips of any types.

        Returns
        -------
        decisions : ndarray of shape (n_clips,), float64
            Negative for anomalous clips; NaN for clips of other types.
        """
        return self._decide_inside(X)

    @property
    def promise_(self) -> str:
        """What the thresholds promise, if the estimator says so.

        Returns
        -------
        promise : str
            The estimator's own.
        """
        return final_step(self.estimator_).promise_

    @property
    def leaves_clips_out(self) -> bool:
        """Whether the estimator scores its training clips as if left out.

        Returns
        -------
        leaves_out : bool
            What the estimator says.
        """
        return leaves_clips_out(self.estimator)

    def _list_types(self) -> list[str]:
        labels: Any = as_labels(np.atleast_1d(self.machine_types))
        return labels.tolist()

    def _check_types_present(self, kinds: np.ndarray) -> None:
        """Raise if no type has normal clips, and warn if some types have none."""
        present = sorted(set(kinds))
        missing = [kind for kind in self._list_types() if kind not in present]
        if len(missing) == len(self._list_types()):
            raise ValueError(
                f"X holds no normal clip of machine_types {abbreviate(missing)}; it "
                f"holds {abbreviate(present)}: add clips of the types, or check the "
                "spelling"
            )
        if missing:
            warnings.warn(
                f"X holds no normal clip of {abbreviate(missing)} to train "
                f"{type(final_step(self.estimator)).__name__} on: add some, or leave "
                "them out of machine_types",
                stacklevel=5,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # clips, whose types are known
        return tags
