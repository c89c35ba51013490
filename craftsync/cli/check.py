"""`check`: compare the content of both sides."""

from __future__ import annotations

from typing import Any

import click

from craftsync import runs
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting, say, say_json, shown
from craftsync.migrate import command


@click.command(cls=common.Command)
@common.all_of(
    common.pair_words, common.filter_options, common.output_options, common.access_options
)
def check(pair: tuple[str, ...], **flags: Any) -> int:
    """Compare the content of root and store, and change nothing.

    One line a path: = equal, - only in the store, + only in the root,
    * different, ! could not be read. Two stores are compared in the same way,
    the first one in the place of the root.

    \b
    Examples:
      craftsync check data s3://bucket/prefix
      craftsync check --size-only datasets
      craftsync check dev s3://bucket/prefix
    """

    with reporting("check", flags) as output:

        def on_line(symbol: str, path: str) -> None:
            output.on_line(symbol)
            if flags["json"]:
                say_json({"type": "check", "symbol": symbol, "path": path})
            elif not flags["quiet"]:
                say(f"{symbol} {shown(path)}")

        asked = common.asked_of(flags)
        asked["on_event"] = output.on_event
        compare = command.check if command.are_stores(pair, asked) else runs.check
        return output.finish(compare(pair, asked, on_line))
