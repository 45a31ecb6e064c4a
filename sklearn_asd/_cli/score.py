"""``sklearn-asd score``: verdicts on new recordings."""

from __future__ import annotations

import os
from typing import Any

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_asd._cli.conventions import CONTEXT, check_writable
from sklearn_asd._cli.models import Model, read_model, trust_option
from sklearn_asd._cli.recordings import assign_machines, read_paths
from sklearn_asd._cli.verdicts import UNUSABLE, judge
from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import count
from sklearn_asd.report.findings import Findings
from sklearn_asd.report.page import load_template, write_page
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["score"]

# Number of recordings that the report explains.
_MAX_DETAILS = 10

_CSV_COLUMNS = [
    "path",
    "machine_type",
    "machine_id",
    "verdict",
    "margin",
    "reason",
]


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--machine-id",
    metavar="ID",
    help="Machine of all recordings, as ID or TYPE/ID. Default: the one in their names "
    "or folders.",
)
@click.option("--csv", metavar="FILE", help="Write a table of all verdicts.")
@click.option(
    "--report",
    metavar="FILE",
    help="Write an HTML page that shows why recordings are anomalous.",
)
@trust_option
def score(model, paths, machine_id, csv, report, trust):
    """Judge recordings. PATHS are files, or folders of them.

    Prints a line for each recording: its verdict, margin, machine and path. The margin
    is negative for anomalous recordings and positive for normal ones. Among recordings
    of one machine, a lower margin means more anomalous.

    The machine of a recording is taken from its name or folders, as in training: a
    recording in pump_3, or in a folder below it, belongs to the machine whose training
    recordings were in pump_3. If names and folders do not tell the machine, name it
    with --machine-id. A model of a single machine assigns such recordings to it.

    A recording is "unusable" if it is damaged, or of a machine that the model does not
    know. The others are judged as usual.

    Columns of the table: path, machine_type, machine_id, verdict, margin, and reason
    (why a recording is unusable).

    \b
    Examples:
      sklearn-asd score machines.asd new/
      sklearn-asd score machines.asd tuesday.wav --machine-id pump_3
      sklearn-asd score machines.asd new/ --csv new.csv --report new.html

    \b
    Exit codes:
      0  all recordings are normal
      1  some are anomalous
      2  some are unusable (and others may be anomalous), or an error
    """
    for path in filter(None, (csv, report)):
        check_writable(path)
    template = load_template() if report else None  # fails now if a package is missing
    loaded = read_model(model, trust)
    clips = _list(paths, loaded, machine_id)
    n_details = _MAX_DETAILS if report else 0
    judged, verdicts = judge(loaded.detector, clips, n_details, _show)
    if csv:
        with replacing(csv) as file:
            judged[_CSV_COLUMNS].to_csv(file, index=False, errors="surrogateescape")
    if report:
        _write_report(template, verdicts, loaded.training, report)
    counts = judged["verdict"].value_counts()
    kinds = ("normal", "anomalous", UNUSABLE)
    click.echo(
        f"{count(len(judged), 'recording')}: "
        + ", ".join(f"{counts.get(kind, 0)} {kind}" for kind in kinds),
        err=True,
    )
    return 2 if UNUSABLE in counts else int("anomalous" in counts)


def _list(paths: list[str], model: Model, machine_id: str | None) -> pd.DataFrame:
    """List recordings with their machines, and paths without recordings."""
    clips, problems = read_paths(paths)
    clips = assign_machines(clips, model, machine_id)
    wrong = pd.DataFrame(problems.items(), columns=["path", "reason"])
    return pd.concat([clips, wrong], ignore_index=True) if problems else clips


def _show(block: pd.DataFrame) -> None:
    for row in block.itertuples():
        names = [name for name in (row.machine_type, row.machine_id) if pd.notna(name)]
        margin = "" if pd.isna(row.margin) else f"{row.margin:.3f}"
        reason = f": {row.reason}" if row.reason else ""
        # Keeps the line apart from the progress bar if both go to one terminal.
        tqdm.write(
            f"{row.verdict:<9} {margin:>9}  {'/'.join(names) or '?'}  "
            f"{row.path}{reason}"
        )


def _write_report(
    template: Any, verdicts: Verdicts, training: pd.DataFrame | None, path: str
) -> None:
    if np.isnan(verdicts.margins).all():
        click.echo("No report, because no recording could be judged.", err=True)
        return
    if training is not None:  # recordings may have moved since
        training = training[[os.path.exists(one) for one in training["path"]]]
        training = None if training.empty else training
    write_page(template, Findings(verdicts, training), path)
