"""The judge of the histories, with what it must find and what it must not."""

from __future__ import annotations

import pytest

from tests.simulator.judge import Judge, Wrong
from tests.simulator.windows import TrashWatch
from tests.support.clock import FakeClock


def found(judge: Judge) -> str:
    return " ".join(finding.words for finding in judge.findings())


def test_the_judge_allows_no_loss_of_an_edit_nobody_had_seen() -> None:
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.craftsync("store", {"a": b"1"})
    assert found(judge) == ""
    judge.person("folder", "a", b"2")
    judge.person("store", "a", b"3")
    judge.craftsync("store", {"a": b"2"})
    assert "without a rule: b'3' at a of store was replaced" in found(judge)


def test_the_judge_allows_no_delete_that_nobody_made() -> None:
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.craftsync("folder", {})
    assert "was deleted" in found(judge)


def test_the_judge_allows_no_conflict_copy_where_one_person_wrote() -> None:
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.craftsync("store", {"a": b"1"})
    assert found(judge) == ""
    judge.person("folder", "a", b"2")
    judge.craftsync("folder", {"a": b"2", "a (conflict 2026 store)": b"1"})
    assert "a conflict nobody made" in found(judge)


def test_the_judge_allows_the_conflict_copy_of_an_ordered_run() -> None:
    copy = "a (conflict 2027-01-15 08-00-00 folder)"
    judge = Judge()
    judge.person("store", "a", b"1")
    judge.person("folder", "a", b"2")
    judge.craftsync("store", {"a": b"1", copy: b"1"}, ordered=True)
    judge.craftsync("store", {"a": b"2", copy: b"1"}, ordered=True)
    assert found(judge) == ""


def test_an_ordered_delete_of_a_conflict_copy_ends_its_version() -> None:
    copy = "a (conflict 2027-01-15 08-00-00 folder)"
    judge = Judge()
    judge.person("store", "a", b"1")
    judge.person("folder", "a", b"2")
    judge.craftsync("store", {"a": b"1", copy: b"1"})
    judge.craftsync("store", {"a": b"2", copy: b"1"})
    judge.forget()
    judge.craftsync("store", {}, ordered=True)
    assert judge.heads()["a"] == [None]


def test_the_judge_allows_a_conflict_at_a_conflict_copy() -> None:
    copy, second = "a (conflict 1 folder)", "a (conflict 1 folder) (conflict 2 folder)"
    judge = Judge()
    judge.person("store", "a", b"1")
    judge.person("folder", "a", b"2")
    judge.craftsync("store", {"a": b"2", copy: b"1"})
    assert found(judge) == ""
    judge.person("folder", copy, b"3")
    judge.craftsync("store", {"a": b"2", copy: b"3", second: b"1"})
    assert found(judge) == ""
    judge.craftsync("store", {"a": b"2", copy: b"3"})
    assert "was deleted" in found(judge)


def test_judge_does_not_count_a_power_cut_rollback_as_an_edit() -> None:
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.craftsync("store", {"a": b"1"})
    judge.person("folder", "a", b"2")
    judge.craftsync("store", {"a": b"2"})
    assert found(judge) == ""
    judge.machine("folder", {"a": b"1"})
    judge.craftsync("store", {"a": b"1"})
    assert "without a rule: b'2' at a of store was replaced" in found(judge)


def test_judge_does_not_count_an_edit_put_back_at_once() -> None:
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.craftsync("store", {"a": b"1"})
    assert found(judge) == ""
    judge.person("store", "a", b"2")
    judge.person("folder", "a", b"3")
    judge.craftsync("folder", {"a": b"2"})
    judge.craftsync("folder", {"a": b"3"})
    assert found(judge) == ""


def test_judge_does_not_count_a_choice_that_is_put_back_at_once() -> None:
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.craftsync("store", {"a": b"1"})
    assert found(judge) == ""
    judge.person("store", "a", b"2")
    judge.person("folder", "a", b"3")
    judge.craftsync("folder", {"a": b"2"}, chooses=True)
    judge.craftsync("folder", {"a": b"3"}, chooses=True)
    judge.craftsync("store", {"a": b"3"}, chooses=True)
    assert found(judge) == ""
    judge.craftsync("store", {"a": b"1"}, chooses=True)
    assert "without a rule: b'3' at a of store was replaced" in found(judge)


def test_judge_knows_an_edit_beside_an_edit_put_back() -> None:
    copy = {"a (conflict 2027-01-15 08-00-00 local)": b"4"}
    judge = Judge()
    judge.person("folder", "a", b"1")
    judge.person("store", "a", b"2")
    judge.person("folder", "a", b"3")
    judge.craftsync("folder", {"a": b"2"}, ordered=True)
    judge.person("folder", "a", b"4")
    for shown in ({"a": b"3"}, {"a": b"3", **copy}, {"a": b"2", **copy}):
        judge.craftsync("folder", shown, ordered=True)
    assert found(judge) == ""


def test_judge_knows_that_a_restore_is_one_clients_own() -> None:
    judge = Judge()
    judge.person("client 0", "a", b"1")
    judge.craftsync("store", {"a": b"1"}, by="client 0")
    judge.craftsync("store", {}, by="client 1", ordered=True)
    judge.craftsync("client 2", {"a": b"1"}, by="client 2", ordered=True)
    judge.craftsync("client 0", {}, by="client 0")
    assert found(judge) == ""
    assert judge.heads()["a"] == [None, b"1"]


def test_judge_takes_any_two_versions_for_a_conflict_without_a_state() -> None:
    for forgotten, is_wrong in (("", True), ("a", False)):
        judge = Judge()
        judge.person("folder", "a", b"1")
        judge.craftsync("store", {"a": b"1"})
        judge.person("folder", "a", b"2")
        judge.craftsync("folder", {"a": b"1"}, chooses=True, forgotten=forgotten)
        assert (judge.heads()["a"] == [b"2"]) is is_wrong


def test_the_judge_allows_no_torn_content() -> None:
    judge = Judge()
    judge.person("folder", "a", b"12345678")
    with pytest.raises(Wrong, match="torn"):
        judge.craftsync("store", {"a": b"1234"})


@pytest.mark.parametrize("seen", [True, False])
def test_judge_excuses_only_a_clock_that_no_run_had_seen(seen: bool) -> None:
    clock = FakeClock()
    trash = TrashWatch(clock)
    trash.begin("client 0", 40_000.0, {".craftsync/trash/1/a": b"a"}, {}, None)
    trash.restarted("client 0")
    assert not trash.has_ended(b"a")
    trash.clock_set(90_000.0, ["client 0"])
    if seen:
        trash.clock_seen("client 0")
    assert not trash.has_ended(b"a")
    trash.restarted("client 0")
    assert trash.has_ended(b"a") is not seen
