"""The calls that tests make by forking are those of the installed program."""

from __future__ import annotations

import os
import re

import pytest

from tests.support import calls
from tests.support.cli import Craftsync

BYTES = bytes(range(256)) * 1000


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("push",),
        ("push", "root", "./store", "-n"),
        ("check", "root", "./store"),
        ("ls", "./store", "--json"),
        ("put", "-", "./store", "a"),
        ("get", "./store", "from stdin", "-"),
    ],
    ids=" ".join,
)
def test_forked_call_behaves_like_a_new_process(
    craftsync: Craftsync, words: tuple[str, ...]
) -> None:
    craftsync.write("root/été", "content")
    (craftsync.folder / "root" / os.fsdecode(b"not UTF-8 \xff")).write_text("content")
    assert craftsync("put", "-", "./store", "from stdin", stdin=BYTES).code == 0
    assert calls.may_fork(craftsync.environment)
    anew, forked = craftsync.anew(*words, stdin=BYTES), craftsync(*words, stdin=BYTES)
    assert (forked.code, forked.err) == (anew.code, anew.err)
    assert timeless(forked.out) == timeless(anew.out)
    assert words[0] != "get" or forked.out == BYTES


def timeless(printed: bytes) -> bytes:
    """Leave out how long it took."""
    return re.sub(rb"; \d+\.\d s\n$", b"", printed)


def test_call_with_interpreter_variables_is_not_forked() -> None:
    for name in ("PYTHONUTF8", "LC_ALL", "LANG"):
        assert not calls.may_fork({name: "1"})
