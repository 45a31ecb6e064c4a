"""Files that are written as a whole or not at all."""

from __future__ import annotations

import glob
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_outputs", "replacing", "unfinished"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file that replaces an older one once it is complete.

    If the process is killed before that, the older file is unchanged, and
    :func:`unfinished` finds the incomplete one beside it. A pipe, a device, or the
    standard output of this process, such as /dev/stdout, is written to directly.

    Parameters
    ----------
    path : str or path-like
        The file, in a folder that exists. It keeps the permissions of the older one.
        A link is replaced, and what it leads to stays as it is: that may be in a store
        whose files are named by their content, or the model of an earlier day.

    Yields
    ------
    file : binary file
        Open for writing.

    Raises
    ------
    OSError
        If the file cannot be written: it is a folder or write-protected, or its folder
        does not exist or is not writable.
    """
    path = Path(path)
    if _is_stream(path):
        with _open_stream(path) as file:
            yield file
        return
    _refuse_protected(path)
    part = _name_part(path)
    try:
        with open(part, "xb") as file:
            _copy_permissions(path, part)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_outputs(
    outputs: Mapping[str, str | os.PathLike[str]],
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Refuse files that cannot be written, or are read too, before hours of work.

    Parameters
    ----------
    outputs : mapping of str to path
        Files to write with :func:`replacing`, by the options that name them.

    inputs : iterable of path, default=()
        Files to read, which need not exist.

    Raises
    ------
    OSError
        If :func:`replacing` could not write one.

    ValueError
        If two outputs are one file, or one is an input, perhaps by a link.
    """
    files = {opt: Path(path) for opt, path in outputs.items()}
    files = {opt: path for opt, path in files.items() if not _is_stream(path)}
    names: dict[str, str] = {}
    for option, path in files.items():
        _try_to_write(path)
        other = names.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ValueError(
                f"{option} and {other} are one file, {str(path)!r}: name another"
            )
    found = {_identify(path): (opt, path) for opt, path in files.items()}
    found.pop(None, None)  # what does not exist is no input
    for one in inputs if found else ():
        if (key := _identify(one)) in found:
            option, output = found[key]
            raise ValueError(
                f"{option} {str(output)!r} is the file {os.fspath(one)!r}, which is "
                "read, and would be lost: name another"
            )


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
    path = Path(path)
    return list(path.parent.glob(f"{glob.escape(path.name)}-*.tmp"))


def _name_part(path: Path) -> Path:
    return path.with_name(f"{path.name}-{secrets.token_hex(4)}.tmp")


def _is_stream(path: Path) -> bool:
    """Tell what is written to from files, which are replaced."""
    if path.is_file():
        # Replacing the file that the shell opened would lose what is printed.
        return _find_own_output(path) is not None
    return path.exists() and not path.is_dir()


def _open_stream(path: Path) -> BinaryIO:
    own = _find_own_output(path)
    if own is None:
        return open(path, "wb")
    sys.stdout.flush()  # what was printed comes first
    return open(os.dup(own), "wb")


def _find_own_output(path: Path) -> int | None:
    """Find the standard output or error of this process behind a path."""
    for number in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(os.stat(path), os.fstat(number)):
                return number
    return None


def _refuse_protected(path: Path) -> None:
    """Refuse what renaming would replace all the same."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file in it")
    if path.is_file() and not path.is_symlink() and not _may_write(path):
        raise PermissionError(
            f"{str(path)!r} is write-protected: permit writing, or name another file"
        )


def _may_write(path: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.W_OK, effective_ids=effective)


def _try_to_write(path: Path) -> None:
    """Refuse a file that cannot be written, with the reason."""
    _refuse_protected(path)
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{str(path)!r} cannot be written: {str(folder)!r} does not exist"
        )
    part = _name_part(path)
    try:
        open(part, "xb").close()
        part.unlink()
    except OSError as error:
        raise type(error)(
            f"{str(path)!r} cannot be written into {str(folder)!r} "
            f"({error.strerror}): name another file"
        ) from error


def _identify(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Give what is equal for all names and links of a file; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _copy_permissions(old: Path, new: Path) -> None:
    """Give a new file the permissions of an older one; without it, umask decides."""
    if old.is_file() and not old.is_symlink():
        os.chmod(new, stat.S_IMODE(old.stat().st_mode) & 0o777)


def _sync_folder(folder: Path) -> None:
    """Make a renaming survive a loss of power, where the system can."""
    if os.name != "posix":
        return
    with suppress(OSError):  # the file is complete, so this is no failure
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
