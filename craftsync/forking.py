"""What a forked child must not share with its parent: connections, locks, threads and worker processes.

Two processes on one connection read each other's answers, and a lock that
another thread held at the fork stays locked in the child for ever. So whoever
keeps such a thing says here how a child starts without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")

_owners: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def in_children(owner: Owner, start: Callable[[Owner], None]) -> None:
    """Call `start(owner)` in each child that is forked while `owner` lives.

    It runs in the only thread of the child, before anything else, and must not
    wait. `start` is a function of the class, because a bound method would keep
    the owner alive.
    """
    _owners[owner] = start


def _start_child() -> None:
    for owner, start in list(_owners.items()):
        start(owner)


os.register_at_fork(after_in_child=_start_child)
