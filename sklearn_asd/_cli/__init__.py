"""The command ``sklearn-asd``: the library for those who do not write Python."""

from sklearn_asd._cli.commands import main

__all__ = ["main"]
