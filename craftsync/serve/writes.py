"""What changes the store: nothing it displaces is lost, and it is durable when it is answered."""

from __future__ import annotations

from secrets import token_hex

from craftsync.clock import Clock, stamp
from craftsync.core.model import RemoteObject
from craftsync.core.paths import is_own
from craftsync.stores.base import Source, Store


def write(store: Store, clock: Clock, path: str, content: Source) -> RemoteObject:
    """Put content at a path and return what the store now holds there."""
    keep = _keep(clock, path)
    written = store.write(path, content, expect=None, operation=token_hex(16), keep=keep)
    return store.barrier().get(path, written)


def delete(store: Store, clock: Clock, path: str) -> None:
    """Remove an object; one that is not there is a success."""
    store.delete(path, expect=None, keep=_keep(clock, path))
    store.barrier()


def _keep(clock: Clock, path: str) -> str | None:
    """Return the name under which the store keeps what is displaced.

    What lies in its trash is not kept again, or the trash could not be emptied.
    """
    return None if is_own(path) else stamp(clock)
