"""`history` and `why`: what was done to a path, and what would be."""

from __future__ import annotations

from typing import Any

import click

from craftsync import opening, runs
from craftsync.cli import parameters as common
from craftsync.cli.output import say, say_json, shown, size_shown
from craftsync.clock import iso
from craftsync.config import pairs
from craftsync.core.model import BaselineRow, LocalFile, Mode, RemoteObject


@click.command(cls=common.Command)
@common.all_of(
    click.argument("path", required=False),
    click.option("--limit", type=click.IntRange(1), default=100, show_default=True),
    common.json_option,
    common.path_options,
)
def history(path: str | None, limit: int, **flags: Any) -> None:
    """Show what was done, the newest first, to all files, those in a folder, or one.

    \b
    Examples:
      craftsync history
      craftsync history data/models
      craftsync history data/models/iris.joblib
    """
    asked = common.asked_of(flags)
    pair, inside = opening.around(path or ".", common.words_of(flags), asked)
    with opening.read_state(pair, pairs.state_dir_of(asked)) as state:
        row = None
        for row in state.history.rows(inside if path else None, limit):
            if flags["json"]:
                say_json(row._asdict())
            else:
                reason = f": {row.reason}" if row.reason else ""
                run = f"run {row.run} " if row.run is not None else ""
                say(
                    f"{iso(row.at_ns)} {run}{row.command} {row.action} {row.status} "
                    f"{shown(row.path)}{reason}"
                )
    if row is None and not flags["json"]:
        of = f" of {shown(inside)}" if path else ""
        say(f"Nothing is recorded{of}.", to_stderr=True)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("path"),
    common.mode_option,
    common.decision_options,
    common.json_option,
    common.path_options,
)
def why(path: str, mode: str | None, **flags: Any) -> None:
    """Explain what would happen to a file, and which rule says so.

    \b
    Examples:
      craftsync why data/models/iris.joblib
      craftsync why --folder datasets --mode push train.csv
    """
    asked = common.asked_of(flags)
    pair, inside = opening.around(path, common.words_of(flags), asked)
    chosen = common.mode_of(mode) or pair.settings.mode or Mode.TWO_WAY
    with opening.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        told = session.why(inside, runs.options_for(pair, asked, chosen))
    looks = {"root": told.local, "store": told.remote, "last agreed": told.baseline}
    names = dict(zip(looks, ("folder", "store", "last synced state"), strict=True))
    if flags["json"]:
        decision = {"decision": told.decision, "rule": told.rule, "ignored_by": told.ignored_by}
        say_json(
            {"path": told.path, **{side: _facts(look) for side, look in looks.items()}, **decision}
        )
        return
    say(shown(told.path))
    for side, look in looks.items() if told.compared else ():
        held = told.unread if side == "root" and told.unread else _in_words(look)
        say(f"  {names[side]}: {shown(held)}")
    if told.ignored_by:
        say(f"  ignored, because of {told.ignored_by}")
    else:
        say(f"  {told.decision or 'nothing to do'}: {told.rule}")


Look = LocalFile | RemoteObject | BaselineRow | None


def _facts(look: Look) -> dict[str, Any] | None:
    if look is None:
        return None
    digest = None if isinstance(look, LocalFile) or look.digest is None else look.digest.hex()
    return {"size": look.size, "modified": _modified(look), "digest": digest}


def _in_words(look: Look) -> str:
    return "not there" if look is None else f"{size_shown(look.size)}, modified {_modified(look)}"


def _modified(look: LocalFile | RemoteObject | BaselineRow) -> str | None:
    time_ns = look.modified_ns if isinstance(look, RemoteObject) else look.mtime_ns
    return None if time_ns is None else iso(time_ns)
