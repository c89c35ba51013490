"""Finds out what a server really does, by trying it on objects of its own.

Many servers accept a condition and ignore it, and some hide objects or list
them in an order of their own; none of that can be read from anywhere. All of
it happens below `.craftsync/probe/`, in about twenty small requests.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import md5
from typing import TYPE_CHECKING, TypeVar

from craftsync.core.model import OWN_FOLDER
from craftsync.errors import PreconditionFailed, StoreDenied, StoreError, StoreUnavailable
from craftsync.stores.s3.errors import broken
from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.objects import CREATE, Condition, notes
from craftsync.stores.s3.page import BrokenPage, ascending, parse

if TYPE_CHECKING:
    from craftsync.stores.s3.store import S3Store

T = TypeVar("T")

_BODY = b"craftsync"
_NOBODY = "0" * 32
"""A version no object has."""

_REMOVALS = 4
"""Attempts to remove something of ours; no later probe knows its name."""

_NAMES = ("p!", "p/x", "p\uff21", "p\U0001f600")
"""In the byte order of UTF-8. A server that walks folders, or sorts by UTF-16, lists them otherwise."""

_FILE, _BELOW = "pq", "pq/x"
"""Two objects that cannot be together where a store is made of folders, or where one then hides the other."""


def probe(store: S3Store) -> ProbedFacts:
    """Return the facts about a store's bucket; where nothing may be written, the most careful ones.

    Raises what the store raises when it cannot be reached at all. Leaves
    nothing behind, unless it is interrupted.
    """
    with ThreadPoolExecutor(8, thread_name_prefix="probe") as pool:
        return _Probe(store, pool).facts()


class _Probe:
    def __init__(self, store: S3Store, pool: ThreadPoolExecutor) -> None:
        self._calls = store.calls
        self._location = store.location
        self._pool = pool
        self._folder = f"{store.root}{OWN_FOLDER}/probe/{uuid.uuid4().hex}/"
        self._object = self._folder + "object"
        self._copy = self._folder + "copy"
        self._operation = uuid.uuid4().hex
        self._notes = notes(md5(_BODY).digest() * 2, 1_234_567_890_123_456_789, self._operation)

    def facts(self) -> ProbedFacts:
        versioning = self._pool.submit(self._unless_refused, self._calls.versioning, False)
        try:
            try:
                version = self._put(self._object)
            except StoreDenied:
                return ProbedFacts(keeps_versions=versioning.result())
            return self._tried(version, keeps_versions=versioning.result())
        finally:
            self._clean_up()

    def _tried(self, version: str, *, keeps_versions: bool) -> ProbedFacts:
        conditions = self._pool.submit(self._conditions)
        self._put_names()
        reading = self._pool.submit(self._reading)
        copying = self._pool.submit(self._copying)
        listed = self._listed()
        delete = self._is_unmet(lambda: self._calls.delete(self._folder + _NAMES[0], _NOBODY))
        metadata, ranges = reading.result()
        server_side_copy, conditional_copy = copying.result()
        create, replace, complete_create, complete_replace = conditions.result()
        return ProbedFacts(
            conditional_create=create,
            conditional_replace=replace,
            conditional_delete=delete,
            conditional_complete_create=complete_create,
            conditional_complete_replace=complete_replace,
            conditional_copy=conditional_copy,
            server_side_copy=server_side_copy,
            md5_versions=version == md5(_BODY, usedforsecurity=False).hexdigest(),
            metadata=metadata,
            ranges=ranges,
            keeps_versions=keeps_versions,
            sorted_listing=ascending(listed),
            folders=not {self._folder + _FILE, self._folder + _BELOW} <= set(listed),
        )

    def _put(self, key: str, condition: Condition = None) -> str:
        return self._calls.put(key, _BODY, self._notes, condition)

    def _put_names(self) -> None:
        names = (*_NAMES, _FILE)
        for put in [self._pool.submit(self._put, self._folder + name) for name in names]:
            put.result()
        # After the other one: rclone, asked for it the other way round, cannot remove either of them.
        with suppress(StoreError):
            self._put(self._folder + _BELOW)

    def _listed(self) -> Sequence[str]:
        query = [("encoding-type", "url"), ("prefix", self._folder + "p")]
        try:
            return parse(self._calls.list_page(query)).keys
        except BrokenPage as error:
            raise broken(self._location, str(error)) from error

    def _conditions(self) -> tuple[bool, bool, bool, bool]:
        """Try the four conditions of a write, one after the other: at once they would disturb each other."""
        create = self._is_unmet(lambda: self._put(self._object, CREATE))
        replace = self._is_unmet(lambda: self._put(self._object, _NOBODY))
        return create, replace, *self._completing()

    def _reading(self) -> tuple[bool, bool]:
        """Tell whether metadata comes back, and whether a range does."""
        found = self._calls.head(self._folder + _FILE)
        metadata = found is not None and found.metadata.items() >= self._notes.items()
        return metadata, self._unless_refused(self._range_is_right, False)

    def _range_is_right(self) -> bool:
        with self._calls.get(self._folder + _FILE, None, 2, 3) as opened:
            return opened.start == 2 and b"".join(opened.chunks) == _BODY[2:5]

    def _copying(self) -> tuple[bool, bool]:
        """Tell whether the server copies, and whether it checks what a copy would replace."""
        copy = partial(self._calls.copy, self._folder + _FILE, self._copy, version=None)
        if not self._unless_refused(copy, ""):
            return False, False
        return True, self._is_unmet(lambda: copy(condition=CREATE))

    def _completing(self) -> tuple[bool, bool]:
        """Tell whether the completion of an upload is checked, for a new object and for a replaced one."""
        key = self._object
        upload = self._unless_refused(lambda: self._calls.begin_upload(key, self._notes, {}), "")
        if not upload:
            return False, False
        try:
            parts = {1: self._calls.upload_part(key, upload, 1, _BODY)}
            complete = partial(self._calls.complete_upload, key, upload, parts)
            create = self._is_unmet(lambda: complete(CREATE))
            return create, create and self._is_unmet(lambda: complete(_NOBODY))
        finally:
            self._remove(partial(self._calls.abort_upload, key, upload))

    def _is_unmet(self, act: Callable[[], object]) -> bool:
        """Tell whether the server finds the condition unmet, as it should."""

        def unmet() -> bool:
            try:
                act()
            except PreconditionFailed:
                return True
            return False

        return self._unless_refused(unmet, False)

    def _unless_refused(self, act: Callable[[], T], otherwise: T) -> T:
        """Return what the server does, or `otherwise`; a passing failure proves nothing and is raised."""
        try:
            return act()
        except StoreUnavailable:
            raise
        except StoreError:
            return otherwise

    def _clean_up(self) -> None:
        """Remove everything again. A failure is left alone: the facts are what was asked for."""
        # What is under way when another attempt has failed would come after the removal.
        self._pool.shutdown(cancel_futures=True)
        names = ("object", "copy", _FILE, _BELOW, *_NAMES)
        keys = [self._folder + name for name in names]
        try:
            self._calls.delete_many(keys)
        except StoreError:
            for key in keys:
                self._remove(partial(self._calls.delete, key))

    def _remove(self, act: Callable[[], object]) -> None:
        """Remove one thing, for good: nobody above would try again."""
        for _ in range(_REMOVALS):
            with suppress(StoreUnavailable):
                self._is_unmet(act)
                return
