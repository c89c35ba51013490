"""The promises of docs/reliability.md: each names a test, and each test that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent
TABLE = (PROJECT / "docs" / "reliability.md").read_text().partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]
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
    missing = [name for row in ROWS for name in named(row[-1]) if not exists(name)]
    assert missing == []


def test_every_promise_names_a_test() -> None:
    assert len(ROWS) > 50
    bare = [row[0] for row in ROWS if not named(row[-1]) and row[-1] != "the same"]
    # That one names a command; its tests are in `make test` too.
    assert [promise for promise in bare if "every state" not in promise] == []
