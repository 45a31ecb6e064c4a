"""The recordings of DCASE Task 2 of all years, fetched or read from a folder."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sklearn_asd.audio.folders import read_name
from sklearn_asd.audio.naming import read_folder_name
from sklearn_asd.datasets.archives import provide, read_registry
from sklearn_asd.datasets.dcase2020 import fetch_dcase2020_task2, load_dcase2020_task2
from sklearn_asd.datasets.subsets import (
    choose_names,
    fill_in,
    list_subsets,
    warn_unlabelled,
)

__all__ = ["fetch_dcase", "load_dcase", "read_eval_names"]

# What is published: for each year a list of files. Their names tell the machine types.
_REGISTRIES = {
    year: Path(__file__).with_name(f"dcase{year}_task2.txt")
    for year in range(2021, 2027)
}
_DESCR = Path(__file__).with_name("dcase_task2.rst")

_SUBSETS = ("dev", "additional", "eval")
# dev_data_fan.zip (2021), dev_fan.zip, eval_data_fan_train.zip, eval_data_fan_test.zip;
# _r2 marks a correction.
_ARCHIVE = re.compile(
    r"(?:dev(?:_data)?|eval_data)_(?P<type>[^_]+)(?:_(?P<split>train|test))?(?:_r\d+)?"
)
_REVISION = re.compile(r"_r\d+$")
# In 2021 and 2022, when the machine types of both sets are the same.
_DEV_SECTIONS = ("00", "01", "02")
# Lists of the ground truth: one for all machine types, and since 2026 one for each.
_TRUTH_OF_TYPE = re.compile(r"ground_truth_(?P<type>.+)_section_\d+_test\.csv")


def fetch_dcase(
    year,
    *,
    data_home=None,
    machine_types=None,
    subsets=("dev", "additional", "eval"),
    download_if_missing=True,
    n_retries=3,
    verbose=1,
):
    """Fetch the recordings of DCASE Task 2 of a year, and list them.

    Complete archives are not fetched or unpacked again, so a second call continues
    where an interrupted one stopped, and replaces unpacked files that are missing or
    of another size. Processes that call it at once take turns.

    Parameters
    ----------
    year : int
        2020 to 2026.

    data_home : str, path-like or None, default=None
        Folder of data sets; None is scikit-learn's
        (:func:`sklearn.datasets.get_data_home`). The recordings go into its subfolder
        ``dcase<year>_task2``, each archive into a folder of the same name.

    machine_types : str, sequence of str or None, default=None
        Machine types of the year, such as "fan"; None is all. Since 2023 a type is
        either of the development set or of the evaluation set.

    subsets : str or sequence of str, default=("dev", "additional", "eval")
        "dev" is the development set, "additional" the training recordings of the
        evaluation set, and "eval" its test recordings.

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
          :func:`~sklearn_asd.load_clips` makes it, with the additional column `subset`.
          Since 2021, `section` (also in `machine_id`), `domain` and the attributes are
          columns. The evaluation set's ground truth is in `label`, `domain` and the
          attributes;
        - `target`: Series, the column `label`: +1 normal, -1 anomalous, missing for
          supplemental recordings whose names do not tell;
        - `DESCR`: str, a description with the licence and the papers to cite.

    Raises
    ------
    OSError
        If an archive cannot be downloaded or unpacked, its md5 sum is not the published
        one, or it is missing and `download_if_missing` is False. An incomplete or wrong
        download is not kept.

    BadZipFile
        If an archive whose md5 sum is not known here is damaged.

    ValueError
        If the year, a machine type or a subset is unknown, or there are no recordings
        of the types in the subsets.

    Warns
    -----
    UserWarning
        If a folder was unpacked by other means and its archive is gone, so that nothing
        tells whether it is complete; or if recordings of the evaluation set are not in
        the published ground truth.

    See Also
    --------
    load_dcase : Lists recordings that are already on disk.
    sklearn_asd.metrics.dcase_score : The official score of each year.

    Notes
    -----
    The recordings are licensed for non-commercial use (CC BY-NC-SA 4.0). Expect 0.1 to
    2 GB for each archive, and as much again unpacked. Archives may be deleted once they
    are unpacked.

    The archives are those of the Zenodo records that the challenge's baselines name
    (development, additional training, evaluation): 4562016, 4660992, 4884786 (2021);
    6355122, 6462969, 6586456 (2022); 7882613, 7830345, 7860847 (2023); 10902294,
    11259435, 11363076 (2024); 15097779, 15392814, 15519362 (2025); 19336329, 20151556,
    20437238 (2026). The md5 sums of 2020, 2023 and of most archives of 2026 are
    checked. The md5 sums of the others are not known here; those archives are checked
    to be whole zip files, with the right check sum for each recording. The ground truth
    of 2021 to 2025 is that of the repository nttcslab/dcase2023_task2_baseline_ae, and
    that of 2026 of nttcslab/dcase2026_task2_evaluator, each at one commit, and is not
    checked.

    Without a connection, copy the archives and the lists of the ground truth into the
    folder ``dcase<year>_task2``. The error of ``download_if_missing=False`` names what
    is missing.

    Examples
    --------
    >>> from sklearn_asd.datasets import fetch_dcase
    >>> fans = fetch_dcase(2023, machine_types="fan")  # doctest: +SKIP
    >>> train = fans.data[fans.data["split"] == "train"]  # doctest: +SKIP
    >>> train["domain"].value_counts()  # doctest: +SKIP
    domain
    source    990
    target     10
    """
    _check_year(year)
    if year == 2020:
        return fetch_dcase2020_task2(
            data_home=data_home,
            machine_types=machine_types,
            subsets=subsets,
            download_if_missing=download_if_missing,
            n_retries=n_retries,
            verbose=verbose,
        )
    root = Path(get_data_home(data_home)) / f"dcase{year}_task2"
    published = read_registry(_REGISTRIES[year], root, n_retries)
    names = _choose_archives(year, published.registry, machine_types, subsets)
    lists = _choose_lists(published.registry, names)
    paths = provide(
        published,
        [*names, *lists],
        download_if_missing=download_if_missing,
        verbose=verbose,
    )
    return _describe(year, paths[: len(names)], paths[len(names) :])


def load_dcase(folder, year, *, eval_labels=None):
    r"""List recordings of DCASE Task 2 of a year in a folder.

    Parameters
    ----------
    folder : str or path-like
        Folder of the unpacked archives, with recordings in ``<type>/train`` and
        ``<type>/test`` (2021: ``<type>/source_test`` and ``<type>/target_test``) at any
        depth.

    year : int
        2020 to 2026.

    eval_labels : str, path-like or None, default=None
        The published ground truth of the evaluation set, or the folder it is in:
        ``eval_data_list.csv`` (2020), ``eval_data_list_<year>.csv`` (2021 to 2025), or
        ``ground_truth_<type>_section_00_test.csv`` (2026) with the attributes. None
        looks for it below the folder.

    Returns
    -------
    dataset : Bunch
        `data`, `target` and `DESCR`, as of :func:`fetch_dcase`. Without the ground
        truth, labels of the evaluation set are missing.

    Raises
    ------
    FileNotFoundError
        If the folder or the list does not exist.

    ValueError
        If the year is unknown, or the folder holds no recordings, or recordings of
        other machines.

    Warns
    -----
    UserWarning
        If labels of the evaluation set are missing.

    See Also
    --------
    fetch_dcase : Fetches the recordings.
    sklearn_asd.load_clips : Lists recordings of any machines.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_asd.datasets import load_dcase
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["train/section_00_source_train_normal_0000_vel_15.wav",
    ...                  "test/section_00_0000.wav"]:
    ...         Path(folder, "bandsaw", name).parent.mkdir(parents=True)
    ...         Path(folder, "bandsaw", name).touch()
    ...     _ = Path(folder, "eval_data_list_2023.csv").write_text(
    ...         "bandsaw\nsection_00_0000.wav,"
    ...         "section_00_target_test_anomaly_0000_vel_12.wav\n")
    ...     dataset = load_dcase(folder, 2023)
    >>> dataset.data[["section", "split", "label", "domain", "vel", "subset"]]
      section  split  label  domain vel      subset
    0      00   test     -1  target  12        eval
    1      00  train      1  source  15  additional
    """
    _check_year(year)
    if year == 2020:
        return load_dcase2020_task2(folder, eval_labels=eval_labels)
    where = Path(folder if eval_labels is None else eval_labels)
    if eval_labels is not None and not where.exists():
        raise FileNotFoundError(f"there is no list or folder {str(where)!r:.200}")
    published = read_registry(_REGISTRIES[year], folder, 0)
    lists = [where]
    if where.is_dir():
        found = where.rglob("*.csv")
        lists = sorted(path for path in found if path.name in published.registry)
    return _describe(year, [folder], lists)


def _check_year(year: int) -> None:
    if year != 2020 and year not in _REGISTRIES:
        raise ValueError(f"year={year!r:.200} is unknown: it is one of 2020 to 2026")


def _read_archive(name: str) -> tuple[str, str] | None:
    """Read the machine type and the subset in the name of an archive, or its folder."""
    match = _ARCHIVE.fullmatch(name.removesuffix(".zip"))
    if match is None:
        return None
    if name.startswith("dev"):
        return match["type"], "dev"
    return match["type"], "eval" if match["split"] == "test" else "additional"


def _list_types(names: Iterable[str]) -> dict[str, set[str]]:
    """List the machine types of each subset."""
    types: dict[str, set[str]] = {subset: set() for subset in _SUBSETS}
    for kind, subset in filter(None, map(_read_archive, names)):
        types[subset].add(kind)
    return types


def _choose_archives(
    year: int, names: Iterable[str], machine_types: Any, subsets: Any
) -> list[str]:
    """List the archives of the wanted machine types and subsets."""
    names = list(names)
    known = sorted(set().union(*_list_types(names).values()))
    types = choose_names("machine_types", machine_types, known)
    subsets = choose_names("subsets", subsets, _SUBSETS)
    wanted = {(kind, subset) for kind in types for subset in subsets}
    archives = [name for name in names if _read_archive(name) in wanted]
    if not archives:
        raise ValueError(
            f"{', '.join(subsets)} of {year} has no recordings of "
            f"{', '.join(types)}: since 2023 a machine type is either of the "
            'development set, "dev", or of the evaluation set, "additional" and "eval"'
        )
    return archives


def _choose_lists(names: Iterable[str], archives: Iterable[str]) -> list[str]:
    """List what holds the ground truth of some archives."""
    chosen = _list_types(archives)["eval"]
    lists = [name for name in names if name.endswith(".csv")] if chosen else []
    matches = {name: _TRUTH_OF_TYPE.fullmatch(name) for name in lists}
    return [n for n, match in matches.items() if not match or match["type"] in chosen]


def _describe(
    year: int,
    folders: Sequence[str | os.PathLike[str]],
    lists: Iterable[str | os.PathLike[str]],
) -> Bunch:
    """List recordings, with their subset and the evaluation set's ground truth."""
    names = list(read_registry(_REGISTRIES[year], "", 0).registry)
    types = _list_types(names)

    def find_subset(kind: Any, section: Any, split: Any) -> str | None:
        in_dev, in_eval = kind in types["dev"], kind in types["eval"]
        if in_dev and in_eval:
            in_dev = section in _DEV_SECTIONS
        if in_dev:
            return "dev"
        if in_eval:
            return "eval" if split == "test" else "additional"
        return None

    clips = list_subsets(folders, find_subset, f"DCASE {year} Task 2", _find_type)
    truth: dict[tuple[str, str], dict[str, Any]] = {}
    for path in lists:
        truth |= read_eval_names(path)
    clips = fill_in(clips, truth)
    lists_of_year = [name for name in names if name.endswith(".csv")]
    warn_unlabelled(
        clips,
        f"copy {', '.join(lists_of_year)} into the folder, or pass its path as "
        "eval_labels of load_dcase",
    )
    return Bunch(data=clips, target=clips["label"], DESCR=_DESCR.read_text())


def _find_type(folder: Any) -> Any:
    """Find the machine type in the name of a folder, which may be the archive's."""
    if not isinstance(folder, str):
        return folder
    archive = _read_archive(folder)
    return _REVISION.sub("", folder) if archive is None else archive[0]


def read_eval_names(
    path: str | os.PathLike[str],
) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the published ground truth of an evaluation set since 2021.

    Parameters
    ----------
    path : str or path-like
        A list with a row for each recording: its name, and the name that tells what it
        is. A row with a machine type stands before its recordings, unless the name of
        the list holds the type, as in ``ground_truth_<type>_section_00_test.csv``.

    Returns
    -------
    facts : dict of (str, str) to dict
        For each machine type and file name `label` (+1 or -1), `domain` and the
        attributes.

    Raises
    ------
    ValueError
        If a recording has no such name.
    """
    of_type = _TRUTH_OF_TYPE.fullmatch(Path(path).name)
    kind = of_type["type"] if of_type else ""
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if len(row) == 1:
                (kind,) = row
            elif row and read_name(row[0].removesuffix(".wav")):  # no headings
                facts[kind, row[0]] = _read_truth(path, row)
    return facts


def _read_truth(path: str | os.PathLike[str], row: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = read_name(row[1].removesuffix(".wav"))
    if "label" not in known:
        raise ValueError(
            f"{os.fspath(path)!r:.200} has the row {','.join(row)!r:.200}, and needs "
            "rows of a file name and a name such as "
            "section_00_source_test_anomaly_0000_vel_15.wav: take the published list"
        )
    known |= read_folder_name(known["label"])
    return {k: v for k, v in known.items() if k not in ("machine_id", "split")}
