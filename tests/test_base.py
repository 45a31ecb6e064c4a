import threading
import time
from importlib import metadata

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils import estimator_html_repr

import sklearn_asd
from sklearn_asd import (
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd._base import (
    EstimatorMixin,
    JudgingMixin,
    all_or_nothing,
    documentation_address,
    fit_clone,
    left_out_threshold,
)

ESTIMATORS = [
    IDConfidenceDetector(),
    LinearSpectrogram(),
    LogMelSegmenter(),
    PowerSpectrum(),
    SpectrumStatistics(),
    PerMachine(IDConfidenceDetector()),
]
by_name = pytest.mark.parametrize(
    "estimator", ESTIMATORS, ids=lambda e: type(e).__name__
)


@pytest.fixture
def project_urls(monkeypatch):
    """What the installed package says of itself."""

    def say(*entries):
        documentation_address.cache_clear()
        monkeypatch.setattr(metadata, "metadata", lambda name: _Metadata(entries))

    yield say
    documentation_address.cache_clear()


class _Metadata:
    def __init__(self, entries):
        self.entries = entries

    def get_all(self, name):
        return list(self.entries) or None if name == "Project-URL" else None


@by_name
def test_the_picture_of_an_estimator_links_to_its_page(estimator, project_urls):
    project_urls("Source, https://code.test", "Documentation, https://docs.test/asd/")
    name = type(estimator).__name__
    assert hasattr(sklearn_asd, name)  # which is what the page is called by
    link = f"https://docs.test/asd/generated/sklearn_asd.{name}.html"
    assert link in estimator_html_repr(estimator)


@by_name
def test_without_a_published_documentation_there_is_no_link(estimator, project_urls):
    project_urls()
    page = estimator_html_repr(estimator)
    assert f"sklearn_asd.{type(estimator).__name__}.html" not in page
    assert type(estimator).__name__ in page


class Child(EstimatorMixin):
    _fitted_attributes: dict = {"_rank": int}


class Grandchild(Child):
    _fitted_attributes: dict = {"offset_": float}

    @all_or_nothing
    def fit(self, **attributes):
        vars(self).update(attributes)
        if not attributes:
            raise ValueError("nothing to fit")


def test_a_fit_forgets_what_the_fit_before_it_has_set():
    estimator = Grandchild()
    estimator.mine = 1
    estimator.fit(_rank=1, offset_=0.5, other_=2)
    estimator.fit(offset_=0.1)
    assert vars(estimator) == {"mine": 1, "offset_": 0.1}
    with pytest.raises(ValueError, match="nothing"):
        estimator.fit()
    assert vars(estimator) == {"mine": 1, "offset_": 0.1}


class Counted(JudgingMixin, BaseEstimator):
    """Its score is the number of its fit, and so is its threshold."""

    @all_or_nothing
    def fit(self, X, y=None):
        self.number_ = X
        time.sleep(1e-4)
        self.offset_ = X
        return self

    def score_samples(self, X):
        number = self.number_
        time.sleep(1e-5)
        assert number == self.number_
        return np.full(3, number)


def judge_while_fitting(detector, fits, judge, n_calls):
    """Results of calls in this thread while another one fits again and again."""
    done = threading.Event()

    def fit():
        while not done.is_set():
            for X in fits:
                detector.fit(X)

    thread = threading.Thread(target=fit)
    thread.start()
    try:
        return [judge(detector) for _ in range(n_calls)]
    finally:
        done.set()
        thread.join()


def test_scoring_while_another_thread_fits_is_of_one_fit():
    results = judge_while_fitting(
        Counted().fit(0), range(1000), lambda d: d.decision_function(None), 300
    )
    assert not np.any(results)


@pytest.mark.parametrize(
    "make",
    [
        MahalanobisDetector,
        lambda: GaussianDetector(None),
        lambda: GammaProbabilityEnsemble([("a", MahalanobisDetector())]),
        lambda: ZScoreEnsemble([("a", MahalanobisDetector())]),
        lambda: ThresholdTuner(
            MahalanobisDetector(), false_alarm_rate=0.2, random_state=0
        ),
    ],
    ids=["distance", "gaussian", "probabilities", "z-scores", "threshold"],
)
def test_decisions_while_another_thread_fits_are_those_of_either_fit(make):
    rng = np.random.default_rng(0)
    fits = rng.normal(size=(40, 3)), 1000 + 100 * rng.normal(size=(40, 3))
    X = fits[0][:4]
    either = {tuple(make().fit(one).decision_function(X)) for one in fits}
    results = judge_while_fitting(
        make().fit(fits[0]), fits, lambda d: tuple(d.decision_function(X)), 30
    )
    assert set(results) <= either


def test_a_fit_that_is_stopped_leaves_the_object_as_it_was_all_the_time():
    detector = Counted().fit(1)
    before = vars(detector)

    class Stopped(Counted):
        @all_or_nothing
        def fit(self, X, y=None):
            self.number_ = 5
            assert detector.number_ == 1
            raise KeyboardInterrupt

    detector.__class__ = Stopped
    with pytest.raises(KeyboardInterrupt):
        detector.fit(2)
    assert vars(detector) is before


class WithoutLabels(BaseEstimator):
    """Its fit takes no y."""

    def fit(self, X):
        self.n_rows_ = len(X)
        return self


def test_a_clone_is_fitted_without_y_and_a_frozen_estimator_stays():
    estimator = WithoutLabels()
    fitted = fit_clone(estimator, np.zeros((3, 2)))
    assert fitted.n_rows_ == 3
    assert not hasattr(estimator, "n_rows_")
    frozen = FrozenEstimator(fitted)
    assert fit_clone(frozen, np.zeros((5, 2))) is frozen
    assert fitted.n_rows_ == 3


def test_a_threshold_by_left_out_scores_holds_for_new_ones():
    """Of four scores and a new one, each is as likely to be the lowest: a fifth."""
    scores = np.array([3.0, np.nan, 1.0, 4.0, 2.0])
    assert left_out_threshold(scores, 0.2) == 1.0
    assert left_out_threshold(scores, 0.4) == 2.0
    assert left_out_threshold(scores, 0.3) == 1.5
    assert left_out_threshold(scores, 0.05) == 1.0  # promises nothing
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 40))
    below = [row[39] < left_out_threshold(row[:39], 0.05) for row in draws]
    assert np.mean(below) == pytest.approx(0.05, abs=0.01)
