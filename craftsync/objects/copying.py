"""Copies, moves and removes objects, on any store and between any two.

Replaced and removed objects go to the trash of their store, or stay there as versions. A server
copies by itself if it can; otherwise, the bytes pass through this process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from secrets import token_hex
from typing import NamedTuple

from craftsync.clock import SystemClock
from craftsync.config.addresses import joined, split
from craftsync.config.places import DirectoryLocation
from craftsync.core.model import ABSENT, RemoteObject
from craftsync.core.paths import is_own, refusal
from craftsync.datastore import DataStore, stamp_now
from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    ObjectRefused,
    PathBusy,
    PathError,
    PathRefused,
    PreconditionFailed,
    RequestDenied,
    StoreFull,
    builtin_kinds,
)
from craftsync.migrate.options import PropertyPolicy
from craftsync.migrate.stream import LARGE_SHARE, WHOLE, MemoryBudget, Stream, read_whole
from craftsync.net.pace import Limiter
from craftsync.state.history import KeptVersion
from craftsync.stores.base import Expect, Store
from craftsync.stores.sources import AT_ONCE, BREAKS, SMALL_AT_ONCE, Counted, OnBytes, at_once

GROUP = 200
"""Objects of a move that are copied, made durable and then removed together."""
_ATTEMPTS = 3
OF_ONE = (PathError, ObjectNotFound, PreconditionFailed, RequestDenied, StoreFull, ObjectRefused)
"""Errors that concern one object, not the others."""
_MEMORY = 128 * 1024 * 1024


class Outcome(NamedTuple):
    """The result for one of several objects: its target path, or the error that left it unchanged."""

    path: str
    target: str
    size: int
    error: CraftsyncError | None = None
    copied: bool = False
    """Whether the original stayed beside its copy, because removing it failed or a stop came first."""
    stamp: str = ""
    """Its stamp in the trash of its store; empty if it is not there, or the bucket keeps it as a version."""


Outcomes = Generator[Outcome, None, None]
"""Outcomes as they arrive. Those of completed objects are yielded even before a fatal error or a stop is raised."""


@builtin_kinds()
def copy(
    source: DataStore,
    path: str,
    target: DataStore,
    target_path: str,
    *,
    overwrite: bool = True,
    on_bytes: OnBytes | None = None,
) -> None:
    """Copy an object to a path in the same or another store, with the properties that both stores keep.

    Raises `ObjectNotFound`, and without `overwrite` `PreconditionFailed` if the target path exists.
    """
    _only(copy_each(source, target, [(path, target_path)], overwrite=overwrite, on_bytes=on_bytes))


@builtin_kinds()
def move(
    source: DataStore,
    path: str,
    target: DataStore,
    target_path: str,
    *,
    overwrite: bool = True,
    on_bytes: OnBytes | None = None,
) -> None:
    """Copy an object and then remove it, unless it has changed since. Errors are those of `copy`.

    A move within one store leaves nothing in the trash, as the object still exists.
    """
    _only(move_each(source, target, [(path, target_path)], overwrite=overwrite, on_bytes=on_bytes))


@builtin_kinds()
def remove(store: DataStore, path: str) -> None:
    """Remove an object; raises `ObjectNotFound` if it does not exist."""
    _only(remove_each(store, [path]))


def copy_each(
    source: DataStore,
    target: DataStore,
    pairs: Iterable[tuple[str | RemoteObject, str]],
    *,
    overwrite: bool = True,
    on_bytes: OnBytes | None = None,
) -> Outcomes:
    """Copy several objects, a few at once; each pair is an object or its path, and the target path.

    An error of one object is the `error` of its outcome, and the others continue; an
    error of a whole store is raised. The copies are durable at the end. If two objects
    have the same target path, the second is refused (`PathRefused`) while the first is
    under way, or if the first replaced something.
    """
    copying = Copying(source, target, overwrite, on_bytes)
    yield from copying.each(pairs, copying.copied)
    copying.target.barrier()


def move_each(
    source: DataStore,
    target: DataStore,
    pairs: Iterable[tuple[str | RemoteObject, str]],
    *,
    overwrite: bool = True,
    on_bytes: OnBytes | None = None,
) -> Outcomes:
    """Move several objects as `copy_each` copies them; each original is removed once its copy is durable."""
    copying = Copying(source, target, overwrite, on_bytes)
    rest = iter(pairs)
    while group := list(islice(rest, GROUP)):
        copied, ended = list[tuple[RemoteObject, str]](), set[str]()
        copying.made.clear()
        try:
            for outcome in copying.each(group, partial(copying.copied, note=copied)):
                if outcome.error is not None:
                    yield outcome
            copying.target.barrier()
            for outcome in copying.each(copied, copying.removed):
                ended.add(outcome.path)
                yield outcome._replace(copied=outcome.error is not None)
        except BREAKS:
            for found, to in copied:
                if found.path not in ended:
                    yield Outcome(found.path, to, found.size, copied=True)
            raise
    copying.source.barrier()


def remove_each(
    store: DataStore, paths: Iterable[str | RemoteObject], *, on_bytes: OnBytes | None = None
) -> Outcomes:
    """Remove several objects, a few at once; outcomes and errors are as in `copy_each`."""
    removing = Copying(store, store, True, on_bytes)
    stamp = "" if removing.source.features.keeps_versions else removing.keep
    for outcome in removing.each(((path, "") for path in paths), removing.removed):
        yield outcome if outcome.error else outcome._replace(stamp=stamp)
    removing.source.barrier()


class Copying:
    """The objects of one call. All versions that it replaces or removes have one stamp in the trash."""

    def __init__(
        self, source: DataStore, target: DataStore, overwrite: bool, on_bytes: OnBytes | None
    ) -> None:
        self._from, self._to = source, target
        self.source = source.opened_to_change()
        self.target = self.source
        if target.location != source.location:
            self.target = target.opened_to_change(create=True)
        self.keep = stamp_now()
        self._overwrite = overwrite
        self._on_bytes = on_bytes or (lambda size: None)
        self._pace = Counted(self._on_bytes)
        self._unlimited = Limiter(None, SystemClock())
        self._memory, self.made = MemoryBudget(_MEMORY), dict[str, RemoteObject]()
        self._taken = dict[str, object]()
        """Paths that are being written, and those where something was replaced or a copy failed."""
        self._properties = PropertyPolicy(self.source, self.target, tags=True)

    def each(
        self,
        pairs: Iterable[tuple[str | RemoteObject, str]],
        act: Callable[[RemoteObject, str], None],
    ) -> Iterator[Outcome]:
        """Call `act` for each object, a few at once, and yield the outcomes in order."""
        copies = self.source.features.server_side_copy and _are_near(self.source, self.target)
        most = SMALL_AT_ONCE if copies else AT_ONCE
        return at_once(pairs, partial(self._outcome, act), self.source, self.target, most=most)

    def _outcome(
        self, act: Callable[[RemoteObject, str], None], pair: tuple[str | RemoteObject, str]
    ) -> Outcome:
        given, target = pair
        path = given if isinstance(given, str) else given.path
        size = 0
        try:
            found = self._found(path) if isinstance(given, str) else given
            size = found.size
            act(found, target)
        except OF_ONE as error:
            return Outcome(path, target, size, error)
        return Outcome(path, target, size)

    def _found(self, path: str) -> RemoteObject:
        found = self.source.stat(path) if path else None
        if found is None:
            raise ObjectNotFound(f"{path}: object not found.")
        return found

    def copied(
        self, found: RemoteObject, path: str, note: list[tuple[RemoteObject, str]] | None = None
    ) -> None:
        """Copy an object to a path of the target.

        A path that another object of the call is writing, or has replaced, is refused:
        the second write would replace the version that the first put into the trash.
        """
        if reason := refusal(path):
            raise PathRefused(f"{path} cannot be written: {reason}.")
        if whereabouts(self._from, found.path) == whereabouts(self._to, path):
            raise PathRefused(f"{path} would be copied to itself.", remedy="Name another path.")
        mine = object()
        if path in self.made or self._taken.setdefault(path, mine) is not mine:
            raise PathRefused(
                f"{path} is the target of another object, too.", remedy="Name another path."
            )
        replaced = True
        try:
            made, replaced = self._copied_over(found, path)
            if note is not None:
                self.made[path] = made
                note.append((found, path))
        finally:
            if not replaced:
                del self._taken[path]

    def _copied_over(self, found: RemoteObject, path: str) -> tuple[RemoteObject, bool]:
        """Copy an object; return the copy, and whether it replaced another object."""
        for attempt in range(_ATTEMPTS):
            replaced = self.target.stat(path)
            if replaced is not None and not self._overwrite:
                raise PreconditionFailed(f"{path} already exists in {self._to.word}.")
            try:
                made = self._copy(found, path, replaced or ABSENT)
                break
            except PreconditionFailed:
                # Another program has changed the target or the source.
                if attempt == _ATTEMPTS - 1:
                    raise
        if replaced is not None:
            self._note(self._to, self.target, replaced)
        return made, replaced is not None

    def removed(self, found: RemoteObject, path: str) -> None:
        """Remove an object of the source; after a move within the store, the trash keeps no copy."""
        if is_own(found.path):
            raise PathRefused(f"{found.path} cannot be removed: it is craftsync's own.")
        keep = None if path and self.source is self.target else self.keep
        if keep is None:
            check_made(self.target, self.made[path], found.path)
        try:
            self.source.delete(found.path, expect=found, trash_stamp=keep)
        except PreconditionFailed as error:
            raise PathBusy(
                f"{found.path} has changed since it was listed, and stays.", remedy="Try again."
            ) from error
        if keep is not None:
            self._note(self._from, self.source, found)

    def _note(self, store: DataStore, opened: Store, gone: RemoteObject) -> None:
        """Record a version in the trash; the bucket's own versions are not recorded."""
        if not opened.features.keeps_versions:
            store.note([KeptVersion("store", self.keep, gone.path, gone.size)])

    def _copy(self, found: RemoteObject, path: str, expect: Expect) -> RemoteObject:
        token, keep, size = token_hex(16), self.keep, found.size
        if self.source is self.target:
            made = self.target.copy(found, path, expect=expect, operation=token, trash_stamp=keep)
            self._on_bytes(size)
        elif _are_near(self.source, self.target):
            origin = self.source.features.origin
            assert origin is not None
            copy_from = self.target.copy_from
            made = copy_from(origin, found, expect=expect, trash_stamp=keep, target=path)
            self._on_bytes(size)
        elif size <= WHOLE:
            with self._memory.taken(size):
                content, reader = read_whole(self.source, found, self._unlimited, self._pace)
                write = self._properties.writer(found, reader)
                made = write(path, content, expect=expect, operation=token, trash_stamp=keep)
        else:
            with self._memory.taken(LARGE_SHARE):
                made = self._send_in_parts(found, path, expect)
        return made

    def _send_in_parts(self, found: RemoteObject, path: str, expect: Expect) -> RemoteObject:
        known = self.source.stat(found.path)
        if known is None or (known.size, known.version) != (found.size, found.version):
            raise PathBusy(f"{found.path} has changed since it was listed.", remedy="Try again.")
        stream = Stream(self.source, known, self._unlimited, self._pace, hash_parts=False)
        write = self._properties.writer(found)
        made = write(path, stream, expect=expect, operation=token_hex(16), trash_stamp=self.keep)
        stream.verify()
        return made


def whereabouts(store: DataStore, path: str) -> tuple[str, str]:
    """Return the absolute place of a path: the server or disk, and the path there. Stores may overlap."""
    is_on_disk = isinstance(store.location, DirectoryLocation)  # It may not exist yet.
    origin = None if is_on_disk else store.opened().features.origin
    if origin is not None:
        return origin.server, origin.place + path
    whole, root = split(store.location)
    return str(whole), joined(root, path)


def check_made(store: Store, made: RemoteObject, origin: str) -> None:
    """Raise `PathBusy` unless the store still holds `made`; only then may its `origin` be removed."""
    found = store.stat(made.path)
    if found is not None and found.size == made.size:
        answers = zip(_evidence(found), _evidence(made), strict=True)
        known = [one == other for one, other in answers if one is not None and other is not None]
        if any(known) or not known:
            return
    raise PathBusy(
        f"{origin} stays: its copy {made.path} is not in the store, or has changed since.",
        remedy="Try again.",
    )


def _evidence(found: RemoteObject) -> tuple[str | bytes | None, ...]:
    return found.version, found.digest, found.operation


def _are_near(source: Store, target: Store) -> bool:
    """Return whether the target's server can copy what the source holds."""
    one, other = source.features.origin, target.features.origin
    return one is not None and other is not None and one.is_near(other)


def _only(outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
