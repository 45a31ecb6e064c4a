"""From a folder of recordings to a table of clips, by the names alone."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sklearn_asd._utils.messages import abbreviate, count, cut
from sklearn_asd._utils.text import one_form, printable
from sklearn_asd.audio.naming import (
    AUDIO_SUFFIXES,
    NamePattern,
    is_date,
    read_folder_name,
)

__all__ = [
    "NO_RECORDINGS",
    "Listing",
    "describe_recordings",
    "find_dates",
    "find_recordings",
    "list_recordings",
    "load_clips",
    "read_name",
]

# Files of these names hold sound too, which is passed over.
_OTHER_SUFFIX = re.compile(
    r"\.(3gp|aac|ac3|alac|amr|ape|dsf|m4[ab]|mka|mp2|mpga|pcm|ra|raw|sph|tta|weba|wma"
    r"|wv)"
)

NO_RECORDINGS = "no file below it ends in .wav, .flac, .ogg, .mp3 or the like"

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
    r"_\d+(?:_(?P<attributes>.*))?"
)
# Attributes of the toys in 2021: A1Spd28VMic1.
_GLUED = re.compile(r"(?P<car>[A-Z]\d+)Spd(?P<spd>\w+)Mic(?P<mic>\d+)")

_COLUMNS = ["path", "machine_type", "machine_id", "split", "label"]
# The columns that come next, if there are any such names.
_DCASE_COLUMNS = ["section", "domain"]


def load_clips(
    folder: str | os.PathLike[str], machine_from: str | None = None
) -> pd.DataFrame:
    """List the recordings below a folder, with the facts in their names.

    No audio is read. The names may be those of DCASE Task 2 of 2020
    (``fan/train/normal_id_00_00000012.wav``) and of later years
    (``ToyCar/test/section_00_source_test_anomaly_0001_car_B1_spd_31V.wav``), or those
    of plain folders, one for each machine (``pump_3/monday.flac``) or type and machine
    (``pump/3/monday.flac``). Folders among them, in upper or lower case, may be splits
    (``train``, ``validation``, ``test``, ``eval`` and the like, also after ``source_``
    or ``target_``, and ``supplemental``), or labels (``normal``, ``ok``, ``good``;
    ``anomaly``, ``abnormal``, ``ng``, ``bad``, ``broken``, ``faulty`` and the like,
    also in German, French and Japanese).

    Parameters
    ----------
    folder : str or path-like
        Where to look, at any depth, for files of the formats that libsndfile reads:
        ``.wav``, ``.flac``, ``.ogg``, ``.mp3``, ``.aiff`` and others. Links are
        followed, and name what they lead to; each folder is read once. Hidden files
        and folders are passed over, and so are files of other formats.

    machine_from : str, default=None
        Where the machine stands in the paths, if not in the folders' names: a pattern
        such as "{date}/{machine}_{time}", see
        :class:`~sklearn_asd.audio.naming.NamePattern`. Its other fields become columns.

    Returns
    -------
    clips : DataFrame of shape (n_clips, 5 or more)
        Sorted by path, with the columns

        - `path`: str, below `folder` as it was given;
        - `machine_type`: str, missing where folders name only machines;
        - `machine_id`: str, the digits of DCASE names ("00"), or the folder's name;
        - `split`: "train", "validation", "test", "supplemental" (since 2025: machines
          without noise, and noise without machines) or missing. A folder of that name
          decides, otherwise the file's name does;
        - `label`: +1 normal, -1 anomalous, or missing (pandas' Int64);
        - of DCASE names since 2021 `section` (the same digits as in `machine_id`),
          `domain` ("source" or "target") and one column for each attribute, such as
          `car` ("B1") and `spd` ("31V"); missing where a name lacks it. To tell
          machines apart by an attribute: ``clips.assign(machine_id=clips["car"])``,
          which leaves the section to :func:`~sklearn_asd.metrics.dcase_score`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.

    NotADirectoryError
        If it is a file.

    ValueError
        If it holds no recordings, or `machine_from` is no pattern or does not fit one
        of them.

    Warns
    -----
    UserWarning
        If there are folders that cannot be listed, passed over is what may hold
        recordings, or folders that look like dates are taken for machines.

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
    listing = list_recordings(folder, machine_from)
    missed = {**listing.unlisted, **listing.skipped}
    named = [f"{cut(printable(path))} {missed[path]}" for path in list(missed)[:8]]
    named += [f"{len(missed) - 8} more"] * (len(missed) > 8)
    text = ", ".join(named)
    if listing.clips.empty:
        raise ValueError(
            f"{os.fspath(folder)!r:.200} holds no recordings: {NO_RECORDINGS}"
            + (f", and {text}" if missed else "")
        )
    unfit = list(listing.clips.loc[listing.clips["machine_id"].isna(), "path"])
    if machine_from is not None and unfit:
        raise ValueError(
            f"machine_from={machine_from!r:.200} does not fit the paths of "
            f"{count(len(unfit), 'recording')}, such as {cut(printable(unfit[0]))}: "
            "write it for the end of all paths, or move these elsewhere"
        )
    if machine_from is None and (dates := find_dates(listing.clips)):
        warnings.warn(
            "folders that look like dates are taken for machines: "
            f"{abbreviate(dates)}. "
            'Say where the machine stands, as in machine_from="{date}/{machine}/*"',
            stacklevel=2,
        )
    if missed:
        warnings.warn(
            f"not all of {os.fspath(folder)!r:.200} is among its recordings: {text}",
            stacklevel=2,
        )
    return listing.clips


def find_dates(clips: pd.DataFrame) -> list[str]:
    """Find dates among the names that are taken for machines or their types.

    Parameters
    ----------
    clips : DataFrame of n_clips rows
        As from :func:`load_clips`.

    Returns
    -------
    dates : list of str
        Names of folders, sorted.
    """
    names = {*clips["machine_type"].dropna(), *clips["machine_id"].dropna()}
    return sorted(name for name in names if is_date(name))


class Listing(NamedTuple):
    """What lies below a folder.

    Attributes
    ----------
    clips : DataFrame of shape (n_clips, 5 or more)
        The recordings, as from :func:`load_clips`; there may be none.

    unlisted : dict of str to str
        Folders, and links that may lead to folders, which cannot be listed; each path
        with the reason, to complete "the folder ...".

    skipped : dict of str to str
        Sound that is passed over: hidden, or of another format.

    others : dict of str to int
        How many other files are passed over, by what they are.
    """

    clips: pd.DataFrame
    unlisted: dict[str, str]
    skipped: dict[str, str]
    others: dict[str, int]


def list_recordings(
    folder: str | os.PathLike[str], machine_from: str | None = None
) -> Listing:
    """List the recordings below a folder, and what is passed over.

    Parameters
    ----------
    folder : str or path-like
        See :func:`load_clips`.

    machine_from : str, default=None
        See :func:`load_clips`; the ID of recordings that it does not fit is missing.

    Returns
    -------
    listing : Listing
        All that lies below the folder.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.

    ValueError
        If `machine_from` is no pattern.
    """
    pattern = None if machine_from is None else NamePattern(machine_from)
    search = _search(folder)
    root = Path(folder)
    clips = _tabulate(
        [_describe(path, root, pattern) for path in sorted(search.recordings)]
    )
    others = dict(search.others.most_common())
    return Listing(clips, search.unlisted, search.skipped, others)


def find_recordings(
    folder: str | os.PathLike[str],
) -> tuple[list[str], dict[str, str]]:
    """Find the files that :func:`list_recordings` would list, quickly.

    Parameters
    ----------
    folder : str or path-like
        See :func:`load_clips`.

    Returns
    -------
    paths : list of str
        The recordings, in any order; `describe_recordings` reads their names.

    problems : dict of str to str
        What cannot be listed or is passed over and may hold recordings, and the reason.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    """
    search = _search(folder)
    return list(map(os.fspath, search.recordings)), search.unlisted | search.skipped


def _search(folder: str | os.PathLike[str]) -> _Search:
    root = Path(folder)
    if not os.path.exists(root):
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)!r:.200}")
    if not os.path.isdir(root):
        raise NotADirectoryError(
            f"{os.fspath(folder)!r:.200} is a file; load_clips takes the folder it "
            "lies in"
        )
    search = _Search()
    search.run(root)
    return search


class _Search:
    """A search for recordings, which knows the folders that it has been to."""

    def __init__(self) -> None:
        self.recordings: list[Path] = []
        self.unlisted: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.others: Counter[str] = Counter()
        self._links: list[Path] = []
        self._hidden: list[Path] = []
        self._seen: set[tuple[int, int]] = set()

    def run(self, root: Path) -> None:
        """Search all folders, then links to folders that are not among them."""
        for above in Path(os.path.realpath(root)).parents:
            self._is_new(above)  # so that a link to it is not followed
        folders = [root]
        while folders or self._links:
            if not folders:
                self._links.sort(reverse=True)
                folders.append(self._links.pop())
            folders += self._search(folders.pop())
        for path in sorted(self._hidden):
            self._search_hidden(path)

    def _search(self, folder: Path) -> list[Path]:
        """Put what is in a folder in its place, and give the folders in it."""
        try:
            if not self._is_new(folder):
                self.others["links that lead back"] += 1
                return []
            with os.scandir(folder) as entries:
                return [
                    folder / one.name for one in entries if self._is_folder(folder, one)
                ]
        except OSError as error:
            self.unlisted[os.fspath(folder)] = (
                f"cannot be listed ({error.strerror}): give this user permission, or "
                "move it elsewhere"
            )
            return []

    def _is_new(self, folder: Path) -> bool:
        status = os.stat(folder)
        place = status.st_dev, status.st_ino
        new = place not in self._seen
        self._seen.add(place)
        return new

    def _is_folder(self, folder: Path, entry: os.DirEntry[str]) -> bool:
        """Tell a folder to search now from all else, which is put in its place."""
        path, hidden = folder / entry.name, entry.name.startswith(".")
        if entry.is_dir(follow_symlinks=False):
            if hidden:
                self._hidden.append(path)
            return not hidden
        if hidden:
            self._pass_over(path, "is hidden" if _may_be_sound(entry.name) else "")
        elif entry.is_symlink() and os.path.isdir(path):
            self._links.append(path)
        elif (
            entry.is_symlink()
            and not _may_be_sound(entry.name)
            and not os.path.exists(path)
        ):
            self.unlisted[os.fspath(path)] = (
                f"is a link to {os.readlink(path)!r}, which cannot be found: mend it "
                "or delete it"
            )
        else:
            self._add_file(path)
        return False

    def _add_file(self, path: Path) -> None:
        """Keep a recording, and count or name any other file."""
        suffix = path.suffix.lower()
        if suffix in AUDIO_SUFFIXES:
            self.recordings.append(path)
        elif _OTHER_SUFFIX.fullmatch(suffix):
            self.skipped[os.fspath(path)] = (
                "is of a format that cannot be read: convert it to WAV or FLAC"
            )
        else:
            self.others[f"ending in {suffix}" if suffix else "without an ending"] += 1

    def _search_hidden(self, folder: Path) -> None:
        """Look for recordings in a hidden folder."""
        errors: list[OSError] = []
        n_sounds = sum(
            _may_be_sound(name)
            for _, _, names in os.walk(folder, onerror=errors.append)
            for name in names
        )
        problem = f"is a hidden folder of {count(n_sounds, 'recording')}"
        if errors:
            problem = "is a hidden folder, which cannot be listed"
        self._pass_over(folder, problem if n_sounds or errors else "")

    def _pass_over(self, path: Path, problem: str) -> None:
        """Name what is hidden if it is a problem, and count it otherwise."""
        if problem:
            self.skipped[os.fspath(path)] = f"{problem}: rename it"
        else:
            self.others["hidden"] += 1


def _may_be_sound(name: str) -> bool:
    """Tell sound by its name, but for "._monday.wav", which macOS writes."""
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("._"):
        return False
    return suffix in AUDIO_SUFFIXES or bool(_OTHER_SUFFIX.fullmatch(suffix))


def describe_recordings(
    paths: Iterable[str | os.PathLike[str]],
    machine_from: str | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """List recordings, with the facts in their paths.

    Parameters
    ----------
    paths : iterable of str or path-like
        Files, which need not exist.

    machine_from : str, default=None
        As for :func:`list_recordings`.

    folder : str or path-like, default=None
        They are described as by ``load_clips(folder)``; None is their own folder.

    Returns
    -------
    clips : DataFrame of shape (n_clips, 5 or more)
        The table, in the order given.
    """
    pattern = None if machine_from is None else NamePattern(machine_from)
    root = None if folder is None else Path(folder)
    files = [Path(path) for path in paths]
    return _tabulate([_describe(path, root or path.parent, pattern) for path in files])


def _tabulate(rows: list[dict[str, Any]]) -> pd.DataFrame:
    # Of type object, as text in Apache Arrow cannot hold names that are not UTF-8.
    clips = pd.DataFrame(rows, columns=None if rows else _COLUMNS, dtype=object)
    first = [*_COLUMNS, *(name for name in _DCASE_COLUMNS if name in clips)]
    others = clips.columns.difference(first, sort=False)
    return clips.reindex(columns=[*first, *others]).astype({"label": "Int64"})


def _describe(path: Path, root: Path, pattern: NamePattern | None) -> dict[str, Any]:
    """Make one row; folders win over the file's name, and a pattern over folders."""
    folders = [*_own_folders(root), *path.parent.relative_to(root).parts]
    folders = [one_form(name) for name in folders]
    machines = [folder for folder in folders if not read_folder_name(folder)]
    facts: dict[str, Any] = read_name(one_form(path.stem))
    if facts:
        facts["machine_type"] = machines[-1]
        label = facts.pop("label", None)
        facts |= {} if label is None else read_folder_name(label)
    else:
        facts["machine_id"] = machines[-1]
        if len(machines) > 2:  # the first is the root
            facts["machine_type"] = machines[-2]
    if pattern is not None:
        facts |= {"machine_type": None, "machine_id": None}
        facts |= pattern.read(os.path.abspath(path)) or {}
    for folder in folders:
        facts |= read_folder_name(folder)
    return facts | {"path": os.fspath(path)}


def read_name(stem: str) -> dict[str, str]:
    """Read the facts in a file's own name.

    Parameters
    ----------
    stem : str
        The name without its suffix.

    Returns
    -------
    facts : dict of str to str
        `machine_id`, and those of `section`, `domain`, `split`, `label` and attributes
        that the name holds. Empty for names that are not of the DCASE challenge.
    """
    if match := _NAME_2020.fullmatch(stem):
        return {k: v for k, v in match.groupdict().items() if v is not None}
    if match := _NAME_SECTION.fullmatch(stem):
        words = match["words"].split("_")
        facts = {_WORDS[word]: word for word in words if word in _WORDS}
        if "noise" in words:
            facts.pop("label", None)  # it is about a machine
        attributes = _split_attributes(match["attributes"] or "")
        section = match["machine_id"]
        return attributes | facts | {"machine_id": section, "section": section}
    return {}


def _own_folders(root: Path) -> list[str]:
    """Find the folders of the root's path that describe the recordings below it.

    These are its last folder and, where that names a split or label, the ones above
    up to the machine's, so that ``load_clips("fan/train")`` finds the type "fan".
    """
    folders: list[str] = []
    for folder in reversed(Path(os.path.abspath(root)).parts):
        folders.insert(0, folder)
        if not read_folder_name(folder):
            break
    return folders


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
