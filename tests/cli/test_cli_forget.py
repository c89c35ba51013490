"""`craftsync forget`: deletes the saved state of a folder and its store; their files stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.cli import Craftsync
from tests.support.daemons import running

PAIR = ("root", "./store")


def state_of(craftsync: Craftsync) -> list[str]:
    state = craftsync.folder / "state"
    return sorted(str(path.relative_to(state)) for path in state.rglob("*") if path.is_file())


@pytest.fixture
def linked(craftsync: Craftsync) -> Craftsync:
    """A linked folder with everything there is to remember, and another one."""
    craftsync.write("other/a")
    assert craftsync("sync", "other", "./other-store").code == 0
    for number in range(40):
        craftsync.write(f"root/{number}", "content")
    craftsync.write("root/both", "at first")
    assert craftsync("sync", *PAIR).code == 0
    craftsync.write("root/both", "local")
    craftsync.write("store/both", "in the store")
    assert craftsync("sync", *PAIR).code == 4
    for number in range(30):
        (craftsync.folder / f"root/{number}").unlink()
    assert craftsync("sync", "-q", *PAIR).code == 7
    return craftsync


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_forget_drops_state_and_touches_no_file(linked: Craftsync) -> None:
    before = {name: everything(linked.folder / name) for name in ("root", "store")}
    state = state_of(linked)
    planned = linked("forget", "-n", *PAIR)
    assert (planned.code, state_of(linked)) == (0, state)
    assert "last synced state: 42 files" in planned.text
    assert "held deletes: 30, neither approved nor rejected" in planned.text
    assert "unresolved conflicts: 1; the conflict copies stay" in planned.text
    run = linked("forget", "-y", *PAIR)
    assert run.code == 0, run.err
    assert run.lines[:-1] == planned.lines
    assert "The next run is a first run" in run.lines[-1]
    after = {name: everything(linked.folder / name) for name in ("root", "store")}
    locks = {path for path in after["root"] if path.endswith("lock")}
    assert after["root"].keys() - locks == before["root"].keys() - locks
    assert after["store"] == before["store"]
    # Only the other linked folder is remembered.
    assert len(list((linked.folder / "state/pairs").iterdir())) == 1
    assert linked("sync", "other", "./other-store", "--json").summary["unchanged"] == 1


def test_run_after_forget_merges_and_deletes_nothing(linked: Craftsync) -> None:
    assert linked("forget", "-y", *PAIR).code == 0
    run = linked("sync", "--json", *PAIR)
    assert (run.summary["deleted_remote"], run.summary["downloaded"]) == (0, 30)
    assert linked.files("root") == linked.files("store")


def test_forget_of_an_unknown_pair_is_refused(linked: Craftsync) -> None:
    run = linked("forget", "-y", "root", "./typo")
    assert (run.code, "There is no saved state of ~/root ⇄ ~/typo." in run.err) == (2, True)
    assert linked("forget", "-y", *PAIR, "--json").summary["forgotten"]["held"] == 30
    assert linked("forget", "-y", *PAIR).code == 2


def test_forget_is_refused_while_a_daemon_runs(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    (craftsync.folder / "store").mkdir()
    with running(craftsync, *PAIR) as daemon:
        daemon.until_state("watching", *PAIR)
        assert craftsync("forget", "-n", *PAIR).code == 0
        run = craftsync("forget", "--yes", *PAIR)
        assert (run.code, "craftsync stop" in run.err) == (5, True)
    assert craftsync("forget", "--yes", *PAIR).code == 0


def test_forget_accepts_a_lost_folder_and_a_damaged_state(linked: Craftsync) -> None:
    shutil.rmtree(linked.folder / "root")
    shutil.rmtree(linked.folder / "store")
    for file in (linked.folder / "state/pairs").glob("*/state.db"):
        file.write_bytes(b"damaged" * 1000)
    run = linked("forget", "-y", str(linked.folder / "root"), str(linked.folder / "store"))
    assert run.code == 0, run.err
    assert run.lines[0] == "The saved state cannot be read; all of it is deleted."
    assert len(list((linked.folder / "state/pairs").iterdir())) == 1


def test_folder_that_is_another_one_names_forget(linked: Craftsync) -> None:
    (linked.folder / "root/.craftsync/root-id").write_text("0" * 32)
    run = linked("sync", *PAIR)
    assert (run.code, "craftsync forget" in run.err) == (3, True)
    assert linked("forget", "-y", *PAIR).code == 0
    assert linked("sync", "-q", *PAIR).code in (0, 4)


def test_forget_off_a_terminal_needs_yes(linked: Craftsync) -> None:
    state = state_of(linked)
    run = linked("forget", *PAIR)
    assert (run.code, state_of(linked)) == (2, state)
    assert "type: craftsync forget root ./store --yes\n" in run.err
    assert linked("forget", "--json", *PAIR).summary["exit_code"] == 2
    assert state_of(linked) == state
