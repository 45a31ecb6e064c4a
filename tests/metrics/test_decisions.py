"""Precision, recall and F1 against what the evaluators printed."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hmean

from sklearn_asd.metrics import decision_table

# What the READMEs of the evaluators of 2021 to 2023 show of the autoencoder: precision,
# recall and F1 of a section in a domain, and the clips that give them: alarms on normal
# and on anomalous clips, anomalous clips.
PRINTED = {
    "2021 fan 03 source": (17, 31, 100, 0.6458333333333334, 0.31, 0.41891891891891897),
    "2021 fan 05 target": (51, 17, 60, 0.25, 0.2833333333333333, 0.265625),
    "2021 pump 04 target": (88, 94, 100, 0.5164835164835165, 0.94, 0.6666666666666667),
    "2022 ToyCar 03 source": (7, 14, 50, 0.6666666666666666, 0.28, 0.3943661971830986),
    "2022 ToyCar 03 target": (16, 50, 50, 0.7575757575757576, 1.0, 0.8620689655172413),
    "2022 bearing 05 target": (47, 47, 50, 0.5, 0.94, 0.6527777777777778),
    "2023 ToyDrone source": (10, 31, 50, 0.7560975609756098, 0.62, 0.6813186813186813),
    "2023 ToyDrone target": (31, 32, 50, 0.5079365079365079, 0.64, 0.5663716814159292),
    "2023 shaker source": (
        27,
        37,
        53,
        0.578125,
        0.6981132075471698,
        0.6324786324786325,
    ),
    "2023 shaker target": (40, 39, 46, 0.4936708860759494, 0.8478260869565217, 0.624),
}
# ... and over the domains of a machine: precision, recall and F1.
MEANS = {
    "2023 ToyDrone": (
        ["2023 ToyDrone source", "2023 ToyDrone target"],
        [0.6320170344560588, 0.63, 0.6238451813673053],
        [0.6076569678407351, 0.6298412698412698, 0.6185502727981294],
    ),
    "2023 shaker": (
        ["2023 shaker source", "2023 shaker target"],
        [0.5358979430379747, 0.7729696472518457, 0.6282393162393163],
        [0.5325705849787784, 0.765720350225524, 0.628210709621245],
    ),
}
MEASURES = ["precision", "recall", "f1"]
N_NORMAL = 100


def make_clips(names):
    parts = []
    for name in names:
        false_alarms, found, n_anomalous, *_ = PRINTED[name]
        *_, machine, domain = name.split(" ")
        label = np.repeat([1, -1], [N_NORMAL, n_anomalous])
        verdict = np.ones(len(label), dtype=int)
        verdict[:false_alarms] = verdict[N_NORMAL : N_NORMAL + found] = -1
        part = pd.DataFrame({"label": label, "verdict": verdict})
        parts.append(part.assign(machine_type=machine, section="00", domain=domain))
    return pd.concat(parts, ignore_index=True)


def tabulate(clips, verdicts=None):
    verdicts = clips["verdict"] if verdicts is None else verdicts
    by = ["machine_type", "section", "domain"]
    return decision_table(clips, predictions=verdicts, by=by)


@pytest.mark.parametrize("name", PRINTED)
def test_what_the_evaluators_printed_of_a_section(name):
    false_alarms, found, n_anomalous, *expected = PRINTED[name]
    row = tabulate(make_clips([name])).iloc[0]
    np.testing.assert_allclose(row[MEASURES].astype(float), expected, rtol=1e-14)
    counts = row[["n_normal", "n_anomalous", "false_alarms", "found"]]
    assert counts.tolist() == [N_NORMAL, n_anomalous, false_alarms, found]


@pytest.mark.parametrize("name", MEANS)
def test_what_the_evaluators_printed_of_a_machine(name, rng):
    sections, arithmetic, harmonic = MEANS[name]
    clips = make_clips(sections)
    clips = clips.loc[rng.permutation(len(clips))]
    table = tabulate(clips)
    for row, expected in {
        "arithmetic mean": arithmetic,
        "harmonic mean": harmonic,
    }.items():
        np.testing.assert_allclose(table.loc[row, MEASURES].iloc[0], expected, 1e-14)


def test_without_alarms_all_is_0_and_epsilon_in_the_harmonic_mean():
    clips = make_clips(["2023 ToyDrone source", "2023 ToyDrone target"])
    silent = np.where(clips["domain"] == "source", 1, clips["verdict"])
    table = tabulate(clips, silent)
    assert table.iloc[0][MEASURES].tolist() == [0, 0, 0]
    epsilon = np.finfo(float).eps
    for measure in MEASURES:
        own = hmean([epsilon, table[measure].iloc[1]])
        assert table[measure].iloc[-1] == pytest.approx(own, rel=1e-14)


def test_a_machine_without_anomalies_is_nan_and_so_are_the_means():
    clips = make_clips(["2023 ToyDrone source", "2023 ToyDrone target"])
    table = tabulate(clips[(clips["domain"] == "source") | (clips["label"] == 1)])
    assert table.iloc[0][MEASURES].notna().all()
    assert table.iloc[1:][MEASURES].isna().all(axis=None)
    assert table["n_anomalous"].tolist() == [50, 0, 50, 50]


def test_machines_are_the_groups_unless_others_are_named():
    clips = make_clips(["2023 ToyDrone source"])
    table = decision_table(clips, clips["label"], clips["verdict"])
    assert table.index.names == ["machine_type", "machine_id"]
    by_type = decision_table(clips, clips["label"], clips["verdict"], by=["domain"])
    assert by_type.index.tolist() == ["source", "arithmetic mean", "harmonic mean"]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (None, "predictions are missing"),
        ([1, -1], r"predictions have shape \(2,\) for 3 clips"),
        ([0, 1, 1], "predictions hold 0; verdicts are .* 1 - 2 \\* decision"),
        ([1, np.nan, 1], "predictions hold nan"),
    ],
)
def test_other_verdicts_are_refused(predictions, message):
    clips = pd.DataFrame({"label": [1, 1, -1]})
    with pytest.raises(ValueError, match=message):
        decision_table(clips, predictions=predictions)


def test_missing_labels_and_columns_are_named():
    clips = make_clips(["2023 shaker source"])
    with pytest.raises(ValueError, match="labels are needed"):
        tabulate(clips.drop(columns="label"))
    with pytest.raises(ValueError, match="no values in a column 'section'"):
        tabulate(clips.drop(columns="section"))
