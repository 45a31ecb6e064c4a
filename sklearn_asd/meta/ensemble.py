"""GammaProbabilityEnsemble: several detectors' scores as one probability."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import adds_or_not, all_or_nothing, fit_clone, is_frozen
from sklearn_asd._utils.parameters import Interval, StrOptions, validates_parameters
from sklearn_asd._utils.validation import is_table_of_numbers, normal_rows
from sklearn_asd.audio.machines import (
    group_columns,
    group_labels,
    refuse_unseen_groups,
)
from sklearn_asd.detectors.doubt import LARGEST_DOUBT, log_confidence
from sklearn_asd.meta import scoring
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.members import EnsembleOfMembers, fit_on_folds, put_together
from sklearn_asd.meta.rounding import refuse_rounding
from sklearn_asd.meta.structure import (
    compares_machines,
    list_inside,
    scatter,
    take_rows,
)

__all__ = ["GammaProbabilityEnsemble"]

# Largest float64 below 1. Scores of members that are not scaled are clipped to it: at 1
# the logarithm would be minus infinity, which cannot be a threshold.
ALMOST_1 = 1 - np.finfo(np.float64).epsneg


class GammaProbabilityEnsemble(EnsembleOfMembers):
    """Combine the scores of several outlier detectors into one probability.

    A Gamma distribution is fitted to each member's anomaly scores of normal clips. It
    turns the scores of a clip into probabilities f_i that a normal clip scores less,
    which are comparable however differently the members score, and these are
    aggregated (section 3.3).

    Parameters
    ----------
    estimators : list of (str, estimator)
        Members by name: outlier detectors of this library, of scikit-learn or of
        PyOD, or Pipelines that end in one. ``"drop"`` leaves one out;
        ``FrozenEstimator(fitted)`` uses one that is already fitted.

    scaling : {"gamma"} or None, default="gamma"
        "gamma" is the paper's system (ii); None takes anomaly scores in [0, 1] as they
        are, such as those of confidence detectors, which go on above 1 where p is
        tiny: system (i).

    aggregation : {"probability", "mean", "product"}, default="probability"
        "probability" is ``f = 1 - prod(1 - f_i)``, Eq. (6): one member that is sure
        is enough. "mean" is the arithmetic mean, and "product" is ``prod(f_i)``: all
        members must agree.

    group_by : str, list of str or None, default=None
        Fit separate Gamma distributions for each value of "machine_type" (the paper's
        MD), "machine_id" (each pair of type and ID), "domain", or another column of a
        table; of a list, for each combination of values. Clips to score need the values
        too: since 2022, the rules of the DCASE challenge keep the domain of test clips
        secret. None fits one for all clips (MI), which the paper found better.

    calibration_cv : int, splitter, iterable of (train, test) or None, default=None
        Scores that the Gamma distributions are fitted to. None takes the scores of the
        clips that the members were trained on, as in the paper, although a network is
        too sure of those; of members in PyOD's manner the scores that they keep, if
        these compare no clip with itself. An int takes
        scores of clips that were left out, from that many folds that each hold every
        machine, and costs as many further fits of each member. A splitter is given the
        normal clips, with their machines as classes. Members with
        `training_score_samples_`, where each clip is scored without being trained on,
        are calibrated on those in both cases.

    contamination : float in (0, 0.5], default=0.1
        Share of the calibration clips that the threshold calls anomalous.

    n_jobs : int or None, default=None
        Members fitted in parallel, on joblib's threads or the backend in force.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted members, without those dropped.

    named_estimators_ : Bunch
        The same by name.

    scales_ : dict of str or None to list of GammaScale
        The Gamma distributions of the members for each value of `group_by`, or for
        None. An empty list where a member scored no clip of that value, so that its
        clips score NaN. Empty if `scaling` is None.

    training_score_samples_ : ndarray of shape (n_clips,)
        Score of each clip that was passed to `fit`, and then to `add_normals`, with
        itself left out; NaN for clips not trained on. Present if all members were
        calibrated on such scores.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of columns of X, if a member has this attribute.

    feature_names_in_ : ndarray of str
        Their names, if a member has this attribute.

    See Also
    --------
    sklearn_asd.presets.make_paper_system : The paper's systems, ready to fit.

    Notes
    -----
    Only clips with y = +1 are trained on. With a table of numbers, as for
    scikit-learn's own detectors, y may be anything: unless it consists of +1 and -1 it
    is ignored with a warning, where those detectors ignore it silently.

    Gamma distributions begin at 0. If a member scores a calibration clip at 0 or
    below, as OneClassSVM does, its scores are shifted so that the lowest is one
    standard deviation above 0.

    Everything is computed from logarithms of f_i and of 1 - f_i, so that clips far out
    in the tail, where f_i rounds to 1, still have different scores.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.neighbors import LocalOutlierFactor
    >>> from sklearn_asd import GammaProbabilityEnsemble
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> ensemble = GammaProbabilityEnsemble([
    ...     ("forest", IsolationForest(random_state=0)),
    ...     ("neighbors", LocalOutlierFactor(novelty=True))]).fit(X)
    >>> ensemble.predict([[0, 0], [5, 5]])  # +1 is normal
    array([ 1, -1])
    >>> ensemble.anomaly_probability([[0, 0], [5, 5]]).round(1)
    array([0.5, 1. ])
    """

    _parameter_constraints: dict = {
        "estimators": [list],
        "scaling": [StrOptions({"gamma"}), None],
        "aggregation": [StrOptions({"probability", "mean", "product"})],
        "group_by": [str, list, tuple, None],
        "calibration_cv": ["cv_object"],  # an int, a splitter, an iterable or None
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "n_jobs": [Integral, None],
    }
    _fitted_attributes: dict = {
        "scales_": dict,
        "offset_": Real,
    }

    def __init__(
        self,
        estimators,
        *,
        scaling="gamma",
        aggregation="probability",
        group_by=None,
        calibration_cv=None,
        contamination=0.1,
        n_jobs=None,
    ):
        self.estimators = estimators
        self.scaling = scaling
        self.aggregation = aggregation
        self.group_by = group_by
        self.calibration_cv = calibration_cv
        self.contamination = contamination
        self.n_jobs = n_jobs

    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the members, and the Gamma distributions of their scores.

        Parameters
        ----------
        X : any
            Clips, as the members take them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : GammaProbabilityEnsemble
            Itself.

        Raises
        ------
        ValueError
            If there are no members or two with the same name, y holds anything but +1
            and -1, X lacks the column for `group_by`, no clip is scored by all members,
            a member that is not scaled scores outside [0, 1], or one knows its training
            clips by heart and scores them by rounding, beside clips left out.
        """
        names, members = self._list_members()
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
        with Parallel(n_jobs=self.n_jobs, prefer="threads") as parallel:
            self.estimators_ = parallel(
                delayed(fit_clone)(member, X) for member in members
            )
            raw, left_out = self._calibrate(X, members, parallel)
        scoring.copy_features(self, self.estimators_)
        self._keep_groups(np.flatnonzero(normal), groups)
        scores = self._set_scales(names, raw, groups)
        if left_out:
            self.training_score_samples_ = scatter([(normal, scores)], n_clips)
        return self

    @adds_or_not
    def add_normals(self, X):
        """Add normal clips to the members, and fit the Gamma distributions anew.

        Parameters
        ----------
        X : any
            Normal clips of the machines fitted, as the members take them.

        Returns
        -------
        self : GammaProbabilityEnsemble
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
        more = self._find_groups(X)
        if self.scales_:
            refuse_unseen_groups(more, self.scales_, self.group_by, "scales")
        raw = self._add_to_members(X, more)
        names, groups = list(self.named_estimators_), self._list_training_groups()
        scores = self._set_scales(names, raw, groups)
        n_clips = len(self.training_score_samples_) + len(more)
        self.training_score_samples_ = scatter([(self._training_rows, scores)], n_clips)
        return self

    def _set_scales(
        self, names: list[str], raw: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """Set the Gamma distributions and the threshold; return the scores."""
        self.scales_ = {} if self.scaling is None else _fit_scales(names, raw, groups)
        scores = self._aggregate(raw, groups)
        if np.isnan(scores).all():
            raise ValueError(
                "no clip is scored by all members, so scores cannot be combined: use "
                "members that score the same clips"
            )
        self.offset_ = float(np.nanpercentile(scores, 100 * self.contamination))
        return scores

    @property
    def compares_machines(self) -> bool:
        """Whether its scores of different machines can be compared.

        Returns
        -------
        compares : bool
            True if a Gamma distribution of each machine scales the scores, or else
            what the members say.
        """
        by_machine = "machine_id" in group_columns(self.group_by)
        if self.scaling is not None and by_machine:
            return True
        return all(map(compares_machines, list_inside(self)))

    def combine_scores(self, scores, rows, X):
        """Scale and aggregate the scores of the members."""
        return self._aggregate(np.column_stack(scores), self._find_groups(X))

    def anomaly_probability(self, X):
        """Compute the aggregated probability, the paper's f_e.

        Parameters
        ----------
        X : any
            Clips, as the members take them.

        Returns
        -------
        probability : ndarray of shape (n_clips,), float64
            In [0, 1]: the higher, the more anomalous. It is not the probability of a
            fault, but the share of normal clips that score lower.
        """
        return -np.expm1(self.score_samples(X))

    def member_scores(self, X, scores=None):
        """Compute the score of each member, raw and scaled.

        Parameters
        ----------
        X : any
            Clips, as the members take them.

        scores : list of ndarray of shape (n_clips,) or None, default=None
            The members' anomaly scores, if they are known already.

        Returns
        -------
        scores : DataFrame of n_clips rows
            ``scores["raw"]`` has a column for each member: its own anomaly score, the
            higher the more anomalous. ``scores["scaled"]`` has the probability f_i
            computed from it, in [0, 1]; the raw score if `scaling` is None.
        """
        check_is_fitted(self)
        if scores is None:
            scores = self._score_inner(self.inner_detectors(X), X)
        raw = np.column_stack(scores)
        log_f, _ = self._scale(raw, self._find_groups(X))
        names = list(self.named_estimators_)
        unscaled = pd.DataFrame(raw, columns=names)
        scaled = pd.DataFrame(np.exp(log_f), columns=names)
        return pd.concat({"raw": unscaled, "scaled": scaled}, axis=1)

    def _find_groups(self, X: Any) -> np.ndarray:
        """Value of `group_by` for each clip; None for each if clips are not grouped."""
        n_clips = _num_samples(X)
        if self.group_by is None or self.scaling is None:
            return np.full(n_clips, None)
        return group_labels(X, self.group_by)

    def _calibrate(
        self, X: Any, members: list[Any], parallel: Parallel
    ) -> tuple[np.ndarray, bool]:
        """Scores to fit Gamma distributions to, and whether none is of a training clip.

        Scores are (n_clips, n_members).
        """
        folds = self._make_folds(X)
        # Folds are surer than what detectors of others keep.
        asked = X if folds is None else None
        columns: list[Any] = [
            scoring.honest_training_scores(member, asked) for member in self.estimators_
        ]
        refit = [
            j
            for j, member in enumerate(members)
            if columns[j] is None and not is_frozen(member)
        ]
        if folds is not None:
            some = {j: members[j] for j in refit}
            parts = fit_on_folds(some, X, folds, parallel)
            for j in refit:
                columns[j] = put_together(parts[j], folds, _num_samples(X))
        self._score_known_clips(X, members, columns, folds is not None)
        return np.column_stack(columns), folds is not None or not refit

    def _score_known_clips(
        self, X: Any, members: list[Any], columns: list[Any], in_folds: bool
    ) -> None:
        """Fill in scores of clips that members were fitted to, if they say anything."""
        for j, (name, fitted) in enumerate(self.named_estimators_.items()):
            if columns[j] is None:
                columns[j] = scoring.anomaly_scores(fitted, X)
            was_left_out = in_folds and not is_frozen(members[j])
            if self.scaling is None or was_left_out:
                continue
            if scoring.honest_training_scores(fitted) is None:
                whose = f"member {name!r}"
                refuse_rounding(members[j], fitted, X, columns[j], whose)

    def _scale(
        self, raw: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of f_i and of 1 - f_i, each (n_clips, n_members)."""
        if self.scaling is None:
            outside = (raw < 0) | (raw > LARGEST_DOUBT)
            if outside.any():
                raise ValueError(
                    f"a member scores {raw[outside][0]:.6g}, and scaling=None needs "
                    'anomaly scores in [0, 1]: set scaling="gamma"'
                )
            # Confidence detectors go on above 1 where 1 - p has no digits left.
            beyond, f = raw > 1, np.minimum(raw, ALMOST_1)
            log_rest = np.where(beyond, log_confidence(raw), np.log1p(-f))
            with np.errstate(divide="ignore"):
                return np.where(beyond, -np.exp(log_rest), np.log(f)), log_rest
        refuse_unseen_groups(groups, self.scales_, self.group_by, "scales")
        log_f, log_rest = (np.full_like(raw, np.nan) for _ in range(2))
        for group, scales in self.scales_.items():
            rows = groups == group if group is not None else slice(None)
            for j, scale in enumerate(scales):
                log_f[rows, j], log_rest[rows, j] = scale.log_cdf_sf(raw[rows, j])
        return log_f, log_rest

    def _aggregate(self, raw: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Logarithm of 1 - f for the aggregated f."""
        return _AGGREGATIONS[self.aggregation](*self._scale(raw, groups))


def _fit_scales(
    names: list[str], raw: np.ndarray, groups: np.ndarray
) -> dict[str | None, list[GammaScale]]:
    remedy = (
        "add normal clips, set calibration_cv, drop the member, or set scaling=None"
    )
    scales: dict[str | None, list[GammaScale]] = {}
    for group in dict.fromkeys(groups):
        rows = np.array([value == group for value in groups])
        where = "" if group is None else f" of {group}"
        if np.isnan(raw[rows]).all(axis=0).any() and group is not None:
            scales[group] = []
            continue
        scales[group] = [
            GammaScale.fit(scores, f"member {name!r:.200}{where}", remedy)
            for name, scores in zip(names, raw[rows].T, strict=True)
        ]
    return scales


def _aggregate_probability(log_f: np.ndarray, log_rest: np.ndarray) -> np.ndarray:
    """1 - f = prod(1 - f_i)."""
    return log_rest.sum(axis=1)


def _aggregate_mean(log_f: np.ndarray, log_rest: np.ndarray) -> np.ndarray:
    """1 - f = mean(1 - f_i), accurate also where all f_i are small."""
    mean = np.exp(log_f).mean(axis=1)
    far = logsumexp(log_rest, axis=1) - np.log(log_rest.shape[1])
    return np.where(mean < 0.5, np.log1p(-np.minimum(mean, 0.5)), far)


def _aggregate_product(log_f: np.ndarray, log_rest: np.ndarray) -> np.ndarray:
    """1 - f = 1 - prod(f_i), which in the far tail is sum(1 - f_i)."""
    far = log_rest.max(axis=1) < -30
    return np.where(far, logsumexp(log_rest, axis=1), _log_rest(log_f.sum(axis=1)))


def _log_rest(log_f: np.ndarray) -> np.ndarray:
    """log(1 - f), by the formula that keeps more digits."""
    with np.errstate(divide="ignore"):
        return np.where(
            log_f > -np.log(2), np.log(-np.expm1(log_f)), np.log1p(-np.exp(log_f))
        )


_AGGREGATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "probability": _aggregate_probability,
    "mean": _aggregate_mean,
    "product": _aggregate_product,
}
