"""The pages of held deletes, the trash, and the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple

from nicegui import background_tasks, ui

from craftsync import linked_folders, runs
from craftsync.clock import iso
from craftsync.config.pairs import Pair
from craftsync.daemon import control
from craftsync.engine.review.deletes import Approval
from craftsync.engine.review.trash import Restored
from craftsync.engine.review.versions import TrashEntry, Wanted, time_of
from craftsync.state.history import HistoryRow
from craftsync.ui import page
from craftsync.ui.tree import MOST_PATHS, Ticks
from craftsync.ui.workspace import Workspace
from craftsync.wording import counted, size_shown

_MOST_RUNS = 100
_MOST_ROWS = 1000
_MOST_SHOWN = 200
_KINDS = {
    "delete-remote": "Gone from the folder, to be deleted in the store",
    "delete-local": "Gone from the store, to be deleted in the folder",
    "upload": "Edited in the folder, to replace an archived object",
}
_ENDED = {"done": "restored", "planned": "would be restored", "unchanged": "in place already"}


def register(workspace: Workspace) -> None:
    @ui.page("/deletes")
    async def deletes(folder: str = "") -> None:
        with page.frame(workspace, "Held deletes", "/deletes"):
            box = _begin(workspace, "Held deletes", "/deletes", folder)
        if box is not None:
            view = _Deletes(workspace, *box)
            background_tasks.create(view.show(), context=view.box)

    @ui.page("/trash")
    async def trash(folder: str = "") -> None:
        with page.frame(workspace, "Trash", "/trash"):
            box = _begin(workspace, "Trash", "/trash", folder)
        if box is not None:
            _Trash(workspace, *box).build()

    @ui.page("/history")
    async def history(folder: str = "", path: str = "") -> None:
        with page.frame(workspace, "History", "/history"):
            box = _begin(workspace, "History", "/history", folder)
        if box is not None:
            _History(workspace, *box).build(path)


def _begin(
    workspace: Workspace, title: str, address: str, key: str
) -> tuple[Pair, ui.element] | None:
    with ui.element("div").classes("head"):
        page.text(title, tag="h1")
        ui.space()
        pair = page.folder_choice(workspace, address, key)
    return None if pair is None else (pair, ui.element("div").classes("stack"))


class _Held(NamedTuple):
    kind: str
    path: str
    size: int
    reason: str
    since: str


class _Deletes:
    """The held deletes of a linked folder, to approve or reject."""

    def __init__(self, workspace: Workspace, pair: Pair, box: ui.element) -> None:
        self.box = box
        self._workspace, self._pair = workspace, pair

    async def show(self) -> None:
        await page.filled(self.box, self._build)

    async def _build(self) -> None:
        held, count, gone = await self._workspace.in_thread(self._read)
        if not held and not gone:
            page.empty(
                "done_all", "No delete is held.", "Suspicious deletes wait here until you decide."
            )
            return
        for (kind, reason), rows in groupby(held, key=lambda one: (one.kind, one.reason)):
            shown = list(rows)
            others = [one.path for one in held if (one.kind, one.reason) != (kind, reason)]
            ticks = partial(Ticks, others=others, exact=count > len(held))
            self._group(_KINDS.get(kind, kind), reason, shown, ticks)
        if count > len(held):
            page.text(
                f"{count - len(held):,} more are held; Approve all and Reject all mean them too.",
                "warn",
            )
        if gone:
            page.text(
                f"{counted(gone, 'file')} went before that in the same event; Reject all"
                " brings them back.", "muted",
            )  # fmt: skip
        with ui.row().classes("line"):
            ui.button(
                "Approve all", on_click=page.once(partial(self._resolve, "approve", None))
            ).props("outline color=negative")
            ui.button(
                "Reject all", on_click=page.once(partial(self._resolve, "reject", None))
            ).props("outline")

    def _read(self) -> tuple[list[_Held], int, int]:
        with self._workspace.session(self._pair, reading=True) as session:
            held = [
                _Held(str(one.kind), one.path, one.size, one.reason, iso(one.since_ns))
                for one in islice(session.state.held.rows(), MOST_PATHS)
            ]
            return held, session.state.held.count(), sum(1 for _ in session.state.events.deleted())

    def _group(
        self, what: str, reason: str, rows: Sequence[_Held], make: Callable[..., Ticks]
    ) -> None:
        with ui.element("section").classes("card"):
            page.text(what, tag="h2")
            page.text(
                f"Held because {reason}; since {page.time_shown(rows[0].since)}", "muted wrap"
            )
            ticks = make(((one.path, one.size) for one in rows), what)
            page.text(f"{counted(len(rows), 'file')}, {size_shown(ticks.bytes)}", "muted")
            with ui.row().classes("line"):
                ui.button(
                    "Approve selected",
                    on_click=page.once(lambda: self._resolve("approve", ticks.ticked())),
                ).props("outline color=negative")
                ui.button(
                    "Reject selected",
                    on_click=page.once(lambda: self._resolve("reject", ticks.ticked())),
                ).props("unelevated")

    async def _resolve(self, verb: str, paths: Sequence[str] | None) -> None:
        if paths is not None and not paths:
            ui.notify("Select files or folders first.")
            return
        async with page.errors_shown():
            if verb == "approve" and not await page.confirmed(
                "Carry out these deletes?",
                "Deleted versions go to the trash, and can be restored.",
                "Delete",
            ):
                return
            ui.notify(await self._workspace.in_thread(self._carried_out, verb, paths))
        await self.show()

    def _carried_out(self, verb: str, paths: Sequence[str] | None) -> str:
        """Send the decision to the daemon; if none runs, carry it out in this process."""
        state_dir = self._workspace.state_dir
        if control.send_decision(control.folder_of(state_dir, *self._pair.addresses), verb, paths):
            return "Handed to the daemon"
        approval = Approval(verb == "approve", None if paths is None else tuple(paths))
        options = runs.options_for(self._pair, self._workspace.asked)
        with linked_folders.open_pair(self._pair, state_dir) as session:
            report = session.resolve_held(approval, options)
        done = report.deleted_local + report.deleted_remote + report.uploaded + report.downloaded
        left = (
            f", {report.problems + report.skipped} left" if report.problems + report.skipped else ""
        )
        return f"{counted(done, 'file')} {'deleted' if approval.approved else 'brought back'}{left}"


class _Trash:
    """What can be restored, by run or by path."""

    def __init__(self, workspace: Workspace, pair: Pair, box: ui.element) -> None:
        self._workspace, self._pair, self._box = workspace, pair, box

    def build(self) -> None:
        with self._box:
            with ui.element("div").classes("line"):
                self._view = ui.toggle(["By run", "By path"], value="By run").props(
                    "dense no-caps unelevated"
                )
                self._path = ui.input(placeholder="Folder, file or pattern").props(
                    "outlined dense clearable"
                )
                self._path.props["aria-label"] = "Folder, file or pattern"
                self._over = ui.checkbox("Replace files that differ")
                ui.space()
                ui.button(
                    "Remove old versions", icon="delete_forever", on_click=page.once(self._purge)
                ).props("flat color=negative")
            self._list = ui.element("div").classes("stack")
        self._view.on_value_change(self.show)
        self._path.on("keydown.enter", self.show)
        self._path.on("clear", self.show)
        background_tasks.create(self.show(), context=self._list)

    def _wanted(self, *paths: str, **when: str) -> Wanted:
        named = (self._path.value or "").strip().strip("/")
        return Wanted(paths or ((named,) if named else ()), **when)

    async def show(self) -> None:
        await page.filled(self._list, self._build)

    async def _build(self) -> None:
        entries, more, versions = await self._workspace.in_thread(self._read, self._wanted())
        if not entries:
            page.empty(
                "delete_outline",
                "The trash holds nothing of this.",
                "What is replaced or deleted is kept here.",
            )
        elif self._view.value == "By run":
            for stamp, rows in groupby(entries, key=lambda entry: entry.stamp):
                self._run(stamp, list(rows))
        else:
            newest = {entry.path: entry.size for entry in reversed(entries)}
            ticks = Ticks(dict(sorted(newest.items())), "Trash", exact=more)
            ui.button(
                "Restore selected",
                on_click=page.once(
                    lambda: self._restore(self._wanted(*ticks.ticked()) if ticks.ticked() else None)
                ),
            ).props("unelevated")
        if more:
            page.text("Older versions are not shown; name a folder to see its own.", "muted")
        if versions:
            page.text(versions, "muted wrap")

    def _read(self, wanted: Wanted) -> tuple[list[TrashEntry], bool, str | None]:
        with self._workspace.session(self._pair, reading=True) as session:
            found = list(islice(session.trash.entries(wanted), MOST_PATHS + 1))
            return found[:MOST_PATHS], len(found) > MOST_PATHS, session.trash.in_versions()

    def _run(self, stamp: str, rows: Sequence[TrashEntry]) -> None:
        size = size_shown(sum(entry.size for entry in rows))
        title = (
            f"{page.time_shown(time_of(stamp)) or stamp}: {counted(len(rows), 'version')}, {size}"
        )
        with ui.expansion(title).classes("card").props("dense dense-toggle"):
            wanted = self._wanted(since=stamp, at=stamp)
            ui.button(
                "Restore all of these", on_click=page.once(partial(self._restore, wanted))
            ).props("unelevated")
            sides = {"root": "folder", "store": "store"}
            shown = [
                (entry.path, size_shown(entry.size), sides.get(entry.side, entry.side))
                for entry in rows[:_MOST_SHOWN]
            ]
            page.table(("Path", "Size", "Kept in"), shown, (1,), name=title)
            if len(rows) > _MOST_SHOWN:
                page.text(f"and {len(rows) - _MOST_SHOWN:,} more", "muted")

    async def _restore(self, wanted: Wanted | None) -> None:
        if wanted is None:
            ui.notify("Select files or folders first.")
            return
        async with page.errors_shown():
            ended = await self._workspace.in_thread(self._restored, wanted, self._over.value)
            show_restored(ended)

    def _restored(self, wanted: Wanted, overwrite: bool) -> list[Restored]:
        with self._workspace.session(self._pair) as session:
            return list(session.trash.restore(wanted, overwrite=overwrite))

    async def _purge(self) -> None:
        with ui.dialog() as box, ui.card():
            box.props["aria-label"] = "Remove old versions"
            page.text("Remove old versions for good", tag="h2")
            days = ui.number("Older than (days)", value=30, min=0).props("outlined dense")
            page.text(
                "A version stays while a conflict, a held delete or an unfinished run refers to it.",
                "muted",
            )
            with ui.row().classes("line"):
                ui.button("Count", on_click=lambda: box.submit(True)).props("unelevated")
                ui.button("Cancel", on_click=lambda: box.submit(False)).props("flat")
        async with page.errors_shown():
            if await box:
                await self._purge_older(float(days.value or 0))
        box.delete()

    async def _purge_older(self, days: float) -> None:
        count = await self._workspace.in_thread(self._purgeable, days)
        if not count:
            ui.notify("Nothing is as old as that.")
        elif await page.confirmed(
            f"Remove {counted(count, 'version')} for good?",
            "They cannot be got back.",
            "Remove",
        ):
            purged = await self._workspace.in_thread(self._purged, days)
            ui.notify(f"{counted(purged.removed, 'version')} removed, {purged.spared} kept")
            await self.show()

    def _purgeable(self, days: float) -> int:
        with self._workspace.session(self._pair, reading=True) as session:
            return sum(1 for _ in session.trash.purgeable(days))

    def _purged(self, days: float) -> Any:
        with linked_folders.open_pair(self._pair, self._workspace.state_dir) as session:
            return session.trash.purge(days)


def show_restored(ended: Sequence[Restored]) -> None:
    """Show what was restored, what was not, and why."""
    counts = Counter(one.status for one in ended)
    summary = [f"{counts[status]:,} {word}" for status, word in _ENDED.items() if counts[status]]
    left = [one for one in ended if one.status not in _ENDED]
    summary += [f"{len(left):,} not restored"] if left else []
    text = ", ".join(summary) or "Nothing to restore"
    if not left:
        ui.notify(text, type="positive")
        return
    with page.dialog(text) as box:
        page.table(("Path", "Why"), [(one.entry.path, one.reason) for one in left[:_MOST_SHOWN]])
        ui.button("Close", on_click=box.close).props("flat")


class _History:
    """What was done, run by run, the newest first."""

    def __init__(self, workspace: Workspace, pair: Pair, box: ui.element) -> None:
        self._workspace, self._pair, self._box = workspace, pair, box

    def build(self, path: str) -> None:
        with self._box:
            with ui.element("div").classes("line"):
                self._path = ui.input(placeholder="Folder or file", value=path).props(
                    "outlined dense clearable"
                )
                self._path.props["aria-label"] = "Folder or file"
                self._what = page.choice(
                    {"": "Everything", "failed": "What failed or waits"}, "", "Show"
                )
            self._list = ui.element("div").classes("stack")
        self._path.on("keydown.enter", self.show)
        self._path.on("clear", self.show)
        self._what.on_value_change(self.show)
        background_tasks.create(self.show(), context=self._list)

    async def show(self) -> None:
        await page.filled(self._list, self._build)

    async def _build(self) -> None:
        path = (self._path.value or "").strip().strip("/") or None
        rows = await self._workspace.in_thread(self._read, path)
        if self._what.value:
            rows = [row for row in rows if row.status not in {"done", "planned"}]
        if not rows:
            page.empty("history", "Nothing is recorded of this.", "What runs do is listed here.")
        for run, found in islice(groupby(rows, key=lambda row: (row.run, row.command)), _MOST_RUNS):
            self._run(run[0], run[1], list(found))

    def _read(self, path: str | None) -> list[HistoryRow]:
        with linked_folders.read_state(self._pair, self._workspace.state_dir) as state:
            return list(state.history.rows(path, _MOST_ROWS))

    def _run(self, run: int | None, command: str, rows: Sequence[HistoryRow]) -> None:
        with ui.element("section").classes("card"):
            moment = page.time_shown(iso(rows[0].at_ns))
            with ui.element("div").classes("line"):
                page.text(moment, tag="h2")
                page.text(command + (f", run {run}" if run is not None else ""), "tag")
                page.text(_counted(rows), "muted")
                ui.space()
                if run is not None:
                    ui.button(
                        "Take back", icon="undo", on_click=page.once(partial(self._take_back, run))
                    ).props("flat dense")
            shown = [
                (row.path, row.action, row.status, size_shown(row.size), row.reason)
                for row in rows[:_MOST_SHOWN]
            ]
            titles = ("Path", "What", "How it ended", "Size", "Why")
            page.table(titles, shown, (3,), name=f"{moment}, {command}, run {run}")
            if len(rows) > _MOST_SHOWN:
                page.text(f"and {len(rows) - _MOST_SHOWN:,} more", "muted")

    async def _take_back(self, run: int) -> None:
        async with page.errors_shown():
            ended = await self._workspace.in_thread(self._undone, run, True)
            planned = [one for one in ended if one.status == "planned"]
            if not planned:
                show_restored(ended)
            elif await page.confirmed(
                f"Take back what run {run} replaced and deleted?",
                f"{counted(len(planned), 'file')} would be restored in the folder, such as"
                f" {planned[0].entry.path}; what has changed since stays.",
                "Take back",
            ):
                show_restored(await self._workspace.in_thread(self._undone, run, False))
                await self.show()

    def _undone(self, run: int, dry_run: bool) -> list[Restored]:
        with self._workspace.session(self._pair) as session:
            return list(session.trash.restore_run(run, Wanted(), dry_run=dry_run))


def _counted(rows: Iterable[HistoryRow]) -> str:
    counts = Counter(row.action for row in rows)
    return ", ".join(f"{count} {action}" for action, count in counts.most_common())
