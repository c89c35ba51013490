"""What a write or delete displaces: looked at, compared, and kept.

The platform checks no condition and copies nothing. What is to be kept is read
and written again under its name in the trash, in parts that never add up to
more memory than a few parts, before the original is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from craftsync.core.model import OWN_FOLDER, Absent, RemoteObject
from craftsync.errors import NotKept, ObjectArchived, ObjectNotFound, PreconditionFailed
from craftsync.stores.base import Expect
from craftsync.stores.craftai.looks import Looks
from craftsync.stores.craftai.objects import check
from craftsync.stores.craftai.reading import Reading, StoredSource
from craftsync.stores.craftai.writing import Writing


class Displacing:
    """Prepares writes and deletes; `look` describes what is at a path."""

    def __init__(
        self,
        reading: Reading,
        writing: Writing,
        looks: Looks,
        look: Callable[[str], RemoteObject | None],
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._looks = looks
        self._look = look

    def prepare_write(self, path: str, expect: Expect, keep: str | None) -> RemoteObject | None:
        """Do what comes before a write, and return what it displaces, as far as anybody looked.

        Raises `PreconditionFailed` when the write must not be made.
        """
        if isinstance(expect, Absent):
            check(path, self._looks.find(path), expect)
            return None
        if expect is None and keep is None:
            return None
        current = self._look(path)
        check(path, current, expect)
        if current is not None and keep is not None and not self._keep(current, keep):
            raise PreconditionFailed(f"{path} is gone.")
        return current

    def prepare_delete(self, path: str, expect: Expect, keep: str | None) -> bool:
        """Do what comes before a delete; tell whether there is anything to delete."""
        if expect is None and keep is None:
            return True
        current = self._look(path)
        if current is None:
            return False
        check(path, current, expect)
        return keep is None or self._keep(current, keep)

    def copy(self, source: RemoteObject, target: str, operation: str) -> RemoteObject:
        """Write the content of an object under another name, and return the new object."""
        return self._writing.write(
            target, StoredSource(self._reading, source), operation, before=lambda: None
        )

    def confirm_readable(self, path: str) -> None:
        """Raise `NotKept` if what is at a path is archived, which a large write would else find out at its end."""
        with suppress(ObjectNotFound):
            try:
                with self._reading.open(path, None, 0, 1):
                    return
            except ObjectArchived as error:
                raise NotKept(path) from error

    def _keep(self, current: RemoteObject, keep: str) -> bool:
        """Copy an object into the trash; False when it is not there any more."""
        target = f"{OWN_FOLDER}/trash/{keep}/{current.path}"
        try:
            self.copy(current, target, operation=keep)
        except ObjectNotFound:
            return False
        except ObjectArchived as error:
            raise NotKept(current.path) from error
        return True
