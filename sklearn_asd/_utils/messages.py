"""Pieces of messages for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

__all__ = ["abbreviate", "check_choice", "count", "did_you_mean"]


def abbreviate(names: Sequence[Any] | np.ndarray, limit: int = 8) -> str:
    """List some names, and say how many more there are.

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
    return ", ".join(str(name) for name in names[:limit]) + more


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is none of the choices.

    Parameters
    ----------
    name : str
        What the value is called.

    value : any
        The value.

    choices : iterable of str
        What it may be.

    Raises
    ------
    ValueError
        If it is none of them; names the one that is spelt most like it.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(
            f"{name} {value!r} is unknown:{did_you_mean(value, choices)} choose from "
            f"{', '.join(choices)}, in this spelling"
        )


def did_you_mean(value: Any, choices: Iterable[str]) -> str:
    """Name the choice that is spelt most like a value, in upper or lower case.

    Parameters
    ----------
    value : any
        What was asked for.

    choices : iterable of str
        What there is.

    Returns
    -------
    question : str
        Such as " did you mean 'fan'?", or "" if nothing is spelt like it.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(str(value).lower(), by_lower, n=1, cutoff=0.5)
    return f" did you mean {by_lower[close[0]]!r}?" if close else ""


def count(n: int, noun: str) -> str:
    """Write how many things there are.

    Parameters
    ----------
    n : int
        How many.

    noun : str
        What they are called in the singular; the plural ends in s.

    Returns
    -------
    text : str
        Such as "1 clip" or "2 clips".
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
