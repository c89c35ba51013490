"""The page of a store: one level at a time, upload and download, and actions on selected objects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from nicegui import background_tasks, ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from craftsync.objects import Entry
from craftsync.ui import page
from craftsync.ui.listing import Block, Level, Order, sizes
from craftsync.ui.pages import actions
from craftsync.ui.workspace import Workspace, short
from craftsync.wording import counted, size_shown

_ROWS = 120
_SOONEST, _LATEST = 0.03, 0.5
"""Seconds between two updates of a listing under way."""


class Rows(Element, component="store_rows.js"):
    """The visible rows of a level."""


class Uploader(Element, component="store_upload.js"):
    """Accepts files and folders, and sends them to the routes of `transfer`."""


def register(workspace: Workspace) -> None:
    @ui.page("/store")
    async def store(at: str = "", folder: str = "", search: str = "") -> None:
        folder = folder.strip("/")
        title = f"{folder.rpartition('/')[2] or short(at)}" if at else "Stores"
        with page.frame(workspace, title, page.link("/store", at=at) if at else "/store"):
            if at:
                _Browser(workspace, at, folder, search).build()
            else:
                _choose(workspace)


def _choose(workspace: Workspace) -> None:
    """Show a form to open a store."""
    page.text("Open a store", tag="h1")
    page.text(
        "An environment of the configuration, s3://bucket/prefix, craft-ai://, or the path of a folder.",
        "muted",
    )
    stores = page.stores(workspace)
    field = page.word("Store", list(stores)).props("autofocus").style("max-width: 520px")

    def open_it() -> None:
        if field.value:
            ui.navigate.to(page.link("/store", at=field.value.strip()))

    field.on("keydown.enter", open_it)
    with ui.row():
        ui.button("Open", on_click=open_it).props("unelevated")
    with ui.element("div").classes("stack"):
        for word, name in stores.items():
            with ui.element("div").classes("line"):
                ui.link(name, page.link("/store", at=word))
                page.text(word, "muted wrap")


@dataclass
class _Browser:
    """One level of a store in one tab of a browser."""

    workspace: Workspace
    at: str
    folder: str
    search: str
    level: Level = field(init=False)
    rows: Rows = field(init=False)
    window: tuple[int, int] = (0, _ROWS)
    undo: list[actions.Undo] = field(default_factory=list)

    def build(self) -> None:
        with ui.element("div").classes("head"):
            self._crumbs()
            ui.space()
            with ui.element("div").classes("line nowrap").style("flex-wrap: nowrap"):
                self._adding()
        with ui.element("div").classes("line"):
            self._finding()
            ui.space()
            self._selected_buttons()
        self.failed = ui.element("div")
        self.rows = Rows()
        self.rows.on("window", self._on_window)
        self.rows.on("pick", self._on_pick)
        self.rows.on("sort", self._on_sort)
        self.rows.on("open", self._on_open)
        self.rows.on("command", self._on_command)
        self._begin()
        ui.context.client.on_delete(self._leave)

    def _leave(self) -> None:
        self.level.close()

    def _crumbs(self) -> None:
        parts = self.folder.split("/") if self.folder else []
        with ui.element("nav").classes("crumbs").props("aria-label=Folders"):
            if parts:
                ui.link(short(self.at), page.link("/store", at=self.at)).tooltip(self.at)
            for depth, part in enumerate(parts[:-1], 1):
                page.text("/", tag="span").props("aria-hidden=true")
                ui.link(part, self._place("/".join(parts[:depth])))
            if parts:
                page.text("/", tag="span").props("aria-hidden=true")
            page.text(parts[-1] if parts else short(self.at), tag="h1")

    def _adding(self) -> None:
        self.uploader = Uploader()
        self.uploader.props["at"], self.uploader.props["folder"] = self.at, self.folder
        self.uploader.on("chosen", self._on_chosen)
        self.uploader.on("ended", self._on_ended)
        upload = self.uploader
        with ui.button("Upload", icon="upload").props("unelevated"):
            page.menu(
                {
                    "Files": lambda: upload.run_method("chooseFiles"),
                    "Folder": lambda: upload.run_method("chooseFolder"),
                }
            )
        with ui.button(icon="more_vert", color=None).props("flat round dense") as more:
            page.menu(
                {
                    "Download this folder as zip": lambda: self._download([]),
                    "Sizes of folders": self._sizes,
                    "Upload into a new folder": self._new_folder,
                    "List again": self._begin,
                    page.ELSEWHERE: lambda: actions.addresses(self.at, self.folder),
                }
            )
        more.props["aria-label"] = "More"

    def _finding(self) -> None:
        filtered = ui.input(placeholder="Filter  /").props("outlined dense clearable")
        filtered.props["aria-label"] = "Filter"
        filtered.on_value_change(lambda event: self._on_filter(event.value or ""))
        found = ui.input(placeholder="Find below this folder", value=self.search)
        found.props("outlined dense").props["aria-label"] = "Find by name below this folder"
        found.on("keydown.enter", lambda: ui.navigate.to(self._place(self.folder, found.value)))

    def _selected_buttons(self) -> None:
        doing: tuple[tuple[str, str, Callable[[], Any]], ...] = (
            ("Download", "download", lambda: self._download(self.level.picked())),
            ("Rename", "edit", lambda: self._command("rename")),
            ("Move", "drive_file_move", lambda: self._command("move")),
            ("Copy", "content_copy", lambda: self._command("copy")),
            ("Delete", "delete", lambda: self._command("delete")),
            (page.ELSEWHERE, "link", lambda: self._command("address")),
        )
        with ui.element("div").classes("line") as self.doing:
            self.buttons = [page.icon_button(icon, name, do) for name, icon, do in doing]
        self.undoing = page.icon_button("undo", "Undo", lambda: self._command("undo"))

    def _place(self, folder: str, search: str = "") -> str:
        values = {"at": self.at, "folder": folder, "search": search}
        return page.link("/store", **{name: value for name, value in values.items() if value})

    def _begin(self) -> None:
        """List the level, and show it."""
        store = self.workspace.store(self.at)
        order, wanted = Order(), ""
        if hasattr(self, "level"):
            self.level.stopped = True
            order, wanted = self.level.order, self.level.filter
        self.level = Level(store, self.folder, self.search, order, wanted)
        background_tasks.create(self._load(self.level), context=self.failed)

    async def _load(self, level: Level) -> None:
        self.failed.clear()
        filling = asyncio.ensure_future(self.workspace.in_thread(_exhaust, level))
        wait, seen = _SOONEST, -1
        while not filling.done():
            await asyncio.wait([filling], timeout=wait)
            if len(level.entries) != seen:
                seen = len(level.entries)
                await self._arrange(level)
                wait = min(2 * wait, _LATEST)
        await self._arrange(level)
        if level.error is not None and not self.failed.is_deleted:
            page.failure(level.error)

    async def _arrange(self, level: Level) -> None:
        await self.workspace.in_thread(level.arrange)
        if level is self.level and not self.rows.is_deleted:
            self._send()

    def _send(self) -> None:
        level = self.level
        self.rows.props.update(
            rows=[self._row(at, entry) for at, entry in level.window(*self.window)],
            total=len(level.shown),
            selected=len(level.selected),
            sort=level.order.column,
            reverse=level.order.reverse,
            foot=_foot(level),
            nothing=_nothing(level),
        )
        for button in self.buttons:
            button.set_enabled(bool(level.selected))
        self.doing.classes(**{"remove" if level.selected else "add": "hide-small"})
        self.undoing.set_visibility(bool(self.undo))

    def _row(self, at: int, entry: Entry) -> dict[str, Any]:
        level = self.level
        return {
            "at": at,
            "path": entry.path,
            "name": level.name(entry),
            "folder": entry.is_folder,
            "selected": entry.path in level.selected,
            "href": self._href(entry),
            "size": "" if (size := level.size(entry)) is None else size_shown(size),
            "time": page.time_shown(entry.last_modified),
        }

    def _href(self, entry: Entry) -> str:
        if entry.is_folder:
            return self._place(entry.path)
        return page.link("/object", at=self.at, path=entry.path)

    def _on_window(self, event: GenericEventArguments) -> None:
        start = int(event.args["start"])
        self.window = (start, min(int(event.args["end"]), start + 4 * _ROWS))
        self._send()

    def _on_pick(self, event: GenericEventArguments) -> None:
        asked = event.args
        self.level.select(self._row_of(asked), str(asked["how"]), int(asked.get("since") or 0))
        self._send()

    def _row_of(self, asked: dict[str, Any]) -> int:
        return self.level.row(int(asked["row"]), asked.get("path"))

    async def _on_sort(self, event: GenericEventArguments) -> None:
        column, before = str(event.args), self.level.order
        self.level.order = Order(column, column == before.column and not before.reverse)
        await self._arrange(self.level)

    async def _on_filter(self, wanted: str) -> None:
        self.level.filter = wanted
        await self._arrange(self.level)
        self.rows.run_method("top")

    def _on_open(self, event: GenericEventArguments) -> None:
        entry = self.level.at(self._row_of(event.args))
        if entry is not None:
            ui.navigate.to(self._href(entry))

    async def _on_command(self, event: GenericEventArguments) -> None:
        entry = self.level.at(self._row_of(event.args))
        if not self.level.selected and entry is not None:
            self.level.selected = {entry.path}
        await self._command(str(event.args["name"]))

    async def _command(self, name: str) -> None:
        if name == "up":
            if self.folder:
                ui.navigate.to(self._place(self.folder.rpartition("/")[0]))
            return
        work = actions.Work(self.workspace, self.at, self.folder, self.level.picked())
        doing: dict[str, Callable[[], Awaitable[actions.Undo | None]]] = {
            "rename": work.rename,
            "move": work.move,
            "copy": work.copy,
            "delete": work.delete,
        }
        if name == "address" and work.entries:
            actions.addresses(self.at, work.entries[0].path)
        elif name == "undo" and self.undo:
            async with page.errors_shown():
                await work.take_back(self.undo.pop())
            self._begin()
        elif name in doing and work.entries:
            async with page.errors_shown():
                if undo := await doing[name]():
                    self.undo.append(undo)
            self._begin()

    def _download(self, entries: list[Entry]) -> None:
        if len(entries) == 1 and not entries[0].is_folder:
            ui.navigate.to(page.link("/transfer/object", at=self.at, path=entries[0].path))
            return
        query = [("at", self.at), ("folder", self.folder)]
        query += [("path", entry.path) for entry in entries]
        ui.navigate.to(f"/transfer/zip?{urlencode(query)}")

    def _new_folder(self) -> None:
        with page.dialog("Upload into a new folder") as box:
            page.text(
                "A store has folders only by what is in them: choose its files next.", "muted"
            )
            name = ui.input("Name of the folder").props("outlined dense autofocus")

            def choose() -> None:
                new = (name.value or "").strip("/")
                self.uploader.props["folder"] = f"{self.folder}/{new}".strip("/")
                self.uploader.run_method("chooseFiles")
                box.close()

            ui.button("Choose files", on_click=choose).props("unelevated")

    async def _on_chosen(self, event: GenericEventArguments) -> None:
        chosen = event.args
        do: str | None = "keep"
        known = self.level.names() if self.uploader.props["folder"] == self.folder else set()
        if clash := sorted(known & set(chosen["names"])):
            do = await _asked_of_upload(clash)
        if do:
            self.uploader.run_method("start", do == "replace")

    def _on_ended(self, event: GenericEventArguments) -> None:
        ended = event.args
        self.uploader.props["folder"] = self.folder
        summary = [counted(ended["done"], "file") + " uploaded"]
        summary += [f"{ended['skipped']} kept as they were"] if ended["skipped"] else []
        summary += [f"{ended['failed']} failed"] if ended["failed"] else []
        summary += [f"{ended['left']} not sent"] if ended["left"] else []
        ui.notify(", ".join(summary), type="warning" if ended["failed"] else "positive")
        self._begin()

    async def _sizes(self) -> None:
        """Compute the size of each folder, and show what uses the space."""
        ui.notify("Computing the sizes of the folders")
        async with page.errors_shown():
            store = self.workspace.store(self.at)
            self.level.sizes, blocks = await self.workspace.in_thread(sizes, store, self.folder)
            await self._arrange(self.level)
            with page.dialog("What takes space") as box:
                total = sum(block.bytes for block in blocks)
                page.text(f"{size_shown(total)} in all", "muted")
                if total:
                    ui.echart(_treemap(blocks)).style("height: 55vh; width: min(86vw, 680px)")
                ui.button("Close", on_click=box.close).props("flat")


async def _asked_of_upload(clash: list[str]) -> str | None:
    """Ask what to do with existing objects: `replace` or `keep`; `None` to upload nothing."""
    some = ", ".join(clash[:3]) + (" …" if len(clash) > 3 else "")
    with ui.dialog() as box, ui.card():
        box.props["aria-label"] = "Upload"
        page.text(f"{counted(len(clash), 'name')} of these exist already", tag="h2")
        page.text(some, "wrap")
        page.text("What is replaced stays in the trash of the store.", "muted")
        with ui.row().classes("line"):
            ui.button("Replace", on_click=lambda: box.submit("replace")).props("unelevated")
            ui.button("Keep what is there", on_click=lambda: box.submit("keep")).props("outline")
            ui.button("Cancel", on_click=lambda: box.submit(None)).props("flat")
    answer: str | None = await box
    box.delete()
    return answer


def _exhaust(level: Level) -> None:
    for _ in level.fill():
        pass


def _foot(level: Level) -> str:
    shown = counted(len(level.shown), "entry", "entries")
    if len(level.shown) != len(level.entries):
        shown += f" of {len(level.entries):,}"
    if level.selected:
        shown += f"; {len(level.selected):,} selected, {size_shown(level.picked_bytes())}"
    if level.skipped:
        shown += f"; {len(level.skipped):,} names that no folder can hold are left out"
    if not level.complete and level.error is None:
        shown += "; listing …"
    return shown


def _nothing(level: Level) -> str:
    if level.error is not None:
        return "Nothing could be listed."
    if not level.complete:
        return "Listing …"
    if level.filter or level.search:
        return "Nothing has such a name. Clear the filter, or search for less."
    return "Nothing is here yet. Drop files or folders onto the page, or choose Upload."


def _treemap(blocks: list[Block]) -> dict[str, Any]:
    def data(block: Block) -> dict[str, Any]:
        name = f"{block.name}, {size_shown(block.bytes)}"
        parts = [data(part) for part in block.parts]
        return {"name": name, "value": block.bytes, **({"children": parts} if parts else {})}

    series = {
        "type": "treemap",
        "data": [data(block) for block in blocks],
        "roam": False,
        **dict.fromkeys(("left", "right", "top", "bottom"), 0),
        "breadcrumb": {"show": False},
        "leafDepth": 2,
        "label": {"fontSize": 11},
        "levels": [
            {"itemStyle": {"borderWidth": 0, "gapWidth": 3}},
            {
                "itemStyle": {"borderColor": "#59636e", "borderWidth": 2, "gapWidth": 1},
                "upperLabel": {"show": True, "height": 20, "color": "#fff"},
            },
        ],
        "color": ["#4a7299", "#5d805d", "#96703f", "#7d6499", "#4e7f83", "#995a68"],
    }
    return {"tooltip": {"show": False}, "animation": False, "series": [series]}
