"""Train a detector on normal sounds of machines, and see what it makes of others.

Without arguments the sounds are built in. ``--data FOLDER`` takes real recordings, in
any layout that `load_clips` reads; what the folder does not say (which clips are to
train on, which are normal) is decided by `split_clips` below.
"""

import argparse
import time

import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_asd import IDConfidenceDetector, LogMelSegmenter, load_clips
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import auc_table


def main():
    args = parse_arguments()
    clips = read_or_make_clips(args.data, args.machine_id)
    train, test = split_clips(clips)
    print(f"{len(train)} normal clips to train on, {len(test)} to test.")

    pipe = make_pipeline(
        LogMelSegmenter(sample_rate=args.sample_rate, on_bad_clip="nan", n_jobs=-1),
        IDConfidenceDetector(
            center_loss_weight=0.1,
            batch_size=32,
            max_epochs=args.epochs,
            random_state=0,
            verbose=int(args.data is not None),  # real recordings may take hours
        ),
    )
    started = time.perf_counter()
    pipe.fit(train)
    history = pipe[-1].history_
    print(
        f"Trained in {time.perf_counter() - started:.0f} s: loss "
        f"{history['train_loss'].iloc[0]:.2f} -> {history['train_loss'].iloc[-1]:.2f} "
        f"in {len(history)} epochs."
    )
    report(test, pipe.score_samples(test))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", metavar="FOLDER", help="folder of real recordings")
    parser.add_argument(
        "--machine-id",
        metavar="COLUMN",
        default="machine_id",
        help="what tells the machines apart: a column of load_clips(FOLDER), such as "
        "an attribute found in the files' names (default: machine_id)",
    )
    parser.add_argument(
        "--sample-rate",
        type=float,
        default=16000,
        help="of the analysis in Hz; the recordings' own or less (default: 16000)",
    )
    parser.add_argument("--epochs", type=int, default=60, help="default: 60")
    return parser.parse_args()


def read_or_make_clips(folder, machine_id):
    """Table of clips, with what tells the machines apart as their ID."""
    if folder is None:
        print("Making sounds of six kinds of machine, four machines of each ...")
        return make_machine_sounds(
            n_machines=4,
            n_train=16,
            n_test_normal=9,
            n_test_anomalous=9,
            duration=6.0,
            random_state=0,
        )
    clips = load_clips(folder)
    if machine_id not in clips:
        raise SystemExit(
            f"The recordings have no {machine_id!r}; they have {list(clips.columns)}."
        )
    clips["machine_id"] = clips[machine_id]
    if clips[["machine_type", "machine_id"]].drop_duplicates().shape[0] < 2:
        raise SystemExit(
            "The recordings are of one machine, and this detector learns to tell "
            "machines apart. If an attribute does that, name it with --machine-id "
            f"(make demo ID=...): {list(clips.columns[5:])}."
        )
    return clips


def split_clips(clips):
    """Normal clips to train on, and the others to test.

    The split is the recordings' own if they have one. Otherwise every second normal
    clip of a machine is trained on. A clip without a label is taken for normal.
    """
    normal = clips["label"].fillna(1) == 1
    machine = clips["machine_type"].fillna("") + "/" + clips["machine_id"]
    if (clips["split"] == "train").any():
        train = normal & (clips["split"] == "train")
        test = clips["split"] != "train"
    else:
        train = normal & (normal.groupby(machine).cumsum() % 2 == 1)
        test = ~train
    known = machine.isin(machine[train])
    if (test & ~known).any():
        print(f"{(test & ~known).sum()} clips are of machines without training clips.")
    if not train.any() or not (test & known).any():
        raise SystemExit("The recordings leave no clips to train on, or none to test.")
    return clips[train], clips[test & known]


def report(test, scores):
    """Table of AUCs where labels are known, or else the least normal clips."""
    test = test.assign(score=scores).dropna(subset="score")
    labelled = test.dropna(subset="label")
    if set(labelled["label"]) == {1, -1}:
        table = auc_table(labelled, labelled["label"], labelled["score"])
        print(table.to_string(float_format="{:.3f}".format))
    else:
        ranked = test.nsmallest(10, "score")
        print("No labelled anomalies, so no table. The least normal clips are:")
        with pd.option_context("display.max_colwidth", None):
            print(ranked[["path", "machine_id", "score"]].to_string(index=False))


if __name__ == "__main__":
    main()
