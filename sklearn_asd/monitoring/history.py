"""What the log of a watch says, read without changing it."""

from __future__ import annotations

import json
import math
import os
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd

from sklearn_asd.monitoring.rules import CONDITIONS, STATES

__all__ = ["History", "read_history"]

# When a watch without `no_data_after` in its log says that a machine has no data, in s.
_NO_DATA_AFTER = 3600.0

_LATEST = datetime(9990, 1, 1).timestamp()
_TEXTS = ("machine", "verdict", "state", "remark", "reason", "kept")
_VERDICTS = ("normal", "anomalous", "unusable")


class History(NamedTuple):
    """Lines of a log.

    Attributes
    ----------
    rows : DataFrame
        Windows and changes of state, in the order of the log: `time` in s since
        1970-01-01 UTC, `machine` ("" if none is named), `verdict` (None for a change
        between windows), `margin` (NaN if unknown), `state`, `remark`, `reason`,
        `kept`, and `in_alarm`, whether the machine is in an alarm, also while
        it cannot be judged.

    start : dict
        The line with which the last watch began; empty if the log has none.

    no_data_after : float
        After how many s without a recording a machine has no data.

    logged : float or None
        When the last line was written, in s since 1970-01-01 UTC; None if no line
        tells.

    n_foreign : int
        Whole lines that are not of a watch, and were passed over.

    ends_within_line : bool
        Whether the last line is incomplete, as while it is written. It is left out.
    """

    rows: pd.DataFrame
    start: dict[str, Any]
    no_data_after: float
    logged: float | None
    n_foreign: int
    ends_within_line: bool


def read_history(path: str | os.PathLike[str]) -> History:
    """Read the log of a watch, which may go on meanwhile.

    Parameters
    ----------
    path : str or path-like
        The log.

    Returns
    -------
    history : History
        What it says. Unknown fields are left out.

    Raises
    ------
    OSError
        If the file cannot be read.

    ValueError
        If it holds no window and no change of state, or is of another kind.
    """
    rows, start, n_foreign, ends_within_line = [], {}, 0, False
    logged: float | None = None
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                ends_within_line = True
                break
            kind, values = _read_line(line)
            if kind == "row":
                rows.append(values)
            elif kind == "start":
                start = values
            n_foreign += kind == "foreign"
            logged = max(filter(None, (logged, values.get("logged"))), default=None)
    if not rows:
        reason = "is not the log of a watch: name the file of --log"
        if start or not n_foreign:
            reason = "holds no judged recording yet: wait for the watch"
        raise ValueError(f"{os.fspath(path)!r} {reason}")
    table = pd.DataFrame(rows)
    table["in_alarm"] = _carry_on(table)
    limit = _as_number(start.get("no_data_after"))
    limit = limit if limit > 0 else _NO_DATA_AFTER
    return History(table, start, limit, logged, n_foreign, ends_within_line)


def _read_line(line: bytes) -> tuple[str, dict[str, Any]]:
    """Tell what a line is, and give its values in the form of a row."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return "foreign", {}
    if not isinstance(values, dict) or "logged" not in values:
        return "foreign", {}
    logged = _as_seconds(values["logged"])
    if "watch" in values:
        return "start", values | {"logged": logged}
    if "command_of" in values or "acknowledges" in values:
        return "note", {"logged": logged}
    row = _make_row(values)
    return ("foreign", {}) if row is None else ("row", row | {"logged": logged})


def _make_row(values: dict[str, Any]) -> dict[str, Any] | None:
    """Keep what is known of a window or a change; None if it has no time."""
    time = _as_seconds(values.get("time"))
    if time is None:
        return None
    texts = {name: _as_text(values.get(name)) for name in _TEXTS}
    texts["machine"] = texts["machine"] or ""
    for name, known in (("verdict", _VERDICTS), ("state", STATES)):
        texts[name] = texts[name] if texts[name] in known else None
    row = {"time": time, "margin": _as_number(values.get("margin")), **texts}
    return row | {"in_alarm": _is_in_alarm(row, values.get("alarm_state"))}


def _is_in_alarm(row: dict[str, Any], alarm_state: Any) -> bool | None:
    """Tell whether a machine is in an alarm; None if the line does not say."""
    state = row["state"]
    if state in CONDITIONS and isinstance(alarm_state, dict):
        state = alarm_state.get("alarm")
    if state in CONDITIONS or state not in STATES:
        return None
    return state in ("alarm", "acknowledged")


def _carry_on(table: pd.DataFrame) -> pd.Series:
    """Where a line does not tell whether an alarm is on, what was before holds."""
    known = table["in_alarm"].map({True: 1.0, False: 0.0}).astype(float)
    return known.groupby(table["machine"]).ffill().fillna(0) == 1


def _as_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_number(value: Any) -> float:
    try:
        is_number = isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        is_number = False
    return float(value) if is_number else math.nan


def _as_seconds(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        seconds = datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < _LATEST else None
