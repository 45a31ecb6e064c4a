import joblib
import numpy as np
import pandas as pd
import pytest
from pyod.models.iforest import IForest
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_asd import (
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    MahalanobisDetector,
    OnlyMachineTypes,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.explanation import time_scores
from sklearn_asd.meta.structure import Opened, compares_machines


class Column(OutlierMixin, BaseEstimator):
    """The anomaly score is a column of X; it says that each was left out."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        self.training_score_samples_ = self.score_samples(X)
        return self

    def score_samples(self, X):
        if isinstance(X, pd.DataFrame):
            return -X[f"score_{self.column}"].to_numpy(float)
        return -X[:, self.column]


class Rated(Column):
    """Knows how well it tells siblings apart."""

    def __init__(self, column=0, auc=0.5, gap=0.0, machines=("0", "1")):
        super().__init__(column)
        self.auc = auc
        self.gap = gap
        self.machines = machines

    def fit(self, X, y=None):
        super().fit(X)
        self.machines_ = pd.DataFrame(
            {"sibling_auc": self.auc, "sibling_gap": self.gap}, index=self.machines
        )
        return self


class Counted(Column):
    """Has no scores of left-out clips, and counts its fits."""

    n_fits = 0

    def fit(self, X, y=None):
        type(self).n_fits += 1
        self.mean_ = self.score_samples(X).mean()
        return self

    @property
    def machines_(self):
        return None


def columns_of(n, **parameters):
    members = [(f"m{j}", Column(j)) for j in range(n)]
    return ZScoreEnsemble(members, **parameters)


def table_of(scores, machine_type=None, machine_id=None):
    scores = np.asarray(scores, dtype=float)
    columns = {f"score_{j}": column for j, column in enumerate(scores.T)}
    table = pd.DataFrame(columns).assign(path="x.wav")
    if machine_type is not None:
        table["machine_type"] = machine_type
    if machine_id is not None:
        table["machine_id"] = machine_id
    return table


# Means 2 and 20, standard deviations 1 and 10: z is (-1, -1), (1, -1), (-1, 1), (1, 1).
SQUARE = np.array([[1.0, 10], [3, 10], [1, 30], [3, 30]])


# -- known answers ---------------------------------------------------------------


def test_z_scores_worked_by_hand():
    ensemble = columns_of(2).fit(SQUARE)
    assert ensemble.scales_ == {None: [(2, 1), (20, 10)]}
    assert ensemble.selected_ == {None: ["m0", "m1"]}
    scores = ensemble.member_scores(np.array([[4.0, 15], [0, 50]]))
    assert scores["raw"].to_numpy().tolist() == [[4, 15], [0, 50]]
    assert scores["z"].to_numpy().tolist() == [[2, -0.5], [-2, 3]]
    assert list(scores["z"].columns) == ["m0", "m1"]


def test_z_scores_of_logarithms_worked_by_hand():
    """As of scores whose tail is long, such as distances."""
    ensemble = columns_of(2, log_scores=True).fit(np.exp(SQUARE))
    assert np.allclose(ensemble.scales_[None], [(2, 1), (20, 10)])
    z = ensemble.member_scores(np.exp([[4.0, 15], [0, 50]]))["z"]
    np.testing.assert_allclose(z, [[2, -0.5], [-2, 3]])
    assert ensemble.score_samples(np.array([[0.0, np.exp(50)]])) < -1  # 0 is no NaN
    with pytest.raises(ValueError, match="'m0' are from -3 to -1, and log_scores=True"):
        columns_of(1, log_scores=True).fit(-SQUARE)


@pytest.mark.parametrize(
    ("aggregation", "total", "largest"),
    [
        # Left out -1, 1, 1, 1: mean 0.5 and variance 3/4.
        ("max", (0.5, np.sqrt(0.75)), [2, 3]),
        # Left out -1, 0, 0, 1.
        ("mean", (0, np.sqrt(0.5)), [0.75, 0.5]),
    ],
)
def test_aggregations_worked_by_hand(aggregation, total, largest):
    ensemble = columns_of(2, aggregation=aggregation).fit(SQUARE)
    np.testing.assert_allclose(ensemble.total_scales_[None], total)
    expected = (np.array(largest) - total[0]) / total[1]
    np.testing.assert_allclose(
        ensemble.score_samples(np.array([[4.0, 15], [0, 50]])), -expected
    )


def test_left_out_training_scores_of_one_member_have_mean_0_and_spread_1(rng):
    X = rng.gamma(2, size=(300, 1))
    y = np.where(np.arange(300) % 10, 1, -1)
    ensemble = columns_of(1, contamination=0.2).fit(table_of(X), y)
    scores = ensemble.training_score_samples_
    assert (np.isnan(scores) == (y == -1)).all()
    assert np.nanmean(scores) == pytest.approx(0)
    assert np.nanstd(scores) == pytest.approx(1)
    np.testing.assert_allclose(
        scores[y == 1], ensemble.score_samples(table_of(X))[y == 1]
    )
    assert (scores[y == 1] < ensemble.offset_).mean() == pytest.approx(0.2, abs=0.01)


def test_training_scores_of_several_members_are_standardised_by_the_other_clips(rng):
    raw = rng.gamma(2, size=(12, 3))
    ensemble = columns_of(3).fit(raw)
    total = ensemble.total_scales_[None]
    for row, clip in enumerate(raw):
        others = np.delete(raw, row, axis=0)
        z = (clip - others.mean(axis=0)) / others.std(axis=0)
        assert ensemble.training_score_samples_[row] == pytest.approx(
            -(z.max() - total.center) / total.scale
        )


def test_clips_whose_others_are_equal_are_standardised_by_all_clips():
    raw = np.array([[1.0, 5], [1, 5], [4, 8]])
    ensemble = columns_of(2).fit(raw)
    scores = ensemble.training_score_samples_
    assert np.isfinite(scores).all()
    assert scores[2] == ensemble.score_samples(raw)[2]


def test_few_clips_keep_the_promised_rate_with_several_members():
    """By scales that the clips themselves widen it would be 20 %, and not 8 %."""
    rates = []
    for seed in range(100):
        X = np.random.default_rng(seed).gamma(1, size=(216, 5))
        ensemble = columns_of(5, contamination=0.1).fit(X[:16])
        rates.append((ensemble.predict(X[16:]) == -1).mean())
    assert np.mean(rates) < 0.105


def test_types_are_standardised_apart():
    kinds = ["fan"] * 4 + ["pump"] * 4
    X = table_of(np.vstack([SQUARE, 100 * SQUARE]), kinds)
    ensemble = columns_of(2).fit(X)
    assert ensemble.scales_["fan"] == [(2, 1), (20, 10)]
    assert ensemble.scales_["pump"] == [(200, 100), (2000, 1000)]
    scores = ensemble.score_samples(X)
    np.testing.assert_allclose(scores[:4], scores[4:])
    np.testing.assert_allclose(scores[[0, 1]], [np.sqrt(3), -1 / np.sqrt(3)])


def of_two_places():
    """Two machines; all scores of clips of the target domain are ten times as far."""
    X = table_of(np.vstack([SQUARE, 10 * SQUARE]), machine_id=list("0011") * 2)
    return X.assign(domain=["source"] * 4 + ["target"] * 4)


@pytest.mark.parametrize("group_by", ["domain", ["domain"], ("domain",)])
def test_domains_are_standardised_apart_worked_by_hand(group_by):
    ensemble = columns_of(2, group_by=group_by).fit(of_two_places())
    assert ensemble.scales_ == {
        "source": [(2, 1), (20, 10)],
        "target": [(20, 10), (200, 100)],
    }
    # Left out -1, 1, 1, 1 of each: mean 0.5 and variance 3/4, as without domains.
    np.testing.assert_allclose(ensemble.total_scales_["target"], (0.5, np.sqrt(0.75)))
    same = table_of([[4.0, 15]] * 2).assign(domain=["source", "target"])
    z = ensemble.member_scores(same)["z"].to_numpy()
    np.testing.assert_allclose(z, [[2, -0.5], [-1.6, -1.85]])
    expected = [(2 - 0.5) / np.sqrt(0.75), (-1.6 - 0.5) / np.sqrt(0.75)]
    np.testing.assert_allclose(ensemble.score_samples(same), np.negative(expected))


def test_domains_are_standardised_as_by_an_ensemble_of_each():
    X = of_two_places()
    gamma = GammaProbabilityEnsemble([("m0", Column())], group_by="domain").fit(X)
    ensemble = columns_of(2, group_by="domain").fit(X)
    assert list(ensemble.scales_) == list(gamma.scales_)
    for _, own in X.groupby("domain"):
        alone = columns_of(2).fit(own)
        np.testing.assert_allclose(
            ensemble.score_samples(own), alone.score_samples(own)
        )
    wrong = {
        "no 'domain' for some or all clips, and group_by": X.drop(columns="domain"),
        "no 'domain' for some or all": X.assign(domain=[None] + ["source"] * 7),
        r"of yard, and scales are of source, target, by \['domain'\]": X.assign(
            domain="yard"
        ),
    }
    for message, clips in wrong.items():
        for one in (ensemble, gamma):
            with pytest.raises(ValueError, match=message):
                one.score_samples(clips)
    for one in (columns_of(2, group_by=[]), columns_of(2, group_by="car")):
        with pytest.raises(ValueError, match="group_by"):
            one.fit(X)
    with pytest.raises(ValueError, match="of target are of 1 clip, .*group_by=None"):
        columns_of(2, group_by="domain").fit(X[:5])


def test_the_type_is_added_to_the_domain():
    X = pd.concat([of_two_places().assign(machine_type=kind) for kind in ("a", "b")])
    X.loc[X["machine_type"] == "b", ["score_0", "score_1"]] *= 100
    ensemble = columns_of(2, group_by="domain").fit(X)
    assert ensemble.scales_["machine_type b, domain source"] == [
        (200, 100),
        (2000, 1000),
    ]
    scores = ensemble.score_samples(X).reshape(4, 4)
    np.testing.assert_allclose(scores, np.broadcast_to(scores[0], (4, 4)))
    with pytest.raises(ValueError, match="no 'machine_type' for some or all"):
        ensemble.score_samples(X.drop(columns="machine_type"))
    with pytest.raises(ValueError, match="of machine_type b, domain yard, and scales"):
        ensemble.score_samples(X.iloc[-1:].assign(domain="yard"))
    columns = {"machine_type": ["a", "b"], "machine_id": ["a/0", "a/1", "b/0", "b/1"]}
    for group_by, names in columns.items():
        found = columns_of(1, group_by=group_by).fit(X)
        assert sorted(found.scales_) == names


def test_scores_scaled_by_machine_can_be_compared():
    members = [("m", PerMachine(Column()))]
    assert compares_machines(ZScoreEnsemble(members, group_by=["machine_id", "domain"]))
    assert not compares_machines(ZScoreEnsemble(members, group_by="domain"))
    assert not compares_machines(ZScoreEnsemble(members))


def rated(*ratings, **parameters):
    members = [(f"m{j}", Rated(j, *rating)) for j, rating in enumerate(ratings)]
    return ZScoreEnsemble(members, **parameters)


SIBLINGS = table_of(np.column_stack([SQUARE, SQUARE]), machine_id=list("0011"))


@pytest.mark.parametrize(
    ("n_selected", "selected"),
    [(1, ["m2"]), (2, ["m1", "m2"]), (3, ["m1", "m2", "m3"])],
)
def test_members_of_the_largest_sibling_auc_are_selected(n_selected, selected):
    # m1 and m2 are equal to 3 digits, so the gap decides; m0 and m3 are equal.
    ratings = [(0.6, 1), (0.9004, 1), (0.9003, 2), (0.7, 1)]
    ensemble = rated(*ratings, n_selected=n_selected).fit(SIBLINGS)
    assert ensemble.selected_ == {None: selected}
    np.testing.assert_allclose(ensemble.sibling_aucs_, [[0.6, 0.9004, 0.9003, 0.7]])
    assert list(ensemble.sibling_aucs_.columns) == ["m0", "m1", "m2", "m3"]
    inner = ensemble.inner_detectors(SIBLINGS)
    assert [one.name for one in inner] == selected
    assert all(one.rows is None for one in inner)


def test_equal_members_are_selected_in_their_order():
    ensemble = rated((0.6, 1), (0.6, 1), (0.6, 1), n_selected=2).fit(SIBLINGS)
    assert ensemble.selected_ == {None: ["m0", "m1"]}


def test_a_selected_member_scores_as_if_it_were_alone():
    chosen = rated((0.6,), (0.9,), n_selected=1).fit(SIBLINGS)
    alone = ZScoreEnsemble([("m1", Column(1))]).fit(SIBLINGS)
    np.testing.assert_array_equal(
        chosen.score_samples(SIBLINGS), alone.score_samples(SIBLINGS)
    )


def test_types_select_their_own_members():
    kinds = ["fan"] * 4 + ["pump"] * 4 + ["valve"] * 4
    X = table_of(np.tile(SQUARE, (3, 1)), kinds, list("0011") * 2 + ["0"] * 4)
    names = ["fan/0", "fan/1", "pump/0", "pump/1", "valve/0"]
    better, worse = [0.9, 0.9, 0.5, 0.7, np.nan], [0.5, 0.7, 0.9, 0.9, np.nan]
    ensemble = rated((better, 0, names), (worse, 0, names), n_selected=1).fit(X)
    # A type with one machine has nothing to choose by.
    assert ensemble.selected_ == {"fan": ["m0"], "pump": ["m1"], "valve": ["m0", "m1"]}
    np.testing.assert_allclose(ensemble.sibling_aucs_, [[0.9, 0.6], [0.6, 0.9]])
    assert ensemble.sibling_aucs_.index.tolist() == ["fan", "pump"]
    inner = {one.name: one.rows for one in ensemble.inner_detectors(X)}
    assert inner["m0"].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert inner["m1"].tolist() == list(range(4, 12))
    assert [one.name for one in ensemble.inner_detectors(X[:4])] == ["m0"]
    assert ensemble.inner_detectors(X[:0]) == []
    assert ensemble.score_samples(X[:0]).shape == (0,)
    z = ensemble.member_scores(X)["z"]
    assert z["m1"].isna().tolist() == [True] * 4 + [False] * 8
    together = ensemble.score_samples(X)
    apart = [ensemble.score_samples(X[i : i + 1])[0] for i in range(12)]
    np.testing.assert_array_equal(together, apart)
    # Explanations score variants of one clip, with all rows None.
    same = X.iloc[[5, 5, 5]]
    np.testing.assert_array_equal(
        ensemble.combine_scores([np.array([10.0, 20, 30])], [None], same),
        -(np.array([-1.0, 0, 1])),
    )


@pytest.mark.parametrize("group_by", ["domain", "machine_id"])
def test_members_are_selected_for_the_type_of_a_group(group_by):
    """Also where a group has one machine, which has nothing to be compared with."""
    kinds = ["fan"] * 8 + ["pump"] * 8
    X = pd.concat([of_two_places()] * 2).assign(machine_type=kinds)
    X["machine_id"] = X["domain"].map({"source": "0", "target": "1"})
    names = ["fan/0", "fan/1", "pump/0", "pump/1"]
    better, worse = [0.9, 0.9, 0.5, 0.7], [0.5, 0.7, 0.9, 0.9]
    ratings = (better, 0, names), (worse, 0, names)
    ensemble = rated(*ratings, n_selected=1, group_by=group_by).fit(X)
    selected = {
        group: ["m0"] if "fan" in group else ["m1"] for group in ensemble.scales_
    }
    assert ensemble.selected_ == selected
    assert len(selected) == 4
    assert ensemble.sibling_aucs_.index.tolist() == ["fan", "pump"]
    inner = {one.name: one.rows.tolist() for one in ensemble.inner_detectors(X)}
    assert inner == {"m0": list(range(8)), "m1": list(range(8, 16))}


def test_there_is_nothing_to_choose_by_without_siblings_or_if_all_are_taken():
    ratings = [(0.6,), (0.9,)]
    for X in (SIBLINGS, SIBLINGS.drop(columns="machine_id"), SIBLINGS[:2]):
        ensemble = rated(*ratings, n_selected=2).fit(X.assign(score_1=[*range(len(X))]))
        assert ensemble.selected_ == {None: ["m0", "m1"]}
        assert not hasattr(ensemble, "sibling_aucs_")
    ensemble = rated(*ratings, n_selected=1)
    assert ensemble.fit(SIBLINGS.assign(machine_id="0")).selected_[None] == ["m0", "m1"]
    assert ensemble.fit(SIBLINGS).selected_[None] == ["m1"]


# -- relations -------------------------------------------------------------------


def make_siblings(n=12, seed=0):
    """Two machines of each of two types; column 0 is where they differ."""
    rng = np.random.default_rng(seed)
    levels = np.tile(np.repeat([0.0, 3.0], n), 2)[:, None, None]
    log_mel = rng.normal(size=(4 * n, 4, 6))
    log_mel[:, :1] += levels
    return ClipSpectrograms.from_arrays(
        log_mel,
        np.repeat(["fan", "pump"], 2 * n),
        np.tile(np.repeat(["0", "1"], n), 2),
        segment_frames=6,
    )


class Bands(OutlierMixin, BaseEstimator):
    """Distance of the mean level of some bands from the machine's training clips'."""

    def __init__(self, start=0, stop=None):
        self.start = start
        self.stop = stop

    def levels(self, X):
        levels = [X.log_mel(i)[self.start : self.stop].mean() for i in range(len(X))]
        return np.array(levels), X.machine_id

    def fit(self, X, y=None):
        levels, ids = self.levels(X)
        self.means_ = {one: levels[ids == one].mean() for one in set(ids)}
        return self

    def score_samples(self, X):
        levels, ids = self.levels(X)
        return -np.abs(levels - [self.means_[one] for one in ids])


def test_other_members_are_asked_in_folds():
    members = [("others", Bands(1)), ("differ", Bands(0, 1))]
    X = make_siblings()
    ensemble = ZScoreEnsemble(members, n_selected=1, calibration_cv=3).fit(X)
    assert ensemble.selected_ == {"fan": ["differ"], "pump": ["differ"]}
    assert (ensemble.sibling_aucs_["differ"] > 0.95).all()
    assert (ensemble.sibling_aucs_["others"] < 0.8).all()
    wrapped = [("a", members[0][1]), ("b", make_pipeline(members[1][1]))]
    again = ZScoreEnsemble(wrapped, n_selected=1, calibration_cv=3).fit(X)
    np.testing.assert_array_equal(again.score_samples(X), ensemble.score_samples(X))


def test_left_out_scores_are_of_folds_where_members_have_none():
    X = make_siblings()
    ensemble = ZScoreEnsemble([("m", Bands())], calibration_cv=3).fit(X)
    gamma = GammaProbabilityEnsemble(
        [("m", Bands())], calibration_cv=3, group_by="machine_type"
    ).fit(X)
    np.testing.assert_array_equal(
        np.argsort(ensemble.training_score_samples_[:24]),
        np.argsort(gamma.training_score_samples_[:24]),
    )
    splitter = KFold(4, shuffle=True, random_state=0)
    other = ZScoreEnsemble([("m", Bands())], calibration_cv=splitter).fit(X)
    pairs = list(splitter.split(np.zeros(48)))
    listed = ZScoreEnsemble([("m", Bands())], calibration_cv=pairs).fit(X)
    assert other.scales_ == listed.scales_ != ensemble.scales_


def test_folds_are_fitted_once_and_only_where_needed(rng):
    X = table_of(rng.gamma(2, size=(12, 2)), machine_id=list("01") * 6)
    members = [("m0", Counted(0)), ("m1", Counted(1))]
    for n_selected, expected in ((None, 2 + 2 * 3), (1, 2 + 2 * 3)):
        Counted.n_fits = 0
        ZScoreEnsemble(members, n_selected=n_selected, calibration_cv=3).fit(X)
        assert Counted.n_fits == expected
    Counted.n_fits = 0
    frozen = [(name, FrozenEstimator(member.fit(X))) for name, member in members]
    ZScoreEnsemble(frozen, n_selected=1, calibration_cv=3).fit(X)
    assert Counted.n_fits == 2
    # Members that know all need no folds, so there may be fewer clips.
    rated((0.6,), (0.7,), n_selected=1, calibration_cv=5).fit(SIBLINGS)


def test_a_member_that_scores_no_clip_of_a_type_is_none_for_it():
    X = make_siblings()
    members = [("fans", OnlyMachineTypes(Bands(), "fan")), ("all", Bands(0, 1))]
    ensemble = ZScoreEnsemble(members, calibration_cv=3).fit(X)
    assert ensemble.selected_ == {"fan": ["fans", "all"], "pump": ["all"]}
    assert np.isfinite(ensemble.score_samples(X)).all()
    chosen = clone(ensemble).set_params(n_selected=1).fit(X)
    assert chosen.selected_["pump"] == ["all"]
    with pytest.raises(ValueError, match="no member scores a clip of pump"):
        ZScoreEnsemble(members[:1], calibration_cv=3).fit(X)


def test_clips_that_could_not_be_used_score_nan():
    X = table_of(SQUARE)
    ensemble = columns_of(2).fit(table_of([*SQUARE, [np.nan, 5]]))
    assert ensemble.scales_[None][0] == (2, 1)
    X.loc[2, "score_0"] = np.nan
    assert np.isnan(ensemble.score_samples(X)).tolist() == [False, False, True, False]
    assert ensemble.predict(X)[2] == -1
    nan = np.nan
    apart = table_of([[1, nan], [2, nan], [nan, 1], [nan, 2]])
    with pytest.raises(ValueError, match="no clip is scored by all of its members"):
        columns_of(2).fit(apart)


def test_members_of_any_library_and_ensembles_are_taken(rng):
    X = rng.normal(size=(100, 3))
    members = [
        ("forest", IsolationForest(random_state=0)),
        ("pyod", IForest(random_state=0)),
        ("scaled", make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True))),
        ("none", "drop"),
        ("gamma", GammaProbabilityEnsemble([("m", MahalanobisDetector())])),
        ("inner", ZScoreEnsemble([("m", MahalanobisDetector())])),
    ]
    ensemble = ZScoreEnsemble(members, calibration_cv=3).fit(X)
    assert list(ensemble.named_estimators_) == [n for n, _ in members if n != "none"]
    far = ensemble.score_samples([[9.0, 9, 9]])[0]
    assert far < ensemble.score_samples(X).min()
    assert far < -3
    again = clone(ensemble).set_params(n_jobs=2).fit(X)
    np.testing.assert_array_equal(again.score_samples(X), ensemble.score_samples(X))
    fewer = clone(ensemble).set_params(pyod="drop", forest__n_estimators=5).fit(X)
    assert len(fewer.estimators_) == 4
    opened = Opened(ensemble, X)
    np.testing.assert_array_equal(-opened.scores, ensemble.score_samples(X))


def test_a_tuned_ensemble_is_explained(tmp_path):
    X = make_siblings()
    near = EmbeddingNeighborDetector(SpectrumStatistics())
    members = [("bands", Bands(0, 1)), ("near", near)]
    ensemble = ZScoreEnsemble(members, n_selected=1, calibration_cv=3)
    tuner = ThresholdTuner(ensemble, false_alarm_rate=0.2, random_state=0).fit(X)
    times = time_scores(tuner, X, 5, X_normal=X)
    np.testing.assert_allclose(times.attrs["score"], -tuner.score_samples(X[5]))
    opened = Opened(tuner, X)
    np.testing.assert_array_equal(-opened.scores, tuner.score_samples(X))
    taken = opened.take([30, 2])
    np.testing.assert_array_equal(-taken.scores, tuner.score_samples(X[[30, 2]]))
    joblib.dump(tuner, tmp_path / "tuner.joblib")
    loaded = joblib.load(tmp_path / "tuner.joblib")
    np.testing.assert_array_equal(loaded.score_samples(X), tuner.score_samples(X))


# -- errors ----------------------------------------------------------------------


def test_bad_parameters_are_refused():
    for parameters in (
        {"aggregation": "product"},
        {"n_selected": 0},
        {"n_selected": 1.0},
        {"group_by": 1},
        {"calibration_cv": 1},
        {"calibration_cv": None},
        {"contamination": 0.6},
    ):
        with pytest.raises(InvalidParameterError, match=next(iter(parameters))):
            columns_of(2, **parameters).fit(SQUARE)
    with pytest.raises(ValueError, match="estimators is \\[\\]; it must be a list of"):
        ZScoreEnsemble([]).fit(SQUARE)
    with pytest.raises(ValueError, match="holds 1 normal clips"):
        columns_of(1).fit(SQUARE[:1])


def test_unseen_and_missing_types_are_refused():
    X = table_of(np.tile(SQUARE, (2, 1)), ["fan"] * 4 + ["pump"] * 4)
    ensemble = columns_of(2).fit(X)
    with pytest.raises(
        ValueError, match="not among those fitted: valve; known are fan"
    ):
        ensemble.score_samples(X.assign(machine_type="valve"))
    with pytest.raises(ValueError, match="X has no machine types, which are needed"):
        ensemble.score_samples(X.drop(columns="machine_type"))
    some = X.assign(machine_type=["fan"] * 7 + [None])
    with pytest.raises(ValueError, match="machine_type is missing for clips 7"):
        ensemble.score_samples(some)
    with pytest.raises(ValueError, match="machine_type is missing for clips 7"):
        columns_of(2).fit(some)
    untyped = columns_of(2).fit(X.drop(columns="machine_type"))
    assert np.isfinite(untyped.score_samples(X)).all()
    ids = SIBLINGS.assign(machine_id=["0", "0", "1", None])
    with pytest.raises(ValueError, match="machine_id is missing for clips 3"):
        rated((0.6,), (0.9,), n_selected=1).fit(ids)


def test_scores_without_spread_are_refused():
    flat = SQUARE * [1, 0]
    with pytest.raises(
        ValueError, match="scores of member 'm1' are all equal, and a z"
    ):
        columns_of(2).fit(flat)
    kinds = ["fan"] * 4 + ["pump"]
    with pytest.raises(
        ValueError, match="'m0' of pump are of 1 clip,.*add normal clips"
    ):
        columns_of(2).fit(table_of([*SQUARE, SQUARE[0]], kinds))
    with pytest.raises(ValueError, match="hold infinity"):
        columns_of(2).fit(np.vstack([SQUARE, [np.inf, 1]]))
    with pytest.raises(ValueError, match="standard deviation is out of the range"):
        columns_of(1).fit(np.array([[1e308], [-1e308], [1e308]]))
    # A member that is not selected need not be scaled.
    flat = SIBLINGS.assign(score_0=1.0)
    rated((0.6,), (0.9,), n_selected=1).fit(flat)


def test_too_few_clips_for_the_folds_are_refused():
    X = make_siblings(4)
    with pytest.raises(
        ValueError, match="calibration_cv=5 needs 5 normal clips of each"
    ):
        ZScoreEnsemble([("m", Bands())]).fit(X)
    with pytest.raises(ValueError, match="calibration_cv=5 .*4"):
        ZScoreEnsemble([("m", IsolationForest())]).fit(SQUARE)


# -- trained models --------------------------------------------------------------


def test_the_maximum_keeps_one_good_member_among_poor_ones(rng):
    """Sums of evidence and means drown it."""

    def anomalies_found(ensemble):
        scores = ensemble.fit(normal).score_samples(np.vstack([normal, strange]))
        ranks = np.argsort(np.argsort(scores[-20:].tolist() + scores[:200].tolist()))
        return 1 - (ranks[:20].mean() - 9.5) / 200

    normal = rng.gamma(4, size=(200, 6))
    strange = rng.gamma(4, size=(20, 6))
    strange[:, 0] = 14 + rng.gamma(4, size=20)
    found = {
        kind: anomalies_found(columns_of(6, aggregation=kind))
        for kind in ("max", "mean")
    }
    assert found["max"] > found["mean"] + 0.005


def test_detectors_of_each_machine_are_members():
    X, new = make_siblings(), make_siblings(4, seed=1)
    spectrum = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    near = EmbeddingNeighborDetector(SpectrumStatistics(), metric="mahalanobis")
    ensemble = ZScoreEnsemble(
        [("spectrum", spectrum), ("near", near)], calibration_cv=3, n_selected=1
    ).fit(X)
    assert ensemble.sibling_aucs_.shape == (2, 2)
    assert (ensemble.sibling_aucs_ > 0.8).all(axis=None)
    assert np.isfinite(ensemble.score_samples(new)).all()
