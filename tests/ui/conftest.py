"""A page over a directory store and a linked folder, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.cli import Craftsync
from tests.support.pages import Ui, showing

CONFIG = """\
environments:
  local: {store: directory, path: store}
folders:
  work: {root: work, environment: local}
"""


@pytest.fixture(scope="module")
def craftsync(tmp_path_factory: pytest.TempPathFactory) -> Craftsync:
    """A folder that is in sync with its store."""
    craftsync = Craftsync(tmp_path_factory.mktemp("ui"))
    craftsync.config.write_text(CONFIG)
    craftsync.write("work/datasets/clients.csv", "id,name\n1,Zoé\n2,Ali\n")
    craftsync.write("work/notes.txt", "remember\n")
    assert craftsync("sync", "work").code == 0
    return craftsync


@pytest.fixture(scope="module")
def ui(craftsync: Craftsync) -> Iterator[Ui]:
    """The page, entered."""
    with showing(craftsync) as ui:
        ui.enter()
        yield ui


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's browser; Playwright's own would come from the network."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, ui: Ui) -> Iterator[Page]:
    """A tab with the session. Nothing it does may ask another machine, or fail on the page."""
    context = chromium.new_context(accept_downloads=True)
    name, _, value = ui.cookie.partition("=")
    context.add_cookies(
        [{"name": name, "value": value, "url": ui.address, "httpOnly": True, "sameSite": "Strict"}]
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    foreign: list[str] = []
    failures: list[str] = []
    page.on(
        "request", lambda request: foreign.append(request.url) if _is_foreign(request.url) else None
    )
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    context.close()
    assert not foreign
    assert not failures


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
