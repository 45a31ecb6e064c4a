"""Imports of a command in half of the time, most of which scikit-learn takes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["starting_fast"]

# scikit-learn imports it for a function that no command calls.
_DEFERRED = "scipy.stats"


class _Deferred(ModuleType):
    """Stands for a module, which is imported when a name in it is looked up.

    importlib's LazyLoader would not do: its modules are loaded by the next import.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def starting_fast() -> Iterator[None]:
    """Import without scipy.stats until it is used, and without collecting garbage.

    Imports make no garbage, and the collector would look at all that stays.
    """
    sys.modules.setdefault(_DEFERRED, _Deferred(_DEFERRED))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
