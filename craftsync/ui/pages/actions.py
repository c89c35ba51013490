"""Actions on selected objects, with their confirmation, progress and undo."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from nicegui import ui

from craftsync import objects
from craftsync.core.paths import in_trash
from craftsync.datastore import DataStore, stamp_now
from craftsync.engine.review.trash import TrashOfStore
from craftsync.errors import CraftsyncError, UsageError
from craftsync.objects import Entry, Outcome
from craftsync.ui import page
from craftsync.ui.listing import below
from craftsync.ui.workspace import Workspace
from craftsync.wording import counted, size_shown

_MOST_FAILURES = 20


class Undo(NamedTuple):
    """How to undo: moved objects as (target, source), or deleted ones."""

    what: str
    moved: list[tuple[str, str]]
    deleted: list[Outcome]
    store: str = ""
    """The store that moved objects are in now, if it is another one."""


@dataclass(slots=True)
class _Tally:
    """The progress of an action; a thread counts, the page shows the counts."""

    done: int = 0
    bytes: int = 0
    failures: list[str] = field(default_factory=list)
    finished: list[Outcome] = field(default_factory=list)
    stopped: bool = False

    def count(self, outcomes: Iterator[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.error is None:
                self.done += 1
                self.bytes += outcome.size
                self.finished.append(outcome)
            else:
                self.failures.append(f"{outcome.path}: {outcome.error}")
            if self.stopped:
                break


class Work:
    """The actions on the entries selected in a folder of a store."""

    def __init__(self, workspace: Workspace, at: str, folder: str, entries: list[Entry]) -> None:
        self.entries = entries
        self._workspace, self._at, self._folder = workspace, at, folder

    @property
    def _store(self) -> DataStore:
        return self._workspace.store(self._at)

    async def rename(self) -> Undo | None:
        entry = self.entries[0]
        name = entry.path.rpartition("/")[2]
        new = await _answered("Rename", f"New name of {name}", name, "Rename")
        if not new or new == name:
            return None
        _refuse_path(new)
        above = entry.path.rpartition("/")[0]
        target = f"{above}/{new}" if above else new
        if entry.is_folder:
            await self._refuse_taken(target)
        return await self._moved("Rename", [(entry, target)], self._at, overwrite=False)

    async def _refuse_taken(self, folder: str) -> None:
        """Raise `UsageError` if a folder of that name has content: the two would be merged."""
        found = objects.listing(self._store, folder)
        if await self._workspace.in_thread(next, found, None) is not None:
            raise UsageError(
                f"{folder} already exists.", remedy="Choose another name, or move its content."
            )

    async def move(self) -> Undo | None:
        target = await _target(self._workspace, "Move", self._at, self._folder, self.entries)
        if target is None:
            return None
        return await self._moved(
            "Move", target.placed(self.entries), target.store, overwrite=target.overwrite
        )

    async def copy(self) -> Undo | None:
        target = await _target(self._workspace, "Copy", self._at, self._folder, self.entries)
        if target is None:
            return None
        to = self._workspace.store(target.store)
        pairs = _pairs(self._store, target.placed(self.entries))
        outcomes = objects.copy_each(self._store, to, pairs, overwrite=target.overwrite)
        await _carried_out(self._workspace, "Copy", lambda: outcomes)
        return None

    async def _moved(
        self, what: str, placed: list[tuple[Entry, str]], to: str, *, overwrite: bool
    ) -> Undo | None:
        target = self._workspace.store(to)
        pairs = _pairs(self._store, placed)
        outcomes = objects.move_each(self._store, target, pairs, overwrite=overwrite)
        tally = await _carried_out(self._workspace, what, lambda: outcomes)
        moved = [(one.target, one.path) for one in tally.finished]
        return Undo(what.lower(), moved, [], store=to) if moved else None

    async def delete(self) -> Undo | None:
        count = len(self.entries)
        what = self.entries[0].path if count == 1 else counted(count, "entry", "entries")
        sure = await page.confirmed(
            f"Delete {what}?",
            "Folders go with all that is in them. Everything goes to the trash of the store, and"
            " Undo brings it back.",
            "Delete",
        )
        if not sure:
            return None
        outcomes = objects.remove_each(self._store, below(self._store, self.entries))
        tally = await _carried_out(self._workspace, "Delete", lambda: outcomes)
        return Undo("delete", [], tally.finished) if tally.finished else None

    async def take_back(self, undo: Undo) -> None:
        """Undo an action, without replacing objects that exist again."""
        if undo.moved:
            source = self._workspace.store(undo.store)
            outcomes = objects.move_each(source, self._store, undo.moved, overwrite=False)
            await _carried_out(self._workspace, f"Undo {undo.what}", lambda: outcomes)
            return

        def restored() -> Iterator[Outcome]:
            if self._store.opened().features.keeps_versions:
                return _restored(self._store, undo.deleted)
            pairs = [(in_trash(one.stamp, one.path), one.path) for one in undo.deleted]
            return objects.copy_each(self._store, self._store, pairs, overwrite=False)

        await _carried_out(self._workspace, "Undo delete", restored)


def _restored(store: DataStore, deleted: Iterable[Outcome]) -> Iterator[Outcome]:
    """Write the newest version of each deleted object again."""
    trash = TrashOfStore(store.opened_to_change(), stamp_now(), store)
    for path in (one.path for one in deleted):
        try:
            yield Outcome(path, path, trash.bring_back(path))
        except CraftsyncError as error:
            yield Outcome(path, path, 0, error)
    trash.store.barrier()


def _pairs(store: DataStore, placed: Iterable[tuple[Entry, str]]) -> Iterator[tuple[str, str]]:
    """Yield each object with its target, including all below a folder."""
    for entry, target in placed:
        for path in below(store, [entry]):
            yield path, target + path[len(entry.path) :]


async def _carried_out(
    workspace: Workspace, what: str, begin: Callable[[], Iterator[Outcome]]
) -> _Tally:
    """Carry out an action with progress and a stop button, and show the result."""
    tally = _Tally()

    def show() -> None:
        progress.set_text(f"{counted(tally.done, 'object')}, {size_shown(tally.bytes)}")

    def stop() -> None:
        tally.stopped = True

    with ui.dialog().props("persistent") as box, ui.card():
        box.props["aria-label"] = what
        page.text(what, tag="h2")
        progress = page.text("", "muted num")
        with ui.row():
            ui.button("Stop", on_click=stop).props("flat")
        ui.timer(0.3, show)
    opening = ui.timer(0.4, box.open, once=True)
    try:
        await workspace.in_thread(lambda: tally.count(begin()))
    finally:
        opening.deactivate()
        box.close()
        box.delete()
    _notify(what, tally)
    return tally


def _notify(what: str, tally: _Tally) -> None:
    done = f"{what}: {counted(tally.done, 'object')}"
    if tally.stopped:
        done += ", then stopped"
    if not tally.failures:
        ui.notify(done, type="positive")
        return
    with page.dialog(f"{what}: {counted(len(tally.failures), 'object')} stayed") as box:
        page.text(done, "muted")
        for failure in tally.failures[:_MOST_FAILURES]:
            page.text(failure, "wrap")
        if len(tally.failures) > _MOST_FAILURES:
            page.text(f"and {len(tally.failures) - _MOST_FAILURES} more", "muted")
        ui.button("Close", on_click=box.close).props("flat")


def _refuse_path(name: str) -> None:
    if "/" in name or name in {".", ".."}:
        raise UsageError(f"{name} is not a name.", remedy="Use Move to put it into another folder.")


async def _answered(title: str, label: str, value: str, do: str) -> str | None:
    """Ask for a text."""
    with ui.dialog() as box, ui.card():
        box.props["aria-label"] = title
        page.text(title, tag="h2")
        answer = ui.input(label, value=value).props("outlined dense autofocus")
        answer.on("keydown.enter", lambda: box.submit(answer.value))
        with ui.row().classes("line"):
            ui.button(do, on_click=lambda: box.submit(answer.value)).props("unelevated")
            ui.button("Cancel", on_click=lambda: box.submit(None)).props("flat")
    word: str | None = await box
    box.delete()
    return word.strip() if word else None


class _Target(NamedTuple):
    store: str
    folder: str
    overwrite: bool

    def placed(self, entries: Iterable[Entry]) -> list[tuple[Entry, str]]:
        return [
            (entry, f"{self.folder}/{entry.path.rpartition('/')[2]}".strip("/"))
            for entry in entries
        ]


async def _target(
    workspace: Workspace, what: str, at: str, folder: str, entries: list[Entry]
) -> _Target | None:
    stores = {at: at, **page.stores(workspace)}
    with ui.dialog() as box, ui.card():
        box.props["aria-label"] = what
        page.text(f"{what} {counted(len(entries), 'entry', 'entries')}", tag="h2")
        store = page.choice(stores, at, "Store")
        into = ui.input("Folder; empty is the whole store", value=folder).props("outlined dense")
        over = ui.checkbox("Replace what is there; it goes to the trash")
        with ui.row().classes("line"):
            ui.button(what, on_click=lambda: box.submit(True)).props("unelevated")
            ui.button("Cancel", on_click=lambda: box.submit(False)).props("flat")
    sure = await box
    target = _Target(store.value, (into.value or "").strip("/"), over.value)
    box.delete()
    if not sure:
        return None
    for entry in entries:
        if (
            entry.is_folder
            and f"{target.folder}/".startswith(f"{entry.path}/")
            and at == target.store
        ):
            raise UsageError(
                f"{entry.path} cannot go into itself.", remedy="Choose another folder."
            )
    return target


def addresses(at: str, path: str) -> None:
    """Show the addresses of an object."""
    name = path.rpartition("/")[2] or "copy"
    try:
        location = str(DataStore(at).location)
    except CraftsyncError:
        location = at
    address = f"{location}/{path}".rstrip("/")
    lines = {
        "Address": address,
        "Command": f"craftsync get {shlex.quote(at)} {shlex.quote(path)} {shlex.quote(name)}",
        "Python": f"craftsync.DataStore({at!r}).download_data_store_object({path!r}, {name!r})",
    }
    with page.dialog("Use it elsewhere") as box:
        for title, line in lines.items():
            page.text(title, "muted")
            with ui.element("div").classes("line"):
                page.text(line, "mono wrap grow")
                page.icon_button("content_copy", f"Copy {title.lower()}", _copying(line))
        ui.button("Close", on_click=box.close).props("flat")


def _copying(line: str) -> Callable[[], None]:
    def copy() -> None:
        ui.clipboard.write(line)
        ui.notify("Copied")

    return copy
