"""Small transfers and changes made during a run do not wait for large transfers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import RemoteObject
from craftsync.engine.report import ActionEvent
from craftsync.errors import StoreMissing, StoreUnavailable
from craftsync.net.waiting import blocking
from tests.support.cli import until
from tests.support.memory_store import MemoryStore
from tests.support.watching import Kept, NoWatch, kept
from tests.support.world import World

MIB = 1 << 20
TIMEOUT = 60.0


class Busy(MemoryStore):
    """Writes of paths that begin with `large` end only once everything that is waited for has arrived."""

    def __init__(self, *waited_for: str) -> None:
        super().__init__()
        self._missing = set(waited_for)
        self.arrived = threading.Event()

    def write(self, path: str, *arguments: Any, **options: Any) -> RemoteObject:
        if path.startswith("large"):
            blocking(partial(self.arrived.wait, TIMEOUT))
            # The content is of no interest, and there is a lot of it.
            raise StoreMissing("the bucket was deleted")
        found = super().write(path, *arguments, **options)
        self._missing.discard(path)
        if not self._missing:
            self.arrived.set()
        return found


def sparse(world: World, path: str, size: int) -> None:
    """Make a file of so many bytes, which takes no room."""
    target = world.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("files", "size"),
    [(800, MIB + 1), (20, 16 * MIB + 1)],
    ids=["more than are handed out at once", "more than there are workers"],
)
def test_a_small_file_does_not_wait_for_large_ones_planned_before_it(
    tmp_path: Path, files: int, size: int
) -> None:
    store = Busy("small", *(["still small"] if size > 16 * MIB else []))
    world = World(tmp_path, store)
    for number in range(files):
        sparse(world, f"large/{number:03}", size)
    world.write("small", "content")
    sparse(world, "still small", 2 * MIB)

    with pytest.raises(StoreMissing):
        world.run()

    assert store.arrived.is_set()


class Meanwhile(MemoryStore):
    """Lets something happen while an object is written, once for each path."""

    def __init__(self) -> None:
        super().__init__()
        self.stories: dict[str, Callable[[], object]] = {}
        self.unreachable: set[str] = set()
        self.refused = 0

    def write(self, path: str, *arguments: Any, **options: Any) -> RemoteObject:
        self.stories.pop(path, lambda: None)()
        return super().write(path, *arguments, **options)

    def stat(self, path: str) -> RemoteObject | None:
        if path in self.unreachable:
            self.refused += 1
            raise StoreUnavailable("the network is down", ambiguous=False)
        return super().stat(path)


class Scene:
    """A folder that is watched, and what happens in it while `large` is uploaded."""

    def __init__(self, world: World, store: Meanwhile, at_work: Kept[NoWatch]) -> None:
        self.world = world
        self.store = store
        self.at_work = at_work

    def changed(self, *paths: str) -> None:
        """Let the changes of these paths be noticed and settle."""
        for path in paths:
            exists = (self.world.root / path).exists()
            dirty = self.at_work.watch.dirty
            (dirty.change if exists else dirty.delete)(path)
        self.at_work.clock.advance(5)

    def write(self, path: str, content: str) -> None:
        self.world.write(path, content)
        self.changed(path)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait while time passes."""

        def holds() -> bool:
            self.at_work.clock.advance(0.1)
            return condition()

        until(holds, what)

    def until_there(self, path: str, content: str) -> None:
        self.until(lambda: self.world.there().get(path) == content, f"{path} in the store")

    def large_upload(self, story: Callable[[], object]) -> None:
        """Upload a large file, and let the story happen before it arrives."""
        failed: list[BaseException] = []

        def told() -> None:
            try:
                story()
            except BaseException as error:
                failed.append(error)
                raise

        self.store.stories["large"] = told
        sparse(self.world, "large", 2 * MIB)
        self.at_work.watch.dirty.change("large")
        self.at_work.turn()
        if failed:
            raise failed[0]
        assert "large" not in self.store.stories

    def done(self) -> list[str]:
        """Return what was carried out, in this order."""
        events = self.at_work.events
        return [f"{e.action} {e.path}" for e in events if isinstance(e, ActionEvent)]

    def assert_in_step_after(self, turns: int) -> None:
        """Both sides hold the same after so many turns more."""
        for _ in range(turns):
            self.at_work.turn()
        assert self.world.here() == self.world.there()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store = Meanwhile()
    world = World(tmp_path, store)
    for name in ("a", "b", "d/c"):
        world.write(name, f"content of {name}")
    with kept(world, NoWatch) as at_work:
        yield Scene(world, store, at_work)


@pytest.mark.parametrize("path", ["a", "new", "d/new", "e/f/new"])
def test_a_change_does_not_wait_for_a_large_upload_under_way(scene: Scene, path: str) -> None:
    def story() -> None:
        scene.write(path, "fresh")
        scene.until_there(path, "fresh")

    scene.large_upload(story)

    assert scene.done() == [f"upload {path}", "upload large"]
    assert len(scene.at_work.passes) == 1
    scene.assert_in_step_after(0)


def test_notified_object_does_not_wait_for_a_large_upload(
    scene: Scene,
) -> None:
    def story() -> None:
        scene.world.put("b", "edited there")
        scene.at_work.loop.request_paths(["b"])
        scene.until(lambda: scene.world.here()["b"] == "edited there", "b in the folder")

    scene.large_upload(story)

    assert scene.done() == ["download b", "upload large"]
    scene.assert_in_step_after(0)


def test_notified_object_the_run_cannot_take_in_is_left_to_the_next(
    scene: Scene,
) -> None:
    def story() -> None:
        scene.world.take("b")
        scene.at_work.loop.request_paths(["b"])
        scene.write("new", "fresh")
        scene.until_there("new", "fresh")

    scene.large_upload(story)
    scene.assert_in_step_after(1)

    assert scene.done()[2:] == ["delete-local b"]


def test_thousands_of_changes_do_not_wait_for_a_large_upload_under_way(scene: Scene) -> None:
    def story() -> None:
        paths = [f"many/{number}" for number in range(1500)]
        for path in paths:
            scene.world.write(path, "fresh")
        scene.changed("many")
        scene.until(lambda: len(scene.world.there("many/")) == len(paths), "all of them")

    scene.large_upload(story)

    assert len(scene.at_work.passes) == 1
    scene.assert_in_step_after(0)


def test_file_saved_repeatedly_in_one_run_keeps_every_version(
    scene: Scene,
) -> None:
    def story() -> None:
        for number in range(3):
            scene.write("a", f"version {number}")
            scene.until_there("a", f"version {number}")

    scene.large_upload(story)

    assert scene.world.kept() == {"content of a", "version 0", "version 1"}
    scene.assert_in_step_after(0)


def test_file_changed_during_its_upload_is_uploaded_in_the_same_run(
    scene: Scene,
) -> None:
    def story() -> None:
        scene.store.stories["a"] = lambda: scene.write("a", "second")
        scene.write("a", "first")
        scene.until(lambda: "a" not in scene.store.stories, "the first upload")
        scene.until_there("a", "second")

    scene.large_upload(story)

    scene.assert_in_step_after(0)


def test_deletes_and_renames_wait_for_the_next_run(scene: Scene) -> None:
    def story() -> None:
        scene.world.remove("a")
        (scene.world.root / "b").rename(scene.world.root / "renamed")
        scene.changed("a", "b", "renamed")
        scene.write("new", "fresh")
        scene.until_there("new", "fresh")
        assert {"a", "b"} <= scene.world.there().keys()

    scene.large_upload(story)
    scene.assert_in_step_after(1)

    assert sorted(scene.done()[2:]) == ["delete-remote a", "move-remote renamed"]


def test_file_replacing_a_folder_waits_for_the_next_run(scene: Scene) -> None:
    def story() -> None:
        scene.world.remove("d/c")
        (scene.world.root / "d").rmdir()
        scene.write("d", "a file now")
        scene.world.remove("a")
        scene.write("a/b", "in a folder now")
        scene.write("new", "fresh")
        scene.until_there("new", "fresh")

    scene.large_upload(story)
    assert scene.done() == ["upload new", "upload large"]

    scene.assert_in_step_after(1)


def test_ignore_file_created_during_a_run_applies_to_later_changes(scene: Scene) -> None:
    def story() -> None:
        scene.write(".craftsyncignore", "*.log\n")
        scene.write("x.log", "not wanted")
        scene.write("d/.craftsyncignore", "*.tmp\n")
        scene.write("d/x.tmp", "not wanted")
        scene.write("new", "fresh")
        scene.until_there("new", "fresh")

    scene.large_upload(story)
    scene.at_work.turn()

    assert not {"x.log", "d/x.tmp"} & scene.world.there().keys()


def test_path_with_a_planned_step_is_not_added_to_the_run(scene: Scene) -> None:
    def story() -> None:
        scene.write("large", "no longer large")
        scene.write("large copy", "fresh")
        scene.until_there("large copy", "fresh")

    scene.large_upload(story)

    assert scene.done() == ["upload large copy", "upload large"]
    scene.assert_in_step_after(0)


def test_a_run_ends_although_something_changes_all_the_time(scene: Scene) -> None:
    written: list[str] = []

    def another() -> None:
        path = f"endless/{len(written)}"
        written.append(path)
        scene.store.stories[path] = another
        scene.write(path, path)

    def story() -> None:
        another()
        scene.until(lambda: len(written) > 5, "some of them")

    scene.large_upload(story)

    scene.store.stories.clear()
    scene.assert_in_step_after(1)


def test_change_whose_stat_fails_waits_for_the_next_run(
    scene: Scene,
) -> None:
    def story() -> None:
        scene.store.unreachable.add("a")
        scene.write("a", "fresh")
        scene.until(lambda: scene.store.refused > 0, "the question for a")
        scene.write("new", "fresh")
        scene.until_there("new", "fresh")

    scene.large_upload(story)
    assert scene.at_work.loop.state.pending == 1
    scene.store.unreachable.clear()
    scene.assert_in_step_after(1)

    assert scene.done() == ["upload new", "upload large", "upload a"]
    assert scene.at_work.loop.state.pending == 0
