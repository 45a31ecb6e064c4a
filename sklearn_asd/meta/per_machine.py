"""PerMachine: one detector for each machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral
from operator import attrgetter
from typing import Any, NotRequired

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import adds_or_not, all_or_nothing, fit_clone
from sklearn_asd._utils.parameters import HasMethods, validates_parameters
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import known_labels, refuse_unseen
from sklearn_asd.detectors.adding import append_known, refuse_without_rows
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.adding import add_normals, new_training_scores
from sklearn_asd.meta.policies import describe_silence, join_promises
from sklearn_asd.meta.scoring import (
    anomaly_scores,
    check_scores_clips,
    final_step,
    leaves_clips_out,
    own_offset,
)
from sklearn_asd.meta.structure import (
    Inner,
    MetaDetectorMixin,
    scatter,
    take_rows,
)

__all__ = ["PerMachine"]


class PerMachine(MetaDetectorMixin, BaseEstimator):
    """Fit a clone of an outlier detector for each machine, and score clips with it.

    For detectors that learn the sound of one machine and, trained on several, would
    accept one machine's sound as normal for another: those on rows of numbers, and the
    autoencoder.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Of this library, of scikit-learn or of PyOD; cloned for each machine.

    n_jobs : int or None, default=None
        Machines fitted or scored in parallel, on joblib's threads or the backend in
        force (``joblib.parallel_config``). None is 1, unless a configuration is in
        force; -1 is all cores.

    Attributes
    ----------
    classes_ : ndarray of shape (n_machines,), str
        Names of the machines, sorted: "type/id", or "id" where there is no type.

    estimators_ : dict of str to estimator
        For each machine the detector fitted on its normal clips.

    offsets_ : dict of str to float
        Threshold of each machine's detector: ``decision_function = score_samples -
        offsets_[machine]``. There is no common `offset_`. Absent if the estimator has
        no `decision_function`.

    promise_ : str
        What the thresholds promise, if the estimator is a
        :class:`~sklearn_asd.ThresholdTuner`.

    training_score_samples_ : ndarray of shape (n_clips,), float64
        Score of each clip passed to `fit`, and then to `add_normals`, as if it had been
        left out of it; NaN for clips not trained on. Present if the estimator has such
        scores, as :class:`MahalanobisDetector` does.

    See Also
    --------
    sklearn_asd.SpectrumStatistics : Turns clips into rows of numbers.
    sklearn_asd.ThresholdTuner : Around this, it sets a threshold for each machine.
    sklearn_asd.metrics.auc_table : Compares scores within each machine.

    Notes
    -----
    Do not compare scores of different machines: they come from different detectors.
    Sort clips by their scores within a machine, or compare decisions.

    Clips that could not be used (:class:`~sklearn_asd.ClipSpectrograms` without
    segments) are not passed to the detectors; they score NaN and are judged anomalous.
    So put :class:`~sklearn_asd.LogMelSegmenter` before this, not into the estimator;
    recordings are then also read only once.

    With a fixed `random_state` in the estimator the result does not depend on
    `n_jobs`. Fits of networks wait for each other in threads, which use all cores for
    each.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.features import SpectrumStatistics
    >>> from sklearn_asd import PerMachine
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=8, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = PerMachine(
    ...     make_pipeline(SpectrumStatistics(), IsolationForest(random_state=0)))
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (4,)
    >>> detect.classes_
    array(['fan/00', 'fan/01'], dtype='<U6')
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "n_jobs": [Integral, None],
    }
    # Each machine's clips are scored by its own detector.
    compares_machines = False

    _fitted_attributes: dict = {
        "classes_": np.ndarray,
        "estimators_": dict,
        "offsets_": NotRequired[dict],
        # Files of earlier versions have neither.
        "_training_rows": NotRequired[np.ndarray],
        "_training_machines": NotRequired[np.ndarray],
    }

    def __init__(self, estimator, *, n_jobs=None):
        self.estimator = estimator
        self.n_jobs = n_jobs

    # The estimator validates its own parameters.
    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit a detector for each machine.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Training clips with machine IDs, as the estimator takes them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : PerMachine
            Fitted.

        Raises
        ------
        TypeError
            If the estimator cannot score clips.

        ValueError
            If X lacks machine IDs or has no usable normal clip, or y holds anything
            but +1 and -1.

        Warns
        -----
        UserWarning
            If machines have a threshold that no clip is below, as ThresholdTuner sets
            if clips are too few.
        """
        check_scores_clips(self.estimator)
        labels = known_labels(X, "to fit a detector for each machine")
        normal = normal_rows(y, len(X)) & _find_usable(X)
        if not normal.any():
            raise ValueError(
                "X holds no usable normal clip: y is -1 for all clips, or no normal "
                "clip could be read"
            )
        rows = dict(_group(labels, normal))
        fitted = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(_fit_machine)(self.estimator, take_rows(X, some), label)
            for label, some in rows.items()
        )
        self.classes_ = np.array(list(rows))
        self.estimators_ = dict(zip(rows, (one for one, _ in fitted), strict=True))
        offsets = [offset for _, offset in fitted]
        if None not in offsets:
            self.offsets_ = dict(zip(rows, offsets, strict=True))
            self._warn_of_silence()
        inner = [Inner(self.estimators_[label], rows[label]) for label in rows]
        self._keep_training_scores(inner, X)
        self._training_rows = np.flatnonzero(normal)
        self._training_machines = labels[normal].astype(str)
        return self

    @adds_or_not
    def add_normals(self, X):
        """Add normal clips to the detectors of their machines.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Normal clips of the machines fitted.

        Returns
        -------
        self : PerMachine
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
        labels = known_labels(X, "to choose the detector that learns a clip")
        refuse_unseen(labels, self.classes_)
        usable = _find_usable(X)
        estimators, offsets = (
            dict(self.estimators_),
            dict(getattr(self, "offsets_", {})),
        )
        for label, rows in _group(labels, usable):
            some = take_rows(X, rows)
            estimators[label] = add_normals(estimators[label], some)
            if offsets:
                offsets[label] = own_offset(estimators[label], some)
        self.estimators_ = estimators
        if offsets:
            self.offsets_ = offsets
            self._warn_of_silence()
        if hasattr(self, "training_score_samples_"):
            append_known(self, np.flatnonzero(usable), machines=labels[usable])
            n_clips = len(self.training_score_samples_) + len(labels)
            self.training_score_samples_ = scatter(
                list(self._list_training_scores()), n_clips
            )
        return self

    def _list_training_scores(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of each machine's training clips, with their left-out scores."""
        for label, estimator in self.estimators_.items():
            scores = new_training_scores(estimator, f"the detector of {label!r:.200}")
            yield self._training_rows[self._training_machines == label], -scores

    def inner_detectors(self, X):
        """List the detector of each machine, with its clips."""
        check_is_fitted(self)
        labels = known_labels(X, "to choose the detector that scores a clip")
        refuse_unseen(labels, self.classes_)
        return [
            Inner(self.estimators_[label], rows)
            for label, rows in _group(labels, _find_usable(X))
        ]

    @available_if(attrgetter("estimator.decision_function"))
    def decision_function(self, X):
        """Score clips relative to their own machine's threshold.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Clips of the machines fitted.

        Returns
        -------
        decisions : ndarray of shape (n_clips,), float64
            ``score_samples(X)`` minus the machine's value in `offsets_`: negative for
            anomalous clips.
        """
        return super().decision_function(X)

    @property
    def promise_(self) -> str:
        """What the thresholds promise, if each detector says so.

        Returns
        -------
        promise : str
            The promises of the machines' detectors.
        """
        return join_promises(
            {name: final_step(one).promise_ for name, one in self.estimators_.items()}
        )

    @property
    def leaves_clips_out(self) -> bool:
        """Whether the estimator scores its training clips as if left out.

        Returns
        -------
        leaves_out : bool
            What the estimator says.
        """
        return leaves_clips_out(self.estimator)

    def _warn_of_silence(self) -> None:
        """Name the machines that no alarm is raised for, whatever their clips score."""
        promises = {
            name: getattr(final_step(one), "promise_", "no clip is called anomalous")
            for name, one in self.estimators_.items()
            if self.offsets_[name] == -np.inf
        }
        if promises:
            warnings.warn(
                f"{describe_silence(promises)}; add normal clips of these machines",
                stacklevel=5,  # above fit and its two decorators
            )

    def _score_inner(self, inner, X):
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(anomaly_scores)(one.estimator, take_rows(X, one.rows))
            for one in inner
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # clips, whose machines are known
        return tags


def _fit_machine(estimator: Any, X: Any, label: str) -> tuple[Any, float | None]:
    """Fit one detector and find its threshold, if it has one."""
    try:
        fitted = fit_clone(estimator, X)
    except ValueError as error:
        raise ValueError(
            f"the detector of machine {label!r:.200} cannot be fitted to its {len(X)} "
            f"normal clip(s): {error}"
        ) from error
    has_threshold = hasattr(fitted, "decision_function")
    return fitted, own_offset(fitted, X) if has_threshold else None


def _group(labels: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Wanted rows of each machine that has wanted rows, sorted by name."""
    for label in np.unique(labels[wanted].astype(str)):
        yield str(label), np.flatnonzero(wanted & (labels == label))


def _find_usable(X: Any) -> np.ndarray:
    """Clips that can be scored, as far as is known before X is read."""
    if isinstance(X, ClipSpectrograms):
        return X.usable
    return np.ones(len(X), dtype=bool)
