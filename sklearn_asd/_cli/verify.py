"""``sklearn-asd verify``: count the false alarms on later normal recordings."""

from __future__ import annotations

import click
import pandas as pd
from scipy import stats

from sklearn_asd._cli.conventions import (
    CONTEXT,
    echo,
    machine_id_option,
    quiet_option,
)
from sklearn_asd._cli.history import label_machines, make_entry, save_entry
from sklearn_asd._cli.layouts import machine_from_option
from sklearn_asd._cli.models import piece_option, pieces_to_judge, read_model
from sklearn_asd._cli.normals import judge_normals, promised_rate, rate_option
from sklearn_asd._utils.text import printable

__all__ = ["verify"]


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("folder")
@rate_option
@machine_id_option
@machine_from_option
@piece_option()
@click.option("--record", is_flag=True, help="Add the result to the history of MODEL.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the model with the result in its history to this file.",
)
@quiet_option
def verify(model, folder, rate, machine_id, machine_from, piece, record, output):
    """Count the false alarms of MODEL on later normal recordings in FOLDER.

    Use normal recordings that neither trained nor calibrated the model. Prints the
    false alarms of each machine and of all machines, with the exact 95 % interval of
    their rate. It fails if the promised rate lies below one of these intervals: then
    more recordings raise an alarm than chance explains. Few recordings leave the
    interval wide, and passing then says little.

    Recordings labelled anomalous, in folders called train, or used before to train or
    calibrate, and copies of these, are left out.

    \b
    Examples:
      sklearn-asd verify machines.asd second_week/
      sklearn-asd verify machines.asd second_week/ --record

    \b
    Exit codes:
      0  passed
      1  failed: more false alarms than promised
      2  some recordings are unusable or cannot be listed, or an error
    """
    loaded = read_model(model, trust=False)
    rate = promised_rate(loaded, rate)
    pieces = pieces_to_judge(loaded, piece)
    target = output or (model if record else None)
    normals = judge_normals(loaded, [folder], machine_id, machine_from, pieces, target)
    table = _count_alarms(normals.judged)
    passed = bool((table["low"] <= rate).all())
    _show(table, rate, passed)
    if target is not None:
        alarms = {str(name): int(n) for name, n in table["n_alarms"].items()}
        entry = make_entry(
            "verify",
            normals.judged,
            normals.digests,
            rate,
            n_alarms=alarms,
            passed=passed,
        )
        save_entry(loaded, loaded.detector, entry, target)
    if normals.n_problems:
        return 2
    return 0 if passed else 1


def _show(table: pd.DataFrame, rate: float, passed: bool) -> None:
    for name, n_alarms, n, low, high in table.itertuples():
        echo(
            f"{printable(str(name))}  {n_alarms} of {n} ({100 * n_alarms / n:.0f} %, "
            f"95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
            f"{'  more than promised' if low > rate else ''}"
        )
    verdict = "passed" if passed else "failed"
    echo(f"Promised: {100 * rate:.3g} % of false alarms. Verification {verdict}.")


def _count_alarms(judged: pd.DataFrame) -> pd.DataFrame:
    """Count false alarms of each machine and of all, with intervals of their rate."""
    alarm = judged["verdict"] == "anomalous"
    counts = alarm.groupby(label_machines(judged)).agg(["sum", "size"])
    if len(counts) > 1:
        counts.loc["all machines"] = [alarm.sum(), len(alarm)]
    rows = {}
    for name, n_alarms, n in counts.itertuples():
        # Clopper and Pearson.
        found = stats.binomtest(int(n_alarms), int(n)).proportion_ci(0.95, "exact")
        rows[name] = (int(n_alarms), int(n), found.low, found.high)
    columns = ["n_alarms", "n", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
