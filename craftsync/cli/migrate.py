"""`migrate`: from one store to another."""

from __future__ import annotations

import shlex
from typing import Any, cast

import click

from craftsync.cli import params as common
from craftsync.cli.output import reporting, say, size_shown
from craftsync.config.options import MigrateOptions
from craftsync.migrate import command, options
from craftsync.migrate.options import MigrationReport

_options = (
    click.argument("source"),
    click.argument("target"),
    common.dry_run_option,
    common.option("delete"),
    common.option("max_delete"),
    common.option("force_delete"),
    common.pattern_options,
    common.take_part_options,
    common.existing_options,
    common.group("migrate"),
    common.transfer_options,
    click.option("--bandwidth", metavar="RATE", default="100M", help="What -n reckons with."),
    common.output_options,
    common.access_options,
    common.option("storage_class"),
    common.option("sse"),
    common.group("source"),
)


@click.command(cls=common.Command)
@common.all_of(*_options)
def migrate(source: str, target: str, **flags: Any) -> int:
    """Copy what SOURCE has and TARGET has not, from store to store, and prove it.

    The bytes pass through memory, or not at all where one server holds both
    stores. Killed and started again, it goes on where it was; run again, it
    copies what has changed. What it overwrites or deletes in the target stays
    recoverable there; the source is only read.

    \b
    Examples:
      craftsync migrate -n dev prod
      craftsync migrate dev prod
      craftsync migrate --delete --verify full s3://old/data s3://new/data
      craftsync migrate --exclude "*.tmp" --storage-class source s3://old s3://new
    """
    rate = options.parse_bandwidth(flags["bandwidth"])
    with reporting("migrate", flags) as output:
        names = MigrateOptions.__annotations__
        asked = cast(
            MigrateOptions,
            {name: value for name, value in flags.items() if name in names},
        )
        asked["on_event"] = output.on_event
        report = command.run(source, target, asked)
        code = output.finish(report)
    if not flags["json"] and not flags["quiet"]:
        _say_more(report, rate)
    return code


def _say_more(report: MigrationReport, rate: float) -> None:
    """Say what only a migration has to say."""
    if report.dry_run:
        say(
            f"to copy: {report.copied} objects, {size_shown(report.bytes_copied)},"
            f" about {report.requests} requests;"
            f" at {size_shown(int(rate))}/s {_time_shown(report.bytes_copied / rate)}"
        )
        return
    for how, count in sorted(report.verified.items()):
        say(f"{count} copied; {_VERIFIED.get(how, f'verified by {how}')}")
    if report.held:
        say("held deletes: review what they name, then run again with --force-delete")
    if report.manifest is not None:
        say(f"manifest: {shlex.quote(report.manifest)}")


_VERIFIED = {
    "acknowledged": "the target acknowledged them (it reports no checksum)",
    "checksum": "the target's checksum is that of the source",
    "digest": "both stores hold the same SHA-256",
    "server": "the server copied them by itself (it reports no checksum to compare)",
    "read back": "read back from the target and compared",
}
"""What each way to verify a copy means, for people."""


def _time_shown(seconds: float) -> str:
    """Return a time in the two largest units it fills."""
    minutes, hours, days = (int(seconds // size) for size in (60, 3600, 86_400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60:.0f} s" if minutes else f"{seconds:.1f} s"
