"""Streams in blocks of any size are judged as the same windows in a batch."""

import dataclasses
import gc
import json
import threading
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    BadClipError,
    LogMelSegmenter,
    PerMachine,
    RecordingCheck,
    load_clips,
    load_model,
    save_model,
)
from sklearn_asd.audio import read_file
from sklearn_asd.monitoring import AlarmRule, AlarmState, Monitor
from sklearn_asd.presets import make_detector

RATE = 16_000
N_WINDOW = 2 * RATE


def make_windows(n_windows, machine=0, seed=0):
    """Noise of two machines, (n_windows, n_samples)."""
    rng = np.random.default_rng([seed, machine])
    noise = rng.normal(scale=0.01, size=(n_windows, N_WINDOW)).astype(np.float32)
    if machine:
        noise[:, 1:] += 0.9 * noise[:, :-1]
    return noise


def as_table(windows, machine, sample_rate=RATE):
    return pd.DataFrame(
        {
            "audio": list(windows),
            "sample_rate": float(sample_rate),
            "machine_type": "fan",
            "machine_id": str(machine),
        }
    )


def make_pipe(detector=None):
    check = RecordingCheck()
    segmenter = LogMelSegmenter(segment_duration=None)
    return make_pipeline(segmenter, check, detector or make_detector())


@pytest.fixture(scope="module")
def pipe():
    X = pd.concat([as_table(make_windows(30, one), one) for one in range(2)])
    return make_pipe().fit(X)


@pytest.fixture
def monitor(pipe):
    return Monitor(pipe, machine="fan/0", rule=AlarmRule(3, 3))


def listen(monitor, stream, sizes, time=0.0):
    """Push a stream in blocks of some sizes, in turn."""
    events, start, number = [], 0, 0
    while start < len(stream):
        size = sizes[number % len(sizes)]
        events += monitor.push(stream[start : start + size], time)
        start, number, time = start + size, number + 1, None
    return events


def scored(monitor):
    log = monitor.log
    return log[log["score"].notna()]


@pytest.mark.parametrize(
    "sizes", [[1], [7, 1, 4096, 33_333], [N_WINDOW], [N_WINDOW - 1], [10**9]]
)
def test_blocks_of_any_size_score_as_a_batch(monitor, pipe, sizes):
    windows = make_windows(4, seed=1)
    listen(monitor, np.append(windows.ravel(), np.zeros(100, np.float32)), sizes)
    expected = pipe.score_samples(as_table(windows, 0))
    log = scored(monitor)
    np.testing.assert_allclose(log["score"], expected, atol=1e-6)
    np.testing.assert_allclose(
        log["margin"], pipe.decision_function(as_table(windows, 0)), atol=1e-6
    )
    assert log["start"].tolist() == [0, 2, 4, 6]
    assert log["time"].tolist() == log["stop"].tolist() == [2, 4, 6, 8]
    assert log["machine_id"].tolist() == 4 * ["0"]


@pytest.mark.parametrize("hop", [0.5, 1.3, 2.0, 3.7])
def test_windows_overlap_or_leave_gaps(pipe, hop):
    monitor = Monitor(pipe, hop=hop, machine="fan/0")
    stream = make_windows(6, seed=2).ravel()
    listen(monitor, stream, [5000, 3])
    n_hop = round(hop * RATE)
    starts = range(0, len(stream) - N_WINDOW + 1, n_hop)
    windows = [stream[start : start + N_WINDOW] for start in starts]
    expected = pipe.score_samples(as_table(windows, 0))
    np.testing.assert_allclose(scored(monitor)["score"], expected, atol=1e-6)
    np.testing.assert_allclose(
        scored(monitor)["start"], [one / RATE for one in starts], atol=1e-9
    )


@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_streams_of_a_higher_rate_score_as_a_batch(pipe, rate):
    rng = np.random.default_rng(3)
    windows = rng.normal(scale=0.01, size=(3, 2 * rate)).astype(np.float32)
    monitor = Monitor(pipe, sample_rate=rate, machine="fan/0")
    listen(monitor, windows.ravel(), [10_007])
    expected = pipe.score_samples(as_table(windows, 0, rate))
    np.testing.assert_allclose(scored(monitor)["score"], expected, atol=1e-6)
    assert scored(monitor)["remark"].str.contains("recorded at").all()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float64])
def test_samples_are_read_as_those_of_recordings(monitor, pipe, dtype):
    window = make_windows(1, seed=4)[0]
    if np.issubdtype(dtype, np.integer):
        window = (window * np.iinfo(dtype).max).astype(dtype)
    listen(monitor, window.astype(dtype), [999])
    expected = pipe.score_samples(as_table([window], 0))
    np.testing.assert_allclose(scored(monitor)["score"], expected, atol=1e-6)
    with pytest.raises(BadClipError, match="1-D"):
        monitor.push(np.zeros((10, 2)))


def test_a_gap_is_no_data_and_the_window_begins_anew(monitor, pipe):
    window = make_windows(1, seed=5)[0]
    events = monitor.push(window[:20_000], time=100.0)
    events += monitor.push(window, time=200.0)
    events += monitor.push(window[:5000], time=202.9)  # late, by no more than a gap
    events += monitor.push(window, time=150.0)  # the clock was set back
    assert [(one.time, one.event, one.previous) for one in events] == [
        (101.25, "no data", None),
        (202.0, "normal", "no data"),
    ]
    expected = pipe.score_samples(as_table([window], 0))
    np.testing.assert_allclose(scored(monitor)["score"], [*expected, *expected])
    assert scored(monitor)["time"].tolist() == [202.0, 152.0]


def test_silence_is_noticed_where_nothing_comes_at_all(monitor):
    start = datetime(2026, 11, 26, 12, tzinfo=UTC)
    (event,) = monitor.check(start)
    assert (event.event, event.previous) == ("no data", None)
    assert event.as_dict()["time"] == "2026-11-26T12:00:00.000Z"
    assert monitor.check(start) == []
    monitor.push(make_windows(1)[0], start)
    assert monitor.state.name == "normal"
    end = start.timestamp() + 2
    assert monitor.check(end + 2.9) == []
    (event,) = monitor.check(end + 3.1)
    assert (event.event, event.previous) == ("no data", "normal")
    monitor.push(make_windows(1)[0], end + 1000)
    assert monitor.state.name == "normal"


def test_what_cannot_be_judged_is_never_normal(monitor):
    usual = make_windows(1)[0]
    not_numbers = usual.copy()
    not_numbers[700] = np.nan
    cases = {
        "bad audio": [0 * usual, usual.clip(-0.012, 0.012), usual + 0.5, not_numbers],
        "stopped": [0.1 * usual],
    }
    for state, windows in cases.items():
        for window in windows:
            monitor.push(usual)
            assert monitor.state.name == "normal"
            (event,) = monitor.push(window)
            assert (event.event, event.verdict) == (state, "unusable")
            assert event.remark or event.reason
    reasons = monitor.log["reason"].dropna().tolist()
    assert "holds no sound" in reasons[0]
    assert "sample 700" in reasons[-1]


def test_a_tone_is_an_alarm_as_soon_as_promised(monitor):
    """At any place between windows: a tone of 8 s, windows of 2 s, 3 of 3."""
    promise = monitor.rule.promise([1.0], monitor.window)
    assert promise.delay == 8.0
    for offset in range(0, N_WINDOW, 5000):
        fresh = Monitor(monitor.detector, machine="fan/0")
        stream = make_windows(10, seed=6).ravel()
        begin = N_WINDOW + offset
        tone = 0.01 * np.sin(np.arange(8 * RATE))
        stream[begin : begin + 8 * RATE] += tone.astype(np.float32)
        events = listen(fresh, stream, [3000])
        alarms = [event for event in events if event.event == "alarm"]
        assert alarms[0].stop <= begin / RATE + promise.delay


def test_alarms_are_acknowledged_and_survive_a_restart(pipe):
    wrong = make_windows(1, machine=1)[0]
    monitor = Monitor(pipe, machine="fan/0")
    assert monitor.acknowledge(0.0) == []
    for _ in range(2):
        monitor.push(wrong)
    text = json.dumps(dataclasses.asdict(monitor.state))
    state = AlarmState.from_dict(json.loads(text))
    monitor = Monitor(pipe, machine="fan/0", state=state)
    assert [one.event for one in monitor.push(wrong)] == ["alarm"]
    (event,) = monitor.acknowledge(time=77.0)
    assert (event.event, event.time, event.previous) == ("acknowledged", 77.0, "alarm")
    assert monitor.push(wrong) == []
    assert monitor.log["event"].tolist() == ["alarm", "acknowledged", None]


def test_models_from_files_and_of_each_machine_apart(pipe, tmp_path):
    X = pd.concat([as_table(make_windows(12, one), one) for one in range(2)])
    apart = make_pipeline(
        LogMelSegmenter(segment_duration=None), PerMachine(make_pipe()[1:])
    ).fit(X)
    for number, detector in enumerate([pipe, apart]):
        save_model(detector, tmp_path / f"{number}.asd")
        loaded = load_model(tmp_path / f"{number}.asd")
        windows = make_windows(2, machine=1, seed=7)
        monitor = Monitor(loaded, machine="fan/1")
        listen(monitor, windows.ravel(), [12_345])
        expected = detector.score_samples(as_table(windows, 1))
        np.testing.assert_allclose(scored(monitor)["score"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"machine": None}, "knows 2 machines, and machine does not say which"),
        ({"machine": "fan/7"}, "machine is 'fan/7': give one of fan/0, fan/1"),
        ({"window": 1.0}, "window=1.0 s, and the recordings learnt from are 2 to 2 s"),
        ({"sample_rate": 8000}, "sample_rate=8000 Hz of the stream is below the 16000"),
        ({"hop": 0.0}, "must hold a sample"),
        ({"max_gap": -1.0}, "cannot be negative"),
    ],
)
def test_what_cannot_be_listened_to_is_refused(pipe, values, message):
    with pytest.raises(ValueError, match=message):
        Monitor(pipe, **{"machine": "fan/0", **values})


def test_detectors_that_cannot_listen_are_refused(pipe):
    with pytest.raises(ValueError, match="reads no recordings"):
        Monitor(pipe[-1])
    unchecked = make_pipeline(pipe[0], pipe[-1])
    with pytest.raises(ValueError, match="set window to it"):
        Monitor(unchecked, machine="fan/0")
    assert Monitor(unchecked, window=2.0, machine="fan/0").window == 2.0


@pytest.mark.slow
def test_a_day_needs_no_more_memory_than_an_hour(pipe):
    # One window of 2 s in 30 s is judged, so that the day takes a minute.
    monitor = Monitor(pipe, hop=30.0, machine="fan/0", keep_windows=100)
    block = make_windows(30, seed=8).ravel()
    n_threads, peaks = threading.active_count(), []
    tracemalloc.start()
    for minute in range(24 * 60):
        monitor.push(block)
        if minute % 60 == 59:
            gc.collect()
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(monitor.log) == 100
    assert threading.active_count() == n_threads
    assert max(peaks[1:]) < peaks[0] + 100_000


@pytest.mark.parametrize("seconds", [3.0, None])
@pytest.mark.parametrize("folder", ["toycar2023", "valve2023", "dcase2020_samples"])
def test_real_streams_score_as_a_batch(recordings, folder, seconds):
    clips = load_clips(recordings(folder)).assign(machine_id=None)
    clips = clips[clips["label"] == 1].groupby("machine_type").head(6)
    rows = []
    for row in clips.to_dict("records"):
        samples = read_file(row.pop("path"), RATE)
        size = len(samples) if seconds is None else int(RATE * seconds)
        pieces = samples[: len(samples) // size * size].reshape(-1, size)
        rows += [row | {"audio": one, "sample_rate": float(RATE)} for one in pieces]
    X = pd.DataFrame(rows)
    X = X[X["audio"].map(len) == len(X["audio"].iloc[-1])]  # of one length
    pipe = make_pipe(make_detector("spectrum")).fit(X)
    some = X[X["machine_type"] == X["machine_type"].iloc[-1]]
    monitor = Monitor(pipe, machine=f"{some['machine_type'].iloc[0]}/")
    listen(monitor, np.concatenate(list(some["audio"])), [1, 50_001, 10, 7_777, 10**7])
    assert len(scored(monitor)) == len(some) > 0
    np.testing.assert_allclose(
        scored(monitor)["score"], pipe.score_samples(some), atol=1e-6
    )
