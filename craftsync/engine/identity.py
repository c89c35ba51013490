"""Whether both sides are what they were: identity files, what a store can do, and files a power cut may have taken.

Both sides hold an identity file with a random id. A missing or different id
stops the run: an unmounted disk, a wrong prefix or a recreated bucket must never
look like a user who deleted all files.

A run that deletes nothing does not wait for the disk. If the power is then cut,
a file that was pushed may be gone, or hold what was never written: nobody's
delete, and nobody's edit.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from craftsync.clock import Clock, boot_id
from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject
from craftsync.engine.report import Issue, IssueEvent, OnEvent, Report
from craftsync.engine.sides import nothing
from craftsync.errors import (
    ObjectNotFound,
    PathError,
    PreconditionFailed,
    RootError,
    StoreChanged,
    StoreDenied,
)
from craftsync.local.folder import Folder
from craftsync.state.database import Database
from craftsync.state.pair import FACTS_LAST_NS, PairState
from craftsync.stores.base import Store
from craftsync.stores.sources import BytesSource, workers

ROOT_ID_FILE = "root-id"
_GITIGNORE = ".gitignore"
STORE_ID_FILE = f"{OWN_FOLDER}/store-id"
_IDENTITY = re.compile("[0-9a-f]{32}")


def confirm_root(root: Folder, state: PairState, *, create: bool) -> None:
    """Check the folder's identity file against the database; with `create`, write it on first use.

    Raises `RootError` when the folder is not the one it was.
    """
    root.ensure_same()
    known = state.database.get("root_id")
    found = _identity_of(root, known)
    if known == root.filesystem_identity() and found is not None:
        known = None  # It could not be written to when it was first seen, and has an identity file by now.
    if known is not None and found != known:
        what = "lost its identity file" if found is None else "is not the folder it was"
        raise _another_root(root, what, state.database.path)
    if create and found is not None:
        _ignored_by_git(root)
    if known is None and create:
        if found is None:
            root.write_own_file(ROOT_ID_FILE, uuid.uuid4().hex.encode())
            found = _identity_of(root, known)
            _ignored_by_git(root)
        if found is not None:
            state.database.put("root_id", found)


def _ignored_by_git(root: Folder) -> None:
    """Keep the trash and all else of craftsync's own out of `git add .`; a file that is there stays."""
    # A folder that can only be read has nothing written into it.
    with contextlib.suppress(PathError):
        if root.read_own_file(_GITIGNORE) is None:
            root.write_own_file(_GITIGNORE, b"*\n")


def refuse_lost_root(root: Folder, known: str | None, database: Path) -> None:
    """Raise `RootError` when a root that is known has no identity file, before anything is made in it.

    It may be the mount point of a disk that is away, which is to stay empty.
    `known` is what the database says it should be.
    """
    has_file = known is not None and not known.startswith("fs:")
    if has_file and root.read_own_file(ROOT_ID_FILE) is None:
        raise _another_root(root, "lost its identity file", database)


def _another_root(root: Folder, what: str, database: Path | None) -> RootError:
    return RootError(
        f"the folder {root.path} {what} ({OWN_FOLDER}/{ROOT_ID_FILE})",
        remedy="Is a disk not mounted? If this really is a new folder, drop what is remembered of"
        f" the old one ({database}) with craftsync forget: the next run then merges without"
        " deleting anything.",
    )


class StoreIdentity(NamedTuple):
    """The id in a store's identity file, and how the store described the file when it was read."""

    id: str
    description: str | None = None
    """`None` where that is not enough to know the file again."""


def confirm_store(
    store: Store,
    state: PairState,
    *,
    create: bool,
    found: Future[StoreIdentity | None] | None = None,
) -> None:
    """Check the store's identity file against the database; with `create`, write it on first use.

    `found` is the result of `find_identity`, where that was begun already. A store
    that may only be read stays without one. Raises `StoreChanged` when the store is
    not the one it was.
    """
    there = (
        find_identity(store, known_identity(state.database)) if found is None else found.result()
    )
    _confirm(store, state, there.id if there else None, create=create)
    if there and there.description and there != known_identity(state.database):
        state.database.put("store_id_file", there.description)


def known_identity(database: Database) -> StoreIdentity | None:
    """Return the identity of a known store as it was read last."""
    known = database.get("store_id")
    return None if known is None else StoreIdentity(known, database.get("store_id_file"))


def find_identity(store: Store, known: StoreIdentity | None) -> StoreIdentity | None:
    """Return the identity of a store, `None` where it has none.

    Where reading takes more requests than a stat, a file of the size and version
    that was read before is the one that was read.
    """
    if known and known.description and store.features.cheap_stats:
        found = store.stat(STORE_ID_FILE)
        if found is not None and _description(found) == known.description:
            return known
    return _read(store, STORE_ID_FILE)


def read_id(store: Store, path: str = STORE_ID_FILE) -> str | None:
    """Return the id in the identity file of a store, `None` where it has none."""
    found = _read(store, path)
    return found.id if found else None


def _read(store: Store, path: str) -> StoreIdentity | None:
    try:
        with store.read(path) as reader:
            text = _text(b"".join(reader))
            is_of_use = store.features.cheap_stats
            return StoreIdentity(text, _description(reader.object) if is_of_use else None)
    except ObjectNotFound:
        return None


def _description(found: RemoteObject) -> str | None:
    return None if found.version is None else f"{found.size} {found.version}"


def meet_store(store: Store, state: PairState, clock: Clock, *, may_write: bool) -> None:
    """Confirm the store and learn what it can do; only where it may be written to is anything written."""
    with meeting_store(store, state, clock, may_write=may_write) as confirm:
        confirm()


@contextlib.contextmanager
def meeting_store(
    store: Store, state: PairState, clock: Clock, *, may_write: bool
) -> Iterator[Callable[[], None]]:
    """Do as `meet_store`, and yield what raises unless the store was confirmed.

    A distant store is asked for its identity while it is listed, and, where it is
    met for the first time, while it is tried out; then it is given one on the
    conditions that it was found to check. One that is known is confirmed before
    anything is tried out in it. Nothing may follow from the listing before what is
    yielded was called.
    """
    database = state.database
    is_known = database.get("store_id") is not None
    is_to_be_tried = may_write and not is_learned(database, clock)
    if not store.features.host or (is_known and is_to_be_tried):
        confirm_store(store, state, create=may_write)
        learn(store, database, clock, may_write=may_write)
        yield nothing
        return
    with workers(1, "identity", store) as pool:
        found = pool.submit(find_identity, store, known_identity(database))
        learn(store, database, clock, may_write=may_write)
        if may_write and not is_known:
            found = pool.submit(_with_identity, store, found)
        yield lambda: confirm_store(store, state, create=False, found=found)


def _with_identity(store: Store, found: Future[StoreIdentity | None]) -> StoreIdentity | None:
    """Return the identity of a store; one that has none gets one, if it may be written to."""
    there = found.result()
    if there is None:
        with contextlib.suppress(StoreDenied):
            written = write_identity(store)
            return None if written is None else StoreIdentity(written)
    return there


def _confirm(store: Store, state: PairState, found: str | None, *, create: bool) -> None:
    known = state.database.get("store_id")
    if known is not None and found != known:
        what = "lost its identity file" if found is None else "is not the store it was"
        raise StoreChanged(
            f"the store {store.location} {what} ({STORE_ID_FILE})",
            remedy="Check bucket, prefix and credentials. If it really is a new store, drop what is"
            f" remembered of the old one ({state.database.path}) with craftsync forget: the next"
            " run then merges without deleting anything.",
        )
    if known is None:
        if found is None and create:
            with contextlib.suppress(StoreDenied):
                found = write_identity(store)
        if found is not None:
            check_identity(found, store.location)
            state.database.put("store_id", found)


def check_identity(text: str, location: str) -> None:
    """Raise `StoreChanged` unless this is an identity, as craftsync makes them."""
    if not _IDENTITY.fullmatch(text):
        raise StoreChanged(
            f"What {location} answers for {STORE_ID_FILE} is not an identity.",
            remedy="A proxy or a login page may answer in its place: check the network and the endpoint.",
        )


def _identity_of(root: Folder, known: str | None) -> str | None:
    """Return what the identity file says; without one, what stands in for it where none can be written."""
    content = root.read_own_file(ROOT_ID_FILE)
    if content is not None:
        return _text(content)
    has_none = root.read_only or (known is not None and known.startswith("fs:"))
    return root.filesystem_identity() if has_none else None


def _text(content: bytes) -> str:
    """Return an identity as text; a damaged one is another identity, not an error."""
    return content.decode("ascii", "replace")


def write_identity(store: Store) -> str | None:
    """Put an identity file into a store that has none; return the id that is there by then.

    It survives a power cut: a store that lost it would count as another one.
    """
    new = uuid.uuid4().hex
    with contextlib.suppress(PreconditionFailed):
        store.write(STORE_ID_FILE, BytesSource(new.encode()), expect=ABSENT, operation=new)
        store.barrier()
        if store.features.conditional_create:
            return new
    return read_id(store)


def learn(store: Store, database: Database, clock: Clock, *, may_write: bool) -> str | None:
    """Let a store know what it can do, and return that as text; `None` where nothing is known.

    What was found out before holds for a while; then, and the first time, the
    store tries it out, if it may be written to.
    """
    saved = database.get("facts")
    if may_write and not is_learned(database, clock):
        saved = store.prepare(None)
        if saved is not None:
            database.put("facts", saved)
        database.put("facts_at_ns", str(clock.now_ns()))
    elif saved is not None:
        store.prepare(saved)
    return saved


def is_learned(database: Database, clock: Clock) -> bool:
    """Tell whether `learn` would try nothing out."""
    at = database.get_int("facts_at_ns")
    return at is not None and abs(clock.now_ns() - at) <= FACTS_LAST_NS


def report_recovery(database: Database, report: Report, on_event: OnEvent, meaning: str) -> None:
    """Tell once that the database was damaged and begun anew; `meaning` is what that makes of this run."""
    aside = database.recovered
    if aside is not None:
        database.recovered = None
        report.damaged_state = True
        reason = f"the state database was damaged and is now {aside}; {meaning}"
        event = IssueEvent(Issue.PROBLEM, str(aside), reason)
        report.note(event)
        on_event(event)


YOUNG_NS = 600 * 10**9
"""Age up to which a file may not be on the disk yet; Linux writes it there within a minute, on batteries later."""

_NOTE = "unflushed"


def note(database: Database, clock: Clock) -> None:
    """Note that files are recorded now that the disk may not have."""
    if not (known := database.get(_NOTE)) or known.partition(" ")[0] != boot_id():
        database.put(_NOTE, f"{boot_id()} {clock.now_ns() - YOUNG_NS}")


def settle(root: Folder, state: PairState, *, flush: bool) -> None:
    """Forget what is remembered of such files once the machine was restarted; until then, `flush` them.

    Without a last synced state both sides are compared, and nothing is deleted.
    """
    boot, _, since = (state.database.get(_NOTE) or "").partition(" ")
    if not boot or (boot == boot_id() and not flush):
        return
    if boot == boot_id():
        root.sync()
    else:
        young = [row.path for row in state.baseline.rows() if row.ctime_ns >= int(since)]
        with state.transaction():
            state.baseline.forget(young)
    state.database.put(_NOTE, "")
