"""What this process may hold: descriptors and memory.

How many descriptors this process may hold open, and how many of them a run may take.

A download that is finished and not yet swapped in is an open file, a transfer
under way is a file and a socket, and each folder that is watched needs a dozen.

Memory that is given back to the system as soon as it is free.

Once a block of some size was freed, glibc takes later ones of that size from
heaps of its own, one for each thread, which hardly ever shrink (mallopt(3),
"dynamic mmap threshold"): 20 objects of 15 MiB, 96 MiB at a time, made a
process of 314 MiB, and of 147 MiB with the threshold held; a daemon among
files of up to 30 MB went from 54 to 185 MB within five minutes.
"""

from __future__ import annotations

import ctypes
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_WANTED = 65_536
"""More is never asked for: some programs close every number up to the limit."""
_KEPT_FREE = 128
"""Of the limit, for what is no transfer: databases, watches, standard streams, libraries."""
_EACH = 2
"""Descriptors of a step that is under way, at most."""
_LEAST = 8

_lock = threading.Lock()
_runs = 0
_share: int | None = None
"""Steps of each run, as the limit was when a run last began or ended; `None` for no limit."""


def raise_limit() -> None:
    """Raise the soft limit of open files towards the hard one, as servers do at their start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def shared() -> Iterator[None]:
    """Count as one of the runs that share the descriptors of this process."""
    global _runs
    with _lock:
        _runs += 1
        _divide()
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            _divide()


def _divide() -> None:
    """Work out the share of each run; asking the system for each step would cost more than the step's answer."""
    global _share
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    usable = max(soft - _KEPT_FREE, soft // 2) // _EACH // max(_runs, 1)
    _share = None if soft == resource.RLIM_INFINITY else max(_LEAST, usable)


def steps_at_once(most: int) -> int:
    """Return how many steps a run may have under way or unrecorded, `most` or fewer, as runs begin and end.

    Only for a run that counts as one (`shared`).
    """
    return most if _share is None or _share > most else _share


_M_MMAP_THRESHOLD = -3
_LARGE = 1024 * 1024


@cache
def give_back_large_blocks() -> None:
    """Let every block of a MiB or more be a mapping of its own, where the C library can be told so."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
