"""What users add from outside the package, one test a subject."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GaussianDetector,
    IDConfidenceDetector,
    LogMelSegmenter,
    LogMelView,
    MahalanobisDetector,
    SpectrumStatistics,
    ThresholdTuner,
    WaveformView,
    load_model,
    save_model,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.explanation import band_scores, detector_parts, time_scores
from sklearn_asd.meta.policies import Threshold
from sklearn_asd.meta.structure import Inner, MetaDetectorMixin
from sklearn_asd.metrics import mean_auc_scorer
from sklearn_asd.model_selection import MachineStratifiedKFold
from sklearn_asd.report import write_report


@pytest.fixture
def spectrograms(rng):
    """Clips of two machines that differ in level."""
    log_mels = rng.normal(size=(12, 8, 16)) + np.repeat([0, 4], 6)[:, None, None]
    machine_id = list("aaaaaabbbbbb")
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine_id, segment_frames=16
    )


def make_detector(**parameters):
    return IDConfidenceDetector(
        max_epochs=2, batch_size=6, random_state=0, **parameters
    )


def test_a_view_from_outside(rng):
    """One function of the waveform and one of the log-mel, told apart by a detector."""

    def polarity(samples, sample_rate):
        return -samples

    def mirror(log_mel):
        return log_mel[::-1]

    views = [WaveformView(polarity), LogMelView(mirror)]
    pipe = make_pipeline(
        AugmentationExpander(pitch_steps=[0], stretch_rates=[1], extra=views),
        LogMelSegmenter(segment_duration=None, n_mels=32),
        AugmentConfidenceDetector(max_epochs=1, random_state=0),
    )
    waves = rng.uniform(-0.1, 0.1, (4, 16000))
    assert np.isfinite(pipe.fit(waves).score_samples(waves)).all()
    assert pipe[-1].classes_.tolist() == ["original", "polarity", "mirror"]


class MeanNetwork(torch.nn.Module):
    """The embedding is the mean spectrum of a segment."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.classify = torch.nn.Linear(n_mels, n_classes)

    def forward(self, log_mel):
        embedding = log_mel.mean(dim=2)
        return self.classify(embedding), embedding


def test_a_network_from_outside(spectrograms):
    detector = make_detector(network=MeanNetwork).fit(spectrograms)
    assert np.isfinite(detector.score_samples(spectrograms)).all()
    means = [spectrograms.log_mel(row).mean(axis=1) for row in range(12)]
    np.testing.assert_allclose(detector.embed(spectrograms), means, atol=1e-5)


@dataclass(frozen=True)
class Scaled:
    """A head of its own without a bias, and logits that are halved for training."""

    factor: float = 0.5

    def make_head(self, n_classes, n_embedding):
        return torch.nn.Linear(n_embedding, n_classes, bias=False)

    def adjust_logits(self, logits, y):
        return self.factor * logits


def test_a_loss_from_outside(spectrograms):
    detector = make_detector(network=MeanNetwork, loss=Scaled()).fit(spectrograms)
    assert list(detector.net_.module_.head.state_dict()) == ["weight"]
    scores = detector.score_samples(spectrograms)
    other = clone(detector).set_params(loss=Scaled(0.1)).fit(spectrograms)
    assert np.isfinite(scores).all()
    assert (other.score_samples(spectrograms) != scores).any()


def test_a_distance_from_outside(spectrograms):
    def largest_difference(points, others):
        return np.abs(points[:, None] - others).max(axis=2)

    detector = EmbeddingNeighborDetector(
        make_detector(network=MeanNetwork), metric=largest_difference
    ).fit(spectrograms)
    mean = detector.embed(spectrograms)
    distances = largest_difference(mean[:1], mean[1:6])[0]  # of the same machine
    assert detector.training_score_samples_[0] == -distances.min()
    assert (detector.score_samples(spectrograms) == 0).all()


def test_a_policy_from_outside(rng):
    def one_false_alarm(normal, anomalous, tuner):
        assert len(anomalous) == 0
        return Threshold(np.sort(normal)[1], f"1 of {len(normal)} is a false alarm")

    X = rng.normal(size=(50, 3))
    tuner = ThresholdTuner(MahalanobisDetector(), one_false_alarm, random_state=0)
    tuner.fit(X)
    scores = tuner.training_score_samples_
    assert tuner.promise_ == "1 of 10 is a false alarm"
    assert (scores[~np.isnan(scores)] < tuner.offset_).sum() == 1
    with pytest.raises(ValueError, match="false_alarm_rate"):
        tuner.false_alarm_interval(10)


def test_an_encoder_from_outside_is_searched_judged_reported_and_saved(tmp_path):
    def fft_bands(waveforms):
        blocks = waveforms.reshape(len(waveforms), -1, 640)
        power = np.abs(np.fft.rfft(blocks)) ** 2
        return np.log(power[..., :320].reshape(*blocks.shape[:2], 16, 20).mean(-1))

    sounds = make_machine_sounds(
        "valve", n_machines=2, n_train=12, duration=2.0, random_state=0
    )
    train = sounds[sounds["split"] == "train"]
    test = sounds[sounds["split"] == "test"]
    pipe = Pipeline(
        [
            ("encode", EncoderEmbedding(fft_bands, cache_dir=tmp_path / "cache")),
            ("detect", GaussianDetector(SpectrumStatistics("mean"))),
        ]
    )
    statistics = ["mean", "max", ["generalized_mean", "deviation_weighted"]]
    search = GridSearchCV(
        pipe,
        {"detect__encoder__statistics": statistics},
        scoring=mean_auc_scorer,
        cv=MachineStratifiedKFold(3),
    )
    search.fit(test, test["label"].to_numpy(int))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    chosen = clone(search.best_estimator_)
    tuner = ThresholdTuner(
        chosen, validation_fraction="training_scores", false_alarm_rate=0.1
    ).fit(train)
    scores = tuner.score_samples(test)
    assert mean_auc_scorer(tuner, test, test["label"]) > 0.7
    assert (tuner.predict(test) == -1).any()
    path = write_report(tuner, test, tmp_path / "page.html", X_normal=train)
    assert "</strong> recordings in all" in path.read_text()
    save_model(tuner, tmp_path / "valves.asd")
    name = f"{__name__}:{fft_bands.__qualname__}"
    loaded = load_model(tmp_path / "valves.asd", encoders={name: fft_bands})
    np.testing.assert_array_equal(loaded.score_samples(test), scores)


class Halves(MetaDetectorMixin, BaseEstimator):
    """Clones of a detector score the rows of even and of odd number."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X, y=None):
        self.halves_ = [clone(self.detector).fit(X[half::2]) for half in range(2)]
        self.offset_ = -1e6
        return self

    def inner_detectors(self, X):
        halves = [np.arange(half, len(X), 2) for half in range(2)]
        return [
            Inner(fitted, rows)
            for fitted, rows in zip(self.halves_, halves, strict=True)
            if len(rows)
        ]


def test_a_meta_estimator_from_outside_can_stand_before_the_segmenter(tmp_path):
    sounds = make_machine_sounds(
        "fan", n_machines=1, n_train=6, duration=4.0, random_state=0
    )
    normal = list(sounds.loc[sounds["split"] == "train", "audio"])
    inside = make_pipeline(
        LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()
    )
    detector = Halves(inside).fit(normal)
    bands = band_scores(detector, normal[:1], X_normal=normal, n_bands=2)
    expected = band_scores(
        detector.halves_[0], normal[:1], X_normal=normal[::2], n_bands=2
    )
    np.testing.assert_array_equal(bands["anomaly_score"], expected["anomaly_score"])
    path = write_report(detector, normal, tmp_path / "page.html", X_normal=normal)
    assert "</strong> recordings in all" in path.read_text()


def test_a_meta_estimator_from_outside_is_scored_explained_and_reported(
    spectrograms, tmp_path
):
    inside = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    detector = Halves(inside).fit(spectrograms)
    scores = detector.score_samples(spectrograms)
    for half, fitted in enumerate(detector.halves_):
        expected = fitted.score_samples(spectrograms[half::2])
        np.testing.assert_array_equal(scores[half::2], expected)
    kinds = [type(part.estimator) for part in detector_parts(detector, spectrograms, 3)]
    assert kinds[0] is Halves
    assert kinds[-1] is MahalanobisDetector
    pipe = make_pipeline("passthrough", detector)
    times = time_scores(pipe, spectrograms, 3, X_normal=spectrograms, n_times=4)
    assert len(times) == 4
    bands = band_scores(pipe, spectrograms, 3, X_normal=spectrograms, n_bands=2)
    assert len(bands) == 2
    path = write_report(pipe, spectrograms, tmp_path / "page.html", max_details=1)
    assert "</strong> recordings in all" in path.read_text()
