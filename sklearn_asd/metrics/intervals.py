"""Confidence intervals of a measure, by drawing or leaving out clips."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.utils import check_random_state, check_scalar

from sklearn_asd.audio.machines import domain_labels, machine_index
from sklearn_asd.meta.structure import take_rows
from sklearn_asd.metrics.labelled import read_labelled

__all__ = ["ScoreInterval", "score_interval"]


class ScoreInterval(NamedTuple):
    """A measure, and the interval in which it may lie for other clips."""

    score: float
    low: float
    high: float


def score_interval(
    measure: Callable[[Any, np.ndarray, np.ndarray], float],
    X: Any,
    y: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    *,
    level: float = 0.95,
    method: str = "bootstrap",
    n_resamplings: int = 500,
    random_state: Any = None,
) -> ScoreInterval:
    """Confidence interval of a measure of scores, over the choice of clips.

    Parameters
    ----------
    measure : callable
        Called as ``measure(X, y, scores)``, returns a number, such as
        ``partial(dcase_score, year=2023)``.

    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips.

    y : array-like of shape (n_clips,), default=None
        +1 for normal clips, -1 for anomalous ones. None takes the column `label` of X.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips: higher is more normal.

    level : float in (0, 1), default=0.95
        Probability that the interval holds the measure of many such clips.

    method : {"bootstrap", "jackknife"}, default="bootstrap"
        "bootstrap" draws clips with replacement, as many as there are of each machine,
        domain and label, and takes percentiles of the measure. "jackknife" leaves out
        each clip in turn, as the challenge's organisers do, and takes the normal
        distribution with the standard error that follows.

    n_resamplings : int, default=500
        Number of drawings of the bootstrap.

    random_state : int, RandomState or None, default=None
        Draws the clips of the bootstrap.

    Returns
    -------
    interval : ScoreInterval
        A tuple (score, low, high).

    Raises
    ------
    ValueError
        If a parameter is out of range, or the measure raises it.

    Notes
    -----
    The cost is that of `n_resamplings` calls of the measure, or of one for each clip.
    With few clips intervals are too narrow: a machine with five anomalies of one kind
    says little about others. Seeds of a training are another source of spread, which is
    not in the interval.

    References
    ----------
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 11
    (jackknife) and 13 (percentiles).

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.metrics import pauc_score, score_interval
    >>> clips = pd.DataFrame({"label": [1] * 5 + [-1] * 5})
    >>> scores = [.9, .8, .7, .6, .2, .5, .4, .3, .1, .05]
    >>> interval = score_interval(
    ...     lambda X, y, scores: pauc_score(y, scores, max_fpr=1), clips, scores=scores,
    ...     random_state=0)
    >>> round(interval.score, 2), interval.low < interval.score < interval.high
    (0.88, True)
    """
    check_scalar(
        level, "level", Real, min_val=0, max_val=1, include_boundaries="neither"
    )
    check_scalar(n_resamplings, "n_resamplings", Integral, min_val=1)
    normal, scores = read_labelled(X, y, scores)
    y = np.where(normal, 1, -1)

    def _measure(rows: np.ndarray) -> float:
        return float(measure(take_rows(X, rows), y[rows], scores[rows]))

    score = float(measure(X, y, scores))
    if method == "jackknife":
        low, high = _jackknife(_measure, score, len(y), level)
    elif method == "bootstrap":
        cells = _find_cells(X, y)
        rng = check_random_state(random_state)
        drawn = [
            _measure(np.concatenate([rng.choice(cell, len(cell)) for cell in cells]))
            for _ in range(n_resamplings)
        ]
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    else:
        raise ValueError(
            f"method={method!r:.200} is not known: it is 'bootstrap' or 'jackknife'"
        )
    return ScoreInterval(score, float(low), float(high))


def _jackknife(
    measure_rows: Callable[[np.ndarray], float],
    score: float,
    n_clips: int,
    level: float,
) -> tuple[float, float]:
    everyone = np.arange(n_clips)
    left_out = [measure_rows(np.delete(everyone, one)) for one in everyone]
    error = np.sqrt((n_clips - 1) * np.var(left_out))
    half = stats.norm.ppf((1 + level) / 2) * error
    return score - half, score + half


def _find_cells(X: Any, y: np.ndarray) -> list[np.ndarray]:
    """Find the rows of each machine, domain and label."""
    domain = domain_labels(X)
    names = machine_index(X).to_frame(index=False)
    names = names.assign(domain="" if domain is None else domain, label=y)
    if isinstance(X, pd.DataFrame) and "section" in X:
        names = names.assign(section=X["section"].to_numpy())
    groups = names.groupby(list(names.columns), dropna=False)
    return list(groups.indices.values())
