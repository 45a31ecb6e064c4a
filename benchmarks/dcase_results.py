"""What `dcase.py` writes: the evaluators' files, areas, and tables."""

import json

import numpy as np
import pandas as pd
from dcase_published import EVALUATORS, list_published
from dcase_systems import AGGREGATIONS, SCALINGS, WAYS, name_of, order_of

from sklearn_asd.metrics import dcase_table, decision_table
from sklearn_asd.metrics.challenge import harmonic_mean as harmonic_mean_of_shares

SETS = {"dev": "Development set", "eval": "Evaluation set"}
AREA_NAMES = {
    "auc": "AUC",
    "auc_source": "AUC, source domain",
    "auc_target": "AUC, target domain",
    "pauc": "pAUC (p = 0.1)",
    "score": "Official score",
}


def save(path, text):
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text)
    unfinished.replace(path)


# -- the evaluators' files ----------------------------------------------------------


def write_submission(folder, scores, year):
    """Write one system's scores as the evaluator of the year reads them.

    A file for each section, and since 2021 one of decisions beside it, with rows of a
    file name and a number; in 2021 domains have files of their own.
    """
    section = "machine_id" if year == 2020 else "section"
    by = ["machine_type", section, *(["domain"] if year == 2021 else [])]
    for (kind, name, *domain), clips in scores.groupby(by):
        place = f"{kind}_id_{name}" if year == 2020 else f"{kind}_section_{name}"
        if year > 2020:
            place = "_".join([place, *domain, "test"])
        columns = {"anomaly_score": "score", "decision_result": "decision"}
        for start, column in columns.items():
            if year == 2020 and column == "decision":
                continue
            rows = clips.sort_values("file")[["file", column]]
            text = rows.to_csv(header=False, index=False, lineterminator="\n")
            save(folder / f"{start}_{place}.csv", text)


# -- areas ---------------------------------------------------------------------------


def rate(scores, year):
    """Areas of each section by the rule of the year, in %, for each set and system."""
    parts = []
    labelled = scores[scores["label"].notna()]
    for (of_set, system, seed), clips in labelled.groupby(["set", "system", "seed"]):
        table = dcase_table(clips, scores=-clips["score"], year=year).reset_index()
        table = table.rename(columns={"machine_id": "section"})
        areas = [name for name in AREA_NAMES if name in table]
        table[areas] *= 100
        parts.append(table.assign(set=of_set, system=system, seed=seed))
    return pd.concat(parts, ignore_index=True)


def rate_decisions(scores):
    """Precision, recall and F1 of each section and domain."""
    parts = []
    labelled = scores[scores["label"].notna()]
    for (of_set, system, seed), clips in labelled.groupby(["set", "system", "seed"]):
        table = decision_table(
            clips,
            predictions=1 - 2 * clips["decision"],
            by=["machine_type", "section", "domain"],
        )
        row = {"set": of_set, "system": system, "seed": seed}
        parts.append(table.reset_index().assign(**row))
    return pd.concat(parts, ignore_index=True)


def average_types(sections, year):
    """Areas of each type and of the whole set: mean and spread over seeds."""
    areas = [name for name in AREA_NAMES if name in sections]
    keys = ["set", "system", "seed", "machine_type"]
    # What sections of a type are combined by is what the year combines all by.
    average = mean if year == 2020 else harmonic_mean
    of_types = sections.groupby(keys)[areas].agg(average)
    long = of_types.reset_index().melt(keys, areas, var_name="area")
    long["machine_type"] = long["machine_type"].replace("official", "")
    groups = long.groupby(["set", "system", "machine_type", "area"])["value"]
    return groups.agg(n_seeds="size", ours="mean", std="std")


def mean(values):
    return np.mean(np.asarray(values, dtype=float))


def harmonic_mean(values):
    return 100 * harmonic_mean_of_shares(np.asarray(values, dtype=float) / 100)


# -- tables --------------------------------------------------------------------------


def write_tables(out, scores, year, notes):
    """Write all tables of a folder."""
    sections = rate(scores, year)
    first = ["set", "system", "seed", "machine_type", "section"]
    sections = sections[[*first, *(c for c in sections if c not in first)]]
    save(out / "sections.csv", sections.to_csv(index=False, float_format="%.4f"))
    if year > 2020:
        decisions = rate_decisions(scores)
        save(out / "decisions.csv", decisions.to_csv(index=False, float_format="%.4f"))
    table = average_types(sections, year)
    types = sections.loc[sections["set"] == "eval", "machine_type"].unique()
    published = list_published(year, set(types) - {"official"})
    table["published"] = published
    save(out / "table.csv", table.to_csv(float_format="%.2f"))
    save(out / "table.md", as_markdown(table, published, year, notes))


def as_markdown(table, published, year, notes):
    lines = [f"# DCASE {year} Task 2", *notes, ""]
    lines.append(
        "In %, published / ours; several seeds are averaged, with their standard "
        "deviation. " + describe_averages(year)
    )
    for of_set in [one for one in SETS if one in table.index.unique("set")]:
        of_own, theirs = table.loc[of_set], select(published, of_set)
        lines += ["", f"## {SETS[of_set]}"]
        alone = of_own[~of_own.index.get_level_values("system").isin(WAYS)]
        for area in [one for one in AREA_NAMES if one in of_own.index.unique("area")]:
            lines += ["", f"{AREA_NAMES[area]}:", ""]
            lines += compare(select_area(alone, area), select_area(theirs, area), year)
        lines += tabulate_ways(of_own)
    return "\n".join(lines) + "\n"


def describe_averages(year):
    source = {2020: "Published: the paper's Tables 3 and 4."}
    if year in EVALUATORS:
        source[year] = f"Published: baselines of the organisers ({EVALUATORS[year]})."
    rule = (
        "The last column is the mean over the types."
        if year == 2020
        else "The last column is the challenge's: the harmonic mean over all sections."
    )
    return f"{rule} {source.get(year, 'No published figures are known here.')}"


def select(figures, of_set):
    is_there = of_set in figures.index.unique("set")
    return figures.loc[of_set] if is_there else figures.iloc[:0].droplevel("set")


def select_area(figures, area):
    return figures[figures.index.get_level_values("area") == area].droplevel("area")


def compare(ours, theirs, year):
    """Rows of systems and columns of types, and of all types together."""
    kinds = sorted(kind for kind in ours.index.unique("machine_type") if kind)
    rows = [as_row(["system", *kinds, "all"]), as_row(["---"] * (2 + len(kinds)))]
    systems = {*ours.index.unique("system"), *theirs.index.unique("system")}
    for system in order_of(systems):
        cells = []
        for kind in [*kinds, ""]:
            known = theirs.get((system, kind))
            if kind == "" and known is None:
                known = average_published(theirs, system, kinds, year)
            text = with_spread(*find(ours, system, kind))
            cells.append(text if known is None else f"{known:.2f} / {text}")
        if cells != ["-"] * len(cells):
            rows.append(as_row([title(system), *cells]))
    return rows


def find(ours, *names):
    """Mean and standard deviation over seeds, or None."""
    return ours["ours"].get(names), ours["std"].get(names)


def average_published(theirs, system, kinds, year):
    """Average the published figures of the same types, if all are known."""
    known = [theirs.get((system, kind)) for kind in kinds]
    if None in known:
        return None
    return mean(known) if year == 2020 else harmonic_mean(known)


def tabulate_ways(ours):
    """The ways to combine (iii) and (iv) beside each other: AUC and pAUC or score."""
    if WAYS[0] not in ours.index.unique("system"):
        return []
    areas = [a for a in AREA_NAMES if a in ours.index.unique("area")]
    lines = [
        "",
        "How (iii) and (iv) are combined, section 4.1.5 (all types, ours):",
        "",
    ]
    lines.append(as_row(["scaling", "combination", *(AREA_NAMES[a] for a in areas)]))
    lines.append(as_row(["---"] * (2 + len(areas))))
    for scaling in SCALINGS:
        for aggregation in AGGREGATIONS:
            system = name_of(scaling, aggregation)
            cells = [with_spread(*find(ours, system, "", area)) for area in areas]
            lines.append(as_row([scaling, aggregation, *cells]))
    return lines


def title(system):
    return f"({system})" if system in ("i", "ii", "iii", "iv") else system


def as_row(cells):
    return f"| {' | '.join(cells)} |"


def with_spread(mean, std):
    return show(mean) if std is None or pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def show(value):
    return "-" if value is None or pd.isna(value) else f"{value:.2f}"


# -- what it took ----------------------------------------------------------------------


def write_costs(out):
    """Write hours and memory of all finished jobs of a folder."""
    paths = sorted((out / "runs").glob("*.json"))
    costs = pd.DataFrame([json.loads(path.read_text())["took"] for path in paths])
    costs.insert(0, "job", [path.stem for path in paths])
    save(out / "took.csv", costs.to_csv(index=False))
    hours = costs[["hours_fit", "hours_score"]].sum()
    lines = ["# What it took", ""]
    lines.append(f"All jobs: {hours.sum():.2f} hours.")
    if costs["resumed"].any():
        lines.append(
            "Jobs marked as resumed continued after an interruption: what they took "
            "before it is not counted."
        )
    # Processors of worker processes (--jobs) are not counted.
    names = ["job", "clips learnt", "scored", "hours", "of them fit"]
    names += ["hours of processors", "peak MB", "GPU peak MB", "resumed", "on"]
    lines += ["", as_row(names), as_row(["---"] * len(names))]
    for one in costs.itertuples():
        cells = [one.job, one.n_train, one.n_scored]
        cells += [f"{one.hours_fit + one.hours_score:.3f}", f"{one.hours_fit:.3f}"]
        cells += [
            f"{one.cpu_hours:.3f}",
            show_whole(one.peak_mb),
            show_whole(one.gpu_peak_mb),
        ]
        cells += ["yes" if one.resumed else "no", one.on]
        lines.append(as_row(list(map(str, cells))))
    save(out / "took.md", "\n".join(lines) + "\n")


def show_whole(value):
    return "-" if value is None or pd.isna(value) else f"{value:.0f}"
