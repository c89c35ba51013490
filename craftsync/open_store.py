"""Opens the store at a place: a directory, a bucket or an environment, wrapped so that it retries.

The libraries of a store are imported only when it is opened, because importing boto3 alone takes
longer than a small push.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from craftsync.clock import CancellableClock, Clock
from craftsync.config import places
from craftsync.config.options import Transport
from craftsync.config.places import CraftAiLocation, DirectoryLocation, Location
from craftsync.core.model import OWN_FOLDER
from craftsync.errors import StoreMissing

if TYPE_CHECKING:
    from craftsync.stores.base import Store
    from craftsync.stores.craftai import Access
    from craftsync.stores.retrying import RetryingStore

_open: list[RetryingStore] = []
"""The stores that this process has open."""
_SILENT_SECONDS = 10.0
"""After this long without a response to a short request, the user is informed."""


@contextmanager
def open_store(location: Location, *, create: bool, raw_keys: bool = False) -> Iterator[Store]:
    """Open a store that retries transient failures, and close it afterwards.

    A missing directory store is created with `create`, and otherwise raises `StoreMissing`. With
    `raw_keys`, a bucket includes keys that are not valid paths. Raises `UsageError` if the token,
    or the SDK, of a Craft AI environment is missing.
    """
    from craftsync.stores.retrying import RetryingStore

    clock = CancellableClock()
    with closing(_store_at(location, clock, create=create, raw_keys=raw_keys)) as store:
        retrying = RetryingStore(store, clock=clock)
        _open.append(retrying)
        try:
            yield retrying
        except KeyboardInterrupt:
            # A thread whose start a signal cut off belongs to no pool: end its request here, or the
            # process waits for it.
            retrying.cancel()
            raise
        finally:
            _open.remove(retrying)


def waits() -> str | None:
    """Return the open store that this process waits for, how long and why; `None` while all respond.

    Thread-safe. The text contains the store's own words, which are not safe for a terminal.
    """
    for store in tuple(_open):
        health, host = store.health, store.features.host
        if why := health.trouble(_SILENT_SECONDS):
            place = store.location
            if host and host.rpartition("//")[2] not in place:
                place = f"{place} at {host}"
            return f"waiting for {place} ({health.now() - health.last:.0f} s): {why.rstrip('.')}"
    return None


def _store_at(location: Location, clock: Clock, *, create: bool, raw_keys: bool) -> Store:
    if isinstance(location, DirectoryLocation):
        from craftsync.stores.directory import DirectoryStore

        if create and not places.exists(location):
            return DirectoryStore.create(location.path, reserve=location.reserve)
        return DirectoryStore(location.path, reserve=location.reserve)
    if isinstance(location, CraftAiLocation):
        return _environment(location, clock)
    from craftsync.stores.s3 import S3Store, WriteSettings

    access = location.access
    return S3Store(
        location.bucket,
        location.prefix,
        profile=access.profile,
        region=access.region,
        endpoint_url=access.endpoint_url,
        request_payer=access.request_payer,
        raw_keys=raw_keys,
        clock=clock,
        settings=WriteSettings(access.content_type, access.storage_class, access.sse),
    )


def _environment(location: CraftAiLocation, clock: Clock) -> Store:
    from craftsync.stores.craftai import CraftAiStore

    asked = access_to(location)
    if location.access.transport is Transport.API:
        return CraftAiStore(asked, location.folder, clock=clock)
    from craftsync.stores.craftai.sdk import Sdk

    return CraftAiStore(asked, location.folder, clock=clock, sdk=Sdk(asked, clock))


def access_to(location: CraftAiLocation) -> Access:
    """Return the addresses and credentials of an environment. The token is read when it is needed."""
    from craftsync.stores.craftai import CONTROL_URL, Access

    control_url, find_token, token_name = places.credentials_of(location)
    return Access(location.url, find_token, control_url or CONTROL_URL, token_name)


def spelled_out(location: CraftAiLocation) -> CraftAiLocation:
    """Return an environment with the control URL from variables, unless that is the platform's default."""
    from craftsync.stores.craftai import CONTROL_URL

    found = access_to(location).control_url
    given = None if found.rstrip("/") == CONTROL_URL.rstrip("/") else found
    return replace(location, access=replace(location.access, control_url=given))


def refuse_nothing(store: Store, word: str) -> None:
    """Raise `StoreMissing` if `word` is a folder, without any object, of a bucket or an environment.

    Such a folder exists only through its objects, so the name is probably mistyped; a folder that
    was ever synced has an identity file. A whole bucket, environment or folder on disk may be
    empty.
    """
    if not _names_folder(word) or next(iter(store.list()), None) is not None:
        return
    if next(iter(store.list(f"{OWN_FOLDER}/")), None) is None:
        raise StoreMissing(
            f"Nothing in {store.location}.",
            remedy="Check the name; craftsync ls of the store above it shows what there is.",
        )


def _names_folder(word: str) -> bool:
    scheme, found, rest = word.partition("://")
    if found:
        return scheme != "file" and bool(rest.partition("/")[2].strip("/") or _in_variables(word))
    return not places.is_path(word) and bool(word.partition(":")[2])


def _in_variables(word: str) -> bool:
    """Return whether a word is a folder of the environment that variables set: its URL has no host."""
    return word.startswith("craft-ai://") and word != "craft-ai://"
