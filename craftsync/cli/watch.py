"""`watch`: keep a pair in step until stopped."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from craftsync import pairs, passes
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting
from craftsync.core.model import Mode
from craftsync.options import PassOptions, Settings

if TYPE_CHECKING:
    from craftsync.daemon.watch import Watched

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

    Without words every folder of the configuration is kept so, by one process.

    This is what the service runs. Ctrl-C or SIGTERM ends it in good order.

    \b
    Examples:
      craftsync watch datasets
      craftsync watch --mode push ~/datasets s3://bucket/prefix
    """
    from craftsync.daemon.watch import watch as watch_all

    asked = common.asked_of(flags)
    settings = common.watch_settings_of(flags)
    with reporting("watch", {**flags, "verbose": True}) as output, ExitStack() as opened:
        try:
            watched = [
                _opened(one, settings, mode, asked, opened) for one in pairs.every(pair, asked)
            ]
            return watch_all(watched, output.on_event)
        except KeyboardInterrupt:
            # It arrived before the loop was there to end by itself.
            return 0


def _opened(
    pair: pairs.Pair, flags: Settings, mode: str | None, asked: PassOptions, stack: ExitStack
) -> Watched:
    """Open one pair to be watched; what the call is silent about its folder says."""
    from craftsync.daemon.watch import Watched, WatchSettings

    settings = flags.over(pair.settings)
    chosen = common.mode_of(mode) or settings.mode or Mode.TWO_WAY
    options = passes.options_for(pair, asked, chosen)
    default = WatchSettings()
    times = WatchSettings(
        settings.settle or default.settle_seconds,
        settings.poll or default.poll_seconds,
        settings.rescan or default.rescan_seconds,
    )
    return Watched(stack.enter_context(passes.opened_for(pair, options, asked)), times, options)
