"""One migration, from the words of a call to its report: what the command line and the Python API share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from craftsync import config as configuration
from craftsync import pairs
from craftsync.clock import SystemClock, stamp
from craftsync.core.model import Mode
from craftsync.errors import UsageError
from craftsync.locations import S3Access
from craftsync.migrate import places
from craftsync.migrate.shards import Shard
from craftsync.options import PairOptions, PassOptions, options_of, settings_of
from craftsync.state.migration import MigrationState, migration_folder
from craftsync.sync.report import Event, Report
from craftsync.words import BadWord, choice_of, parse_rates

if TYPE_CHECKING:
    from craftsync.migrate.fleet import Fleet
    from craftsync.migrate.options import MigrationOptions, MigrationReport

_MOST_SHARDS = 10_000
_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")
_OF_A_PASS = (
    *("dry_run", "delete", "max_delete", "force_delete", "transfers", "bwlimit", "on_event"),
    *PairOptions.__annotations__,
)
"""What a pass and a migration are asked alike."""


class MigrateOptions(PairOptions, total=False):
    """How to run a migration: the keywords of `migrate`, and the flags of the same names."""

    dry_run: bool
    """Say what would be done, and do nothing."""
    delete: bool | None
    """Also delete in the target what the source does not have."""
    max_delete: str | int | None
    """Hold the deletes when there are more: a number of files, or a share such as "10%"."""
    force_delete: bool
    """Carry out all deletes of this one run, however many."""
    transfers: int | None
    """How many objects travel at once."""
    bwlimit: str | int | None
    """As for a pass; up is into the target, down is out of the source."""
    on_event: Callable[[Event], None]
    """Is called with each event while the run goes on."""
    no_overwrite: bool
    """Leave alone what the target holds already."""
    verify: str | None
    """"checksum", or "full": read the target back."""
    shard: str | None
    """Only a share of the keys, such as "1/4"."""
    manifest: str | os.PathLike[str] | None
    """Where to write the manifest."""
    manifest_in_target: bool
    """Put the manifest into the target, too."""
    dask: str | None
    """The address of a Dask scheduler whose workers are to do it: "tcp://host:8786"."""
    stream: bool
    """Let the bytes go through here even where the server could copy."""
    source_profile: str | None
    """For a source given by URL, where it is not as for the target."""
    source_region: str | None
    source_endpoint_url: str | None


def run(source: str, target: str, asked: MigrateOptions) -> MigrationReport:
    """Copy what the source has and the target has not; both are words as on the command line."""
    from craftsync.migrate.migration import Migration

    options = options_for(asked)
    if asked.get("dask"):
        return _run_on_fleet(source, target, asked, options)
    dry_run = options.run.dry_run
    place, other = places.resolve(source, target, *_access(asked))
    with places.opened(place, other, create=not dry_run, stand_in=dry_run) as (store, to):
        folder = migration_folder(
            pairs.state_dir_of(asked), store.location, to.location, str(options.shard or "")
        )
        state = MigrationState.open(folder, scratch=dry_run)
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
    place, other = places.resolve(source, target, *_access(asked))
    started = SystemClock().monotonic()
    with (
        places.opened(place, other, create=True, stand_in=False) as (store, to),
        closing(_fleet(str(asked.get("dask")))) as fleet,
    ):
        share = partial(run_share, source, target, _for_a_share(asked, options, fleet.workers))
        report, lines = fleet.run(share, asked.get("on_event", _ignore))
        folder = migration_folder(pairs.state_dir_of(asked), store.location, to.location)
        file = options.manifest or folder / "manifest.jsonl"
        manifest.write_lines([lines.decode()], file)
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
    """Return what each share is asked: all the same, but for the rates, which the workers divide."""
    mine = {"dask", "on_event", "manifest", "manifest_in_target", "bwlimit"}
    shared = {name: value for name, value in asked.items() if name not in mine}
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
    asked: PassOptions,
    on_line: Callable[[str, str], None] = lambda symbol, path: None,
) -> Report:
    """Compare the content of the two stores that the words name, and change nothing.

    `on_line` is told of each path: "=" equal, "-" only in the target, "+" only
    in the source, "*" different, "!" could not be read.
    """
    from craftsync.migrate.checker import Checker

    access = pairs.access_of(asked)
    source, target = words
    place, other = places.resolve(source, target, asked.get("config"), access, access)
    transfers = options_of(asked, settings_of(asked), Mode.PUSH).transfers
    with places.opened(place, other, create=False, stand_in=False) as (store, to):
        return Checker(store, to, transfers).run(on_line)


def options_for(asked: MigrateOptions) -> MigrationOptions:
    """Return the options of a run; raises `UsageError` for a word that means nothing."""
    from craftsync.migrate.options import MigrationOptions, Verify

    for name in asked:
        if name not in MigrateOptions.__annotations__:
            near = get_close_matches(name, MigrateOptions.__annotations__, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            known = ", ".join(MigrateOptions.__annotations__)
            raise UsageError(f"There is no option {name!r}.", remedy=f"{meant}Options: {known}.")
    shared = cast(PassOptions, {name: asked[name] for name in _OF_A_PASS if name in asked})  # type: ignore[literal-required]
    manifest = asked.get("manifest")
    return MigrationOptions(
        run=options_of(shared, settings_of(shared), Mode.PUSH),
        no_overwrite=asked.get("no_overwrite", False),
        verify=_read(asked, "verify", choice_of(Verify, "way to verify")) or Verify.CHECKSUM,
        shard=_read(asked, "shard", parse_shard),
        manifest=Path(manifest).expanduser() if manifest else None,
        manifest_in_target=asked.get("manifest_in_target", False),
        server_side=not asked.get("stream", False),
    )


def parse_shard(word: object) -> Shard:
    """Read "2/8" as the second of eight shares."""
    found = _SHARD.fullmatch(word) if isinstance(word, str) else None
    if found and 1 <= int(found[1]) <= int(found[2]) <= _MOST_SHARDS:
        return Shard(int(found[1]), int(found[2]))
    raise BadWord("is not a share", f"Use I/N with I from 1 to N, N up to {_MOST_SHARDS}: 1/4.")


def parse_bandwidth(word: str) -> float:
    """Read how many bytes per second a dry run reckons with."""
    try:
        rate = parse_rates(word).upload
        if rate is None:
            raise BadWord("is no bandwidth", "Use bytes per second with K, M or G such as 100M.")
    except BadWord as bad:
        raise UsageError(f"--bandwidth: {word!r} {bad}.", remedy=bad.remedy) from bad
    return rate


def _access(asked: MigrateOptions) -> tuple[Any, S3Access, S3Access]:
    target = pairs.access_of(asked)
    source = S3Access(
        asked.get("source_profile") or target.profile,
        asked.get("source_region") or target.region,
        asked.get("source_endpoint_url") or target.endpoint_url,
    )
    return asked.get("config"), source, target


def _read(asked: MigrateOptions, name: str, parse: Callable[[object], Any]) -> Any:
    word = asked.get(name)
    if word is None:
        return None
    try:
        return parse(word)
    except BadWord as bad:
        raise UsageError(f"--{name}: {word!r} {bad}.", remedy=bad.remedy) from bad


def _ignore(event: Event) -> None:
    """Take no notice of an event."""
