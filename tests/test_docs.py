"""The site of docs/: every page has a place in it."""

from __future__ import annotations

import ast
import re
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


def test_faq_is_about_messages_that_craftsync_prints() -> None:
    rows = (PROJECT / "docs" / "faq.md").read_text("utf-8").split("|---|---|\n")[1]
    first = [line.split("|")[1] for line in rows.split("\n\n")[0].splitlines()]
    quoted = [
        part.strip()
        for cell in first
        for words in re.findall(r"\*(.+?)\*", cell)
        for part in words.split("…")
    ]
    texts = [
        node.value
        for file in sorted((PROJECT / "craftsync").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(first) > 10
    assert [words for words in quoted if not any(words in text for text in texts)] == []
