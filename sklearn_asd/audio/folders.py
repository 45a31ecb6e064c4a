"""From a folder of recordings to a table of clips, by the names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["AUDIO_SUFFIXES", "describe_recordings", "load_clips", "read_name"]

AUDIO_SUFFIXES = (".wav", ".flac")

_LABELS = {"normal": 1, "anomaly": -1, "anomalous": -1, "abnormal": -1}
# Folders of 2021 are called "source_test"; "crash_test" may be a machine.
_SPLIT_FOLDER = re.compile(r"(?:source_|target_)?(train|test|supplemental)")

# DCASE 2020: normal_id_00_00000012.wav; evaluation clips lack the label.
_NAME_2020 = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<machine_id>\d+)_\d+")
# DCASE 2021 and later: section_00_source_test_anomaly_0001_car_B1_spd_31V.wav;
# evaluation clips lack domain, split or label. Supplemental clips of 2025 say whether
# they hold a machine without noise or noise without a machine.
_WORDS = {
    **dict.fromkeys(["source", "target"], "domain"),
    **dict.fromkeys(["train", "test", "supplemental"], "split"),
    **dict.fromkeys(["normal", "anomaly"], "label"),
}
_NAME_SECTION = re.compile(
    r"section_(?P<machine_id>\d+)"
    rf"(?P<words>(?:_(?:{'|'.join(_WORDS)}|machine|noise))*)"
    r"_\d+(?:_(?P<attributes>.+))?"
)
# Attributes of the toys in 2021: A1Spd28VMic1.
_GLUED = re.compile(r"(?P<car>[A-Z]\d+)Spd(?P<spd>\w+)Mic(?P<mic>\d+)")

_COLUMNS = ["path", "machine_type", "machine_id", "split", "label"]


def load_clips(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """List the recordings below a folder, with the facts in their names.

    No audio is read. The names may be those of DCASE Task 2 of 2020
    (``fan/train/normal_id_00_00000012.wav``) and of later years
    (``ToyCar/test/section_00_source_test_anomaly_0001_car_B1_spd_31V.wav``), or those
    of plain folders, one for each machine (``pump_3/monday.flac``) or type and machine
    (``pump/3/monday.flac``), with or without folders called ``train``, ``test``,
    ``supplemental`` (also after ``source_`` or ``target_``), ``normal``, ``anomaly``,
    ``anomalous`` or ``abnormal`` among them, in upper or lower case.

    Parameters
    ----------
    folder : str or path-like
        Where to look, at any depth, for ``.wav`` and ``.flac`` files. Hidden files
        and folders are skipped, and links to folders are not followed.

    Returns
    -------
    clips : DataFrame of shape (n_clips, 5 or more)
        Sorted by path, with the columns

        - `path`: str, below `folder` as it was given;
        - `machine_type`: str, missing where folders name only machines;
        - `machine_id`: str, the digits of DCASE names ("00"), or the folder's name;
        - `split`: "train", "test", "supplemental" (since 2025: machines without
          noise, and noise without machines) or missing. A folder of that name decides,
          otherwise the file's name does;
        - `label`: +1 normal, -1 anomalous, or missing (pandas' Int64);
        - `domain` and one column for each attribute found in the names, such as
          `car` ("B1") and `spd` ("31V"); missing where a name lacks it. To tell
          machines apart by an attribute: ``clips.assign(machine_id=clips["car"])``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.

    NotADirectoryError
        If it is a file.

    ValueError
        If it holds no recordings.

    See Also
    --------
    sklearn_asd.datasets.make_machine_sounds : The same table, made of built-in sounds.

    Examples
    --------
    >>> import soundfile, tempfile, numpy as np
    >>> from pathlib import Path
    >>> from sklearn_asd import load_clips
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["train/normal_id_00_00000000.wav",
    ...                  "test/anomaly_id_00_00000000.wav"]:
    ...         path = Path(folder, "fan", name)
    ...         path.parent.mkdir(parents=True)
    ...         soundfile.write(path, np.zeros(16000), 16000)
    ...     clips = load_clips(folder)
    >>> clips[["machine_type", "machine_id", "split", "label"]]
      machine_type machine_id  split  label
    0          fan         00   test     -1
    1          fan         00  train      1
    """
    root = Path(folder)
    if not os.path.exists(root):  # also where the name is impossible
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)!r:.200}")
    if not root.is_dir():
        raise NotADirectoryError(
            f"{os.fspath(folder)!r:.200} is a file; load_clips takes the folder it "
            "lies in"
        )
    paths = sorted(path for path in root.rglob("*") if _is_recording(path, root))
    if not paths:
        raise ValueError(
            f"{os.fspath(folder)!r:.200} holds no recordings: no file below it ends in "
            + " or ".join(AUDIO_SUFFIXES)
        )
    return _tabulate([_describe(path, root) for path in paths])


def describe_recordings(paths: Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """List recordings, with the facts in their paths.

    Parameters
    ----------
    paths : iterable of str or path-like
        Files, which need not exist.

    Returns
    -------
    clips : DataFrame of shape (n_clips, 5 or more)
        As :func:`load_clips` describes them in their own folders, in the order given.
    """
    files = [Path(path) for path in paths]
    return _tabulate([_describe(path, path.parent) for path in files])


def _tabulate(rows: list[dict[str, Any]]) -> pd.DataFrame:
    clips = pd.DataFrame(rows, columns=None if rows else _COLUMNS)
    others = clips.columns.difference(_COLUMNS, sort=False)
    return clips.reindex(columns=[*_COLUMNS, *others]).astype({"label": "Int64"})


def _is_recording(path: Path, root: Path) -> bool:
    """Tell sound files from other files, folders and hidden ones."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in AUDIO_SUFFIXES and not hidden and not path.is_dir()


def _describe(path: Path, root: Path) -> dict[str, Any]:
    """Make one row of the table; folders win over the file's name."""
    folders = [*_own_folders(root), *path.parent.relative_to(root).parts]
    machines = [folder for folder in folders if not _read_folder(folder)]
    facts = read_name(path.stem)
    if facts:
        facts["machine_type"] = machines[-1]
    else:
        facts["machine_id"] = machines[-1]
        if len(machines) > 2:  # the first is the root
            facts["machine_type"] = machines[-2]
    for folder in folders:
        facts |= _read_folder(folder)
    label = _LABELS.get(facts.get("label", ""))
    return facts | {"path": os.fspath(path), "label": label}


def read_name(stem: str) -> dict[str, str]:
    """Read the facts in a file's own name.

    Parameters
    ----------
    stem : str
        The name without its suffix.

    Returns
    -------
    facts : dict of str to str
        `machine_id`, and those of `domain`, `split`, `label` and attributes that the
        name holds. Empty for names that are not of the DCASE challenge.
    """
    if match := _NAME_2020.fullmatch(stem):
        return {k: v for k, v in match.groupdict().items() if v is not None}
    if match := _NAME_SECTION.fullmatch(stem):
        words = match["words"].split("_")
        facts = {_WORDS[word]: word for word in words if word in _WORDS}
        if "noise" in words:
            facts.pop("label", None)  # it is about a machine
        attributes = _split_attributes(match["attributes"] or "")
        return attributes | facts | {"machine_id": match["machine_id"]}
    return {}


def _own_folders(root: Path) -> list[str]:
    """Find the folders of the root's path that describe the recordings below it.

    These are its last folder and, where that names a split or label, the ones above
    up to the machine's, so that ``load_clips("fan/train")`` finds the type "fan".
    """
    folders: list[str] = []
    for folder in reversed(root.resolve().parts):
        folders.insert(0, folder)
        if not _read_folder(folder):
            break
    return folders


def _read_folder(name: str) -> dict[str, str]:
    """Read the split or label in a folder's name, if there is one."""
    name = name.lower()
    if name in _LABELS:
        return {"label": name}
    match = _SPLIT_FOLDER.fullmatch(name)
    return {"split": match[1]} if match else {}


def _split_attributes(text: str) -> dict[str, str]:
    """Split "car_B1_spd_31V" into pairs; a last word without a value is dropped.

    In 2021 some values stand before their unit, "25_mm", which then is the name.
    """
    if match := _GLUED.fullmatch(text):
        return match.groupdict()
    words = text.split("_")
    pairs = zip(words[::2], words[1::2], strict=False)
    return dict(
        (b, a) if _is_number(a) and not _is_number(b) else (a, b) for a, b in pairs
    )


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()
