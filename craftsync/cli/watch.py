"""`watch`: keep a pair in step until stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from craftsync import pairs, passes
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting
from craftsync.core.model import Mode

_seconds = click.FloatRange(0, min_open=True)


@click.command(cls=common.Command)
@common.all_of(
    common.pair_words,
    common.mode_option,
    click.option("--settle", type=_seconds, help="Seconds a file has to be quiet. [0.5]"),
    click.option("--poll", type=_seconds, help="Seconds between listings of the store. [30]"),
    click.option("--rescan", type=_seconds, help="Seconds between scans of the root. [600]"),
    common.decision_options,
    common.transfer_options,
    common.output_options,
    common.access_options,
)
def watch(pair: tuple[str, ...], mode: str | None, **flags: Any) -> int:
    """Keep root and store in step until stopped, in the foreground.

    This is what the service runs. Ctrl-C or SIGTERM ends it in good order.

    \b
    Examples:
      craftsync watch datasets
      craftsync watch --mode push ~/datasets s3://bucket/prefix
    """
    from craftsync.daemon import watch as daemon

    asked = common.asked_of(flags)
    resolved = pairs.resolve(pair, asked)
    settings = common.watch_settings_of(flags).over(resolved.settings)
    chosen = common.mode_of(mode) or settings.mode or Mode.TWO_WAY
    options = passes.options_for(resolved, asked, chosen)
    defaults = daemon.WatchSettings()
    times = replace(
        defaults,
        settle_seconds=settings.settle or defaults.settle_seconds,
        poll_seconds=settings.poll or defaults.poll_seconds,
        rescan_seconds=settings.rescan or defaults.rescan_seconds,
    )
    with reporting("watch", {**flags, "verbose": True}) as output:
        try:
            with passes.opened_for(resolved, options, asked) as session:
                return daemon.watch(session, times, options, output.on_event)
        except KeyboardInterrupt:
            # It arrived before the loop was there to end by itself.
            return 0
