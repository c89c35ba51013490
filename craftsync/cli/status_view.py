"""Formats the status of linked folders: as one line, several lines, or a panel for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from craftsync.cli import params as common
from craftsync.cli.output import linked
from craftsync.wording import counted, holdings_shown, left_out_shown, shown, size_shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Facts = Mapping[str, Any]
"""The fields of `status --json`."""

_COLOURS = {
    **{"watching": "green", "scanning": "cyan", "transferring": "cyan", "paused": "yellow"},
    **{"offline": "yellow", "halted": "red", "stopped": "dim"},
}
_MOST_SHOWN = 10


def checked_line(facts: Facts) -> str:
    """Return the status of a folder in one line, with the reason."""
    words = facts.get("reason") or ("no daemon runs" if facts["pid"] is None else "")
    if facts["state"] != "paused" and facts.get("paused_since"):
        words = f"{words}; paused since {facts['paused_since']}"
    reason = f" ({words})" if words else ""
    name = facts["folder"] or f"{facts['root']} ⇄ {facts['store']}"
    return shown(f"{name}: {facts['state']}{reason}: {headline_of(facts)}")


def _name_of(facts: Facts) -> str:
    return shown(linked(facts["folder"], facts["root"], facts["store"]))


def lines_of(facts: Facts) -> list[str]:
    """Return the status of a folder as plain lines."""
    mode = f" ({facts['mode']})" if facts["mode"] else ""
    lines = [f"{_name_of(facts)}{mode}: {facts['state']}"]
    lines += [f"  {shown(remark)}" for remark in remarks_of(facts)]
    for name in ("pending", "conflicts", "held", "problems"):
        if facts["state"] == "offline" and facts[name] == 0:
            # Below the reason, a zero would look as if all were well.
            continue
        lines.append(f"  {name}: {_unknown(name, facts) if facts[name] is None else facts[name]}")
        lines += _lines_of_issues(facts, name.removesuffix("s"))
    if left_out := left_out_shown(facts.get("left_out")):
        lines.append(f"  left out: {left_out}")
    if facts["trash"] and (trash := holdings_shown(facts["trash"])):
        lines.append(f"  trash: {shown(trash)}")
    lines += [f"  see: {shown(command)}" for command in facts["next"]]
    return [*lines, f"  last success: {facts['last_success'] or 'never'}"]


def _lines_of_issues(facts: Facts, issue: str) -> list[str]:
    """Return a line for each open issue of this type, to stand below their count."""
    return [
        f"    {issue}: {shown(one['path'])}: {shown(one['reason'])}"
        for one in facts.get("waiting", ())
        if one["type"] == issue
    ]


def _unknown(name: str, facts: Facts) -> str:
    """Return the text for an unknown figure."""
    if name != "pending":
        return "unknown"
    if facts["pid"] is not None:
        return "unknown until both sides are scanned"
    return f"unknown without a scan; craftsync plan{naming_of(facts)} makes one"


def remarks_of(facts: Facts) -> list[str]:
    """Return remarks for people about a status, most serious first."""
    remarks = [facts["reason"]] if facts.get("reason") else []
    running = facts["pid"] is not None
    if not running:
        remarks.append(
            f"no daemon keeps it in sync: craftsync watch{naming_of(facts)}"
            f" or craftsync service install{common.naming(())} starts one"
        )
    if facts["state"] != "paused" and facts.get("paused_since"):
        resume = f"resume with craftsync resume{naming_of(facts)}"
        remarks.append(f"paused since {facts['paused_since']}: {resume}")
    if facts["state"] == "halted":
        remarks.append(
            f"it is tried again every minute; craftsync rescan{naming_of(facts)} tries it now"
        )
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
        remarks.append(f"up to {facts['transfers_at_once']} small files are transferred at once")
    moving = moving_of(facts)
    return [*remarks, *([moving] if moving else [])]


def naming_of(facts: Facts) -> str:
    """Return the flags, after a space, that name the linked folder of a status in any command."""
    folder = facts["folder"]
    return common.naming([folder] if folder else [facts["root"], facts["store"]])


def moving_of(facts: Facts) -> str | None:
    """Return the progress of the run under way, if it transfers anything."""
    progress = facts.get("progress")
    if not progress or not progress["files_total"]:
        return None
    if progress["stage"] == "hashing":
        read = (
            f"{counted(progress['files_hashed'], 'file')}, {size_shown(progress['bytes_hashed'])}"
        )
        done = f"{progress['files_done']} of {progress['files_total']} files done"
        return f"hashing to compare: {read}; {done}"
    size = f"{size_shown(progress['bytes_done'])} of {size_shown(progress['bytes_total'] or 0)}"
    return f"moving: {progress['files_done']} of {progress['files_total']} files, {size}"


def show(statuses: Sequence[Facts]) -> None:
    """Print one panel for each linked folder."""
    from rich.console import Console

    Console().print(panels(statuses))


def panels(statuses: Sequence[Facts]) -> RenderableType:
    """Return one panel for each linked folder."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    return Group(
        *(
            Panel(
                Group(*_rows(facts)),
                title=Text(_name_of(facts)),
                subtitle=Text(f"{facts['mode'] or ''} {facts['state']}".strip()),
                border_style=_COLOURS.get(str(facts["state"]), "none"),
            )
            for facts in statuses
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
    if left_out := left_out_shown(facts.get("left_out")):
        yield Text(f"Left out: {left_out}", style="dim")
    if facts["trash"] and (trash := holdings_shown(facts["trash"])):
        yield Text(shown(f"Trash: {trash}"), style="dim")
    for command in facts["next"]:
        yield Text(f"See {shown(command)}", style="bold")


def _headline(facts: Facts) -> Text:
    from rich.text import Text

    if is_in_sync(facts):
        return Text(headline_of(facts), style="bold green")
    return Text(headline_of(facts), style="bold yellow" if _amounts(facts) else "bold")


def headline_of(facts: Facts) -> str:
    """Return whether a folder is in sync, and what is not: "2 conflicts, last in sync …"."""
    last = facts["last_success"]
    since = f"last in sync {last}" if last else "not in sync yet"
    return f"In sync; {since}" if is_in_sync(facts) else ", ".join([*_amounts(facts), since])


def is_in_sync(facts: Facts) -> bool:
    """Return whether no difference is known; unknown counts as no, as after a daemon stopped."""
    is_known = facts["state"] == "watching" and facts["pending"] == 0 and facts["last_success"]
    return bool(is_known) and not _amounts(facts)


def _amounts(facts: Facts) -> list[str]:
    words = {"conflicts": "conflict", "held": "", "problems": "problem", "busy": "", "pending": ""}
    return [
        counted(facts[name], one) if one else f"{facts[name]} {name}"
        for name, one in words.items()
        if facts.get(name)
    ]


def _waiting(facts: Facts) -> Iterator[RenderableType]:
    issues = facts.get("waiting") or []
    if not issues:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("waits for you", "path", "why", box=None, pad_edge=False)
    last = None
    for issue in issues[:_MOST_SHOWN]:
        # All held deletes have the same reason.
        why = issue["reason"] if issue["reason"] != last else "〃"
        last = issue["reason"]
        table.add_row(*(Text(shown(word)) for word in (issue["type"], issue["path"], why)))
    yield table
    if len(issues) > _MOST_SHOWN:
        yield Text(f"… and more: craftsync status --json shows up to {len(issues)}", style="dim")
    if any(issue["type"] == "problem" for issue in issues):
        yield Text("Problems are retried automatically.", style="dim")
