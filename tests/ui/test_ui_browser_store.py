"""The page of a store, clicked through: listing, keys, upload, download, and what is done with objects."""

from __future__ import annotations

import re
import wave
import zipfile
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.cli import until
from tests.support.pages import Ui

pytestmark = pytest.mark.browser

DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) transfer.items.add(new File([text], name));
  for (const type of ["dragover", "drop"])
    window.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, cancelable: true }));
}"""


@pytest.fixture
def store(ui: Ui) -> Path:
    return ui.craftsync.folder / "store"


def show(page: Page, ui: Ui, folder: str = "", **values: str) -> None:
    page.goto(f"{ui.address}/store?{urlencode({'at': 'local', 'folder': folder, **values})}")


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def test_folders_are_walked_by_click_and_by_keys(page: Page, ui: Ui, store: Path) -> None:
    show(page, ui)
    page.get_by_role("link", name="datasets", exact=True).click()
    expect(page.get_by_role("link", name="clients.csv")).to_be_visible()
    page.get_by_role("grid").press("Backspace")
    expect(page.get_by_role("link", name="notes.txt")).to_be_visible()
    page.get_by_role("grid").press("ArrowDown")
    page.get_by_role("grid").press("Enter")
    expect(page.get_by_role("link", name="clients.csv")).to_be_visible()


def test_a_filter_is_reached_by_a_key(page: Page, ui: Ui) -> None:
    show(page, ui)
    expect(row(page, "notes.txt")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("data")
    expect(row(page, "notes.txt")).to_be_hidden()
    expect(row(page, "datasets")).to_be_visible()


def test_a_name_is_found_below_a_folder(page: Page, ui: Ui) -> None:
    show(page, ui)
    page.get_by_label("Find by name below this folder").fill("CLIENT")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="datasets/clients.csv")).to_be_visible()


def test_chosen_files_are_uploaded(page: Page, ui: Ui, store: Path, tmp_path: Path) -> None:
    (tmp_path / "août.bin").write_bytes(b"x" * 3_000_000)
    show(page, ui, "chosen")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "août.bin")
    expect(row(page, "août.bin")).to_be_visible()
    assert (store / "chosen/août.bin").read_bytes() == b"x" * 3_000_000


def test_a_chosen_folder_is_uploaded_with_all_below_it(
    page: Page, ui: Ui, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "project/deep").mkdir(parents=True)
    (tmp_path / "project/a.txt").write_text("a")
    (tmp_path / "project/deep/b.txt").write_text("b")
    show(page, ui, "folders")
    page.locator("input[webkitdirectory]").set_input_files(tmp_path / "project")
    expect(row(page, "project")).to_be_visible()
    assert (store / "folders/project/deep/b.txt").read_text() == "b"


def test_dropped_files_ask_before_they_replace(page: Page, ui: Ui, store: Path) -> None:
    show(page, ui, "dropped")
    expect(page.get_by_text("Nothing is here yet")).to_be_visible()
    page.evaluate(DROP, [["d.txt", "first"]])
    expect(row(page, "d.txt")).to_be_visible()
    page.evaluate(DROP, [["d.txt", "second"], ["e.txt", "e"]])
    page.get_by_role("button", name="Keep what is there").click()
    expect(row(page, "e.txt")).to_be_visible()
    assert (store / "dropped/d.txt").read_text() == "first"
    page.evaluate(DROP, [["d.txt", "third"]])
    page.get_by_role("button", name="Replace").click()
    until(lambda: (store / "dropped/d.txt").read_text() == "third", "the replacing upload")


def test_a_folder_from_the_desktop_is_dropped_on_the_page(
    page: Page, ui: Ui, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "desk/deep").mkdir(parents=True)
    (tmp_path / "desk/deep/b.txt").write_text("b")
    show(page, ui, "desktop")
    expect(page.get_by_text("Nothing is here yet")).to_be_visible()
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "desk")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": data})
    expect(row(page, "desk")).to_be_visible()
    assert (store / "desktop/desk/deep/b.txt").read_text() == "b"


def test_objects_and_folders_are_downloaded(page: Page, ui: Ui) -> None:
    show(page, ui, "datasets")
    row(page, "clients.csv").get_by_role("checkbox").click()
    with page.expect_download() as one:
        page.get_by_role("button", name="Download").click()
    assert Path(one.value.path()).read_text().startswith("id,name")
    show(page, ui)
    row(page, "datasets").get_by_role("checkbox").click()
    with page.expect_download() as folder:
        page.get_by_role("button", name="Download").click()
    with zipfile.ZipFile(folder.value.path()) as archive:
        assert archive.namelist() == ["datasets/clients.csv"]


def test_an_object_is_renamed_and_that_is_undone(page: Page, ui: Ui, store: Path) -> None:
    (store / "renamed").mkdir()
    (store / "renamed/old.txt").write_text("old")
    show(page, ui, "renamed")
    row(page, "old.txt").get_by_role("checkbox").click()
    page.get_by_role("grid").press("F2")
    page.get_by_label("New name of old.txt").fill("new.txt")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(row(page, "new.txt")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(row(page, "old.txt")).to_be_visible()
    assert [path.name for path in (store / "renamed").iterdir()] == ["old.txt"]


def test_a_deleted_folder_comes_back_by_undo(page: Page, ui: Ui, store: Path) -> None:
    for path in ("gone/a.txt", "gone/deep/b.txt"):
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_text(path)
    show(page, ui)
    row(page, "gone").get_by_role("checkbox").click()
    page.get_by_role("grid").press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row(page, "gone")).to_be_hidden()
    assert not (store / "gone/a.txt").exists()
    page.keyboard.press("Control+z")
    expect(row(page, "gone")).to_be_visible()
    assert (store / "gone/deep/b.txt").read_text() == "gone/deep/b.txt"


def test_objects_are_moved_and_copied_to_another_folder(page: Page, ui: Ui, store: Path) -> None:
    (store / "from").mkdir()
    (store / "from/m.txt").write_text("m")
    show(page, ui, "from")
    for name, there in (("Copy", "copied"), ("Move", "moved")):
        row(page, "m.txt").get_by_role("checkbox").click()
        page.get_by_role("button", name=name, exact=True).first.click()
        page.get_by_label("Folder; empty is the whole store").fill(there)
        page.get_by_role("dialog").get_by_role("button", name=name).click()
        expect(page.get_by_text(f"{name}: 1 object")).to_be_visible()
        assert (store / there / "m.txt").read_text() == "m"
    assert not (store / "from/m.txt").exists()


def test_sizes_of_folders_are_added_up_on_demand(page: Page, ui: Ui, store: Path) -> None:
    (store / "sized/deep").mkdir(parents=True)
    (store / "sized/deep/x.bin").write_bytes(b"x" * 2048)
    show(page, ui)
    page.get_by_role("button", name="More").click()
    page.get_by_text("Sizes of folders").click()
    expect(page.get_by_role("dialog").get_by_text("in all")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(row(page, "sized")).to_contain_text("2.0 KiB")


def test_a_level_of_many_objects_is_scrolled_to_its_end(page: Page, ui: Ui, store: Path) -> None:
    (store / "many").mkdir()
    for number in range(3000):
        (store / f"many/{number:05}").touch()
    show(page, ui, "many")
    expect(page.get_by_text("3,000 entries")).to_be_visible()
    assert page.get_by_role("row").count() < 200
    page.get_by_role("grid").press("End")
    expect(row(page, "02999")).to_be_visible()
    page.get_by_role("button", name="Sort by Name").click()
    page.get_by_role("grid").press("Home")
    expect(row(page, "02999")).to_be_visible()


def test_a_name_with_markup_runs_nothing(page: Page, ui: Ui, store: Path) -> None:
    name = "<img src=x onerror=document.title='broken'>.txt"
    (store / name).write_text("<script>document.title='broken'</script>")
    show(page, ui)
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("region", name="Text")).to_contain_text("<script>")
    assert "broken'" in page.title() and page.title() != "broken"


def test_missing_store_shows_the_remedy(page: Page, ui: Ui) -> None:
    page.goto(f"{ui.address}/store?at=/not/there")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_text("Nothing could be listed.")).to_be_visible()


PREVIEWS = {
    "t.csv": ("id;name\n1;é\n2;b\n", "2 rows, 2 columns"),
    "d.json": ('{"a": [1, 2]}', '"a": ['),
    "r.md": ("# Title\n\n<script>document.title='broken'</script>\n", "Title"),
    "s.svg": ("<svg onload=alert(1)>", "<svg onload=alert(1)>"),
    "h.html": ("<h1>Hi</h1>", "<h1>Hi</h1>"),
    "n.ipynb": ('{"cells": [{"cell_type": "code", "source": "1+1", "outputs": [{"text": "two"}]}]}', "two"),
    "e.txt": ("", "This object is empty."),
    "b.bin": ("\0\1\2", "Not text."),
}  # fmt: skip


@pytest.mark.parametrize("name", PREVIEWS)
def test_an_object_is_previewed(page: Page, ui: Ui, store: Path, name: str) -> None:
    content, seen = PREVIEWS[name]
    (store / name).write_text(content)
    page.goto(f"{ui.address}/object?{urlencode({'at': 'local', 'path': name})}")
    expect(page.locator(".nicegui-content").get_by_text(seen).first).to_be_visible()


def test_parquet_shows_its_schema_and_first_rows(page: Page, ui: Ui, store: Path) -> None:
    from pyarrow import parquet, table

    parquet.write_table(table({"score": [0.5] * 1000}), store / "t.parquet")
    page.goto(f"{ui.address}/object?at=local&path=t.parquet")
    expect(page.get_by_text("1,000 rows in 1 group; the first 100 are shown")).to_be_visible()
    expect(page.get_by_role("cell", name="double")).to_be_visible()


def test_an_image_comes_from_the_second_origin(page: Page, ui: Ui, store: Path) -> None:
    (store / "i.bmp").write_bytes(
        bytes.fromhex("424d1e000000000000001a0000000c000000010001000100180000ff0000")
    )
    page.goto(f"{ui.address}/object?at=local&path=i.bmp")
    image = page.get_by_role("img", name="i.bmp")
    expect(image).to_be_visible()
    page.wait_for_function("document.querySelector('.shown img').naturalWidth === 1")
    assert f":{ui.port}/" not in (image.get_attribute("src") or "")
    assert (
        page.request.get(re.sub(r"\.[0-9a-f]{64}/", ".0/", image.get_attribute("src") or "")).status
        == 403
    )


def test_a_sound_is_played_from_the_second_origin(page: Page, ui: Ui, store: Path) -> None:
    with wave.open(str(store / "s.wav"), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(1), sound.setframerate(8000)
        sound.writeframes(b"\x80" * 16_000)
    page.goto(f"{ui.address}/object?at=local&path=s.wav")
    sound_shown = page.get_by_label("s.wav", exact=True)
    expect(sound_shown).to_be_visible()
    page.wait_for_function("document.querySelector('audio').duration === 2")
    sound_shown.evaluate(
        "(audio) => { audio.muted = true; audio.currentTime = 1.5; return audio.play(); }"
    )
    page.wait_for_function("document.querySelector('audio').ended")
    assert f":{ui.port}/" not in (sound_shown.get_attribute("src") or "")
