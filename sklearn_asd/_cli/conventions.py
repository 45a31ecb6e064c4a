"""What all commands share."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

import click

from sklearn_asd._utils.files import check_outputs
from sklearn_asd._utils.text import printable

__all__ = [
    "CONTEXT",
    "be_quiet",
    "echo",
    "id_column_option",
    "in_terms_of_command",
    "note",
    "prepare_outputs",
    "quiet_option",
    "sample_rate_option",
    "shows_progress",
    "train",
]

_QUIET = "sklearn_asd.quiet"

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


def be_quiet(
    context: click.Context, _: click.Parameter | None = None, quiet: bool = True
) -> None:
    """Take ``--quiet``, or do as if it was given."""
    context.meta[_QUIET] = quiet


quiet_option = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,  # `note` and `shows_progress` know it
    callback=be_quiet,
    help="Print results, warnings and errors only: no progress and no counts.",
)

# What the library says of its parameter, and the command of its option.
_TERMS = (
    (
        re.compile(r"below sample_rate=([\d.e+]+), so"),
        r"below the sample rate of \1 Hz, so",
    ),
    (
        re.compile(r"set sample_rate=([\d.e+]+) for all clips"),
        r"fit the model with --sample-rate \1",
    ),
    (
        re.compile(r"lower segment_duration, pad, or leave it out"),
        "make it longer, or leave it out",
    ),
    (re.compile(r"\bchannel=(\d+)"), r"--channel \1"),
    (
        re.compile(r"sample_rate=([\d.e+]+) Hz of the stream"),
        r"the sample rate of the stream, \1 Hz,",
    ),
    (re.compile(r"\bwindow=None s, and"), "there is no --window, and"),
    (re.compile(r"\bwindow=([\d.e+-]+) s\b"), r"--window \1"),
    (re.compile(r"\bhop=([\d.e+-]+) s\b"), r"--hop \1"),
    (re.compile(r"set window to it, or fit.*"), "set --window to it"),
)


def echo(text: str, err: bool = False) -> None:
    """Print lines, without what a terminal would obey.

    A name within a line should be printable before, as it may hold a line break.
    """
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


def note(text: str) -> None:
    """Print lines on standard error that ``--quiet`` leaves out."""
    if not _is_quiet():
        echo(text, err=True)


def in_terms_of_command(text: str) -> str:
    """Replace parameters of the library in a message by options of the command."""
    for pattern, words in _TERMS:
        text = pattern.sub(words, text)
    return text


def prepare_outputs(outputs: dict[str, str | None], inputs: Iterable[str]) -> None:
    """Refuse what cannot be written or is read, before hours of work."""
    named = {option: path for option, path in outputs.items() if path is not None}
    check_outputs(named, inputs)
    for path in named.values():
        if os.path.islink(path) and os.path.isfile(path):
            target = printable(os.readlink(path))
            echo(f"{printable(path)} will be a file, and no link to {target}", err=True)


def shows_progress() -> bool:
    """Tell whether progress is wanted, and seen: standard error is a terminal."""
    return sys.stderr.isatty() and not _is_quiet()


def _is_quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(_QUIET, False)


def train(detector: Any, clips: Any) -> float:
    """Fit a detector, and return the seconds that it took."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # progress is not output
        detector.fit(clips)
    return time.perf_counter() - started
