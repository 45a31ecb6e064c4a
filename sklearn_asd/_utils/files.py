"""Files that are written as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing", "unfinished"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file that replaces an older one once it is complete.

    If the process is killed before that, the older file is unchanged, and
    :func:`unfinished` finds the incomplete one beside it. A pipe or device, such as
    /dev/stdout, is written to directly.

    Parameters
    ----------
    path : str or path-like
        The file, in a folder that exists. Links are followed.

    Yields
    ------
    file : binary file
        Open for writing.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    path = path.resolve()
    part = path.with_name(f"{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def unfinished(path: str | os.PathLike[str]) -> list[Path]:
    """Find the incomplete files that killed processes left.

    Parameters
    ----------
    path : str or path-like
        The file that :func:`replacing` was writing.

    Returns
    -------
    parts : list of Path
        Incomplete files beside it.
    """
    path = Path(path).resolve()
    return list(path.parent.glob(f"{path.name}-*.tmp"))


def _sync_folder(folder: Path) -> None:
    """Make a renaming survive a loss of power, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
