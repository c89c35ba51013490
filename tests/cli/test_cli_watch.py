"""`craftsync watch`, as a service would run it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.cli import DEADLINE, Craftsync, Process, until
from tests.support.daemons import running


@contextmanager
def watching(craftsync: Craftsync, *words: str) -> Iterator[Process]:
    process = craftsync.start("watch", "--json", "--settle", "0.1", "--poll", "1", *words)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def pair(craftsync: Craftsync, tmp_path: Path) -> tuple[Path, Path]:
    root, store = tmp_path / "root", tmp_path / "store"
    root.mkdir()
    (root / "first").write_text("1")
    return root, store


def test_changes_of_both_sides_arrive_while_it_runs(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    with watching(craftsync, str(root), str(store)) as process:
        until(lambda: (store / "first").exists(), "the first run")
        (root / "d").mkdir()
        (root / "d/new").write_text("made while watching")
        until(lambda: (store / "d/new").exists(), "a new file")
        (root / "d/new").rename(root / "d/renamed")
        until(lambda: (store / "d/renamed").exists() and not (store / "d/new").exists(), "a rename")
        (root / "first").unlink()
        until(lambda: not (store / "first").exists(), "a deletion")
        (store / "from there").write_text("2")
        until(lambda: (root / "from there").exists(), "a new object")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


def has_open(process: Process, folder: Path) -> bool:
    """Tell whether the process has a file open below the folder, be it one without a name."""
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if str(descriptor.readlink()).startswith(f"{folder}/"):
                return True
    return False


def test_sigterm_ends_a_transfer_at_once_and_the_next_run_resumes(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    (root / "large").write_bytes(bytes(24 << 20))
    with watching(craftsync, "--bwlimit", "1M", str(root), str(store)) as process:
        until(lambda: has_open(process, store / ".craftsync/tmp"), "the transfer")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    assert not (store / "large").exists()
    assert craftsync("sync", str(root), str(store)).code == 0
    assert (store / "large").stat().st_size == 24 << 20


def test_watch_without_arguments_watches_every_configured_folder(
    craftsync: Craftsync, tmp_path: Path
) -> None:
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-store").mkdir()
        folders.append(
            f"  {name}: {{root: {tmp_path / name}, environment: {name}-store, mode: push}}"
        )
    stores = [
        f"  {name}-store: {{store: directory, path: {tmp_path / name}-store}}"
        for name in ("one", "two")
    ]
    craftsync.config.write_text("\n".join(["environments:", *stores, "folders:", *folders, ""]))
    with watching(craftsync) as process:
        for name in ("one", "two"):
            (tmp_path / name / "file").write_text(name)
        until(
            lambda: all((tmp_path / f"{name}-store" / "file").exists() for name in ("one", "two")),
            "both folders",
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0


def test_missing_folder_halts_the_daemon_and_the_store_is_unchanged(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    with running(craftsync, str(root), str(store)) as daemon:
        until(lambda: (store / "first").exists(), "the first run")
        root.rename(tmp_path / "moved away")
        daemon.until_state("halted", str(root), str(store))
        assert (store / "first").read_text() == "1"
        assert daemon.end() == 0
