"""One round of a run: plan it, then carry it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from craftsync.clock import Clock, stamp
from craftsync.core.guard import DeleteLimit
from craftsync.core.retention import StoreTrash
from craftsync.engine.carrier import Carrier
from craftsync.engine.content import Fetcher
from craftsync.engine.executor import Executor
from craftsync.engine.identity import confirm_root, confirm_store
from craftsync.engine.planner import Changes, Intake, Planner
from craftsync.engine.report import Options, Outcome, Staged
from craftsync.engine.runner import Note
from craftsync.engine.settle import Settler
from craftsync.engine.tally import Tally
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.net.pace import Concurrency, Limiter
from craftsync.net.tasks import Pool
from craftsync.state.pair import PairState
from craftsync.stores.base import Store
from craftsync.stores.retrying import concurrency_of
from craftsync.stores.sources import workers

_PARTS_AT_ONCE = 8

MakePool = Callable[[Concurrency], Pool[Outcome | Staged | Note]]
"""Makes the workers; a test may hand in one that makes none."""


@dataclass(frozen=True, slots=True)
class Round:
    """Plans and carries out with one set of options; `command` is what the history calls it."""

    root: Folder
    store: Store
    state: PairState
    rules: IgnoreRules
    clock: Clock
    make_pool: MakePool
    command: str
    options: Options
    store_trash: StoreTrash = StoreTrash.AUTO

    def run(
        self,
        tally: Tally,
        paths: Iterable[str] | None = None,
        *,
        listed: bool = False,
        changes: Changes | None = None,
    ) -> DeleteLimit:
        """Bring everything, or `paths` and what lies below them, in sync as far as the options say.

        `changes` are taken in while it is under way. Returns the limit of deletes for the next round.
        """
        planner = Planner(
            self.root,
            self.store,
            self.state,
            self.rules,
            self.options,
            tally.event,
            self.clock.now_ns(),
        )
        planned = planner.plan(paths, listed=listed)
        tally.planned(planned, self.state.plan.totals())
        intake = None if changes is None else Intake(planner, changes)
        self.carry_out(tally, deletes=planned.deletes > 0, intake=intake)
        if paths is None and not self.options.dry_run:
            self._clear_up()
        return self.options.delete_limit.after(planned.emptied)

    def _clear_up(self) -> None:
        """Drop what a complete round has shown to be of no use any more."""
        transfers = self.state.transfers
        transfers.drop_stale_downloads()
        stale = transfers.stale_uploads()
        self.store.abort_stale(stale)
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
        """Carry out the plan table; before any delete both sides are confirmed once more.

        `approved`: a person has seen why its steps were held.
        """
        if deletes and not self.options.dry_run:
            confirm_root(self.root, self.state, mark=False)
            confirm_store(self.store, self.state, mark=False)
        is_a_persons_word, keep = strict or self.options.force_delete, stamp(self.clock)
        if deletes and not is_a_persons_word:
            with self.state.transaction():
                self.state.cut_off.delete_under(keep)
        with workers(_PARTS_AT_ONCE, "part", self.store) as parts:
            executor = Executor(
                state=self.state,
                carrier=self._carrier(tally, parts, keep, strict=strict),
                pool=self.make_pool(concurrency_of(self.options.transfers, [self.store])),
                clock=self.clock,
                command=self.command,
                listener=tally,
                limit=None if is_a_persons_word else self.options.delete_limit,
                approved=approved,
            )
            executor.intake = intake
            executor.run()
        tally.ended()

    def _carrier(
        self, tally: Tally, parts: ThreadPoolExecutor, keep: str, *, strict: bool
    ) -> Carrier:
        options = self.options
        upload = Limiter(options.upload_rate, self.clock)
        download = Limiter(options.download_rate, self.clock)
        tally.count_bytes(upload, download)
        fetcher = Fetcher(self.root, self.store, download, parts)
        tally.watch(fetcher.hashing)
        settler = Settler(
            self.root,
            self.store,
            options.policy,
            fetcher,
            self.clock,
            dry_run=options.dry_run,
        )
        return Carrier(
            self.root,
            self.store,
            settler,
            fetcher,
            upload,
            self.state.intents,
            self.state.arrivals,
            keep=keep,
            dry_run=options.dry_run,
            strict=strict,
            store_trash=self.store_trash.in_a_store(
                server_side_copy=self.store.features.server_side_copy
            ),
        )
