"""Accuracy on real recordings: the paper's systems, rivals, and better ones.

    python benchmarks/accuracy_real_clips.py FOLDER [--sets ...] [--systems ...]

FOLDER holds any of `toycar2020_logmel/clips.npz` (log-mels of DCASE 2020 ToyCar),
`toycar2023/` and `valve2023/` (recordings of DCASE 2023, with the attribute `car` or
`pat` for the machine ID). Every set and machine uses the same settings of a system,
see `systems_for`. Results are written as they are computed, so a second run continues
where the first one stopped. At the end there is a table for each set.
"""

import argparse
import csv
import functools
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
    load_clips,
)
from sklearn_asd.metrics import auc_table

RESULTS = Path(__file__).parent / "results"
KEY = ["set", "system", "seed", "epochs", "n_train"]
COLUMNS = [*KEY, "machine", "auc", "pauc", "fit_s", "score_s"]


def main():
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "real_clips.csv"
    for name in args.sets:
        run_set(name, args, results)
    table = tabulate(pd.read_csv(results, dtype={"machine": str}))
    (args.out / "real_clips.md").write_text(table)
    print(table)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the recordings")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--systems", nargs="+", help="names; default: all")
    parser.add_argument("--seeds", type=int, default=3, help="default: 3")
    parser.add_argument("--epochs", type=int, help="for all networks, for a quick look")
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


# -- data ------------------------------------------------------------------------


def read_log_mels(folder):
    """First 200 normals of each car to train on; the other clips to test."""
    with np.load(folder / "toycar2020_logmel" / "clips.npz") as archive:
        log_mel, ids, y = (archive[k] for k in ("log_mel", "machine_id", "label"))
    X = ClipSpectrograms.from_arrays(log_mel, machine_id=ids)
    train = np.zeros(len(y), dtype=bool)
    for machine in np.unique(ids):
        train[np.flatnonzero((ids == machine) & (y == 1))[:200]] = True
    return X[train], X[~train], y[~train]


def read_recordings(folder, name, machine_id):
    """Nine views of every recording, with an attribute for its machine ID."""
    clips = load_clips(folder / name)
    clips["machine_id"] = clips[machine_id]
    train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    read = make_pipeline(AugmentationExpander(), LogMelSegmenter(n_jobs=-1))
    return read.transform(train), read.transform(test), test["label"].to_numpy(int)


SETS = {
    "toycar2020_logmel": read_log_mels,
    "toycar2023": functools.partial(
        read_recordings, name="toycar2023", machine_id="car"
    ),
    "valve2023": functools.partial(read_recordings, name="valve2023", machine_id="pat"),
}


# -- systems ---------------------------------------------------------------------


def systems_for(seed, with_views, epochs=None):
    """Unfitted detectors of spectrograms by name."""

    def identify(network="pvmilk20", center_loss_weight=0.0, **options):
        settings = {"batch_size": 64, "max_epochs": 25} | options
        settings["max_epochs"] = epochs or settings["max_epochs"]
        return IDConfidenceDetector(
            network=network,
            center_loss_weight=center_loss_weight,
            random_state=seed,
            **settings,
        )

    def of_spectra(detector):
        return PerMachine(make_pipeline(SpectrumStatistics(), detector))

    embedder = identify(mixup=0.5, random_starts=True)
    angular = clone_with(embedder, loss="arcface")
    autoencoder = AutoencoderDetector(
        batch_size=128, max_epochs=epochs or 40, random_state=seed
    )
    # The same network from three starts: neighbours differ from one to the next.
    near, second, third = (
        EmbeddingNeighborDetector(clone_with(angular, random_state=seed + start))
        for start in (0, 100, 200)
    )
    spectrum = of_spectra(MahalanobisDetector())
    systems = {
        "ID confidence, pvmilk20, lambda 0": identify(),
        "ID confidence, pvmilk20, lambda 0.1 (iii)": identify(center_loss_weight=0.1),
        "the same, MSP": identify(center_loss_weight=0.1, confidence="msp"),
        "ID confidence, inouet18, lambda 0": identify("inouet18"),
        "ID confidence, inouet18, lambda 0.15": identify("inouet18", 0.15),
        "autoencoder, one for all": autoencoder,
        "autoencoder, one per machine": PerMachine(autoencoder),
        "IsolationForest of spectra": of_spectra(IsolationForest(random_state=seed)),
        "nearest neighbour of spectra (LOF, k=1)": of_spectra(
            LocalOutlierFactor(n_neighbors=1, novelty=True)
        ),
        "Mahalanobis of spectra": spectrum,
        "neighbours in an embedding, softmax and mixup": EmbeddingNeighborDetector(
            embedder
        ),
        "neighbours in an embedding, ArcFace and mixup": near,
        "Gamma ensemble: ArcFace neighbours, Mahalanobis": GammaProbabilityEnsemble(
            [("near", near), ("spectrum", spectrum)]
        ),
        "Gamma ensemble: three ArcFace neighbours, Mahalanobis": (
            GammaProbabilityEnsemble(
                [
                    ("near", near),
                    ("second", second),
                    ("third", third),
                    ("spectrum", spectrum),
                ]
            )
        ),
    }
    forest = make_pyod_forest(seed)
    if forest is not None:
        systems["PyOD IForest of spectra"] = of_spectra(forest)
    if with_views:
        systems |= systems_with_views(seed, identify(center_loss_weight=0.1), epochs)
    return systems


def systems_with_views(seed, system_iii, epochs):
    """The paper's systems that use augmented views."""
    system_iv = AugmentConfidenceDetector(max_epochs=epochs or 15, random_state=seed)
    members = [("id", system_iii), ("augment", system_iv)]
    return {
        "augmentation confidence (iv)": system_iv,
        "raw scores of iii and iv (i)": GammaProbabilityEnsemble(members, scaling=None),
        "scaled scores of iii and iv (ii)": GammaProbabilityEnsemble(members),
    }


def clone_with(estimator, **parameters):
    return type(estimator)(**estimator.get_params() | parameters)


def make_pyod_forest(seed):
    """PyOD's forest, if PyOD is installed."""
    try:
        from pyod.models.iforest import IForest
    except ImportError:
        return None
    return IForest(random_state=seed)


# -- running ---------------------------------------------------------------------


def run_set(name, args, results):
    """Fit and score all systems that have no results yet."""
    if args.threads:
        torch.set_num_threads(args.threads)
    X_train, X_test, y = SETS[name](args.folder)
    epochs = args.epochs or 0  # 0: those of systems_for
    done = read_done(results, name, epochs, len(X_train))
    with_views = len(X_train.view_names) > 1
    for seed in range(args.seeds):
        for system, detector in systems_for(seed, with_views, args.epochs).items():
            if args.systems and system not in args.systems:
                continue
            if (name, system, seed) in done:
                continue
            started = time.perf_counter()
            detector.fit(X_train)
            fitted = time.perf_counter()
            scores = detector.score_samples(X_test)
            scored = time.perf_counter()
            seconds = [round(fitted - started, 1), round(scored - fitted, 2)]
            key = [name, system, seed, epochs, len(X_train)]
            save(results, key, auc_table(X_test, y, scores), seconds)


def read_done(results, name, epochs, n_train):
    """List systems and seeds with results; their settings must be the same."""
    if not results.exists():
        return set()
    frame = pd.read_csv(results)
    frame = frame[frame["set"] == name]
    other = frame[(frame["epochs"] != epochs) | (frame["n_train"] != n_train)]
    if len(other):
        raise SystemExit(
            f"{results} has results of {name} with other epochs or clips: delete it, "
            "or choose another --out"
        )
    return set(zip(frame["set"], frame["system"], frame["seed"], strict=True))


def save(results, key, table, seconds):
    """Append a row for each machine and for their average."""
    rows = [
        [*key, str(machine[-1] or "average"), row["auc"], row["pauc"], *seconds]
        for machine, row in table.iterrows()
    ]
    new = not results.exists()
    with results.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerows(rows)
    auc, pauc = rows[-1][-4:-2]
    print(f"{key[:3]}: AUC {auc:.3f}, pAUC {pauc:.3f}, {seconds} s", flush=True)


def tabulate(frame):
    """Markdown: mean and standard deviation over the seeds, for each set."""
    text = []
    for name, of_set in frame.groupby("set", sort=False):
        text.append(f"\n## {name}\n\nMean +- standard deviation over the seeds.\n")
        machines = [m for m in of_set["machine"].unique() if m != "average"]
        head = ["system", "seeds", "AUC", "pAUC", *(f"{m} AUC, pAUC" for m in machines)]
        text.append("| " + " | ".join([*head, "fit, s", "score, s"]) + " |")
        text.append("|" + "---|" * (len(head) + 2))
        for system, runs in of_set.groupby("system", sort=False):
            text.append(tabulate_system(system, runs, machines))
    return "\n".join(text) + "\n"


def tabulate_system(system, runs, machines):
    average = runs[runs["machine"] == "average"]
    cells = [system, str(len(average)), spread(average["auc"]), spread(average["pauc"])]
    for one in machines:
        own = runs[runs["machine"] == one]
        cells.append(f"{own['auc'].mean():.3f}, {own['pauc'].mean():.3f}")
    cells += [f"{average['fit_s'].mean():.0f}", f"{average['score_s'].mean():.1f}"]
    return "| " + " | ".join(cells) + " |"


def spread(values):
    if len(values) == 1:
        return f"{values.iloc[0]:.3f}"
    return f"{values.mean():.3f} +- {values.std():.3f}"


if __name__ == "__main__":
    main()
