"""Two open stores and what is known about them: the door to one migration.

A `Migration` belongs to one thread. Clock and pool are arguments, so that a
test can take time and threads away.

The target gets an identity file; the source is left as it is, and has one if it
was ever kept in sync with a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from craftsync.clock import Clock, SystemClock, stamp
from craftsync.core.model import Compare, Kind, Mode, Policy
from craftsync.engine.identity import (
    STORE_MARK,
    is_learned,
    learn,
    mark_of,
    report_recovery,
    write_own_file,
)
from craftsync.engine.planner import Planner
from craftsync.engine.report import OnEvent, Options
from craftsync.engine.run import MakePool, Round, in_rounds
from craftsync.engine.sides import Carrier, nothing
from craftsync.engine.tally import Tally
from craftsync.errors import StoreChanged, UsageError
from craftsync.migrate import manifest
from craftsync.migrate.carrier import CopyCarrier
from craftsync.migrate.options import MigrationOptions, MigrationReport, Verify
from craftsync.migrate.properties import PropertyPolicy
from craftsync.migrate.shards import Span, span_of
from craftsync.migrate.sides import NestingDetector, SourceSide, TargetSide
from craftsync.migrate.stream import MIB, PART, WHOLE, MemoryBudget
from craftsync.net.pace import Limiter
from craftsync.net.tasks import TaskPool
from craftsync.state.migration import MigrationState
from craftsync.state.plan import Step
from craftsync.stores.base import Store
from craftsync.stores.sources import workers

_PER_LARGE_OBJECT = 4
"""A look at the source, and the begin, the end and a look after it in the target."""


def requests(
    steps: Iterable[Step], *, server_side: bool, stats: bool, asks: bool, reads_back: bool
) -> int:
    """Return how many requests both stores get for these steps, listings and repetitions left out.

    `stats` says whether the server's copies need a stat of the source first,
    `asks` says whether each object is asked for its properties, `reads_back`
    whether each copy is read and compared: with what passed through here, or
    with the source, where the server copies.
    """
    more = asks + (server_side and stats) + (reads_back and 1 + server_side)
    return sum(
        _of(step, server_side) + (step.action.kind is Kind.UPLOAD and more) for step in steps
    )


def _of(step: Step, server_side: bool) -> int:
    match step.action.kind:
        case Kind.FORGET:
            return 0
        case Kind.DELETE_REMOTE:
            return 3
        case Kind.RECONCILE:
            return 2
    keeping = 2 if step.action.remote is not None else 0
    if server_side:
        return 1 + keeping
    size = step.action.local.size if step.action.local else 0
    return keeping + (2 if size <= WHOLE else 2 * -(-size // PART) + _PER_LARGE_OBJECT)


def confirm(source: Store, target: Store, state: MigrationState, *, mark: bool) -> None:
    """Check both marks against the database; with `mark`, set the target's on first use.

    Raises `StoreChanged` when a store is not the one it was, and `UsageError`
    when both are the same one under two names.
    """
    with _confirming(source, target, state, mark=mark) as confirmed:
        confirmed()


@contextmanager
def _confirming(
    source: Store, target: Store, state: MigrationState, *, mark: bool
) -> Iterator[Callable[[], None]]:
    """Ask both stores for their marks; calling what is yielded does the rest of `confirm`."""
    stores = (source, target)
    with workers(2, "identity", *stores) as pool:
        marks = [pool.submit(mark_of, store) for store in stores]
        yield partial(_confirm, source, target, state, marks, mark=mark)


def _confirm(
    source: Store,
    target: Store,
    state: MigrationState,
    marks: Sequence[Future[str | None]],
    *,
    mark: bool,
) -> None:
    ids = [
        _confirmed(store, found.result(), state, name)
        for store, found, name in zip((source, target), marks, ("source", "target"), strict=True)
    ]
    if ids[1] is None and mark:
        ids[1] = write_own_file(target)
        # A place without a mark has one now, also under its other name.
        ids[0] = mark_of(source)
    if ids[0] is not None and ids[0] == ids[1]:
        raise UsageError(
            f"{source.location} and {target.location} are the same store ({STORE_MARK}).",
            remedy="If one was copied from the other by another tool, remove the target's mark.",
        )
    if ids[1] is not None:
        state.database.put("target_id", ids[1])


def _confirmed(store: Store, found: str | None, state: MigrationState, name: str) -> str | None:
    known = state.database.get(f"{name}_id")
    if known is not None and found != known:
        what = "lost its mark" if found is None else "is not the store it was"
        raise StoreChanged(
            f"the {name} {store.location} {what} ({STORE_MARK})",
            remedy="Check bucket, prefix and credentials. If it really is a new store, use"
            " another --state-dir: what is there is then compared anew.",
        )
    if found is not None and known is None:
        state.database.put(f"{name}_id", found)
    return found


_ROOM = 96 * MIB
"""Memory for the objects on their way that are larger than `CopyCarrier.short`."""

_BEGUN_ANEW = "what the target holds is compared anew"


@dataclass(frozen=True, slots=True)
class Migration:
    """One source, one target and what was copied between them so far. `folder` is where the manifest goes."""

    source: Store
    target: Store
    state: MigrationState
    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    make_pool: MakePool = TaskPool

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
        with self._meeting_stores(dry_run=dry_run) as confirmed:
            span = self._span(options)

            def make_round(run: Options) -> CopyRound:
                mine = replace(options, run=run)
                return CopyRound(self, mine, span, report, confirmed)

            in_rounds(report, options.run, on_event, self.clock, make_round)
        if not dry_run:
            self._finish(options, report)
        report.seconds = round(self.clock.monotonic() - started, 3)
        return report

    @contextmanager
    def _meeting_stores(self, *, dry_run: bool) -> Iterator[Callable[[], None]]:
        """Confirm both stores and learn what they can do; yield what confirms those that were asked meanwhile.

        Known stores are asked for their marks while they are listed.
        """
        database, mark = self.state.database, not dry_run
        is_known = database.get("target_id") is not None
        if is_known and (dry_run or is_learned(database, self.clock)):
            self._learn_facts(dry_run=dry_run)
            with _confirming(self.source, self.target, self.state, mark=mark) as confirmed:
                yield confirmed
        else:
            confirm(self.source, self.target, self.state, mark=mark)
            self._learn_facts(dry_run=dry_run)
            yield nothing

    def _learn_facts(self, *, dry_run: bool) -> None:
        """Learn what the target can do. The source is never tried: it is known as far as it is the same server."""
        saved = learn(self.target, self.state.database, self.clock, may_write=not dry_run)
        if saved is not None and self.are_neighbours():
            self.source.prepare(saved)

    def are_neighbours(self) -> bool:
        """Tell whether one server holds both stores, for the same credentials."""
        origin, there = self.source.features.origin, self.target.features.origin
        return origin is not None and there is not None and origin.is_near(there)

    def _span(self, options: MigrationOptions) -> Span:
        if options.shard is None:
            return Span()
        dry_run = options.run.dry_run
        return span_of(options.shard, self.source, self.target, read_only=dry_run)

    def _finish(self, options: MigrationOptions, report: MigrationReport) -> None:
        """Write the manifest, and put it into the target if nothing is left to do there."""
        file = options.manifest or self.folder / "manifest.jsonl"
        manifest.write(options.rules.of(self.state.baseline.rows_but_planned()), file)
        report.manifest = str(file)
        if options.manifest_in_target and report.exit_code == 0:
            manifest.send(file, self.target, f"manifest-{stamp(self.clock)}")


class CopyRound(Round):
    """A round between two stores."""

    command = None

    def __init__(
        self,
        sides: Migration,
        asked: MigrationOptions,
        span: Span,
        report: MigrationReport,
        confirmed: Callable[[], None],
    ) -> None:
        self.sides = sides
        self._confirmed = confirmed
        self.asked = asked
        self.span = span
        self.report = report
        self.state = sides.state
        self.clock = sides.clock
        self.make_pool = sides.make_pool
        # Full verification is a comparison of contents, but for what it has compared already.
        compare = Compare.CHECKSUM if asked.verify is Verify.FULL else Compare.FINGERPRINT
        policy = Policy(Mode.PUSH, delete=asked.run.policy.delete, compare=compare)
        self.options = replace(asked.run, policy=policy)

    def planner(self, tally: Tally) -> Planner:
        source, target, rules = self.sides.source, self.sides.target, self.asked.rules
        known, is_mirror = self.state.database.get("target_id"), self.options.policy.delete
        nesting = NestingDetector(source, target, known)
        return Planner(
            SourceSide(source, rules, self.span, nesting),
            TargetSide(target, rules, self.span, nesting, is_mirror, confirmed=self._confirmed),
            self.state,
            self.options,
            tally.event,
            self.clock.now_ns(),
        )

    def planned(self) -> None:
        if self.options.dry_run:
            self.report.requests += self._estimated()

    def confirm(self) -> None:
        confirm(self.sides.source, self.sides.target, self.sides.state, mark=False)

    @contextmanager
    def carrier(self, tally: Tally, trash_stamp: str, *, strict: bool) -> Iterator[Carrier]:
        sides, asked, server_side = self.sides, self.asked, self._by_server()
        addresses = f"{sides.source.location}\0{sides.target.location}"
        carrier = CopyCarrier(
            sides.source,
            sides.target,
            Limiter(self.options.download_rate, self.clock),
            Limiter(self.options.upload_rate, self.clock),
            MemoryBudget(_ROOM),
            self._keeping(),
            trash_stamp=trash_stamp,
            name=hashlib.sha256(addresses.encode()).hexdigest(),
            verify=asked.verify,
            no_overwrite=asked.no_overwrite,
            server_side=server_side,
            dry_run=self.options.dry_run,
        )
        tally.count_bytes(*(() if server_side else (carrier.outgoing,)))
        tally.watch(carrier.hashing)
        yield carrier

    def _by_server(self) -> bool:
        """Tell whether the target copies by itself; whether it really does is not known before the first real run."""
        known = self.options.dry_run or self.sides.target.features.server_side_copy
        return self.asked.server_side and known and self.sides.are_neighbours()

    def _estimated(self) -> int:
        """Return how many requests the plan would take."""
        server_side, features = self._by_server(), self.sides.target.features
        return requests(
            self.state.plan.steps(),
            server_side=server_side,
            # The MD5 of a copy, too, shows of which source it is; a dry run knows of no server that has neither.
            stats=features.server_side_copy
            and not (features.conditional_source or features.md5_versions),
            asks=self._keeping().asks(server_side=server_side),
            reads_back=self.asked.verify is Verify.FULL,
        )

    def _keeping(self) -> PropertyPolicy:
        return PropertyPolicy(
            self.sides.source, self.sides.target, self.asked.storage_class, self.asked.tags
        )
