"""The paper's Table 3: its systems and the baseline on DCASE 2020 Task 2, against ours.

--data is the folder of the unpacked archives: training recordings in ``<type>/train``
(of the development and the additional training data), test recordings in
``<type>/test``. The names of the evaluation recordings hold no label; to include them,
pass the published list of their labels as --eval-labels.

Each type, system and seed writes a file to --out and is not run again if that file
exists: after an interruption the same command continues. All finished runs go into
table.md, table.csv and machines.csv. On two cores the whole table takes about a week.
"""

import argparse
import json
import os
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator

from sklearn_asd import load_clips
from sklearn_asd.datasets.dcase2020 import read_eval_labels
from sklearn_asd.metrics import auc_table
from sklearn_asd.presets import make_paper_system, training_types

SYSTEMS = ["baseline", "i", "ii", "iii", "iv"]
SETS = {"dev": "Development set", "eval": "Evaluation set"}

# Table 3, AUC in %, in the order of SYSTEMS.
PUBLISHED = {
    "dev": {
        "ToyCar": (78.77, 95.66, 95.74, 92.48, 91.37),
        "ToyConveyor": (72.53, 81.71, 81.60, 76.90, 79.45),
        "fan": (65.83, 89.05, 88.73, 89.13, 81.27),
        "pump": (72.89, 93.32, 93.20, 91.60, 90.44),
        "slider": (84.76, 99.50, 99.47, 99.31, 98.08),
        "valve": (66.28, 99.77, 99.77, 99.53, 98.81),
    },
    "eval": {
        "ToyCar": (80.14, 93.80, 93.16, 91.06, 93.06),
        "ToyConveyor": (85.36, 87.32, 87.41, 79.88, 85.82),
        "fan": (82.80, 98.83, 98.84, 98.98, 91.35),
        "pump": (82.37, 94.61, 94.37, 93.87, 92.95),
        "slider": (79.41, 95.89, 95.68, 92.63, 96.29),
        "valve": (57.37, 97.69, 97.82, 98.02, 96.07),
    },
}
TYPES = list(PUBLISHED["dev"])
FEW = 2  # clips of each machine and kind in a dry run


def main(arguments=None):
    args = parse_arguments(arguments)
    clips = load_data(args)
    # Check all types first: a missing folder should fail now, not in a week.
    parts = {kind: split(clips, kind, args.systems) for kind in args.types}
    for kind, seed in product(args.types, args.seeds):
        train, test = parts[kind]
        fitted = {}  # (i) and (ii) combine (iii) and (iv)
        for system in args.systems:
            run(args, kind, system, seed, train, test, fitted)
    write_tables(args.out)
    print((args.out / "table.md").read_text())
    print(f"Written to {args.out}: table.md, table.csv and machines.csv")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument(
        "--eval-labels", type=Path, help="eval_data_list.csv, as published"
    )
    parser.add_argument(
        "--types", nargs="+", choices=TYPES, default=TYPES, help="default: all"
    )
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="default: all"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="default: 0; several average"
    )
    parser.add_argument("--epochs", type=int, help="default: those of the paper, 100")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "dcase2020",
        help="folder of the results (default: results/dcase2020 beside this file)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder for log-mels, else held in memory: nine views take 1.4 MB a clip",
    )
    parser.add_argument("--jobs", type=int, default=1, help="workers (default: 1)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="one epoch on a few clips; of types without training recordings, half of "
        "the normal test recordings serve as such",
    )
    return parser.parse_args(arguments)


# -- recordings --------------------------------------------------------------------


def load_data(args):
    """Labelled recordings, with the column `set`: "dev" or "eval"."""
    clips = load_clips(args.data)
    clips["set"] = np.where(clips["label"].isna(), "eval", "dev")
    if args.eval_labels:
        clips["label"] = clips["label"].fillna(find_eval_labels(clips, args))
    unlabelled = clips["label"].isna()
    if unlabelled.any():
        print(
            f"{unlabelled.sum()} recordings have no label in their name and are left "
            "out; --eval-labels names the list of labels of the evaluation data"
        )
    clips = clips[~unlabelled].reset_index(drop=True)
    return thin(clips) if args.dry_run else clips


def find_eval_labels(clips, args):
    """Look up each recording's type and name in the list of labels."""
    labels = read_eval_labels(args.eval_labels)
    names = clips["path"].map(os.path.basename)
    found = [labels.get(key) for key in zip(clips["machine_type"], names, strict=True)]
    return pd.Series(found, index=clips.index, dtype="Int64")


def thin(clips):
    """Keep a few recordings of each machine, at least one of them to train on."""
    no_training = set(clips["machine_type"]) - set(
        clips.loc[clips["split"] == "train", "machine_type"]
    )
    parts = []
    for (kind, _), machine in clips.groupby(["machine_type", "machine_id"]):
        if kind in no_training:
            normal = machine.index[machine["label"] == 1]
            machine.loc[normal[: (len(normal) + 1) // 2], "split"] = "train"
        parts.append(machine.groupby(["split", "label"]).head(FEW))
    return pd.concat(parts, ignore_index=True)


def split(clips, kind, systems):
    """Choose the recordings to train on, and those of the type to test."""
    needed = {other for system in systems for other in training_types(kind, system)}
    train = clips[(clips["split"] == "train") & clips["machine_type"].isin(needed)]
    test = clips[(clips["split"] == "test") & (clips["machine_type"] == kind)]
    missing = sorted(needed - set(train["machine_type"]))
    if missing:
        sys.exit(
            f"the systems of {kind} train on {', '.join(missing)}, which have no "
            "training recordings: add them, or choose other --types or --systems "
            "(--dry-run uses test recordings instead)"
        )
    own = train.loc[train["machine_type"] == kind, "machine_id"]
    unknown = sorted(set(test["machine_id"]) - set(own))
    if unknown:
        sys.exit(
            f"{kind} {', '.join(unknown)} have test but no training recordings: "
            "add the additional training data (those of the evaluation machines), or "
            "leave these test recordings out"
        )
    if test.empty:
        sys.exit(f"there are no labelled test recordings of {kind}: add them")
    return train, test


# -- runs --------------------------------------------------------------------------


def run(args, kind, system, seed, train, test, fitted):
    """Fit and rate one system, unless it has a result already."""
    path = args.out / "runs" / f"{kind}_{system}_seed{seed}.json"
    settings = {
        "epochs": 1 if args.dry_run else args.epochs,
        "dry_run": args.dry_run,
        "n_train": int(train["machine_type"].isin(training_types(kind, system)).sum()),
        "n_test": len(test),
    }
    if path.exists():
        check_same(path, settings)
        print(f"{kind}, system {system}, seed {seed}: finished before")
        return
    started = time.perf_counter()
    detector = fit(kind, system, train, overrides(args, seed), fitted)
    seconds_fit = time.perf_counter() - started
    table = rate(detector, test)
    result = {
        "machine_type": kind,
        "system": system,
        "seed": seed,
        "settings": settings,
        "seconds_fit": seconds_fit,
        "seconds_score": time.perf_counter() - started - seconds_fit,
        "machines": json.loads(table.to_json(orient="records", double_precision=15)),
    }
    save(path, result)
    print(f"{kind}, system {system}, seed {seed}:")
    print(table.to_string(index=False), flush=True)


def overrides(args, seed):
    """Parameters that differ from the paper's, or that it leaves open."""
    chosen = {"random_state": seed, "n_jobs": args.jobs, "cache_dir": args.cache}
    if args.dry_run or args.epochs is not None:
        chosen["max_epochs"] = 1 if args.dry_run else args.epochs
    return chosen


def check_same(path, settings):
    """Refuse to mix results of different settings in one table."""
    before = json.loads(path.read_text())["settings"]
    if before != settings:
        sys.exit(
            f"{path} was computed with {before}, but the settings are {settings} now: "
            "choose another --out, or delete the file"
        )


def fit(kind, system, train, chosen, fitted):
    """Fit a system; (i) and (ii) take members that are already fitted."""
    if system not in fitted:
        detector = make_paper_system(kind, system, **chosen)
        if system in ("i", "ii"):
            members = {"id": "iii", "augment": "iv"}
            detector.set_params(
                **{
                    name: FrozenEstimator(fit(kind, member, train, chosen, fitted))
                    for name, member in members.items()
                }
            )
        fitted[system] = detector.fit(train)
    return fitted[system]


def rate(detector, test):
    """AUC and pAUC of each machine of each set, and the averages over machines."""
    scores = pd.Series(detector.score_samples(test), test.index)
    tables = [
        auc_table(clips, clips["label"], scores[clips.index])
        .reset_index()
        .assign(set=name)
        for name, clips in test.groupby("set")
    ]
    columns = ["set", "machine_id", "n_normal", "n_anomalous", "auc", "pauc"]
    return pd.concat(tables, ignore_index=True)[columns]


def save(path, result):
    """Write a result whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=2) + "\n")
    unfinished.replace(path)


# -- tables ------------------------------------------------------------------------


def write_tables(out):
    """Write the results of all finished runs in a folder."""
    results = [json.loads(path.read_text()) for path in (out / "runs").glob("*.json")]
    machines = pd.concat([as_table(result) for result in results], ignore_index=True)
    for column in ("machine_type", "system", "set"):
        order = {"machine_type": TYPES, "system": SYSTEMS, "set": list(SETS)}[column]
        machines[column] = pd.Categorical(machines[column], order, ordered=True)
    keys = ["set", "machine_type", "system"]
    machines = machines.sort_values([*keys, "seed", "machine_id"], ignore_index=True)
    machines.to_csv(out / "machines.csv", index=False, float_format="%.4f")
    of_type = machines[machines["machine_id"] == "average"]
    table = average_seeds(of_type, keys)
    published = [
        PUBLISHED[s][kind][SYSTEMS.index(system)] for s, kind, system in table.index
    ]
    table.insert(0, "published_auc", published)
    table.to_csv(out / "table.csv", float_format="%.2f")
    by_machine = average_seeds(machines, [*keys[:2], "machine_id", "system"])
    (out / "table.md").write_text(as_markdown(table, by_machine, results))


def as_table(result):
    """The machines of one run, in percent."""
    machines = pd.DataFrame(result["machines"])
    machines[["auc", "pauc"]] = 100 * machines[["auc", "pauc"]].astype(float)
    for position, name in enumerate(("machine_type", "system", "seed")):
        machines.insert(position, name, result[name])
    return machines


def average_seeds(machines, keys):
    """Mean and standard deviation over seeds; that of one seed is missing."""
    groups = machines.groupby(keys, observed=True)
    return groups.agg(
        n_seeds=("seed", "size"),
        auc=("auc", "mean"),
        auc_std=("auc", "std"),
        pauc=("pauc", "mean"),
        pauc_std=("pauc", "std"),
    )


def as_markdown(table, by_machine, results):
    """Published and own numbers side by side, then those of each machine."""
    lines = ["# DCASE 2020 Task 2: the paper's Table 3", ""]
    if any(result["settings"]["dry_run"] for result in results):
        lines += ["**A dry run: the numbers mean nothing.**", ""]
    lines += [
        "In %; averages over machines, then over types. Several seeds are averaged, "
        "with their standard deviation.",
    ]
    for name in table.index.unique("set"):
        of_set, machines = table.loc[name], by_machine.loc[name]
        systems = [s for s in SYSTEMS if s in of_set.index.unique("system")]
        lines += ["", f"## {SETS[name]}", "", "AUC, published / ours:", ""]
        lines += compare(of_set, systems)
        lines += ["", "pAUC (p = 0.1), ours:", ""]
        lines += pauc_rows(of_set, systems)
        lines += ["", "Each machine, AUC / pAUC, ours:", ""]
        lines += machine_rows(machines, systems)
    return "\n".join(lines) + "\n"


def compare(of_set, systems):
    """Rows of types with published and own AUC, both averaged over the same types."""
    rows = heading(["type"], systems)
    for kind in of_set.index.unique("machine_type"):
        cells = []
        for system in systems:
            published, ours = "-", "-"
            if (kind, system) in of_set.index:
                row = of_set.loc[kind, system]
                published = f"{row['published_auc']:.2f}"
                ours = with_spread(row["auc"], row["auc_std"])
            cells.append(f"{published} / {ours}")
        rows.append(as_row([kind, *cells]))
    means = of_set[["published_auc", "auc"]].groupby("system", observed=True).mean()
    cells = [
        f"{means.loc[s, 'published_auc']:.2f} / {show(means.loc[s, 'auc'])}"
        for s in systems
    ]
    return [*rows, as_row(["average", *cells])]


def pauc_rows(of_set, systems):
    """Rows of types with own pAUC, and the average by which the challenge ranks."""
    rows = heading(["type"], systems)
    for kind in of_set.index.unique("machine_type"):
        cells = [
            with_spread(*of_set.loc[(kind, system), ["pauc", "pauc_std"]])
            if (kind, system) in of_set.index
            else "-"
            for system in systems
        ]
        rows.append(as_row([kind, *cells]))
    means = of_set[["auc", "pauc"]].groupby("system", observed=True).mean()
    rows.append(as_row(["average", *(show(means.loc[s, "pauc"]) for s in systems)]))
    both = means.mean(axis=1, skipna=False)
    cells = [show(both[s]) for s in systems]
    return [*rows, as_row(["average of AUC and pAUC", *cells])]


def machine_rows(machines, systems):
    rows = heading(["type", "machine"], systems)
    for kind, machine in machines.index.droplevel("system").unique():
        of_machine = machines.loc[kind, machine]
        cells = [
            f"{show(of_machine.loc[s, 'auc'])} / {show(of_machine.loc[s, 'pauc'])}"
            if s in of_machine.index
            else "-"
            for s in systems
        ]
        rows.append(as_row([kind, machine, *cells]))
    return rows


def heading(first, systems):
    names = [s if s == "baseline" else f"({s})" for s in systems]
    return [as_row([*first, *names]), as_row(["---"] * (len(first) + len(names)))]


def as_row(cells):
    return f"| {' | '.join(cells)} |"


def with_spread(mean, std):
    return show(mean) if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def show(value):
    return "-" if pd.isna(value) else f"{value:.2f}"


if __name__ == "__main__":
    main()
