"""The two sides of a run: what planning sees of them, and how a step between them is carried out.

On the left a folder, or in a migration a store; on the right a store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Protocol

from craftsync.core.filters import Filter, Now, Sieve
from craftsync.core.merge import Unknown
from craftsync.core.model import (
    DELETES,
    Action,
    Kind,
    LocalFile,
    Mode,
    Policy,
    RemoteObject,
    Skipped,
    as_left,
    as_object,
)
from craftsync.engine.content import Fetched, PartialDownload
from craftsync.engine.report import Outcome, Staged, Status, sentence
from craftsync.engine.settle import Settled
from craftsync.errors import (
    ObjectNotFound,
    PathBusy,
    PathError,
    PathLeftOut,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
    StoreDenied,
    StoreError,
)
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import look, scan, scan_aside, worth_it
from craftsync.state.database import Database
from craftsync.state.history import KeptVersion
from craftsync.state.plan import Totals, in_order
from craftsync.state.transfers import Intent
from craftsync.stores.base import Store, UploadJournal
from craftsync.stores.retrying import now_by
from craftsync.stores.sources import workers
from craftsync.stores.trash_copies import left_in_trash

_STATS_AT_ONCE = 16
_OF_THE_BASELINE = (Kind.ADOPT, Kind.FORGET)
"""Steps that touch neither side; a dry run takes them on its copy of the database."""


def do_nothing() -> None:
    """Do nothing: there is nothing to confirm or to wait for."""


class Left(Protocol):
    """The left side. All that it yields is in the byte order of the UTF-8 path, or the listing says otherwise."""

    @property
    def word(self) -> str:
        """Its name in messages: "folder" or "source"."""
        ...

    @property
    def stage(self) -> str:
        """The name of its scan in progress displays."""
        ...

    @property
    def is_folder(self) -> bool:
        """Whether it has folders, inode numbers, and names that every store can hold."""
        ...

    @property
    def is_sorted(self) -> bool: ...

    def scan(self, boundaries: Sequence[str], known: int) -> Iterable[LocalFile | Skipped]:
        """Return all entries; `known` is the number of files in the baseline, `boundaries` split them into shares."""
        ...

    def look(self, paths: Sequence[str]) -> Iterable[LocalFile | Skipped]:
        """Return the entries at these paths; in a folder also those below them."""
        ...

    @property
    def ignored_count(self) -> int:
        """How many entries its scan met and patterns left out; a folder counts once."""
        ...

    def stat(self, path: str) -> LocalFile | None: ...

    def sync(self) -> None:
        """Return once all of it survives a power cut."""
        ...

    def ignored(self, path: str) -> bool:
        """Return whether a path takes no part."""
        ...

    def may_hide(self, path: str) -> bool:
        """Return whether the side may hold this path although the scan does not yield it: another shard, or excluded."""
        ...

    def is_empty(self) -> bool:
        """Return whether a side whose scan yielded nothing is really empty."""
        ...

    def now_ns(self, here_ns: int) -> int:
        """Return the current time of the clock its times come from; `here_ns` is this machine's."""
        ...


def in_order_left(
    side: Left, database: Database, entries: Iterable[LocalFile]
) -> Iterable[LocalFile]:
    if side.is_sorted:
        return entries
    return map(as_left, in_order(database, map(as_object, entries), name="left"))


@dataclass(frozen=True, slots=True)
class FolderSide:
    """A folder, with the rules that say which of its paths take part."""

    root: Folder
    rules: IgnoreRules
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    word = "folder"
    stage = "scanning"
    is_folder = True
    is_sorted = True

    def with_new_rules(self) -> FolderSide:
        """Return the side with its ignore files read again."""
        rules = IgnoreRules(self.root, include=self.include, exclude=self.exclude)
        return replace(self, rules=rules)

    def scan(self, boundaries: Sequence[str], known: int) -> Iterator[LocalFile | Skipped]:
        if worth_it(known):
            patterns = {"include": self.include, "exclude": self.exclude}
            return scan_aside(self.root, **patterns, counter=self.rules.counter)
        return scan(self.root, self.rules)

    def look(self, paths: Sequence[str]) -> Iterator[LocalFile | Skipped]:
        return look(self.root, self.rules, paths)

    @property
    def ignored_count(self) -> int:
        return self.rules.counter.count

    def stat(self, path: str) -> LocalFile | None:
        try:
            return self.root.stat(path)
        except PathError:
            return None

    def sync(self) -> None:
        self.root.sync()

    def ignored(self, path: str) -> bool:
        return self.rules.ignored(path)

    def may_hide(self, path: str) -> bool:
        return False

    def is_empty(self) -> bool:
        return True

    def now_ns(self, here_ns: int) -> int:
        return here_ns


@dataclass(frozen=True, slots=True)
class StoreSide:
    store: Store
    confirmed: Callable[[], None] = field(default=do_nothing, kw_only=True)
    """Raises unless the store is still the same one; checked while the first response arrives."""
    begun: Callable[[], Iterable[RemoteObject | Skipped] | None] = field(
        default=do_nothing, kw_only=True
    )
    """Returns a listing that was begun before, if there is one."""

    word = "store"
    stage = "listing"

    def list(self, boundaries: Sequence[str]) -> Iterator[RemoteObject | Skipped]:
        """Yield all that is there."""
        entries = iter(self.begun() or self.store.list(boundaries=boundaries))
        first = next(entries, None)
        self.confirmed()
        if first is not None:
            yield first
            yield from entries

    def stat(
        self, names: Sequence[str], *, listed: bool = False
    ) -> Sequence[RemoteObject | Skipped]:
        """Return what is at single paths, as `stat_all` does."""
        found = stat_all(self.store, names, listed=listed)
        self.confirmed()
        return found

    def in_order(
        self, database: Database, entries: Iterable[RemoteObject]
    ) -> Iterable[RemoteObject]:
        return entries if self.store.features.sorted_listing else in_order(database, entries)

    def is_reported(self, skipped: Skipped) -> bool:
        """Return whether an object that the store skipped is reported."""
        return True


def stat_all(
    store: Store, names: Sequence[str], *, listed: bool = False
) -> list[RemoteObject | Skipped]:
    """Stat single paths, several at once; return the objects that exist, in the order of the paths.

    A path that the store cannot hold or read is `Skipped`, as in a listing, and
    does not stop the others. With `listed`, all were in a listing just before: one
    that is absent now is listed once more.
    """

    def look(path: str) -> RemoteObject | Skipped | None:
        try:
            found = store.stat(path)
            return _contradiction(store, path) if listed and found is None else found
        except (PathError, StoreDenied) as error:
            return Skipped(
                path,
                str(error),
                failed=not isinstance(error, PathRefused),
                by_design=isinstance(error, PathLeftOut),
            )

    with workers(_STATS_AT_ONCE, "stat", store) as pool:
        return [found for found in pool.map(look, names) if found]


def _contradiction(store: Store, path: str) -> Skipped | None:
    """Return what to report of a path that the store lists but does not find; `None` if it is gone."""
    if all(entry.path != path for entry in store.list(path)):
        return None
    reason = f"the store lists {path} and answers 404 (not found) to its key"
    return Skipped(path, reason, failed=True)


def now_of(filter: Filter, mode: Mode, left: Left, right: StoreSide, here_ns: int) -> Now:
    """Return the current time of the sides whose ages matter; a store is asked only for those."""
    if not filter.by_age:
        return Now(0, 0)
    local = left.now_ns(here_ns) if mode is not Mode.PULL else 0
    remote = now_by(right.store, here_ns) if mode is not Mode.PUSH else 0
    return Now(local, remote)


def unmet_reason(side: str, left: Left, gone: Unknown, sieve: Sieve, path: str) -> str:
    """Return why an entry of a list has nothing to copy, as a clause for people."""
    if path in sieve.folders:
        return f"named in --files-from, but it is a folder: {path}/ stands for all in it"
    if gone.is_by_design(path):
        return "named in --files-from, but a symbolic link or special file takes no part"
    if left.ignored(path):
        return "named in --files-from, but the patterns or an ignore file leave it out"
    return f"named in --files-from, but the {side} holds no file there"


class Task(NamedTuple):
    """A step for a worker, with what the database knows about it."""

    step: int
    action: Action
    operation: str
    intents: tuple[Intent, ...] = ()
    partial: PartialDownload | None = None
    journal: Callable[[bytes], UploadJournal] | None = None
    unkept: bool = False
    """Whether a person approved that no copy is kept of an archived object."""
    fetched: Fetched | None = None
    """The object, if settling had to read it."""


class Note(NamedTuple):
    """A call that a worker hands to the control thread, to write to the database."""

    learn: Callable[[], None]


class Carrier(ABC):
    """Carries out steps in worker threads, and touches only the two sides of the run.

    What the state database has to record is returned as an `Outcome`, never
    written from here.
    """

    __slots__ = ()
    short: ClassVar[int]
    """A step of at most this many bytes may share the control thread."""
    changed: ClassVar[str]
    """The reason reported for a path whose object has changed."""
    trash_stamp: str
    """The name of this run in the trash."""
    dry_run: bool
    """Whether to stop after settling."""
    strict: bool = False
    """Whether to carry out a step only if it is still exactly what was planned."""

    @property
    @abstractmethod
    def policy(self) -> Policy: ...

    @property
    @abstractmethod
    def stores(self) -> Sequence[Store]:
        """The stores whose waits a stop ends; the last one is written."""

    @property
    def store_stamp(self) -> str | None:
        """The folder in the store's trash for what is replaced or deleted; `None` where nothing is kept."""
        return self.trash_stamp

    @abstractmethod
    def settle(self, task: Task) -> Settled:
        """Read what a listing could not tell, and decide again."""

    @abstractmethod
    def step(self, action: Action, task: Task) -> Outcome | Staged:
        """Carry out what was settled, or the half of it that a folder's disk has to see before the other."""

    @abstractmethod
    def with_trash_stamp(self, trash_stamp: str) -> Carrier:
        """Return the same with another name in the trash."""

    @abstractmethod
    def cancel(self) -> None:
        """Make each transfer raise `Interrupted` at its next piece."""

    def place(self, staged: Staged) -> Outcome:
        """Carry out the other half."""
        raise AssertionError(f"{staged.action.path}: the left side is not written")

    def before_recording(self) -> None:  # noqa: B027 (nothing to be done is an answer)
        """Wait for what must be there before anything is recorded; raises if a side is another one."""

    def sync(self) -> None:  # noqa: B027 (nothing to be done is an answer)
        """Return once what was written to the left side survives a power cut."""

    def has_temporary(self, name: str) -> bool:
        """Return whether the folder still has this unfinished download."""
        return False

    def carry_out(self, task: Task) -> Outcome | Staged:
        """Settle and carry out one step; trouble with the path is part of the outcome."""
        action = task.action
        try:
            return self._do(task)
        except (PathRefused, PathObstructed) as error:
            return self.refused(action, error)
        except PathBusy as error:
            return Outcome(action, Status.SKIPPED, str(error))
        except (PreconditionFailed, ObjectNotFound):
            return Outcome(action, Status.SKIPPED, self.changed)
        except (PathError, StoreError) as error:
            return Outcome(action, Status.PROBLEM, sentence(error), error=error)
        except OSError as error:
            return Outcome(action, Status.PROBLEM, f"{error.strerror or error}")

    def _do(self, task: Task) -> Outcome | Staged:
        settled = self.settle(task)
        try:
            action, rows = task.action, () if settled.row is None else (settled.row,)
            if settled.refusal:
                return Outcome(action, Status.SKIPPED, settled.refusal, final=True)
            if settled.decision is None:
                return Outcome(action, Status.UNCHANGED, "both sides hold the same content", rows)
            kind, rule = settled.decision
            if self.strict and kind is not action.kind:
                return Outcome(action, Status.SKIPPED, "changed since the plan was made")
            if kind in DELETES and action.kind not in DELETES and not self.dry_run:
                # The guard has not seen it.
                reason = "would now be a delete; the next run decides it together with all others"
                return Outcome(action, Status.SKIPPED, reason, rows)
            if (kind, rule) != (action.kind, action.rule):
                action = action._replace(kind=kind, rule=rule)
            if self.dry_run and kind not in _OF_THE_BASELINE:
                return self.planned(action)
            if settled.fetched is not None or settled.intents != task.intents:
                task = task._replace(intents=settled.intents, fetched=settled.fetched)
            return self.step(action, task)
        finally:
            if settled.fetched is not None:
                settled.fetched.discard()

    def planned(self, action: Action) -> Outcome:
        """Return what a dry run reports of a step that is settled."""
        is_conflict = action.kind is Kind.RECONCILE
        return Outcome(action, Status.CONFLICT if is_conflict else Status.PLANNED, action.rule)

    def kept_in_store(self, replaced: RemoteObject | None) -> tuple[KeptVersion, ...]:
        """Return what the trash of the written store now holds; a bucket's own versions are not in it."""
        if replaced is None or not self.store_stamp or self.stores[-1].features.keeps_versions:
            return ()
        return (KeptVersion("store", self.trash_stamp, replaced.path, replaced.size),)

    @contextmanager
    def left_in_store(self) -> Iterator[list[KeptVersion]]:
        """Yield, once, what changes have left in the trash of the written store besides `kept_in_store`.

        After an error in the block, which records them, they are yielded again.
        """
        with left_in_trash(self.stores[-1]) as copies:
            yield [KeptVersion("store", *copy) for copy in copies]

    def refused(self, action: Action, error: PathError) -> Outcome:
        """Return how a step ends at a path that a side cannot hold, or not beside what is there."""
        if isinstance(error, PathObstructed):
            return Outcome(action, Status.PROBLEM, sentence(error), error=error)
        return Outcome(action, Status.SKIPPED, str(error))


class Listener(Protocol):
    """Receives each outcome once it is recorded, and regular ticks."""

    def outcome(self, outcome: Outcome) -> None: ...

    def add_totals(self, added: Totals) -> None:
        """Receive how much was added to the run."""
        ...

    def tick(self) -> None: ...
