"""The entry point of one migration between two open stores.

A `Migration` belongs to one thread. Clock and pool are arguments, so that tests
can replace them.

The target gets an identity file. The source is never written; it has one only if it
was synced with a folder.
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
from craftsync.engine.features import has_recent_features, load_features
from craftsync.engine.identity import (
    STORE_ID_FILE,
    read_id,
    write_identity,
)
from craftsync.engine.planner import Planner
from craftsync.engine.report import OnEvent, Options
from craftsync.engine.run import MakePool, Run, report_recovery, run_until_settled
from craftsync.engine.sides import Carrier, do_nothing
from craftsync.engine.tally import Tally
from craftsync.errors import StoreChanged, UsageError
from craftsync.migrate import manifest
from craftsync.migrate.carrier import CopyCarrier
from craftsync.migrate.options import MigrationOptions, MigrationReport, PropertyPolicy, Verify
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
"""A stat in the source; begin, completion and a stat in the target."""


def requests(
    steps: Iterable[Step], *, server_side: bool, stats: bool, properties: bool, reads_back: bool
) -> int:
    """Return the number of requests of these steps in both stores, without listings and retries.

    `stats`: a copy by the server needs a stat of the source first. `properties`:
    each object's properties are requested. `reads_back`: each copy is read and
    compared.
    """
    more = properties + (server_side and stats) + (reads_back and 1 + server_side)
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


def confirm(source: Store, target: Store, state: MigrationState, *, create: bool) -> None:
    """Check both identity files against the database; with `create`, write the target's on first use.

    Raises `StoreChanged` when a store was replaced, and `UsageError` when both
    are the same store under two names.
    """
    with _confirming(source, target, state, create=create) as confirmed:
        confirmed()


@contextmanager
def _confirming(
    source: Store, target: Store, state: MigrationState, *, create: bool
) -> Iterator[Callable[[], None]]:
    """Read both identity files in the background; the yielded function completes `confirm`."""
    stores = (source, target)
    with workers(2, "identity", *stores) as pool:
        found = [pool.submit(read_id, store) for store in stores]
        yield partial(_confirm, source, target, state, found, create=create)


def _confirm(
    source: Store,
    target: Store,
    state: MigrationState,
    found: Sequence[Future[str | None]],
    *,
    create: bool,
) -> None:
    ids = [
        _confirmed(store, answer.result(), state, name)
        for store, answer, name in zip((source, target), found, ("source", "target"), strict=True)
    ]
    if ids[1] is None and create:
        ids[1] = write_identity(target)
        # If source and target are the same store, the source has the identity file too now.
        ids[0] = read_id(source)
    if ids[0] is not None and ids[0] == ids[1]:
        raise UsageError(
            f"{source.location} and {target.location} are the same store ({STORE_ID_FILE}).",
            remedy="If another tool copied one to the other, delete that file in the target.",
        )
    if ids[1] is not None:
        state.database.put("target_id", ids[1])


def _confirmed(store: Store, found: str | None, state: MigrationState, name: str) -> str | None:
    known = state.database.get(f"{name}_id")
    if known is not None and found != known:
        what = "has no identity file" if found is None else "is not the store of the last run"
        raise StoreChanged(
            f"The {name} {store.location} {what} ({STORE_ID_FILE}).",
            remedy="Check bucket, prefix and credentials. If it is a new store, use"
            " another --state-dir: its content is then compared again.",
        )
    if found is not None and known is None:
        state.database.put(f"{name}_id", found)
    return found


_ROOM = 96 * MIB
"""Memory for objects in transit that are larger than `CopyCarrier.short`."""

_COMPARED_AGAIN = "the content of the target is compared again"


@dataclass(frozen=True, slots=True)
class Migration:
    """A source, a target and the state between them. `folder` is the default place of the manifest."""

    source: Store
    target: Store
    state: MigrationState
    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    make_pool: MakePool = TaskPool

    def run(self, options: MigrationOptions, on_event: OnEvent) -> MigrationReport:
        """Copy what is new in the source to the target, and return the report.

        Paths that change during the run are tried up to two more times. Raises
        errors of a whole store; completed work is recorded, and the next run
        resumes.
        """
        dry_run = options.run.dry_run
        report = MigrationReport("migrate", dry_run=dry_run)
        started = self.clock.monotonic()
        report_recovery(self.state.database, report, on_event, _COMPARED_AGAIN)
        with self._confirmed_stores(dry_run=dry_run) as confirmed:
            span = self._span(options)

            def make_run(run: Options) -> CopyRun:
                mine = replace(options, run=run)
                return CopyRun(self, mine, span, report, confirmed)

            run_until_settled(report, options.run, on_event, self.clock, make_run)
        if not dry_run:
            self._finish(options, report)
        report.seconds = round(self.clock.monotonic() - started, 3)
        return report

    @contextmanager
    def _confirmed_stores(self, *, dry_run: bool) -> Iterator[Callable[[], None]]:
        """Confirm both stores and probe their features; yield a function that completes the confirmation.

        The identity files of known stores are read while the stores are listed.
        """
        database, create = self.state.database, not dry_run
        is_known = database.get("target_id") is not None
        if is_known and (dry_run or has_recent_features(database, self.clock)):
            self._load_features(dry_run=dry_run)
            with _confirming(self.source, self.target, self.state, create=create) as confirmed:
                yield confirmed
        else:
            confirm(self.source, self.target, self.state, create=create)
            self._load_features(dry_run=dry_run)
            yield do_nothing

    def _load_features(self, *, dry_run: bool) -> None:
        """Probe the target's features. The source is never probed; if it is on the same server, it has the same ones."""
        saved = load_features(self.target, self.state.database, self.clock, may_write=not dry_run)
        if saved is not None and self.are_neighbours():
            self.source.prepare(saved)

    def are_neighbours(self) -> bool:
        """Return whether both stores are on one server, with the same credentials."""
        origin, other = self.source.features.origin, self.target.features.origin
        return origin is not None and other is not None and origin.is_near(other)

    def _span(self, options: MigrationOptions) -> Span:
        if options.shard is None:
            return Span()
        dry_run = options.run.dry_run
        return span_of(options.shard, self.source, self.target, read_only=dry_run)

    def _finish(self, options: MigrationOptions, report: MigrationReport) -> None:
        """Write the manifest, also to the target if the run was complete."""
        file = options.manifest or self.folder / "manifest.jsonl"
        manifest.write(options.rules.of(self.state.baseline.rows_but_planned()), file)
        report.manifest = str(file)
        if options.manifest_in_target and report.exit_code == 0:
            manifest.send(file, self.target, f"manifest-{stamp(self.clock)}")


class CopyRun(Run):
    """A run between two stores."""

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
        # Full verification compares contents, except those it has already compared.
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
        confirm(self.sides.source, self.sides.target, self.sides.state, create=False)

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
            self._properties(),
            trash_stamp=trash_stamp,
            name=hashlib.sha256(addresses.encode()).hexdigest(),
            verify=asked.verify,
            no_overwrite=asked.no_overwrite,
            server_side=server_side,
            dry_run=self.options.dry_run,
        )
        tally.use_limiters(*(() if server_side else (carrier.outgoing,)))
        tally.use_hashing(carrier.hashing)
        yield carrier

    def _by_server(self) -> bool:
        """Return whether the server copies; a dry run before the first run assumes so."""
        known = self.options.dry_run or self.sides.target.features.server_side_copy
        return self.asked.server_side and known and self.sides.are_neighbours()

    def _estimated(self) -> int:
        """Return the estimated number of requests of the plan."""
        server_side, features = self._by_server(), self.sides.target.features
        return requests(
            self.state.plan.steps(),
            server_side=server_side,
            # The MD5 of a copy also proves its source. Without a probe, a dry run assumes that one suffices.
            stats=features.server_side_copy
            and not (features.conditional_source or features.md5_versions),
            properties=self._properties().needs_request(server_side=server_side),
            reads_back=self.asked.verify is Verify.FULL,
        )

    def _properties(self) -> PropertyPolicy:
        return PropertyPolicy(
            self.sides.source, self.sides.target, self.asked.storage_class, self.asked.tags
        )
