"""What a store's trash holds after lost answers and failed changes is recorded, and ends with its retention."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.core.retention import Retention
from craftsync.errors import StateError
from craftsync.state.history import Kept
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from craftsync.stores.retrying import RetryingStore
from tests.support.clock import FakeClock
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.world import World

DAY = 86_400
LIMITS = Limits(fresh_listing_seconds=-1.0, stats_later=False)


@pytest.fixture
def platform() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def world(platform: FaultyPlatform, tmp_path: Path) -> Iterator[World]:
    """A folder in sync with an environment in which others put three objects; its trash keeps for 30 days."""
    clock = FakeClock()
    access = Access(platform.url, lambda: platform.token, platform.url)
    bare = CraftAiStore(access, clock=clock, limits=LIMITS)
    world = World(tmp_path, RetryingStore(bare, clock=clock, rng=random.Random(0)), clock=clock)
    world.retention = Retention(keep=30 * DAY * 10**9)
    for path in ("a", "b", "c"):
        platform.put(path, f"theirs {path}".encode())
    world.run()
    yield world
    bare.close()


def in_trash(world: World) -> set[tuple[str, str, int]]:
    """Return stamp, path and size of all that the store's trash holds."""
    with world.open() as session:
        return {(one.stamp, one.path, one.size) for one in session.trash.entries()}


def recorded(world: World) -> set[tuple[str, str, int]]:
    with world.open() as session:
        rows = session.state.database.connection.execute("SELECT stamp, path, size FROM kept")
        return set(rows.fetchall())


def assert_ends(world: World) -> None:
    """Check that all that is in the trash is recorded, stays for 30 days, and then goes."""
    before = in_trash(world)
    assert before
    assert recorded(world) == before
    clock = world.store._clock  # type: ignore[attr-defined]
    clock.advance(29 * DAY)
    world.run()
    assert in_trash(world) >= before
    clock.advance(2 * DAY)
    world.run()
    assert not in_trash(world) & before


def test_repeated_delete_leaves_no_copy_beyond_its_retention(
    world: World, platform: FaultyPlatform
) -> None:
    world.remove("a")
    platform.inject("delete", fault.connection_lost)
    world.run()
    assert world.there().keys() == {"b", "c"}
    assert len(in_trash(world)) == 2
    assert_ends(world)


def test_failed_replacement_leaves_no_copy_beyond_its_retention(
    world: World, platform: FaultyPlatform
) -> None:
    world.write("a", "mine")
    platform.inject("form", fault.connection_lost, skip=1)
    platform.inject("form", fault.status(403), skip=2, times=100)
    assert world.run().exit_code == 1
    assert len(in_trash(world)) == 2
    platform.heal()
    world.store._clock.advance(60)  # type: ignore[attr-defined]
    world.run()
    assert world.there()["a"] == "mine"
    assert_ends(world)


def _damages(platform: FaultyPlatform) -> fault.Fault:
    """Return a fault that changes the bytes of an upload on their way."""

    def damage(request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        return platform.storage.handle(
            request._replace(body=request.body.replace(b"mine", b"MINE"))
        )

    return damage


def test_damaged_upload_in_the_trash_does_not_outlast_its_retention(
    world: World, platform: FaultyPlatform
) -> None:
    world.write("d", "mine")
    platform.inject("form", _damages(platform))
    world.run()
    assert world.there()["d"] == "mine"
    assert {(path, size) for _, path, size in in_trash(world)} == {("d", 4)}
    assert_ends(world)


def test_object_of_another_client_after_a_damaged_upload_becomes_a_conflict(
    world: World, platform: FaultyPlatform
) -> None:
    def replaced(request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        answer = _damages(platform)(request, proceed)
        platform.put("d", b"theirs")
        return answer

    before = world.there()
    world.write("d", "mine")
    platform.inject("form", replaced)
    assert world.run().conflicts == 1
    assert world.here() == world.there()
    found = dict(world.there().items() - before.items())
    assert (found.pop("d"), list(found.values())) == ("mine", ["theirs"])


def test_damaged_upload_that_cannot_be_removed_has_its_copy_recorded(
    world: World, platform: FaultyPlatform
) -> None:
    world.write("d", "mine")
    platform.inject("form", _damages(platform))
    platform.inject("delete", fault.status(503))
    world.run()
    assert len(in_trash(world)) == 2
    assert recorded(world) == in_trash(world)


def test_copies_left_are_recorded_after_a_record_failed(
    world: World, platform: FaultyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remove("a")
    platform.inject("delete", fault.connection_lost)
    with monkeypatch.context() as patched:
        patched.setattr(Kept, "add", _disk_is_full)
        with pytest.raises(StateError):
            world.run()
    world.run()
    left = {one for one in in_trash(world) if "-" in one[0]}
    assert left
    assert left <= recorded(world)


def _disk_is_full(*_: object) -> None:
    raise StateError("the disk is full", remedy="")
