"""Model files: what comes back from them, and what they must not do."""

import json
import pickle
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from model_files import read, write
from persistent_models import (
    DETECTOR,
    ENCODERS,
    as_recorded,
    make_clips,
    make_models,
)
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import sklearn_asd
from sklearn_asd import (
    AugmentationExpander,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
    WaveformView,
    ZScoreEnsemble,
    _base,
    describe_model,
    load_model,
    save_model,
)
from sklearn_asd.features.pooling import (
    BandCorrelations,
    Percentile,
    RankWeightedMean,
    median,
    std,
)
from sklearn_asd.networks import ArcFace, InoueT18, PVMilk20
from sklearn_asd.persistence.allowed import ESTIMATORS

MODELS = Path(__file__).parent / "models"
FORMATS = sorted(MODELS.glob("*.asd"))


@pytest.fixture(scope="module")
def fitted():
    """Models of each kind, fitted when a test first asks for one."""
    models, found = make_models(), {}

    def fit(name):
        if name not in found:
            found[name] = models[name].fit(as_recorded(name, make_clips(0)))
        return found[name]

    return fit


@pytest.fixture(scope="module")
def test_clips():
    return make_clips(1, 2)


@pytest.fixture
def log_mels(rng):
    """Eight clips of two machines, 16 bands and 30 frames each."""
    levels = np.repeat([0.0, 3.0], 4)[:, None, None]
    return ClipSpectrograms.from_arrays(
        rng.normal(size=(8, 16, 30)) + levels,
        machine_id=["00"] * 4 + ["01"] * 4,
        segment_frames=20,
        segment_hop_frames=10,
    )


# -- what comes back -----------------------------------------------------------------


@pytest.mark.parametrize("name", make_models())
def test_a_loaded_model_is_the_one_that_was_saved(name, fitted, test_clips, tmp_path):
    model = fitted(name)
    save_model(model, tmp_path / "first.asd")
    loaded = load_model(tmp_path / "first.asd", ENCODERS.get(name))
    clips = as_recorded(name, test_clips)
    expected = model.score_samples(clips)
    np.testing.assert_array_equal(loaded.score_samples(clips), expected)
    np.testing.assert_array_equal(loaded.predict(clips), model.predict(clips))
    assert repr(loaded.get_params()) == repr(model.get_params())
    save_model(loaded, tmp_path / "second.asd")
    assert (tmp_path / "first.asd").read_bytes() == (
        tmp_path / "second.asd"
    ).read_bytes()
    again = clone(loaded).fit(as_recorded(name, make_clips(0)))
    np.testing.assert_array_equal(again.score_samples(clips), expected)


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_files_of_earlier_versions_are_read_and_score_as_recorded(path, test_clips):
    name, _, version = path.stem.rpartition("_")
    recorded = json.loads((MODELS / f"scores_{version}.json").read_text())[name]
    scores = load_model(path, ENCODERS.get(name)).score_samples(
        as_recorded(name, test_clips)
    )
    # Other processors round convolutions otherwise.
    np.testing.assert_allclose(scores, recorded, rtol=1e-3)


def test_there_are_files_of_every_estimator():
    texts = [read(path)[0]["objects"] for path in FORMATS]
    saved = {one["type"] for objects in texts for one in objects}
    assert saved | {"FrozenEstimator"} == set(ESTIMATORS)


def test_the_fitted_attributes_come_back_with_types_and_order(log_mels, tmp_path):
    model = EmbeddingNeighborDetector(DETECTOR, metric="mahalanobis").fit(log_mels)
    save_model(model, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    np.testing.assert_array_equal(loaded._training_points, model._training_points)
    assert loaded._whitening.flags.f_contiguous == model._whitening.flags.f_contiguous
    inner = loaded.encoder_
    assert inner._frames_fitted_on == model.encoder_._frames_fitted_on
    assert type(inner._frames_fitted_on["view_names"]) is tuple
    assert loaded.encoder_.classes_.dtype == model.encoder_.classes_.dtype
    assert loaded.encoder_.history_.equals(model.encoder_.history_)
    assert loaded.encoder_.history_.dtypes.equals(model.encoder_.history_.dtypes)
    assert type(loaded.offset_) is float
    assert loaded._training_points.flags.writeable


def test_names_of_rows_and_scales_come_back(fitted, tmp_path):
    model = fitted("zscore")
    save_model(model, tmp_path / "model.asd")
    ensemble, loaded = model[-1], load_model(tmp_path / "model.asd")[-1]
    pd.testing.assert_frame_equal(loaded.sibling_aucs_, ensemble.sibling_aucs_)
    assert loaded.sibling_aucs_.index.tolist() == ["fan"]
    assert loaded.scales_ == ensemble.scales_
    assert type(loaded.scales_["fan"][0]) is type(ensemble.scales_["fan"][0])
    assert loaded.total_scales_ == ensemble.total_scales_
    assert loaded.selected_ == ensemble.selected_


def test_groups_of_scales_come_back(log_mels, tmp_path):
    X = ClipSpectrograms.from_arrays(
        [log_mels.log_mel(row) for row in range(8)],
        machine_type=["fan"] * 8,
        machine_id=["00", "01"] * 4,
        domain=["source"] * 4 + ["target"] * 4,
        segment_frames=20,
    )
    members = [("spectrum", GaussianDetector(SpectrumStatistics()))]
    model = ZScoreEnsemble(members, n_selected=1, group_by="domain").fit(X)
    save_model(model, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    assert loaded.scales_ == model.scales_
    assert "machine_type fan, domain target" in loaded.scales_
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    content, tensors = read(tmp_path / "model.asd")
    ensemble = content["objects"][-1]
    for types in (None, {"dict": [["machine_type fan, domain source", "fan"]]}):
        ensemble["fitted"]["_group_types"] = types
        if types is None:
            del ensemble["fitted"]["_group_types"]
        write(tmp_path / "spoilt.asd", content, tensors)
        with pytest.raises(ValueError, match="_group_types is not of the groups"):
            load_model(tmp_path / "spoilt.asd")


def test_models_of_before_groups_have_none():
    content, _ = read(MODELS / "zscore_format2.asd")
    (old,) = (o for o in content["objects"] if o["type"] == "ZScoreEnsemble")
    assert "group_by" not in old["params"]
    assert load_model(MODELS / "zscore_format2.asd")[-1].group_by is None


def test_members_that_share_a_network_share_it_again(log_mels, tmp_path):
    members = [
        ("id", DETECTOR),
        ("msp", clone(DETECTOR).set_params(confidence="msp")),
    ]
    model = GammaProbabilityEnsemble(members).fit(log_mels)
    model.estimators_[1].net_ = model.estimators_[0].net_
    save_model(model, tmp_path / "two.asd")
    one = IDConfidenceDetector(**DETECTOR.get_params()).fit(log_mels)
    save_model(one, tmp_path / "one.asd")
    loaded = load_model(tmp_path / "two.asd")
    assert loaded.estimators_[0].net_ is loaded.estimators_[1].net_
    assert loaded.named_estimators_["msp"] is loaded.estimators_[1]
    sizes = [(tmp_path / name).stat().st_size for name in ("one.asd", "two.asd")]
    assert sizes[1] < 1.5 * sizes[0]


def test_a_threshold_of_minus_infinity_and_a_frozen_detector_come_back(tmp_path, rng):
    X = rng.normal(size=(10, 2))
    frozen = FrozenEstimator(MahalanobisDetector().fit(X))
    with pytest.warns(UserWarning, match="cannot promise"):
        model = ThresholdTuner(frozen, false_alarm_rate=0.01).fit(X)
    assert model.offset_ == -np.inf
    save_model(model, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    assert loaded.offset_ == -np.inf
    assert loaded.detector_ is loaded.detector
    assert loaded.false_alarm_interval(10) == (0.0, 0.0)
    assert describe_model(tmp_path / "model.asd")["threshold"] == "-inf"


def test_the_names_of_columns_come_back(tmp_path, rng):
    X = pd.DataFrame(rng.normal(size=(9, 2)), columns=["mean", "std"])
    model = MahalanobisDetector().fit(X)
    save_model(model, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    with pytest.raises(ValueError, match="feature names"):
        loaded.score_samples(X[["std", "mean"]])


@pytest.mark.parametrize("network", ["inouet18", InoueT18, PVMilk20])
def test_the_librarys_networks_come_back(network, log_mels, tmp_path):
    detector = IDConfidenceDetector(
        network=network, batch_size=16, max_epochs=1, random_state=0
    ).fit(log_mels)
    save_model(detector, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    assert loaded.network == network
    np.testing.assert_array_equal(
        loaded.score_samples(log_mels), detector.score_samples(log_mels)
    )


def test_folders_of_this_computer_are_left_out(tmp_path):
    cache = tmp_path / "cache"
    pipe = make_pipeline(
        LogMelSegmenter(segment_duration=None, cache_dir=str(cache)),
        SpectrumStatistics(),
        MahalanobisDetector(),
        memory=str(tmp_path / "memory"),
    ).fit(make_clips(0))
    save_model(pipe, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    assert loaded.memory is None
    assert loaded[0].cache_dir is None
    assert str(tmp_path).encode() not in (tmp_path / "model.asd").read_bytes()


def test_a_model_of_a_gpu_moves_to_the_cpu(log_mels, tmp_path, monkeypatch):
    """This needs no GPU: a file names the device only in the parameter."""
    detector = clone(DETECTOR).fit(log_mels)
    expected = detector.score_samples(log_mels)
    detector.net_.device = "cuda"  # as device="auto" leaves it
    save_model(detector, tmp_path / "auto.asd")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = load_model(tmp_path / "auto.asd")
    assert loaded.net_.device == "cpu"
    np.testing.assert_array_equal(loaded.score_samples(log_mels), expected)
    detector.device = "cuda:99"
    save_model(detector, tmp_path / "cuda.asd")
    with pytest.warns(UserWarning, match="The model is on the CPU; set its parameter"):
        loaded = load_model(tmp_path / "cuda.asd")
    assert loaded.device == "cuda:99"
    np.testing.assert_array_equal(loaded.score_samples(log_mels), expected)


def test_a_description_tells_what_is_in_a_model(fitted, tmp_path):
    save_model(fitted("ensemble"), tmp_path / "model.asd")
    described = describe_model(tmp_path / "model.asd")
    assert described["format_version"] == 2
    assert described["checksum"] is True
    assert described["versions"]["sklearn_asd"] == sklearn_asd.__version__
    assert described["model"] == (
        "Pipeline(LogMelSegmenter, GammaProbabilityEnsemble(IDConfidenceDetector, "
        "PerMachine(Pipeline(SpectrumStatistics, StandardScaler, "
        "MahalanobisDetector))))"
    )
    assert described["sample_rate"] == 8000
    assert described["classes"] == ["fan/00", "fan/01"]
    assert described["threshold"] == fitted("ensemble")[-1].offset_
    (training, _) = described["training"]
    assert training["detector"] == "IDConfidenceDetector"
    assert (training["n_epochs"], training["kept_epoch"]) == (2, 2)
    save_model(fitted("augment"), tmp_path / "model.asd")
    (training,) = describe_model(tmp_path / "model.asd")["training"]
    assert 0 <= training["valid_accuracy"] <= 1


def test_each_machine_has_its_threshold_in_the_description(log_mels, tmp_path):
    each = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    save_model(each.fit(log_mels), tmp_path / "model.asd")
    assert describe_model(tmp_path / "model.asd")["threshold"] == each.offsets_


@pytest.mark.parametrize("loss", ["adacos", ArcFace(scale=20.0, n_sub_centers=2)])
def test_losses_come_back(loss, log_mels, tmp_path):
    detector = clone(DETECTOR).set_params(loss=loss).fit(log_mels)
    save_model(detector, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    assert loaded.loss == loss
    np.testing.assert_array_equal(
        loaded.score_samples(log_mels), detector.score_samples(log_mels)
    )


def test_poolings_come_back(log_mels, tmp_path):
    poolings = ("rank", std, Percentile(90), RankWeightedMean(0), BandCorrelations(3))
    rows = make_pipeline(SpectrumStatistics(poolings), MahalanobisDetector())
    near = EmbeddingNeighborDetector(DETECTOR, pooling=["max", median])
    loudest = clone(DETECTOR).set_params(pooling=RankWeightedMean(0.9))
    for model in (rows, near, loudest):
        save_model(model.fit(log_mels), tmp_path / "model.asd")
        loaded = load_model(tmp_path / "model.asd")
        assert repr(loaded) == repr(model)
        np.testing.assert_array_equal(
            loaded.score_samples(log_mels), model.score_samples(log_mels)
        )
    assert loaded.pooling == loudest.pooling
    save_model(rows, tmp_path / "model.asd")
    loaded = load_model(tmp_path / "model.asd")
    assert loaded[0].statistics == poolings
    assert loaded[0].n_values_ == rows[0].n_values_


def test_models_of_earlier_versions_have_the_default_poolings():
    statistics = load_model(MODELS / "power_format2.asd")[-1].estimator[0]
    assert statistics.statistics == ("mean", "std")
    assert load_model(MODELS / "augment_format2.asd")[-1].pooling == "mean"
    near = load_model(MODELS / "neighbors_format2.asd").estimator_[-1]
    assert near.pooling is None
    assert near.encoder_.pooling == "mean"
    fitted = load_model(MODELS / "power_format2.asd")[-1].estimators_["fan/00"][0]
    assert fitted.get_feature_names_out()[[0, 31]].tolist() == [
        "mean_band_000",
        "std_band_015",
    ]


def test_poolings_of_the_users_own_are_refused(log_mels, tmp_path):
    def loudness(values):
        return values.max(axis=0)

    child = type("MyRank", (RankWeightedMean,), {})()
    for own, message in ((loudness, "statistic over time, or pool"), (child, "MyRank")):
        rows = make_pipeline(SpectrumStatistics(["mean", own]), MahalanobisDetector())
        message = rf"statistics\[1\] is .*{'loudness' if own is loudness else message}"
        refuse_to_save(rows.fit(log_mels), message, tmp_path)


def test_sub_centers_of_earlier_files_are_those_of_the_loss():
    assert load_model(MODELS / "augment_format1.asd")[-1].loss == ArcFace(
        n_sub_centers=2
    )


# -- notes ---------------------------------------------------------------------------


def test_notes_come_back_and_do_not_touch_the_model(tmp_path, rng):
    X = rng.normal(size=(9, 2))
    model = MahalanobisDetector().fit(X)
    # A path that is not valid Unicode, as os.fsdecode gives it.
    notes = {"paths": ["caf\u00e9/\udcff.wav"], "rate": 0.5, "who": None}
    for name in ("a.asd", "b.asd"):
        save_model(model, tmp_path / name, notes=notes)
    assert describe_model(tmp_path / "a.asd")["notes"] == notes
    assert (tmp_path / "a.asd").read_bytes() == (tmp_path / "b.asd").read_bytes()
    assert vars(load_model(tmp_path / "a.asd")).keys() == vars(model).keys()
    save_model(model, tmp_path / "a.asd")
    assert describe_model(tmp_path / "a.asd")["notes"] is None


@pytest.mark.parametrize("notes", [np.nan, {"a": {1, 2}}, [Path("x")]])
def test_notes_that_json_cannot_hold_are_refused(notes, tmp_path, rng):
    model = MahalanobisDetector().fit(rng.normal(size=(9, 2)))
    with pytest.raises(ValueError, match="notes is not a JSON value: "):
        save_model(model, tmp_path / "a.asd", notes)
    assert not list(tmp_path.iterdir())


# -- what is not saved ---------------------------------------------------------------


def test_an_unfitted_model_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        save_model(IDConfidenceDetector(), tmp_path / "model.asd")


def refuse_to_save(model, message, folder):
    with pytest.raises(ValueError, match=message) as caught:
        save_model(model, folder / "model.asd")
    assert "joblib.dump" in str(caught.value)
    assert not list(folder.iterdir())


def test_what_cannot_be_saved_is_named_with_a_remedy(tmp_path, rng, log_mels):
    X = rng.normal(size=(9, 2))
    forest = make_pipeline(IsolationForest(n_estimators=2, random_state=0)).fit(X)
    refuse_to_save(forest, "'isolationforest' is IsolationForest, which", tmp_path)

    class Home(PVMilk20):
        pass

    for network in (Home, partial(Home, dropout=0.1), lambda **kw: PVMilk20(**kw)):
        own = clone(DETECTOR).set_params(network=network).fit(log_mels)
        refuse_to_save(own, "network is .*, code that a file must not hold", tmp_path)
    drawn = clone(DETECTOR).set_params(random_state=np.random.RandomState(0))
    refuse_to_save(drawn.fit(log_mels), "random_state is RandomState", tmp_path)
    child_of_loss = type("MyLoss", (ArcFace,), {})()
    own_loss = clone(DETECTOR).set_params(loss=child_of_loss).fit(log_mels)
    refuse_to_save(own_loss, "loss is .*MyLoss", tmp_path)
    more = MahalanobisDetector().fit(X)
    more.mine_ = 1
    refuse_to_save(more, r"unknown attributes \['mine_'\]", tmp_path)
    child = type("Child", (MahalanobisDetector,), {})().fit(X)
    refuse_to_save(child, "is Child, which is not one of", tmp_path)


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, rng):
    model = make_pipeline(MahalanobisDetector()).fit(rng.normal(size=(20, 2)))
    model.set_params(verbose=0)  # which Pipeline wants to be a bool
    refuse_to_save(model, "The 'verbose' parameter of Pipeline must be", tmp_path)


def test_views_of_the_users_own_are_refused(tmp_path):
    def mine(samples, sample_rate):
        return samples

    views = AugmentationExpander(
        pitch_steps=(0,), stretch_rates=(1,), extra=[WaveformView(mine), "harmonic"]
    )
    pipe = make_pipeline(views, LogMelSegmenter(), SpectrumStatistics())
    pipe.steps.append(("detect", MahalanobisDetector().fit(np.eye(4))))
    refuse_to_save(pipe, r"extra\[0\] is WaveformView\(name='mine'\)", tmp_path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, rng):
    model = MahalanobisDetector().fit(rng.normal(size=(9, 2)))
    save_model(model, tmp_path / "model.asd")
    before = (tmp_path / "model.asd").read_bytes()

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        save_model(clone(model).fit(rng.normal(size=(9, 3))), tmp_path / "model.asd")
    assert (tmp_path / "model.asd").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.asd"]


# -- hostile files -------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Content and arrays of a detector's file, to be changed."""
    levels = np.repeat([0.0, 3.0], 4)[:, None, None]
    X = ClipSpectrograms.from_arrays(
        np.random.default_rng(0).normal(size=(8, 16, 20)) + levels,
        machine_id=["00"] * 4 + ["01"] * 4,
        segment_frames=20,
    )
    path = tmp_path_factory.mktemp("saved") / "model.asd"
    save_model(clone(DETECTOR).fit(X), path)
    return path


class Bomb:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def raw_file(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data


NESTED = "[" * 100_000 + "]" * 100_000
BYTES = {
    "nothing": b"",
    "a few bytes": b"\x08\x00\x00",
    "text": b"RIFF" + bytes(100),
    "a header longer than the file": (10**6).to_bytes(8, "little") + b"{}",
    "a header of 16 EiB": b"\xff" * 8 + b"{}",
    "no JSON": raw_file(b"{'a': 1}"),
    "no object": raw_file([1]),
    "no UTF-8": raw_file(b'{"\xff": 1}'),
    "no metadata": raw_file({}),
    "metadata of another library": raw_file({"__metadata__": {"format": "pt"}}),
    "metadata that is not text": raw_file({"__metadata__": {"sklearn_asd": {}}}),
    "deep nesting": raw_file({"__metadata__": {"sklearn_asd": NESTED}}),
    "a deeply nested header": raw_file(NESTED.encode()),
    "a repeated name": raw_file(b'{"a": 1, "a": 2}'),
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
def test_what_is_not_a_model_file_is_refused(data, tmp_path):
    path = tmp_path / "model.asd"
    path.write_bytes(data)
    for read_it in (load_model, describe_model):
        with pytest.raises(ValueError, match="is not a file of save_model, or it is"):
            read_it(path)


def test_a_renamed_pickle_is_not_unpickled(tmp_path):
    trace = tmp_path / "trace"
    for protocol in (0, 2, 4):
        data = pickle.dumps(Bomb(trace), protocol=protocol)
        (tmp_path / "model.asd").write_bytes(data)
        with pytest.raises(
            ValueError, match="if you trust its source, use|and you trust"
        ):
            load_model(tmp_path / "model.asd")
    joblib.dump(Bomb(trace), tmp_path / "model.asd")
    torch.save({"a": torch.zeros(1)}, tmp_path / "torch.asd")
    for name in ("model.asd", "torch.asd"):
        with pytest.raises(ValueError, match="not a file of save_model"):
            load_model(tmp_path / name)
    assert not trace.exists()


def test_a_file_that_is_cut_or_changed_anywhere_is_refused(saved, tmp_path):
    data, path = saved.read_bytes(), tmp_path / "model.asd"
    for length in range(0, len(data), len(data) // 60):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="not a file of save_model"):
            load_model(path)
    rng = np.random.default_rng(0)
    for place in [*range(300), *rng.integers(len(data), size=500)]:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        for read_it in (load_model, describe_model):
            with pytest.raises(ValueError, match="not a file of save_model"):
                read_it(path)


def spoil(saved, tmp_path, change):
    content, tensors = read(saved)
    detector = content["objects"][-1]
    content = change(content, detector, tensors) or content
    write(tmp_path / "model.asd", content, tensors)
    return tmp_path / "model.asd"


def test_an_unspoilt_file_is_read(saved, tmp_path):
    load_model(spoil(saved, tmp_path, lambda content, detector, tensors: None))


def replace_array(name, change):
    def replace(content, detector, tensors):
        tensors[name] = np.ascontiguousarray(change(tensors[name]))

    return replace


def set_value(part, name, value):
    def replace(content, detector, tensors):
        (detector[part] if part else detector)[name] = value

    return replace


def set_content(**values):
    return lambda content, detector, tensors: content.update(values)


def drop_array(content, detector, tensors):
    del tensors["net_.classify.bias"]


def drop_attribute(content, detector, tensors):
    del detector["fitted"]["offset_"]


def drop_digest(content, detector, tensors):
    del content["digest"]


def add_array(content, detector, tensors):
    tensors["../../etc/passwd"] = np.zeros(3)


def say_twice(content, detector, tensors):
    return json.dumps(content).replace('"lr":', '"lr": 0.5, "lr":')


def say_nan(content, detector, tensors):
    return json.dumps(content).replace('"lr": 0.001', '"lr": NaN')


def say_huge(content, detector, tensors):
    return json.dumps(content).replace('"lr": 0.001', '"lr": 1e999')


def claim_classes(content, detector, tensors):
    names = [str(i) for i in range(20000)]
    detector["fitted"]["classes_"] = {"strings": [names, "str"]}
    detector["fitted"]["centers_"] = None


def nest(content, detector, tensors):
    value = 0
    for _ in range(900):
        value = [value]
    detector["params"]["verbose"] = value


def claim_size(content, detector, tensors):
    """Of a network that would take 4 EiB."""
    detector["fitted"]["n_features_in_"] = 2**55
    detector["fitted"]["_frames_fitted_on"]["dict"][0][1] = 2**55


WEIGHTS = "net_.embed.weight"
SPOILT = {
    "an unknown class": (set_value(None, "type", "Popen"), "'Popen' is unknown"),
    "a class by its path": (set_value(None, "type", "os.system"), "is unknown"),
    "a class that is not text": (set_value(None, "type", ["IDConf"]), "is unknown"),
    "an unknown parameter": (set_value("params", "x", 1), r"no parameters \['x"),
    "a parameter of a wrong type": (set_value("params", "lr", "1"), "'lr' parameter"),
    "a parameter out of range": (set_value("params", "lr", -1.0), "'lr' parameter"),
    "a network by its path": (
        set_value("params", "network", {"network": ["os.system", None]}),
        "is unknown",
    ),
    "settings that no network has": (
        set_value("params", "network", {"network": ["PVMilk20", {"dict": [["a", 1]]}]}),
        "cannot be called",
    ),
    "settings that are a list": (
        set_value("params", "network", {"network": ["PVMilk20", [1]]}),
        "must be a mapping",
    ),
    "an unknown loss": (
        set_value("params", "loss", {"loss": ["os.system", {}]}),
        "is unknown",
    ),
    "an unknown pooling": (
        set_value("params", "pooling", {"pooling": ["system", None]}),
        "is unknown",
    ),
    "settings that no pooling takes": (
        set_value("params", "pooling", {"pooling": ["Percentile", {"q": 101}]}),
        "is unknown",
    ),
    "settings that no loss has": (
        set_value("params", "loss", {"loss": ["ArcFace", {"a": 1}]}),
        "unexpected keyword",
    ),
    "an unknown attribute": (
        set_value("fitted", "predict", 1),
        r"unknown attributes \['predict'\]",
    ),
    "another class for it": (set_value("fitted", "__class__", "x"), "unknown attr"),
    "an attribute that is missing": (drop_attribute, r"lacks \['offset_'\]"),
    "an attribute of a wrong type": (
        set_value("fitted", "offset_", "0"),
        "offset_ is '0' of type str; it must be of type Real",
    ),
    "a true for a number": (set_value("fitted", "offset_", True), "must be of type"),
    "an estimator for a number": (
        set_value("fitted", "offset_", {"net": "net_"}),
        "of type SavedNet",
    ),
    "an unknown tag": (set_value("fitted", "offset_", {"eval": "1"}), "is unknown"),
    "two tags": (set_value("fitted", "offset_", {"float": "nan", "net": "a"}), "value"),
    "a reference to itself": (
        set_value("fitted", "offset_", {"object": 0}),
        "no estim",
    ),
    "a reference beyond": (set_value("fitted", "offset_", {"object": -1}), "no estim"),
    "an array that is not there": (
        set_value("fitted", "centers_", {"array": ["../x", "C"]}),
        "is unknown",
    ),
    "an order that no array has": (
        set_value("fitted", "centers_", {"array": ["centers_", "K"]}),
        "is unknown: 'K'",
    ),
    "one key for two values": (
        set_value("fitted", "offset_", {"dict": [["a", 1], ["a", 2]]}),
        "a key stands twice",
    ),
    "a Gamma distribution without a shape": (
        set_value("fitted", "offset_", {"gamma": [0.0, 1.0, 0.0]}),
        "no Gamma distribution has such parameters",
    ),
    "a Gamma distribution of NaN": (
        set_value("fitted", "offset_", {"gamma": [1.0, 1.0, {"float": "nan"}]}),
        "no Gamma distribution has such parameters",
    ),
    "a z-score without a spread": (
        set_value("fitted", "offset_", {"zscale": [1.0, 0.0]}),
        "no scores have such a mean and standard deviation",
    ),
    "a z-score of an infinite mean": (
        set_value("fitted", "offset_", {"zscale": [{"float": "inf"}, 1.0]}),
        "no scores have such a mean and standard deviation",
    ),
    "names of rows that are no list": (
        set_value("fitted", "offset_", {"named_rows": ["a", []]}),
        "it must hold a list",
    ),
    "a table of single values": (
        set_value("fitted", "centers_", {"table": [["a", 1]]}),
        "its columns are no arrays",
    ),
    "numbers among strings": (
        set_value("fitted", "classes_", {"strings": [["00", 1], "str"]}),
        "must hold strings",
    ),
    "a dictionary of dictionaries": (
        set_value("fitted", "_frames_fitted_on", {"dict": [{"a": 1}]}),
        "must hold a list",
    ),
    "parameters in a list": (set_value(None, "params", [1]), "not a table of values"),
    "weights of a wrong shape": (
        replace_array(WEIGHTS, lambda a: a[:, 1:]),
        "the weights 'embed.weight' of PVMilk20 are",
    ),
    "weights of a wrong type": (
        replace_array(WEIGHTS, lambda a: a.astype(np.float64)),
        r"torch.float64, .*must be \(torch.float32",
    ),
    "weights that are missing": (drop_array, "'classify.bias' of PVMilk20 are None"),
    "arrays that no estimator has": (add_array, "no estimator has the arrays"),
    "more classes than weights": (claim_classes, "classes_ does not name 2 classes"),
    "sizes beyond any memory": (claim_size, "the weights|cannot be built"),
    "a repeated key": (say_twice, "a key appears twice"),
    "NaN": (say_nan, "NaN is not a finite number"),
    "a number that is too large": (say_huge, "1e999 is not a finite number"),
    "deep nesting": (nest, "verbose|recursion"),
    "no format": (set_content(format_version=None), "format version None"),
    "a format that is not a number": (set_content(format_version="1"), "version '1'"),
    "a later format": (set_content(format_version=3), "install a later sklearn_asd"),
    "no estimators": (set_content(objects=[]), "holds no estimator"),
    "a text for an estimator": (set_content(objects=["x"]), "is not an estimator"),
    "a table of estimators": (set_content(objects={"a": 1}), "holds no estimator"),
    "a summary that is text": (set_content(summary="x"), "has no summary"),
    "more than is known": (set_content(hook="import os"), "fields"),
    "no digest": (drop_digest, "fields"),
}


@pytest.mark.parametrize(("change", "message"), SPOILT.values(), ids=SPOILT)
def test_a_hostile_file_is_refused(change, message, saved, tmp_path):
    path = spoil(saved, tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_file_cannot_name_a_folder_to_read_from_or_write_to(fitted, tmp_path):
    save_model(fitted("neighbors"), tmp_path / "good.asd")
    for kind, name in (("LogMelSegmenter", "cache_dir"), ("Pipeline", "memory")):
        content, tensors = read(tmp_path / "good.asd")
        for one in content["objects"]:
            if one["type"] == kind:
                one["params"][name] = str(tmp_path / "there")
        write(tmp_path / "bad.asd", content, tensors)
        with pytest.raises(ValueError, match=f"{kind} names a folder"):
            load_model(tmp_path / "bad.asd")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "steps", [5, [1], [{"tuple": ["a", 1]}], [{"tuple": [1, None]}]]
)
def test_steps_that_are_none_are_refused(steps, fitted, tmp_path):
    save_model(fitted("augment"), tmp_path / "model.asd")
    content, tensors = read(tmp_path / "model.asd")
    content["objects"][-1]["params"]["steps"] = steps
    write(tmp_path / "model.asd", content, tensors)
    with pytest.raises(ValueError, match="Pipeline.steps is no list"):
        load_model(tmp_path / "model.asd")


# -- pickles of other versions -------------------------------------------------------


@pytest.mark.parametrize(
    "estimator", [LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()]
)
def test_a_pickle_of_another_version_warns(estimator, monkeypatch, tmp_path):
    with monkeypatch.context() as other:
        other.setattr(_base, "__version__", "0.0.7")
        joblib.dump(estimator, tmp_path / "old.joblib")
        joblib.load(tmp_path / "old.joblib")  # by the same version, in silence
    with pytest.warns(UserWarning, match=r"sklearn_asd \(0.0.7; here is .*fit the"):
        loaded = joblib.load(tmp_path / "old.joblib")
    assert vars(loaded) == vars(estimator)


def test_a_pickle_of_before_versions_were_kept_warns():
    state = {"n_folds": 5, "contamination": 0.1}
    with pytest.warns(UserWarning, match="an earlier one"):
        MahalanobisDetector().__setstate__(state)
