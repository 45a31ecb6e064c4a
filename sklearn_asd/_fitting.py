"""A fit happens as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["all_or_nothing"]


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it was, should its fit not come to its end.

    Otherwise one that was stopped by an error, or by Ctrl-C, would judge with a new
    network and an old threshold.

    Parameters
    ----------
    estimator : estimator
        About to be fitted.

    Yields
    ------
    None
        While it is fitted.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).update(before)
        for name in vars(estimator).keys() - before.keys():
            delattr(estimator, name)
        raise
