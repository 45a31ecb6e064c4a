"""Systems on DCASE Task 2 of a year, 2020 to 2026, with published figures beside ours.

    python benchmarks/dcase.py --year 2020 --data FOLDER --system paper --seeds 0 1 2

FOLDER holds the unpacked archives of the year: development set, additional training
data and evaluation set, with the published list of the evaluation set's labels. Without
--data they are fetched from Zenodo (tens of GB) into the data sets of scikit-learn.

Systems: "baseline" and "i" to "iv" of the paper, and the detectors of make_detector;
"paper", "detectors" and "all" are groups of them. Members of a detector are rated as
systems of their own, such as "ensemble-networks".

In the folder --out:

- table.md, table.csv: each type and the official score, with published figures;
- sections.csv, decisions.csv: each section and seed;
- teams_dev, teams_eval: scores of each clip, as the evaluators of the year read them;
- took.md, took.csv: hours and memory of each job, and on what;
- runs: what jobs have computed. A job whose file exists is not run again, and training
  resumes from its last epoch, so after an interruption the same command continues.
"""

import argparse
import contextlib
import json
import os
import time
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import torch
from dcase_results import save, write_costs, write_submission, write_tables
from dcase_systems import GROUPS, build, combine, list_jobs, score

from sklearn_asd.datasets import fetch_dcase, load_dcase
from sklearn_asd.presets import ID_SYSTEMS, training_types

FEW = 4  # clips of each machine, label and domain in a dry run


def main(arguments=None):
    args = parse_arguments(arguments)
    clips = load_data(args)
    types = args.types or sorted(clips["machine_type"].unique())
    jobs = list_jobs(args.year, args.system, types, count_machines(clips, types))
    # Check all jobs first: a missing folder should fail now, not in a week.
    for job in jobs:
        split(clips, job)
    for seed in args.seeds:
        for job in jobs:
            run(args, clips, job, seed)
    gather(args, clips, types)
    print((args.out / "table.md").read_text())
    print((args.out / "took.md").read_text())
    print(f"Written to {args.out}")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--year", type=int, choices=range(2020, 2027), required=True)
    add("--data", type=Path, help="folder of the data; else they are fetched")
    add("--eval-labels", type=Path, help="list of labels, if not in the folder")
    names = [*GROUPS, *GROUPS["all"]]
    add("--system", nargs="+", choices=names, default=["default"], metavar="NAME")
    add("--types", nargs="+", metavar="TYPE", help="default: all of the data")
    add("--seeds", nargs="+", type=int, default=[0], help="default: 0; several average")
    add("--epochs", type=int, help="default: those of the system")
    add("--device", default="auto", help="where networks train (default: auto)")
    add("--channel", type=int, help="of several; default: 0 in 2026, else their mean")
    add("--cache", type=Path, help="folder for log-mels, else held in memory")
    add("--jobs", type=int, default=1, help="workers that read (default: 1)")
    add("--out", type=Path, help="default: results/dcase<year> beside this file")
    add(
        "--dry-run",
        action="store_true",
        help="one epoch on a few clips; of types without training recordings, the "
        "normal test recordings serve as such",
    )
    args = parser.parse_args(arguments)
    args.system = [one for name in args.system for one in GROUPS.get(name, [name])]
    if args.out is None:
        args.out = Path(__file__).parent / "results" / f"dcase{args.year}"
    return args


# -- recordings --------------------------------------------------------------------


def load_data(args):
    """Training and test recordings, with the columns `set` and `file`."""
    if args.data is None:
        clips = fetch_dcase(args.year, machine_types=list_needed(args)).data
    else:
        clips = load_dcase(args.data, args.year, eval_labels=args.eval_labels).data
    clips = clips[clips["split"].isin(["train", "test"])].reset_index(drop=True)
    clips["set"] = np.where(clips["subset"] == "dev", "dev", "eval")
    clips["file"] = clips["path"].map(os.path.basename)
    if args.types:
        unknown = sorted(set(args.types) - set(clips["machine_type"]))
        if unknown:
            exit_with(f"there are no recordings of {', '.join(unknown)}: check --types")
    return thin(clips) if args.dry_run else clips


def list_needed(args):
    """Types to fetch: those asked for, and those that their systems learn from."""
    if args.types is None or args.year > 2020:
        return args.types
    systems = set(args.system) & set(ID_SYSTEMS)
    learnt = {
        one for kind in args.types for s in systems for one in training_types(kind, s)
    }
    return sorted({*args.types, *learnt})


def thin(clips):
    """Keep a few recordings of each machine, some of them to train on."""
    trained = clips.loc[clips["split"] == "train", "machine_type"].unique()
    serves = (clips["label"] == 1) & ~clips["machine_type"].isin(trained)
    clips = pd.concat([clips, clips[serves.fillna(False)].assign(split="train")])
    by = ["machine_type", "machine_id", "split", "label", "domain"]
    groups = clips.groupby([one for one in by if one in clips], dropna=False)
    return groups.head(FEW).reset_index(drop=True)


def count_machines(clips, types):
    train = clips[clips["split"] == "train"]
    counts = train.groupby("machine_type")["machine_id"].nunique()
    return {kind: int(counts.get(kind, 0)) for kind in types}


def split(clips, job):
    """Choose the recordings that a job trains on, and those that it scores."""
    train = clips[clips["split"].eq("train") & clips["machine_type"].isin(job.learnt)]
    test = clips[clips["split"].eq("test") & clips["machine_type"].isin(job.scored)]
    missing = sorted(set(job.learnt) - set(train["machine_type"]))
    if missing:
        exit_with(
            f"{job.system} of {', '.join(job.scored)} trains on {', '.join(missing)}, "
            "which have no training recordings: add them, or choose other --types or "
            "--system (--dry-run uses test recordings instead)"
        )
    machines = ["machine_type", "machine_id"]
    known = set(train[machines].itertuples(index=False, name=None))
    unknown = set(test[machines].itertuples(index=False, name=None)) - known
    if unknown:
        exit_with(
            f"{', '.join(map(' '.join, sorted(unknown)))} have test but no training "
            "recordings: add the additional training data (those of the evaluation "
            "machines), or leave these test recordings out"
        )
    if test.empty:
        exit_with(f"there are no test recordings of {', '.join(job.scored)}: add them")
    return train, test


def exit_with(message):
    raise SystemExit(message)


# -- jobs --------------------------------------------------------------------------


def run(args, clips, job, seed):
    """Fit a system and score its clips, unless it was finished before."""
    train, test = split(clips, job)
    path = args.out / "runs" / f"{job.name}_seed{seed}.json"
    settings = {
        "epochs": 1 if args.dry_run else args.epochs,
        "dry_run": args.dry_run,
        "channel": args.channel,
        "n_train": len(train),
        "n_test": len(test),
    }
    if path.exists():
        check_same(path, settings)
        print(f"{job.name}, seed {seed}: finished before", flush=True)
        return
    started = path.with_suffix(".started")
    resumed = started.exists()
    save(started, "")
    # Gamma distributions are fitted to the scores of training clips.
    own = train[train["machine_type"].isin(job.scored)]
    scored = pd.concat([own, test]) if job.system in ("iii", "iv") else test
    pipe = build(job, args.year, args.dry_run, choose_options(args, seed))
    reset_peak()
    begin, cpu = time.perf_counter(), time.process_time()
    pipe.fit(train)
    middle = time.perf_counter()
    scores = score(job, pipe, scored)
    took = {
        "hours_fit": (middle - begin) / 3600,
        "hours_score": (time.perf_counter() - middle) / 3600,
        "cpu_hours": (time.process_time() - cpu) / 3600,
        **describe_costs(args.device),
        "n_train": len(train),
        "n_scored": len(scored),
        "resumed": resumed,
    }
    save(path.with_suffix(".csv"), scores.to_csv(index=False))
    save(path, json.dumps({"settings": settings, "took": took}, indent=2) + "\n")
    started.unlink()
    hours = took["hours_fit"] + took["hours_score"]
    print(f"{job.name}, seed {seed}: {hours:.3f} hours", flush=True)


def choose_options(args, seed):
    """Parameters that the paper leaves open, or that differ from a system's own."""
    channel = args.channel
    if channel is None:
        channel = 0 if args.year == 2026 else "mix"
    chosen = {"n_jobs": args.jobs, "cache_dir": args.cache, "channel": channel}
    checkpoints = args.out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    chosen |= {"random_state": seed, "device": args.device}
    chosen["checkpoint_dir"] = checkpoints
    if args.dry_run or args.epochs is not None:
        chosen["max_epochs"] = 1 if args.dry_run else args.epochs
    return chosen


def check_same(path, settings):
    """Refuse to mix results of different settings in one table."""
    before = json.loads(path.read_text())["settings"]
    if before != settings:
        exit_with(
            f"{path} was computed with {before}, but the settings are {settings} now: "
            "choose another --out, or delete the file"
        )


def reset_peak():
    """Forget the largest memory so far (Linux, CUDA)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def describe_costs(device):
    """Largest memory of this process, and what it ran on."""
    on = f"{torch.get_num_threads()} threads of {measuring.describe_computer()}"
    peak = measuring.memory("VmHWM") if Path("/proc/self/status").exists() else None
    gpu = None
    if torch.cuda.is_available() and device != "cpu":
        gpu = torch.cuda.max_memory_allocated() / 1e6
        on = f"{torch.cuda.get_device_name()}, {on}"
    return {"peak_mb": peak, "gpu_peak_mb": gpu, "on": on}


# -- results -----------------------------------------------------------------------


def gather(args, clips, types):
    """Write tables and the evaluators' files of all finished jobs."""
    parts = []
    for path in sorted((args.out / "runs").glob("*.csv")):
        if path.with_suffix(".json").exists():
            seed = int(path.stem.rpartition("_seed")[2])
            parts.append(read(path).assign(seed=seed))
    scores = pd.concat(parts, ignore_index=True)
    scores = scores[scores["machine_type"].isin(types)]
    combined = [
        combine(own).assign(seed=seed)
        for seed, own in scores[scores["system"].isin(["iii", "iv"])].groupby("seed")
        if is_complete(own)
    ]
    scores = scores[scores["split"] == "test"]
    scores = pd.concat([scores, *combined], ignore_index=True)
    keys = ["machine_type", "split", "file"]
    scores = scores.merge(clips, on=keys, validate="many_to_one")
    groups = scores.groupby(["set", "system", "seed"])
    for (of_set, system, seed), own in groups:
        folder = args.out / f"teams_{of_set}" / f"{system}_seed{seed}"
        write_submission(folder, own, args.year)
    notes = ["", "**A dry run: the numbers mean nothing.**"] if args.dry_run else []
    write_tables(args.out, scores, args.year, notes)
    write_costs(args.out)


def read(path):
    """Read the scores of a job as they were, to the last digit."""
    names = ("machine_type", "file", "system", "score")
    scores = pd.read_csv(path, dtype=dict.fromkeys(names, str))
    return scores.astype({"score": float})  # which rounds less than read_csv may


def is_complete(scores):
    """Whether (iii) and (iv) have scored the same clips."""
    counts = scores.groupby(["machine_type", "split", "file"]).size()
    return bool((counts == 2).all())


if __name__ == "__main__":
    main()
