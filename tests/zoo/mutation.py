"""What a mutation is, and how it is applied to a copy of the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent.parent


class Mutation(NamedTuple):
    """One bug put back: `old` occurs exactly once in `file` and becomes `new`.

    `name` says in plain words what goes wrong, `hazard` is its row in
    docs/hazards.md (`None` for a bug that is in no row). `file` is relative to the
    package. Each of `tests`, node ids relative to `tests/`, must fail.
    """

    name: str
    hazard: int | None
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        """The name of the module that is changed."""
        return (
            f"craftsync/{self.file}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        )

    def apply(self, text: str) -> str:
        """Return the text of the file with the bug in it; raises `ValueError` unless `old` occurs once."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file}: the old text of {self.name!r} occurs {found} times")
        return text.replace(self.old, self.new)
