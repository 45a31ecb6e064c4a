"""ThresholdTuner: a threshold set by clips that the detector was not trained on."""

from __future__ import annotations

import warnings
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, NotRequired

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, check_scalar, get_tags, indexable
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import adds_or_not, all_or_nothing, fit_clone, is_frozen
from sklearn_asd._utils.messages import abbreviate, check_choice, count
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
    hold_out,
    known_labels,
    machine_labels,
)
from sklearn_asd.detectors.adding import append_known
from sklearn_asd.meta.adding import add_normals, new_training_scores
from sklearn_asd.meta.policies import (
    POLICIES,
    Policy,
    Threshold,
    describe_silence,
    join_promises,
)
from sklearn_asd.meta.rounding import refuse_rounding
from sklearn_asd.meta.scoring import (
    anomaly_scores,
    check_scores_clips,
    copy_features,
    final_step,
    honest_training_scores,
    leaves_clips_out,
)
from sklearn_asd.meta.structure import (
    Inner,
    MetaDetectorMixin,
    compares_machines,
    scatter,
    take_rows,
    threshold_labels,
)

__all__ = ["ThresholdTuner"]

# Held out by default.
_SHARE = 0.2


class ThresholdTuner(MetaDetectorMixin, BaseEstimator):
    """Fit an outlier detector, and set its threshold by clips it was not trained on.

    A detector's own threshold is a percentile of its training scores. These are better
    than scores of new clips, so expect more false alarms. Here some normal clips are
    held out, together with all clips known to be anomalous, and a policy sets `offset_`
    from their scores.

    If scores of different machines cannot be compared, as those of
    :class:`~sklearn_asd.PerMachine`, each machine gets a threshold of its own. So does
    each domain, or another group of clips, with `group_by`.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Of this library, of scikit-learn or of PyOD; cloned and fitted. With
        ``FrozenEstimator(fitted)`` nothing is fitted, and all clips passed to `fit` set
        the threshold: pass none that it was trained on.

    policy : str or callable, default="false_alarm_rate"
        How the threshold is chosen.

        - "false_alarm_rate": at most a share `false_alarm_rate` of unseen normal clips
          is called anomalous, whatever the distribution of the scores (split conformal
          prediction). Needs normal clips only.
        - "gamma": the tail of a Gamma distribution, fitted to the normal clips' anomaly
          scores, is `false_alarm_rate`. Needs normal clips only, and fewer, but is only
          as good as the distribution fits.
        - "f1": the largest F1 of the anomalous class. Needs both classes.
        - "escapes": the fewest false alarms with at most a share `max_escape_rate` of
          the anomalous clips missed. Needs anomalous clips.
        - A callable ``policy(normal, anomalous, tuner)`` is given the scores of both
          classes, of which `anomalous` may be empty, and the tuner, and returns a
          :class:`~sklearn_asd.meta.policies.Threshold`.

    false_alarm_rate : float in (0, 1), default=0.05
        Wanted share of normal clips that are called anomalous.

    max_escape_rate : float in [0, 1), default=0.05
        Largest share of the anomalous validation clips that may be missed.

    validation_fraction : float in (0, 1), "training_scores" or "auto", default="auto"
        Which normal clips set the threshold.

        - A share: these clips are not trained on. They are drawn at random from each
          machine if X has machines. The only clip of a machine is trained on.
        - "training_scores": all are trained on, and the detector's
          `training_score_samples_`, where each clip was left out, set the threshold, or
          what detectors of PyOD keep like that. 19 clips of a machine serve for 5 %. Do
          not use it with distances in a network's embedding: the network has learnt
          from the clips, and its false alarms will be more.
        - "auto": "training_scores" if each machine gets its own threshold and the
          detector leaves clips out of all that it learns, as
          :class:`~sklearn_asd.GaussianDetector` and
          :class:`~sklearn_asd.MahalanobisDetector` do; or else 0.2.

    group_by : str, list of str or None, default=None
        Set a threshold for each value of a column of X, such as "domain", or for each
        combination of the values of several. "machine_id" is each pair of type and ID,
        and is added where scores of different machines cannot be compared. Clips to
        judge need the values too. None sets one for all that can be compared.

    random_state : int, RandomState or None, default=None
        Draws these clips. The detector has its own random state.

    Attributes
    ----------
    detector_ : estimator
        The fitted detector.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``. Minus infinity if
        there are too few normal clips for `false_alarm_rate`. Absent if each machine
        or group has its own threshold.

    offsets_ : dict of str to float
        Threshold of each machine, if scores of different machines cannot be compared,
        or of each group: ``decision_function = score_samples - offsets_[machine]``. The
        names are such as "fan/00", "target" or "fan/00, domain target".

    group_by_ : list of str
        The columns that tell the groups of `offsets_`. Absent if `group_by` is None.

    promise_ : str
        What the threshold promises, and how many clips this is based on; of each
        machine if machines have their own.

    uses_training_scores_ : bool
        Whether training clips set the threshold, each left out of the fit.

    n_validation_normal_ : int
        Number of normal clips that set the threshold.

    n_validation_anomalous_ : int
        Number of anomalous ones.

    n_validation_unusable_ : int
        Number of validation clips that scored NaN and are left out of these.

    training_score_samples_ : ndarray of shape (n_clips,)
        Scores of the normal clips that set the threshold, which the detector was not
        trained on; NaN for the others that were passed to `fit`.
        :class:`~sklearn_asd.GammaProbabilityEnsemble` calibrates on them.

    n_features_in_ : int
        Number of columns of X, if the detector has this attribute.

    feature_names_in_ : ndarray of str
        Their names, if the detector has this attribute.

    See Also
    --------
    sklearn_asd.metrics.auc_table : Evaluates scores without a threshold.

    Notes
    -----
    With n normal validation clips, "false_alarm_rate" takes the k-th smallest of their
    scores, where k is ``false_alarm_rate * (n + 1)`` rounded down. An unseen clip is as
    likely to fall into each of the n + 1 gaps between them, hence below that score with
    probability k / (n + 1), or less if scores are tied. Fewer than
    ``1 / false_alarm_rate - 1`` clips promise nothing: k is 0, which is warned of, and
    no clip is called anomalous.

    That is an average over choices of validation clips; :meth:`false_alarm_interval`
    computes how far off a single one can be. It holds for unseen clips like those of
    validation: the same machines, in the same proportions, taken together. A single
    machine may raise more false alarms. Clips are drawn from each machine separately,
    which may exceed the rate by a share of about 1 / n of it if the scores of machines
    are far apart. A machine with a threshold of its own is promised the rate by itself.

    Training scores keep the rate nearly: a clip was left out of a fit to the others,
    and a new clip is scored by a fit to all. So "about" takes the place of "at most",
    and the interval is as near.

    "f1" and "escapes" put the threshold half way between the last validation clip that
    is called anomalous and the first that is not, and promise nothing about unseen
    clips. Of thresholds with the same F1 the lowest is taken.

    Gamma distributions begin at 0. If a validation clip has an anomaly score of 0 or
    below, as with OneClassSVM, the scores are shifted so that the lowest is one
    standard deviation above 0.

    Clips that could not be used score NaN and are called anomalous. The promise does
    not count them as false alarms.

    The detector is not fitted again with the validation clips, since they would no
    longer be unseen.

    With a table of numbers, as for scikit-learn's own detectors, y may be anything for
    the policies without anomalies: unless it consists of +1 and -1 it is ignored with a
    warning, where those detectors ignore it silently.

    References
    ----------
    Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002.

    Vovk, "Conditional validity of inductive conformal predictors", ACML 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_asd import ThresholdTuner
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> tuner = ThresholdTuner(IsolationForest(random_state=0), random_state=0).fit(X)
    >>> tuner.predict([[0, 0], [5, 5]])  # +1 is normal
    array([ 1, -1])
    >>> tuner.promise_
    'at most 5 % of unseen normal clips are called anomalous, based on 100 normal clips'
    >>> tuner.false_alarm_interval(1000)
    (0.015, 0.102)
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods(["fit"])],
        "policy": [StrOptions(set(POLICIES)), callable],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "max_escape_rate": [Interval(Real, 0, 1, closed="left")],
        "validation_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            StrOptions({"training_scores", "auto"}),
        ],
        "group_by": [str, list, tuple, None],
        "random_state": ["random_state"],
    }
    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "feature_names_in_": NotRequired[np.ndarray],
        "detector_": BaseEstimator,
        "offset_": NotRequired[Real],
        "offsets_": NotRequired[dict],
        "group_by_": NotRequired[list],
        "promise_": str,
        "uses_training_scores_": NotRequired[bool],  # earlier files have none
        "n_validation_normal_": Integral,
        "n_validation_anomalous_": Integral,
        "n_validation_unusable_": Integral,
        "_rank": NotRequired[Integral | None],
        "_ranks": NotRequired[dict],
        # Files of earlier versions have neither.
        "_training_rows": NotRequired[np.ndarray],
        "_training_machines": NotRequired[np.ndarray | None],
    }

    def __init__(
        self,
        detector,
        policy="false_alarm_rate",
        *,
        false_alarm_rate=0.05,
        max_escape_rate=0.05,
        validation_fraction="auto",
        group_by=None,
        random_state=None,
    ):
        self.detector = detector
        self.policy = policy
        self.false_alarm_rate = false_alarm_rate
        self.max_escape_rate = max_escape_rate
        self.validation_fraction = validation_fraction
        self.group_by = group_by
        self.random_state = random_state

    # The detector validates its own parameters.
    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the detector on some of the clips, and set the threshold by the others.

        Parameters
        ----------
        X : any
            Clips, as the detector takes them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal.

        Returns
        -------
        self : ThresholdTuner
            Itself.

        Raises
        ------
        TypeError
            If the detector cannot score clips.

        ValueError
            If y holds anything but +1 and -1, the policy needs clips that are missing,
            of each machine if it gets its own threshold, or the detector has no
            training scores and these are asked for.

        Warns
        -----
        UserWarning
            If too few normal clips, of a machine or of all, can promise the rate.
        """
        check_scores_clips(self.detector)
        (X,) = indexable(X)
        _, needed = self._look_up_policy()
        # A policy that needs anomalies cannot do without y, so y is not ignored there.
        lenient = is_table_of_numbers(X) and "anomalous" not in needed
        normal = normal_rows(y, _num_samples(X), lenient=lenient)
        machine = self._find_groups(X)
        self.uses_training_scores_ = self._choose_training_scores(machine is not None)
        train, validation = self._split(X, normal, machine)
        parts = _split_by_machine(machine, validation)
        # Checked before the detector is fitted, which may take hours, and again after
        # it, as clips that score NaN do not count.
        for name, rows in parts.items():
            self._check_classes(normal[validation[rows]], name, has_y=y is not None)
        # A FrozenEstimator is not fitted again.
        self.detector_ = fit_clone(self.detector, take_rows(X, train))
        copy_features(self, [self.detector_])
        scores = self._score(X, normal, train, validation)
        if is_frozen(self.detector):
            clips = take_rows(X, np.flatnonzero(normal))
            refuse_rounding(
                self.detector, self.detector_, clips, -scores[normal], "the detector"
            )
        self._set_thresholds(scores, normal[validation], parts)
        honest = np.where(normal[validation], scores, np.nan)
        self.training_score_samples_ = scatter([(validation, honest)], len(normal))
        self._training_rows = np.flatnonzero(normal)
        self._training_machines = None if machine is None else machine[normal]
        return self

    @adds_or_not
    def add_normals(self, X):
        """Add normal clips to the detector, and set the threshold anew.

        Parameters
        ----------
        X : any
            Normal clips of the machines fitted, as the detector takes them.

        Returns
        -------
        self : ThresholdTuner
            Itself.

        Raises
        ------
        TypeError
            If the detector cannot learn more.

        ValueError
            If training scores did not set the threshold alone: clips that were held
            out, or are anomalous, are not kept, and would now score differently. Also
            if a clip is of an unknown machine, or a copy of one that was learnt from.
        """
        self._refuse_held_out()
        (X,) = indexable(X)
        self.detector_ = add_normals(self.detector_, X)
        scores = -new_training_scores(self.detector_, "the detector")
        n_new, machines = _num_samples(X), None
        if self._training_machines is not None:
            machines = threshold_labels(self, X)
        append_known(self, np.arange(n_new), machines=machines)
        rows = self._training_rows
        parts = _split_by_machine(self._training_machines, np.arange(len(rows)))
        self._set_thresholds(scores, np.ones(len(rows), dtype=bool), parts)
        n_clips = len(self.training_score_samples_) + n_new
        self.training_score_samples_ = scatter([(rows, scores)], n_clips)
        return self

    def _refuse_held_out(self) -> None:
        """Refuse to add clips if that leaves the threshold behind."""
        n_anomalous = self.n_validation_anomalous_
        by_training = getattr(self, "uses_training_scores_", False)
        if by_training and not n_anomalous and hasattr(self, "_training_rows"):
            return
        what = f"{count(n_anomalous, 'anomalous clip')}" if n_anomalous else "clips"
        raise ValueError(
            f"the threshold is of {what} that ThresholdTuner did not keep, and that "
            "would now score differently: add to its detector_, and set the threshold "
            "of the result by other normal clips: detector = add_normals("
            "tuner.detector_, X); ThresholdTuner(FrozenEstimator(detector)).fit(others)"
        )

    def inner_detectors(self, X):
        """List the fitted detector."""
        return [Inner(self.detector_)]

    def false_alarm_interval(self, n_clips, level=0.95, machine=None):
        """Compute which false alarm rates to expect among unseen normal clips.

        Of m unseen clips, the number below the k-th smallest of n validation scores is
        BetaBinomial(m, k, n + 1 - k), whatever the distribution of the scores. Few
        validation clips make the interval wide, and so do few unseen ones.

        Parameters
        ----------
        n_clips : int >= 1
            Number of unseen normal clips, m.

        level : float in (0, 1), default=0.95
            Probability that the rate lies in the interval, at least.

        machine : str or None, default=None
            Whose clips they are, a key of `offsets_`, if each machine has its own
            threshold.

        Returns
        -------
        low, high : float in [0, 1]
            Share of the clips that is called anomalous. If scores are tied, it may be
            lower.

        Raises
        ------
        ValueError
            If it was fitted with another policy than "false_alarm_rate", or machines
            have their own thresholds and `machine` is none of them.
        """
        check_is_fitted(self)
        check_scalar(n_clips, "n_clips", Integral, min_val=1)
        check_scalar(
            level, "level", Real, min_val=0, max_val=1, include_boundaries="neither"
        )
        rank, n_normal = self._find_rank(machine)
        if rank is None:
            raise ValueError(
                f"policy={self.policy!r:.200} does not bound the number of false "
                "alarms: "
                'fit with policy="false_alarm_rate"'
            )
        if rank == 0:
            return 0.0, 0.0
        counts = np.arange(n_clips + 1)
        ranks_above = n_normal + 1 - rank
        at_most = stats.betabinom.pmf(counts, n_clips, rank, ranks_above).cumsum()
        tail = (1 - level) / 2
        low, high = np.searchsorted(at_most, [tail, 1 - tail])
        # The sum of all may round to less than 1 - tail.
        return float(low / n_clips), float(min(high, n_clips) / n_clips)

    def _look_up_policy(self) -> tuple[Policy, tuple[str, ...]]:
        """Function of the policy, and the classes of validation clips that it needs."""
        if isinstance(self.policy, str):
            return POLICIES[self.policy]
        return self.policy, ("normal",)

    def _find_groups(self, X: Any) -> np.ndarray | None:
        """Whose threshold each clip is compared with; None if there is one for all."""
        compared = compares_machines(self.detector)
        if self.group_by is None:
            if compared:
                return None
            return known_labels(X, "to set a threshold for each machine")
        self.group_by_ = group_columns(self.group_by)
        if not compared and "machine_id" not in self.group_by_:
            self.group_by_.insert(0, "machine_id")
        return group_labels(X, self.group_by_)

    def _find_rank(self, machine: str | None) -> tuple[int | None, int]:
        """Rank of a threshold, and the number of normal scores that it is among."""
        if not hasattr(self, "offsets_"):
            if machine is not None:
                raise ValueError(
                    f"machine={machine!r:.200}, and all machines have the same "
                    "threshold: leave machine at None"
                )
            return self._rank, self.n_validation_normal_
        if machine is None:
            raise ValueError(
                "each machine has its own threshold: set machine to one of "
                f"{abbreviate(list(self.offsets_))}"
            )
        check_choice("machine", machine, self.offsets_)
        return self._ranks[machine]

    def _choose_training_scores(self, is_by_machine: bool) -> bool:
        """Whether left-out training scores set the threshold."""
        if self.validation_fraction == "auto":
            return is_by_machine and leaves_clips_out(self.detector)
        if self.validation_fraction != "training_scores":
            return False
        if is_frozen(self.detector):
            raise ValueError(
                'validation_fraction="training_scores" needs a detector that is fitted '
                "here, and FrozenEstimator was fitted earlier: pass the detector "
                'itself, or set validation_fraction="auto" and pass clips that it was '
                "not trained on"
            )
        return True

    def _check_classes(
        self,
        normal: np.ndarray,
        machine: str | None,
        n_unusable: int = 0,
        has_y: bool = True,
    ) -> None:
        """Refuse validation clips that lack a class that the policy needs."""
        _, needed = self._look_up_policy()
        counts = {"normal": int(normal.sum()), "anomalous": int((~normal).sum())}
        if all(counts[kind] for kind in needed):
            return
        if n_unusable:
            remedy = "find out why clips could not be used, or add others"
        elif "anomalous" in needed and counts["anomalous"] == 0:
            how = "add some, marked -1 in y" if has_y else "pass them, marked -1 in y"
            remedy = f'{how}, or set policy="false_alarm_rate", which needs none'
        else:
            remedy = "add normal clips, marked +1 if you pass y"
        unusable = f", and {n_unusable} scored NaN" if n_unusable else ""
        whose = "" if machine is None else f" of machine {machine!r:.200}"
        raise ValueError(
            f"of the validation clips{whose}, {counts['normal']} are normal and "
            f"{counts['anomalous']} anomalous{unusable}; policy={self.policy!r:.200} "
            "needs "
            f"{' and '.join(needed)} ones: {remedy}"
        )

    def _split(
        self, X: Any, normal: np.ndarray, groups: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on, and rows to set the threshold by."""
        if is_frozen(self.detector):
            return np.arange(0), np.arange(len(normal))
        if self.uses_training_scores_:
            return np.flatnonzero(normal), np.arange(len(normal))
        if normal.sum() < 2:
            raise ValueError(
                f"X holds {count(normal.sum(), 'normal clip')} "
                f"(n_samples={len(normal)}); at least two are needed, to train on and "
                "to set the threshold by: add normal clips, or pass a fitted detector "
                "as FrozenEstimator"
            )
        labels = machine_labels(X) if groups is None else groups
        machine = np.zeros(len(normal)) if labels is None else labels.astype(str)
        rng = check_random_state(self.random_state)
        rows = np.concatenate(
            [
                rng.permutation(np.flatnonzero(normal & (machine == one)))
                for one in np.unique(machine[normal])
            ]
        )
        share = (
            _SHARE if self.validation_fraction == "auto" else self.validation_fraction
        )
        train = normal & ~hold_out(rows, machine, share)
        return np.flatnonzero(train), np.flatnonzero(~train)

    def _score(
        self, X: Any, normal: np.ndarray, train: np.ndarray, validation: np.ndarray
    ) -> np.ndarray:
        """Scores of the validation clips, none of which the detector has learnt."""
        if not self.uses_training_scores_:
            return -anomaly_scores(self.detector_, take_rows(X, validation))
        left_out = honest_training_scores(self.detector_, take_rows(X, train))
        if left_out is None:
            name = type(final_step(self.detector_)).__name__
            raise ValueError(
                f"{name} has no scores of training clips that were left out "
                "(training_score_samples_): set validation_fraction to a share of the "
                "clips, such as 0.2"
            )
        parts = [(train, -left_out)]
        anomalous = np.flatnonzero(~normal)
        if len(anomalous):
            found = anomaly_scores(self.detector_, take_rows(X, anomalous))
            parts.append((anomalous, -found))
        return scatter(parts, len(normal))

    def _set_thresholds(
        self,
        scores: np.ndarray,
        normal: np.ndarray,
        parts: dict[Any, np.ndarray],
    ) -> None:
        """Apply the policy to the validation clips that have a score."""
        usable = ~np.isnan(scores)
        self.n_validation_normal_ = int((usable & normal).sum())
        self.n_validation_anomalous_ = int((usable & ~normal).sum())
        self.n_validation_unusable_ = int((~usable).sum())
        found = {
            name: self._decide(scores[rows], normal[rows], name)
            for name, rows in parts.items()
        }
        if None in found:
            threshold, _ = found[None]
            self.offset_, self._rank = float(threshold.offset), threshold.rank
            self.promise_ = threshold.promise
        else:
            self.offsets_ = {
                name: float(one.offset) for name, (one, _) in found.items()
            }
            self._ranks = {name: (one.rank, n) for name, (one, n) in found.items()}
            self.promise_ = join_promises(
                {name: one.promise for name, (one, _) in found.items()}
            )
        self._warn_of_few({name: one for name, (one, _) in found.items()})
        if self.n_validation_unusable_:
            unusable = count(self.n_validation_unusable_, "clip")
            self.promise_ += f"; without {unusable} that scored NaN"

    def _decide(
        self, scores: np.ndarray, normal: np.ndarray, machine: str | None
    ) -> tuple[Threshold, int]:
        """Threshold of a machine's or all clips, and the number of normal ones."""
        usable = ~np.isnan(scores)
        n_unusable = int((~usable).sum())
        scores, normal = scores[usable], normal[usable]
        self._check_classes(normal, machine, n_unusable)
        decide, _ = self._look_up_policy()
        try:
            threshold = decide(scores[normal], scores[~normal], self)
        except ValueError as error:
            if machine is None:
                raise
            raise ValueError(f"machine {machine!r:.200}: {error}") from error
        return threshold, int(normal.sum())

    def _warn_of_few(self, thresholds: dict[Any, Threshold]) -> None:
        """Warn of thresholds that no clip is below, for want of normal clips."""
        few = {name: one.promise for name, one in thresholds.items() if one.rank == 0}
        if not few:
            return
        remedies = ["add normal clips"]
        if not self.uses_training_scores_:
            remedies.append("raise validation_fraction")
            if leaves_clips_out(self.detector):
                remedies.append('set validation_fraction="training_scores"')
        remedies.append("raise false_alarm_rate")
        promise = few[None] if None in few else describe_silence(few)
        warnings.warn(
            f"{promise}; {', '.join(remedies[:-1])}, or {remedies[-1]}",
            stacklevel=6,  # above fit and its two decorators
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Some detectors, such as PyOD's, have no tags.
        with suppress(TypeError, ValueError, AttributeError):
            tags.input_tags = get_tags(self.detector).input_tags
        return tags


def _split_by_machine(
    machine: np.ndarray | None, validation: np.ndarray
) -> dict[Any, np.ndarray]:
    """Places of each machine's clips among those of validation, which may be none.

    All of None if machines are not told apart.
    """
    if machine is None:
        return {None: np.arange(len(validation))}
    names = np.unique(machine.astype(str)).tolist()
    return {name: np.flatnonzero(machine[validation] == name) for name in names}
