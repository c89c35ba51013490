"""`FolderCarrier`: carries out a step between a folder and a store: settle, verify, transfer, verify.

It runs in worker threads and returns what to record; it never writes to the state database. It
replaces or deletes only the version that was scanned or listed, and keeps it in
`.craftsync/trash/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TypeVar

from craftsync.core.conflict_names import conflict_name
from craftsync.core.model import (
    ABSENT,
    Action,
    BaselineRow,
    Kind,
    LocalFile,
    Policy,
    RemoteObject,
    mtime_of,
)
from craftsync.core.retention import StoreTrash
from craftsync.engine.content import Fetched, Fetcher, PartialDownload, RootSource
from craftsync.engine.report import ARCHIVED, Outcome, Staged, Status, sentence
from craftsync.engine.settle import Settled, Settler
from craftsync.engine.sides import Carrier, Task, do_nothing
from craftsync.errors import (
    NotKept,
    ObjectArchived,
    PathBusy,
    PathError,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
)
from craftsync.local.files import OpenFile
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary
from craftsync.net.pace import Limiter
from craftsync.state.history import KeptVersion
from craftsync.state.transfers import Arrival, Arrivals, Intent, Intents
from craftsync.stores.base import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FolderCarrier(Carrier):
    """Carries out steps between one folder and one store.

    `trash_stamp` names this run in both trashes. `dry_run` stops after settling. `strict`
    skips a step that is no longer exactly as planned. `store_trash` must not be `AUTO`.
    """

    root: Folder
    store: Store
    settler: Settler
    fetcher: Fetcher
    upload_limiter: Limiter
    intents: Intents
    arrivals: Arrivals
    trash_stamp: str
    dry_run: bool = False
    strict: bool = False
    store_trash: StoreTrash = StoreTrash.ALL
    identity_file: Callable[[], None] = do_nothing
    """Waits for the store's identity file (`Confirmation.identity_file`)."""

    changed = "changed in the store since it was listed"
    short = 1 << 20
    # Hashing and copying 1 MiB delays the other short tasks by a millisecond at most.

    @property
    def policy(self) -> Policy:
        return self.settler.policy

    @property
    def stores(self) -> Sequence[Store]:
        return (self.store,)

    def before_recording(self) -> None:
        self.identity_file()

    def sync(self) -> None:
        self.root.sync()

    def has_temporary(self, name: str) -> bool:
        return self.root.has_temporary(name)

    def with_trash_stamp(self, trash_stamp: str) -> Carrier:
        return replace(self, trash_stamp=trash_stamp)

    def cancel(self) -> None:
        """Make each transfer raise `Interrupted` at its next piece."""
        self.upload_limiter.cancel()
        self.fetcher.limiter.cancel()
        self.fetcher.hashing.cancel()

    @property
    def store_stamp(self) -> str | None:
        return None if self.store_trash is StoreTrash.OFF else self.trash_stamp

    def settle(self, task: Task) -> Settled:
        settled = self.settler.settle(task.action, task.intents)
        if len(settled.intents) != len(task.intents) and not self.dry_run:
            standing = settled.intents[0] if settled.intents else None
            self.intents.end(task.action.path, but=standing)
        return settled

    def step(self, action: Action, task: Task) -> Outcome | Staged:
        try:
            return self._step(action, task)
        except NotKept:
            if action.kind in (Kind.UPLOAD, Kind.DELETE_REMOTE):
                return Outcome(action, Status.HELD, ARCHIVED)
            if action.source is None:
                raise
            # The next run plans two steps instead of the move, and holds the delete.
            return Outcome(action, Status.SKIPPED, ARCHIVED)

    def _step(self, action: Action, task: Task) -> Outcome | Staged:
        match action.kind:
            case Kind.UPLOAD:
                return self._upload(action, task)
            case Kind.DOWNLOAD:
                return self._download(action, task)
            case Kind.DELETE_REMOTE:
                return self._delete_remote(action, task)
            case Kind.DELETE_LOCAL:
                return self._delete_local(action)
            case Kind.MOVE_REMOTE:
                return self._move_remote(action, task)
            case Kind.MOVE_LOCAL:
                return self._move_local(action)
            case Kind.RECONCILE:
                return self._keep_both(action, task)
            case Kind.ADOPT:
                return self._adopt(action)
            case Kind.FORGET:
                return self._forget(action)

    def _begin(self, task: Task, local: LocalFile, digest: bytes | None) -> None:
        """Record an intent of this write, if its operation id alone would not identify it after a crash."""
        if task.intents or not self.store.features.metadata:
            # Otherwise the object carries its operation id, which the plan row also has.
            self.intents.begin(Intent(task.operation, local, digest))

    def _adopt(self, action: Action) -> Outcome:
        assert action.local is not None and action.remote is not None
        row = self.settler.baseline_row(action.local, action.remote, None)
        return Outcome(action, Status.UNCHANGED, action.rule, rows=(row,))

    def _forget(self, action: Action) -> Outcome:
        """Forget a path that neither side holds. First a stat, because a listing may miss an object."""
        if self.store.stat(action.path) is not None:
            raise PreconditionFailed(action.path)
        return Outcome(action, Status.UNCHANGED, forget=(action.path,))

    def _upload(self, action: Action, task: Task) -> Outcome:
        send = partial(self._send, action.path, action.local, action.remote, task, uploaded=True)
        if action.remote is None:
            row, size = send(trash_stamp=None)
            return Outcome(action, Status.DONE, action.rule, (row,), bytes=size)
        is_spared = self.store_trash is StoreTrash.FOREIGN and _is_own_upload(action)
        trash_stamp = None if is_spared else self.store_stamp
        (row, size), was_kept = self._keeping(trash_stamp, task, send)
        kept = self.kept_in_store(action.remote) if was_kept else ()
        return Outcome(action, Status.DONE, action.rule, (row,), bytes=size, kept=kept)

    def _keeping(
        self, trash_stamp: str | None, task: Task, displace: Callable[..., T]
    ) -> tuple[T, bool]:
        """Replace or delete an object; return the result, and whether a copy went to the trash.

        A copy is left out only if `trash_stamp` is `None`, or if the store can keep none and the
        user approved that.
        """
        try:
            return displace(trash_stamp=trash_stamp), trash_stamp is not None
        except NotKept:
            if not task.unkept:
                raise
        return displace(trash_stamp=None), False

    def _send(
        self,
        path: str,
        local: LocalFile | None,
        remote: RemoteObject | None,
        task: Task,
        *,
        trash_stamp: str | None,
        uploaded: bool = False,
    ) -> tuple[BaselineRow, int]:
        with self.root.open_file(path) as file:
            if local is not None and file.file != local:
                raise PathBusy(f"{path}: changed in the folder since it was scanned")
            looked_ns = self.settler.clock.now_ns()
            in_writing = file.may_still_be_written(looked_ns)
            pace = self.upload_limiter.pace_for(file.file.size)
            source = RootSource(file, pace, self.fetcher.hashing, in_writing=in_writing)
            self._begin(task, file.file, source.digest)
            found = self.store.write(
                path,
                source,
                expect=ABSENT if remote is None else remote,
                operation=task.operation,
                trash_stamp=trash_stamp if remote is not None else None,
                journal=task.journal(source.digest) if task.journal else None,
            )
            row = self.settler.baseline_row(
                file.file,
                found,
                source.digest,
                looked_ns=looked_ns,
                in_writing=in_writing,
                uploaded=uploaded,
            )
            return row, source.size

    def _download(self, action: Action, task: Task) -> Staged:
        assert action.remote is not None
        fetched = self._fetched(action.remote, task, task.partial)
        size = action.remote.size
        return Staged(action, fetched.take(), fetched.found, fetched.digest, size, self.trash_stamp)

    def _fetched(
        self, remote: RemoteObject, task: Task, partial: PartialDownload | None
    ) -> Fetched:
        """Return the object that settling has read, or download it."""
        if task.fetched is None:
            return self.fetcher.fetch(remote, partial)
        self.fetcher.limiter.count(task.fetched.bytes_read_before)
        return task.fetched

    def place(self, staged: Staged) -> Outcome:
        """Put a finished download in place. Its bytes must be flushed already."""
        action, remote = staged.action, staged.remote
        try:
            local = self.root.place(
                staged.temporary,
                action.path,
                expect=action.local,
                mtime_ns=mtime_of(remote),
                trash_stamp=staged.trash_stamp,
            )
        except PathBusy as error:
            return Outcome(action, Status.SKIPPED, str(error))
        except PathError as error:
            return Outcome(action, Status.PROBLEM, sentence(error), error=error)
        finally:
            staged.temporary.discard()
        row = self.settler.baseline_row(local, remote, staged.digest, placed=True)
        kept = _kept_in_root(action.local, staged.trash_stamp)
        return Outcome(action, Status.DONE, action.rule, rows=(row,), bytes=staged.bytes, kept=kept)

    def _delete_remote(self, action: Action, task: Task) -> Outcome:
        assert action.remote is not None
        delete = partial(self.store.delete, action.path, expect=action.remote)
        _, was_kept = self._keeping(self.store_stamp, task, delete)
        kept = self.kept_in_store(action.remote) if was_kept else ()
        return Outcome(action, Status.DONE, action.rule, forget=(action.path,), kept=kept)

    def _delete_local(self, action: Action) -> Outcome:
        assert action.local is not None
        if self.store.stat(action.path) is not None:
            raise PreconditionFailed(action.path)
        self.root.displace(action.path, expect=action.local, trash_stamp=self.trash_stamp)
        kept = _kept_in_root(action.local, self.trash_stamp)
        return Outcome(action, Status.DONE, action.rule, forget=(action.path,), kept=kept)

    def _move_remote(self, action: Action, task: Task) -> Outcome:
        """Rename in the store, or copy and delete. First hash the file, because inodes are reused."""
        row, source = _moved(action)
        assert action.local is not None
        with self.root.open_file(action.path) as file:
            renamed = row.digest is not None and self._digest_of(file) == row.digest
            file.verify()
        old = RemoteObject(source, row.size, row.modified_ns, row.version)
        found = self._placed_there(old, action, task, row) if renamed else None
        if found is None:
            new, size = self._send(action.path, action.local, None, task, trash_stamp=None)
        else:
            new, size = self.settler.baseline_row(action.local, found, row.digest), 0
        if found is None or not self.store.features.renames:
            self.store.delete(source, expect=old, trash_stamp=None if renamed else self.store_stamp)
        kept = self.kept_in_store(None if renamed else old)
        return Outcome(
            action, Status.DONE, action.rule, rows=(new,), forget=(source,), bytes=size, kept=kept
        )

    def _placed_there(
        self, old: RemoteObject, action: Action, task: Task, row: BaselineRow
    ) -> RemoteObject | None:
        """Rename or copy an object within the store; return `None` if the store cannot do so."""
        assert action.local is not None
        features = self.store.features
        if not (features.renames or features.server_side_copy):
            return None
        self._begin(task, action.local, row.digest)
        if features.renames:
            return self.store.move(old, action.path, operation=task.operation)
        try:
            return self.store.copy(old, action.path, expect=ABSENT, operation=task.operation)
        except ObjectArchived:
            return None

    def _digest_of(self, file: OpenFile) -> bytes:
        self.fetcher.hashing.file()
        return file.digest(self.fetcher.hashing.read)

    def _move_local(self, action: Action) -> Outcome:
        (row, source), remote = _moved(action), action.remote
        assert remote is not None
        if not self._holds(remote, row):
            raise PathBusy(
                f"{action.path}: differs from {source}, so this is not a rename;"
                " it is synced as two changes instead"
            )
        if self.store.stat(source) is not None:
            raise PreconditionFailed(source)
        size, inode = row.size, row.inode
        self.arrivals.begin(
            [Arrival(action.path, size, inode, row.digest, remote.modified_ns, remote.version)]
        )
        moved = self.root.move(source, action.path, expect=LocalFile(*row[:5]))
        self.arrivals.placed([action.path])
        new = self.settler.baseline_row(moved, remote, row.digest, placed=True)
        return Outcome(action, Status.DONE, action.rule, rows=(new,), forget=(source,))

    def _holds(self, remote: RemoteObject, row: BaselineRow) -> bool:
        """Return whether an object has the content recorded in another path's row."""
        if remote.size != row.size:
            return False
        if self.store.features.md5_versions and remote.version == row.version:
            return True
        return row.digest is not None and self.fetcher.digest(remote) == row.digest

    def _keep_both(self, action: Action, task: Task) -> Outcome:
        """Keep the local file, save the store's version beside it as a conflict copy, and sync both.

        The copy's name contains the time of the store's version, so a crash in between causes
        no second copy.
        """
        path, remote = action.path, action.remote
        assert remote is not None and action.local is not None
        copy, found = self._save_copy(remote, task)
        if found is None:
            ours = task._replace(operation=task.operation + ".copy", journal=None)
            copy_row, copy_size = self._send(copy, None, None, ours, trash_stamp=None)
        else:
            copy_row, copy_size = found, 0
        row, size = self._send(path, action.local, remote, task, trash_stamp=self.store_stamp)
        return Outcome(
            action,
            Status.CONFLICT,
            f"both sides changed; the store's version is beside it as {copy.rpartition('/')[2]}",
            rows=(row, copy_row),
            bytes=size + copy_size,
            kept=self.kept_in_store(remote),
        )

    def _save_copy(self, remote: RemoteObject, task: Task) -> tuple[str, BaselineRow | None]:
        """Save the store's version beside the file. Return its path, and its row if the store has that too."""
        fetched = self._fetched(remote, task, None)
        found, digest = fetched.found, fetched.digest
        try:
            for copy in self._copy_names(remote):
                if not self._is_free_or_holds(copy, digest):
                    continue
                there = self.store.stat(copy)
                if there is not None and not self._stores(there, found.size, digest):
                    continue
                local = self._copied(fetched.temporary, copy, found)
                return copy, None if there is None else self.settler.baseline_row(
                    local, there, digest
                )
        finally:
            fetched.discard()
        raise AssertionError("there is always another name")

    def _copy_names(self, remote: RemoteObject) -> Iterator[str]:
        for number in count(1):
            name = self.store.name if number == 1 else f"{self.store.name} {number}"
            yield conflict_name(remote.path, remote.modified_ns or 0, name)

    def _is_free_or_holds(self, copy: str, digest: bytes) -> bool:
        """Return whether a path in the folder does not exist, or already holds this content."""
        try:
            if self.root.stat(copy) is None:
                return True
            with self.root.open_file(copy) as file:
                return self._digest_of(file) == digest
        except (PathObstructed, PathRefused):
            return False

    def _stores(self, there: RemoteObject, size: int, digest: bytes) -> bool:
        return there.size == size and self.fetcher.digest(there) == digest

    def _copied(self, temporary: Temporary, copy: str, found: RemoteObject) -> LocalFile:
        """Place a temporary file as the conflict copy, unless the copy already exists."""
        local = self.root.stat(copy)
        if local is not None:
            return local
        self.root.sync()
        return self.root.place(
            temporary, copy, expect=None, mtime_ns=mtime_of(found), trash_stamp=self.trash_stamp
        )


def _kept_in_root(displaced: LocalFile | None, trash_stamp: str) -> tuple[KeptVersion, ...]:
    if displaced is None:
        return ()
    return (KeptVersion("root", trash_stamp, displaced.path, displaced.size),)


def _is_own_upload(action: Action) -> bool:
    """Return whether the object that an upload replaces is this client's own, unchanged upload."""
    row, remote = action.baseline, action.remote
    if row is None or remote is None or not row.uploaded or row.version is None:
        return False
    return (row.version, row.size) == (remote.version, remote.size)


def _moved(action: Action) -> tuple[BaselineRow, str]:
    """Return the baseline row of a move's old path, and that path.

    Raises `PathBusy` if the row is missing, because the plan is outdated.
    """
    assert action.source is not None
    if action.baseline is None:
        raise PathBusy(f"{action.source}: changed since the plan was made")
    return action.baseline, action.source
