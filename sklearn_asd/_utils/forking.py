"""Processes that fork after they have computed, such as workers of servers."""

from __future__ import annotations

import os
from ctypes import CDLL

from threadpoolctl import LibController, ThreadpoolController

__all__ = ["make_children_compute"]

# omp_pause_soft (OpenMP 5.0): only the threads are given up.
_SOFT = 1

# Runtimes whose threads could not be ended before the fork in progress.
_RUNNING: list[LibController] = []


def make_children_compute() -> None:
    """Make children of this process compute, which would otherwise wait for ever.

    A fork copies one thread. The copy of GNU OpenMP, which torch and scikit-learn use,
    waits for the others at its next loop. So its threads are ended before each fork,
    within milliseconds; the next loop of parent and child starts them again. Versions
    that cannot end them use one thread in children.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(before=_end_threads, after_in_child=_use_one_thread)


def _end_threads() -> None:
    found = ThreadpoolController().select(prefix="libgomp").lib_controllers
    _RUNNING[:] = [runtime for runtime in found if not _pause(runtime)]


def _pause(runtime: LibController) -> bool:
    library = CDLL(runtime.filepath)  # which is loaded already
    pause = getattr(library, "omp_pause_resource_all", None)  # since GCC 9
    return pause is not None and pause(_SOFT) == 0


def _use_one_thread() -> None:
    for runtime in _RUNNING:
        runtime.set_num_threads(1)
