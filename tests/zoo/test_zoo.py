"""Each bug of the zoo can still be put back, and the tests that must fail exist."""

from __future__ import annotations

import pytest

from tests.zoo.mutation import PROJECT, Mutation, files_of_tests, sources_below
from tests.zoo.mutations import MUTATIONS

SOURCES = sources_below(PROJECT)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mutation_applies_exactly_once(mutation: Mutation) -> None:
    file, changed = mutation.applied(SOURCES)
    assert changed != SOURCES[file]
    compile(changed, file, "exec")


def test_each_killing_test_exists_exactly_once() -> None:
    files = files_of_tests(PROJECT)
    named = {test.partition("[")[0] for mutation in MUTATIONS for test in mutation.tests}
    assert {name: files.get(name) for name in named if len(files.get(name, ())) != 1} == {}


def test_each_mutation_has_a_unique_name_and_a_killing_test() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert sorted(set(names)) == sorted(names)
    assert [mutation.name for mutation in MUTATIONS if not mutation.tests] == []


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({"a.py": "other", "b.py": ""}, "nowhere"),
        ({"a.py": "old old"}, r"a.py \(2\)"),
        ({"a.py": "old", "b.py": "old"}, r"a.py \(1\), b.py \(1\)"),
    ],
)
def test_mutation_is_refused_unless_its_text_occurs_once(
    sources: dict[str, str], found: str
) -> None:
    with pytest.raises(ValueError, match=f"must occur once; found: {found}$"):
        Mutation("some bug", None, "old", "new", ("none",)).applied(sources)
