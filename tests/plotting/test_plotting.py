import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_asd import (
    ClipSpectrograms,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd.explanation import band_scores, locate_anomaly, time_scores
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.plotting import (
    ClipScoreDisplay,
    EmbeddingDisplay,
    ScoreDistributionDisplay,
)

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")  # of doctests in the same process
    yield
    plt.close("all")


class Level(OutlierMixin, BaseEstimator):
    """The anomaly score is the mean level of a clip; above 3 it is anomalous."""

    def fit(self, X, y=None):
        self.offset_ = -3.0
        return self

    def score_samples(self, X):
        return np.array([-X.log_mel(row).mean() for row in range(len(X))])

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_


class FirstBands(nn.Module):
    """The embedding is the first three mel bands of a segment's first frame."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.classify = nn.Linear(3, n_classes)

    def forward(self, log_mel):
        embedding = log_mel[:, :3, 0]
        return self.classify(embedding), embedding


def make(log_mels, **columns):
    return ClipSpectrograms.from_arrays(
        log_mels, segment_frames=2, segment_hop_frames=1, **columns
    )


@pytest.fixture
def X(rng):
    return make(rng.gamma(2, size=(12, 4, 6)), machine_id=["00", "01", "02"] * 4)


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# -- scores --------------------------------------------------------------------


def test_scores_are_drawn_as_anomaly_scores_with_the_threshold():
    display = ScoreDistributionDisplay.from_predictions(
        [1, 1, 1, -1],
        [-1.0, -2.0, -2.5, -8.0],
        training_scores=[-1.0, -1.5, -2.0],
        offset=-5.0,
    )
    assert legend_of(display.ax_) == [
        "normal, training (3)",
        "normal, new (3)",
        "anomalous, new (1)",
        "Gamma fit, normal",
        "threshold",
    ]
    (threshold,) = [
        line for line in display.ax_.lines if line.get_label() == "threshold"
    ]
    assert threshold.get_xdata() == [5.0, 5.0]
    low, high = display.ax_.get_xlim()
    assert low < 1
    assert 8 < high
    assert "higher: more anomalous" in display.ax_.get_xlabel()
    assert display.ax_.get_ylabel()
    assert display.figure_ is display.ax_.figure


def test_clips_without_labels_are_new():
    display = ScoreDistributionDisplay.from_predictions(scores=[-1.0, -2.0, np.nan])
    assert legend_of(display.ax_) == ["new (2)"]  # NaN is left out
    (outline,) = display.ax_.patches
    assert outline.get_xy()[:, 1].max() == 0.5  # each of the two in a bin of its own


def test_the_gamma_curve_is_the_expected_share_of_a_bin(rng):
    normal = rng.gamma(3, 2, size=500)
    display = ScoreDistributionDisplay.from_predictions(
        scores=-normal, training_scores=-normal
    )
    (curve,) = [line for line in display.ax_.lines if "Gamma" in line.get_label()]
    x, y = curve.get_data()
    width = np.ptp(normal) / 30
    shape, _, scale = stats.gamma.fit(normal, floc=0)
    expected = stats.gamma.pdf(x, shape, scale=scale) * width
    np.testing.assert_allclose(y[20:-20], expected[20:-20], rtol=0.05)


def test_scores_over_many_decades_have_a_logarithmic_axis(rng):
    wide, narrow = -(10.0 ** rng.uniform(-6, 0, 50)), -rng.uniform(1, 2, 50)
    scales = [
        ScoreDistributionDisplay.from_predictions(
            None, scores, **settings
        ).ax_.get_xscale()
        for scores, settings in [
            (wide, {}),
            (narrow, {}),
            (wide, {"log_scale": False}),
            (narrow, {"log_scale": True}),
            (np.append(narrow, 1.0), {"log_scale": True}),  # one below 0
        ]
    ]
    assert scales == ["log", "linear", "linear", "log", "linear"]


def test_an_estimators_own_scores_are_drawn(X):
    detector = Level().fit(X)
    display = ScoreDistributionDisplay.from_estimator(detector, X[:6], X_train=X[6:])
    np.testing.assert_allclose(display.scores, -detector.score_samples(X[:6]))
    np.testing.assert_allclose(display.training_scores, -detector.score_samples(X[6:]))
    np.testing.assert_allclose(display.thresholds, [3.0])


def test_training_scores_are_those_of_clips_left_out_of_the_fit(X):
    detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector()).fit(X)
    honest = -detector[-1].training_score_samples_
    for X_train in (None, X):  # with the training clips too
        display = ScoreDistributionDisplay.from_estimator(detector, X, X_train=X_train)
        np.testing.assert_array_equal(display.training_scores, honest)
        assert legend_of(display.ax_)[0] == "normal, training, each left out (12)"
    assert (honest > display.scores).mean() > 0.9


def test_scores_of_machines_with_thresholds_of_their_own_are_relative_to_these(X):
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    detector.fit(X)
    y = [1, -1] * 6
    display = ScoreDistributionDisplay.from_estimator(detector, X, y, X_train=X)
    np.testing.assert_allclose(display.scores, -detector.decision_function(X))
    honest = detector.training_score_samples_
    offsets = [detector.offsets_[machine] for machine in X.machine_id]
    np.testing.assert_allclose(display.training_scores, offsets - honest)
    assert display.ax_.get_xlabel() == (
        "anomaly score above the machine's threshold (higher: more anomalous)"
    )
    assert legend_of(display.ax_) == [
        "normal, training, each left out (12)",
        "normal, new (6)",
        "anomalous, new (6)",
        "machines' thresholds",
    ]
    (line,) = display.ax_.lines
    assert line.get_xdata() == [0, 0]
    # Nothing tells whose these are.
    display = ScoreDistributionDisplay.from_estimator(detector, X)
    assert display.training_scores is None
    with pytest.raises(ValueError, match="X_train has 6 clips, .*was fitted to 12"):
        ScoreDistributionDisplay.from_estimator(detector, X, X_train=X[:6])


def test_labels_come_first_as_in_scikit_learn():
    y, scores = [1, 1, -1], [-1.0, -2.0, -3.0]
    draw = ScoreDistributionDisplay.from_predictions
    for display in (draw(y, scores), draw(scores=scores, y=y)):
        assert legend_of(display.ax_)[:2] == ["normal, new (2)", "anomalous, new (1)"]
    for swapped in ((scores, y), (scores,)):
        with pytest.raises(ValueError, match=r"labels first.*pass \(y, scores\)"):
            draw(*swapped)


def test_an_infinite_threshold_is_not_drawn(X):
    with pytest.warns(UserWarning, match="cannot promise"):
        tuner = ThresholdTuner(Level(), random_state=0).fit(X)
    display = ScoreDistributionDisplay.from_estimator(tuner, X)
    assert "threshold" not in legend_of(display.ax_)


def test_a_members_scores_are_drawn_with_the_distribution_that_scales_them(X):
    ensemble = GammaProbabilityEnsemble([("one", Level()), ("two", Level())])
    tuner = ThresholdTuner(make_pipeline("passthrough", ensemble), "gamma").fit(X)
    display = ScoreDistributionDisplay.from_estimator(tuner, X, member="two")
    fitted = tuner.detector_[-1]
    assert display.gammas == {"Gamma distribution": fitted.scales_[None][1]}
    np.testing.assert_allclose(display.scores, fitted.member_scores(X)["raw"]["two"])
    assert display.ax_.get_xlabel().startswith("anomaly score of two")
    with pytest.raises(ValueError, match="member 'three' is unknown.* one, two"):
        ScoreDistributionDisplay.from_estimator(tuner, X, member="three")
    with pytest.raises(ValueError, match="there is no ensemble"):
        ScoreDistributionDisplay.from_estimator(Level().fit(X), X, member="one")


def test_a_members_scores_are_drawn_without_gammas_if_it_is_not_scaled_by_them(X):
    ensemble = ZScoreEnsemble([("one", Level()), ("two", Level())], calibration_cv=2)
    fitted = ensemble.fit(X)
    display = ScoreDistributionDisplay.from_estimator(fitted, X, member="two")
    assert not display.gammas
    np.testing.assert_allclose(display.scores, fitted.member_scores(X)["raw"]["two"])


def test_each_group_has_its_gamma_distribution(X):
    gammas = {"Gamma of a": GammaScale(2, 1, 0), "Gamma of b": GammaScale(3, 1, 0)}
    display = ScoreDistributionDisplay([1.0, 5.0], gammas=gammas).plot()
    styles = [line.get_linestyle() for line in display.ax_.lines]
    assert legend_of(display.ax_)[1:] == list(gammas)
    assert len(set(styles)) == 2


def test_scores_that_are_all_infinite_or_nan_are_refused():
    with pytest.raises(ValueError, match="no score is finite"):
        ScoreDistributionDisplay.from_predictions(None, [np.nan, -np.inf])


# -- one clip ------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipe():
    """Detector of sounds, and 6 clips of 6 s, the last of which has a loud band."""
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(6, 6 * 16000)) / 100
    detector = make_pipeline(LogMelSegmenter(), Level()).fit(audio)
    time = np.arange(3 * 16000) / 16000
    audio[5, -3 * 16000 :] += np.sin(2 * np.pi * 1000 * time)  # from 3 s on
    return detector, audio


def test_a_clip_is_drawn_in_seconds_and_hertz(pipe):
    detector, audio = pipe
    display = ClipScoreDisplay.from_estimator(detector, audio, 5, X_normal=audio[:5])
    (image,) = display.ax_.images
    expected = detector[0].transform(audio)[5].log_mel(0)
    np.testing.assert_array_equal(image.get_array(), expected)
    assert image.get_extent() == pytest.approx([0, 188 * 0.032, 0, 128])
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["0", "250", "500", "1000", "2000", "4000", "8000"]
    assert display.ax_.get_ylabel() == "frequency (Hz, mel scale)"
    assert display.times_ax_.get_xlabel() == "time (s)"
    assert "power (dB)" in [ax.get_ylabel() for ax in display.figure_.axes]
    # the tone lies where the axis says 1000 Hz
    height = display.ax_.get_yticks()[labels.index("1000")]
    assert expected[:, -50:].mean(axis=1).argmax() == pytest.approx(height, abs=1)


def test_a_power_spectrum_is_drawn_at_its_frequencies(rng):
    audio = rng.normal(size=(6, 2 * 16000)) / 100
    audio[5] += np.sin(2 * np.pi * 100 * np.arange(2 * 16000) / 16000)
    detector = make_pipeline(PowerSpectrum(remove_level=False), Level()).fit(audio)
    display = ClipScoreDisplay.from_estimator(detector, audio, 5, X_normal=audio[:5])
    assert display.ax_.get_ylabel() == "frequency (Hz, log scale)"
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["10", "30", "100", "300", "1000", "3000"]
    (image,) = display.ax_.images
    height = display.ax_.get_yticks()[labels.index("100")]
    assert image.get_array()[:, 0].argmax() == pytest.approx(height, abs=1)


def test_contributions_are_drawn_at_their_times_and_frequencies(pipe):
    detector, audio = pipe
    display = ClipScoreDisplay.from_estimator(detector, audio, 5, X_normal=audio[:5])
    times = time_scores(detector, audio, 5, X_normal=audio[:5])
    bars = display.times_ax_.patches
    drawn = [[bar.get_x(), bar.get_x() + bar.get_width()] for bar in bars]
    np.testing.assert_allclose(drawn, times[["start", "stop"]])
    heights = [bar.get_height() for bar in bars]
    np.testing.assert_allclose(heights, times["contribution"])
    bars = display.bands_ax_.patches
    widths = [bar.get_width() for bar in bars]
    bands = band_scores(detector, audio, 5, X_normal=audio[:5])
    np.testing.assert_allclose(widths, bands["contribution"])
    worst = bands.iloc[np.argmax(widths)]
    assert worst["low"] < 1000 < worst["high"]
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    height = display.ax_.get_yticks()[labels.index("1000")]
    bar = bars[int(np.argmax(widths))]
    assert bar.get_y() < height < bar.get_y() + bar.get_height()


def test_the_place_that_carries_the_anomaly_is_framed(rng):
    X = make(rng.normal(size=(20, 16, 48)))
    X.frames[20:24, 6] += 40
    detector = make_pipeline(SpectrumStatistics(), MahalanobisDetector()).fit(X[1:])
    display = ClipScoreDisplay.from_estimator(detector, X, X_normal=X[1:])
    box = display.ax_.patches[-1].get_bbox()
    assert (box.x0, box.x1, box.y0, box.y1) == (20, 24, 6, 7)
    (outline,) = display.ax_.collections
    corners = {tuple(point) for line in outline.get_segments() for point in line}
    assert corners == {(20, 6), (20, 7), (24, 6), (24, 7)}
    for location in (locate_anomaly(detector, X, 1, X_normal=X[2:]), None):
        plain = ClipScoreDisplay.from_predictions(np.zeros((16, 48)), location)
        assert not plain.ax_.patches
        assert not plain.ax_.collections


def test_small_contributions_look_small(X):
    X.frames[:6, 0] += 9
    display = ClipScoreDisplay.from_estimator(Level().fit(X), X, X_normal=X)
    times = display.location.times
    above_normal = times.attrs["score"] - times.attrs["normal_score"]
    assert above_normal > 0
    assert display.times_ax_.get_ylim()[1] > 0.5 * above_normal
    assert display.bands_ax_.get_xlim()[1] > 0.5 * above_normal


def test_without_normal_clips_the_log_mel_is_drawn_alone(pipe):
    detector, audio = pipe
    display = ClipScoreDisplay.from_estimator(detector, audio)
    assert display.bands_ax_ is None
    assert display.times_ax_ is None


def test_without_a_sample_rate_the_axes_count_frames_and_bands(X):
    display = ClipScoreDisplay.from_estimator(Level().fit(X), X, X_normal=X)
    assert display.ax_.get_ylabel() == "mel band"
    assert display.times_ax_.get_xlabel() == "frame"
    assert [bar.get_y() for bar in display.bands_ax_.patches] == [0, 1, 2, 3]


def test_a_log_mel_may_be_drawn_alone():
    display = ClipScoreDisplay.from_predictions(np.zeros((4, 10)))
    assert display.times_ax_ is None
    assert display.ax_.get_xlabel() == "frame"


# -- embedding -----------------------------------------------------------------


@pytest.fixture
def embedder(X):
    return IDConfidenceDetector(
        network=FirstBands, max_epochs=1, center_loss_weight=0, random_state=0
    ).fit(X)


def test_a_normal_clip_is_drawn_below_on_the_same_axes_with_the_difference(rng):
    log_mel = rng.normal(-40, 5, size=(16, 96)).astype(np.float32)
    normal = log_mel[:, :80].copy()
    normal[8:, :40] -= 20  # the clip is louder there
    display = ClipScoreDisplay.from_predictions(log_mel, normal=normal)
    (heard,), (other,) = display.ax_.images, display.normal_ax_.images
    assert heard.get_clim() == other.get_clim()
    assert display.normal_ax_.get_xlim() == display.ax_.get_xlim() == (0, 96)
    assert display.normal_ax_.get_ylim() == display.ax_.get_ylim()
    (difference,) = display.difference_ax_.images
    low, high = difference.get_clim()
    assert low == -high < 0
    shown = difference.get_array()
    assert shown.shape == (16, 80)  # as long as both last
    assert_allclose(shown[8:, :40], 20, atol=1e-4)
    assert_allclose(shown[:8], 0, atol=1e-4)


def test_small_differences_look_small(rng):
    log_mel = rng.normal(size=(7, 19))  # no multiple of what is averaged
    display = ClipScoreDisplay.from_predictions(log_mel, normal=log_mel + 1)
    (difference,) = display.difference_ax_.images
    assert difference.get_clim() == (-10, 10)
    assert_allclose(difference.get_array(), -1, atol=1e-5)
    assert ClipScoreDisplay.from_predictions(log_mel).difference_ax_ is None


def test_the_map_is_the_pca_of_the_training_clips(X, embedder):
    display = EmbeddingDisplay.from_estimator(embedder, X[:4], X_train=X[4:])
    pca = PCA(n_components=2).fit(embedder.embed(X[4:]))
    np.testing.assert_allclose(display.points, pca.transform(embedder.embed(X[:4])))
    share = pca.explained_variance_ratio_[0]
    assert display.ax_.get_xlabel().startswith(f"PC 1 ({share:.0%}")


def test_the_legend_names_machines_and_kinds_of_clips(X, embedder):
    display = EmbeddingDisplay.from_estimator(
        embedder, X[:6], [1, 1, 1, 1, -1, -1], X_train=X[6:]
    )
    assert legend_of(display.ax_) == [
        "normal, training",
        "normal, new",
        "anomalous, new",
        "00",
        "01",
        "02",
    ]
    crossed = display.ax_.collections[-1].get_offsets()
    np.testing.assert_allclose(crossed, display.points[4:])


def test_many_machines_differ_in_colour_or_marker(rng):
    names = [f"{number:02d}" for number in range(20)]
    display = EmbeddingDisplay.from_predictions(
        rng.normal(size=(20, 5)), machines=names
    )
    styles = display._choose_styles()
    assert len({(s["color"], s["marker"]) for s in styles.values()}) == 20
    assert legend_of(display.ax_)[-1] == "and 4 more machines"


def test_other_projections_and_clips_without_embedding(rng):
    embedding = rng.normal(size=(20, 5))
    embedding[3] = np.nan
    tsne = TSNE(perplexity=5, random_state=0, init="random")
    display = EmbeddingDisplay.from_predictions(embedding, projection=tsne)
    assert np.flatnonzero(np.isnan(display.points).any(axis=1)).tolist() == [3]
    assert display.ax_.get_xlabel() == "TSNE 1"
    assert legend_of(display.ax_) == ["new"]


# -- all displays --------------------------------------------------------------


def displays():
    return [
        ScoreDistributionDisplay([1.0, 2.0]),
        ClipScoreDisplay(np.zeros((4, 10)), None),
        EmbeddingDisplay(np.zeros((3, 2))),
    ]


@pytest.mark.parametrize("display", displays(), ids=lambda d: type(d).__name__)
def test_the_display_takes_the_place_of_given_axes(display):
    figure, axes = plt.subplots(1, 2)
    display.plot(ax=axes[1])
    assert display.figure_ is figure
    box = axes[1].get_subplotspec().get_position(figure)
    assert box.x0 - 1e-9 <= display.ax_.get_position().x0 <= box.x1
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("display", displays(), ids=lambda d: type(d).__name__)
def test_without_matplotlib_the_error_names_the_extra(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    name = type(display).__name__
    with pytest.raises(ImportError, match=rf'{name} draws with.*\[plot\]"'):
        display.plot()


def test_the_library_is_imported_without_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['jinja2'] = None; "
        "import sklearn_asd.plotting, sklearn_asd.report"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
