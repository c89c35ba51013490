"""Command line patterns applied to keys of a store: they decide as in a folder without ignore files."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from craftsync.core.model import RemoteObject, Skipped
from craftsync.errors import UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import MOST_PATTERNS, CallRules, IgnoreRules, Patterns
from tests.unit.test_ignore import name, pattern


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    include=st.lists(pattern, max_size=2),
    exclude=st.lists(pattern, max_size=3),
    paths=st.lists(st.lists(name, min_size=1, max_size=4).map("/".join), min_size=1, max_size=6),
)
def test_pattern_decisions_are_equal_for_folder_and_store(
    tmp_path_factory: pytest.TempPathFactory,
    include: list[str],
    exclude: list[str],
    paths: list[str],
) -> None:
    with Folder.open(tmp_path_factory.getbasetemp()) as folder:
        of_folder = IgnoreRules(folder, include=include, exclude=exclude, defaults=False)
        rules = CallRules(include, exclude)
        assert [rules.ignored(path) for path in paths] == [
            of_folder.ignored(path) for path in paths
        ]


@pytest.mark.parametrize(
    ("key", "exclude", "ignored"),
    [
        ("a//b.csv", "*.csv", True),
        ("a//b.csv", "*.bin", False),
        ("../x.csv", "*.csv", True),
        ("/lead.csv", "lead.csv", True),
        ("dir/", "dir/", True),
        ("dir/", "*.csv", False),
        ("tab\there.csv", "*.csv", True),
        ("line\nhere.csv", "*.csv", True),
        ("/" * 1024, "*.csv", False),
        ("a/" * 511 + "x.csv", "*.csv", True),
        ("bad\udcff.csv", "*.csv", True),
    ],
)
def test_pattern_matching_accepts_any_key(key: str, exclude: str, ignored: bool) -> None:
    assert CallRules(exclude=[exclude]).ignored(key) is ignored
    assert CallRules(include=[exclude]).ignored(key) is not ignored


def test_unreadable_folder_is_hidden_only_when_it_is_excluded() -> None:
    unread = Skipped("secret", "cannot be read", subtree=True, failed=True)
    wanted, unwanted = RemoteObject("a.csv", 1, 0, "v"), RemoteObject("a.bin", 1, 0, "v")
    entries = [wanted, unwanted, unread]
    assert list(CallRules(include=["*.csv"]).of(entries)) == [wanted, unread]
    assert list(CallRules(exclude=["secret/", "*.bin"]).of(entries)) == [wanted]
    assert list(CallRules().of(entries)) == entries


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_invalid_pattern_is_a_usage_error(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option}"):
        CallRules(**{option: ["!"]})


NAMES = ["a", "b", "ab", "ba", "aab", "a.b", ".a"]
PATHS = [
    "/".join(names)
    for depth, choice in enumerate([NAMES, NAMES, NAMES[:4], NAMES[:3], NAMES[:2]], start=1)
    for names in product(choice, repeat=depth)
]
globs = st.lists(
    st.sampled_from(["a", "b", "*", "*a", "a*b", "?", "**", "[ab]", "[!a]", "\\*", "*.*", "a*b*a"]),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(deadline=None, max_examples=150)
@given(glob=st.tuples(st.sampled_from(["", "/"]), globs, st.sampled_from(["", "/"])).map("".join))
def test_rewritten_pattern_matches_what_pathspec_matches(glob: str) -> None:
    pattern, patterns = GitIgnoreSpecPattern(glob), Patterns([glob], "a test")
    expected = [path for path in PATHS if pattern.match_file(path) is not None]
    assert [path for path in PATHS if patterns.covering(path) is not None] == expected


HANGING = [
    "*a" * 12 + "b",
    "**/a/" * 12 + "b",
    "/" + "*a*/" * 12 + "b",
    "**/*a*a*a/" * 8 + "b",
    "a/" + "**/a/" * 12 + "*b",
]


@pytest.mark.parametrize("glob", HANGING)
@pytest.mark.parametrize("path", ["a" * 255, "/".join("a" * 500), "/".join(["aaaaaaaa"] * 113)])
def test_pattern_matching_never_takes_exponential_time(glob: str, path: str) -> None:
    assert Patterns([glob], "a test").covering(path) is None


def test_too_many_patterns_are_rejected() -> None:
    with pytest.raises(ValueError, match="more than 4096 patterns"):
        Patterns(["*.tmp"] * (MOST_PATTERNS + 1), "a test")
