"""The overview: the status of each linked folder, updated automatically."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import background_tasks, ui

from craftsync import linked_folders, runs
from craftsync.config.pairs import Pair
from craftsync.daemon import pause
from craftsync.errors import CraftsyncError
from craftsync.ui import jobs, page
from craftsync.ui.workspace import Workspace, key_of
from craftsync.wording import counted, left_out_shown, size_shown

Facts = Mapping[str, Any]

_EVERY_SECONDS = 1.5
_HOURS = 24
_MOST_ISSUES = 4
_HOUR_NS = 3_600 * 10**9
_MOST_ROWS = 50_000
_MOVED = {"upload": "uploaded", "download": "downloaded"}
_DOTS = {
    **{"watching": "ok", "scanning": "busy", "transferring": "busy"},
    **{"paused": "warn", "offline": "warn", "halted": "bad", "stopped": ""},
}
_WAITS = {
    "conflicts": ("conflict", "/conflicts"),
    "held": ("held delete", "/deletes"),
    "problems": ("problem", "/history"),
}


def register(workspace: Workspace) -> None:
    @ui.page("/")
    async def overview() -> None:
        with page.frame(workspace, "Overview", "/"):
            with ui.element("div").classes("head"):
                page.text("Overview", tag="h1")
            place = ui.element("div").classes("stack")
        view = _Overview(workspace, place)
        background_tasks.create(view.refresh(), context=place)
        ui.timer(_EVERY_SECONDS, view.tick, immediate=False)


@dataclass(slots=True)
class _Overview:
    """The cards on one page."""

    workspace: Workspace
    place: ui.element
    cards: dict[str, _Card] | None = None
    busy: bool = False

    async def tick(self) -> None:
        """Refresh if a browser is connected: the server keeps a closed page for a while."""
        if self.place.client.has_socket_connection:
            await self.refresh()

    async def refresh(self) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            found = await self.workspace.in_thread(self._all)
            if not self.place.is_deleted:
                self._show(found)
        except CraftsyncError as error:
            self.cards = None
            self.place.clear()
            with self.place:
                page.failure(error)
        finally:
            self.busy = False

    def _all(self) -> list[tuple[Pair, Facts]]:
        return [(pair, self.workspace.facts(pair)) for pair in self.workspace.pairs()]

    def _show(self, found: Sequence[tuple[Pair, Facts]]) -> None:
        if self.cards is None or [key_of(pair) for pair, _ in found] != list(self.cards):
            self.cards = self._begin([pair for pair, _ in found])
        for pair, facts in found:
            self.cards[key_of(pair)].show(facts)

    def _begin(self, pairs: Sequence[Pair]) -> dict[str, _Card]:
        self.place.clear()
        with self.place:
            if not pairs:
                page.empty(
                    "folder_off", "No folder is linked to a store yet.",
                    "Link one on the page Configuration, or run craftsync init.",
                )  # fmt: skip
                ui.link("Link a folder", "/config")
                return {}
            with ui.element("div").classes("cards"):
                return {key_of(pair): _Card(self.workspace, pair, self.refresh) for pair in pairs}


class _Card:
    """The card of a linked folder; each part is rebuilt only if its content has changed."""

    def __init__(self, workspace: Workspace, pair: Pair, refresh: Any) -> None:
        self._workspace, self._pair, self._refresh = workspace, pair, refresh
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = key_of(pair)
            self._head, self._moving, self._facts, self._waiting, self._doing = (
                page.Part() for _ in range(5)
            )
            _Chart(workspace, pair, ui.element("div"))

    def show(self, facts: Facts) -> None:
        """Show the current status of the folder."""
        state, mode, reason = str(facts["state"]), facts["mode"], facts.get("reason")
        headline, progress, rows = _headline(facts), facts.get("progress"), _known(facts)
        paused = facts.get("paused_since") if state != "paused" else None
        waiting = [(name, int(facts[name])) for name in _WAITS if facts.get(name)]
        issues = [dict(issue) for issue in facts.get("waiting") or ()]
        self._head.show(
            (state, mode, headline, reason, paused),
            lambda: _head(facts["name"], state, mode, headline, (reason, _paused(paused))),
        )
        self._moving.show(progress and dict(progress), lambda: _moving(progress))
        self._facts.show(rows, lambda: page.facts(rows))
        self._waiting.show((waiting, issues), lambda: _waiting(self._pair, waiting, issues))
        self._doing.show(
            (_is_paused(facts), facts.get("pid"), key_of(self._pair) in self._workspace.at_work),
            lambda: _buttons(self._workspace, self._pair, facts, self._refresh),
        )


def _is_paused(facts: Facts) -> bool:
    """Return whether a user paused the folder; the pause outlives its daemon, and an error shows beside it."""
    return facts.get("paused_since") is not None


def _paused(since: str | None) -> str | None:
    return f"Paused since {page.time_shown(since)}" if since else None


def _head(
    name: str,
    state: str,
    mode: str | None,
    headline: tuple[str, str],
    remarks: Sequence[str | None],
) -> None:
    with ui.element("div").classes("line"):
        ui.element("span").classes(f"dot {_DOTS.get(state, '')}").props("aria-hidden=true")
        page.text(name, tag="h2")
        page.text(state, "tag")
        if mode:
            page.text(mode, "tag")
    page.text(*headline)
    for remark in filter(None, remarks):
        page.text(remark, "warn wrap")


def _known(facts: Facts) -> dict[str, object]:
    return {
        "Folder": facts["root"],
        "Store": facts["store"],
        "Last in sync": page.time_shown(facts["last_success"]) or "never",
        "Lag": _lag(facts),
        "Next look": page.clock_shown(facts.get("next_look")),
        "Waiting to move": facts.get("pending") or None,
        "Left out": left_out_shown(facts.get("left_out")),
        "Trash": _trash(facts["trash"]),
    }


def _headline(facts: Facts) -> tuple[str, str]:
    """Return whether the folder is in sync, in words, and a colour."""
    if facts.get("waiting") or facts.get("pending") or any(facts.get(name) for name in _WAITS):
        return "Not in sync: see below", "warn"
    if facts["state"] == "watching" and facts["last_success"]:
        return "In sync", "ok"
    if facts["state"] == "stopped":
        return "Nothing keeps it in sync now", "muted"
    return "Not known to be in sync", "muted"


def _moving(progress: Facts | None) -> None:
    if not progress or not progress["files_total"]:
        return
    done, total = progress["bytes_done"], progress["bytes_total"] or 0
    bar = ui.linear_progress(done / total if total else 0, show_value=False, size="6px")
    bar.props('instant-feedback aria-label="Transfer"')
    page.text(
        f"{progress['files_done']:,} of {progress['files_total']:,} files,"
        f" {size_shown(done)} of {size_shown(total)}",
        "muted num",
    )


def _lag(facts: Facts) -> str | None:
    lag = facts.get("lag")
    return None if lag is None or facts["state"] == "watching" else f"{lag:.0f} s"


def _trash(trash: Facts | None) -> str | None:
    if not trash or not trash.get("files"):
        return None
    return f"{counted(trash['files'], 'version')}, {size_shown(trash['bytes'])}"


def _waiting(
    pair: Pair, counts: Sequence[tuple[str, int]], issues: Sequence[Mapping[str, str]]
) -> None:
    if counts:
        with ui.element("div").classes("line"):
            for name, count in counts:
                word, address = _WAITS[name]
                ui.link(counted(count, word), page.link(address, folder=key_of(pair))).classes(
                    "warn"
                )
    if issues:
        rows = list(_shortened(issues[:_MOST_ISSUES]))
        page.table(("Path", "What", "Why"), rows)
        if len(issues) > len(rows):
            page.text(f"and {len(issues) - len(rows)} more", "muted")


def _shortened(issues: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Yield issues as rows; the reason that all held deletes share is shown once."""
    last = ""
    for issue in issues:
        why = "as above" if issue["reason"] == last else issue["reason"]
        yield issue["path"], issue["type"], why
        last = issue["reason"]


def _buttons(workspace: Workspace, pair: Pair, facts: Facts, refresh: Any) -> None:
    async def request(verb: str, done: str) -> None:
        async with page.errors_shown():
            if await workspace.in_thread(workspace.ask, pair, verb) is None:
                raise CraftsyncError("No daemon runs for this folder.", remedy="Choose Run now.")
            ui.notify(done)
        await refresh()

    async def run_now() -> None:
        # The button is rebuilt during the run, so messages must belong to the page, not to the button.
        with ui.context.client:
            async with page.errors_shown():
                workspace.at_work.add(key_of(pair))
                try:
                    report = await workspace.in_thread(_run, workspace, pair)
                finally:
                    workspace.at_work.discard(key_of(pair))
                is_well = report.exit_code == 0
                ui.notify(jobs.summary(report), type="positive" if is_well else "warning")
        await refresh()

    with ui.row().classes("line"):
        if _is_paused(facts):
            _button("Resume", "play_arrow", lambda: _resume(workspace, pair, refresh))
        if facts.get("pid"):
            if not _is_paused(facts):
                _button("Pause", "pause", lambda: request("pause", "Paused"))
            _button("Rescan", "sync", lambda: request("sync", "Scan started"))
        elif key_of(pair) in workspace.at_work:
            _button("Running", "sync", run_now).disable()
        else:
            _button("Run now", "sync", run_now)
        ui.link("History", page.link("/history", folder=key_of(pair)))
        ui.link("Browse", page.link("/store", at=str(facts["store"])))


async def _resume(workspace: Workspace, pair: Pair, refresh: Any) -> None:
    async with page.errors_shown():
        is_running = await workspace.in_thread(pause.end_pause, workspace.control_of(pair))
        ui.notify("Resumed" if is_running else "No longer paused; no daemon runs")
    await refresh()


def _button(name: str, icon: str, do: Callable[[], Awaitable[None]]) -> ui.button:
    button = ui.button(name, icon=icon, on_click=page.once(do))
    return button.props("outline dense color=primary")


def _run(workspace: Workspace, pair: Pair) -> Any:
    """Make one run in the mode of the folder."""
    options = runs.options_for(pair, workspace.asked)
    with runs.opened_for(pair, options, workspace.asked) as session:
        return session.run("sync", options)


class _Chart:
    """Files and bytes of the last day, hour by hour."""

    def __init__(self, workspace: Workspace, pair: Pair, place: ui.element) -> None:
        self._workspace, self._pair, self._place = workspace, pair, place
        background_tasks.create(self._draw(), context=place)

    async def _draw(self) -> None:
        try:
            hours = await self._workspace.in_thread(moved_by_hour, self._workspace, self._pair)
        except CraftsyncError:
            return  # The card shows the error of the folder.
        if not any(files for files, _ in hours) or self._place.is_deleted:
            return
        with self._place:
            files, size = sum(each for each, _ in hours), sum(each for _, each in hours)
            summary = f"Last day: {counted(files, 'file')}, {size_shown(size)}"
            page.text(summary, "muted")
            chart = ui.echart(_bars(hours)).style("height: 90px")
            chart.props["role"], chart.props["aria-label"] = "img", summary


def moved_by_hour(workspace: Workspace, pair: Pair) -> list[tuple[int, int]]:
    """Return the files and bytes transferred in each of the last 24 hours, oldest first."""
    now, hours = time.time_ns(), [(0, 0)] * _HOURS
    with linked_folders.read_state(pair, workspace.state_dir) as state:
        for row in state.history.rows(None, _MOST_ROWS):
            ago = (now - row.at_ns) // _HOUR_NS
            if ago >= _HOURS:
                break
            if row.action in _MOVED and row.status == "done":
                files, size = hours[_HOURS - 1 - ago]
                hours[_HOURS - 1 - ago] = files + 1, size + row.size
    return hours


def _bars(hours: Sequence[tuple[int, int]]) -> dict[str, Any]:
    names = [f"{_HOURS - 1 - at} h ago" for at in range(_HOURS)]
    axis = {"type": "value", "show": False}
    return {
        "animation": False,
        "grid": {"left": 0, "right": 0, "top": 6, "bottom": 2},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": names, "show": False},
        "yAxis": [axis, axis],
        "series": [
            {"type": "bar", "name": "files", "data": [files for files, _ in hours], "itemStyle": {"color": "#5b8fd0"}},
            {"type": "line", "name": "bytes", "yAxisIndex": 1, "data": [size for _, size in hours], "showSymbol": False, "lineStyle": {"color": "#c08a2d", "width": 1.5}, "itemStyle": {"color": "#c08a2d"}},
        ],
    }  # fmt: skip
