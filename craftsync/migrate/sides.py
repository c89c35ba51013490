"""The two stores of a migration as the sides of a run, within one range of paths; and the detection of nested stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from craftsync.core.model import LocalFile, RemoteObject, Skipped, as_left
from craftsync.core.paths import is_own
from craftsync.engine.identity import STORE_ID_FILE, read_id
from craftsync.engine.planner import in_batches
from craftsync.engine.sides import StoreSide, stat_all
from craftsync.errors import PathError, UsageError
from craftsync.local.ignore import CallRules, IgnoredCounter
from craftsync.migrate.shards import Span
from craftsync.stores.base import Store
from craftsync.stores.retrying import now_by


@dataclass(frozen=True, slots=True)
class SourceSide:
    """A store on the left side."""

    store: Store
    rules: CallRules
    span: Span
    nesting: NestingDetector | None = None
    _ignored: IgnoredCounter = field(default_factory=IgnoredCounter)

    word = "source"
    stage = "listing the source"
    is_folder = False

    @property
    def is_sorted(self) -> bool:
        return self.store.features.sorted_listing

    def scan(self, boundaries: Sequence[str], known: int) -> Iterable[LocalFile | Skipped]:
        watched = self.nesting is not None
        listing = self.store.list(boundaries=boundaries, nested_own=watched)
        entries = self.rules.of(self.span.of(listing, in_order=self.is_sorted), self._ignored)
        return map(_left, self.nesting.source_seen(entries) if self.nesting else entries)

    def look(self, paths: Sequence[str]) -> Iterator[LocalFile | Skipped]:
        for names in in_batches(iter(paths)):
            yield from map(_left, stat_all(self.store, names, listed=True))

    @property
    def ignored_count(self) -> int:
        return self._ignored.count

    def stat(self, path: str) -> LocalFile | None:
        found = self.store.stat(path)
        return None if found is None else as_left(found)

    def sync(self) -> None:
        """Do nothing: the source is never written."""

    def ignored(self, path: str) -> bool:
        return not self.span.holds(path) or self.rules.ignored(path)

    def may_hide(self, path: str) -> bool:
        return self.ignored(path)

    def is_empty(self) -> bool:
        """Return whether the whole store is empty, not only this share."""
        return next(iter(self.store.list()), None) is None

    def now_ns(self, here_ns: int) -> int:
        return now_by(self.store, here_ns)


def _left(entry: RemoteObject | Skipped) -> LocalFile | Skipped:
    return entry if isinstance(entry, Skipped) else as_left(entry)


@dataclass(frozen=True, slots=True)
class TargetSide(StoreSide):
    """The store that is written. With `is_mirror`, objects missing in the source are deleted."""

    rules: CallRules
    span: Span
    nesting: NestingDetector | None = None
    is_mirror: bool = False

    word = "target"
    stage = "listing the target"

    def list(self, boundaries: Sequence[str]) -> Iterator[RemoteObject | Skipped]:
        listing = StoreSide.list(self, boundaries)
        in_order = self.store.features.sorted_listing
        entries = self.rules.of(self.span.of(listing, in_order=in_order))
        return self.nesting.target_seen(entries) if self.nesting else iter(entries)

    def is_reported(self, skipped: Skipped) -> bool:
        """Return whether a skipped object is reported: if it failed, or if deletes depend on it."""
        return self.is_mirror or skipped.failed


class NestingDetector:
    """Detects, while both stores are listed, that one contains the other; raises `UsageError`.

    Their addresses may not reveal it: one server under two names, a served
    folder, a bind mount. A nested target is recognised by its identity file,
    which exists before the first copy; a nested source, which may have none,
    by its first objects.
    """

    def __init__(self, source: Store, target: Store, target_id: str | None) -> None:
        self._source = source
        self._target = target
        self._target_id = target_id
        self._first: RemoteObject | None = None

    def source_seen(
        self, entries: Iterable[RemoteObject | Skipped]
    ) -> Iterator[RemoteObject | Skipped]:
        """Return the source's listing without craftsync's own objects; read it up to the first object at once."""
        rest = self._without_target(entries)
        begin = []
        for entry in rest:
            begin.append(entry)
            if isinstance(entry, RemoteObject):
                self._first = entry
                break
        return chain(begin, rest)

    def _without_target(
        self, entries: Iterable[RemoteObject | Skipped]
    ) -> Iterator[RemoteObject | Skipped]:
        for entry in entries:
            if isinstance(entry, RemoteObject):
                if entry.path.endswith(_IDENTITY_BELOW) and self._is_target(entry):
                    raise self._nested("contains", entry.path.removesuffix(_IDENTITY_BELOW))
                if is_own(entry.path):
                    continue
            yield entry

    def _is_target(self, identity: RemoteObject) -> bool:
        if self._target_id is None or identity.size != len(self._target_id):
            return False
        with contextlib.suppress(PathError):
            return read_id(self._source, identity.path) == self._target_id
        return False

    def target_seen(
        self, entries: Iterable[RemoteObject | Skipped]
    ) -> Iterator[RemoteObject | Skipped]:
        """Yield the target's listing; call it after `source_seen`."""
        first = self._first
        for entry in entries:
            if (
                first is not None
                and entry.path.endswith(first.path)
                and isinstance(entry, RemoteObject)
                and entry[1:4] == first[1:4]
            ):
                where = entry.path.removesuffix(first.path)
                if where.endswith("/") and self._is_source(where):
                    raise self._nested("lies inside", where.removesuffix("/"))
            yield entry

    def _is_source(self, where: str) -> bool:
        """Return whether the first objects of the source equal those in the target below `where`."""
        listing = (entry for entry in self._source.list() if isinstance(entry, RemoteObject))
        for entry in islice(listing, _SAMPLES):
            original, copy = self._source.stat(entry.path), self._target.stat(where + entry.path)
            if original is None or copy is None or original[1:4] != copy[1:4]:
                return False
        return True

    def _nested(self, how: str, where: str) -> UsageError:
        return UsageError(
            f"The source {self._source.location} {how} the target {self._target.location}"
            f" (as {where}/).",
            remedy=f"Choose two stores that do not overlap. If {where}/ is only a copy that another"
            f" tool made, exclude it: --exclude '/{where}/'.",
        )


_SAMPLES = 8
_IDENTITY_BELOW = f"/{STORE_ID_FILE}"
