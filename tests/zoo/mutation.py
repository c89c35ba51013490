"""What a mutation is, and how it is applied to a copy of the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent.parent


class Mutation(NamedTuple):
    """One bug put back: `old` occurs exactly once in the package and becomes `new`.

    `name` says in plain words what goes wrong, `hazard` is its row in
    docs/hazards.md (`None` for a bug that is in no row). Each of `tests`, names
    wherever they are below `tests/`, must fail.
    """

    name: str
    hazard: int | None
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, sources: Mapping[str, str]) -> tuple[str, str]:
        """Return the file to change and its text with the bug in it; `sources` as `sources_below` returns it.

        Raises `ValueError` unless `old` occurs once in all of them.
        """
        found = {file: text.count(self.old) for file, text in sources.items() if self.old in text}
        if list(found.values()) != [1]:
            where = ", ".join(f"{file} ({count})" for file, count in found.items()) or "nowhere"
            raise ValueError(f"the old text of {self.name!r} has to occur once; found: {where}")
        (file,) = found
        return file, sources[file].replace(self.old, self.new)


def sources_below(top: Path) -> dict[str, str]:
    """Return the text of each file of the package below `top`, by its path there."""
    return {
        str(file.relative_to(top)): file.read_text()
        for file in sorted((top / "craftsync").rglob("*.py"))
    }


def files_of_tests(top: Path) -> dict[str, list[str]]:
    """Return the files below `top`, as paths there, that have a test of a name, by that name."""
    found: dict[str, list[str]] = {}
    for file in sorted((top / "tests").rglob("test_*.py")):
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE):
            found.setdefault(name, []).append(str(file.relative_to(top)))
    return found


def module_of(file: str) -> str:
    """Return the name of the module in a file, a path such as `craftsync/errors.py`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
