"""What all commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

__all__ = ["CONTEXT", "Failure", "check_writable", "is_terminal"]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 88}


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
