"""The recordings of DCASE 2020 Task 2, fetched from Zenodo or read from a folder."""

from __future__ import annotations

import csv
import os
import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pooch
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from sklearn_asd._utils.messages import abbreviate, check_choice
from sklearn_asd.audio import load_clips
from sklearn_asd.audio.machines import DCASE2020_TYPES, MIMII_TYPES, known_labels

__all__ = ["fetch_dcase2020_task2", "load_dcase2020_task2", "read_eval_labels"]

_URL = "https://zenodo.org/records/{record}/files/{name}"

# Zenodo's record and the archives' names for each subset.
_SUBSETS = {
    "dev": (3678171, "dev_data_{}.zip"),
    "additional": (3727685, "eval_data_train_{}.zip"),
    "eval": (3841772, "eval_data_test_{}.zip"),
}
# md5 sums of the archives for each machine type, in the order of the subsets.
_MD5 = {
    "ToyCar": (
        "4dec75ca8d9f666aa9e4c1894a740501",
        "a5d4ccd498af70b04dd74b644b820006",
        "bea2bdd612f616be8f2b8eb087b32c7c",
    ),
    "ToyConveyor": (
        "03b6aa1bfd09a39d53af0ba39f71fa91",
        "0e808ac0b761e9fb13d5e0c65caff00d",
        "ccfcc9847c7d3404d7ee9d6d9e0b2ba2",
    ),
    "fan": (
        "649bdfc06263ae7a838963f43b6641e6",
        "567798854130c8019df8b664c095ed1e",
        "1eb9356a768cadfd0f2e59a5c57e578b",
    ),
    "pump": (
        "90e7091ef722b7238a7f1009365779cd",
        "4e33ae9c0db5cc88437675f5e317caee",
        "23a8f8f924be218c69df67fe07360348",
    ),
    "slider": (
        "da24a757719f0d94d5aa2d646bbfdc86",
        "f84f186f4295fc23754abcdd1b0580a7",
        "0193c769073840332ce3aad84b1ccaa2",
    ),
    "valve": (
        "34d2672f55bb041589ef79c10dc89934",
        "057cdd560caffb8305449541afd28c6d",
        "f69c551d2088691050d20cccca9d631c",
    ),
}
_TRUTH_RECORD, _TRUTH = 3951620, "eval_data_list.csv"
_TRUTH_MD5 = "f16aaa185df9906e588864aaf7cb58ea"

# The IDs tell the subsets apart, whatever the folders are called.
_DEV_IDS = {
    "ToyCar": ("01", "02", "03", "04"),
    "ToyConveyor": ("01", "02", "03"),
    **dict.fromkeys(MIMII_TYPES, ("00", "02", "04", "06")),
}
_EVAL_IDS = {
    "ToyCar": ("05", "06", "07"),
    "ToyConveyor": ("04", "05", "06"),
    **dict.fromkeys(MIMII_TYPES, ("01", "03", "05")),
}

_DESCR = """\
DCASE 2020 Challenge Task 2
===========================

Recordings of six types of machine in factory noise: 16 kHz, one channel, about 10 s
(ToyCar 11 s). ToyCar and ToyConveyor come from ToyADMOS, fan, pump, slider and valve
from MIMII. A machine type has three or four machines (IDs) in the development set, and
three others in the evaluation set.

=============  ====================  ==============================================
subset         machines              recordings
=============  ====================  ==============================================
"dev"          of the development    split "train", normal; "test", of both classes
"additional"   of the evaluation     split "train", normal
"eval"         of the evaluation     split "test", of both classes
=============  ====================  ==============================================

The columns of `data` are those of `load_clips`, and `subset`. `label` is +1 for normal
and -1 for anomalous recordings; those of "eval" are the ground truth published after
the challenge.

The recordings are licensed for non-commercial use, CC BY-NC-SA 4.0. Cite

- Koizumi et al., "ToyADMOS: A Dataset of Miniature-Machine Operating Sounds for
  Anomalous Sound Detection", WASPAA 2019;
- Purohit et al., "MIMII Dataset: Sound Dataset for Malfunctioning Industrial Machine
  Investigation and Inspection", DCASE 2019 Workshop;
- Koizumi et al., "Description and Discussion on DCASE2020 Challenge Task2: Unsupervised
  Anomalous Sound Detection for Machine Condition Monitoring", DCASE 2020 Workshop.
"""


class _Archive(NamedTuple):
    """A file on Zenodo."""

    name: str
    url: str
    md5: str

    def is_in(self, folder: Path) -> bool:
        """Whether the folder holds the complete file."""
        path = folder / self.name
        return path.is_file() and pooch.file_hash(str(path), alg="md5") == self.md5


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
    archives = [_archive(subset, kind) for kind in types for subset in subsets]
    packed = [one for one in archives if not _folder(root, one).is_dir()]
    truth = _Archive(_TRUTH, _URL.format(record=_TRUTH_RECORD, name=_TRUTH), _TRUTH_MD5)
    needed = [*packed, truth] if "eval" in subsets else packed
    missing = _find_missing(needed, root, download_if_missing)
    for one in missing:
        _download(one, root, n_retries, verbose)
    for one in packed:
        _unpack(root / one.name, _folder(root, one), verbose)
    return _describe([_folder(root, one) for one in archives], root / _TRUTH)


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


def _archive(subset: str, machine_type: str) -> _Archive:
    record, pattern = _SUBSETS[subset]
    name = pattern.format(machine_type)
    md5 = _MD5[machine_type][list(_SUBSETS).index(subset)]
    return _Archive(name, _URL.format(record=record, name=name), md5)


def _folder(root: Path, archive: _Archive) -> Path:
    return root / archive.name.removesuffix(".zip")


def _find_missing(
    needed: list[_Archive], root: Path, download_if_missing: bool
) -> list[_Archive]:
    missing = [one for one in needed if not one.is_in(root)]
    if missing and not download_if_missing:
        names = abbreviate([one.name for one in missing])
        raise OSError(
            f"{names} missing from {str(root)!r}, and download_if_missing is False: "
            "set it to True, or copy the files into the folder"
        )
    return missing


def _download(archive: _Archive, root: Path, n_retries: int, verbose: int) -> None:
    """Fetch one file; an incomplete or changed one is not kept."""
    fetcher = pooch.create(
        path=root,
        base_url="",
        registry={archive.name: f"md5:{archive.md5}"},
        urls={archive.name: archive.url},
        retry_if_failed=n_retries,
    )
    # pooch's default of 1 kB at a time is slow for gigabytes.
    downloader = pooch.HTTPDownloader(progressbar=verbose > 0, chunk_size=2**20)
    try:
        fetcher.fetch(archive.name, downloader=downloader)
    except ValueError as error:  # pooch's error for a wrong md5 sum
        raise OSError(
            f"the md5 sum of {archive.name} from {archive.url} is not the published "
            f"{archive.md5}, and the file is not kept: try again, or copy the file "
            f"into {str(root)!r}"
        ) from error
    except OSError as error:
        raise OSError(
            f"{archive.name} cannot be downloaded from {archive.url} ({error}): try "
            f"again (complete files are kept), or copy the file into {str(root)!r}"
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
            f"label: copy {_TRUTH} (Zenodo record {_TRUTH_RECORD}) into the folder, or "
            "pass its path as eval_labels",
            stacklevel=3,
        )
    return Bunch(data=clips, target=clips["label"], DESCR=_DESCR)


def _find_subset(kind: str, identity: str, split: str) -> str | None:
    if identity in _DEV_IDS.get(kind, ()):
        return "dev"
    if identity in _EVAL_IDS.get(kind, ()):
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
