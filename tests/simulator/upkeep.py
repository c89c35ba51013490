"""What people do for their folders and stores: `trash purge` and `scrub`, which finds what went bad by itself."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from craftsync.core.conflict_names import conflict_original
from craftsync.core.model import BaselineRow, LocalFile
from craftsync.engine.report import Report
from craftsync.engine.session import Session
from tests.simulator.judge import Wrong
from tests.simulator.steps import Run
from tests.simulator.store import is_own

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

_HOURS = 24.0


def purged(world: World, session: Session, run: Run) -> Report:
    """Purge the trashes; what a conflict or a held delete needs stays, and all else that is old enough goes."""
    needed = {one.path for one in session.state.held.rows()}
    needed.update(filter(None, map(conflict_original, session.state.baseline.conflict_paths())))
    with world.judging():
        spared = {entry for entry in session.trash.entries() if entry.path in needed}
    session.trash.purge(run.number / _HOURS)
    with world.judging():
        gone = spared - set(session.trash.entries())
        left = list(session.trash.purgeable(run.number / _HOURS))
    if gone:
        raise Wrong(f"purged, though they are needed: {gone}")
    if left and not run.mods and not world.lags:
        raise Wrong(f"a purge left {left}")
    return Report(run.what)


def scrubbed(world: World, client: Client, session: Session, run: Run) -> Report:
    """Let content go bad on one side, or on none, and look for it; what is bad is found, and repaired if asked."""
    side = run.what.removeprefix("repair").removeprefix("scrub").strip()
    bad = _gone_bad(world, client, session, side) if side else None
    try:
        report = session.scrub(world.listen, repair=run.what != "scrub")
        found = report.repaired + report.problems
        is_right = found == (bad is not None) and report.problems == 0
        gave_up = run.mods or (world.throttles and report.problems)
        if not gave_up and not is_right:
            raise Wrong(f"{run.what} of {bad!r} says {report}")
        if not gave_up and bad is not None and _holds(world, client, side, bad):
            raise Wrong(f"{bad!r} is still there after its repair")
    finally:
        _made_good(world, client)
    return Report(run.what)


def _gone_bad(world: World, client: Client, session: Session, side: str) -> bytes | None:
    """Let one content go bad that is as it was synced, and return it; `None` where there is none."""
    rows = [row for row in session.state.baseline.rows() if _is_sound(world, client, session, row)]
    if not rows:
        return None
    path = world.chance.choice(rows).path
    good: bytes = world.store.contents()[path]
    if not good:  # A power cut may leave a file without its content: there is nothing to flip.
        return None
    flipped = (bytes([good[0] ^ 1 << bit]) + good[1:] for bit in range(8))
    # What somebody wrote, or what went bad before and was restored, is not bad.
    bad = next(one for one in flipped if one not in world.judge.written)
    world.damaged[bad] = good
    if side == "folder":
        inode = client.disk.find(path)
        assert inode is not None
        client.disk.rot(inode, bad)
    else:
        world.store.rot(path, bad)
    world.refresh()
    return bad


def _is_sound(world: World, client: Client, session: Session, row: BaselineRow) -> bool:
    content = world.store.contents().get(row.path)
    if content is None or row.digest != sha256(content).digest() or row.racy:
        return False
    remote = session.store.stat(row.path)
    if remote is not None and remote.version is None and remote.modified_ns != row.modified_ns:
        return False  # Another client wrote or repaired it: without an ETag only its time says so.
    return (
        client.files().get(row.path) == content
        and session.root.stat(row.path) == LocalFile(*row[:5])
        and remote is not None
        and (remote.size, remote.version) == (row.size, row.version)
    )


def _holds(world: World, client: Client, side: str, content: bytes) -> bool:
    shown = client.files() if side == "folder" else world.store.contents()
    return any(what == content and not is_own(path) for path, what in shown.items())


def _made_good(world: World, client: Client) -> None:
    """Put back what is still bad; what is bad in a trash stays there."""
    for path, inode in client.disk.files():
        if inode.data in world.damaged and not is_own(path):
            client.disk.rot(inode, world.damaged[inode.data])
    for path, content in list(world.store.contents().items()):
        if content in world.damaged and not is_own(path):
            world.store.rot(path, world.damaged[content])
    world.judge.written.update(world.damaged)
    world.damaged.clear()
    world.refresh()
