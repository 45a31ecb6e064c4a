"""``sklearn-asd score``: verdicts on new recordings."""

from __future__ import annotations

import functools
import os
import re
import warnings
from typing import Any

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_asd._cli.conventions import (
    CONTEXT,
    echo,
    machine_id_option,
    note,
    prepare_outputs,
    quiet_option,
)
from sklearn_asd._cli.layouts import machine_from_option
from sklearn_asd._cli.models import (
    Model,
    piece_option,
    pieces_to_judge,
    read_model,
    trust_option,
)
from sklearn_asd._cli.recordings import assign_machines, read_paths
from sklearn_asd._cli.verdicts import UNUSABLE, judge
from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.monitoring.events import LogEntry
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
    "remark",
    "start",
    "stop",
]

_SHORT = 40  # characters of a reason that is repeated

# What a spreadsheet would compute. Numbers are no formulas, and stay numbers.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
# Whatever separates columns, in any country, is quoted.
_PLAIN = re.compile(r"[\w./: -]*")


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("paths", nargs=-1, required=True)
@machine_id_option
@machine_from_option
@piece_option()
@click.option("--csv", metavar="FILE", help="Write a table of all verdicts.")
@click.option(
    "--report",
    metavar="FILE",
    help="Write an HTML page that shows why recordings are anomalous.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object on each line, for other programs.",
)
@quiet_option
@trust_option
def score(model, paths, machine_id, machine_from, piece, csv, report, as_json, trust):
    """Judge recordings. PATHS are files, or folders of them.

    Prints a line for each recording: its verdict, margin, machine and path. The margin
    is negative for anomalous recordings and positive for normal ones. Among recordings
    of one machine, a lower margin means more anomalous.

    The machine of a recording is taken from its name or folders, as in training: a
    recording in pump_3, or in a folder below it, belongs to the machine whose training
    recordings were in pump_3, and so does pump_3_monday.wav. If names and folders do
    not tell the machine, name it with --machine-id, or say with --machine-from where it
    stands. A model of a single machine assigns such recordings to it.

    A recording is "unusable", and has no verdict, if it is damaged, holds no sound, or
    is of a machine that the model does not know. What is passed over in a folder is
    unusable too if it may hold recordings: folders that cannot be listed, hidden
    recordings, other formats. All others are judged as usual.

    A remark at the end of a line says that a recording cannot be compared with those of
    training: another level, length or format, clipping, dropouts, a missing
    channel or upper frequencies. Its verdict then says little about the machine: look
    at the microphone, the gain and the recorder first.

    A recording that is longer than those of training is cut into pieces of their
    length, and the worst piece decides. The line of an anomalous one says when that is.
    The more pieces a recording has, the lower its worst piece must score for an alarm.
    So long normal recordings raise no more false alarms than short ones.

    Columns of the table: path, machine_type, machine_id, verdict, margin, reason (why a
    recording is unusable), remark, and start and stop of the worst piece in seconds
    (empty for a recording judged whole). Lines and table show control characters as
    escapes, and in the table what a spreadsheet would compute begins with an
    apostrophe. JSON has the exact names, and also machine (type/id), score and
    threshold: the margin is the score minus the threshold. Fields that only
    sklearn-asd watch fills, and numbers that are unknown or infinite, are null.

    \b
    Examples:
      sklearn-asd score machines.asd new/
      sklearn-asd score machines.asd tuesday.wav --machine-id pump_3
      sklearn-asd score machines.asd new/ --csv new.csv --report new.html
      sklearn-asd score machines.asd new/ --json

    \b
    Exit codes:
      0  all recordings are normal
      1  some are anomalous
      2  some are unusable (and others may be anomalous), or an error
    """
    template = _load_template() if report else None  # fails now if a package is missing
    loaded = read_model(model, trust)
    pieces = pieces_to_judge(loaded, piece)
    clips = _list(paths, loaded, machine_id, machine_from)
    trained_on = () if loaded.training is None else loaded.training["path"]
    prepare_outputs(
        {"--csv": csv, "--report": report}, [model, *clips["path"], *trained_on]
    )
    n_details = _MAX_DETAILS if report else 0
    told: set[str] = set()
    show = _show_json if as_json else functools.partial(_show, told=told)
    judged, verdicts = judge(loaded.detector, clips, pieces, n_details, show)
    if csv:
        _write_table(judged, csv)
    if report:
        refused = clips[clips["reason"] != ""].set_index("path")["reason"].to_dict()
        _write_report(template, verdicts, loaded, model, refused, report)
    counts = judged["verdict"].value_counts()
    note(_summarize(counts, int((judged["remark"] != "").sum())))
    return 2 if UNUSABLE in counts else int("anomalous" in counts)


def _summarize(counts: pd.Series, n_remarks: int) -> str:
    """Count the verdicts, and those that say little about the machine."""
    kinds = ("normal", "anomalous", UNUSABLE)
    text = ", ".join(f"{counts.get(kind, 0)} {kind}" for kind in kinds)
    text = f"{count(int(counts.sum()), 'recording')}: {text}"
    if n_remarks:
        text += f"; {n_remarks} cannot be compared with those of training (see remarks)"
    return text


def _list(
    paths: list[str], model: Model, machine_id: str | None, machine_from: str | None
) -> pd.DataFrame:
    """List recordings with their machines, and paths without recordings."""
    clips, problems = read_paths(paths, machine_from or model.machine_from)
    clips = assign_machines(clips, model, machine_id, machine_from)
    wrong = pd.DataFrame(problems.items(), columns=["path", "reason"])
    return pd.concat([clips, wrong], ignore_index=True) if problems else clips


def _show(block: pd.DataFrame, told: set[str]) -> None:
    """Print a line for each recording; a long reason that was told is told once."""
    for row in block.itertuples():
        margin = "" if pd.isna(row.margin) else f"{row.margin:.3f}"
        known = row.reason in told and len(row.reason) > _SHORT
        told.add(row.reason)
        reason = f": {'as above' if known else row.reason}" if row.reason else ""
        is_cut = row.verdict == "anomalous" and pd.notna(row.start)
        time = f" from {row.start:g} to {row.stop:g} s" if is_cut else ""
        remark = f" ({row.remark})" if row.remark else ""
        machine = _name_machine(row) or "?"
        # Keeps the line apart from the progress bar if both go to one terminal.
        tqdm.write(
            printable(
                f"{row.verdict:<9} {margin:>9}  {machine}  {row.path}{time}{reason}"
                f"{remark}"
            )
        )


def _show_json(block: pd.DataFrame) -> None:
    for row in block.itertuples():
        entry = LogEntry(
            path=row.path,
            machine_type=row.machine_type,
            machine_id=row.machine_id,
            start=row.start,
            stop=row.stop,
            verdict=row.verdict,
            score=row.score,
            threshold=row.threshold,
            margin=row.margin,
            reason=row.reason or None,
            remark=row.remark or None,
        )
        tqdm.write(entry.as_json())


def _name_machine(row: Any) -> str:
    names = (row.machine_type, row.machine_id)
    return "/".join(name for name in names if pd.notna(name))


def _write_table(judged: pd.DataFrame, path: str) -> None:
    table = judged[_CSV_COLUMNS].astype(object)
    rows = [_CSV_COLUMNS, *table.where(table.notna(), "").to_numpy()]
    text = "".join(",".join(map(_as_cell, row)) + "\n" for row in rows)
    with replacing(path) as file:
        file.write(text.encode())


def _as_cell(value: Any) -> str:
    """Write a value so that spreadsheets show it, and compute nothing."""
    if isinstance(value, float):
        return str(value)
    text = printable(value)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def _load_template() -> Any:
    from sklearn_asd.report.page import load_template

    return load_template()


def _write_report(
    template: Any,
    verdicts: Verdicts,
    model: Model,
    model_path: str,
    refused: dict[str, str],
    path: str,
) -> None:
    from sklearn_asd.report.findings import Findings
    from sklearn_asd.report.page import write_page

    if np.isnan(verdicts.margins).all():
        echo("No report, because no recording could be judged.", err=True)
        return
    normal = model.training
    if normal is not None:  # recordings may have moved since
        normal = normal[[os.path.exists(one) for one in normal["path"]]]
        normal = None if normal.empty else normal
    findings = Findings(
        verdicts, normal, model_path=model_path, X_train=model.training, refused=refused
    )
    with warnings.catch_warnings():
        # Training recordings that cannot be used were named by fit.
        warnings.simplefilter("ignore", UnusableClipWarning)
        write_page(template, findings, path)
