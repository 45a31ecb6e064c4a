"""Graphs: the same scores and verdicts without Python."""

import copy
import json
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from graphs import (
    cut_at_the_edges,
    open_graph,
    run,
    score_in_python,
    spoil,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    RuntimeException,
)
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import sklearn_asd
from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    LogMelSegmenter,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    PowerSpectrum,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
    export_onnx,
    load_clips,
)
from sklearn_asd._cli.systems import make_system
from sklearn_asd.audio import BadClipError, read_file
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.export.detectors import find_machines, make_module
from sklearn_asd.export.features import LogMel, Welch
from sklearn_asd.export.gamma import GammaProbabilities, log_complement
from sklearn_asd.export.pooling import make_pooling
from sklearn_asd.features import (
    POOLINGS,
    BandCorrelations,
    Percentile,
    RankWeightedMean,
    pool,
)
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.structure import walk
from sklearn_asd.networks import AdaCos
from sklearn_asd.presets import make_detector

SEGMENTER = LogMelSegmenter(segment_duration=0.64, segment_hop=0.32)
WHOLE = LogMelSegmenter(segment_duration=None)
DETECTOR = IDConfidenceDetector(
    batch_size=16, max_epochs=5, lr=3e-3, precision="float32", random_state=0
)
ANGULAR = IDConfidenceDetector(
    loss=AdaCos(n_sub_centers=2),
    batch_size=16,
    max_epochs=4,
    lr=3e-3,
    precision="float32",
    random_state=0,
)
# What the command is given, with a network of few steps.
OPTIONS = {
    "sample_rate": 16000,
    "max_epochs": 4,
    "batch_size": 16,
    "device": "cpu",
    "n_jobs": 1,
    "random_state": 0,
}


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


def score(model, waveforms, machines):
    """Scores by the torch modules that a graph is made of."""
    known = find_machines(model)
    module = make_module(model, known)
    places = [torch.tensor(known.index(machine)) for machine in machines]
    with torch.no_grad():
        return np.array(
            [
                module(torch.from_numpy(np.float32(waveform)), place).item()
                for waveform, place in zip(waveforms, places, strict=True)
            ]
        )


# -- features ------------------------------------------------------------------------


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
    frames, segments, _ = LogMel(segmenter)(torch.from_numpy(waveform))
    assert segments.shape == expected.shape
    tolerance = 0.07 if segmenter.dtype == "float16" else 2e-4  # dB
    np.testing.assert_allclose(segments, expected.astype(np.float32), atol=tolerance)
    np.testing.assert_allclose(
        frames, spectrograms.frames.astype(np.float32), atol=tolerance
    )


def test_a_loud_tone_hides_no_quiet_band_in_a_graph(rng):
    segmenter = LogMelSegmenter(segment_duration=None)
    quiet = 1e-4 * rng.normal(size=60_000)
    quiet[20_000:40_000] += np.sin(0.2 * np.arange(20_000))
    waveform = np.float32(quiet)
    expected = segmenter.fit_transform([waveform]).frames
    frames, _, _ = LogMel(segmenter)(torch.from_numpy(waveform))
    np.testing.assert_allclose(frames, expected, atol=2e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"remove_level": False, "dtype": "float16"},
        {"sample_rate": 8000, "n_fft": 1001, "n_bands": 20, "fmin": 1.0, "fmax": 3e3},
    ],
)
@pytest.mark.parametrize("level", [0.3, 1e-4, 0.0])
def test_power_spectra_are_those_of_any_length(settings, level, rng):
    spectrum = PowerSpectrum(**settings)
    welch = Welch(spectrum)
    for n_samples in (1, 2, 501, 8191, 8192, 12_288, 100_001):
        waveform = np.float32(level * rng.normal(size=n_samples))
        expected = spectrum.fit_transform([waveform]).frames.astype(np.float32)
        frames, segments, _ = welch(torch.from_numpy(waveform))
        np.testing.assert_allclose(frames, expected, atol=1e-4, rtol=1e-3)
        assert segments.shape == (1, spectrum.n_bands, 1)


# -- poolings over time --------------------------------------------------------------

ALL_POOLINGS = (
    *POOLINGS,
    *(RankWeightedMean(decay) for decay in (0, 0.2, 1.0)),
    *(Percentile(q) for q in (0, 33.3, 50, 95, 100)),
    *(BandCorrelations(n_bands) for n_bands in (2, 5)),
)


class Pools(nn.Module):
    def __init__(self, poolings):
        super().__init__()
        self.pool = make_pooling(poolings)

    def forward(self, values):
        return self.pool(values)


@pytest.fixture(scope="module")
def pooling_graph(tmp_path_factory):
    """All poolings, one behind the other: one export takes seconds."""
    any_length = {"values": {0: torch.export.Dim.DYNAMIC}}
    values = torch.zeros(7, 12, dtype=torch.float64)
    program = torch.onnx.export(
        Pools(ALL_POOLINGS).eval(),
        (values,),
        dynamo=True,
        dynamic_shapes=any_length,
        verbose=False,
    )
    path = tmp_path_factory.mktemp("graph") / "pool.onnx"
    onnx.save_model(program.model_proto, path)
    return open_graph(path)


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize("pooling", ALL_POOLINGS, ids=str)
def test_a_graph_pools_clips_of_any_length_as_python(pooling, rng, pooling_graph):
    before = list(ALL_POOLINGS[: ALL_POOLINGS.index(pooling)])
    for n_times in (1, 2, 30, 313):
        values = rng.gamma(2.0, 20.0, size=(n_times, 12)) - 80  # dB, skewed
        values[:, 3] = -79.9  # constant: silence
        values[:, 4] = values[:, 5].round(-1)  # with ties
        expected = pool(values, pooling)
        start = len(pool(values, before)) if before else 0
        found = pooling_graph.run(None, {"values": values})[0]
        np.testing.assert_allclose(
            found[start : start + len(expected)], expected, rtol=1e-9, atol=1e-9
        )


# -- Gamma distributions ---------------------------------------------------------------

SHAPES = [0.001, 0.01, 0.1, 0.5, 0.99, 1.0, 1.01, 2.0, 7.0, 100.0, 3e3, 1e5]


def choose_scores(scale):
    """Scores from next to nothing, and from far below the mean, to far in the tail."""
    spread = np.sqrt(scale.shape)
    x = scale.shape + spread * np.linspace(-15, 100, 300)
    if scale.shape < 200:
        x = np.concatenate([x, np.geomspace(1e-300, 1e12, 300)])
    return scale.scale * x[x > 0] - scale.shift


def assert_same_logarithms(found, distribution, scores):
    exact = distribution.log_cdf_sf(scores)
    for logarithm, expected in zip(found, exact, strict=True):
        # As far as Python has all digits: probabilities of less end at 1e-323.
        matters = (np.abs(expected) > 1e-300) & (scores > scores[exact[0] > -700].min())
        assert matters.sum() > 0.3 * len(scores)
        np.testing.assert_allclose(logarithm[matters], expected[matters], rtol=1e-7)
        # Closer than 1e-6 everywhere, also where logarithms say less.
        np.testing.assert_allclose(np.exp(logarithm), np.exp(expected), atol=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (3e-7, 0.0), (1e5, 2e4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_are_those_of_the_distribution(shape, scale, shift):
    distribution, other = GammaScale(shape, scale, shift), GammaScale(2.0, 0.1, 0.0)
    scores = choose_scores(distribution)
    n = len(scores)
    module = GammaProbabilities([[other] * n, [distribution] * n])
    found = module(torch.from_numpy(scores), torch.tensor(1))
    assert_same_logarithms([one.numpy() for one in found], distribution, scores)


EXPORTED_SHAPES = [0.1, 1.0, 7.0, 3e3]


@pytest.fixture(scope="module")
def gamma_graph(tmp_path_factory):
    """A group of the distribution of each of these shapes, for a thousand scores."""
    groups = [[GammaScale(shape, 0.1, 0.02)] * 1000 for shape in EXPORTED_SHAPES]
    inputs = {"scores": torch.ones(1000, dtype=torch.float64), "group": torch.tensor(0)}
    module = GammaProbabilities(groups).eval()
    program = torch.onnx.export(module, kwargs=inputs, dynamo=True, verbose=False)
    path = tmp_path_factory.mktemp("graph") / "gamma.onnx"
    onnx.save_model(program.model_proto, path)
    return open_graph(path)


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize("shape", EXPORTED_SHAPES)
def test_a_runtime_keeps_the_digits_of_probabilities(shape, gamma_graph):
    distribution = GammaScale(shape, 0.1, 0.02)
    scores = choose_scores(distribution)
    group = np.array(EXPORTED_SHAPES.index(shape))
    inputs = {"scores": np.resize(scores, 1000), "group": group}
    found = [one[: len(scores)] for one in gamma_graph.run(None, inputs)]
    assert_same_logarithms(found, distribution, scores)


def test_an_exponential_distribution_has_its_formulas():
    module = GammaProbabilities([[GammaScale(shape=1.0, scale=0.01, shift=0.0)]])
    for score in (1e-12, 1e-3, 0.05, 1.0, 1e6):
        scores = torch.tensor([score], dtype=torch.float64)
        log_cdf, log_sf = (one.item() for one in module(scores, torch.tensor(0)))
        assert log_sf == pytest.approx(-score / 0.01, rel=1e-10)
        if score < 0.1:
            assert log_cdf == pytest.approx(np.log(-np.expm1(-score / 0.01)), rel=1e-10)


def test_scores_at_or_below_0_have_no_probability_below_and_nan_stays():
    module = GammaProbabilities([[GammaScale(0.5, 2.0, 0.1)] * 3])
    scores = torch.tensor([-0.1, -7.0, torch.nan], dtype=torch.float64)
    log_cdf, log_sf = module(scores, torch.tensor(0))
    np.testing.assert_array_equal(log_cdf, [-np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(log_sf, [0, 0, np.nan])


def test_a_complement_keeps_all_digits():
    near_1, others = -np.geomspace(1e-300, 0.6, 200), -np.geomspace(0.6, 700, 200)
    exact = np.append(np.log(-np.expm1(near_1)), np.log1p(-np.exp(others)))
    log_p = np.append(near_1, others)
    found = log_complement(torch.from_numpy(log_p)).numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-14)


# -- ensembles -------------------------------------------------------------------------


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
    scores = score(model, test["audio"], name_machines(test))
    np.testing.assert_allclose(scores, -model.score_samples(test), rtol=2e-5)


def test_members_that_know_different_machines_share_those_of_both(clips):
    train, test = clips
    fans = OnlyMachineTypes(make_pipeline(SEGMENTER, clone(DETECTOR)), ["fan"])
    members = [("fans", fans), ("all", make_pipeline(SEGMENTER, clone(DETECTOR)))]
    model = GammaProbabilityEnsemble(members).fit(train)
    assert find_machines(model) == ["fan/00", "fan/01"]
    test = test[test["machine_type"] == "fan"]
    scores = score(model, test["audio"], name_machines(test))
    np.testing.assert_allclose(scores, -model.score_samples(test), rtol=2e-5)


# -- graphs --------------------------------------------------------------------------


def make_spectrum():
    return make_pipeline(SpectrumStatistics(), MahalanobisDetector(contamination=0.3))


def make_near(detector, **settings):
    return EmbeddingNeighborDetector(FrozenEstimator(detector), **settings)


def pooled(detector):
    """The same network, whose scores are pooled otherwise."""
    model = copy.copy(detector).set_params(pooling="max")
    return FrozenEstimator(model)


def make_scaled():
    return make_pipeline(SpectrumStatistics(), StandardScaler(), MahalanobisDetector())


def make_nested(detector):
    """A tuned ensemble of an ensemble, of detectors on two settings of frames."""
    inner = GammaProbabilityEnsemble(
        [("near", make_near(detector)), ("id", FrozenEstimator(detector))],
        aggregation="product",
        group_by="machine_type",
    )
    members = [
        ("inner", make_pipeline(SEGMENTER, inner)),
        ("spectrum", make_pipeline(WHOLE, make_spectrum())),
    ]
    ensemble = GammaProbabilityEnsemble(members, aggregation="mean")
    return ThresholdTuner(ensemble, "gamma", random_state=0)


def make_z_scores(detector, **parameters):
    members = [
        ("near", make_pipeline(SEGMENTER, make_near(detector))),
        ("rows", make_pipeline(WHOLE, EmbeddingNeighborDetector(SpectrumStatistics()))),
    ]
    return ZScoreEnsemble(members, calibration_cv=2, **parameters)


# What is exported: each is made of a fitted IDConfidenceDetector.
KINDS = {
    "spectrum": lambda _: make_pipeline(WHOLE, PerMachine(make_spectrum())),
    "thresholds of machines": lambda _: make_pipeline(
        WHOLE, ThresholdTuner(PerMachine(make_spectrum()), "gamma")
    ),
    "spectrum of all machines": lambda _: make_pipeline(SEGMENTER, make_spectrum()),
    "scaled": lambda _: make_pipeline(SEGMENTER, PerMachine(make_scaled())),
    "scaled by the mean": lambda _: make_pipeline(
        WHOLE,
        SpectrumStatistics(),
        StandardScaler(with_std=False),
        MahalanobisDetector(),
    ),
    "id": lambda detector: make_pipeline(SEGMENTER, FrozenEstimator(detector)),
    "near": lambda detector: make_pipeline(SEGMENTER, make_near(detector)),
    "three near": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, n_neighbors=3)
    ),
    "whitened": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, metric="mahalanobis")
    ),
    "five whitened": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, metric="mahalanobis", n_neighbors=5)
    ),
    "near by ratios": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, density="ratio", n_neighbors=2)
    ),
    "near by differences": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, metric="mahalanobis", density="varmin")
    ),
    "near centres": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, n_centers=3, density="ratio", random_state=0)
    ),
    "near whitened centres": lambda _: make_pipeline(
        WHOLE,
        EmbeddingNeighborDetector(
            SpectrumStatistics(), metric="mahalanobis", n_centers=3, random_state=0
        ),
    ),
    "near statistics": lambda _: make_pipeline(
        WHOLE, EmbeddingNeighborDetector(SpectrumStatistics(), n_neighbors=2)
    ),
    "near scaled statistics": lambda _: make_pipeline(
        SEGMENTER,
        EmbeddingNeighborDetector(
            make_pipeline(SpectrumStatistics(), StandardScaler()),
            metric="mahalanobis",
            density="ratio",
        ),
    ),
    "gaussian": lambda _: make_pipeline(WHOLE, GaussianDetector(SpectrumStatistics())),
    "gaussian of each machine": lambda _: make_pipeline(
        WHOLE, PerMachine(GaussianDetector(SpectrumStatistics()))
    ),
    "dual path": lambda detector: make_pipeline(
        SEGMENTER, clone(detector).set_params(network="dualpath", n_networks=2)
    ),
    "gaussian of rows": lambda _: make_pipeline(
        SEGMENTER, SpectrumStatistics("rank"), GaussianDetector()
    ),
    "gaussian of an embedding": lambda detector: make_pipeline(
        SEGMENTER, GaussianDetector(FrozenEstimator(detector), sharing=0.5)
    ),
    "every statistic": lambda _: make_pipeline(
        WHOLE,
        EmbeddingNeighborDetector(SpectrumStatistics(ALL_POOLINGS), n_neighbors=2),
    ),
    "loudest segment": lambda detector: make_pipeline(SEGMENTER, pooled(detector)),
    "near by pooled embeddings": lambda detector: make_pipeline(
        SEGMENTER, make_near(detector, pooling=["rank", "std", Percentile(90)])
    ),
    "some types": lambda _: OnlyMachineTypes(
        make_pipeline(WHOLE, PerMachine(make_spectrum())), ["pump", "fan"]
    ),
    "nested": make_nested,
    "the default": lambda _: make_pipeline(WHOLE, make_detector()),
    "largest z-score": lambda detector: make_z_scores(detector),
    "mean z-score": lambda detector: make_z_scores(detector, aggregation="mean"),
    "z-scores of one network": lambda detector: make_pipeline(
        SEGMENTER, ZScoreEnsemble([("id", FrozenEstimator(detector))], calibration_cv=2)
    ),
}


@pytest.fixture(scope="module")
def detector(clips):
    return clone(DETECTOR).fit(SEGMENTER.transform(clips[0]))


def cut_to_lengths(clips):
    """Cut the clips to several lengths."""
    audio = [
        np.float32(waveform[: len(waveform) - 1777 * (number % 5)])
        for number, waveform in enumerate(clips["audio"])
    ]
    return clips.assign(audio=audio)


def set_thresholds_between(model, clips):
    """Let half of each machine's clips be anomalous."""
    scores = pd.Series(model.score_samples(clips), name_machines(clips))
    by_machine = scores.groupby(level=0)
    for one in walk(model):
        if hasattr(one, "offset_"):
            one.offset_ = put_between(scores)
        if hasattr(one, "offsets_"):
            one.offsets_ = by_machine.apply(put_between).to_dict()


def put_between(scores):
    half = len(scores) // 2
    return float(np.sort(scores)[half - 1 : half + 1].mean())


def assert_the_graph_scores_alike(model, clips, path):
    set_thresholds_between(model, clips)
    machines = export_onnx(model, path)
    names = name_machines(clips)
    places = [machines.index(name) if machines else 0 for name in names]
    scores, verdicts = run(path, clips["audio"], places)
    expected = -model.score_samples(clips)
    passes_0 = expected.min() < 0  # those in standard deviations
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * passes_0)
    np.testing.assert_array_equal(verdicts, model.predict(clips))
    assert set(verdicts) == {1, -1}
    asks = "machine" in [one.name for one in open_graph(path).get_inputs()]
    assert asks == bool(machines)


def assert_the_graph_hears_what_python_hears(model, path, waveforms):
    """The same scores, and NaN and -1 where Python refuses a clip."""
    scores, verdicts = run(path, waveforms, [0] * len(waveforms))
    expected, judged = score_in_python(model, waveforms, "fan", "00")
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert (verdicts[np.isnan(scores)] == -1).all()
    far = np.abs(expected - read_about(path)["thresholds"][0]) > 1e-5
    np.testing.assert_array_equal(verdicts[far], judged[far])


def assert_no_other_machine_is_heard(path, sound):
    session, n_machines = open_graph(path), len(read_about(path)["machines"])
    if len(session.get_inputs()) == 1:
        with pytest.raises(InvalidArgument, match="machine"):
            session.run(None, {"waveform": sound, "machine": np.array(-1)})
        return
    others = [-1, -n_machines, -n_machines - 1, n_machines, 2**31, 2**63 - 1, -(2**63)]
    scores, verdicts = run(path, [sound] * len(others), others)
    assert np.isnan(scores).all()
    assert (verdicts == -1).all()
    # what runtimes take for a scalar
    last = n_machines - 1
    scores, _ = run(path, [sound] * 3, [last, [last], [[last]]])
    assert np.ptp(scores) == 0
    assert scores.shape == (3,)
    for other in (np.int32, np.uint64, np.float32, np.bool_):
        with pytest.raises(InvalidArgument, match="type"):
            run(path, [sound], [np.zeros((), dtype=other)])
    for several in ([0, last], [[0, 0], [last, last]], []):
        with pytest.raises((Fail, RuntimeException), match="Reshape"):
            run(path, [sound], [np.array(several, dtype=np.int64)])


def read_about(path):
    """What the file's metadata says."""
    text = open_graph(path).get_modelmeta().custom_metadata_map["sklearn_asd"]
    return json.loads(text)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_becomes_a_graph_that_scores_alike(kind, clips, detector, tmp_path):
    train, test = clips
    model = KINDS[kind](detector).fit(train[1:])  # one machine has fewer clips
    path = tmp_path / "model.onnx"
    assert_the_graph_scores_alike(model, cut_to_lengths(test), path)
    sound = np.float32(test["audio"].iloc[0])
    assert_the_graph_hears_what_python_hears(
        model, path, cut_at_the_edges(model, sound)
    )
    assert_the_graph_hears_what_python_hears(model, path, spoil(sound[:10240]))
    assert_no_other_machine_is_heard(path, sound)


@pytest.mark.parametrize(
    "system", ["default", pytest.param("ensemble", marks=pytest.mark.slow)]
)
def test_what_the_command_fits_becomes_a_graph(system, tmp_path):
    clips = make_machine_sounds(
        ["fan", "valve"],
        n_machines=2,
        n_train=5,
        n_test_normal=1,
        n_test_anomalous=1,
        duration=4.0,
        random_state=0,
    )
    train, test = (clips[clips["split"] == split] for split in ("train", "test"))
    counts = pd.Series(name_machines(train)).value_counts()
    model = make_system(system, [], counts, 0.1, OPTIONS).fit(train)
    assert_the_graph_scores_alike(model, cut_to_lengths(test), tmp_path / "model.onnx")


def test_a_graph_of_power_spectra_takes_clips_of_any_length_but_none(clips, tmp_path):
    train, test = clips
    detect = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    model = make_pipeline(PowerSpectrum(), PerMachine(detect)).fit(train)
    path = tmp_path / "model.onnx"
    lengths = np.resize([1, 3, 5000, 8192, 12_287, 12_288, 30_000], len(test))
    cut = [a[:n] for a, n in zip(test["audio"], lengths, strict=True)]
    assert_the_graph_scores_alike(model, test.assign(audio=cut), path)
    (score,), (verdict,) = run(path, [np.zeros(0)], [0])
    assert np.isnan(score)
    assert verdict == -1


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


def test_silence_is_not_normal_where_the_model_checks_it(tmp_path, rng):
    noises = list(rng.normal(scale=0.01, size=(8, 16_000)))
    segment = LogMelSegmenter(segment_duration=None)
    detect = GaussianDetector(SpectrumStatistics())
    model = make_pipeline(segment, RecordingCheck(), detect).fit(noises)
    export_onnx(model, tmp_path / "model.onnx")
    idle = rng.integers(-1, 2, size=16_000) / 2**16
    asked = [noises[0], 0 * noises[0], 0.3 + 0 * noises[0], idle, 0.01 * noises[0]]
    scores, verdicts = run(tmp_path / "model.onnx", asked, [0] * 5)
    expected = model.score_samples(asked)
    np.testing.assert_array_equal(np.isnan(expected), [0, 1, 1, 1, 0])
    np.testing.assert_allclose(scores, -expected, rtol=1e-5)
    assert verdicts.tolist() == model.predict(asked).tolist() == [1, -1, -1, -1, -1]


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
        "thresholds": [-tuner.offset_] * 4,
    }
    places = [machines.index(name) for name in name_machines(test)]
    _, verdicts = run(tmp_path / "model.onnx", test["audio"], places)
    np.testing.assert_array_equal(verdicts, model.predict(test))
    assert set(verdicts) == {1, -1}


SETTINGS_OF_FRAMES = [  # n_fft, hop_length, frames of a segment, and of its hop
    (5, 1, 4, 1),  # an odd window, and a hop of a sample
    (4, 7, 3, 3),  # gaps between frames
    (7, 3, 1, 5),  # segments of a frame, and gaps between them
]


def assert_every_length_is_as_in_python(settings_of_frames, path):
    n_fft, hop_length, segment_frames, segment_hop_frames = settings_of_frames
    segmenter = LogMelSegmenter(
        sample_rate=8000,
        n_fft=n_fft,
        hop_length=hop_length,
        n_mels=1,
        segment_duration=segment_frames and segment_frames * hop_length / 8000,
        segment_hop=segment_hop_frames * hop_length / 8000,
    )
    longest = hop_length * (2 * (segment_frames or 9) + segment_hop_frames) + n_fft
    sounds = np.random.default_rng(0).normal(size=(9, longest)).astype(np.float32)
    statistics = SpectrumStatistics(["mean", "rank"])
    model = make_pipeline(segmenter, statistics, GaussianDetector()).fit(sounds)
    model[-1].offset_ = -1e9
    export_onnx(model, path)
    clips = [sounds[0][:n] for n in range(longest + 1)]
    scores, verdicts = run(path, clips, [0] * len(clips))
    expected, _ = score_in_python(model, clips)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(verdicts, np.where(np.isnan(expected), -1, 1))
    assert np.isnan(scores[0])
    n_shortest = ((segment_frames or 1) - 1) * hop_length + n_fft % 2
    assert np.isnan(scores[:n_shortest]).all()
    assert np.isfinite(scores[max(1, n_shortest) :]).all()


@pytest.mark.parametrize("settings_of_frames", SETTINGS_OF_FRAMES, ids=str)
def test_every_length_and_hop_is_heard_as_in_python(settings_of_frames, tmp_path):
    assert_every_length_is_as_in_python(settings_of_frames, tmp_path / "model.onnx")


@pytest.mark.slow
@settings(max_examples=12, deadline=None, database=None)
@given(
    settings_of_frames=st.tuples(
        st.integers(3, 12),
        st.integers(1, 12),
        st.none() | st.integers(1, 9),
        st.integers(1, 12),
    )
)
def test_any_length_and_hop_is_heard_as_in_python(settings_of_frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    assert_every_length_is_as_in_python(settings_of_frames, path)


@pytest.fixture(scope="module")
def default_graph(clips, tmp_path_factory):
    """Segments at the defaults, of 3.072 s; every clip that is heard is normal."""
    train = clips[0].assign(audio=[np.tile(x, 2) for x in clips[0]["audio"]])
    model = make_pipeline(LogMelSegmenter(), make_spectrum()).fit(train)
    model[-1][-1].offset_ = -1e9
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(model, path)
    return model, open_graph(path), np.tile(np.float32(train["audio"].iloc[0]), 2)


def judge(graph, waveform):
    """Score and verdict of the fixture's graph."""
    score, verdict = graph.run(None, {"waveform": waveform})
    return float(score), int(verdict)


@settings(max_examples=40, deadline=None, database=None)
@given(n_samples=st.integers(0, 2 * 49152) | st.integers(24576, 49152))
@example(n_samples=24640)  # 1.54 s
@example(n_samples=48639)
@example(n_samples=48640)  # 96 frames
@example(n_samples=2 * 49152)
def test_every_length_is_heard_as_in_python_or_not_at_all(default_graph, n_samples):
    model, graph, sound = default_graph
    score, verdict = judge(graph, sound[:n_samples])
    if n_samples < 48640:
        assert np.isnan(score)
        assert verdict == -1
        with pytest.raises(BadClipError):
            model.predict([sound[:n_samples]])
    else:
        expected = -model.score_samples([sound[:n_samples]])[0]
        assert score == pytest.approx(expected, rel=1e-5)
        assert verdict == model.predict([sound[:n_samples]])[0] == 1


@settings(max_examples=40, deadline=None, database=None)
@given(
    value=st.floats(width=32) | st.sampled_from([-1e12, 1e12, np.nan, np.inf]),
    place=st.integers(0, 48639),
)
def test_no_value_is_normal_that_python_refuses(default_graph, value, place):
    model, graph, sound = default_graph
    spoilt = sound[:48640].copy()
    spoilt[place] = value
    score, verdict = judge(graph, spoilt)
    try:
        expected = -model.score_samples([spoilt])[0]
    except BadClipError:
        assert np.isnan(score)
        assert verdict == -1
    else:
        assert score == pytest.approx(expected, rel=1e-5)
        assert verdict == 1


def test_runtimes_take_no_other_types_but_overlook_the_byte_order(default_graph):
    _, graph, sound = default_graph
    judged = judge(graph, sound)
    for other in (sound[::2], sound[::-1], np.repeat(sound, 2)[::2]):  # in any layout
        assert judge(graph, other) == judge(graph, other.copy())
    assert judge(graph, np.repeat(sound, 2)[::2]) == judged
    for refused in (np.float64(sound), np.int16(sound), np.float16(sound), sound[None]):
        with pytest.raises(InvalidArgument):
            judge(graph, refused)
    swapped = judge(graph, sound.astype(sound.dtype.newbyteorder()))
    assert swapped == pytest.approx(judge(graph, sound.byteswap()), nan_ok=True)


class NeedsFrames(FirstBands):
    """A network that does not say that it needs seven frames."""

    def __init__(self, n_classes, n_mels):
        super().__init__(n_classes, n_mels)
        self.convolve = nn.Conv1d(n_mels, n_classes, 7)

    def forward(self, log_mel):
        logits = self.convolve(log_mel).amax(2)
        return logits, logits


def make_short_near(network):
    return EmbeddingNeighborDetector(network, pooling=["max", "rank"])


@pytest.mark.parametrize(
    ("network", "least", "wrap"),
    [("pvmilk20", 9, make_short_near), (NeedsFrames, 7, FrozenEstimator)],
)
def test_whole_clips_too_short_for_the_network_are_not_heard(
    network, least, wrap, clips, tmp_path
):
    detector = clone(DETECTOR).set_params(network=network, max_epochs=1)
    detector.fit(WHOLE.transform(clips[0]))
    model = make_pipeline(WHOLE, wrap(detector)).fit(clips[0])
    path, sound = tmp_path / "model.onnx", np.float32(clips[0]["audio"].iloc[0])
    export_onnx(model, path)
    too_short = [sound[: 512 * n] for n in (0, 1, least - 2)]
    too_short.append(sound[: 512 * (least - 1) - 1])
    scores, verdicts = run(path, too_short, [0] * len(too_short))
    assert np.isnan(scores).all()
    assert (verdicts == -1).all()
    heard = [sound[: 512 * n] for n in (least - 1, least, 20)]
    scores, _ = run(path, heard, [0] * len(heard))
    expected, _ = score_in_python(model, heard, "fan", "00")
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


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


def test_the_most_normal_and_anomalous_clips_are_not_tied(tmp_path):
    """In float32, 1 - p would be 0 or 1 for each of them."""
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
    scores, _ = run(tmp_path / "model.onnx", tones, [1, 1])
    expected = -model.score_samples(sklearn_asd.Clips(tones, machine_id=["b", "b"]))
    np.testing.assert_allclose(scores - 1, expected - 1, rtol=1e-4)
    assert scores[0] > scores[1] > 1


@pytest.mark.parametrize(
    "system", ["default", "networks", pytest.param("ensemble", marks=pytest.mark.slow)]
)
def test_graphs_score_real_recordings_alike(system, recordings, tmp_path):
    folders = (recordings("valve2023"), recordings("toycar2023"))
    clips = pd.concat([load_clips(folder) for folder in folders], ignore_index=True)
    by_kind = clips.groupby(["split", "machine_type", "label"])
    train = by_kind.head(6).query("split == 'train'")
    counts = pd.Series(name_machines(train)).value_counts()
    options = OPTIONS | {"max_epochs": 1}
    model = make_system(system, [], counts, 0.1, options).fit(train)
    test = by_kind.head(2).query("split == 'test'")
    audio = [read_file(path, 16000) for path in test["path"]]
    test = test.drop(columns="path")
    loud, quiet = (test.assign(audio=[c * x for x in audio]) for c in (1, 1e-2))
    test = pd.concat([cut_to_lengths(loud), quiet], ignore_index=True)
    assert_the_graph_scores_alike(model, test, tmp_path / "model.onnx")


# -- what is not exported ------------------------------------------------------------


NOWHERE = "no_such_folder/never.onnx"  # so that a test that fails leaves no file


def refuse(model, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(model, NOWHERE)


class Foreign(OutlierMixin, BaseEstimator):
    """A detector that only has decisions, as PyOD's."""

    def fit(self, X, y=None):
        return self

    def decision_function(self, X):
        return np.zeros(len(X))


def test_parts_that_cannot_be_exported_are_named(clips, ensemble):
    train, _ = clips
    expand = AugmentationExpander(pitch_steps=[0], stretch_rates=[1], extra=["rotate"])
    tiny = {"max_epochs": 1, "batch_size": 32, "random_state": 0}
    augment = AugmentConfidenceDetector(network="pvmilk20", **tiny)
    views = make_pipeline(expand, SEGMENTER, augment).fit(train)
    refuse(views, "^AugmentationExpander cannot be exported: a graph holds LogMelSeg")
    refuse(augment, "^AugmentConfidenceDetector cannot be .* with save_model and score")
    linear = make_pipeline(LinearSpectrogram(), GaussianDetector(SpectrumStatistics()))
    refuse(linear.fit(train), "^LinearSpectrogram cannot be exported")
    encoder = make_pipeline(SEGMENTER, PerMachine(AutoencoderDetector(**tiny)))
    refuse(encoder.fit(train), "^AutoencoderDetector cannot be exported")
    near = make_pipeline(expand, SEGMENTER, EmbeddingNeighborDetector(augment))
    near.fit(train)
    refuse(make_pipeline(SEGMENTER, near[-1]), "^AugmentConfidenceDetector cannot be")
    foreign = PerMachine(make_pipeline(SpectrumStatistics(), Foreign()))
    refuse(make_pipeline(SEGMENTER, foreign).fit(train), "^Foreign cannot be exported")
    near = make_near(ensemble[-1].estimators_[0])
    near.fit(SEGMENTER.transform(train)).metric = max
    refuse(make_pipeline(SEGMENTER, near), "has metric=<built-in function max>, which")
    near.metric = "manhattan"  # as if the library had it, and the graph did not
    refuse(make_pipeline(SEGMENTER, near), "has metric='manhattan', which a graph")
    own = make_pipeline(SpectrumStatistics(lambda v: v[0]), MahalanobisDetector())
    refuse(
        make_pipeline(SEGMENTER, own).fit(train),
        "'<lambda>' is a function of yours, which a graph cannot hold: use those of",
    )
    bands = EmbeddingNeighborDetector(SpectrumStatistics(), n_bands=2)
    refuse(
        make_pipeline(SEGMENTER, bands).fit(train),
        "has by_domain=False and n_bands=2, which a graph cannot hold: fit with",
    )
    forest = PerMachine(make_pipeline(SpectrumStatistics(), IsolationForest()))
    members = [
        ("id", FrozenEstimator(ensemble[-1].estimators_[0])),
        ("forest", forest),
    ]
    mixed = GammaProbabilityEnsemble(members)
    refuse(make_pipeline(SEGMENTER, mixed).fit(train), "^IsolationForest cannot be")


def test_members_that_were_not_selected_are_not_exported(clips, tmp_path):
    rows = EmbeddingNeighborDetector(SpectrumStatistics())
    forest = make_pipeline(SpectrumStatistics(), IsolationForest(random_state=0))
    members = [("forest", forest), ("rows", rows)]
    ensemble = ZScoreEnsemble(members, n_selected=1, calibration_cv=2)
    model = make_pipeline(WHOLE, ensemble).fit(clips[0])
    assert model[-1].selected_ == {"fan": ["rows"], "pump": ["rows"]}
    assert_the_graph_scores_alike(model, clips[1], tmp_path / "model.onnx")
    together = make_pipeline(WHOLE, ZScoreEnsemble(members, calibration_cv=2))
    refuse(together.fit(clips[0]), "^IsolationForest cannot be")


def test_types_select_their_own_members_in_a_graph(clips, tmp_path):
    rows = EmbeddingNeighborDetector(SpectrumStatistics())
    scaled = make_pipeline(SpectrumStatistics(), StandardScaler())
    members = [("rows", rows), ("scaled", EmbeddingNeighborDetector(scaled))]
    for aggregation in ("max", "mean"):
        ensemble = ZScoreEnsemble(members, aggregation=aggregation, calibration_cv=2)
        model = make_pipeline(WHOLE, ensemble).fit(clips[0])
        ensemble.selected_["pump"] = ["scaled"]
        del ensemble.scales_["pump"][0]
        assert_the_graph_scores_alike(model, clips[1], tmp_path / "model.onnx")


def test_machines_are_standardised_apart_in_a_graph(clips, tmp_path):
    members = [
        ("near", EmbeddingNeighborDetector(SpectrumStatistics())),
        ("gaussian", GaussianDetector(SpectrumStatistics())),
    ]
    ensemble = ZScoreEnsemble(members, group_by="machine_id")
    model = make_pipeline(WHOLE, ensemble).fit(clips[0])
    assert len(ensemble.scales_) == len(set(name_machines(clips[0])))
    assert_the_graph_scores_alike(model, clips[1], tmp_path / "model.onnx")


def test_models_that_make_no_graph_are_refused_with_a_remedy(clips, ensemble):
    train, _ = clips
    refuse(ensemble[-1], "takes no samples, and a graph does: export Pipeline")
    refuse(make_pipeline(SEGMENTER).fit(train), "Pipeline has no threshold, so it can")
    by_label = clone(ensemble[-1]).set_params(group_by="site")
    by_label.estimators = [
        (name, FrozenEstimator(make_pipeline(SEGMENTER, member)))
        for name, member in ensemble[-1].named_estimators_.items()
    ]
    refuse(
        by_label.fit(train.assign(site="a")),
        "no machine is .* or fit with group_by=None",
    )
    grouped = GammaProbabilityEnsemble(
        [("spectrum", make_spectrum())], group_by="machine_type"
    )
    grouped = make_pipeline(WHOLE, grouped).fit(train)
    refuse(grouped, "no machine is .* or fit with group_by=None")
    rows = [("rows", EmbeddingNeighborDetector(SpectrumStatistics()))]
    by_domain = ZScoreEnsemble(rows, group_by="domain", calibration_cv=2)
    train = train.assign(domain="source")
    refuse(
        make_pipeline(WHOLE, by_domain).fit(train),
        "no machine is .* or fit with group_by=None",
    )
    slow = clone(SEGMENTER).set_params(sample_rate=8000)
    rates = GammaProbabilityEnsemble(
        [
            ("fast", make_pipeline(SEGMENTER, clone(DETECTOR))),
            ("slow", make_pipeline(slow, DETECTOR)),
        ]
    )
    refuse(rates.fit(train), r"sample rates of \[8000.0, 16000.0\] Hz")
    other = clone(SEGMENTER).set_params(segment_duration=1.0)
    refuse(Pipeline([("cut", other), ("detect", ensemble[-1])]), "segment_frames=31")
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
    with pytest.raises(ImportError, match=r'pip install -e "\.\[onnx\]"'):
        export_onnx(None, NOWHERE)
