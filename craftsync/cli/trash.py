"""`trash`: what was displaced or deleted, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from craftsync import pairs
from craftsync.cli import parameters as common
from craftsync.cli.groups import Group
from craftsync.cli.output import say, say_json, shown, size_shown

if TYPE_CHECKING:
    from craftsync.sync.session import Session


@click.group(cls=Group)
def trash() -> None:
    """List, bring back or remove what was displaced or deleted.

    \b
    Examples:
      craftsync trash list
      craftsync trash restore data/train.csv
    """


@trash.command("list", cls=common.Command)
@common.all_of(common.json_option, common.path_options)
def list_(**flags: Any) -> None:
    """List what can be brought back, the newest first.

    \b
    Example:
      craftsync trash list --folder datasets
    """
    with _opened(".", flags, read_only=True) as (session, _):
        for entry in session.trash():
            if flags["json"]:
                say_json(entry._asdict())
            else:
                say(f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})")


@trash.command(cls=common.Command)
@common.all_of(
    click.argument("path"),
    click.option(
        "--at", metavar="WHEN", help="Which version, by the stamp that `trash list` shows."
    ),
    common.path_options,
)
def restore(path: str, at: str | None, **flags: Any) -> None:
    """Put a file back into the root, by default its newest version.

    \b
    Examples:
      craftsync trash restore data/train.csv
      craftsync trash restore --folder datasets --at 20261122T101112Z train.csv
    """
    with _opened(path, flags, read_only=False) as (session, inside):
        entry = session.restore(inside, at)
    say(f"restored {shown(entry.path)} of {entry.stamp} ({size_shown(entry.size)})")


@trash.command(cls=common.Command)
@common.all_of(
    click.option(
        "--older-than",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        metavar="DAYS",
        help="Keep what is younger.",
    ),
    common.path_options,
)
def purge(older_than: float, **flags: Any) -> None:
    """Remove old versions for good, in the root and in the store.

    \b
    Examples:
      craftsync trash purge
      craftsync trash purge --older-than 0 --root data --store ./backup
    """
    with _opened(".", flags, read_only=False) as (session, _):
        say(f"{session.purge(older_than)} versions removed")


@contextmanager
def _opened(path: str, flags: dict[str, Any], *, read_only: bool) -> Iterator[tuple[Session, str]]:
    asked = common.asked_of(flags)
    pair, inside = pairs.around(path, common.words_of(flags), asked)
    with pairs.opened(pair, pairs.state_dir_of(asked), read_only=read_only) as session:
        yield session, inside
