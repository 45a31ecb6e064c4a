"""The recordings of DCASE 2020 Task 2, fetched from Zenodo or read from a folder."""

from __future__ import annotations

import csv
import os
import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pooch
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from tqdm.auto import tqdm

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
    where an interrupted one stopped.

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
        If an archive cannot be downloaded, its md5 sum is not the published one, or it
        is missing and `download_if_missing` is False. An incomplete or wrong archive
        is not kept.

    ValueError
        If a machine type or subset is unknown.

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
    packed = [folder for folder in folders if not folder.is_dir()]
    needed = [f"{folder.name}.zip" for folder in packed]
    if "eval" in subsets:
        needed.append(_TRUTH)
    zenodo = pooch.create(path=root, base_url="", retry_if_failed=n_retries)
    zenodo.load_registry(_REGISTRY)
    if download_if_missing:
        for name in needed:
            _download(zenodo, name, verbose)
    else:
        _refuse_missing(zenodo, needed)
    for folder in packed:
        _unpack(folder.with_name(f"{folder.name}.zip"), folder, verbose)
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


def _refuse_missing(zenodo: pooch.Pooch, needed: list[str]) -> None:
    missing = [name for name in needed if not _is_complete(zenodo, name)]
    if missing:
        raise OSError(
            f"{abbreviate(missing)} missing from {str(zenodo.abspath)!r:.200}, and "
            "download_if_missing is False: set it to True, or copy the files into the "
            "folder"
        )


def _is_complete(zenodo: pooch.Pooch, name: str) -> bool:
    path = zenodo.abspath / name
    if not path.is_file():
        return False
    return f"md5:{pooch.file_hash(str(path), alg='md5')}" == zenodo.registry[name]


def _download(zenodo: pooch.Pooch, name: str, verbose: int) -> None:
    """Fetch one file unless it is complete; a wrong one is not kept."""
    # pooch's default of 1 kB at a time is slow for gigabytes.
    downloader = pooch.HTTPDownloader(progressbar=verbose > 0, chunk_size=2**20)
    try:
        zenodo.fetch(name, downloader=downloader)
    except (OSError, ValueError) as error:  # ValueError: another md5 sum
        raise OSError(
            f"{name} cannot be downloaded from {zenodo.get_url(name)} ({error}): try "
            "again (complete files are kept), or copy the file into "
            f"{str(zenodo.abspath)!r:.200}"
        ) from error


def _unpack(archive: Path, folder: Path, verbose: int) -> None:
    """Unpack into a new folder, which appears once it is complete."""
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir(parents=True)
    title = f"unpack {archive.name}"
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in tqdm(members, title, unit="file", disable=not verbose):
                opened.extract(member, unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
