"""What this client displaced is recorded, and only that is ever removed by retention."""

from __future__ import annotations

from craftsync.sync.trash import Wanted
from tests.support.world import World


def recorded(world: World) -> set[tuple[str, str, int]]:
    """Return side, path and size of what the state database says this client keeps."""
    with world.open() as session:
        rows = list(session.state.database.connection.execute("SELECT * FROM kept"))
        total = session.state.kept.total()
    assert total == (len(rows), sum(size for *_, size, _ in rows))
    return {(side, path, size) for side, _, path, size, _ in rows}


def test_each_replaced_or_deleted_version_is_recorded_with_its_side_and_size(
    world: World,
) -> None:
    for path in ("edited here", "edited there", "gone here", "gone there", "both"):
        world.write(path, "old")
    world.write("stays", "old")
    world.run()
    assert recorded(world) == set()
    world.write("edited here", "newer")
    world.put("edited there", "newer")
    world.remove("gone here")
    world.take("gone there")
    world.write("both", "mine")
    world.put("both", "theirs")
    world.run()
    assert recorded(world) == {
        ("store", "edited here", 3),
        ("root", "edited there", 3),
        ("store", "gone here", 3),
        ("root", "gone there", 3),
        ("store", "both", 6),
    }
    with world.open() as session:
        found = {(entry.side, entry.path, entry.size) for entry in session.trash()}
    assert found == recorded(world)


def test_a_dry_run_and_another_client_record_nothing(world: World) -> None:
    world.write("a", "old")
    world.run()
    world.write("a", "newer")
    world.run(dry_run=True)
    world.store.delete("a", expect=None, keep="20200101T000000000000Z")
    assert recorded(world) == set()


def test_what_a_restore_replaces_is_recorded(world: World) -> None:
    world.write("a", "old")
    world.run()
    world.put("a", "newer")
    world.run()
    before = recorded(world)
    with world.open() as session:
        list(session.restore(Wanted(("a",)), overwrite=True))
    assert recorded(world) - before == {("root", "a", 5)}
