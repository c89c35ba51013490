"""`trash restore` beside a daemon that keeps the folder in sync."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli import Craftsync, until
from tests.support.daemons import Daemon, running

PAIR = ("--root", "root", "--store", "./store")


@pytest.fixture
def watched(craftsync: Craftsync) -> Iterator[Daemon]:
    """A daemon that has just replaced an object, in its first run, and deleted another."""
    for path in ("edited", "gone", "stays"):
        craftsync.write(f"root/{path}", f"old {path}")
    assert craftsync("sync", "root", "./store").code == 0
    craftsync.write("root/edited", "newer")
    (craftsync.folder / "root/gone").unlink()
    with running(craftsync, "root", "./store") as daemon:
        until(lambda: craftsync.files("store").keys() == {"edited", "stays"}, "the first run")
        daemon.until_state("watching")
        yield daemon


def test_undone_run_is_synced_by_the_daemon(craftsync: Craftsync, watched: Daemon) -> None:
    run = craftsync("trash", "restore", "--run", "2", *PAIR)
    assert run.code == 0, run.err
    old = {path: f"old {path}" for path in ("edited", "gone", "stays")}
    assert craftsync.files("root") == old
    until(lambda: craftsync.files("store") == old, "the daemon to carry it to the store")


def test_version_replaced_by_a_restore_beside_the_daemon_is_counted(
    craftsync: Craftsync, watched: Daemon
) -> None:
    words = ("trash", "restore", "edited", "--overwrite", *PAIR)
    assert craftsync(*words).code == 0
    assert craftsync.files("root")["edited"] == "old edited"
    watched.end()
    rows = craftsync("trash", "list", "--json", *PAIR).json
    (status,) = craftsync("status", "--json", "root", "./store").json
    assert "root" in {row["side"] for row in rows}
    assert status["trash"]["files"] == len(rows)
