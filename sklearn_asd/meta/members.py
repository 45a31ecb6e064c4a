"""Ensembles of named members: their parameters, fits, and scores of left-out clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import product
from numbers import Integral
from typing import Any, NotRequired

import numpy as np
from sklearn.pipeline import FeatureUnion
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from sklearn_asd._base import fit_clone
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.detectors.adding import append_known, refuse_without_rows
from sklearn_asd.meta import scoring
from sklearn_asd.meta.adding import add_normals, new_training_scores
from sklearn_asd.meta.structure import Inner, MetaDetectorMixin, scatter, take_rows

__all__ = ["EnsembleOfMembers", "fit_on_folds", "put_together"]

Fold = tuple[np.ndarray, np.ndarray]


class EnsembleOfMembers(MetaDetectorMixin, _BaseComposition):
    """An ensemble of outlier detectors by name, all of which score all clips.

    A subclass has the parameter `estimators`, and defines `fit`, which sets
    `estimators_`, and `combine_scores`. One whose members score some clips each defines
    `inner_detectors` instead. Folds are those of a parameter `calibration_cv`.
    """

    estimators: Any
    calibration_cv: Any

    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "feature_names_in_": NotRequired[np.ndarray],
        "estimators_": list,
        # Files of earlier versions have neither.
        "_training_rows": NotRequired[np.ndarray],
        "_training_groups": NotRequired[np.ndarray | None],
    }

    @property
    def named_estimators_(self) -> Bunch:
        """The fitted members by name."""
        names = [name for name, member in self.estimators if member != "drop"]
        return Bunch(**dict(zip(names, self.estimators_, strict=True)))

    def inner_detectors(self, X):
        """List the members."""
        members = self.named_estimators_.items()
        return [Inner(member, name=name) for name, member in members]

    def get_params(self, deep=True):
        """Get the parameters, with those of the members as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True
            Whether to reach into the members.

        Returns
        -------
        parameters : dict
            Values by name.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params):
        """Set parameters, with those of the members as ``name__parameter``.

        Parameters
        ----------
        **params : any
            Values by name.

        Returns
        -------
        self : estimator
            Itself.
        """
        return self._set_params("estimators", **params)

    def _list_members(self) -> tuple[list[str], list[Any]]:
        """Names and members that are not dropped."""
        pairs = self.estimators
        if not pairs or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
            raise ValueError(
                f"estimators is {self.estimators!r:.200}; it must be a list of (name, "
                "detector) with at least one"
            )
        self._validate_names([name for name, _ in pairs])
        kept = {name: member for name, member in pairs if member != "drop"}
        if not kept:
            raise ValueError('all members are "drop"; at least one is needed')
        for member in kept.values():
            scoring.check_scores_clips(member)
        return list(kept), list(kept.values())

    def _keep_groups(self, rows: np.ndarray, groups: np.ndarray) -> None:
        """Keep the rows of the training clips, and the groups that they are scaled in.

        Groups are str, or None for each clip if there are none.
        """
        self._training_rows = rows
        ungrouped = bool(len(groups)) and groups[0] is None
        self._training_groups = None if ungrouped else groups.astype(str)

    def _list_training_groups(self) -> np.ndarray:
        """Group of each training clip; None for each if there are no groups."""
        if self._training_groups is None:
            return np.full(len(self._training_rows), None)
        return self._training_groups.astype(object)

    def _add_to_members(self, X: Any, groups: np.ndarray) -> np.ndarray:
        """Add clips, which have these groups, to the members.

        Returns the left-out anomaly scores of all clips, (n_clips, n_members).
        """
        refuse_without_rows(self, "_training_rows")
        members = self.named_estimators_
        added = {name: add_normals(member, X) for name, member in members.items()}
        self.estimators_ = list(added.values())
        scores = [
            new_training_scores(member, f"member {name!r:.200}")
            for name, member in added.items()
        ]
        grouped = self._training_groups is not None
        append_known(self, np.arange(len(groups)), groups=groups if grouped else None)
        return np.column_stack(scores)

    def _make_folds(self, X: Any) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """Rows to fit on and rows to score, in folds that each hold every machine."""
        cv: Any = self.calibration_cv
        if cv is None:
            return None
        # Slow to import, and not needed to score.
        from sklearn.model_selection import KFold, StratifiedKFold, check_cv

        labels = machine_labels(X)
        rows = np.zeros(_num_samples(X))
        machine = rows if labels is None else labels.astype(str)
        if not isinstance(cv, Integral):
            return list(check_cv(cv).split(rows, machine))
        cv = int(cv)
        if labels is None and len(rows) < cv:
            raise ValueError(
                f"calibration_cv={cv} needs {cv} normal clips; there are {len(rows)}: "
                "lower it, or add clips"
            )
        if labels is None:
            return list(KFold(cv, shuffle=True, random_state=0).split(rows))
        machines, counts = np.unique(machine, return_counts=True)
        if counts.min() < cv:
            few = machines[counts < cv]
            raise ValueError(
                f"calibration_cv={cv} needs {cv} normal clips of each machine; there "
                f"are {counts.min()} of {abbreviate(few)}: lower it, or add clips"
            )
        folds = StratifiedKFold(cv, shuffle=True, random_state=0)
        return list(folds.split(rows, machine))

    def _sk_visual_block_(self):
        """Show the members beside each other in scikit-learn's HTML picture."""
        return FeatureUnion(self.estimators)._sk_visual_block_()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # If the members are not valid, fit raises the error.
        with suppress(TypeError, ValueError, AttributeError):
            tags.input_tags.sparse = all(
                get_tags(member).input_tags.sparse
                for _, member in self.estimators
                if member != "drop"
            )
        return tags


def fit_on_folds(
    members: dict[int, Any],
    X: Any,
    folds: list[Fold],
    parallel: Parallel,
    measure: Callable[[Any, Any], Any] = scoring.anomaly_scores,
) -> dict[int, list[Any]]:
    """Fit clones of members without the clips of each fold, and measure these clips.

    Parameters
    ----------
    members : dict of int to estimator
        Detectors by their place; a FrozenEstimator is not fitted again.

    X : any
        Normal clips.

    folds : list of (train, test)
        Rows to fit on and rows to measure.

    parallel : Parallel
        Runs the fits.

    measure : callable, default=anomaly_scores
        ``measure(fitted, X)``, for the fitted clone and the clips left out.

    Returns
    -------
    measured : dict of int to list
        What was measured, for each member and each of the folds.
    """
    tasks = list(product(members, folds))
    values = parallel(
        delayed(_fit_and_measure)(members[j], X, fold, measure) for j, fold in tasks
    )
    measured: dict[int, list[Any]] = {j: [] for j in members}
    for (j, _), value in zip(tasks, values, strict=True):
        measured[j].append(value)
    return measured


def put_together(
    parts: Iterable[np.ndarray], folds: list[Fold], n_clips: int
) -> np.ndarray:
    """Put the scores of the folds' clips into their rows.

    Parameters
    ----------
    parts : iterable of ndarray
        Scores of the clips left out of each fold.

    folds : list of (train, test)
        Rows of the clips.

    n_clips : int
        Number of clips.

    Returns
    -------
    scores : ndarray of shape (n_clips,), float64
        NaN for clips in no fold.
    """
    rows = (test for _, test in folds)
    return scatter(list(zip(rows, parts, strict=True)), n_clips)


def _fit_and_measure(
    member: Any, X: Any, fold: Fold, measure: Callable[[Any, Any], Any]
) -> Any:
    train, test = fold
    return measure(fit_clone(member, take_rows(X, train)), take_rows(X, test))
