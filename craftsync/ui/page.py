"""The frame around every page, and the small parts that pages are made of.

All text goes through elements that set text and never markup, so the name of an
object can never act as markup.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from nicegui import ui
from nicegui.elements.mixins.disableable_element import DisableableElement
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import ClickEventArguments

from craftsync.config.pairs import Pair
from craftsync.errors import CraftsyncError
from craftsync.ui.workspace import Workspace, key_of, name_of

_STYLE = (Path(__file__).parent / "style.css").read_text()
ELSEWHERE = "Address, command, Python"
_READY = """document.body.classList.add("ready"); document.querySelector("[data-autofocus]")?.focus();
  document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest" })"""
_FILLING: WeakKeyDictionary[ui.element, asyncio.Task[None]] = WeakKeyDictionary()
"""The task that builds the content of a box."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the navigation."""

    name: str
    icon: str
    address: str


_REVIEW = (
    Entry("Conflicts", "call_split", "/conflicts"),
    Entry("Held deletes", "pan_tool", "/deletes"),
    Entry("Trash", "restore_from_trash", "/trash"),
    Entry("History", "history", "/history"),
)
_WORK = (
    Entry("Migrate", "drive_file_move", "/migrate"),
    Entry("Plan", "fact_check", "/plan"),
    Entry("Configuration", "tune", "/config"),
    Entry("Doctor", "health_and_safety", "/doctor"),
)


def link(path: str, /, **values: str) -> str:
    """Return the address of a page with its parameters."""
    return f"{path}?{urlencode(values)}" if values else path


@contextmanager
def frame(workspace: Workspace, title: str, current: str) -> Iterator[None]:
    """Build the header and the navigation; the block builds the page. `current` is its address."""
    ui.add_css(_STYLE)
    ui.page_title(f"{title} · craftsync")
    dark = ui.dark_mode(workspace.theme)
    # Before the connection is open, keystrokes and clicks would reach the server late and out of
    # order, so the page appears only once it can be used.
    client = ui.context.client
    client.on_connect(lambda: client.run_javascript(_READY))
    with (
        ui.left_drawer(value=False, bordered=False)
        .classes("side")
        .props("show-if-above width=216 breakpoint=860 role=navigation aria-label=Pages") as drawer
    ):
        _navigation(workspace, current)
    with ui.header().classes("bar"):
        icon_button("menu", "Pages", drawer.toggle)
        ui.link("craftsync", "/").classes("brand")
        ui.space()
        icon_button("contrast", "Light or dark", lambda: _next_theme(workspace, dark))
        icon_button("add_link", "Link for another browser", lambda: _link_dialog(workspace))
    yield


def stores(workspace: Workspace) -> dict[str, str]:
    """Return {STORE: name} of the stores to browse; empty if the configuration cannot be read."""
    try:
        return workspace.stores()
    except CraftsyncError:
        return {}  # The configuration page shows the error.


def _navigation(workspace: Workspace, current: str) -> None:
    _entry(Entry("Overview", "dashboard", "/"), current)
    text("Stores", "group")
    for each, name in stores(workspace).items():
        _entry(Entry(name, "storage", link("/store", at=each)), current).tooltip(each)
    _entry(Entry("Open another store", "add", "/store"), current)
    text("Review", "group")
    for one in _REVIEW:
        _entry(one, current)
    text("Work", "group")
    for one in _WORK:
        _entry(one, current)


def _entry(entry: Entry, current: str) -> ui.link:
    with ui.link(target=entry.address) as shown:
        ui.icon(entry.icon).props("aria-hidden=true")
        text(entry.name, "cut", "span")
    if entry.address == current:
        shown.props("aria-current=page")
    return shown


def _next_theme(workspace: Workspace, dark: ui.dark_mode) -> None:
    after = {None: True, True: False, False: None}
    workspace.theme = dark.value = after[workspace.theme]
    ui.notify({None: "As the system has it", True: "Dark", False: "Light"}[workspace.theme])


def _link_dialog(workspace: Workspace) -> None:
    origin = str(ui.context.client.request.base_url).rstrip("/")
    address = f"{origin}/?token={workspace.access.mint()}"
    with dialog("Link for another browser") as box:
        text(
            "It opens this page once. Anyone with this link can do everything that you can do here.",
            "muted",
        )
        text(address, "mono wrap")
        with ui.row().classes("line"):
            ui.button("Copy", on_click=lambda: ui.clipboard.write(address)).props("unelevated")
            ui.button("Close", on_click=box.close).props("flat")


def text(content: object, classes: str = "", tag: str = "div") -> TextElement:
    """Show text; never as markup."""
    element = TextElement(tag=tag, text=str(content))
    return element.classes(classes) if classes else element


def icon_button(icon: str, name: str, on_click: Callable[[], object]) -> ui.button:
    """A round button; `name` is its tooltip and its name for screen readers."""
    button = ui.button(icon=icon, on_click=on_click, color=None).props("flat round dense")
    button.props["aria-label"] = name
    return button.tooltip(name)


def once(do: Callable[[], Awaitable[None]]) -> Callable[[ClickEventArguments], Awaitable[None]]:
    """Return a click handler that calls `do`; until it has finished, the button is disabled."""

    async def act(event: ClickEventArguments) -> None:
        button = event.sender
        # A second click may have been sent before the browser disabled the button.
        if not isinstance(button, DisableableElement) or not button.enabled:
            return
        button.disable()
        try:
            await do()
        finally:
            if not button.is_deleted:
                button.enable()

    return act


def menu(items: Mapping[str, Callable[[], object]]) -> None:
    """Make the enclosing button open a menu of actions."""
    with ui.menu():
        for name, do in items.items():
            ui.menu_item(name, do).props("role=menuitem")


@contextmanager
def dialog(title: str) -> Iterator[ui.dialog]:
    """Open a dialog; its content is built in the block."""
    with ui.dialog() as box, ui.card():
        box.props["aria-label"] = title
        box.on("hide", box.delete)
        text(title, tag="h2")
        yield box
    box.open()


async def confirmed(question: str, detail: str, do: str) -> bool:
    """Ask for confirmation before an action that cannot be undone, or transfers much."""
    with ui.dialog() as box, ui.card():
        box.props["aria-label"] = question
        text(question, tag="h2")
        text(detail, "muted wrap")
        with ui.row().classes("line"):
            ui.button(do, on_click=lambda: box.submit(True)).props("unelevated")
            ui.button("Cancel", on_click=lambda: box.submit(False)).props("flat")
    answer = await box
    box.delete()
    return bool(answer)


def empty(icon: str, what: str, do: str = "") -> None:
    """Show that there is no content, and what to do."""
    with ui.element("div").classes("empty"):
        ui.icon(icon).props("aria-hidden=true")
        text(what)
        if do:
            text(do, "muted")


def failure(error: Exception) -> None:
    """Show what went wrong and what to do about it."""
    with ui.element("div").classes("failure").props("role=alert"):
        text(message_of(error), "what")
        if remedy := getattr(error, "remedy", ""):
            text(remedy)


def message_of(error: Exception) -> str:
    if isinstance(error, CraftsyncError):
        return str(error)
    _log.error("the page failed", exc_info=error)
    return f"This went wrong: {error!r}"


@asynccontextmanager
async def errors_shown() -> AsyncIterator[None]:
    """Show an error of the block, and continue."""
    try:
        yield
    except CraftsyncError as error:
        ui.notify(
            f"{error} {error.remedy}".rstrip(),
            type="negative",
            timeout=0,
            close_button="Close",
        )


async def filled(box: ui.element, build: Callable[[], Awaitable[None]]) -> None:
    """Replace the content of `box` with what `build` makes, asynchronously; show its error there.

    An earlier `build` into the same box that has not finished is cancelled.
    """
    if before := _FILLING.get(box):
        before.cancel()
    _FILLING[box] = task = asyncio.ensure_future(_fill(box, build))
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _fill(box: ui.element, build: Callable[[], Awaitable[None]]) -> None:
    box.clear()
    with box:
        waiting = ui.spinner(size="22px").props('role=status aria-label="Loading"')
        try:
            await build()
        except CraftsyncError as error:
            if not box.is_deleted:
                with box:
                    failure(error)
        finally:
            if not waiting.is_deleted:
                waiting.delete()


class Part:
    """A part of the page that is rebuilt only if its content has changed.

    So updates do not disturb a user who clicks, reads or tabs through the page.
    """

    def __init__(self) -> None:
        self._box = ui.element("div").classes("part")
        self._shown: object = None

    def show(self, shown: object, build: Callable[[], None]) -> None:
        """Build the content for the value `shown`, unless that value is already shown."""
        if shown == self._shown or self._box.is_deleted:
            return
        self._shown = shown
        self._box.clear()
        with self._box:
            build()


def facts(rows: Mapping[str, object]) -> None:
    """Show names and values, without empty values."""
    with ui.element("dl").classes("facts"):
        for name, value in rows.items():
            if value not in (None, ""):
                text(name, tag="dt")
                text(value, tag="dd")


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: Sequence[int] = (),
    *,
    name: str = "Table",
) -> None:
    """Show a table of text; `numbers` are the right-aligned columns, `name` is its label for screen readers."""
    region = ui.element("div").classes("framed").props("tabindex=0 role=region")
    region.props["aria-label"] = name
    with region, ui.element("table").classes("rows"):
        with ui.element("thead"), ui.element("tr"):
            for number, title in enumerate(titles):
                text(title, "num" if number in numbers else "", "th").props("scope=col")
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for number, value in enumerate(row):
                        text(value, "num" if number in numbers else "", "td")


def time_shown(moment: str | None) -> str:
    """Return an ISO time in this machine's time zone, to the minute."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def clock_shown(moment: str | None) -> str:
    """Return the time of day of an ISO time in this machine's time zone, to the second."""
    return datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S") if moment else ""


def choice(options: Mapping[str, str], value: str | None, name: str, **more: Any) -> ui.select:
    """Make a field to choose one of several options."""
    field = ui.select(dict(options), value=value, label=name, **more)
    return field.props("dense outlined options-dense").classes("field")


def word(name: str, offered: Sequence[str]) -> ui.input:
    """Make a text field for which the browser suggests the `offered` words."""
    field = ui.input(name).props("outlined dense")
    with ui.element("datalist") as known:
        known.props["id"] = (
            f"{field.html_id}-datalist"  # NiceGUI's fields refer to a list with this id.
        )
        for one in offered:
            ui.element("option").props["value"] = one
    return field


def folder_choice(workspace: Workspace, address: str, key: str) -> Pair | None:
    """Show a choice of linked folders; return the one that `key` names, or the first.

    If there is none, show the reason and return `None`.
    """
    try:
        found = {key_of(pair): pair for pair in workspace.pairs()}
        if found and key and key not in found:
            workspace.pair(key)
    except CraftsyncError as error:
        failure(error)
        return None
    if not found:
        empty(
            "folder_off",
            "No folder is linked to a store yet.",
            "Link one on the page Configuration.",
        )
        ui.link("Configuration", "/config")
        return None
    chosen = key or next(iter(found))
    names = {each: name_of(pair) if pair.folder else each for each, pair in found.items()}
    field = choice(names, chosen, "Folder").style("min-width: min(240px, 100%)")
    field.on_value_change(lambda event: ui.navigate.to(link(address, folder=event.value)))
    return found[chosen]
