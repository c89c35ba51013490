"""What this process may use: file descriptors and memory.

A finished download that is not in place yet is an open file, a transfer is a
file and a socket, and a watched folder needs a dozen descriptors.

glibc keeps large freed blocks in a heap of each thread and rarely gives them back
(mallopt(3), "dynamic mmap threshold"). Measured: 20 objects of 15 MiB left a
process at 314 MiB, at 147 MiB with the threshold fixed.
"""

from __future__ import annotations

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
    import ctypes  # Every command would pay for it.

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
