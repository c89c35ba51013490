"""`Session`: a folder, its store and their state, opened and checked. All of the engine starts here.

A `Session` belongs to one thread. Clock and pool are arguments, so that tests control time and
threads."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from craftsync.clock import Clock, SystemClock, stamp
from craftsync.core.model import Action, LocalFile, Mode, RemoteObject
from craftsync.core.retention import Retention
from craftsync.engine import features, identity, planfile
from craftsync.engine.content import Fetcher
from craftsync.engine.intake import Changes
from craftsync.engine.planner import Planned
from craftsync.engine.report import OnEvent, Options, ProgressEvent, Report, ignore_events
from craftsync.engine.review.retention import ClockWatch, Purging, import_outside_records
from craftsync.engine.run import FolderRun, MakePool, remember, report_recovery, run_until_settled
from craftsync.engine.settle import Contents
from craftsync.engine.sides import FolderSide, StoreSide, do_nothing
from craftsync.engine.tally import PlanWriter, Tally
from craftsync.errors import PathError, RootError, UsageError
from craftsync.local import linux
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.net.concurrency import FIRST
from craftsync.net.pace import Limiter
from craftsync.net.tasks import TaskPool
from craftsync.state.pair import PairState, known_folder, known_root, pair_folder
from craftsync.state.unflushed import forget_unflushed
from craftsync.stores.base import Store, server_and_location
from craftsync.stores.sources import workers

# Loaded only when used: a run needs none of it.
if TYPE_CHECKING:
    from craftsync.engine.review.deletes import Approval
    from craftsync.engine.review.inspect import Explanation
    from craftsync.engine.review.trash import Trash

_COMPARED_AT_ONCE = 4
_BEGUN_ANEW = "both sides are merged without deleting anything"


class Session:
    """A folder and a store with their state. Made by `open`; the caller closes it."""

    def __init__(
        self,
        root: Folder,
        store: Store,
        state: PairState,
        *,
        read_only: bool = False,
        clock: Clock,
        make_pool: MakePool = TaskPool,
    ) -> None:
        self.root = root
        self.store = store
        self.state = state
        self.read_only = read_only
        self.clock = clock
        self.retention = Retention()
        self._make_pool = make_pool

    @cached_property
    def trash(self) -> Trash:
        from craftsync.engine.review.trash import Trash

        return Trash(self.root, self.store, self.state, self.clock, self.read_only)

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        store: Store,
        *,
        state_dir: Path,
        read_only: bool = False,
        reading: bool = False,
        create_root: bool = False,
        clock: Clock | None = None,
        make_pool: MakePool = TaskPool,
    ) -> Session:
        """Open the folder and its state, and confirm the folder's identity.

        `read_only` takes no lock, and writes nothing to folder or store. With `reading` as well,
        the state is read in place and no run can be planned. `create_root` creates a missing
        folder, except one that the state knows: that folder is lost, not new. Raises
        `RootError`, `LockedError`, `StateError`.
        """
        path = os.path.realpath(root)
        names = (state_dir, path, store.location)
        if create_root:
            _make_root(path, store.location, state_dir)
        folder = Folder.open(path)
        try:
            if not read_only:
                identity.refuse_lost_root(folder, partial(known_root, *names))
                folder.lock(pair_folder(*names) / "root.lock")
            at = server_and_location(store)
            state = PairState.open(*names, at, new_id=_new_id, scratch=read_only, reading=reading)
            clock = clock or SystemClock()
            session = cls(
                folder, store, state, read_only=read_only, clock=clock, make_pool=make_pool
            )
            session._prepare()
        except BaseException:
            folder.close()
            raise
        return session

    def _prepare(self) -> None:
        identity.confirm_root(self.root, self.state, create=not self.read_only)
        if not self.read_only:
            self.root.sweep_temporaries(self.state.transfers.temporaries())
            ClockWatch(self.state, self.clock).begin()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.state.close()
        self.root.close()

    def rules(self, options: Options) -> IgnoreRules:
        """Return the ignore rules, and set whether the folder follows links from now on."""
        self.root.follow_links(options.follow_links)
        return IgnoreRules(self.root, include=options.include, exclude=options.exclude)

    def run(
        self,
        command: str,
        options: Options,
        on_event: OnEvent = ignore_events,
        *,
        paths: Iterable[str] | None = None,
        changes: Changes | None = None,
    ) -> Report:
        """Make one run over all paths, or over `paths` and everything below them.

        Paths that change during the run are tried up to two more times. Steps for `changes` are
        added while it lasts, if possible. Raises the error that broke a whole side; what was
        done before it is recorded.
        """
        report = Report(command, dry_run=options.dry_run)
        started, complete = self.clock.monotonic(), paths is None
        self.state.history.begin()
        report_recovery(self.state.database, report, on_event, _BEGUN_ANEW)
        lists = complete and options.filter.listed is None
        with features.confirming_store(
            self.store, self.state, self.clock, may_write=_may_write(options), lists=lists
        ) as known:
            if not options.dry_run:
                forget_unflushed(self.state, self.root.sync if options.policy.deletes else None)
            self.state.moves.refuse_none()
            make_run = partial(self._run_with, command, known=known)
            run_until_settled(
                report, options, on_event, self.clock, make_run, paths=paths, changes=changes
            )
        report.seconds = round(self.clock.monotonic() - started, 3)
        report.conflict_copies = self._conflict_copies()
        if not options.dry_run:
            self._remember(report, options, complete=complete and not options.filter)
            if complete:
                self._purging(lambda: on_event(ProgressEvent("scanning"))).run()
        return report

    def end_retention(self, tick: Callable[[], None], *, reachable: bool, at_most: int) -> int:
        """Remove up to `at_most` expired versions from the trash, as a complete run does at its end.

        `tick` is called between two removals, and may raise to stop. If the store is not
        `reachable`, only the folder's trash is cleaned. Returns the number of removed versions;
        raises the errors of `confirm_root` and `confirm_store`.
        """
        if not self.retention.is_bounded:
            return 0
        identity.confirm_root(self.root, self.state, create=False)
        if reachable:
            identity.confirm_store(self.store, self.state, create=False)
        return self._purging(tick, reachable=reachable, at_most=at_most).run()

    def _purging(self, tick: Callable[[], None], **bounds: Any) -> Purging:
        import_outside_records(self.state, self.store if bounds.get("reachable", True) else None)
        return Purging(
            self.root, self.store, self.state, self.clock, self.retention, tick, **bounds
        )

    def _conflict_copies(self) -> int:
        """Count the conflict copies of the baseline that still exist in the folder."""
        return sum(map(self._is_there, self.state.baseline.conflict_paths()))

    def _is_there(self, path: str) -> bool:
        try:
            return self.root.stat(path) is not None
        except PathError:
            return False

    def _confirm_store(self, options: Options) -> None:
        """Confirm the store and probe its features, writing nothing in a dry run or a pull."""
        features.confirm_and_probe(
            self.store, self.state, self.clock, may_write=_may_write(options)
        )

    def _run_with(
        self, command: str, options: Options, *, known: features.Confirmation = features.CONFIRMED
    ) -> FolderRun:
        return FolderRun(
            self.root,
            self.store,
            self.state,
            self.rules(options),
            self.clock,
            self._make_pool,
            command,
            options,
            self.retention.store,
            known,
        )

    def _remember(self, report: Report, options: Options, *, complete: bool) -> None:
        now, mode = self.clock.now_ns(), options.policy.mode
        remember(self.state.database, report, mode, now, complete=complete)

    def check(
        self,
        options: Options,
        on_line: Callable[[str, str], None],
        on_event: OnEvent = ignore_events,
    ) -> Report:
        """Compare the content of both sides; call `on_line` with a symbol of `= - + * !` and a path."""
        from craftsync.engine.review.inspect import Checker

        report = Report("check")
        started = self.clock.monotonic()
        with workers(_COMPARED_AT_ONCE, "part", self.store) as parts:
            fetcher = Fetcher(self.root, self.store, Limiter(None, self.clock), parts)

            def equal(local: LocalFile, remote: RemoteObject) -> bool:
                contents = Contents(self.root, fetcher, local, remote, self.clock)
                return contents.equal(self.store, may_read=True)

            left = FolderSide(self.root, self.rules(options), options.include, options.exclude)
            checker = Checker(
                left=left,
                right=StoreSide(self.store),
                database=self.state.database,
                equal=equal,
                workers=options.transfers or FIRST,
                stores=[self.store],
                on_event=on_event,
                filter=options.filter,
                now_ns=self.clock.now_ns(),
            )
            checker.run(report, on_line)
        report.seconds = round(self.clock.monotonic() - started, 3)
        report.conflict_copies = self._conflict_copies()
        return report

    def scrub(
        self,
        on_event: OnEvent = ignore_events,
        paths: Sequence[str] = (),
        *,
        repair: bool = False,
        share: float | None = None,
        heed: Callable[[], None] = do_nothing,
    ) -> Report:
        """Compare both sides with the last synced state (`Scrubber.run`); raises as `confirm_store`."""
        from craftsync.engine.review.scrub import Scrubber

        identity.confirm_root(self.root, self.state, create=False)
        identity.confirm_store(self.store, self.state, create=False)
        features.load_features(self.store, self.state.database, self.clock, may_write=repair)
        scrubber = Scrubber(self.root, self.store, self.state, self.clock, on_event, repair)
        return scrubber.run(paths, share, heed)

    def write_plan(
        self, options: Options, out: TextIO, on_event: OnEvent = ignore_events
    ) -> Report:
        """Write the steps that a run would take, one JSON object a line (`planfile`)."""
        report = Report("plan", dry_run=True)
        self._confirm_store(replace(options, dry_run=True))
        planfile.write_header(out, self.root.path, self.store.location, options)
        tally = PlanWriter(report, on_event, self.clock, out)
        self._run_with("plan", replace(options, dry_run=True)).run(tally)
        return report

    def apply_plan(
        self, actions: Iterable[Action], options: Options, on_event: OnEvent = ignore_events
    ) -> Report:
        """Carry out exactly these actions; skip each whose path has changed since it was planned."""
        report = Report("apply")
        self.root.follow_links(options.follow_links)
        self._carry_out(report, actions, options, on_event)
        report.conflict_copies = self._conflict_copies()
        self._remember(report, options, complete=False)
        return report

    def _carry_out(
        self,
        report: Report,
        actions: Iterable[Action],
        options: Options,
        on_event: OnEvent,
        *,
        approved: bool = False,
        as_new: bool = False,
    ) -> None:
        started = self.clock.monotonic()
        self.state.history.begin()
        self._confirm_store(options)
        with self.state.transaction():
            self.state.plan.begin(by_operation=self.store.features.metadata, as_new=as_new)
            self.state.plan.add(actions)
            self._refuse_repeated()
            if not as_new:
                self.state.cut_off.end_planned_as_new()
            self.state.plan.arrange()
        tally = Tally(report, on_event, self.clock, last=True)
        tally.planned(Planned(), self.state.plan.totals())
        self._run_with(report.command, options).carry_out(
            tally, deletes=True, strict=True, approved=approved
        )
        report.seconds = round(self.clock.monotonic() - started, 3)

    def _refuse_repeated(self) -> None:
        repeated = self.state.plan.repeated()
        if repeated is not None:
            raise UsageError(f"the plan names {repeated} more than once")

    def resolve_held(
        self, approval: Approval, options: Options, on_event: OnEvent = ignore_events
    ) -> Report:
        """Carry out the user's decision about held deletes; skip each path that has changed since.

        Rejecting also restores what the same event deleted before the guard held the rest.
        """
        from craftsync.engine.review.deletes import resolving

        report = Report(approval.command, dry_run=options.dry_run)
        first = next(self.state.held.rows(approval.paths), None)
        policy = approval.policy(first.mode if first else options.policy.mode)
        options = replace(options, policy=policy)
        if not approval.approved:
            self._confirm_store(options)
        sides = (self.root, self.store, self.state)
        with resolving(approval, *sides, report, on_event, stamp(self.clock)) as actions:
            # A rejected path counts as new, so it is copied to the side that lacks it.
            approved = approval.approved
            self._carry_out(
                report, actions, options, on_event, approved=approved, as_new=not approved
            )
        return report

    def why(self, path: str, options: Options) -> Explanation:
        """Explain what a run would do at one path, and by which rule. Changes nothing."""
        from craftsync.engine.review.inspect import explain

        return explain(path, self.root, self.store, self.state, self.rules(options), options.policy)


def _make_root(path: str, location: str, state_dir: Path) -> None:
    """Create a missing folder, except one that the state knows: that folder is lost, not new."""
    if not known_folder(state_dir, path, location).exists():
        try:
            linux.makedirs(path, exist_ok=True)
        except OSError as error:
            raise RootError(
                f"The folder {path} cannot be made: {error.strerror}.",
                remedy="Name another folder, or see what is in the way.",
            ) from error


def _may_write(options: Options) -> bool:
    """Return whether a run may write into the store: a dry run and a pull do not."""
    return not options.dry_run and options.policy.mode is not Mode.PULL


def _new_id() -> str:
    return uuid.uuid4().hex
