"""Symbolic links and special files take no part by design: they are nothing to be done about."""

from __future__ import annotations

import os
import socket
from contextlib import chdir

import pytest

from tests.support.cli import Craftsync, until
from tests.support.daemons import running


def test_symlinks_and_sockets_do_not_change_the_exit_code(craftsync: Craftsync) -> None:
    file = craftsync.write("data/a")
    file.with_name("link").symlink_to("a")
    os.mkfifo(file.with_name("pipe"))
    with socket.socket(socket.AF_UNIX) as listening, chdir(file.parent):
        listening.bind("socket")
    for _ in range(2):
        run = craftsync("sync", "data", "./store")
        assert (run.code, run.err) == (0, "")
        assert "3 left out (links and special files)" in run.text
    run = craftsync("sync", "--json", "data", "./store")
    assert (run.code, run.summary["skipped"]) == (0, 0)
    assert {line["path"] for line in run.json if line["type"] == "skipped"} == {
        *("link", "pipe", "socket")
    }
    assert "left out: link: a symbolic link" in craftsync("sync", "-v", "data", "./store").text
    assert craftsync("push", "data", "./store").code == 0
    assert craftsync("migrate", "./data", "./other").code == 0
    assert '"last_success": "2' in craftsync("status", "--json", "data", "./store").text


def test_a_run_and_status_count_what_patterns_leave_out(craftsync: Craftsync) -> None:
    for name in ("a.csv", "b.tmp", "c.tmp", ".git/HEAD", ".git/config"):
        craftsync.write(f"data/{name}")
    craftsync.write("store/d.tmp")
    counted = "3 left out by patterns in the folder, 1 left out by patterns in the store"
    run = craftsync("sync", "--exclude", "*.tmp", "data", "./store")
    assert counted in run.text, run
    run = craftsync("push", "--json", "--exclude", "*.tmp", "data", "./store")
    expected = {"ignored_local": 3, "ignored_remote": 1, "special": 0, "filtered": 0}
    assert expected.items() <= run.summary.items()
    assert counted in craftsync("check", "--exclude", "*.tmp", "data", "./store").text
    assert "1 left out by patterns in the folder" in craftsync("push", "data", "./store").text
    craftsync("push", "--exclude", "*.tmp", "data", "./store")
    assert (
        "left out: 3 by patterns in the folder, 3 by" in craftsync("status", "data", "./store").text
    )
    run = craftsync("migrate", "--exclude", "*.tmp", "./store", "./other")
    assert "3 left out by patterns in the source" in run.text


def test_symlink_in_the_way_of_an_object_is_skipped(craftsync: Craftsync) -> None:
    for name in ("a", "b", "c"):
        craftsync.write(f"store/folder/{name}")
    (craftsync.folder / "elsewhere").mkdir()
    (craftsync.folder / "data").mkdir()
    (craftsync.folder / "data" / "folder").symlink_to(craftsync.folder / "elsewhere")
    run = craftsync("sync", "data", "./store")
    assert (run.code, run.text.count("1 skipped")) == (6, 1)
    (line,) = run.err.splitlines()
    assert line.startswith("skipped: folder: a symbolic link or special file stands where the")
    # A push has nothing to bring there.
    assert craftsync("push", "data", "./store").code == 0


def test_symlink_in_a_store_folder_is_skipped(craftsync: Craftsync) -> None:
    craftsync.write("data/a")
    craftsync.write("store/b")
    (craftsync.folder / "store" / "a").symlink_to("b")
    run = craftsync("push", "data", "./store")
    assert run.code == 6
    assert run.err.startswith("skipped: a: a symbolic link or special file stands where")


def test_a_running_daemon_reports_a_link_once_and_a_success(craftsync: Craftsync) -> None:
    file = craftsync.write("data/a")
    file.with_name("link").symlink_to("a")
    (craftsync.folder / "store").mkdir()
    pair = ("data", "./store")
    with running(craftsync, *pair) as daemon:
        daemon.until_status(lambda shown: shown["last_success"], "a success", *pair)
        for name in ("b", "c"):
            assert craftsync("rescan", *pair).code == 0
            craftsync.write(f"data/{name}")
            until((craftsync.folder / "store" / name).exists, "another run")
        assert daemon.log.count("link: a symbolic link") == 1


@pytest.mark.parametrize("words", [("data", "./store"), ("file://{}/data", "file://{}/store")])
def test_check_omits_excluded_paths(craftsync: Craftsync, words: tuple[str, str]) -> None:
    file = craftsync.write("data/a")
    assert craftsync("push", "data", "./store").code == 0
    file.with_name("link").symlink_to("a")
    os.mkfifo(file.with_name("pipe"))
    pair = [word.format(craftsync.folder) for word in words]
    run = craftsync("check", *pair)
    assert run.code == 0
    assert run.lines[0].startswith("check: 1 unchanged, 2 left out (links and special files); ")
    run = craftsync("check", "--json", *pair)
    assert (run.code, run.summary["skipped"]) == (0, 0)
    # What an object stands beside is in the store only.
    craftsync.write("store/link")
    run = craftsync("check", *pair)
    assert (run.code, run.lines[0]) == (1, "- link")
