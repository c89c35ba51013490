"""What a run took away before it was killed, and a person puts back before the next run, stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import Action, Kind, Mode, Policy, RemoteObject, Skipped
from craftsync.engine import planfile
from craftsync.engine.report import Options, Report
from craftsync.engine.review.inspect import Explanation
from craftsync.stores.base import Store
from craftsync.stores.directory import DirectoryStore
from craftsync.stores.s3 import S3Store
from tests.scenario.test_crash import AFTER_EACH, Points, die_in_a_pass, every_second
from tests.scenario.test_crash import points as points
from tests.support.s3 import fake_s3
from tests.support.world import World

FILES = {"removed": "first", "renamed": "second", "still": "third"}
NEW_NAME = "with a new name"

MakeWorld = Callable[[str], World]
"""Makes a world with a folder and a store of its own."""


class InFolder:
    """A person who changes the folder."""

    def __init__(self, world: World) -> None:
        self._root = world.root
        self._aside = world.root.parent / "aside"

    def take_away(self) -> None:
        (self._root / "removed").rename(self._aside)
        (self._root / "renamed").rename(self._root / NEW_NAME)

    def put_back(self) -> None:
        self._aside.rename(self._root / "removed")
        (self._root / NEW_NAME).rename(self._root / "renamed")


class InDirectory(InFolder):
    """A person who changes a store that is a folder."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._root = Path(world.store.location)


class InBucket:
    """A person who changes a bucket: equal content has the version it had."""

    def __init__(self, world: World) -> None:
        self._world = world

    def take_away(self) -> None:
        self._world.take("removed")
        self._world.take("renamed")
        self._world.put(NEW_NAME, FILES["renamed"])

    def put_back(self) -> None:
        self._world.put("removed", FILES["removed"])
        self._world.take(NEW_NAME)
        self._world.put("renamed", FILES["renamed"])


def person(world: World, side: str) -> InFolder | InBucket:
    if side == "folder":
        return InFolder(world)
    return InDirectory(world) if isinstance(world.store, DirectoryStore) else InBucket(world)


@pytest.fixture(params=["directory", "S3"])
def make_world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeWorld]:
    def with_directory(name: str) -> World:
        (tmp_path / name).mkdir()
        return World(tmp_path / name, DirectoryStore.create(tmp_path / name / "store"))

    if request.param == "directory":
        yield with_directory
        return
    with fake_s3("plain", "bucket") as (server, _):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)

        with ExitStack() as opened:

            def with_bucket(name: str) -> World:
                (tmp_path / name).mkdir()
                store = S3Store("bucket", name, endpoint_url=server.endpoint)
                return World(tmp_path / name, opened.enter_context(closing(store)))

            yield with_bucket


S3_WHEN_EXHAUSTIVE = pytest.mark.parametrize(
    "make_world",
    ["directory", pytest.param("S3", marks=pytest.mark.exhaustive)],
    indirect=True,
)
TWO_WAY = Policy()
PUSH = Policy(Mode.PUSH, delete=True)
PULL = Policy(Mode.PULL, delete=True)


def run(world: World, policy: Policy, **options: object) -> None:
    report = world.run(policy.mode, delete=policy.delete, **options)
    assert report.exit_code == 0, world.events


def synced(world: World) -> World:
    """Return the world with all files on both sides."""
    for path, content in FILES.items():
        world.write(path, content)
    run(world, TWO_WAY)
    return world


def killed_and_put_back(
    make_world: MakeWorld, side: str, policy: Policy, points: Points, *, twice: bool = False
) -> Iterator[World]:
    """Yield the worlds in which all was put back after a kill, or two, at each of these effects."""
    for at, after in points:
        world = synced(make_world(f"{at}-{after}"))
        they = person(world, side)
        they.take_away()
        if not die_in_a_pass(world, at, after=after, policy=policy):
            assert at > 2
            return
        if twice:
            (world.write if side == "folder" else world.put)("z", "new")
            die_in_a_pass(world, 1, after=False, policy=policy)
        they.put_back()
        yield world


def why(world: World, path: str) -> Explanation:
    with world.open(reading=True, read_only=True) as session:
        return session.why(path, Options(policy=TWO_WAY))


def assert_all_is_there(world: World, **more: str) -> None:
    assert world.here() == world.there() == FILES | more
    world.assert_in_step()


@pytest.mark.parametrize(
    ("side", "policy"),
    [("folder", TWO_WAY), ("store", TWO_WAY), ("folder", PUSH), ("store", PULL)],
    ids=["folder two-way", "store two-way", "folder push", "store pull"],
)
def test_what_is_put_back_after_a_kill_stays(
    make_world: MakeWorld, side: str, policy: Policy, points: Points
) -> None:
    effects = every_second(points, policy is not TWO_WAY)
    for world in killed_and_put_back(make_world, side, policy, effects):
        run(world, policy)
        assert_all_is_there(world)


@S3_WHEN_EXHAUSTIVE
@pytest.mark.parametrize("side", ["folder", "store"])
def test_what_is_put_back_stays_after_a_run_over_other_paths(
    make_world: MakeWorld, side: str, points: Points
) -> None:
    for world in killed_and_put_back(make_world, side, TWO_WAY, every_second(points, 1)):
        run(world, TWO_WAY, paths=["still"])
        run(world, TWO_WAY)
        assert_all_is_there(world)


@S3_WHEN_EXHAUSTIVE
@pytest.mark.parametrize("side", ["folder", "store"])
def test_what_is_put_back_after_a_second_kill_stays(
    make_world: MakeWorld, side: str, points: Points
) -> None:
    effects = every_second(points, 0)
    for world in killed_and_put_back(make_world, side, TWO_WAY, effects, twice=True):
        run(world, TWO_WAY)
        assert_all_is_there(world, z="new")


@S3_WHEN_EXHAUSTIVE
@pytest.mark.parametrize("side", ["folder", "store"])
def test_dry_run_shows_what_a_run_does_with_what_is_put_back(
    make_world: MakeWorld, side: str, points: Points
) -> None:
    for world in killed_and_put_back(make_world, side, TWO_WAY, every_second(points, 1)):
        before = world.here(), world.there()
        run(world, TWO_WAY, dry_run=True)
        shown = world.said
        assert (world.here(), world.there()) == before
        run(world, TWO_WAY)
        assert world.said == shown
        assert_all_is_there(world)


def killed_after_deleting(make_world: MakeWorld, side: str) -> World:
    """Return a world where a path was taken away from a side, and a run was killed once it deleted it on the other."""
    for at, after in AFTER_EACH:
        world = synced(make_world(f"{at}"))
        person(world, side).take_away()
        assert die_in_a_pass(world, at, after=after, policy=TWO_WAY)
        if "removed" not in {*world.here(), *world.there()}:
            return world
    raise AssertionError("no effect was the delete")


class ActingDuringARun:
    """A store in which a person acts once, after the first complete listing. Everything else is the store's own."""

    def __init__(self, store: Store, act: Callable[[], None]) -> None:
        self._store = store
        self._act = act
        self._has_acted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        yield from list(self._store.list(prefix, **options))
        if not prefix and not self._has_acted:
            self._has_acted = True
            self._act()


def assert_put_back_stays(world: World, side: str, listed: Store) -> None:
    """Put everything back during a run that reads the store as `listed`, and see that the next one keeps it."""
    store, put_back = world.store, person(world, side).put_back
    world.store = ActingDuringARun(listed, put_back)  # type: ignore[assignment]
    world.run()
    world.store = store
    run(world, TWO_WAY)
    assert_all_is_there(world)


@S3_WHEN_EXHAUSTIVE
@pytest.mark.parametrize("side", ["folder", "store"])
def test_what_is_put_back_during_the_next_run_stays(make_world: MakeWorld, side: str) -> None:
    world = killed_after_deleting(make_world, side)
    assert_put_back_stays(world, side, world.store)


@S3_WHEN_EXHAUSTIVE
def test_delete_of_a_path_recorded_since_the_kill_is_synced(make_world: MakeWorld) -> None:
    world = killed_after_deleting(make_world, "folder")
    file = world.write("removed", "edited")
    with world.open() as session:
        upload = Action(Kind.UPLOAD, "removed", "edited", session.root.stat("removed"))
        assert session.apply_plan([upload], Options(policy=TWO_WAY)).exit_code == 0
    assert world.there()["removed"] == "edited"
    world.take("removed")
    run(world, TWO_WAY)
    assert not file.exists()
    world.assert_in_step()


class MissingInListings:
    """A store whose complete listings lack one path, as a late listing may. Everything else is the store's own."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        for entry in self._store.list(prefix, **options):
            if prefix or entry.path != self._path:
                yield entry


def killed_after_a_listing_missed_an_object(make_world: MakeWorld) -> World:
    """Return a world where a run was killed before it deleted an object, and the next one after it missed it."""
    world = synced(make_world("world"))
    world.remove("removed")
    assert die_in_a_pass(world, 1, after=False, policy=TWO_WAY)
    assert "removed" in world.there()
    world.write("z", "new")
    store = world.store
    world.store = MissingInListings(store, "removed")  # type: ignore[assignment]
    assert die_in_a_pass(world, 1, after=False, policy=TWO_WAY)
    world.store = store
    return world


@S3_WHEN_EXHAUSTIVE
def test_unfinished_delete_is_synced_after_a_listing_missed_its_object(
    make_world: MakeWorld,
) -> None:
    world = killed_after_a_listing_missed_an_object(make_world)
    run(world, TWO_WAY)
    assert "removed" not in world.here()
    world.assert_in_step()


@S3_WHEN_EXHAUSTIVE
def test_file_put_back_gets_the_object_that_a_late_listing_hides(
    make_world: MakeWorld,
) -> None:
    world = synced(make_world("world"))
    aside = world.root.parent / "aside"
    (world.root / "removed").rename(aside)
    world.put("removed", "another client's")
    world.write("z", "new")
    world.store = MissingInListings(world.store, "removed")  # type: ignore[assignment]
    assert die_in_a_pass(world, 1, after=False, policy=TWO_WAY)
    aside.rename(world.root / "removed")
    run(world, TWO_WAY)
    assert "download removed" in world.said
    assert world.here()["removed"] == "another client's"


@S3_WHEN_EXHAUSTIVE
def test_why_explains_an_unfinished_delete_after_a_listing_missed_its_object(
    make_world: MakeWorld,
) -> None:
    world = killed_after_a_listing_missed_an_object(make_world)
    assert why(world, "removed").decision == Kind.DELETE_REMOTE
    run(world, TWO_WAY)
    assert "delete-remote removed" in world.said


class ShownInListings(MissingInListings):
    """A store whose complete listings still show an object that was deleted, as a late listing may."""

    def __init__(self, store: Store, entry: RemoteObject) -> None:
        super().__init__(store, entry.path)
        self._entry = entry

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        entries = list(super().list(prefix, **options))
        yield from sorted(entries if prefix else [*entries, self._entry], key=lambda one: one.path)


def showing_the_deleted(world: World) -> Store:
    """Return the world's store, with listings that still show the object as it was last synced."""
    with world.open(reading=True, read_only=True) as session:
        row = session.state.baseline.get("removed")
    assert row is not None
    entry = RemoteObject("removed", row.size, row.modified_ns, row.version, *[None] * 4)
    return ShownInListings(world.store, entry)  # type: ignore[return-value]


@S3_WHEN_EXHAUSTIVE
@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_what_is_put_back_stays_after_a_late_listing(make_world: MakeWorld, dry_run: bool) -> None:
    world = killed_after_deleting(make_world, "folder")
    person(world, "folder").put_back()
    store, world.store = world.store, showing_the_deleted(world)
    run(world, TWO_WAY, dry_run=dry_run)
    assert "upload removed" in world.said
    world.store = store
    run(world, TWO_WAY)
    assert_all_is_there(world)


@S3_WHEN_EXHAUSTIVE
def test_what_is_put_back_during_a_late_listing_stays(make_world: MakeWorld) -> None:
    world = killed_after_deleting(make_world, "folder")
    assert_put_back_stays(world, "folder", showing_the_deleted(world))


def do_nothing() -> None:
    """Change nothing."""


def planned_and_applied(world: World, meanwhile: Callable[[], None] = do_nothing) -> Report:
    """Write a plan and apply it; `meanwhile` is called between the two."""
    out = StringIO()
    with world.open(read_only=True) as session:
        session.write_plan(Options(policy=TWO_WAY), out)
    meanwhile()
    actions = planfile.read(out.getvalue().splitlines()).actions
    with world.open() as session:
        return session.apply_plan(actions, Options(policy=TWO_WAY), world.listen)


@S3_WHEN_EXHAUSTIVE
def test_skipped_rename_does_not_undo_another_clients_delete(make_world: MakeWorld) -> None:
    world = synced(make_world("world"))
    (world.root / "renamed").rename(world.root / NEW_NAME)
    planned_and_applied(world, lambda: world.take("renamed"))
    (world.root / NEW_NAME).rename(world.root / "renamed")
    run(world, TWO_WAY)
    assert world.said == ["delete-local renamed"]
    assert "renamed" not in world.there()


@S3_WHEN_EXHAUSTIVE
def test_skipped_delete_does_not_undo_another_clients_delete(make_world: MakeWorld) -> None:
    world = synced(make_world("world"))
    file = world.root / "removed"
    file.rename(world.root.parent / "aside")
    planned_and_applied(world, lambda: world.put("removed", "theirs"))
    assert world.there()["removed"] == "theirs"
    world.take("removed")
    (world.root.parent / "aside").rename(file)
    run(world, TWO_WAY)
    assert world.said == ["delete-local removed"]
    assert not file.exists()


@S3_WHEN_EXHAUSTIVE
def test_another_clients_delete_is_synced_after_an_unfinished_one(make_world: MakeWorld) -> None:
    world = make_world("world")
    for path in ("d/file", "still", "too"):
        world.write(path, path)
    run(world, TWO_WAY)
    # What is in a folder keeps its ctime when the folder is renamed: nothing is recorded of it.
    (world.root / "d").rename(world.root.parent / "aside")
    assert die_in_a_pass(world, 1, after=False, policy=TWO_WAY)
    (world.root.parent / "aside").rename(world.root / "d")
    run(world, TWO_WAY)
    assert world.said == []
    world.take("d/file")
    run(world, TWO_WAY)
    assert world.said == ["delete-local d/file"]


@pytest.mark.parametrize("make_world", ["directory"], indirect=True)
@pytest.mark.parametrize("paths", [None, ["still"]], ids=["at once", "after a run over another"])
@pytest.mark.parametrize(
    ("side", "expected"), [("folder", Kind.UPLOAD), ("store", Kind.DOWNLOAD)], ids=str
)
def test_why_explains_what_a_run_does_with_what_is_put_back(
    make_world: MakeWorld, side: str, expected: Kind, paths: list[str] | None
) -> None:
    for at, after in AFTER_EACH:
        world = make_world(f"{at}")
        for path in ("d/file", "still", "too"):
            world.write(path, path)
        run(world, TWO_WAY)
        # What is in a folder keeps its ctime when the folder is renamed.
        place = world.root if side == "folder" else Path(world.store.location)
        (place / "d").rename(world.root.parent / "aside")
        assert die_in_a_pass(world, at, after=after, policy=TWO_WAY)
        if "d/file" not in {*world.here(), *world.there()}:
            break
    if paths is not None:
        run(world, TWO_WAY, paths=paths)
    (world.root.parent / "aside").rename(place / "d")
    explanation = why(world, "d/file")
    assert (explanation.decision, explanation.baseline) == (expected, None)
    run(world, TWO_WAY)
    assert world.said == [f"{expected} d/file"]


@S3_WHEN_EXHAUSTIVE
@pytest.mark.parametrize("side", ["folder", "store"])
def test_plan_of_what_is_put_back_can_be_applied(make_world: MakeWorld, side: str) -> None:
    world = killed_after_deleting(make_world, side)
    person(world, side).put_back()
    assert planned_and_applied(world).exit_code == 0, world.said
    assert_all_is_there(world)


@S3_WHEN_EXHAUSTIVE
def test_plan_of_an_edit_after_an_unfinished_delete_can_be_applied(make_world: MakeWorld) -> None:
    world = synced(make_world("world"))
    world.remove("removed")
    assert die_in_a_pass(world, 1, after=False, policy=TWO_WAY)
    world.write("removed", "edited")
    assert planned_and_applied(world).exit_code == 0, world.said
    assert world.there()["removed"] == "edited"
    world.assert_in_step()


@S3_WHEN_EXHAUSTIVE
def test_why_shows_what_was_synced_of_a_path_that_is_gone(make_world: MakeWorld) -> None:
    world = killed_after_deleting(make_world, "folder")
    explanation = why(world, "removed")
    assert explanation.decision == Kind.FORGET
    assert explanation.baseline is not None
