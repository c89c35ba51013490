"""The versions that a bucket with versioning keeps of an object: which are not current, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from craftsync.core.paths import is_own, malformed
from craftsync.stores.base import OldVersion
from craftsync.stores.s3.errors import broken
from craftsync.stores.s3.objects import modified_ns_of, version_of


class ListedVersion(NamedTuple):
    """A version of a key, as the server writes it; a delete marker says that it was deleted then."""

    key: str
    deleted: bool
    version_id: str
    latest: str
    etag: str
    size: str
    modified: str


def old_versions(
    pages: Iterable[list[ListedVersion]], root: str, location: str
) -> Iterator[OldVersion]:
    """Yield them as `Store.old_versions` does; `root` is what the store's keys begin with."""
    pairing = _Pairing()
    try:
        for page in pages:
            for listed, gone_ns in pairing.of(page):
                path = listed.key[len(root) :]
                if not is_own(path) and malformed(path) is None:
                    yield OldVersion(
                        path,
                        listed.version_id,
                        version_of(listed.etag),
                        int(listed.size),
                        modified_ns_of(listed.modified),
                        gone_ns,
                    )
    except ValueError as error:
        raise broken(location, "a version has a time or size that is none") from error


class _Pairing:
    """Finds out when each version went: when the next one of its key, or a delete marker, was made."""

    def __init__(self) -> None:
        self._key, self._newer_ns = "", 0
        self._deleted: dict[str, list[int]] = {}

    def of(self, page: list[ListedVersion]) -> Iterator[tuple[ListedVersion, int]]:
        """Yield the versions of a page that are not current, and when each went.

        Raises `ValueError` for a time that is none.
        """
        self._deleted = {self._key: self._deleted.get(self._key, [])}
        for listed in page:
            if listed.deleted:
                self._deleted.setdefault(listed.key, []).append(modified_ns_of(listed.modified))
        for listed in page:
            if not listed.deleted:
                modified_ns = modified_ns_of(listed.modified)
                newer = [self._newer_ns] if listed.key == self._key else []
                deleted = [ns for ns in self._deleted.get(listed.key, []) if ns >= modified_ns]
                self._key, self._newer_ns = listed.key, modified_ns
                if listed.latest != "true":
                    yield listed, min([*newer, *deleted], default=modified_ns)
