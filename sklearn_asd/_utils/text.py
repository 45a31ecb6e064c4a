"""Names of files and machines, which may hold any character."""

from __future__ import annotations

import unicodedata

__all__ = ["one_form", "printable"]


def one_form(name: str) -> str:
    """Give names that differ only in blanks around them or Unicode form one form.

    Parameters
    ----------
    name : str
        Such as "Gerät", whose "ä" macOS writes as "a" and a mark.

    Returns
    -------
    name : str
        In normalisation form C, without blanks around it.
    """
    return unicodedata.normalize("NFC", name).strip()


def printable(text: str) -> str:
    r"""Show characters that a terminal would obey, and bytes that are no text.

    Parameters
    ----------
    text : str
        One line, with names of files or machines.

    Returns
    -------
    text : str
        Line breaks, controls, marks that reverse the writing direction and surrogates
        as escapes, such as ``\n``, ``\x1b`` and ``\udcff``; all else as it is.
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
