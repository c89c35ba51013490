"""`status`: from the daemon, or from the state database when no daemon runs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from craftsync import __version__, opening
from craftsync.cli import params as common
from craftsync.cli import watch
from craftsync.cli.output import holdings_shown, say, say_json, size_shown
from craftsync.cli.terminal import shown
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions
from craftsync.errors import CraftsyncError
from craftsync.state import known_conflicts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Facts = Mapping[str, Any]


@click.command(cls=common.Command)
@common.all_of(common.json_option, common.pair_options)
def status(pair: tuple[str, ...], **flags: Any) -> int:
    """Show how a linked folder stands.

    Without words it is the one that the current directory lies in; outside of
    any, all of the configuration and all others with a daemon or a memory.

    \b
    Examples:
      craftsync status
      craftsync status --json data ./backup
    """
    asked = common.asked_of(flags)
    if words := common.words_of(flags, pair):
        found, code = [_facts(one, asked, named=True) for one in opening.every(words, asked)], 0
    else:
        found, code = _of_all(opening.all_known(asked), asked)
    if flags["json"]:
        say_json(found[0] if len(found) == 1 else found)
    elif sys.stdout.isatty():
        show(found)
    else:
        for facts in found:
            for line in lines_of(facts):
                say(line)
    return code


def _of_all(meant: Sequence[pairs.Pair], asked: PairOptions) -> tuple[list[dict[str, Any]], int]:
    """Return how each stands, and the exit code of the first of which that cannot be read."""
    found, code = [], 0
    for one in meant:
        try:
            found.append(_facts(one, asked, named=False))
        except CraftsyncError as error:
            code = code or error.exit_code
            found.append(_unreadable(one, error))
    return found, code


def _unreadable(pair: pairs.Pair, error: CraftsyncError) -> dict[str, Any]:
    """Return what is left to show of a linked folder whose state cannot be read, or whose daemon is silent."""
    unknown = dict.fromkeys(("mode", "pid", "pending", "conflicts", "held", "problems"))
    return {
        "state": "stopped",
        "reason": f"{error} {error.remedy}".rstrip(),
        "root": str(pair.root),
        "store": places.address_of(pair.location),
        **unknown,
        "folder": pair.folder,
        "last_success": None,
        "watch": {"healthy": False, "reason": "unknown"},
        "version": __version__,
        "trash": None,
        "next": [],
    }


def _facts(pair: pairs.Pair, asked: PairOptions, *, named: bool) -> dict[str, Any]:
    facts: dict[str, Any] | None = watch.tell(pair, asked, "status")
    if facts is None:
        facts = _of_stopped(pair, pairs.state_dir_of(asked), named=named)
    else:
        # A daemon counts those of its last runs; a copy that nobody settled is one still.
        copies = known_conflicts(pairs.state_dir_of(asked), facts["root"], facts["store"])
        facts["conflicts"] = max(facts["conflicts"], copies)
    from craftsync.engine.retention import holdings_of

    place = (facts["root"], facts["store"], pairs.state_dir_of(asked))
    trash = holdings_of(*place, pair.retention)
    next_steps = _next_steps(pair, asked, facts)
    return {**facts, "folder": pair.folder, "trash": trash, "next": next_steps}


def _of_stopped(pair: pairs.Pair, state_dir: Path, *, named: bool) -> dict[str, Any]:
    """Return what is known of a pair no daemon keeps in sync; what is missing of it is the reason."""
    from craftsync.engine.inspect import of_pair

    facts = of_pair(str(pair.root), places.address_of(pair.location), state_dir)
    if named and pair.folder is None and facts["mode"] is None:
        # Nobody has ever heard of it: the words may be mistyped, and this raises what is wrong.
        with opening.open_pair(pair, state_dir, reading=True):
            return facts
    if facts["reason"] is None and not places.exists(pair.location):
        facts["reason"] = "The store is not there. Check the path, and that its disk is mounted."
    return facts


def _next_steps(pair: pairs.Pair, asked: PairOptions, facts: Facts) -> list[str]:
    """Return the commands that show what waits for a person."""
    flags = {
        "--folder": pair.folder,
        "--root": None if pair.folder else facts["root"],
        "--store": None if pair.folder else facts["store"],
        "--config": asked.get("config"),
        "--state-dir": asked.get("state_dir"),
    }
    # What a variable says, the next call is told by it as well.
    known = {os.environ.get("CRAFTSYNC_CONFIG"), os.environ.get("CRAFTSYNC_STATE_DIR"), None}
    place = [
        word for flag, value in flags.items() if value not in known for word in (flag, str(value))
    ]
    commands = {"conflicts": "conflicts", "held": "deletes"}
    return [
        shlex.join(["craftsync", command, "list", *place])
        for count, command in commands.items()
        if facts[count]
    ]


def lines_of(facts: Facts) -> list[str]:
    """Return how one pair stands, line by line, without any decoration."""
    mode = f" ({facts['mode']})" if facts["mode"] else ""
    lines = [f"{shown(facts['root'])} and {shown(facts['store'])}{mode}: {facts['state']}"]
    lines += [f"  {shown(remark)}" for remark in remarks_of(facts)]
    for name in ("pending", "conflicts", "held", "problems"):
        lines.append(f"  {name}: {'unknown' if facts[name] is None else facts[name]}")
    if facts["trash"] and (trash := holdings_shown(facts["trash"])):
        lines.append(f"  trash: {shown(trash)}")
    lines += [
        f"    {issue['type']}: {shown(issue['path'])}: {shown(issue['reason'])}"
        for issue in facts.get("waiting", ())
    ]
    lines += [f"  see: {shown(command)}" for command in facts["next"]]
    return [*lines, f"  last success: {facts['last_success'] or 'never'}"]


def remarks_of(facts: Facts) -> list[str]:
    """Return what a person should know beside the counts, most serious first."""
    remarks = [facts["reason"]] if facts.get("reason") else []
    running = facts["pid"] is not None
    if not running:
        remarks.append(
            "no daemon keeps it in sync: craftsync watch or craftsync service install starts one"
        )
    if facts["state"] == "halted":
        remarks.append("it is tried again every minute; craftsync rescan tries it now")
    if running and not facts["watch"]["healthy"] and facts["watch"]["reason"]:
        remarks.append(f"changes are found by scans only: {facts['watch']['reason']}")
    events = facts.get("events") or {}
    if events.get("reason"):
        remarks.append(f"changes in the store are found by listing only: {events['reason']}")
    limits = facts.get("bwlimit") or {}
    if any(limits.values()):
        shares = [
            f"{way} {'no limit' if rate is None else size_shown(int(rate)) + '/s'}"
            for way, rate in limits.items()
        ]
        remarks.append(f"limited: {', '.join(shares)}")
    if facts.get("transfers_at_once"):
        remarks.append(f"up to {facts['transfers_at_once']} small files travel at once")
    moving = moving_of(facts)
    return [*remarks, *([moving] if moving else [])]


def moving_of(facts: Facts) -> str | None:
    """Return how far the run under way has come, if one moves anything."""
    progress = facts.get("progress")
    if not progress or not progress["files_total"]:
        return None
    if progress["stage"] == "hashing":
        read = f"{progress['files_hashed']} files, {size_shown(progress['bytes_hashed'])}"
        done = f"{progress['files_done']} of {progress['files_total']} files done"
        return f"hashing to compare: {read}; {done}"
    size = f"{size_shown(progress['bytes_done'])} of {size_shown(progress['bytes_total'] or 0)}"
    return f"moving: {progress['files_done']} of {progress['files_total']} files, {size}"


_COLOURS = {
    **{"watching": "green", "scanning": "cyan", "transferring": "cyan", "paused": "yellow"},
    **{"offline": "yellow", "halted": "red", "stopped": "dim"},
}
_MOST_SHOWN = 10


def show(statuses: Sequence[Facts]) -> None:
    """Print one panel for each pair."""
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    console = Console()
    for facts in statuses:
        state = str(facts["state"])
        console.print(
            Panel(
                Group(*_rows(facts)),
                title=Text(f"{shown(facts['root'])} ↔ {shown(facts['store'])}"),
                subtitle=Text(f"{facts['mode'] or ''} {state}".strip()),
                border_style=_COLOURS.get(state, "none"),
            )
        )


def _rows(facts: Facts) -> Iterator[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    yield _headline(facts)
    for remark in remarks_of(facts):
        yield Text(shown(remark), style="yellow" if remark == facts.get("reason") else "")
    progress = facts.get("progress")
    if moving_of(facts) and progress:
        yield ProgressBar(progress["bytes_total"] or 1, progress["bytes_done"])
    yield from _waiting(facts)
    if facts["trash"] and (trash := holdings_shown(facts["trash"])):
        yield Text(shown(f"Trash: {trash}"), style="dim")
    for command in facts["next"]:
        yield Text(f"See {shown(command)}", style="bold")


def _headline(facts: Facts) -> Text:
    from rich.text import Text

    waiting = [f"{facts[name]} {name}" for name in ("conflicts", "held", "problems") if facts[name]]
    if facts["pending"]:
        waiting.append(f"{facts['pending']} pending")
    last = facts["last_success"]
    since = f"last in sync {last}" if last else "not in sync yet"
    if waiting or facts["state"] != "watching" or not facts["last_success"]:
        # Nobody has looked since a daemon stopped, so that it is in sync is not known.
        return Text(", ".join([*waiting, since]), style="bold yellow" if waiting else "bold")
    return Text(f"In sync; {since}", style="bold green")


def _waiting(facts: Facts) -> Iterator[RenderableType]:
    issues = facts.get("waiting") or []
    if not issues:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("waits for you", "path", "why", box=None, pad_edge=False)
    last = None
    for issue in issues[:_MOST_SHOWN]:
        # Held deletes have one reason for all of them.
        why = issue["reason"] if issue["reason"] != last else "〃"
        last = issue["reason"]
        table.add_row(*(Text(shown(word)) for word in (issue["type"], issue["path"], why)))
    yield table
    if len(issues) > _MOST_SHOWN:
        yield Text(f"… and more: craftsync status --json shows up to {len(issues)}", style="dim")
    if any(issue["type"] == "problem" for issue in issues):
        yield Text("A problem is tried again by itself.", style="dim")
