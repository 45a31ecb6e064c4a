"""Published files of recordings: fetched, checked, unpacked, one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import pooch
from tqdm.auto import tqdm

from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import abbreviate

__all__ = ["provide", "read_registry"]

# In an unpacked folder: the names of its files, and their sizes in bytes.
_CONTENTS = ".contents.json"
# Beside the folders: what is not finished, of the process that holds the lock.
_UNFINISHED = ".unfinished"
_LOCK = ".lock"

# In a registry, where no md5 sum is known.
_UNKNOWN = "-"


def read_registry(
    registry: str | os.PathLike[str], root: str | os.PathLike[str], n_retries: int
) -> pooch.Pooch:
    """Read the names, md5 sums and addresses of published files.

    Parameters
    ----------
    registry : str or path-like
        As of pooch: a line for each file with its name, "md5:" and the sum, and its
        address. A file whose sum is not known has "-" instead.

    root : str or path-like
        The folder that they go into.

    n_retries : int
        How often a failed download is tried again.

    Returns
    -------
    published : Pooch
        In its `registry`, None stands for a sum that is not known.
    """
    published = pooch.create(root, base_url="", retry_if_failed=n_retries)
    published.load_registry(registry)
    published.registry = {
        name: None if md5 == _UNKNOWN else md5
        for name, md5 in published.registry.items()
    }
    return published


def provide(
    published: pooch.Pooch,
    names: Sequence[str],
    *,
    download_if_missing: bool,
    verbose: int,
) -> list[Path]:
    """Fetch files, and unpack the archives among them, unless they are there.

    Parameters
    ----------
    published : Pooch
        From :func:`read_registry`.

    names : sequence of str
        Names of the wanted files. What ends in .zip is unpacked into a folder of the
        same name.

    download_if_missing : bool
        Whether to fetch missing files. If False, they are an error.

    verbose : int
        Above 0, show progress.

    Returns
    -------
    paths : list of path
        The folder of each archive, and the path of each other file.

    Raises
    ------
    OSError
        If a file cannot be downloaded or unpacked, its md5 sum is not the published
        one, or it is missing and `download_if_missing` is False.

    BadZipFile
        If an archive without a known md5 sum is damaged.
    """
    root = Path(published.abspath)
    wanted = [root / name.removesuffix(".zip") for name in names]
    missing = [path for path in wanted if not _is_there(published, path)]
    if missing and not download_if_missing:
        _refuse_missing(published, missing)
    if missing:
        with _locked(root, verbose) as unfinished:
            for path in missing:
                _provide(published, path, unfinished, verbose)
    return wanted


def _is_there(published: pooch.Pooch, path: Path) -> bool:
    """Tell whether a file, or the folder of an archive, is complete."""
    if path.name in published.registry:
        return _is_complete(published, path)
    if not any(file.is_file() for file in path.rglob("*")):
        return False
    sizes = _read_contents(published, path)
    if sizes is None:
        warnings.warn(
            f"nothing tells whether {str(path)!r} is complete, since its archive is "
            "gone: delete the folder to fetch it again, or copy the archive beside it "
            "to check it",
            stacklevel=4,
        )
    return sizes is None or not _find_missing(path, sizes)


def _read_contents(published: pooch.Pooch, folder: Path) -> dict[str, int] | None:
    """Look up what a folder must contain, if anything tells."""
    with suppress(OSError, ValueError):  # written by no earlier version
        return json.loads((folder / _CONTENTS).read_bytes())
    archive = folder.with_name(f"{folder.name}.zip")
    if not _is_complete(published, archive):
        return None
    with zipfile.ZipFile(archive) as opened:
        members = [one for one in opened.infolist() if not one.is_dir()]
    sizes = {one.filename: one.file_size for one in members}
    if not _find_missing(folder, sizes):
        with suppress(OSError):  # a folder that is only read is checked each time
            _write_contents(folder, sizes)
    return sizes


def _write_contents(folder: Path, sizes: dict[str, int]) -> None:
    with replacing(folder / _CONTENTS) as file:
        file.write(json.dumps(sizes, indent=0).encode())


def _find_missing(folder: Path, sizes: dict[str, int]) -> list[str]:
    """List the files that are not there, or of another size."""
    return [name for name, size in sizes.items() if _size(folder / name) != size]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _refuse_missing(published: pooch.Pooch, missing: list[Path]) -> None:
    """Refuse what could only be had by downloads."""
    archives = [_source(published, path) for path in missing]
    lacking = [one.name for one in archives if not _is_complete(published, one)]
    if lacking:
        raise OSError(
            f"{abbreviate(lacking, len(lacking))} missing from "
            f"{str(published.abspath)!r:.200}, where "
            f"{abbreviate([path.name for path in missing])} are not complete, and "
            "download_if_missing is False: set it to True, or copy the files "
            "into the folder"
        )


def _source(published: pooch.Pooch, path: Path) -> Path:
    """Name the published file that a folder is unpacked from, or the file itself."""
    is_file = path.name in published.registry
    return path if is_file else path.with_name(f"{path.name}.zip")


def _is_complete(published: pooch.Pooch, path: Path) -> bool:
    """Tell whether a file is the published one, as far as that is known."""
    if not path.is_file():
        return False
    known = published.registry[path.name]
    if known is None:  # what a zip file holds is listed at its end
        return zipfile.is_zipfile(path) if path.suffix == ".zip" else True
    return f"md5:{pooch.file_hash(str(path), alg='md5')}" == known


@contextmanager
def _locked(root: Path, verbose: int) -> Iterator[Path]:
    """Let one process at a time work in an empty folder for what is not finished.

    The system takes the lock from a process that is killed. What that one has left is
    deleted by the next.
    """
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / _UNFINISHED
    lock = filelock.FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if verbose:
            tqdm.write(f"another process fetches into {str(root)!r}: waiting for it")
        lock.acquire(poll_interval=0.1)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        lock.release()


def _provide(
    published: pooch.Pooch, path: Path, unfinished: Path, verbose: int
) -> None:
    """Fetch a file, or unpack an archive, unless another process just has."""
    if _is_there(published, path):
        return
    source = _source(published, path)
    if not _is_complete(published, source):
        _download(published, source, unfinished, verbose)
    if source != path:
        _unpack(source, path, unfinished, verbose)


def _download(
    published: pooch.Pooch, path: Path, unfinished: Path, verbose: int
) -> None:
    """Fetch one file; a wrong or incomplete one is not kept."""
    # pooch's default of 1 kB at a time is slow for gigabytes.
    downloader = pooch.HTTPDownloader(progressbar=verbose > 0, chunk_size=2**20)
    here = pooch.create(
        unfinished,
        base_url="",
        registry=published.registry,
        urls=published.urls,
        retry_if_failed=published.retry_if_failed,
    )
    try:
        new = Path(here.fetch(path.name, downloader=downloader))
        if published.registry[path.name] is None and not _is_complete(published, new):
            raise ValueError("it is no whole zip file")
        os.replace(new, path)
    except (OSError, ValueError) as error:  # ValueError: another md5 sum
        raise OSError(
            f"{path.name} cannot be downloaded from {published.get_url(path.name)} "
            f"({error}): try again (complete files are kept), or copy the file into "
            f"{str(path.parent)!r:.200}"
        ) from error


def _unpack(archive: Path, folder: Path, unfinished: Path, verbose: int) -> None:
    """Unpack into a new folder, or replace what is missing from an old one.

    A new folder appears once it is complete.
    """
    new = unfinished / folder.name
    try:
        _write_contents(new, _extract(archive, new, verbose))
        if folder.exists():
            _complete(folder, new)
        else:
            new.rename(folder)
    except OSError as error:
        raise OSError(
            f"{archive.name} cannot be unpacked into {str(folder)!r} ({error}): make "
            "room, or choose another data_home, and try again"
        ) from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise zipfile.BadZipFile(
            f"{str(archive)!r:.200} is damaged ({error}): delete it, and try again"
        ) from error


def _extract(archive: Path, folder: Path, verbose: int) -> dict[str, int]:
    """Extract all files of an archive, and give their names and sizes."""
    folder.mkdir()
    sizes = {}
    title = f"unpack {archive.name}"
    with zipfile.ZipFile(archive) as opened:
        for member in tqdm(opened.infolist(), title, unit="file", disable=not verbose):
            path = Path(opened.extract(member, folder))  # inside, whatever its name
            if not member.is_dir():
                sizes[path.relative_to(folder).as_posix()] = member.file_size
    return sizes


def _complete(folder: Path, new: Path) -> None:
    """Move files into a folder that lacks them; the list of contents comes first.

    If the process is killed, the list tells that files are missing.
    """
    sizes = json.loads((new / _CONTENTS).read_bytes())
    for name in [_CONTENTS, *_find_missing(folder, sizes)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / name, folder / name)
