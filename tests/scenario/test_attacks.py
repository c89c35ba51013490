"""Attacks that succeeded once: each story ends as the promises say, whatever died or was damaged."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from craftsync.core.model import RemoteObject
from craftsync.engine import content, executor, planfile
from craftsync.engine.report import Options, Report
from craftsync.engine.session import Session
from craftsync.errors import StoreUnavailable
from craftsync.local.folder import Folder
from craftsync.stores.base import Expect
from craftsync.stores.directory import DirectoryStore
from tests.support.memory_store import MemoryStore
from tests.support.world import World


class _ControlThreadDies(BaseException):
    """Stands for a SIGKILL at a moment when uploads were made and none was recorded."""


def test_deletes_decided_at_the_last_stat_are_guarded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploaded, never recorded, then gone from the root: still more deletes than one run may make."""
    world.write("keep", "k")
    world.run()
    for number in range(100):
        world.write(f"new/{number}", f"content {number}")

    def die(*_: object) -> None:
        raise _ControlThreadDies

    with monkeypatch.context() as death:
        death.setattr(executor.Executor, "_record", die)
        with pytest.raises(_ControlThreadDies):
            world.run()
    uploaded = _objects(world)
    assert len(uploaded) > 50
    shutil.rmtree(world.root / "new")

    report = world.run()

    assert report.deleted_remote <= 20
    assert report.exit_code == 7 or report.downloaded


def test_many_large_downloads_among_many_files_have_temporaries_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (content, executor):
        monkeypatch.setattr(module, "WHOLE", 1000)
        monkeypatch.setattr(module, "PART", 500)
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    for number in range(900):
        (tmp_path / "store" / f"{number:04}").write_bytes(b"%04d" % number * 300)

    report = world.run()

    assert report.exit_code == 0
    assert report.downloaded == 900


@pytest.mark.parametrize("pattern", ["[z-a]", "*.[9-0]"])
def test_an_ignore_file_with_an_invalid_pattern_is_reported(world: World, pattern: str) -> None:
    world.write(".craftsyncignore", f"{pattern}\n")
    world.write("data.csv", "1")

    report: Report = world.run()

    assert report.exit_code != 0
    assert any("cannot be used" in str(event) for event in world.events)


def test_the_temporary_of_a_download_that_became_pointless_is_removed(tmp_path: Path) -> None:
    """A large download died midway, and the object was deleted from the store since."""
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    with world.open() as session, session.state.transaction():
        session.state.transfers.begin_download(
            "gone.bin", temporary="download-x", size=1 << 30, version="v", part_size=1 << 24
        )
    temporaries = world.root / ".craftsync" / "tmp"
    temporaries.mkdir(exist_ok=True)
    (temporaries / "download-x").write_bytes(b"half a gigabyte")

    world.run()
    world.run()

    assert not list(temporaries.iterdir())


@pytest.mark.parametrize("lost", ["swept by a run with another store", "removed by hand"])
def test_download_with_a_missing_temporary_file_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The parts that are recorded are holes in a file that is made again."""
    for module in (content, executor):
        monkeypatch.setattr(module, "WHOLE", 1000)
        monkeypatch.setattr(module, "PART", 500)
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    world.put("big", "content " * 200)
    version = world.store.stat("big")
    assert version is not None and version.version is not None
    with world.open() as session, session.state.transaction():
        transfers = session.state.transfers
        transfers.begin_download(
            "big", temporary="download-x", size=1600, version=version.version, part_size=500
        )
        transfers.download_part("download-x", 0)
    temporary = world.root / ".craftsync" / "tmp" / "download-x"
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_text(("content " * 200)[:500])
    if lost == "removed by hand":
        temporary.unlink()
    else:
        Session.open(world.root, MemoryStore(), state_dir=world.state_dir).close()
        assert not temporary.exists()

    world.run()

    assert world.here() == {"big": "content " * 200}
    world.assert_in_step()


@pytest.mark.parametrize("renamed_in", ["root", "store"])
def test_old_path_of_a_failed_move_is_checked_again(tmp_path: Path, renamed_in: str) -> None:
    """It was edited on the other side between the look and the move."""
    store = _Edited()
    world = World(tmp_path, store)
    world.write("old", "content")
    world.run()
    if renamed_in == "root":
        os.rename(world.root / "old", world.root / "new")
        store.at_a_copy = lambda: world.put("old", "edited in the store")
    else:
        store.rename("old", "new")
        store.at_a_look = lambda: world.write("old", "edited in the root")

    report = world.run()

    assert report.exit_code == 0
    assert world.here() == world.there()
    assert len(world.here()) == 2


def test_planned_move_of_a_changed_file_is_skipped(
    tmp_path: Path,
) -> None:
    store = _Edited()
    world = World(tmp_path, store)
    for path in ("old", "other"):
        world.write(path, f"content of {path}")
    world.run()
    store.rename("old", "new")
    plan = io.StringIO()
    with world.open(read_only=True) as session:
        session.write_plan(Options(), plan)
    assert '"move-local"' in plan.getvalue()
    world.put("old", "newer")
    world.run(paths=["old"])
    world.take("old")

    read = planfile.read(plan.getvalue().splitlines())
    with world.open() as session:
        report = session.apply_plan(read.actions, Options(policy=read.policy))

    assert (report.moved, report.skipped) == (0, 1)
    world.run()
    assert world.here() == world.there()
    assert world.here()["new"] == "content of old"


def test_unrecorded_download_is_not_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts have arrived before the crash, and the object is replaced as the next run looks."""
    for module in (content, executor):
        monkeypatch.setattr(module, "WHOLE", 1000)
        monkeypatch.setattr(module, "PART", 500)
    place = tmp_path / "store"
    world = World(tmp_path, DirectoryStore.create(place))
    world.put("big", "old text" * 200)
    listed = world.store.stat("big")
    assert listed is not None and listed.version is not None
    with world.open() as session, session.state.transaction():
        transfers = session.state.transfers
        transfers.begin_download(
            "big", temporary="download-x", size=1600, version=listed.version, part_size=500
        )
        for number in range(4):
            transfers.download_part("download-x", number)
    temporary = world.root / ".craftsync" / "tmp" / "download-x"
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_text("old text" * 200)
    look = Folder.has_temporary

    def and_replace(folder: Folder, name: str) -> bool:
        (place / "big").write_text("new text" * 200)
        return look(folder, name)

    monkeypatch.setattr(Folder, "has_temporary", and_replace)
    world.run()
    monkeypatch.undo()
    world.run()

    assert world.here() == {"big": "new text" * 200}


def test_own_write_is_recognized_after_a_run_without_a_stat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploaded, never recorded, edited since; and the first run after that cannot ask the store."""
    store = _Edited()
    world = World(tmp_path, store)
    world.write("other", "in sync")
    world.run()
    world.write("file", "first")

    def die(*_: object) -> None:
        raise _ControlThreadDies

    with monkeypatch.context() as death:
        death.setattr(executor.Executor, "_record", die)
        with pytest.raises(_ControlThreadDies):
            world.run()
    assert world.there()["file"] == "first"
    world.write("file", "second")

    def unavailable() -> None:
        raise StoreUnavailable("The store is restarting.")

    store.at_a_look = unavailable
    assert world.run().problems == 1
    report = world.run()

    assert (report.conflicts, report.exit_code) == (0, 0)
    assert world.there()["file"] == "second"


def test_temporaries_a_crash_left_in_a_folder_as_store_are_removed(tmp_path: Path) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    world.run()
    temporaries = tmp_path / "store" / ".craftsync" / "tmp"
    temporaries.mkdir(exist_ok=True)
    (temporaries / "e65a12a9cae27e888ddf4f2d").write_bytes(b"half a file")
    world.write("new", "n")

    world.run()

    assert not list(temporaries.iterdir())


def test_two_conflicts_about_versions_of_the_same_second_are_both_kept(tmp_path: Path) -> None:
    """S3 tells no finer times, and two machines resolve conflicts at once."""
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    theirs = tmp_path / "store" / "notes.txt"
    world.write("notes.txt", "agreed")
    world.run()
    for number in range(2):
        world.write("notes.txt", f"mine {number}")
        theirs.write_text(f"theirs {number}")
        os.utime(theirs, (1_700_000_000, 1_700_000_000))
        assert world.run().exit_code == 4

    contents = {path.read_text() for path in world.root.glob("notes*")}
    assert {"mine 1", "theirs 0", "theirs 1"} <= contents


class _Edited(MemoryStore):
    """A store whose versions tell content, in which objects are renamed, and that lets others work once."""

    def __init__(self) -> None:
        super().__init__()
        self.features = replace(self.features, md5_versions=True)
        self.at_a_copy: Callable[[], object] | None = None
        self.at_a_look: Callable[[], object] | None = None

    def rename(self, old: str, new: str) -> None:
        described, content = self._objects.pop(old)
        self._objects[new] = (described._replace(path=new), content)

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        act, self.at_a_copy = self.at_a_copy, None
        if act:
            act()
        return super().copy(
            source, target, expect=expect, operation=operation, trash_stamp=trash_stamp
        )

    def stat(self, path: str) -> RemoteObject | None:
        act, self.at_a_look = self.at_a_look, None
        if act:
            act()
        return super().stat(path)


def _objects(world: World) -> list[RemoteObject]:
    return [found for found in world.store.list() if isinstance(found, RemoteObject)]
