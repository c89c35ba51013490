"""What befalls folders, stores and states besides edits: loss, backups, and things that are not what they were."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from craftsync.errors import CraftsyncError
from tests.simulator.judge import Wrong
from tests.simulator.steps import Run
from tests.simulator.store import is_own

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

STORE_ID = ".craftsync/store-id"
_BROKEN_SIDE = 3


def happens(world: World, what: str, client: Client) -> None:
    """Let a disaster happen; nothing where there is nothing yet that it could happen to."""
    state, saved = world.state_of(client), client.state_dir / "saved"
    if what == "state saved":
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(state, saved)
    elif what == "state rolled back" and saved.exists():
        shutil.rmtree(state)
        shutil.copytree(saved, state)
        _forgets(world, client)
    elif what == "state lost":
        shutil.rmtree(state)
        state.mkdir()
        shutil.copyfile(client.template, state / "state.db")
        _forgets(world, client)
    elif what == "store saved" and STORE_ID in world.store.contents():
        world.backup = world.store.saved()
    elif what == "store restored" and world.backup is not None:
        _restore(world)
    elif what.startswith("folder"):
        _strange_folder(world, client, lost="without" in what)
    elif what == "store without identity" and client.knows_store:
        with _without(world):
            _must_refuse(world, client)


def _forgets(world: World, client: Client) -> None:
    """Take note of the paths of which the state now names neither what the folder nor what the store holds."""
    world.forgets = True
    client.forget()
    here, there = world.judge.shown[client.name], world.judge.shown["store"]
    with closing(sqlite3.connect(world.state_of(client) / "state.db")) as state:
        known = dict(state.execute("SELECT path, digest FROM baseline"))
    client.forgotten |= {
        path
        for path in here.keys() | there.keys()
        if known.get(path) not in {sha256(side.get(path, b"")).digest() for side in (here, there)}
    }


def cut_power(world: World, client: Client) -> None:
    """Let a disk lose what was not flushed, and nothing else; what the last synced state says is not among it."""
    before, contents = client.files(), world.all_contents()
    inodes = {path: inode.number for path, inode in client.disk.files()}
    moved = set(client.disk.moved)
    must_be_there = client.disk.lose(world.chance) & contents
    world.kernel.boots[client.name] += 1
    after = client.files()
    if lost := must_be_there - world.all_contents():
        raise Wrong(f"lost in a power cut, though it was on the disk: {sorted(lost)}")
    shown = {path: content for path, content in after.items() if not is_own(path)}
    world.judge.machine(client.name, shown)
    if client.has_pushed:
        # What it recorded without waiting for the disk counts as new after the restart.
        world.windows.open |= before.keys() | after.keys()
        return
    with closing(sqlite3.connect(world.state_of(client) / "state.db")) as state:
        rows = state.execute("SELECT path, digest, inode FROM baseline").fetchall()
    for path, digest, inode in rows:
        # What a restore has brought back may be the same, but is another file.
        is_same = inodes.get(path) == inode and inode not in moved
        told = is_same and sha256(before.get(path, b"")).digest() == digest
        if told and (path not in after or sha256(after[path]).digest() != digest):
            raise Wrong(
                f"recorded before it was durable: {path} is {after.get(path)!r} after a power cut"
            )


def _restore(world: World) -> None:
    """Restore the store: to everybody else that is a person who writes and deletes."""
    assert world.backup is not None
    before = world.store.contents()
    world.store.restore(world.backup)
    after = world.store.contents()
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path) and not is_own(path):
            world.person("store", path, after.get(path))


def _strange_folder(world: World, client: Client, *, lost: bool) -> None:
    own = client.disk.find(".craftsync")
    if own is None or own.entries is None or "root-id" not in own.entries or not client.has_run:
        return
    identity = own.entries["root-id"]
    content = identity.data
    if lost:
        del own.entries["root-id"]
    else:
        identity.data = b"another"
    _must_refuse(world, client)
    own.entries["root-id"] = identity
    identity.data = content


@contextmanager
def _without(world: World) -> Iterator[None]:
    objects: dict[str, Any] = world.store.saved()
    identity = {name: one for name, one in objects.items() if name.endswith(STORE_ID)}
    world.store.restore({name: objects[name] for name in objects.keys() - identity.keys()})
    yield
    world.store.restore(world.store.saved() | identity)


def _must_refuse(world: World, client: Client) -> None:
    """Run, and see that nothing happens at all but an error."""
    before = client.files(), world.store.contents()
    try:
        world.run(client, Run(0))
    except CraftsyncError as error:
        if error.exit_code != _BROKEN_SIDE:
            raise
    else:
        raise Wrong(f"{client.name} did not notice what was not what it was")
    if before != (client.files(), world.store.contents()):
        raise Wrong(f"{client.name} changed something that was not what it was")
