"""Bytes in and out of the page: uploads, downloads, folders as a zip, and the second origin.

NiceGUI takes two seconds to load, so only the tests that need it load it.
"""

from __future__ import annotations

import io
import os
import socket
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from craftsync.config.options import MigrateOptions, PairOptions
from craftsync.datastore import DataStore
from craftsync.errors import StoreUnavailable
from craftsync.migrate import command
from craftsync.objects import Entry
from craftsync.ui.content import Content
from craftsync.ui.guard import Access
from craftsync.ui.listing import Entries, Level, Order, sizes
from craftsync.ui.workspace import Workspace
from tests.support.pages import Answer, Ui


def put(ui: Ui, path: str, content: bytes, **headers: str) -> Answer:
    query = urlencode({"at": "local", "path": path})
    return ui.request("PUT", f"/transfer/object?{query}", content, **headers)


def get(ui: Ui, route: str, **values: str) -> Answer:
    return ui.get(f"/transfer/{route}?{urlencode({'at': 'local', **values})}")


def test_an_upload_becomes_an_object_and_comes_back(ui: Ui) -> None:
    content = bytes(range(256)) * 9000
    assert put(ui, "uploads/août 1.bin", content).status == 201
    assert (ui.craftsync.folder / "store/uploads/août 1.bin").read_bytes() == content
    answer = get(ui, "object", path="uploads/août 1.bin")
    assert answer.body == content
    assert quote("août 1.bin") in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    "path",
    ["../out.txt", "a/../../out.txt", "/out.txt", "a//b", ".craftsync/x", "a/.craftsync/x", "."],
)
def test_a_path_that_leads_out_of_the_store_is_refused(ui: Ui, path: str) -> None:
    answer = put(ui, path, b"x")
    assert answer.status == 400
    assert "cannot be written" in answer.text
    assert not (ui.craftsync.folder / "out.txt").exists()
    assert get(ui, "object", path=path).status in {400, 404}


def test_upload_with_if_none_match_never_replaces_an_object(ui: Ui) -> None:
    assert put(ui, "kept.txt", b"first").status == 201
    assert put(ui, "kept.txt", b"second", If_None_Match="*").status == 412
    assert get(ui, "object", path="kept.txt").body == b"first"


def test_an_upload_that_breaks_off_changes_nothing(ui: Ui) -> None:
    query = urlencode({"at": "local", "path": "broken.bin"})
    lines = [
        f"PUT /transfer/object?{query} HTTP/1.1",
        f"Host: 127.0.0.1:{ui.port}",
        f"Origin: {ui.address}",
        f"Cookie: {ui.cookie}",
        "Content-Length: 1000000",
    ]
    with socket.create_connection(("127.0.0.1", ui.port)) as sender:
        sender.sendall("\r\n".join([*lines, "", ""]).encode() + b"x" * 1000)
    assert get(ui, "object", path="broken.bin").status == 404


def test_an_upload_larger_than_the_disk_is_refused_at_once(ui: Ui) -> None:
    query = urlencode({"at": "local", "path": "huge.bin"})
    lines = [
        f"PUT /transfer/object?{query} HTTP/1.1",
        f"Host: 127.0.0.1:{ui.port}",
        f"Origin: {ui.address}",
        f"Cookie: {ui.cookie}",
        f"Content-Length: {1 << 60}",
    ]
    with socket.create_connection(("127.0.0.1", ui.port)) as sender:
        sender.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b" 507 " in sender.recv(100)


def test_a_folder_comes_as_a_zip(ui: Ui) -> None:
    for name, content in (("zipped/a.txt", b"a"), ("zipped/deep/b.bin", b"b" * 100_000)):
        put(ui, name, content)
    answer = get(ui, "zip", folder="zipped")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["a.txt", "deep/b.bin"]
        assert archive.read("deep/b.bin") == b"b" * 100_000


def test_a_download_is_never_shown_as_a_page(ui: Ui) -> None:
    put(ui, "page.html", b"<script>alert(1)</script>")
    answer = get(ui, "object", path="page.html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


def test_a_name_with_markup_is_shown_as_text(ui: Ui) -> None:
    name = "<img src=x onerror=alert(1)></script><script>alert(2)</script>.txt"
    for address in (
        f"/object?{urlencode({'at': 'local', 'path': name})}",
        f"/store?{urlencode({'at': 'local', 'folder': name})}",
        f"/store?{urlencode({'at': name})}",
    ):
        text = ui.get(address).text
        assert "<img src=x" not in text
        assert "<script>alert" not in text


def test_the_second_origin_has_no_page_of_html_and_no_svg() -> None:
    content = Content(1, listening="127.0.0.1", page_port=2, secure=False)
    for name in ("x.html", "x.svg", "x.xml", "x"):
        with pytest.raises(KeyError):
            content.url("127.0.0.1", "local", name)
    assert content.url("127.0.0.1", "local", "é.png").startswith("http://127.0.0.1:1/")


def test_a_token_opens_one_session() -> None:
    access = Access()
    token = access.mint()
    session = access.redeem(token)
    assert session and access.knows(session)
    assert access.redeem(token) is None
    assert not access.knows("é")


def test_a_level_is_sorted_filtered_and_selected(ui: Ui) -> None:
    store = DataStore(ui.craftsync.folder / "levels")
    for path in ("b.txt", "A.txt", "c/1", "c/2", "d/3"):
        store.upload_data_store_object(io.BytesIO(path.encode() * len(path)), path)
    level = Level(store)
    for _ in level.fill():
        pass
    level.arrange()
    assert [entry.path for _, entry in level.window(0, 9)] == ["c", "d", "A.txt", "b.txt"]
    level.sizes, blocks = sizes(store, "")
    assert level.sizes == {"c": 18, "d": 9}
    assert {block.name: block.bytes for block in blocks} == {
        "A.txt": 25,
        "b.txt": 25,
        "c": 18,
        "d": 9,
    }
    level.order, level.filter = Order("name", reverse=True), "TXT"
    level.arrange()
    assert [entry.path for _, entry in level.window(0, 9)] == ["b.txt", "A.txt"]
    level.select(0, "all")
    assert level.selected == {"A.txt", "b.txt"}
    assert level.picked_bytes() == 50
    assert [level.row(0, path) for path in (None, "b.txt", "A.txt", "gone")] == [0, 0, 1, -1]


def test_an_entry_of_a_level_takes_little_memory() -> None:
    entries = Entries("folder")
    tracemalloc.start()
    for number in range(10_000):
        moment = "2026-11-29T10:11:12.131415+00:00" if number % 2 else None
        entries.add(Entry(f"folder/reading-{number:08}", number or None, moment, number == 7))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 130 * len(entries)
    assert entries[0] == Entry("folder/reading-00000000", None, None, False)
    assert entries[7] == Entry("folder/reading-00000007", 7, moment, True)


def test_columns_have_a_type_and_a_histogram() -> None:
    from craftsync.ui.pages.preview import column_type, histogram

    assert column_type(["1", "", "-3"]) == "integer"
    assert column_type(["1.5", "2"]) == "number"
    assert column_type(["2026-11-29", "2026-11-30T10:00"]) == "date"
    assert column_type(["1", "x"]) == "text"
    names, counts = histogram([str(number) for number in range(100)])
    assert len(names) == 20 and sum(counts) == 100
    assert histogram(["a", "b", "a", ""]) == (["a", "b", "(empty)"], [2, 1, 1])


def test_tables_are_compared_by_a_key_where_there_is_one() -> None:
    from craftsync.ui.pages.conflicts import table_difference

    titles, rows, key = table_difference("id,n\n1,a\n2,b\n", "id,n\n2,c\n3,d\n")
    assert (titles, key) == (["id", "n"], "id")
    assert [(row.mark, row.cells) for row in rows] == [
        ("-", ["1", "a"]),
        ("~", ["2", "c"]),
        ("+", ["3", "d"]),
    ]
    assert table_difference("n\na\na\n", "n\na\nb\n")[2] == ""


def test_a_fully_ticked_folder_is_sent_as_one_path() -> None:
    from craftsync.ui.tree import Node

    root = Node()
    for path in ("a/1", "a/2", "b/3", "b/c/4"):
        root.add(path, 1)
    meant = frozenset({"a/1", "a/2", "b/3"})
    assert root.ticked(meant, lambda folder: False) == ["a", "b/3"]
    assert root.ticked(meant, lambda folder: folder == "a") == ["a/1", "a/2", "b/3"]
    assert root.ticked(meant | {"b/c/4"}, lambda folder: False) == ["a", "b"]


class Unsteady(Level):
    """A level of a store that fails after its first objects."""

    def _source(self) -> Iterator[Entry]:
        yield from (Entry(f"{number:04}", 1, None, False) for number in range(1500))
        raise StoreUnavailable("The store does not answer.", remedy="Try again later.")


def test_a_store_that_fails_midway_leaves_what_was_listed(ui: Ui) -> None:
    level = Unsteady(DataStore(ui.craftsync.folder / "store"))
    for _ in level.fill():
        pass
    level.arrange()
    assert len(level.shown) == 1500
    assert str(level.error) == "The store does not answer."
    assert not level.complete


def test_a_stopped_migration_continues_where_it_was(tmp_path: Path) -> None:
    from craftsync.ui.jobs import Job, Stopped

    for number in range(40):
        (tmp_path / "from").mkdir(exist_ok=True)
        (tmp_path / f"from/{number}").write_text(str(number))
    job = Job("Copy", "/migrate", asked_to_stop=True)
    words = f"{tmp_path}/from", f"{tmp_path}/to"
    asked: MigrateOptions = {"config": os.devnull, "state_dir": f"{tmp_path}/state"}
    with pytest.raises(Stopped):
        command.run(*words, {**asked, "on_event": job.hear})
    report = command.run(*words, asked)
    assert report.exit_code == 0
    assert len(list((tmp_path / "to").glob("[0-9]*"))) == 40


def test_every_linked_folder_is_shown_wherever_the_page_was_started(
    ui: Ui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ui.craftsync.folder
    (tmp_path / "c.yaml").write_text(
        f"environments:\n  local: {{store: directory, path: {folder}/store}}\n"
        f"folders:\n  work: {{root: {folder}/work, environment: local}}\n"
        f"  other: {{root: {folder}/other, environment: local}}\n"
    )
    monkeypatch.chdir(folder / "work")
    where: PairOptions = {"config": str(tmp_path / "c.yaml"), "state_dir": str(tmp_path)}
    content = Content(1, listening="127.0.0.1", page_port=2, secure=False)
    found = Workspace(where, content, Access()).pairs()
    assert [pair.folder for pair in found] == ["work", "other"]
