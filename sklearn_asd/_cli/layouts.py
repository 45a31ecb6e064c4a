"""Whether folders and names are understood, or have to be asked about."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import PurePath

import click
import pandas as pd

from sklearn_asd._cli.conventions import echo
from sklearn_asd._utils.messages import abbreviate, count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.folders import find_dates, read_name
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.naming import NamePattern, is_date, names_fault, strip_date

__all__ = ["check_layout", "machine_from_option"]

# In the order in which they are tried.
_PATTERNS = (
    "{date}/{machine}/*",
    "{machine}/{date}/*",
    "{date}/{machine}_{time}",
    "{date}/{machine}_{number}",
    "{machine}_{date}",
    "{machine}_{date}_*",
    "{machine}-{date}",
    "{machine}-{date}-*",
    "{date}_{machine}",
    "{date}-{machine}",
)
_FEWEST = 3  # recordings of a machine

machine_from_option = click.option(
    "--machine-from",
    metavar="PATTERN",
    help="Where the machine stands in the paths, such as "
    '"{date}/{machine}_{time}" or "{machine}_{date}".',
)


def check_layout(clips: pd.DataFrame) -> None:
    """Refuse machines that are dates or faults, and warn of machines taken as one.

    Parameters
    ----------
    clips : DataFrame
        Training recordings, whose machines come from their folders.

    Raises
    ------
    ValueError
        If what is taken for a machine or its type is a date, or names a fault.
    """
    named = [name for row in _names(clips) for name in row]
    dates = find_dates(clips)
    if dates:
        raise ValueError(
            f"folders look like dates and would be taken for machines: "
            f"{abbreviate(dates)}. Say where the machine stands: "
            f"{_suggest(clips) or _EXAMPLE}. If they are machines: "
            '--machine-from "{machine}/*"'
        )
    faults = sorted({name for name in named if names_fault(name)})
    if faults:
        raise ValueError(
            f"folders seem to hold recordings of faults and would be taken for normal "
            f"machines: {abbreviate(faults)}. Move them elsewhere, or into a folder "
            'called anomaly. If they are normal: --machine-from "{machine}/*"'
        )
    _warn_of_one_machine(clips)


_EXAMPLE = '--machine-from with a pattern such as "{date}/{machine}/*"'


def _names(clips: pd.DataFrame) -> set[tuple[str, ...]]:
    """What the folders of recordings say; names of the challenge are no folders."""
    columns = clips[["path", "machine_type", "machine_id"]].to_numpy()
    names = set()
    for path, kind, identity in columns:
        of_challenge = bool(read_name(PurePath(path).stem))
        pair = (kind,) if of_challenge else (kind, identity)
        names.add(tuple(str(name) for name in pair if pd.notna(name)))
    return names


def _suggest(clips: pd.DataFrame) -> str:
    """Find a pattern that fits all recordings, and say what it would find."""
    found = {
        pattern: _count_machines(pattern, list(clips["path"])) for pattern in _PATTERNS
    }
    fitting = {
        pattern: machines
        for pattern, machines in found.items()
        if machines and min(machines.values()) >= _FEWEST
        if not any(map(is_date, machines))
    }
    if not fitting:
        return ""
    best = max(fitting, key=lambda pattern: len(fitting[pattern]))
    names = sorted(map(printable, fitting[best]))
    return (
        f'--machine-from "{best}" would find {count(len(names), "machine")}, '
        f"{abbreviate(names)}"
    )


def _count_machines(pattern: str, paths: list[str]) -> Counter[str]:
    """Count the recordings of each machine; none if the pattern does not fit all."""
    read = NamePattern(pattern).read
    facts = [read(os.path.abspath(path)) for path in paths]
    known = [one for one in facts if one is not None]
    if len(known) < len(facts):
        return Counter()
    return Counter(one["machine_id"] for one in known)


def _strip_number(stem: str) -> str:
    """Take the date or the number off a file's name."""
    rest = strip_date(stem)
    return rest if rest != stem else re.sub(r"[\W_]*\d+$", "", stem)


def _warn_of_one_machine(clips: pd.DataFrame) -> None:
    """Say so if the names of one machine's recordings begin in several ways."""
    labels = machine_labels(clips)
    begins = _find_beginnings([PurePath(path).stem for path in clips["path"]])
    if labels is not None and len(set(labels)) == 1 and len(begins) > 1:
        echo(
            f"Warning: all recordings are taken to be of one machine, "
            f"{printable(str(labels[0]))}, but their names begin in "
            f"{len(begins)} ways: {abbreviate(begins)}. If these are machines: "
            f"{_suggest(clips) or _EXAMPLE}",
            err=True,
        )


def _find_beginnings(stems: list[str]) -> list[str]:
    """Find the names before dates and numbers, if nearly all files share a few."""
    if any(map(read_name, stems)):
        return []
    counts = Counter(map(_strip_number, stems))
    often = {name: n for name, n in counts.items() if name and n >= _FEWEST}
    usual = sum(often.values()) >= 0.9 * len(stems)
    return sorted(map(printable, often)) if usual else []
