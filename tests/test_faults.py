"""Processes that are killed or interrupted, disks that are full, caches that vanish.

Real signals to real processes. They are forked from a server that has imported the
library already, so that each takes a fraction of a second.
"""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import suppress

import joblib
import numpy as np
import pytest
import soundfile
import torch

from sklearn_asd import (
    AutoencoderDetector,
    ClipSpectrograms,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    ThresholdTuner,
)
from sklearn_asd.features import front_end
from sklearn_asd.features.cache import FileCache

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

RATE = 16000


@pytest.fixture(scope="module")
def start():
    """Start a function in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # Public names are imported when they are used, so this names what has been, and
    # what torch imports when it trains.
    used = [name for name in sys.modules if name.startswith("sklearn_asd.")]
    context.set_forkserver_preload(["pytest", "torch._dynamo", *used])

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start


def finish(process):
    process.join(timeout=600)
    return process.exitcode


def wait_for(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# -- Ctrl-C ----------------------------------------------------------------------


def make_clips(n=24, n_frames=60):
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 3.0], n // 2)[:, None, None]
    return ClipSpectrograms.from_arrays(
        rng.normal(size=(n, 8, n_frames)) + level,
        machine_type=["fan"] * n,
        machine_id=np.repeat(["00", "02"], n // 2),
        segment_frames=12,
        segment_hop_frames=4,
    )


def make_detector(kind, max_epochs):
    torch.set_num_threads(1)
    parameters = {"max_epochs": max_epochs, "batch_size": 16, "random_state": 0}
    if kind == "autoencoder":
        return AutoencoderDetector(**parameters)
    network = IDConfidenceDetector(**parameters)
    if kind == "ensemble":
        return GammaProbabilityEnsemble([("id", network)])
    if kind == "tuner":
        return ThresholdTuner(network, "f1", random_state=0)
    if kind == "only types":
        return OnlyMachineTypes(network, "fan")
    if kind == "per machine":
        return PerMachine(AutoencoderDetector(**parameters))
    return network


def fit_until_interrupted(kind, before, started, out):
    """Fit for ever; store what Ctrl-C leaves of an estimator, fitted before or not."""
    # A shell has what runs in its background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    detector = make_detector(kind, 1)
    X, y = make_clips(), np.array([1] * 22 + [-1] * 2)
    if before == "fitted":
        detector.fit(X, y)
    forever = {k: 10**6 for k in detector.get_params() if k.endswith("max_epochs")}
    detector.set_params(**forever)
    names, scores = set(vars(detector)), None
    if before == "fitted":
        scores = detector.score_samples(X)
    started.touch()
    raised, remains = False, None
    try:
        detector.fit(X, y)
    except KeyboardInterrupt:
        raised = True
        remains = set(vars(detector)) == names
        if before == "fitted":
            remains &= np.array_equal(detector.score_samples(X), scores)
    joblib.dump((raised, remains), out)


@pytest.mark.parametrize("before", ["unfitted", "fitted"])
@pytest.mark.parametrize(
    "kind", ["id", "autoencoder", "ensemble", "tuner", "only types", "per machine"]
)
def test_ctrl_c_is_raised_and_leaves_an_estimator_as_it_was(
    start, tmp_path, kind, before
):
    started, out = tmp_path / "started", tmp_path / "out"
    process = start(fit_until_interrupted, kind, before, started, out)
    wait_for(started.exists)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    assert finish(process) == 0
    assert joblib.load(out) == (True, True)


def test_an_error_after_the_training_leaves_an_estimator_as_it_was(monkeypatch):
    detector = make_detector("id", 1).fit(make_clips())
    net, offset = detector.net_, detector.offset_

    def fail(self, X):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(IDConfidenceDetector, "score_samples", fail)
        with pytest.raises(MemoryError):
            detector.fit(make_clips()[::2])
    assert (detector.net_, detector.offset_) == (net, offset)
    numbers = MahalanobisDetector().fit(np.eye(4))
    with pytest.raises(ValueError, match="1 rows as normal"):
        numbers.fit(np.zeros((2 + 1, 2)), [1, -1, -1])
    assert numbers.n_features_in_ == 4


# -- SIGKILL in training ---------------------------------------------------------


def train(folder, out, kind, moment):
    """Fit with checkpoints, and die at some moment, or store the weights."""
    parameters = {"validation_fraction": 0.25, "mixup": 0.5, "random_starts": True}
    detector = make_detector(kind, 6).set_params(checkpoint_dir=folder)
    if kind == "id":
        detector.set_params(**parameters)
    if moment:
        die_at(*moment)
    detector.fit(make_clips())
    history = detector.history_.drop(columns="seconds").to_numpy()
    centers = getattr(detector, "centers_", None)
    joblib.dump((detector.net_.module_.state_dict(), centers, history), out)


def die_at(where, number):
    """Kill this very process in the middle of the call of that number."""
    calls = []

    def dying(function, begin=lambda *arguments: None):
        def call(*arguments, **keywords):
            calls.append(None)
            if len(calls) == number:
                begin(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return call

    def write_half(state, file):
        file.write(b"half of a checkpoint")
        file.flush()

    if where == "batch":
        torch.optim.Adam.step = dying(torch.optim.Adam.step)
        torch.optim.AdamW.step = dying(torch.optim.AdamW.step)
    elif where == "write":
        torch.save = dying(torch.save, write_half)
    elif where == "before rename":
        os.replace = dying(os.replace)
    elif where == "after rename":
        replace = os.replace
        os.replace = dying(lambda *a: None, begin=replace)
        # The calls that live on must rename too.
        os.replace = _rename_then(os.replace, replace, calls, number)


def _rename_then(dying, replace, calls, number):
    def call(*arguments):
        if len(calls) + 1 == number:
            return dying(*arguments)
        calls.append(None)
        return replace(*arguments)

    return call


MOMENTS = [
    ("batch", 1),
    ("batch", 40),
    ("write", 1),
    ("write", 3),
    ("before rename", 2),
    ("after rename", 2),
    ("after rename", 6),
]


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    results = {}
    for kind in ("id", "autoencoder"):
        out = folder / kind
        assert finish(start(train, None, out, kind, None)) == 0
        results[kind] = joblib.load(out)
    return results


def assert_same_training(out, expected):
    states, centers, history = joblib.load(out)
    assert states.keys() == expected[0].keys()
    assert all(torch.equal(states[name], expected[0][name]) for name in states)
    np.testing.assert_array_equal(centers, expected[1])
    np.testing.assert_array_equal(history, expected[2])


@pytest.mark.parametrize(
    ("kind", "moment"),
    [("id", moment) for moment in MOMENTS] + [("autoencoder", ("batch", 40))],
    ids=str,
)
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(
    start, tmp_path, uninterrupted, kind, moment
):
    folder, out = tmp_path / "checkpoints", tmp_path / "out"
    assert finish(start(train, folder, out, kind, moment)) == -signal.SIGKILL
    assert finish(start(train, folder, out, kind, None)) == 0
    assert_same_training(out, uninterrupted[kind])
    assert list(folder.iterdir()) == []


def test_a_training_killed_again_and_again_ends_with_the_same_weights(
    start, tmp_path, uninterrupted
):
    folder, out = tmp_path / "checkpoints", tmp_path / "out"
    rng, n_kills = np.random.default_rng(0), 0
    while True:
        process = start(train, folder, out, "id", None)
        process.join(timeout=0.5 * 1.4**n_kills * rng.uniform(0.8, 1.2))
        if process.exitcode is not None:
            break
        process.kill()
        if finish(process) == 0:  # just before
            break
        assert process.exitcode == -signal.SIGKILL
        n_kills += 1
    assert process.exitcode == 0
    assert n_kills
    assert_same_training(out, uninterrupted["id"])


# -- the cache -------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path):
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(scale=0.1, size=5000 + 700 * seed)
        soundfile.write(tmp_path / f"{seed}.wav", noise, RATE)
    return [tmp_path / f"{seed}.wav" for seed in range(6)]


def segment(**parameters):
    return LogMelSegmenter(
        segment_duration=0.256, segment_hop=0.128, n_mels=32, **parameters
    )


def assert_right(X, paths):
    expected = segment().transform(paths)
    for clip in range(len(paths)):
        np.testing.assert_array_equal(X.log_mel(clip), expected.log_mel(clip))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB, of which only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=256k tmpfs {folder}"):
        pytest.skip("this user may not mount a small file system")
    yield folder
    assert os.system(f"umount {folder}") == 0


def test_a_disk_that_is_full_is_an_error_and_what_was_stored_stays_right(
    tiny_disk, paths, computed
):
    cached = segment(cache_dir=tiny_disk)
    cached.transform(paths[:2])
    filler = tiny_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    message = r"cache_dir '.*disk' cannot be used \(.*(No space|full).*\).*; or set cac"
    with pytest.raises(OSError, match=message):
        cached.transform(paths)
    assert_right(cached.transform(paths[:2]), paths[:2])
    filler.unlink()
    computed.clear()
    assert_right(cached.transform(paths), paths)


@pytest.mark.parametrize("n_written", [0, 1, 5000])
def test_a_write_that_fails_half_way_stores_nothing(
    tmp_path, paths, monkeypatch, n_written
):
    cached = segment(cache_dir=tmp_path / "cache")
    cached.transform(paths[:2])

    def fail(self, clips, start):
        with self._data.open("r+b") as data:
            data.seek(start * self._bytes_per_frame)
            data.write(b"\xff" * n_written)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FileCache, "_append", fail)
        with pytest.raises(OSError, match="No space left on device"):
            cached.transform(paths)
    assert_right(cached.transform(paths[1:]), paths[1:])
    assert_right(cached.transform(paths), paths)


def lose(folder, lost):
    if lost == "folder":
        shutil.rmtree(folder)
    else:
        (file,) = folder.glob(lost)
        file.unlink()


@pytest.mark.parametrize("lost", ["folder", "*.float32", "*.sqlite"])
@pytest.mark.parametrize("refilled", [False, True])
@pytest.mark.parametrize("n_wanted", [3, 6])  # all known, or half of them
def test_a_cache_that_is_deleted_while_in_use_is_an_error_and_no_wrong_frames(
    tmp_path, paths, monkeypatch, lost, refilled, n_wanted
):
    """Another process may have put other clips where the known ones were."""
    folder, wanted = tmp_path / "cache", paths[:n_wanted]
    segment(cache_dir=folder).transform(paths[:3])
    open_cache = LogMelSegmenter._open_cache

    def open_then_lose(self):
        monkeypatch.setattr(LogMelSegmenter, "_open_cache", open_cache)
        cache = open_cache(self)
        lose(folder, lost)
        if refilled:
            segment(cache_dir=folder).transform(paths[:2:-1])
        return cache

    monkeypatch.setattr(LogMelSegmenter, "_open_cache", open_then_lose)
    message = r"it was deleted or replaced while in use\).*, and run again; or set"
    with pytest.raises(OSError, match=message):
        segment(cache_dir=folder).transform(wanted)
    assert_right(segment(cache_dir=folder).transform(paths), paths)


def test_what_was_read_stays_right_when_the_cache_is_deleted_and_refilled(
    tmp_path, paths
):
    folder = tmp_path / "cache"
    X = segment(cache_dir=folder).transform(paths[:3])
    for lost in ("*.sqlite", "*.float32", "folder"):
        lose(folder, lost)
        segment(cache_dir=folder).transform(paths[:2:-1])
        assert_right(X, paths[:3])


@pytest.mark.parametrize("damage", [b"no database", b""])
def test_an_index_that_is_damaged_is_an_error_or_begins_anew(tmp_path, paths, damage):
    folder = tmp_path / "cache"
    segment(cache_dir=folder).transform(paths[:3])
    (index,) = folder.glob("*.sqlite")
    index.write_bytes(damage * 100)
    if damage:
        with pytest.raises(OSError, match=r"cannot be used \(file is not.*delete the"):
            segment(cache_dir=folder).transform(paths)
        shutil.rmtree(folder)
    assert_right(segment(cache_dir=folder).transform(paths), paths)


def fill_until_killed(folder, paths, number):
    """Die after the frames of some append are written, and before they are indexed."""
    append, calls = FileCache._append, []

    def dying(self, clips, start):
        added = append(self, clips, start)
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return added

    FileCache._append = dying
    front_end._VIEWS_AT_ONCE = 2
    segment(cache_dir=folder).transform(paths)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_process_killed_while_it_stores_leaves_a_cache_that_is_right(
    start, tmp_path, paths, number
):
    folder = tmp_path / "cache"
    process = start(fill_until_killed, folder, paths, number)
    assert finish(process) == -signal.SIGKILL
    (index,) = folder.glob("*.sqlite")
    with sqlite3.connect(index) as connection:
        (n_stored,) = connection.execute("SELECT count(*) FROM clips").fetchone()
    assert n_stored == 2 * (number - 1)
    assert_right(segment(cache_dir=folder).transform(paths[::-1]), paths[::-1])


# -- workers ---------------------------------------------------------------------


class Deadly:
    """Samples that kill the worker that reads them, once a file is there."""

    ndim = 1

    def __init__(self, flag):
        self.flag, self.parent = flag, os.getpid()

    def __len__(self):
        return 5000

    def __array__(self, dtype=None, copy=None):
        if os.getpid() != self.parent:
            if self.flag.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            self.flag.touch()
        return np.zeros(5000)


@pytest.mark.filterwarnings("ignore:A worker:UserWarning")
@pytest.mark.parametrize("stage", ["without cache", "digesting", "reading"])
def test_a_killed_worker_is_reported_with_what_remains(
    tmp_path, paths, monkeypatch, computed, stage
):
    monkeypatch.setattr(front_end, "_VIEWS_AT_ONCE", 2)
    folder = None if stage == "without cache" else tmp_path / "cache"
    if stage != "reading":
        (tmp_path / "flag").touch()
    X = [str(path) for path in paths[:4]]
    X += [Deadly(tmp_path / "flag"), str(paths[5])]
    n_done, first = (0, "clip 0 .0.wav.") if stage == "digesting" else (4, "clip 4")
    kept = r"cache_dir=\S*cache'\)? are kept" if folder else "cache_dir=None are lost"
    message = (
        rf"a worker process was killed.* between {first} and clip 5 \(5.wav\). "
        f"{n_done} clips were done before, and with {kept}: lower n_jobs, and run again"
    )
    with (
        joblib.parallel_config("loky", n_jobs=2),
        pytest.raises(RuntimeError, match=message),
    ):
        segment(cache_dir=folder).transform(np.array(X, dtype=object))
    if stage == "reading":
        assert_right(segment(cache_dir=folder).transform(paths[:4]), paths[:4])
        assert computed == [5000 + 700 * n for n in range(4)]  # by assert_right alone
