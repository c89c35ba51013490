"""The site of docs/: every page has a place in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import CodeType
from typing import Any

import yaml

from benchmarks import aims, report

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
        text
        for file in sorted((PROJECT / "craftsync").rglob("*.py"))
        for text in texts_in(compile(file.read_text("utf-8"), file, "exec", dont_inherit=True))
    ]
    assert len(first) > 10
    assert [words for words in quoted if not any(words in text for text in texts)] == []


def texts_in(constant: object) -> Iterator[str]:
    """Yield the texts in compiled code, those in the functions and classes in it too."""
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, CodeType | tuple | frozenset):
        inner = constant.co_consts if isinstance(constant, CodeType) else constant
        for each in inner:
            yield from texts_in(each)


def test_costs_name_the_requests_that_are_counted() -> None:
    counted = [counts("round-trips-s3"), counts("round-trips-craft-ai")]
    page = (PROJECT / "docs" / "costs.md").read_text("utf-8")
    rows = cells(page.split("| change | S3 | Craft AI |\n|---|---|---|\n")[1])
    assert len(rows) == 6
    assert rows == [[row[0], *(table[row[0]] for table in counted)] for row in rows]


def test_aims_of_the_benchmarks_are_those_of_its_tables() -> None:
    page = (PROJECT / "docs" / "benchmarks.md").read_text("utf-8")
    assert report.placed("aims", page).strip() == aims.table(page)


def counts(name: str) -> dict[str, str]:
    """Return the requests of each change, as a table of the benchmarks has them."""
    page = (PROJECT / "docs" / "benchmarks.md").read_text("utf-8")
    return {row[0]: row[1] for row in cells(page.split(f"<!-- {name}: begin -->\n")[1])}


def cells(text: str) -> list[list[str]]:
    """Return the rows of the table that a text begins with."""
    rows = takewhile(lambda line: line.startswith("|"), text.splitlines())
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
