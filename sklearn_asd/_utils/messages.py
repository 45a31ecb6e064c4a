"""Phrases that messages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["abbreviate", "check_choice", "count", "cut", "did_you_mean", "shorten"]

# Characters of a value, and of each of some names, in a message.
_VALUE, _NAME = 200, 100


def abbreviate(names: Sequence[Any] | np.ndarray, limit: int = 8) -> str:
    """List some names, and count the rest.

    Parameters
    ----------
    names : sequence
        The names.

    limit : int, default=8
        How many to list.

    Returns
    -------
    text : str
        Such as "a, b and 5 more".
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(cut(str(name), _NAME) for name in names[:limit]) + more


def shorten(value: Any) -> str:
    """Show a value that a user gave, which may be a whole recording, in a message.

    Parameters
    ----------
    value : any
        The value.

    Returns
    -------
    text : str
        Its ``repr``, of which at most 200 characters are kept.
    """
    return cut(repr(value), _VALUE)


def cut(text: str, limit: int = _VALUE) -> str:
    """Keep the beginning of a text that others wrote, such as a name or an error's.

    Parameters
    ----------
    text : str
        The text.

    limit : int, default=200
        Number of characters to keep.

    Returns
    -------
    text : str
        At most that many of it, and how many there were.
    """
    n = len(text)
    return text if n <= limit else f"{text[:limit]}... ({n:,} characters)"


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the choices.

    Parameters
    ----------
    name : str
        Name of the value.

    value : any
        The value.

    choices : iterable of str
        The allowed values.

    Raises
    ------
    ValueError
        If it is not among them; suggests the closest spelling.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(
            f"{name} {shorten(value)} is unknown:{did_you_mean(value, choices)} choose "
            "from "
            f"{', '.join(choices)}, in this spelling"
        )


def did_you_mean(value: Any, choices: Iterable[str]) -> str:
    """Suggest the choice with the closest spelling, in upper or lower case.

    Parameters
    ----------
    value : any
        The value given.

    choices : iterable of str
        The allowed values.

    Returns
    -------
    question : str
        Such as " did you mean 'fan'?", or "" if no choice is close.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(str(value)[:_NAME].lower(), by_lower, n=1, cutoff=0.5)
    return f" did you mean {by_lower[close[0]]!r}?" if close else ""


def count(n: int, noun: str) -> str:
    """Write a number of things.

    Parameters
    ----------
    n : int
        How many.

    noun : str
        Their name in the singular; the plural adds an s.

    Returns
    -------
    text : str
        Such as "1 clip" or "2 clips".
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
