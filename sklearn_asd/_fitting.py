"""A fit happens as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["all_or_nothing"]


def all_or_nothing(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Make `fit` leave its estimator as it was, should it not come to its end.

    Otherwise one that was stopped by an error, or by Ctrl-C, would judge with a new
    network and an old threshold.

    Parameters
    ----------
    fit : callable
        The method `fit` of an estimator.

    Returns
    -------
    fit : callable
        The same, as a whole or not at all.
    """

    @wraps(fit)
    def _fit_or_restore(self, *args, **kwargs):
        before = dict(vars(self))
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).update(before)
            for name in vars(self).keys() - before.keys():
                delattr(self, name)
            raise

    return _fit_or_restore
