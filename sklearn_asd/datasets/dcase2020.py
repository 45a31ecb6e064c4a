"""The recordings of DCASE 2020 Task 2, fetched from Zenodo or read from a folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import pandas as pd
import pooch
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from sklearn_asd._utils.files import replacing
from sklearn_asd._utils.messages import abbreviate, check_choice
from sklearn_asd.audio import load_clips
from sklearn_asd.audio.machines import DCASE2020_TYPES, MIMII_TYPES, known_labels

__all__ = ["fetch_dcase2020_task2", "load_dcase2020_task2", "read_eval_labels"]

_REGISTRY = Path(__file__).with_name("dcase2020_task2.txt")
_DESCR = Path(__file__).with_name("dcase2020_task2.rst")

# How the names of a subset's archives start.
_SUBSETS = {
    "dev": "dev_data",
    "additional": "eval_data_train",
    "eval": "eval_data_test",
}
_TRUTH = "eval_data_list.csv"

# In an unpacked folder: the names of its files, and their sizes in bytes.
_CONTENTS = ".contents.json"
# Beside the folders: what is not finished, of the process that holds the lock.
_UNFINISHED = ".unfinished"
_LOCK = ".lock"

# IDs of the development and of the evaluation set for each machine type. They tell the
# subsets apart, whatever the folders are called.
_IDS = {
    "ToyCar": (("01", "02", "03", "04"), ("05", "06", "07")),
    "ToyConveyor": (("01", "02", "03"), ("04", "05", "06")),
    **dict.fromkeys(MIMII_TYPES, (("00", "02", "04", "06"), ("01", "03", "05"))),
}


def fetch_dcase2020_task2(
    *,
    data_home=None,
    machine_types=None,
    subsets=("dev", "additional", "eval"),
    download_if_missing=True,
    n_retries=3,
    verbose=1,
):
    """Fetch the recordings of DCASE 2020 Task 2 from Zenodo, and list them.

    Complete archives are not fetched or unpacked again, so a second call continues
    where an interrupted one stopped, and replaces unpacked files that are missing or
    of another size. Processes that call it at once take turns.

    Parameters
    ----------
    data_home : str, path-like or None, default=None
        Folder of data sets; None is scikit-learn's
        (:func:`sklearn.datasets.get_data_home`). The recordings go into its subfolder
        ``dcase2020_task2``, each archive into a folder of the same name.

    machine_types : str, sequence of str or None, default=None
        Any of "ToyCar", "ToyConveyor", "fan", "pump", "slider" and "valve"; None is
        all.

    subsets : str or sequence of str, default=("dev", "additional", "eval")
        "dev" is the development set, "additional" the training recordings of the
        evaluation machines, and "eval" their test recordings.

    download_if_missing : bool, default=True
        Whether to fetch missing archives. If False, they are an error.

    n_retries : int, default=3
        How often a failed download is tried again.

    verbose : int, default=1
        Above 0, show progress.

    Returns
    -------
    dataset : Bunch
        With the attributes

        - `data`: DataFrame with a row for each recording, as
          :func:`~sklearn_asd.load_clips` makes it, with the additional column `subset`
          and the evaluation set's ground truth in `label`;
        - `target`: Series, the column `label`: +1 normal, -1 anomalous;
        - `DESCR`: str, a description with the licence and the papers to cite.

    Raises
    ------
    OSError
        If an archive cannot be downloaded or unpacked, its md5 sum is not the published
        one, or it is missing and `download_if_missing` is False. An incomplete or wrong
        archive is not kept.

    ValueError
        If a machine type or subset is unknown.

    Warns
    -----
    UserWarning
        If a folder was unpacked by other means and its archive is gone, so that nothing
        tells whether it is complete.

    See Also
    --------
    load_dcase2020_task2 : Lists recordings that are already on disk.

    Notes
    -----
    The recordings are licensed for non-commercial use (CC BY-NC-SA 4.0).

    A recording takes about 320 kB, and a machine can have more than a thousand: expect
    one or two GB for each archive, and as much again unpacked. Archives may be deleted
    once they are unpacked.

    Without a connection to Zenodo, copy the archives into the folder
    ``dcase2020_task2``.

    Examples
    --------
    >>> from sklearn_asd.datasets import fetch_dcase2020_task2
    >>> valves = fetch_dcase2020_task2(machine_types="valve")  # doctest: +SKIP
    >>> train = valves.data[valves.data["split"] == "train"]  # doctest: +SKIP
    """
    types = _choose("machine_types", machine_types, DCASE2020_TYPES)
    subsets = _choose("subsets", subsets, _SUBSETS)
    root = Path(get_data_home(data_home)) / "dcase2020_task2"
    folders = [root / f"{_SUBSETS[one]}_{kind}" for kind in types for one in subsets]
    published = pooch.create(root, base_url="", retry_if_failed=n_retries)
    published.load_registry(_REGISTRY)
    wanted = [*folders, root / _TRUTH] if "eval" in subsets else folders
    missing = [path for path in wanted if not _is_there(published, path)]
    if missing and not download_if_missing:
        _refuse_missing(published, missing)
    if missing:
        with _locked(root, verbose) as unfinished:
            for path in missing:
                _provide(published, path, unfinished, verbose)
    return _describe(folders, root / _TRUTH)


def load_dcase2020_task2(folder, *, eval_labels=None):
    r"""List recordings of DCASE 2020 Task 2 in a folder.

    Parameters
    ----------
    folder : str or path-like
        Folder of the unpacked archives, with recordings in ``<type>/train`` and
        ``<type>/test`` at any depth.

    eval_labels : str, path-like or None, default=None
        ``eval_data_list.csv``, the published ground truth of the evaluation set. None
        looks for it below the folder.

    Returns
    -------
    dataset : Bunch
        `data`, `target` and `DESCR`, as of :func:`fetch_dcase2020_task2`. Without the
        ground truth, labels of the evaluation set are missing.

    Raises
    ------
    FileNotFoundError
        If the folder or the list does not exist.

    ValueError
        If the folder holds no recordings, or recordings of other machines.

    Warns
    -----
    UserWarning
        If labels of the evaluation set are missing.

    See Also
    --------
    fetch_dcase2020_task2 : Fetches the recordings from Zenodo.
    sklearn_asd.load_clips : Lists recordings of any machines.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_asd.datasets import load_dcase2020_task2
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["train/normal_id_01_00000000.wav", "test/id_01_00000000.wav"]:
    ...         Path(folder, "fan", name).parent.mkdir(parents=True)
    ...         Path(folder, "fan", name).touch()
    ...     _ = Path(folder, "eval_data_list.csv").write_text(
    ...         "fan\nid_01_00000000.wav,anomaly_id_01_00000007.wav,1\n")
    ...     dataset = load_dcase2020_task2(folder)
    >>> dataset.data[["machine_type", "machine_id", "split", "label", "subset"]]
      machine_type machine_id  split  label      subset
    0          fan         01   test     -1        eval
    1          fan         01  train      1  additional
    """
    if eval_labels is None:
        eval_labels = next(iter(sorted(Path(folder).rglob(_TRUTH))), None)
    return _describe([folder], eval_labels)


def _choose(name: str, wanted: str | Sequence[str] | None, known) -> list[str]:
    """List the wanted names in the order of the known ones."""
    if wanted is None:
        return list(known)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for one in names:
        check_choice(f"{name}:", one, known)
    if not names:
        raise ValueError(f"{name} is empty: name one or more of {', '.join(known)}")
    return [one for one in known if one in names]


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
            stacklevel=3,
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
            f"{abbreviate(lacking)} missing from {str(published.abspath)!r:.200}, "
            f"where {abbreviate([path.name for path in missing])} are not complete, "
            "and download_if_missing is False: set it to True, or copy the files "
            "into the folder"
        )


def _source(published: pooch.Pooch, path: Path) -> Path:
    """Name the published file that a folder is unpacked from, or the file itself."""
    is_file = path.name in published.registry
    return path if is_file else path.with_name(f"{path.name}.zip")


def _is_complete(published: pooch.Pooch, path: Path) -> bool:
    """Tell whether a file is the published one."""
    if not path.is_file():
        return False
    md5 = pooch.file_hash(str(path), alg="md5")
    return f"md5:{md5}" == published.registry[path.name]


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
        os.replace(here.fetch(path.name, downloader=downloader), path)
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


def _describe(
    folders: Sequence[str | os.PathLike[str]], truth: str | os.PathLike[str] | None
) -> Bunch:
    """List recordings, with their subset and the evaluation set's labels."""
    clips = pd.concat([load_clips(one) for one in folders], ignore_index=True)
    clips["subset"] = [
        _find_subset(*facts)
        for facts in clips[["machine_type", "machine_id", "split"]].to_numpy()
    ]
    others = clips[clips["subset"].isna()]
    if len(others):
        machines = sorted(set(known_labels(others, "to find their subset")))
        raise ValueError(
            f"machines {abbreviate(machines)} are not of DCASE 2020 Task 2: use "
            "load_clips for other recordings"
        )
    if clips["label"].isna().any() and truth is not None:
        labels = read_eval_labels(truth)
        names = clips["path"].map(os.path.basename)
        keys = zip(clips["machine_type"], names, strict=True)
        found = pd.Series([labels.get(key) for key in keys], dtype="Int64")
        clips["label"] = clips["label"].fillna(found)
    if clips["label"].isna().any():
        warnings.warn(
            f"{clips['label'].isna().sum()} recordings of the evaluation set have no "
            f"label: copy {_TRUTH} (Zenodo record 3951620) into the folder, or pass "
            "its path as eval_labels",
            stacklevel=3,
        )
    return Bunch(data=clips, target=clips["label"], DESCR=_DESCR.read_text())


def _find_subset(kind: str, identity: str, split: str) -> str | None:
    development, evaluation = _IDS.get(kind, ((), ()))
    if identity in development:
        return "dev"
    if identity in evaluation:
        return "additional" if split == "train" else "eval"
    return None


def read_eval_labels(path: str | os.PathLike[str]) -> dict[tuple[str, str], int]:
    """Read the published ground truth of the evaluation set.

    Parameters
    ----------
    path : str or path-like
        ``eval_data_list.csv``: for each machine type a row with its name, then rows of
        file name, original name, and 1 if anomalous.

    Returns
    -------
    labels : dict of (str, str) to int
        +1 or -1 for each machine type and file name.
    """
    labels: dict[tuple[str, str], int] = {}
    kind = ""
    with open(path, newline="") as file:
        for row in csv.reader(file):
            if len(row) == 1:
                (kind,) = row
            elif row:
                labels[kind, row[0]] = -1 if row[2] == "1" else 1
    return labels
