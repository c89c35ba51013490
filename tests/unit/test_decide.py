"""The rules for one path, as a table."""

from __future__ import annotations

import itertools

import pytest

from craftsync.core.decide import SideState, decide, decide_states
from craftsync.core.model import Compare, Kind, Mode, Policy
from tests.support.model import local_file, remote_object, row

TWO_WAY = Policy(Mode.TWO_WAY)
PUSH, PUSH_DELETE = Policy(Mode.PUSH), Policy(Mode.PUSH, delete=True)
PULL, PULL_DELETE = Policy(Mode.PULL), Policy(Mode.PULL, delete=True)

# local, baseline, remote (a letter a content, "-" nothing), then two-way, push, push --delete.
TABLE = """
- - -   .              .        .
a - -   upload         upload   upload
- - a   download       .        delete-remote
a - b   reconcile      upload   upload
a a a   .              .        .
b a a   upload         upload   upload
a a b   download       upload   upload
b a b   reconcile      upload   upload
b a c   reconcile      upload   upload
- a a   delete-remote  .        delete-remote
a a -   delete-local   upload   upload
- a b   download       .        delete-remote
b a -   upload         upload   upload
- a -   forget         forget   forget
"""
ROWS = [line.split() for line in TABLE.split("\n") if line]
MIRROR = {
    "upload": "download",
    "download": "upload",
    "delete-remote": "delete-local",
    "delete-local": "delete-remote",
}


def decided(local: str, baseline: str, remote: str, policy: Policy) -> str:
    def content(letter: str) -> int | None:
        return None if letter == "-" else ord(letter)

    here, agreed, there = map(content, (local, baseline, remote))
    decision = decide(
        None if here is None else local_file("p", here),
        None if agreed is None else row("p", agreed),
        None if there is None else remote_object("p", there),
        policy,
    )
    return "." if decision is None else str(decision.kind)


@pytest.mark.parametrize(("local", "baseline", "remote", "two_way", "push", "delete"), ROWS)
def test_decision_for_every_state_of_one_path_in_each_mode(
    local: str, baseline: str, remote: str, two_way: str, push: str, delete: str
) -> None:
    assert decided(local, baseline, remote, TWO_WAY) == two_way
    assert decided(local, baseline, remote, PUSH) == push
    assert decided(local, baseline, remote, PUSH_DELETE) == delete


@pytest.mark.parametrize(("local", "baseline", "remote", "two_way", "push", "delete"), ROWS)
def test_two_way_decision_is_symmetric_in_both_sides(
    local: str, baseline: str, remote: str, two_way: str, push: str, delete: str
) -> None:
    assert decided(remote, baseline, local, TWO_WAY) == MIRROR.get(two_way, two_way)
    assert decided(remote, baseline, local, PULL) == MIRROR.get(push, push)
    assert decided(remote, baseline, local, PULL_DELETE) == MIRROR.get(delete, delete)


def test_without_a_baseline_two_way_never_deletes_or_overwrites() -> None:
    for here, there in itertools.product((SideState.NONE, SideState.NEW), repeat=2):
        decision = decide_states(here, there, TWO_WAY)
        assert decision is None or decision.kind not in (Kind.DELETE_LOCAL, Kind.DELETE_REMOTE)
        if here is there is SideState.NEW:
            assert decision is not None and decision.kind is Kind.RECONCILE


def test_racy_baseline_row_is_verified_by_hashing() -> None:
    racy = row("p", 1)._replace(racy=True)
    decision = decide(local_file("p", 1), racy, remote_object("p", 1), TWO_WAY)
    assert decision is not None and decision.kind is Kind.UPLOAD


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_any_fingerprint_difference_is_a_change(field: str) -> None:
    file = local_file("p", 1)
    changed = file._replace(**{field: getattr(file, field) + 1})
    decision = decide(changed, row("p", 1), remote_object("p", 1), TWO_WAY)
    assert decision is not None and decision.kind is Kind.UPLOAD


def test_object_without_version_is_compared_by_size_and_time() -> None:
    agreed = row("p", 1)._replace(version=None)
    same = remote_object("p", 1)._replace(version=None)
    assert decide(local_file("p", 1), agreed, same, TWO_WAY) is None
    later = same._replace(modified_ns=99)
    decision = decide(local_file("p", 1), agreed, later, TWO_WAY)
    assert decision is not None and decision.kind is Kind.DOWNLOAD


def test_size_only_ignores_times_and_versions() -> None:
    policy = Policy(Mode.PUSH, compare=Compare.SIZE_ONLY)
    touched = local_file("p", 1)._replace(mtime_ns=77)
    assert decide(touched, row("p", 1), remote_object("p", 1), policy) is None
    adopted = decide(touched, None, remote_object("p", 1), policy)
    assert adopted is not None and adopted.kind is Kind.ADOPT


def test_checksum_compare_reads_all_content_on_both_sides() -> None:
    policy = Policy(Mode.PUSH, compare=Compare.CHECKSUM)
    decision = decide(local_file("p", 1), row("p", 1), remote_object("p", 1), policy)
    assert decision is not None and decision.kind is Kind.RECONCILE
