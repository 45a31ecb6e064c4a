"""``sklearn-asd score``: verdicts on new recordings."""

from __future__ import annotations

import os
from typing import Any

import click
import pandas as pd
from tqdm import tqdm

from sklearn_asd._cli.conventions import CONTEXT, Failure, check_writable
from sklearn_asd._cli.models import Model, read_model, trust_option
from sklearn_asd._cli.recordings import read_paths
from sklearn_asd._cli.verdicts import UNUSABLE, assign_machines, judge, select_known
from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import count
from sklearn_asd.report.findings import Findings
from sklearn_asd.report.page import load_template, write_page
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["score"]

# Recordings that the report explains.
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
    help="Machine that all recordings are of, as ID or TYPE/ID. Default: as their "
    "names or folders say.",
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

    Prints a line for each recording: its verdict, its margin, its machine and its
    path. The margin is negative for anomalous recordings and positive for normal
    ones. Within one machine, the lower it is, the more anomalous is the recording.

    The machine of a recording is known by its name or its folders, as those of the
    recordings that the model has learnt from: what lies in pump_3, or below, is of the
    machine that was learnt from recordings in pump_3. Where they do not say it, name
    it with --machine-id. A model of a single machine takes such recordings to be of
    that one.

    A recording that is damaged, or of a machine that the model does not know, is
    "unusable". All others are judged as if it were not there.

    Columns of the table: path, machine_type, machine_id, verdict, margin, and reason,
    why a recording is unusable.

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
    for path in (csv, report):
        check_writable(path)
    template = _load_template() if report else None
    loaded = read_model(model, trust)
    clips = _list(paths, loaded, machine_id)
    n_details = _MAX_DETAILS if report else 0
    verdicts = Verdicts(loaded.detector, select_known(clips), n_details)
    judged = pd.concat([_show(block) for block in judge(clips, verdicts)])
    if csv:
        with replacing(csv) as file:
            judged[_CSV_COLUMNS].to_csv(file, index=False, errors="surrogateescape")
    if report and (judged["verdict"] == UNUSABLE).all():
        click.echo("No report, as nothing could be judged.", err=True)
    elif report:
        findings = Findings(verdicts, _find_training(loaded))
        write_page(template, findings, report)
    counts = judged["verdict"].value_counts()
    kinds = ("normal", "anomalous", UNUSABLE)
    click.echo(
        f"{count(len(judged), 'recording')}: "
        + ", ".join(f"{counts.get(kind, 0)} {kind}" for kind in kinds),
        err=True,
    )
    return 2 if UNUSABLE in counts else int("anomalous" in counts)


def _load_template() -> Any:
    """Fail now, and not after all is scored, if an extra is missing."""
    try:
        return load_template()
    except ImportError as error:
        raise Failure(f"--report: {error}") from error


def _find_training(model: Model) -> pd.DataFrame | None:
    """Recordings that the model has learnt from, as far as they are where they were."""
    if model.training is None:
        return None
    still_there = [os.path.exists(path) for path in model.training["path"]]
    return model.training[still_there] if any(still_there) else None


def _list(paths: list[str], model: Model, machine_id: str | None) -> pd.DataFrame:
    """Recordings with their machines; paths without recordings have a reason."""
    clips, problems = read_paths(paths)
    clips, n_assumed = assign_machines(clips, model, machine_id)
    if n_assumed and model.machines:
        click.echo(
            f"{count(n_assumed, 'recording')} taken to be of {model.machines[0]}, the "
            "only machine that the model knows",
            err=True,
        )
    wrong = pd.DataFrame(problems.items(), columns=["path", "reason"])
    return pd.concat([clips, wrong], ignore_index=True) if problems else clips


def _show(block: pd.DataFrame) -> pd.DataFrame:
    for row in block.itertuples():
        names = [name for name in (row.machine_type, row.machine_id) if pd.notna(name)]
        margin = "" if pd.isna(row.margin) else f"{row.margin:.3f}"
        reason = f": {row.reason}" if row.reason else ""
        # Not over the progress bar, where both go to one terminal.
        tqdm.write(
            f"{row.verdict:<9} {margin:>9}  {'/'.join(names) or '?'}  "
            f"{row.path}{reason}"
        )
    return block
