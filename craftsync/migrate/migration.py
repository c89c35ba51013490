"""Two open stores and what is known about them: the door to one migration.

A `Migration` belongs to one thread. Clock and pool are arguments, so that a
test can take time and threads away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from craftsync.clock import Clock, SystemClock, stamp
from craftsync.core.guard import DeleteLimit
from craftsync.engine.identity import learn, report_recovery
from craftsync.engine.report import OnEvent
from craftsync.engine.runner import Note
from craftsync.migrate import estimate, manifest
from craftsync.migrate.carrier import Carrier
from craftsync.migrate.content import MIB, Room
from craftsync.migrate.executor import Executor, NoteKept
from craftsync.migrate.identity import confirm
from craftsync.migrate.keeping import Keeping
from craftsync.migrate.options import MigrationOptions, MigrationReport, Verify
from craftsync.migrate.outcome import CopyOutcome
from craftsync.migrate.planner import Planner
from craftsync.migrate.shards import Span, span_of
from craftsync.migrate.tally import Tally
from craftsync.net.pace import Concurrency, Limiter
from craftsync.net.tasks import Pool, TaskPool
from craftsync.state.history import KeptVersion
from craftsync.state.migration import MigrationState
from craftsync.stores.base import Store
from craftsync.stores.retrying import concurrency_of

_ROUNDS = 3
_ROUND_SECONDS = 0.5
"""What changed meanwhile is given this long to settle, and twice that before the last round."""
_ROOM = 96 * MIB
"""Memory for the objects on their way that are larger than `carrier.SHORT`."""

_BEGUN_ANEW = "what the target holds is compared anew"


def _note_nothing(versions: list[KeptVersion]) -> None:
    """Keep no record."""


MakePool = Callable[[Concurrency], Pool[CopyOutcome | Note]]
"""Makes the workers; a test may hand in one that makes none."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One source, one target and what was copied between them so far. `folder` is where the manifest goes."""

    source: Store
    target: Store
    state: MigrationState
    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    make_pool: MakePool = TaskPool
    note_kept: NoteKept = _note_nothing
    """Is called with what went to the target's trash."""

    def run(self, options: MigrationOptions, on_event: OnEvent) -> MigrationReport:
        """Bring the target up to date with the source, as far as the options say.

        What changes meanwhile is looked at again twice. Raises what broke a
        whole side; what was done until then is recorded, and the next run goes
        on from there.
        """
        dry_run = options.run.dry_run
        report = MigrationReport("migrate", dry_run=dry_run)
        started = self.clock.monotonic()
        report_recovery(self.state.database, report, on_event, _BEGUN_ANEW)
        confirm(self.source, self.target, self.state, mark=not dry_run)
        self._learn_facts(dry_run=dry_run)
        span = self._span(options)
        paths: list[str] | None = None
        for attempt in range(1, _ROUNDS + 1):
            tally = Tally(report, on_event, self.clock, last=dry_run or attempt == _ROUNDS)
            limit = self._round(options, span, tally, report, paths)
            options = replace(options, run=replace(options.run, delete_limit=limit))
            paths = tally.again()
            if not paths:
                break
            self.clock.sleep(_ROUND_SECONDS * attempt)
        if not dry_run:
            self._finish(options, report)
        report.seconds = round(self.clock.monotonic() - started, 3)
        return report

    def _learn_facts(self, *, dry_run: bool) -> None:
        """Learn what the target can do. The source is never tried: it is known as far as it is the same server."""
        saved = learn(self.target, self.state.database, self.clock, may_write=not dry_run)
        if saved is not None and self._are_neighbours():
            self.source.prepare(saved)

    def _are_neighbours(self) -> bool:
        """Tell whether one server holds both stores, for the same credentials."""
        origin, there = self.source.features.origin, self.target.features.origin
        return origin is not None and there is not None and origin.is_near(there)

    def _by_server(self, options: MigrationOptions) -> bool:
        """Tell whether the target copies by itself; whether it really does is not known before the first real run."""
        known = options.run.dry_run or self.target.features.server_side_copy
        return options.server_side and known and self._are_neighbours()

    def _span(self, options: MigrationOptions) -> Span:
        if options.shard is None:
            return Span()
        dry_run = options.run.dry_run
        return span_of(options.shard, self.source, self.target, read_only=dry_run)

    def _round(
        self,
        options: MigrationOptions,
        span: Span,
        tally: Tally,
        report: MigrationReport,
        paths: list[str] | None,
    ) -> DeleteLimit:
        """Plan and carry out; return the limit of deletes for the next round."""
        now_ns = self.clock.now_ns()
        planner = Planner(self.source, self.target, self.state, options, span, tally.event, now_ns)
        planned = planner.plan(paths)
        tally.planned(planned, self.state.totals())
        if options.run.dry_run:
            report.requests += self._estimated(options)
        carrier = self._carrier(options)
        if planned.deletes and not options.run.dry_run:
            self._before_deletes(carrier.keep, is_a_persons_word=options.run.force_delete)
        tally.count_bytes(None if carrier.server_side else carrier.outgoing)
        tally.watch(carrier.hashing)
        Executor(
            state=self.state,
            carrier=carrier,
            pool=self.make_pool(
                concurrency_of(options.run.transfers, [self.source, self.target]),
            ),
            clock=self.clock,
            listener=tally,
            note_kept=self.note_kept,
            limit=None if options.run.force_delete else options.run.delete_limit,
        ).run()
        tally.ended()
        if paths is None and not options.run.dry_run:
            stale = self.state.stale_uploads()
            self.target.abort_stale(stale)
            self.state.transfers.forget_uploads(upload_id for _, upload_id in stale)
        return options.run.delete_limit.after(planned.emptied)

    def _estimated(self, options: MigrationOptions) -> int:
        """Return how many requests the plan would take."""
        server_side, features = self._by_server(options), self.target.features
        return estimate.requests(
            self.state.steps(),
            server_side=server_side,
            # The MD5 of a copy, too, shows of which source it is; a dry run knows of no server that has neither.
            stats=features.server_side_copy
            and not (features.conditional_source or features.md5_versions),
            asks=self._keeping(options).asks(server_side=server_side),
            reads_back=options.verify is Verify.FULL,
        )

    def _before_deletes(self, keep: str, *, is_a_persons_word: bool) -> None:
        confirm(self.source, self.target, self.state, mark=False)
        if not is_a_persons_word:
            with self.state.transaction():
                self.state.cut_off.delete_under(keep)

    def _carrier(self, options: MigrationOptions) -> Carrier:
        addresses = f"{self.source.location}\0{self.target.location}"
        return Carrier(
            self.source,
            self.target,
            Limiter(options.run.download_rate, self.clock),
            Limiter(options.run.upload_rate, self.clock),
            Room(_ROOM),
            self._keeping(options),
            keep=stamp(self.clock),
            name=hashlib.sha256(addresses.encode()).hexdigest(),
            verify=options.verify,
            no_overwrite=options.no_overwrite,
            server_side=self._by_server(options),
            dry_run=options.run.dry_run,
        )

    def _keeping(self, options: MigrationOptions) -> Keeping:
        return Keeping(self.source, self.target, options.storage_class, options.tags)

    def _finish(self, options: MigrationOptions, report: MigrationReport) -> None:
        """Write the manifest, and put it into the target if nothing is left to do there."""
        file = options.manifest or self.folder / "manifest.jsonl"
        manifest.write(options.rules.of(self.state.finished_rows()), file)
        report.manifest = str(file)
        if options.manifest_in_target and report.exit_code == 0:
            manifest.send(file, self.target, f"manifest-{stamp(self.clock)}")
