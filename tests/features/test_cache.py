import functools
import multiprocessing
import shutil
import sqlite3
import threading
import time

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


def assert_right(X, paths, **settings):
    """The frames are those that are computed without a cache."""
    expected = Short(**settings).transform(paths)
    assert len(X) == len(paths)
    assert X.frames.dtype == expected.frames.dtype
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


def test_a_cache_of_an_earlier_version_is_found(tmp_path):
    """Its file is named by the settings; here by those of the first release."""
    LogMelSegmenter(cache_dir=tmp_path).transform([np.zeros(60_000)])
    assert (tmp_path / "log-mel-0d2905bbddbea287.sqlite").exists()


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
    FileCache(tmp_path, "settings", 2, "float32").add({b"first": frames})
    (index_file,) = tmp_path.glob("*.sqlite")
    (data_file,) = tmp_path.glob("*.float32")
    opened = []

    def open_cache():
        opened.append(FileCache(tmp_path, "settings", 2, "float32"))

    # What a process does that appends, held up before its last step.
    index = sqlite3.connect(index_file)
    index.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=open_cache)
    thread.start()
    time.sleep(0.2)
    assert not opened  # it waits
    with data_file.open("ab") as data:
        data.write(frames.tobytes())
    index.execute("INSERT INTO clips VALUES (?, 5, 10)", (b"second",))
    index.commit()
    index.close()
    thread.join(timeout=600)
    assert opened[0].places[b"second"] == (5, 10)


def test_caches_agree_on_where_a_clip_lies_whoever_added_it_first(tmp_path):
    first, second = (FileCache(tmp_path, "settings", 2, "float32") for _ in range(2))
    a, b = np.full((3, 2), 1.0), np.full((4, 2), 2.0)
    first.add({b"a": a})
    second.add({b"b": b, b"a": a})
    assert (second.places[b"a"], second.places[b"b"]) == ((0, 3), (3, 7))
    assert b"b" not in first.places  # it has not looked since
    np.testing.assert_array_equal(second.frames(), np.concatenate([a, b]))


@pytest.mark.parametrize("kind", [MemoryCache, FileCache])
def test_both_caches_behave_alike(tmp_path, kind):
    arguments = (tmp_path, "settings") if kind is FileCache else ()
    cache = kind(*arguments, 2, "float32")
    assert cache.frames().shape == (0, 2)
    frames = np.arange(10, dtype=np.float32).reshape(5, 2)
    cache.add({b"a": frames[:2]})
    cache.add({})
    cache.add({b"b": frames[2:]})
    assert cache.places[b"a"] == (0, 2)
    assert cache.places[b"b"] == (2, 5)
    assert b"c" not in cache.places
    np.testing.assert_array_equal(cache.frames(), frames)
    assert cache.frames().dtype == np.float32
