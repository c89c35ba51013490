"""What of an object its copy keeps besides the content: headers, metadata, tags, the storage class.

Headers and metadata come with the content of a read. Tags and storage class
have to be asked for, which is a request for each object: only where they were
asked for. A store that knows nothing of all this gets the content alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from craftsync.core.model import RemoteObject
from craftsync.stores.base import Properties, Reader, Store

SOURCE = "source"
"""In the place of a storage class: that of each object."""
UNREADABLE = {"GLACIER", "DEEP_ARCHIVE"}
"""Classes whose objects have to be restored before they can be read (AWS S3 user guide, "Storage classes")."""


@dataclass(frozen=True, slots=True)
class PropertyPolicy:
    """Finds out what the copies from one store in another are to have.

    `storage_class` is for every copy, or `SOURCE`; `tags` says whether a copy
    whose bytes pass through here keeps them.
    """

    source: Store
    target: Store
    storage_class: str | None = None
    tags: bool = False

    def asks(self, *, server_side: bool) -> bool:
        """Tell whether each object is asked for more than a copy of its content takes."""
        wanted = self.storage_class == SOURCE or (self.tags and not server_side)
        return wanted and self._both_describe()

    def class_of_copy(self, original: RemoteObject) -> str | None:
        """Return the storage class of a copy that the server makes, which keeps everything else by itself."""
        if not self.asks(server_side=True):
            return None if self.storage_class == SOURCE else self.storage_class
        return self._asked(original).storage_class

    def writer(
        self, original: RemoteObject, reader: Reader | None = None
    ) -> Callable[..., RemoteObject]:
        """Return the target's `write`, told what a copy gets whose content passes through here.

        `reader` is the one the content came from, if it has come already.
        """
        if not self.target.features.properties:
            return self.target.write
        return partial(self.target.write, properties=self._properties(original, reader))

    def _properties(self, original: RemoteObject, reader: Reader | None) -> Properties:
        found = self._found(original, reader)
        chosen = found.storage_class if self.storage_class == SOURCE else self.storage_class
        return found._replace(tags=found.tags if self.tags else "", storage_class=chosen)

    def _found(self, original: RemoteObject, reader: Reader | None) -> Properties:
        if not self.source.features.properties:
            return Properties({}, {})
        if reader is None or self.asks(server_side=False):
            return self._asked(original)
        return reader.properties or Properties({}, {})

    def _asked(self, original: RemoteObject) -> Properties:
        return self.source.properties(original)

    def _both_describe(self) -> bool:
        return self.source.features.properties and self.target.features.properties
