"""Dates, labels, splits and machines in the names of folders and files."""

import numpy as np
import pytest
import soundfile

from sklearn_asd import load_clips
from sklearn_asd.audio.naming import (
    NamePattern,
    is_date,
    names_fault,
    read_folder_name,
    read_time,
    strip_date,
)

DATES = (
    "2024-05-01 20240501 2024_05_01 2024.5 01.05.2024 1-May-2024 May-2024 may_2024 "
    "2024-05 2024-W20 monday Montag 08:00 08h30 08-30-00 20240501_0800 KW18 day3 "
    "week_18 20240501-080000 2024-05-01T08-00-00 2024-05-01_08.00.00Z December"
)
NO_DATES = (
    "pump_1 2024A 0800 00 01 12345678 sun mon fan A1 car_B1 3 id_00 20241301 99991231 "
    "1-2-3 pump-2024-05-01x 2024-13-01 section_00 V2.0 M20240501 may 2001 2024 01-02 "
    "10-02 12.30 08-30"
)


@pytest.mark.parametrize("name", DATES.split())
def test_dates_are_no_machines(name):
    assert is_date(name)


@pytest.mark.parametrize("name", NO_DATES.split())
def test_ordinary_names_are_no_dates(name):
    assert not is_date(name)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        *((name, {"label": 1}) for name in ["normal", "OK", "Good", "i.O.", "正常"]),
        *((name, {"label": -1}) for name in ["NG", "Fail", "bad", "n.i.O.", "défaut"]),
        *((name, {"label": -1}) for name in ["anomaly", "abnormal", "defekt", "異常"]),
        *((name, {"split": "train"}) for name in ["train", "Training", "source_train"]),
        *((name, {"split": "test"}) for name in ["test", "eval", "target_test"]),
        *((name, {"split": "validation"}) for name in ["val", "validation", "Valid"]),
        *((name, {}) for name in ["crash_test", "pump_ok", "badger", "normalizer", ""]),
    ],
)
def test_folders_are_labels_and_splits(name, facts):
    assert read_folder_name(name) == facts


@pytest.mark.parametrize("name", ["pump_3_broken", "NG-3", "bad bearing", "Fault.2"])
def test_words_for_faults_are_found(name):
    assert names_fault(name)


@pytest.mark.parametrize(
    "name", ["badger_1", "pump_3", "good_pump", "bang", "faultless"]
)
def test_other_words_are_no_faults(name):
    assert not names_fault(name)


@pytest.mark.parametrize(
    ("stem", "rest"),
    [
        ("car_B1_2024-05-01_0800", "car_B1"),
        ("2024-05-01_car_B1", "car_B1"),
        ("car_B1-20240501-080000", "car_B1"),
        ("car_B1_2024-05-01_0800_03", "car_B1"),
        ("monday", "monday"),
        ("pump_0800", "pump_0800"),
    ],
)
def test_dates_are_taken_off(stem, rest):
    assert strip_date(stem) == rest


@pytest.mark.parametrize(
    ("pattern", "path", "facts"),
    [
        (
            "{date}/{machine}_{time}.flac",
            "r/2024-05-01/car_B1_0800.flac",
            {"date": "2024-05-01", "machine_id": "car_B1", "time": "0800"},
        ),
        (
            "{machine}_{date}",
            "flat/car_B1_2024-05-01_0800.wav",
            {"machine_id": "car_B1", "date": "2024-05-01_0800"},
        ),
        (
            "{type}/{machine}/{date}/*",
            "a/pump/3/01.05.2024/x_1.wav",
            {"machine_type": "pump", "machine_id": "3", "date": "01.05.2024"},
        ),
        (
            "{machine}_{number}_{speed}",
            "a/Ge\u0308rät 2 _17_3000rpm.wav",
            {"machine_id": "Gërät 2", "number": "17", "speed": "3000rpm"},
        ),
        ("{machine}/*", "a/b/c.wav", {"machine_id": "b"}),
        ("{machine}", "a/b/c.d.wav", {"machine_id": "c.d"}),
        ("{machine}_{date}", "flat/monday.wav", None),
        ("x/{machine}/*", "ax/b/c.wav", None),
        ("(x)+{machine}", "(x)+3.wav", {"machine_id": "3"}),
        ("{machine}_v1.5x", "p_v1.5x.wav", {"machine_id": "p"}),
        ("{machine}_{number}.WAV", "p_12.wav", {"machine_id": "p", "number": "12"}),
    ],
)
def test_patterns_read_the_end_of_paths(pattern, path, facts):
    assert NamePattern(pattern).read(path) == facts


@pytest.mark.parametrize(
    ("pattern", "path", "longest", "shortest"),
    [
        ("{machine}_{place}", "pump_1_hall.wav", "pump_1", "pump"),
        ("{place}_{machine}", "hall_2_pump.wav", "pump", "2_pump"),
        ("{machine}_*", "r/pump_1_0800.wav", "pump_1", "pump"),
        ("{machine}_{date}", "car_B1_2024-05-01_0800.wav", "car_B1", "car_B1"),
        ("{date}/{machine}_{time}", "2024-05-01/car_B1_0800.wav", "car_B1", "car_B1"),
        ("{machine}/*", "a/pump_1/x_1.wav", "pump_1", "pump_1"),
    ],
)
def test_patterns_may_have_two_readings(pattern, path, longest, shortest):
    read = NamePattern(pattern)
    assert read.read(path)["machine_id"] == longest
    assert read.read_shortest(path) == shortest
    assert read.read_shortest("other/") is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{date}/*", r"has no field \{machine\}: say where"),
        ("{mashine}/*", r"has no field \{machine\}: did you mean 'machine'\?"),
        ("{machine}{machine}", "has the field 'machine' twice"),
        (
            "{machine_id}/*",
            r"'machine_id', which is a column already: write \{machine\}",
        ),
        ("{label}/{machine}", "'label', which is a column already: choose another"),
        ("{machine", "has a brace without its other half"),
        ("{Machine}", "has a field 'Machine', and names are of small letters"),
        ("{machine}*-*-*", r"has more than 3 fields or \* in one name"),
        ("", r"has no field \{machine\}"),
    ],
)
def test_patterns_that_say_nothing_are_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        NamePattern(pattern)


def test_patterns_are_quick_on_long_names():
    """Three of 255 letters each, none of which fits."""
    pattern = NamePattern("{machine}-*-{place}-{number}x")
    assert pattern.read("-" * 255) is None


def test_dates_taken_for_machines_are_warned_of(tmp_path):
    for name in ["2024-05-01/car_0800", "2024-05-02/car_0800"]:
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir()
        path.touch()
    with pytest.warns(UserWarning, match=r"look like dates .*: 2024-05-01, 2024-05-02"):
        load_clips(tmp_path)
    load_clips(tmp_path, machine_from="{machine}_{time}")  # no warning


def test_clips_are_listed_by_a_pattern(tmp_path):
    for name in ["2024-05-01/car_B1_0800", "2024-05-02/car_B2_0900", "NG/car_B1_0900"]:
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(8), 16000)
    with pytest.raises(ValueError, match="does not fit the paths of 1 rec.*NG/car_B1"):
        load_clips(tmp_path, machine_from="{date}/{machine}_{time}")
    clips = load_clips(tmp_path, machine_from="{machine}_{time}")
    assert clips["machine_id"].tolist() == ["car_B1", "car_B2", "car_B1"]
    assert clips["time"].tolist() == ["0800", "0900", "0900"]
    assert clips["machine_type"].isna().all()
    assert clips["label"].fillna(0).tolist() == [0, 0, -1]
    with pytest.raises(ValueError, match="has no field"):
        load_clips(tmp_path, machine_from="*")


@pytest.mark.parametrize(
    ("path", "time"),
    [
        ("car_B1_2024-05-01_0800.flac", "2024-05-01 08:00:00"),
        ("2024-05-01T08-15-30_car.wav", "2024-05-01 08:15:30"),
        ("20240501081530.wav", "2024-05-01 08:15:30"),
        ("20240501_car.wav", "2024-05-01 00:00:00"),
        ("2024.05.01/pump_1/08h30.wav", "2024-05-01 08:30:00"),
        ("2024-05-01_1200/pump_1/0830.wav", "2024-05-01 12:00:00"),
        ("2023-01-01/2024-05-01_0800.wav", "2024-05-01 08:00:00"),  # the name decides
        ("20240230_20240501.wav", "2024-05-01 00:00:00"),  # there is no 30 February
    ],
)
def test_times_are_read_from_names(path, time):
    assert str(read_time(path)) == time


@pytest.mark.parametrize(
    "path", ["monday.wav", "01.05.2024.wav", "120240501.wav", "2024.wav", "0800.wav"]
)
def test_what_is_no_clear_date_is_no_time(path):
    assert read_time(path) is None
