"""Limits of this process: file descriptors (`steps_at_once`) and memory (`give_back_large_blocks`).

A finished download that is not in place yet is an open file, a transfer is a file and a socket, and
a watched folder needs a dozen descriptors.

glibc keeps large freed blocks in a heap of each thread and rarely returns them to the system
(mallopt(3), "dynamic mmap threshold"). Measured: after 20 objects of 15 MiB a process had 314 MiB,
and 147 MiB with the threshold fixed.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_WANTED = 65_536
"""The limit is never raised further: some child programs close every descriptor up to it."""
_KEPT_FREE = 128
"""Descriptors for other uses than transfers: databases, watches, standard streams, libraries."""
_EACH = 2
"""The most descriptors of one step under way."""
_LEAST = 8

_lock = threading.Lock()
_runs = 0
_share: int | None = None
"""How many steps each run may have under way, updated as runs begin and end; `None` is no limit."""


def raise_limit() -> None:
    """Raise the soft limit of open files towards the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def shared() -> Iterator[None]:
    """Count the block as one of the runs that share this process's descriptors."""
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
    """Update the share of each run. Reading the limit for each step would cost too much."""
    global _share
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    usable = max(soft - _KEPT_FREE, soft // 2) // _EACH // max(_runs, 1)
    _share = None if soft == resource.RLIM_INFINITY else max(_LEAST, usable)


def steps_at_once(most: int) -> int:
    """Return how many steps a run inside `shared` may have under way or unrecorded, at most `most`."""
    return most if _share is None or _share > most else _share


_M_MMAP_THRESHOLD = -3
_LARGE = 1024 * 1024


@cache
def give_back_large_blocks() -> None:
    """Make glibc map every block of 1 MiB or more separately, and so return it to the system when freed."""
    import ctypes  # Slow to import, and needed by few commands.

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
