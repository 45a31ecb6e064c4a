"""ThresholdTuner: where normal ends, by clips that the detector has not seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammainccinv
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import (
    _safe_indexing,
    check_random_state,
    check_scalar,
    get_tags,
    indexable,
)
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import JudgingMixin, all_or_nothing
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.parameters import (
    HasMethods,
    Interval,
    StrOptions,
    validates_parameters,
)
from sklearn_asd._utils.validation import is_table_of_numbers, normal_rows
from sklearn_asd.audio.machines import hold_out, machine_labels
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.scoring import anomaly_scores, check_scores_clips, copy_features

__all__ = ["ThresholdTuner"]

# 0.29 * 100 is 28.999999999999996; what is meant is 29.
_ROUNDING = 1e-9


class ThresholdTuner(MetaEstimatorMixin, JudgingMixin, BaseEstimator):
    """Fit an outlier detector, and set its threshold by clips it was not trained on.

    A detector's own threshold is a percentile of the scores of its training clips,
    which it knows too well. Here some normal clips are kept apart, together with all
    that are known to be anomalous, and a policy sets `offset_` by their scores.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Of this library, of scikit-learn or of PyOD; cloned and fitted. With
        ``FrozenEstimator(fitted)`` nothing is fitted, and all clips passed to `fit` set
        the threshold: pass none that it was trained on.

    policy : {"false_alarm_rate", "gamma", "f1", "escapes"}, default="false_alarm_rate"
        How the threshold is chosen.

        - "false_alarm_rate": so that at most a share `false_alarm_rate` of unseen
          normal clips is called anomalous, whatever the distribution of the scores
          (split conformal prediction). Needs normal clips only.
        - "gamma": where a Gamma distribution of the normal clips' anomaly scores has a
          tail of `false_alarm_rate`. Needs normal clips only, and fewer, but is as
          good as the distribution fits.
        - "f1": the largest F1 of the anomalous class. Needs both classes.
        - "escapes": the fewest false alarms with at most a share `max_escape_rate` of
          the anomalous clips missed. Needs anomalous clips.

    false_alarm_rate : float in (0, 1), default=0.05
        Wanted share of normal clips that are called anomalous.

    max_escape_rate : float in [0, 1), default=0.05
        Largest share of the anomalous validation clips that may be missed.

    validation_fraction : float in (0, 1), default=0.2
        Share of the normal clips that set the threshold instead of being trained on,
        drawn at random from each machine where X tells machines. A machine with a
        single clip is trained on.

    random_state : int, RandomState or None, default=None
        Decides which clips these are. The detector has its own.

    Attributes
    ----------
    detector_ : estimator
        The fitted detector.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``. Minus infinity if
        there are too few normal clips for `false_alarm_rate`.

    promise_ : str
        What the threshold promises, and by how many clips.

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
        Number of columns of X, if the detector says it.

    feature_names_in_ : ndarray of str
        Their names, if the detector says them.

    See Also
    --------
    sklearn_asd.metrics.auc_table : Judges scores without a threshold.

    Notes
    -----
    With n normal validation clips, "false_alarm_rate" takes the k-th smallest of their
    scores, where k is ``false_alarm_rate * (n + 1)`` rounded down. An unseen clip is as
    likely to fall into each of the n + 1 gaps between them, hence below that score with
    probability k / (n + 1), or less if scores are tied. Fewer than
    ``1 / false_alarm_rate - 1`` clips promise nothing: k is 0, which is warned of, and
    no clip is called anomalous.

    That is an average over choices of validation clips; :meth:`false_alarm_interval`
    tells how far off a single one can be. It holds for unseen clips like those of
    validation: the same machines, in the same proportions, taken together. A machine
    of its own may raise more false alarms. Clips are drawn from each machine apart,
    which may exceed the rate by a share of about 1 / n of it where machines' scores lie
    far from each other.

    "f1" and "escapes" put the threshold half way between the last validation clip that
    is called anomalous and the first that is not, and promise nothing about unseen
    clips. Of thresholds with the same F1 the lowest is taken.

    Gamma distributions begin at 0. If a validation clip has an anomaly score of 0 or
    below, as of OneClassSVM, the scores are shifted: to one standard deviation above 0
    for the lowest.

    Clips that could not be used score NaN and are called anomalous: nothing speaks for
    them. They are no false alarms in the sense of the promise.

    The detector is not fitted again with the validation clips, since they would no
    longer be unseen.

    A table of numbers, such as scikit-learn's own detectors take, may come with any y
    for the policies without anomalies: one that does not consist of +1 and -1 is
    ignored with a warning, as those detectors do it silently.

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
    'at most 5 % of unseen normal clips are called anomalous, by 100 normal clips'
    >>> tuner.false_alarm_interval(1000)
    (0.015, 0.102)
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods(["fit"])],
        "policy": [StrOptions({"false_alarm_rate", "gamma", "f1", "escapes"})],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "max_escape_rate": [Interval(Real, 0, 1, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector,
        policy="false_alarm_rate",
        *,
        false_alarm_rate=0.05,
        max_escape_rate=0.05,
        validation_fraction=0.2,
        random_state=None,
    ):
        self.detector = detector
        self.policy = policy
        self.false_alarm_rate = false_alarm_rate
        self.max_escape_rate = max_escape_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    # The detector validates its own parameters.
    @validates_parameters(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the detector to some of the clips, and set the threshold by the others.

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
            If y holds anything but +1 and -1, or clips are missing that the policy
            needs.
        """
        check_scores_clips(self.detector)
        X, normal = self._check_clips(X, y)
        train, validation = self._split(X, normal)
        # Before the detector is fitted, which may take hours, and after: clips that
        # score NaN do not count.
        _refuse_without(self.policy, *_count_classes(normal[validation]))
        self.detector_ = self._fit_detector(X, train)
        copy_features(self, [self.detector_])
        scores = -anomaly_scores(self.detector_, _safe_indexing(X, validation))
        usable = ~np.isnan(scores)
        self._set_threshold(scores[usable], normal[validation][usable], len(scores))
        self.training_score_samples_ = np.full(len(normal), np.nan)
        self.training_score_samples_[validation] = scores
        self.training_score_samples_[~normal] = np.nan
        if self._rank == 0:
            _warn_of_too_few(self.n_validation_normal_, self.false_alarm_rate)
        return self

    def anomaly_score(self, X):
        """Score clips: the higher, the more anomalous.

        Parameters
        ----------
        X : any
            Clips, as the detector takes them.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            The negative of :meth:`score_samples`.
        """
        check_is_fitted(self)
        return anomaly_scores(self.detector_, X)

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : any
            Clips, as the detector takes them.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            The detector's `score_samples`, or its `decision_function` where it has no
            such method (with PyOD's sign turned). NaN for clips that could not be used.
        """
        return -self.anomaly_score(X)

    def false_alarm_interval(self, n_clips, level=0.95):
        """Tell which rates of false alarms to expect among unseen normal clips.

        Of m unseen clips, the number below the k-th smallest of n validation scores is
        BetaBinomial(m, k, n + 1 - k), whatever the distribution of the scores. Few
        validation clips make the interval wide, and so do few unseen ones.

        Parameters
        ----------
        n_clips : int >= 1
            Number of unseen normal clips, m.

        level : float in (0, 1), default=0.95
            Probability that the rate lies in the interval, at least.

        Returns
        -------
        low, high : float in [0, 1]
            Share of the clips that is called anomalous. If scores are tied, it may be
            lower.

        Raises
        ------
        ValueError
            If it was fitted with another policy than "false_alarm_rate".
        """
        check_is_fitted(self)
        check_scalar(n_clips, "n_clips", Integral, min_val=1)
        check_scalar(
            level, "level", Real, min_val=0, max_val=1, include_boundaries="neither"
        )
        if self._rank is None:
            raise ValueError(
                "the threshold was set by another policy than "
                '"false_alarm_rate", and only that one knows how many false alarms '
                'to expect: fit with policy="false_alarm_rate"'
            )
        if self._rank == 0:
            return 0.0, 0.0
        counts = np.arange(n_clips + 1)
        ranks_above = self.n_validation_normal_ + 1 - self._rank
        at_most = betabinom.pmf(counts, n_clips, self._rank, ranks_above).cumsum()
        tail = (1 - level) / 2
        low, high = np.searchsorted(at_most, [tail, 1 - tail])
        # The sum of all may round to less than 1 - tail.
        return float(low / n_clips), float(min(high, n_clips) / n_clips)

    def _check_clips(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """X with rows that can be taken, and which of them are normal."""
        (X,) = indexable(X)
        # Without y no policy can find anomalies, so there it must not be ignored.
        lenient = self.policy not in _NEEDED and is_table_of_numbers(X)
        return X, normal_rows(y, _num_samples(X), lenient=lenient)

    def _split(self, X: Any, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on, and rows to set the threshold by."""
        if isinstance(self.detector, FrozenEstimator):
            return np.arange(0), np.arange(len(normal))
        if normal.sum() < 2:
            raise ValueError(
                f"X holds {count(normal.sum(), 'normal clip')} "
                f"(n_samples={len(normal)}); at least two are needed, to train on and "
                "to set the threshold by: add normal clips, or pass a fitted detector "
                "as FrozenEstimator"
            )
        labels = machine_labels(X)
        machine = np.zeros(len(normal)) if labels is None else labels.astype(str)
        rng = check_random_state(self.random_state)
        rows = np.concatenate(
            [
                rng.permutation(np.flatnonzero(normal & (machine == one)))
                for one in np.unique(machine[normal])
            ]
        )
        train = normal & ~hold_out(rows, machine, self.validation_fraction)
        return np.flatnonzero(train), np.flatnonzero(~train)

    def _fit_detector(self, X: Any, train: np.ndarray) -> Any:
        if isinstance(self.detector, FrozenEstimator):
            return self.detector
        return clone(self.detector).fit(_safe_indexing(X, train))

    def _set_threshold(
        self, scores: np.ndarray, normal: np.ndarray, n_validation: int
    ) -> None:
        """Apply the policy to the usable ones of the validation clips."""
        n_normal, n_anomalous = _count_classes(normal)
        n_unusable = n_validation - len(scores)
        _refuse_without(self.policy, n_normal, n_anomalous, n_unusable)
        threshold = _POLICIES[self.policy](self, scores[normal], scores[~normal])
        self.offset_ = float(threshold.offset)
        self._rank = threshold.rank
        self.n_validation_normal_ = n_normal
        self.n_validation_anomalous_ = n_anomalous
        self.n_validation_unusable_ = n_unusable
        self.promise_ = threshold.promise
        if n_unusable:
            self.promise_ += f"; without {count(n_unusable, 'clip')} that scored NaN"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Not all that PyOD and others offer have tags.
        with suppress(TypeError, ValueError, AttributeError):
            tags.input_tags = get_tags(self.detector).input_tags
        return tags


class _Threshold(NamedTuple):
    """What a policy decides.

    Attributes
    ----------
    offset : float
        Scores below it are anomalous.

    promise : str
        What that means, and by how many clips.

    rank : int or None, default=None
        Which of the normal scores it is, from 1 for the smallest, if it is one of them;
        0 if there are too few.
    """

    offset: float
    promise: str
    rank: int | None = None


def _keep_false_alarm_rate(
    tuner: ThresholdTuner, normal: np.ndarray, anomalous: np.ndarray
) -> _Threshold:
    rate = tuner.false_alarm_rate
    rank = math.floor(rate * (len(normal) + 1) + _ROUNDING)
    clips = count(len(normal), "normal clip")
    if rank == 0:
        promise = (
            f"no clip is called anomalous, as {clips} cannot promise {_percent(rate)} "
            f"of false alarms; it takes {_n_needed(rate)}"
        )
        return _Threshold(-np.inf, promise, rank)
    promise = (
        f"at most {_percent(rate)} of unseen normal clips are called anomalous, by "
        f"{clips}"
    )
    return _Threshold(np.sort(normal)[rank - 1], promise, rank)


def _cut_gamma_tail(
    tuner: ThresholdTuner, normal: np.ndarray, anomalous: np.ndarray
) -> _Threshold:
    if len(np.unique(normal)) < 2 or not np.isfinite(normal).all():
        raise ValueError(
            f"the scores of {count(len(normal), 'normal validation clip')} lie in "
            f"[{normal.min():.6g}, {normal.max():.6g}], and a Gamma distribution needs "
            "finite ones of which two differ: add normal clips, or set "
            'policy="false_alarm_rate"'
        )
    gamma = GammaScale.fit(-normal, "the normal validation clips")
    quantile = gammainccinv(gamma.shape, tuner.false_alarm_rate) * gamma.scale
    promise = (
        f"{_percent(tuner.false_alarm_rate)} of unseen normal clips are called "
        "anomalous if their scores follow the Gamma distribution of "
        f"{count(len(normal), 'normal clip')}"
    )
    return _Threshold(gamma.shift - quantile, promise)


def _maximize_f1(
    tuner: ThresholdTuner, normal: np.ndarray, anomalous: np.ndarray
) -> _Threshold:
    levels = np.unique(np.append(normal, anomalous))
    # For each level, with all clips up to it called anomalous.
    n_found = np.searchsorted(np.sort(anomalous), levels, side="right")
    n_alarms = np.searchsorted(np.sort(normal), levels, side="right")
    f1 = 2 * n_found / (n_found + n_alarms + len(anomalous))
    best = int(f1.argmax())
    promise = (
        f"F1 is {f1[best]:.3g} on {count(len(normal), 'normal clip')} and "
        f"{len(anomalous)} anomalous; nothing is promised about unseen clips"
    )
    return _Threshold(_next_gap(levels, best), promise)


def _limit_escapes(
    tuner: ThresholdTuner, normal: np.ndarray, anomalous: np.ndarray
) -> _Threshold:
    n_missed = math.floor(tuner.max_escape_rate * len(anomalous) + _ROUNDING)
    highest_found = np.sort(anomalous)[len(anomalous) - n_missed - 1]
    levels = np.unique(np.append(normal, anomalous))
    offset = _next_gap(levels, int(np.searchsorted(levels, highest_found)))
    promise = (
        f"{(anomalous >= offset).sum()} of {count(len(anomalous), 'anomalous clip')} "
        f"are missed, with {(normal < offset).sum()} of "
        f"{count(len(normal), 'normal clip')} called anomalous; nothing is promised "
        "about unseen clips"
    )
    return _Threshold(offset, promise)


_POLICIES: dict[str, Callable[[ThresholdTuner, np.ndarray, np.ndarray], _Threshold]] = {
    "false_alarm_rate": _keep_false_alarm_rate,
    "gamma": _cut_gamma_tail,
    "f1": _maximize_f1,
    "escapes": _limit_escapes,
}

# Classes among the validation clips, where they are not the normal one alone.
_NEEDED = {"f1": ("normal", "anomalous"), "escapes": ("anomalous",)}


def _next_gap(levels: np.ndarray, last: int) -> float:
    """Half way from a level to the next one; a hair above it if it is the highest."""
    low = levels[last]
    if last + 1 == len(levels):
        return float(np.nextafter(low, np.inf))
    high = levels[last + 1]
    middle = low / 2 + high / 2
    # Between neighbouring floats, or from minus infinity, there is no middle.
    return float(middle if low < middle < high else high)


def _refuse_without(
    policy: str, n_normal: int, n_anomalous: int, n_unusable: int = 0
) -> None:
    """Refuse validation clips that lack a class that the policy needs."""
    counts = {"normal": n_normal, "anomalous": n_anomalous}
    needed = _NEEDED.get(policy, ("normal",))
    if all(counts[kind] for kind in needed):
        return
    if n_unusable:
        remedy = "find out why clips could not be used, or add others"
    elif "anomalous" in needed:
        remedy = (
            "pass them with y, +1 normal and -1 anomalous, or set "
            'policy="false_alarm_rate"'
        )
    else:
        remedy = "add normal clips, marked +1 if you pass y"
    unusable = f", and {n_unusable} scored NaN" if n_unusable else ""
    raise ValueError(
        f"of the validation clips, {n_normal} are normal and {n_anomalous} anomalous"
        f'{unusable}; policy="{policy}" needs {" and ".join(needed)} ones: {remedy}'
    )


def _warn_of_too_few(n_normal: int, rate: float) -> None:
    warnings.warn(
        f"{count(n_normal, 'normal validation clip')} cannot promise "
        f"{_percent(rate)} of false alarms, so no clip will be called anomalous: it "
        f"takes {_n_needed(rate)}; add normal clips, or raise validation_fraction or "
        "false_alarm_rate",
        stacklevel=5,  # above fit and its two decorators
    )


def _n_needed(rate: float) -> int:
    """Smallest n for which ``rate * (n + 1)`` is at least 1."""
    return math.ceil(1 / rate - _ROUNDING) - 1


def _count_classes(normal: np.ndarray) -> tuple[int, int]:
    return int(normal.sum()), int((~normal).sum())


def _percent(rate: float) -> str:
    return f"{100 * rate:.6g} %"
