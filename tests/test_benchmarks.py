"""The benchmarks run on a few clips."""

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
import soundfile
import torch
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    LogMelSegmenter,
    SpectrumStatistics,
    load_clips,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.networks.architectures import NETWORKS
from sklearn_asd.presets import make_paper_system

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


@pytest.fixture
def dcase2020():
    return load("accuracy_dcase2020")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two conveyors of the development set, and one of the evaluation set."""
    folder = tmp_path_factory.mktemp("dcase2020")
    sounds = make_machine_sounds(
        "ToyConveyor",
        n_machines=3,
        n_train=3,
        n_test_normal=2,
        n_test_anomalous=2,
        duration=4.0,
        random_state=0,
    )
    list_of_labels = ["fan", "id_01_00000000.wav,x,0", "ToyConveyor"]
    for number, clip in enumerate(sounds.itertuples()):
        label = "normal" if clip.label == 1 else "anomaly"
        name = f"{label}_id_{clip.machine_id}_{number:08d}.wav"
        if clip.split == "test" and clip.machine_id == "02":
            hidden = name.removeprefix(f"{label}_")
            list_of_labels.append(f"{hidden},{name},{int(clip.label == -1)}")
            name = hidden
        path = folder / "ToyConveyor" / clip.split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, clip.audio, 16000)
    (folder / "labels.csv").write_text("\n".join(list_of_labels) + "\n")
    return folder


def arguments(data, out, *more):
    options = ["--data", data, "--out", out, "--types", "ToyConveyor", *more]
    return [str(option) for option in options]


def test_the_dry_run_makes_the_table_once(
    dcase2020, folder, tmp_path, monkeypatch, capsys
):
    command = arguments(
        folder, tmp_path, "--dry-run", "--eval-labels", folder / "labels.csv"
    )
    dcase2020.main(command)
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == [
        f"ToyConveyor_{system}_seed0.json"
        for system in ("baseline", "i", "ii", "iii", "iv")
    ]
    table = pd.read_csv(tmp_path / "table.csv", index_col=["set", "system"])
    assert (table["machine_type"] == "ToyConveyor").all()
    published = table["published_auc"]
    assert published["dev"].tolist() == [72.53, 81.71, 81.60, 76.90, 79.45]
    assert published["eval"].tolist() == [85.36, 87.32, 87.41, 79.88, 85.82]
    assert table["auc"].between(0, 100).all()
    machines = pd.read_csv(tmp_path / "machines.csv", dtype={"machine_id": str})
    by_set = machines.groupby("set")["machine_id"].unique()
    assert by_set["dev"].tolist() == ["00", "01", "average"]
    assert by_set["eval"].tolist() == ["02", "average"]
    markdown = (tmp_path / "table.md").read_text()
    assert "A dry run" in markdown
    assert "| ToyConveyor | 72.53 / " in markdown
    assert "| average of AUC and pAUC |" in markdown

    def refuse(*arguments, **parameters):
        pytest.fail("a finished run was run again")

    monkeypatch.setattr(dcase2020, "make_paper_system", refuse)
    capsys.readouterr()
    dcase2020.main(command)
    assert capsys.readouterr().out.count("finished before") == 5
    assert (tmp_path / "table.md").read_text() == markdown


def test_seeds_are_averaged_and_an_interrupted_run_continues(
    dcase2020, folder, tmp_path, capsys
):
    systems = ["--systems", "iii", "--epochs", "1"]
    dcase2020.main(arguments(folder, tmp_path, *systems))
    dcase2020.main(arguments(folder, tmp_path, *systems, "--seeds", "0", "1"))
    output = capsys.readouterr().out
    assert "4 recordings have no label" in output
    assert output.count("finished before") == 1
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["n_seeds"].tolist() == [2]
    runs = [json.loads(p.read_text()) for p in (tmp_path / "runs").iterdir()]
    aucs = [run["machines"][-1]["auc"] for run in runs]
    assert table["auc"][0] == pytest.approx(100 * np.mean(aucs), abs=0.01)
    assert " ± " in (tmp_path / "table.md").read_text()
    with pytest.raises(SystemExit, match="choose another --out"):
        dcase2020.main(arguments(folder, tmp_path, *systems[:2], "--epochs", "2"))


def test_members_fitted_before_give_the_same_scores(dcase2020, folder):
    clips = load_clips(folder)
    train = clips[clips["split"] == "train"]
    chosen = {"max_epochs": 1, "random_state": 0, "pitch_steps": (0, 2)}
    id_only = {"max_epochs": 1, "random_state": 0}
    fitted = {"iii": make_paper_system("ToyConveyor", "iii", **id_only).fit(train)}
    shared = dcase2020.fit("ToyConveyor", "ii", train, chosen, fitted)
    alone = make_paper_system("ToyConveyor", "ii", **chosen).fit(train)
    np.testing.assert_array_equal(
        shared.score_samples(clips), alone.score_samples(clips)
    )
    assert shared.offset_ == alone.offset_


def test_missing_recordings_are_reported_before_anything_is_trained(
    dcase2020, folder, tmp_path
):
    with pytest.raises(SystemExit, match="systems of ToyCar train on ToyCar, which"):
        dcase2020.main(arguments(folder, tmp_path, "ToyCar"))
    assert not (tmp_path / "runs").exists()
    clips = dcase2020.load_data(
        dcase2020.parse_arguments(
            arguments(folder, tmp_path, "--eval-labels", folder / "labels.csv")
        )
    )
    training = clips["split"] == "train"
    partial = clips[~(training & (clips["machine_id"] == "02"))]
    with pytest.raises(SystemExit, match="ToyConveyor 02 have test but no"):
        dcase2020.split(partial, "ToyConveyor", ["iii"])
    with pytest.raises(SystemExit, match="no labelled test recordings of ToyConv"):
        dcase2020.split(clips[training], "ToyConveyor", ["iii"])


def test_the_dry_run_passes_on_real_recordings_without_a_training_split(
    dcase2020, recordings, tmp_path
):
    data = recordings("dcase2020_samples")
    command = arguments(data, tmp_path, "--dry-run", "--jobs", "2")
    dcase2020.main(command)
    dcase2020.main([*command, "--types", "pump", "--systems", "iii"])
    table = pd.read_csv(tmp_path / "table.csv", index_col=["machine_type", "system"])
    assert len(table) == 6
    assert table.loc[("pump", "iii"), "published_auc"] == 91.60
    assert table["auc"].notna().all()


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
    missed = measuring.compare_latency("score", "plain", *pair, 4.1)
    measuring.keep("training", [held, missed], ["A note."])
    printed = capsys.readouterr().out
    row = "| epoch | 3,000 clips/s | 750 clips/s (plain) | 4.0 | held (at least 4) |"
    assert row in printed
    row_missed = "| score | 500 ms | 2,000 ms (plain) | 4.0 | MISSED (at least 4.1) |"
    assert row_missed in printed
    result = json.loads((tmp_path / "training.json").read_text())
    page = bench.write_page({"training": result})
    assert row in page
    assert page.endswith("A note.\n")


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
