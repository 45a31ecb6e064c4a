"""Which machine each clip was recorded from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import _num_samples

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.text import one_form
from sklearn_asd._utils.validation import as_pandas

__all__ = [
    "DCASE2020_TYPES",
    "MIMII_TYPES",
    "TOYADMOS_TYPES",
    "as_labels",
    "count_held_out",
    "domain_labels",
    "group_columns",
    "group_labels",
    "hold_out",
    "is_missing",
    "known_labels",
    "machine_columns",
    "machine_index",
    "machine_labels",
    "refuse_unseen",
    "refuse_unseen_groups",
    "relabel",
    "type_prefix",
]

# Machine types of DCASE 2020 Task 2, by the data set that they come from.
TOYADMOS_TYPES = ("ToyCar", "ToyConveyor")
MIMII_TYPES = ("fan", "pump", "slider", "valve")
DCASE2020_TYPES = TOYADMOS_TYPES + MIMII_TYPES


def machine_columns(X: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Machine type and machine ID of each row.

    Parameters
    ----------
    X : DataFrame, Clips, ClipSpectrograms, or anything without machines
        The clips.

    Returns
    -------
    machine_type, machine_id : ndarray of shape (n_clips,) of str or None
        None for an array that X lacks, and for missing values.
    """
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        return as_labels(X.get("machine_type")), as_labels(X.get("machine_id"))
    return getattr(X, "machine_type", None), getattr(X, "machine_id", None)


def machine_index(X: Any) -> pd.MultiIndex:
    """Machine type and machine ID of each row, with "" where one is not known.

    Parameters
    ----------
    X : DataFrame, Clips, ClipSpectrograms, or anything without machines
        The clips.

    Returns
    -------
    index : MultiIndex of n_clips rows
        Levels `machine_type` and `machine_id`, of str.
    """
    columns = [
        [""] * _num_samples(X)
        if column is None
        else ["" if value is None else value for value in column]
        for column in machine_columns(X)
    ]
    return pd.MultiIndex.from_arrays(columns, names=["machine_type", "machine_id"])


def machine_labels(X: Any) -> np.ndarray | None:
    r"""Name the machine of each row.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms
        The clips.

    Returns
    -------
    labels : ndarray of shape (n_clips,) of str or None
        "type/id", or "id" where there is no type; None where there is no ID. None for
        the array if X has no IDs at all. A slash in a type is written "\/", and so is
        one in an ID that lacks the type that others have, so that names of different
        machines differ.
    """
    machine_type, machine_id = machine_columns(X)
    if machine_id is None or machine_type is None:
        return machine_id
    labels = [
        identity if identity is None else _join(kind, identity)
        for kind, identity in zip(machine_type, machine_id, strict=True)
    ]
    return np.array(labels, dtype=object)


def type_prefix(machine_type: str) -> str:
    """Give what the names of a type's machines begin with, and no others do.

    Parameters
    ----------
    machine_type : str
        The type.

    Returns
    -------
    prefix : str
        As in :func:`machine_labels`, such as "fan/".

    Examples
    --------
    >>> from sklearn_asd.audio.machines import type_prefix
    >>> type_prefix("fan")
    'fan/'
    """
    return _escape(machine_type) + "/"


def _join(machine_type: str | None, machine_id: str) -> str:
    if machine_type is None:
        return _escape(machine_id)
    return type_prefix(machine_type) + machine_id


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace("/", "\\/")


def domain_labels(X: Any) -> np.ndarray | None:
    """Name the domain of each row, such as "source" or "target".

    Parameters
    ----------
    X : DataFrame, Clips, ClipSpectrograms, or anything without domains
        The clips.

    Returns
    -------
    labels : ndarray of shape (n_clips,) of str or None
        None for the array if X lacks them, and for missing values.
    """
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        return as_labels(X.get("domain"))
    return getattr(X, "domain", None)


def group_columns(group_by: str | Sequence[str] | None) -> list[str]:
    """List the columns that tell groups of clips apart.

    Parameters
    ----------
    group_by : str, sequence of str or None
        One column, several or none.

    Returns
    -------
    columns : list of str
        Their names.
    """
    return [group_by] if isinstance(group_by, str) else list(group_by or [])


def group_labels(X: Any, group_by: str | Sequence[str]) -> np.ndarray:
    """Name the group of each clip by the values of some columns.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips. "machine_type", "machine_id" (the pair of both) and "domain" are read
        from each of them, other columns from a table.

    group_by : str or sequence of str
        The columns.

    Returns
    -------
    labels : ndarray of shape (n_clips,), str
        The value of one column, or the values of several, such as
        "fan/00, domain target".

    Raises
    ------
    ValueError
        If no column is named, or X lacks a value for some or all clips.
    """
    names = group_columns(group_by)
    if not names:
        raise ValueError('group_by is empty: name columns, such as "domain", or None')
    columns = [_read_group(X, name) for name in names]
    if len(columns) == 1:
        return columns[0]
    rows = zip(*columns, strict=True)
    named = [[f"{n} {v}" for n, v in zip(names, row, strict=True)] for row in rows]
    if names[0] == "machine_id":
        named = [[row[0].partition(" ")[2], *row[1:]] for row in named]
    return np.array([", ".join(row) for row in named], dtype=object)


def _read_group(X: Any, column: str) -> np.ndarray:
    X = as_pandas(X)
    if column == "machine_id":
        labels = machine_labels(X)
    elif isinstance(X, pd.DataFrame):
        labels = as_labels(X.get(column))
    else:
        known = ("machine_type", "domain")
        labels = getattr(X, column, None) if column in known else None
    if labels is None or None in labels:
        raise ValueError(
            f"X has no {column!r:.200} for some or all clips, and group_by needs it: "
            "fill it in, or set group_by=None"
        )
    return labels


def known_labels(X: Any, purpose: str, column: str = "machine_id") -> np.ndarray:
    """Name each clip's machine, type or domain, and refuse clips without one.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips.

    purpose : str
        What they are needed for, to complete "IDs, which are needed ...".

    column : {"machine_id", "machine_type", "domain"}, default="machine_id"
        Whether to name the machine, its type or the clip's domain.

    Returns
    -------
    labels : ndarray of shape (n_clips,), str
        "type/id", or "id" where there is no type; or the types, or the domains.

    Raises
    ------
    ValueError
        If X lacks the IDs, types or domains of some or all clips.
    """
    labels, names = machine_labels(X), "machine IDs"
    if column == "domain":
        labels, names = domain_labels(X), "domains"
    if column == "machine_type":
        labels, names = machine_columns(X)[0], "machine types"
    if labels is None:
        raise ValueError(
            f"X has no {names}, which are needed {purpose}: give X as a table with the "
            f"column {column}, or pass {column}= to from_arrays"
        )
    missing = [str(row) for row, label in enumerate(labels) if label is None]
    if missing:
        raise ValueError(
            f"{column} is missing for clips {abbreviate(missing)} of those used, and "
            f"is needed {purpose}: fill it in or leave them out"
        )
    return labels


def refuse_unseen(labels: np.ndarray, known: Iterable[str], hint: str = "") -> None:
    """Refuse clips of machines that were not among those fitted.

    Parameters
    ----------
    labels : ndarray of shape (n_clips,), str
        The machine of each clip, from :func:`known_labels`.

    known : iterable of str
        The machines fitted.

    hint : str, default=""
        A further remedy, to complete "fit again ...".

    Raises
    ------
    ValueError
        If there are such clips.
    """
    known = sorted(known)
    unseen = sorted(set(labels) - set(known))
    if unseen:
        raise ValueError(
            f"X holds machines that were not among those fitted: "
            f"{abbreviate(unseen)}; known are {abbreviate(known)}. Give "
            "machine_type and machine_id as in fit, or fit again with the new "
            f"machines' normal recordings{hint}. In a search, "
            "cv=MachineStratifiedKFold() puts each machine into each fold"
        )


def refuse_unseen_groups(
    labels: np.ndarray, known: Iterable[Any], group_by: str | Sequence[str], what: str
) -> None:
    """Refuse clips of groups that were not among those fitted.

    Parameters
    ----------
    labels : ndarray of shape (n_clips,), str
        The group of each clip, from :func:`group_labels`.

    known : iterable of str
        The groups fitted.

    group_by : str or sequence of str
        The columns that tell them apart.

    what : str
        What was fitted to each group, for the error message.

    Raises
    ------
    ValueError
        If there are such clips.
    """
    unseen = sorted(set(labels) - set(known))
    if unseen:
        raise ValueError(
            f"X holds clips of {abbreviate(unseen)}, and {what} are of "
            f"{abbreviate(list(known))}, by {group_columns(group_by)}: fit with clips "
            "of it, or with group_by=None"
        )


def relabel(X: Any, machine_type: str | None, machine_id: str | None) -> Any:
    """Pass clips off as clips of one machine.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        The clips, of any machines.

    machine_type, machine_id : str or None
        The machine.

    Returns
    -------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        A copy that shares everything but the machines. A table without a column
        `machine_type` gets none.
    """
    X = as_pandas(X)
    if not isinstance(X, pd.DataFrame):
        return X.as_machine(machine_type, machine_id)
    names = {"machine_type": machine_type, "machine_id": machine_id}
    return X.assign(**{k: v for k, v in names.items() if k in X.columns})


def count_held_out(share: float, n_clips: int) -> int:
    """Count the clips of a machine that are held out.

    Parameters
    ----------
    share : float in (0, 1)
        Share that is wanted.

    n_clips : int
        Number of clips of the machine.

    Returns
    -------
    n_held_out : int
        The share rounded, at least one clip, and never all: 0 of a single clip.
    """
    return min(max(1, round(share * n_clips)), n_clips - 1)


def hold_out(rows: np.ndarray, machine: np.ndarray, share: float) -> np.ndarray:
    """Hold out a share of the clips of each machine.

    Parameters
    ----------
    rows : ndarray of int
        Rows to choose from, shuffled: of each machine the first ones are held out.

    machine : ndarray of shape (n_clips,)
        The machine of each clip, also of those that are not in `rows`.

    share : float in (0, 1)
        See :func:`count_held_out`.

    Returns
    -------
    held_out : ndarray of shape (n_clips,), bool
        Which clips are held out.
    """
    held_out = np.zeros(len(machine), dtype=bool)
    for one in np.unique(machine[rows]):
        own = rows[machine[rows] == one]
        held_out[own[: count_held_out(share, len(own))]] = True
    return held_out


def as_labels(values: Iterable[Any] | None) -> np.ndarray | None:
    """Turn a column of labels into strings, with None for missing values.

    Whole numbers lose their ".0", so that a column that pandas read as float
    because a value was missing still matches its integers. Blanks around names are
    left out, and letters that Unicode writes in several ways become one (NFC): macOS
    and others write "ü" differently in names of files.

    Parameters
    ----------
    values : iterable or None
        The column, if there is one.

    Returns
    -------
    labels : ndarray of object, or None
        None if there is no column or if all its values are missing.

    Raises
    ------
    ValueError
        If the column is a string.
    """
    if values is None:
        return None
    if isinstance(values, str):
        raise ValueError(
            f"machines or domains are given as one string, {values!r:.200}; give a "
            "sequence "
            "with one value for each clip"
        )
    labels = np.fromiter(map(_as_label, values), dtype=object)
    missing = len(labels) > 0 and all(label is None for label in labels)
    return None if missing else labels


def _as_label(value: Any) -> str | None:
    if np.ndim(value):
        raise ValueError(
            f"a machine or domain is named {value!r:.200}; give each clip one string "
            "or "
            "number"
        )
    if is_missing(value):
        return None
    whole = isinstance(value, Real) and float(value).is_integer()
    return one_form(str(int(value) if whole else value))


def is_missing(value: Any) -> bool:
    """Tell a missing value of a column from others.

    Parameters
    ----------
    value : any
        Not an array.

    Returns
    -------
    missing : bool
        True for None, NaN, NaT, pd.NA and a masked value of a masked array.
    """
    return value is np.ma.masked or bool(pd.isna(value))
