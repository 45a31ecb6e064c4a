import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from sklearn_asd import MahalanobisDetector


def test_scores_are_distances_worked_by_hand():
    """With the covariance that is 4 and 1 along the axes, around (1, 2)."""
    X = np.random.default_rng(0).normal(size=(100, 2))
    detector = MahalanobisDetector().fit(X)
    detector.covariance_.location_ = np.array([1.0, 2.0])
    detector.covariance_.precision_ = np.diag([1 / 4, 1.0])
    new = [[1, 2], [5, 2], [1, 5], [3, 3]]
    np.testing.assert_allclose(
        detector.score_samples(new), [0, -2, -3, -np.sqrt(2)], atol=1e-12
    )
    np.testing.assert_array_equal(
        detector.decision_function(new), detector.score_samples(new) - detector.offset_
    )


def test_training_rows_are_scored_by_other_folds(rng):
    X = rng.normal(size=(6, 2))
    scores = MahalanobisDetector(n_folds=6).fit(X).training_score_samples_
    for row in range(6):
        others = LedoitWolf().fit(np.delete(X, row, axis=0))
        expected = -np.sqrt(others.mahalanobis(X[[row]]))
        np.testing.assert_allclose(scores[[row]], expected)


@pytest.mark.parametrize("contamination", [0.05, 0.2])
def test_the_threshold_holds_on_unseen_rows_with_more_columns_than_rows(
    rng, contamination
):
    detector = MahalanobisDetector(contamination=contamination)
    detector.fit(rng.normal(size=(150, 200)))
    false_alarms = (detector.predict(rng.normal(size=(1000, 200))) == -1).mean()
    assert contamination / 3 < false_alarms < 2 * contamination


def test_rows_marked_anomalous_are_never_learnt_from(rng):
    X, y = rng.normal(size=(60, 3)), np.ones(60)
    X[::4] += 9
    y[::4] = -1
    detector, without = MahalanobisDetector(), MahalanobisDetector()
    verdicts = detector.fit_predict(X, y)
    without.fit(X[y == 1])
    np.testing.assert_array_equal(detector.score_samples(X), without.score_samples(X))
    assert detector.offset_ == without.offset_
    assert (verdicts[::4] == -1).all()
    assert (np.isnan(detector.training_score_samples_) == (y == -1)).all()
    np.testing.assert_array_equal(detector.anomaly_score(X), -detector.score_samples(X))
    with pytest.raises(ValueError, match="y marks 2 rows as normal; 3"):
        detector.fit(X, np.where(np.arange(60) < 2, 1, -1))


def test_three_rows_are_enough_for_folds():
    detector = MahalanobisDetector().fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert np.isfinite(detector.training_score_samples_).all()
