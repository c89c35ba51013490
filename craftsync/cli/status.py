"""`status`: how things stand, from the state database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from craftsync import pairs
from craftsync.cli import parameters as common
from craftsync.cli.output import say, say_json
from craftsync.options import PairOptions


@click.command(cls=common.Command)
@common.all_of(common.pair_words, common.json_option, common.access_options)
def status(pair: tuple[str, ...], **flags: Any) -> None:
    """Tell how a pair stands, or every folder of the configuration.

    \b
    Examples:
      craftsync status
      craftsync status --json data ./backup
    """
    asked = common.asked_of(flags)
    found = [_status(one, asked) for one in pairs.every(pair, asked)]
    if flags["json"]:
        say_json(found[0] if len(found) == 1 else found)
        return
    for facts in found:
        mode = f" ({facts['mode']})" if facts["mode"] else ""
        say(f"{facts['root']} and {facts['store']}{mode}: {facts['state']}")
        for name in ("pending", "conflicts", "held", "problems"):
            say(f"  {name}: {facts[name]}")
        say(f"  last success: {facts['last_success'] or 'never'}")


def _status(pair: pairs.Pair, asked: PairOptions) -> Mapping[str, Any]:
    with pairs.opened(pair, pairs.state_dir_of(asked), read_only=True) as session:
        facts: Mapping[str, Any] = session.status()
        return facts
