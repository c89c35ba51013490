"""Memory that is given back to the system as soon as it is free.

Once a block of some size was freed, glibc takes later ones of that size from
heaps of its own, one for each thread, which hardly ever shrink (mallopt(3),
"dynamic mmap threshold"): 20 objects of 15 MiB, 96 MiB at a time, made a
process of 314 MiB, and of 147 MiB with the threshold held; a daemon among
files of up to 30 MB went from 54 to 185 MB within five minutes.
"""

from __future__ import annotations

import ctypes
from functools import cache

_M_MMAP_THRESHOLD = -3
_LARGE = 1024 * 1024


@cache
def give_back_large_blocks() -> None:
    """Let every block of a MiB or more be a mapping of its own, where the C library can be told so."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
