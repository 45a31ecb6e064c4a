"""What the paper's ensemble makes of four systems submitted to DCASE 2020.

    python benchmarks/accuracy_submissions.py FOLDER [--splits 20]

FOLDER holds `dcase2020_eval_scores/scores.csv`: the anomaly scores that four real
systems gave each clip of the evaluation set, with the truth. In each split, Gamma
distributions are fitted to the scores of half of each machine's normal clips. The other
half and all anomalous clips are judged. Prints mean and standard deviation over splits,
also of the gain over the first system in hundredths, which the choice of clips blurs
less.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin

from sklearn_asd import GammaProbabilityEnsemble
from sklearn_asd.metrics import dcase_table

SYSTEMS = ["score_1", "score_2", "score_3", "score_4"]
GROUPS = {"one for all clips (MI)": None, "one for each type (MD)": "machine_type"}


class KnownScores(OutlierMixin, BaseEstimator):
    """Detector whose anomaly scores are a column of the table of clips."""

    def __init__(self, column="score_1"):
        self.column = column

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return -X[self.column].to_numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the scores' folder")
    parser.add_argument("--splits", type=int, default=20, help="default: 20")
    args = parser.parse_args()
    path = args.folder / "dcase2020_eval_scores" / "scores.csv"
    clips = pd.read_csv(path, dtype={"machine_id": str})
    clips["label"] = np.where(clips["anomaly"] == 1, -1, 1)
    results = [rate(clips, seed) for seed in range(args.splits)]
    print(tabulate(pd.concat(results)))


def rate(clips, seed):
    """AUC and pAUC of each way in one split."""
    normal = clips[clips["label"] == 1]
    machines = normal.groupby(["machine_type", "machine_id"])
    train = machines.sample(frac=0.5, random_state=seed)
    test = clips.drop(train.index)
    rows = []
    for way, scores in score(train, test).items():
        official = dcase_table(test, scores=scores, year=2020).iloc[-1]
        rows.append((*way, official["auc"], official["pauc"]))
    return pd.DataFrame(rows, columns=["scaling", "combination", "auc", "pauc"])


def score(train, test):
    """Scores of the test clips by each way; higher is more normal."""
    raw = test[SYSTEMS].to_numpy()
    scores = {("as they are", f"system {i + 1} alone"): -raw[:, i] for i in range(4)}
    scores["as they are", "mean"] = -raw.mean(axis=1)
    scores["as they are", "maximum"] = -raw.max(axis=1)
    spread = train[SYSTEMS].std().to_numpy()
    z = (raw - train[SYSTEMS].mean().to_numpy()) / spread
    scores["z-scores", "mean"] = -z.mean(axis=1)
    scores["z-scores", "maximum"] = -z.max(axis=1)
    members = [(name, KnownScores(name)) for name in SYSTEMS]
    for name, group_by in GROUPS.items():
        for aggregation in ("probability", "mean", "product"):
            ensemble = GammaProbabilityEnsemble(
                members, aggregation=aggregation, group_by=group_by
            ).fit(train)
            scores[f"Gamma, {name}", aggregation] = ensemble.score_samples(test)
        scores[f"Gamma, {name}", "maximum"] = least_tail(ensemble, test, group_by)
    return scores


def least_tail(ensemble, test, group_by):
    """Logarithm of 1 - f of the member with the largest f."""
    least = np.zeros(len(test))
    for group, scales in ensemble.scales_.items():
        rows = np.full(len(test), True) if group_by is None else test[group_by] == group
        tails = [
            scale.log_cdf_sf(test.loc[rows, name].to_numpy())[1]
            for name, scale in zip(SYSTEMS, scales, strict=True)
        ]
        least[rows] = np.min(tails, axis=0)
    return least


def tabulate(results):
    """A Markdown table with the ways in their order."""
    lines = ["| scores | combination | AUC | gain | pAUC | gain |", "|" + "---|" * 6]
    groups = dict(iter(results.groupby(["scaling", "combination"], sort=False)))
    first = next(iter(groups.values()))
    for way, rows in groups.items():
        cells = list(way)
        for area in ("auc", "pauc"):
            gain = (rows[area].to_numpy() - first[area].to_numpy()) * 100
            cells.append(f"{rows[area].mean():.4f} ± {rows[area].std():.4f}")
            cells.append(f"{gain.mean():+.2f} ± {gain.std(ddof=1):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
