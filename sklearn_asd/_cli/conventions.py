"""What all commands share."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

__all__ = [
    "CONTEXT",
    "Failure",
    "check_writable",
    "id_column_option",
    "is_terminal",
    "sample_rate_option",
    "train",
]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 88}

id_column_option = click.option(
    "--id-column",
    metavar="NAME",
    default="machine_id",
    help="Attribute in the file names that tells machines apart, such as car. "
    "Default: the ID in the names, or the folders.",
)

sample_rate_option = click.option(
    "--sample-rate",
    metavar="HZ",
    type=click.FloatRange(0, min_open=True),
    help="Sample rate of the analysis: that of the recordings, or less. Default: "
    "16000, or the highest of the recordings if that is lower.",
)


class Failure(click.ClickException):
    """An error that the user can correct. Exit code 1 would mean anomalies."""

    exit_code = 2


def check_writable(path: str | None) -> None:
    """Refuse a file that cannot be written, before hours of work."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    if Path(path).is_dir():
        raise Failure(f"{path!r} is a folder: name a file in it")
    if Path(path).exists() and not Path(path).is_file():
        return  # a pipe or device, such as /dev/stdout
    if not folder.is_dir():
        raise Failure(f"{path!r} cannot be written: there is no folder {str(folder)!r}")
    if not os.access(folder, os.W_OK):
        raise Failure(f"{path!r} cannot be written: {str(folder)!r} is not writable")


def is_terminal() -> bool:
    """Tell whether standard error is a terminal, so that progress is seen."""
    return sys.stderr.isatty()


def train(detector: Any, clips: Any) -> float:
    """Fit a detector, and return the seconds that it took."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # progress is not output
        detector.fit(clips)
    return time.perf_counter() - started
