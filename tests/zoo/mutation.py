"""What a mutation is, and how it is applied to a copy of the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent.parent


class Mutation(NamedTuple):
    """One bug put back: `old`, which occurs exactly once in the package, becomes `new`.

    `name` describes what goes wrong. `hazard` is its row in docs/hazards.md, `None` if it
    has none. Each of `tests` must fail; the names are unique below `tests/`.
    """

    name: str
    hazard: int | None
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, sources: Mapping[str, str]) -> tuple[str, str]:
        """Return the file to change and its text with the bug; `sources` is from `sources_below`.

        Raises `ValueError` unless `old` occurs exactly once.
        """
        found = {file: text.count(self.old) for file, text in sources.items() if self.old in text}
        if list(found.values()) != [1]:
            where = ", ".join(f"{file} ({count})" for file, count in found.items()) or "nowhere"
            raise ValueError(f"the old text of {self.name!r} must occur once; found: {where}")
        (file,) = found
        return file, sources[file].replace(self.old, self.new)


def sources_below(top: Path) -> dict[str, str]:
    """Return the text of each file of the package below `top`, by its path relative to `top`."""
    return {
        str(file.relative_to(top)): file.read_text()
        for file in sorted((top / "craftsync").rglob("*.py"))
    }


def files_of_tests(top: Path) -> dict[str, list[str]]:
    """Return the files below `top` that have a test of each name, as relative paths, by that name."""
    found: dict[str, list[str]] = {}
    for file in sorted((top / "tests").rglob("test_*.py")):
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE):
            found.setdefault(name, []).append(str(file.relative_to(top)))
    return found


def module_of(file: str) -> str:
    """Return the name of the module in a file, a path such as `craftsync/errors.py`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
