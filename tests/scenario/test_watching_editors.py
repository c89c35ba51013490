"""What programs do when they save a file, under the real kernel: each ends in one upload of the final content.

The patterns are those of catalogue number 8 of the hazards a sync has to
survive; events differ with each, and none of them may decide anything.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from craftsync.core.model import Kind
from craftsync.engine.report import ActionEvent, Options
from craftsync.local import exclusive_rename
from tests.support.memory_store import MemoryStore
from tests.support.watching import SENTINELS, Hearing, Kept, kept
from tests.support.world import World

pytestmark = pytest.mark.on_disk

NEW = "the new content"
OTHERS = {f"other {number}": f"the old content of other {number}" for number in range(5)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, MemoryStore())
    for name in ("a", *OTHERS):
        world.write(name, f"the old content of {name}")
    return world


@pytest.fixture
def at_work(world: World) -> Iterator[Kept[Hearing]]:
    options = Options(transfers=4, exclude=(SENTINELS,))
    with kept(world, Hearing, options=options) as found:
        yield found


def done(at_work: Kept[Hearing]) -> list[str]:
    """Return what was carried out, once all that happened has been heard and has settled."""
    at_work.watch.catch_up()
    at_work.turn()
    events = [event for event in at_work.events if isinstance(event, ActionEvent)]
    at_work.events.clear()
    return sorted(f"{event.action} {event.path}" for event in events)


def plain_write(a: Path) -> None:
    a.write_text(NEW)


def truncate_then_write_in_pieces(a: Path) -> None:
    with a.open("w") as file:
        for letter in NEW:
            file.write(letter)
            file.flush()


def write_in_place(a: Path) -> None:
    with a.open("r+") as file:
        file.write(NEW)
        file.truncate()


def temporary_renamed_over(a: Path) -> None:
    beside = a.with_name(".a.tmp")
    beside.write_text(NEW)
    beside.replace(a)


def vim_with_a_backup(a: Path) -> None:
    (a.parent / "4913").touch()
    (a.parent / "4913").unlink()
    backup = a.with_name("a~")
    a.rename(backup)
    a.write_text(NEW)
    backup.unlink()


def vim_with_a_swap_file(a: Path) -> None:
    swap = a.with_name(".a.swp")
    swap.write_text("swap")
    a.write_text(NEW)
    swap.unlink()


def emacs_with_a_lock_link(a: Path) -> None:
    lock = a.with_name(".#a")
    lock.symlink_to("somebody@somewhere.1")
    copy = a.with_name("#a#")
    copy.write_text("auto-saved")
    a.write_text(NEW)
    copy.unlink()
    lock.unlink()


def deleted_and_written_anew(a: Path) -> None:
    a.unlink()
    a.write_text(NEW)


def gnome_with_a_goutputstream(a: Path) -> None:
    stream = a.with_name(".goutputstream-ABCDEF")
    with stream.open("w") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())
    backup = a.with_name("a~")
    os.link(a, backup)
    stream.replace(a)
    backup.unlink()


def exchanged(a: Path) -> None:
    beside = a.with_name("a.new")
    beside.write_text(NEW)
    folder = os.open(a.parent, os.O_RDONLY)
    exclusive_rename.exchange(folder, "a.new", folder, "a")
    os.close(folder)
    beside.unlink()


def unnamed_and_linked(a: Path) -> None:
    folder = os.open(a.parent, os.O_RDONLY)
    descriptor = os.open(a.parent, os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(descriptor, NEW.encode())
    a.unlink()
    exclusive_rename.link_unnamed(descriptor, folder, "a")
    os.close(descriptor)
    os.close(folder)


def mapped(a: Path) -> None:
    with a.open("r+b") as file:
        file.truncate(len(NEW))
        with mmap.mmap(file.fileno(), len(NEW)) as memory:
            memory[:] = NEW.encode()
            memory.flush()


def truncated_by_path_and_appended(a: Path) -> None:
    os.truncate(a, 0)
    with a.open("a") as file:
        file.write(NEW)


def office_with_a_lock_and_a_temporary(a: Path) -> None:
    lock = a.with_name(".~lock.a#")
    lock.write_text("somebody")
    temporary = a.with_name("lu1234.tmp")
    temporary.write_text(NEW)
    a.unlink()
    temporary.rename(a)
    lock.unlink()


def in_a_folder_beside_and_moved(a: Path) -> None:
    folder = a.with_name("a.sb-1234")
    folder.mkdir()
    (folder / "a").write_text(NEW)
    (folder / "a").replace(a)
    folder.rmdir()


def copied_over_with_its_times(a: Path) -> None:
    source = a.parent.parent / "source"
    source.write_text(NEW)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    shutil.copy2(source, a)


def saved_twice(a: Path) -> None:
    a.write_text("half a thought")
    temporary_renamed_over(a)


PATTERNS = [
    plain_write,
    truncate_then_write_in_pieces,
    write_in_place,
    temporary_renamed_over,
    vim_with_a_backup,
    vim_with_a_swap_file,
    emacs_with_a_lock_link,
    deleted_and_written_anew,
    gnome_with_a_goutputstream,
    exchanged,
    unnamed_and_linked,
    mapped,
    truncated_by_path_and_appended,
    office_with_a_lock_and_a_temporary,
    in_a_folder_beside_and_moved,
    copied_over_with_its_times,
    saved_twice,
]


@pytest.mark.parametrize("save", PATTERNS, ids=lambda save: save.__name__)
def test_a_save_is_one_upload_of_the_final_content(
    at_work: Kept[Hearing], world: World, save: Callable[[Path], None]
) -> None:
    save(world.root / "a")
    assert done(at_work) == [f"{Kind.UPLOAD} a"]
    assert world.there() == {"a": NEW, **OTHERS}
    assert at_work.full_passes == 0
    assert done(at_work) == []


def test_slow_save_by_delete_and_write_is_one_upload(at_work: Kept[Hearing], world: World) -> None:
    (world.root / "a").unlink()
    at_work.watch.catch_up()
    at_work.turn(1.0)
    (world.root / "a").write_text(NEW)
    assert done(at_work) == ["upload a"]


@pytest.mark.parametrize("target", ["b", "new folder/b", ".hidden"])
def test_a_rename_is_a_move_in_the_store(at_work: Kept[Hearing], world: World, target: str) -> None:
    (world.root / target).parent.mkdir(exist_ok=True)
    (world.root / "a").rename(world.root / target)
    assert done(at_work) == [f"move-remote {target}"]
    assert world.there() == {target: "the old content of a", **OTHERS}


def test_a_renamed_folder_is_moved_in_the_store(at_work: Kept[Hearing], world: World) -> None:
    for number in range(5):
        world.write(f"old/inner/{number}", f"content {number}")
    assert len(done(at_work)) == 5
    (world.root / "old").rename(world.root / "new")
    assert done(at_work) == [f"move-remote new/inner/{number}" for number in range(5)]


def test_rename_out_of_the_folder_is_a_delete_and_back_an_upload(
    at_work: Kept[Hearing], world: World, tmp_path: Path
) -> None:
    (world.root / "a").rename(tmp_path / "out")
    assert done(at_work) == ["delete-remote a"]
    (tmp_path / "out").rename(world.root / "a")
    assert done(at_work) == ["upload a"]


def test_constantly_changing_file_is_uploaded_whole(at_work: Kept[Hearing], world: World) -> None:
    with (world.root / "log").open("w") as log:
        for number in range(80):
            log.write(f"{number}\n")
            log.flush()
            at_work.watch.catch_up()
            at_work.turn(0.4)
        assert at_work.events
        content = (world.root / "log").read_text()
        assert content.startswith(world.there()["log"])
        assert world.there()["log"].endswith("\n")


def test_own_downloads_trigger_no_further_scan(at_work: Kept[Hearing], world: World) -> None:
    for number in range(20):
        world.put(f"d/{number}", "from there")
    at_work.clock.advance(130)
    at_work.loop.turn()
    assert len(done(at_work)) == 20
    assert len(at_work.passes) == 1
