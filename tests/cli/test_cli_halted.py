"""One folder's trouble is its own: it halts, says why, is tried again, and the daemon and the others continue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Craftsync, Process, until
from tests.support.daemons import running


@pytest.fixture
def folders(craftsync: Craftsync) -> dict[str, Path]:
    """Configure folders `one` and `two`, with a file in each."""
    configure(craftsync, "one", "two")
    return {name: craftsync.write(f"{name}/file").parent for name in ("one", "two")}


def configure(craftsync: Craftsync, *names: str, top: str = "") -> None:
    here = craftsync.folder
    craftsync.config.write_text(
        "environments:\n"
        + "".join(f"  e-{name}: {{store: directory, path: s-{name}}}\n" for name in names)
        + "folders:\n"
        + "".join(f"  {name}: {{root: {here}/{name}, environment: e-{name}}}\n" for name in names)
        + top
    )


def in_store(craftsync: Craftsync, name: str, path: str = "file") -> Path:
    return craftsync.folder / f"s-{name}" / path


def watching_elsewhere(craftsync: Craftsync, name: str) -> Process:
    """Watch a folder by another process, and return once that has synced it."""
    process = craftsync.start("watch", name)
    until(in_store(craftsync, name).exists, "the other process")
    return process


def end(process: Process) -> None:
    process.terminate()
    process.communicate()


def test_folder_watched_elsewhere_does_not_end_the_daemon(
    craftsync: Craftsync, folders: dict[str, Path]
) -> None:
    other = watching_elsewhere(craftsync, "one")
    with running(craftsync) as daemon:
        until(in_store(craftsync, "two").exists, "the folder that is free")
        daemon.until_logged(f"{folders['one']}: halted: Another craftsync (process {other.pid})")
        end(other)
        daemon.until_status(
            lambda shown: shown["pid"] == daemon.process.pid,
            "the folder to be taken over once it is free",
            "one",
        )
        (folders["one"] / "second").write_text("2")
        until(in_store(craftsync, "one", "second").exists, "its next file")
        assert daemon.end() == 0


def test_folder_locked_at_reload_is_watched_once_free(
    craftsync: Craftsync, folders: dict[str, Path]
) -> None:
    other = watching_elsewhere(craftsync, "two")
    configure(craftsync, "one")
    with running(craftsync) as daemon:
        until(in_store(craftsync, "one").exists, "the first folder")
        configure(craftsync, "one", "two")
        daemon.hang_up()
        daemon.until_logged(f"{folders['two']}: halted")
        end(other)
        daemon.until_status(
            lambda shown: shown["pid"] == daemon.process.pid, "the second folder", "two"
        )


def test_folder_locked_by_a_run_halts_and_is_watched_afterwards(
    craftsync: Craftsync, folders: dict[str, Path]
) -> None:
    (folders["one"] / "large").write_bytes(bytes(8 << 20))
    with craftsync.start("push", "--bwlimit", "100K", "one", "./elsewhere") as run:
        until((folders["one"] / ".craftsync/lock").exists, "the lock")
        with running(craftsync) as daemon:
            reason = daemon.until_state("halted", "one")["reason"]
            until(in_store(craftsync, "two").exists, "the other folder")
            end(run)
            until(in_store(craftsync, "one", "large").exists, "the folder, once it is free")
    assert f"process {run.pid}" in reason


def test_single_halted_folder_is_retried_and_notified_without_systemd(
    craftsync: Craftsync, folders: dict[str, Path]
) -> None:
    noted = craftsync.folder / "noted"
    hook = ["/bin/sh", "-c", f'echo "$CRAFTSYNC_NOTIFY_EVENT $CRAFTSYNC_NOTIFY_ROOT" >> {noted}']
    configure(craftsync, "one", top=f"notify: {json.dumps(hook)}\n")
    with running(craftsync) as daemon:
        until(in_store(craftsync, "one").exists, "the first run")
        folders["one"].rename(craftsync.folder / "moved")
        assert "that its disk is mounted" in daemon.until_state("halted")["reason"]
        until(noted.exists, "the call of notify:")
        assert noted.read_text() == f"halted {folders['one']}\n"
        (craftsync.folder / "moved").rename(folders["one"])
        (folders["one"] / "second").write_text("2")
        assert craftsync("rescan").code == 0
        until(in_store(craftsync, "one", "second").exists, "the file made since")
        assert daemon.end() == 0


def test_configured_folder_missing_at_start_is_retried(
    craftsync: Craftsync, folders: dict[str, Path]
) -> None:
    configure(craftsync, "late")
    with running(craftsync) as daemon:
        daemon.until_state("halted")
        craftsync.write("late/file")
        assert craftsync("rescan").code == 0
        until(in_store(craftsync, "late").exists, "the folder, once it is there")


def test_mistyped_root_exits_3(craftsync: Craftsync) -> None:
    run = craftsync("watch", "./mistyped", "./store")
    assert run.code == 3
    assert "mistyped" in run.err
