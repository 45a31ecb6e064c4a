"""The alarm rule: states by hand, and promises against simulated normals."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    ClipSpectrograms,
    LogMelSegmenter,
    RecordingCheck,
    cut_into_pieces,
    load_clips,
)
from sklearn_asd.audio import read_file
from sklearn_asd.audio.remarks import FACTS, condition_of, make_remark
from sklearn_asd.monitoring import AlarmRule, AlarmState, Monitor
from sklearn_asd.presets import make_detector

A, N = -1.0, 1.0  # anomalous, normal


def follow(rule, windows, state=None):
    """Names of the states; a text is a window's condition."""
    state, names = state or AlarmState(), []
    for time, window in enumerate(windows):
        if isinstance(window, str):
            state = rule.update(state, time, None, window)
        else:
            state = rule.update(state, time, window)
        names.append(state.name)
    return names


@pytest.mark.parametrize(
    ("rule", "windows", "expected"),
    [
        ("3 of 3", [N, A, A, A], "normal suspect suspect alarm"),
        ("3 of 3", [A, A, N, A, A, A], "suspect suspect normal suspect suspect alarm"),
        ("1 of 1", [N, A, N, A], "normal alarm normal alarm"),
        ("2 of 3", [A, N, A], "suspect suspect alarm"),
        ("2 of 3", [A, N, N, A, N, A], "suspect suspect normal suspect suspect alarm"),
        ("2 of 4", [A, N, N, N], "suspect suspect suspect normal"),
        # An alarm ends as it began: by three windows.
        ("3 of 3", [A, A, A, N, N, N], "suspect suspect alarm alarm alarm normal"),
        (
            "3 of 3",
            [A, A, A, N, N, A, N, N, N],
            "suspect suspect alarm alarm alarm alarm alarm alarm normal",
        ),
    ],
)
def test_states_by_hand(rule, windows, expected):
    assert follow(AlarmRule.parse(rule), windows) == expected.split()


def test_a_machine_of_which_nothing_is_heard_is_not_normal():
    assert AlarmState().name == "no data"
    rule = AlarmRule()
    for condition in ("no data", "stopped", "bad audio"):
        assert follow(rule, [N, condition, N]) == ["normal", condition, "normal"]
    state = rule.update(AlarmState(), 0.0, float("nan"))
    assert state.name == "bad audio"
    assert rule.update(AlarmState(), 0.0, None).name == "bad audio"
    with pytest.raises(ValueError, match="condition 'asleep'"):
        rule.update(state, 0.0, N, "asleep")


def test_windows_that_are_not_judged_neither_count_nor_forget():
    names = follow(AlarmRule(), [A, "bad audio", A, "no data", A, "stopped", N])
    assert names[4:] == ["alarm", "stopped", "alarm"]  # and is so until it is released
    assert names[0] == names[2] == "suspect"


def test_margins_below_the_release_threshold_keep_an_alarm():
    rule = AlarmRule(k=2, n=2, release=0.5)
    assert follow(rule, [A, A, 0.4, 0.4, 0.5, 0.4, 0.5, 0.5])[1:] == [
        *["alarm"] * 6,
        "normal",
    ]


def test_an_acknowledged_alarm_stays_so_until_it_ends():
    rule, state = AlarmRule(k=1, n=1), AlarmState()
    assert rule.acknowledge(state, 0.0) is state  # nothing to acknowledge
    state = rule.acknowledge(rule.update(state, 1.0, A), 2.0)
    assert (state.name, state.since) == ("acknowledged", 2.0)
    state = rule.update(state, 3.0, A)
    assert (state.name, state.since) == ("acknowledged", 2.0)
    assert rule.update(state, 4.0, N).name == "normal"


def test_a_state_goes_through_json_at_any_moment():
    rng = np.random.default_rng(0)
    rule = AlarmRule(k=3, n=5, release=0.3)
    whole = restarted = AlarmState()
    seen = set()
    for time in range(500):
        margin = rng.normal()
        condition = rng.choice(["", "", "", "no data", "stopped", "bad audio"])
        text = json.dumps(dataclasses.asdict(restarted))
        restarted = AlarmState.from_dict(json.loads(text))
        whole = rule.update(whole, time, margin, condition)
        restarted = rule.update(restarted, time, margin, condition)
        assert whole == restarted
        seen.add(whole.name)
    assert len(seen) == 6  # all but acknowledged


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"alarm": "normal"},
        {"alarm": "no data", "condition": "", "recent": [], "since": 0},
        {"alarm": "normal", "condition": "", "recent": [2], "since": 0},
        {"alarm": "normal", "condition": "", "recent": [], "since": "today"},
        [],
    ],
)
def test_what_is_no_state_is_refused(values):
    with pytest.raises(ValueError, match="not the state of a machine"):
        AlarmState.from_dict(values)


@pytest.mark.parametrize("values", [{"k": 0}, {"k": 4}, {"release": -1.0}])
def test_what_is_no_rule_is_refused(values):
    with pytest.raises(ValueError, match="choose"):
        AlarmRule(**values)
    with pytest.raises(ValueError, match="write '3 of 5'"):
        AlarmRule.parse("3 from 5")


def test_the_promise_is_the_probability_by_hand():
    # 1 of 39 is negative: rank 2 of 40 gaps. Three in a row: 2/40 * 3/41 * 4/42.
    margins = [-1.0] + 38 * [1.0]
    promise = AlarmRule().promise(margins, window=10.0)
    expected = 360 * 2 * 3 * 4 / (40 * 41 * 42)
    assert promise.false_alarms_per_hour == pytest.approx(expected)
    assert promise.delay == 40.0
    # 2 of 3: the newest, and one at least of the two before.
    promise = AlarmRule(2, 3).promise(margins, window=10.0)
    both_normal = 38 * 39 / (41 * 42)  # Polya's urn: normal ones after an anomalous one
    expected = 360 * 2 / 40 * (1 - both_normal)
    assert promise.false_alarms_per_hour == pytest.approx(expected)
    # Windows that overlap by nine tenths are one: no better than a single window.
    promise = AlarmRule().promise(margins, window=10.0, hop=1.0)
    assert promise.false_alarms_per_hour == pytest.approx(3600 * 2 / 40)
    assert promise.delay == 13.0
    assert AlarmRule().promise([A, A], 1.0).false_alarms_per_hour == pytest.approx(3600)
    with pytest.raises(ValueError, match="0 given"):
        AlarmRule().promise([np.nan], window=10.0)


@pytest.mark.parametrize("rule", ["3 of 3", "1 of 1", "2 of 3", "3 of 5"])
def test_new_normals_keep_the_promise(rule):
    """On average over calibrations, as it says nothing of a single one."""
    rng, rule = np.random.default_rng(0), AlarmRule.parse(rule)
    promised, seen, n_windows = [], 0, 400
    for _ in range(200):
        calibration = rng.normal(size=15)
        threshold = np.sort(calibration)[1]
        margins = calibration - threshold
        promised.append(rule.promise(margins, 3600.0).false_alarms_per_hour)
        names = follow(rule, rng.normal(size=n_windows) - threshold)
        seen += sum(
            new == "alarm" != old for old, new in zip(["", *names], names, strict=False)
        )
    assert 0.3 * np.mean(promised) < seen / 200 / n_windows < np.mean(promised)


def test_the_promise_on_windows_in_order_counts_alarms():
    # Anomalous windows in pairs and never three: no alarm in 300 hours of windows.
    margins = np.tile([A, A, N], 100)
    promise = AlarmRule().promise(margins, window=3600.0, ordered=True)
    assert promise.false_alarms_per_hour == pytest.approx(-np.log(0.05) / 300)
    assert AlarmRule().promise(margins, 3600.0).false_alarms_per_hour > 0.2
    # Independent they would be rare; in a row they are alarms.
    margins = np.tile([A] * 3 + [N] * 27, 10)
    promise = AlarmRule().promise(margins, window=3600.0, ordered=True)
    assert promise.false_alarms_per_hour > 10 / 300
    assert "in their order" in str(promise)


QUIET = {"level": -60.0, "offset": 0.01, "held": 1.0}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ""),
        ({"level": -100.0}, "bad audio"),
        ({"level": -30.0}, "stopped"),
        (QUIET, "stopped"),  # offset and dropouts follow from the level
        ({"level": -5.0}, ""),  # a loud fault is judged
        ({"cancellation": -30.0}, "bad audio"),
        ({"silent_channels": 1}, "bad audio"),
        ({"clipped": 0.1}, "bad audio"),
        ({"offset": 0.5}, "bad audio"),
        ({"held": 0.5}, "bad audio"),
        ({"band_15": -80.0, "relative_band_15": -60.0}, "bad audio"),
        ({"sample_rate": 8000.0}, ""),
        ({"compressed": 1.0}, ""),
        ({"duration": 1.0}, ""),
    ],
)
def test_remarks_tell_what_cannot_be_judged(facts, expected):
    usual = dict.fromkeys(FACTS, 0.0) | {
        "duration": 10.0,
        "sample_rate": 16000.0,
        "level": -20.0,
        "analysed_rate": 16000.0,
    }
    limits = np.array(list(usual.values()))
    remark = make_remark(np.array(list((usual | facts).values())), limits, limits)
    assert bool(remark) == bool(facts)
    assert condition_of(remark) == expected


def list_normals(recordings, name):
    """All normal recordings of a shared set that has files, by machine."""
    clips = load_clips(recordings(name))
    clips = clips[clips["label"].eq(1) & clips["path"].str.contains("/train/")]
    column = "car" if name == "toycar2023" else "machine_id"
    return clips.assign(machine_id=clips[column]).reset_index(drop=True)


def read_normals(recordings, name, seconds):
    """All normals of a shared set: spectrograms, machines, and recordings by number."""
    if name == "toycar2020":
        with np.load(recordings("toycar2020_logmel") / "clips.npz") as file:
            normal = file["label"] == 1
            machine = file["machine_id"][normal].astype(str)
            log_mels = np.float32(file["log_mel"][normal])
        kinds = ["ToyCar"] * len(machine)
        X = ClipSpectrograms.from_arrays(log_mels, kinds, machine)
        return X, machine, np.arange(len(machine))
    clips = list_normals(recordings, name)
    pieces = clips if seconds is None else cut_into_pieces(clips, seconds)
    X = LogMelSegmenter(segment_duration=None).transform(pieces)
    return X, pieces["machine_id"].to_numpy(str), pieces.index.to_numpy()


def count_alarms(margins, rule):
    names = follow(rule, margins)
    pairs = zip(["", *names], names, strict=False)
    return sum(now == "alarm" != before for before, now in pairs)


def learn_halves(X, number, rng):
    """Margins of training windows and of new ones, by models of half the recordings."""
    for _ in range(4):
        learnt = np.isin(number, rng.permutation(number.max() + 1)[::2])
        detector = make_detector().fit(X[np.flatnonzero(learnt)])
        margins = np.full(len(number), np.nan)
        margins[learnt] = detector.training_score_samples_ - detector.offset_
        margins[~learnt] = detector.decision_function(X[np.flatnonzero(~learnt)])
        yield learnt, margins


SETS = [
    ("toycar2020", None, 6.4),
    ("toycar2023", None, 12.0),
    ("toycar2023", 3.0, 3.0),
    ("valve2023", None, 10.0),
    ("valve2023", 3.0, 3.0),
]


# A window left out of training says too little of other recordings, as windows of one
# recording are alike: this promise is broken, and docs/guide/listening.md says so.
BROKEN = pytest.mark.xfail(strict=True, reason="windows of 3 s cut from recordings")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seconds", "length", "order"),
    [
        pytest.param(*one, order, marks=[BROKEN] if one[1] and order == "any" else [])
        for one in SETS
        for order in ("any", "as recorded")
    ],
)
def test_real_held_back_normals_keep_the_promise(
    recordings, name, seconds, length, order
):
    """On average over machines and halves of the recordings, as it says."""
    X, machine, number = read_normals(recordings, name, seconds)
    rng, rule = np.random.default_rng(0), AlarmRule()
    rates, promises = [], []
    for learnt, margins in learn_halves(X, number, rng):
        for one in np.unique(machine):
            own, rest = (margins[(machine == one) & (learnt == a)] for a in (1, 0))
            if order == "any":
                promise = rule.promise(own, length)
                streams = [rng.permutation(rest) for _ in range(5)]
            else:
                half = number[(machine == one) & ~learnt] % 2 == 0
                promise = rule.promise(rest[half], length, ordered=True)
                streams = [rest[~half]]
            promises.append(promise.false_alarms_per_hour)
            found = np.mean([count_alarms(stream, rule) for stream in streams])
            rates.append(found / max(1, len(streams[0])) * 3600 / length)
    print(
        f"{name} {length:g} s {order}: {np.mean(rates):.2f} <= {np.mean(promises):.2f}"
    )
    assert np.mean(rates) <= np.mean(promises)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, -12])
@pytest.mark.parametrize("name", ["toycar2023", "valve2023"])
def test_a_tone_in_real_recordings_is_an_alarm_as_soon_as_promised(
    recordings, name, level
):
    """12 s of 3 kHz, so many dB above the machine, at any place between windows."""
    clips = list_normals(recordings, name)
    learnt = np.random.default_rng(0).permutation(len(clips)) % 2 == 0
    pipe = make_pipeline(
        LogMelSegmenter(segment_duration=None), RecordingCheck(), make_detector()
    ).fit(cut_into_pieces(clips[learnt], 3.0))
    tone = np.sin(2 * np.pi * 3000 * np.arange(12 * 16_000) / 16_000)
    for machine, own in clips[~learnt].groupby("machine_id"):
        sound = np.concatenate([read_file(path, 16_000) for path in own["path"][:5]])
        for begin in 12 * 16_000 + np.arange(0, 48_000, 7000):
            own_part = sound[begin : begin + len(tone)]
            amplitude = np.sqrt(2) * own_part.std() * 10 ** (level / 20)
            stream = sound.copy()
            stream[begin : begin + len(tone)] += np.float32(amplitude * tone)
            kind = own["machine_type"].iloc[0]
            monitor = Monitor(pipe, 3.0, machine=f"{kind}/{machine}")
            monitor.push(stream)
            delay = monitor.rule.promise([1.0], 3.0).delay
            assert delay == 12.0
            begins, first = begin / 16_000, monitor.entries[0].start
            alarms = [e.stop - first for e in monitor.entries if e.state == "alarm"]
            assert begins < min(t for t in alarms if t > begins) <= begins + delay
