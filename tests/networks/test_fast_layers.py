"""The fast way through inouet18 gives what its printed layers give."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from sklearn_asd.networks import InoueT18
from sklearn_asd.networks.fast_layers import (
    FastDropout,
    FittedConv2d,
    convolve_norm_pool,
)


class Printed(InoueT18):
    """The layers one after the other, as in Table 1 (b)."""

    def _features_on_cpu(self, log_mel):
        return self.features(log_mel.unsqueeze(1))


def make_both(n_mels=128):
    """Both networks with the same weights, without dropout."""
    torch.manual_seed(0)
    fast = InoueT18(5, n_mels=n_mels, dropout=(0.0, 0.0))
    for norm in fast.modules():  # an untrained batch norm hides mistakes
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    printed = Printed(5, n_mels=n_mels, dropout=(0.0, 0.0))
    printed.load_state_dict(fast.state_dict())
    return fast, printed


def make_log_mel(n_mels=128, n_frames=96):
    """Smooth along frequency and far from 0, as log-mels are."""
    torch.manual_seed(1)
    return torch.randn(6, n_mels, n_frames).cumsum(dim=1) - 40


@pytest.mark.parametrize(("n_mels", "n_frames"), [(128, 96), (128, 1), (20, 33)])
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_those_of_the_printed_layers(n_mels, n_frames, training):
    fast, printed = (network.train(training) for network in make_both(n_mels))
    log_mel = make_log_mel(n_mels, n_frames)
    for _ in range(2):  # the second time with other running statistics
        torch.testing.assert_close(
            fast(log_mel)[0], printed(log_mel)[0], atol=1e-4, rtol=0
        )
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(
            value, printed.state_dict()[name], atol=1e-4, rtol=1e-5
        )


def test_gradients_are_those_of_the_printed_layers():
    fast, printed = make_both()
    for network in (fast, printed):
        y = torch.tensor([0, 1, 2, 3, 4, 0])
        functional.cross_entropy(network(make_log_mel())[0], y).backward()
    for one, other in zip(fast.parameters(), printed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_a_gradient_for_the_input_is_still_to_be_had():
    fast, printed = (network.eval() for network in make_both())
    inputs = [make_log_mel().requires_grad_() for _ in range(2)]
    for network, log_mel in zip((fast, printed), inputs, strict=True):
        network(log_mel)[0].sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


def test_silence_shares_the_gradient_and_stays_finite():
    fast, _ = make_both()
    fast(torch.full((3, 128, 12), -100.0))[0].sum().backward()
    for parameter in fast.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_bfloat16_agrees_with_float32_to_its_precision():
    fast, _ = make_both()
    fast.eval()
    log_mel = make_log_mel()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        logits = fast(log_mel)[0].float()
    expected = fast(log_mel)[0]
    torch.testing.assert_close(logits, expected, atol=0.05, rtol=0.03)


def test_maps_are_channels_last_and_in_the_dtype_of_autocast():
    fast, _ = make_both()
    conv, norm = fast.features[:2]
    log_mel = make_log_mel()
    assert convolve_norm_pool(log_mel, conv, norm, 8).shape == (6, 96, 16, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolve_norm_pool(log_mel, conv, norm, 8).dtype == torch.bfloat16


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.999])
def test_dropout_keeps_the_share_and_the_expected_value(rate):
    torch.manual_seed(0)
    dropped = FastDropout(rate)(torch.ones(1001, 997))
    kept = dropped > 0
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=2e-3)
    assert dropped.mean().item() == pytest.approx(1, abs=0.1 if rate > 0.9 else 5e-3)
    assert dropped[kept].unique().numel() == 1


def test_dropout_is_drawn_from_torchs_generator_and_differs_each_time():
    dropout, x = FastDropout(0.5), torch.ones(1000)
    torch.manual_seed(0)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(0)
    assert dropout(x).equal(first)
    assert not first.equal(second)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_dropout_of_nothing_or_all(rate):
    x = torch.ones(10)
    assert FastDropout(rate)(x).equal(x * (1 - rate))
    assert copy.deepcopy(FastDropout(0.5)).eval()(x).equal(x)


@pytest.mark.parametrize("n_frames", [9, 30, 31, 32, 33, 313])
def test_frames_that_no_output_covers_change_nothing(n_frames):
    torch.manual_seed(0)
    for kernel, padding in [((1, 7), (0, 2)), ((1, 5), (0, 1))]:
        plain = torch.nn.Conv2d(3, 4, kernel, (1, 3), padding)
        fitted = FittedConv2d(3, 4, kernel, (1, 3), padding)
        fitted.load_state_dict(plain.state_dict())
        maps = torch.randn(2, 3, 8, n_frames)
        torch.testing.assert_close(fitted(maps), plain(maps))
