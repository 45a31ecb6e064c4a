"""Settings of the C allocator, which training on a CPU depends on."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reuse_large_blocks"]

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
# The largest values that glibc itself sets the thresholds to, and its default.
_DEFAULTS = {
    _TRIM_THRESHOLD: 64 * 2**20,
    _MMAP_THRESHOLD: 32 * 2**20,
    _MMAP_MAX: 65536,
}


@contextmanager
def reuse_large_blocks() -> Iterator[None]:
    """Keep freed memory in the process while the context lasts, if glibc is used.

    The output of a layer is often larger than 32 MB, and glibc asks the kernel for
    fresh pages for every block of that size. The kernel clears each page, which takes
    as long as the arithmetic of a small network. The memory is released at the end.

    Yields
    ------
    None
        Nothing. Without glibc, the context has no effect.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
