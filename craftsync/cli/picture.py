"""`status` on a terminal: what is in step, what moves, what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from craftsync.cli.output import shown
from craftsync.cli.status import Facts, moving_of, remarks_of

_COLOURS = {
    **{"watching": "green", "scanning": "cyan", "transferring": "cyan", "paused": "yellow"},
    **{"offline": "yellow", "halted": "red", "stopped": "dim"},
}
_REMEDIES = {
    "conflict": "craftsync history PATH tells what was kept",
    "held": "craftsync sync --force-delete carries them out",
    "problem": "see the reason; it is tried again by itself",
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


def _headline(facts: Facts) -> Text:
    waiting = [f"{facts[name]} {name}" for name in ("conflicts", "held", "problems") if facts[name]]
    if facts["pending"]:
        waiting.append(f"{facts['pending']} pending")
    since = f"last in step {facts['last_success'] or 'never'}"
    if waiting or facts["state"] not in ("watching", "stopped") or not facts["last_success"]:
        return Text(", ".join([*waiting, since]), style="bold yellow" if waiting else "bold")
    return Text(f"In step; {since}", style="bold green")


def _waiting(facts: Facts) -> Iterator[RenderableType]:
    issues = facts.get("waiting") or []
    if not issues:
        return
    table = Table("waits for you", "path", "why", box=None, pad_edge=False)
    for issue in issues[:_MOST_SHOWN]:
        table.add_row(*(Text(shown(issue[name])) for name in ("type", "path", "reason")))
    yield table
    if len(issues) > _MOST_SHOWN:
        yield Text(f"… and more: craftsync status --json shows up to {len(issues)}", style="dim")
    for kind in sorted({issue["type"] for issue in issues}):
        yield Text(f"{kind}: {_REMEDIES[kind]}", style="dim")
