"""The versions that a bucket keeps besides the current ones."""

from __future__ import annotations

from collections.abc import Iterator

from craftsync.core.paths import is_own, malformed
from craftsync.stores.base import OldVersion
from craftsync.stores.s3.calls import Calls
from craftsync.stores.s3.errors import broken
from craftsync.stores.s3.objects import modified_ns_of, version_of


def old_versions(calls: Calls, root: str, prefix: str, location: str) -> Iterator[OldVersion]:
    """Yield them as `VersionedStore.old_versions` does; `root` is what the store's keys begin with.

    A bucket lists the versions of a key newest first. Each was replaced or
    deleted when the one before it in this list was made.
    """
    newer_key, newer_ns = "", 0
    for listed in calls.list_versions(root + prefix):
        path, gone_ns = listed.key[len(root) :], newer_ns
        is_old, newer_key = listed.key == newer_key, listed.key
        try:
            newer_ns = modified_ns_of(listed.modified)
            size = 0 if listed.deleted else int(listed.size)
        except ValueError as error:
            raise broken(location, "a version has a time or size that is none") from error
        if is_old and not listed.deleted and not is_own(path) and malformed(path) is None:
            version = version_of(listed.etag)
            yield OldVersion(path, listed.version_id, version, size, newer_ns, gone_ns)
