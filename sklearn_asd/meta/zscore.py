"""ZScoreEnsemble: several detectors' scores in standard deviations, and the largest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import (
    adds_or_not,
    all_or_nothing,
    fit_clone,
    is_frozen,
    left_out_threshold,
)
from sklearn_asd._utils.parameters import (
    HasMethods,
    Interval,
    StrOptions,
    validates_parameters,
)
from sklearn_asd._utils.validation import is_table_of_numbers, normal_rows
from sklearn_asd.audio.machines import (
    group_columns,
    group_labels,
    known_labels,
    machine_columns,
    machine_labels,
    refuse_unseen,
    refuse_unseen_groups,
)
from sklearn_asd.meta import scoring
from sklearn_asd.meta.members import EnsembleOfMembers, fit_on_folds, put_together
from sklearn_asd.meta.rounding import refuse_rounding
from sklearn_asd.meta.siblings import own_table, rank_members, sibling_table
from sklearn_asd.meta.structure import (
    Inner,
    compares_machines,
    list_inside,
    scatter,
    take_rows,
)
from sklearn_asd.meta.zscale import ZScale

__all__ = ["ZScoreEnsemble"]


class ZScoreEnsemble(EnsembleOfMembers):
    """Combine outlier detectors by how far a clip's scores are from normal clips'.

    Each member's anomaly scores are standardised by the mean and the standard deviation
    of its scores of normal clips that were left out of its training, for each machine
    type or group of clips apart, and the largest one counts. One good member is then
    heard among poor ones, and nothing has to be chosen with anomalies. With several
    machines of a type, the members that best tell these machines apart can be selected.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Members by name: outlier detectors of this library, of scikit-learn or of
        PyOD, or Pipelines that end in one. ``"drop"`` leaves one out;
        ``FrozenEstimator(fitted)`` uses one that is already fitted.

    aggregation : {"max", "mean"}, default="max"
        "max" takes the largest z-score: one member that is sure is enough. "mean"
        averages the z-scores: the noise of members that are equally good cancels, and
        one good member among poor ones is drowned.

    n_selected : int >= 1 or None, default=None
        Number of members that score the clips of a machine type with several machines:
        those with the largest sibling AUC, see Notes. None takes all members, and so
        does a type with one machine, where there is nothing to choose by.

    group_by : str, list of str or None, default=None
        Standardise scores apart for each value of "machine_id" (each pair of type and
        ID), "domain", or another column of a table; of a list, for each combination of
        values. "machine_type" is added where X has types and neither of the machine's
        columns is named. Clips to score need the values too: since 2022, the rules of
        the DCASE challenge keep the domain of test clips secret. None standardises them
        for each machine type.

    log_scores : bool, default=False
        Whether to take logarithms of the members' anomaly scores, which must then be
        above 0 for most clips: for distances, whose long tail would make their standard
        deviation that of a few clips.

    calibration_cv : int >= 2, splitter or iterable of (train, test), default=5
        Folds for scores of clips that were left out. An int makes folds that each hold
        every machine; a splitter is given the normal clips, with their machines as
        classes. They cost as many further fits of each member without
        `training_score_samples_`, where each clip is scored without being trained on,
        or, if members are selected, without a table `machines_` of sibling AUCs.

    contamination : float in (0, 0.5], default=0.1
        Share of new normal clips, like those of training, that the threshold calls
        anomalous, judged by left-out training clips. At least the lowest of these is
        normal: fewer than ``1 / contamination - 1`` clips promise nothing.

    n_jobs : int or None, default=None
        Members fitted in parallel, on joblib's threads or the backend in force.

    Attributes
    ----------
    estimators_ : list of estimator
        The members fitted on all normal clips, without those dropped.

    named_estimators_ : Bunch
        The same by name.

    selected_ : dict of str or None to list of str
        For each machine type the names of the members that score its clips; for each
        group, such as "machine_type fan, domain target", if there is `group_by`. The
        key is None if X was fitted without either.

    sibling_aucs_ : DataFrame of shape (n_types, n_members)
        Mean sibling AUC of each member in [0, 1], for each machine type with several
        machines. Present if members were selected.

    scales_ : dict of str or None to list of ZScale
        For each machine type or group the `center` and `scale` of each selected member.

    total_scales_ : dict of str or None to ZScale
        For each machine type or group `center` and `scale` of the aggregated z-scores.

    training_score_samples_ : ndarray of shape (n_clips,)
        Score of each clip that was passed to `fit`, and then to `add_normals`, with
        itself left out; NaN for clips not trained on.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of columns of X, if a member has this attribute.

    feature_names_in_ : ndarray of str
        Their names, if a member has this attribute.

    See Also
    --------
    GammaProbabilityEnsemble : The paper's ensemble, which sums the members' evidence.
    sklearn_asd.metrics.sibling_auc : Sibling AUC as a scorer for searches.

    Notes
    -----
    The largest of several z-scores is larger the more members there are. So it is
    standardised again, by left-out training clips of the machine type or group: a clip
    that scores -3 is three standard deviations more anomalous than their mean, whatever
    the type. The scales of a group are as uncertain as its clips are few.

    For `training_score_samples_` and the threshold, the z-scores of a clip are those by
    the means and deviations of the other clips, if several members are combined. By
    those of all, which include its own score, the threshold would raise more alarms
    than `contamination` says.

    A member that scores no clip of a machine type or group, such as
    :class:`OnlyMachineTypes`, is no member for it.

    Sibling AUC: a fitted member scores left-out normal clips of a machine, and left-out
    normal clips of the other machines of its type as if they were of this machine. The
    AUC is averaged over the machines; members whose mean is equal to 3 digits are
    ordered by the mean of the gap d' of
    :func:`~sklearn_asd.detectors.siblings.sibling_separation`, and then as in
    `estimators`.
    A member with a table `machines_` of its own left-out sibling AUCs is taken at its
    word, and the others are asked in the folds.

    Only clips with y = +1 are trained on. With a table of numbers, as for
    scikit-learn's own detectors, y may be anything: unless it consists of +1 and -1 it
    is ignored with a warning, where those detectors ignore it silently.

    References
    ----------
    Wilkinghoff and Tan, 2026, choose detectors by pseudo-anomalies; with a single kind
    of these the choice can saturate, and z-scores with their maximum need none.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_asd import MahalanobisDetector, ZScoreEnsemble
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> ensemble = ZScoreEnsemble([
    ...     ("forest", IsolationForest(random_state=0)),
    ...     ("distance", MahalanobisDetector())]).fit(X)
    >>> ensemble.predict([[0, 0], [5, 5]])  # +1 is normal
    array([ 1, -1])
    >>> bool(ensemble.score_samples([[5, 5]])[0] < -3)  # lower is more anomalous
    True
    """

    _parameter_constraints: dict = {
        "estimators": [list],
        "aggregation": [StrOptions({"max", "mean"})],
        "n_selected": [Interval(Integral, 1, None, closed="left"), None],
        "group_by": [str, list, tuple, None],
        "log_scores": ["boolean"],
        "calibration_cv": [
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split"]),
            HasMethods(["__iter__"]),
        ],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "n_jobs": [Integral, None],
    }
    _fitted_attributes: dict = {
        "selected_": dict,
        "sibling_aucs_": NotRequired[pd.DataFrame],
        "scales_": dict,
        "total_scales_": dict,
        "offset_": Real,
        "_training_machines": NotRequired[np.ndarray | None],
        "_group_types": NotRequired[dict],  # by group; absent without group_by
    }

    def __init__(
        self,
        estimators,
        *,
        aggregation="max",
        n_selected=None,
        group_by=None,
        log_scores=False,
        calibration_cv=5,
        contamination=0.1,
        n_jobs=None,
    ):
        self.estimators = estimators
        self.aggregation = aggregation
        self.n_selected = n_selected
        self.group_by = group_by
        self.log_scores = log_scores
        self.calibration_cv = calibration_cv
        self.contamination = contamination
        self.n_jobs = n_jobs

    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the members, select among them and standardise their scores.

        Parameters
        ----------
        X : any
            Clips, as the members take them. If they have machine types, each type is
            standardised apart, and so is each group of `group_by`.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : ZScoreEnsemble
            Itself.

        Raises
        ------
        ValueError
            If there are no members or two with the same name, y holds anything but +1
            and -1, some clips have a machine type and others not, X lacks the column
            for `group_by`, a machine has fewer normal clips than there are folds, no
            member scores the clips of a type, or the scores of a selected member have
            no spread in a group of clips.
        """
        _, members = self._list_members()
        (X,) = indexable(X)
        n_clips = _num_samples(X)
        normal = normal_rows(y, n_clips, lenient=is_table_of_numbers(X))
        if normal.sum() < 2:
            raise ValueError(
                f"X holds {normal.sum()} normal clips (n_samples={n_clips}); at least "
                "two are needed"
            )
        X = take_rows(X, np.flatnonzero(normal))
        groups = self._find_groups(X)
        self._keep_groups(np.flatnonzero(normal), groups)
        self._training_machines = self._find_machines(X)
        compared = self._find_compared(groups)
        with Parallel(n_jobs=self.n_jobs, prefer="threads") as parallel:
            self.estimators_ = parallel(
                delayed(fit_clone)(member, X) for member in members
            )
            machines = set().union(*compared.values())
            raw, tables = self._calibrate(X, members, machines, parallel)
        scoring.copy_features(self, self.estimators_)
        self._select(raw, groups, compared, tables)
        self._set_scales(raw, groups, n_clips)
        return self

    @adds_or_not
    def add_normals(self, X):
        """Add normal clips to the members, and standardise their scores anew.

        The members are selected anew if each has computed sibling AUCs of its own, as
        :class:`~sklearn_asd.GaussianDetector` does; otherwise the selection stays.

        Parameters
        ----------
        X : any
            Normal clips of the machines fitted, as the members take them.

        Returns
        -------
        self : ZScoreEnsemble
            Itself.

        Raises
        ------
        TypeError
            If a member cannot learn more.

        ValueError
            If a clip is of an unknown machine, or a copy of one that was learnt from;
            or a member has no left-out scores of its training clips.
        """
        (X,) = indexable(X)
        more = self._known_groups(X)
        raw = self._add_to_members(X, more)
        groups = self._list_training_groups()
        if self._training_machines is not None:
            known, machines = self._training_machines, self._find_machines(X)
            self._training_machines = np.concatenate([known, machines])
        compared = self._find_compared(groups)
        tables: list[Any] = list(map(own_table, self.estimators_))
        if not compared or all(table is not None for table in tables):
            self._select(raw, groups, compared, tables)
        n_clips = len(self.training_score_samples_) + len(more)
        self._set_scales(raw, groups, n_clips)
        return self

    def _set_scales(self, raw: np.ndarray, groups: np.ndarray, n_clips: int) -> None:
        """Set scales, left-out training scores and threshold."""
        self._fit_scales(raw, groups)
        scores = self._score(raw, groups, left_out=True)
        self.offset_ = left_out_threshold(scores, self.contamination)
        self.training_score_samples_ = scatter([(self._training_rows, scores)], n_clips)

    @property
    def compares_machines(self) -> bool:
        """Whether its scores of different machines can be compared.

        Returns
        -------
        compares : bool
            True if scores of each machine are standardised apart, or else what the
            members say.
        """
        if "machine_id" in group_columns(self.group_by):
            return True
        return all(map(compares_machines, list_inside(self)))

    @property
    def leaves_clips_out(self) -> bool:
        """Whether all members score their training clips as if left out.

        Returns
        -------
        leaves_out : bool
            What the members say.
        """
        return all(map(scoring.leaves_clips_out, self._list_members()[1]))

    def inner_detectors(self, X):
        """List the members that were selected for some of the clips."""
        check_is_fitted(self)
        groups = self._known_groups(X)
        inner = []
        for name, member in self.named_estimators_.items():
            chosen = [name in self.selected_[group] for group in groups]
            rows = None if all(chosen) else np.flatnonzero(chosen)
            if any(chosen):
                inner.append(Inner(member, rows, name))
        return inner

    def combine_scores(self, scores, rows, X):
        """Standardise and aggregate the scores of the members."""
        return self._score(self._place(scores, rows, X), self._known_groups(X))

    def member_scores(self, X, scores=None):
        """Compute the score of each member, raw and standardised.

        Parameters
        ----------
        X : any
            Clips, as the members take them.

        scores : list of ndarray of shape (n_rows,) or None, default=None
            Anomaly scores of ``inner_detectors(X)``, if they are known already.

        Returns
        -------
        scores : DataFrame of n_clips rows
            ``scores["raw"]`` has a column for each member that scores some of the
            clips: its own anomaly score, the higher the more anomalous.
            ``scores["z"]`` has it in standard deviations above the mean of left-out
            training clips of the clip's machine type or group. Both are NaN where the
            member was not selected.
        """
        inner = self.inner_detectors(X)
        if scores is None:
            scores = self._score_inner(inner, X)
        raw = self._place(scores, [one.rows for one in inner], X)
        names = list(self.named_estimators_)
        tables = {
            "raw": pd.DataFrame(raw, columns=names),
            "z": pd.DataFrame(
                self._standardize(raw, self._known_groups(X)), columns=names
            ),
        }
        used = [one.name for one in inner]
        return pd.concat({k: table[used] for k, table in tables.items()}, axis=1)

    def _find_groups(self, X: Any) -> np.ndarray:
        """Group of each clip to fit to; without `group_by` its machine type, or None.

        Sets `_group_types`, the machine type of each group, if there is `group_by`.
        """
        types = np.full(_num_samples(X), None)
        if machine_columns(X)[0] is not None:
            types = known_labels(X, "to standardise scores by type", "machine_type")
        if self.group_by is None:
            return types
        columns = _add_type(self.group_by, machine_columns(X)[0] is not None)
        groups = group_labels(X, columns)
        self._group_types = dict(zip(groups, types, strict=True))
        return groups

    def _type_of(self, group: str | None) -> str | None:
        """Machine type of a group, which it is itself without `group_by`."""
        return getattr(self, "_group_types", {}).get(group, group)

    def _known_groups(self, X: Any) -> np.ndarray:
        """Group of each clip to score, as in `fit`."""
        if hasattr(self, "_group_types"):
            columns = _add_type(self.group_by, None not in self._group_types.values())
            groups = group_labels(X, columns)
            refuse_unseen_groups(groups, self._group_types, columns, "scales")
            return groups
        if None in self.selected_:
            return np.full(_num_samples(X), None)
        purpose = "to standardise scores by type, as in fit"
        types = known_labels(X, purpose, "machine_type")
        refuse_unseen(types, map(str, self.selected_))
        return types

    def _place(self, scores: Any, rows: Any, X: Any) -> np.ndarray:
        """Put scores of `inner_detectors(X)` into (n_clips, n_members)."""
        names = list(self.named_estimators_)
        raw = np.full((_num_samples(X), len(names)), np.nan)
        for one, where, values in zip(
            self.inner_detectors(X), rows, scores, strict=True
        ):
            where = slice(None) if where is None else where
            raw[where, names.index(one.name)] = values
        return raw

    def _calibrate(
        self, X: Any, members: list[Any], machines: set[str], parallel: Parallel
    ) -> tuple[np.ndarray, list[pd.DataFrame]]:
        """Left-out scores (n_clips, n_members), and each member's sibling AUCs."""
        honest: list[Any] = list(map(scoring.honest_training_scores, self.estimators_))
        tables: list[Any] = [pd.DataFrame()] * len(members)  # none is needed
        if machines:
            tables = list(map(own_table, self.estimators_))
        unknown = [
            j for j in range(len(members)) if honest[j] is None or tables[j] is None
        ]
        folds: Any = self._make_folds(X) if unknown else []
        judge = partial(_score_and_compare, machines=machines)
        some = {j: members[j] for j in unknown}
        for j, parts in fit_on_folds(some, X, folds, parallel, judge).items():
            scores, compared = zip(*parts, strict=True)
            if honest[j] is None:
                honest[j] = put_together(scores, folds, _num_samples(X))
            if tables[j] is None:
                tables[j] = pd.concat(compared).groupby(level=0).mean()
        raw = np.column_stack(honest)
        self._refuse_rounding(X, members, raw)
        return raw, tables

    def _refuse_rounding(self, X: Any, members: list[Any], raw: np.ndarray) -> None:
        """Refuse frozen members with the clips of their fit; folds left out others'."""
        for j, (name, fitted) in enumerate(self.named_estimators_.items()):
            if is_frozen(members[j]):
                refuse_rounding(members[j], fitted, X, raw[:, j], f"member {name!r}")

    def _find_machines(self, X: Any) -> np.ndarray | None:
        """Machine of each clip, if members have to be selected; None if not."""
        n_members = len(self._list_members()[0])
        has_choice = self.n_selected is not None and self.n_selected < n_members
        if not has_choice or machine_labels(X) is None:
            return None
        return known_labels(X, "to select members by sibling AUC").astype(str)

    def _find_compared(self, groups: np.ndarray) -> dict[str | None, set[str]]:
        """Machines of each type with several, if members have to be selected."""
        labels = self._training_machines
        if labels is None:
            return {}
        types = list(map(self._type_of, groups))
        machines = {one: set(labels[rows]) for one, rows in _split(types)}
        return {one: names for one, names in machines.items() if len(names) > 1}

    def _select(
        self, raw: np.ndarray, groups: np.ndarray, compared: Any, tables: list[Any]
    ) -> None:
        """Set `selected_`, and `sibling_aucs_` if members are selected."""
        names = list(self.named_estimators_)
        self.selected_ = {}
        aucs = {}
        for group, rows in _split(groups):
            scored = ~np.isnan(raw[rows]).all(axis=0)
            if not scored.any():
                raise ValueError(
                    f"no member scores a clip{_of(group)}: use members that do, or "
                    "leave these clips out"
                )
            chosen = np.flatnonzero(scored)
            kind = self._type_of(group)
            if kind in compared:
                ranks, aucs[kind] = rank_members(tables, compared[kind])
                ranks = [j for j in ranks if scored[j]]
                chosen = np.sort(ranks[: self.n_selected])
            self.selected_[group] = [names[j] for j in chosen]
        if aucs:
            index = pd.Index(list(aucs), dtype=object)
            self.sibling_aucs_ = pd.DataFrame(list(aucs.values()), index, names)

    def _fit_scales(self, raw: np.ndarray, groups: np.ndarray) -> None:
        """Set `scales_` and `total_scales_`."""
        names = list(self.named_estimators_)
        self.scales_ = {
            group: [
                self._fit_scale(
                    raw[rows, names.index(name)], f"member {name!r:.200}{_of(group)}"
                )
                for name in self.selected_[group]
            ]
            for group, rows in _split(groups)
        }
        combined = self._aggregate(raw, groups)
        self.total_scales_ = {}
        for group, rows in _split(groups):
            if np.isnan(combined[rows]).all():
                raise ValueError(
                    f"no clip{_of(group)} is scored by all of its members, so scores "
                    "cannot be combined: use members that score the same clips"
                )
            whose = f"the ensemble{_of(group)}"
            self.total_scales_[group] = ZScale.fit(combined[rows], whose, self._remedy)

    @property
    def _remedy(self) -> str:
        remedy = "add normal clips, or drop the member"
        return remedy if self.group_by is None else f"{remedy}, or set group_by=None"

    def _fit_scale(self, scores: np.ndarray, whose: str) -> ZScale:
        differ = np.nanmin(scores) < np.nanmax(scores)
        if self.log_scores and differ and np.nanmedian(scores) <= 0:
            raise ValueError(
                f"the scores of {whose} are from {np.nanmin(scores):.3g} to "
                f"{np.nanmax(scores):.3g}, and log_scores=True needs anomaly scores "
                "above 0, such as distances: set log_scores=False"
            )
        return ZScale.fit(self._spread(scores), whose, self._remedy)

    def _spread(self, scores: np.ndarray) -> np.ndarray:
        """Scores as they are standardised; 0 is as good as the smallest float."""
        if not self.log_scores:
            return scores
        return np.log(np.maximum(scores, np.finfo(np.float64).tiny))

    def _standardize(
        self, raw: np.ndarray, groups: np.ndarray, left_out: bool = False
    ) -> np.ndarray:
        """z-scores of the members, (n_clips, n_members); NaN if not selected.

        With `left_out` those of the training clips, each by the others' scales where
        several members are combined: a single scale keeps the order of the clips.
        """
        names = list(self.named_estimators_)
        z = np.full_like(raw, np.nan)
        for group, rows in _split(groups):
            pairs = zip(self.selected_[group], self.scales_[group], strict=True)
            several = len(self.selected_[group]) > 1
            for name, scale in pairs:
                column = names.index(name)
                spread = self._spread(raw[rows, column])
                standardize = scale.standardize
                if left_out and several:
                    standardize = scale.standardize_left_out
                z[rows, column] = standardize(spread)
        return z

    def _aggregate(
        self, raw: np.ndarray, groups: np.ndarray, left_out: bool = False
    ) -> np.ndarray:
        """Largest or mean z-score of each clip, (n_clips,)."""
        names = list(self.named_estimators_)
        z = self._standardize(raw, groups, left_out)
        combined = np.full(len(raw), np.nan)
        for group, rows in _split(groups):
            columns = [names.index(name) for name in self.selected_[group]]
            aggregate = _AGGREGATIONS[self.aggregation]
            combined[rows] = aggregate(z[rows][:, columns])
        return combined

    def _score(
        self, raw: np.ndarray, groups: np.ndarray, left_out: bool = False
    ) -> np.ndarray:
        """Scores of the ensemble, (n_clips,): the higher, the more normal."""
        combined = self._aggregate(raw, groups, left_out)
        scores = np.full(len(raw), np.nan)
        for group, rows in _split(groups):
            scores[rows] = -self.total_scales_[group].standardize(combined[rows])
        return scores


def _add_type(group_by: Any, has_types: bool) -> list[str]:
    """Columns of `group_by`, with the type where no other column tells it."""
    columns = group_columns(group_by)
    told = not columns or {"machine_type", "machine_id"} & set(columns)
    return columns if told or not has_types else ["machine_type", *columns]


def _split(groups: Any) -> Iterator[tuple[str | None, np.ndarray]]:
    """Each group with its rows."""
    for group in dict.fromkeys(groups):
        yield group, np.flatnonzero([value == group for value in groups])


def _of(group: str | None) -> str:
    return "" if group is None else f" of {group}"


def _score_and_compare(
    fitted: Any, X: Any, machines: set[str]
) -> tuple[np.ndarray, pd.DataFrame | None]:
    """Scores of clips left out, and sibling AUCs of some machines among them."""
    scores = scoring.anomaly_scores(fitted, X)
    if not machines:
        return scores, None
    labels: Any = machine_labels(X)
    rows = np.flatnonzero([label in machines for label in labels])
    return scores, sibling_table(fitted, take_rows(X, rows))


_AGGREGATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": lambda z: z.max(axis=1),
    "mean": lambda z: z.mean(axis=1),
}
