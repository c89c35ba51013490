"""What people do on either side, as their programs do it; the judge hears of each path."""

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
_TICK_NS = 10_000_000


def act_in_store(world: World, act: Act) -> None:
    there = world.store.contents()
    if act.what.endswith(" all"):
        for path, target in _moves(act, there):
            _take_in_store(world, path, target)
    elif act.what in ("write", "put over"):
        in_the_way = [path for path in there if are_at_odds(act.path, path)]
        if in_the_way and act.what == "write":
            return
        for path in sorted(in_the_way):
            _take_in_store(world, path)
        mtime = OLD_TIME if act.how == "old time" else world.clock.now_ns()
        world.store.put(act.path, Bytes(act.content, mtime))
        world.person("store", act.path, act.content)
    elif act.path in there:
        if act.target and any(
            path == act.target or are_at_odds(path, act.target) for path in there
        ):
            return
        _take_in_store(world, act.path, act.target)


def _take_in_store(world: World, path: str, target: str = "") -> None:
    content = world.store.contents()[path]
    if target:
        world.store.put(target, Bytes(content, world.clock.now_ns()))
        world.person("store", target, content)
    world.store.take(path)
    world.person("store", path, None)


def act_in_folder(world: World, client: Client, act: Act) -> None:
    disk, now = client.disk, world.judge.shown[client.name]
    if act.what == "put over":
        _clear_the_way(world, client, act.path)
    folder, name = _parent(disk, act.path)
    if folder is None:
        return
    there = folder.entries.get(name)  # type: ignore[union-attr]
    if there is not None and (there.entries is None) is act.what.endswith(" all"):
        return
    if there is not None and there.entries is not None:
        _act_on_folder(world, client, act, folder, name)
        return
    if act.what in ("write", "put over"):
        in_place = there is not None and act.how != "new file"
        _write(world, disk, folder, name, there, act)
        world.person(client.name, act.path, act.content, in_place=in_place)
    elif there is None:
        return
    elif act.what == "remove":
        disk.put(folder, name, None)
        world.person(client.name, act.path, None)
    else:
        content = now.get(act.path, there.data)
        target, last = _parent(disk, act.target)
        if target is None or target.entries.get(last) is not None:  # type: ignore[union-attr]
            return
        there.ctime = disk.now()
        disk.put(target, last, there)
        disk.put(folder, name, None)
        disk.as_one(2)
        disk.moved.add(there.number)
        world.person(client.name, act.target, content)
        world.person(client.name, act.path, None)


def _clear_the_way(world: World, client: Client, path: str) -> None:
    """Remove the folder that is at a path, or the file that is where it needs a folder."""
    at = client.disk.root
    above, _, last = path.rpartition("/")
    for name in filter(None, above.split("/")):
        assert at.entries is not None
        if name not in at.entries:
            return
        if at.entries[name].entries is None:
            client.disk.put(at, name, None)
            for one in sorted(world.judge.shown[client.name]):
                if path.startswith(f"{one}/"):
                    world.person(client.name, one, None)
            return
        at = at.entries[name]
    assert at.entries is not None
    if last in at.entries and at.entries[last].entries is not None:
        _act_on_folder(world, client, Act("remove all", 0, path), at, last)


def _act_on_folder(world: World, client: Client, act: Act, above: Inode, name: str) -> None:
    """Remove a folder with all that is in it, or move it."""
    assert above.entries is not None
    disk, there = client.disk, above.entries[name]
    moved = _moves(act, dict(world.judge.shown[client.name]))
    if act.what == "move all":
        if f"{act.target}/".startswith(f"{act.path}/"):
            return
        target, last = _parent(disk, act.target)
        if target is None or target.entries.get(last) is not None:  # type: ignore[union-attr]
            return
        disk.put(target, last, there)
        disk.put(above, name, None)
        disk.as_one(2)
        disk.moved.update(inode.number for _, inode in disk.files(there))
    else:
        disk.remove(above, name)
    for path, new in moved:
        content = world.judge.shown[client.name][path]
        if new:
            world.person(client.name, new, content)
        world.person(client.name, path, None)


def _write(
    world: World, disk: Disk, folder: Inode, name: str, there: Inode | None, act: Act
) -> None:
    before = there.mtime if there is not None else OLD_TIME
    if there is None or act.how == "new file":
        there = Inode(disk, 0o100644)
        disk.put(folder, name, there)
    if act.how in HIDDEN and disk.now() - there.named < _TICK_NS:
        # Known window: an edit that keeps size and mtime moves ctime alone, which the name itself
        # has just moved in the same tick.
        world.clock.advance(_TICK_NS / 1e9)
    disk.write(there, act.content)
    if act.how == "old time":
        there.mtime = OLD_TIME
    elif act.how == "same time":
        there.mtime = before


def _parent(disk: Disk, path: str) -> tuple[Inode | None, str]:
    *above, last = path.split("/")
    at = disk.root
    for name in above:
        assert at.entries is not None
        if name not in at.entries:
            disk.put(at, name, Inode(disk, 0o040755))
        at = at.entries[name]
        if at.entries is None:
            return None, last
    return at, last


def _moves(act: Act, shown: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return the files of a folder, and what each is called once it has been moved, where that is free."""
    below = sorted(path for path in shown if path.startswith(f"{act.path}/"))
    if act.what == "remove all":
        return [(path, "") for path in below]
    moves = [(path, act.target + path.removeprefix(act.path)) for path in below]
    if any(new == path or are_at_odds(new, path) for _, new in moves for path in shown):
        return []
    return moves
