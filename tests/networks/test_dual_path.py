import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    load_model,
    save_model,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.networks import DualPathNetwork
from sklearn_asd.networks.checkpoint import name_training

SMALL = partial(DualPathNetwork, n_embedding=16, n_channels=2)
DETECTOR = IDConfidenceDetector(
    network=SMALL,
    center_loss_weight=0.0,
    batch_size=4,
    max_epochs=2,
    precision="float32",
    random_state=0,
)


@pytest.fixture
def spectrograms(rng):
    """Clips of two machines: the spectra tell them apart, and the frames do not."""
    spectra = rng.uniform(size=(12, 1, 40)).astype(np.float32)
    spectra[6:, :, 10:20] += 1
    X = ClipSpectrograms.from_arrays(rng.uniform(size=(12, 9, 20)), segment_frames=None)
    bounds = X.starts[:, 0], X.stops[:, 0]
    return ClipSpectrograms(
        X.frames,
        *bounds,
        machine_id=list("aaaaaabbbbbb"),
        segment_frames=None,
        spectra=spectra,
        band_scale="linear",
    )


def make_inputs(batch=3, n_frames=20):
    return torch.rand(batch, 33, n_frames), torch.rand(batch, 300)


def make_network(n_spectrum=300, **sizes):
    torch.manual_seed(0)
    return DualPathNetwork(4, n_mels=33, n_spectrum=n_spectrum, **sizes)


# -- what each path hears --------------------------------------------------------


def test_the_number_of_parameters_is_the_documented_one():
    network = DualPathNetwork(6, n_spectrum=8000)
    assert sum(p.numel() for p in network.parameters()) == 750_046
    assert "750,046 parameters" in DualPathNetwork.__doc__


def test_the_first_half_of_the_embedding_hears_the_spectrum_and_the_second_frames():
    network, (frames, spectrum) = make_network().eval(), make_inputs()
    _, embedding = network((frames, spectrum))
    _, other = network((frames, 2 * spectrum))
    assert (other[:, :128] != embedding[:, :128]).any(dim=1).all()
    assert other[:, 128:].equal(embedding[:, 128:])
    _, other = network((2 * frames, spectrum))
    assert other[:, :128].equal(embedding[:, :128])
    assert (other[:, 128:] != embedding[:, 128:]).any(dim=1).all()


def test_a_steady_sound_changes_nothing_in_the_second_half():
    network, (frames, spectrum) = make_network().eval(), make_inputs()
    steady = torch.rand(3, 33, 1)
    _, embedding = network((frames, spectrum))
    _, louder = network((frames + steady, spectrum))
    torch.testing.assert_close(louder[:, 128:], embedding[:, 128:])


def test_without_spectra_the_first_half_hears_the_mean_over_time():
    network, (frames, _) = make_network(n_spectrum=0).eval(), make_inputs()
    _, embedding = network(frames)
    _, other = network(frames.mean(dim=2, keepdim=True).expand_as(frames))
    torch.testing.assert_close(other[:, :128], embedding[:, :128])
    assert (other[:, 128:] != embedding[:, 128:]).any()


@pytest.mark.parametrize("n_frames", [1, 2, 31, 376])
@pytest.mark.parametrize("n_spectrum", [0, 1, 499, 500, 501, 8000])
def test_any_sizes_give_logits_and_embedding(n_frames, n_spectrum):
    network = DualPathNetwork(5, 9, n_spectrum, n_embedding=8, n_channels=2)
    inputs = torch.rand(2, 9, n_frames)
    if n_spectrum:
        inputs = inputs, torch.rand(2, n_spectrum)
    logits, embedding = network(inputs)
    assert logits.shape == (2, 5)
    assert embedding.shape == (2, 8)
    torch.testing.assert_close(network.classify(embedding), logits)


def test_an_odd_embedding_is_refused():
    with pytest.raises(ValueError, match="n_embedding=7 is odd"):
        DualPathNetwork(5, n_embedding=7)


def test_inputs_are_standardised_by_all_batches_of_training():
    """A running variance that begins with 1 would not forget that in ten batches."""
    network = make_network()
    frames, spectrum = make_inputs(batch=200)
    for part in range(10):
        some = slice(20 * part, 20 * part + 20)
        network((frames[some], 1e-6 * spectrum[some]))
    layer = network.hear_spectrum.standardize
    assert layer.running_mean.item() == pytest.approx(0.5e-6, rel=0.02)
    assert layer.running_var.item() == pytest.approx(1e-12 / 12, rel=0.02)
    layer = network.hear_changes.standardize
    assert layer.running_var.shape == (33,)
    assert (layer.running_var < 0.1).all()


def test_gradients_are_the_same_with_several_threads():
    """Those of torch 2.13's strided convolutions may not be."""
    network, inputs = make_network(n_channels=2), make_inputs(8, 33)

    def gradient():
        network.zero_grad()
        logits, embedding = network(inputs)
        (logits.square().sum() + embedding.square().sum()).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradient()
        torch.set_num_threads(2)
        several = [gradient() for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    for one in several:
        assert (one - expected).norm() < 1e-3 * expected.norm()
        assert one.equal(several[0])


# -- inside detectors ------------------------------------------------------------


def test_a_detector_learns_from_the_spectra(spectrograms):
    detector = clone(DETECTOR).set_params(max_epochs=15).fit(spectrograms)
    assert detector.score(spectrograms) == 1
    near = EmbeddingNeighborDetector(detector).fit(spectrograms)
    assert np.isfinite(near.score_samples(spectrograms)).all()


def test_a_score_depends_on_its_clip_alone(spectrograms):
    detector = clone(DETECTOR).fit(spectrograms)
    together = detector.score_samples(spectrograms)
    for row in (0, 7):
        alone = detector.score_samples(spectrograms[row])
        assert alone == pytest.approx(together[[row]], rel=1e-5)


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_a_fit_is_the_same_again(spectrograms, mixup):
    detector = clone(DETECTOR).set_params(mixup=mixup)
    scores = [clone(detector).fit(spectrograms).score_samples(spectrograms)]
    scores += [clone(detector).fit(spectrograms).score_samples(spectrograms)]
    np.testing.assert_array_equal(*scores)


def test_its_name_takes_it(spectrograms):
    detector = clone(DETECTOR).set_params(network="dualpath", max_epochs=1)
    detector.fit(spectrograms)
    assert detector.embed(spectrograms).shape == (12, 256)


def test_other_networks_hear_the_frames_only(spectrograms):
    detector = clone(DETECTOR).set_params(network="pvmilk20").fit(spectrograms)
    assert np.isfinite(detector.score_samples(spectrograms)).all()


def test_log_mels_have_no_spectra_and_will_do(rng):
    X = ClipSpectrograms.from_arrays(
        rng.normal(size=(8, 16, 30)), machine_id=list("aaaabbbb"), segment_frames=20
    )
    detector = clone(DETECTOR).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


def test_clips_without_the_spectra_that_it_learnt_from_are_refused(spectrograms):
    detector = clone(DETECTOR).fit(spectrograms)
    without = ClipSpectrograms(
        spectrograms.frames,
        spectrograms.starts,
        spectrograms.stops,
        machine_id=spectrograms.machine_id,
        segment_frames=None,
        band_scale="linear",
    )
    with pytest.raises(ValueError, match="n_spectrum=0, and .* fitted on n_spectrum=4"):
        detector.score_samples(without)


def test_batches_of_one_segment_are_refused(spectrograms):
    with pytest.raises(ValueError, match="batches of 1, and DualPathNetwork needs 2"):
        clone(DETECTOR).set_params(batch_size=1).fit(spectrograms)


def test_an_unusable_clip_scores_nan(spectrograms):
    X = spectrograms.leave_out(np.array([3]), "is not heard")
    scores = clone(DETECTOR).fit(X).score_samples(X)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [3]


def test_views_are_heard_with_their_own_spectra(rng):
    front_end = LinearSpectrogram(n_fft=256, hop_length=256, n_spectrum=100)
    expand = AugmentationExpander(pitch_steps=[0, 2], stretch_rates=[1])
    detector = AugmentConfidenceDetector(
        network=SMALL, max_epochs=1, batch_size=4, random_state=0
    )
    waves = rng.uniform(-0.1, 0.1, (4, 8000))
    X = make_pipeline(expand, front_end).transform(waves)
    assert np.isfinite(detector.fit(X).score_samples(X)).all()


# -- files -----------------------------------------------------------------------


def test_a_model_comes_back_from_its_file_and_from_a_pickle(tmp_path):
    clips = make_machine_sounds(
        "fan", n_machines=2, n_train=3, n_test_normal=1, n_test_anomalous=1,
        duration=1.0, random_state=0,
    )  # fmt: skip
    front_end = LinearSpectrogram(n_fft=256, hop_length=256, n_spectrum=100)
    pipe = make_pipeline(front_end, EmbeddingNeighborDetector(clone(DETECTOR)))
    scores = pipe.fit(clips).score_samples(clips)
    save_model(pipe, tmp_path / "fans.asd")
    for again in load_model(tmp_path / "fans.asd"), pickle.loads(pickle.dumps(pipe)):
        np.testing.assert_array_equal(again.score_samples(clips), scores)


def test_training_resumes_from_a_checkpoint(tmp_path, spectrograms, monkeypatch):
    expected = clone(DETECTOR).fit(spectrograms).score_samples(spectrograms)
    forward, calls = DualPathNetwork.forward, []

    def stop_in_second_epoch(self, inputs):
        calls.append(self.training)
        if sum(calls) == 5:  # of two epochs of three batches
            raise InterruptedError
        return forward(self, inputs)

    detector = clone(DETECTOR).set_params(checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(DualPathNetwork, "forward", stop_in_second_epoch)
        with pytest.raises(InterruptedError):
            clone(detector).fit(spectrograms)
    assert len(list(tmp_path.iterdir())) == 1
    scores = clone(detector).fit(spectrograms).score_samples(spectrograms)
    np.testing.assert_array_equal(scores, expected)
    assert not list(tmp_path.iterdir())


def test_spectra_name_the_training_of_a_checkpoint(spectrograms):
    detector = clone(DETECTOR).fit(spectrograms)
    name = name_training(detector, spectrograms)
    spectrograms.spectra = spectrograms.spectra + 1
    assert name_training(detector, spectrograms) != name
