"""One migration, from the words of a call to its report: what the command line and the Python API share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from craftsync import opening
from craftsync.clock import SystemClock, stamp
from craftsync.config import file as configuration
from craftsync.config import pairs
from craftsync.config.options import (
    MigrateOptions,
    PairOptions,
    RunOptions,
    Settings,
    given_by,
    refuse_unknown,
)
from craftsync.config.places import Location, S3Access, S3Location
from craftsync.core.model import Compare, Mode
from craftsync.engine.report import Event, Report
from craftsync.errors import UsageError
from craftsync.local.ignore import CallRules
from craftsync.migrate import places
from craftsync.migrate.words import options_for
from craftsync.net.pace import FIRST
from craftsync.runs import options_of
from craftsync.state.history import Outside
from craftsync.state.migration import MigrationState, migration_folder

if TYPE_CHECKING:
    from craftsync.migrate.fleet import Fleet
    from craftsync.migrate.options import MigrationOptions, MigrationReport


def run(source: str, target: str, asked: MigrateOptions) -> MigrationReport:
    """Copy what the source has and the target has not; both are words as on the command line."""
    from craftsync.migrate.migration import Migration

    options = options_for(asked)
    if asked.get("dask"):
        return _run_on_fleet(source, target, asked, options)
    dry_run = options.run.dry_run
    place, other = _places(source, target, asked, options)
    with places.opened(place, other, create=not dry_run, stand_in=dry_run) as (store, to):
        folder = migration_folder(
            pairs.state_dir_of(asked), store.location, to.location, str(options.shard or "")
        )
        if not folder.exists():
            opening.refuse_nothing(store, source)
        outside = Outside(pairs.state_dir_of(asked), to.location)
        state = MigrationState.open(folder, scratch=dry_run, outside=outside)
        try:
            migration = Migration(store, to, state, folder)
            return migration.run(options, asked.get("on_event", _ignore))
        finally:
            state.close()


def _run_on_fleet(
    source: str, target: str, asked: MigrateOptions, options: MigrationOptions
) -> MigrationReport:
    """Let the workers of a scheduler copy; the manifest of the whole is written here."""
    from craftsync.migrate import manifest

    if options.shard is not None or options.run.dry_run:
        raise UsageError(
            "--dask makes shares of its own, and has no dry run.",
            remedy="Leave out --shard; for a dry run leave out --dask.",
        )
    if any(callable(rate) for rate in (options.run.upload_rate, options.run.download_rate)):
        raise UsageError(
            "--dask divides one rate among the workers, not a timetable.",
            remedy="Give --bwlimit a rate such as 100M.",
        )
    place, other = _places(source, target, asked, options)
    started = SystemClock().monotonic()
    with (
        places.opened(place, other, create=True, stand_in=False) as (store, to),
        closing(_fleet(str(asked.get("dask")))) as fleet,
        TemporaryDirectory() as manifests,
    ):
        share = partial(run_share, source, target, _for_a_share(asked, options, fleet.workers))
        report = fleet.run(share, asked.get("on_event", _ignore), Path(manifests))
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
    on_event: Callable[[Event], None],
) -> MigrationReport:
    """Copy one share, wherever this is called; it names nothing that only this process has."""
    return run(source, target, {**asked, "shard": f"{number}/{count}", "on_event": on_event})


def _fleet(address: str) -> Fleet:
    try:
        from craftsync.migrate.fleet import Fleet
    except ImportError as error:
        raise UsageError(
            f"--dask needs a package that is not installed ({error.name}).",
            remedy="Install craftsync[dask], here and on the workers.",
        ) from error
    return Fleet(address)


def _for_a_share(asked: MigrateOptions, options: MigrationOptions, workers: int) -> MigrateOptions:
    """Return what each share is asked: all the same, but for the rates, which the workers divide.

    The files of `exclude_from` are this machine's; what they say is in the options.
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
    """Tell whether two words name two stores, and not a root and a store.

    A plain word is the name of a folder where there is such a folder.
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
    """Compare the content of the two stores that the words name, and change nothing.

    `on_line` is told of each path: "=" equal, "-" only in the target, "+" only
    in the source, "*" different, "!" could not be read.
    """
    from craftsync.migrate import checker

    refuse_unknown(asked, RunOptions)
    access = pairs.access_of(asked)
    source, target = words
    place, other = places.resolve(source, target, asked.get("config"), access, access)
    options = options_of(asked, Settings.of(given_by(asked)), Mode.PUSH)
    rules = CallRules(options.include, options.exclude)
    size_only = options.policy.compare is Compare.SIZE_ONLY
    with places.opened(place, other, create=False, stand_in=False) as (store, to):
        on_event = asked.get("on_event", _ignore)
        at_once = options.transfers or FIRST
        return checker.check(store, to, rules, at_once, on_line, on_event, size_only=size_only)


def _places(
    source: str, target: str, asked: MigrateOptions, options: MigrationOptions
) -> tuple[Location, Location]:
    place, other = places.resolve(source, target, *_access(asked))
    if options.storage_class is not None and not isinstance(other, S3Location):
        raise UsageError(
            f"--storage-class: the target {other} is not in S3 and has no storage classes.",
            remedy="Leave it out.",
        )
    return place, other


def _access(asked: MigrateOptions) -> tuple[Any, S3Access, S3Access]:
    target = pairs.access_of(asked)
    source = S3Access(
        asked.get("source_profile") or target.profile,
        asked.get("source_region") or target.region,
        asked.get("source_endpoint_url") or target.endpoint_url,
        target.request_payer,
    )
    return asked.get("config"), source, target


def _ignore(event: Event) -> None:
    """Take no notice of an event."""
