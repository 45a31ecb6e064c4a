import multiprocessing
import os
import random
import shutil
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import pooch
import pytest
from tqdm.auto import tqdm
from zenodo import Server, md5_of

from sklearn_asd.audio.machines import DCASE2020_TYPES
from sklearn_asd.datasets import (
    dcase2020,
    fetch_dcase2020_task2,
    load_dcase,
    load_dcase2020_task2,
)

# What the archives hold, in the layout of Zenodo's.
ARCHIVES = {
    "dev_data_fan.zip": [
        "fan/train/normal_id_00_00000000.wav",
        "fan/test/normal_id_00_00000000.wav",
        "fan/test/anomaly_id_00_00000000.wav",
    ],
    "eval_data_train_fan.zip": ["fan/train/normal_id_01_00000000.wav"],
    "eval_data_test_fan.zip": [
        "fan/test/id_01_00000000.wav",
        "fan/test/id_01_00000001.wav",
    ],
    "dev_data_valve.zip": ["valve/train/normal_id_06_00000000.wav"],
}
TRUTH = """\
valve
id_01_00000000.wav,anomaly_id_01_00000003.wav,1
fan
id_01_00000000.wav,normal_id_01_00000098.wav,0
id_01_00000001.wav,anomaly_id_01_00000064.wav,1
"""


def record_of(name):
    if name.startswith("dev"):
        return 3678171
    return 3727685 if "train" in name else 3841772


def write_zip(path, members):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, f"sound of {name}")


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server(tmp_path / "zenodo", tmp_path / "registry.txt")
    monkeypatch.setattr(dcase2020, "_REGISTRY", server.registry)
    for name, members in ARCHIVES.items():
        write_zip(server.path(record_of(name), name), members)
    truth = server.path(3951620, "eval_data_list.csv")
    truth.parent.mkdir()
    truth.write_text(TRUTH)
    server.publish()
    yield server
    server.stop()


@pytest.fixture
def fetch(tmp_path, server):
    def fetch(types="fan", **options):
        settings = {"data_home": tmp_path / "home", "n_retries": 0, "verbose": 0}
        return fetch_dcase2020_task2(machine_types=types, **settings | options)

    return fetch


def names_below(folder):
    """List files, without the lock, which stays, and the lists of contents."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return [name for name in names if not name.endswith((".lock", ".contents.json"))]


def test_18_archives_and_a_list_are_registered():
    registry = pooch.create(path="", base_url="")
    registry.load_registry(dcase2020._REGISTRY)
    archives = {
        f"{subset}_{kind}.zip"
        for subset in ("dev_data", "eval_data_train", "eval_data_test")
        for kind in DCASE2020_TYPES
    }
    assert registry.registry.keys() == archives | {"eval_data_list.csv"}
    sums = [md5.removeprefix("md5:") for md5 in registry.registry.values()]
    assert len(set(sums)) == 19
    assert all(len(bytes.fromhex(md5)) == 16 for md5 in sums)
    name = "eval_data_train_fan.zip"
    assert registry.get_url(name) == f"https://zenodo.org/records/3727685/files/{name}"
    assert registry.registry[name] == "md5:567798854130c8019df8b664c095ed1e"


def test_all_subsets_are_listed_with_their_labels(fetch):
    dataset = fetch()
    table = dataset.data
    columns = ["machine_id", "split", "subset", "label"]
    assert sorted(map(tuple, table[columns].to_numpy())) == [
        ("00", "test", "dev", -1),
        ("00", "test", "dev", 1),
        ("00", "train", "dev", 1),
        ("01", "test", "eval", -1),
        ("01", "test", "eval", 1),
        ("01", "train", "additional", 1),
    ]
    assert set(table["machine_type"]) == {"fan"}
    assert dataset.target.tolist() == table["label"].tolist()
    assert "CC BY-NC-SA 4.0" in dataset.DESCR
    anomalous = table[(table["subset"] == "eval") & (table["label"] == -1)]
    assert anomalous["path"].item().endswith("fan/test/id_01_00000001.wav")


def test_the_listed_files_hold_what_the_archives_held(fetch):
    path = fetch(subsets="additional").data["path"].item()
    with open(path) as file:
        assert file.read() == "sound of fan/train/normal_id_01_00000000.wav"


def test_only_what_is_asked_for_is_fetched(fetch, server, tmp_path):
    dataset = fetch(["valve", "fan"], subsets=["dev"])
    assert sorted(server.requests) == [
        "/3678171/dev_data_fan.zip",
        "/3678171/dev_data_valve.zip",
    ]
    assert dataset.data["machine_type"].value_counts().to_dict() == {
        "fan": 3,
        "valve": 1,
    }


def test_a_second_call_needs_no_server(fetch, server):
    first = fetch()
    server.stop()
    second = fetch()
    third = fetch(download_if_missing=False)
    assert first.data.equals(second.data)
    assert first.data.equals(third.data)


def test_an_unpacked_archive_may_be_deleted_and_is_not_unpacked_again(
    fetch, server, tmp_path
):
    path = Path(fetch(subsets="dev").data["path"][0])
    path.write_text(path.read_text().upper())
    (tmp_path / "home" / "dcase2020_task2" / "dev_data_fan.zip").unlink()
    fetch(subsets="dev")
    assert path.read_text().isupper()
    assert len(server.requests) == 1


def test_a_second_call_continues_where_an_interrupted_one_stopped(
    fetch, server, tmp_path
):
    last = server.path(3841772, "eval_data_test_fan.zip")
    last.rename(last.with_suffix(".away"))
    with pytest.raises(OSError, match=r"eval_data_test_fan.zip cannot be downloaded"):
        fetch()
    last.with_suffix(".away").rename(last)
    server.requests.clear()
    assert len(fetch().data) == 6
    assert server.requests == [
        "/3841772/eval_data_test_fan.zip",
        "/3951620/eval_data_list.csv",
    ]


def test_an_archive_put_there_by_hand_is_unpacked_and_kept(fetch, server, tmp_path):
    root = tmp_path / "home" / "dcase2020_task2"
    root.mkdir(parents=True)
    archive = server.path(3678171, "dev_data_fan.zip").read_bytes()
    (root / "dev_data_fan.zip").write_bytes(archive)
    server.stop()
    assert len(fetch(subsets="dev", download_if_missing=False).data) == 3
    assert (root / "dev_data_fan.zip").read_bytes() == archive


def test_half_an_archive_is_fetched_again(fetch, server, tmp_path):
    root = tmp_path / "home" / "dcase2020_task2"
    root.mkdir(parents=True)
    whole = server.path(3678171, "dev_data_fan.zip").read_bytes()
    (root / "dev_data_fan.zip").write_bytes(whole[: len(whole) // 2])
    assert len(fetch(subsets="dev").data) == 3
    assert len(server.requests) == 1


def test_what_a_killed_process_has_unpacked_does_not_count_as_complete(fetch, tmp_path):
    unfinished = tmp_path / "home" / "dcase2020_task2" / ".unfinished"
    stale = unfinished / "dev_data_fan/fan/train/normal_id_00_00000099.wav"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert len(fetch(subsets="dev").data) == 3
    assert not unfinished.exists()


def test_a_failed_download_is_tried_again(fetch, server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    path = server.path(3678171, "dev_data_fan.zip")
    path.write_bytes(b"changed")
    with pytest.raises(OSError, match="does not match the known hash"):
        fetch(subsets="dev", n_retries=2)
    assert len(server.requests) == 3


def test_a_file_with_a_wrong_md5_is_refused_and_not_kept(fetch, server, tmp_path):
    path = server.path(3678171, "dev_data_fan.zip")
    published = md5_of(path)
    path.write_bytes(path.read_bytes() + b"!")
    message = (
        rf"dev_data_fan.zip cannot .* http.* expected md5:{published} .* try again"
    )
    with pytest.raises(OSError, match=message):
        fetch(subsets="dev")
    assert names_below(tmp_path / "home") == []


def test_a_zip_damaged_inside_leaves_nothing_half_unpacked(fetch, server, tmp_path):
    path = server.path(3678171, "dev_data_fan.zip")
    content = path.read_bytes()
    sound = b"sound of fan/test/anomaly"
    assert content.count(sound) == 1
    path.write_bytes(content.replace(sound, sound.upper()))
    server.publish()
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):
        fetch(subsets="dev")
    assert names_below(tmp_path / "home") == ["dcase2020_task2/dev_data_fan.zip"]


@pytest.mark.parametrize(
    "name",
    [
        "../../out.txt",
        "/out.txt",
        "fan/../../../out.txt",
        "..\\..\\out.txt",
        "C:\\out.txt",
    ],
)
def test_a_zip_writes_nothing_outside_its_folder(name, fetch, server, tmp_path):
    with zipfile.ZipFile(server.path(3678171, "dev_data_fan.zip"), "a") as archive:
        archive.writestr(name, b"out")
    server.publish()
    before = set(tmp_path.rglob("*"))
    fetch(subsets="dev")
    written = set(tmp_path.rglob("*")) - before - {tmp_path / "home"}
    assert written
    assert all(path.is_relative_to(tmp_path / "home") for path in written)


def test_missing_archives_are_named_if_they_may_not_be_fetched(fetch, server):
    message = r"dev_data_fan.zip, .* missing from .* download_if_missing is False"
    with pytest.raises(OSError, match=message):
        fetch(download_if_missing=False)
    assert server.requests == []


def test_the_error_without_a_server_says_what_to_do(fetch, server):
    server.stop()
    with pytest.raises(OSError, match=r"cannot be downloaded .* or copy the file into"):
        fetch(subsets="dev")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": "Fan"}, "'Fan' is unknown: did you mean 'fan'"),
        ({"types": ["fan", "pumps"]}, "machine_types: 'pumps' .* mean 'pump'"),
        ({"subsets": "evaluation"}, "subsets: 'evaluation' is unknown: .* dev, add"),
        ({"subsets": []}, "subsets is empty: name one or more of dev"),
    ],
)
def test_unknown_types_and_subsets_are_refused(fetch, server, options, message):
    with pytest.raises(ValueError, match=message):
        fetch(**options)
    assert server.requests == []


def test_progress_is_shown_when_asked_for(fetch, capsys):
    fetch(subsets="dev", verbose=1)
    assert "unpack dev_data_fan.zip: 100%" in capsys.readouterr().err
    fetch("valve", subsets="dev", verbose=0)
    assert "%" not in capsys.readouterr().err


# -- folders that are not complete, and many processes at once ---------------------


@pytest.fixture
def root(tmp_path):
    return tmp_path / "home" / "dcase2020_task2"


CONTENTS = [f"dev_data_fan/{name}" for name in ARCHIVES["dev_data_fan.zip"]]
WHOLE = sorted([*CONTENTS, "dev_data_fan.zip"])


def remove_one(folder):
    (folder / "fan/test/anomaly_id_00_00000000.wav").unlink()


def cut_one_short(folder):
    path = folder / "fan/test/anomaly_id_00_00000000.wav"
    path.write_bytes(path.read_bytes()[:5])


def empty_one(folder):
    (folder / "fan/train/normal_id_00_00000000.wav").write_bytes(b"")


def remove_subfolder(folder):
    shutil.rmtree(folder / "fan/test")


def remove_all_recordings(folder):
    shutil.rmtree(folder / "fan")


def remove_all(folder):
    remove_all_recordings(folder)
    (folder / ".contents.json").unlink(missing_ok=True)


DAMAGES = [
    remove_one,
    cut_one_short,
    empty_one,
    remove_subfolder,
    remove_all_recordings,
    remove_all,
]


@pytest.mark.parametrize("archive", ["kept", "deleted", "cut short"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_lacks_something_is_completed(
    fetch, server, root, damage, archive
):
    fetch(subsets="dev")
    damage(root / "dev_data_fan")
    mine = root / "dev_data_fan" / "notes.txt"
    mine.write_text("mine")
    if archive == "deleted":
        (root / "dev_data_fan.zip").unlink()
    if archive == "cut short":
        (root / "dev_data_fan.zip").write_bytes(b"PK")
    if damage is remove_all:  # as mkdir leaves it
        mine.unlink()
    assert len(fetch(subsets="dev").data) == 3
    assert mine.exists() == (damage is not remove_all)
    mine.unlink(missing_ok=True)
    assert names_below(root) == WHOLE
    assert len(server.requests) == (1 if archive == "kept" else 2)
    sounds = [(root / name).read_text() for name in CONTENTS]
    assert sounds == [f"sound of {n}" for n in ARCHIVES["dev_data_fan.zip"]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_incomplete_folder_is_an_error_if_nothing_may_be_fetched(
    fetch, root, damage
):
    fetch(subsets="dev")
    damage(root / "dev_data_fan")
    (root / "dev_data_fan.zip").unlink()
    with pytest.raises(OSError, match=r"dev_data_fan.zip missing .* not complete"):
        fetch(subsets="dev", download_if_missing=False)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_incomplete_folder_of_an_earlier_version_is_completed(fetch, root, damage):
    fetch(subsets="dev")
    (root / "dev_data_fan/.contents.json").unlink()
    damage(root / "dev_data_fan")
    assert len(fetch(subsets="dev").data) == 3
    assert names_below(root) == WHOLE


def test_a_complete_folder_of_an_earlier_version_is_taken(fetch, server, root):
    fetch(subsets="dev")
    contents = root / "dev_data_fan/.contents.json"
    before = contents.read_text()
    contents.unlink()
    server.stop()
    first = (root / CONTENTS[0]).stat()
    assert len(fetch(subsets="dev").data) == 3
    assert contents.read_text() == before
    assert (root / CONTENTS[0]).stat() == first


def test_a_folder_that_nothing_can_be_compared_with_is_taken_with_a_warning(
    fetch, server, root
):
    fetch(subsets="dev")
    (root / "dev_data_fan/.contents.json").unlink()
    (root / "dev_data_fan.zip").unlink()
    server.stop()
    with pytest.warns(UserWarning, match=r"nothing tells whether .*dev_data_fan"):
        assert len(fetch(subsets="dev").data) == 3


def test_a_list_of_contents_that_cannot_be_read_is_made_anew(fetch, root):
    fetch(subsets="dev")
    contents = root / "dev_data_fan/.contents.json"
    before = contents.read_text()
    contents.write_text(before[:20])
    remove_one(root / "dev_data_fan")
    assert len(fetch(subsets="dev").data) == 3
    assert contents.read_text() == before


def limit_file_size(n_bytes):
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


@pytest.fixture
def fork():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("nothing can fork")
    return multiprocessing.get_context("fork")


@pytest.fixture
def start(fork, fetch):
    """Fetch in another process; its exit code is 3 for an OSError that says more."""
    started = []

    def run(set_up):
        # Forks share tqdm's lock, and one that is killed may hold it.
        tqdm.set_lock(threading.RLock())
        set_up()
        try:
            n_clips = len(fetch(subsets="dev").data)
        except OSError as error:
            os._exit(3 if "try again" in str(error) else 1)
        os._exit(0 if n_clips == N_LARGE else 2)

    def start(set_up=lambda: None):
        started.append(fork.Process(target=run, args=(set_up,)))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


N_LARGE = 150


@pytest.fixture
def large(server):
    """An archive that takes a while to unpack."""
    path = server.path(3678171, "dev_data_fan.zip")
    rng = random.Random(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(N_LARGE):
            name = f"fan/train/normal_id_00_{number:08d}.wav"
            archive.writestr(name, rng.randbytes(10_000))
    server.publish()


def exit_codes(processes):
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("n_processes", [2, 8])
def test_processes_that_fetch_at_once_fetch_once_and_all_get_all(
    large, start, server, root, n_processes
):
    processes = [start() for _ in range(n_processes)]
    assert exit_codes(processes) == [0] * n_processes
    assert len(server.requests) == 1
    assert not (root / ".unfinished").exists()


def test_whatever_is_killed_the_others_and_a_later_call_get_all(
    large, start, fetch, root
):
    rng = random.Random(0)
    n_killed = 0
    # A fast computer may be done before any process is killed: then one more round.
    for round_number in range(30):
        processes = [start() for _ in range(4)]
        for process in rng.sample(processes, 3):
            time.sleep(rng.uniform(0, 0.08))
            process.kill()
        codes = exit_codes(processes)
        assert set(codes) <= {0, -9}
        assert 0 in codes
        n_killed += codes.count(-9)
        assert len(fetch(subsets="dev").data) == N_LARGE
        shutil.rmtree(root)
        if round_number >= 2 and n_killed:
            return
    pytest.fail("30 rounds were over before a process was killed")


def test_a_process_killed_while_it_completes_a_folder_leaves_that_to_a_later_call(
    large, start, fetch, root
):
    rng = random.Random(1)
    fetch(subsets="dev")
    for _ in range(3):
        for path in (root / "dev_data_fan").rglob("*.wav"):
            if rng.random() < 0.5:
                path.write_bytes(b"short")
        process = start()
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.join()
    assert len(fetch(subsets="dev").data) == N_LARGE
    sizes = {path.stat().st_size for path in (root / "dev_data_fan").rglob("*.wav")}
    assert sizes == {10_000}


@pytest.mark.parametrize("n_bytes", [100_000, 1_000_000])
def test_a_full_disk_is_an_error_and_a_later_call_gets_all(
    large, start, fetch, root, n_bytes
):
    assert exit_codes([start(lambda: limit_file_size(n_bytes))]) == [3]
    assert names_below(root) == []
    assert len(fetch(subsets="dev").data) == N_LARGE


def test_a_disk_that_is_full_before_all_is_unpacked_is_an_error(
    large, start, fetch, root
):
    fetch(subsets="dev")
    shutil.rmtree(root / "dev_data_fan")
    assert exit_codes([start(lambda: limit_file_size(5_000))]) == [3]
    assert names_below(root) == ["dev_data_fan.zip"]
    assert len(fetch(subsets="dev").data) == N_LARGE


# -- a folder of your own ----------------------------------------------------------


@pytest.fixture
def unpacked(tmp_path):
    """All in one folder, as the archives unpack over each other."""
    for members in ARCHIVES.values():
        for name in members:
            path = tmp_path / "mine" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "mine"


def test_a_folder_is_read_with_the_list_of_labels_in_it(unpacked):
    (unpacked / "eval_data_list.csv").write_text(TRUTH)
    dataset = load_dcase2020_task2(unpacked)
    counts = dataset.data.value_counts(["machine_type", "subset", "label"]).to_dict()
    assert counts == {
        ("fan", "additional", 1): 1,
        ("fan", "dev", -1): 1,
        ("fan", "dev", 1): 2,
        ("fan", "eval", -1): 1,
        ("fan", "eval", 1): 1,
        ("valve", "dev", 1): 1,
    }


def test_the_list_may_lie_elsewhere(unpacked, tmp_path):
    (tmp_path / "list.csv").write_text(TRUTH)
    dataset = load_dcase2020_task2(unpacked, eval_labels=tmp_path / "list.csv")
    assert dataset.target.notna().all()
    published = tmp_path / "truth" / "eval_data_list.csv"
    published.parent.mkdir()
    published.write_text(TRUTH)
    for load in (load_dcase2020_task2, partial(load_dcase, year=2020)):
        assert load(unpacked, eval_labels=published.parent).target.notna().all()
    with pytest.raises(FileNotFoundError, match="no eval_data_list.csv in"):
        load_dcase2020_task2(unpacked, eval_labels=unpacked / "fan")


def test_without_the_list_labels_are_missing_with_a_warning(unpacked):
    message = (
        "2 recordings of the evaluation set have no label: copy eval_data_list.csv"
    )
    with pytest.warns(UserWarning, match=message):
        dataset = load_dcase2020_task2(unpacked)
    assert dataset.target.isna().sum() == 2


def test_recordings_of_other_machines_are_refused(tmp_path):
    for name in ["fan/train/normal_id_09_00000000.wav", "my pump/monday.wav"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(ValueError, match=r"fan/09, my pump are not .* use load_clips"):
        load_dcase2020_task2(tmp_path)


def test_real_recordings_of_the_development_set_are_listed(recordings):
    dataset = load_dcase2020_task2(recordings("dcase2020_samples"))
    assert set(dataset.data["subset"]) == {"dev"}
    assert (dataset.target == -1).sum() == 44


def test_the_published_list_is_read_whole(recordings):
    folder = recordings(".")
    path = folder / "dcase2020_eval_data_list.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert f"eval_data_list.csv md5:{md5_of(path)} " in dcase2020._REGISTRY.read_text()
    labels = dcase2020.read_eval_labels(path)
    assert {kind for kind, _ in labels} == set(DCASE2020_TYPES)
    assert labels["fan", "id_01_00000000.wav"] == 1
    assert labels["fan", "id_01_00000001.wav"] == -1
