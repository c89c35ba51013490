"""Removes versions from the trash for good: when their retention ends, or when the user purges it.

Only this code destroys data on purpose. So it spares the versions that the user or an unfinished
run may still need. Retention applies only to versions in this client's own records, and not while
the clock is doubtful."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from craftsync.clock import Clock, boot_id
from craftsync.core.conflict_names import conflict_original
from craftsync.core.retention import Retention
from craftsync.engine.report import sentence
from craftsync.engine.review.versions import (
    TrashEntry,
    entries,
    in_root,
    in_store,
    place_of,
)
from craftsync.errors import CraftsyncError, PathError, StoreError
from craftsync.local import trash as local_trash
from craftsync.local.folder import Folder
from craftsync.state.database import Database
from craftsync.state.held import EVENT_SECONDS
from craftsync.state.history import KeptVersion
from craftsync.state.pair import PairState
from craftsync.stores.base import Store

_AT_ONCE = 500
"""Versions removed between two records."""
_AT_MOST = 1000
"""The most versions that one run removes, so that it ends soon. The next run removes the rest."""
BATCH = 1000
"""The most versions that one call removes from a store."""
_REASONS = 20
"""The most failures that a message lists."""
_HOUR = 3600
_SUSPENDED = "retention_suspended"
_CLOCK = "retention_clock"


def holdings(state: PairState, retention: Retention) -> dict[str, Any]:
    """Return the totals of this client's versions in both trashes, as in `status --json`.

    `suspended` is the reason why nothing is removed now, or `None`.
    """
    reason = suspended(state.database) if retention.is_bounded else None
    bounds = {"keep": retention.words, "max_size": retention.max_size}
    return {**state.in_trash()._asdict(), **bounds, "suspended": reason}


def holdings_of(root: str, store: str, state_dir: Path, retention: Retention) -> dict[str, Any]:
    """Return `holdings` of a linked folder that another process may be using. Raises `StateError`."""
    with closing(PairState.open(state_dir, root, store, new_id=str, reading=True)) as state:
        return holdings(state, retention)


def import_outside_records(state: PairState, store: Store | None) -> None:
    """Import versions moved to either trash outside a run, so that retention applies to them.

    If the store is not reachable (`None`), the records of old versions of craftsync, which do not
    name their store, wait for a later run.
    """
    state.import_outside_records()
    if store is not None:
        with suppress(StoreError):
            state.import_legacy_records(lambda versions: _found_in_store(store, versions))


def _found_in_store(store: Store, versions: Iterable[KeptVersion]) -> set[KeptVersion]:
    """Return those of these versions that are in the store's trash, by listing it."""
    wanted = {version[:3]: version for version in versions}
    return {wanted[entry[:3]] for entry in in_store(store) if entry[:3] in wanted}


def spare(state: PairState, event_since_ns: int) -> None:
    """Select the paths whose versions are spared, because the user or an unfinished run may need them.

    They include deletes that are not held, if their event is later than `event_since_ns` (UTC).
    """
    conflicts = filter(None, map(conflict_original, state.baseline.conflict_paths()))
    state.kept.spare(conflicts, event_since_ns)


def suspended(database: Database) -> str | None:
    """Return the reason why nothing is removed now, or `None`."""
    return database.get(_SUSPENDED) or None


@dataclass(slots=True)
class Purging:
    """Removes the expired versions of one linked folder. `tick` is called between removals, and may raise.

    At most `at_most` versions are deleted; without a `reachable` store, only those in
    the folder's trash that are too old.
    """

    root: Folder
    store: Store
    state: PairState
    clock: Clock
    retention: Retention
    tick: Callable[[], None]
    reachable: bool = True
    at_most: int = _AT_MOST

    def run(self) -> int:
        """Remove the expired versions and return their number. The next run retries failed removals.

        The clock is watched even without a bound, so that a bound set later counts from true times.
        """
        reason = ClockWatch(self.state, self.clock).doubt()
        if not self.retention.is_bounded:
            return 0
        gone = 0
        if reason is None:
            self._prune_history()
            if self._is_due():
                gone, reason = self._purge()
        if self.state.database.get(_SUSPENDED) != (reason or None):
            self.state.database.put(_SUSPENDED, reason or "")
        return gone

    def _prune_history(self) -> None:
        if self.retention.keep is not None:
            with self.state.transaction():
                self.state.history.drop_before(self.clock.now_ns() - self.retention.keep)
                if (first := self.state.history.first_run()) is not None:
                    self.state.replaced.drop_before(first)

    def _is_due(self) -> bool:
        return self._excess() > 0 or (
            self.retention.keep is not None
            and self.state.kept.is_older(self.clock.now_ns() - self.retention.keep)
        )

    def _excess(self) -> int:
        most = self.retention.max_size
        return 0 if most is None else self.state.kept.total().bytes - most

    def _purge(self) -> tuple[int, str | None]:
        kept, gone, reason = self.state.kept, 0, None
        spare(self.state, self.clock.now_ns() - EVENT_SECONDS * 10**9)
        while gone < self.at_most and (batch := list(self._due())):
            removed: list[KeptVersion] = []
            try:
                reason = self._remove(batch, removed) or reason
            finally:
                with self.state.transaction():
                    kept.forget(removed)
            gone += len(removed)
        return gone, reason

    def _remove(self, batch: Iterable[KeptVersion], removed: list[KeptVersion]) -> str | None:
        """Remove versions and add them to `removed`; return why one failed, or `None`."""
        reason = None
        for version in batch:
            self.tick()
            try:
                if version.side == "root":
                    local_trash.remove(self.root, version.stamp, version.path)
                    removed.append(version)
            except PathError as error:
                reason = self._spare(version, error)
        return (
            self._remove_from_store([one for one in batch if one.side != "root"], removed) or reason
        )

    def _remove_from_store(
        self, batch: Sequence[KeptVersion], removed: list[KeptVersion]
    ) -> str | None:
        reason = None
        for version, error in removed_from_store(self.store, batch, removed).items():
            if isinstance(error, PathError):
                reason = self._spare(version, error)
            else:
                self.reachable = False
                reason = sentence(error)
        return reason

    def _spare(self, version: KeptVersion, error: CraftsyncError) -> str:
        """Leave a version that cannot be removed to a later run; return the reason."""
        self.state.kept.spare_also([version.path])
        return sentence(error)

    def _due(self) -> Iterator[KeptVersion]:
        """Yield the next versions to remove, oldest first.

        Without the store the size limit is ignored: which versions exceed it depends on both sides.
        """
        keep, excess = self.retention.keep, self._excess() if self.reachable else 0
        but = "" if self.reachable else "store"
        for version, at_ns in self.state.kept.oldest(min(_AT_ONCE, self.at_most), but):
            is_old = keep is not None and at_ns < self.clock.now_ns() - keep
            if not is_old and excess <= 0:
                return
            excess -= version.size
            yield version


Kept = TypeVar("Kept", TrashEntry, KeptVersion)


def removed_from_store(
    store: Store, versions: Iterable[Kept], removed: list[Kept]
) -> dict[Kept, CraftsyncError]:
    """Remove versions from a store's trash for good, and add them to `removed`; return the errors.

    A missing version counts as removed. Raises an error that concerns the whole store.
    """
    rest, failed = iter(versions), dict[Kept, CraftsyncError]()
    while batch := {place_of(version): version for version in islice(rest, BATCH)}:
        errors = store.delete_each(list(batch))
        removed += [version for place, version in batch.items() if place not in errors]
        failed |= {batch[place]: error for place, error in errors.items()}
        if any(not isinstance(error, PathError) for error in errors.values()):
            break
    return failed


def raise_unremoved(failed: Mapping[Kept, CraftsyncError]) -> None:
    """Raise one error that names the versions that could not be removed, and why."""
    if not failed:
        return
    first = next(iter(failed.values()))
    if len(failed) == 1:
        raise first
    reasons = [f"{version.path}: {sentence(error)}" for version, error in failed.items()]
    shown = "\n".join(reasons[:_REASONS])
    more = f"\nand {len(reasons) - _REASONS:,} more" if len(reasons) > _REASONS else ""
    raise StoreError(
        f"{len(failed):,} versions in the trash of the store could not be removed:\n{shown}{more}",
        remedy=first.remedy,
    ) from first


@dataclass(frozen=True, slots=True)
class _Seen:
    """Both clocks at an earlier time; `doubtful` if the wall clock had just jumped.

    `known_ns` is the time of the newest record whose doubt has ended.
    """

    wall_ns: int
    boottime: float
    boot: str
    doubtful: bool = False
    known_ns: int = 0

    def agrees(self, now: _Seen) -> bool:
        """Return whether both clocks have advanced equally; after a reboot, whether they had before it.

        The clock since boot also counts the time that the machine was suspended.
        """
        if self.boot != now.boot:
            return not self.doubtful
        moved = (now.wall_ns - self.wall_ns) / 1e9
        return abs(moved - (now.boottime - self.boottime)) <= _HOUR


@dataclass(frozen=True, slots=True)
class ClockWatch:
    """Detects jumps of the wall clock by comparing it with the clock since boot, which never jumps."""

    state: PairState
    clock: Clock

    def begin(self) -> None:
        """Save the current times if none are saved yet: before the first version is kept."""
        if self._before() is None:
            self._remember(self._now(), 0)

    def doubt(self) -> str | None:
        """Return why the wall clock is doubtful now, or `None`. Saves the current times.

        A doubt lasts until both clocks have agreed for an hour.
        """
        before, newest = self._before(), self.state.kept.newest_ns() or 0
        now = self._now()
        known = before.known_ns if before else 0
        is_behind = now.wall_ns < newest and newest > known
        if before is not None and not before.agrees(now):
            self._postpone(before, now)
            return self._doubted(now, known, "the clock has jumped")
        if before is None or not before.doubtful:
            if is_behind:
                return self._doubted(now, known, "the clock is behind the newest version kept")
            self._remember(now, known)
            return None
        if now.boottime - before.boottime < _HOUR:
            return "the clock has jumped" if not is_behind else "the clock is behind"
        self._remember(now, newest)
        return None

    def _now(self) -> _Seen:
        return _Seen(self.clock.now_ns(), self.clock.boottime(), boot_id())

    def _postpone(self, before: _Seen, now: _Seen) -> None:
        """After a jump forward, add it to the times of earlier versions: either time may have been wrong."""
        passed = round((now.boottime - before.boottime) * 1e9)
        ahead = now.wall_ns - before.wall_ns - passed
        if before.boot == now.boot and ahead > 0:
            with self.state.transaction():
                self.state.kept.postpone(before.wall_ns + passed, ahead)

    def _doubted(self, now: _Seen, known: int, reason: str) -> str:
        self._remember(now, known, doubtful=True)
        return reason

    def _remember(self, now: _Seen, known: int, *, doubtful: bool = False) -> None:
        seen = _Seen(now.wall_ns, now.boottime, now.boot, doubtful, known)
        self.state.database.put(_CLOCK, json.dumps(asdict(seen)))

    def _before(self) -> _Seen | None:
        text = self.state.database.get(_CLOCK)
        try:
            return None if text is None else _Seen(**json.loads(text))
        except (ValueError, TypeError):
            return None


class Purged(NamedTuple):
    """The number of versions removed, and of old ones spared."""

    removed: int
    spared: int


def purgeable(
    root: Folder, store: Store, before: str, is_spared: Callable[[str], bool]
) -> Iterator[TrashEntry]:
    """Yield the versions of both sides from before the stamp `before`, except spared paths."""
    old = (entry for entry in entries(root, store) if entry.stamp < before)
    return (entry for entry in old if not is_spared(entry.path))


def purge(root: Folder, store: Store, before: str, is_spared: Callable[[str], bool]) -> Purged:
    """Remove the versions of both sides from before the stamp `before`, except spared paths.

    Files that a crash left in `UNKEPT` are removed at the same age.
    """
    local, remote = _purge_root(root, before, is_spared), _purge_store(store, before, is_spared)
    return Purged(local.removed + remote.removed, local.spared + remote.spared)


def _purge_root(root: Folder, before: str, is_spared: Callable[[str], bool]) -> Purged:
    old, stays = 0, Counter[str]()
    for stamp, file in local_trash.entries(root):
        if stamp < before:
            old += 1
            stays[stamp] += is_spared(file.path)
    needed = {stamp for stamp, number in stays.items() if number}
    # Remove only after the listing, because this also removes folders left empty.
    beside = [
        entry for entry in in_root(root) if entry.stamp in needed and not is_spared(entry.path)
    ]
    for entry in beside:
        local_trash.remove(root, entry.stamp, entry.path)
    local_trash.purge(root, before, but=needed)
    return Purged(old - stays.total() + local_trash.purge_unkept(root, before), stays.total())


def _purge_store(store: Store, before: str, is_spared: Callable[[str], bool]) -> Purged:
    stays = 0

    def unneeded() -> Iterator[TrashEntry]:
        nonlocal stays
        for entry in in_store(store):
            if entry.stamp < before:
                if not is_spared(entry.path):
                    yield entry
                else:
                    stays += 1

    removed: list[TrashEntry] = []
    raise_unremoved(removed_from_store(store, unneeded(), removed))
    return Purged(len(removed), stays)
