"""The properties that a copy keeps: headers, metadata, tags and storage class.

Headers and metadata come with the content. Tags and storage class take one more
request for each object, so they are copied only on request. A store without
properties gets the content alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from craftsync.core.model import RemoteObject
from craftsync.stores.base import Properties, Reader, Store

SOURCE = "source"
"""As a storage class: keep that of each object."""
UNREADABLE = {"GLACIER", "DEEP_ARCHIVE"}
"""Classes whose objects must be restored before they can be read (AWS S3 user guide, "Storage classes")."""


@dataclass(frozen=True, slots=True)
class PropertyPolicy:
    """Decides the properties of copies from one store to another.

    `storage_class` is that of every copy, or `SOURCE`. `tags` is whether copies
    that are not made by the server keep their tags.
    """

    source: Store
    target: Store
    storage_class: str | None = None
    tags: bool = False

    def asks(self, *, server_side: bool) -> bool:
        """Return whether each object takes an extra request for its properties."""
        wanted = self.storage_class == SOURCE or (self.tags and not server_side)
        return wanted and self._both_describe()

    def class_of_copy(self, original: RemoteObject) -> str | None:
        """Return the storage class for a copy by the server, which keeps all other properties by itself."""
        if not self.asks(server_side=True):
            return None if self.storage_class == SOURCE else self.storage_class
        return self._asked(original).storage_class

    def writer(
        self, original: RemoteObject, reader: Reader | None = None
    ) -> Callable[..., RemoteObject]:
        """Return the target's `write` with the properties for a copy that is not made by the server.

        `reader` is the reader of the content, if it was read already.
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
