"""Plain names of the members of ensembles, with a word of what they hear."""

from __future__ import annotations

__all__ = ["describe_member", "name_member"]

# Names of members in sklearn_asd.presets. Other names are those of the reader's people.
_WORDS = {
    "mean": ("mean level", "how loud each frequency is on average"),
    "max": ("peaks", "how loud each frequency becomes at most"),
    "rank": ("loud moments", "how loud each frequency is in its louder moments"),
    "mean_rank": (
        "mean level and loud moments",
        "how loud each frequency is on average, and in its louder moments",
    ),
    "power": (
        "shape of the spectrum",
        "how strong each frequency is next to the others, whatever the level",
    ),
    "spectrum": ("spectrum", "how loud each frequency is"),
    "correlations": (
        "spectrum and rhythm",
        "how loud frequencies are, and which rise and fall together",
    ),
    "spread": (
        "spectrum and fluctuation",
        "how much frequencies vary, and which rise and fall together",
    ),
    "neighbors": (
        "most similar recording",
        "how far the nearest training recording is",
    ),
    "networks": (
        "neural networks",
        "what three neural networks learnt that tells the machines apart",
    ),
    **{
        name: (f"neural network {number}", "what it learnt that tells machines apart")
        for number, name in enumerate(("first", "second", "third"), start=1)
    },
    "id": ("machine recognised", "whether a neural network recognises the machine"),
    "augment": (
        "alterations recognised",
        "whether a neural network recognises how the recording was altered",
    ),
}


def name_member(name: str) -> str:
    """Give a plain name to a member of an ensemble.

    Parameters
    ----------
    name : str
        Its name, or that of a member's member as "outer/inner".

    Returns
    -------
    plain : str
        Of the innermost one; the same if it is no name of a recommended detector.
    """
    inner = name.rpartition("/")[2]
    return _WORDS.get(inner, (inner, ""))[0]


def describe_member(name: str) -> str:
    """Say what a member of an ensemble hears.

    Parameters
    ----------
    name : str
        As of :func:`name_member`.

    Returns
    -------
    text : str
        A few words; "" if it is no name of a recommended detector.
    """
    return _WORDS.get(name.rpartition("/")[2], ("", ""))[1]
