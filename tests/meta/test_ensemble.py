import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from pyod.models.iforest import IForest
from scipy.stats import gamma
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils import estimator_html_repr, get_tags

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    SpectrumStatistics,
    ZScoreEnsemble,
)
from sklearn_asd._utils.parameters import InvalidParameterError


class Column(OutlierMixin, BaseEstimator):
    """The anomaly score is a column of X, of numbers or of a table of clips."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        self.rows_ = self._scores(X)
        return self

    def _scores(self, X):
        if isinstance(X, pd.DataFrame):
            return X[f"score_{self.column}"].to_numpy(float)
        return X[:, self.column]

    def score_samples(self, X):
        return -self._scores(X)


class HonestColumn(Column):
    """Says of the clips that it was fitted to that they score as twice themselves."""

    def fit(self, X, y=None):
        super().fit(X)
        self.training_score_samples_ = -2 * self.rows_
        return self


def columns_of(n, **parameters):
    members = [(f"m{j}", Column(j)) for j in range(n)]
    return GammaProbabilityEnsemble(members, **parameters)


@pytest.fixture
def normal(rng):
    return rng.gamma([1.0, 3.0], [2.0, 0.1], size=(200, 2))


# -- known answers ---------------------------------------------------------------


def test_scaled_scores_are_equation_5_worked_by_hand(normal):
    ensemble = columns_of(2).fit(normal)
    X = np.array([[1.0, 0.2], [9.0, 0.9]])
    shape, _, scale = zip(*[gamma.fit(s, floc=0) for s in normal.T], strict=True)
    scores = ensemble.member_scores(X)
    assert scores["raw"].to_numpy().tolist() == X.tolist()
    np.testing.assert_allclose(
        scores["scaled"], gamma.cdf(X, shape, scale=scale), rtol=1e-6
    )


F = np.array([[0.5, 0.9], [0.1, 0.2], [0.0, 1 - 1e-9]])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("probability", [1 - 0.5 * 0.1, 1 - 0.9 * 0.8, 1 - 1e-9]),  # Eq. (6)
        ("mean", [0.7, 0.15, (1 - 1e-9) / 2]),
        ("product", [0.45, 0.02, 0.0]),
    ],
)
def test_aggregations_worked_by_hand(aggregation, expected):
    ensemble = columns_of(2, scaling=None, aggregation=aggregation).fit(F)
    np.testing.assert_allclose(ensemble.anomaly_probability(F), expected, atol=1e-12)
    np.testing.assert_allclose(
        ensemble.score_samples(F), np.log1p(-np.array(expected)), rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("aggregation", ["probability", "mean", "product"])
def test_p_of_1_minus_1e_12_still_ranks_above_1_minus_1e_13(aggregation):
    """As an anomaly score of a confidence detector: 1 - p."""
    doubt = np.array([1e-12, 1e-13, 1e-3, 1e-4])
    X = np.column_stack([doubt, doubt])
    for scaling in (None, "gamma"):
        ensemble = columns_of(2, scaling=scaling, aggregation=aggregation).fit(X)
        scores = ensemble.score_samples(X)
        assert scores[0] < scores[1]
        assert scores[2] < scores[3]


@pytest.mark.parametrize("aggregation", ["probability", "mean", "product"])
def test_clips_far_in_the_tail_are_not_tied(normal, aggregation):
    """Where both distribution functions are 1 in float64."""
    ensemble = columns_of(2, aggregation=aggregation).fit(normal)
    far = np.array([[200, 20], [201, 20], [2000, 20.1], [2001, 2000], [1e6, 1e6]])
    scores = ensemble.score_samples(far)
    assert np.isfinite(scores).all()
    if aggregation == "probability":
        assert (np.diff(scores) < 0).all()
    else:  # the member that is less sure decides
        assert scores[0] > scores[3] > scores[4]
    assert (ensemble.anomaly_probability(far) <= 1).all()


@pytest.mark.parametrize("aggregation", ["mean", "product"])
def test_the_ways_to_the_tail_meet(normal, aggregation):
    """Both formulas, just before and after the switch between them."""
    normal, x = normal[:, :1], np.linspace(0.01, 120, 4000)[:, None]
    scores = columns_of(1, aggregation=aggregation).fit(normal).score_samples(x)
    expected = columns_of(1).fit(normal).score_samples(x)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_the_mean_of_small_probabilities_keeps_its_digits():
    F = np.array([[1e-14, 3e-14], [0.5, 0.5]])
    ensemble = columns_of(2, scaling=None, aggregation="mean").fit(F)
    np.testing.assert_allclose(ensemble.score_samples(F)[0], -2e-14, rtol=1e-9)


def test_the_product_keeps_its_digits_near_0_and_near_1():
    """log(1 - f) for f next to 1, and to 0."""
    doubt = np.array([[1e-12, 2e-12], [1 - 1e-8, 1 - 1e-8]])
    ensemble = columns_of(2, scaling=None, aggregation="product").fit(1 - doubt)
    np.testing.assert_allclose(
        ensemble.score_samples(1 - doubt), [np.log(3e-12), -1e-16], rtol=1e-4
    )


def test_clips_far_out_do_not_change_scores_of_others(normal):
    for aggregation in ("probability", "mean", "product"):
        ensemble = columns_of(2, aggregation=aggregation).fit(normal)
        together = ensemble.score_samples(np.array([[2000.0, 2000.0], [1.0, 0.2]]))
        assert together[1] == ensemble.score_samples(np.array([[1.0, 0.2]]))[0]


def test_members_are_named_in_their_scores(normal):
    scores = columns_of(2).fit(normal).member_scores(normal)
    names = [(kind, name) for kind in ("raw", "scaled") for name in ("m0", "m1")]
    assert list(scores.columns) == names
    assert len(scores) == 200


def test_each_group_has_its_own_distributions():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "path": "x.wav",
            "machine_type": ["fan"] * 50 + ["pump"] * 50,
            "score_0": np.append(rng.gamma(2, 1, 50), rng.gamma(2, 10, 50)),
        }
    )
    apart = columns_of(1, group_by="machine_type").fit(table)
    together = columns_of(1).fit(table)
    assert set(apart.scales_) == {"fan", "pump"}
    assert set(together.scales_) == {None}
    for kind in ("fan", "pump"):
        own = table[table["machine_type"] == kind]
        np.testing.assert_allclose(
            apart.score_samples(own), columns_of(1).fit(own).score_samples(own)
        )
    with pytest.raises(
        ValueError, match=r"clips of valve, and scales are of fan, pump, by"
    ):
        apart.score_samples(table.assign(machine_type="valve"))
    with pytest.raises(ValueError, match="no 'machine_type' for some or all"):
        apart.score_samples(table.drop(columns="machine_type"))


def test_another_fit_may_have_other_groups():
    table = pd.DataFrame({"path": "x.wav", "machine_type": "fan", "score_0": [1, 2.0]})
    ensemble = columns_of(1, group_by="machine_type").fit(table)
    ensemble.fit(table.assign(machine_type="valve"))
    assert set(ensemble.scales_) == {"valve"}


def test_machines_of_two_types_that_share_an_id_are_two_groups():
    table = pd.DataFrame(
        {
            "path": "x.wav",
            "machine_type": ["fan", "fan", "pump", "pump"],
            "machine_id": 0,
            "score_0": [1.0, 2.0, 3.0, 5.0],
        }
    )
    ensemble = columns_of(1, group_by="machine_id").fit(table)
    assert set(ensemble.scales_) == {"fan/0", "pump/0"}
    with pytest.raises(ValueError, match="no 'machine_id' for some or all"):
        ensemble.score_samples(table.assign(machine_id=[0, None, 0, 0]))


def test_groups_are_found_in_clips_and_spectrograms_too():
    X = make_clips()
    types = np.repeat(["fan", "pump"], 5)
    X = ClipSpectrograms.from_arrays(
        [X.log_mel(row) for row in range(10)],
        machine_type=types,
        machine_id=["00"] * 10,
        domain=["source", "target"] * 5,
        segment_frames=X.segment_frames,
    )
    level = [("level", make_pipeline(SpectrumStatistics(), Column()))]
    for group_by, names in (
        ("machine_type", {"fan", "pump"}),
        ("machine_id", {"fan/00", "pump/00"}),
        ("domain", {"source", "target"}),
        (["domain"], {"source", "target"}),
        (
            ["machine_type", "domain"],
            {
                f"machine_type {kind}, domain {domain}"
                for kind in ("fan", "pump")
                for domain in ("source", "target")
            },
        ),
    ):
        ensemble = GammaProbabilityEnsemble(level, group_by=group_by).fit(X)
        assert set(ensemble.scales_) == names
    with pytest.raises(ValueError, match=r"no 'car' for some.*set group_by=None"):
        GammaProbabilityEnsemble(level, group_by="car").fit(X)


def test_each_domain_has_its_own_distributions():
    rng = np.random.default_rng(0)
    scores = np.append(rng.gamma(2, 1, 50), rng.gamma(2, 10, 50))
    table = pd.DataFrame(
        {
            "path": "x.wav",
            "domain": ["source"] * 50 + ["target"] * 50,
            "score_0": scores,
        }
    )
    ensemble = columns_of(1, group_by=["domain"]).fit(table)
    for _, own in table.groupby("domain"):
        alone = columns_of(1).fit(own).score_samples(own)
        np.testing.assert_allclose(ensemble.score_samples(own), alone)
    with pytest.raises(ValueError, match="no 'domain' for some or all clips"):
        ensemble.score_samples(table.drop(columns="domain"))
    with pytest.raises(
        ValueError,
        match=r"of other, and scales are of source, target, by \['domain\'\]",
    ):
        ensemble.score_samples(table.assign(domain="other"))
    with pytest.raises(ValueError, match="group_by is empty: name columns"):
        columns_of(1, group_by=[]).fit(table)


def test_a_group_that_a_member_does_not_score_scores_nan():
    """As where a member was trained on one machine type of several."""
    table = pd.DataFrame(
        {
            "path": "x.wav",
            "machine_type": ["fan"] * 3 + ["pump"] * 3,
            "score_0": [1, 2, 3, 4, 5, 6.0],
            "score_1": [1, 2, 3, np.nan, np.nan, np.nan],
        }
    )
    for rows in (table, table[::-1]):
        ensemble = columns_of(2, group_by="machine_type").fit(rows)
        unknown = np.isnan(ensemble.score_samples(table))
        assert unknown.tolist() == [False] * 3 + [True] * 3
    with pytest.raises(ValueError, match="no clip is scored by all members"):
        columns_of(2).fit(table.assign(score_0=[np.nan] * 3 + [4, 5, 6.0]))


# -- what the distributions are fitted to ----------------------------------------


def test_the_threshold_is_a_percentile_of_the_calibration_scores(normal):
    ensemble = columns_of(2, contamination=0.25).fit(normal)
    assert (ensemble.predict(normal) == -1).mean() == 0.25
    np.testing.assert_array_equal(
        ensemble.decision_function(normal),
        ensemble.score_samples(normal) - ensemble.offset_,
    )


def test_honest_training_scores_are_preferred(normal):
    honest = GammaProbabilityEnsemble([("m", HonestColumn())]).fit(normal)
    doubled = columns_of(1).fit(2 * normal)
    np.testing.assert_allclose(honest.scales_[None][0], doubled.scales_[None][0])
    assert honest.offset_ == pytest.approx(doubled.offset_)


def test_scores_of_clips_left_out_are_passed_on(normal):
    """So that an ensemble in an ensemble is calibrated on them too."""
    y = np.where(np.arange(200) % 9, 1, -1)
    inner = GammaProbabilityEnsemble([("honest", HonestColumn())])
    scores = inner.fit(normal, y).training_score_samples_
    assert np.flatnonzero(np.isnan(scores)).tolist() == list(range(0, 200, 9))
    assert np.nanpercentile(scores, 10) == pytest.approx(inner.offset_)
    outer = GammaProbabilityEnsemble([("inner", inner)]).fit(normal)
    assert outer.offset_ == pytest.approx(
        GammaProbabilityEnsemble([("inner", FrozenEstimator(inner))])
        .fit(2 * normal)
        .offset_,
        rel=0.3,
    )
    folds = columns_of(2, calibration_cv=3).fit(normal)
    assert np.isfinite(folds.training_score_samples_).all()
    inner.set_params(honest=Column()).fit(normal)
    assert not hasattr(inner, "training_score_samples_")


class Memory(Column):
    """Scores clips that it was fitted to 0.01, and others as the column says."""

    def score_samples(self, X):
        known = np.isin(X[:, self.column], self.rows_)
        return np.where(known, -0.01 * X[:, self.column], super().score_samples(X))


@pytest.mark.parametrize("cv", [5, KFold(4), list(KFold(3).split(np.zeros(200)))])
def test_with_folds_the_distributions_are_of_clips_left_out(normal, cv):
    overfitted = GammaProbabilityEnsemble([("m", Memory())], calibration_cv=cv)
    np.testing.assert_allclose(
        overfitted.fit(normal).scales_[None], columns_of(1).fit(normal).scales_[None]
    )
    too_sure = GammaProbabilityEnsemble([("m", Memory())]).fit(normal)
    assert too_sure.scales_[None][0].scale < 0.03


def test_folds_are_the_same_each_time(normal):
    """Shuffled, as recordings of one day lie beside each other."""
    members = [("m", Means())]
    ensemble = GammaProbabilityEnsemble(members, calibration_cv=4)
    folds = KFold(4, shuffle=True, random_state=0)
    expected = clone(ensemble).set_params(calibration_cv=folds)
    assert ensemble.fit(normal).scales_ == expected.fit(normal).scales_
    table = pd.DataFrame({"score_0": normal[:, 0], "machine_id": np.arange(200) % 2})
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    expected = clone(ensemble).set_params(calibration_cv=folds)
    assert ensemble.fit(table).scales_ == expected.fit(table).scales_


class Means(Column):
    """How far a clip lies above half the mean of those fitted to."""

    def score_samples(self, X):
        return -np.abs(self._scores(X) - self.rows_.mean() / 2)


def test_a_frozen_member_is_neither_fitted_nor_cloned(normal):
    fitted = HonestColumn().fit(normal)
    ensemble = GammaProbabilityEnsemble(
        [("m", FrozenEstimator(fitted))], calibration_cv=3
    ).fit(normal[:50])
    assert ensemble.estimators_[0].estimator is fitted
    expected = columns_of(1).fit(normal[:50])  # not the scores of its own training
    np.testing.assert_allclose(ensemble.scales_[None], expected.scales_[None])


def test_anomalous_rows_are_never_trained_on(normal):
    y = np.ones(200)
    y[::7] = -1
    members = [("forest", IsolationForest(random_state=0)), ("m", Column())]
    with_labels = GammaProbabilityEnsemble(members, calibration_cv=3).fit(normal, y)
    without = GammaProbabilityEnsemble(members, calibration_cv=3).fit(normal[y == 1])
    np.testing.assert_array_equal(
        with_labels.score_samples(normal), without.score_samples(normal)
    )
    assert with_labels.offset_ == without.offset_


def test_negative_scores_are_shifted(rng):
    X = rng.normal(size=(100, 2))
    ensemble = GammaProbabilityEnsemble([("svm", OneClassSVM())]).fit(X)
    assert ensemble.scales_[None][0].shift > 0
    far = ensemble.anomaly_probability([[6.0, 6.0]])
    assert far > ensemble.anomaly_probability(X).max()


def test_a_pyod_detector_is_a_member_like_any_other(rng):
    """PyOD's scores are high for anomalies, scikit-learn's are low."""
    X = rng.normal(size=(100, 2))
    forests = [("pyod", IForest(random_state=0)), ("ours", IsolationForest())]
    ensemble = GammaProbabilityEnsemble(forests).fit(X)
    scores = ensemble.member_scores(np.array([[0.0, 0.0], [6.0, 6.0]]))
    assert (scores.loc[1] > scores.loc[0]).all()
    behind = GammaProbabilityEnsemble(
        [("pyod", make_pipeline(StandardScaler(), IForest(random_state=0)))]
    ).fit(X)
    assert behind.predict([[0.0, 0.0], [6.0, 6.0]]).tolist() == [1, -1]


# -- as an estimator -------------------------------------------------------------


def make_members():
    scaled = make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True))
    return [("forest", IsolationForest(random_state=0)), ("factor", scaled)]


def test_parameters_reach_inside_the_members(normal):
    ensemble = GammaProbabilityEnsemble(make_members())
    ensemble.set_params(
        forest__n_estimators=7, factor__localoutlierfactor__n_neighbors=5
    )
    copy = clone(ensemble).fit(normal)
    assert len(copy.named_estimators_["forest"].estimators_) == 7
    assert copy.estimators_[1][-1].n_neighbors == 5
    copy.set_params(forest="drop").fit(normal)
    assert list(copy.named_estimators_) == ["factor"]
    assert ensemble.get_params()["forest__n_estimators"] == 7


def test_a_search_over_members_aggregation_and_scaling(rng):
    X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4, 1, size=(20, 2))])
    y = np.repeat([1, -1], [80, 20])
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GammaProbabilityEnsemble(make_members())),
        {
            "gammaprobabilityensemble__aggregation": ["probability", "mean", "product"],
            "gammaprobabilityensemble__forest__n_estimators": [5, 20],
        },
        scoring="roc_auc",
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X, y)
    assert search.cv_results_["mean_test_score"].min() > 0.9


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_change_nothing(normal, backend):
    ensembles = [
        GammaProbabilityEnsemble(make_members(), calibration_cv=3, n_jobs=n_jobs)
        for n_jobs in (1, 2)
    ]
    with joblib.parallel_config(backend):
        scores = [ensemble.fit(normal).score_samples(normal) for ensemble in ensembles]
    np.testing.assert_array_equal(*scores)


def test_saved_and_loaded_it_scores_the_same(normal, tmp_path):
    ensemble = GammaProbabilityEnsemble(make_members()).fit(normal)
    joblib.dump(ensemble, tmp_path / "ensemble.joblib")
    loaded = joblib.load(tmp_path / "ensemble.joblib")
    np.testing.assert_array_equal(
        loaded.score_samples(normal), ensemble.score_samples(normal)
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one"),
        ([IsolationForest()], r"list of \(name, detector\)"),
        ([("a", "drop")], "all members are .drop."),
        ([("a", Column()), ("a", Column())], "not unique"),
        ([("a__b", Column())], "must not contain __"),
    ],
)
def test_wrong_members_are_refused(normal, members, message):
    with pytest.raises(ValueError, match=message):
        GammaProbabilityEnsemble(members).fit(normal)


def test_members_that_cannot_score_are_refused_before_any_is_fitted(normal):
    members = [("fine", Column()), ("factor", LocalOutlierFactor())]
    with pytest.raises(TypeError, match=r"LocalOutlierFactor has.*novelty=True"):
        GammaProbabilityEnsemble(members).fit(normal)


@pytest.mark.parametrize(
    "parameter",
    [
        {"scaling": "minmax"},
        {"aggregation": "max"},
        {"group_by": 1},
        {"calibration_cv": 1},
        {"contamination": 0.6},
    ],
)
def test_wrong_parameters_are_refused(normal, parameter):
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        columns_of(2, **parameter).fit(normal)


def test_scores_beyond_0_to_1_need_scaling(normal):
    with pytest.raises(
        ValueError, match=r"member scores .*\[0, 1\].*scaling=\"gamma\""
    ):
        columns_of(2, scaling=None).fit(normal)


def test_raw_scores_are_taken_up_to_1_and_no_further():
    F = np.array([[0.2], [0.7], [1.0]])
    ensemble = columns_of(1, scaling=None).fit(F)
    assert np.isfinite(ensemble.score_samples(F)).all()
    for beyond in (1.001, 1.5, -0.001):
        with pytest.raises(ValueError, match=f"scores {beyond}, .*set scaling="):
            ensemble.score_samples(np.array([[0.5], [beyond]]))


def test_whether_sparse_rows_are_taken_is_for_the_members_to_say():
    def takes_sparse(*members):
        named = [(str(j), member) for j, member in enumerate(members)]
        return get_tags(GammaProbabilityEnsemble(named)).input_tags.sparse

    svm, column = OneClassSVM(), Column()
    assert takes_sparse(svm)
    assert takes_sparse(svm, "drop")
    assert not takes_sparse(svm, column)
    assert not get_tags(GammaProbabilityEnsemble([("a", int)])).input_tags.sparse
    assert not get_tags(GammaProbabilityEnsemble([5])).input_tags.sparse


def test_a_clip_on_the_threshold_is_normal(normal):
    ensemble = columns_of(2).fit(normal)
    ensemble.offset_ = ensemble.score_samples(normal[:1])[0]
    assert ensemble.predict(normal[:1]) == 1
    assert ensemble.anomaly_score(normal[:1]) == -ensemble.offset_


def test_fit_predict_learns_from_normal_clips_and_judges_all(normal):
    y = np.where(np.arange(200) < 190, 1, -1)
    verdicts = columns_of(2).fit_predict(normal, y)
    assert verdicts.tolist() == columns_of(2).fit(normal[:190]).predict(normal).tolist()


def test_labels_of_a_table_of_numbers_other_than_plus_and_minus_one_are_warned_of(
    normal,
):
    with pytest.warns(UserWarning, match="y is ignored") as caught:
        columns_of(2).fit(normal, np.arange(200) % 2)
    assert caught[0].filename == __file__
    clips = pd.DataFrame({"path": ["a.wav"] * 9, "score_0": np.arange(1, 10)})
    with pytest.raises(ValueError, match="y holds 0"):
        columns_of(1).fit(clips, [0, 1] * 4 + [1])
    with pytest.raises(ValueError, match="X holds 0 normal clips"):
        columns_of(1).fit(clips, [-1] * 9)


class Names(Column):
    """Keeps what it was given."""

    def fit(self, X, y=None):
        self.given_ = X
        self.n_features_in_ = X.shape[1]
        return self

    def _scores(self, X):
        return np.asarray(X)[:, self.column].astype(float)


def test_members_get_tables_as_they_are():
    table = pd.DataFrame({"a": [1, 2, 3.0], "kind": ["x", "y", "x"]}, index=[7, 7, 7])
    ensemble = GammaProbabilityEnsemble([("m", Names())], group_by="kind")
    with pytest.raises(ValueError, match="scores of member 'm' of y are of 1 clip"):
        ensemble.fit(table)
    ensemble.set_params(group_by=None).fit(table)
    pd.testing.assert_frame_equal(ensemble.estimators_[0].given_, table)
    assert ensemble.n_features_in_ == 2


def test_the_configuration_reaches_the_members_in_threads(normal):
    class Configured(Column):
        def fit(self, X, y=None):
            seen.append(sklearn.get_config()["assume_finite"])
            return super().fit(X)

    seen = []
    members = [("a", Configured()), ("b", Configured())]
    with sklearn.config_context(assume_finite=True):
        GammaProbabilityEnsemble(members, n_jobs=2).fit(normal)
    assert seen == [True, True]


def test_waveforms_of_any_length_and_with_nan_are_left_to_the_members():
    waves = 0.1 * np.random.default_rng(0).normal(size=(8, 16000)).astype(np.float32)
    segment = LogMelSegmenter(segment_duration=None, on_bad_clip="nan")
    member = make_pipeline(
        segment, SpectrumStatistics(), MahalanobisDetector(n_folds=2)
    )
    ensemble = GammaProbabilityEnsemble([("m", member)]).fit(waves)
    assert np.isfinite(ensemble.score_samples(np.tile(waves, 2))).all()


# -- on spectrograms, with networks ----------------------------------------------


def make_clips(n=10, seed=0):
    """Clips of machines that each hum in a band of their own."""
    rng = np.random.default_rng(seed)
    machine = np.repeat(["a", "b", "c"], n)
    log_mels = rng.normal(size=(3 * n, 16, 40))
    for row, name in enumerate(machine):
        log_mels[row, 4 * "abc".index(name)] += 4
    return ClipSpectrograms.from_arrays(
        log_mels, machine_id=machine, segment_frames=16, segment_hop_frames=8
    )


def make_id(**parameters):
    settings = {"max_epochs": 3, "batch_size": 16, "random_state": 0}
    return IDConfidenceDetector(**settings | parameters)


def test_members_take_the_same_network_from_a_frozen_detector():
    X = make_clips()
    trained = FrozenEstimator(make_id().fit(X))
    members = [("id", trained), ("near", EmbeddingNeighborDetector(trained))]
    ensemble = GammaProbabilityEnsemble(members).fit(X)
    fitted = ensemble.named_estimators_
    assert fitted["near"].encoder_.net_ is fitted["id"].net_
    again = [("id", make_id()), ("near", EmbeddingNeighborDetector(make_id()))]
    apart = GammaProbabilityEnsemble(again).fit(X)
    np.testing.assert_array_equal(ensemble.score_samples(X), apart.score_samples(X))


def test_folds_hold_every_machine():
    X = make_clips(n=4)
    GammaProbabilityEnsemble([("id", make_id())], calibration_cv=4).fit(X)
    with pytest.raises(
        ValueError, match="needs 5 normal clips of each machine; .* 4 of"
    ):
        GammaProbabilityEnsemble([("id", make_id())], calibration_cv=5).fit(X)


def test_clips_that_could_not_be_used_score_nan():
    X = make_clips()
    X.stops[3] = X.starts[3]
    ensemble = GammaProbabilityEnsemble(
        [("id", make_id()), ("near", EmbeddingNeighborDetector(make_id()))]
    ).fit(X)
    assert np.flatnonzero(np.isnan(ensemble.score_samples(X))).tolist() == [3]
    assert ensemble.predict(X)[3] == -1


def test_views_are_shared_by_the_papers_two_systems():
    rng = np.random.default_rng(0)
    t = np.arange(16000) / 16000
    clips = pd.DataFrame(
        {
            "audio": [
                np.sin(2 * np.pi * pitch * t) + 0.3 * rng.normal(size=16000)
                for pitch in [500, 900] * 6
            ],
            "machine_id": ["a", "b"] * 6,
        }
    )
    augment = AugmentConfidenceDetector(
        network="pvmilk20", max_epochs=2, batch_size=32, random_state=0
    )
    ensemble = GammaProbabilityEnsemble([("id", make_id()), ("augment", augment)])
    pipe = Pipeline(
        [
            ("expand", AugmentationExpander(pitch_steps=(0, 4), stretch_rates=(1,))),
            ("segment", LogMelSegmenter(segment_duration=0.512, segment_hop=0.256)),
            ("detect", ensemble),
        ]
    )
    scores = pipe.fit(clips).score_samples(clips)
    member = pipe["detect"].member_scores(pipe[:-1].transform(clips))
    rest = 1 - member["scaled"]
    np.testing.assert_allclose(np.exp(scores), rest.prod(axis=1), rtol=1e-9)
    pipe.set_params(detect__id__center_loss_weight=0.0).fit(clips)
    assert pipe["detect"].named_estimators_["id"].centers_ is None


@pytest.mark.parametrize("kind", [GammaProbabilityEnsemble, ZScoreEnsemble])
def test_the_html_picture_shows_the_members_beside_each_other(kind, rng):
    X = rng.normal(size=(50, 2))
    members = [("forest", IsolationForest()), ("near", MahalanobisDetector())]
    for shown in (kind(members), kind(members).fit(X)):
        picture = estimator_html_repr(shown)
        assert "sk-parallel-item" in picture
        for text in ("forest", "near", "IsolationForest", "MahalanobisDetector"):
            assert f"<label>{text}</label>" in picture or f">{text}<" in picture
    assert "GammaProb" in estimator_html_repr(GammaProbabilityEnsemble([]))
