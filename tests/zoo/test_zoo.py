"""The zoo stays in order: each bug can still be put back, and what must kill it exists."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.zoo.mutation import PROJECT, Mutation
from tests.zoo.mutations import MUTATIONS


@cache
def functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((PROJECT / "tests" / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_bug_can_still_be_put_back(mutation: Mutation) -> None:
    text = (PROJECT / "craftsync" / mutation.file).read_text()
    changed = mutation.apply(text)
    assert changed != text
    compile(changed, mutation.file, "exec")


def test_every_test_that_must_kill_a_bug_exists() -> None:
    named = [
        test.partition("[")[0].partition("::") for mutation in MUTATIONS for test in mutation.tests
    ]
    missing = [f"{file}::{test}" for file, _, test in named if test not in functions_in(file)]
    assert missing == []


def test_each_bug_has_its_own_name_and_a_test_that_must_kill_it() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert sorted(set(names)) == sorted(names)
    assert [mutation.name for mutation in MUTATIONS if not mutation.tests] == []


def test_a_mutation_whose_old_text_is_gone_is_refused() -> None:
    mutation = Mutation("gone", None, "clock.py", "not in there", "", ("none",))
    with pytest.raises(ValueError, match="occurs 0 times"):
        mutation.apply("something else")
