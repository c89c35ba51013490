"""`status` on a terminal: what is in step, what moves, what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from craftsync.cli.output import holdings_shown, shown
from craftsync.cli.status import Facts, moving_of, remarks_of

_COLOURS = {
    **{"watching": "green", "scanning": "cyan", "transferring": "cyan", "paused": "yellow"},
    **{"offline": "yellow", "halted": "red", "stopped": "dim"},
}
_MOST_SHOWN = 10


def show(statuses: Sequence[Facts]) -> None:
    """Print one panel for each pair."""
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
    waiting = [f"{facts[name]} {name}" for name in ("conflicts", "held", "problems") if facts[name]]
    if facts["pending"]:
        waiting.append(f"{facts['pending']} pending")
    last = facts["last_success"]
    since = f"last in sync {last}" if last else "not in sync yet"
    if waiting or facts["state"] != "watching" or not facts["last_success"]:
        # Nobody has looked since a daemon stopped, so that it is in step is not known.
        return Text(", ".join([*waiting, since]), style="bold yellow" if waiting else "bold")
    return Text(f"In sync; {since}", style="bold green")


def _waiting(facts: Facts) -> Iterator[RenderableType]:
    issues = facts.get("waiting") or []
    if not issues:
        return
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
