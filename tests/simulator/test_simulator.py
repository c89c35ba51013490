"""Random histories of the whole engine, judged by what users wrote; a short form of `make campaign`."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.simulator import steps as steps_module
from tests.simulator.__main__ import main
from tests.simulator.author import NEWER
from tests.simulator.campaign import (
    History,
    failure,
    history_of,
    play,
    shrink,
    trace_hash,
    workplace,
)
from tests.simulator.judge import Violation
from tests.simulator.migrating import INTO
from tests.simulator.pages import PAGES
from tests.simulator.steps import (
    COMMANDS,
    OBJECTS,
    STORE,
    UPKEEP,
    Act,
    Change,
    Crash,
    Disaster,
    Fail,
    Run,
    Step,
    Wait,
)
from tests.simulator.store import PERSONALITIES
from tests.simulator.world import World

SHARES = 4
FIRST_SEED = 1


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with workplace() as folder:
        yield folder


def run_histories(place: Path, first: int, count: int) -> None:
    for seed in range(first, first + count):
        history = history_of(seed)
        error = failure(history, place)
        assert error is None, f"seed {seed}: {error}\n{shrink(history, place)}"


@pytest.mark.parametrize("share", range(SHARES))
def test_random_histories_lose_nothing_and_end_in_sync(place: Path, share: int) -> None:
    run_histories(place, FIRST_SEED + share * 2, 2)
    run_histories(place, NEWER + share * 2, 2)


@pytest.mark.parametrize("personality", ["md5", "folder", "s3 slow-down", f"s3 plain{INTO}folder"])
def test_a_history_repeats_exactly(place: Path, personality: str) -> None:
    history = replace(history_of(7, 25), personality=personality)
    assert len({trace_hash(history, place) for _ in range(2)}) == 1


def test_a_failing_history_is_shortened_and_prints_as_code(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(world: World) -> None:
        if "b" in world.judge.shown["store"]:
            raise Violation("planted: b is there")

    monkeypatch.setattr(World, "settle", settle)
    seed = next(
        seed for seed in range(99) if failure(replace(history_of(seed), personality="whole"), place)
    )
    short = shrink(replace(history_of(seed), personality="whole"), place)
    assert len(short.steps) <= 2
    assert eval(str(short), {**vars(steps_module), "History": History}) == short


def test_trace_of_a_passing_history_prints_all_its_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulator", "--seed", "7", "--steps", "5", "--trace"])
    main()
    printed = capsys.readouterr().out
    assert printed.startswith(f"{history_of(7, 5)}\n")
    assert len(printed.splitlines()) > len(str(history_of(7, 5)).splitlines())


@pytest.mark.parametrize("personality", sorted(PERSONALITIES))
def test_run_recovers_from_a_kill_at_any_effect(place: Path, personality: str) -> None:
    """The run makes a change of every kind; all stores together meet every effect."""
    for at in range(1 + sorted(PERSONALITIES).index(personality), 40, len(PERSONALITIES)):
        steps = (
            Act("write", 0, "a", 1),
            Act("write", 0, "c.txt", 2),
            Act("write", STORE, "b", 3),
            Run(0),
            Act("write", 0, "a", 4, "same time"),
            Act("write", STORE, "b", 5),
            Act("write", STORE, "d/x", 6),
            Act("remove", 0, "c.txt"),
            Run(0, (Crash(at),)),
        )
        play(History(at, 1, personality, steps), place)


def test_upload_is_recorded_only_once_its_file_is_durable(place: Path) -> None:
    for seed in range(3):
        steps = (
            Act("write", 0, "d/new", 1),
            Act("write", 0, "edited", 2, "new file"),
            Run(0),
            Act("write", 0, "edited", 3, "in place"),
            Run(0),
            Run(0, (Crash(1, cut=True),)),
        )
        play(History(seed, 1, "whole", steps), place)


def test_file_moved_and_moved_back_may_be_lost_in_a_power_cut(place: Path) -> None:
    for seed in range(8):
        steps = (
            Act("write", 0, "d/x", 1),
            Run(0),
            Act("move", 0, "d/x", target="D/x"),
            Act("move", 0, "D/x", target="d/x"),
            Run(0, (Crash(3, cut=True),)),
        )
        play(History(seed, 1, "whole", steps), place)


def test_delete_in_the_store_is_recorded_only_once_the_removal_is_durable(place: Path) -> None:
    """Otherwise the power cut brings the file back, and it counts as new."""
    for at in range(1, 8, 2):
        for seed in (3, 4):
            steps = (
                Act("write", 0, "e/f/z", 1),
                Run(0),
                Run(1),
                Act("remove", 0, "e/f/z"),
                Run(0),
                Act("write", 1, "e/f/z", 2, "new file"),
                Run(1),
                Run(0, (Crash(at, cut=True),)),
            )
            play(History(seed, 2, "whole", steps), place)


def test_file_truncated_by_a_power_cut_is_not_in_sync(place: Path) -> None:
    for at in (8, 9):
        for seed in range(6, 12):
            steps = (
                Act("write", 0, "a", 1, "old time"),
                Run(0),
                Wait(1.0),
                Act("write", 0, "a", 2, "old time"),
                Run(0, (Crash(at, cut=True),)),
            )
            play(History(seed, 1, "md5 only", steps), place)


def test_another_programs_object_of_equal_size_and_time_is_not_ours(
    place: Path,
) -> None:
    for at in range(1, 10):
        steps = (
            Run(0),
            Act("write", 0, "a", 1, "old time"),
            Run(0, (Act("write", STORE, "a", 2, "old time", at=at), Fail(4, doubt=True))),
        )
        play(History(1, 1, "times only", steps), place)


@pytest.mark.parametrize("what", ["cp", "mv"])
def test_copy_onto_an_object_keeps_it_though_an_answer_is_lost(place: Path, what: str) -> None:
    for personality, copied in (("times only", 3), ("bare", 3), ("s3 no-metadata", 6)):
        lost = Fail(copied, after=True, doubt=True)
        steps = (
            Act("write", STORE, "c.txt", 19),
            Act("write", STORE, "a", 21),
            Run(0, (lost,), what=what, path="c.txt", target="a"),
        )
        play(History(1, 1, personality, steps), place)


def test_download_of_a_killed_run_is_recorded_only_once_durable(
    place: Path,
) -> None:
    for at in (14, 15):
        for seed in range(2):
            steps = (
                Act("write", 0, "a", 1),
                Run(0),
                Act("write", STORE, "d/new", 2),
                Run(0, (Crash(at),)),
                Run(0, (Crash(7, cut=True),)),
            )
            play(History(seed, 1, "whole", steps), place)


def test_edit_after_the_stat_with_equal_size_and_time_is_uploaded(place: Path) -> None:
    for at in range(1, 40, 3):
        edit = Act("write", 0, "a", 2, "old time", at=at)
        steps = (Act("write", 0, "a", 1, "old time"), Run(0, (edit,)))
        play(History(at, 1, "whole", steps), place)


def test_upload_is_durable_although_the_clock_was_set(place: Path) -> None:
    """The file seems to be a day old, but was written just now."""
    edit, cut = Act("write", 0, "d/new", 1), Run(0, (Crash(1, cut=True),))
    for seed in range(3):
        before = (Run(0), edit, Wait(90_000.0, jump=True), Run(0), cut)
        within = (Run(0), edit, Run(0, (Wait(90_000.0, jump=True, at=4),)), cut)
        for steps in (before, within):
            play(History(seed, 1, "whole", steps), place)


def test_pushed_file_lost_in_a_power_cut_stays_in_the_store(place: Path) -> None:
    for seed in range(8):
        steps = (
            Act("write", 0, "stays", 1),
            Run(0),
            Act("write", 0, "d/new", 2),
            Run(0, mode="push"),
            Run(0, (Crash(1, cut=True),), mode="push"),
            Run(0),
        )
        world = play(History(seed, 1, "whole", steps), place)
        assert {"stays", "d/new"} <= set(world.judge.shown["store"])
        assert b"00000002" in world.judge.shown["store"].values()


def test_a_power_cut_after_a_migration_leaves_the_targets_identity(place: Path) -> None:
    for seed in range(6):
        steps = (Run(0), Run(0, (Crash(6, cut=True),)))
        play(History(seed, 1, f"no conditions{INTO}folder", steps), place)


def test_a_login_page_never_becomes_the_identity_of_a_store(place: Path) -> None:
    for first in range(1, 5):
        mishaps = (Fail(first, 7, kind="portal"),)
        steps = (Run(1), Act("write", 0, "a", 1), Run(0, mishaps), Run(0, mishaps))
        play(History(1, 2, "s3 plain", steps), place)


def test_new_store_identity_is_found_on_the_second_attempt(place: Path) -> None:
    steps = (Act("write", 0, "b", 1), Act("write", STORE, "b", 2), Run(0))
    play(History(1, 1, "s3 lagging", steps), place)


def test_aborted_first_run_does_not_record_the_store_identity(place: Path) -> None:
    """A store without an identity file is then new to the daemon."""
    steps = (
        Run(0, (Fail(first=3, count=7, after=True),), daemon=True),
        Disaster("store without identity", 0),
    )
    play(History(1, 1, "folder", steps), place)


def test_moved_ignore_file_can_be_removed(place: Path) -> None:
    steps = (
        Act("write", STORE, "d/.craftsyncignore", 5),
        Act("write", STORE, "e/d/z", 6),
        Act("move all", STORE, "d", target="e"),
    )
    play(History(1, 1, "s3 no-part-copy", steps), place)


def test_push_of_a_deleted_object_may_end_in_a_conflict(place: Path) -> None:
    steps = (
        Act("write", STORE, "a", 1),
        Run(0),
        Run(1, mode="pull"),
        Act("remove", 0, "a"),
        Run(0),
        Act("write", 0, "a", 2),
        Run(1, mode="push"),
    )
    play(History(1, 2, "whole", steps), place)


def test_push_after_a_kill_may_settle_half_of_a_conflict(place: Path) -> None:
    for at in range(10, 26, 2):
        steps = (
            Run(0, mode="pull"),
            Act("write", STORE, "a", 1),
            Act("write", 0, "a", 2),
            Run(0, (Crash(at),)),
            Run(0, mode="push", delete=True),
        )
        play(History(1, 2, "s3 no-metadata", steps), place)


@pytest.mark.parametrize("target", ["s3 no-part-copy", "s3 no-copy"])
def test_large_object_is_migrated_within_a_server_without_part_copies(
    place: Path, target: str
) -> None:
    steps = (Act("write", STORE, "large", 7), Act("write", 0, "large", 14), Run(0))
    play(History(1, 1, f"s3 plain{INTO}{target}", steps), place)


@pytest.mark.parametrize("what", (*COMMANDS, *OBJECTS, *UPKEEP))
def test_commands_between_runs_lose_nothing(place: Path, what: str) -> None:
    """Each command meets a conflict, a held delete and a replaced version, and is killed once."""
    command = Run(0, what=what)
    if what in OBJECTS:
        command = Run(0, what=what, path="a", target="e/f/z", token=8)
    steps = (
        *(Act("write", 0, path, number) for number, path in enumerate(("a", "b", "d/x"), 1)),
        Run(0),
        Act("write", STORE, "a", 4),
        Act("write", 0, "a", 5),
        Act("write", STORE, "b", 6),
        Act("remove", 0, "d/x"),
        Run(0, limit=0),
        Run(0, what="plan"),
        Act("write", 0, "c.txt", 7),
        replace(command, mods=(Crash(6),)),
        command,
        Run(0, limit=0),
    )
    for personality in ("whole", "folder"):
        play(History(1, 1, personality, steps), place)


@pytest.mark.parametrize("personality", ["whole", "folder", "s3 plain"])
def test_file_becomes_a_folder_and_back_without_the_users_help(
    place: Path, personality: str
) -> None:
    for side in (0, STORE):
        steps = (
            Act("write", 0, "d", 1),
            Run(0),
            Act("put over", side, "d/x", 2),
            Run(0),
            Run(0),
            Run(0, what="check"),
            Act("put over", side, "d", 3),
            Run(0),
            Run(0),
        )
        world = play(History(1, 1, personality, steps), place)
        assert world.judge.shown["store"] == {"d": Act("write", 0, "d", 3).content}


def test_run_follows_the_configured_rules(place: Path) -> None:
    """A run and a daemon leave excluded paths alone, and resolve conflicts as configured."""
    for daemon in (False, True):
        steps = (
            *(Act("write", 0, path, number) for number, path in enumerate(("a", "b", "d/x"), 1)),
            Run(0, daemon=daemon),
            Change(0, conflict="remote", exclude=("/b", "d/")),
            Act("write", 0, "a", 4),
            Act("write", STORE, "a", 5),
            Act("write", 0, "b", 6),
            Act("remove", STORE, "d/x"),
            Wait(700.0),
            Run(0, daemon=daemon),
            Run(0, what="rm", path="a", beside=True),
        )
        world = play(History(1, 1, "whole", steps), place)
        assert sorted(world.judge.shown["store"]) == ["b"]


def test_daemon_continues_after_a_listing_failed(place: Path) -> None:
    """A failed run closes its database cursor without the garbage collector."""
    steps = (
        Act("write", 0, "a", 1),
        Act("write", 0, "b", 2),
        Run(0, daemon=True),
        Wait(90.0),
        Run(0, (Fail(1, 50),), daemon=True),
        Act("write", 0, "c.txt", 3),
        Wait(90.0),
        Run(0, daemon=True),
        Wait(700.0),
        Run(0, daemon=True),
    )
    gc.disable()
    try:
        play(History(1, 1, "whole", steps), place)
    finally:
        gc.enable()


def test_scrub_ignores_changes_since_the_last_run(place: Path) -> None:
    """Without ETags only the time shows a new version; a file may have become a folder."""
    steps = (
        Act("write", 0, "a", 1),
        Act("write", 0, "b", 2),
        Run(0),
        Act("put over", 0, "a/b", 3),
        Act("write", STORE, "b", 4),
    )
    for personality in ("whole", "s3 no-etags"):
        for what in ("scrub", "repair"):
            play(History(1, 1, personality, (*steps, Run(0, what=what))), place)


def test_scrub_ignores_another_clients_repair(place: Path) -> None:
    steps = (
        Act("write", STORE, "b", 3),
        Run(0),
        Run(1),
        Run(1, what="repair store"),
        Run(0, what="repair folder"),
    )
    play(History(1, 2, "s3 no-etags", steps), place)


@pytest.mark.parametrize("personality", ["md5 only", "whole", "bare"])
def test_repair_keeps_the_damaged_object_though_answers_are_lost(
    place: Path, personality: str
) -> None:
    """The damaged object keeps its version and its recorded digest."""
    for first in (5, 6, 7):
        steps = (
            Act("write", 0, "d/x", 8, "new file"),
            Run(0),
            Run(0, (Fail(first, 2, after=True),), what="repair store"),
        )
        play(History(first, 1, personality, steps), place)


def test_choice_after_a_lost_state_replaces_the_last_edit(place: Path) -> None:
    steps = (
        Act("write", STORE, "a", 4),
        Change(0, conflict="remote"),
        Run(0),
        Act("write", 0, "a", 12),
        Disaster("state lost", 0),
        Run(0),
    )
    play(History(1, 1, "s3 plain", steps), place)


def test_damaged_content_is_one_that_was_never_written(place: Path) -> None:
    steps = (
        Act("write", 0, "a", 3),
        Act("write", 0, "b", 10_000_003),
        Run(0),
        Run(0, what="repair folder"),
    )
    play(History(1, 1, "whole", steps), place)


def test_excluded_upload_of_a_killed_run_stays_unrecorded(place: Path) -> None:
    """Then another client replaces it: a documented window."""
    steps = (
        Act("write", 1, "d/x", 16, "old time"),
        Act("write", 0, "d/x", 20, "old time"),
        Run(1, (Crash(34),)),
        Change(1, exclude=("d/",)),
        Run(1),
    )
    play(History(1, 2, "md5 only", steps), place)


def test_ignored_upload_of_a_killed_run_stays_unrecorded(place: Path) -> None:
    steps = (
        Act("write", 0, "d/y", 6, "old time"),
        Run(0, (Crash(24),)),
        Act("write", 0, ".craftsyncignore", 20, "new file"),
        Run(0),
        Run(1, what="put", path="d/y", token=24),
    )
    play(History(23076482, 2, "no metadata", steps), place)


@pytest.mark.parametrize("personality", ["s3 ignores-conditions", "s3 no-etags", "s3 no-copy"])
def test_move_keeps_an_object_whose_copy_the_server_lost(place: Path, personality: str) -> None:
    """Also if another object of its size had the new name."""
    for before in ((), (Act("write", STORE, "c.txt", 5),)):
        for first in (1, 4, 6):
            lies = (Fail(first, 7, kind="lie"),)
            steps = (
                *before,
                Act("write", STORE, "d/x", 4),
                Run(0, lies, what="mv", path="d/x", target="c.txt"),
            )
            world = play(History(1, 1, personality, steps), place)
            assert b"00000004" in world.judge.shown["store"].values()


def test_download_may_end_in_a_moved_folder(place: Path) -> None:
    """Also if another program replaces the object during the download."""
    for at in range(12, 30, 3):
        mods = (
            Act("write", STORE, "e/f/z", 3, at=at),
            Act("move all", 0, "e", target="g", at=at + 1),
        )
        steps = (Act("write", 0, "e/f/z", 1), Run(0), Act("write", STORE, "e/f/z", 2), Run(0, mods))
        play(History(at, 1, "s3 no-etags", steps), place)


def test_write_during_a_copy_onto_its_path_is_a_window(place: Path) -> None:
    for at in range(1, 9):
        steps = (
            Run(0),
            Act("write", STORE, "a", 2),
            Act("write", STORE, "b", 3),
            Run(0, (Act("write", STORE, "a", 4, at=at),), what="mv", path="b", target="a"),
        )
        play(History(at, 1, "s3 plain", steps), place)


@pytest.mark.parametrize("personality", ["whole", "folder", "s3 hides-below"])
def test_dry_run_foresees_a_file_where_a_folder_is_needed(place: Path, personality: str) -> None:
    """Also if another step clears the way, or only empty folders are in it."""
    ends: tuple[Step, ...] = (Run(0, what="dry run"), Run(0))
    for side, other in ((0, STORE), (STORE, 0)):
        both_new = (Run(0), Act("write", side, "d", 1), Act("write", other, "d/x", 2))
        below = (Act("write", 0, "d", 1), Run(0), Act("put over", side, "d/x", 2))
        above = (Act("write", 0, "d/x", 1), Run(0), Act("put over", side, "d", 2))
        edited = (*below, Act("write", other, "d", 3))
        empty = (Run(0), Act("remove", 0, "e/f/z"), Act("write", side, "e", 7))
        for steps in (both_new, below, above, edited, empty):
            play(History(1, 1, personality, (*steps, *ends)), place)


def test_dry_run_after_a_pull_has_not_probed_the_server(place: Path) -> None:
    """A pull writes nothing, so it does not probe whether a server lists anything below an object."""
    steps = (
        Run(0, mode="pull", delete=True),
        Act("write", 0, "d", 1),
        Act("write", STORE, "d/y", 2),
        Run(0, what="dry run"),
    )
    play(History(1, 1, "s3 hides-below", steps), place)


def test_dry_run_does_not_foresee_what_only_contents_show(place: Path) -> None:
    """For example a new object with the size and time of a deleted one, or a version put back."""
    moved = (
        Act("write", STORE, "a", 1, "old time"),
        Run(0, mode="pull"),
        Act("remove", STORE, "a"),
        Act("write", STORE, "d/x", 2, "old time"),
    )
    put_back = (
        Act("write", 0, "a", 1),
        Run(0),
        Act("write", STORE, "a", 1),
        Act("write", 0, "a", 2),
    )
    both = (
        Act("write", 0, "a", 1),
        Run(0),
        Act("write", STORE, "a", 2),
        Act("write", 0, "a", 2),
    )
    for personality in ("times only", "s3 plain"):
        for steps in (moved, put_back, both):
            play(History(1, 1, personality, (*steps, Run(0, what="dry run"))), place)


def test_delete_completes_although_its_folder_is_moved(place: Path) -> None:
    """It counts as if it had ended just before the move: the deleted version is in the trash."""
    for at in range(5, 12):
        steps = (
            Act("write", STORE, "e/x/y", 1),
            Run(0),
            Act("remove", STORE, "e/x/y"),
            Run(0, (Act("move all", 0, "e", target="g", at=at),)),
        )
        play(History(1, 1, "s3 slow-down", steps), place)


def test_conflict_between_a_file_and_a_folder_waits_for_the_user(place: Path) -> None:
    steps = (
        Act("write", STORE, "d", 1),
        Act("write", 0, "d", 2),
        Run(0),
        Act("put over", 0, "d/y", 3),
        Run(0, what="keep remote"),
    )
    play(History(1, 1, "whole", steps), place)


def test_two_users_may_resolve_a_conflict_differently(place: Path) -> None:
    steps = (
        Act("write", STORE, "a", 1),
        Act("write", 1, "a", 2),
        Run(1),
        Run(0),
        Run(1, what="keep remote"),
        Run(1),
        Run(0, what="keep local"),
        Act("write", 0, "a", 3, "same time"),
    )
    for personality in ("whole", "s3 no-copy"):
        play(History(1, 2, personality, steps), place)


def test_plan_is_applied_with_the_rules_it_was_made_with(place: Path) -> None:
    steps = (
        Act("write", STORE, "a", 1),
        Change(0, conflict="local"),
        Act("write", 0, "a", 2),
        Run(0, what="plan"),
        Change(0),
        Run(0, what="apply"),
    )
    world = play(History(1, 1, "md5", steps), place)
    assert list(world.judge.shown["store"].values()) == [b"00000002"]


def test_undo_of_a_purged_version_gives_the_reason(place: Path) -> None:
    """Also if the file has the size of the purged version, so that contents would be compared."""
    steps = (
        Act("write", 0, "a", 1),
        Run(0),
        Act("write", 0, "a", 2),
        Run(0),
        Run(0, what="purge"),
        Run(0, what="undo over"),
    )
    for personality in ("folder", "s3 plain"):
        play(History(1, 1, personality, steps), place)


def test_migration_may_overwrite_what_truncated_listings_hide(place: Path) -> None:
    steps = (
        Run(0),
        Act("write", 0, "d/x", 2),
        Run(0, (Fail(2, 7, after=True, kind="truncated"),)),
    )
    play(History(23137238, 1, f"s3 utf-16-order{INTO}s3 no-etags", steps), place)


def test_download_into_a_removed_folder_is_dropped(place: Path) -> None:
    for at in range(12, 24, 3):
        steps = (
            Act("write", 0, "e/f/z", 1),
            Run(0),
            Act("write", STORE, "e/f/z", 2),
            Run(0, (Act("remove all", 0, "e/f", at=at),)),
            Act("write", 0, "e/f/z", 3),
        )
        play(History(at, 1, "whole", steps), place)


def test_purge_survives_a_truncated_listing(place: Path) -> None:
    for first in range(1, 6):
        steps = (
            Act("write", 0, "a", 1),
            Act("write", STORE, "a", 2),
            Run(0),
            Run(0, (Fail(first, kind="truncated"),), what="purge"),
        )
        play(History(1, 1, "s3 no-etags", steps), place)


def test_object_that_a_truncated_listing_hides_is_not_overwritten(place: Path) -> None:
    for first in range(1, 6):
        steps = (
            Run(1),
            *(
                Act("write", 0, path, token)
                for token, path in enumerate(("d/x", "d/y", "e/f/z"), 1)
            ),
            Run(0),
            *(Act("write", 1, path, token) for token, path in enumerate(("d/y", "e/f/z"), 4)),
            Run(1, (Fail(first, kind="truncated"),)),
        )
        play(History(1, 2, "s3 no-conditions", steps), place)


def test_simulated_power_cut_loses_only_unflushed_database_pages(
    tmp_path: Path,
) -> None:
    folder, found = tmp_path / "state", set()
    folder.mkdir()
    with PAGES.installed(), closing(sqlite3.connect(folder / "db", isolation_level=None)) as db:
        for sql in ("journal_mode = WAL", "synchronous = FULL"):
            db.execute(f"PRAGMA {sql}")
        db.execute("CREATE TABLE kept (name)")
        db.execute("INSERT INTO kept VALUES ('flushed')")
        db.execute("PRAGMA synchronous = NORMAL")
        for seed in range(12):
            db.execute("INSERT INTO kept VALUES ('young')")
            copy = tmp_path / str(seed)
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*-shm"))
            PAGES.lose_unflushed(folder, copy, Random(seed))
            with closing(sqlite3.connect(copy / "db")) as after:
                rows = after.execute("SELECT name FROM kept").fetchall()
                assert ("flushed",) in rows
                assert after.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found.add(len(rows) == seed + 2)
    assert found == {True, False}


def test_push_of_a_rename_keeps_the_object_at_its_target(place: Path) -> None:
    steps = (
        Change(0, mode="push", delete=True),
        Act("write", 0, "b", 12, "old time"),
        Run(0, limit=0),
        Act("write", STORE, "a", 15, "old time"),
        Act("move", 0, "b", target="a"),
        Run(0, limit=0),
    )
    for personality in ("s3 no-conditions", "s3 ignores-conditions", "whole"):
        play(History(1, 1, personality, steps), place)


def test_edit_after_a_late_listing_is_no_conflict(place: Path) -> None:
    steps = (
        Act("write", 0, "c.txt", 1),
        Run(0),
        Wait(90_000.0),
        Act("write", 0, "c.txt", 15, "old time"),
        Run(0),
        Run(0),
        Run(0, what="undo over", number=1),
        Run(0),
        Act("write", 0, "c.txt", 22, "new file"),
    )
    play(History(23100247, 1, "s3 lagging", steps), place)


def test_excluded_file_has_no_baseline_after_a_lost_state(place: Path) -> None:
    steps = (
        Act("write", STORE, "d/y", 1, "old time"),
        Act("write", STORE, ".craftsyncignore", 8, "new file"),
        Run(0),
        Disaster("state lost"),
        Run(0),
        Act("write", 0, "d/y", 11, "new file"),
        Change(0, keep=3600.0, conflict="remote"),
        Act("write", 0, ".craftsyncignore", 15, "new file"),
        Run(0),
    )
    play(History(1, 1, "folder", steps), place)


def test_equal_contents_of_two_clients_are_two_versions(
    place: Path,
) -> None:
    steps = (
        Run(2),
        Act("write", 1, "b", 7),
        Run(1),
        Run(2),
        Act("move", 1, "b", target="e/f/z"),
        Act("move", 2, "b", target="e/f/z"),
        Run(2),
        Act("write", 0, "e/f/z", 28, "new file"),
        Run(0),
        Run(0, what="keep both"),
    )
    play(History(1, 3, "s3 no-etags", steps), place)


def test_retention_may_end_early_after_a_clock_jump_before_a_restart(place: Path) -> None:
    """A documented window: the machine may have been off for that long."""
    steps = (
        Act("write", 0, "e/f/z", 3),
        Run(0),
        Act("remove", 0, "e/f/z"),
        Run(0),
        Wait(90_000.0, jump=True),
        Act("write", 0, "d/y", 8),
        Run(0, (Crash(10, cut=True),)),
    )
    play(History(1, 1, "s3 lagging", steps, keep=(40_000.0,)), place)
