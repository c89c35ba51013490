"""What belongs to an object besides its content, and what a store keeps to that knows of it.

An addition to the contract of `base`, for those of its users that carry
objects from one such store to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from craftsync.core.model import RemoteObject
from craftsync.stores.base import Expect, Reader, Source, Store, UploadJournal


class Properties(NamedTuple):
    """What belongs to an object besides its content; all names are lower-case.

    `headers` are those of HTTP, such as content-type; `metadata` is what the
    object's owner noted there, without craftsync's notes; `tags` are written
    `name=value&…`, percent-encoded. Without a `storage_class` it is the store's
    usual one, or nobody has asked.
    """

    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: str = ""
    storage_class: str | None = None


class DescribedReader(Reader, Protocol):
    """An object being read from a `DescribingStore`."""

    @property
    def properties(self) -> Properties:
        """What the answer tells of them, which is all but tags and storage class."""
        ...


class DescribingStore(Store, Protocol):
    """A store whose objects have `Properties`: one with `Features.properties`. Its readers are `DescribedReader`s."""

    def properties(self, expect: RemoteObject) -> Properties:
        """Ask for all properties of an object, with a request of its own, or two where there are tags.

        Raises `ObjectNotFound`, or `PreconditionFailed` when it is not the one
        expected.
        """
        ...

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        keep: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        """As in `Store`; the object gets these properties besides craftsync's notes."""
        ...
