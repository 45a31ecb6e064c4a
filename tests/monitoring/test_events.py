"""The form of lines and rows."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from sklearn_asd.monitoring import LogEntry
from sklearn_asd.monitoring.events import as_time, write_time


def test_what_json_lacks_is_null():
    entry = LogEntry(
        path="a\udcff\n.wav",
        machine_type=np.nan,
        machine_id="00",
        score=np.float64(1.5),
        threshold=-np.inf,
        margin=np.nan,
    )
    line = entry.as_json()
    assert line.isascii()
    assert "\n" not in line
    fields = json.loads(line, parse_constant=pytest.fail)
    assert fields == entry.as_dict()
    known = {name: value for name, value in fields.items() if value is not None}
    assert known == {
        "path": "a\udcff\n.wav",
        "machine": "00",
        "machine_id": "00",
        "score": 1.5,
    }


def test_times_are_written_in_utc():
    zone = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 11, 26, 1, 35, 0, 999_000, tzinfo=zone)
    assert write_time(as_time(moment)) == "2026-11-25T20:05:00.999Z"
    assert datetime.fromisoformat(write_time(as_time(moment))) == moment
    assert write_time(1.9999) == "1970-01-01T00:00:02.000Z"
    assert as_time(datetime(1970, 1, 1, tzinfo=UTC)) == 0.0
    with pytest.raises(ValueError, match="finite"):
        as_time(np.nan)
