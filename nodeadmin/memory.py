"""How this process handles memory: what is free goes back to the system, and looking for it stops nobody.

glibc hands large blocks back at once only as long as none of their size has been freed before: after that
they come from its heaps, which have holes ever after (mallopt(3), M_MMAP_THRESHOLD). And it makes eight heaps
a processor, each with holes of its own. A server that has once held a large document would keep its size.
"""

from __future__ import annotations

import ctypes
import gc
import threading

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BYTES = 256 << 10
"""From here on: below it, what a host sends piece by piece would cost a system call each."""
HEAPS = 2
HOLES_EVERY_S = 15.0


def give_back_memory() -> None:
    """Bound what this process keeps of memory that it has freed. Without glibc it does nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_ARENA_MAX, HEAPS)


def give_back_holes(closing: threading.Event) -> None:
    """Until ``closing``, give back again and again what is free in the middle of the heaps (malloc_trim(3)):
    of many small things that end between others that stay, nothing else does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None and not closing.wait(HOLES_EVERY_S):
        trim(0)


def leave_out_what_stays() -> None:
    """Have Python look for cycles among what is made from now on alone: all threads stand still meanwhile,
    for most of a second where all of a server's modules are looked through as well."""
    gc.collect()
    gc.freeze()
