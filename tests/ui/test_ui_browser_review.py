"""Conflicts, held deletes, trash and history, clicked through on a linked folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.cli import Craftsync, until
from tests.support.pages import Ui, showing

pytestmark = pytest.mark.browser

CONFIG = """\
environments:
  local: {store: directory, path: store}
folders:
  work: {root: work, environment: local, max_delete: 2}
"""


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[Ui]:
    """A page of its own for each test: what is settled is gone."""
    craftsync = Craftsync(tmp_path)
    craftsync.config.write_text(CONFIG)
    for name in ("a.csv", "b.txt", "models/1.bin", "models/2.bin", "models/3.bin", "keep/x.bin"):
        craftsync.write(f"work/{name}", "id,name\n1,Zoé\n2,Ali\n")
    assert craftsync("sync", "work").code == 0
    with showing(craftsync) as ui:
        ui.enter()
        yield ui


def both_change(ui: Ui, name: str) -> None:
    ui.craftsync.write(f"work/{name}", "id,name\n1,Zoe\n2,Ali\n")
    ui.craftsync.write(f"store/{name}", "id,name\n1,Zoé\n2,Bob\n3,Eve\n")


def test_a_conflict_is_compared_and_settled(page: Page, ui: Ui) -> None:
    both_change(ui, "a.csv")
    ui.craftsync("sync", "work")
    page.goto(f"{ui.address}/conflicts")
    card = page.get_by_role("region", name="a.csv", exact=True)
    card.get_by_role("button", name="What differs").click()
    expect(card.get_by_text("3 rows differ; rows are known by id")).to_be_visible()
    expect(card.get_by_text("Ali → Bob")).to_be_visible()
    card.get_by_role("button", name="Keep the store's").click()
    expect(page.get_by_text("No conflict copy found.")).to_be_visible()
    assert "3,Eve" in (ui.craftsync.folder / "work/a.csv").read_text()


def test_several_conflicts_are_settled_at_once(page: Page, ui: Ui) -> None:
    for name in ("a.csv", "b.txt"):
        both_change(ui, name)
    ui.craftsync("sync", "work")
    page.goto(f"{ui.address}/conflicts")
    page.get_by_role("button", name="Select all").click()
    page.get_by_role("button", name="Keep the folder's of selected").click()
    expect(page.get_by_text("No conflict copy found.")).to_be_visible()
    assert sorted(path.name for path in (ui.craftsync.folder / "work").glob("[ab]*")) == [
        "a.csv",
        "b.txt",
    ]


def lose(ui: Ui) -> None:
    for path in (ui.craftsync.folder / "work/models").iterdir():
        path.unlink()
    (ui.craftsync.folder / "work/keep/x.bin").unlink()
    assert ui.craftsync("sync", "work").code == 7


def test_a_part_of_held_deletes_is_rejected(page: Page, ui: Ui) -> None:
    lose(ui)
    page.goto(f"{ui.address}/deletes")
    tree = page.get_by_role("tree")
    tree.get_by_text("models (3 files").locator(
        "xpath=ancestor::*[contains(@class,'q-tree__node-header')]"
    ).get_by_role("checkbox").click()
    page.get_by_role("button", name="Reject selected").click()
    expect(page.get_by_text("3 files brought back")).to_be_visible()
    work = ui.craftsync.folder / "work"
    assert len(list((work / "models").iterdir())) == 3
    assert not (work / "keep/x.bin").exists()
    expect(page.get_by_text("x.bin (")).to_be_visible()


def test_held_deletes_are_approved_after_a_question(page: Page, ui: Ui) -> None:
    lose(ui)
    page.goto(f"{ui.address}/deletes")
    page.get_by_role("button", name="Approve all").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No delete is held.")).to_be_visible()
    assert not list((ui.craftsync.folder / "store/models").glob("*"))


def test_a_deleted_folder_comes_back_from_the_trash(page: Page, ui: Ui) -> None:
    lose(ui)
    ui.craftsync("deletes", "approve", "--all", "--folder", "work")
    page.goto(f"{ui.address}/trash")
    page.get_by_role("button", name="By path").click()
    page.get_by_role("tree").get_by_text("models (3 files").locator(
        "xpath=ancestor::*[contains(@class,'q-tree__node-header')]"
    ).get_by_role("checkbox").click()
    page.get_by_role("button", name="Restore selected").click()
    expect(page.get_by_text("3 restored")).to_be_visible()
    assert len(list((ui.craftsync.folder / "work/models").iterdir())) == 3


def test_a_whole_run_is_taken_back_from_the_history(page: Page, ui: Ui) -> None:
    (ui.craftsync.folder / "work/b.txt").unlink()
    assert ui.craftsync("sync", "work").code == 0
    page.goto(f"{ui.address}/history")
    for _ in range(3):  # What is asked for again at once is shown once.
        page.get_by_label("Folder or file").press("Enter")
    expect(page.get_by_role("button", name="Take back")).to_have_count(2)
    page.get_by_role("button", name="Take back").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    until(lambda: (ui.craftsync.folder / "work/b.txt").exists(), "the file to be restored")


def test_old_versions_are_counted_before_they_are_removed(page: Page, ui: Ui) -> None:
    (ui.craftsync.folder / "work/b.txt").unlink()
    ui.craftsync("sync", "work")
    page.goto(f"{ui.address}/trash")
    page.get_by_role("button", name="Remove old versions").click()
    page.get_by_label("Older than (days)").fill("0")
    page.get_by_role("button", name="Count").click()
    expect(page.get_by_text("Remove 1 version for good?")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("1 version removed, 0 kept")).to_be_visible()
