"""The benchmarks run on a few clips."""

import contextlib
import functools
import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    LogMelSegmenter,
    SpectrumStatistics,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.networks.architectures import NETWORKS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    """The scripts of the folder import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class RunningHere(contextlib.nullcontext):
    """Stands in for a process of its own, which takes seconds to start."""

    def __init__(self, make):
        super().__init__(self)
        self._way = make()

    def run_once(self):
        started = time.perf_counter()
        self._way()
        return time.perf_counter() - started


@pytest.fixture
def here(monkeypatch):
    measuring = importlib.import_module("measuring")
    monkeypatch.setattr(measuring, "RunningApart", RunningHere)


# -- real clips ------------------------------------------------------------------


def test_systems_are_compared_and_an_interrupted_comparison_continues(
    tmp_path, rng, monkeypatch, capsys
):
    real_clips = load("accuracy_real_clips")
    (tmp_path / "toycar2020_logmel").mkdir()
    ids, y = np.repeat(["01", "02"], 210), np.tile([1] * 205 + [-1] * 5, 2)
    level = 5 * (ids == "01") + 4 * (y == -1)
    log_mel = rng.normal(size=(420, 16, 100)) + level[:, None, None]
    np.savez(
        tmp_path / "toycar2020_logmel" / "clips.npz",
        log_mel=log_mel.astype(np.float16),
        machine_id=ids,
        label=y,
    )
    near = "neighbours in an embedding, ArcFace and mixup"
    ensemble = "Gamma ensemble: ArcFace neighbours, Mahalanobis"

    def run(*more):
        sets = ["--sets", "toycar2020_logmel", "--seeds", "1", "--epochs", "1"]
        argv = [
            "accuracy_real_clips.py",
            tmp_path,
            "--out",
            tmp_path / "out",
            *sets,
            *more,
        ]
        monkeypatch.setattr("sys.argv", [str(argument) for argument in argv])
        real_clips.main()
        return capsys.readouterr().out

    assert "['toycar2020_logmel'" in run("--systems", near)
    output = run("--systems", near, ensemble, "Mahalanobis of spectra")
    assert output.count("['toycar2020_logmel'") == 2  # one was finished before
    results = pd.read_csv(tmp_path / "out" / "real_clips.csv", dtype={"machine": str})
    assert set(results["machine"]) == {"01", "02", "average"}
    assert set(results["n_train"]) == {400}
    mahalanobis = results[results["system"] == "Mahalanobis of spectra"]
    assert (mahalanobis["auc"] > 0.99).all()
    table = (tmp_path / "out" / "real_clips.md").read_text()
    assert table in output
    assert f"| {ensemble} | 1 | " in table
    with pytest.raises(SystemExit, match="other epochs or clips"):
        run("--epochs", "2")


@pytest.mark.parametrize(
    "types", [None, ["fan"] * 8, ["fan", "fan", "pump", "pump"] * 2]
)
def test_the_average_of_all_machines_has_one_name_whatever_their_types(
    types, tmp_path, monkeypatch
):
    real_clips = load("accuracy_real_clips")
    monkeypatch.setattr(real_clips, "N_RESAMPLINGS", 5)
    columns = {"machine_id": ["00", "01", "02", "03"] * 2}
    X = pd.DataFrame(columns | ({} if types is None else {"machine_type": types}))
    y = np.tile([1] * 4 + [-1] * 4, 3)
    X = pd.concat([X] * 3, ignore_index=True)
    table = real_clips.rate(X, y, np.arange(24.0))
    results = tmp_path / "results.csv"
    real_clips.save(results, ["set", "system", 0, 0, 8], table, [1, 1])
    rows = pd.read_csv(results, dtype={"machine": str})
    assert rows["machine"].tolist().count("average") == 1
    average = rows.iloc[-1]
    assert average["machine"] == "average"
    assert average["auc_low"] <= average["auc"] <= average["auc_high"]


# -- places of faults ------------------------------------------------------------


def test_real_scores_are_combined_in_each_way(tmp_path, capsys, monkeypatch, rng):
    submissions = load("accuracy_submissions")
    anomaly = np.tile([0, 0, 0, 1], 20)
    names = ("machine_type", "machine_id")
    clips = pd.DataFrame({name: np.repeat(["a", "b"], 40) for name in names})
    clips["anomaly"] = anomaly
    for column in submissions.SYSTEMS:
        clips[column] = 3 * anomaly + rng.gamma(2, size=80)
    (tmp_path / "dcase2020_eval_scores").mkdir()
    clips.to_csv(tmp_path / "dcase2020_eval_scores" / "scores.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "--splits", "2"])
    submissions.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    aucs = {(row[0].lstrip("| "), row[1]): float(row[2][:6]) for row in rows}
    assert len(aucs) == 16
    alone = [auc for way, auc in aucs.items() if "alone" in way[1]]
    assert max(alone) < aucs["z-scores", "mean"] <= 1
    assert max(alone) < aucs["Gamma, one for all clips (MI)", "probability"] <= 1


def test_intervals_are_compared_with_those_named_by_chance():
    places = load("accuracy_localization")
    assert places.compare((1.0, 2.0), (1.5, 3.0), 10.0) == (
        True,
        pytest.approx(2.5 / 9),
    )
    assert places.compare((1.0, 2.0), (2.5, 3.0), 10.0) == (
        False,
        pytest.approx(1.5 / 9),
    )
    assert places.compare((0.0, 1.0), (0.0, 10.0), 10.0) == (True, 1.0)


def test_planted_faults_are_named_at_their_places():
    places = load("accuracy_localization")
    train, tested = places.read("valve", None)
    results = places.measure("default", "valve", (train, tested[::2]))
    planted = results[(results["fault"] != "none") & results["called"]]
    assert len(planted) > 20
    named = planted[~planted["nothing"].astype(bool)]
    assert named["right"].astype(bool).all()
    assert len(named) >= 0.9 * len(planted)
    clean = results[results["fault"] == "none"]
    assert not clean["nothing"].eq(False).any()
    assert f"| {len(planted)} | " in places.tabulate(results).splitlines()[-3]


# -- speed -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pvmilk20", "inouet18"])
def test_the_fast_networks_are_the_plain_ones(name):
    torch.manual_seed(0)
    plain, fast = load("plain").NETWORKS[name](7), NETWORKS[name](7)
    log_mel = 4 * torch.randn(32, 128, 96) - 40
    plain(log_mel)  # the batch norms learn what to expect
    fast.load_state_dict(plain.state_dict())
    plain.eval()
    fast.eval()
    with torch.no_grad():
        outputs = zip(plain(log_mel), fast(log_mel), strict=True)
        assert all((one - other).abs().max() < 1e-4 for one, other in outputs)
    plain.load_state_dict(fast.state_dict())


# -- graphs ----------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_a_graph_is_measured_against_python(tmp_path):
    bench = importlib.import_module("bench_onnx")
    clips = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=2,
        n_test_normal=1,
        n_test_anomalous=0,
        duration=4.0,
        random_state=0,
    )
    train, test = (clips[clips["split"] == split] for split in ("train", "test"))
    model = make_pipeline(LogMelSegmenter(), bench.make_detectors(1)["pvmilk20"])
    figure, note = bench.compare("pvmilk20", model.fit(train), test, tmp_path, 1)
    assert figure.ratio > 0
    sizes = [int(word) for word in note.split() if word.isdigit()]
    assert sizes == [
        round((tmp_path / f"model.{kind}").stat().st_size / 1e3)
        for kind in ("onnx", "asd")
    ]
    assert float(note.rstrip(".").split()[-1]) < 1e-5


def test_figures_say_how_many_times_as_fast_and_whether_bounds_hold(
    tmp_path, monkeypatch, capsys
):
    measuring, bench = load("measuring"), load("bench")
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    seconds = {"ours": 0.5, "plain": 2.0}
    pair = (seconds, "ours", "plain")
    held = measuring.compare("epoch", "plain", *pair, 1500, "clips/s", 4)
    missed = measuring.compare_latency("score", "plain", *pair, 4.1, "no bfloat16")
    measuring.keep("training", [held, missed], ["A note."])
    printed = capsys.readouterr().out
    row = "| epoch | 3,000 clips/s | 750 clips/s (plain) | 4.0 | held (at least 4) |"
    assert row in printed
    row_missed = "| score | 500 ms | 2,000 ms (plain) | 4.0 | MISSED (at least 4.1)"
    assert f"{row_missed}: no bfloat16 |" in printed
    result = json.loads((tmp_path / "training.json").read_text())
    page = bench.write_page({"training": result})
    assert row in page
    assert page.endswith("A note.\n")


def test_the_page_names_the_processors_features_and_what_imitates_another(monkeypatch):
    measuring = load("measuring")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    text = measuring.describe_computer()
    assert f"torch uses {torch.backends.cpu.get_cpu_capability()}" in text
    assert text.endswith("is imitated by ATEN_CPU_CAPABILITY=avx2")


def test_a_network_is_held_against_what_the_processor_multiplies_and_copies():
    roofline = load("roofline")
    # pvmilk20: five convolutions, whose outputs are 8 x 128 x 96 and so on.
    operations, n_bytes = roofline.count_work("pvmilk20", "training")
    places = [8 * 128 * 96, 8 * 128 * 32, 16 * 128 * 32, 16 * 128 * 32, 32 * 128 * 10]
    products = [7, 8 * 7, 8 * 5, 16 * 5, 16 * 5]
    done = sum(n * each for n, each in zip(places, products, strict=True))
    dense = 128 * 128 + 128 * 6
    assert operations == 3 * 2 * (done + dense)
    assert n_bytes == 16 * 4 * sum(places)
    rate = 50e9 / operations
    text = roofline.describe("pvmilk20", "training", rate, {"GFLOP": 100, "GB": 10})
    assert "are 50 % of what this processor multiplies (100 GFLOP/s)" in text


def make_way(path, name, seconds):
    def way():
        time.sleep(seconds)
        with path.open("a") as log:
            log.write(f"{name} {os.getpid()}\n")

    return way


def test_ways_take_turns_in_processes_of_their_own(tmp_path):
    path = tmp_path / "log"
    ways = {
        name: functools.partial(make_way, path, name, seconds)
        for name, seconds in {"quick": 0, "slow": 0.2}.items()
    }
    medians = importlib.import_module("measuring").take_turns(ways, repeats=2)
    assert medians["quick"] < 0.1 < 0.2 <= medians["slow"]
    names, processes = zip(*map(str.split, path.read_text().splitlines()), strict=True)
    assert names == ("quick", "slow") * 3  # once to warm up
    assert len({*processes, str(os.getpid())}) == 3


@pytest.mark.usefixtures("here")
def test_training_and_scoring_are_measured_against_the_plain_way():
    training = importlib.import_module("bench_training")
    scoring = importlib.import_module("bench_scoring")
    figures = training.measure("inouet18", repeats=1, n_clips=6)
    figures.append(scoring.score_segments("pvmilk20", repeats=1, n_clips=6))
    assert all(figure.ratio > 0 for figure in figures)
    assert [figure.bound is None for figure in figures] == [False] * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what librosa imports
def test_files_are_measured_against_librosa_and_pyod(tmp_path):
    files = importlib.import_module("bench_frontend")
    paths = files.write_files(tmp_path, ".flac", 4)
    figures = files.time_files(paths, "FLAC", repeats=1)
    scoring = importlib.import_module("bench_scoring")
    assert files.time_verdict(1).endswith("(at most 3 ms).")
    figures += scoring.score_a_file(paths[0], repeats=1)
    figures += scoring.score_files_with_pyod(paths, repeats=1)
    assert len(figures) == 6
    assert all(figure.ratio > 0 for figure in figures)


def test_growth_is_measured_with_the_cache_not_counted(tmp_path):
    growth = load("bench_growth")
    growth.write_files(tmp_path, 6)
    result = growth.measure(6, tmp_path)
    frames = 6 * 313 * 128 * np.dtype("float16").itemsize / 1e6
    assert result["cache_MB"] == pytest.approx(frames, abs=0.1)
    assert result["peak_MB"] > 50


def test_starts_are_compared_with_numpy_and_pandas():
    bench = importlib.import_module("bench_startup")
    figures = bench.compare(repeats=1)
    assert [figure.what for figure in figures] == list(bench.BOUNDS)
    assert all(figure.ours > 0 and figure.verdict for figure in figures)


def test_a_monitor_is_timed_window_by_window():
    monitor = load("bench_monitor")
    seconds = monitor.time_windows(monitor.make_monitor(1), 3)
    assert len(seconds) == 3
    text = monitor.describe(1, [(0.04, 0.02)] * 100)
    assert "watches 500 machines: held" in text
    assert "at most 40 ms: held" in text


def test_a_pretrained_encoder_tells_tones_from_noise():
    """The weights are in a package of their own: pip install --no-deps aisfx."""
    pytest.importorskip("aisfx", reason="its weights are in the package aisfx")
    encode = load("encoder_aisfx").aisfx
    t, rng = np.arange(3 * 16000) / 16000, np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * pitch * t) / 3 for pitch in (400, 420, 440)]
    waves = np.array([*tones, rng.normal(scale=0.1, size=len(t))])
    embedding = EncoderEmbedding(encode, pooling="mean")
    X = embedding.fit_transform(waves)
    assert embedding.n_features_ == 512
    near = EmbeddingNeighborDetector(SpectrumStatistics("mean")).fit(X[:3])
    scores = near.score_samples(X)
    assert scores[3] < scores[:3].min() - 0.1
    again = embedding.transform(waves[1:2])
    np.testing.assert_allclose(again.frames[0], X.frames[1], atol=1e-5)
