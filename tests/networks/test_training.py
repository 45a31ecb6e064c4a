import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_training import make_small_net
from torch import nn

from sklearn_asd import ClipSpectrograms
from sklearn_asd.networks import ArcFace, PVMilk20
from sklearn_asd.networks.training import (
    EqualBatches,
    build_classifier,
    check_network,
    fit_net,
)
from sklearn_asd.networks.windows import (
    WindowDataset,
)


@pytest.mark.parametrize(
    ("n_windows", "batch_size", "sizes"),
    [(20, 8, {6, 7}), (13, 4, {3, 4}), (993, 32, {31, 32}), (5, 8, {5}), (1, 8, {1})],
)
def test_an_epoch_is_cut_into_equal_batches(n_windows, batch_size, sizes):
    batches = list(EqualBatches(n_windows, batch_size))
    assert {len(batch) for batch in batches} == sizes
    assert sorted(itertools.chain(*batches)) == list(range(n_windows))


def test_training_learns_and_keeps_a_history(dataset):
    net = make_small_net(max_epochs=30)
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

    fit_net(make_small_net(network=Counting), dataset, seed=0)
    assert passes == {"forward": 9, "backward": 9}  # 3 epochs of 3 batches


def test_the_seed_alone_decides_and_global_generators_are_untouched(dataset):
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    losses = [
        fit_net(make_small_net(), dataset, seed=seed)[0]["train_loss"]
        for seed in (0, 0, 1)
    ]
    assert losses[0].equals(losses[1])
    assert not losses[0].equals(losses[2])
    torch.testing.assert_close(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_fits_in_several_threads_are_the_fits_of_one(dataset):
    def fit(seed):
        net = make_small_net()
        return fit_net(net, dataset, seed)[0]["train_loss"].tolist()

    seeds = [0, 1, 2, 3]
    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_allclose(
            list(threads.map(fit, seeds)), [fit(seed) for seed in seeds], rtol=1e-5
        )


def test_weight_decay_shrinks_the_weights(dataset):
    sizes = []
    for weight_decay in (0.0, 10.0):
        net = make_small_net(weight_decay=weight_decay)
        fit_net(net, dataset, seed=0)
        sizes.append(sum(p.square().sum().item() for p in net.module_.parameters()))
    assert sizes[1] < sizes[0]


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


def test_bfloat16_training_keeps_weights_in_float32_and_learns():
    rng = np.random.default_rng(0)
    log_mels = rng.normal(size=(20, 8, 40)) + np.repeat([0.0, 3.0], 10)[:, None, None]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=40)
    dataset = WindowDataset(X, X.windows(), np.repeat([0, 1], 10))
    net = make_small_net(n_frames=40, precision="bfloat16", max_epochs=20)
    history, _ = fit_net(net, dataset, seed=0)
    assert {p.dtype for p in net.module_.parameters()} == {torch.float32}
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2


def test_a_loss_that_diverges_is_an_error_with_the_remedy(dataset):
    net = make_small_net(lr=1e30)
    with pytest.raises(ValueError, match=r"loss is (nan|inf).*: lower lr or center_lr"):
        fit_net(net, dataset, seed=0)


def test_ctrl_c_stops_the_training():
    class Interrupted(PVMilk20):
        def forward(self, log_mel):
            if self.training:
                raise KeyboardInterrupt
            return super().forward(log_mel)

    X = ClipSpectrograms.from_arrays(np.zeros((4, 8, 12)), segment_frames=12)
    net = make_small_net(network=Interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_net(net, WindowDataset(X, X.windows(), np.array([0, 1, 0, 1])), seed=0)


def test_a_head_takes_the_place_of_any_networks_last_layer():
    network = functools.partial(PVMilk20, n_embedding=8)
    module = build_classifier(network, ArcFace(), n_classes=3, n_mels=16, n_embedding=8)
    logits, embedding = module(torch.randn(2, 16, 40))
    assert (logits.shape, embedding.shape) == ((2, 3), (2, 8))
    torch.testing.assert_close(logits, module.head(embedding))
