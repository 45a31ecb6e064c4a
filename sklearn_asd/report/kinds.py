"""What detectors do, in plain words."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sklearn_asd.meta.structure import walk

__all__ = ["describe_kind", "label_members"]

_KINDS = {
    "GaussianDetector": "how the spectrum of each machine varies",
    "MahalanobisDetector": "how the spectrum varies",
    "EmbeddingNeighborDetector": "distance to the most similar training recordings",
    "IDConfidenceDetector": "networks that tell the machines apart",
    "AugmentConfidenceDetector": "networks that tell shifts of pitch and time apart",
    "AutoencoderDetector": "networks that reproduce the spectrum",
}


def describe_kind(detector: Any) -> str:
    """Describe what a detector judges by.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted or not.

    Returns
    -------
    kind : str
        In plain words, by the detectors inside; "" if none of them is of this library.
    """
    names = [type(one).__name__ for one in walk(detector)]
    return "; ".join(dict.fromkeys(_KINDS[name] for name in names if name in _KINDS))


def label_members(members: dict[str, Any]) -> dict[str, str]:
    """Give the members of an ensemble plain names.

    Parameters
    ----------
    members : dict of str to detector
        The members by their names.

    Returns
    -------
    labels : dict of str to str
        What each one judges by, with a number if there are several of a kind; its name
        where it is of an unknown kind.
    """
    kinds = {name: describe_kind(one) or name for name, one in members.items()}
    counts = Counter(kinds.values())
    seen: Counter[str] = Counter()
    labels = {}
    for name, kind in kinds.items():
        seen[kind] += 1
        labels[name] = f"{kind} ({seen[kind]})" if counts[kind] > 1 else kind
    return labels
