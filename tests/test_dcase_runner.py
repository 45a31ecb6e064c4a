"""The runner of all years, on small data sets of each year's layout."""

import contextlib
import csv
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from challenge import EVAL_TYPES, write_year
from scipy.stats import gamma, hmean
from sklearn.metrics import roc_auc_score

from sklearn_asd.datasets import load_dcase
from sklearn_asd.presets import PAPER_SYSTEMS, make_paper_system

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
YEARS = range(2020, 2027)


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    """The scripts of the folder import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def runner():
    return importlib.import_module("dcase")


@pytest.fixture
def systems():
    return importlib.import_module("dcase_systems")


@pytest.fixture
def run(runner, tmp_path):
    """Run the runner on a data set; it gives the folder of results."""

    def run(folder, year, *more, out="out"):
        options = ["--year", year, "--data", folder, "--out", tmp_path / out, *more]
        runner.main([str(option) for option in options])
        return tmp_path / out

    return run


@pytest.fixture(scope="module")
def conveyors(tmp_path_factory):
    """Two conveyors of the development set of 2020, and one of the evaluation set."""
    folder = tmp_path_factory.mktemp("dcase2020")
    write_year(folder, 2020, n_train=3, n_test=1)
    return folder


# -- the evaluators' reading -----------------------------------------------------------


def read_scores(path):
    """Numbers of a file without heading, by sorted file name."""
    with path.open() as file:
        rows = sorted(csv.reader(file))
    return [name for name, _ in rows], np.array([float(value) for _, value in rows])


def name_file(year, start, kind, section, domain):
    if year == 2020:
        return f"{start}_{kind}_id_{section}.csv"
    ending = f"_{domain}" if year == 2021 else ""
    return f"{start}_{kind}_section_{section}{ending}_test.csv"


def evaluate(team, truth, year):
    """Official score of a folder, as the evaluator of the year computes it."""
    groups = {}
    for (kind, section, name), (anomaly, domain) in sorted(truth.items()):
        key = kind, section, domain if year == 2021 else ""
        groups.setdefault(key, []).append((name, anomaly, domain))
    areas = []
    for (kind, section, domain), rows in groups.items():
        names, score = read_scores(
            team / name_file(year, "anomaly_score", kind, section, domain)
        )
        assert names == [name for name, *_ in rows]
        y = np.array([anomaly for _, anomaly, _ in rows])
        if year > 2020:
            decided, decision = read_scores(
                team / name_file(year, "decision_result", kind, section, domain)
            )
            assert decided == names
            assert set(decision) <= {0, 1}
        if year < 2022:
            areas.append(roc_auc_score(y, score))
        else:
            of = np.array([domain for *_, domain in rows])
            masks = [(of == domain) | (y == 1) for domain in ("source", "target")]
            areas += [roc_auc_score(y[mask], score[mask]) for mask in masks]
        areas.append(roc_auc_score(y, score, max_fpr=0.1))
    if year == 2020:
        return np.mean(areas)
    return hmean(np.maximum(areas, sys.float_info.epsilon))


@pytest.mark.parametrize("year", YEARS)
def test_each_year_runs_and_its_evaluator_accepts_the_files(run, tmp_path, year):
    truth = write_year(tmp_path / "data", year)
    out = run(tmp_path / "data", year, "--system", "default")
    sections = pd.read_csv(out / "sections.csv", dtype={"section": str})
    official = sections[
        (sections["set"] == "eval") & (sections["machine_type"] == "official")
    ].set_index("system")["score"]
    teams = {path.name: path for path in (out / "teams_eval").iterdir()}
    assert len(teams) == 6  # the default, and the five that it chooses from
    for system, score in official.items():
        own = evaluate(teams[f"{system}_seed0"], truth, year)
        assert 100 * own == pytest.approx(score, abs=1e-4)
    markdown = (out / "table.md").read_text()
    assert f"# DCASE {year} Task 2" in markdown
    assert EVAL_TYPES[year] in markdown
    assert "## Development set" in markdown
    assert "## Evaluation set" in markdown


def test_decisions_of_domains_are_rated_apart(run, tmp_path):
    write_year(tmp_path / "data", 2023)
    out = run(tmp_path / "data", 2023, "--system", "default")
    decisions = pd.read_csv(out / "decisions.csv", dtype={"section": str})
    of_default = decisions[decisions["system"].eq("default")]
    assert of_default["machine_type"].tolist() == [
        *["fan"] * 2,
        *["arithmetic mean", "harmonic mean"],
        *["bandsaw"] * 2,
        *["arithmetic mean", "harmonic mean"],
    ]
    _, decided = read_scores(
        out / "teams_eval/default_seed0/decision_result_bandsaw_section_00_test.csv"
    )
    alarms = of_default[of_default["machine_type"] == "bandsaw"]
    assert decided.sum() == alarms[["false_alarms", "found"]].to_numpy().sum()


def test_networks_tell_the_types_of_a_year_apart_where_each_has_one_section(
    run, tmp_path
):
    write_year(tmp_path / "data", 2025, n_train=4, n_test=1)
    command = ["--system", "networks", "iii", "--dry-run"]
    out = run(tmp_path / "data", 2025, *command)
    runs = sorted(path.name for path in (out / "runs").iterdir())
    assert runs == [
        f"{name}_all_seed0.{kind}"
        for name in ("iii", "networks")
        for kind in ("csv", "json")
    ]
    systems = pd.read_csv(out / "table.csv")["system"].unique().tolist()
    members = [f"networks-{name}" for name in ("first", "second", "third")]
    assert sorted(systems) == sorted(["iii", "networks", *members])


# -- 2020: the paper's tables ---------------------------------------------------------


def test_the_paper_is_computed_with_its_figures_beside(run, conveyors):
    out = run(conveyors, 2020, "--system", "paper", "--epochs", "1", "--seeds", "3")
    table = pd.read_csv(
        out / "table.csv", index_col=["set", "system", "machine_type", "area"]
    )
    published = table["published"].xs(("ToyConveyor", "auc"), level=(2, 3))
    for of_set, figures in {
        "dev": [72.53, 81.71, 81.60, 76.90, 79.45],
        "eval": [85.36, 87.32, 87.41, 79.88, 85.82],
    }.items():
        expected = dict(zip(["baseline", "i", "ii", "iii", "iv"], figures, strict=True))
        assert {s: published[of_set, s] for s in expected} == expected
    assert table["ours"].between(0, 100).all()
    # Means over all six types stand beside no mean over one.
    assert table.loc[("eval", "i"), "published"].notna().sum() == 1
    markdown = (out / "table.md").read_text()
    assert "| (i) | 81.71 / " in markdown
    for scaling in ("none", "MI", "MD"):
        for way in ("probability", "mean", "product"):
            assert f"| {scaling} | {way} | " in markdown
    check_scores(out, conveyors)


def check_scores(out, folder):
    """System (iii) is that of make_paper_system, and (i) follows from its files."""
    clips = load_dcase(folder, 2020).data
    train, test = clips[clips["split"] == "train"], clips[clips["subset"] == "eval"]
    own = make_paper_system("ToyConveyor", "iii", max_epochs=1, random_state=3)
    expected = own.fit(train).anomaly_score(test)
    names = [os.path.basename(path) for path in test["path"]]
    found = {}
    for system in ("i", "iii", "iv"):
        team = out / "teams_eval" / f"{system}_seed3"
        found[system] = read_scores(team / "anomaly_score_ToyConveyor_id_05.csv")
    for name, score in zip(*found["iii"], strict=True):
        assert score == pytest.approx(expected[names.index(name)], rel=1e-6)
    # -log(1 - f) of Eq. (6)
    rest = -np.log1p(-found["iii"][1]) - np.log1p(-found["iv"][1])
    np.testing.assert_allclose(found["i"][1], rest)


def test_ways_to_combine_are_those_of_one_detector_of_all_types(systems, rng):
    """Known answers: Eq. (5) by scipy's fits to all types' clips, or each type's."""
    parts = []
    for system in ("iii", "iv"):
        for kind, scale in (("fan", 0.1), ("pump", 0.4)):
            score = rng.gamma(2, scale / 2, 60) % 1
            split = ["train"] * 40 + ["test"] * 20
            files = [f"{number}.wav" for number in range(60)]
            part = pd.DataFrame({"split": split, "file": files, "score": score})
            parts.append(part.assign(machine_type=kind, system=system))
    scores = pd.concat(parts)
    combined = systems.combine(scores).set_index(["system", "machine_type", "file"])
    combined = combined.sort_index()
    assert set(combined.index.unique("system")) == {"i", "ii", *systems.WAYS}
    for scaling, by_type in (("MI", False), ("MD", True)):
        f = {}
        for system, of_system in scores.groupby("system"):
            for kind, own in of_system.groupby("machine_type"):
                known = own if by_type else of_system
                fitted = known[known["split"] == "train"]["score"]
                shape, _, scale = gamma.fit(fitted, floc=0)
                asked = own[own["split"] == "test"]["score"]
                f[system, kind] = gamma.cdf(asked, shape, scale=scale)
        for kind in ("fan", "pump"):
            both = np.array([f["iii", kind], f["iv", kind]])
            for way, expected in {
                "probability": 1 - np.prod(1 - both, axis=0),
                "mean": both.mean(axis=0),
                "product": both.prod(axis=0),
            }.items():
                name = systems.name_of(scaling, way)
                own = combined.loc[(name, kind)].loc[
                    [f"{n}.wav" for n in range(40, 60)]
                ]
                np.testing.assert_allclose(-np.expm1(-own["score"]), expected, 1e-5)


def test_seeds_are_averaged(run, conveyors):
    command = ["--system", "iii", "--epochs", "1"]
    run(conveyors, 2020, *command)
    out = run(conveyors, 2020, *command, "--seeds", "0", "1")
    table = pd.read_csv(out / "table.csv", index_col=["set", "machine_type", "area"])
    assert set(table["n_seeds"]) == {2}
    sections = pd.read_csv(out / "sections.csv")
    dev = sections[
        (sections["set"] == "dev") & (sections["machine_type"] == "official")
    ]
    assert dev["seed"].tolist() == [0, 1]
    of_type = table.loc[("dev", "ToyConveyor", "auc")]
    assert of_type["ours"] == pytest.approx(dev["auc"].mean(), abs=0.01)
    assert of_type["std"] == pytest.approx(dev["auc"].std(), abs=0.01)
    assert " ± " in (out / "table.md").read_text()


# -- interruptions --------------------------------------------------------------------


def files_of(out):
    """What a run leaves, without what differs from one run to the next: its costs."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and not path.name.startswith("took"):
            content = path.read_bytes()
            if path.suffix == ".json":
                content = json.loads(content)["settings"]
            found[path.relative_to(out).as_posix()] = content
    return found


def test_killed_and_started_again_it_gives_the_same_files(
    run, conveyors, tmp_path, capsys
):
    command = ["--system", "default", "iii", "--epochs", "25"]
    start = [sys.executable, BENCHMARKS / "dcase.py", "--year", "2020"]
    options = ["--data", conveyors, "--out", tmp_path / "killed", *command]
    package = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([*map(str, [*start, *options])], env=package)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("training-*.pt")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "table.md").exists()
    killed = run(conveyors, 2020, *command, out="killed")
    assert "default_ToyConveyor, seed 0: finished before" in capsys.readouterr().out
    whole = run(conveyors, 2020, *command, out="whole")
    assert files_of(killed) == files_of(whole)
    took = pd.read_csv(killed / "took.csv", index_col="job")
    assert took["resumed"].to_dict() == {
        "default_ToyConveyor_seed0": False,
        "iii_ToyConveyor_seed0": True,
    }
    assert took["peak_mb"].gt(50).all()
    assert took["on"].str.contains("cores of").all()


def test_other_settings_are_not_mixed_with_results_that_are_there(run, conveyors):
    run(conveyors, 2020, "--system", "baseline", "--epochs", "1")
    with pytest.raises(SystemExit, match="choose another --out, or delete the file"):
        run(conveyors, 2020, "--system", "baseline", "--epochs", "2")


# -- what is asked for ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("year", "asked", "n_machines", "expected"),
    [
        (2020, ["default"], 7, ["default_fan", "default_pump"]),
        (2020, ["i", "iii"], 7, ["iii_fan", "iii_pump", "iv_fan", "iv_pump"]),
        (2020, ["networks"], 7, ["networks_fan", "networks_pump"]),
        (2021, ["ii"], 6, ["iii_all", "iv_fan", "iv_pump"]),
        (2021, ["ensemble"], 6, ["ensemble_fan", "ensemble_pump"]),
        (
            2024,
            ["ensemble", "default"],
            1,
            ["ensemble_all", "default_fan", "default_pump"],
        ),
    ],
)
def test_jobs_are_of_one_type_or_of_all(systems, year, asked, n_machines, expected):
    counts = {"fan": n_machines, "pump": n_machines}
    jobs = systems.list_jobs(year, asked, ["fan", "pump"], counts)
    assert [job.name for job in jobs] == expected
    learnt = {job.name: job.learnt for job in jobs}
    if year == 2020 and "i" in asked:  # Table 2
        assert learnt["iii_fan"] == ("fan", "pump", "slider", "valve")


def test_one_machine_alone_cannot_be_told_from_others(systems):
    with pytest.raises(
        SystemExit, match="iii learns to tell machines apart, and there"
    ):
        systems.list_jobs(2023, ["iii"], ["fan"], {"fan": 1})


@pytest.mark.parametrize("name", ["paper", "detectors", "all", "i"])
def test_groups_of_systems_have_names(runner, name):
    args = runner.parse_arguments(["--year", "2020", "--system", name])
    assert set(args.system) >= ({"i"} if name != "detectors" else {"default"})
    assert set(PAPER_SYSTEMS) <= set(args.system) or name in ("detectors", "i")


def test_missing_recordings_are_reported_before_anything_is_trained(
    run, runner, systems, conveyors, tmp_path
):
    with pytest.raises(SystemExit, match="no recordings of ToyCar"):
        run(conveyors, 2020, "--types", "ToyCar", "ToyConveyor")
    assert not (tmp_path / "out" / "runs").exists()
    options = ["--year", "2020", "--data", str(conveyors)]
    clips = runner.load_data(runner.parse_arguments(options))
    job = systems.Job("iii", ("ToyConveyor",), ("ToyCar", "ToyConveyor"))
    with pytest.raises(SystemExit, match="iii of ToyConveyor trains on ToyCar, which"):
        runner.split(clips, job)
    job = systems.Job("iii", ("ToyConveyor",), ("ToyConveyor",))
    is_trained = clips["split"] == "train"
    partial = clips[~(is_trained & (clips["machine_id"] == "05"))]
    with pytest.raises(SystemExit, match="ToyConveyor 05 have test but no"):
        runner.split(partial, job)
    with pytest.raises(SystemExit, match="no test recordings of ToyConveyor"):
        runner.split(clips[is_trained], job)


def test_without_the_ground_truth_clips_are_scored_and_not_rated(run, tmp_path):
    truth = write_year(tmp_path / "data", 2024)
    (tmp_path / "data" / "eval_data_list_2024.csv").unlink()
    with pytest.warns(UserWarning, match="label"):
        out = run(tmp_path / "data", 2024, "--system", "default")
    assert set(pd.read_csv(out / "sections.csv")["set"]) == {"dev"}
    names, _ = read_scores(
        out / "teams_eval/default_seed0/anomaly_score_3DPrinter_section_00_test.csv"
    )
    assert names == sorted(name for *_, name in truth)


def test_the_dry_run_passes_on_real_recordings_without_a_training_split(
    run, recordings
):
    data = recordings("dcase2020_samples")
    out = run(data, 2020, "--system", "default", "--dry-run")
    assert "A dry run" in (out / "table.md").read_text()
    table = pd.read_csv(out / "table.csv", index_col=["system", "machine_type", "area"])
    of_default = table.loc["default"].xs("auc", level="area")["ours"]
    assert len(of_default) == 7
    # Pump 02 has no anomalies here.
    assert of_default.index[of_default.isna()].fillna("").tolist() == ["", "pump"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--year", "2023"], None),
        (["--year", "2023", "--types", "fan", "--system", "iii"], ["fan"]),
        (["--year", "2020", "--types", "fan"], ["fan"]),
        (
            ["--year", "2020", "--types", "ToyCar", "--system", "i", "iv"],
            ["ToyCar", "ToyConveyor"],
        ),
    ],
)
def test_without_a_folder_the_recordings_that_are_needed_are_fetched(
    runner, conveyors, monkeypatch, options, expected
):
    asked = []

    def fetch(year, *, machine_types):
        asked.append((year, machine_types))
        return load_dcase(conveyors, 2020)

    monkeypatch.setattr(runner, "fetch_dcase", fetch)
    with contextlib.suppress(SystemExit):  # there are conveyors only
        runner.load_data(runner.parse_arguments(options))
    assert asked == [(int(options[1]), expected)]


# -- published figures ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("year", "system"),
    [
        (2023, "baseline"),
        (2023, "baseline-mahalanobis"),
        (2024, "baseline"),
        (2024, "baseline-mahalanobis"),
        (2025, "baseline-mahalanobis"),
    ],
)
def test_published_areas_give_the_published_official_score(year, system):
    published = importlib.import_module("dcase_published")
    figures = published.list_published(year, published.MACHINES[year].split())
    own = figures["eval", system]
    areas = own[own.index.get_level_values("machine_type") != ""]
    assert len(areas) == 3 * len(published.MACHINES[year].split())
    assert hmean(areas) == pytest.approx(own["", "score"], abs=1e-4)
    some = published.list_published(year, ["ToyTank", "ToothBrush"])
    assert "score" not in some.index.unique("area")


@pytest.mark.parametrize("year", YEARS)
def test_every_year_has_a_list_of_published_figures(year):
    published = importlib.import_module("dcase_published")
    figures = published.list_published(year, [])
    assert (figures.between(30, 100)).all()
    assert (len(figures) > 0) == (year in (2020, 2023, 2024, 2025))
