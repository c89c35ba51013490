"""`scrub`: find content that went bad although nobody changed it, and repair it from the other side."""

from __future__ import annotations

from typing import Any

import click

from craftsync import opening
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting
from craftsync.config import pairs


@click.command(cls=common.Command)
@common.all_of(
    click.argument("paths", nargs=-1, metavar="[PATH]..."),
    click.option(
        "--repair",
        is_flag=True,
        help="Replace damaged content by that of the other side; what is replaced goes to the trash.",
    ),
    common.output_options,
    common.path_options,
)
def scrub(paths: tuple[str, ...], repair: bool, **flags: Any) -> int:
    """Read both sides and compare them with what was last synced.

    A disk or a server that loses a bit changes neither size nor time, so no
    run finds it. Tells for each damaged path which side is wrong. Without
    PATH, everything is read; what was changed since the last run is left out.
    `scrub: 1%` in the configuration has the service read so much each day.

    \b
    Examples:
      craftsync scrub
      craftsync scrub models/large.bin --repair
      craftsync scrub --folder datasets --json
    """
    with reporting("scrub", flags) as output:
        asked = common.asked_of(flags)
        pair, inside = opening.around_all(paths, common.words_of(flags), asked)
        state_dir = pairs.state_dir_of(asked)
        with opening.open_pair(pair, state_dir, read_only=not repair) as session:
            report = session.scrub(output.on_event, inside or (), repair=repair)
        return output.finish(report)
