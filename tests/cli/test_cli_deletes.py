"""`craftsync deletes`: what is held is listed, carried out or undone, with a daemon and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Craftsync, Run, until
from tests.support.daemons import Daemon, running

COUNT = 30
NAMES = [f"old/{number:02}" for number in range(COUNT)]
DATA = ("--folder", "data")


@pytest.fixture
def held(craftsync: Craftsync) -> Craftsync:
    """Give a folder `data` of the configuration which lost 30 of 35 files, which is held."""
    configure(craftsync)
    lose(craftsync)
    assert craftsync("sync", "-q").code == 7
    return craftsync


def configure(craftsync: Craftsync) -> None:
    """Make a folder `data` of the configuration, in sync with its store."""
    craftsync.config.write_text(
        f"environments: {{store: {{store: directory, path: {craftsync.folder}/store}}}}\n"
        f"folders: {{data: {{root: {craftsync.folder}/data, environment: store}}}}\n"
    )
    for name in (*NAMES, *(f"new/{number}" for number in range(5))):
        craftsync.write(f"data/{name}", name)
    assert craftsync("sync").code == 0


def lose(craftsync: Craftsync) -> None:
    for name in NAMES:
        (craftsync.folder / "data" / name).unlink()


def listed(craftsync: Craftsync) -> set[str]:
    return {row["path"] for row in craftsync("deletes", "list", "--json").json}


def in_store(craftsync: Craftsync) -> set[str]:
    return {name for name in craftsync.files("store") if name.startswith("old/")}


def test_held_deletes_are_listed_with_reason_and_time(held: Craftsync) -> None:
    (first, *others) = held("deletes", "list", "--json").json
    assert (first["path"], first["action"], first["size"]) == ("old/00", "delete-remote", 6)
    assert "30 paths disappeared from the folder at once" in first["reason"]
    assert first["since"].endswith("Z")
    assert len(others) == COUNT - 1
    text = held("deletes", "list").lines
    assert text[0].startswith("gone from the folder, to be deleted in the store, held because 30 ")
    assert text[1].startswith("  old/00 (6 bytes), since 20")
    held("sync", "-q")
    assert held("deletes", "list", "--json").json[0]["since"] == first["since"]


def test_approved_deletes_are_carried_out_and_no_others(held: Craftsync) -> None:
    run = held("deletes", "approve", *DATA, "old/00", "data/old/01", "--json")
    assert (run.code, run.summary["deleted_remote"]) == (0, 2)
    assert in_store(held) == set(NAMES[2:]) == listed(held)
    trashed = {row["path"] for row in held("trash", "list", "--json").json}
    assert trashed == {"old/00", "old/01"}


def test_rest_of_approved_deletes_stays_held(
    held: Craftsync,
) -> None:
    held("deletes", "approve", *DATA, *NAMES[:25])
    run = held("sync", "--json")
    assert (run.code, run.summary["held"], run.summary["deleted_remote"]) == (7, 5, 0)
    assert in_store(held) == set(NAMES[25:])


def test_new_file_in_an_empty_folder_releases_no_held_delete(
    craftsync: Craftsync,
) -> None:
    for number in range(10):
        craftsync.write(f"root/{number}")
    pair = ("root", "./store")
    craftsync("sync", *pair)
    for number in range(10):
        (craftsync.folder / "root" / str(number)).unlink()
    assert craftsync("sync", "-q", *pair).code == 7
    craftsync.write("root/new")
    assert craftsync("sync", "-q", *pair).code == 7
    assert len(craftsync.files("store")) == 11


def test_a_larger_max_delete_carries_out_held_deletes(held: Craftsync) -> None:
    assert held("sync", "--max-delete", "50").code == 0
    assert in_store(held) == set() == listed(held)


def test_held_delete_of_a_changed_path_is_skipped(held: Craftsync) -> None:
    held.write("store/old/00", "edited by a colleague")
    held.write("data/old/01", "it is back")
    run = held("deletes", "approve", *DATA, "old")
    assert run.code == 6
    assert "old/00: changed in the store since it was listed" in run.err
    assert "old/01: changed in the folder since it was scanned" in run.err
    assert in_store(held) == {"old/00", "old/01"}
    assert held("sync").code == 0
    assert held.files("data")["old/00"] == "edited by a colleague"
    assert held.files("store")["old/01"] == "it is back"
    assert listed(held) == set()


def test_rejected_deletes_are_undone(held: Craftsync) -> None:
    run = held("deletes", "reject", *DATA, "old/07", "--json")
    assert (run.code, run.summary["downloaded"]) == (0, 1)
    assert held.files("data")["old/07"] == "old/07"
    assert held("deletes", "reject", *DATA, "--all").code == 0
    run = held("sync", "--json")
    assert (run.code, run.summary["unchanged"]) == (0, COUNT + 5)
    assert listed(held) == set()


def test_rejected_delete_restores_the_object_in_the_store(craftsync: Craftsync) -> None:
    pair = ("--root", "root", "--store", "./store")
    for name in NAMES:
        craftsync.write(f"root/{name}", name)
    craftsync("sync", "root", "./store")
    for name in NAMES:
        (craftsync.folder / "store" / name).unlink()
    assert craftsync("sync", "-q", "root", "./store").code == 7
    assert {row["action"] for row in craftsync("deletes", "list", *pair, "--json").json} == {
        "delete-local"
    }
    assert craftsync("deletes", "reject", "old/00", *pair).code == 0
    assert craftsync("deletes", "approve", "--all", *pair).code == 0
    assert craftsync.files("root") == craftsync.files("store") == {"old/00": "old/00"}


def test_rejected_path_changed_since_is_synced_normally(
    held: Craftsync,
) -> None:
    held.write("store/old/00", "edited")
    run = held("deletes", "reject", *DATA, "old/00")
    assert (run.code, "changed in the store" in run.err) == (6, True)
    assert "last synced state: 6 bytes" in held("why", "--folder", "data", "old/00").text
    held("sync", "-q")
    assert held.files("data")["old/00"] == "edited"


def test_held_deletes_of_push_delete_can_be_approved_and_rejected(craftsync: Craftsync) -> None:
    """The store holds what the root never had: only --delete can mean its deletion."""
    craftsync.write("root/kept")
    for name in NAMES:
        craftsync.write(f"store/{name}", name)
    words = ("push", "--delete", "-q", "root", "./store")
    pair = ("--root", "root", "--store", "./store")
    assert craftsync("push", "root", "./store").code == 0
    assert craftsync(*words, "--max-delete", "5").code == 7
    assert craftsync("deletes", "reject", "old/00", *pair).code == 0
    assert craftsync.files("root")["old/00"] == "old/00"
    assert craftsync("deletes", "approve", "--all", *pair).code == 0
    assert set(craftsync.files("store")) == {"kept", "old/00"}


LISTED = ("deletes", "list", "--root", "data", "--store", "./store", "--json")


def test_deletes_held_by_a_push_end_where_both_sides_lost_the_path(
    craftsync: Craftsync,
) -> None:
    craftsync.write("data/stays", "x")
    for name in NAMES:
        craftsync.write(f"store/{name}", name)
    assert craftsync("push", "data", "./store", "--delete").code == 7
    for name in NAMES:
        (craftsync.folder / "store" / name).unlink()
    assert craftsync("sync", "data", "./store").code == 0
    assert craftsync(*LISTED).json == []


def test_sync_that_leaves_held_files_out_releases_none(craftsync: Craftsync) -> None:
    craftsync.write("store/stays", "x")
    for name in NAMES:
        craftsync.write(f"data/{name}", name)
    assert craftsync("pull", "data", "./store", "--delete").code == 7
    craftsync("sync", "data", "./store", "--exclude", "old/")
    assert {line["path"] for line in craftsync(*LISTED).json} == set(NAMES)


def test_approving_a_path_that_is_not_held_fails(held: Craftsync) -> None:
    for path in ("new/1", "nowhere", "old/0", ".", "a\udcff"):
        run = held("deletes", "approve", *DATA, "old/00", path)
        assert (run.code, "is held" in run.err) == (2, True), path
        assert "craftsync deletes list" in run.err
        assert len(in_store(held)) == COUNT
    assert "PATH is empty" in held("deletes", "approve", *DATA, "old/00", "").err


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("old/0*",), 10),
        (("old", "--since", "1h"), COUNT),
        (("--since", "yesterday"), COUNT),
        (("--all", "--since", "today"), COUNT),
        (("old/?5", "old/0?", "--since", "2000-01-01"), 12),
    ],
)
def test_globs_and_times_choose_held_deletes(
    held: Craftsync, words: tuple[str, ...], count: int
) -> None:
    rows = held("deletes", "list", *(word for word in words if word != "--all"), "--json").json
    planned = held("deletes", "approve", *DATA, *words, "-n", "--json")
    assert (planned.code, planned.summary["deleted_remote"]) == (0, count)
    assert {row["path"] for row in planned.json if row["type"] == "action"} == {
        row["path"] for row in rows
    }
    run = held("deletes", "approve", *DATA, *words, "--json")
    assert (run.code, run.summary["deleted_remote"]) == (0, count)
    assert len(in_store(held)) == COUNT - count


def test_no_held_delete_is_chosen_by_a_later_time(held: Craftsync) -> None:
    assert held("deletes", "approve", *DATA, "--since", "2999-01-01").text == "No delete is held.\n"
    run = held("deletes", "reject", *DATA, "old", "--since", "2999-01-01")
    assert (run.code, "No delete of old is held since 2999-01-01." in run.err) == (2, True)
    assert len(listed(held)) == COUNT
    (line,) = held("deletes", "approve", *DATA, "--since", "2999-01-01", "--json").json
    assert (line["type"], line["deleted_remote"]) == ("summary", 0)


@pytest.mark.parametrize("words", [(), ("--all", "old/00")])
def test_approve_without_a_clear_selection_is_rejected(
    held: Craftsync, words: tuple[str, ...]
) -> None:
    assert held("deletes", "approve", *DATA, *words).code == 2
    assert len(in_store(held)) == COUNT


def test_deletes_list_without_held_deletes_is_stated(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    pair = ("--root", "root", "--store", "./store")
    craftsync("sync", "root", "./store")
    for words in (("list",), ("approve", "--all"), ("reject", "--all")):
        run = craftsync("deletes", *words, *pair)
        assert (run.code, run.text) == (0, "No delete is held.\n")
    assert craftsync("deletes", "list", *pair, "--json").text == ""
    assert craftsync("deletes", "approve", "--all", *pair, "--json").summary["deleted_remote"] == 0


def test_run_and_status_name_the_deletes_command(held: Craftsync) -> None:
    assert "craftsync deletes list" in held("sync").err
    facts = json.loads(held("status", "--json").out)
    assert (facts["held"], facts["next"]) == (COUNT, ["craftsync deletes list --folder data"])
    assert "  see: craftsync deletes list --folder data" in held("status").lines


def test_commands_in_messages_name_folder_and_configuration(held: Craftsync) -> None:
    other = str(held.config.rename(held.folder / "other file.yaml"))
    held.config.write_text("")
    naming = f"--folder data --config '{other}'"
    flags = ("--folder", "data", "--config", other)
    assert f"Review: craftsync deletes list {naming}" in held("sync", "data", *flags[2:]).err
    refused = held("deletes", "approve", "nothing", *flags)
    assert (refused.code, f"See craftsync deletes list {naming} for" in refused.err) == (2, True)
    failed = held("deletes", "approve", "nothing", "--json", *flags)
    assert f"craftsync deletes list {naming}" in failed.text + failed.err
    kept = held("trash", "restore", "nothing", *flags)
    assert (kept.code, f"craftsync trash list {naming}" in kept.err) == (2, True)
    status = held("status", *flags)
    assert f"  see: craftsync deletes list {naming}" in status.lines
    assert f"craftsync watch {naming} or" in status.text
    stopped = held("rescan", *flags)
    assert f"Start one with craftsync watch {naming}, or" in stopped.err


def test_log_of_a_daemon_names_the_folder_in_its_commands(held: Craftsync) -> None:
    with running(held) as daemon:
        daemon.until_logged("Review: craftsync deletes list --folder data")


@pytest.fixture
def watched(held: Craftsync) -> Iterator[Daemon]:
    with running(held) as daemon:
        # The state database knows what is held, and `status` tells it, before any daemon answers.
        daemon.until_state("watching")
        daemon.until_status(lambda shown: shown["held"] == COUNT, "the deletes to be held")
        yield daemon


def handed_over(run: Run) -> None:
    assert run.code == 0, run.err
    assert "handed to the daemon" in run.text


def test_running_daemon_carries_out_only_approved_deletes(held: Craftsync, watched: Daemon) -> None:
    handed_over(held("deletes", "approve", *DATA, "old/0*", "old/1*", *NAMES[20:25]))
    until(lambda: in_store(held) == set(NAMES[25:]), "the approved deletes")
    handed_over(held("deletes", "reject", *DATA, NAMES[25]))
    until((held.folder / "data" / NAMES[25]).exists, "the path that was brought back")
    watched.until_status(lambda shown: shown["held"] == 4, "the daemon to know what is left")
    held("rescan")
    held.write("data/last")
    until((held.folder / "store/last").exists, "a later change")
    assert in_store(held) == set(NAMES[25:])
    assert held("deletes", "approve", *DATA, "--all", "--json").summary["exit_code"] == 0
    watched.until_status(lambda shown: shown["held"] == 0, "the rest")
    assert in_store(held) == {NAMES[25]}
    assert "approve done: delete in the store: old/00" in held("history", "--limit", "500").text


def test_paused_daemon_rejects_approval_with_a_reason(held: Craftsync, watched: Daemon) -> None:
    held("pause")
    run = held("deletes", "approve", *DATA, "--all")
    assert (run.code, "craftsync resume" in run.err) == (2, True)
    assert len(in_store(held)) == COUNT


def test_invalid_approval_request_is_rejected(held: Craftsync, watched: Daemon) -> None:
    from craftsync.daemon.control import ask, folder_of
    from craftsync.errors import UsageError

    here = Path(held.folder).resolve()
    folder = folder_of(here / "state", f"{here}/data", f"{here}/store")
    wrong: list[dict[str, object]] = [{}, {"paths": []}, {"paths": "old"}]
    wrong += [{"paths": ["old", word]} for word in (1, None, "", "../old", "\udcff", "a\0")]
    for arguments in wrong:
        with pytest.raises(UsageError, match="a list of paths, or null"):
            ask(folder, "approve", **arguments)
    assert len(in_store(held)) == COUNT


def gone_in_two_runs(craftsync: Craftsync) -> None:
    """Lose 10 files, which goes through, and 20 more right after it, which are held with them."""
    for name in NAMES[:10]:
        (craftsync.folder / "data" / name).unlink()
    assert craftsync("sync").code == 0
    for name in NAMES[10:]:
        (craftsync.folder / "data" / name).unlink()
    assert craftsync("sync", "-q").code == 7


@pytest.fixture
def event(craftsync: Craftsync) -> Craftsync:
    """Give a folder `data` of which 10 deletes went through before 20 more were held."""
    configure(craftsync)
    gone_in_two_runs(craftsync)
    return craftsync


def test_the_whole_event_is_listed(event: Craftsync) -> None:
    rows = event("deletes", "list", "--json").json
    assert [(row["type"], row["path"]) for row in rows] == [
        *(("held", name) for name in NAMES[10:]),
        *(("action", name) for name in NAMES[:10]),
    ]
    text = event("deletes", "list").text
    assert "already deleted in the store, in the same event; reject restores them:" in text
    assert "30 paths disappeared from the folder within a short time" in text


def test_reject_all_restores_the_whole_event_and_dry_run_lists_it(event: Craftsync) -> None:
    before = in_store(event)
    planned = event("deletes", "reject", *DATA, "--all", "-n", "--json").json
    assert {row["path"] for row in planned if row["type"] == "action"} == set(NAMES)
    assert all(row["status"] == "planned" for row in planned[:-1])
    assert in_store(event) == before
    run = event("deletes", "reject", *DATA, "--all", "--json")
    assert (run.code, run.summary["downloaded"], run.summary["uploaded"]) == (0, 20, 10)
    assert in_store(event) == set(NAMES)
    assert event("sync", "--json").summary["unchanged"] == COUNT + 5
    assert event("deletes", "list").text == "No delete is held.\n"


def test_rejecting_restores_deletes_made_before_the_hold(
    craftsync: Craftsync,
) -> None:
    configure(craftsync)
    with running(craftsync) as daemon:
        daemon.until_state("watching")
        for name in NAMES[:10]:
            (craftsync.folder / "data" / name).unlink()
        until(lambda: in_store(craftsync) == set(NAMES[10:]), "the first deletes")
        for name in NAMES[10:]:
            (craftsync.folder / "data" / name).unlink()
        daemon.until_status(lambda shown: shown["held"] > 0, "deletes to be held")
        handed_over(craftsync("deletes", "reject", *DATA, "--all"))
        until(lambda: in_store(craftsync) == set(NAMES), "the whole event to be back")
        daemon.until_status(lambda shown: shown["held"] == 0, "nothing to be held")


def test_decisions_for_the_daemon_count_what_they_change(
    event: Craftsync,
) -> None:
    with running(event) as daemon:
        daemon.until_state("watching")
        approved = event("deletes", "approve", *DATA, *NAMES[8:12])
        assert (approved.code, "approve of 2 deletes handed" in approved.text) == (0, True)
        until(lambda: in_store(event) == set(NAMES[12:]), "the approved deletes")
        rejected = event("deletes", "reject", *DATA, "--all", "--json").json
        assert (rejected[0]["type"], rejected[0]["held"]) == ("handed-over", 18 + 8)


def test_remounted_folder_releases_held_deletes_without_a_full_scan(
    craftsync: Craftsync,
) -> None:
    configure(craftsync)
    place, aside = craftsync.folder / "data" / "old", craftsync.folder / "aside"
    place.rename(aside)
    assert craftsync("sync", "-q").code == 7
    with running(craftsync) as daemon:
        daemon.until_state("watching")
        daemon.until_status(lambda shown: shown["held"] == COUNT, "the deletes to be held")
        aside.rename(place)
        until(lambda: not listed(craftsync), "those that are back to be released")
        daemon.until_status(lambda shown: shown["held"] == 0, "the daemon to know it")
    assert in_store(craftsync) == set(NAMES)
