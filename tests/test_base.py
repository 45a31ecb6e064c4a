from importlib import metadata

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils import estimator_html_repr

import sklearn_asd
from sklearn_asd import (
    IDConfidenceDetector,
    LogMelSegmenter,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
)
from sklearn_asd._base import (
    EstimatorMixin,
    all_or_nothing,
    documentation_address,
    fit_clone,
    left_out_threshold,
)

ESTIMATORS = [
    IDConfidenceDetector(),
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
