"""Which names a folder can hold, and the names craftsync makes up."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from craftsync.core.conflict_names import conflict_name
from craftsync.core.paths import is_own, malformed, refusal

WHEN = 1_795_359_577_000_000_000


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../x",
        "a/.",
        "a\0b",
        "\ud800",
        "caf\udce9",
        "x" * 256,
        "é" * 128,
        "a/" + "x" * 256 + "/b",
        "abcd/" * 204 + "abcde",
    ],
)
def test_invalid_path_is_rejected_with_a_reason(path: str) -> None:
    assert malformed(path)
    assert refusal(path)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a b/c",
        "données/été.csv",
        "..a",
        "a..",
        "...",
        ".env",
        "a\\b",
        "tab\there",
        "C:",
        "-rf",
        "x" * 255,
        "é" * 127,
        "abcd/" * 204 + "abcd",
        "\U0010ffff",
        "a\nb",
    ],
)
def test_unusual_but_valid_path_is_accepted(path: str) -> None:
    assert malformed(path) is None
    assert refusal(path) is None


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (".craftsync", True),
        (".craftsync/trash/x", True),
        (".craftsyncignore", False),
        ("a/.craftsync", True),
        ("a/.craftsync/store-id", True),
        ("a/b.craftsync/c", False),
    ],
)
def test_craftsync_folder_is_reserved_at_any_depth(path: str, own: bool) -> None:
    assert is_own(path) == own
    assert bool(refusal(path)) == own
    assert malformed(path) is None


@pytest.mark.parametrize(
    ("path", "store", "expected"),
    [
        ("a.csv", "dev", "a (conflict 2026-11-22 14-59-37 dev).csv"),
        ("d/a.tar.gz", "dev", "d/a.tar (conflict 2026-11-22 14-59-37 dev).gz"),
        (".env", "dev", ".env (conflict 2026-11-22 14-59-37 dev)"),
        ("LICENCE", "my/bucket: x", "LICENCE (conflict 2026-11-22 14-59-37 my-bucket-x)"),
        ("été.txt", "été", "été (conflict 2026-11-22 14-59-37 été).txt"),
        ("a", "///", "a (conflict 2026-11-22 14-59-37 store)"),
    ],
)
def test_conflict_copy_name_has_file_time_and_store(path: str, store: str, expected: str) -> None:
    assert conflict_name(path, WHEN, store) == expected


LONGEST = f"{'é' * 127}x"  # What is made up at random is hardly ever so long.

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=255)


@given(
    path=st.lists(names, min_size=1, max_size=3).map("/".join).filter(lambda p: not malformed(p)),
    when=st.integers(-(2**63), 2**63),
    store=st.text(max_size=80),
)
@example(path=LONGEST, when=0, store="store")
@example(path=f"folder/{LONGEST[:100]}.txt", when=0, store=80 * "s")
def test_conflict_copy_name_is_always_valid_beside_the_file(
    path: str, when: int, store: str
) -> None:
    name = conflict_name(path, when, store)
    assert malformed(name) is None
    assert name != path
    assert name.rpartition("/")[0] == path.rpartition("/")[0]
