import librosa
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    PerMachineType,
    PowerSpectrum,
    SpectrumStatistics,
    ThresholdTuner,
)
from sklearn_asd.explanation import (
    band_scores,
    clip_embeddings,
    clip_spectrograms,
    detector_parts,
    locate_anomaly,
    occlusion,
    occlusion_map,
    segment_scores,
    time_scores,
)
from sklearn_asd.explanation.axes import band_edges

N_MELS = 4


class Level(OutlierMixin, BaseEstimator):
    """The anomaly score is the mean level of a clip's first view."""

    pools_segments = True

    def fit(self, X, y=None):
        self.offset_ = -3.0
        return self

    def score_samples(self, X):
        return np.array([-X.log_mel(row).mean() for row in range(len(X))])

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_


class Spread(Level):
    """The anomaly score is the standard deviation of a clip's levels."""

    def score_samples(self, X):
        return np.array([-X.log_mel(row).std() for row in range(len(X))])


class FirstBands(nn.Module):
    """The embedding is the first two mel bands of a segment's first frame."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.classify = nn.Linear(2, n_classes)

    def forward(self, log_mel):
        embedding = log_mel[:, :2, 0]
        return self.classify(embedding), embedding


def make(log_mels, segment_frames=2, segment_hop_frames=1, **columns):
    return ClipSpectrograms.from_arrays(
        log_mels,
        segment_frames=segment_frames,
        segment_hop_frames=segment_hop_frames,
        **columns,
    )


@pytest.fixture
def X(rng):
    """Clips of 6 frames, of two fans and a pump."""
    return make(
        rng.gamma(2, size=(12, N_MELS, 6)),
        machine_type=["fan"] * 8 + ["pump"] * 4,
        machine_id=["00"] * 4 + ["01"] * 4 + ["00"] * 4,
    )


# -- segments ------------------------------------------------------------------


def test_each_segment_is_scored_as_if_it_were_the_clip():
    log_mel = np.tile([0.0, 2.0, 4.0, 6.0], (N_MELS, 1))
    scores = segment_scores(Level().fit(None), make([np.zeros((4, 5)), log_mel]), 1)
    assert scores["start"].tolist() == [0, 1, 2]  # frames, as the rate is not known
    assert scores["stop"].tolist() == [2, 3, 4]
    assert scores["anomaly_score"].tolist() == [1.0, 3.0, 5.0]


def test_times_are_in_seconds_where_the_rate_is_known(rng):
    audio = rng.normal(size=(2, 5 * 16000)) / 10
    detector = make_pipeline(LogMelSegmenter(), Level()).fit(audio)
    scores = segment_scores(detector, audio)
    np.testing.assert_allclose(scores["start"], [0, 1.536], rtol=1e-12)
    np.testing.assert_allclose(scores["stop"], [3.072, 4.608], rtol=1e-12)


@pytest.mark.parametrize(("n_frames", "stops"), [(200, [96, 144, 192]), (60, [60])])
def test_segments_are_scored_for_detectors_of_whole_clips_too(rng, n_frames, stops):
    X = make(rng.normal(size=(1, N_MELS, n_frames)), segment_frames=None)
    scored = []

    class Recording(Level):
        def score_samples(self, X):
            scored.append(X)
            return super().score_samples(X)

    scores = segment_scores(Recording().fit(X), X)
    assert scores["stop"].tolist() == stops
    assert scored[0].segment_frames is None


def test_the_mean_over_segments_is_the_score_of_a_confidence_detector(X):
    detector = IDConfidenceDetector(
        network=FirstBands, max_epochs=1, random_state=0, precision="float32"
    ).fit(X)
    means = [segment_scores(detector, X, row)["anomaly_score"].mean() for row in (0, 9)]
    np.testing.assert_allclose(means, detector.anomaly_score(X[[0, 9]]), rtol=1e-6)


def test_segments_of_views_cover_the_same_part_in_proportion():
    frames = np.arange(18.0, dtype=np.float32)[:, None] * np.ones(N_MELS)
    X = ClipSpectrograms(
        frames,
        starts=[[0, 6]],
        stops=[[6, 18]],  # the second view is twice as slow
        segment_frames=2,
        segment_hop_frames=2,
        view_names=["original", "slow"],
    )
    segments = X.split_segments()
    assert segments.starts.tolist() == [[0, 6], [2, 11], [4, 16]]
    assert segments.stops.tolist() == [[2, 8], [4, 13], [6, 18]]


WRAPPERS = {
    "Pipeline": lambda d: make_pipeline(FunctionTransformer(), "passthrough", d),
    "FrozenEstimator": lambda d: make_pipeline(FrozenEstimator(d.fit(None))),
    "ThresholdTuner": lambda d: ThresholdTuner(d, "gamma", random_state=0),
    "OnlyMachineTypes": lambda d: OnlyMachineTypes(d, "fan"),
    "PerMachine": PerMachine,
    "PerMachineType": lambda d: PerMachineType([("fan", d)]),
    "all": lambda d: ThresholdTuner(
        make_pipeline(FunctionTransformer(), PerMachine(make_pipeline(d))),
        "gamma",
        validation_fraction=0.5,
        random_state=0,
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_detectors_inside_meta_estimators_score_segments(X, wrapper):
    bare = Level().fit(X)
    wrapped = WRAPPERS[wrapper](Level()).fit(X)
    expected = segment_scores(bare, X, 5)
    assert segment_scores(wrapped, X, 5).equals(expected)


def test_an_ensemble_aggregates_its_members_segments(X):
    members = [("level", Level()), ("spread", Spread())]
    ensemble = GammaProbabilityEnsemble(members).fit(X)
    scores = segment_scores(ensemble, X, 3)["anomaly_score"]
    expected = -ensemble.score_samples(X[3].split_segments())
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_members_with_their_own_segmenters_score_segments_separately(rng):
    audio = rng.normal(size=(6, 5 * 16000)) / 10
    members = [("level", Level()), ("spread", Spread())]
    shared = make_pipeline(LogMelSegmenter(), GammaProbabilityEnsemble(members))
    apart = GammaProbabilityEnsemble(
        [(name, make_pipeline(LogMelSegmenter(), one)) for name, one in members],
        group_by=None,
    )
    expected = segment_scores(shared.fit(audio), audio, 2)
    assert segment_scores(apart.fit(audio), audio, 2).equals(expected)


def test_members_with_different_segments_are_refused(rng):
    audio = rng.normal(size=(6, 5 * 16000)) / 10
    ensemble = GammaProbabilityEnsemble(
        [
            ("long", make_pipeline(LogMelSegmenter(), Level())),
            ("short", make_pipeline(LogMelSegmenter(segment_duration=1), Level())),
        ]
    ).fit(audio)
    with pytest.raises(ValueError, match="use different segments.*one LogMelSegmen"):
        segment_scores(ensemble, audio)
    assert len(segment_scores(ensemble.named_estimators_["short"], audio)) == 3


def test_detectors_of_numbers_are_refused(rng):
    X = rng.normal(size=(20, 2))
    forest = IsolationForest(random_state=0).fit(X)
    with pytest.raises(TypeError, match="IsolationForest takes no spectrograms"):
        segment_scores(forest, X)


def test_clips_that_could_not_be_used_have_no_segments(rng):
    audio = [rng.normal(size=4 * 16000) / 10, np.zeros(100)]
    detector = make_pipeline(LogMelSegmenter(on_bad_clip="nan"), Level())
    with (
        pytest.warns(UserWarning, match="1 of 1 clips cannot be used"),
        pytest.raises(ValueError, match="has no segments, as it could not be used"),
    ):
        segment_scores(detector.fit(audio[:1]), audio, 1)


@pytest.mark.parametrize("segment_inside", [True, False])
def test_clips_of_types_that_are_not_scored_have_no_segments(rng, segment_inside):
    table = pd.DataFrame(
        {
            "audio": list(rng.normal(size=(4, 4 * 16000)) / 10),
            "machine_type": ["fan", "fan", "fan", "pump"],
        }
    )
    if segment_inside:
        fans = OnlyMachineTypes(make_pipeline(LogMelSegmenter(), Level()), "fan")
    else:
        fans = make_pipeline(LogMelSegmenter(), OnlyMachineTypes(Level(), "fan"))
    with pytest.raises(ValueError, match="gives the clip no score"):
        segment_scores(fans.fit(table), table, 3)
    assert len(segment_scores(fans, table, 2)) == 1


def test_rows_that_are_not_there_are_refused(X):
    with pytest.raises(IndexError, match="no clip 12 among 12"):
        segment_scores(Level().fit(X), X, 12)


# -- mel bands -----------------------------------------------------------------


def test_an_occluded_band_is_that_of_a_normal_clip_at_the_clips_own_level():
    normal = make([np.full((N_MELS, 6), 1.0)])
    log_mel = np.full((N_MELS, 6), 6.0)  # 5 dB louder as a whole
    log_mel[2] += 8
    scores = band_scores(Level().fit(None), make([log_mel]), X_normal=normal, n_bands=4)
    assert scores["anomaly_score"].tolist() == [8.0, 8.0, 6.0, 8.0]
    assert scores["drop"].tolist() == [0.0, 0.0, 2.0, 0.0]
    assert scores["low"].tolist() == [0, 1, 2, 3]  # bands, as the rate is not known
    assert scores["high"].tolist() == [1, 2, 3, 4]


def test_bands_of_several_mels_are_occluded_together():
    log_mel = np.zeros((N_MELS, 6))
    log_mel[3] += 8
    normal = make([np.zeros((N_MELS, 6))])
    scores = band_scores(Level().fit(None), make([log_mel]), X_normal=normal, n_bands=2)
    assert scores["drop"].tolist() == [0.0, 2.0]


def test_no_more_bands_are_occluded_than_there_are(X):
    assert len(band_scores(Level().fit(X), X, X_normal=X)) == N_MELS


def test_bands_of_normal_clips_with_the_most_similar_spectra_are_used():
    log_mel = np.array([[0.0], [0.0], [5.0], [0.0]]) * np.ones(6)
    alike, other = np.zeros((N_MELS, 6)), np.zeros((N_MELS, 6))
    other[0] = 40
    normal = make([other, alike, other, alike, alike])
    scores = band_scores(Level().fit(None), make([log_mel]), X_normal=normal)
    assert scores["drop"].tolist() == [0.0, 0.0, 1.25, 0.0]


def test_bands_of_shorter_normal_clips_are_mirrored():
    log_mel = np.zeros((N_MELS, 6))
    normal = make([np.tile([0.0, 3.0], (N_MELS, 1))])
    scores = band_scores(Level().fit(None), make([log_mel]), X_normal=normal)
    # 0 3 3 0 0 3, less the level of 1.5
    np.testing.assert_allclose(scores["drop"], 0, atol=1e-6)
    spread = band_scores(Spread().fit(None), make([log_mel]), X_normal=normal)
    np.testing.assert_allclose(spread["anomaly_score"], np.sqrt(1.5**2 / 4), rtol=1e-6)


def test_only_bands_of_normal_clips_of_the_same_machine_are_used(X):
    own = band_scores(Level().fit(X), X, 9, X_normal=X[8:])
    assert band_scores(Level().fit(X), X, 9, X_normal=X).equals(own)
    with pytest.raises(ValueError, match="no clip of machine pump/00"):
        band_scores(Level().fit(X), X, 9, X_normal=X[:8])


def test_bands_are_occluded_in_all_views(rng):
    audio = rng.normal(size=(8, 4 * 16000)).astype(np.float32) / 10
    expand = AugmentationExpander(pitch_steps=(-1, 0), stretch_rates=(1.0,))
    scored = []

    class Recording(Level):
        def score_samples(self, X):
            scored.append(X)
            return super().score_samples(X)

    detector = make_pipeline(expand, LogMelSegmenter(), Recording()).fit(audio)
    band_scores(detector, audio, 0, X_normal=audio[1:2], n_bands=8)
    (X,) = scored
    own, other, last = 0, 1, 9  # then eight clips without a band each
    for view in range(2):
        occluded = X.log_mel(last, view)
        assert (occluded[-16:] == X.log_mel(other, view)[-16:]).all()
        assert (occluded[:-16] == X.log_mel(own, view)[:-16]).all()


def test_edges_of_bands_lie_between_the_centres_of_librosas_filters(rng):
    audio = rng.normal(size=(2, 4 * 16000)) / 10
    X = LogMelSegmenter(n_mels=64, fmin=50, fmax=4000).fit_transform(audio)
    edges = band_edges(X)
    centres = librosa.mel_frequencies(66, fmin=50, fmax=4000)[1:-1]
    assert len(edges) == 65
    assert (edges[:-1] < centres).all()
    assert (centres < edges[1:]).all()


def test_edges_of_a_power_spectrums_bands_are_evenly_spaced_in_log_frequency(rng):
    X = PowerSpectrum(n_bands=3, fmin=1000.0).fit_transform(rng.normal(size=(2, 9000)))
    assert band_edges(X) == pytest.approx([1000, 2000, 4000, 8000])


def test_the_band_of_a_power_spectrum_with_the_anomaly_is_named_in_hertz(rng):
    audio = rng.normal(size=(20, 2 * 16000)) / 10
    detector = make_pipeline(
        PowerSpectrum(), SpectrumStatistics(), MahalanobisDetector()
    ).fit(audio)
    clip = audio[:1] + np.sin(2 * np.pi * 100 * np.arange(2 * 16000) / 16000)
    bands = band_scores(detector, clip, X_normal=audio)
    worst = bands.iloc[bands["drop"].argmax()]
    assert worst["low"] < 100 < worst["high"] < 200
    with pytest.raises(ValueError, match="one spectrum, so time has no meaning"):
        time_scores(detector, clip, X_normal=audio)
    found = locate_anomaly(detector, clip, X_normal=audio)
    assert found.times is None
    assert found.time is None
    assert found.band[0] < 100 < found.band[1]


# -- time, and time and frequency -----------------------------------------------


class Loudest(Level):
    """The anomaly score is the level of a clip's loudest moment."""

    pools_segments = False

    def score_samples(self, X):
        return np.array([-X.log_mel(row).mean(axis=0).max() for row in range(len(X))])


@pytest.fixture
def quiet():
    return make([np.zeros((N_MELS, 6))], segment_frames=None)


def test_contributions_to_a_sum_are_exactly_its_parts(quiet, rng):
    log_mel = np.round(rng.gamma(1, size=(N_MELS, 6)), 2)
    log_mel[:, :4] = 0  # the median over time, which is the clip's level
    X, n_cells = make([log_mel], segment_frames=None), N_MELS * 6
    detector, how = Level().fit(None), {"X_normal": quiet}
    cells = occlusion_map(detector, X, **how, n_times=3, n_bands=2)
    expected = log_mel.reshape(2, 2, 3, 2).sum(axis=(1, 3)).T.ravel() / n_cells
    times = time_scores(detector, X, **how, n_times=3)
    bands = band_scores(detector, X, **how, n_bands=2)
    for kind in ("drop", "rise", "contribution"):
        np.testing.assert_allclose(cells[kind], expected, atol=1e-6)
        by_time, by_band = (expected.reshape(3, 2).sum(axis=axis) for axis in (1, 0))
        np.testing.assert_allclose(times[kind], by_time, atol=1e-6)
        np.testing.assert_allclose(bands[kind], by_band, atol=1e-6)
    assert cells["contribution"].sum() == pytest.approx(log_mel.mean(), abs=1e-6)
    assert cells["start"].tolist() == [0, 0, 2, 2, 4, 4]
    assert cells["stop"].tolist() == [2, 2, 4, 4, 6, 6]
    assert cells["low"].tolist() == [0, 2] * 3
    assert times[["start", "stop"]].to_numpy().tolist() == [[0, 2], [2, 4], [4, 6]]


def test_of_two_equal_moments_each_contributes_half(quiet):
    log_mel = np.zeros((N_MELS, 6))
    log_mel[:, [1, 4]] = 8  # neither alone lowers the maximum
    X = make([log_mel], segment_frames=None)
    scores = time_scores(Loudest().fit(None), X, X_normal=quiet, n_times=6)
    assert scores["drop"].tolist() == [0] * 6
    assert scores["rise"].tolist() == [0, 8, 0, 0, 8, 0]
    assert scores["contribution"].tolist() == [0, 4, 0, 0, 4, 0]


def test_a_piece_of_time_is_replaced_in_proportion_in_all_views():
    log_mel = np.tile(np.arange(4.0), (N_MELS, 1))
    X = ClipSpectrograms(
        np.concatenate([log_mel.T, log_mel.T.repeat(2, axis=0)]).astype(np.float32),
        starts=[[0, 4]],
        stops=[[4, 12]],  # the second view is twice as slow
        segment_frames=None,
        view_names=["original", "slow"],
    )
    scored = []

    class Recording(Level):
        def score_samples(self, X):
            scored.append(X)
            return super().score_samples(X)

    time_scores(Recording().fit(None), X, X_normal=X, n_times=2)
    (variants,) = scored
    assert variants.starts[2].tolist() == [24, 28]
    assert variants.stops[2].tolist() == [28, 36]


def test_variants_are_scored_in_batches_that_fit_into_memory(X, monkeypatch):
    whole = occlusion_map(Level().fit(X), X, X_normal=X)
    monkeypatch.setattr(occlusion, "LARGEST_BATCH", 3 * 6 * N_MELS * 4)
    pd.testing.assert_frame_equal(occlusion_map(Level().fit(X), X, X_normal=X), whole)


def test_nothing_is_named_for_normal_clips_or_without_half_of_the_anomaly(quiet):
    def _locate(log_mel):
        X = make([log_mel], segment_frames=None)
        return locate_anomaly(Level().fit(None), X, X_normal=long)

    long = make([np.zeros((16, 24))], segment_frames=None)
    log_mel = np.zeros((16, 24))
    log_mel[3, 4:6] = 16 * 24 * 2  # above the threshold, 3, by one
    found = _locate(log_mel)
    assert found.time == (4, 6)
    assert found.band == (3, 4)
    assert found.time_drop == pytest.approx(4)
    assert found.band_drop == pytest.approx(4)
    assert found.is_named
    quieter = _locate(log_mel / 2)
    assert quieter[:2] == (None, None)
    assert not quieter.is_named
    assert quieter.times["contribution"].max() == pytest.approx(2)
    log_mel[:] = 0
    log_mel[::5, ::5] = 16 * 24 * 4 / 20  # here and there
    scattered = _locate(log_mel)
    assert scattered.bands.attrs["score"] == pytest.approx(4)
    assert scattered[:2] == (None, None)


def test_a_place_takes_a_third_of_what_lies_above_the_threshold(quiet):
    class Strict(Level):
        def fit(self, X, y=None):
            self.offset_ = -threshold
            return self

    log_mel = np.zeros((16, 24))
    log_mel[0, 0] = log_mel[15, 23] = 16 * 24 * 2  # two places of 2 each
    X = make([log_mel], segment_frames=None)
    normal = make([np.full((16, 24), 1.0)], segment_frames=None)
    threshold = 3.9
    found = locate_anomaly(Strict().fit(None), X, X_normal=normal)
    assert found.time == (0, 2)
    threshold = 4.1  # the clip is normal
    assert locate_anomaly(Strict().fit(None), X, X_normal=normal).time is None


def test_without_a_threshold_every_clip_counts_as_anomalous(rng):
    X = make(rng.normal(size=(20, 16, 48)), segment_frames=None)
    pipe = make_pipeline(SpectrumStatistics(), KernelDensity(bandwidth=3)).fit(X)
    X.frames[20:24, 6] += 40
    found = locate_anomaly(pipe, X, X_normal=X[1:])
    assert found.time == (20, 24)
    assert found.band == (6, 7)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_detectors_inside_meta_estimators_are_explained(X, wrapper):
    bare = Level().fit(X)
    wrapped = WRAPPERS[wrapper](Level()).fit(X)
    for scores in (time_scores, band_scores, occlusion_map):
        expected = scores(bare, X, 5, X_normal=X)
        pd.testing.assert_frame_equal(scores(wrapped, X, 5, X_normal=X), expected)


def test_an_ensemble_explains_the_score_of_its_members_together(X):
    members = [("level", Level()), ("spread", Spread())]
    ensemble = GammaProbabilityEnsemble(members).fit(X)
    scores = time_scores(ensemble, X, 3, X_normal=X, n_times=2)
    assert scores.attrs["score"] == pytest.approx(-ensemble.score_samples(X[3])[0])
    cells = occlusion_map(ensemble, X, 3, X_normal=X)
    assert len(cells) == 6 * N_MELS


@pytest.mark.parametrize("explain", [time_scores, band_scores, occlusion_map])
def test_a_machine_without_normal_clips_is_refused(X, explain):
    with pytest.raises(ValueError, match="no clip of machine pump/00"):
        explain(Level().fit(X), X, 9, X_normal=X[:8])


@pytest.mark.parametrize("name", ["n_times", "n_bands"])
def test_no_cells_are_refused(X, name):
    with pytest.raises(ValueError, match=name):
        occlusion_map(Level().fit(X), X, X_normal=X, **{name: 0})


def test_detectors_of_whole_clips_have_no_scores_of_segments(X):
    whole = make_pipeline(SpectrumStatistics(), MahalanobisDetector()).fit(X)
    with pytest.raises(TypeError, match="MahalanobisDetector does not pool.*time_sco"):
        segment_scores(whole, X)
    with pytest.raises(TypeError, match="pools_segments = True in class Loudest"):
        segment_scores(Loudest().fit(X), X)


# -- parts ---------------------------------------------------------------------


def test_parts_are_listed_from_the_outside_in(X):
    inner = GammaProbabilityEnsemble([("one", Level()), ("two", Spread())])
    outer = GammaProbabilityEnsemble(
        [("pair", inner), ("fans", OnlyMachineTypes(Level(), "fan"))]
    )
    detector = make_pipeline(FunctionTransformer(), outer).fit(X)
    parts = list(detector_parts(detector, X, 10))
    assert [(part.member, type(part.estimator).__name__) for part in parts] == [
        ("", "Pipeline"),
        ("", "GammaProbabilityEnsemble"),
        ("pair", "GammaProbabilityEnsemble"),
        ("pair/one", "Level"),
        ("pair/two", "Spread"),
        ("fans", "OnlyMachineTypes"),  # the inner detector does not score pumps
    ]
    assert all(len(part.X) == 1 for part in parts)


def test_the_spectrogram_of_a_clip_is_that_of_the_segmenter(rng):
    audio = rng.normal(size=(12, 4 * 16000)) / 10
    detector = ThresholdTuner(make_pipeline(LogMelSegmenter(), Level()), "gamma")
    found = clip_spectrograms(detector.fit(audio), audio, 2)
    expected = LogMelSegmenter().fit_transform(audio)[2]
    np.testing.assert_array_equal(found.log_mel(0), expected.log_mel(0))


# -- embeddings ----------------------------------------------------------------


@pytest.fixture
def embedder():
    return IDConfidenceDetector(
        network=FirstBands, max_epochs=1, center_loss_weight=0, random_state=0
    )


def test_embeddings_are_those_of_the_network_inside(X, embedder):
    near = EmbeddingNeighborDetector(embedder)
    ensemble = GammaProbabilityEnsemble([("level", Level()), ("near", near)])
    detector = make_pipeline(FunctionTransformer(), ThresholdTuner(ensemble, "gamma"))
    expected = embedder.fit(X).embed(X)  # the first bands, not trained
    np.testing.assert_allclose(clip_embeddings(detector.fit(X), X), expected)


def test_clips_of_other_types_have_no_embedding(X, embedder):
    embedding = clip_embeddings(OnlyMachineTypes(embedder, "fan").fit(X), X)
    assert np.isnan(embedding[8:]).all()
    np.testing.assert_allclose(embedding[:8], embedder.fit(X).embed(X)[:8])


def test_embeddings_of_views_and_of_several_networks(X, rng):
    audio = rng.normal(size=(4, 4 * 16000)) / 10
    expand = AugmentationExpander(pitch_steps=(-1, 0), stretch_rates=(1.0,))
    detect = AugmentConfidenceDetector(network=FirstBands, max_epochs=1)
    pipe = make_pipeline(expand, LogMelSegmenter(), detect).fit(audio)
    assert clip_embeddings(pipe, audio).shape == (4, 2)
    with pytest.raises(TypeError, match="has no embedding of all clips"):
        clip_embeddings(PerMachine(Level()).fit(X), X)
