import numpy as np
import pytest
import torch

from sklearn_asd import AutoencoderDetector, ClipSpectrograms, IDConfidenceDetector
from sklearn_asd.networks import PVMilk20, devices
from sklearn_asd.networks.devices import (
    choose_device,
    choose_device_or_cpu,
    uses_bfloat16,
)


def test_a_device_that_is_not_there_is_explained():
    with pytest.raises(ValueError, match="device='tpu9' cannot be used .*\"auto\""):
        choose_device("tpu9")


def test_auto_device_is_cuda_where_there_is_one(monkeypatch):
    for available, device in [(True, "cuda"), (False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda a=available: a)
        assert choose_device("auto") == device
        assert choose_device("cpu") == "cpu"


@pytest.fixture
def forked(monkeypatch):
    """A child of a process that uses a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_forked_process_refuses_the_gpu_of_its_parent(forked, device):
    message = r'device=\'cuda.*forked from .*"spawn".* or use device="cpu"'
    with pytest.raises(RuntimeError, match=message):
        choose_device(device)


def test_a_forked_process_loads_models_onto_the_cpu_and_says_so(forked):
    assert choose_device("cpu") == "cpu"
    with pytest.warns(UserWarning, match=r"was forked from .* is on the CPU"):
        assert choose_device_or_cpu("auto") == "cpu"


@pytest.mark.parametrize("kind", [IDConfidenceDetector, AutoencoderDetector])
def test_a_forked_process_refuses_to_score_on_the_gpu_of_its_parent(kind, request):
    log_mels = np.random.default_rng(0).normal(size=(4, 32, 96))
    X = ClipSpectrograms.from_arrays(log_mels, machine_id=list("aabb"))
    detector = kind(max_epochs=1, batch_size=4, device="cpu", random_state=0).fit(X)
    detector.net_.device = "cuda"  # where the parent had put it
    request.getfixturevalue("forked")
    with pytest.raises(RuntimeError, match=r"device='cuda' .* forked from one"):
        detector.score_samples(X)


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
