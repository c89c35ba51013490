"""The site of docs/: every page has a place in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parent.parent
SITE = yaml.safe_load((PROJECT / "mkdocs.yml").read_text("utf-8"))


def pages_of(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        [target] = entry.values()
        if isinstance(target, list):
            yield from pages_of(target)
        else:
            yield target


def test_every_page_has_one_place_in_the_navigation() -> None:
    named = list(pages_of(SITE["nav"]))
    assert len(named) == len(set(named))
    assert {file.name for file in (PROJECT / "docs").glob("*.md")} <= set(named)


def test_site_names_no_other_host() -> None:
    assert SITE["theme"]["font"] is False
    assert "repo_url" not in SITE
