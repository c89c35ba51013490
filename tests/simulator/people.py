"""Users' changes on either side, made as their programs make them, and recorded path by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulator.disk import Disk, Inode
from tests.simulator.steps import Act, are_at_odds
from tests.support.world import Bytes

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

OLD_TIME = 1_600_000_000_000_000_000
HIDDEN = ("old time", "same time")
"""Ways to write that can keep size and mtime."""
_TICK_NS = 10_000_000


def act_in_store(world: World, act: Act) -> None:
    """Change an object or a prefix of the store, if it is possible."""
    objects = world.store.contents()
    if act.what.endswith(" all"):
        for path, target in _moves(act, objects):
            _move_in_store(world, path, target)
    elif act.what in ("write", "put over"):
        in_the_way = [path for path in objects if are_at_odds(act.path, path)]
        if in_the_way and act.what == "write":
            return
        for path in sorted(in_the_way):
            _move_in_store(world, path)
        mtime = OLD_TIME if act.how == "old time" else world.clock.now_ns()
        world.store.put(act.path, Bytes(act.content, mtime))
        world.user_changed("store", act.path, act.content)
    elif act.path in objects:
        if act.target and any(
            path == act.target or are_at_odds(path, act.target) for path in objects
        ):
            return
        _move_in_store(world, act.path, act.target)


def _move_in_store(world: World, path: str, target: str = "") -> None:
    """Move an object to a target, or remove it."""
    content = world.store.contents()[path]
    if target:
        world.store.put(target, Bytes(content, world.clock.now_ns()))
        world.user_changed("store", target, content)
    world.store.remove(path)
    world.user_changed("store", path, None)


def act_in_folder(world: World, client: Client, act: Act) -> None:
    """Change a file or a folder of a client, if it is possible."""
    disk, shown = client.disk, world.judge.shown[client.name]
    if act.what == "put over":
        _clear_the_way(world, client, act.path)
    folder, name = _parent(disk, act.path)
    if folder is None:
        return
    inode = folder.entries.get(name)  # type: ignore[union-attr]
    if inode is not None and (inode.entries is None) is act.what.endswith(" all"):
        return
    if inode is not None and inode.entries is not None:
        _act_on_folder(world, client, act, folder, name)
        return
    if act.what in ("write", "put over"):
        in_place = inode is not None and act.how != "new file"
        _write(world, disk, folder, name, inode, act)
        world.user_changed(client.name, act.path, act.content, in_place=in_place)
    elif inode is None:
        return
    elif act.what == "remove":
        disk.set_entry(folder, name, None)
        world.user_changed(client.name, act.path, None)
    else:
        content = shown.get(act.path, inode.data)
        target, last = _parent(disk, act.target)
        if target is None or target.entries.get(last) is not None:  # type: ignore[union-attr]
            return
        inode.ctime = disk.now()
        disk.set_entry(target, last, inode)
        disk.set_entry(folder, name, None)
        disk.make_atomic(2)
        disk.moved.add(inode.number)
        world.user_changed(client.name, act.target, content)
        world.user_changed(client.name, act.path, None)


def _clear_the_way(world: World, client: Client, path: str) -> None:
    """Remove a folder at a path, or a file at one of its parents."""
    at = client.disk.root
    above, _, last = path.rpartition("/")
    for name in filter(None, above.split("/")):
        assert at.entries is not None
        if name not in at.entries:
            return
        if at.entries[name].entries is None:
            client.disk.set_entry(at, name, None)
            for shown in sorted(world.judge.shown[client.name]):
                if path.startswith(f"{shown}/"):
                    world.user_changed(client.name, shown, None)
            return
        at = at.entries[name]
    assert at.entries is not None
    if last in at.entries and at.entries[last].entries is not None:
        _act_on_folder(world, client, Act("remove all", 0, path), at, last)


def _act_on_folder(world: World, client: Client, act: Act, above: Inode, name: str) -> None:
    """Remove a folder with everything in it, or move it."""
    assert above.entries is not None
    disk, folder = client.disk, above.entries[name]
    moved = _moves(act, dict(world.judge.shown[client.name]))
    if act.what == "move all":
        if f"{act.target}/".startswith(f"{act.path}/"):
            return
        target, last = _parent(disk, act.target)
        if target is None or target.entries.get(last) is not None:  # type: ignore[union-attr]
            return
        disk.set_entry(target, last, folder)
        disk.set_entry(above, name, None)
        disk.make_atomic(2)
        disk.moved.update(inode.number for _, inode in disk.files(folder))
    else:
        disk.remove(above, name)
    for path, new in moved:
        content = world.judge.shown[client.name][path]
        if new:
            world.user_changed(client.name, new, content)
        world.user_changed(client.name, path, None)


def _write(
    world: World, disk: Disk, folder: Inode, name: str, inode: Inode | None, act: Act
) -> None:
    before = inode.mtime if inode is not None else OLD_TIME
    if inode is None or act.how == "new file":
        inode = Inode(disk, 0o100644)
        disk.set_entry(folder, name, inode)
    if act.how in HIDDEN and disk.now() - inode.linked_at < _TICK_NS:
        # A documented window: an edit that keeps size and mtime changes only ctime, and craftsync's
        # own link or rename has just changed ctime in the same tick.
        world.clock.advance(_TICK_NS / 1e9)
    disk.write(inode, act.content)
    if act.how == "old time":
        inode.mtime = OLD_TIME
    elif act.how == "same time":
        inode.mtime = before


def _parent(disk: Disk, path: str) -> tuple[Inode | None, str]:
    """Make the folders above a path; return the last one, `None` if a file is in the way, and the last name."""
    *above, last = path.split("/")
    at = disk.root
    for name in above:
        assert at.entries is not None
        if name not in at.entries:
            disk.set_entry(at, name, Inode(disk, 0o040755))
        at = at.entries[name]
        if at.entries is None:
            return None, last
    return at, last


def _moves(act: Act, shown: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return the files of a folder with the new path of each; none if another file is in the way."""
    below = sorted(path for path in shown if path.startswith(f"{act.path}/"))
    if act.what == "remove all":
        return [(path, "") for path in below]
    moves = [(path, act.target + path.removeprefix(act.path)) for path in below]
    if any(new == path or are_at_odds(new, path) for _, new in moves for path in shown):
        return []
    return moves
