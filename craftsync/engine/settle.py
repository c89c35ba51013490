"""Settles a step: decides it again by content, just before it is carried out.

A listing cannot distinguish a touched file from an edit, equal content from a conflict, or a
write of ours whose response was lost from another program's change. Settling hashes what the
decision depends on, and decides again with the result. It changes neither side."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from craftsync.clock import Clock
from craftsync.core.decide import (
    SideState,
    decide_states,
    local_state,
    remote_is_same,
    remote_state,
)
from craftsync.core.model import (
    Action,
    BaselineRow,
    Compare,
    Decision,
    Kind,
    LocalFile,
    Mode,
    OnConflict,
    Policy,
    RemoteObject,
)
from craftsync.engine.content import Comparison, Fetched, Fetcher
from craftsync.errors import (
    ObjectArchived,
    ObjectNotFound,
    PathBusy,
    PathObstructed,
)
from craftsync.hashing import is_md5
from craftsync.local.files import BLOCK, OpenFile
from craftsync.local.folder import Folder
from craftsync.state.transfers import Intent
from craftsync.stores.base import Store
from craftsync.stores.sources import check_room

_INTO_FOLDER = (Kind.DOWNLOAD, Kind.MOVE_LOCAL)
_INTO_STORE = (Kind.UPLOAD, Kind.MOVE_REMOTE)
_FETCHED_UNASKED = 64 * 1024
"""Up to this many bytes, downloading an object costs no more than a stat before it would."""


class Settled(NamedTuple):
    """The settled decision; `None` if only `row` is to be recorded."""

    decision: Decision | None
    row: BaselineRow | None
    """The corrected baseline row, if settling found the old one outdated."""
    fetched: Fetched | None = None
    """The object's content, if settling read it and it differs from the file. The caller discards it."""
    intents: tuple[Intent, ...] = ()
    """The unfinished writes of earlier runs whose result the store may hold, now or later."""
    refusal: str = ""
    """Why nothing is done although the sides differ, as a clause of a message."""


@dataclass(slots=True)
class Contents:
    """Compares the content of both sides of one path. Each digest is computed once, when needed."""

    root: Folder
    fetcher: Fetcher
    local: LocalFile | None
    remote: RemoteObject | None
    clock: Clock
    keeps: bool = False
    """Whether to keep, in `fetched`, an object that was read and differs from the file."""
    fetched: Fetched | None = None
    in_writing: bool = False
    """Whether another program may have been writing to the file while it was read."""
    _local: bytes | None = None
    _remote: bytes | None = None
    _stated: RemoteObject | None = None
    _compared: Comparison | None = None
    _is_counted: bool = False

    def local_digest(self) -> bytes | None:
        if self._local is None and self.local is not None:
            self._count()
            with self._open() as file:
                self._local = file.digest(self.fetcher.hashing.read)
                file.verify()
        return self._local

    def _count(self) -> None:
        """Count this path as hashed, once."""
        if not self._is_counted:
            self._is_counted = True
            self.fetcher.hashing.file()

    def _open(self) -> OpenFile:
        assert self.local is not None
        file = self.root.open_file(self.local.path)
        if file.file != self.local:
            file.close()
            raise PathBusy(f"{self.local.path}: changed in the folder since it was scanned")
        self.in_writing = self.in_writing or file.may_still_be_written(self.clock.now_ns())
        return file

    def remote_digest(self) -> bytes | None:
        if self._remote is None and self.remote is not None:
            self._count()
            self._remote = self._known(self.remote) or self._read(self.remote)
        return self._remote

    def _known(self, remote: RemoteObject) -> bytes | None:
        """Return the object's digest if the store reports it.

        A small object in a store without metadata gets no stat: reading it costs no more.
        """
        if self._stated is not None:
            return self._stated.digest
        may_tell = self.fetcher.store.features.metadata or remote.size > _FETCHED_UNASKED
        return self.fetcher.known_digest(remote) if may_tell else None

    def _read(self, remote: RemoteObject) -> bytes | None:
        if self.keeps and self.local is not None and self.local.size == remote.size:
            return self._comparison(remote).digest
        return self.fetcher.read_digest(remote)

    def _comparison(self, remote: RemoteObject) -> Comparison:
        """Compare the object with the file, which has the same size; at most once."""
        if self._compared is not None:
            return self._compared
        with self._open() as file:
            comparison = self.fetcher.compare_with(remote, file, keep=self.keeps)
            self.fetched = comparison.fetched
            file.verify()
        self._compared, self._remote = comparison, comparison.digest
        if comparison.is_same:
            self._local = comparison.digest
        return comparison

    def discard(self) -> None:
        """Remove the downloaded object, if any."""
        if self.fetched is not None:
            self.fetched.discard()

    def equal(self, store: Store, *, may_read: bool) -> bool:
        """Return whether both sides hold the same bytes.

        Without `may_read`, an object that would have to be read counts as different.
        """
        local, remote = self.local, self.remote
        if local is None or remote is None or local.size != remote.size:
            return False
        if local.size == 0:
            return True
        try:
            return self._equal_by_content(store, local, remote, may_read=may_read)
        except ObjectArchived:
            return False  # The upload that would replace it raises `NotKept`.

    def _equal_by_content(
        self, store: Store, local: LocalFile, remote: RemoteObject, *, may_read: bool
    ) -> bool:
        if store.features.md5_versions and is_md5(remote.version):
            return self._local_md5() == remote.version or self._equal_by_stat(
                store, remote, may_read
            )
        digest = self.remote_digest()
        return self.fetched is None and digest == self.local_digest()

    def _equal_by_stat(self, store: Store, remote: RemoteObject, may_read: bool) -> bool:
        """Compare with an object whose listed version is not the MD5 of the file.

        The difference proves nothing: the version of an encrypted object only looks like an MD5,
        and a listing does not report which objects are encrypted.
        """
        if may_read and self.keeps and remote.size <= _FETCHED_UNASKED:
            return self._comparison(remote).is_same  # If they differ, it is downloaded anyway.
        found = self._stated = store.stat(remote.path)
        if found is None or found.version != remote.version:
            raise PathBusy(f"{remote.path}: changed in the store since it was listed")
        if found.digest is not None and (found.md5 is None or found.digest != self.local_digest()):
            return found.digest == self.local_digest()
        # The digest is unknown, or equals the file's although the MD5 differs: only reading decides.
        return may_read and self._comparison(remote).is_same

    def _local_md5(self) -> str:
        """Return the MD5 of the file. The same read computes its SHA-256."""
        assert self.local is not None
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self._count()
        with self._open() as file:
            for offset in range(0, self.local.size, BLOCK):
                block = file.read_at(offset, min(BLOCK, self.local.size - offset))
                self.fetcher.hashing.read(len(block))
                md5.update(block)
                sha256.update(block)
            file.verify()
        self._local = sha256.digest()
        return md5.hexdigest()


@dataclass(frozen=True, slots=True)
class Settler:
    """Settles actions, in worker threads. A dry run downloads no whole object from a distant store."""

    root: Folder
    store: Store
    policy: Policy
    fetcher: Fetcher
    clock: Clock
    dry_run: bool = False
    leaving: Container[str] = ()
    """Paths that a dry run counts as gone when they obstruct others: the real run moves them away."""

    def settle(self, action: Action, intents: Sequence[Intent]) -> Settled:
        """Return the settled action. Raises `PathBusy` if the file changed since it was planned."""
        self._still_here(action)
        settled = self._settled(action, intents)
        if self.dry_run and action.remote is None and _kind_of(settled) in _INTO_STORE:
            check_room(self.store, action.path, self.leaving)
        return settled

    def _settled(self, action: Action, intents: Sequence[Intent]) -> Settled:
        if _has_nothing_to_learn(action, intents):
            return Settled(Decision(action.kind, action.rule), None)
        contents = Contents(
            self.root, self.fetcher, action.local, action.remote, self.clock, self._keeps()
        )
        try:
            own, intents = self._own_write(action, intents, contents)
            settled = self._compared(action, own or action.baseline, contents)
        except BaseException:
            contents.discard()
            raise
        return settled._replace(fetched=contents.fetched, intents=intents)

    def _keeps(self) -> bool:
        """Return whether this run may download an object that differs from the file."""
        policy = self.policy
        fetches = policy.mode is not Mode.PUSH and policy.conflict is not OnConflict.LOCAL
        return fetches and not self.dry_run

    def _compared(self, action: Action, row: BaselineRow | None, contents: Contents) -> Settled:
        """Decide again by the content of both sides."""
        local, remote = action.local, action.remote
        if (
            local is not None
            and remote is not None
            and self._may_compare(action)
            and contents.equal(self.store, may_read=not self.dry_run)
        ):
            if action.baseline is not None and not self.dry_run:
                self._check_listed(remote, action.baseline)
            return Settled(None, self._row_of(local, remote, contents))
        on_left, on_right, row = self._states(action, row, contents)
        decision = decide_states(on_left, on_right, self.policy)
        if local is not None and remote is not None and decision is None:
            own = row is not None and row.uploaded and on_right is SideState.SAME
            agreed = self._row_of(local, remote, contents)
            return Settled(None, agreed._replace(uploaded=own))
        if decision is not None and decision.kind is Kind.RECONCILE:
            decision = self._resolve(action, decision)
        return Settled(decision, row if row is not action.baseline else None)

    def _check_listed(self, remote: RemoteObject, row: BaselineRow) -> None:
        """Raise `PathBusy` if the store holds another object than the changed one that was listed.

        A late listing may show an earlier version of the synced object, with the content that the
        file has again.
        """
        if remote_is_same(remote, row):
            return
        found = self.store.stat(remote.path)
        if found is None or (found.size, found.version) != (remote.size, remote.version):
            raise PathBusy(f"{remote.path}: changed in the store since it was listed")

    def _row_of(self, local: LocalFile, remote: RemoteObject, contents: Contents) -> BaselineRow:
        digest = contents.local_digest()
        return self.baseline_row(local, remote, digest, in_writing=contents.in_writing)

    def baseline_row(
        self,
        local: LocalFile,
        remote: RemoteObject,
        digest: bytes | None,
        *,
        looked_ns: int | None = None,
        placed: bool = False,
        in_writing: bool = False,
        uploaded: bool = False,
    ) -> BaselineRow:
        """Return the row that records that both sides hold the same content.

        `looked_ns` is the time of the file's stat, by default now. `placed`: craftsync has just
        put the file in place. Any write changes the ctime, and the mtime unless the program
        resets it. So a write goes unnoticed in two cases only: in the same clock tick as the
        stat, or if the file was `in_writing` while it was read (`OpenFile.may_still_be_written`).
        """
        looked_ns = self.clock.now_ns() if looked_ns is None else looked_ns
        # Placing a file sets its ctime, so each download would be racy and be read again, which
        # costs too much. The price: a write in the same tick that resets mtime goes unnoticed.
        racy = in_writing or self._is_racy(
            local._replace(ctime_ns=local.mtime_ns) if placed else local, looked_ns
        )
        return BaselineRow(*local, racy, digest, remote.modified_ns, remote.version, uploaded)

    def _is_racy(self, local: LocalFile, looked_ns: int) -> bool:
        nearest = min(abs(looked_ns - local.mtime_ns), abs(looked_ns - local.ctime_ns))
        return nearest < self.root.timestamp_granularity_ns

    def _still_here(self, action: Action) -> None:
        path = action.path
        if not self.dry_run and _is_looked_at_later(action):
            return
        self._check_way(action)
        try:
            found = self.root.stat(path)
        except PathObstructed:
            if action.local is not None and action.kind in (*_INTO_FOLDER, Kind.RECONCILE):
                raise
            found = None
        if found != action.local:
            raise PathBusy(f"{path}: changed in the folder since it was scanned")

    def _check_way(self, action: Action) -> None:
        """Raise `PathObstructed` for a new path below a file, or at a folder that holds files."""
        if action.kind in _INTO_FOLDER and action.local is None:
            self.root.check_place(action.path, self.leaving)

    def _own_write(
        self, action: Action, intents: Sequence[Intent], contents: Contents
    ) -> tuple[BaselineRow | None, tuple[Intent, ...]]:
        """Return the row of our own unrecorded write, and the intents that remain open.

        Once the object is identified, no other intent remains open.
        """
        if not intents:
            return None, ()
        found = self.store.stat(action.path)
        if action.remote is None and found is None:
            return None, ()
        if found is None or action.remote is None or found.version != action.remote.version:
            return None, tuple(intents)
        for intent in intents:
            if self._is_of(intent, found, contents):
                digest = found.digest or intent.digest
                # Racy, so that the next run reads it: a power cut may keep its times, not its content.
                row = self.baseline_row(intent.local, found, digest)._replace(racy=True)
                return row, (intent,)
        return None, ()

    def _is_of(self, intent: Intent, found: RemoteObject, contents: Contents) -> bool:
        """Return whether this write made the object, by its operation id or else its digest."""
        if found.operation is not None:
            return found.operation == intent.operation
        if intent.digest is None or found.size != intent.local.size:
            return False
        if found.mtime_ns not in (None, intent.local.mtime_ns):
            return False  # Saves reading the object: a write of ours has the file's mtime.
        return contents.remote_digest() == intent.digest

    def _may_compare(self, action: Action) -> bool:
        row, remote = action.baseline, action.remote
        if self.policy.compare is Compare.CHECKSUM or row is None:
            changed_there = True
        else:
            changed_there = remote_state(remote, row, Compare.FINGERPRINT) is SideState.CHANGED
        return changed_there and remote is not None and self._readable(remote)

    def _readable(self, remote: RemoteObject) -> bool:
        return not self.dry_run or self._cheap(remote)

    def _cheap(self, remote: RemoteObject) -> bool:
        if remote.size == 0 or self.store.features.folders:
            return True
        if self.store.features.md5_versions and is_md5(remote.version):
            return True
        found = self.store.stat(remote.path)
        return found is not None and found.digest is not None

    def _states(
        self, action: Action, row: BaselineRow | None, contents: Contents
    ) -> tuple[SideState, SideState, BaselineRow | None]:
        """Return the state of each side by content, and the baseline row corrected accordingly."""
        local, remote = action.local, action.remote
        on_left = local_state(local, row, Compare.FINGERPRINT)
        on_right = remote_state(remote, row, Compare.FINGERPRINT)
        if row is None or row.digest is None:
            return on_left, on_right, row
        looked_ns = self.clock.now_ns()
        if local is not None and self._hashes_to(row, on_left, local, contents):
            # The file was just read, so the row is fresh. If it stayed racy, every run would count
            # the file as changed, and would never sync a delete on the other side.
            row = row._replace(racy=contents.in_writing or self._is_racy(local, looked_ns))
            on_left, row = SideState.SAME, _seen_again(row, local=local)
        if (
            remote is not None
            and on_right is SideState.CHANGED
            and self._holds(row, action, contents)
        ):
            on_right, row = SideState.SAME, _seen_again(row, remote=remote)
        return on_left, on_right, row

    def _hashes_to(
        self, row: BaselineRow, on_left: SideState, local: LocalFile, contents: Contents
    ) -> bool:
        """Return whether a file that may have changed still has the recorded content."""
        doubtful = on_left is SideState.CHANGED or self.policy.compare is Compare.CHECKSUM
        return doubtful and local.size == row.size and contents.local_digest() == row.digest

    def _holds(self, row: BaselineRow, action: Action, contents: Contents) -> bool:
        """Return whether the object has the recorded content, as far as this run may read it."""
        remote = action.remote
        if remote is None or remote.size != row.size or not self._readable(remote):
            return False
        try:
            return contents.remote_digest() == row.digest
        except ObjectNotFound as error:
            raise PathBusy(f"{action.path}: changed in the store since it was listed") from error

    def _resolve(self, action: Action, decision: Decision) -> Decision:
        """Apply `--conflict` to a path that both sides changed differently."""
        match self.policy.conflict:
            case OnConflict.LOCAL:
                return Decision(Kind.UPLOAD, f"{decision.rule}; --conflict local")
            case OnConflict.REMOTE:
                return Decision(Kind.DOWNLOAD, f"{decision.rule}; --conflict remote")
            case OnConflict.NEWER:
                return self._newer(action, decision)
            case OnConflict.BOTH:
                return decision

    def _newer(self, action: Action, decision: Decision) -> Decision:
        """Compare the file's mtime with the mtime that was uploaded with the object: never two clocks."""
        found = self.store.stat(action.path)
        if found is None or found.mtime_ns is None or action.local is None:
            return decision
        if found.mtime_ns == action.local.mtime_ns:
            return decision
        newer = action.local.mtime_ns > found.mtime_ns
        kind = Kind.UPLOAD if newer else Kind.DOWNLOAD
        return Decision(kind, f"{decision.rule}; --conflict newer")


def _kind_of(settled: Settled) -> Kind | None:
    return None if settled.decision is None else settled.decision.kind


def _has_nothing_to_learn(action: Action, intents: Sequence[Intent]) -> bool:
    """Return whether settling has no content to compare, so that the planned action holds."""
    if action.source is not None or action.kind in (Kind.ADOPT, Kind.FORGET):
        return True
    one_sided = (action.local is None) != (action.remote is None)
    return one_sided and action.baseline is None and not intents


def _is_looked_at_later(action: Action) -> bool:
    """Return whether the step itself checks the file, so that settling saves a stat.

    An upload checks the file when it opens it, and placing a new file fails if one exists. Only
    before a large download a stat pays, because it may save the transfer.
    """
    if action.kind is Kind.DOWNLOAD and action.remote is not None:
        return action.local is None and action.remote.size <= _FETCHED_UNASKED
    return action.kind is Kind.UPLOAD


def _seen_again(
    row: BaselineRow, *, local: LocalFile | None = None, remote: RemoteObject | None = None
) -> BaselineRow:
    """Return the row with the new stat of one side, which still has the recorded content."""
    here = local or LocalFile(*row[:5])
    modified_ns, version = (
        (remote.modified_ns, remote.version) if remote else (row.modified_ns, row.version)
    )
    own = row.uploaded and remote is None
    return BaselineRow(*here, row.racy, row.digest, modified_ns, version, own)
