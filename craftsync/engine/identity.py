"""Identity files: confirm that folder and store are those of the last run.

Each side holds a file with a random id, which the database remembers. A missing or different id
stops the run: an unmounted disk, a wrong prefix or a recreated bucket must never look like a
user who deleted all files.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from hashlib import sha256
from typing import NamedTuple

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject
from craftsync.errors import (
    ANOTHER_ANSWERS,
    ContentDamaged,
    ObjectNotFound,
    PathError,
    PreconditionFailed,
    RootError,
    StoreChanged,
    StoreDenied,
    StoreUnavailable,
)
from craftsync.local.folder import Folder
from craftsync.state.database import Database
from craftsync.state.pair import PairState
from craftsync.stores.base import Store
from craftsync.stores.sources import BytesSource

ROOT_ID_FILE = "root-id"
_GITIGNORE = ".gitignore"
STORE_ID_FILE = f"{OWN_FOLDER}/store-id"
_IDENTITY = re.compile("[0-9a-f]{32}")
_FORGET = "run craftsync forget; the next run then merges both sides and deletes nothing."
"""The end of a remedy for a side whose identity is not the known one and will not be again."""


def confirm_root(root: Folder, state: PairState, *, create: bool) -> None:
    """Check the folder's identity file against the database; with `create`, write it on first use.

    Raises `RootError` if the folder is not the known one.
    """
    root.ensure_same()
    known = state.database.get("root_id")
    found = _identity_of(root, known)
    if known == root.filesystem_identity() and found is not None:
        known = None  # The folder was read-only on first use, and has an identity file now.
    if known is not None and found != known:
        what = "has no identity file" if found is None else "is not the folder of the last run"
        raise _another_root(root, what)
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
    """Exclude craftsync's own folder from `git add .`, unless it has a .gitignore already."""
    # A read-only folder stays as it is.
    with contextlib.suppress(PathError):
        if root.read_own_file(_GITIGNORE) is None:
            root.write_own_file(_GITIGNORE, b"*\n")


def refuse_lost_root(root: Folder, known: Callable[[], str | None]) -> None:
    """Raise `RootError` if a known folder has no identity file, before anything is written to it.

    It may be the mount point of a disk that is not mounted, and must stay empty. `known` reads
    the expected identity from the database.
    """
    if root.read_own_file(ROOT_ID_FILE) is not None:
        return
    identity = known()
    if identity is not None and not identity.startswith("fs:"):
        raise _another_root(root, "has no identity file")


def _another_root(root: Folder, what: str) -> RootError:
    return RootError(
        f"The folder {root.path} {what} ({OWN_FOLDER}/{ROOT_ID_FILE}).",
        remedy=f"Check that its disk is mounted. {_if_new('folder')}",
    )


def _if_new(side: str) -> str:
    return f"If it is a new {side}, {_FORGET}"


class StoreIdentity(NamedTuple):
    """The id in a store's identity file, and the file's size and version when it was read."""

    id: str
    description: str | None = None
    """Size and version; `None` if the store reports too little to recognise the file."""


def confirm_store(
    store: Store,
    state: PairState,
    *,
    create: bool,
    found: Future[StoreIdentity | None] | None = None,
) -> None:
    """Check the store's identity file against the database; with `create`, write it on first use.

    `found` is the result of `find_identity`, if that was started earlier. A store that permits
    no writes gets no file. Raises `StoreChanged` if the store is not the known one.
    """
    there = (
        find_identity(store, known_identity(state.database)) if found is None else found.result()
    )
    _confirm(store, state, there.id if there else None, create=create)
    if there and there.description and there != known_identity(state.database):
        state.database.put("store_id_file", there.description)


def known_identity(database: Database) -> StoreIdentity | None:
    """Return the store's identity as the database knows it; `None` on first use."""
    known = database.get("store_id")
    return None if known is None else StoreIdentity(known, database.get("store_id_file"))


def find_identity(store: Store, known: StoreIdentity | None) -> StoreIdentity | None:
    """Return the identity of a store, or `None` if it has none.

    In a store where reading takes more requests than a stat, a file whose size and version are
    the known ones is not read again.
    """
    if known and known.description and store.features.cheap_stats:
        found = store.stat(STORE_ID_FILE)
        if found is not None and _description(found) == known.description:
            return known
    return _read(store, STORE_ID_FILE)


def read_id(store: Store, path: str = STORE_ID_FILE) -> str | None:
    """Return the id in a store's identity file, or `None` if it has none."""
    found = _read(store, path)
    return found.id if found else None


def _read(store: Store, path: str) -> StoreIdentity | None:
    """Return the identity in a file, or `None` if it does not exist. If it arrives damaged, read it again.

    Raises `StoreChanged` if the same wrong bytes arrive again: then the file itself is damaged.
    """
    try:
        return _read_once(store, path)
    except ContentDamaged as error:
        arrived = error.arrived
    try:
        return _read_once(store, path)
    except ContentDamaged as error:
        if arrived is None or error.arrived != arrived:
            raise StoreUnavailable(str(error), remedy=error.remedy, ambiguous=False) from error
        raise StoreChanged(
            f"The identity file {path} in {store.location} is damaged.",
            remedy=f"Remove {path} from the store with another program. Then {_FORGET}",
        ) from error


def _read_once(store: Store, path: str) -> StoreIdentity | None:
    """Return the identity in a file, or `None` if it does not exist. Raises `ContentDamaged`."""
    try:
        with store.read(path) as reader:
            content, found = b"".join(reader), reader.object
    except ObjectNotFound:
        return None
    digest = sha256(content).digest()
    if found.digest not in (None, digest):
        raise ContentDamaged(
            f"{path}: what arrived is not what was stored.", remedy="Try again.", arrived=digest
        )
    return StoreIdentity(
        _text(content), _description(found) if store.features.cheap_stats else None
    )


def _description(found: RemoteObject) -> str | None:
    return None if found.version is None else f"{found.size} {found.version}"


def _confirm(store: Store, state: PairState, found: str | None, *, create: bool) -> None:
    known = state.database.get("store_id")
    if known is not None and found != known:
        what = "has no identity file" if found is None else "is not the store of the last run"
        raise StoreChanged(
            f"The store {store.location} {what} ({STORE_ID_FILE}).",
            remedy=f"Check bucket, prefix and credentials. {_if_new('store')}",
        )
    if known is None:
        if found is None and create:
            with contextlib.suppress(StoreDenied):
                found = write_identity(store)
        if found is not None:
            check_identity(found, store.location)
            state.database.put("store_id", found)


def check_identity(text: str, location: str) -> None:
    """Raise `StoreChanged` unless the text is an id in craftsync's format."""
    if not _IDENTITY.fullmatch(text):
        raise StoreChanged(
            f"What {location} answers for {STORE_ID_FILE} is not an identity.",
            remedy=ANOTHER_ANSWERS,
        )


def _identity_of(root: Folder, known: str | None) -> str | None:
    """Return the id in the identity file; for a read-only folder without one, the filesystem's identity."""
    content = root.read_own_file(ROOT_ID_FILE)
    if content is not None:
        return _text(content)
    has_none = root.read_only or (known is not None and known.startswith("fs:"))
    return root.filesystem_identity() if has_none else None


def _text(content: bytes) -> str:
    """Return the content as text. A damaged one becomes a different id, not an error."""
    return content.decode("ascii", "replace")


def write_identity(store: Store) -> str | None:
    """Write an identity file into a store that has none; return the id that the store then has.

    The write is made durable: after a power cut, a store without the file would count as another.
    """
    new = uuid.uuid4().hex
    with contextlib.suppress(PreconditionFailed):
        store.write(STORE_ID_FILE, BytesSource(new.encode()), expect=ABSENT, operation=new)
        store.barrier()
        if store.features.conditional_create:
            return new
    return read_id(store)
