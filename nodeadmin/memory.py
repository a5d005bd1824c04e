"""Gives memory back to the system once it is free.

glibc hands large blocks back at once only as long as none of their size has been freed before: after that
they come from its heaps, which have holes ever after (mallopt(3), M_MMAP_THRESHOLD). And it makes eight heaps
a processor, each with holes of its own. A server that has once held a large document would keep its size.
"""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BYTES = 1 << 20
"""From here on: below it, what a host sends piece by piece would cost a system call each."""
HEAPS = 4


def give_back_memory() -> None:
    """Bound what this process keeps of memory that it has freed. Without glibc it does nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_ARENA_MAX, HEAPS)
