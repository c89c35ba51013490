"""Disasters: lost state databases, restored backups, replaced folders and stores, power cuts."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from craftsync.errors import CraftsyncError
from tests.simulator.judge import Violation
from tests.simulator.steps import Run
from tests.simulator.store import is_own

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

STORE_ID = ".craftsync/store-id"
_BROKEN_SIDE = 3


def strike(world: World, what: str, client: Client) -> None:
    """Let a disaster happen, unless what it needs does not exist yet."""
    state, saved = world.state_folder(client), client.state_dir / "saved"
    if what == "state saved":
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(state, saved)
    elif what == "state rolled back" and saved.exists():
        shutil.rmtree(state)
        shutil.copytree(saved, state)
        _note_lost_rows(world, client)
    elif what == "state lost":
        shutil.rmtree(state)
        state.mkdir()
        shutil.copyfile(client.template, state / "state.db")
        _note_lost_rows(world, client)
    elif what == "store saved" and STORE_ID in world.store.contents():
        world.backup = world.store.backup()
    elif what == "store restored" and world.backup is not None:
        _restore_store(world)
    elif what.startswith("folder"):
        _swap_identity(world, client, lost="without" in what)
    elif what == "store without identity" and client.knows_store_identity:
        with _store_without_identity(world):
            _must_refuse(world, client)


def _note_lost_rows(world: World, client: Client) -> None:
    """Record the paths for which the state database now holds neither the folder's content nor the store's."""
    world.lost_a_state = True
    client.lose_state()
    local, remote = world.judge.shown[client.name], world.judge.shown["store"]
    with closing(sqlite3.connect(world.state_folder(client) / "state.db")) as state:
        known = dict(state.execute("SELECT path, digest FROM baseline"))
    client.without_baseline |= {
        path
        for path in local.keys() | remote.keys()
        if known.get(path) not in {sha256(side.get(path, b"")).digest() for side in (local, remote)}
    }


def cut_power(world: World, client: Client) -> None:
    """Let a client's disk lose unflushed writes.

    Raises `Violation` if it loses more, or loses what the last synced state has recorded as durable.
    """
    before, contents = client.files(), world.all_contents()
    inodes = {path: inode.number for path, inode in client.disk.files()}
    moved = set(client.disk.moved)
    must_be_there = client.disk.lose_unflushed(world.chance) & contents
    world.kernel.boots[client.name] += 1
    after = client.files()
    if lost := must_be_there - world.all_contents():
        raise Violation(f"lost in a power cut, though it was on the disk: {sorted(lost)}")
    shown = {path: content for path, content in after.items() if not is_own(path)}
    world.judge.power_was_cut(client.name, shown)
    if client.has_pushed:
        # A push records uploads without a flush; after a restart such files count as new.
        world.windows.open |= before.keys() | after.keys()
        return
    with closing(sqlite3.connect(world.state_folder(client) / "state.db")) as state:
        rows = state.execute("SELECT path, digest, inode FROM baseline").fetchall()
    for path, digest, inode in rows:
        # A restored file may have the same content, but it is another inode.
        is_same = inodes.get(path) == inode and inode not in moved
        was_in_sync = is_same and sha256(before.get(path, b"")).digest() == digest
        if was_in_sync and (path not in after or sha256(after[path]).digest() != digest):
            raise Violation(
                f"recorded before it was durable: {path} is {after.get(path)!r} after a power cut"
            )


def _restore_store(world: World) -> None:
    """Restore the store's backup: for the clients, a user writes and deletes objects."""
    assert world.backup is not None
    before = world.store.contents()
    world.store.restore(world.backup)
    after = world.store.contents()
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path) and not is_own(path):
            world.user_changed("store", path, after.get(path))


def _swap_identity(world: World, client: Client, *, lost: bool) -> None:
    """Change a folder's identity file, or remove it (`lost`), for one run that must be refused."""
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
def _store_without_identity(world: World) -> Iterator[None]:
    objects: dict[str, Any] = world.store.backup()
    identity = {name: one for name, one in objects.items() if name.endswith(STORE_ID)}
    world.store.restore({name: objects[name] for name in objects.keys() - identity.keys()})
    yield
    world.store.restore(world.store.backup() | identity)


def _must_refuse(world: World, client: Client) -> None:
    """Run once: the run must fail and change nothing."""
    before = client.files(), world.store.contents()
    try:
        world.run(client, Run(0))
    except CraftsyncError as error:
        if error.exit_code != _BROKEN_SIDE:
            raise
    else:
        raise Violation(f"{client.name} did not notice a wrong identity")
    if before != (client.files(), world.store.contents()):
        raise Violation(f"{client.name} changed something despite a wrong identity")
