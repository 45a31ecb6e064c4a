import pytest
import torch

from sklearn_asd.networks import PVMilk20, devices
from sklearn_asd.networks.devices import choose_device, uses_bfloat16


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
        monkeypatch.setattr(devices, "has_bfloat16", lambda device, h=has_it: h)
        assert uses_bfloat16("auto", "cpu", 96) == has_it
        assert not uses_bfloat16("auto", "cpu", 12)


@pytest.mark.parametrize("flag", [True, False])
def test_a_processor_has_bfloat16_if_torch_says_so(flag, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: flag)
    assert devices.has_bfloat16("cpu") == flag
    assert not devices.has_bfloat16("meta")


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
