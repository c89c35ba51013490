"""`trash purge`, and `scrub`, which finds content that went bad by itself."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from craftsync.core.conflict_names import conflict_original
from craftsync.core.model import BaselineRow, LocalFile
from craftsync.engine.report import Report
from craftsync.engine.session import Session
from tests.simulator.judge import Violation
from tests.simulator.steps import Run
from tests.simulator.store import is_own

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

_HOURS = 24.0


def purge(world: World, session: Session, run: Run) -> Report:
    """Purge the trashes: every old enough version must go, except those that a conflict or a held delete needs."""
    needed = {one.path for one in session.state.held.rows()}
    needed.update(filter(None, map(conflict_original, session.state.baseline.conflict_paths())))
    with world.undisturbed():
        spared = {entry for entry in session.trash.entries() if entry.path in needed}
    session.trash.purge(run.number / _HOURS)
    with world.undisturbed():
        gone = spared - set(session.trash.entries())
        left = list(session.trash.purgeable(run.number / _HOURS))
    if gone:
        raise Violation(f"purged although needed: {gone}")
    if left and not run.mods and not world.lags:
        raise Violation(f"a purge left {left}")
    return Report(run.what)


def scrub(world: World, client: Client, session: Session, run: Run) -> Report:
    """Damage a content on one side or on none, then scrub: it must find the damage, and repair it if told to."""
    side = run.what.removeprefix("repair").removeprefix("scrub").strip()
    bad = _corrupt_one(world, client, session, side) if side else None
    try:
        report = session.scrub(world.on_event, repair=run.what != "scrub")
        found = report.repaired + report.problems
        is_right = found == (bad is not None) and report.problems == 0
        gave_up = run.mods or (world.throttles and report.problems)
        if not gave_up and not is_right:
            raise Violation(f"{run.what} of {bad!r} reports {report}")
        if not gave_up and bad is not None and _shows(world, client, side, bad):
            raise Violation(f"{bad!r} is still on its side after a repair")
    finally:
        _undo_corruption(world, client)
    return Report(run.what)


def _corrupt_one(world: World, client: Client, session: Session, side: str) -> bytes | None:
    """Flip one bit of a random file or object that is in sync; return the bad content, `None` if none is."""
    rows = [row for row in session.state.baseline.rows() if _is_sound(world, client, session, row)]
    if not rows:
        return None
    path = world.chance.choice(rows).path
    good: bytes = world.store.contents()[path]
    if not good:  # A power cut may leave a file empty.
        return None
    flipped = (bytes([good[0] ^ 1 << bit]) + good[1:] for bit in range(8))
    # Content that was written before, by a user or as earlier damage, must not count as bad.
    bad = next(one for one in flipped if one not in world.judge.written)
    world.damaged[bad] = good
    if side == "folder":
        inode = client.disk.find(path)
        assert inode is not None
        client.disk.corrupt(inode, bad)
    else:
        world.store.corrupt(path, bad)
    world.accept_contents()
    return bad


def _is_sound(world: World, client: Client, session: Session, row: BaselineRow) -> bool:
    content = world.store.contents().get(row.path)
    if content is None or row.digest != sha256(content).digest() or row.racy:
        return False
    remote = session.store.stat(row.path)
    if remote is not None and remote.version is None and remote.modified_ns != row.modified_ns:
        return (
            False  # Another client wrote or repaired it: without an ETag only its time shows that.
        )
    return (
        client.files().get(row.path) == content
        and session.root.stat(row.path) == LocalFile(*row[:5])
        and remote is not None
        and (remote.size, remote.version) == (row.size, row.version)
    )


def _shows(world: World, client: Client, side: str, content: bytes) -> bool:
    shown = client.files() if side == "folder" else world.store.contents()
    return any(what == content and not is_own(path) for path, what in shown.items())


def _undo_corruption(world: World, client: Client) -> None:
    """Restore damaged files and objects, except in a trash."""
    for path, inode in client.disk.files():
        if inode.data in world.damaged and not is_own(path):
            client.disk.corrupt(inode, world.damaged[inode.data])
    for path, content in list(world.store.contents().items()):
        if content in world.damaged and not is_own(path):
            world.store.corrupt(path, world.damaged[content])
    world.judge.written.update(world.damaged)
    world.damaged.clear()
    world.accept_contents()
