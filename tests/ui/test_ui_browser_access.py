"""What axe finds on each page, in what a person opens there, light and dark, wide and on a telephone."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.cli import Craftsync
from tests.support.pages import Ui, showing

pytestmark = pytest.mark.browser

CONFIG = """\
environments:
  local: {store: directory, path: store}
  other: {store: directory, path: other}
folders:
  work: {root: work, environment: local, max_delete: 2}
"""
CSV = "id,name\n1,Zoé\n2,Ali\n"
FILES = {
    "a.csv": CSV,
    "notes.md": "# Notes\n\n- a [link](https://example.org)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "train.py": "print(1)\n",
    "n.ipynb": '{"cells": [{"cell_type": "code", "source": "1+1", "outputs": [{"text": "two"}]}]}',
    "b.bin": "\0\1\2",
    "sound.wav": "RIFF",
    "old.txt": "old",
}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """A linked folder with a conflict, held deletes, trash and history."""
    craftsync = Craftsync(tmp_path_factory.mktemp("access"))
    craftsync.config.write_text(CONFIG)
    for name, content in FILES.items():
        craftsync.write(f"work/{name}", content)
    for number in range(3):
        craftsync.write(f"work/models/{number}.bin", "m")
    assert craftsync("sync", "work").code == 0
    craftsync.write("work/a.csv", CSV.replace("Ali", "Alix"))
    craftsync.write("store/a.csv", CSV.replace("Zoé", "Zoe"))
    (craftsync.folder / "work/old.txt").unlink()
    craftsync("sync", "work")
    for path in (craftsync.folder / "work/models").iterdir():
        path.unlink()
    assert craftsync("sync", "work").code == 7
    craftsync.write("work/new.txt", "new")
    with showing(craftsync) as ui:
        ui.enter()
        yield ui


def at(path: str, /, **values: str) -> str:
    return f"{path}?{urlencode({'at': 'local', **values})}"


STATES: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "the overview": ("/", ()),
    "the stores": ("/store", ()),
    "a store": (at("/store"), (("checkbox", "a.csv"),)),
    "a folder that is empty": (at("/store", folder="nothing"), ()),
    "a store that is not there": ("/store?at=/not/there", ()),
    "the menu of a store": (at("/store"), (("button", "More"),)),
    "an address": (at("/store"), (("button", "More"), ("menuitem", "Address, command, Python"))),
    "what takes space": (at("/store"), (("button", "More"), ("menuitem", "Sizes of folders"))),
    "a question": (at("/store"), (("checkbox", "a.csv"), ("button", "Delete"))),
    "a move": (at("/store"), (("checkbox", "a.csv"), ("button", "Move"))),
    "a table": (at("/object", path="a.csv"), ()),
    "a text": (at("/object", path="train.py"), ()),
    "Markdown": (at("/object", path="notes.md"), ()),
    "a notebook": (at("/object", path="n.ipynb"), ()),
    "bytes": (at("/object", path="b.bin"), ()),
    "a sound": (at("/object", path="sound.wav"), ()),
    "conflicts": ("/conflicts", (("button", "What differs"),)),
    "held deletes": ("/deletes", ()),
    "the trash": ("/trash", ()),
    "the trash by path": ("/trash", (("button", "By path"),)),
    "the history": ("/history", ()),
    "an error": ("/migrate", (("button", "Estimate"),)),
    "a plan": ("/plan", (("button", "Make a plan"), ("button", "Apply"))),
    "the configuration": ("/config", (("button", "Link a folder"),)),
    "the doctor": ("/doctor", ()),
}


def settled(page: Page, *, headings: int) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_count(headings)
    expect(page.get_by_role("status", name="Loading")).to_have_count(0)


@pytest.mark.parametrize("state", STATES)
def test_no_page_breaks_an_accessibility_rule(page: Page, ui: Ui, state: str) -> None:
    page.emulate_media(reduced_motion="reduce", color_scheme="light")
    address, clicks = STATES[state]
    headings = 2 if state == "Markdown" else 1  # The text that is shown has one of its own.
    page.goto(ui.address + address)
    settled(page, headings=headings)
    for role, name in clicks:
        page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]
        settled(page, headings=headings)
    page.mouse.move(0, 0)  # No tip of a button stands over what is looked at.
    expect(page.get_by_role("tooltip")).to_have_count(0)
    found: list[tuple[object, ...]] = []
    # Colours do not depend on the width: two looks see both schemes and both widths.
    for scheme, width in (("light", 1280), ("dark", 360)):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 800})
        expect(page.locator("body")).to_contain_class(f"body--{scheme}")
        found += [(scheme, width, *each) for each in violations(page)]
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert not found, "\n".join(map(str, found))


def violations(page: Page) -> Iterator[tuple[str, str, object]]:
    for rule in Axe().run(page).response["violations"]:
        for node in rule["nodes"]:
            # A menu hangs over the page, in none of its parts.
            if not (rule["id"] == "region" and "q-portal--menu" in node["html"]):
                yield rule["id"], node["html"][:200], [each["data"] for each in node["any"]]
