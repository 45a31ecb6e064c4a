"""What only a GPU can show; skipped where there is none."""

import numpy as np
import pytest
import torch
from encoders import TinyEncoder

from sklearn_asd import (
    AutoencoderDetector,
    ClipSpectrograms,
    EncoderEmbedding,
    IDConfidenceDetector,
    load_model,
    save_model,
)
from sklearn_asd.networks import windows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]


@pytest.fixture
def spectrograms():
    """40 clips of two machines that differ in level."""
    rng = np.random.default_rng(0)
    level = np.repeat([0, 4], 20)[:, None, None]
    log_mels = rng.normal(size=(40, 128, 200)) + level
    return ClipSpectrograms.from_arrays(log_mels, machine_id=np.repeat(["a", "b"], 20))


def make(**parameters):
    settings = {"batch_size": 16, "max_epochs": 3, "random_state": 0}
    return IDConfidenceDetector(**settings | parameters)


def move(detector, device):
    detector.net_.device = device
    detector.net_.module_.to(device)


@pytest.mark.parametrize("network", ["pvmilk20", "inouet18"])
@pytest.mark.parametrize("options", [{}, {"mixup": 0.5, "random_starts": True}])
def test_a_detector_is_fitted_on_the_gpu_and_scores_alike_anywhere(
    spectrograms, tmp_path, network, options
):
    detector = make(network=network, **options).fit(spectrograms)  # device="auto"
    assert detector.net_.device == "cuda"
    scores = detector.score_samples(spectrograms)
    assert detector.score(spectrograms) == 1
    move(detector, "cpu")
    np.testing.assert_allclose(detector.score_samples(spectrograms), scores, atol=1e-5)
    move(detector, "cuda")
    save_model(detector, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    np.testing.assert_allclose(loaded.score_samples(spectrograms), scores, atol=1e-5)


@pytest.mark.parametrize("target", ["window", "middle"])
def test_an_autoencoder_is_fitted_on_the_gpu_and_scores_alike_anywhere(
    spectrograms, tmp_path, target
):
    detector = AutoencoderDetector(target=target, max_epochs=2, random_state=0)
    scores = detector.fit(spectrograms).score_samples(spectrograms)
    assert detector.net_.device == "cuda"
    save_model(detector, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    np.testing.assert_allclose(loaded.score_samples(spectrograms), scores, rtol=1e-5)
    move(detector, "cpu")
    np.testing.assert_allclose(detector.score_samples(spectrograms), scores, rtol=1e-3)


def test_frames_that_do_not_fit_the_gpu_come_batch_by_batch(spectrograms, monkeypatch):
    fits = [make(precision="float32").fit(spectrograms)]
    monkeypatch.setattr(windows, "_SHARE_FOR_FRAMES", 0)
    fits.append(make(precision="float32").fit(spectrograms))
    held, copied = (fit.score_samples(spectrograms) for fit in fits)
    np.testing.assert_allclose(copied, held, atol=1e-3)


def test_an_encoder_computes_on_the_gpu_and_stays_where_it_was():
    waves = np.random.default_rng(0).normal(scale=0.1, size=(5, 8000))
    encoder = TinyEncoder()
    on_gpu = EncoderEmbedding(encoder, device="cuda").fit_transform(waves)
    assert next(encoder.parameters()).device.type == "cpu"
    on_cpu = EncoderEmbedding(encoder, device="cpu").fit_transform(waves)
    np.testing.assert_allclose(on_gpu.frames, on_cpu.frames, atol=1e-3)
