"""Previews of objects, from their beginning; nothing in an object is ever run.

Text stays text, HTML and SVG too. Images, sounds and PDF files are shown from
the second origin (`content`). Only ranges are read, never a whole large object.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from posixpath import basename, splitext
from typing import Any

from nicegui import background_tasks, ui

from craftsync.datastore import DataStore
from craftsync.errors import CraftsyncError
from craftsync.install_hint import pip_command
from craftsync.ui import page
from craftsync.ui.content import IMAGES, PDF, SHOWN, SOUNDS
from craftsync.ui.pages import actions
from craftsync.ui.workspace import Workspace, short
from craftsync.wording import counted, size_shown

_HEAD = 256 << 10
_TABLE_HEAD = 1 << 20
_MOST_LINES = 5_000
_MOST_ROWS = 500
_MOST_COLUMNS = 60
_LONGEST_CELL = 300
_LARGEST_SHOWN = 64 << 20
"""The largest image or PDF file, in bytes, to send to a browser."""
_LARGEST_GROUP = 64 << 20
"""The largest row group of a Parquet file, in bytes, to read for its first rows."""
_BINS = 20
_GREY = "#868f98"
"""The colour of drawings, on light and on dark backgrounds."""


def register(workspace: Workspace) -> None:
    @ui.page("/object")
    async def shown(at: str, path: str) -> None:
        with page.frame(workspace, basename(path), page.link("/store", at=at)):
            _head(at, path)
            box = ui.element("div").classes("stack")
        view = _View(workspace, at, path, ui.context.client.request.url.hostname or "")
        background_tasks.create(page.filled(box, view.build), context=box)


def _head(at: str, path: str) -> None:
    folder, _, name = path.rpartition("/")
    with ui.element("div").classes("head"):
        with ui.element("nav").classes("crumbs").props("aria-label=Folders"):
            ui.link(short(at), page.link("/store", at=at)).tooltip(at)
            parts = folder.split("/") if folder else []
            for depth, part in enumerate(parts, 1):
                page.text("/", tag="span").props("aria-hidden=true")
                ui.link(part, page.link("/store", at=at, folder="/".join(parts[:depth])))
            page.text("/", tag="span").props("aria-hidden=true")
            page.text(name, tag="h1")
        ui.space()
        address = page.link("/transfer/object", at=at, path=path)
        ui.button("Download", icon="download", on_click=lambda: ui.navigate.to(address)).props(
            "unelevated"
        )
        page.icon_button("link", "Address, command, Python", lambda: actions.addresses(at, path))


@dataclass(slots=True)
class _View:
    """One object on one page."""

    workspace: Workspace
    at: str
    path: str
    host: str

    async def build(self) -> None:
        store = self.workspace.store(self.at)
        found = await self.workspace.in_thread(store.get_data_store_object_information, self.path)
        size = found["size"]
        moment = page.time_shown(found["last_modified"])
        exactly = f" ({size:,} bytes)" if size >= 1024 else ""
        page.text(f"{size_shown(size)}{exactly}" + (f", {moment}" if moment else ""), "muted")
        kind = splitext(self.path)[1].lower()
        if kind in SHOWN:
            self._shown(kind, size)
            return
        showing = _KINDS.get(kind, show_text)
        ready = await self.workspace.in_thread(showing, Content(store, self.path, size))
        ready()

    def _shown(self, kind: str, size: int) -> None:
        if size > _LARGEST_SHOWN and kind not in SOUNDS:
            page.empty(
                "image_not_supported",
                f"Too large to show here ({size_shown(size)}).",
                "Download it.",
            )
            return
        address = self.workspace.content.url(self.host, self.at, self.path)
        name = basename(self.path)
        with ui.element("div").classes("shown"):
            if kind in IMAGES:
                element = ui.element("img")
                element.props["src"], element.props["alt"] = address, name
            elif kind in SOUNDS:
                element = ui.element("audio").props("controls preload=metadata")
                element.props["src"], element.props["aria-label"] = address, name
            elif kind in PDF:
                element = ui.element("iframe")
                element.props["src"], element.props["title"] = address, name


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of an object, read by ranges."""

    store: DataStore
    path: str
    size: int

    def head(self, most: int) -> bytes:
        if not self.size:
            return b""
        return self.store.read_data_store_object(self.path, 0, min(most, self.size))

    def text(self, most: int) -> str | None:
        """Return the beginning as text, without a character cut off at its end; `None` if it is not text."""
        head = self.head(most)
        if b"\0" in head[:8192]:
            return None
        with suppress(UnicodeDecodeError):
            return head.decode("utf-8-sig")
        text = head.decode("utf-8-sig", "replace")
        is_cut = self.size > most and "\ufffd" not in text[:-3]
        return text[:-3] if is_cut else text if text.count("\ufffd") < len(text) / 50 else None


Ready = Callable[[], None]
"""Builds a preview; the content has been read."""


def show_text(content: Content) -> Ready:
    """Show text with line numbers, and the first bytes of anything else."""
    text = content.text(_HEAD)
    if text is None:
        return lambda: _bytes(content)
    lines = text.splitlines()[:_MOST_LINES]
    is_all = content.size <= _HEAD and len(lines) < _MOST_LINES

    def build() -> None:
        if not lines:
            page.empty("draft", "This object is empty.")
            return
        numbered(lines)
        if not is_all:
            page.text(f"The first {len(lines):,} lines. Download it to see all.", "muted")

    return build


def numbered(lines: Sequence[str], classes: Sequence[str] = (), *, diff: bool = False) -> None:
    """Show lines with their numbers; `classes` are those of each line."""
    shown = (
        ui.element("pre")
        .classes("text diff" if diff else "text")
        .props("tabindex=0 role=region aria-label=Text")
    )
    with shown:
        for number, line in enumerate(lines):
            page.text(line or " ", classes[number] if classes else "", "span")


def _bytes(content: Content) -> None:
    head = content.head(256)
    lines = [
        f"{at:08x}  {head[at : at + 16].hex(' '):47}  "
        + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head[at : at + 16])
        for at in range(0, len(head), 16)
    ]
    page.text("Not text. Its first bytes:", "muted")
    page.text("\n".join(lines), "text plain", "pre").props("tabindex=0")


def show_table(content: Content) -> Ready:
    """Show the first rows of CSV or TSV, the type of each column, and on a click its values."""
    text = content.text(_TABLE_HEAD)
    if text is None:
        return lambda: _bytes(content)
    if content.size > _TABLE_HEAD:
        text = text.rpartition("\n")[0]
    rows = list(
        islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text)), _MOST_ROWS + 1)
    )
    if not rows:
        return lambda: page.empty("draft", "This table is empty.")
    titles, body = rows[0], rows[1:]
    is_all = content.size <= _TABLE_HEAD and len(body) < _MOST_ROWS
    summary = f"{counted(len(body), 'row')}, {counted(len(titles), 'column')}"
    return lambda: columns(titles, body, summary if is_all else f"The first {summary}")


def delimiter(text: str) -> str:
    """Return the separator of the columns of a text."""
    line = text.partition("\n")[0]
    return max(",;\t|", key=line.count)


def columns(titles: Sequence[str], rows: Sequence[Sequence[object]], summary: str) -> None:
    """Show a table with types, and below it the values of the chosen column."""
    shown = [[_cut(value) for value in row[:_MOST_COLUMNS]] for row in rows]
    kinds = [
        column_type([row[at] for row in shown if at < len(row)])
        for at in range(len(titles[:_MOST_COLUMNS]))
    ]
    page.text(
        summary + (f"; the first {_MOST_COLUMNS} columns" if len(titles) > _MOST_COLUMNS else ""),
        "muted",
    )
    with ui.element("div").classes("line"):
        page.text("What is in", "muted")
        names = {
            str(at): f"{title} ({kinds[at]})" for at, title in enumerate(titles[:_MOST_COLUMNS])
        }
        chosen = page.choice(names, None, "Column").style("min-width: 220px")
    place = ui.element("div")
    chosen.on_value_change(
        lambda event: _histogram(
            place, [row[int(event.value)] for row in shown if int(event.value) < len(row)]
        )
    )
    page.table(
        [f"{title}" for title in titles[:_MOST_COLUMNS]],
        shown,
        [at for at, kind in enumerate(kinds) if kind in {"integer", "number"}],
    )


def _cut(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"


def column_type(values: Sequence[str]) -> str:
    """Return the type of all values of a column except empty ones: integer, number, date or text."""
    given = [value for value in values if value.strip()]
    for kind, parse in (("integer", int), ("number", float), ("date", datetime.fromisoformat)):
        with suppress(ValueError):
            for value in given:
                parse(value)
            return kind if given else "empty"
    return "text"


def _histogram(place: ui.element, values: Sequence[str]) -> None:
    names, counts = histogram(values)
    place.clear()
    with place:
        chart = ui.echart(
            {
                "grid": {"left": 4, "right": 4, "top": 8, "bottom": 4, "containLabel": True},
                "tooltip": {"trigger": "axis"},
                "animation": False,
                "xAxis": {"type": "category", "data": names, "axisLabel": {"color": _GREY}},
                "yAxis": {
                    "type": "value",
                    "axisLabel": {"color": _GREY},
                    "splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.25}},
                },
                "series": [{"type": "bar", "data": counts, "itemStyle": {"color": "#5b8fd0"}}],
            }
        ).style("height: 170px")
        chart.props["role"], chart.props["aria-label"] = "img", "How often each value is there"


def histogram(values: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return names and counts: ranges of numbers, or the most frequent values."""
    given = [value for value in values if value.strip()]
    if given and column_type(given) in {"integer", "number"}:
        numbers = [float(value) for value in given]
        low, high = min(numbers), max(numbers)
        step = (high - low) / _BINS
        if step and high - low < float("inf"):
            places = Counter(min(int((number - low) / step), _BINS - 1) for number in numbers)
            return [f"{low + step * at:.4g}" for at in range(_BINS)], [
                places[at] for at in range(_BINS)
            ]
    common = Counter(values).most_common(_BINS)
    return [name or "(empty)" for name, _ in common], [count for _, count in common]


def show_json(content: Content) -> Ready:
    """Show JSON with indentation; as plain text if it is too large, or invalid."""
    if content.size <= _HEAD:
        with suppress(ValueError, RecursionError):
            lines = json.dumps(
                json.loads(content.head(_HEAD)), indent=2, ensure_ascii=False
            ).splitlines()
            return lambda: numbered(lines[:_MOST_LINES])
    return show_text(content)


def show_markdown(content: Content) -> Ready:
    """Show Markdown with sanitised HTML; the policy of the page stops it from loading images."""
    text = content.text(_HEAD)
    if text is None:
        return lambda: _bytes(content)
    markdown: str = text

    def build() -> None:
        with ui.tabs().props("dense align=left no-caps") as tabs:
            ui.tab("Read")
            ui.tab("Source")
        with ui.tab_panels(tabs, value="Read"):
            with ui.tab_panel("Read"), ui.element("div").classes("card"):
                ui.markdown(markdown, sanitize=True)
            with ui.tab_panel("Source"):
                numbered(markdown.splitlines())

    return build


def show_notebook(content: Content) -> Ready:
    """Show the cells of a notebook: Markdown, code, and results as text and pictures, never its HTML."""
    if content.size > _LARGEST_SHOWN:
        return show_text(content)
    try:
        cells = [dict(cell) for cell in json.loads(content.head(content.size))["cells"]]
    except (ValueError, KeyError, TypeError):
        return show_text(content)

    def build() -> None:
        for cell in cells[:_MOST_ROWS]:
            with ui.element("section").classes("card"):
                source = _joined(cell.get("source"))
                if cell.get("cell_type") == "markdown":
                    ui.markdown(source, sanitize=True)
                else:
                    page.text(source, "plain", "pre")
                for output in cell.get("outputs") or ():
                    _output(output)

    return build


def _output(output: dict[str, Any]) -> None:
    data = output.get("data") or {}
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            image = ui.element("img").style("max-width: 100%; align-self: flex-start")
            image.props["src"] = f"data:{kind};base64,{_joined(data[kind]).strip()}"
            image.props["alt"] = "Result"
            return
    text = _joined(output.get("text") or data.get("text/plain") or output.get("traceback"))
    if text:
        page.text(text[:_HEAD], "plain muted", "pre")


def _joined(text: object) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


class _Ranges(io.RawIOBase):
    """An object as a file that reads by ranges, for the readers of pyarrow."""

    def __init__(self, content: Content) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._content.size if size < 0 else min(self._at + size, self._content.size)
        found = self._content.store.read_data_store_object(self._content.path, self._at, end)
        self._at += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def show_parquet(content: Content) -> Ready:
    """Show the schema and the first rows of a Parquet file; read only its end and one row group."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        missing = "Parquet files are shown with pyarrow, which is not installed."
        return lambda: page.empty(
            "table_view", missing, f"Install it with: {pip_command('pyarrow')}"
        )
    try:
        file = ParquetFile(_Ranges(content))
        names = list(file.schema_arrow.names)
        schema = [(field.name, str(field.type)) for field in file.schema_arrow]
        rows, groups = _first_rows(file), counted(file.num_row_groups, "group")
        summary = f"{counted(file.metadata.num_rows, 'row')} in {groups}"
    except CraftsyncError:
        raise  # Errors of the store are also `OSError`s, but do not concern the file format.
    except (ArrowException, OSError) as error:
        reason = f"Not a Parquet file that can be read: {error}"
        return lambda: page.empty("table_view", reason, "Download it.")

    def build() -> None:
        if rows is None:
            page.text(
                f"{summary}; rows are not shown, because the first group is too large", "muted"
            )
        else:
            columns(names, rows, f"{summary}; the first {len(rows)} are shown")
        page.text("Schema", tag="h2")
        page.table(("Column", "Type"), schema, name="Schema")

    return build


def _first_rows(file: Any) -> list[list[object]] | None:
    """Return the first rows of a Parquet file, `None` if the first row group is too large to read."""
    if not file.num_row_groups:
        return []
    if file.metadata.row_group(0).total_byte_size > _LARGEST_GROUP:
        return None
    batch = next(file.iter_batches(batch_size=100, row_groups=[0]), None)
    return [] if batch is None else [list(row.values()) for row in batch.to_pylist()]


_KINDS: dict[str, Callable[[Content], Ready]] = {
    **dict.fromkeys((".csv", ".tsv"), show_table),
    **dict.fromkeys((".json", ".geojson"), show_json),
    **dict.fromkeys((".md", ".markdown"), show_markdown),
    **dict.fromkeys((".parquet", ".pq"), show_parquet),
    ".ipynb": show_notebook,
}
