"""Races with an editor, an attacker or another craftsync on the same path."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from craftsync.errors import PathBusy, PathError
from craftsync.local import exclusive_rename, trash
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary

pytestmark = pytest.mark.usefixtures("kernel")


@contextmanager
def repeated_in_a_thread(work: Callable[[], object]) -> Iterator[None]:
    """Repeat `work` in a thread during the `with` statement; raise its failure at the end."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            work()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(repeat)
        try:
            yield
        finally:
            stop.set()
        done.result()


class Editor:
    """Saves `path` again and again with an exchange, which shows which version each save replaced."""

    def __init__(self, root: Path, path: str) -> None:
        self._folder = os.open(root, os.O_RDONLY)
        self._root, self._path = root, path
        self.saved: set[str] = set()
        self.replaced: set[str] = set()

    def close(self) -> None:
        os.close(self._folder)

    def save(self) -> None:
        content = f"edit {len(self.saved)}"
        (self._root / "scratch").write_text(content)
        with suppress(FileNotFoundError):
            exclusive_rename.exchange(self._folder, "scratch", self._folder, self._path)
            self.saved.add(content)
            self.replaced.add((self._root / "scratch").read_text())
            return
        with suppress(FileExistsError):
            exclusive_rename.noreplace(self._folder, "scratch", self._folder, self._path)
            self.saved.add(content)


def everything(folder: Folder, root: Path) -> set[str]:
    kept = {path.read_text() for path in root.iterdir() if path.is_file()}
    for stamp, file in trash.entries(folder):
        with trash.open_trashed(folder, stamp, file.path) as opened:
            kept.add(opened.read_at(0, file.size).decode())
    return kept


def race(root: Path, meetings: int, *, replacing: bool) -> None:
    """Replace or delete a file while an editor saves it, until the two have met a number of times.

    Fails if a version is neither in place, nor in the trash, nor replaced by the editor itself.
    """
    met, placed = 0, set[str]()
    with (
        closing(Editor(root, "a")) as editor,
        Folder.open(root) as folder,
        repeated_in_a_thread(editor.save),
    ):
        while met < meetings:
            with suppress(PathBusy):
                current = folder.stat("a")
                if current is None:
                    continue
                met += 1
                if replacing:
                    with folder.temporary() as temporary:
                        temporary.write_at(0, b"sync %d" % met)
                        folder.place(
                            temporary, "a", expect=current, mtime_ns=None, trash_stamp="t1"
                        )
                    placed.add(f"sync {met}")
                else:
                    folder.displace("a", current, "t1")
    with Folder.open(root) as folder:
        assert editor.saved | placed <= everything(folder, root) | editor.replaced


@pytest.mark.parametrize("replacing", [True, False], ids=["replacing", "deleting"])
def test_no_version_saved_by_an_editor_is_lost(tmp_path: Path, replacing: bool) -> None:
    race(tmp_path, 100, replacing=replacing)


Step = tuple[str, Callable[[Path], object]]


def save(content: str) -> Callable[[Path], object]:
    """Save as editors do: a new file replaces the old one."""

    def work(path: Path) -> None:
        path.with_name("scratch").write_text(content)
        path.with_name("scratch").replace(path)

    return work


@pytest.fixture
def just_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, list[Step]], None]:
    """Run another program's change in the instant before a rename, which no earlier check can cover."""

    def install(path: Path, steps: list[Step]) -> None:
        for name in ("exchange", "noreplace"):
            real = getattr(exclusive_rename, name)

            def act_first(*names: int | str, name: str = name, real: Any = real) -> None:
                if steps and steps[0][0] == name and path.name in names:
                    steps.pop(0)[1](path)
                real(*names)

            monkeypatch.setattr(exclusive_rename, name, act_first)

    return install


def contents(root: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in root.iterdir() if path.is_file()}


CONFLICT = "a (conflict 1970-01-01 00-00-01 local).txt"


def dated(content: str) -> Callable[[Path], object]:
    def work(path: Path) -> None:
        save(content)(path)
        os.utime(path, (1, 1))

    return work


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([("exchange", save("edit"))], {"a.txt": "edit"}),
        ([("exchange", Path.unlink)], {}),
        ([("exchange", save("edit")), ("exchange", Path.unlink)], {"a.txt": "edit"}),
        (
            [("exchange", save("edit")), ("exchange", dated("later edit"))],
            {"a.txt": "edit", CONFLICT: "later edit"},
        ),
        (
            [
                ("exchange", save("edit")),
                ("exchange", Path.unlink),
                ("noreplace", save("later edit")),
            ],
            {"a.txt": "later edit", "a (conflict": "edit"},
        ),
    ],
    ids=["saved", "deleted", "saved, then deleted", "saved twice", "saved, deleted, saved"],
)
def test_file_saved_during_its_replacement_is_kept(
    tmp_path: Path,
    just_before: Callable[[Path, list[Step]], None],
    steps: list[Step],
    left: dict[str, str],
) -> None:
    steps = list(steps)
    (tmp_path / "a.txt").write_text("old")
    with Folder.open(tmp_path) as folder:
        scanned = folder.stat("a.txt")
        just_before(tmp_path / "a.txt", steps)
        with folder.temporary() as temporary, pytest.raises(PathBusy):
            temporary.write_at(0, b"new")
            folder.place(temporary, "a.txt", expect=scanned, mtime_ns=None, trash_stamp="t1")
        assert not steps
        assert shortened(contents(tmp_path), left) == left
        assert not list(trash.entries(folder))


def shortened(found: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    """Remove the time from the names of conflict copies if the expected names have none."""
    return {
        next((name for name in names if each.startswith(name)), each): content
        for each, content in found.items()
    }


def test_edit_before_a_replacement_is_undone_is_kept(
    tmp_path: Path, just_before: Callable[[Path, list[Step]], None]
) -> None:
    (tmp_path / "a.txt").write_text("old")
    steps: list[Step] = [("exchange", save("edit")), ("exchange", lambda path: append(path))]
    with Folder.open(tmp_path) as folder:
        scanned = folder.stat("a.txt")
        just_before(tmp_path / "a.txt", steps)
        with folder.temporary() as temporary, pytest.raises(PathBusy):
            temporary.write_at(0, b"new")
            folder.place(temporary, "a.txt", expect=scanned, mtime_ns=None, trash_stamp="t1")
    assert sorted(contents(tmp_path).values()) == ["edit", "new and improved"]


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write(" and improved")


@pytest.mark.parametrize("operation", ["delete", "move"])
@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([("noreplace", dated("edit"))], {"a.txt": "edit"}),
        (
            [("noreplace", dated("edit")), ("noreplace", save("later edit"))],
            {"a.txt": "later edit", CONFLICT: "edit"},
        ),
    ],
    ids=["saved", "saved twice"],
)
def test_file_saved_during_its_deletion_is_kept(
    tmp_path: Path,
    just_before: Callable[[Path, list[Step]], None],
    operation: str,
    steps: list[Step],
    left: dict[str, str],
) -> None:
    steps = list(steps)
    (tmp_path / "a.txt").write_text("old")
    with Folder.open(tmp_path) as folder:
        scanned = folder.stat("a.txt")
        assert scanned is not None
        just_before(tmp_path / "a.txt", steps)
        with pytest.raises(PathBusy):
            if operation == "delete":
                folder.displace("a.txt", scanned, "t1")
            else:
                folder.move("a.txt", "b.txt", scanned)
        assert not steps
        assert contents(tmp_path) == left
        assert not list(trash.entries(folder))


def test_edit_right_after_placing_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Temporary.give_name

    def then_edit(*place: Any) -> None:
        real(*place)
        (tmp_path / "a.txt").write_text("edit")

    with Folder.open(tmp_path) as folder, folder.temporary() as temporary:
        temporary.write_at(0, b"new!")
        monkeypatch.setattr(Temporary, "give_name", then_edit)
        placed = folder.place(temporary, "a.txt", expect=None, mtime_ns=1, trash_stamp=None)
        assert placed != folder.stat("a.txt")


def test_folder_swapped_for_a_symlink_never_escapes_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "a").write_text("secret")
    (root / "d").mkdir()
    (root / "d/other").write_text("so that the folder is not removed as empty")
    (root / "link").symlink_to(outside)
    descriptor = os.open(root, os.O_RDONLY)
    with Folder.open(root) as folder:
        swap = repeated_in_a_thread(
            lambda: exclusive_rename.exchange(descriptor, "d", descriptor, "link")
        )
        with swap:
            for _ in range(400):
                with suppress(PathError), folder.open_file("d/a") as opened:
                    assert opened.read_at(0, opened.file.size) != b"secret"
                with suppress(PathError), folder.temporary() as temporary:
                    temporary.write_at(0, b"inside")
                    file = folder.place(
                        temporary, "d/a", expect=None, mtime_ns=None, trash_stamp=None
                    )
                    folder.displace("d/a", file, None)
    os.close(descriptor)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"a": "secret"}


def test_one_of_many_concurrent_creates_succeeds(tmp_path: Path) -> None:
    ready = threading.Barrier(8)

    def create(number: int) -> bool:
        with Folder.open(tmp_path) as folder, folder.temporary() as temporary:
            temporary.write_at(0, b"%d" % number)
            ready.wait()
            try:
                folder.place(temporary, "x/y/a", expect=None, mtime_ns=None, trash_stamp=None)
            except PathBusy:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            won = list(pool.map(create, range(8)))
            assert won.count(True) == 1
            assert (tmp_path / "x/y/a").read_text() == str(won.index(True))
            (tmp_path / "x/y/a").unlink()


def test_file_is_placed_while_its_empty_folder_is_being_removed(tmp_path: Path) -> None:
    def come_and_go(number: int) -> None:
        path = f"x/y/{number}"
        for _ in range(50):
            with folder.temporary() as temporary:
                file = folder.place(temporary, path, expect=None, mtime_ns=None, trash_stamp=None)
            folder.displace(path, file, None)

    with Folder.open(tmp_path) as folder, ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert not (tmp_path / "x").exists()
