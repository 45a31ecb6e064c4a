"""Graphs: the same scores and verdicts without Python."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

import sklearn_asd
from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    OnlyMachineTypes,
    SpectrumStatistics,
    ThresholdTuner,
    export_onnx,
    load_clips,
)
from sklearn_asd.audio import read_file
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.export.gamma import GammaTables
from sklearn_asd.export.judges import find_machines, make_judge
from sklearn_asd.export.sound import LogMelSegments
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.networks import AdaCos

SEGMENTER = LogMelSegmenter(segment_duration=0.64, segment_hop=0.32)
DETECTOR = IDConfidenceDetector(
    batch_size=16, max_epochs=15, lr=3e-3, precision="float32", random_state=0
)
ANGULAR = IDConfidenceDetector(
    loss=AdaCos(n_sub_centers=2),
    batch_size=16,
    max_epochs=10,
    lr=3e-3,
    precision="float32",
    random_state=0,
)


class FirstBands(nn.Module):
    """A network whose logits are the levels of the first bands, in half decibels."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.n_classes = n_classes
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, log_mel):
        logits = log_mel[:, : self.n_classes].mean(dim=2) / 2 + 0 * self.unused
        return logits, logits


@pytest.fixture(scope="module")
def clips():
    sounds = make_machine_sounds(
        ["fan", "pump"],
        n_machines=2,
        n_train=4,
        n_test_normal=2,
        n_test_anomalous=1,
        duration=2.0,
        random_state=0,
    )
    return sounds[sounds["split"] == "train"], sounds[sounds["split"] == "test"]


@pytest.fixture(scope="module")
def ensemble(clips):
    members = [("id", DETECTOR), ("angular", ANGULAR)]
    grouped = GammaProbabilityEnsemble(members, group_by="machine_type")
    return make_pipeline(SEGMENTER, grouped).fit(clips[0])


def name_machines(clips):
    return (clips["machine_type"] + "/" + clips["machine_id"]).tolist()


def open_graph(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def run(path, waveforms, places):
    """Anomaly scores and verdicts of a graph."""
    session = open_graph(path)
    names = [one.name for one in session.get_inputs()]
    results = []
    for waveform, place in zip(waveforms, places, strict=True):
        inputs = {"waveform": np.float32(waveform), "machine": np.array(place)}
        results.append(session.run(None, {name: inputs[name] for name in names}))
    scores, verdicts = zip(*results, strict=True)
    return np.array(scores), np.array(verdicts)


def judge(model, waveforms, machines):
    """Scores by the torch modules that a graph is made of."""
    known = find_machines(model)
    module = make_judge(model, known)
    places = [torch.tensor(known.index(machine)) for machine in machines]
    with torch.no_grad():
        return np.array(
            [
                module(torch.from_numpy(np.float32(waveform)), place).item()
                for waveform, place in zip(waveforms, places, strict=True)
            ]
        )


# -- parts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"segment_duration": None, "dtype": "float16"},
        {"sample_rate": 8000, "n_fft": 501, "hop_length": 160, "n_mels": 20},
        {"n_fft": 512, "fmin": 100.0, "fmax": 5000.0, "segment_hop": 0.5},
    ],
)
@pytest.mark.parametrize("level", [0.3, 1e-4, 0.0])
def test_segments_are_those_of_the_segmenter(settings, level, rng):
    segmenter = LogMelSegmenter(**settings)
    waveform = np.float32(level * rng.normal(size=100_001))
    spectrograms = segmenter.fit_transform([waveform])
    windows = spectrograms.windows()
    expected = np.stack(
        [
            spectrograms.frames[first : first + length].T
            for first, length in zip(windows.start, windows.n_frames, strict=True)
        ]
    )
    segments = LogMelSegments(segmenter)(torch.from_numpy(waveform)).numpy()
    assert segments.shape == expected.shape
    tolerance = 0.07 if segmenter.dtype == "float16" else 2e-4  # dB
    np.testing.assert_allclose(segments, expected.astype(np.float32), atol=tolerance)


def test_tables_of_an_exponential_distribution_are_its_formulas():
    tables = GammaTables([[GammaScale(shape=1.0, scale=0.01, shift=0.0)]])
    for score in (0.0, 1e-12, 1e-3, 0.05, 1.0):
        scores = torch.tensor([score], dtype=torch.float64)
        log_cdf, log_sf = (one.item() for one in tables(scores, torch.tensor(0)))
        assert log_sf == pytest.approx(-score / 0.01, rel=1e-7, abs=1e-20)
        if score:
            exact = np.log(-np.expm1(-score / 0.01))
            assert log_cdf == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize(
    "scale",
    [(0.1, 0.003, 0.0), (0.7, 1e-9, 0.0), (3.0, 0.2, 0.02), (2000.0, 3e-4, 0.0)],
)
def test_tables_hold_the_distribution_of_each_group_and_member(scale, rng):
    scale, other = GammaScale(*scale), GammaScale(2.0, 0.1, 0.0)
    tables = GammaTables([[other, other], [other, scale]])
    scores = np.concatenate([rng.uniform(size=50), np.geomspace(1e-25, 1, 50)])
    exact_cdf, exact_sf = scale.log_cdf_sf(scores)
    for score, cdf, sf in zip(scores, exact_cdf, exact_sf, strict=True):
        found = tables(torch.tensor([0.5, score]).double(), torch.tensor(1))
        assert found[1][1].item() == pytest.approx(sf, rel=1e-6, abs=1e-6)
        assert np.exp(found[0][1].item()) == pytest.approx(np.exp(cdf), abs=1e-6)


def test_a_distribution_too_narrow_for_a_table_is_refused():
    with pytest.raises(ValueError, match="too narrow for a table.*scaling=None"):
        GammaTables([[GammaScale(1e9, 5e-10, 0.0)]])


@pytest.mark.parametrize("aggregation", ["probability", "mean", "product"])
@pytest.mark.parametrize(
    ("scaling", "group_by"), [("gamma", "machine_id"), ("gamma", None), (None, None)]
)
def test_every_aggregation_scores_as_the_ensemble(
    aggregation, scaling, group_by, clips, ensemble
):
    train, test = clips
    members = ensemble[-1].named_estimators_.items()
    combined = GammaProbabilityEnsemble(
        [(name, FrozenEstimator(member)) for name, member in members],
        aggregation=aggregation,
        scaling=scaling,
        group_by=group_by,
    )
    model = make_pipeline(SEGMENTER, combined).fit(train)
    for number, group in enumerate(combined.scales_):
        # wide enough to be told apart: of few clips and epochs they are narrow
        narrow = GammaScale(2.0 + number, 0.1, 0.0)
        combined.scales_[group] = [narrow, GammaScale(0.3, 0.2 + number, 0.01)]
    scores = judge(model, test["audio"], name_machines(test))
    np.testing.assert_allclose(scores, -model.score_samples(test), rtol=2e-5)


def test_members_that_know_different_machines_share_those_of_both(clips):
    train, test = clips
    fans = OnlyMachineTypes(make_pipeline(SEGMENTER, clone(DETECTOR)), ["fan"])
    members = [("fans", fans), ("all", make_pipeline(SEGMENTER, clone(DETECTOR)))]
    model = GammaProbabilityEnsemble(members).fit(train)
    assert find_machines(model) == ["fan/00", "fan/01"]
    test = test[test["machine_type"] == "fan"]
    scores = judge(model, test["audio"], name_machines(test))
    np.testing.assert_allclose(scores, -model.score_samples(test), rtol=2e-5)


# -- graphs --------------------------------------------------------------------------


def test_a_pipeline_becomes_a_graph_that_scores_alike(clips, tmp_path):
    train, test = clips
    model = make_pipeline(SEGMENTER, clone(DETECTOR)).fit(train)
    machines = export_onnx(model, tmp_path / "model.onnx")
    assert machines == ["fan/00", "fan/01", "pump/00", "pump/01"]
    places = [machines.index(name) for name in name_machines(test)]
    scores, verdicts = run(tmp_path / "model.onnx", test["audio"], places)
    np.testing.assert_allclose(scores, -model.score_samples(test), atol=1e-5)
    np.testing.assert_array_equal(verdicts, model.predict(test))
    assert scores.dtype == np.float64
    # of any length, and another machine's: the score depends on both
    longer = np.concatenate(test["audio"].tolist()[:3])
    for place, machine in ((0, ("fan", "00")), (2, ("pump", "00"))):
        row = train.iloc[[0]].assign(machine_type=machine[0], machine_id=machine[1])
        row.at[row.index[0], "audio"] = longer
        (score,), _ = run(tmp_path / "model.onnx", [longer], [place])
        assert score == pytest.approx(-model.score_samples(row)[0], abs=1e-5)
    # shorter than a segment: nothing speaks for it
    for n_samples in (1, 5000):
        (score,), (verdict,) = run(tmp_path / "model.onnx", [np.zeros(n_samples)], [0])
        assert np.isnan(score)
        assert verdict == -1


def test_the_file_says_what_it_needs(clips, tmp_path):
    train, test = clips
    larger = clone(DETECTOR).set_params(network="inouet18", max_epochs=2)
    tuner = ThresholdTuner(larger, false_alarm_rate=0.4, random_state=0)
    model = make_pipeline(SEGMENTER, tuner).fit(train)
    tuner.offset_ = float(np.median(model.score_samples(test)))
    machines = export_onnx(model, tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    session = open_graph(tmp_path / "model.onnx")
    inputs = [(one.name, one.type, len(one.shape)) for one in session.get_inputs()]
    assert inputs == [("waveform", "tensor(float)", 1), ("machine", "tensor(int64)", 0)]
    outputs = [(one.name, one.type) for one in session.get_outputs()]
    assert outputs == [
        ("anomaly_score", "tensor(double)"),
        ("verdict", "tensor(int64)"),
    ]
    text = session.get_modelmeta().custom_metadata_map["sklearn_asd"]
    assert json.loads(text) == {
        "version": sklearn_asd.__version__,
        "sample_rate": 16000,
        "machines": machines,
        "threshold": tuner.offset_,
    }
    places = [machines.index(name) for name in name_machines(test)]
    _, verdicts = run(tmp_path / "model.onnx", test["audio"], places)
    np.testing.assert_array_equal(verdicts, model.predict(test))
    assert set(verdicts) == {1, -1}


def test_whole_clips_that_need_no_machine_are_exported(clips, tmp_path):
    train, test = clips
    whole = clone(SEGMENTER).set_params(segment_duration=None, dtype="float16")
    detector = clone(ANGULAR).set_params(confidence="msp")
    model = make_pipeline(whole, detector).fit(train)
    export_onnx(model, tmp_path / "model.onnx")
    assert len(open_graph(tmp_path / "model.onnx").get_inputs()) == 1
    audio = [waveform[: 32000 - 999 * i] for i, waveform in enumerate(test["audio"])]
    scores, _ = run(tmp_path / "model.onnx", audio, [0] * len(audio))
    cut = test.assign(audio=audio)
    # a frame next to the border between two float16 may fall on either side
    np.testing.assert_allclose(scores, -model.score_samples(cut), atol=1e-4)


def test_an_ensemble_becomes_a_graph_that_scores_alike(ensemble, clips, tmp_path):
    test = clips[1]
    machines = export_onnx(ensemble, tmp_path / "model.onnx")
    places = [machines.index(name) for name in name_machines(test)]
    scores, verdicts = run(tmp_path / "model.onnx", test["audio"], places)
    expected = -ensemble.score_samples(test)
    np.testing.assert_allclose(scores, expected, rtol=2e-5)
    np.testing.assert_allclose(-np.expm1(-scores), -np.expm1(-expected), atol=1e-5)
    np.testing.assert_array_equal(verdicts, ensemble.predict(test))
    (score,), (verdict,) = run(tmp_path / "model.onnx", [np.zeros(100)], [0])
    assert np.isnan(score)
    assert verdict == -1


def test_the_most_normal_clips_are_not_tied(tmp_path):
    """In float32, 1 - p would be 0 for each of them."""
    time = np.arange(16000) / 8000
    tones = [np.float32(level * np.sin(2 * np.pi * 20 * time)) for level in (1, 0.5)]
    segmenter = clone(SEGMENTER).set_params(sample_rate=8000, n_mels=8)
    detector = IDConfidenceDetector(
        network=FirstBands, max_epochs=1, center_loss_weight=0, random_state=0
    )
    clips = sklearn_asd.Clips(tones, machine_id=["a", "b"])
    model = make_pipeline(segmenter, detector).fit(clips)
    export_onnx(model, tmp_path / "model.onnx")
    scores, _ = run(tmp_path / "model.onnx", tones, [0, 0])
    expected = -model.score_samples(sklearn_asd.Clips(tones, machine_id=["a", "a"]))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert (scores < 1e-9).all()
    assert scores[0] != scores[1]


def test_graphs_score_real_recordings_alike(recordings, tmp_path):
    clips = load_clips(recordings("dcase2020_samples"))
    clips = clips[clips["machine_type"].isin(["fan", "valve"])]
    normal = clips[clips["label"] == 1].groupby(["machine_type", "machine_id"])
    train = normal.head(1)
    detector = clone(DETECTOR).set_params(center_loss_weight=0.0, max_epochs=4)
    model = make_pipeline(LogMelSegmenter(), detector).fit(train)
    machines = export_onnx(model, tmp_path / "model.onnx")
    quiet = [read_file(path, 16000) for path in clips["path"]]
    places = [machines.index(name) for name in name_machines(clips)]
    for level in (1.0, 1e-3):
        audio = [level * waveform for waveform in quiet]
        table = clips.drop(columns="path").assign(audio=audio)
        scores, verdicts = run(tmp_path / "model.onnx", audio, places)
        np.testing.assert_allclose(scores, -model.score_samples(table), atol=1e-5)
        np.testing.assert_array_equal(verdicts, model.predict(table))


# -- what is not exported ------------------------------------------------------------


NOWHERE = "no_such_folder/never.onnx"  # so that a test that fails leaves no file


def refuse(model, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(model, NOWHERE)


def test_parts_that_cannot_be_exported_are_named(clips, ensemble):
    train, _ = clips
    expand = AugmentationExpander(pitch_steps=[0], stretch_rates=[1], extra=["rotate"])
    tiny = {"network": "pvmilk20", "batch_size": 32, "max_epochs": 1, "random_state": 0}
    augment = AugmentConfidenceDetector(**tiny)
    views = Pipeline([("views", expand), ("cut", SEGMENTER), ("hear", augment)])
    views.fit(train)
    refuse(views, "'views', AugmentationExpander, cannot be exported: a graph holds")
    refuse(augment, "^AugmentConfidenceDetector cannot be exported")
    spectrum = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    refuse(make_pipeline(SEGMENTER, spectrum).fit(train), "'spectrumstatistics', Spec")
    members = [("id", ensemble[-1].estimators_[0]), ("spectrum", spectrum)]
    members = [(name, FrozenEstimator(member)) for name, member in members]
    spectrum.fit(SEGMENTER.transform(train))
    mixed = GammaProbabilityEnsemble(members)
    refuse(make_pipeline(SEGMENTER, mixed).fit(train), "'spectrumstatistics', Spec")
    nested = GammaProbabilityEnsemble([("inner", FrozenEstimator(ensemble))])
    refuse(nested.fit(train), "'inner', FrozenEstimator, cannot be exported")


def test_models_that_make_no_graph_are_refused_with_a_remedy(clips, ensemble):
    train, _ = clips
    refuse(ensemble[-1], "takes spectrograms, and a graph takes samples: export Pipe")
    by_label = clone(ensemble[-1]).set_params(group_by="site")
    by_label.estimators = [
        (name, FrozenEstimator(make_pipeline(SEGMENTER, member)))
        for name, member in ensemble[-1].named_estimators_.items()
    ]
    refuse(by_label.fit(train.assign(site="a")), "group_by='site', a column that a gr")
    slow = clone(SEGMENTER).set_params(sample_rate=8000)
    rates = GammaProbabilityEnsemble(
        [
            ("fast", make_pipeline(SEGMENTER, clone(DETECTOR))),
            ("slow", make_pipeline(slow, DETECTOR)),
        ]
    )
    refuse(rates.fit(train), r"sample rates of \[8000.0, 16000.0\] Hz")
    other = clone(SEGMENTER).set_params(segment_duration=1.0)
    refuse(Pipeline([("cut", other), ("hear", ensemble[-1])]), "segment_frames=31")
    with pytest.raises(NotFittedError):
        export_onnx(make_pipeline(SEGMENTER, clone(DETECTOR)), NOWHERE)


class AsksForNumbers(FirstBands):
    def forward(self, log_mel):
        if log_mel.mean() > 0:
            log_mel = -log_mel
        return super().forward(log_mel)


def test_a_network_that_torch_cannot_export_is_named(clips):
    detector = IDConfidenceDetector(network=AsksForNumbers, max_epochs=1)
    model = make_pipeline(SEGMENTER, detector).fit(clips[0])
    refuse(model, "torch cannot export AsksForNumbers for clips of any length")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install sklearn_asd\[onnx\]"):
        export_onnx(None, NOWHERE)
