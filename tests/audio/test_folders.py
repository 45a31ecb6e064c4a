import errno
import os
import sys
import unicodedata

import numpy as np
import pandas as pd
import pytest
import soundfile

from sklearn_asd import load_clips
from sklearn_asd.audio.folders import describe_recordings, list_recordings


@pytest.fixture
def root(tmp_path):
    """A folder whose name holds no facts."""
    return tmp_path / "recordings"


@pytest.fixture
def describe(root):
    """Make empty files with these names, and describe them by load_clips."""

    def describe(*names, inner="."):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return load_clips(root / inner)

    return describe


def facts(clips):
    """Machine type, ID, split and label of each clip, None for what is missing."""
    table = clips[["machine_type", "machine_id", "split", "label"]].astype(object)
    rows = table.where(table.notna(), None).to_numpy()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # DCASE 2020, development and evaluation
        ("fan/train/normal_id_00_00000012.wav", ("fan", "00", "train", 1)),
        ("ToyCar/test/anomaly_id_04_00000000.wav", ("ToyCar", "04", "test", -1)),
        ("pump/test/id_01_00000000.wav", ("pump", "01", "test", None)),
        ("normal_id_02_00000000.wav", ("recordings", "02", None, 1)),
        # DCASE 2021 and later
        (
            "fan/train/section_00_source_train_normal_0000_strong.wav",
            ("fan", "00", "train", 1),
        ),
        (
            "fan/source_test/section_01_source_test_anomaly_0003.wav",
            ("fan", "01", "test", -1),
        ),
        (
            "fan/target_test/section_02_target_test_normal_0003.wav",
            ("fan", "02", "test", 1),
        ),
        ("bearing/test/section_03_0012.flac", ("bearing", "03", "test", None)),
        ("fan/section_00_source_test_normal_0000.wav", ("fan", "00", "test", 1)),
        # names and folders as of each year
        (
            "dev_data/gearbox/source_test/"
            "section_00_source_test_anomaly_0000_0_g_25_mm_2000_mV_none.wav",  # 2021
            ("gearbox", "00", "test", -1),
        ),
        (
            "ToyCar/train/section_00_source_train_normal_0000_A1Spd28VMic1.wav",  # 2021
            ("ToyCar", "00", "train", 1),
        ),
        (
            "fan/target_test/section_03_target_test_0000.wav",
            ("fan", "03", "test", None),
        ),
        (
            "bearing/train/section_00_source_train_normal_0001_pro_A_vel_4_loc_A.wav",
            ("bearing", "00", "train", 1),  # 2022
        ),
        (
            "gearbox/train/section_00_source_train_normal_0073_volt_1.5_wt_0.wav",
            ("gearbox", "00", "train", 1),  # 2023
        ),
        (
            "dev_data/raw/ToyCar/test/"
            "section_00_source_test_normal_0000_car_A2_spd_28V_mic_1_noise_1.wav",
            ("ToyCar", "00", "test", 1),  # 2024
        ),
        (
            "dev_bearing/bearing/supplemental/"
            "section_00_machine_source_0000_noAttribute.wav",  # 2025
            ("bearing", "00", "supplemental", None),
        ),
        (
            "fan/supplemental/section_00_noise_supplemental_normal_0000.wav",
            ("fan", "00", "supplemental", None),  # noise is no machine
        ),
        (
            "fan/supplemental/section_00_source_supplemental_machine_0000.wav",
            ("fan", "00", "supplemental", None),
        ),
        # the folder decides over the name
        (
            "valve/train/section_00_source_test_normal_0009_pat_01.flac",
            ("valve", "00", "train", 1),
        ),
        ("fan/abnormal/normal_id_00_00000000.wav", ("fan", "00", None, -1)),
        # plain folders
        ("pump_3/monday.flac", (None, "pump_3", None, None)),
        ("pump/3/monday.flac", ("pump", "3", None, None)),
        ("hall 2/pump/3/monday.flac", ("pump", "3", None, None)),
        ("monday.flac", (None, "recordings", None, None)),
        ("train/monday.flac", (None, "recordings", "train", None)),
        ("pump_3/normal/monday.wav", (None, "pump_3", None, 1)),
        ("pump_3/test/anomaly/monday.wav", (None, "pump_3", "test", -1)),
        ("pump_3/anomalous/monday.wav", (None, "pump_3", None, -1)),
        ("normal/pump/3/monday.wav", ("pump", "3", None, 1)),
        ("Train/Abnormal/pump_3/monday.wav", (None, "pump_3", "train", -1)),
        ("Förderband 7/Montag früh.wav", (None, "Förderband 7", None, None)),
        # names that only resemble those of DCASE or of splits
        ("fan/normal_id_xx_0.wav", (None, "fan", None, None)),
        ("fan/normal_id_00_0001_copy.wav", (None, "fan", None, None)),
        ("fan/old_section_00_0001.wav", (None, "fan", None, None)),
        ("toy_train/monday.wav", (None, "toy_train", None, None)),
        ("crash_test/monday.wav", (None, "crash_test", None, None)),
    ],
)
def test_names_and_folders_tell_the_machine_split_and_label(describe, name, expected):
    assert facts(describe(name)) == [expected]


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        (
            "section_00_source_test_anomaly_0001_car_B1_spd_31V_mic_1.wav",
            {"domain": "source", "car": "B1", "spd": "31V", "mic": "1"},
        ),
        (
            "section_00_target_train_normal_0000_pat_03.wav",
            {"domain": "target", "pat": "03"},
        ),
        (
            "section_00_source_test_normal_0000_m-n_W.wav",
            {"domain": "source", "m-n": "W"},
        ),
        ("section_00_source_test_normal_0000_noAttribute.wav", {"domain": "source"}),
        ("section_00_0001_vel_8_odd.wav", {"vel": "8"}),
        # each year has its own way
        (
            "section_00_source_train_normal_0000_A1Spd28VMic1.wav",
            {"domain": "source", "car": "A1", "spd": "28V", "mic": "1"},
        ),
        (
            "section_00_source_train_normal_0000_0_g_25_mm_2000_mV_none.wav",
            {"domain": "source", "g": "0", "mm": "25", "mV": "2000"},
        ),
        (
            "section_00_source_train_normal_0008_strength_1_ambient.wav",
            {"domain": "source", "strength": "1"},
        ),
        (
            "section_00_source_train_normal_0073_volt_1.5_wt_0.wav",
            {"domain": "source", "volt": "1.5", "wt": "0"},
        ),
        (
            "section_00_source_test_normal_0000_car_A2_spd_28V_mic_1_noise_1.wav",
            {"domain": "source", "car": "A2", "spd": "28V", "mic": "1", "noise": "1"},
        ),
        ("section_00_machine_source_0000_noAttribute.wav", {"domain": "source"}),
        ("section_00_0001.wav", {}),
        ("section_00_source_train_normal_0989_.wav", {"domain": "source"}),
    ],
)
def test_attributes_in_names_become_columns(describe, name, attributes):
    clips = describe(f"ToyCar/{name}")
    assert dict(clips.iloc[0, 5:]) == {"section": "00", **attributes}


def test_an_attribute_is_missing_where_a_name_lacks_it(describe):
    clips = describe("a/section_00_0001_car_B1.wav", "b/section_00_0001_pat_2.wav")
    assert list(clips.columns[5:]) == ["section", "car", "pat"]
    assert list(clips["car"].isna()) == [False, True]
    assert list(clips["pat"].isna()) == [True, False]


def test_names_that_hold_no_section_leave_it_missing(describe):
    clips = describe("fan/normal_id_02_00000000.wav", "fan/section_01_0001.wav")
    assert list(clips["machine_id"]) == ["02", "01"]
    assert list(clips["section"].fillna("none")) == ["none", "01"]


def test_columns_and_their_types_do_not_depend_on_the_names(describe):
    for clips in (describe("x/monday.wav"), describe("x/normal_id_00_00000000.wav")):
        columns = ["path", "machine_type", "machine_id", "split", "label"]
        assert list(clips.columns) == columns
        assert clips["label"].dtype == pd.Int64Dtype()
        assert list(clips.index) == list(range(len(clips)))


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("fan", ("fan", "00", "train", 1)),
        ("fan/train", ("fan", "00", "train", 1)),
        ("fan/train/../train", ("fan", "00", "train", 1)),
    ],
)
def test_an_inner_folder_is_told_its_machine_and_split(describe, inner, expected):
    assert facts(describe("fan/train/normal_id_00_00000000.wav", inner=inner)) == [
        expected
    ]


def test_the_folder_read_names_the_machine_of_the_files_directly_in_it(describe):
    clips = describe("pump_3/test/normal/monday.wav", inner="pump_3/test/normal")
    assert facts(clips) == [(None, "pump_3", "test", 1)]


def test_the_current_folder_is_told_its_name(describe, root, monkeypatch):
    describe("pump_3/train/monday.wav")
    monkeypatch.chdir(root / "pump_3" / "train")
    clips = load_clips(".")
    assert facts(clips) == [(None, "pump_3", "train", None)]
    assert list(clips["path"]) == ["monday.wav"]


def test_paths_are_sorted_and_begin_as_the_folder_was_given(describe, root):
    names = ["b/2.wav", "b/10.wav", "a/x.flac", "c.wav", "a b/ü 1.wav"]
    clips = describe(*names)
    paths = [root / name for name in names]
    assert list(clips["path"]) == [str(path) for path in sorted(paths)]
    assert all(type(path) is str for path in clips["path"])


def test_only_recordings_are_listed_whatever_the_case_of_their_suffix(describe, root):
    (root / "x" / "folder.wav").mkdir(parents=True)
    clips = describe("x/a.WAV", "x/b.Flac", "x/d.wav.txt", "x/wav", "x/._a.wav")
    assert [path.split("/")[-1] for path in clips["path"]] == ["a.WAV", "b.Flac"]


def test_a_hidden_folder_may_be_read_when_asked_for(describe):
    assert len(describe(".cache/x/a.wav", inner=".cache")) == 1


def test_a_listed_path_can_be_read(root):
    path = root / "Förderband 7" / "Montag früh.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(100), 16000)
    assert soundfile.info(load_clips(root)["path"][0]).frames == 100


def test_no_audio_is_read(describe):
    assert len(describe("x/empty.wav")) == 1  # a file of 0 bytes


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "no folder '.*nowhere'"),
        ("x/a.txt", NotADirectoryError, "a.txt' is a file; .* the folder it lies in"),
        ("x", ValueError, "holds no recordings: .* ends in .wav, .flac, .ogg"),
    ],
)
def test_folders_without_recordings_are_refused(root, name, error, message):
    (root / "x").mkdir(parents=True)
    (root / "x" / "a.txt").touch()
    with pytest.raises(error, match=message):
        load_clips(root / name)


def test_the_six_types_of_dcase_2020_are_found(recordings):
    clips = load_clips(recordings("dcase2020_samples"))
    assert len(clips) == 93
    assert clips["machine_type"].nunique() == 6
    assert len(clips.groupby(["machine_type", "machine_id"])) == 23
    assert clips["label"].value_counts().to_dict() == {1: 49, -1: 44}


def test_the_cars_of_dcase_2023_are_found(recordings):
    clips = load_clips(recordings("toycar2023"))
    assert clips["split"].value_counts().to_dict() == {"train": 180, "test": 50}
    assert clips["car"].nunique() == 6
    assert set(clips["machine_type"]) == {"ToyCar"}
    assert set(clips["machine_id"]) == {"00"}


def test_the_folders_of_the_valves_decide_their_split(recordings):
    clips = load_clips(recordings("valve2023"))
    test = clips[clips["split"] == "test"]
    assert (clips["split"] == "train").sum() == 60
    assert set(clips.loc[clips["split"] == "train", "label"]) == {1}
    assert test["label"].value_counts().to_dict() == {1: 20, -1: 50}


def test_single_files_are_described_as_in_their_folder(describe, root):
    whole = describe("pump_3/monday.wav", "fan/train/normal_id_00_00000000.wav")
    paths = list(whole["path"])[::-1]
    single = describe_recordings(paths)
    assert list(single["path"]) == paths  # in the order given
    assert facts(single) == facts(whole)[::-1]


def test_files_that_are_described_need_not_exist_or_be_any():
    assert facts(describe_recordings(["pump_3/gone.ogg"])) == [
        (None, "pump_3", None, None)
    ]
    assert len(describe_recordings([])) == 0
    assert "machine_id" in describe_recordings([])


# -- what is passed over -----------------------------------------------------------


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def shorten(root, problems):
    return {os.path.relpath(path, root): reason for path, reason in problems.items()}


@pytest.mark.parametrize(
    "name",
    ["b.m4a", "b.WMA", "b.aac", "b.raw", "b.mp2", "b.ape", "b.amr"],
)
def test_sound_of_other_formats_is_named(describe, root, name):
    with pytest.warns(UserWarning, match=rf"{name} is of a format that cannot be read"):
        assert len(describe("x/a.wav", f"x/{name}")) == 1
    listing = list_recordings(root)
    assert list(shorten(root, listing.skipped)) == [f"x/{name}"]
    assert listing.others == {}


@pytest.mark.parametrize(
    "name",
    [
        *("b.mp3", "b.OGG", "b.aiff", "b.wave", "b.opus", "b.aif", "b.oga", "b.aifc"),
        *("b.au", "b.caf", "b.w64", "b.rf64", "b.snd", "b.voc", "b.bwf"),
    ],
)
def test_formats_that_libsndfile_reads_are_listed(describe, name):
    assert len(describe("x/a.wav", f"x/{name}")) == 2


def test_what_is_hidden_is_named_if_it_may_hold_recordings(root):
    names = [".b.wav", ".c.mp3", ".d/x/1.flac", ".d/2.wav", ".e/.f/3.ogg"]
    nothing = ["._b.wav", ".DS_Store", ".git/config", ".g/._a.wav", "n.txt", "m.txt"]
    make(root, "x/a.wav", *names, *nothing, "LICENSE", "x/b.wav.part")
    listing = list_recordings(root)
    assert len(listing.clips) == 1
    assert shorten(root, listing.skipped) == {
        ".b.wav": "is hidden: rename it",
        ".c.mp3": "is hidden: rename it",
        ".d": "is a hidden folder of 2 recordings: rename it",
        ".e": "is a hidden folder of 1 recording: rename it",
    }
    assert listing.others == {
        "hidden": 4,
        "ending in .txt": 2,
        "ending in .part": 1,
        "without an ending": 1,
    }


def test_links_are_followed_and_name_what_they_lead_to(root, tmp_path):
    """As DVC and model hubs link names to files named by their content."""
    make(tmp_path / "store", "ab/12", "cd/monday.wav", "cd/deep/tuesday.wav")
    make(root, "pump_2/monday.wav")
    (root / "pump_3").symlink_to("../store/cd")
    (root / "pump_2" / "tuesday.wav").symlink_to("../../store/ab/12")
    (root.parent / "pump_4").symlink_to("store/cd")
    clips = list_recordings(root).clips
    assert [os.path.relpath(path, root) for path in clips["path"]] == [
        "pump_2/monday.wav",
        "pump_2/tuesday.wav",
        "pump_3/deep/tuesday.wav",
        "pump_3/monday.wav",
    ]
    assert list(clips["machine_id"].iloc[[0, 1, 3]]) == ["pump_2", "pump_2", "pump_3"]
    assert load_clips(root.parent / "pump_4")["machine_id"].iloc[1] == "pump_4"


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "/", "../b", "/x"])
def test_a_link_that_leads_back_is_counted_and_each_folder_is_read_once(root, target):
    make(root, "a/1.wav", "b/2.wav")
    if target == "/x":
        target = root / "b"
    (root / "a" / "again").symlink_to(target)
    (root / "latest").symlink_to("a")
    listing = list_recordings(root)
    assert len(listing.clips) == 2
    assert not any(
        "again" in path or "latest" in path for path in listing.clips["path"]
    )
    assert listing.others == {"links that lead back": 2}
    assert listing.unlisted == {}


def test_links_among_each_other_end(root, tmp_path):
    for one in "xyz":
        make(tmp_path / one, f"{one}.wav")
        for other in "xyz":
            (tmp_path / one / f"to_{other}").symlink_to(f"../{other}")
    root.mkdir()
    (root / "in").symlink_to("../x")
    clips = list_recordings(root).clips
    assert {os.path.basename(path) for path in clips["path"]} == {
        "x.wav",
        "y.wav",
        "z.wav",
    }
    assert len(clips) == 3


@pytest.mark.parametrize("target", ["nowhere", "pump_3", "../gone/store"])
def test_a_link_that_leads_nowhere_may_be_a_machine(describe, root, target):
    root.mkdir()
    (root / "pump_3").symlink_to(target)
    with pytest.warns(UserWarning, match=f"is a link to '{target}', which cannot be f"):
        describe("pump_2/a.wav")
    (root / "pump_2" / "b.wav").symlink_to(target)  # reading will name it
    listing = list_recordings(root)
    assert list(shorten(root, listing.unlisted)) == ["pump_3"]
    assert len(listing.clips) == 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOENT])
@pytest.mark.parametrize("where", ["pump_3", "pump_3/inner", "."])
def test_a_folder_that_cannot_be_listed_is_named(root, monkeypatch, number, where):
    make(root, "pump_2/a.wav", "pump_3/inner/a.wav")
    scan, error = os.scandir, OSError(number, os.strerror(number))

    def fail(path):
        if path == root / where:
            raise error
        return scan(path)

    monkeypatch.setattr(os, "scandir", fail)
    assert shorten(root, list_recordings(root).unlisted) == {
        where: f"cannot be listed ({error.strerror}): give this user permission, or "
        "move it elsewhere"
    }
    if where == ".":
        with pytest.raises(ValueError, match=r"no recordings: .* cannot be listed \("):
            load_clips(root)
    else:
        with pytest.warns(UserWarning, match=r"not all of .* cannot be listed \("):
            load_clips(root)


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_names_are_listed_exactly_whatever_they_hold(root):
    names = [b"\xff", b"a\nb", b"\x1b[31m", "\u202e".encode(), b"=1", b"a\rb", b" "]
    folder = root / "pump_3"
    folder.mkdir(parents=True)
    for name in names:
        open(os.path.join(os.fsencode(folder), name + b".wav"), "w").close()
    paths = load_clips(root)["path"]
    assert {os.path.basename(os.fsencode(path)) for path in paths} == {
        name + b".wav" for name in names
    }


def test_one_machine_may_be_written_in_two_forms_of_unicode(root):
    forms = [unicodedata.normalize(form, "Gerät 泵 é") for form in ("NFC", "NFD")]
    make(root, *(f"{form}/{n}.wav" for n, form in enumerate(forms)))
    clips = load_clips(root)
    assert set(clips["machine_id"]) == {forms[0]}
    assert {os.path.basename(os.path.dirname(path)) for path in clips["path"]} == {
        *forms
    }
    assert all(os.path.exists(path) for path in clips["path"])
