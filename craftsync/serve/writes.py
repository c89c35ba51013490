"""What changes the store: nothing it replaces or deletes is lost, and it is durable when it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex

from craftsync.clock import Clock, stamp
from craftsync.core.model import RemoteObject
from craftsync.core.paths import is_own
from craftsync.stores.base import Source, Store
from craftsync.stores.keeping import kept

NoteKept = Callable[[str, str, int], None]
"""Takes stamp, path and bytes of a version that went to the store's trash; from any thread."""


def note_nothing(stamp: str, path: str, size: int) -> None:
    """Keep no record."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Writes and deletes in one store, from several threads at once."""

    store: Store
    clock: Clock
    note: NoteKept = note_nothing

    def write(self, path: str, content: Source) -> RemoteObject:
        """Put content at a path and return what the store now holds there."""
        keep = self._keep(path)
        written = self.store.write(path, content, expect=None, operation=token_hex(16), keep=keep)
        self._note(path, keep)
        return self.store.barrier().get(path, written)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is a success."""
        keep = self._keep(path)
        self.store.delete(path, expect=None, keep=keep)
        self._note(path, keep)
        self.store.barrier()

    def _keep(self, path: str) -> str | None:
        """Return the name under which the store keeps what is replaced or deleted.

        What lies in its trash is not kept again, or the trash could not be emptied.
        """
        return None if is_own(path) else stamp(self.clock)

    def _note(self, path: str, keep: str | None) -> None:
        if keep is not None and (version := kept(self.store, keep, path)):
            self.note(keep, path, version.size)
