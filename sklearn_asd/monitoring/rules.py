"""When windows of a machine's sound become an alarm, and when an alarm ends."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaln, gammaincinv

from sklearn_asd._utils.messages import check_choice, count, shorten

__all__ = [
    "CONDITIONS",
    "NO_DATA",
    "STATES",
    "AlarmRule",
    "AlarmState",
    "RulePromise",
]

NORMAL, SUSPECT, ALARM, ACKNOWLEDGED = "normal", "suspect", "alarm", "acknowledged"
_IN_ALARM = (ALARM, ACKNOWLEDGED)
NO_DATA, STOPPED, BAD_AUDIO = "no data", "stopped", "bad audio"

CONDITIONS = (NO_DATA, STOPPED, BAD_AUDIO)
"""Why a machine is not judged at the moment."""

STATES = (NORMAL, SUSPECT, ALARM, ACKNOWLEDGED, *CONDITIONS)
"""All states of a machine."""


@dataclass(frozen=True)
class AlarmState:
    """What is known of a machine after its last window.

    Attributes
    ----------
    alarm : {"normal", "suspect", "alarm", "acknowledged"}, default="normal"
        What the windows judged so far say.

    condition : {"", "no data", "stopped", "bad audio"}, default="no data"
        Why the last window was not judged; "" if it was.

    recent : tuple of int, default=()
        The last windows judged, the oldest first, as many as the rule looks at: -1 for
        an anomalous one, +1 for one at the release threshold or above, 0 in between.

    since : float or None, default=None
        Time of the window with which the state began, as it was given; None before the
        first window.

    Examples
    --------
    A state becomes a dict for JSON, and a state again.

    >>> import dataclasses
    >>> from sklearn_asd.monitoring import AlarmRule, AlarmState
    >>> state = AlarmRule().update(AlarmState(), time=0.0, margin=-1.0)
    >>> state.name
    'suspect'
    >>> AlarmState.from_dict(dataclasses.asdict(state)) == state
    True
    """

    alarm: str = NORMAL
    condition: str = NO_DATA
    recent: tuple[int, ...] = ()
    since: float | None = None

    @property
    def name(self) -> str:
        """The state of the machine, one of `STATES`."""
        return self.condition or self.alarm

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AlarmState:
        """Read a state that ``dataclasses.asdict`` wrote.

        Parameters
        ----------
        values : dict
            As from JSON.

        Returns
        -------
        state : AlarmState
            The same state.

        Raises
        ------
        ValueError
            If the dict holds anything else.
        """
        known = isinstance(values, dict) and set(values) == {
            field.name for field in dataclasses.fields(cls)
        }
        if not known or not _is_state(**values):
            raise ValueError(
                f"{shorten(values)} is not the state of a machine: start again with "
                "AlarmState()"
            )
        return cls(**{**values, "recent": tuple(values["recent"])})


def _is_state(alarm: Any, condition: Any, recent: Any, since: Any) -> bool:
    kinds = isinstance(recent, list | tuple) and all(
        isinstance(one, int) and -1 <= one <= 1 for one in recent
    )
    names = alarm in STATES[:4] and condition in ("", *CONDITIONS)
    return kinds and names and isinstance(since, int | float | None)


@dataclass(frozen=True)
class AlarmRule:
    """Raise an alarm if `k` of the last `n` windows are anomalous.

    The states of a machine:

    - ``normal``: no alarm is near.
    - ``suspect``: some of the last windows are anomalous, so that an alarm can come
      sooner than after `k` windows.
    - ``alarm``: `k` of the last `n` windows had a negative margin. The alarm ends when
      `k` of `n` windows since then have a margin of `release` or more.
    - ``acknowledged``: the same, and somebody knows of it.
    - ``no data``: nothing was heard.
    - ``stopped``: the level is more than 6 dB below that of all training recordings.
    - ``bad audio``: no sound, clipping, dropouts, an offset, missing upper frequencies
      or channels, or samples that are not numbers.

    In the last three states the machine is not judged. Such windows change neither an
    alarm nor the count: `n` windows are the last `n` that were judged. A machine that
    was in alarm is so again when it is heard again.

    Attributes
    ----------
    k : int > 0, default=3
        Number of anomalous windows.

    n : int >= k, default=3
        Number of windows that are looked at.

    release : float >= 0, default=0.0
        Margin of windows that end an alarm, in the unit of the detector's margins. A
        positive one keeps an alarm whose windows come and go about the threshold.

    See Also
    --------
    Monitor : Cuts a stream into windows and applies the rule.

    Examples
    --------
    >>> from sklearn_asd.monitoring import AlarmRule, AlarmState
    >>> rule, state = AlarmRule(k=2, n=3), AlarmState()
    >>> for time, margin in enumerate([1.0, -0.5, 0.2, -0.5]):
    ...     state = rule.update(state, time, margin)
    ...     print(state.name)
    normal
    suspect
    suspect
    alarm
    >>> rule.acknowledge(state, time=4.0).name
    'acknowledged'
    """

    k: int = 3
    n: int = 3
    release: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ValueError(
                f"k={self.k} of n={self.n} windows is no alarm rule: choose 1 <= k <= n"
            )
        if not 0 <= self.release < math.inf:
            raise ValueError(
                f"release={self.release} would end an alarm by anomalous windows, or "
                "never: choose a margin of 0 or more"
            )

    def __str__(self) -> str:
        return f"{self.k} of {self.n}"

    @classmethod
    def parse(cls, text: str, release: float = 0.0) -> AlarmRule:
        """Read a rule from text.

        Parameters
        ----------
        text : str
            Such as "3 of 5" or "3/5".

        release : float >= 0, default=0.0
            See above.

        Returns
        -------
        rule : AlarmRule
            The rule.

        Raises
        ------
        ValueError
            If the text is no rule.

        Examples
        --------
        >>> AlarmRule.parse("3/5")
        AlarmRule(k=3, n=5, release=0.0)
        """
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:of|/)\s*(\d{1,6})\s*", text)
        if not found:
            raise ValueError(f"{text!r:.60} is no alarm rule: write '3 of 5', or '3/5'")
        return cls(int(found[1]), int(found[2]), release)

    def update(
        self, state: AlarmState, time: float, margin: float | None, condition: str = ""
    ) -> AlarmState:
        """Take the next window.

        Parameters
        ----------
        state : AlarmState
            After the windows before; ``AlarmState()`` at first.

        time : float
            Time of the window; the state only keeps it, as `since`.

        margin : float or None
            The detector's decision on the window: negative for an anomalous one. NaN
            or None: it has none, which is bad audio.

        condition : {"", "no data", "stopped", "bad audio"}, default=""
            Why the margin says nothing about the machine, if so;
            ``sklearn_asd.audio.remarks.condition_of`` tells it from a remark.

        Returns
        -------
        state : AlarmState
            After the window. The state of the machine has changed where its `name` is
            another one.

        Raises
        ------
        ValueError
            If there is no such condition.
        """
        if condition:
            check_choice("condition", condition, CONDITIONS)
        margin = math.nan if margin is None else margin
        if condition or math.isnan(margin):
            return _change(state, time, condition=condition or BAD_AUDIO)
        kind = -1 if margin < 0 else int(margin >= self.release)
        recent = (*state.recent, kind)[-self.n :]
        if state.alarm not in _IN_ALARM:
            alarm = self._judge(recent)
            # Only windows after its beginning can end an alarm.
            recent = () if alarm == ALARM else recent
        elif recent.count(1) >= self.k:
            alarm, recent = NORMAL, ()
        else:
            alarm = state.alarm
        return _change(state, time, alarm=alarm, condition="", recent=recent)

    def acknowledge(self, state: AlarmState, time: float) -> AlarmState:
        """Note that somebody knows of an alarm.

        Parameters
        ----------
        state : AlarmState
            State of the machine.

        time : float
            When that was.

        Returns
        -------
        state : AlarmState
            With ``alarm="acknowledged"`` if it was "alarm", or else unchanged.
        """
        if state.alarm != ALARM:
            return state
        return _change(state, time, alarm=ACKNOWLEDGED)

    def _judge(self, recent: tuple[int, ...]) -> str:
        anomalous = [kind < 0 for kind in recent]
        if sum(anomalous) >= self.k:
            return ALARM
        # Some more anomalous windows, fewer than from the start, would be an alarm.
        near = any(
            sum(anomalous[-(self.n - more) :]) + more >= self.k
            for more in range(1, self.k)
            if more < self.n
        )
        return SUSPECT if near else NORMAL

    def promise(
        self,
        margins: Any,
        window: float,
        hop: float | None = None,
        *,
        ordered: bool = False,
    ) -> RulePromise:
        """Tell how often the rule is wrong on normals, and how quick it is.

        Parameters
        ----------
        margins : array-like of shape (n_windows,)
            Margins of normal windows of one machine that the detector was not fitted
            on, such as ``training_score_samples_ - offset_``. NaN is left out.

        window : float > 0
            Length of a window in s.

        hop : float > 0 or None, default=None
            Time from the start of a window to that of the next in s; None is `window`.

        ordered : bool, default=False
            Whether the margins are in the order of time, `hop` apart. The rule is then
            tried on them as they are. Otherwise windows that do not overlap are taken
            as independent.

        Returns
        -------
        promise : RulePromise
            Its text is a sentence.

        Raises
        ------
        ValueError
            If there are no margins, or `window` or `hop` is not positive.

        Notes
        -----
        Not ordered: `r` is one more than the number of the `m` margins that are
        negative. The share of new windows that are anomalous then has a Beta(r, m+1-r)
        distribution, or lies below, and an alarm begins only with an anomalous window
        after ``k - 1`` others among ``n - 1``. Of windows that overlap, those count
        that do not. A lorry outside, or a shift with another load, makes anomalous
        windows follow each other: the real rate may be higher.

        Ordered: the number of alarms is counted, and the rate is the upper limit of a
        95 % interval of a Poisson process.
        """
        known = np.asarray(margins, dtype=np.float64)
        known = known[~np.isnan(known)]
        hop = window if hop is None else hop
        if len(known) == 0 or not (window > 0 and hop > 0):
            raise ValueError(
                f"a promise needs margins of normal windows ({len(known)} given), and "
                f"a window ({window} s) and hop ({hop} s) above 0"
            )
        per_window = (
            self._bound_by_trial(known)
            if ordered
            else self._bound_by_chance(known, window, hop)
        )
        return RulePromise(
            rule=self,
            false_alarms_per_hour=3600 / hop * per_window,
            delay=window + self.k * hop,
            window=window,
            hop=hop,
            n_windows=len(known),
            ordered=ordered,
        )

    def _bound_by_chance(self, margins: np.ndarray, window: float, hop: float) -> float:
        """Probability that an alarm begins with a window, at most."""
        # Of the windows that the rule looks at, so many do not overlap the newest one
        # or each other. At most n - k of them are normal.
        n = math.ceil(self.n / math.ceil(window / hop - 1e-9))
        k = max(1, n - (self.n - self.k))
        below = int(np.sum(margins < 0))
        rank, above = below + 1, len(margins) - below
        newest = rank / (len(margins) + 1)
        # The newest one is anomalous: that raises the rank in what follows.
        return newest * _at_least(k - 1, n - 1, rank + 1, max(above, 1e-9))

    def _bound_by_trial(self, margins: np.ndarray) -> float:
        """Alarms per window, at most, by trying the rule on windows in their order."""
        state, n_alarms = AlarmState(), 0
        for time, margin in enumerate(margins.tolist()):
            before, state = state, self.update(state, time, margin)
            n_alarms += state.alarm == ALARM and before.alarm != ALARM
        return float(gammaincinv(n_alarms + 1, 0.95) / len(margins))


class RulePromise(NamedTuple):
    """What a rule does to false alarms and to the delay.

    Attributes
    ----------
    rule : AlarmRule
        The rule.

    false_alarms_per_hour : float
        Alarms in an hour of normal sound: at most so many on average over machines and
        recordings learnt from, and more on some.

    delay : float
        Time in s from the start of a fault to its alarm, at most, if each window that
        lies within the fault is anomalous.

    window, hop : float
        Length of a window and time from one to the next, in s.

    n_windows : int
        Number of normal windows that this is based on.

    ordered : bool
        Whether the rule was tried on them in their order.

    Examples
    --------
    >>> from sklearn_asd.monitoring import AlarmRule
    >>> margins = [-0.1] + 98 * [1.0]
    >>> promise = AlarmRule().promise(margins, window=10.0)
    >>> print(promise)  # doctest: +NORMALIZE_WHITESPACE
    3 of 3 windows of 10 s, every 10 s: at most 0.0084 false alarms an hour on average,
    by 99 normal windows taken as independent. A fault that each window hears is an
    alarm after 40 s at most.
    """

    rule: AlarmRule
    false_alarms_per_hour: float
    delay: float
    window: float
    hop: float
    n_windows: int
    ordered: bool

    def __str__(self) -> str:
        how = "in their order" if self.ordered else "taken as independent"
        return (
            f"{self.rule} windows of {self.window:g} s, every {self.hop:g} s: at most "
            f"{self.false_alarms_per_hour:.2g} false alarms an hour on average, by "
            f"{count(self.n_windows, 'normal window')} {how}. A fault that each window "
            f"hears is an alarm after {self.delay:g} s at most."
        )


def _at_least(k: int, n: int, a: float, b: float) -> float:
    """Probability of k of n or more, if that of each is Beta(a, b) distributed.

    As of scipy.stats.betabinom, which takes long to import.
    """
    some = np.arange(k, n + 1)
    ways = -np.log(n + 1) - betaln(n - some + 1, some + 1)
    return float(np.exp(ways + betaln(some + a, n - some + b) - betaln(a, b)).sum())


def _change(state: AlarmState, time: float, **values: Any) -> AlarmState:
    """Change a state, and its time if it has another name now."""
    new = dataclasses.replace(state, **values)
    if new.name == state.name and state.since is not None:
        return new
    return dataclasses.replace(new, since=time)
