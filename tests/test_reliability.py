"""The promises of docs/reliability.md and the hazards of docs/hazards.md: each names a test, and each that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent
TABLE = (PROJECT / "docs" / "reliability.md").read_text().partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]
HAZARDS = [
    line.strip("| ").split(" | ")
    for line in (PROJECT / "docs" / "hazards.md").read_text().splitlines()
    if re.match(r"\| \d", line)
]
TESTS = {
    path: re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    for path in PROJECT.glob("tests/**/test_*.py")
}


def named(cell: str) -> list[str]:
    """Return the tests and files of tests that a cell names."""
    words = [word.strip("`") for word in re.findall(r"`[^`]+`", cell)]
    return [word for word in words if re.match(r"(tests/\S*)?test_\w", word)]


def exists(name: str) -> bool:
    """Tell whether this is a file of tests, or a test, if need be by the start of its name."""
    if name.endswith(".py"):
        wanted = name if "/" in name else f"tests/**/{name}"
        return any(path in TESTS for path in PROJECT.glob(wanted))
    return any(
        test == name or test.startswith(f"{name}_") for tests in TESTS.values() for test in tests
    )


def test_every_test_that_a_promise_names_exists() -> None:
    missing = [name for row in ROWS + HAZARDS for name in named(row[-1]) if not exists(name)]
    assert missing == []


def test_each_of_the_seventy_hazards_names_a_test() -> None:
    assert [row[0] for row in HAZARDS] == [str(number) for number in range(1, 71)]
    assert [row[0] for row in HAZARDS if not named(row[-1])] == []


def test_every_promise_names_a_test() -> None:
    assert len(ROWS) > 50
    bare = [row[0] for row in ROWS if not named(row[-1]) and row[-1] != "the same"]
    # That one names a command; its tests are in `make test` too.
    assert [promise for promise in bare if "every state" not in promise] == []
