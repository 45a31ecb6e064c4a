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

import encoder_aisfx
import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    load_clips,
)
from sklearn_asd.audio.machines import machine_index
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import auc_table, pauc_score
from sklearn_asd.presets import DETECTORS, NETWORK_DETECTORS, make_detector

RESULTS = Path(__file__).parent / "results"
KEY = ["set", "system", "seed", "epochs", "n_train"]
SCORES = ["auc", "pauc", "auc_low", "auc_high", "pauc_low", "pauc_high"]
COLUMNS = [*KEY, "machine", *SCORES, "fit_s", "score_s"]
N_RESAMPLINGS = 500


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
    parser.add_argument("--sets", nargs="+", choices=SETS, default=DEFAULT_SETS)
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


def read_recordings(folder, make_front_end, name, machine_id=None):
    """What a front end makes of each recording; an attribute is its machine ID."""
    clips = load_clips(folder / name)
    clips["machine_id"] = clips[machine_id] if machine_id else None
    train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    read = make_front_end()
    return read.transform(train), read.transform(test), test["label"].to_numpy(int)


def make_views():
    """Log-mels of nine views of every recording."""
    return make_pipeline(AugmentationExpander(), LogMelSegmenter(n_jobs=-1))


def make_encoder():
    """Frames of a pretrained encoder."""
    try:
        import aisfx  # noqa: F401
    except ImportError:
        raise SystemExit(encoder_aisfx.__doc__) from None
    cache = RESULTS / "encoded"
    return EncoderEmbedding(encoder_aisfx.aisfx, cache_dir=cache, n_jobs=-1)


def read_whole_log_mels(folder):
    """The same log-mels, each clip one segment."""
    X_train, X_test, y = read_log_mels(folder)
    return X_train.resegment(None, 1), X_test.resegment(None, 1), y


def make_sounds(folder, seed):
    """The built-in sounds of the machines of `make demo`, and more of each."""
    clips = make_machine_sounds(
        n_train=16, n_test_normal=9, n_test_anomalous=9, duration=6.0, random_state=seed
    )
    train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    read = LogMelSegmenter(n_jobs=-1)
    return read.transform(train), read.transform(test), test["label"].to_numpy(int)


def list_recorded():
    """Sets of recordings by name."""
    read = functools.partial(functools.partial, read_recordings)
    valve = {"name": "valve2023", "machine_id": "pat"}
    car = {"name": "toycar2023", "machine_id": "car"}
    power_spectra = functools.partial(PowerSpectrum, n_jobs=-1)
    linear = functools.partial(LinearSpectrogram, n_jobs=-1)
    log_mels = functools.partial(LogMelSegmenter, segment_duration=None, n_jobs=-1)
    return {
        "valve2023": read(make_front_end=make_views, **valve),
        "valve2023, one machine": read(make_front_end=make_views, name="valve2023"),
        "valve2023, domains": read(make_front_end=log_mels, name="valve2023"),
        "toycar2023": read(make_front_end=make_views, **car),
        "valve2023, power spectra": read(make_front_end=power_spectra, **valve),
        "toycar2023, power spectra": read(make_front_end=power_spectra, **car),
        "valve2023, linear": read(make_front_end=linear, **valve),
        "toycar2023, linear": read(make_front_end=linear, **car),
        "valve2023, aisfx": read(make_front_end=make_encoder, **valve),
        "toycar2023, aisfx": read(make_front_end=make_encoder, **car),
    }


SETS = {
    "toycar2020_logmel": read_log_mels,
    **list_recorded(),
    "toycar2020_logmel, whole clips": read_whole_log_mels,
    "built-in sounds, seed 0": functools.partial(make_sounds, seed=0),
    "built-in sounds, seed 1": functools.partial(make_sounds, seed=1),
}

# The encoder is a package that nothing else needs.
DEFAULT_SETS = [name for name in SETS if "aisfx" not in name]


# -- systems ---------------------------------------------------------------------


def systems_for(name, seed, epochs=None):
    """Unfitted detectors of a set's clips by name."""
    if "power spectra" in name:
        gaussian = GaussianDetector(SpectrumStatistics("mean"))
        return {"Gaussian of power spectra": gaussian}
    if name.endswith(("linear", "whole clips")):
        return dual_paths_for(seed, epochs)
    if "domains" in name:
        return banks_for(seed)
    if "aisfx" in name:
        return {
            "neighbours of aisfx": EmbeddingNeighborDetector(
                SpectrumStatistics("mean")
            ),
            "neighbours of aisfx, deviation-weighted": EmbeddingNeighborDetector(
                SpectrumStatistics("deviation_weighted")
            ),
            "Gaussian of aisfx": GaussianDetector(SpectrumStatistics("mean")),
        }
    settings = {"max_epochs": epochs} if epochs else {}
    recommended = {}
    for one in DETECTORS:
        learns = one in NETWORK_DETECTORS
        options = settings | {"random_state": seed} if learns else {}
        if not (learns and "one machine" in name):
            recommended[f"make_detector({one!r})"] = make_detector(one, **options)
    if "one machine" in name:
        autoencoder = AutoencoderDetector(
            batch_size=128, max_epochs=epochs or 40, random_state=seed
        )
        middle = clone_with(autoencoder, target="middle")
        rivals = {"autoencoder": autoencoder, "autoencoder, middle frame": middle}
        return recommended | rivals
    if "built-in" in name:
        return recommended
    with_views = name != "toycar2020_logmel"
    return recommended | rivals_for(seed, with_views, epochs)


def rivals_for(seed, with_views, epochs=None):
    """The paper's detectors, and others."""

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
        "autoencoder, middle frame, one per machine": PerMachine(
            clone_with(autoencoder, target="middle")
        ),
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


def banks_for(seed):
    """Neighbours by statistics, in banks of domains."""
    near = EmbeddingNeighborDetector(
        SpectrumStatistics(["mean", "rank"]), metric="mahalanobis", random_state=seed
    )
    variants = {
        "one bank": {},
        "a bank for each domain": {"by_domain": True},
        "16 centres of each domain": {"by_domain": True, "n_centers": 16},
        "one bank, SMOTE": {"oversampling": "smote"},
    }
    return {
        f"neighbours of spectra, {name}": clone_with(near, **changes)
        for name, changes in variants.items()
    }


def dual_paths_for(seed, epochs=None):
    """Published settings, but for the batches: there are few clips."""
    network = IDConfidenceDetector(
        network="dualpath",
        loss="subcluster_adacos",
        mixup=1.0,
        center_loss_weight=0.0,
        batch_size=16,
        max_epochs=epochs or 15,
        random_state=seed,
    )
    variants = {
        "neighbours in a dual path": {},
        "neighbours in a dual path, AdaProj": {"loss": "adaproj"},
        "neighbours in a dual path, StatEx": {"self_supervision": "statex"},
        "neighbours in a dual path, FeatEx": {"self_supervision": "featex"},
        "neighbours in three dual paths": {"n_networks": 3},
    }
    near = {
        name: EmbeddingNeighborDetector(clone_with(network, **changes))
        for name, changes in variants.items()
    }
    return {"ID confidence, dual path": network} | near


def clone_with(estimator, **parameters):
    return clone(estimator).set_params(**parameters)


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
    for seed in range(args.seeds):
        for system, detector in systems_for(name, seed, args.epochs).items():
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
            save(results, key, rate(X_test, y, scores), seconds)


def rate(X, y, scores):
    """Table of each machine and the average, with the average's 95 % interval.

    Test clips are drawn again with replacement, for each machine and label apart; the
    interval is 1.96 standard deviations of the results wide to each side. (Percentiles
    would be biased: a clip that is drawn twice ties with itself.)
    """
    table = auc_table(X, y, scores)
    own, parts = machine_index(X), []
    for machine in table.index[~table["auc"].isna()]:
        rows = np.flatnonzero(own == machine)
        if len(rows):
            parts.append([rows[y[rows] == label] for label in (1, -1)])
    rng = np.random.default_rng(0)
    drawn = np.empty((N_RESAMPLINGS, 2))
    for place in range(N_RESAMPLINGS):
        samples = [np.concatenate([rng.choice(r, len(r)) for r in p]) for p in parts]
        rated = [
            [pauc_score(y[some], scores[some], max_fpr=m) for m in (1, 0.1)]
            for some in samples
        ]
        drawn[place] = np.mean(rated, axis=0)
    average = table.index[-1]
    center = table.loc[average, ["auc", "pauc"]].to_numpy(float)
    half = 1.96 * drawn.std(axis=0)
    columns = ["auc_low", "pauc_low", "auc_high", "pauc_high"]
    ends = np.clip([center - half, center + half], 0, 1)
    table.loc[average, columns] = ends.ravel()
    return table


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
    # The last row is the average of all, even if they are of one type.
    names = [*map(name_machine, table.index[:-1]), "average"]
    rows = [
        [*key, name, *row[SCORES], *seconds]
        for name, (_, row) in zip(names, table.iterrows(), strict=True)
    ]
    new = not results.exists()
    with results.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerows(rows)
    auc, pauc = table.iloc[-1][["auc", "pauc"]]
    print(f"{key[:3]}: AUC {auc:.3f}, pAUC {pauc:.3f}, {seconds} s", flush=True)


def name_machine(machine):
    """ "type/id", or "type average"."""
    kind, identity = machine
    if identity in ("", "average"):
        return f"{kind} average"
    return "/".join(filter(None, machine))


def tabulate(frame):
    """Markdown: mean and standard deviation over the seeds, for each set."""
    text = []
    for name, of_set in frame.groupby("set", sort=False):
        text.append(f"\n## {name}\n\nMean +- standard deviation over the seeds.\n")
        machines = [m for m in of_set["machine"].unique() if m != "average"]
        machines = machines if len(machines) < 10 else []
        head = ["system", "seeds", "AUC", "95 % of it", "pAUC", "95 % of it"]
        head += [f"{m} AUC, pAUC" for m in machines]
        text.append("| " + " | ".join([*head, "fit, s", "score, s"]) + " |")
        text.append("|" + "---|" * (len(head) + 2))
        for system, runs in of_set.groupby("system", sort=False):
            text.append(tabulate_system(system, runs, machines))
    return "\n".join(text) + "\n"


def tabulate_system(system, runs, machines):
    average = runs[runs["machine"] == "average"]
    cells = [system, str(len(average))]
    for score in ("auc", "pauc"):
        low, high = (average[f"{score}_{end}"].mean() for end in ("low", "high"))
        cells += [spread(average[score]), f"{low:.3f} to {high:.3f}"]
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
