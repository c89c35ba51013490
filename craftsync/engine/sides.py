"""The two sides of a run, as planning reads them, and `Carrier`, which carries out steps between them.

The left side is a folder, or a store in a migration; the right side is a store. The rest of the
engine knows sides and carriers only through these interfaces.
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
"""Steps that change neither side. A dry run carries them out on its copy of the database."""


def do_nothing() -> None:
    """Do nothing: the default where nothing must be confirmed or awaited."""


class Left(Protocol):
    """The left side. If `is_sorted`, it yields its entries in the byte order of the UTF-8 path."""

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
        """Whether it is a folder on disk, with inode numbers and with names that every store can hold."""
        ...

    @property
    def is_sorted(self) -> bool: ...

    def scan(self, boundaries: Sequence[str], known: int) -> Iterable[LocalFile | Skipped]:
        """Return all entries. `known` is the number of baseline rows; `boundaries` are paths that
        divide them into shares, to be listed at once."""
        ...

    def look(self, paths: Sequence[str]) -> Iterable[LocalFile | Skipped]:
        """Return the entries at these paths, and in a folder also those below them."""
        ...

    @property
    def ignored_count(self) -> int:
        """How many scanned entries the patterns left out; a folder counts once."""
        ...

    def stat(self, path: str) -> LocalFile | None: ...

    def sync(self) -> None:
        """Flush all of it: return once it survives a power cut."""
        ...

    def ignored(self, path: str) -> bool:
        """Return whether a path takes no part."""
        ...

    def may_hide(self, path: str) -> bool:
        """Return whether the side may hold this path unseen, because another shard has it or a pattern excludes it."""
        ...

    def is_empty(self) -> bool:
        """Return whether a side whose scan yielded nothing is really empty."""
        ...

    def now_ns(self, here_ns: int) -> int:
        """Return the current time by the clock that stamps its files; `here_ns` is this machine's."""
        ...


def in_order_left(
    side: Left, database: Database, entries: Iterable[LocalFile]
) -> Iterable[LocalFile]:
    if side.is_sorted:
        return entries
    return map(as_left, in_order(database, map(as_object, entries), name="left"))


@dataclass(frozen=True, slots=True)
class FolderSide:
    """A folder and the ignore rules that decide which of its paths take part."""

    root: Folder
    rules: IgnoreRules
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    word = "folder"
    stage = "scanning"
    is_folder = True
    is_sorted = True

    def with_new_rules(self) -> FolderSide:
        """Return this side with its ignore files read again."""
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
    """Raises unless the store is still the same. Called once the first entry has arrived."""
    begun: Callable[[], Iterable[RemoteObject | Skipped] | None] = field(
        default=do_nothing, kw_only=True
    )
    """Returns the listing that was started before, if any."""

    word = "store"
    stage = "listing"

    def list(self, boundaries: Sequence[str]) -> Iterator[RemoteObject | Skipped]:
        """Yield all objects; none before the store's identity is confirmed."""
        entries = iter(self.begun() or self.store.list(boundaries=boundaries))
        first = next(entries, None)
        self.confirmed()
        if first is not None:
            yield first
            yield from entries

    def stat(
        self, names: Sequence[str], *, listed: bool = False
    ) -> Sequence[RemoteObject | Skipped]:
        """Return the objects at these paths, as `stat_all` does, once the identity is confirmed."""
        found = stat_all(self.store, names, listed=listed)
        self.confirmed()
        return found

    def in_order(
        self, database: Database, entries: Iterable[RemoteObject]
    ) -> Iterable[RemoteObject]:
        return entries if self.store.features.sorted_listing else in_order(database, entries)

    def is_reported(self, skipped: Skipped) -> bool:
        """Return whether to report an object that the store skipped."""
        return True


def stat_all(
    store: Store, names: Sequence[str], *, listed: bool = False
) -> list[RemoteObject | Skipped]:
    """Stat these paths, several at once; return the objects that exist, in the order of the paths.

    A path that the store cannot hold or read becomes `Skipped`, as in a listing; the others are
    still read. `listed`: a listing has just shown all of them, so a path that its stat does not
    find is listed again.
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
    """Return the problem of a path that the store lists but does not find; `None` if it is gone."""
    if all(entry.path != path for entry in store.list(path)):
        return None
    reason = f"the store lists {path} and answers 404 (not found) to its key"
    return Skipped(path, reason, failed=True)


def now_of(filter: Filter, mode: Mode, left: Left, right: StoreSide, here_ns: int) -> Now:
    """Return the current time of each side whose ages the filter needs; request no other."""
    if not filter.by_age:
        return Now(0, 0)
    local = left.now_ns(here_ns) if mode is not Mode.PULL else 0
    remote = now_by(right.store, here_ns) if mode is not Mode.PUSH else 0
    return Now(local, remote)


def unmet_reason(side: str, left: Left, gone: Unknown, sieve: Sieve, path: str) -> str:
    """Return, as a clause of a message, why an entry of a list has nothing to copy."""
    if path in sieve.folders:
        return f"named in --files-from, but it is a folder: {path}/ stands for all in it"
    if gone.is_by_design(path):
        return "named in --files-from, but a symbolic link or special file takes no part"
    if left.ignored(path):
        return "named in --files-from, but the patterns or an ignore file leave it out"
    return f"named in --files-from, but the {side} holds no file there"


class Task(NamedTuple):
    """A step for a worker, with all that it needs from the database."""

    step: int
    action: Action
    operation: str
    intents: tuple[Intent, ...] = ()
    partial: PartialDownload | None = None
    journal: Callable[[bytes], UploadJournal] | None = None
    unkept: bool = False
    """Whether the user approved to keep no copy of an archived object."""
    fetched: Fetched | None = None
    """The object's content, if settling had to read it."""


class Note(NamedTuple):
    """A call that a worker hands to the control thread, because it writes to the database."""

    learn: Callable[[], None]


class Carrier(ABC):
    """Carries out steps in worker threads, and touches only the two sides of the run.

    It never writes to the state database: it returns what to record as an `Outcome`.
    """

    __slots__ = ()
    short: ClassVar[int]
    """A step of at most this many bytes may run in the control thread."""
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
        """The stores of this run, which a stop cancels. The last one is the one written to."""

    @property
    def store_stamp(self) -> str | None:
        """The folder in the store's trash for replaced and deleted versions; `None` if it keeps none."""
        return self.trash_stamp

    @abstractmethod
    def settle(self, task: Task) -> Settled:
        """Read what a listing does not report, such as the content, and decide again."""

    @abstractmethod
    def step(self, action: Action, task: Task) -> Outcome | Staged:
        """Carry out a settled step. A download is only `Staged`: `place` swaps it in after a flush."""

    @abstractmethod
    def with_trash_stamp(self, trash_stamp: str) -> Carrier:
        """Return this carrier with another stamp for the trash."""

    @abstractmethod
    def cancel(self) -> None:
        """Make each transfer raise `Interrupted` at its next piece."""

    def place(self, staged: Staged) -> Outcome:
        """Swap in a staged download."""
        raise AssertionError(f"{staged.action.path}: the left side is not written")

    def before_recording(self) -> None:  # noqa: B027 (doing nothing is valid)
        """Wait until outcomes may be recorded; raises if a side is not the one the state knows."""

    def sync(self) -> None:  # noqa: B027 (doing nothing is valid)
        """Flush the left side: return once what was written there survives a power cut."""

    def has_temporary(self, name: str) -> bool:
        """Return whether the folder still has the temporary file of this unfinished download."""
        return False

    def carry_out(self, task: Task) -> Outcome | Staged:
        """Settle and carry out one step. An error that concerns this path alone becomes its outcome."""
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
                # The guard has not counted this delete.
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
        """Return the outcome that a dry run reports for a settled step."""
        is_conflict = action.kind is Kind.RECONCILE
        return Outcome(action, Status.CONFLICT if is_conflict else Status.PLANNED, action.rule)

    def kept_in_store(self, replaced: RemoteObject | None) -> tuple[KeptVersion, ...]:
        """Return the version that the written store's trash now holds, if it does not version itself."""
        if replaced is None or not self.store_stamp or self.stores[-1].features.keeps_versions:
            return ()
        return (KeptVersion("store", self.trash_stamp, replaced.path, replaced.size),)

    @contextmanager
    def left_in_store(self) -> Iterator[list[KeptVersion]]:
        """Yield the copies that lost answers left in the written store's trash, besides `kept_in_store`.

        The block records them. Each is yielded once, or again if the block raised.
        """
        with left_in_trash(self.stores[-1]) as copies:
            yield [KeptVersion("store", *copy) for copy in copies]

    def refused(self, action: Action, error: PathError) -> Outcome:
        """Return the outcome at a path that a side refuses, or that another path obstructs."""
        if isinstance(error, PathObstructed):
            return Outcome(action, Status.PROBLEM, sentence(error), error=error)
        return Outcome(action, Status.SKIPPED, str(error))


class Listener(Protocol):
    """Receives each outcome once it is recorded, and regular ticks."""

    def outcome(self, outcome: Outcome) -> None: ...

    def add_totals(self, added: Totals) -> None:
        """Receive the size of the steps that were added during the run."""
        ...

    def tick(self) -> None: ...
