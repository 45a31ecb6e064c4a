"""Models whose encoders stay outside of their files."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from encoders import TinyEncoder, as_they_are, bands
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GaussianDetector,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
    describe_model,
    load_model,
    save_model,
)
from sklearn_asd._cli.models import read_model
from sklearn_asd.features import DeviationWeightedMean, GeneralizedMean
from sklearn_asd.persistence.files import pack, read_file


@pytest.fixture
def waves(rng):
    return 0.1 * rng.standard_normal((12, 8000)).astype(np.float32)


def make(encoder, **parameters):
    statistics = SpectrumStatistics([GeneralizedMean(2), DeviationWeightedMean(2)])
    detect = EmbeddingNeighborDetector(statistics, density="ratio")
    return make_pipeline(EncoderEmbedding(encoder, **parameters), detect)


CODE = {"encoders:bands": bands, "encoders:TinyEncoder": TinyEncoder()}


@pytest.mark.parametrize("name", CODE)
def test_code_is_named_and_handed_to_the_loaded_model(name, waves, tmp_path):
    pipe = make(CODE[name]).fit(waves)
    save_model(pipe, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd", encoders={name: CODE[name]})
    np.testing.assert_array_equal(
        loaded.score_samples(waves), pipe.score_samples(waves)
    )
    assert pipe[0].encoder is CODE[name]  # saving changes nothing
    message = rf"needs the encoder '{name}'.* is code of yours.* encoders={{'{name}':"
    for load in (load_model, lambda path: read_model(str(path), trust=False)):
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "model.asd")


def test_a_description_needs_no_encoder(waves, tmp_path):
    pipe = make(CODE["encoders:TinyEncoder"]).fit(waves)
    save_model(pipe, tmp_path / "model.asd")
    description = describe_model(tmp_path / "model.asd")
    weights = pipe[0].weights_
    assert description["encoders"] == [
        {"encoder": "encoders:TinyEncoder", "revision": None, "weights": weights}
    ]
    assert description["sample_rate"] == 16000
    # 6 * 400 weights would take 9.6 kB.
    tensors = read_file(tmp_path / "model.asd").tensors
    assert not any(array.size == 2400 for array in tensors.values())


def test_other_weights_or_features_are_refused(waves, tmp_path):
    path = tmp_path / "model.asd"
    save_model(make(CODE["encoders:TinyEncoder"]).fit(waves), path)
    with pytest.raises(ValueError, match=r"has the SHA-256 \w+, and it was \w+ in fit"):
        load_model(path, encoders={"encoders:TinyEncoder": TinyEncoder(seed=1)})
    save_model(make(bands).fit(waves), path)
    with pytest.raises(ValueError, match="gave 1 features, and 8 before"):
        load_model(path, encoders={"encoders:bands": as_they_are})
    with pytest.raises(ValueError, match=r"no encoder other: it has encoders:bands"):
        load_model(path, encoders={"other": bands})
    save_model(GaussianDetector().fit(waves[:, :3]), path)
    with pytest.raises(ValueError, match=r"no encoder other: it has none"):
        load_model(path, encoders={"other": bands})


def test_encoders_deep_inside_are_found(waves, tmp_path):
    inside = make_pipeline(
        EncoderEmbedding(bands, pooling="max"),
        SpectrumStatistics("mean"),
        GaussianDetector(),
    )
    table = {"audio": list(waves), "machine_id": ["00", "02"] * 6}
    X = pd.DataFrame(table)
    model = ThresholdTuner(
        PerMachine(inside),
        validation_fraction=0.4,
        false_alarm_rate=0.45,
        random_state=0,
    ).fit(X)
    save_model(model, tmp_path / "model.asd")
    names = {"encoders:bands": bands}
    loaded = load_model(tmp_path / "model.asd", encoders=names)
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    # The unfitted ones have it as well: the model can be fitted again.
    np.testing.assert_array_equal(
        loaded.fit(X).score_samples(X), model.score_samples(X)
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder", {"network": ["InoueT18", None]}, "InoueT18.*, and not its name"),
        ("max_duration", 1e12, "an encoder takes 1.6e.16 samples"),
        ("device", "meta", "device='meta' is unknown"),
        ("pooling", ["unheard of"], "'unheard of' is unknown"),
        ("n_features_", 0, "n_features_ is not above 0"),
        ("n_features_", 2**40, "n_features_ is"),
        ("weights_", 3, "weights_ is '3' of type int"),
    ],
)
def test_values_that_no_fit_sets_are_refused(waves, tmp_path, name, value, message):
    path = tmp_path / "model.asd"
    save_model(make(bands).fit(waves), path)
    content, tensors, _ = read_file(path)
    (one,) = (o for o in content["objects"] if o["type"] == "EncoderEmbedding")
    one["fitted" if name.endswith("_") else "params"][name] = value
    fields = {k: v for k, v in content.items() if k != "digest"}
    path.write_bytes(pack(json.loads(json.dumps(fields)), tensors))
    with pytest.raises(ValueError, match=message):
        describe_model(path)


def test_a_model_of_transformers_is_found_again_or_missed(waves, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs extra encoders")
    folder, path = tmp_path / "encoder", tmp_path / "model.asd"
    config = transformers.HubertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(4,),
        conv_kernel=(400,),
        conv_stride=(160,),
        num_feat_extract_layers=1,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="group",
    )
    transformers.HubertModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    pipe = make(folder).fit(waves)
    save_model(pipe, path)
    scores = pipe.score_samples(waves)
    np.testing.assert_array_equal(load_model(path).score_samples(waves), scores)
    moved = shutil.move(folder, tmp_path / "moved")
    message = rf"needs .*{pipe[0].weights_}.* is neither a folder .* encoders={{'"
    with pytest.raises(ValueError, match=message):
        load_model(path)
    loaded = load_model(path, encoders={str(folder): moved})
    np.testing.assert_array_equal(loaded.score_samples(waves), scores)
    assert describe_model(path)["encoders"][0]["weights"] == pipe[0].weights_
