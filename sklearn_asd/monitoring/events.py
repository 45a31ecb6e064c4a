"""One form for what is said of recordings, windows and changes of state."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

__all__ = ["LogEntry", "as_time", "write_time"]


@dataclass(frozen=True)
class LogEntry:
    """A judged recording, a window of one, or a change of a machine's state.

    The lines of ``sklearn-asd score --json`` and the rows of :attr:`Monitor.log` have
    these fields, in this order. What is not known is None, in JSON null.

    Attributes
    ----------
    time : float or None, default=None
        When the window ended, or the state changed: seconds since 1970-01-01 UTC. In
        JSON ISO 8601 in UTC, such as "2026-11-26T20:05:00.000Z".

    path : str or None, default=None
        The file; None for a stream.

    machine_type, machine_id : str or None, default=None
        The machine, as in the columns of these names. JSON has before them `machine`,
        both joined by "/".

    start, stop : float or None, default=None
        Where the window lies in the file or stream, in s.

    verdict : {"normal", "anomalous", "unusable"} or None, default=None
        What the margin says of this window. The state tells whether to believe it.

    score : float or None, default=None
        ``score_samples``: the higher, the more normal.

    threshold : float or None, default=None
        Threshold of the score.

    margin : float or None, default=None
        Score minus threshold: negative is anomalous.

    reason : str or None, default=None
        Why the window is unusable.

    remark : str or None, default=None
        Why the window cannot be compared with the recordings of training; see
        :class:`~sklearn_asd.RecordingCheck`.

    state : str or None, default=None
        State of the machine, one of ``sklearn_asd.monitoring.STATES``.

    event : str or None, default=None
        The same where the state has changed, and None where it has not.

    previous : str or None, default=None
        State before an event.

    Examples
    --------
    >>> from sklearn_asd.monitoring import LogEntry
    >>> entry = LogEntry(time=0.0, machine_id="pump_3", score=1.5, margin=-0.5)
    >>> entry.as_dict()["machine"], entry.as_dict()["time"]
    ('pump_3', '1970-01-01T00:00:00.000Z')
    >>> entry.as_json()[:42]
    '{"time": "1970-01-01T00:00:00.000Z", "path'
    """

    time: float | None = None
    path: str | None = None
    machine_type: str | None = None
    machine_id: str | None = None
    start: float | None = None
    stop: float | None = None
    verdict: str | None = None
    score: float | None = None
    threshold: float | None = None
    margin: float | None = None
    reason: str | None = None
    remark: str | None = None
    state: str | None = None
    event: str | None = None
    previous: str | None = None

    @property
    def machine(self) -> str | None:
        """Type and ID, joined by "/"; None if neither is known."""
        given = (self.machine_type, self.machine_id)
        return "/".join(str(one) for one in given if pd.notna(one)) or None

    def as_dict(self) -> dict[str, str | float | None]:
        """Give the fields in the form of JSON.

        Returns
        -------
        fields : dict
            Texts, finite numbers, and None for what is unknown or infinite.
        """
        fields: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            if name == "machine_type":
                fields["machine"] = self.machine
            fields[name] = _as_json(value)
        if self.time is not None:
            fields["time"] = write_time(self.time)
        return fields

    def as_json(self) -> str:
        """Write the fields as a line of JSON.

        Returns
        -------
        line : str
            Of ASCII only, without a line break.
        """
        # Python writes bytes of a path that are not UTF-8 as surrogates, JSON as
        # "\udcff".
        return json.dumps(self.as_dict(), allow_nan=False)


def as_time(time: float | datetime | None) -> float | None:
    """Give a time as seconds.

    Parameters
    ----------
    time : float, datetime or None
        Seconds since 1970-01-01 UTC, or a datetime, of the local time zone if it names
        none.

    Returns
    -------
    time : float or None
        Seconds since 1970-01-01 UTC.

    Raises
    ------
    ValueError
        If it is NaN or infinite.
    """
    if time is None:
        return None
    seconds = time.timestamp() if isinstance(time, datetime) else float(time)
    if not math.isfinite(seconds):
        raise ValueError(f"time={time}; it must be a finite number of seconds")
    return seconds


def write_time(time: float) -> str:
    """Write a time in UTC.

    Parameters
    ----------
    time : float
        Seconds since 1970-01-01 UTC.

    Returns
    -------
    text : str
        ISO 8601 to the millisecond, such as "2026-11-26T20:05:00.000Z".
    """
    # To the nearest one: isoformat cuts.
    moment = datetime.fromtimestamp(round(time, 3), UTC)
    text = moment.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _as_json(value: Any) -> Any:
    """Give None for what JSON lacks."""
    if isinstance(value, str):
        return value
    return None if pd.isna(value) or math.isinf(value) else float(value)
