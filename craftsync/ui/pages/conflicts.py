"""The page of conflicts: both versions side by side, their differences, and which one to keep."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from posixpath import splitext
from typing import NamedTuple

from nicegui import background_tasks, ui

from craftsync.clock import SystemClock, iso, stamp
from craftsync.config.pairs import Pair
from craftsync.core.model import LocalFile
from craftsync.engine.review.conflicts import (
    Conflict,
    Keep,
    Resolved,
    Resolving,
    by_file,
    find,
    find_exactly,
)
from craftsync.engine.review.selection import Selection
from craftsync.errors import UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.history import KeptVersion, Outside
from craftsync.ui import page
from craftsync.ui.content import IMAGES
from craftsync.ui.pages import preview
from craftsync.ui.workspace import Workspace
from craftsync.wording import counted, size_shown

_MOST_SHOWN = 200
_LONGEST_TEXT = 256 << 10
_MOST_LINES = 1000
_MOST_ROWS = 200
_KEEPS = {
    Keep.LOCAL: "Keep the folder's",
    Keep.REMOTE: "Keep the store's",
    Keep.BOTH: "Keep both",
    Keep.NEWER: "Keep the newer",
}
_TABLES = {".csv", ".tsv"}


def register(workspace: Workspace) -> None:
    @ui.page("/conflicts")
    async def conflicts(folder: str = "") -> None:
        with page.frame(workspace, "Conflicts", "/conflicts"):
            with ui.element("div").classes("head"):
                page.text("Conflicts", tag="h1")
                ui.space()
                pair = page.folder_choice(workspace, "/conflicts", folder)
            box = ui.element("div").classes("stack")
        if pair is not None:
            view = _Conflicts(workspace, pair, box)
            background_tasks.create(view.show(), context=box)


class _Conflicts:
    """The conflicts of a linked folder."""

    def __init__(self, workspace: Workspace, pair: Pair, box: ui.element) -> None:
        self._workspace, self._pair, self._box = workspace, pair, box
        self._host = ui.context.client.request.url.hostname or ""
        self._chosen: dict[str, ui.checkbox] = {}

    async def show(self) -> None:
        await page.filled(self._box, self._build)

    async def _build(self) -> None:
        self._chosen = {}
        files = await self._workspace.in_thread(self._files)
        if not files:
            page.empty(
                "done_all",
                "No conflict copy found.",
                "Where both sides change a file, both versions stay, and wait here for you.",
            )
            return
        self._many(len(files))
        for path, found in list(files.items())[:_MOST_SHOWN]:
            self._card(path, found)
        if len(files) > _MOST_SHOWN:
            page.text(
                f"{len(files) - _MOST_SHOWN:,} more are shown once these are settled.", "muted"
            )

    def _files(self) -> dict[str, list[Conflict]]:
        with self._opened() as (root, rules):
            return by_file(find(root, rules))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Folder, IgnoreRules]]:
        settings = self._pair.settings
        with Folder.open(self._pair.root) as root:
            root.reserve = self._pair.reserve
            yield root, IgnoreRules(root, include=settings.include, exclude=settings.exclude)

    def _many(self, count: int) -> None:
        """Offer to settle several at once."""
        with ui.element("div").classes("line"):
            page.text(counted(count, "file"), "muted")
            ui.button("Select all", on_click=self._select_all).props("flat dense")
            for keep, name in _KEEPS.items():
                do = partial(self._settle_chosen, keep)
                ui.button(
                    f"{name} of selected" if keep is not Keep.BOTH else "Keep both of selected",
                    on_click=page.once(do),
                ).props("outline dense")

    def _select_all(self) -> None:
        for box in self._chosen.values():
            box.value = True

    async def _settle_chosen(self, keep: Keep) -> None:
        chosen = [path for path, box in self._chosen.items() if box.value]
        if not chosen:
            ui.notify("Select files first.")
            return
        await self._settle(keep, chosen)

    async def _settle(self, keep: Keep, paths: Sequence[str]) -> None:
        async with page.errors_shown():
            ended = await self._workspace.in_thread(self._settled, keep, paths)
            _notify(ended, keep)
        await self.show()

    def _settled(self, keep: Keep, paths: Sequence[str]) -> list[Resolved]:
        """Settle conflicts in the folder; a daemon, or the next run, transfers that to the store."""
        clock = SystemClock()
        with self._opened() as (root, rules):
            kept = Outside(self._workspace.state_dir, os.path.realpath(root.path))

            def note(versions: list[KeptVersion]) -> None:
                kept.note(versions, clock.now_ns())

            files = by_file(find_exactly(root, rules, Selection(tuple(paths))))
            meant = [found for path, found in files.items() if path in set(paths)]
            if not meant:
                raise UsageError("These conflicts are already settled.")
            return list(Resolving(root, keep, stamp(clock), note).run(meant))

    def _card(self, path: str, found: Sequence[Conflict]) -> None:
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = path
            with ui.element("div").classes("line"):
                self._chosen[path] = ui.checkbox()
                self._chosen[path].props["aria-label"] = f"Select {path}"
                page.text(path, tag="h2")
            for conflict in found:
                self._versions(conflict)
            with ui.element("div").classes("line"):
                for keep, name in _KEEPS.items():
                    do = partial(self._settle, keep, [path])
                    ui.button(name, on_click=page.once(do)).props("outline dense")
                place = ui.element("div").classes("stack")
                comparing = partial(self._compare, found[-1], place)
                ui.button("What differs", icon="difference", on_click=page.once(comparing)).props(
                    "flat dense"
                )
            place.move(card)

    def _versions(self, conflict: Conflict) -> None:
        with ui.element("div").classes("two"):
            for title, file in (("Folder", conflict.local), ("Store", conflict.copy)):
                with ui.element("div").classes("stack"):
                    page.text(title, "muted")
                    page.text(_facts(file))

    async def _compare(self, conflict: Conflict, place: ui.element) -> None:
        async def build() -> None:
            kind = splitext(conflict.path)[1].lower()
            if kind in IMAGES:
                self._images(conflict)
                return
            texts = await self._workspace.in_thread(self._texts, conflict)
            _show_difference(texts, as_table=kind in _TABLES)

        await page.filled(place, build)

    def _images(self, conflict: Conflict) -> None:
        """Show both images; they are served like any other file of the folder."""
        with ui.element("div").classes("two shown"):
            for title, file in (("Folder", conflict.local), ("Store", conflict.copy)):
                if file is not None:
                    address = self._workspace.content.url(
                        self._host, str(self._pair.root), file.path
                    )
                    image = ui.element("img")
                    image.props["src"], image.props["alt"] = address, title

    def _texts(self, conflict: Conflict) -> tuple[str, str] | None:
        """Return both versions as text, `None` if one is not a short text."""
        found = []
        store = self._workspace.store(str(self._pair.root))
        for file in (conflict.local, conflict.copy):
            if file is None:
                found.append("")
                continue
            text = preview.Content(store, file.path, file.size).text(_LONGEST_TEXT)
            if text is None or file.size > _LONGEST_TEXT:
                return None
            found.append(text)
        return found[0], found[1]


def _facts(file: LocalFile | None) -> str:
    if file is None:
        return "Not there any more"
    return f"{size_shown(file.size)}, modified {page.time_shown(iso(file.mtime_ns))}"


def _notify(ended: Sequence[Resolved], keep: Keep) -> None:
    left = [one for one in ended if one.status != "done"]
    done = counted(len(ended) - len(left), "file")
    more = "" if keep is Keep.BOTH else "; what went is in the trash"
    if not left:
        ui.notify(f"{done} settled{more}", type="positive")
        return
    with page.dialog(f"{done} settled, {len(left)} left") as box:
        page.table(("File", "Why"), [(one.path, one.reason) for one in left])
        ui.button("Close", on_click=box.close).props("flat")


def _show_difference(texts: tuple[str, str] | None, *, as_table: bool) -> None:
    if texts is None:
        page.text("Not both are short texts: download them to compare.", "muted")
        return
    if as_table:
        _show_rows(table_difference(*texts))
        return
    ours, theirs = (text.splitlines() for text in texts)
    lines = list(difflib.unified_diff(ours, theirs, "folder", "store", lineterm=""))[2:]
    if not lines:
        page.text("No line differs.", "muted")
        return
    marks = {"+": "add", "-": "del", "@": "at"}
    shown = lines[:_MOST_LINES]
    preview.numbered(shown, [marks.get(line[:1], "") for line in shown], diff=True)


class Row(NamedTuple):
    """A row that differs: `mark` is + (only in the store), - (only in the folder) or ~ (changed), with the changed columns."""

    mark: str
    cells: list[str]
    changed: frozenset[int] = frozenset()
    before: Sequence[str] = ()


def table_difference(folder: str, store: str) -> tuple[list[str], list[Row], str]:
    """Return titles, the rows that differ, and the column that identifies rows (empty: their position)."""
    ours, theirs = (
        list(csv.reader(io.StringIO(text), delimiter=preview.delimiter(text)))
        for text in (folder, store)
    )
    titles = theirs[0] if theirs else ours[0] if ours else []
    key = _key_of(ours, theirs)
    name = "" if key is None else titles[key]
    mine, other = _by_key(ours[1:], key), _by_key(theirs[1:], key)
    rows = []
    for each in dict.fromkeys([*mine, *other]):
        local, remote = mine.get(each), other.get(each)
        if local is None and remote is not None:
            rows.append(Row("+", remote))
        elif remote is None and local is not None:
            rows.append(Row("-", local))
        elif local is not None and remote is not None and local != remote:
            width = max(len(local), len(remote))
            changed = (at for at in range(width) if local[at : at + 1] != remote[at : at + 1])
            rows.append(Row("~", remote, frozenset(changed), local))
    return titles, rows, name


def _key_of(*tables: list[list[str]]) -> int | None:
    """Return the first column that both have, without repeated values."""
    if not all(tables) or tables[0][0] != tables[1][0]:
        return None
    for at in range(len(tables[0][0])):
        columns = [[row[at] for row in table[1:] if at < len(row)] for table in tables]
        if all(
            len(set(column)) == len(column) == len(table) - 1
            for column, table in zip(columns, tables, strict=True)
        ):
            return at
    return None


def _by_key(rows: list[list[str]], key: int | None) -> dict[str, list[str]]:
    if key is None:
        return {str(number): row for number, row in enumerate(rows, 1)}
    return {row[key]: row for row in rows}


def _show_rows(found: tuple[list[str], list[Row], str]) -> None:
    titles, rows, key = found
    if not rows:
        page.text("No row differs.", "muted")
        return
    known = f"rows are known by {key}" if key else "rows are known by their place"
    page.text(f"{counted(len(rows), 'row')} differ; {known}", "muted")
    region = ui.element("div").classes("framed").props("tabindex=0 role=region aria-label=Rows")
    with region, ui.element("table").classes("rows"):
        with ui.element("thead"), ui.element("tr"):
            for title in ("What differs", *titles):
                page.text(title, tag="th").props("scope=col")
        with ui.element("tbody"):
            for row in rows[:_MOST_ROWS]:
                _show_row(row)
    if len(rows) > _MOST_ROWS:
        page.text(f"and {len(rows) - _MOST_ROWS:,} more", "muted")


_MARKS = {"+": "only in the store", "-": "only in the folder", "~": "changed"}


def _show_row(row: Row) -> None:
    with ui.element("tr"):
        page.text(_MARKS[row.mark], "key", "td")
        for at, cell in enumerate(row.cells):
            if at in row.changed:
                before = row.before[at] if at < len(row.before) else ""
                page.text(f"{before} → {cell}", "changed", "td")
            else:
                page.text(cell, {"+": "changed", "-": "before"}.get(row.mark, ""), "td")
