"""Machines of the clips that a detector is fitted on, and of those that it scores.

The clips of a machine, or of a domain of it, are a *bank*.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_asd.audio.machines import known_labels, machine_labels, refuse_unseen

__all__ = [
    "find_banks",
    "label_clips",
    "label_training_clips",
    "labels_or_zeros",
    "name_banks",
    "number_banks",
]


def label_training_clips(X: Any) -> np.ndarray | None:
    """Name the machines of clips to learn from.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Clips.

    Returns
    -------
    labels : ndarray of shape (n_clips,), str, or None
        None if X has no machine IDs.

    Raises
    ------
    ValueError
        If some clips have an ID and others have none.
    """
    if machine_labels(X) is None:
        return None
    return known_labels(X, "for all training clips or none").astype(str)


def label_clips(X: Any, machines: np.ndarray | None) -> np.ndarray | None:
    """Name the machines of clips to score.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Clips.

    machines : ndarray of str, or None
        The machines of the training clips; None if these had no IDs.

    Returns
    -------
    labels : ndarray of shape (n_clips,), str, or None
        None if `machines` is None.

    Raises
    ------
    ValueError
        If a clip has no ID, or a machine was not among those fitted.
    """
    if machines is None:
        return None
    labels = known_labels(X, "to score clips, as the training clips had IDs")
    refuse_unseen(labels, set(machines))
    return labels


def labels_or_zeros(labels: np.ndarray | None, n_clips: int) -> np.ndarray:
    """Give labels to group clips by; one group for all if there are none.

    Parameters
    ----------
    labels : ndarray of shape (n_clips,) or None
        Of the clips.

    n_clips : int
        Number of clips.

    Returns
    -------
    labels : ndarray of shape (n_clips,)
        The same, or zeros.
    """
    return np.zeros(n_clips) if labels is None else labels


def find_banks(
    machines: np.ndarray | None, domains: np.ndarray | None, n_clips: int
) -> list[np.ndarray]:
    """Find the clips of each machine, or of each of its domains.

    Parameters
    ----------
    machines, domains : ndarray of shape (n_clips,) or None
        Labels of the clips; None if all have the same.

    n_clips : int
        Number of clips.

    Returns
    -------
    banks : list of ndarray
        Rows of the clips, in ascending order.
    """
    machines, domains = (
        labels_or_zeros(labels, n_clips) for labels in (machines, domains)
    )
    return [
        np.flatnonzero((machines == machine) & (domains == domain))
        for machine, domain in dict.fromkeys(zip(machines, domains, strict=True))
    ]


def number_banks(banks: list[np.ndarray]) -> np.ndarray:
    """Number the bank of each clip.

    Parameters
    ----------
    banks : list of ndarray
        From :func:`find_banks`.

    Returns
    -------
    numbers : ndarray of shape (n_clips,), int
        Places in `banks`.
    """
    numbers = np.empty(sum(map(len, banks)), dtype=int)
    for place, rows in enumerate(banks):
        numbers[rows] = place
    return numbers


def name_banks(
    machines: np.ndarray | None, domains: np.ndarray | None, n_clips: int
) -> list[str]:
    """Name the bank of each clip for people; clips of no known machine are left out.

    Parameters
    ----------
    machines, domains : ndarray of shape (n_clips,) or None
        Labels of the clips; None if all have the same.

    n_clips : int
        Number of clips.

    Returns
    -------
    names : list of str
        Such as "fan/00, domain target".
    """
    names = ["X"] * n_clips if machines is None else list(machines)
    if domains is None:
        return [name for name in names if name is not None]
    pairs = zip(names, domains, strict=True)
    return [f"{name}, domain {domain}" for name, domain in pairs if name is not None]
