"""What a watch heard in a period: windows, alarms and silence of each machine."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd

from sklearn_asd.monitoring.history import History
from sklearn_asd.monitoring.rules import NO_DATA, STATES

__all__ = ["Alarm", "WatchedMachine", "find_gaps", "summarize_watch"]

# Of windows that say nothing about the state of a machine.
_NO_STATE = "no state"


class Alarm(NamedTuple):
    """One alarm, from its beginning until the machine is judged normal again.

    Attributes
    ----------
    machine : str
        The machine.

    start : float
        When it began, in s since 1970-01-01 UTC.

    duration : float
        In s; until the end of the period if it is still on. NaN if a clock was set back
        meanwhile.

    is_on : bool
        Whether it is still on at the end.

    n_windows : int
        Windows from the one that raised it.

    worst : float
        Lowest margin of these; NaN if none has a margin.

    remark : str
        The remark that most of them have; "" if none has any.

    kept : str or None
        Folder with its sound.
    """

    machine: str
    start: float
    duration: float
    is_on: bool
    n_windows: int
    worst: float
    remark: str
    kept: str | None


class WatchedMachine(NamedTuple):
    """What was heard of one machine.

    Attributes
    ----------
    name : str
        Of the machine; "" if the log names none.

    rows : DataFrame
        Its lines in the period, in the order of time.

    gaps : list of tuple of (float, float)
        Begin and end of the times without data.

    share_without_data : float
        Of the period, since the first line of the machine.

    state : str
        The last one; "" if no line tells one.

    n_windows : dict of str to int
        By the state after each.

    n_anomalous : int
        Windows whose verdict is anomalous.

    n_unusable : int
        Windows that could not be judged.

    n_single : int
        Anomalous windows outside alarms between two that are not: like false alarms.

    alarms : list of Alarm
        Alarms that were on in the period, the latest first.

    remarks : list of tuple of (str, int)
        Remarks and reasons, with how many windows have them. Those that differ in
        numbers only count as one, and the last one stands for them.
    """

    name: str
    rows: pd.DataFrame
    gaps: list[tuple[float, float]]
    share_without_data: float
    state: str
    n_windows: dict[str, int]
    n_anomalous: int
    n_unusable: int
    n_single: int
    alarms: list[Alarm]
    remarks: list[tuple[str, int]]

    @property
    def margins(self) -> pd.Series:
        """Margins of its windows that have one."""
        return self.rows.loc[np.isfinite(self.rows["margin"]), "margin"]


def summarize_watch(
    history: History, since: float, until: float
) -> list[WatchedMachine]:
    """Summarise what was heard of each machine.

    Parameters
    ----------
    history : History
        The log.

    since, until : float
        The period in s since 1970-01-01 UTC, both included.

    Returns
    -------
    machines : list of WatchedMachine
        Those with a line in the period or before it: the ones with most alarms first.
    """
    rows = history.rows
    rows = rows[rows["time"] <= until]
    machines = [
        _summarize(str(name), some, history.no_data_after, since, until)
        for name, some in rows.groupby("machine")
    ]
    return sorted(machines, key=lambda one: (-len(one.alarms), one.name))


def _summarize(
    name: str, rows: pd.DataFrame, no_data_after: float, since: float, until: float
) -> WatchedMachine:
    rows = rows.assign(is_single=_find_single(rows))
    inside = rows[rows["time"] >= since].sort_values("time", kind="stable")
    windows = inside[inside["verdict"].notna()]
    start = max(since, rows["time"].min())
    heard = rows.loc[rows["verdict"].notna(), "time"].to_numpy()
    gaps = find_gaps(heard, no_data_after, start, until)
    silent = sum(stop - begin for begin, stop in gaps)
    alarms = [one for one in _find_alarms(name, rows, until) if _ends(one) >= since]
    counts = windows["state"].fillna(_NO_STATE).value_counts()
    return WatchedMachine(
        name=name,
        rows=inside,
        gaps=gaps,
        share_without_data=silent / (until - start)
        if until > start
        else not len(heard),
        state=_find_last_state(rows, gaps, until),
        n_windows={
            state: int(counts[state])
            for state in (*STATES, _NO_STATE)
            if state in counts
        },
        n_anomalous=int((windows["verdict"] == "anomalous").sum()),
        n_unusable=int((windows["verdict"] == "unusable").sum()),
        n_single=int(windows["is_single"].sum()),
        alarms=alarms[::-1],
        remarks=_count_remarks(windows),
    )


def _find_last_state(
    rows: pd.DataFrame, gaps: list[tuple[float, float]], until: float
) -> str:
    """Give the state at the end; a machine that is not heard then has no data."""
    if gaps and gaps[-1][1] >= until:
        return NO_DATA
    states = rows["state"].dropna()
    return str(states.iloc[-1]) if len(states) else ""


def find_gaps(
    heard: np.ndarray, no_data_after: float, start: float, until: float
) -> list[tuple[float, float]]:
    """Find when a machine was not heard, whether or not the watch ran then.

    Parameters
    ----------
    heard : ndarray of shape (n_windows,)
        Times of its windows, in s.

    no_data_after : float
        Longest time in s from one window to the next that is no gap.

    start, until : float
        The period.

    Returns
    -------
    gaps : list of tuple of (float, float)
        Begin and end of each, within the period. Those at both ends of the period
        count; a machine that was never heard has one gap.
    """
    inside = np.sort(heard[heard <= until])
    first = start if len(inside) == 0 else min(start, inside[0])
    times = np.concatenate(([first], inside, [until]))
    is_gap = np.diff(times) > no_data_after
    if len(inside) == 0:  # the watch said so, or would have
        is_gap[:] = True
    ends = zip(times[:-1][is_gap], times[1:][is_gap], strict=True)
    return [(max(start, begin), stop) for begin, stop in ends if stop > start]


def _find_single(rows: pd.DataFrame) -> pd.Series:
    """Find anomalous windows outside alarms between two that are not anomalous."""
    judged = rows[rows["verdict"].isin(["normal", "anomalous"])]
    anomalous = judged["verdict"] == "anomalous"
    before = anomalous.shift(1, fill_value=False)
    after = anomalous.shift(-1, fill_value=True)  # the next one is not known yet
    single = anomalous & ~before & ~after & ~judged["in_alarm"]
    return single.reindex(rows.index, fill_value=False)


def _find_alarms(name: str, rows: pd.DataFrame, until: float) -> list[Alarm]:
    """Find the alarms of one machine, in the order of the log."""
    in_alarm = rows["in_alarm"]
    number = (in_alarm != in_alarm.shift(fill_value=False)).cumsum()
    ends = rows["time"].groupby(number).first()
    alarms = []
    for one, some in rows[in_alarm].groupby(number[in_alarm]):
        is_on = one + 1 not in ends.index
        start = some["time"].iloc[0]
        duration = (until if is_on else ends[one + 1]) - start
        windows = some[some["verdict"].notna()]
        remarks = Counter(windows["remark"].dropna()).most_common(1)
        kept = some["kept"].dropna()
        alarms.append(
            Alarm(
                machine=name,
                start=float(start),
                duration=float(duration) if duration >= 0 else np.nan,
                is_on=is_on,
                n_windows=len(windows),
                worst=float(windows["margin"].min()),
                remark=remarks[0][0] if remarks else "",
                kept=kept.iloc[0] if len(kept) else None,
            )
        )
    return alarms


def _ends(alarm: Alarm) -> float:
    if alarm.is_on:
        return np.inf
    return alarm.start + np.nan_to_num(alarm.duration)


def _count_remarks(windows: pd.DataFrame) -> list[tuple[str, int]]:
    n_windows: Counter[str] = Counter()
    last = {}
    for column in ("remark", "reason"):
        for text in windows[column].dropna():
            kind = re.sub(r"\d+(\.\d+)?", "#", text)
            n_windows[kind] += 1
            last[kind] = text
    return [(last[kind], n) for kind, n in n_windows.most_common()]
