"""A run: plans, carries out, and repeats both for paths that changed during it.

`Run` is the same for a folder and a migration; `FolderRun` adds the folder's two sides and its
carrier. What a complete run leaves for the next (`remember`) is here too.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from craftsync.clock import Clock, stamp
from craftsync.core.guard import DeleteLimit
from craftsync.core.retention import StoreTrash
from craftsync.engine.carrier import FolderCarrier
from craftsync.engine.content import Fetcher
from craftsync.engine.executor import Executor
from craftsync.engine.features import CONFIRMED, Confirmation
from craftsync.engine.identity import confirm_root, confirm_store
from craftsync.engine.intake import Changes, Intake
from craftsync.engine.planner import Planner
from craftsync.engine.report import Issue, IssueEvent, OnEvent, Options, Outcome, Report, Staged
from craftsync.engine.settle import Settler
from craftsync.engine.sides import Carrier, FolderSide, Note, StoreSide
from craftsync.engine.tally import Tally
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.net.concurrency import Concurrency
from craftsync.net.pace import Limiter, in_turn
from craftsync.net.tasks import Pool
from craftsync.state.database import Database
from craftsync.state.pair import PairState, State
from craftsync.stores.base import Store
from craftsync.stores.retrying import concurrency_of
from craftsync.stores.sources import workers

_PARTS_AT_ONCE = 8
_ATTEMPTS = 3
"""Attempts at a path that keeps changing; then it is reported as busy."""
_ATTEMPT_SECONDS = 0.2

MakePool = Callable[[Concurrency], Pool[Outcome | Staged | Note]]
"""Makes the pool of workers. Tests pass a pool without threads."""


class Run(ABC):
    """One attempt: plans and carries out once, with one set of options, between any two sides."""

    state: State
    clock: Clock
    make_pool: MakePool
    options: Options
    command: str | None
    """Its name in the history; `None` to record none."""

    @abstractmethod
    def planner(self, tally: Tally) -> Planner: ...

    @abstractmethod
    def carrier(
        self, tally: Tally, trash_stamp: str, *, strict: bool
    ) -> AbstractContextManager[Carrier]: ...

    @abstractmethod
    def confirm(self) -> None:
        """Raise unless both sides still have the identity that the state knows."""

    def run(
        self,
        tally: Tally,
        paths: Iterable[str] | None = None,
        *,
        listed: bool = False,
        changes: Changes | None = None,
    ) -> DeleteLimit:
        """Sync all paths, or `paths` and everything below them, as the options require.

        `listed`: `paths` come from a listing of this run. Steps for `changes` are added while
        the plan is carried out. Returns the limit of deletes for the next attempt.
        """
        planner = self.planner(tally)
        planned = planner.plan(paths, listed=listed)
        tally.planned(planned, self.state.plan.totals())
        self.planned()
        intake = None if changes is None else Intake(planner, changes)
        self.carry_out(tally, deletes=planned.deletes > 0, intake=intake)
        if paths is None and not self.options.dry_run and not self.options.filter:
            self._clear_up(planner.right.store)
        return self.options.delete_limit.after(planned.emptied)

    def planned(self) -> None:  # noqa: B027 (a subclass need not do anything)
        """Called when the plan table is filled."""

    def _clear_up(self, store: Store) -> None:
        """Drop the unfinished transfers that this complete run did not resume."""
        transfers = self.state.transfers
        transfers.drop_stale_downloads()
        stale = transfers.stale_uploads()
        store.abort_stale(stale)
        transfers.forget_uploads(upload_id for _, upload_id in stale)

    def carry_out(
        self,
        tally: Tally,
        *,
        deletes: bool,
        strict: bool = False,
        approved: bool = False,
        intake: Intake | None = None,
    ) -> None:
        """Carry out the plan table; confirm both sides once more before any delete.

        `strict`: the user reviewed this plan. `approved`: the user saw why its steps were held.
        """
        options, trash_stamp = self.options, stamp(self.clock)
        # The user reviewed the plan, or passed --force-delete.
        bypasses_guard = strict or options.force_delete
        if deletes and not options.dry_run:
            self.confirm()
        if deletes and not bypasses_guard:
            with self.state.transaction():
                self.state.cut_off.save_stamp(trash_stamp)
        sharing = in_turn((options.upload_rate, options.download_rate), self.clock.now_ns)
        with self.carrier(tally, trash_stamp, strict=strict) as carrier:
            executor = Executor(
                state=self.state,
                carrier=carrier,
                pool=self.make_pool(concurrency_of(options.transfers, carrier.stores, sharing)),
                clock=self.clock,
                command=self.command,
                listener=tally,
                limit=None if bypasses_guard else options.delete_limit,
                approved=approved,
            )
            executor.intake = intake
            executor.run()
        tally.ended()


def run_until_settled(
    report: Report,
    options: Options,
    on_event: OnEvent,
    clock: Clock,
    make_run: Callable[[Options], Run],
    *,
    paths: Iterable[str] | None = None,
    changes: Changes | None = None,
) -> None:
    """Run over all paths, or over `paths`, then up to two more times over paths that changed during it."""
    complete = paths is None
    for attempt in range(1, _ATTEMPTS + 1):
        tally = Tally(report, on_event, clock, last=attempt == _ATTEMPTS or options.dry_run)
        is_listed = complete and attempt > 1
        limit = make_run(options).run(tally, paths, listed=is_listed, changes=changes)
        options = replace(options, delete_limit=limit)
        paths = tally.finish()
        if not paths:
            break
        clock.sleep(_ATTEMPT_SECONDS * attempt)


@dataclass(frozen=True, slots=True)
class FolderRun(Run):
    """A run between a folder and a store."""

    root: Folder
    store: Store
    state: PairState
    rules: IgnoreRules
    clock: Clock
    make_pool: MakePool
    command: str
    options: Options
    store_trash: StoreTrash = StoreTrash.AUTO
    known: Confirmation = CONFIRMED
    """Which checks of the store this run still owes."""

    def planner(self, tally: Tally) -> Planner:
        options, now_ns = self.options, self.clock.now_ns()
        folder = FolderSide(self.root, self.rules, options.include, options.exclude)
        self.known.features()
        store = StoreSide(self.store, confirmed=self.known.identity, begun=self.known.listing)
        return Planner(folder, store, self.state, options, tally.event, now_ns)

    def confirm(self) -> None:
        self.known.identity_file()
        confirm_root(self.root, self.state, create=False)
        confirm_store(self.store, self.state, create=False)

    @contextmanager
    def carrier(self, tally: Tally, trash_stamp: str, *, strict: bool) -> Iterator[Carrier]:
        options = self.options
        upload = Limiter(options.upload_rate, self.clock)
        download = Limiter(options.download_rate, self.clock)
        tally.use_limiters(upload, download)
        trash = self.store_trash.in_a_store(server_side_copy=self.store.features.server_side_copy)
        with workers(_PARTS_AT_ONCE, "part", self.store) as parts:
            fetcher = Fetcher(self.root, self.store, download, parts)
            tally.use_hashing(fetcher.hashing)
            yield FolderCarrier(
                self.root,
                self.store,
                self._settler(fetcher),
                fetcher,
                upload,
                self.state.intents,
                self.state.arrivals,
                trash_stamp=trash_stamp,
                dry_run=options.dry_run,
                strict=strict,
                store_trash=trash,
                identity_file=self.known.identity_file,
            )

    def _settler(self, fetcher: Fetcher) -> Settler:
        options = self.options
        return Settler(
            self.root,
            self.store,
            options.policy,
            fetcher,
            self.clock,
            dry_run=options.dry_run,
            leaving=self.state.moves.leaving() if options.dry_run else (),
        )


def remember(
    database: Database, report: Report, mode: str, now_ns: int, *, complete: bool = True
) -> None:
    """Record how a run ended; only a `complete` run records the state of the whole folder."""
    database.put("mode", mode)
    if not complete:
        return
    database.put("last_problems", str(report.problems))
    database.put("last_left_out", json.dumps(report.left_out))
    if report.in_sync:
        remember_success(database, now_ns)


def left_out_before(database: Database) -> dict[str, int] | None:
    """Return what the last complete run left out (`Report.left_out`), or `None` before the first."""
    found = database.get("last_left_out")
    return None if found is None else dict(json.loads(found))


def remember_success(database: Database, when_ns: int | None) -> None:
    """Record when both sides were last known to be in sync; `None` records nothing."""
    if when_ns is not None and database.get("last_success_ns") != str(when_ns):
        database.put("last_success_ns", str(when_ns))


def report_recovery(
    database: Database, report: Report, on_event: OnEvent, consequence: str
) -> None:
    """Report, once, that the database was damaged and replaced, and its `consequence` for this run."""
    aside = database.recovered
    if aside is not None:
        database.recovered = None
        report.damaged_state = True
        reason = f"the state database was damaged and is now {aside}; {consequence}"
        event = IssueEvent(Issue.PROBLEM, str(aside), reason)
        report.note(event)
        on_event(event)
