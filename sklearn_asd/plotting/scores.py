"""ScoreDistributionDisplay: how the scores of normal and new clips are distributed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sklearn_asd._utils.messages import check_choice
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.scoring import anomaly_scores, honest_training_scores
from sklearn_asd.meta.structure import Opened
from sklearn_asd.plotting.style import ANOMALOUS, NEW, NORMAL, TRAINING, ink, make_axes

__all__ = ["ScoreDistributionDisplay"]

# From this ratio of high to low scores on, a linear axis would hide the low ones.
_WIDE = 100

# Styles of the histograms.
_TRAINING = {"color": TRAINING, "alpha": 0.6}
_NEW = {
    "histtype": "stepfilled",
    "edgecolor": NEW,
    "facecolor": NEW + "66",
    "linewidth": 1.8,
}
_NORMAL = {"histtype": "step", "edgecolor": NORMAL, "linewidth": 2}
_ANOMALOUS = {
    "histtype": "step",
    "edgecolor": ANOMALOUS,
    "linewidth": 1.5,
    "hatch": "////",
}


@dataclass(repr=False, eq=False)
class ScoreDistributionDisplay:  # numpydoc ignore=PR02
    """Histograms of anomaly scores, with Gamma distributions and the threshold.

    Made by :meth:`from_estimator` or :meth:`from_predictions`. The axis shows anomaly
    scores (minus `score_samples`): higher is more anomalous. Where machines have
    thresholds of their own, their scores need not be comparable: the axis then shows
    how far each clip's score is above its machine's threshold.

    Parameters
    ----------
    scores : ndarray of shape (n_clips,)
        Anomaly scores of new clips; NaN is left out.

    y : array-like of shape (n_clips,) or None, default=None
        +1 for normal clips, -1 for anomalous ones, if known.

    training_scores : ndarray of shape (n_training,) or None, default=None
        Anomaly scores of normal training clips.

    thresholds : array-like of float, default=()
        Anomaly scores above which clips are anomalous; several if machines have their
        own.

    gammas : dict of str to GammaScale or None, default=None
        Gamma distributions to draw, by name.

    name : str or None, default=None
        Name of the detector, for the label of the axis.

    left_out : bool, default=False
        Whether each training clip was left out of the fit that scored it. Scores of
        clips that were learnt from are better than those of new normal clips.

    relative : bool, default=False
        Whether each score is relative to the threshold of the clip's machine.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the histograms.

    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    sklearn_asd.ThresholdTuner : Sets the threshold from clips held out of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_asd.plotting import ScoreDistributionDisplay
    >>> rng = np.random.default_rng(0)
    >>> X_train, X = rng.normal(size=(200, 2)), rng.normal(size=(50, 2)) * 2
    >>> detector = IsolationForest(random_state=0).fit(X_train)
    >>> display = ScoreDistributionDisplay.from_estimator(
    ...     detector, X, X_train=X_train)
    >>> display.ax_.get_xlabel()
    'anomaly score (higher: more anomalous)'
    """

    scores: np.ndarray
    _: KW_ONLY
    y: ArrayLike | None = None
    training_scores: np.ndarray | None = None
    thresholds: Any = ()
    gammas: dict[str, GammaScale] | None = None
    name: str | None = None
    left_out: bool = False
    relative: bool = False

    @classmethod
    def from_estimator(
        cls, detector, X, y=None, *, X_train=None, member=None, ax=None, **plot_settings
    ):
        """Score clips, and draw the distribution of their scores.

        Parameters
        ----------
        detector : outlier detector or Pipeline
            Fitted, from this library, scikit-learn or PyOD.

        X : any
            New clips, of the kind that was passed to its `fit`.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones.

        X_train : any, default=None
            The clips that were passed to `fit`. Of detectors with
            `training_score_samples_` these are drawn, the scores of training clips,
            each as if left out of the fit, with X_train or without. Others score
            X_train. If machines have thresholds of their own, X_train tells whose clips
            these are; without it none are drawn.

        member : str or None, default=None
            Name of a member of an ensemble. The display shows the raw scores of the
            member and the Gamma distributions by which the ensemble scales them, if it
            does so.

        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        **plot_settings : any
            Passed to :meth:`plot`.

        Returns
        -------
        display : ScoreDistributionDisplay
            Drawn.

        Raises
        ------
        ValueError
            If there is no ensemble, or it has no such member.

        ImportError
            If matplotlib is not installed.
        """
        if member is not None:
            display = cls._score_member(detector, X, y, X_train, member)
            return display.plot(ax, **plot_settings)
        opened = Opened(detector, X)
        scores, training = opened.scores, _training_scores(detector, X_train)
        left_out = honest_training_scores(detector) is not None
        has_threshold = hasattr(detector, "decision_function")
        thresholds: Any = []
        if has_threshold:
            thresholds = _keep_distinct(opened.thresholds)
        relative = len(thresholds) > 1
        if relative:
            scores, thresholds = scores - opened.thresholds, [0.0]
            training = _subtract_thresholds(training, detector, X_train)
        display = cls(
            scores,
            y=y,
            training_scores=training,
            thresholds=thresholds,
            gammas={} if relative else _fit_gamma(scores, y, training),
            left_out=left_out,
            relative=relative,
        )
        return display.plot(ax, **plot_settings)

    @classmethod
    def from_predictions(
        cls,
        y=None,
        scores=None,
        *,
        training_scores=None,
        offset=None,
        ax=None,
        **plot_settings,
    ):
        """Draw the distribution of scores that are already computed.

        Parameters
        ----------
        y : array-like of shape (n_clips,) or None
            +1 for normal clips, -1 for anomalous ones; None if they are not known.

        scores : array-like of shape (n_clips,)
            `score_samples` of new clips: higher is more normal.

        training_scores : array-like of shape (n_training,) or None, default=None
            `score_samples` of normal training clips.

        offset : float or None, default=None
            The detector's `offset_`.

        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        **plot_settings : any
            Passed to :meth:`plot`.

        Returns
        -------
        display : ScoreDistributionDisplay
            Drawn.

        Raises
        ------
        ValueError
            If there are no scores, or `y` and `scores` changed places.

        ImportError
            If matplotlib is not installed.
        """
        _check_order(y, scores)
        scores = -np.asarray(scores, dtype=np.float64)
        if training_scores is not None:
            training_scores = -np.asarray(training_scores, dtype=np.float64)
        display = cls(
            scores,
            y=y,
            training_scores=training_scores,
            thresholds=[] if offset is None else [-offset],
            gammas=_fit_gamma(scores, y, training_scores),
        )
        return display.plot(ax, **plot_settings)

    @classmethod
    def _score_member(cls, detector, X, y, X_train, member):
        """Score by one member, and find the distributions that scale its scores."""
        opened = _open_ensemble(detector, X)
        members = {one.name: one for one in opened.inner}
        check_choice("member", member, members)
        place = list(members).index(member)
        gammas = {
            "Gamma distribution" + ("" if group is None else f" of {group}"): of[place]
            for group, of in opened.estimator.scales_.items()
            if of and isinstance(of[0], GammaScale)
        }
        if X_train is not None:
            X_train = _open_ensemble(detector, X_train).X
        inside = members[member].estimator
        training = _training_scores(inside, X_train)
        left_out = honest_training_scores(inside) is not None
        scores, rows = members[member].scores, members[member].rows
        if y is not None and rows is not None:  # it was selected for these
            y = np.asarray(y)[rows]
        return cls(
            scores,
            y=y,
            training_scores=training,
            gammas=gammas,
            name=member,
            left_out=left_out,
        )

    def plot(self, ax=None, *, bins=30, log_scale="auto"):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        bins : int, default=30
            Number of bins of the histograms.

        log_scale : bool or "auto", default="auto"
            Whether the axis of the scores is logarithmic, if all scores are above 0.
            "auto": if they also spread over more than two decades.

        Returns
        -------
        display : ScoreDistributionDisplay
            The same display.

        Raises
        ------
        ValueError
            If no score is finite.

        ImportError
            If matplotlib is not installed.
        """
        ax = make_axes(ax, type(self).__name__, figsize=(7, 4))
        groups = self._list_groups()
        scores = np.concatenate([finite for *_, finite in groups])
        edges, is_log = _choose_edges(scores, bins, log_scale)
        for kind, style, finite in groups:
            share = np.full(len(finite), 1 / max(len(finite), 1))
            label = f"{kind} ({len(finite)})"
            ax.hist(finite, edges, weights=share, label=label, **style)
        self._draw_gammas(ax, edges, is_log)
        entry: str | None = "threshold"
        if self.relative or len(self.thresholds) > 1:
            entry = "machines' thresholds"
        for threshold in self.thresholds:
            ax.axvline(threshold, color=ink(), linestyle="--", label=entry)
            entry = None  # the legend names them once
        if is_log:
            ax.set_xscale("log")
        whose = "" if self.name is None else f" of {self.name}"
        above = " above the machine's threshold" if self.relative else ""
        ax.set_xlabel(f"anomaly score{whose}{above} (higher: more anomalous)")
        ax.set_ylabel("share of the clips in a bin")
        # Above the axes, where it hides no bar.
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _list_groups(self) -> list[tuple[str, dict[str, Any], np.ndarray]]:
        """List the label, style and finite scores of each histogram."""
        groups = []
        if self.training_scores is not None:
            kind = "normal, training" + (", each left out" if self.left_out else "")
            groups.append((kind, _TRAINING, self.training_scores))
        scores = np.asarray(self.scores)
        if self.y is None:
            groups.append(("new", _NEW, scores))
        else:
            normal = normal_rows(self.y, len(scores))
            groups.append(("normal, new", _NORMAL, scores[normal]))
            groups.append(("anomalous, new", _ANOMALOUS, scores[~normal]))
        return [(kind, style, _keep_finite(scores)) for kind, style, scores in groups]

    def _draw_gammas(self, ax: Any, edges: np.ndarray, is_log: bool) -> None:
        """Draw the expected share of normal clips in a bin around each score."""
        if is_log:
            scores = np.geomspace(edges[0], edges[-1], 400)
            half = np.sqrt(edges[1] / edges[0])
            low, high = scores / half, scores * half
        else:
            scores = np.linspace(edges[0], edges[-1], 400)
            half = (edges[1] - edges[0]) / 2
            low, high = scores - half, scores + half
        dashes = cycle(["-", "-.", ":", "--"])
        for name, gamma in (self.gammas or {}).items():
            fitted = stats.gamma(gamma.shape, loc=-gamma.shift, scale=gamma.scale)
            share = fitted.cdf(high) - fitted.cdf(low)
            ax.plot(scores, share, color=ink(), linestyle=next(dashes), label=name)


def _open_ensemble(detector: Any, X: Any) -> Opened:
    opened = Opened(detector, X).find("member_scores")
    if opened is None:
        raise ValueError(
            f"{type(detector).__name__} has no members, as there is no ensemble in it: "
            "leave member at None"
        )
    return opened


def _choose_edges(
    scores: np.ndarray, bins: int, log_scale: bool | str
) -> tuple[np.ndarray, bool]:
    """Choose the edges of the bins, and whether they are spread logarithmically."""
    if len(scores) == 0:
        raise ValueError("no score is finite: pass scores of clips that are usable")
    low, high = scores.min(), scores.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    few, many = np.quantile(scores, [0.05, 0.95])
    log_scale = low > 0 and (many > _WIDE * few if log_scale == "auto" else log_scale)
    spread = np.geomspace if log_scale else np.linspace
    return spread(low, high, bins + 1), bool(log_scale)


def _check_order(y: Any, scores: Any) -> None:
    """Refuse a call without scores, and one with scores in the place of labels."""
    are_labels = [
        values is not None and bool(np.isin(values, (1, -1)).all())
        for values in (y, scores)
    ]
    if scores is None or (y is not None and are_labels == [False, True]):
        raise ValueError(
            "from_predictions takes labels first, as in scikit-learn: pass "
            "(y, scores), or scores=scores if there are no labels"
        )


def _training_scores(detector: Any, X_train: Any) -> np.ndarray | None:
    honest = honest_training_scores(detector)
    if honest is None and X_train is not None:
        return anomaly_scores(detector, X_train)
    return honest


def _subtract_thresholds(
    training: np.ndarray | None, detector: Any, X_train: Any
) -> np.ndarray | None:
    """Relate training scores to the thresholds of their machines, if X_train tells."""
    if training is None or X_train is None:
        return None
    thresholds = Opened(detector, X_train).thresholds
    if thresholds.shape != training.shape:
        raise ValueError(
            f"X_train has {len(thresholds)} clips, and the detector was fitted to "
            f"{len(training)}: pass the clips that were passed to fit"
        )
    return training - thresholds


def _fit_gamma(
    scores: np.ndarray, y: Any, training: np.ndarray | None
) -> dict[str, GammaScale]:
    """Fit to the normal clips: to training clips, or else to the new ones."""
    if training is None:
        if y is None:
            return {}
        training = scores[normal_rows(y, len(scores))]
    with suppress(ValueError):  # too few clips, or all scores are equal
        gamma = GammaScale.fit(_keep_finite(training), "normal clips")
        return {"Gamma fit, normal": gamma}
    return {}


def _keep_distinct(thresholds: Any) -> np.ndarray:
    """Keep finite thresholds that differ by more than rounding."""
    values = np.unique(_keep_finite(thresholds))
    rounding = 1e-9 * np.abs(values).max(initial=0)
    return values[np.diff(values, prepend=-np.inf) > rounding]


def _keep_finite(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return values[np.isfinite(values)]
