"""Memory that a process takes for a second and then not for hours: the system gets it back."""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE_BYTES = 1024 * 1024


def return_large_blocks() -> None:
    """From now on have blocks of a MiB and more given back as soon as they are freed.

    By itself glibc keeps among the small ones what is no larger than the largest that was ever freed (mallopt(3)): a
    dict that grows a second time leaves holes there, which are returned to nobody. Does nothing with another libc.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def return_memory() -> None:
    """Give back what was freed and is kept for objects to come.

    Python's free lists hold a few objects in most of its arenas of a MiB, and each keeps its arena whole. A full
    collection empties these lists. Takes some 30 ms.
    """
    gc.collect()
