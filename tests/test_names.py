"""The names of tests: short, and in the words of the field."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
WORDS = 12
"""A name has no more of them, `test` and the number of a weakness (`w05`) left aside."""
OUTDATED = {
    *("meanwhile", "stranger", "strangers", "displaced", "anew", "told", "somebody"),
    *("look", "looks", "looked", "pass", "passes", "mark", "marks"),
}
"""A stat, a run, an identity file … are what they are called."""
NAMES = sorted(
    {
        name
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def test_(\w+)", file.read_text(), re.MULTILINE)
    }
)


def words_of(name: str) -> list[str]:
    return re.sub(r"^(w\d\d_)+", "", name).split("_")


def test_names_of_tests_are_short() -> None:
    assert [name for name in NAMES if len(words_of(name)) > WORDS] == []


def test_names_of_tests_use_the_words_of_the_field() -> None:
    assert [name for name in NAMES if OUTDATED.intersection(words_of(name))] == []
