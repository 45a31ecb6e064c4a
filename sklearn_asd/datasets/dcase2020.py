"""The recordings of DCASE 2020 Task 2, fetched from Zenodo or read from a folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sklearn_asd.audio.machines import DCASE2020_TYPES, MIMII_TYPES
from sklearn_asd.datasets.archives import provide, read_registry
from sklearn_asd.datasets.subsets import (
    choose_names,
    fill_in,
    list_subsets,
    warn_unlabelled,
)

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
    types = choose_names("machine_types", machine_types, DCASE2020_TYPES)
    subsets = choose_names("subsets", subsets, list(_SUBSETS))
    root = Path(get_data_home(data_home)) / "dcase2020_task2"
    published = read_registry(_REGISTRY, root, n_retries)
    names = [f"{_SUBSETS[one]}_{kind}.zip" for kind in types for one in subsets]
    wanted = [*names, _TRUTH] if "eval" in subsets else names
    paths = provide(
        published, wanted, download_if_missing=download_if_missing, verbose=verbose
    )
    return _describe(paths[: len(names)], *paths[len(names) :])


def load_dcase2020_task2(folder, *, eval_labels=None):
    r"""List recordings of DCASE 2020 Task 2 in a folder.

    Parameters
    ----------
    folder : str or path-like
        Folder of the unpacked archives, with recordings in ``<type>/train`` and
        ``<type>/test`` at any depth.

    eval_labels : str, path-like or None, default=None
        ``eval_data_list.csv``, the published ground truth of the evaluation set, or a
        folder with it. None looks for it below the folder of the recordings.

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
    where = Path(folder if eval_labels is None else eval_labels)
    if where.is_dir():
        found = next(iter(sorted(where.rglob(_TRUTH))), None)
        if found is None and eval_labels is not None:
            raise FileNotFoundError(f"no {_TRUTH} in {str(where)!r:.200}")
        eval_labels = found
    return _describe([folder], eval_labels)


def _describe(
    folders: Sequence[str | os.PathLike[str]],
    truth: str | os.PathLike[str] | None = None,
) -> Bunch:
    """List recordings, with their subset and the evaluation set's labels."""
    clips = list_subsets(folders, _find_subset, "DCASE 2020 Task 2")
    labels = {} if truth is None else read_eval_labels(truth)
    clips = fill_in(clips, {key: {"label": one} for key, one in labels.items()})
    warn_unlabelled(
        clips,
        f"copy {_TRUTH} (Zenodo record 3951620) into the folder, or pass its path as "
        "eval_labels",
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
