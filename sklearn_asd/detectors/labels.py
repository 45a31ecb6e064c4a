"""Machines of the clips that a detector is fitted on, and of those that it scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_asd.audio.machines import known_labels, machine_labels, refuse_unseen

__all__ = ["label_clips", "label_training_clips"]


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
