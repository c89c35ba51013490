"""What a running command shows: on a terminal, without one (`--stats`), and in a file (`--log-file`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craftsync.engine.report import ProgressEvent
from craftsync.progress import stats_line
from tests.support.cli import DEADLINE, Craftsync, until
from tests.support.daemons import running
from tests.support.terminal import on_a_terminal

MIB = 1 << 20


@pytest.fixture
def root(craftsync: Craftsync) -> Path:
    craftsync.config.write_text(
        "environments:\n  archive: {store: directory, path: store}\n"
        "folders:\n  datasets: {root: root, environment: archive}\n"
    )
    (craftsync.folder / "store").mkdir()
    return craftsync.write("root/first.csv").parent


def test_watch_on_a_terminal_shows_what_it_keeps_and_what_moves(
    craftsync: Craftsync, root: Path
) -> None:
    words = ("watch", "--settle", "0.1", "--bwlimit", "2M", "datasets")
    with on_a_terminal(craftsync, 100, *words) as terminal:
        terminal.until("datasets: ~/root ⇄ ~/store")
        terminal.until("datasets: in sync")
        # Written elsewhere and moved in: it is complete when it is seen.
        (root.with_name("large")).write_bytes(bytes(3 * MIB))
        root.with_name("large").rename(root / "large")
        terminal.until("transferring")
        terminal.until("upload large (3.0 MiB)")
        until(lambda: terminal.sent.count("datasets: in sync") == 2, "it to be in sync again")
        terminal.interrupt()
        assert terminal.end() == 0


def test_watch_without_a_terminal_logs_figures_every_so_often(
    craftsync: Craftsync, root: Path
) -> None:
    with running(craftsync, "--stats", "0.01s", "datasets") as daemon:
        daemon.until_logged("watching; In sync; last in sync")
        assert "1 uploaded (7 bytes), 0 downloaded (0 bytes)" in daemon.log
        assert "⇄" not in daemon.log


def test_run_without_a_terminal_prints_figures_every_so_often(
    craftsync: Craftsync, root: Path
) -> None:
    (root / "large").write_bytes(bytes(MIB))
    run = craftsync("push", "datasets", "--stats", "0.01", "--bwlimit", "2M")
    assert run.code == 0
    assert "\npush: transferring: " in run.err
    assert " of 2 files, " in run.err
    quiet = craftsync("push", "datasets", "--stats", "0.01", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    refused = craftsync("push", "datasets", "--stats", "often")
    assert (refused.code, "--stats" in refused.err) == (2, True)


def test_log_file_has_actions_and_problems_with_the_time(craftsync: Craftsync, root: Path) -> None:
    (root / "bad\nname").write_text("x")
    log = craftsync.folder / "log"
    run = craftsync("push", "datasets", "-q", "--log-file", "log")
    lines = log.read_text().splitlines()
    assert run.text == ""
    assert [line.partition(" push: ")[2] for line in lines[:-1]] == [
        r"upload bad\nname (1 byte)",
        "upload first.csv (7 bytes)",
    ]
    assert lines[-1].partition(" INFO ")[2].startswith("push: 2 uploaded (8 bytes); ")
    assert lines[0][:4].isdigit()
    root.rename(root.with_name("gone"))
    assert craftsync("push", "datasets", "--log-file", "log").code == 3
    assert "ERROR push: " in log.read_text().splitlines()[-1]
    refused = craftsync("push", "datasets", "--log-file", "nowhere/log")
    assert (refused.code, "--log-file: nowhere/log cannot be written" in refused.err) == (2, True)


def test_rotated_log_file_is_reopened(craftsync: Craftsync, root: Path) -> None:
    log, old = craftsync.folder / "log", craftsync.folder / "log.1"
    with running(craftsync, "-q", "--log-file", str(log), "datasets") as daemon:
        until(lambda: log.exists() and "upload first.csv" in log.read_text(), "the first run")
        log.rename(old)
        (root / "second.csv").write_text("x")
        until(lambda: log.exists() and "upload second.csv" in log.read_text(), "a new file")
        assert daemon.log == ""
    assert "second" not in old.read_text()


def test_json_lines_of_watch_name_folder_and_time(craftsync: Craftsync, root: Path) -> None:
    with craftsync.start("watch", "--json", "--settle", "0.1", "datasets") as process:
        assert process.stdout
        line = json.loads(process.stdout.readline())
        process.terminate()
        process.wait(DEADLINE)
    assert (line["folder"], line["root"], line["path"]) == ("datasets", str(root), "first.csv")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ProgressEvent("scanning", 1200), "scanning: 1200 files so far"),
        (
            ProgressEvent("transferring", 0, 2, 0, MIB),
            "transferring: 0 of 2 files, 0 bytes of 1.0 MiB",
        ),
        (
            ProgressEvent("transferring", 3, 9, 2 * MIB, 1026 * MIB),
            "transferring: 3 of 9 files, 2.0 MiB of 1.0 GiB, 512.0 KiB/s, 34m08s left",
        ),
    ],
)
def test_figures_name_counts_rate_and_time_left(event: ProgressEvent, line: str) -> None:
    assert stats_line(event, 4.0) == line
