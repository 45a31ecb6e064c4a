"""Head of the page: which model judged which recordings."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import pandas as pd

from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd._utils.text import printable
from sklearn_asd._version import __version__
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.report.findings import Findings
from sklearn_asd.report.machines import count_recordings
from sklearn_asd.report.recordings import find_paths
from sklearn_asd.report.times import format_time

__all__ = ["describe_head"]


def describe_head(findings: Findings) -> list[tuple[str, str]]:
    """Say which model judged which recordings, and when.

    Parameters
    ----------
    findings : Findings
        Contents of the page.

    Returns
    -------
    facts : list of (str, str)
        Terms, and what is known of each; terms of which nothing is known are left out.
    """
    judged = _describe(findings.verdicts.X, findings.paths, "recording")
    if findings.refused:
        judged += f"; {count(len(findings.refused), 'further one')} could not be judged"
    now = datetime.datetime.now().astimezone()
    facts = {
        "Model": _describe_model(findings.model_path),
        "Trained on": "",
        "Judged": judged,
        "Recorded": _describe_times(findings),
        "Report of": f"{now:%Y-%m-%d %H:%M %Z}, by sklearn_asd {__version__}",
    }
    if findings.X_train is not None:
        paths = find_paths(findings.X_train, findings.segmenter)
        facts["Trained on"] = _describe(findings.X_train, paths, "normal recording")
    return [(term, fact) for term, fact in facts.items() if fact]


def _describe_model(path: str | os.PathLike[str] | None) -> str:
    if path is None:
        return ""
    name = os.path.abspath(os.fspath(path))
    try:
        made = pd.Timestamp.fromtimestamp(os.stat(name).st_mtime).floor("min")
    except OSError:  # moved since it was read
        return name
    return f"{name}, written on {format_time(made)}"


def _describe(X: Any, paths: dict[int, Path], noun: str) -> str:
    """Count recordings and machines, and name their folder."""
    text = count(count_recordings(X), noun)
    labels = machine_labels(X)
    if labels is not None:
        text += f" of {count(len(set(labels)), 'machine')}"
    return f"{text}, in {_name_folders(paths)}" if paths else text


def _name_folders(paths: dict[int, Path]) -> str:
    """Name the folder that holds all recordings, or their folders."""
    folders = sorted({str(path.parent) for path in paths.values()})
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # on different drives
        common = ""
    if common and common != os.path.dirname(common):  # and not the root
        return common
    return abbreviate([printable(one) for one in folders], 4)


def _describe_times(findings: Findings) -> str:
    times = findings.times
    if not findings.paths:
        return ""
    if not times.source:
        return (
            "times are not known: not all names hold a date, and the files were all "
            "written at about the same time"
        )
    first, last = times.values.min(), times.values.max()
    texts = dict.fromkeys(format_time(one, (first, last)) for one in (first, last))
    return f"{' to '.join(texts)}, by {times.source}"
