"""Monitor: from blocks of samples to windows, scores, states and events."""

from __future__ import annotations

import math
import time as clock
import warnings
from collections import deque
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd.audio.reading import BadClipError, UnusableClipWarning, as_floats
from sklearn_asd.audio.remarks import condition_of
from sklearn_asd.meta.structure import Opened, find_front_end, walk
from sklearn_asd.monitoring.events import LogEntry, as_time
from sklearn_asd.monitoring.rules import NO_DATA, AlarmRule, AlarmState

__all__ = ["Monitor"]

# Of a window's length, by which it may differ from the recordings learnt from, as in
# the remarks.
_LENGTH_MARGIN = 0.1

_NUMBERS = ("time", "start", "stop", "score", "threshold", "margin")  # of the log


class Monitor:
    """Listen to one machine: cut a stream into windows, judge them and tell changes.

    Parameters
    ----------
    detector : Pipeline or other detector of recordings
        Fitted, with a front end such as :class:`~sklearn_asd.LogMelSegmenter` and a
        threshold. Several monitors may share it.

    window : float > 0 or None, default=None
        Length of a window in s. None is the length of the training recordings, which
        :class:`~sklearn_asd.RecordingCheck` knows. The threshold holds for this length
        only.

    hop : float > 0 or None, default=None
        Time from the start of a window to that of the next in s; None is `window`.

    rule : AlarmRule, default=AlarmRule()
        When windows become an alarm: 3 of 3.

    sample_rate : float or None, default=None
        Sample rate of the stream in Hz, not below the detector's; None is that.

    machine : str or None, default=None
        The machine, such as "fan/00" or "pump_3", where the detector knows several; a
        type without IDs is written "fan/".

    max_gap : float >= 0, default=1.0
        Time in s by which a block may come later or earlier than its predecessor ends.
        With more the window begins anew.

    keep_windows : int > 0, default=1000
        Number of entries that `log` keeps.

    state : AlarmState or None, default=None
        State to go on from, after a restart.

    Attributes
    ----------
    state : AlarmState
        State of the machine; ``state.name`` is one of
        ``sklearn_asd.monitoring.STATES``. It is "no data" until the first window.

    entries : list of LogEntry
        What `log` has, at once and without pandas.

    log : DataFrame
        The last `keep_windows` windows, and changes of state between windows. Its
        columns are the fields of :class:`LogEntry`; what is not known is NaN or None.

    See Also
    --------
    AlarmRule : States, false alarms, delay.
    DriftTest : Whether the scores are still those of the training recordings.

    Notes
    -----
    The scores are those of the detector for the same windows as recordings. A window
    with a remark that says that the machine cannot be judged is "unusable", and the
    state says why.

    Memory: one window of samples, and the log. There are no threads and no files. A
    monitor is used by one thread at a time.

    Examples
    --------
    A model learns from clips of 2 s, and hears a tone for 12 s.

    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter, RecordingCheck
    >>> from sklearn_asd.monitoring import Monitor
    >>> from sklearn_asd.presets import make_detector
    >>> rng = np.random.default_rng(0)
    >>> normal = rng.normal(scale=0.01, size=(40, 32_000))
    >>> pipe = make_pipeline(
    ...     LogMelSegmenter(segment_duration=None), RecordingCheck(), make_detector())
    >>> monitor = Monitor(pipe.fit(normal))
    >>> stream = rng.normal(scale=0.01, size=30 * 16_000)
    >>> stream[10 * 16_000 : 22 * 16_000] += 0.01 * np.sin(np.arange(12 * 16_000))
    >>> for block in np.split(stream, 100):
    ...     for event in monitor.push(block):
    ...         if event.event == "alarm":
    ...             print(f"alarm at {event.stop:g} s: {event.previous} before")
    alarm at 16 s: suspect before
    >>> monitor.log[["stop", "verdict", "state"]].tail(2)
        stop verdict   state
    13  28.0  normal  normal
    14  30.0  normal  normal
    """

    def __init__(
        self,
        detector: Any,
        window: float | None = None,
        hop: float | None = None,
        *,
        rule: AlarmRule | None = None,
        sample_rate: float | None = None,
        machine: str | None = None,
        max_gap: float = 1.0,
        keep_windows: int = 1000,
        state: AlarmState | None = None,
    ) -> None:
        self.detector = detector
        self.sample_rate = _choose_rate(detector, sample_rate)
        checks = [one for one in walk(detector) if hasattr(one, "usual_range")]
        self.machine = _choose_machine(checks, machine)
        self.window = _choose_window(checks, window, self.machine)
        self.hop = self.window if hop is None else hop
        self.rule = AlarmRule() if rule is None else rule
        self.max_gap = max_gap
        self.state = AlarmState() if state is None else state
        self._entries: deque[LogEntry] = deque(maxlen=keep_windows)
        n_window, self._n_hop = (
            round(seconds * self.sample_rate) for seconds in (self.window, self.hop)
        )
        if min(n_window, self._n_hop) < 1 or max_gap < 0:
            raise ValueError(
                f"window={self.window:g} s, hop={self.hop:g} s and max_gap={max_gap:g} "
                "s: window and hop must hold a sample, and max_gap cannot be negative"
            )
        self._samples = np.empty(n_window, np.float32)
        self._n_filled = 0  # negative: so many samples are skipped before the window
        self._n_heard = 0  # samples since the first one
        self._anchor: tuple[float, int] | None = None  # time of one of these samples

    @property
    def entries(self) -> list[LogEntry]:
        """The last windows and changes of state.

        Returns
        -------
        entries : list of LogEntry
            The oldest first.
        """
        return list(self._entries)

    @property
    def log(self) -> pd.DataFrame:
        """Table of the last windows and changes of state."""
        names = [field.name for field in fields(LogEntry)]
        rows = [[getattr(one, name) for name in names] for one in self._entries]
        # Object: what is missing of texts is None in every version of pandas.
        table = pd.DataFrame(rows, columns=names, dtype=object)
        return table.astype(dict.fromkeys(_NUMBERS, float))

    def push(self, samples: Any, time: float | datetime | None = None) -> list:
        """Take the next samples, and judge the windows that they complete.

        Parameters
        ----------
        samples : array-like of shape (n_samples,)
            Floats in [-1, 1], int16 or int32, as many as there are.

        time : float, datetime or None, default=None
            When the first of them was recorded, in seconds since 1970-01-01 UTC or as a
            datetime. None: they follow the samples before. The very first ones, and
            those after "no data", were then recorded now.

        Returns
        -------
        events : list of LogEntry
            Changes of state.

        Raises
        ------
        BadClipError
            If the samples are of another shape or type. Samples that are not numbers
            are "bad audio".

        ValueError
            If the detector does not know the machine.

        Notes
        -----
        If `time` is more than `max_gap` after the end of the samples before, the
        window begins anew, and the state is "no data" in between. If it is as much
        before, as when a clock is set back, the window begins anew.
        """
        samples, moment = as_floats(samples), as_time(time)
        entries = self._follow_clock(moment)
        while len(samples):
            samples = samples[self._fill(samples) :]
            if self._n_filled == len(self._samples):
                entries.append(self._judge_window())
                self._move_on()
        return [entry for entry in entries if entry.event]

    def check(self, time: float | datetime | None = None) -> list:
        """Notice that nothing comes. Call it now and then, for example each minute.

        Parameters
        ----------
        time : float, datetime or None, default=None
            The time; None is now.

        Returns
        -------
        events : list of LogEntry
            "no data", if the last sample is older than a window and `max_gap`, or if
            there was none.
        """
        moment = as_time(time)
        moment = clock.time() if moment is None else moment
        if self._anchor is not None:
            if moment - self._find_time() <= self.window + self.max_gap:
                return []
            self._begin_anew()
        entry = self._note(moment)
        return [entry] if entry.event else []

    def acknowledge(self, time: float | datetime | None = None) -> list:
        """Note that somebody knows of the alarm.

        Parameters
        ----------
        time : float, datetime or None, default=None
            The time; None is now.

        Returns
        -------
        events : list of LogEntry
            "acknowledged"; none if there is no alarm. An alarm whose machine is not
            heard at the moment is acknowledged without an event.
        """
        moment = as_time(time)
        moment = clock.time() if moment is None else moment
        state = self.rule.acknowledge(self.state, moment)
        if state == self.state:
            return []
        entry = self._enter(LogEntry(time=moment), state)
        return [entry] if entry.event else []

    def _follow_clock(self, moment: float | None) -> list[LogEntry]:
        """Set the time of the next sample; notice a gap before it."""
        entries = []
        if self._anchor is not None and moment is not None:
            end = self._find_time()
            if abs(moment - end) > self.max_gap:
                self._begin_anew()
            if moment - end > self.max_gap:
                entries = [self._note(end)]
        if moment is not None or self._anchor is None:
            moment = clock.time() if moment is None else moment
            self._anchor = moment, self._n_heard
        return entries

    def _find_time(self) -> float:
        """When the next sample is recorded."""
        moment, n_heard = self._anchor or (math.nan, 0)
        return moment + (self._n_heard - n_heard) / self.sample_rate

    def _begin_anew(self) -> None:
        self._n_filled, self._anchor = 0, None

    def _fill(self, samples: np.ndarray) -> int:
        """Take so many samples as the window lacks, or lie before it."""
        start = self._n_filled
        n_wanted = len(self._samples) - start if start >= 0 else -start
        taken = samples[:n_wanted]
        if start >= 0:
            self._samples[start : start + len(taken)] = taken
        self._n_filled += len(taken)
        self._n_heard += len(taken)
        return len(taken)

    def _move_on(self) -> None:
        """Keep what the next window shares with this one."""
        n_shared = len(self._samples) - self._n_hop
        if n_shared > 0:
            self._samples[:n_shared] = self._samples[self._n_hop :].copy()
        self._n_filled = n_shared

    def _judge_window(self) -> LogEntry:
        stop = self._n_heard / self.sample_rate
        entry = replace(
            _judge(self.detector, self._tabulate()),
            time=self._find_time(),
            start=stop - len(self._samples) / self.sample_rate,
            stop=stop,
        )
        condition = condition_of(entry.remark or "")
        if condition:
            entry = replace(entry, verdict="unusable")
        state = self.rule.update(
            self.state, float(entry.time or 0), entry.margin, condition
        )
        return self._enter(entry, state)

    def _note(self, moment: float) -> LogEntry:
        """Note that nothing was heard at a time."""
        state = self.rule.update(self.state, moment, None, NO_DATA)
        return self._enter(LogEntry(time=moment), state)

    def _enter(self, entry: LogEntry, state: AlarmState) -> LogEntry:
        """Go to a state, and keep the entry unless it says nothing."""
        before, self.state = self.state, state
        was = None if before.since is None else before.name
        entry = replace(entry, **_name_machine(self.machine), state=state.name)
        if state.name != was:
            entry = replace(entry, event=state.name, previous=was)
        if entry.event or entry.verdict:
            self._entries.append(entry)
        return entry

    def _tabulate(self) -> pd.DataFrame:
        """The window as a table of recordings."""
        row = {"audio": self._samples.copy(), "sample_rate": self.sample_rate}
        return pd.DataFrame([row | _name_machine(self.machine)])


def _judge(detector: Any, table: pd.DataFrame) -> LogEntry:
    """Judge a recording as any other."""
    with warnings.catch_warnings():
        # The reason is in the entry.
        warnings.simplefilter("ignore", UnusableClipWarning)
        try:
            opened = Opened(detector, table)
            score, threshold = -opened.scores[0], -opened.thresholds[0]
        except BadClipError as error:
            return LogEntry(verdict="unusable", reason=str(error))
    margin = float(score - threshold)
    if math.isnan(margin):
        reason = opened.problems.get(0, "scores NaN: is it too short for the model?")
        return LogEntry(verdict="unusable", reason=reason)
    return LogEntry(
        verdict="normal" if margin >= 0 else "anomalous",
        score=float(score),
        threshold=float(threshold),
        margin=margin,
        remark=opened.remarks.get(0),
    )


def _name_machine(machine: str | None) -> dict[str, Any]:
    """Columns of a machine."""
    if machine is None:
        return {}
    kind, _, identity = machine.rpartition("/")
    return {"machine_type": kind or None, "machine_id": identity or None}


def _choose_rate(detector: Any, sample_rate: float | None) -> float:
    """The sample rate of the stream."""
    front_end = find_front_end(detector)
    if front_end is None:
        raise ValueError(
            f"{type(detector).__name__} reads no recordings, so it cannot listen: give "
            "a Pipeline that begins with LogMelSegmenter or PowerSpectrum"
        )
    least = front_end.sample_rate
    if sample_rate is None:
        return least
    if not least <= sample_rate < math.inf:
        raise ValueError(
            f"sample_rate={sample_rate:g} Hz of the stream is below the {least:g} Hz "
            f"of the detector: record at {least:g} Hz or more, or fit with a lower rate"
        )
    return sample_rate


def _choose_machine(checks: list[Any], machine: str | None) -> str | None:
    """The machine by the name that the detector knows."""
    names = sorted({str(name) for one in checks for name in one.machines_})
    if not names or machine in names:
        return machine
    if machine is None and len(names) == 1:
        return names[0]
    fact = "does not say which" if machine is None else f"is {machine!r:.200}"
    raise ValueError(
        f"the detector knows {count(len(names), 'machine')}, and machine {fact}: give "
        f"one of {abbreviate(names)}"
    )


def _choose_window(
    checks: list[Any], window: float | None, machine: str | None
) -> float:
    """The window, which is as long as the recordings learnt from."""
    low, high = _find_lengths(checks, machine)
    if math.isnan(low):
        if window is None:
            raise ValueError(
                "the length of the recordings learnt from is not known: set window to "
                "it, or fit a Pipeline with RecordingCheck after its front end"
            )
        return window
    given = low if window is None and high <= (1 + _LENGTH_MARGIN) * low else window
    least, most = (1 - _LENGTH_MARGIN) * low, (1 + _LENGTH_MARGIN) * high
    if given is None or not least <= given <= most:
        raise ValueError(
            f"window={window} s, and the recordings learnt from are {low:g} to "
            f"{high:g} s long: choose a window of their length, or fit to recordings "
            "of the length of the window"
        )
    return given


def _find_lengths(checks: list[Any], machine: str | None) -> tuple[float, float]:
    """Shortest and longest recording learnt from in s, NaN if it is not known."""
    ranges = [
        one.usual_range("duration", machine)
        for one in checks
        if machine in one.machines_ or len(one.machines_) == 0
    ]
    lows, highs = zip(*ranges, strict=True) if ranges else ((), ())
    return min(lows, default=math.nan), max(highs, default=math.nan)
