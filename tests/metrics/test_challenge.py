"""Official scores of each year against known answers."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hmean
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from sklearn_asd import ClipSpectrograms
from sklearn_asd.metrics import (
    auc_table,
    dcase_score,
    dcase_table,
    make_dcase_scorer,
)
from sklearn_asd.metrics.challenge import combine_areas

# What the evaluators' own programs printed: AUC of the source domain, of the target
# domain, pAUC, each for the machines of the evaluation set; and the official score.
PRINTED = {
    (2023, "MAHALA"): (
        [
            0.836434267021059,
            0.7409411378914575,
            0.8476602762317048,
            0.813,
            0.6678,
            0.8012,
            0.8384,
        ],
        [
            0.5885844748858448,
            0.50682261208577,
            0.6299533799533801,
            0.4622,
            0.409,
            0.4532,
            0.9006,
        ],
        [
            0.5753594967896497,
            0.5955291246149972,
            0.6233307541280444,
            0.5142105263157895,
            0.5089473684210526,
            0.5384210526315789,
            0.653157894736842,
        ],
        0.6105082186925268,
    ),
    (2023, "MSE"): (
        [
            0.6667348190554078,
            0.706837186424004,
            0.69428983714698,
            0.7968,
            0.77,
            0.7212,
            0.8816,
        ],
        [
            0.48287671232876717,
            0.5516569200779727,
            0.5604118104118104,
            0.561,
            0.4716,
            0.6468,
            0.4532,
        ],
        [
            0.5091087658743451,
            0.5846166760294185,
            0.5491654428600755,
            0.5368421052631579,
            0.5178947368421053,
            0.5826315789473684,
            0.5947368421052631,
        ],
        0.5925469043549957,
    ),
    (2024, "MAHALA"): (
        [0.7544, 0.661, 0.5684, 0.6794, 0.8388, 0.606, 0.6556, 0.5834, 0.8032],
        [0.424, 0.555, 0.555, 0.4464, 0.464, 0.5898, 0.579, 0.425, 0.7338],
        [
            0.508421052631579,
            0.6078947368421053,
            0.4926315789473684,
            0.4921052631578947,
            0.58,
            0.5510526315789473,
            0.48368421052631577,
            0.5178947368421053,
            0.5905263157894737,
        ],
        0.5648933421610234,
    ),
    (2024, "MSE"): (
        [0.7912, 0.65, 0.6916, 0.7658, 0.8602, 0.6224, 0.7504, 0.6596, 0.707],
        [0.4796, 0.4824, 0.5374, 0.5266, 0.4388, 0.4598, 0.6948, 0.4152, 0.6352],
        [
            0.4942105263157895,
            0.5547368421052632,
            0.5010526315789474,
            0.5,
            0.5021052631578947,
            0.5163157894736842,
            0.5273684210526316,
            0.511578947368421,
            0.5557894736842105,
        ],
        0.5650830191796572,
    ),
    (2025, "MAHALA"): (
        [0.7726, 0.8616, 0.6982, 0.5586, 0.7638, 0.7498, 0.7042, 0.729],
        [0.526, 0.4264, 0.509, 0.5548, 0.3268, 0.4042, 0.5278, 0.7904],
        [
            0.541578947368421,
            0.5184210526315789,
            0.5684210526315789,
            0.54,
            0.49105263157894735,
            0.5142105263157895,
            0.5378947368421052,
            0.7005263157894737,
        ],
        0.5650558189601554,
    ),
}


@pytest.fixture
def six():
    """Six clips of a section, whose areas are known by hand."""
    clips = pd.DataFrame(
        {
            "machine_type": "fan",
            "machine_id": "00",
            "domain": ["source", "source", "target", "target", "source", "target"],
            "label": [1, 1, 1, 1, -1, -1],
        }
    )
    return clips, -np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.25])


@pytest.fixture
def many(rng):
    """240 clips of two types, two sections and two domains."""
    names = itertools.product(["fan", "pump"], ["00", "01"], ["source", "target"])
    clips = pd.DataFrame(names, columns=["machine_type", "machine_id", "domain"])
    clips = clips.loc[clips.index.repeat(30)].reset_index(drop=True)
    clips["label"] = rng.permutation(np.tile([1, 1, -1], 80))
    return clips, clips["label"].to_numpy() + 2 * rng.normal(size=240)


@pytest.mark.parametrize("year", [2022, 2023, 2024, 2025, 2026])
def test_six_clips_by_hand(six, year):
    clips, scores = six
    table = dcase_table(clips, scores=scores, year=year)
    row = table.loc[("fan", "00")]
    assert row[["auc_source", "auc_target"]].tolist() == [1.0, 0.5]
    assert row["pauc"] == pytest.approx(0.7368421, abs=1e-7)
    assert row[["n_normal", "n_anomalous"]].tolist() == [4, 2]
    score = dcase_score(clips, scores=scores, year=year)
    assert score == pytest.approx(0.6885246, abs=1e-7)
    assert table.loc[("official", ""), "score"] == score == row["score"]


def test_the_auc_of_one_domain_only_is_another_number(six):
    clips, scores = six
    by = ["machine_type", "machine_id", "domain"]
    table = auc_table(clips, scores=scores, by=by)
    assert table.loc[("fan", "00", "target"), "auc"] == 0
    assert table.loc[("fan", "00", "source"), "auc"] == 1
    assert table.loc[("fan", "average", ""), "auc"] == 0.5


@pytest.mark.parametrize(("year", "system"), PRINTED)
def test_what_the_evaluators_printed(year, system):
    source, target, pauc, official = PRINTED[year, system]
    areas = {"auc_source": source, "auc_target": target, "pauc": pauc}
    index = [[f"type {i}" for i in range(len(pauc))], ["00"] * len(pauc)]
    table = combine_areas(pd.DataFrame(areas, index=index), year=year)
    assert table["score"].iloc[-1] == pytest.approx(official, rel=1e-14)
    of_machine = hmean([source[0], target[0], pauc[0]])
    assert table["score"].iloc[0] == pytest.approx(of_machine, rel=1e-14)


def test_a_pauc_counts_once_for_two_aucs_since_2022_and_twice_in_2021():
    auc, pauc = 0.5301047626828244, 0.5280441052754629
    areas = {"auc_source": [auc], "auc_target": [auc], "pauc": [pauc]}
    table = combine_areas(pd.DataFrame(areas, index=[["fan"], ["00"]]), year=2022)
    assert table["score"].iloc[-1] == pytest.approx(0.5294160921841315, rel=1e-14)
    auc, pauc = 0.5776591410, 0.5276855531
    rows = [["fan", "fan"], ["00", "00"], ["source", "target"]]
    areas = pd.DataFrame({"auc": [auc] * 2, "pauc": [pauc] * 2}, index=rows)
    table = combine_areas(areas, year=2021)
    assert table["score"].iloc[-1] == pytest.approx(0.5515426725, abs=1e-10)


def test_2021_ranks_the_clips_of_a_domain_apart(many):
    clips, scores = many
    table = dcase_table(clips, scores=scores, year=2021)
    areas = []
    for names, rows in clips.groupby(["machine_type", "machine_id", "domain"]):
        truth, score = rows["label"] == -1, -scores[rows.index]
        areas.append(
            [roc_auc_score(truth, score), roc_auc_score(truth, score, max_fpr=0.1)]
        )
        assert table.loc[names, ["auc", "pauc"]].tolist() == pytest.approx(areas[-1])
    assert len(table) == 9
    assert table["score"].iloc[-1] == pytest.approx(hmean(np.ravel(areas)), rel=1e-14)


def test_later_years_take_all_anomalies_of_the_section(many):
    clips, scores = many
    table = dcase_table(clips, scores=scores, year=2024)
    for names, rows in clips.groupby(["machine_type", "machine_id"]):
        truth, score = rows["label"] == -1, -scores[rows.index]
        for domain in ("source", "target"):
            mask = (rows["domain"] == domain) | truth
            expected = roc_auc_score(truth[mask], score[mask])
            assert table.loc[names, f"auc_{domain}"] == expected
        assert table.loc[names, "pauc"] == roc_auc_score(truth, score, max_fpr=0.1)


def test_2020_averages_over_ids_and_then_over_types(many):
    clips, scores = many
    clips = clips.drop(columns="domain").iloc[:210]  # sections of unequal size
    scores = scores[:210]
    table = dcase_table(clips, scores=scores, year=2020)
    expected = auc_table(clips, scores=scores)
    areas = ["auc", "pauc"]
    assert table[areas].iloc[-1].tolist() == expected[areas].iloc[-1].tolist()
    score = dcase_score(clips, scores=scores, year=2020)
    assert score == pytest.approx(expected[areas].iloc[-1].mean())
    assert table["n_normal"].iloc[-1] == (clips["label"] == 1).sum()


def test_types_with_other_numbers_of_ids_count_the_same_in_2020():
    clips = pd.DataFrame(
        {
            "machine_type": ["fan"] * 4 + ["pump"] * 2,
            "machine_id": ["0", "0", "1", "1", "0", "0"],
            "label": [1, -1] * 3,
        }
    )
    table = dcase_table(clips, scores=[1, 0, 1, 0, 0, 1], year=2020)
    assert table["auc"].tolist() == [1, 1, 0, 0.5]


def test_an_area_of_zero_is_machine_epsilon(six):
    clips, _ = six
    worst = dcase_score(clips, scores=-clips["label"], year=2023)
    epsilon = np.finfo(float).eps
    assert worst == pytest.approx(3 / (2 / epsilon + 1 / 0.4736842), rel=1e-6)


def test_a_section_column_goes_before_the_machine_id(six):
    clips, scores = six
    by_attribute = clips.assign(machine_id=list("abcdef"), section="00")
    pd.testing.assert_frame_equal(
        dcase_table(by_attribute, scores=scores, year=2023),
        dcase_table(clips, scores=scores, year=2023),
    )


def test_containers_and_rows_in_any_order(many, rng):
    clips, scores = many
    expected = dcase_score(clips, scores=scores, year=2023)
    X = ClipSpectrograms.from_arrays(
        np.zeros((240, 2, 96)),
        machine_type=clips["machine_type"],
        machine_id=clips["machine_id"],
        domain=clips["domain"],
    )
    y = clips["label"]
    assert dcase_score(X, y, scores, year=2023) == expected
    order = rng.permutation(240)
    shuffled = dcase_score(clips.iloc[order], scores=scores[order], year=2023)
    assert shuffled == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("year", [2021, 2023])
def test_what_lacks_a_class_is_nan_in_the_table_and_named_by_the_score(many, year):
    clips, scores = many
    keep = ~((clips["machine_id"] == "01") & (clips["label"] == -1)).to_numpy()
    keep |= (clips["machine_type"] == "pump").to_numpy()
    table = dcase_table(clips[keep], scores=scores[keep], year=year)
    assert table.loc["fan"].loc["01"].filter(like="auc").isna().all(axis=None)
    assert np.isnan(table["score"].iloc[-1])
    assert table.loc["pump"].notna().all(axis=None)
    with pytest.raises(ValueError, match=r"not defined, as .* missing for fan/01"):
        dcase_score(clips[keep], scores=scores[keep], year=year)


def test_a_domain_without_normal_clips_is_named(six):
    clips, scores = six
    keep = [0, 1, 4, 5]
    table = dcase_table(clips.iloc[keep], scores=scores[keep], year=2023)
    assert table["auc_source"].iloc[0] == 1
    assert np.isnan(table["auc_target"].iloc[0])
    with pytest.raises(ValueError, match="missing for fan/00"):
        dcase_score(clips.iloc[keep], scores=scores[keep], year=2023)


def test_one_class_only_is_an_error(six):
    clips, scores = six
    with pytest.raises(ValueError, match="not defined"):
        dcase_score(clips, [1] * 6, scores, year=2020)


@pytest.mark.parametrize("year", [2019, 2027, "2023", None, 2023.5])
def test_a_year_without_a_rule_is_refused(six, year):
    clips, scores = six
    with pytest.raises(ValueError, match="year=.* has no rule here: it is one of 2020"):
        dcase_score(clips, scores=scores, year=year)
    with pytest.raises(ValueError, match="has no rule"):
        make_dcase_scorer(year)


def test_wrong_and_missing_columns_are_named(six):
    clips, scores = six
    score = partial(dcase_score, scores=scores, year=2023)
    with pytest.raises(ValueError, match="no values in a column 'domain'"):
        score(clips.drop(columns="domain"))
    with pytest.raises(ValueError, match="did you mean 'domains'"):
        score(clips.rename(columns={"domain": "domains"}))
    with pytest.raises(ValueError, match="source or target; X holds lab"):
        score(clips.replace({"domain": {"source": "lab"}}))
    with pytest.raises(ValueError, match="X holds , source|X holds .*missing one"):
        score(clips.assign(domain=[None, *clips["domain"][1:]]))
    with pytest.raises(ValueError, match="labels are needed"):
        score(clips.drop(columns="label"))
    with pytest.raises(ValueError, match="label of clips 0 is not known"):
        score(clips.assign(label=[None, *clips["label"][1:]]))
    with pytest.raises(ValueError, match="scores are missing"):
        dcase_score(clips, year=2023)
    with pytest.raises(ValueError, match="scores are NaN for clips 2"):
        dcase_score(clips, scores=[0, 1, np.nan, 3, 4, 5], year=2023)


def test_the_scorer_gives_the_official_score(many):
    clips, _ = many
    X = clips.assign(value=np.arange(240.0))

    class ByValue(IsolationForest):
        def score_samples(self, X):
            return X["value"].to_numpy()

    scorer = make_dcase_scorer(2023)
    expected = dcase_score(clips, scores=np.arange(240.0), year=2023)
    assert scorer(ByValue(), X, clips["label"]) == expected
    assert repr(scorer) == "make_dcase_scorer(2023)"


def test_four_real_submissions_have_their_published_areas(recordings):
    folder = recordings("dcase2020_eval_scores")
    clips = pd.read_csv(folder / "scores.csv", dtype={"machine_id": str})
    published = pd.read_csv(folder / "auc_by_id.csv", dtype={"machine_id": str})
    published = published.set_index(["machine_type", "machine_id"])
    y = np.where(clips["anomaly"] == 1, -1, 1)
    means = [(93.02, 88.14), (92.78, 87.64), (92.95, 87.40), (92.90, 87.16)]
    for system, (auc, pauc) in enumerate(means, 1):
        table = dcase_table(clips, y, -clips[f"score_{system}"], year=2020)
        assert len(table) == 19
        for area in ("auc", "pauc"):
            own = table[area].iloc[:-1]
            expected = published[f"{area}_{system}"].reindex(own.index)
            np.testing.assert_allclose(own, expected, rtol=0, atol=5e-7)
        official = 100 * table[["auc", "pauc"]].iloc[-1]
        np.testing.assert_allclose(official, [auc, pauc], atol=0.006)
