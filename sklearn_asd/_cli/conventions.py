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
    "check_writable",
    "id_column_option",
    "is_terminal",
    "sample_rate_option",
    "train",
]

CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 88,
    "show_default": True,
}

id_column_option = click.option(
    "--id-column",
    metavar="NAME",
    default="machine_id",
    show_default="the ID in the names, or the folders",
    help="Attribute in the file names that tells machines apart, such as car.",
)

sample_rate_option = click.option(
    "--sample-rate",
    metavar="HZ",
    type=click.FloatRange(0, min_open=True),
    help="Sample rate of the analysis: that of the recordings, or less. Default: "
    "16000, or the highest of the recordings if that is lower.",
)


def check_writable(path: str) -> None:
    """Refuse a file that cannot be written, before hours of work."""
    folder = Path(path).resolve().parent
    if Path(path).is_dir():
        raise ValueError(f"{path!r} is a folder: name a file in it")
    if Path(path).exists() and not Path(path).is_file():
        return  # a pipe or device, such as /dev/stdout
    if not os.access(folder, os.W_OK):
        problem = "is not writable" if folder.is_dir() else "does not exist"
        raise ValueError(f"{path!r} cannot be written: {str(folder)!r} {problem}")


def is_terminal() -> bool:
    """Tell whether standard error is a terminal, so that progress is seen."""
    return sys.stderr.isatty()


def train(detector: Any, clips: Any) -> float:
    """Fit a detector, and return the seconds that it took."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # progress is not output
        detector.fit(clips)
    return time.perf_counter() - started
