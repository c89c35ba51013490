"""What the judge of the histories must find, and what it must allow."""

from __future__ import annotations

import pytest

from tests.simulator.judge import Judge, Violation
from tests.simulator.windows import TrashRetention
from tests.support.clock import FakeClock


def found(judge: Judge) -> str:
    return " ".join(finding.message for finding in judge.findings())


def test_judge_finds_the_loss_of_an_unseen_edit() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1"})
    assert found(judge) == ""
    judge.user_changed("folder", "a", b"2")
    judge.user_changed("store", "a", b"3")
    judge.craftsync_changed("store", {"a": b"2"})
    assert "not allowed: b'3' at a of store was replaced" in found(judge)


def test_judge_finds_a_delete_that_no_user_made() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("folder", {})
    assert "was deleted" in found(judge)


def test_judge_finds_a_conflict_copy_without_concurrent_edits() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1"})
    assert found(judge) == ""
    judge.user_changed("folder", "a", b"2")
    judge.craftsync_changed("folder", {"a": b"2", "a (conflict 2026 store)": b"1"})
    assert "conflict copy without a conflict" in found(judge)


def test_judge_allows_the_conflict_copy_of_an_ordered_run() -> None:
    copy = "a (conflict 2027-01-15 08-00-00 folder)"
    judge = Judge()
    judge.user_changed("store", "a", b"1")
    judge.user_changed("folder", "a", b"2")
    judge.craftsync_changed("store", {"a": b"1", copy: b"1"}, ordered=True)
    judge.craftsync_changed("store", {"a": b"2", copy: b"1"}, ordered=True)
    assert found(judge) == ""


def test_an_ordered_delete_of_a_conflict_copy_ends_its_version() -> None:
    copy = "a (conflict 2027-01-15 08-00-00 folder)"
    judge = Judge()
    judge.user_changed("store", "a", b"1")
    judge.user_changed("folder", "a", b"2")
    judge.craftsync_changed("store", {"a": b"1", copy: b"1"})
    judge.craftsync_changed("store", {"a": b"2", copy: b"1"})
    judge.accept_all()
    judge.craftsync_changed("store", {}, ordered=True)
    assert judge.heads()["a"] == [None]


def test_judge_allows_a_conflict_at_a_conflict_copy() -> None:
    copy, second = "a (conflict 1 folder)", "a (conflict 1 folder) (conflict 2 folder)"
    judge = Judge()
    judge.user_changed("store", "a", b"1")
    judge.user_changed("folder", "a", b"2")
    judge.craftsync_changed("store", {"a": b"2", copy: b"1"})
    assert found(judge) == ""
    judge.user_changed("folder", copy, b"3")
    judge.craftsync_changed("store", {"a": b"2", copy: b"3", second: b"1"})
    assert found(judge) == ""
    judge.craftsync_changed("store", {"a": b"2", copy: b"3"})
    assert "was deleted" in found(judge)


def test_judge_allows_an_edited_file_to_be_moved_back() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("folder", {"A": b"1"})
    judge.craftsync_changed("folder", {"a": b"1"})
    assert found(judge) == ""
    assert judge.heads().keys() == {"a"}


def test_ordered_delete_of_a_copy_keeps_the_version_at_its_path() -> None:
    copy = "a (conflict 2027-01-15 08-00-00 folder)"
    judge = Judge()
    judge.user_changed("store", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1", copy: b"1"})
    judge.accept_all()
    judge.craftsync_changed("store", {"a": b"1"}, ordered=True)
    assert judge.heads()["a"] == [b"1"]


def test_equal_contents_of_a_store_and_a_client_are_two_versions() -> None:
    judge = Judge()
    judge.user_changed("store", "a", b"1")
    judge.user_changed("client 1", "a", b"1")
    judge.craftsync_changed("client 0", {"a": b"1"}, by="client 0", ordered=True)
    judge.user_changed("client 0", "a", b"2")
    judge.craftsync_changed("store", {"a": b"2"}, by="client 0")
    assert found(judge) == ""
    copy = "a (conflict 2027-01-15 08-00-00 store)"
    judge.craftsync_changed("client 1", {"a": b"1", copy: b"2"}, by="client 1")
    assert found(judge) == ""


def test_judge_does_not_count_a_power_cut_rollback_as_an_edit() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1"})
    judge.user_changed("folder", "a", b"2")
    judge.craftsync_changed("store", {"a": b"2"})
    assert found(judge) == ""
    judge.power_was_cut("folder", {"a": b"1"})
    judge.craftsync_changed("store", {"a": b"1"})
    assert "not allowed: b'2' at a of store was replaced" in found(judge)


def test_judge_allows_an_edit_to_be_put_back_at_once() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1"})
    assert found(judge) == ""
    judge.user_changed("store", "a", b"2")
    judge.user_changed("folder", "a", b"3")
    judge.craftsync_changed("folder", {"a": b"2"})
    judge.craftsync_changed("folder", {"a": b"3"})
    assert found(judge) == ""


def test_judge_allows_a_choice_to_be_put_back_at_once() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1"})
    assert found(judge) == ""
    judge.user_changed("store", "a", b"2")
    judge.user_changed("folder", "a", b"3")
    judge.craftsync_changed("folder", {"a": b"2"}, chooses=True)
    judge.craftsync_changed("folder", {"a": b"3"}, chooses=True)
    judge.craftsync_changed("store", {"a": b"3"}, chooses=True)
    assert found(judge) == ""
    judge.craftsync_changed("store", {"a": b"1"}, chooses=True)
    assert "not allowed: b'3' at a of store was replaced" in found(judge)


def test_judge_allows_a_conflict_copy_beside_an_edit_put_back() -> None:
    copy = {"a (conflict 2027-01-15 08-00-00 local)": b"4"}
    judge = Judge()
    judge.user_changed("folder", "a", b"1")
    judge.user_changed("store", "a", b"2")
    judge.user_changed("folder", "a", b"3")
    judge.craftsync_changed("folder", {"a": b"2"}, ordered=True)
    judge.user_changed("folder", "a", b"4")
    for shown in ({"a": b"3"}, {"a": b"3", **copy}, {"a": b"2", **copy}):
        judge.craftsync_changed("folder", shown, ordered=True)
    assert found(judge) == ""


def test_judge_counts_a_restore_as_a_new_version() -> None:
    judge = Judge()
    judge.user_changed("client 0", "a", b"1")
    judge.craftsync_changed("store", {"a": b"1"}, by="client 0")
    judge.craftsync_changed("store", {}, by="client 1", ordered=True)
    judge.craftsync_changed("client 2", {"a": b"1"}, by="client 2", ordered=True)
    judge.craftsync_changed("client 0", {}, by="client 0")
    assert found(judge) == ""
    assert judge.heads()["a"] == [None, b"1"]


def test_judge_counts_any_two_versions_as_concurrent_without_a_baseline() -> None:
    for without_baseline, is_wrong in (("", True), ("a", False)):
        judge = Judge()
        judge.user_changed("folder", "a", b"1")
        judge.craftsync_changed("store", {"a": b"1"})
        judge.user_changed("folder", "a", b"2")
        judge.craftsync_changed(
            "folder", {"a": b"1"}, chooses=True, without_baseline=without_baseline
        )
        assert (judge.heads()["a"] == [b"2"]) is is_wrong


def test_judge_finds_torn_content() -> None:
    judge = Judge()
    judge.user_changed("folder", "a", b"12345678")
    with pytest.raises(Violation, match="torn"):
        judge.craftsync_changed("store", {"a": b"1234"})


KEPT = {".craftsync/trash/1/a": b"a"}


@pytest.mark.parametrize("seen", [True, False])
def test_only_an_unseen_clock_jump_excuses_an_early_end_of_retention(seen: bool) -> None:
    trash = TrashRetention(FakeClock())
    trash.begin_run("client 0", 40_000.0, KEPT, {}, None)
    trash.machine_restarted("client 0")
    trash.clock_was_seen("client 0")
    assert not trash.has_ended(b"a")
    trash.clock_was_set(90_000.0, ["client 0"])
    if seen:
        trash.clock_was_seen("client 0")
    assert not trash.has_ended(b"a")
    trash.machine_restarted("client 0")
    assert trash.has_ended(b"a") is not seen


def test_a_clock_jump_right_after_a_restart_excuses_an_early_end() -> None:
    clock = FakeClock()
    trash = TrashRetention(clock)
    trash.begin_run("client 0", 40_000.0, KEPT, {}, None)
    trash.machine_restarted("client 0")
    trash.clock_was_set(90_000.0, ["client 0"])
    assert trash.has_ended(b"a")
    trash.clock_was_seen("client 0")
    assert trash.has_ended(b"a")
    clock.advance(1.0)
    trash.begin_run("client 0", 40_000.0, {".craftsync/trash/2/b": b"b"}, {}, None)
    assert not trash.has_ended(b"b")


@pytest.mark.parametrize(("content", "ended"), [(b"a", True), (b"b", False)])
def test_version_that_a_power_cut_brings_back_is_as_old_as_before(
    content: bytes, ended: bool
) -> None:
    clock = FakeClock()
    trash = TrashRetention(clock)
    trash.begin_run("client 0", 40_000.0, KEPT, {}, None)
    clock.advance(50_000.0)
    trash.begin_run("client 0", 40_000.0, {}, {}, None)
    trash.begin_run("client 0", 40_000.0, {".craftsync/trash/1/a": content}, {}, None)
    assert trash.has_ended(content) is ended
