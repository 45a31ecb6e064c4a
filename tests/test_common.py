"""What every estimator keeps: scikit-learn's contract, and this library's own.

Ours is that of the user guide's five invariants. A detector that is added gets a row in
CHECKED and a row in DETECTORS.
"""

import functools
import inspect
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
from encoders import Bands
from rows_as_clips import (
    AugmentConfidenceOnRows,
    AutoencoderOnRows,
    CheckOnRows,
    GaussianOnRows,
    IDConfidenceOnRows,
    NeighborsOnRows,
    OnlyMachineTypesOnRows,
    PerMachineOnRows,
    PerMachineTypeOnRows,
    StatisticsOnRows,
    TinyNetwork,
)
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

import sklearn_asd
from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    LogMelSegmenter,
    MahalanobisDetector,
    NoiseCanceller,
    OnlyMachineTypes,
    PerMachine,
    PerMachineType,
    PowerSpectrum,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
)

RATE = 16000

# -- scikit-learn's checks -------------------------------------------------------

FOREST = IsolationForest(n_estimators=5, random_state=0)
TINY = {"network": TinyNetwork, "max_epochs": 1, "batch_size": 16, "random_state": 0}

NEAR_STATISTICS = NeighborsOnRows(
    SpectrumStatistics(), metric="mahalanobis", density="ratio"
)

NEAR_CENTERS = NeighborsOnRows(SpectrumStatistics(), n_centers=3, random_state=0)

GAUSSIAN_STATISTICS = GaussianOnRows(SpectrumStatistics(), standardization="auto")

# Detectors of clips are checked on rows of numbers that are made clips of: see there.
CHECKED = {
    AugmentationExpander: AugmentationExpander(),
    # Whole clips, since the checks' waveforms have a handful of samples.
    LogMelSegmenter: LogMelSegmenter(segment_duration=None),
    NoiseCanceller: NoiseCanceller(),
    PowerSpectrum: PowerSpectrum(),
    EncoderEmbedding: EncoderEmbedding(Bands()),
    LinearSpectrogram: LinearSpectrogram(n_fft=64, n_spectrum=20),
    RecordingCheck: CheckOnRows(),
    SpectrumStatistics: StatisticsOnRows(),
    IDConfidenceDetector: IDConfidenceOnRows(**TINY),
    AugmentConfidenceDetector: AugmentConfidenceOnRows(**TINY),
    EmbeddingNeighborDetector: NeighborsOnRows(IDConfidenceDetector(**TINY)),
    AutoencoderDetector: AutoencoderOnRows(
        n_frames=2, n_hidden=4, n_bottleneck=2, max_epochs=1, random_state=0
    ),
    GaussianDetector: GaussianDetector(),
    MahalanobisDetector: MahalanobisDetector(),
    PerMachine: PerMachineOnRows(make_pipeline(SpectrumStatistics(), FOREST)),
    OnlyMachineTypes: OnlyMachineTypesOnRows(
        make_pipeline(SpectrumStatistics(), FOREST), "fan"
    ),
    PerMachineType: PerMachineTypeOnRows(
        [("fan", make_pipeline(SpectrumStatistics(), FOREST))]
    ),
    GammaProbabilityEnsemble: GammaProbabilityEnsemble(
        [("forest", FOREST), ("factor", LocalOutlierFactor(novelty=True))]
    ),
    ThresholdTuner: ThresholdTuner(FOREST),
    ZScoreEnsemble: ZScoreEnsemble(
        [("forest", FOREST), ("factor", LocalOutlierFactor(novelty=True))]
    ),
}

TIME_AXIS = (
    "a column of a waveform is a moment, not a feature: clips of any length may follow"
)
READS_NO_AUDIO = (
    "fit reads no audio, as X may name thousands of files; transform checks it"
)
HONEST = (
    "the threshold is a percentile of the scores of rows left out, not of the rows "
    "that were learnt from"
)
FRONT_END = {
    "check_n_features_in": TIME_AXIS,
    "check_n_features_in_after_fitting": TIME_AXIS,
    "check_estimators_dtypes": (
        "int64 is no format of audio samples, so its full scale is not known"
    ),
    "check_estimators_nan_inf": READS_NO_AUDIO,
}
EXPECTED_FAILURES = {
    AugmentationExpander: {
        "check_n_features_in": TIME_AXIS,
        "check_n_features_in_after_fitting": TIME_AXIS,
        "check_estimators_nan_inf": "it reads no audio; LogMelSegmenter checks it",
    },
    LogMelSegmenter: FRONT_END,
    NoiseCanceller: {
        "check_n_features_in": TIME_AXIS,
        "check_n_features_in_after_fitting": TIME_AXIS,
        "check_estimators_nan_inf": "it reads no audio; LogMelSegmenter checks it",
    },
    PowerSpectrum: FRONT_END,
    EncoderEmbedding: FRONT_END,
    LinearSpectrogram: FRONT_END,
    NeighborsOnRows: {
        "check_outliers_train": HONEST,
        "check_outliers_fit_predict": HONEST,
    },
    GaussianDetector: {
        "check_outliers_train": HONEST,
        "check_outliers_fit_predict": HONEST,
    },
    GaussianOnRows: {
        "check_outliers_train": HONEST,
        "check_outliers_fit_predict": HONEST,
    },
    MahalanobisDetector: {
        "check_outliers_train": HONEST,
        "check_outliers_fit_predict": HONEST,
    },
    ZScoreEnsemble: {
        "check_outliers_train": HONEST,
        "check_outliers_fit_predict": HONEST,
    },
    PerMachineOnRows: {
        "check_outliers_train": (
            "it has a threshold for each machine, offsets_, and no common offset_"
        ),
    },
    PerMachineTypeOnRows: {
        "check_outliers_train": (
            "each machine type's detector has its threshold: there is no common offset_"
        ),
    },
}


# The checks' y are class labels, which only scikit-learn's detectors take in silence,
# and their tables have fewer rows than LocalOutlierFactor has neighbours and than any
# rate of 5 % needs. Each of these warnings has a test of its own.
@pytest.mark.filterwarnings("ignore:y is ignored:UserWarning")
@pytest.mark.filterwarnings("ignore:n_neighbors:UserWarning")
@pytest.mark.filterwarnings("ignore:.*cannot promise 5 % of false alarms:UserWarning")
@parametrize_with_checks(
    [*CHECKED.values(), NEAR_STATISTICS, NEAR_CENTERS, GAUSSIAN_STATISTICS],
    expected_failed_checks=lambda e: EXPECTED_FAILURES.get(type(e), {}),
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", [kind.__name__ for kind in CHECKED])
def test_the_checks_are_not_skipped_as_a_whole(name):
    """scikit-learn runs 1 check instead of some 45 if a tag excludes 2-D input."""
    estimator = CHECKED[getattr(sklearn_asd, name)]
    names = {_name_of(check) for _, check in estimator_checks_generator(estimator)}
    assert len(list(estimator_checks_generator(estimator))) >= 43
    assert names >= set(EXPECTED_FAILURES.get(type(estimator), {}))  # none is stale


def _name_of(check):
    return check.func.__name__ if isinstance(check, functools.partial) else check


def test_every_public_estimator_is_checked():
    public = {
        value
        for value in vars(sklearn_asd).values()
        if inspect.isclass(value) and issubclass(value, BaseEstimator)
    }
    assert public == set(CHECKED)
    assert all(isinstance(e, kind) for kind, e in CHECKED.items())


@pytest.mark.parametrize("kind", CHECKED)
def test_every_parameter_is_documented_and_has_its_constraint(kind):
    rest = inspect.cleandoc(kind.__doc__).partition("Parameters\n----------\n")[2]
    section = rest.partition("\n---")[0]
    heads = re.findall(r"^(\w[\w, ]*) : ", section, re.MULTILINE)
    documented = [name for head in heads for name in head.split(", ")]
    assert sorted(documented) == sorted(inspect.signature(kind).parameters)
    assert set(getattr(kind, "_parameter_constraints", {})) == set(documented)


@pytest.mark.parametrize(
    "name",
    [
        "AugmentConfidenceDetector",
        "AutoencoderDetector",
        "EmbeddingNeighborDetector",
        "IDConfidenceDetector",
        "OnlyMachineTypes",
        "PerMachine",
        "PerMachineType",
        "RecordingCheck",
        "SpectrumStatistics",
    ],
)
def test_tags_of_estimators_of_clips_exclude_tables_of_numbers(name):
    base = getattr(sklearn_asd, name)
    on_rows = CHECKED[base]
    plain = base(**on_rows.get_params(deep=False))
    assert not plain.__sklearn_tags__().input_tags.two_d_array
    assert on_rows.__sklearn_tags__().input_tags.two_d_array


# -- our own contract ------------------------------------------------------------


def make_tones(pitches=(500, 900), n=8, seed=0, level=1.0):
    """Table of 1.1 s tones in noise, n of each machine, whose types are fan."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(1.1 * RATE)) / RATE
    audio = [
        0.3 * (level * np.sin(2 * np.pi * p * t) + 0.2 * rng.normal(size=len(t)))
        for p in np.repeat(pitches, n)
    ]
    machine_id = np.repeat(["00", "02"], n)
    return pd.DataFrame({"audio": audio, "machine_type": "fan"}).assign(
        machine_id=machine_id
    )


def segment(**parameters):
    defaults = {"segment_duration": 0.512, "segment_hop": 0.256, "n_mels": 32}
    return LogMelSegmenter(**defaults | parameters)


def id_confidence(**parameters):
    defaults = {"batch_size": 16, "max_epochs": 8, "random_state": 0}
    return IDConfidenceDetector(**defaults | parameters)


def statistics(n_jobs=None):
    return PerMachine(
        make_pipeline(SpectrumStatistics(), MahalanobisDetector()), n_jobs=n_jobs
    )


def augment():
    expand = AugmentationExpander(pitch_steps=(-4, 0, 4), stretch_rates=(1,))
    detect = AugmentConfidenceDetector(
        network="pvmilk20", batch_size=16, max_epochs=8, random_state=0
    )
    return make_pipeline(expand, segment(), detect)


def autoencoder():
    return AutoencoderDetector(
        n_hidden=16, batch_size=64, max_epochs=10, lr=0.02, random_state=0
    )


def ensemble(n_jobs=None):
    members = [("id", id_confidence()), ("spectrum", statistics())]
    return GammaProbabilityEnsemble(members, n_jobs=n_jobs)


def z_scores(n_jobs=None):
    members = [
        ("near", EmbeddingNeighborDetector(SpectrumStatistics())),
        ("spectrum", statistics()),
    ]
    return ZScoreEnsemble(members, n_selected=1, calibration_cv=2, n_jobs=n_jobs)


def tuner():
    return ThresholdTuner(statistics(), false_alarm_rate=0.25, random_state=0)


# From recordings to verdicts, by the estimator that is meant.
DETECTORS = {
    IDConfidenceDetector: lambda: make_pipeline(segment(), id_confidence()),
    AugmentConfidenceDetector: augment,
    EmbeddingNeighborDetector: lambda: make_pipeline(
        segment(), EmbeddingNeighborDetector(id_confidence(mixup=0.5))
    ),
    AutoencoderDetector: lambda: make_pipeline(segment(), autoencoder()),
    GaussianDetector: lambda: make_pipeline(
        segment(), GaussianDetector(SpectrumStatistics())
    ),
    MahalanobisDetector: lambda: make_pipeline(
        segment(), SpectrumStatistics(), MahalanobisDetector()
    ),
    PerMachine: lambda: make_pipeline(segment(), statistics()),
    OnlyMachineTypes: lambda: make_pipeline(
        segment(), OnlyMachineTypes(statistics(), "fan")
    ),
    PerMachineType: lambda: make_pipeline(
        segment(), PerMachineType([("fan", statistics())])
    ),
    GammaProbabilityEnsemble: lambda: make_pipeline(segment(), ensemble()),
    ThresholdTuner: lambda: make_pipeline(segment(), tuner()),
    ZScoreEnsemble: lambda: make_pipeline(segment(), z_scores()),
}

each_detector = pytest.mark.parametrize("name", [kind.__name__ for kind in DETECTORS])


def make(name):
    return DETECTORS[getattr(sklearn_asd, name)]()


@functools.cache
def fitted(name):
    """Careful: shared by the module, so neither fit it again nor set its parameters."""
    return make(name).fit(make_tones())


@functools.cache
def scored(name):
    """Scores of eight clips that it was not trained on."""
    return fitted(name).score_samples(new_clips())


def new_clips():
    return make_tones(n=4, seed=1)


def assert_same(scores, name):
    # The relative part is for scores that are logarithms, or in dB squared.
    np.testing.assert_allclose(scores, scored(name), rtol=1e-6, atol=1e-6)


def test_every_detector_is_here():
    detectors = {k for k, e in CHECKED.items() if hasattr(e, "score_samples")}
    assert detectors == set(DETECTORS)


@each_detector
def test_a_clip_scores_the_same_alone_and_in_any_order(name):
    clips = new_clips()
    order = np.random.default_rng(0).permutation(len(clips))
    shuffled = np.empty(len(clips))
    shuffled[order] = fitted(name).score_samples(clips.iloc[order])
    assert_same(shuffled, name)
    alone = [fitted(name).score_samples(clips.iloc[[row]]) for row in range(8)]
    assert_same(np.concatenate(alone), name)


@each_detector
def test_scores_decisions_and_verdicts_are_one_chain(name):
    pipe, clips = fitted(name), new_clips()
    scores, decisions = pipe.score_samples(clips), pipe.decision_function(clips)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    detector = pipe[-1]
    if isinstance(detector, PerMachine) or not hasattr(detector, "offset_"):
        if isinstance(detector, PerMachineType):
            (detector,) = detector.estimators_
        detector = getattr(detector, "estimator_", detector)
        offset = [detector.offsets_[f"fan/{machine}"] for machine in clips.machine_id]
    else:
        offset = detector.offset_
    np.testing.assert_allclose(decisions, scores - offset, rtol=0, atol=1e-12)
    verdicts = pipe.predict(clips)
    np.testing.assert_array_equal(verdicts, np.where(decisions >= 0, 1, -1))
    assert verdicts.dtype.kind == "i"
    X = pipe[:-1].transform(clips)
    np.testing.assert_array_equal(pipe[-1].anomaly_score(X), -scores)


@each_detector
def test_an_easy_anomaly_ranks_below_all_training_clips(name):
    """Both machines run faster than they ever did."""
    training = fitted(name).score_samples(make_tones())
    anomalies = make_tones(pitches=(500 * 2 ** (4 / 12), 1400), n=2, seed=2)
    assert fitted(name).score_samples(anomalies).max() < training.min()
    assert (fitted(name).predict(anomalies) == -1).all()


@each_detector
def test_fit_predict_is_fit_and_predict_and_repeatable(name):
    clips = make_tones()
    verdicts = make(name).fit_predict(clips)
    np.testing.assert_array_equal(verdicts, fitted(name).predict(clips))
    np.testing.assert_array_equal(fitted(name).predict(clips), verdicts)


# ThresholdTuner may set its threshold by them, of which test_thresholds.py tells.
@pytest.mark.parametrize(
    "name", [kind.__name__ for kind in DETECTORS if kind is not ThresholdTuner]
)
def test_clips_marked_anomalous_are_never_trained_on(name):
    clips = make_tones()
    strange = make_tones(pitches=(3000, 5000), n=2, seed=3)
    mixed = pd.concat([strange[:2], clips, strange[2:]])
    y = np.array([-1] * 2 + [1] * 16 + [-1] * 2)
    pipe = make(name).fit(mixed, y)
    np.testing.assert_array_equal(pipe.score_samples(new_clips()), scored(name))
    np.testing.assert_array_equal(
        pipe.decision_function(new_clips()), fitted(name).decision_function(new_clips())
    )


@each_detector
@pytest.mark.parametrize(
    "method", ["score_samples", "decision_function", "predict", "anomaly_score"]
)
def test_nothing_is_scored_before_the_fit(name, method):
    pipe = make(name)
    X = pipe[:-1].fit_transform(new_clips()[:1])
    with pytest.raises(NotFittedError):
        getattr(pipe[-1], method)(X)


@each_detector
def test_clips_with_other_mel_bands_than_fitted_are_refused(name):
    pipe = make(name).set_params(logmelsegmenter__n_mels=16)
    X = pipe[:-1].fit_transform(new_clips())
    with pytest.raises(ValueError, match="n_mels=16|32 features"):
        fitted(name)[-1].score_samples(X)


@each_detector
def test_the_index_of_a_table_is_ignored(name):
    clips = new_clips()
    for index in ([5] * 8, list("hgfedcba"), range(100, 92, -1)):
        assert_same(fitted(name).score_samples(clips.set_axis(index)), name)


@each_detector
def test_extra_columns_and_their_order_are_ignored(name):
    clips = new_clips().assign(label=-1, split="train", remark=None)
    assert_same(fitted(name).score_samples(clips[clips.columns[::-1]]), name)


@each_detector
def test_read_only_and_memory_mapped_audio_and_frames_are_taken(name, tmp_path):
    clips = new_clips()
    for samples in clips["audio"]:
        samples.flags.writeable = False
    assert_same(fitted(name).score_samples(clips), name)
    waves = np.stack(make_tones()["audio"])
    np.save(tmp_path / "waves.npy", waves)
    mapped = np.load(tmp_path / "waves.npy", mmap_mode="r")
    training = make_tones().assign(audio=list(mapped))
    pipe = make(name).set_params(logmelsegmenter__cache_dir=tmp_path).fit(training)
    assert_same(pipe.score_samples(clips), name)
    np.testing.assert_array_equal(mapped, waves)


@each_detector
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-6), ("int16", 1e-2), ("int32", 1e-5), (">f8", 1e-6)],
)
def test_audio_of_any_type_scores_alike(name, dtype, tolerance):
    clips, dtype = new_clips(), np.dtype(dtype)
    full_scale = 1 if dtype.kind == "f" else 2.0 ** (8 * dtype.itemsize - 1)
    clips["audio"] = [(full_scale * a).astype(dtype) for a in clips["audio"]]
    scores = fitted(name).score_samples(clips)
    spread = np.ptp(fitted(name).score_samples(make_tones())) + np.ptp(scored(name))
    np.testing.assert_allclose(scores, scored(name), rtol=0, atol=spread * tolerance)


@each_detector
def test_another_fit_with_two_workers_is_the_same_to_the_bit(name):
    pipe = make(name)
    jobs = [key for key in pipe.get_params() if key.endswith("n_jobs")]
    pipe.set_params(**dict.fromkeys(jobs, 2)).fit(make_tones())
    np.testing.assert_array_equal(pipe.score_samples(new_clips()), scored(name))


@each_detector
def test_a_copy_through_pickle_scores_the_same(name):
    pipe = pickle.loads(pickle.dumps(fitted(name)))
    np.testing.assert_array_equal(pipe.score_samples(new_clips()), scored(name))


@each_detector
def test_fit_and_scoring_change_neither_parameters_nor_clips(name):
    pipe, clips = make(name), make_tones()
    # Of clones, as the hash tells equal objects from one that occurs twice.
    before = joblib.hash(clips), joblib.hash(clone(pipe).get_params())
    pipe.fit(clips).score_samples(clips)
    assert joblib.hash(clips) == before[0]
    unfitted = make(name)
    assert joblib.hash(clone(unfitted).get_params()) == before[1]
    assert joblib.hash(clone(pipe).get_params()) == before[1]


@each_detector
def test_no_clips_have_no_scores(name):
    X = fitted(name)[:-1].transform(new_clips())
    if isinstance(X, ClipSpectrograms):
        detector = fitted(name)[-1]
        assert detector.score_samples(X[:0]).shape == (0,)
        assert detector.predict(X[:0]).shape == (0,)
