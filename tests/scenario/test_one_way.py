"""Stories of push and pull."""

from __future__ import annotations

from tests.support.world import World


def test_push_adds_and_replaces_but_deletes_nothing(world: World) -> None:
    world.put("a", "theirs")
    world.put("only there", "stays")
    world.write("a", "mine")
    world.write("b", "new")
    world.run("push")
    assert world.there() == {"a": "mine", "b": "new", "only there": "stays"}
    assert world.here() == {"a": "mine", "b": "new"}
    assert world.kept() == {"theirs"}


def test_push_with_delete_makes_the_store_mirror_the_root(world: World) -> None:
    world.put("only there", "goes")
    world.write("a", "mine")
    world.run("push", delete=True)
    assert world.there() == {"a": "mine"}
    assert world.kept() == {"goes"}


def test_pull_adds_and_replaces_but_deletes_nothing(world: World) -> None:
    world.write("a", "mine")
    world.write("only here", "stays")
    world.put("a", "theirs")
    world.put("b", "new")
    world.run("pull")
    assert world.here() == {"a": "theirs", "b": "new", "only here": "stays"}
    assert world.there() == {"a": "theirs", "b": "new"}
    assert world.kept() == {"mine"}


def test_pull_with_delete_makes_the_root_mirror_the_store(world: World) -> None:
    world.write("only here", "goes")
    world.put("a", "theirs")
    world.run("pull", delete=True)
    assert world.here() == {"a": "theirs"}
    assert world.kept() == {"goes"}


def test_push_restores_objects_missing_in_the_store(world: World) -> None:
    world.write("a", "1")
    world.run("push")
    world.take("a")
    world.run("push")
    assert world.there() == {"a": "1"}


def test_a_second_push_has_nothing_to_do(world: World) -> None:
    world.write("a", "1")
    world.run("push")
    report = world.run("push")
    assert (world.said, report.unchanged) == ([], 1)


def test_push_never_touches_the_root(world: World) -> None:
    world.write("a", "1")
    world.run()
    world.put("a", "changed there")
    world.take("a")
    world.put("b", "new there")
    world.run("push", delete=True)
    assert world.here() == {"a": "1"} == world.there()
