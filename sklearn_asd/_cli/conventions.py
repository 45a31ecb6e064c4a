"""What all commands share."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import click

from sklearn_asd._utils.files import check_outputs
from sklearn_asd._utils.text import printable

__all__ = [
    "CONTEXT",
    "be_quiet",
    "channel_option",
    "echo",
    "group_reasons",
    "id_column_option",
    "in_terms_of_command",
    "machine_id_option",
    "note",
    "prepare_outputs",
    "quiet_option",
    "sample_rate_option",
    "shows_progress",
    "train",
]

_LISTED = 8  # paths that have the same reason

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

machine_id_option = click.option(
    "--machine-id",
    metavar="ID",
    help="Machine of all recordings, as ID or TYPE/ID. Default: the one in their names "
    "or folders.",
)

channel_option = click.option(
    "--channel",
    metavar="N",
    type=click.IntRange(0),
    help="Channel of the recordings to train on and judge by, counted from 0. Default: "
    "the mean of all.",
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
    (re.compile(r"choose at most (\d+), or \"mix\""), r"choose at most \1, or none"),
    (re.compile(r", whose reasons `problems` of the result holds"), ""),
    (re.compile(r", and with cache_dir=None are lost"), ""),
    (re.compile(r"\blower n_jobs\b"), "lower --jobs"),
    (re.compile(r"\bdevice=(['\"])([\w:.]*)\1"), r"--device \2"),
    (re.compile(r"choose \"auto\" or \"cpu\""), "choose auto or cpu"),
    (re.compile(r"policy='\w+' needs"), "the threshold needs"),
    (re.compile(r" \(n_samples=\d+\)(?=; at least two)"), ""),
    (re.compile(r", or pass a fitted detector as FrozenEstimator"), ""),
    (re.compile(r", or LogMelSegmenter where .*, of 1 frame each"), ""),
    (re.compile(r"\. In a search, cv=MachineStratifiedKFold\(\).*"), ""),
    (re.compile(r": lower lr\b.*"), ": choose another --seed or --batch-size"),
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


def group_reasons(problems: Mapping[str, str]) -> list[str]:
    """Write what is wrong with paths, each reason once.

    Parameters
    ----------
    problems : mapping of str to str
        A reason for each path, to complete a sentence.

    Returns
    -------
    lines : list of str
        "path reason" for a reason of one path, "n files reason: path, path and n more"
        for others.
    """
    paths: dict[str, list[str]] = {}
    for path, reason in problems.items():
        paths.setdefault(reason, []).append(printable(path))
    lines = []
    for reason, some in paths.items():
        n_more = len(some) - _LISTED
        names = ", ".join(some[:_LISTED]) + f" and {n_more} more" * (n_more > 0)
        many = f"{len(some)} files, each {printable(reason)}: {names}"
        lines.append(many if len(some) > 1 else f"{names} {printable(reason)}")
    return lines


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


def train(detector: Any, clips: Any) -> tuple[float, dict[int, str]]:
    """Fit a detector, and name the recordings that it could not use.

    Returns
    -------
    seconds : float
        How long it took.

    unusable : dict of int to str
        Rows of `clips` that could not be used, with the reason.
    """
    started = time.perf_counter()
    show, unusable = warnings.showwarning, {}

    def keep(message: Any, *rest: Any, **more: Any) -> None:
        if problems := getattr(message, "problems", None):  # of UnusableClipWarning
            unusable.update(problems)
        else:
            show(message, *rest, **more)

    try:
        # Progress is not output.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.showwarning = keep
            detector.fit(clips)
    finally:  # an error may follow from them
        # Built-in sounds have no path.
        names = list(clips.get("path", clips.index))
        problems = {
            str(names[row]): in_terms_of_command(reason)
            for row, reason in unusable.items()
        }
        for line in group_reasons(problems):
            echo(f"Left out: {line}", err=True)
    return time.perf_counter() - started, unusable
