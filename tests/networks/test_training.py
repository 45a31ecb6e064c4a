import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_asd import ClipSpectrograms
from sklearn_asd.features import Windows
from sklearn_asd.networks import ArcFace, PVMilk20
from sklearn_asd.networks.best_epoch import KeepBestEpoch
from sklearn_asd.networks.devices import choose_device, uses_bfloat16
from sklearn_asd.networks.training import (
    EqualBatches,
    build_classifier,
    check_network,
    fit_net,
    make_net,
)
from sklearn_asd.networks.windows import (
    WindowDataset,
    average_segments,
    gather,
    predict_windows,
    summarize_windows,
)

PARAMETERS = {
    "n_classes": 2,
    "n_mels": 8,
    "n_frames": 12,
    "n_windows": 20,
    "center_loss_weight": 0.1,
    "center_lr": 0.5,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 8,
    "max_epochs": 3,
    "device": "cpu",
    "precision": "float32",
    "verbose": 0,
}


@pytest.fixture
def spectrograms():
    """20 clips of 20 frames, of two machines that differ in level."""
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 3.0], 10)[:, None, None]
    return ClipSpectrograms.from_arrays(
        rng.normal(size=(20, 8, 20)) + level,
        machine_id=np.repeat(["00", "02"], 10),
        segment_frames=12,
        segment_hop_frames=12,
    )


@pytest.fixture
def dataset(spectrograms):
    return WindowDataset(spectrograms, spectrograms.windows(), np.repeat([0, 1], 10))


def test_a_batch_is_the_windows_asked_for_with_mel_bands_first():
    frames = np.arange(40.0).reshape(20, 2)  # frame t holds 2 t and 2 t + 1
    batch = gather(frames, np.array([0, 7]), 3)
    expected = [[[0, 2, 4], [1, 3, 5]], [[14, 16, 18], [15, 17, 19]]]
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch, expected)


def test_a_dataset_gathers_windows_with_their_classes(spectrograms, dataset):
    log_mel, y = dataset.__getitems__([0, 19])
    np.testing.assert_array_equal(log_mel[1], spectrograms.log_mel(19)[:, :12])
    assert y.tolist() == [0, 1]


def test_a_dataset_that_holds_its_frames_itself_gives_the_same_batches(spectrograms):
    def gather_all(room):
        X = spectrograms[[3, 12, 5]]
        dataset = WindowDataset(X, X.windows(), np.arange(3))
        dataset.hold_frames(room)
        return dataset.frames, dataset.__getitems__([2, 0, 1])

    n_bytes = 3 * 12 * 8 * spectrograms.frames.itemsize
    frames, (log_mel, y) = gather_all(n_bytes - 1)
    assert frames is spectrograms.frames
    held, (held_log_mel, held_y) = gather_all(n_bytes)
    assert isinstance(held, torch.Tensor)
    assert held.shape == (3 * 12, 8)  # of 20 frames, 12 lie in a window
    torch.testing.assert_close(held_log_mel, log_mel, atol=0, rtol=0)
    assert held_y.tolist() == y.tolist() == [2, 0, 1]


def test_longer_windows_are_cut_at_random_to_the_shortest():
    log_mels = [np.arange(5.0)[None], np.arange(9.0)[None]]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    dataset = WindowDataset(X, X.windows(), np.array([0, 1]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batches = [dataset.__getitems__([0, 1])[0][:, 0].numpy() for _ in range(99)]
    for short, long in batches:
        np.testing.assert_array_equal(short, np.arange(5.0))
        np.testing.assert_array_equal(long, long[0] + np.arange(5.0))
    assert {float(long[0]) for _, long in batches} == {0, 1, 2, 3, 4}


def test_one_short_clip_among_long_ones_is_warned_of():
    log_mels = [np.zeros((1, n)) for n in (4, 10, 12)]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    with pytest.warns(
        UserWarning, match="shortest training clip, or view of one, has 4 frames"
    ):
        WindowDataset(X, X.windows(), np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("n_windows", "batch_size", "sizes"),
    [(20, 8, {6, 7}), (13, 4, {3, 4}), (993, 32, {31, 32}), (5, 8, {5}), (1, 8, {1})],
)
def test_an_epoch_is_cut_into_equal_batches(n_windows, batch_size, sizes):
    batches = list(EqualBatches(n_windows, batch_size))
    assert {len(batch) for batch in batches} == sizes
    assert sorted(itertools.chain(*batches)) == list(range(n_windows))
    assert len(EqualBatches(n_windows, batch_size)) == len(batches)


def test_training_learns_and_keeps_a_history(dataset):
    net = make_net("pvmilk20", **PARAMETERS | {"max_epochs": 30})
    history, centers = fit_net(net, dataset, seed=0)
    assert list(history) == ["epoch", "train_loss", "seconds", "kept"]
    assert history["epoch"].tolist() == list(range(1, 31))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2
    assert history.loc[history["kept"], "epoch"].tolist() == [30]
    assert centers.shape == (2, 128)
    assert np.isfinite(centers).all()


def test_one_forward_and_one_backward_pass_for_each_batch(dataset):
    passes = {"forward": 0, "backward": 0}

    class Counting(PVMilk20):
        def forward(self, log_mel):
            if self.training:
                passes["forward"] += 1
                log_mel.requires_grad_().register_hook(self.count)
            return super().forward(log_mel)

        def count(self, gradient):
            passes["backward"] += 1

    fit_net(make_net(Counting, **PARAMETERS), dataset, seed=0)
    assert passes == {"forward": 9, "backward": 9}  # 3 epochs of 3 batches


def test_the_seed_alone_decides_and_global_generators_are_untouched(dataset):
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    losses = [
        fit_net(make_net("pvmilk20", **PARAMETERS), dataset, seed=seed)[0]["train_loss"]
        for seed in (0, 0, 1)
    ]
    assert losses[0].equals(losses[1])
    assert not losses[0].equals(losses[2])
    torch.testing.assert_close(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_fits_in_several_threads_are_the_fits_of_one(dataset):
    def fit(seed):
        net = make_net("pvmilk20", **PARAMETERS)
        return fit_net(net, dataset, seed)[0]["train_loss"].tolist()

    seeds = [0, 1, 2, 3]
    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_allclose(
            list(threads.map(fit, seeds)), [fit(seed) for seed in seeds], rtol=1e-5
        )


def test_the_epoch_that_classifies_held_out_clips_best_is_restored(
    spectrograms, dataset, monkeypatch
):
    states, accuracies = [], iter([0.5, 0.9, 0.9, 0.7])
    losses = iter([1.0, 0.5, 0.4, 0.3])
    validation = KeepBestEpoch(spectrograms, np.repeat([[0], [1]], 10, axis=0))

    def rate(net):
        states.append(net.module_.state_dict()["classify.weight"].clone())
        return next(accuracies), next(losses)

    monkeypatch.setattr(validation, "rate", rate)
    net = make_net("pvmilk20", **PARAMETERS | {"max_epochs": 4})
    history, _ = fit_net(net, dataset, 0, validation)
    assert history["valid_accuracy"].tolist() == [0.5, 0.9, 0.9, 0.7]
    assert history.loc[history["kept"], "epoch"].tolist() == [3]  # the lower loss
    torch.testing.assert_close(net.module_.classify.weight, states[2])
    assert not torch.equal(states[2], states[3])


def test_validation_rates_clips_not_segments(spectrograms):
    """A clip with one segment right for sure and one barely wrong is recognised."""
    X = ClipSpectrograms.from_arrays(
        np.zeros((2, 1, 4)), segment_frames=2, segment_hop_frames=2
    )
    logits = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.2, 0.8]])
    net = FixedNet(logits)
    accuracy, loss = KeepBestEpoch(X, np.array([[0], [1]])).rate(net)
    assert accuracy == 1.0
    assert loss == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.8]).mean(), abs=1e-6)


class FixedNet:
    """Stands in for a skorch net; returns its logits in order."""

    device = "cpu"

    def __init__(self, logits):
        self.logits = torch.tensor(logits, dtype=torch.float32)
        self.module_ = self

    def eval(self):
        return self

    def __call__(self, log_mel):
        return self.logits, torch.zeros(len(log_mel), 1)


def test_validation_rates_every_view_of_a_clip():
    X = ClipSpectrograms(
        np.zeros((6, 1)),
        [[0, 2], [2, 4]],
        [[2, 4], [4, 6]],
        segment_frames=2,
        segment_hop_frames=2,
        view_names=("original", "other"),
    )
    net = FixedNet(np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.2, 0.8]]))
    accuracy, loss = KeepBestEpoch(X, np.array([[0, 1], [0, 1]])).rate(net)
    assert accuracy == 3 / 4
    assert loss == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.2, 0.8])))


def test_weight_decay_shrinks_the_weights(dataset):
    sizes = []
    for weight_decay in (0.0, 10.0):
        net = make_net("pvmilk20", **PARAMETERS | {"weight_decay": weight_decay})
        fit_net(net, dataset, seed=0)
        sizes.append(sum(p.square().sum().item() for p in net.module_.parameters()))
    assert sizes[1] < sizes[0]


def test_windows_of_mixed_lengths_come_back_in_order(dataset):
    net = make_net("pvmilk20", **PARAMETERS)
    fit_net(net, dataset, seed=0)
    rng = np.random.default_rng(0)
    log_mels = [rng.normal(size=(8, n)) for n in (12, 30, 12, 17, 30)]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    together = predict_windows(net, X, X.windows())
    for clip in range(5):
        alone = predict_windows(net, X[clip], X[clip].windows())
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_[clip], atol=1e-5)


def test_no_windows_give_empty_predictions(spectrograms, dataset):
    net = make_net("pvmilk20", **PARAMETERS)
    fit_net(net, dataset, seed=0)
    windows = spectrograms[:0].windows()
    logits, embedding = predict_windows(net, spectrograms, windows)
    assert logits.shape == (0, 2)
    assert embedding.shape == (0, 128)


@pytest.mark.parametrize("n_at_once", [1, 7, 19, 20, 100])
def test_windows_are_summarized_a_few_at_a_time(
    spectrograms, dataset, monkeypatch, n_at_once
):
    net = make_net("pvmilk20", **PARAMETERS)
    fit_net(net, dataset, seed=0)
    windows = spectrograms.windows()
    logits, embedding = predict_windows(net, spectrograms, windows)
    module = "sklearn_asd.networks.windows._WINDOWS_SUMMARIZED_AT_ONCE"
    monkeypatch.setattr(module, n_at_once)
    calls = []

    def summarize(logits, embedding, rows):
        calls.append(windows.clip[rows].tolist())
        return np.hstack([logits, embedding])

    summary = summarize_windows(net, spectrograms, windows, summarize)
    assert max(map(len, calls)) == min(n_at_once, 20)
    assert list(itertools.chain(*calls)) == windows.clip.tolist()
    np.testing.assert_allclose(summary, np.hstack([logits, embedding]), atol=1e-5)


def test_averages_of_views_by_hand():
    values = np.array([[1.0, 10.0], [3.0, 20.0], [5.0, 0.0], [7.0, 7.0]])
    nowhere = np.zeros(4, dtype=int)
    windows = Windows(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]), nowhere, nowhere)
    means = average_segments(values, windows, n_clips=3, n_views=2)
    missing = [np.nan, np.nan]
    np.testing.assert_array_equal(
        means, [[[2, 15], [5, 0]], [missing, missing], [missing, [7, 7]]]
    )


def test_a_network_that_breaks_the_contract_is_explained():
    class Bare(nn.Module):
        def __init__(self, n_classes, n_mels):
            super().__init__()
            self.dense = nn.Linear(n_mels, n_classes)

        def forward(self, log_mel):
            return self.dense(log_mel.mean(dim=2))

    with pytest.raises(ValueError, match=r"Bare must return a tuple \(logits, embed"):
        check_network(Bare, n_classes=3, n_mels=8, n_frames=12)
    with pytest.raises(ValueError, match="at least 9 frames, got 8"):
        check_network(PVMilk20, n_classes=3, n_mels=8, n_frames=8)
    assert check_network(PVMilk20, n_classes=3, n_mels=8, n_frames=9) == 128


def test_a_network_that_cannot_be_built_is_explained():
    with pytest.raises(ValueError, match=r"a module, PVMilk20\(...\); give its class"):
        check_network(PVMilk20(2), n_classes=3, n_mels=8, n_frames=12)
    with pytest.raises(ValueError, match="cannot be called with n_classes=3, n_mels=8"):
        check_network(nn.Linear, n_classes=3, n_mels=8, n_frames=12)


def test_a_device_that_is_not_there_is_explained():
    with pytest.raises(ValueError, match="device='tpu9' cannot be used .*\"auto\""):
        choose_device("tpu9")


def test_auto_device_is_cuda_where_there_is_one(monkeypatch):
    for available, device in [(True, "cuda"), (False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda a=available: a)
        assert choose_device("auto") == device
        assert choose_device("cpu") == "cpu"


def test_auto_precision_is_bfloat16_where_the_processor_can_be_trusted(monkeypatch):
    assert uses_bfloat16("bfloat16", "cpu", 96)
    with pytest.raises(ValueError, match="not reliable on a CPU for segments of 12"):
        uses_bfloat16("bfloat16", "cpu", 12)
    assert not uses_bfloat16("float32", "cpu", 96)
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda h=has_it: h)
        assert uses_bfloat16("auto", "cpu", 96) == has_it
        assert not uses_bfloat16("auto", "cpu", 12)


@pytest.mark.parametrize("n_frames", [32, 33, 34, 96])
def test_bfloat16_agrees_with_float32_where_it_is_allowed(n_frames):
    """The convolution that goes wrong on shorter input; see _MIN_FRAMES_BFLOAT16."""
    torch.manual_seed(0)
    network = PVMilk20(3).eval()
    log_mel = torch.randn(7, 128, n_frames)
    for _ in range(5):
        torch.full((1000, 1000), torch.nan, dtype=torch.bfloat16)  # in freed memory
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            logits = network(log_mel)[0].float()
        torch.testing.assert_close(logits, network(log_mel)[0], atol=0.05, rtol=0)


def test_bfloat16_training_keeps_weights_in_float32_and_learns():
    rng = np.random.default_rng(0)
    log_mels = rng.normal(size=(20, 8, 40)) + np.repeat([0.0, 3.0], 10)[:, None, None]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=40)
    dataset = WindowDataset(X, X.windows(), np.repeat([0, 1], 10))
    changes = {"precision": "bfloat16", "n_frames": 40, "max_epochs": 20}
    net = make_net("pvmilk20", **PARAMETERS | changes)
    history, _ = fit_net(net, dataset, seed=0)
    assert {p.dtype for p in net.module_.parameters()} == {torch.float32}
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2


def test_a_loss_that_diverges_is_an_error_with_the_remedy(dataset):
    net = make_net("pvmilk20", **PARAMETERS | {"lr": 1e30})
    with pytest.raises(ValueError, match=r"loss is (nan|inf).*: lower lr or center_lr"):
        fit_net(net, dataset, seed=0)


def test_ctrl_c_stops_the_training():
    class Interrupted(PVMilk20):
        def forward(self, log_mel):
            if self.training:
                raise KeyboardInterrupt
            return super().forward(log_mel)

    X = ClipSpectrograms.from_arrays(np.zeros((4, 8, 12)), segment_frames=12)
    net = make_net(Interrupted, **PARAMETERS | {"n_windows": 4})
    with pytest.raises(KeyboardInterrupt):
        fit_net(net, WindowDataset(X, X.windows(), np.array([0, 1, 0, 1])), seed=0)


def test_a_head_takes_the_place_of_any_networks_last_layer():
    network = functools.partial(PVMilk20, n_embedding=8)
    module = build_classifier(network, ArcFace(), n_classes=3, n_mels=16, n_embedding=8)
    logits, embedding = module(torch.randn(2, 16, 40))
    assert (logits.shape, embedding.shape) == ((2, 3), (2, 8))
    torch.testing.assert_close(logits, module.head(embedding))
