import os
import pickle
import re
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from encoders import TinyEncoder, as_they_are, bands
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    BadClipError,
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GaussianDetector,
    MahalanobisDetector,
    PerMachine,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    WaveformView,
    ZScoreEnsemble,
    export_onnx,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.audio.resampling import resample
from sklearn_asd.explanation import clip_spectrograms, time_scores
from sklearn_asd.features import DeviationWeightedMean, Percentile, pool
from sklearn_asd.report import write_report

RATE = 16000


@pytest.fixture
def waves(rng):
    """Clips of 0.3 to 1 s."""
    lengths = [5000, 16000, 7001, 16000, 5000]
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in lengths]


@pytest.fixture
def table(rng):
    """Twelve clips of two machines, of half a second each."""
    audio = list(0.1 * rng.standard_normal((12, 8000)))
    return pd.DataFrame({"audio": audio, "machine_type": "fan"}).assign(
        machine_id=["00", "02"] * 6
    )


class Counting:
    """An encoder that remembers the shapes of what it was given."""

    def __init__(self, encode=bands):
        self.encode, self.shapes = encode, []

    def __call__(self, waveforms):
        assert waveforms.dtype == np.float32
        self.shapes.append(waveforms.shape)
        return self.encode(waveforms)


# -- what is computed ------------------------------------------------------------


def test_frames_are_what_the_encoder_gives_for_each_clip(waves):
    X = EncoderEmbedding(bands).fit_transform(waves)
    assert repr(X) == "ClipSpectrograms(5 clips, 8 features, whole clips)"
    for row, samples in enumerate(waves):
        expected = bands(samples[None])[0].T
        np.testing.assert_allclose(X.log_mel(row), expected, rtol=1e-5, atol=1e-4)
    assert X.sample_rate == RATE
    assert X.facts.shape[0] == 5


def test_machines_and_domains_are_kept(table):
    X = EncoderEmbedding(bands).fit_transform(table.assign(domain="source"))
    assert X.machine_id.tolist() == ["00", "02"] * 6
    assert set(X.machine_type) == {"fan"}
    assert set(X.domain) == {"source"}


def test_clips_of_equal_length_are_encoded_together(waves):
    encode = Counting()
    EncoderEmbedding(encode, batch_size=2).fit(waves)
    assert encode.shapes == [(1, RATE)]  # a second of noise, to count the features
    encode.shapes.clear()
    EncoderEmbedding(encode, batch_size=2).fit_transform([*waves, waves[0]])
    assert sorted(encode.shapes[1:]) == [(1, 5000), (1, 7001), (2, 5000), (2, 16000)]


def test_long_clips_are_encoded_in_pieces_of_which_the_last_ends_with_the_clip():
    samples = np.arange(10, dtype=np.float32) / 100
    long = EncoderEmbedding(as_they_are, sample_rate=1000, max_duration=0.004)
    (frames,) = long.transform([samples]).log_mel(0)
    np.testing.assert_array_equal(frames, samples[[0, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9]])
    for n in (3, 4):
        np.testing.assert_array_equal(
            long.transform([samples[:n]]).log_mel(0)[0], samples[:n]
        )
    (frames,) = long.transform([samples[:8]]).log_mel(0)
    np.testing.assert_array_equal(frames, samples[:8])


@pytest.mark.parametrize(
    "pooling", ["mean", ["max", DeviationWeightedMean(2)], Percentile(90)]
)
def test_pooling_gives_the_statistics_of_the_frames(waves, pooling):
    X = EncoderEmbedding(bands).transform(waves)
    pooled = EncoderEmbedding(bands, pooling=pooling).fit(waves).transform(waves)
    expected = SpectrumStatistics(pooling).transform(X)
    assert (pooled.stops - pooled.starts == 1).all()
    np.testing.assert_allclose(pooled.frames, expected, rtol=1e-6)
    again = SpectrumStatistics("mean").fit_transform(pooled)
    np.testing.assert_allclose(again, expected, rtol=1e-6)
    np.testing.assert_allclose(pool(X.log_mel(1).T, pooling), again[1], rtol=1e-6)


def test_files_of_a_higher_rate_are_resampled_and_lower_ones_refused(tmp_path, rng):
    samples = 0.1 * rng.standard_normal(44100).astype(np.float32)
    soundfile.write(tmp_path / "high.wav", samples, 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "low.wav", samples[:8000], 8000)
    X = EncoderEmbedding(as_they_are).transform([tmp_path / "high.wav"])
    np.testing.assert_array_equal(X.frames[:, 0], resample(samples, 44100, 16000))
    with pytest.raises(BadClipError, match=r"low\.wav\) is sampled at 8000 Hz, below"):
        EncoderEmbedding(bands).transform([tmp_path / "low.wav"])


def test_columns_of_statistics_are_named_by_features(table):
    X = EncoderEmbedding(bands).transform(table)
    names = SpectrumStatistics("max").fit(X).get_feature_names_out()
    assert names.tolist() == [f"max_feature_{number:03d}" for number in range(8)]


def test_views_are_encoded_from_their_samples(waves):
    def flip(samples, sample_rate):
        return samples[::-1]

    views = AugmentationExpander(
        pitch_steps=[0], stretch_rates=[1], extra=[WaveformView(flip)]
    )
    X = EncoderEmbedding(as_they_are).transform(views.transform(waves[:2]))
    assert X.view_names == ("original", "flip")
    np.testing.assert_array_equal(X.log_mel(1, 1), X.log_mel(1, 0)[:, ::-1])
    views.set_params(extra=["flip_time"])
    with pytest.raises(ValueError, match=r"no log-mel, and the views flip_time change"):
        EncoderEmbedding(bands).transform(views.transform(waves))


# -- torch modules ---------------------------------------------------------------


def test_a_module_is_frozen_and_stays_as_it_was(waves):
    module = TinyEncoder().train()
    module.drop.eval()  # a mode of its own
    before = {k: v.clone() for k, v in module.state_dict().items()}
    embedding = EncoderEmbedding(module, device="cpu").fit(waves)
    X = embedding.transform(waves)
    with torch.no_grad():
        expected = module(torch.from_numpy(waves[2])[None])[0].T
    np.testing.assert_allclose(X.log_mel(2), expected, rtol=1e-5, atol=1e-5)
    assert module.training
    assert not module.drop.training
    module.drop.train()
    np.testing.assert_array_equal(embedding.transform(waves).frames, X.frames)
    assert module.drop.training
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_a_module_without_parameters_goes_back_to_the_device_of_its_buffers(waves):
    class Windowed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("window", torch.ones(4, device="meta"))
            self.devices = []

        def to(self, device):
            self.devices.append(str(device))
            return self

        def forward(self, waveforms):
            return waveforms[:, :, None]

    module = Windowed()
    EncoderEmbedding(module, device="cpu").transform(waves[:1])
    assert set(module.devices[::2]) == {"cpu"}
    assert set(module.devices[1::2]) == {"meta"}


def test_a_clip_alone_and_in_any_order_has_the_same_frames(waves):
    X = EncoderEmbedding(TinyEncoder()).transform(waves)
    back = EncoderEmbedding(TinyEncoder()).transform(waves[::-1])
    for row in range(5):
        alone = EncoderEmbedding(TinyEncoder(), batch_size=1).transform([waves[row]])
        np.testing.assert_allclose(alone.log_mel(0), X.log_mel(row), atol=1e-5)
        np.testing.assert_allclose(back.log_mel(4 - row), X.log_mel(row), atol=1e-5)


def test_hashes_tell_weights_apart(waves):
    same = [EncoderEmbedding(TinyEncoder(0)).fit(waves).weights_ for _ in range(2)]
    other = EncoderEmbedding(TinyEncoder(1)).fit(waves).weights_
    assert same[0] == same[1] != other
    assert re.fullmatch("[0-9a-f]{64}", other)
    assert EncoderEmbedding(bands).fit(waves).weights_ is None


def test_an_unknown_device_is_refused(waves):
    with pytest.raises(ValueError, match=r"device='cuda:99' cannot be used"):
        EncoderEmbedding(TinyEncoder(), device="cuda:99").fit(waves)


# -- cache -----------------------------------------------------------------------


def test_a_recording_is_encoded_once_under_any_name(tmp_path, waves):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", waves[2], RATE, subtype="FLOAT")
    encode = Counting()
    cached = EncoderEmbedding(encode, cache_dir=tmp_path / "cache")
    first = cached.fit_transform([tmp_path / "a.wav"])
    again = cached.transform([tmp_path / "b.wav"])
    assert isinstance(again.frames, np.memmap)
    np.testing.assert_array_equal(first.frames, again.frames)
    assert encode.shapes.count((1, 7001)) == 1


def test_other_weights_and_other_code_have_another_cache(tmp_path, waves):
    module = TinyEncoder()
    cached = EncoderEmbedding(module, cache_dir=tmp_path)
    first = cached.transform(waves).frames.copy()
    with torch.no_grad():
        module.convolve.weight *= 2
    second = cached.transform(waves).frames
    assert (first != second).any()
    expected = EncoderEmbedding(module).transform(waves).frames
    np.testing.assert_array_equal(second, expected)
    for factor in (1, 2):  # functions of one name

        def scaled(waveforms, factor=factor):
            return factor * bands(waveforms)

        X = EncoderEmbedding(scaled, cache_dir=tmp_path).transform(waves)
        np.testing.assert_allclose(X.log_mel(0), factor * bands(waves[0][None])[0].T)


def test_modules_of_the_same_weights_and_other_code_have_another_cache(tmp_path, waves):
    class Scaled(TinyEncoder):
        def __init__(self, gain):
            super().__init__()
            self.gain = gain  # in neither its repr nor its state

        def forward(self, waveforms):
            return self.gain * super().forward(waveforms)

    frames = EncoderEmbedding(TinyEncoder()).transform(waves).frames
    modules = [(1, Scaled(1)), (2, Scaled(2))]
    for factor in (3, 4):  # classes of one name

        class Scaled(TinyEncoder):
            def forward(self, waveforms, factor=factor):
                return factor * super().forward(waveforms)

        modules.append((factor, Scaled()))
    for factor, module in modules:
        X = EncoderEmbedding(module, cache_dir=tmp_path).transform(waves)
        np.testing.assert_allclose(X.frames, factor * frames, rtol=1e-5)


def test_a_pooling_of_your_own_is_not_cached(tmp_path, waves):
    own = EncoderEmbedding(bands, pooling=lambda v: v[0], cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"pooling holds <lambda>, a function of you"):
        own.fit(waves)
    assert own.set_params(cache_dir=None).fit_transform(waves).frames.shape == (5, 8)


# -- what cannot be used ---------------------------------------------------------


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda w: w, r"gave float32 of shape \(1, 16000\) .* frames\[:, None\]"),
        (lambda w: w[:, :0, None], r"gave float32 of shape \(1, 0, 1\)"),
        (lambda w: np.vstack([w, w])[:, :, None], r"of shape \(2, 16000, 1\) for"),
        (lambda w: [["a"]], "it must give numbers of shape"),
        (lambda w: w[:, None, :], r"gave 5000 features, and 16000 before: it must"),
    ],
)
def test_other_output_is_refused_with_the_remedy(waves, encode, message):
    with pytest.raises(ValueError, match=message):
        EncoderEmbedding(encode).fit_transform(waves)


def refuse_short(waveforms):
    if waveforms.shape[1] < 6000:
        raise RuntimeError("kernel larger than input\nand more")
    return bands(waveforms)


def sometimes_nan(waveforms):
    return np.where(waveforms.shape[1] == 7001, np.nan, bands(waveforms))


def test_clips_that_the_encoder_cannot_take_are_named(waves):
    message = (
        r"clip 0 has 5,000 samples, which the encoder \S+:refuse_short cannot encode "
        r"\(kernel larger than input\): pad it or leave it out"
    )
    with pytest.raises(BadClipError, match=message):
        EncoderEmbedding(refuse_short).fit_transform(waves)
    for pooling in (None, "mean"):
        embedding = EncoderEmbedding(sometimes_nan, pooling=pooling)
        message = r"clip 2 has a view 'original' whose embedding is NaN or infinite"
        with pytest.raises(BadClipError, match=message):
            embedding.fit_transform(waves)
    with pytest.warns(UserWarning, match="2 of 5 clips cannot be used and score NaN"):
        X = EncoderEmbedding(refuse_short, on_bad_clip="nan").fit_transform(waves)
    assert X.usable.tolist() == [False, True, True, True, False]
    assert sorted(X.problems) == [0, 4]
    assert np.isnan(X.facts[0]).all()
    assert not np.isnan(X.facts[1]).all()


@pytest.mark.parametrize("pooling", [None, "max"])
def test_a_view_that_cannot_be_held_is_named(waves, pooling):
    def amplify(samples, sample_rate):
        return 1e6 * samples

    views = AugmentationExpander(
        pitch_steps=[0], stretch_rates=[1], extra=[WaveformView(amplify)]
    )
    small = EncoderEmbedding(as_they_are, pooling=pooling, dtype="float16")
    message = r"clip 0 has a view 'amplify' whose embedding is NaN or infinite in float"
    with pytest.raises(BadClipError, match=message):
        small.transform(views.transform(waves))


@pytest.mark.parametrize("error", [RuntimeError, BadClipError])
def test_one_bad_clip_leaves_the_others_of_its_batch_usable(waves, error):
    def refuse_loud(waveforms):
        if np.abs(waveforms).max() > 5:
            raise error("is too loud")
        return bands(waveforms)

    waves[3][100] = 10  # waves[1] is as long
    with pytest.raises(BadClipError, match="^clip 3 .*is too loud"):
        EncoderEmbedding(refuse_loud).fit_transform(waves)
    with pytest.warns(UserWarning, match="1 of 5 clips cannot be used"):
        X = EncoderEmbedding(refuse_loud, on_bad_clip="nan").fit_transform(waves)
    assert X.usable.tolist() == [True, True, True, False, True]
    expected = bands(waves[1][None])[0].T
    np.testing.assert_allclose(X.log_mel(1), expected, rtol=1e-5, atol=1e-4)


def test_an_encoder_that_fails_on_a_second_of_noise_asks_for_max_duration(waves):
    def only_short(waveforms):
        if waveforms.shape[1] > 4000:
            raise RuntimeError("too long")
        return bands(waveforms)

    with pytest.raises(ValueError, match=r"16000 samples of noise.*set max_duration"):
        EncoderEmbedding(only_short).fit(waves)
    X = EncoderEmbedding(only_short, max_duration=0.25).fit_transform(waves)
    assert X.usable.all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"encoder": 3}, "'encoder' parameter of EncoderEmbedding must be"),
        ({"max_duration": 0}, "'max_duration' parameter of EncoderEmbedding must be"),
        ({"batch_size": 0}, "'batch_size' parameter of EncoderEmbedding must be"),
        ({"pooling": "largest"}, "'pooling' parameter of EncoderEmbedding must be"),
        ({"device": None}, "'device' parameter of EncoderEmbedding must be"),
    ],
)
def test_parameters_are_checked(waves, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        EncoderEmbedding(**{"encoder": bands} | parameters).fit(waves)
    with pytest.raises(ValueError, match="less than a sample: raise it"):
        EncoderEmbedding(bands, max_duration=1e-9).fit(waves)


def test_after_a_change_of_the_encoder_it_is_fitted_again(waves):
    embedding = EncoderEmbedding(bands).fit(waves).set_params(encoder=as_they_are)
    with pytest.raises(ValueError, match=r"gave 1 features, and 8 before: .* fit agai"):
        embedding.transform(waves)


# -- what follows ----------------------------------------------------------------

AFTER = {
    "neighbors": lambda: EmbeddingNeighborDetector(SpectrumStatistics("max")),
    "whitened": lambda: EmbeddingNeighborDetector(
        SpectrumStatistics(["mean", "deviation_weighted"]),
        metric="mahalanobis",
        density="ratio",
        n_bands=4,
    ),
    "gaussian": lambda: GaussianDetector(SpectrumStatistics("generalized_mean")),
    "per machine": lambda: PerMachine(
        make_pipeline(SpectrumStatistics("mean"), MahalanobisDetector())
    ),
    "forest": lambda: make_pipeline(
        SpectrumStatistics("mean"), IsolationForest(n_estimators=5, random_state=0)
    ),
    "ensemble": lambda: ZScoreEnsemble(
        [(name, AFTER[name]()) for name in ("neighbors", "gaussian")]
    ),
    "threshold": lambda: ThresholdTuner(
        AFTER["gaussian"](), validation_fraction="training_scores", false_alarm_rate=0.3
    ),
}


@pytest.mark.parametrize("name", AFTER)
def test_detectors_work_on_the_frames_of_an_encoder(name, table):
    pipe = make_pipeline(
        EncoderEmbedding(TinyEncoder()), RecordingCheck(), AFTER[name]()
    )
    scores = pipe.fit(table).score_samples(table)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(pipe)).score_samples(table), scores
    )
    np.testing.assert_allclose(clone(pipe).fit(table).score_samples(table), scores)
    loud = table.assign(audio=[3 * samples for samples in table["audio"]])
    assert pipe.score_samples(loud).mean() < scores.mean()


def test_a_report_has_no_picture_of_features(table, tmp_path):
    pipe = make_pipeline(EncoderEmbedding(bands), AFTER["gaussian"]()).fit(table)
    new = table.assign(audio=[3 * samples for samples in table["audio"]])
    path = tmp_path / "report.html"
    write_report(pipe, new, path, X_normal=table, max_details=1)
    text = path.read_text()
    assert "There is no picture: the model hears no spectrogram." in text
    assert "<audio" in text
    assert "Spectrogram of" not in text


def test_explanations_say_in_which_frames_an_anomaly_is(table):
    pipe = make_pipeline(EncoderEmbedding(bands), AFTER["whitened"]()).fit(table)
    odd = table[:1].copy()
    odd["audio"] = [samples.copy() for samples in odd["audio"]]
    odd["audio"].iloc[0][4000:5000] *= 50
    times = time_scores(pipe, odd, X_normal=table, n_times=4)
    assert times["stop"].iloc[-1] == 25  # frames of 20 ms
    assert times["contribution"].idxmax() == 2
    with pytest.raises(TypeError, match="takes no spectrograms"):
        clip_spectrograms(pipe, odd)


def test_a_graph_is_refused_by_name(table, tmp_path):
    pytest.importorskip("onnxscript", reason="graphs need the extra onnx")
    pipe = make_pipeline(EncoderEmbedding(bands), AFTER["gaussian"]()).fit(table)
    with pytest.raises(ValueError, match="EncoderEmbedding"):
        export_onnx(pipe, tmp_path / "model.onnx")


# -- models of transformers ------------------------------------------------------


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="needs the extra encoders")


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    """Make a Wav2Vec2 with random weights."""
    return save_wav2vec2(transformers, tmp_path_factory.mktemp("encoder"), seed=0)


def save_wav2vec2(transformers, folder, seed):
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(5, 64),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_a_model_of_transformers_hears_what_it_would_hear_alone(
    folder, transformers, waves
):
    embedding = EncoderEmbedding(folder, batch_size=2).fit(waves)
    X = embedding.transform(waves)
    model = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    extract = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    for row, samples in enumerate(waves):
        inputs = extract(samples, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).last_hidden_state[0].T
        np.testing.assert_allclose(X.log_mel(row), expected, rtol=1e-4, atol=1e-5)
    assert embedding.n_features_ == 16
    assert embedding.revision_ is None
    np.testing.assert_array_equal(
        EncoderEmbedding(str(folder)).transform(waves).frames.shape, X.frames.shape
    )


def test_its_rate_its_shortest_clip_and_its_files_are_checked(
    folder, transformers, waves, tmp_path
):
    with pytest.raises(ValueError, match=r"trained on 16000 Hz: set sample_rate=16000"):
        EncoderEmbedding(folder, sample_rate=44100).fit(waves)
    with pytest.raises(BadClipError, match=r"clip 0 has 5 samples, which the encoder"):
        EncoderEmbedding(folder).fit_transform([waves[0][:5]])
    with pytest.raises(ValueError, match=r"is no audio model of transformers with wei"):
        EncoderEmbedding(tmp_path).fit(waves)
    lacking = transformers.Wav2Vec2Config.from_pretrained(folder, num_hidden_layers=2)
    copy = save_wav2vec2(transformers, tmp_path, seed=0)
    lacking.save_pretrained(copy)
    with pytest.raises(ValueError, match=r"lack \d+ weights, such as .* be random"):
        EncoderEmbedding(copy).fit(waves)


def test_files_that_change_after_the_fit_are_refused(transformers, waves, tmp_path):
    embedding = EncoderEmbedding(save_wav2vec2(transformers, tmp_path, seed=0))
    embedding.fit(waves)
    save_wav2vec2(transformers, tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"has the SHA-256 \w+, and it was \w+ in fit"):
        embedding.transform(waves)
    assert EncoderEmbedding(tmp_path).fit(waves).weights_ != embedding.weights_


def test_an_extractor_that_cuts_clips_off_is_found_out(transformers, waves, tmp_path):
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=64,
        num_mel_bins=16,
    )
    transformers.ASTModel(config).save_pretrained(tmp_path)
    extract = transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=16)
    extract.save_pretrained(tmp_path)
    message = r"1 s long, and the encoder \S+ does not hear its end: set max_duration"
    with pytest.raises(ValueError, match=message):
        EncoderEmbedding(tmp_path).fit(waves)
    X = EncoderEmbedding(tmp_path, max_duration=0.5).fit_transform(waves)
    assert (X.stops - X.starts)[:, 0].tolist() == [7, 14, 7, 14, 7]


def test_a_model_of_the_hub_is_taken_from_its_cache(
    folder, waves, tmp_path, monkeypatch
):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra encoders")
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--tiny"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    os.symlink(folder, repo / "snapshots" / commit)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    embedding = EncoderEmbedding("someone/tiny").fit(waves)
    assert embedding.revision_ == commit
    assert embedding.weights_ == EncoderEmbedding(folder).fit(waves).weights_
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    message = r"'someone/other' is neither a folder on this computer nor a model"
    with pytest.raises(ValueError, match=message):
        EncoderEmbedding("someone/other").fit(waves)


def test_without_transformers_the_extra_is_named(waves, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"'someone/tiny' is named .*\[encoders\]"):
        EncoderEmbedding("someone/tiny").fit(waves)
