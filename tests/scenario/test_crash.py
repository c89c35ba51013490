"""The process dies at every effect in turn, before it and after it; the next run must heal it.

The child process is a fork that ends with `os._exit`, so nothing of its own is
cleaned up: what is on disk is what a SIGKILL leaves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from craftsync.engine.report import Options
from craftsync.engine.session import Session
from craftsync.local.folder import Folder
from craftsync.stores.base import Store
from craftsync.stores.directory import DirectoryStore
from tests.support.serial_pool import SerialPool
from tests.support.world import World, leftovers

DIED = 9
EFFECTS = {
    "write",
    "delete",
    "copy",
    "place",
    "displace",
    "move",
    "write_own_file",
    "sync",
    "barrier",
}


class Fuse:
    """Ends the process at the `at`-th effect, before or after it happens."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._left = at
        self._after = after

    def burn(self, effect: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            os._exit(DIED)
        result = effect(*args, **kwargs)
        if self._left == 0:
            os._exit(DIED)
        return result


class Fused:
    """Anything, with its effects behind a fuse."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if name not in EFFECTS:
            return member
        return lambda *args, **kwargs: self._fuse.burn(member, *args, **kwargs)


class Eager(SerialPool[Any]):
    """Hands back first what was begun last, so that changes are taken in before the rest of a plan is recorded."""

    def begin(self, task: Callable[[], Any]) -> None:
        self._results.insert(0, task())


class Late:
    """Changes that are made only once the run is under way. Keeps `engine.planner.Changes`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._has_begun = False

    def take(self) -> set[str]:
        if self._has_begun:
            return set()
        self._has_begun = True
        self._world.put("late there", "made there during the run")
        for path in ("late", "still"):
            self._world.write(path, f"{path}, written during the run")
        return {"late", "late there", "still"}

    def later(self, paths: Iterable[str]) -> None:
        raise AssertionError(f"nothing has to do with {paths}")

    leave = later


def die_in_a_pass(
    world: World, at: int, *, after: bool, late: bool = False, **options: Any
) -> bool:
    """Run a run in a child that dies at an effect; tell whether it came that far."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fuse = Fuse(at, after=after)
            store: Store = Fused(world.store, fuse)
            with world.open(make_pool=lambda _: SerialPool()) as session:
                root: Folder = Fused(session.root, fuse)
                Session(
                    root,
                    store,
                    session.state,
                    clock=session.clock,
                    make_pool=lambda _: Eager() if late else SerialPool(),
                ).run("sync", Options(**options), changes=Late(world) if late else None)
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED), "the run itself failed in the child"
    return code == DIED


def everything(world: World) -> None:
    """Changes of every kind, on top of a synced state."""
    world.write("edited", "new here")
    world.put("fetched", "new there")
    world.write("fresh", "only here")
    world.put("arrived", "only there")
    world.remove("gone")
    world.take("taken")
    (world.root / "old name").rename(world.root / "new name")
    world.write("both", "mine")
    world.put("both", "theirs")


def prepared(folder: Path) -> World:
    folder.mkdir()
    world = World(folder, DirectoryStore.create(folder / "store"))
    for path in ("edited", "fetched", "gone", "taken", "old name", "both", "still"):
        world.write(path, f"first {path}")
    world.run()
    everything(world)
    return world


def contents(world: World) -> set[str]:
    return {*world.here().values(), *world.there().values(), *world.kept()}


Points = list[tuple[int, bool]]
AFTER_EACH: Points = [(at, True) for at in range(1, 100)]
AROUND_EACH: Points = [(at, after) for at in range(1, 100) for after in (False, True)]
"""Before an effect, too, differs from after the one before it by what is recorded between them."""


def every_second(points: Points, first: int) -> Points:
    """Return every second of the effects from this one, of the full enumeration all.

    Of two tests of one window, each begins with another one: together they take all.
    """
    return points[first::2] if points is AFTER_EACH else points


@pytest.fixture(
    params=[
        pytest.param(AFTER_EACH, id="after each effect"),
        pytest.param(AROUND_EACH, id="around each effect", marks=pytest.mark.exhaustive),
    ]
)
def points(request: pytest.FixtureRequest) -> Points:
    """Return the effects at which the process dies, and whether before or after it; all in the full enumeration."""
    found: Points = request.param
    return found


@pytest.mark.parametrize("edit_after", [False, True], ids=["as it was", "edited after the crash"])
def test_crash_at_any_change_of_a_run_loses_nothing(
    tmp_path: Path, edit_after: bool, points: Points
) -> None:
    survived = 0
    for at, after in every_second(points, edit_after):
        world = prepared(tmp_path / f"{at}-{after}")
        before = contents(world)
        if not die_in_a_pass(world, at, after=after):
            break
        assert contents(world) >= before, (at, after)
        if edit_after:
            before = before - {"only here"} | {"edited again"}
            world.write("fresh", "edited again")
        world.run()
        world.assert_in_step()
        copies = [path for path in world.here() if "(conflict" in path]
        assert len(copies) == 1, (at, after, copies)
        assert contents(world) >= before, (at, after)
        assert not list(leftovers(world.root)), (at, after)
        survived += 1
    assert survived > 5


def test_edit_of_a_download_unrecorded_by_a_crash_makes_no_conflict(
    tmp_path: Path, points: Points
) -> None:
    edited = 0
    for at, after in every_second(points, 0):
        world = prepared(tmp_path / f"{at}-{after}")
        if not die_in_a_pass(world, at, after=after):
            break
        arrived = {
            path: f"edited {path}" for path in ("arrived", "fetched") if _is_new(world, path)
        }
        for path, content in arrived.items():
            (world.root / path).write_text(content)
        world.run()
        world.assert_in_step()
        copies = [path for path in world.here() if "(conflict" in path]
        assert len(copies) == 1, (at, after, copies)
        assert arrived.items() <= world.here().items()
        edited += len(arrived)
    assert edited > 3


def test_a_newer_object_replaces_a_download_that_a_crash_left_unrecorded(
    tmp_path: Path, points: Points
) -> None:
    for at, after in every_second(points, 1):
        world = prepared(tmp_path / f"{at}-{after}")
        if not die_in_a_pass(world, at, after=after):
            break
        for path in ("arrived", "fetched"):
            world.put(path, f"newer {path}")
        world.run()
        world.assert_in_step()
        assert len([path for path in world.here() if "(conflict" in path]) == 1, (at, after)
        assert world.here()["arrived"] == "newer arrived"


def _is_new(world: World, path: str) -> bool:
    """Tell whether a download has its place already."""
    file = world.root / path
    return file.exists() and file.read_text().endswith("there")


def test_second_crash_makes_no_conflict_of_an_own_write(tmp_path: Path, points: Points) -> None:
    survived = 0
    for at, after in every_second(points, 0):
        world = prepared(tmp_path / f"{at}-{after}")
        if not die_in_a_pass(world, at, after=after):
            break
        world.write("fresh", "edited again")
        die_in_a_pass(world, 1, after=False)
        world.run()
        world.assert_in_step()
        copies = [path for path in world.here() if "(conflict" in path]
        assert len(copies) == 1, (at, after, copies)
        survived += 1
    assert survived > 7


def test_crash_while_adding_changes_to_a_run_loses_nothing(tmp_path: Path, points: Points) -> None:
    taken_in = 0
    for at, after in every_second(points, 0):
        edit_after = (at // 2 + after) % 2 == 0
        world = prepared(tmp_path / f"{at}-{after}")
        before = contents(world)
        died = die_in_a_pass(world, at, after=after, late=True)
        taken_in += world.there().get("still", "").startswith("still, written")
        assert contents(world) >= before - {"first still"}, (at, after)
        if edit_after:
            for path in ("still", "late"):
                world.write(path, f"{path} edited again")
        before = contents(world)
        world.run()
        world.assert_in_step()
        copies = [path for path in world.here() if "(conflict" in path]
        assert len(copies) == 1, (at, after, copies)
        assert contents(world) >= before - ({"only here"} if edit_after else set()), (at, after)
        assert not list(leftovers(world.root)), (at, after)
        if not died:
            break
    assert taken_in > 3
