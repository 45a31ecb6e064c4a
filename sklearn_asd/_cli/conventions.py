"""What all commands do alike."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

__all__ = ["CONTEXT", "Failure", "check_writable", "is_terminal"]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 88}


class Failure(click.ClickException):
    """An error that the user can mend; 1 would say that there are anomalies."""

    exit_code = 2


def check_writable(path: str | None) -> None:
    """Say now, and not after hours, that a file cannot be written."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise Failure(f"{path!r} cannot be written: there is no folder {str(folder)!r}")
    if Path(path).is_dir():
        raise Failure(f"{path!r} is a folder: name a file in it")
    if not os.access(folder, os.W_OK):
        raise Failure(f"{path!r} cannot be written: {str(folder)!r} is not writable")


def is_terminal() -> bool:
    """Tell whether somebody looks at the progress."""
    return sys.stderr.isatty()
