"""What all commands share."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import click

from sklearn_asd._utils.files import check_outputs
from sklearn_asd._utils.text import printable

__all__ = [
    "CONTEXT",
    "echo",
    "id_column_option",
    "is_terminal",
    "prepare_outputs",
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


def echo(text: str, err: bool = False) -> None:
    """Print lines, without what a terminal would obey.

    A name within a line should be printable before, as it may hold a line break.
    """
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


def prepare_outputs(outputs: dict[str, str | None], inputs: Iterable[str]) -> None:
    """Refuse what cannot be written or is read, before hours of work."""
    named = {option: path for option, path in outputs.items() if path is not None}
    check_outputs(named, inputs)
    for path in named.values():
        if os.path.islink(path) and os.path.isfile(path):
            target = printable(os.readlink(path))
            echo(f"{printable(path)} will be a file, and no link to {target}", err=True)


def is_terminal() -> bool:
    """Tell whether standard error is a terminal, so that progress is seen."""
    return sys.stderr.isatty()


def train(detector: Any, clips: Any) -> float:
    """Fit a detector, and return the seconds that it took."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # progress is not output
        detector.fit(clips)
    return time.perf_counter() - started
