"""DriftTest: whether a machine still sounds as the recordings learnt from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["DriftTest", "benjamini_hochberg", "conformal_p_values"]

# Exponents of the bets: below 1 the smaller, the more a bet wins by extreme p-values;
# above 1 it wins if few are extreme on one side, as when all scores change a little.
_EXPONENTS = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 2.0, 3.0])
_LOG_EXPONENTS = np.log(_EXPONENTS)

# Different scores that are told apart, at most: memory has a bound.
_MOST_CELLS = 4096


def conformal_p_values(scores: Any, reference: Any) -> np.ndarray:
    """Tell how rare such low scores are among normals.

    Parameters
    ----------
    scores : array-like of shape (n_windows,)
        ``score_samples`` of new windows: the higher, the more normal. NaN gives NaN.

    reference : array-like of shape (n_reference,)
        Scores of normal windows of the same machine that the detector was not fitted
        on, such as `training_score_samples_`. NaN is left out.

    Returns
    -------
    p_values : ndarray of shape (n_windows,)
        Share of reference and window that score as low as the window: in (0, 1]. If
        the window is exchangeable with the reference, the probability of a p-value of
        `p` or less is at most `p`.

    Raises
    ------
    ValueError
        If there is no reference.

    Examples
    --------
    >>> from sklearn_asd.monitoring import conformal_p_values
    >>> conformal_p_values([0.5, 2.5, 9.0], reference=[1.0, 2.0, 3.0])
    array([0.25, 0.75, 1.  ])
    """
    known = _known(reference)
    scores = np.asarray(scores, dtype=np.float64)
    n_low = np.searchsorted(known, scores, side="right")
    return np.where(np.isnan(scores), np.nan, (n_low + 1) / (len(known) + 1))


def benjamini_hochberg(p_values: Any, rate: float = 0.1) -> np.ndarray:
    """Choose among many machines those to look at, by the procedure of [1]_.

    Parameters
    ----------
    p_values : array-like of shape (n_machines,)
        One p-value for each machine; NaN is never chosen and does not count.

    rate : float in (0, 1), default=0.1
        The expected share of normal machines among the chosen ones is at most this, if
        the p-values are independent.

    Returns
    -------
    chosen : ndarray of shape (n_machines,), bool
        True for the machines to look at.

    Raises
    ------
    ValueError
        If a p-value is not in [0, 1], or `rate` is not in (0, 1).

    Notes
    -----
    With `n` reference scores no p-value is below ``1 / (n + 1)``. One anomalous machine
    of `m` can be found only if that is at most ``rate / m``.

    References
    ----------
    .. [1] Y. Benjamini and Y. Hochberg, "Controlling the False Discovery Rate",
       J. R. Stat. Soc. B 57, 1995.

    Examples
    --------
    >>> from sklearn_asd.monitoring import benjamini_hochberg
    >>> benjamini_hochberg([0.01, 0.9, 0.04, 0.5], rate=0.1)
    array([ True, False,  True, False])
    """
    values = np.asarray(p_values, dtype=np.float64)
    known = np.sort(values[~np.isnan(values)])
    if not 0 < rate < 1 or np.any((known < 0) | (known > 1)):
        raise ValueError(
            f"rate={rate:g} must lie between 0 and 1, and so must p-values (given are "
            f"{known[:1]} to {known[-1:]})"
        )
    limits = rate * np.arange(1, len(known) + 1) / max(1, len(known))
    below = np.flatnonzero(known <= limits)
    return values <= (known[below[-1]] if len(below) else -1.0)


class DriftTest:
    """Test whether the scores of a machine are still those of its normals.

    Each new score is ranked among the reference and all scores before it. As long as
    nothing changes the ranks are uniform, and bets against that lose [1]_. The capital
    of the bets, which is 1 at the start, ever reaches ``1 / false_alarm_rate`` with a
    probability of at most `false_alarm_rate`, however long the test runs (Ville's
    inequality). Then it is time to listen, and to calibrate or to fit again. The test
    changes no model.

    Parameters
    ----------
    reference : array-like of shape (n_reference,)
        Scores of normal windows of the machine that the detector was not fitted on,
        such as the machine's `training_score_samples_`. NaN is left out.

    false_alarm_rate : float in (0, 1), default=0.01
        Probability that the test ever finds a change where there is none.

    random_state : int, RandomState or None, default=0
        Draws the ranks of equal scores.

    Attributes
    ----------
    found : bool
        Whether the capital ever reached ``1 / false_alarm_rate``. It stays so.

    since : any
        Estimate of when the change began: `time` of the window since which the best bet
        has won. None until a change is found.

    capital : float
        What the bets have won so far, between 0 and infinity.

    n_windows : int
        Number of windows so far.

    See Also
    --------
    conformal_p_values : How rare a single score is.
    benjamini_hochberg : Which of many machines to look at.

    Notes
    -----
    The bets are on low and on high scores, with seven powers of the p-value, and start
    at each window `k` with a share of about ``1 / (k log(k)^2)`` of the first capital,
    so that a change after a long time is found nearly as soon as an early one.

    The promise holds if windows are exchangeable with the reference and each other
    unless something changes. Windows that overlap, a machine with shifts or programs,
    and recordings of few days are not: the test then finds these.

    Cost: at most 64 KB and a tenth of a millisecond a window, however many there were.
    All scores count in the ranks. If more than 4,096 are different they are rounded
    down to multiples of a power of 2, the smallest that leaves as many, which keeps the
    promise: it depends on the scores, and not on their order.

    References
    ----------
    .. [1] V. Vovk, I. Nouretdinov and A. Gammerman, "Testing Exchangeability On-Line",
       ICML 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.monitoring import DriftTest
    >>> rng = np.random.default_rng(0)
    >>> drift = DriftTest(reference=rng.normal(size=50))
    >>> for time in range(300):
    ...     if drift.update(rng.normal() - 3 * (time >= 200), time):
    ...         print(f"at {time}: changed since {drift.since}")
    ...         break
    at 207: changed since 199
    """

    def __init__(
        self,
        reference: Any,
        false_alarm_rate: float = 0.01,
        random_state: Any = 0,
    ) -> None:
        if not 0 < false_alarm_rate < 1:
            raise ValueError(
                f"false_alarm_rate={false_alarm_rate:g} must lie between 0 and 1"
            )
        self.false_alarm_rate = false_alarm_rate
        self.n_windows = 0
        self.found = False
        self.since: Any = None
        self._scores = _Counts(_known(reference))
        self._random = check_random_state(random_state)
        n_bets = 2 * len(_EXPONENTS)
        # Logarithm of what each bet holds, with all that began at other windows.
        self._held = np.full(n_bets, -math.inf)
        # Logarithm of what each has won since the first window, the lowest so far, and
        # the time of the window after it.
        self._won, self._lowest = np.zeros(n_bets), np.zeros(n_bets)
        self._since = np.full(n_bets, None)

    @property
    def capital(self) -> float:
        """What the bets have won so far."""
        return math.exp(min(self._log_capital(), 700.0))

    def update(self, score: float, time: Any = None) -> bool:
        """Take the next window.

        Parameters
        ----------
        score : float
            Its score. Windows that cannot be judged, with NaN, are passed over.

        time : any, default=None
            Its time or number, for `since`; None is the number of the window.

        Returns
        -------
        found : bool
            Whether a change is found, now or earlier.
        """
        if math.isnan(score):
            return self.found
        time = self.n_windows if time is None else time
        self.n_windows += 1
        wins = _bet(self._rank(score))
        begun = _unused(self.n_windows - 1) - _unused(self.n_windows)
        share = math.log(begun / len(wins))
        self._held = np.logaddexp(self._held, share) + wins
        if not self.found:
            self._look_back(wins, time)
            self.found = self._log_capital() >= -math.log(self.false_alarm_rate)
            best = np.argmax(self._won - self._lowest)
            self.since = self._since[best] if self.found else None
        return self.found

    def _rank(self, score: float) -> float:
        """Share of the scores so far that are lower; equal ones are drawn."""
        n_lower, n_equal, n_scores = self._scores.add(score)
        # In (0, 1]: the logarithm of 0 is no bet.
        drawn = 1.0 - self._random.uniform()
        return (n_lower + drawn * n_equal) / n_scores

    def _look_back(self, wins: np.ndarray, time: Any) -> None:
        """Note since when each bet wins."""
        at_lowest = self._won <= self._lowest
        self._lowest[at_lowest] = self._won[at_lowest]
        self._since[at_lowest] = time
        self._won += wins

    def _log_capital(self) -> float:
        rest = math.log(_unused(self.n_windows))
        return float(np.logaddexp.reduce(self._held, initial=rest))


class _Counts:
    """How often each score was there, in cells of a width that is a power of 2.

    The width is 0, or the smallest that leaves `_MOST_CELLS` cells: which scores are
    equal follows from all scores so far, whatever their order.
    """

    def __init__(self, scores: np.ndarray) -> None:
        self._cells, self._counts = np.unique(scores, return_counts=True)
        self._n_scores = len(scores)
        self._width = 0.0
        self._widen()

    def add(self, score: float) -> tuple[int, int, int]:
        """Count a score; how many are lower, equal and in all, with itself."""
        cell = self._find_cell(score)
        place = int(np.searchsorted(self._cells, cell))
        if place == len(self._cells) or self._cells[place] != cell:
            self._cells = np.insert(self._cells, place, cell)
            self._counts = np.insert(self._counts, place, 0)
        self._counts[place] += 1
        self._n_scores += 1
        if len(self._cells) > _MOST_CELLS:
            self._widen()
            place = int(np.searchsorted(self._cells, self._find_cell(score)))
        n_lower = int(self._counts[:place].sum())
        return n_lower, int(self._counts[place]), self._n_scores

    def _find_cell(self, scores: Any) -> Any:
        return np.floor(scores / self._width) if self._width else scores

    def _widen(self) -> None:
        """Make cells wider until there are few enough."""
        while len(self._cells) > _MOST_CELLS:
            if self._width:
                self._width, wider = 2 * self._width, np.floor(self._cells / 2)
            else:  # a width that still tells all apart
                finite = self._cells[np.isfinite(self._cells)]
                self._width = 2.0 ** math.floor(math.log2(np.diff(finite).min()))
                wider = self._find_cell(self._cells)
            self._cells, place = np.unique(wider, return_inverse=True)
            self._counts = np.bincount(place, self._counts).astype(int)


def _unused(n_windows: int) -> float:
    """Share of the first capital that is still to be bet after so many windows."""
    return 1 / (1 + math.log1p(n_windows))


def _bet(p_value: float) -> np.ndarray:
    """Logarithm of what each bet multiplies its capital by; 1 on average."""
    sides = np.log([p_value, max(1.0 - p_value, np.finfo(float).tiny)])
    return (_LOG_EXPONENTS + np.outer(sides, _EXPONENTS - 1)).ravel()


def _known(reference: Any) -> np.ndarray:
    """Sort the scores of reference that are known."""
    scores = np.asarray(reference, dtype=np.float64).ravel()
    scores = np.sort(scores[~np.isnan(scores)])
    if len(scores) == 0:
        raise ValueError(
            "reference holds no scores: give those of normal windows of the machine, "
            "such as training_score_samples_"
        )
    return scores
