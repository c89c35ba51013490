"""The page, clicked through in Debian's chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.pages import Ui

pytestmark = pytest.mark.browser


def test_the_overview_shows_each_linked_folder(page: Page, ui: Ui) -> None:
    page.goto(ui.address)
    card = page.get_by_role("region", name="work")
    expect(card.get_by_role("heading", name="work")).to_be_visible()
    expect(card.get_by_text("Nothing keeps it in sync now")).to_be_visible()


def test_run_now_brings_a_new_file_to_the_store(page: Page, ui: Ui) -> None:
    ui.craftsync.write("work/new.txt", "new")
    page.goto(ui.address)
    page.get_by_role("button", name="Run now").dblclick()
    expect(page.get_by_text("1 uploaded")).to_be_visible()
    expect(page.locator(".bg-negative")).to_have_count(0)
    assert (ui.craftsync.folder / "store/new.txt").read_text() == "new"
