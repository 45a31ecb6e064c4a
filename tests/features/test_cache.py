import functools
import hashlib
import multiprocessing
import os
import shutil
import sqlite3
import threading
import time
import zlib
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

from sklearn_asd import (
    AugmentationExpander,
    Clips,
    LogMelSegmenter,
    MissingClipError,
    WaveformView,
)
from sklearn_asd.audio import View
from sklearn_asd.features import cache, front_end
from sklearn_asd.features.cache import FileCache, MemoryCache

RATE = 16000
N_CLIPS = 6

Short = functools.partial(
    LogMelSegmenter, segment_duration=0.256, segment_hop=0.128, n_mels=32
)


def write(path, seed):
    """Write a clip of noise, of a length of its own."""
    noise = np.random.default_rng(seed).normal(scale=0.1, size=5000 + 700 * seed)
    soundfile.write(path, noise, RATE)
    return path


@pytest.fixture
def paths(tmp_path):
    return [write(tmp_path / f"{row}.wav", row) for row in range(N_CLIPS)]


@pytest.fixture
def cached(tmp_path):
    """Segmenter with a cache."""
    return Short(cache_dir=tmp_path / "cache" / "log-mels")


def with_facts(frames):
    """What caches are given: frames of each key, and facts, which are told apart."""
    return frames, {key: np.array([len(key), key[0]], float) for key in frames}


def assert_right(X, paths, **settings):
    """The frames are those that are computed without a cache."""
    expected = Short(**settings).transform(paths)
    assert len(X) == len(paths)
    assert X.frames.dtype == expected.frames.dtype
    np.testing.assert_array_equal(X.facts, expected.facts)
    for clip in range(len(paths)):
        np.testing.assert_array_equal(X.log_mel(clip), expected.log_mel(clip))


def test_frames_are_a_read_only_memory_map_of_what_is_computed(cached, paths):
    X = cached.transform(paths)
    assert isinstance(X.frames, np.memmap)
    assert not X.frames.flags.writeable
    assert_right(X, paths)


def test_a_second_call_computes_nothing(cached, paths, computed):
    first = cached.transform(paths)
    assert len(computed) == N_CLIPS
    second = cached.transform(paths)
    assert len(computed) == N_CLIPS
    np.testing.assert_array_equal(second.starts, first.starts)
    np.testing.assert_array_equal(second.frames, first.frames)


def test_only_new_clips_are_computed(cached, paths, computed):
    cached.transform(paths[:4])
    X = cached.transform(paths)
    assert computed == [5000 + 700 * row for row in range(N_CLIPS)]
    assert_right(X, paths)


@pytest.mark.parametrize("rows", [[2], [5, 0, 3], [1, 1, 4, 1]])
def test_subsets_reorderings_and_repeats_are_right(cached, paths, rows):
    cached.transform(paths)
    chosen = [paths[row] for row in rows]
    assert_right(cached.transform(chosen), chosen)


def test_clips_of_one_content_are_stored_once(cached, paths, tmp_path, computed):
    X = cached.transform([paths[0], paths[1], paths[0]])
    assert len(X.frames) == X.stops.max()
    assert X.starts[0] == X.starts[2]
    n_computed = len(computed)
    copy = shutil.copy(paths[1], tmp_path / "under another name.wav")
    renamed = paths[0].rename(tmp_path / "renamed.wav")
    X = cached.transform([copy, renamed])
    assert len(computed) == n_computed
    assert_right(X, [copy, renamed])


def test_equal_clips_of_one_call_are_computed_once(cached, paths, computed):
    X = cached.transform([paths[0], paths[1], paths[0]])
    assert len(computed) == 2
    np.testing.assert_array_equal(X.log_mel(0), X.log_mel(2))


def expand(paths, **parameters):
    settings = {"pitch_steps": (0,), "stretch_rates": (0.9, 1)}
    return AugmentationExpander(**settings | parameters).transform(paths)


def test_each_view_of_a_content_is_computed_once(cached, paths, computed):
    one = cached.transform(paths)
    assert len(computed) == N_CLIPS
    two = cached.transform(expand(paths))
    assert len(computed) == 2 * N_CLIPS  # the original is known without views
    three = cached.transform(expand(paths, stretch_rates=(1, 1.1, 0.9)))
    assert len(computed) == 3 * N_CLIPS
    again = cached.transform(expand(paths[::-1]))[::-1]
    assert len(computed) == 3 * N_CLIPS
    fresh = Short().transform(expand(paths, stretch_rates=(1, 1.1, 0.9)))
    for row in range(N_CLIPS):
        for X, views in [
            (one, [0]),
            (two, [2, 0]),
            (three, [0, 1, 2]),
            (again, [2, 0]),
        ]:
            for own, view in enumerate(views):
                np.testing.assert_array_equal(
                    X.log_mel(row, own), fresh.log_mel(row, view)
                )


def test_a_view_whose_function_changed_is_computed_again(cached, paths):
    frames = []
    for factor in (2, 3):
        view = WaveformView(lambda samples, rate, by=factor: by * samples, name="own")
        clips = expand(paths, stretch_rates=(), extra=[view])
        frames.append(cached.transform(clips))
        np.testing.assert_array_equal(
            frames[-1].log_mel(0), Short().transform(clips).log_mel(0)
        )
    assert (frames[0].log_mel(0) != frames[1].log_mel(0)).any()


def test_changed_content_is_computed_again(cached, paths):
    cached.transform(paths)
    write(paths[2], seed=7)
    assert_right(cached.transform(paths), paths)


def test_arrays_are_known_by_content_type_and_sample_rate(tmp_path, rng, computed):
    cached = Short(cache_dir=tmp_path, segment_duration=None)
    wave = rng.integers(-(2**15), 2**15, 8000, dtype=np.int16)
    cached.transform([wave])
    cached.transform([wave.copy()])
    assert len(computed) == 1
    halves = wave.view(np.float16)  # the same bytes
    halves = np.where(np.abs(halves) <= 1, halves, 0).astype(np.float16)
    cached.transform([halves])
    cached.transform([halves.view(np.int16)])
    cached.transform(Clips([wave], sample_rate=[32000]))
    assert len(computed) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"n_fft": 512},
        {"hop_length": 256},
        {"n_mels": 16},
        {"fmin": 100.0},
        {"fmax": 4000.0},
        {"channel": 0},
        {"sample_rate": 8000},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_settings_do_not_mix(cached, paths, computed, change):
    cached.transform(paths)
    X = Short(cache_dir=cached.cache_dir, **change).transform(paths)
    assert len(computed) == 2 * N_CLIPS
    assert_right(X, paths, **change)
    assert_right(cached.transform(paths), paths)


def test_segments_do_not_matter_to_what_is_stored(cached, paths, computed):
    cached.transform(paths)
    X = cached.set_params(segment_duration=None, segment_hop=1.0).transform(paths)
    assert len(computed) == N_CLIPS
    assert X.n_segments.tolist() == [[1]] * N_CLIPS


def test_float16_takes_half_the_disk(tmp_path, paths):
    sizes = {}
    for dtype in ("float32", "float16"):
        X = Short(cache_dir=tmp_path / dtype, dtype=dtype).transform(paths)
        (data,) = (tmp_path / dtype).glob(f"*.{dtype}")
        sizes[dtype] = data.stat().st_size
        assert sizes[dtype] == X.frames.nbytes
    assert sizes["float32"] == 2 * sizes["float16"]


@pytest.mark.parametrize("kept", [0, 1, 2500, 6000])
def test_frames_cut_off_the_file_are_computed_again(cached, paths, computed, kept):
    cached.transform(paths)
    (data,) = cached.cache_dir.glob("*.float32")
    with data.open("r+b") as file:
        file.truncate(kept)
    n_computed = len(computed)
    assert_right(cached.transform(paths), paths)
    assert len(computed) - n_computed >= N_CLIPS - 2
    n_computed = len(computed)
    cached.transform(paths)
    assert len(computed) == n_computed


def test_versions_of_libraries_that_compute_frames_do_not_mix(
    cached, paths, computed, monkeypatch
):
    cached.transform(paths)
    for name in ("libsndfile", "numpy", "scipy", "soxr"):
        with monkeypatch.context() as patch:
            patch.setitem(cache._LIBRARIES, name, "99.0")
            computed.clear()
            assert_right(cached.transform(paths), paths)
            assert len(computed) >= N_CLIPS
    with monkeypatch.context() as patch:
        patch.setattr(LogMelSegmenter, "_frames_version", 99)
        computed.clear()
        cached.transform(paths)
        assert len(computed) == N_CLIPS
    computed.clear()
    cached.transform(paths)
    assert not computed


@pytest.mark.parametrize("text", ["version 1: Recipe(sample_rate=16000)", ""])
def test_an_index_of_an_earlier_version_is_not_misread(tmp_path, text):
    """Its file was named by a digest of a text."""
    old = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    new = FileCache(tmp_path, text, 2, "float32")
    new.add(*with_facts({b"a": np.zeros((1, 2))}))
    assert not list(tmp_path.glob(f"*{old}*"))


@pytest.mark.parametrize("lost", ["*.float32", "*.sqlite"])
def test_a_lost_file_is_made_again(cached, paths, lost):
    cached.transform(paths)
    (file,) = cached.cache_dir.glob(lost)
    file.unlink()
    assert_right(cached.transform(paths), paths)
    assert_right(cached.transform(paths[::-1]), paths[::-1])


def test_bytes_that_a_killed_process_left_are_written_over(cached, paths):
    cached.transform(paths[:3])
    (data,) = cached.cache_dir.glob("*.float32")
    with data.open("ab") as file:
        file.write(b"\xff" * 12345)
    assert_right(cached.transform(paths), paths)


def test_what_was_read_stays_right_while_the_file_grows(cached, paths):
    X = cached.transform(paths[:3])
    cached.transform(paths)
    assert_right(X, paths[:3])


def test_clips_read_before_an_error_are_kept(cached, paths, tmp_path, computed):
    with pytest.raises(MissingClipError, match=r"clip 6 \(gone.wav\)"):
        cached.transform([*paths, tmp_path / "gone.wav"])
    cached.transform(paths)
    assert len(computed) == N_CLIPS


def test_a_missing_clip_is_read_once_it_is_there(cached, tmp_path):
    path = tmp_path / "late.wav"
    with pytest.raises(MissingClipError):
        cached.transform([path])
    write(path, seed=1)
    assert_right(cached.transform([path]), [path])


# -- several processes ---------------------------------------------------------


def transform_each_alone(cache_dir, paths, barrier):
    barrier.wait()
    for path in paths:
        Short(cache_dir=cache_dir).transform([path])


def test_two_processes_may_write_at_once(cached, paths):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    orders = [paths[:5], paths[:0:-1]]
    processes = [
        context.Process(
            target=transform_each_alone, args=(cached.cache_dir, order, barrier)
        )
        for order in orders
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=600)
        assert process.exitcode == 0
    X = cached.transform(paths)
    assert_right(X, paths)
    assert len(X.frames) == (X.stops - X.starts).sum()  # each was stored once


def test_a_cache_opened_while_another_grows_forgets_nothing(tmp_path):
    frames = np.ones((5, 2), dtype=np.float32)
    FileCache(tmp_path, "settings", 2, "float32").add(*with_facts({b"first": frames}))
    (index_file,) = tmp_path.glob("*.sqlite")
    (data_file,) = tmp_path.glob("*.float32")
    opened = []

    def open_cache():
        opened.append(FileCache(tmp_path, "settings", 2, "float32"))
        opened[0].find([b"first", b"second"])

    # What a process does that appends, held up before its last step.
    index = sqlite3.connect(index_file)
    index.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=open_cache)
    thread.start()
    time.sleep(0.2)
    assert not opened  # it waits
    with data_file.open("ab") as data:
        data.write(frames.tobytes())
    checksum = zlib.crc32(frames.tobytes(), zlib.crc32(b"second"))
    row = b"second", b"", checksum
    index.execute("INSERT INTO clips VALUES (?, 5, 10, ?, ?)", row)
    index.commit()
    index.close()
    thread.join(timeout=600)
    assert opened[0].places == {b"first": (0, 5), b"second": (5, 10)}


def test_caches_agree_on_where_a_clip_lies_whoever_added_it_first(tmp_path):
    first, second = (FileCache(tmp_path, "settings", 2, "float32") for _ in range(2))
    a, b = np.full((3, 2), 1.0), np.full((4, 2), 2.0)
    first.add(*with_facts({b"a": a}))
    second.add(*with_facts({b"b": b, b"a": a}))
    assert (second.places[b"a"], second.places[b"b"]) == ((0, 3), (3, 7))
    assert b"b" not in first.places  # it has not looked since
    np.testing.assert_array_equal(second.frames(), np.concatenate([a, b]))


def test_facts_that_a_disk_has_changed_are_measured_again(cached, paths, computed):
    cached.transform(paths)
    (index_file,) = cached.cache_dir.glob("*.sqlite")
    for damage in ("zeroblob(336)", "zeroblob(0)", "NULL", "'text'"):
        with closing(sqlite3.connect(index_file)) as index, index:
            index.execute(
                f"UPDATE clips SET facts = {damage} WHERE start = "
                "(SELECT min(start) FROM clips)"
            )
        computed.clear()
        assert_right(cached.transform(paths), paths)
        assert len(computed) == 1 + N_CLIPS  # one again, and those to compare with


@pytest.mark.parametrize("kind", [MemoryCache, FileCache])
def test_both_caches_behave_alike(tmp_path, kind):
    arguments = (tmp_path, "settings") if kind is FileCache else ()
    kept = kind(*arguments, 2, "float32")
    assert kept.frames().shape == (0, 2)
    frames = np.arange(10, dtype=np.float32).reshape(5, 2)
    kept.add(*with_facts({b"a": frames[:2]}))
    kept.add(*with_facts({}))
    kept.find([b"a", b"c"])
    kept.add(*with_facts({b"b": frames[2:]}))
    assert kept.places == {b"a": (0, 2), b"b": (2, 5)}
    assert {key: facts.tolist() for key, facts in kept.facts.items()} == {
        b"a": [1, 97],
        b"b": [1, 98],
    }
    np.testing.assert_array_equal(kept.frames(), frames)
    assert kept.frames().dtype == np.float32


# -- damage --------------------------------------------------------------------


def flip(file, bit):
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        byte = opened.read(1)[0]
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))


def count_flips(folder, pattern, n_flips, paths, seed=0):
    """Damage the files of a cache in many ways, one at a time; count what happens."""
    rng, happened = np.random.default_rng(seed), Counter()
    Short(cache_dir=folder / "good").transform(paths)
    expected = Short().transform(paths)
    (name,) = [file.name for file in (folder / "good").glob(pattern)]
    n_bits = 8 * (folder / "good" / name).stat().st_size
    for bit in rng.integers(n_bits, size=n_flips):
        shutil.copytree(folder / "good", folder / "bad", dirs_exist_ok=True)
        for file in (folder / "bad").iterdir():
            if not (folder / "good" / file.name).exists():
                file.unlink()
        flip(folder / "bad" / name, int(bit))
        try:
            X = Short(cache_dir=folder / "bad").transform(paths)
        except OSError:
            happened["refused"] += 1
            continue
        same = all(
            np.array_equal(X.log_mel(row), expected.log_mel(row))
            for row in range(len(paths))
        )
        happened["right" if same else "wrong"] += 1
    return happened


@pytest.mark.parametrize("pattern", ["*.float32", "*.sqlite"])
@pytest.mark.parametrize("n_flips", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_computed_again_or_refused(tmp_path, paths, pattern, n_flips):
    happened = count_flips(tmp_path, pattern, n_flips, paths[:2])
    assert happened["wrong"] == 0
    assert happened["right"] > n_flips / 2
    if pattern == "*.float32":
        assert happened["right"] == n_flips


def test_frames_that_were_damaged_are_computed_and_stored_again(
    cached, paths, computed
):
    cached.transform(paths)
    (data,) = cached.cache_dir.glob("*.float32")
    flip(data, 8 * 1000)
    computed.clear()
    assert_right(cached.transform(paths), paths)
    assert len(computed) - N_CLIPS == 1  # those of assert_right aside
    computed.clear()
    cached.transform(paths)
    assert not computed


# -- keys ----------------------------------------------------------------------


def test_content_of_one_kind_has_no_key_of_another(tmp_path):
    """Bytes of an array in a file, a file named as another's digest, and so on."""
    samples = np.arange(4, dtype=np.float32)
    file = tmp_path / "array"
    keys = []

    def add(source, **more):
        keys.append(cache._digest(Clips([source], **more)))

    add(samples)
    add(samples.astype(">f4"))
    add(samples.view(np.int32))
    add(samples.view(np.int16))
    add(samples.astype(np.float64))
    for rate in (44100, 44100.123456789, 44100.1234567891):
        add(samples, sample_rate=[rate])
    for content in (
        samples.tobytes(),
        repr(("<f4", (4,), np.nan)).encode() + samples.tobytes(),
        b"name",
        keys[0],
    ):
        file.write_bytes(content)
        add(str(file))
    for name in (b"gone", keys[0].replace(b"\0", b"0"), b"name"):
        add(os.fsdecode(name))
    assert len(set(keys)) == len(keys)
    add(samples, sample_rate=[None])
    assert keys[-1] == keys[0]


@dataclass(frozen=True)
class Filtered(View):
    taps: np.ndarray

    def waveform(self, sound):
        return np.convolve(sound.samples, self.taps).astype(np.float32)


def test_views_that_print_alike_have_keys_of_their_own():
    long = np.linspace(0, 1, 2000)
    taps = [
        long,
        np.where(np.arange(2000) == 1000, 0.5, long),  # printed as ...
        np.array([0.1, 0.2]),
        np.array([0.1, 0.2 + 1e-12]),
        np.array([0.1, 0.2], dtype=np.float32),
        [0.1, 0.2],
        (0.1, 0.2),
        "[0.1, 0.2]",
        1,
        1.0,
        True,
    ]
    keys = [Filtered("filtered", value).key() for value in taps]
    assert len(set(keys)) == len(taps)
    with np.printoptions(precision=2, threshold=5):
        assert [Filtered("filtered", value).key() for value in taps] == keys


def test_functions_that_close_over_another_type_have_keys_of_their_own():
    def view_of(value):
        return WaveformView(lambda samples, rate: samples * len(value), name="own")

    values = [[1, 2], (1, 2), {1: 2}, "12", b"12", np.array([1, 2])]
    assert len({view_of(value).key() for value in values}) == len(values)


def test_settings_that_print_alike_do_not_mix(tmp_path):
    values = [np.linspace(0, 1, 2000), np.linspace(0, 1, 2000) ** 1.01, 1, "1", True]
    names = {FileCache(tmp_path, v, 2, "float32").frames().shape for v in values}
    assert names == {(0, 2)}
    assert len(list(tmp_path.glob("*.sqlite"))) == len(values)


# -- files that are replaced ------------------------------------------------------


@pytest.mark.parametrize("n_views", [1, 3])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_file_replaced_after_it_was_digested_is_known_by_what_was_read(
    cached, paths, tmp_path, monkeypatch, n_views, n_jobs
):
    """Each reading of it finds another sound."""
    others = [write(tmp_path / f"other {n}.wav", 7 + n) for n in range(4)]
    copies = iter([shutil.copy(path, f"{path}.copy") for path in others])
    path, rates = paths[0], (1, 0.9, 1.1)[:n_views]

    def open_then_replace(clip):
        opened = open_clip(clip)
        with suppress(StopIteration):
            os.replace(next(copies), path)  # at once: another thread may read it
        return opened

    open_clip = front_end.open_clip
    monkeypatch.setattr(front_end, "open_clip", open_then_replace)
    first = path.read_bytes()
    segment = cached.set_params(n_jobs=n_jobs)
    got = segment.transform(expand([path], stretch_rates=rates))
    monkeypatch.setattr(front_end, "open_clip", open_clip)
    held = [first, *(other.read_bytes() for other in others)]
    found = []
    for content in held:  # what is stored of each is right
        path.write_bytes(content)
        fresh = Short().transform(expand([path], stretch_rates=rates))
        kept = segment.transform(expand([path], stretch_rates=rates))
        for view in range(n_views):
            np.testing.assert_array_equal(kept.log_mel(0, view), fresh.log_mel(0, view))
        found.append(
            all(
                np.array_equal(got.log_mel(0, view), fresh.log_mel(0, view))
                for view in range(n_views)
            )
        )
    assert sum(found) == 1  # all its views are of one of them


def test_files_replaced_all_the_time_poison_no_key(tmp_path, cached):
    contents = [write(tmp_path / "a.wav", seed).read_bytes() for seed in (1, 2)]
    path, stop = tmp_path / "a.wav", threading.Event()

    def replace():
        while not stop.is_set():
            for number, content in enumerate(contents):
                (tmp_path / "next").write_bytes(content)
                os.replace(tmp_path / "next", path)
                time.sleep(0.0005 * number)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for number in range(40):
            folder = cached.cache_dir / str(number)
            Short(cache_dir=folder).transform([path])
    finally:
        stop.set()
        thread.join()
    for content in contents:
        path.write_bytes(content)
        for folder in cached.cache_dir.iterdir():
            assert_right(Short(cache_dir=folder).transform([path]), [path])


# -- large caches -----------------------------------------------------------------


def test_a_large_cache_is_not_read_to_look_up_a_few_clips(tmp_path):
    """A million take as long; filling them in takes the test longer."""
    kept = FileCache(tmp_path, "settings", 1, "float32")
    kept.add(*with_facts({b"a": np.zeros((1, 1))}))
    (index_file,) = tmp_path.glob("*.sqlite")
    with closing(sqlite3.connect(index_file)) as index, index:
        rows = ((n.to_bytes(64), 0, 1, b"", n) for n in range(100_000))
        index.executemany("INSERT INTO clips VALUES (?, ?, ?, ?, ?)", rows)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        again = FileCache(tmp_path, "settings", 1, "float32")
        again.find([b"a", b"b"])
        seconds.append(time.perf_counter() - start)
        assert again.places == {b"a": (0, 1)}
    assert min(seconds) < 0.03
