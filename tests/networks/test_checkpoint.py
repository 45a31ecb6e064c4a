import functools
import hashlib
import io
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sklearn_asd import (
    AugmentConfidenceDetector,
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
)
from sklearn_asd.networks import ArcFace
from sklearn_asd.networks.checkpoint import (
    UNRELATED_PARAMETERS,
    Checkpoint,
    name_training,
    open_checkpoint,
)


class Stop(Exception):
    pass


def make_clips(seed=0, n_views=1):
    rng = np.random.default_rng(seed)
    level = np.repeat([0.0, 3.0], 6 * 20 * n_views)[:, None]
    bounds = np.arange(0, 12 * 20 * n_views + 1, 20)
    return ClipSpectrograms(
        (rng.normal(size=(12 * 20 * n_views, 8)) + level).astype(np.float32),
        bounds[:-1].reshape(12, n_views),
        bounds[1:].reshape(12, n_views),
        machine_id=np.repeat(["00", "02"], 6),
        segment_frames=12,
        segment_hop_frames=8,
        view_names=["original", "other"][:n_views],
    )


PARAMETERS = {"batch_size": 5, "max_epochs": 4, "random_state": 0, "device": "cpu"}

DETECTORS = {
    "plain": lambda **p: IDConfidenceDetector(**PARAMETERS | p),
    "all options": lambda **p: IDConfidenceDetector(
        **PARAMETERS | p,
        network="inouet18",
        loss=ArcFace(n_sub_centers=2),
        mixup=0.5,
        random_starts=True,
        validation_fraction=0.3,
        weight_decay=0.01,
    ),
    "views": lambda **p: AugmentConfidenceDetector(**PARAMETERS | p),
    "autoencoder": lambda **p: AutoencoderDetector(n_hidden=8, **PARAMETERS | p),
    "interpolation": lambda **p: AutoencoderDetector(
        n_hidden=8, target="middle", **PARAMETERS | p
    ),
}


def clips_for(name):
    return make_clips(n_views=2 if name == "views" else 1)


def stop_at(monkeypatch, epoch, moment):
    """Stop the training right before or after an epoch is saved."""
    on_epoch_end, ends = Checkpoint.on_epoch_end, []

    def stop(self, net, **kwargs):
        ends.append(len(net.history))
        if moment == "after":
            on_epoch_end(self, net)
        if ends[-1] == epoch:
            raise Stop
        if moment == "before":
            on_epoch_end(self, net)

    monkeypatch.setattr(Checkpoint, "on_epoch_end", stop)
    return ends


def states(detector):
    states = detector.net_.module_.state_dict()
    centers = getattr(detector, "centers_", None)
    return states if centers is None else {**states, "c": torch.as_tensor(centers)}


def assert_equal(detector, expected):
    assert states(detector).keys() == states(expected).keys()
    for name, value in states(expected).items():
        assert torch.equal(states(detector)[name], value), name
    columns = [c for c in expected.history_ if c != "seconds"]
    assert detector.history_[columns].equals(expected.history_[columns])
    assert detector.offset_ == expected.offset_


@functools.cache
def uninterrupted(name):
    return DETECTORS[name]().fit(clips_for(name))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("epoch", "moment"), [(1, "before"), (2, "after"), (4, "before"), (4, "after")]
)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    tmp_path, monkeypatch, name, moment, epoch
):
    make = functools.partial(
        DETECTORS[name], checkpoint_dir=tmp_path / "new" / "folder"
    )
    with monkeypatch.context() as patch:
        stop_at(patch, epoch, moment)
        with pytest.raises(Stop):
            make().fit(clips_for(name))
    ends = stop_at(monkeypatch, None, "after")
    detector = make().fit(clips_for(name))
    assert_equal(detector, uninterrupted(name))
    assert ends == list(range(epoch + (moment == "after"), 5))  # none is done twice
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("name", DETECTORS)
def test_checkpoints_change_nothing_and_are_removed(tmp_path, name):
    detector = DETECTORS[name](checkpoint_dir=tmp_path).fit(clips_for(name))
    assert_equal(detector, uninterrupted(name))
    assert list(tmp_path.iterdir()) == []
    assert len(pickle.dumps(detector)) < len(pickle.dumps(uninterrupted(name))) + 500


def write(state, path):
    """Write a checkpoint with the digest of what is in it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path.write_bytes(hashlib.blake2b(data, digest_size=32).digest() + data)


def read(path):
    return torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)


def leave_one(folder, monkeypatch):
    """A checkpoint of a training that was stopped."""
    with monkeypatch.context() as patch:
        stop_at(patch, 2, "after")
        with pytest.raises(Stop):
            DETECTORS["plain"](checkpoint_dir=folder).fit(make_clips())
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.01}, {"random_state": 1}, {"max_epochs": 3}, {"batch_size": 6}, "clips"],
    ids=str,
)
def test_the_checkpoint_of_another_fit_is_left_alone(tmp_path, monkeypatch, change):
    path = leave_one(tmp_path, monkeypatch)
    before = path.read_bytes()
    X = make_clips(seed=1) if change == "clips" else make_clips()
    parameters = {} if change == "clips" else change
    ends = stop_at(monkeypatch, None, "after")
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path, **parameters).fit(X)
    assert ends[0] == 1
    assert_equal(detector, DETECTORS["plain"](**parameters).fit(X))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change", [{"contamination": 0.3}, {"verbose": 1}, {"confidence": "msp"}, "memmap"]
)
def test_what_does_not_matter_to_training_does_not_matter(
    tmp_path, monkeypatch, change
):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    leave_one(folder, monkeypatch)
    X, parameters = make_clips(), {}
    if change == "memmap":  # in a file with other clips before and after
        padded = np.concatenate([X.frames[:7], X.frames, X.frames[:9]])
        np.save(tmp_path / "frames.npy", padded)
        frames = np.load(tmp_path / "frames.npy", mmap_mode="r")
        X = X._with(frames=frames, starts=X.starts + 7, stops=X.stops + 7)
    else:
        parameters = change
    ends = stop_at(monkeypatch, None, "after")
    DETECTORS["plain"](checkpoint_dir=folder, **parameters).fit(X)
    assert ends == [3, 4]


class Hostile:
    """Makes a file when it is unpickled by a loader that trusts."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("damage", ["cut", "text", "nothing", "hostile", "other"])
def test_a_checkpoint_that_cannot_be_read_is_warned_of_and_runs_no_code(
    tmp_path, monkeypatch, damage
):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = leave_one(folder, monkeypatch)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "hostile":
        write({"format": 2, "module": Hostile(tmp_path / "run")}, path)
    elif damage == "other":
        write({"format": 99}, path)
    else:
        path.write_text("" if damage == "nothing" else "no checkpoint")
    message = r"checkpoint '.*\.pt' cannot be read \(.*\): training starts again"
    with pytest.warns(UserWarning, match=message):
        detector = DETECTORS["plain"](checkpoint_dir=folder).fit(make_clips())
    assert_equal(detector, uninterrupted("plain"))
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_a_checkpoint_under_a_wrong_name_is_refused(tmp_path, monkeypatch):
    path = leave_one(tmp_path, monkeypatch)
    state = read(path)
    del state["module"]["classify.weight"]
    write(state, path)
    with pytest.raises(ValueError, match=r"is not of this training, .*: delete it"):
        DETECTORS["plain"](checkpoint_dir=tmp_path).fit(make_clips())


def test_a_disk_that_is_full_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    save, saved = torch.save, []

    def fill(state, file):
        if len(saved) == 2:
            file.write(b"part")
            raise OSError(28, "No space left on device")
        saved.append(state)
        save(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill)
        with pytest.raises(
            OSError, match=r"No space left on device\): free some space"
        ):
            DETECTORS["plain"](checkpoint_dir=tmp_path).fit(make_clips())
    assert len(list(tmp_path.iterdir())) == 1
    ends = stop_at(monkeypatch, None, "after")
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path).fit(make_clips())
    assert ends == [3, 4]
    assert_equal(detector, uninterrupted("plain"))


def test_a_fit_that_another_process_finishes_meanwhile_goes_on(tmp_path, monkeypatch):
    save = torch.save

    def save_and_finish(state, file):
        save(state, file)
        for path in tmp_path.iterdir():  # as Checkpoint.remove does
            path.unlink()

    monkeypatch.setattr(torch, "save", save_and_finish)
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path).fit(make_clips())
    assert_equal(detector, uninterrupted("plain"))


def test_a_training_goes_on_where_there_are_fewer_gpus(tmp_path, monkeypatch):
    path = leave_one(tmp_path, monkeypatch)
    state = read(path)
    state["generators"]["cuda:98"] = torch.get_rng_state()
    write(state, path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path).fit(make_clips())
    assert_equal(detector, uninterrupted("plain"))


def name(labels=None, net=("cpu", False), **parameters):
    """Name a training whose network has come to a device and a precision."""
    detector = DETECTORS["plain"]().set_params(**parameters)
    detector.net_ = SimpleNamespace(device=net[0], autocast=net[1])
    return name_training(detector, make_clips(), labels)


def test_a_training_is_named_by_all_parameters_but_those_that_do_not_matter():
    labels = ["a"] * 12
    expected = name(labels)
    assert name(np.array(labels)) == expected
    assert name(labels, random_state=np.int64(0)) == expected
    for parameter in DETECTORS["plain"]().get_params():
        same = parameter in UNRELATED_PARAMETERS
        changed = name(labels, **{parameter: 7})
        assert (changed == expected) == same, parameter
    assert name(["b"] * 12) != expected
    assert name() != expected


def test_a_training_is_named_by_the_device_and_precision_that_it_came_to():
    nets = [("cpu", False), ("cpu", True), ("cuda", False), ("cuda", True)]
    assert len({name(net=net) for net in nets}) == 4
    assert name(net=("cuda:1", True)) == name(net=("cuda", True))  # another GPU
    for parameter, value in (("device", "auto"), ("precision", "auto")):
        assert name(**{parameter: value}) == name()  # what "auto" came to


def test_a_training_of_another_precision_does_not_go_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sklearn_asd.networks.training.uses_bfloat16", lambda *_: True)
        path = leave_one(tmp_path, monkeypatch)
    before = path.read_bytes()
    ends = stop_at(monkeypatch, None, "after")
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path).fit(make_clips())
    assert ends[0] == 1
    assert_equal(detector, uninterrupted("plain"))
    assert path.read_bytes() == before


def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path, monkeypatch):
    path = leave_one(tmp_path, monkeypatch)
    checkpoint = Checkpoint(tmp_path, path.stem.removeprefix("training-"))
    assert checkpoint.load() is not None
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place in [*range(100), *rng.integers(len(data), size=200)]:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.warns(UserWarning, match="its checksum does not match"):
            assert checkpoint.load() is None


def test_without_a_folder_there_is_no_checkpoint(tmp_path):
    assert open_checkpoint(DETECTORS["plain"](random_state=None), make_clips()) is None
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path)
    detector.net_ = SimpleNamespace(device="cpu")
    kept = open_checkpoint(detector, make_clips())
    assert kept.path.parent == tmp_path


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_without_an_integer_random_state_no_fit_is_the_same(tmp_path, random_state):
    detector = DETECTORS["plain"](checkpoint_dir=tmp_path, random_state=random_state)
    with pytest.raises(
        ValueError, match="checkpoint_dir needs an integer random_state"
    ):
        detector.fit(make_clips())


def test_a_network_without_a_name_is_refused(tmp_path):
    from sklearn_asd.networks import PVMilk20

    detector = IDConfidenceDetector(
        network=lambda **sizes: PVMilk20(**sizes), checkpoint_dir=tmp_path, **PARAMETERS
    )
    with pytest.raises(ValueError, match="a parameter cannot be pickled .*: define"):
        detector.fit(make_clips())


def test_fits_within_others_have_checkpoints_of_their_own(tmp_path):
    near = EmbeddingNeighborDetector(DETECTORS["plain"](checkpoint_dir=tmp_path))
    members = [
        ("near", near),
        ("code", DETECTORS["autoencoder"](checkpoint_dir=tmp_path)),
    ]
    with_ = GammaProbabilityEnsemble(members, calibration_cv=2).fit(make_clips())
    without = GammaProbabilityEnsemble(members, calibration_cv=2)
    without.set_params(near__encoder__checkpoint_dir=None, code__checkpoint_dir=None)
    X = make_clips(seed=2)
    np.testing.assert_array_equal(
        with_.score_samples(X), without.fit(make_clips()).score_samples(X)
    )
    assert list(tmp_path.iterdir()) == []
