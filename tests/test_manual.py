"""Man pages and the command reference hold the help of every command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.cli import MODULES
from docs import manual

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, PROJECT / "docs" / "manual.py", folder], check=True)
    return folder / "man1"


def test_each_command_has_a_man_page_with_its_options(pages: Path) -> None:
    assert {file.name for file in pages.iterdir()} == {
        "craftsync.1",
        *(f"craftsync-{name}.1" for name in MODULES),
    }
    push = (pages / "craftsync-push.1").read_text()
    assert r"\-\-max\-delete N|P%" in push
    assert r"craftsync push \-\-dry\-run \-\-delete data ./backup" in push
    assert r".SS craftsync trash restore" in (pages / "craftsync-trash.1").read_text()


def test_man_pages_make_no_warnings(pages: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed (apt install groff-base)")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-k", *sorted(pages.iterdir())],
        capture_output=True,
        text=True,
        check=True,
    )
    # A long usage cannot be justified; that says nothing of the page.
    assert [line for line in done.stderr.splitlines() if "break" not in line] == []
    assert "Transfer changes in the folder to the store." in done.stdout


def test_command_reference_has_a_section_for_each_command() -> None:
    titles = re.findall(r"^#{2,4} (.+)$", manual.reference(manual.whole()), re.M)
    assert titles == ["craftsync", *_names(manual.whole())]


def _names(page: manual.Page) -> Iterator[str]:
    for each in page.commands:
        yield each.name.removeprefix("craftsync ")
        yield from _names(each)
