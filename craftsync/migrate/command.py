"""One migration or check, from its arguments to its report; shared by the command line and the Python API."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from craftsync.clock import SystemClock, stamp
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.config.options import (
    MigrateOptions,
    PairOptions,
    RunOptions,
    Settings,
    given_by,
    refuse_unknown,
)
from craftsync.config.places import (
    CraftAiLocation,
    DirectoryLocation,
    Location,
    S3Access,
    S3Location,
)
from craftsync.core.filters import Filter
from craftsync.core.model import Compare, LocalFile, Mode, RemoteObject, as_object
from craftsync.engine.content import digest_of
from craftsync.engine.report import OnEvent, Report, ignore_events
from craftsync.engine.review.inspect import Checker
from craftsync.errors import UsageError
from craftsync.hashing import is_md5
from craftsync.install_hint import install_command
from craftsync.local.ignore import CallRules
from craftsync.migrate.options import options_for
from craftsync.migrate.shards import Span
from craftsync.migrate.sides import SourceSide, TargetSide
from craftsync.net.concurrency import FIRST
from craftsync.net.pace import Limiter
from craftsync.open_store import open_store, refuse_nothing
from craftsync.runs import options_of, refuse_direction
from craftsync.state.database import Database
from craftsync.state.history import Outside
from craftsync.state.migration import MigrationState, migration_folder
from craftsync.stores.base import Store, server_and_location

if TYPE_CHECKING:
    from craftsync.migrate.dask import Fleet
    from craftsync.migrate.options import MigrationOptions, MigrationReport


_REMEDY = "Choose two stores that do not overlap."


@contextmanager
def opened(
    source: Location, target: Location, *, create: bool, stand_in: bool
) -> Iterator[tuple[Store, Store]]:
    """Open both stores with raw keys, and close them afterwards; raises `UsageError` if they overlap.

    A missing directory store is an error as a source. As a target it is created
    with `create`, or replaced by an empty temporary folder with `stand_in`.
    """
    _refuse_overlap(source, target)
    with ExitStack() as stack:
        address = places.address_of(target)
        if stand_in and not places.exists(target):
            empty = stack.enter_context(TemporaryDirectory(prefix="craftsync-"))
            target = DirectoryLocation(Path(empty))
        origin = stack.enter_context(open_store(source, create=False, raw_keys=True))
        copy = stack.enter_context(open_store(target, create=create, raw_keys=True))
        copy.location = address
        _refuse_shared_place(origin, copy)
        yield origin, copy


def resolve(
    source: str,
    target: str,
    config: str | os.PathLike[str] | None,
    source_access: S3Access,
    target_access: S3Access,
) -> tuple[Location, Location]:
    """Return the locations of two STORE arguments."""
    known = configuration.load(config)
    return (
        places.resolve(source, known, source_access),
        places.resolve(target, known, target_access),
    )


def _refuse_overlap(source: Location, target: Location) -> None:
    match source, target:
        case DirectoryLocation(), DirectoryLocation():
            relation = places.relation(source.path, target.path)
        case CraftAiLocation(), CraftAiLocation() if source.url == target.url:
            relation = _relation_of_folders(source.folder, target.folder)
        case _:
            relation = None
    if relation is not None:
        raise UsageError(f"The source {source} {relation} the target {target}.", remedy=_REMEDY)


def _relation_of_folders(one: str, other: str) -> str | None:
    if one == other:
        return "is the same as"
    if f"{one}/".startswith(f"{other}/") or not other:
        return "lies inside"
    return "contains" if f"{other}/".startswith(f"{one}/") or not one else None


def _refuse_shared_place(source: Store, target: Store) -> None:
    """Raise `UsageError` for overlapping stores that only their origins reveal."""
    origin, other = source.features.origin, target.features.origin
    if origin is not None and other is not None and origin.overlaps(other):
        raise UsageError(
            f"The source {source.location} and the target {target.location} overlap.",
            remedy=_REMEDY,
        )


def run(source: str, target: str, asked: MigrateOptions) -> MigrationReport:
    """Copy from `source` to `target`, given as on the command line, and return the report."""
    from craftsync.migrate.migration import Migration

    options = options_for(asked)
    if asked.get("dask"):
        return _run_on_fleet(source, target, asked, options)
    dry_run = options.run.dry_run
    place, other = _places(source, target, asked, options)
    with opened(place, other, create=not dry_run, stand_in=dry_run) as (store, to):
        folder = migration_folder(
            pairs.state_dir_of(asked), store.location, to.location, str(options.shard or "")
        )
        if not folder.exists():
            refuse_nothing(store, source)
        outside = Outside(pairs.state_dir_of(asked), server_and_location(to))
        state = MigrationState.open(folder, scratch=dry_run, outside=outside)
        try:
            migration = Migration(store, to, state, folder)
            return migration.run(options, asked.get("on_event", ignore_events))
        finally:
            state.close()


def _run_on_fleet(
    source: str, target: str, asked: MigrateOptions, options: MigrationOptions
) -> MigrationReport:
    """Let the workers of a Dask scheduler copy; this process writes the whole manifest."""
    from craftsync.migrate import manifest

    if options.shard is not None or options.run.dry_run:
        raise UsageError(
            "--dask divides the work itself, and has no dry run.",
            remedy="Leave out --shard; for a dry run leave out --dask.",
        )
    if any(callable(rate) for rate in (options.run.upload_rate, options.run.download_rate)):
        raise UsageError(
            "--dask divides one rate among the workers, not a timetable.",
            remedy="Give --bwlimit a rate such as 100M.",
        )
    if options.run.filter.listed is not None:
        raise UsageError(
            "--files-from: its list is on this machine, not on the workers of --dask.",
            remedy="Leave out --dask; --shard divides the work by hand.",
        )
    place, other = _places(source, target, asked, options)
    started = SystemClock().monotonic()
    with (
        opened(place, other, create=True, stand_in=False) as (store, to),
        closing(_fleet(str(asked.get("dask")))) as fleet,
        TemporaryDirectory() as manifests,
    ):
        share = partial(run_share, source, target, _for_a_share(asked, options, fleet.workers))
        report = fleet.run(share, asked.get("on_event", ignore_events), Path(manifests))
        folder = migration_folder(pairs.state_dir_of(asked), store.location, to.location)
        file = options.manifest or folder / "manifest.jsonl"
        manifest.write_lines(manifest.lines_of(Path(manifests)), file)
        report.manifest = str(file)
        if options.manifest_in_target and report.exit_code == 0:
            manifest.send(file, to, f"manifest-{stamp(SystemClock())}")
    report.seconds = round(SystemClock().monotonic() - started, 3)
    return report


def run_share(
    source: str,
    target: str,
    asked: MigrateOptions,
    number: int,
    count: int,
    on_event: OnEvent,
) -> MigrationReport:
    """Copy one share; all arguments are picklable, so that it can run on a worker."""
    return run(source, target, {**asked, "shard": f"{number}/{count}", "on_event": on_event})


def _fleet(address: str) -> Fleet:
    try:
        from craftsync.migrate.dask import Fleet
    except ImportError as error:
        raise UsageError(
            f"--dask needs a package that is not installed ({error.name}).",
            remedy=f"Install it here and on the workers. Here: {install_command('dask')}",
        ) from error
    return Fleet(address)


def _for_a_share(asked: MigrateOptions, options: MigrationOptions, workers: int) -> MigrateOptions:
    """Return the keywords for each share: the same, but with the rates divided among the workers.

    They include the patterns of `exclude_from`, whose files are on this machine.
    """
    mine = {"dask", "on_event", "manifest", "manifest_in_target", "bwlimit", "exclude_from"}
    shared = {name: value for name, value in asked.items() if name not in mine}
    shared["exclude"] = options.run.exclude
    if asked.get("bwlimit") is not None:
        rates = (options.run.upload_rate, options.run.download_rate)
        shared["bwlimit"] = ":".join(
            f"{max(rate / workers, 1):.0f}" if isinstance(rate, float) else "off" for rate in rates
        )
    return cast(MigrateOptions, shared)


def are_stores(words: Sequence[str], asked: PairOptions) -> bool:
    """Return whether the arguments are two stores, not a folder and a store.

    If a folder of that name exists, the first argument is the folder.
    """
    if len(words) != 2 or os.path.isdir(words[0]):
        return False
    known = configuration.load(asked.get("config")).environments
    return "://" in words[0] or words[0].partition(":")[0] in known


def check(
    words: Sequence[str],
    asked: RunOptions,
    on_line: Callable[[str, str], None] = lambda symbol, path: None,
) -> Report:
    """Compare the content of two stores, given as on the command line, and change nothing.

    `on_line` is called for each path: "=" equal, "-" only in the target, "+"
    only in the source, "*" different, "!" unreadable.
    """
    refuse_unknown(asked, RunOptions)
    access = pairs.access_of(asked)
    source, target = words
    place, other = resolve(source, target, asked.get("config"), access, access)
    options = options_of(asked, Settings.of(given_by(asked)), Mode.PUSH)
    refuse_direction(options)
    if options.follow_links:
        raise UsageError("--links follow: a store has no links.", remedy="Leave it out.")
    rules = CallRules(options.include, options.exclude)
    size_only = options.policy.compare is Compare.SIZE_ONLY
    with opened(place, other, create=False, stand_in=False) as (store, to):
        on_event = asked.get("on_event", ignore_events)
        at_once = options.transfers or FIRST
        return _compare(
            *(store, to, rules, at_once, on_line, on_event),
            size_only=size_only,
            filter=options.filter,
        )


def _places(
    source: str, target: str, asked: MigrateOptions, options: MigrationOptions
) -> tuple[Location, Location]:
    config, source_access, target_access = _access(asked)
    place, other = resolve(source, target, config, source_access, target_access)
    places.refuse_written(other, replace(target_access, storage_class=options.storage_class))
    if options.storage_class is not None and isinstance(other, S3Location):
        # The given storage class overrides the environment's, even as "source".
        other = replace(other, access=replace(other.access, storage_class=None))
    return place, other


def _access(asked: MigrateOptions) -> tuple[Any, S3Access, S3Access]:
    given = {name: word for name, word in asked.items() if name != "storage_class"}
    target = pairs.access_of(cast(PairOptions, given))
    source = S3Access(
        asked.get("source_profile") or target.profile,
        asked.get("source_region") or target.region,
        asked.get("source_endpoint_url") or target.endpoint_url,
        target.request_payer,
    )
    return asked.get("config"), source, target


_READ_AT_ONCE = 8
"""Each reader holds a part of its object in memory."""


def _compare(
    source: Store,
    target: Store,
    rules: CallRules,
    workers: int,
    on_line: Callable[[str, str], None],
    on_event: OnEvent,
    *,
    size_only: bool = False,
    filter: Filter,
) -> Report:
    """Compare two stores with `Checker.run`; with `size_only`, by size alone.

    Otherwise, compare checksums if a probe found those of both stores reliable;
    else read both objects.
    """
    report, clock = Report("check"), SystemClock()
    started = clock.monotonic()
    features = source.features, target.features
    has_true_md5s = all(side.md5_versions for side in features)

    def equal(left: LocalFile, remote: RemoteObject) -> bool:
        original = as_object(left)
        if original.size != remote.size or size_only:
            return original.size == remote.size
        if has_true_md5s and is_md5(original.version) and original.version == remote.version:
            return True
        limiter = Limiter(None, clock)
        return digest_of(source, original, limiter) == digest_of(target, remote, limiter)

    left, right = SourceSide(source, rules, Span()), TargetSide(target, rules, Span())
    at_once, stores = min(workers, _READ_AT_ONCE), [source, target]
    with closing(Database.scratch()) as database:
        checker = Checker(
            *(left, right, database, equal, at_once, stores, on_event), filter, clock.now_ns()
        )
        checker.run(report, on_line)
    report.seconds = round(clock.monotonic() - started, 3)
    return report
