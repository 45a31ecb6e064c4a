"""The subsets of a challenge: what belongs to which, and the published ground truth."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from sklearn_asd._utils.messages import abbreviate, check_choice
from sklearn_asd.audio import load_clips
from sklearn_asd.audio.machines import known_labels

__all__ = ["choose_names", "fill_in", "list_subsets", "warn_unlabelled"]


def choose_names(name: str, wanted: Any, known: Sequence[str]) -> list[str]:
    """List the wanted names in the order of the known ones.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.

    wanted : str, sequence of str or None
        What a user gave; None is all.

    known : sequence of str
        The choices.

    Returns
    -------
    names : list of str
        At least one of them.

    Raises
    ------
    ValueError
        If there are none, or one is unknown.
    """
    if wanted is None:
        return list(known)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for one in names:
        check_choice(f"{name}:", one, known)
    if not names:
        raise ValueError(f"{name} is empty: name one or more of {', '.join(known)}")
    return [one for one in known if one in names]


def list_subsets(
    folders: Sequence[str | os.PathLike[str]],
    find_subset: Callable[[Any, Any, Any], str | None],
    challenge: str,
    find_type: Callable[[Any], Any] = lambda name: name,
) -> pd.DataFrame:
    """List recordings, with the subset that each belongs to.

    Parameters
    ----------
    folders : sequence of str or path-like
        Where they are.

    find_subset : callable
        Gives the subset for a machine type, a machine ID and a split; None for machines
        of others.

    challenge : str
        Its name, for the message.

    find_type : callable, default=identity
        Gives the machine type for the name of a folder.

    Returns
    -------
    clips : DataFrame
        As from :func:`~sklearn_asd.load_clips`, with the column `subset`.

    Raises
    ------
    ValueError
        If there are machines of others.
    """
    clips = pd.concat([load_clips(one) for one in folders], ignore_index=True)
    clips["machine_type"] = clips["machine_type"].map(find_type).astype(object)
    facts = clips[["machine_type", "machine_id", "split"]].to_numpy()
    clips["subset"] = pd.Series([find_subset(*row) for row in facts], dtype=object)
    others = clips[clips["subset"].isna()]
    if len(others):
        machines = sorted(set(known_labels(others, "to find their subset")))
        raise ValueError(
            f"machines {abbreviate(machines)} are not of {challenge}: use load_clips "
            "for other recordings"
        )
    return clips


def fill_in(
    clips: pd.DataFrame, truth: Mapping[tuple[str, str], Mapping[str, Any]]
) -> pd.DataFrame:
    """Fill in what the names of recordings do not tell.

    Parameters
    ----------
    clips : DataFrame
        From :func:`list_subsets`.

    truth : mapping of (str, str) to mapping
        Facts, such as `label` and `domain`, for a machine type and a file name.

    Returns
    -------
    clips : DataFrame
        A copy, with columns for all facts, in front of `subset`.
    """
    names = clips["path"].map(os.path.basename)
    keys = zip(clips["machine_type"], names, strict=True)
    facts = pd.DataFrame([truth.get(key, {}) for key in keys], dtype=object)
    subset = clips["subset"]
    clips = clips.drop(columns="subset")
    for column in facts:
        known = clips.get(column, pd.Series(pd.NA, clips.index, dtype=object))
        clips[column] = known.astype(object).where(known.notna(), facts[column])
    return clips.assign(subset=subset).astype({"label": "Int64"})


def warn_unlabelled(clips: pd.DataFrame, remedy: str) -> None:
    """Warn of recordings of the evaluation set without a label.

    Parameters
    ----------
    clips : DataFrame
        From :func:`fill_in`.

    remedy : str
        How to get the labels.

    Warns
    -----
    UserWarning
        If there are any.
    """
    unlabelled = clips["label"].isna() & (clips["subset"] == "eval")
    if unlabelled.any():
        warnings.warn(
            f"{unlabelled.sum()} recordings of the evaluation set have no label: "
            f"{remedy}",
            stacklevel=4,
        )
