"""Carries out one step of a migration: stat, copy, verify.

It copies exactly the listed version of the source, and never writes the source. In
the target, it replaces or deletes only the listed version, and keeps that version in
the trash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from craftsync.core.model import (
    ABSENT,
    Action,
    BaselineRow,
    Decision,
    Kind,
    LocalFile,
    Mode,
    Policy,
    RemoteObject,
    as_object,
)
from craftsync.engine.content import digest_of
from craftsync.engine.report import Outcome, Status
from craftsync.engine.settle import Settled
from craftsync.engine.sides import Carrier, Task
from craftsync.errors import (
    PathBusy,
    PathError,
    PreconditionFailed,
)
from craftsync.hashing import is_md5, update_in_place
from craftsync.migrate.options import PropertyPolicy, Verified, Verify
from craftsync.migrate.stream import (
    LARGE_SHARE,
    WHOLE,
    MemoryBudget,
    Stream,
    damaged,
    read_whole,
)
from craftsync.net.pace import Hashing, Limiter
from craftsync.stores.base import Expect, Store, UploadJournal


class Proof(NamedTuple):
    """How both sides were verified to hold the same content, and its digest if it was read."""

    how: Verified
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class CopyCarrier(Carrier):
    """Carries out steps from one store to another.

    `trash_stamp` is this run's folder in the target's trash; `name` identifies the
    migration and is part of operation ids. With `server_side` the server copies.
    A dry run stops after the stats.
    """

    source: Store
    target: Store
    incoming: Limiter
    outgoing: Limiter
    room: MemoryBudget
    properties: PropertyPolicy
    trash_stamp: str
    name: str
    verify: Verify = Verify.CHECKSUM
    no_overwrite: bool = False
    server_side: bool = False
    dry_run: bool = False
    hashing: Hashing = field(default_factory=Hashing)

    short = 256 * 1024
    changed = "changed in the source or the target since they were listed"

    @property
    def policy(self) -> Policy:
        return Policy(Mode.PUSH)

    @property
    def stores(self) -> Sequence[Store]:
        return (self.source, self.target)

    def with_trash_stamp(self, trash_stamp: str) -> CopyCarrier:
        return replace(self, trash_stamp=trash_stamp)

    def refused(self, action: Action, error: PathError) -> Outcome:
        it = "a kept version of it" if action.kind is Kind.DELETE_REMOTE else "it"
        reason = f"the target cannot hold {it}: {error}"
        return Outcome(action, Status.SKIPPED, reason, error=error, final=True)

    def cancel(self) -> None:
        """Make each transfer raise `Interrupted` at its next piece."""
        self.incoming.cancel()
        self.outgoing.cancel()
        self.hashing.cancel()

    def operation(self, source: RemoteObject) -> str:
        """Return the operation id for copying this version, the same in every run."""
        parts = (self.name, *map(str, source[:4]))
        return update_in_place(sha256(), "\0".join(parts).encode()).hexdigest()[:32]

    def settle(self, task: Task) -> Settled:
        action, left = task.action, task.action.local
        if action.kind is Kind.FORGET:
            return Settled(Decision(Kind.FORGET, action.rule), None)
        if left is None:
            return Settled(Decision(Kind.DELETE_REMOTE, action.rule), None)
        if action.remote is not None:
            proof = self._prove_equal(as_object(left), action.remote)
            if proof is not None:
                return Settled(None, _row(left, action.remote, proof))
            if self.no_overwrite:
                reason = "--no-overwrite: the target has a different object"
                return Settled(None, None, refusal=reason)
        return Settled(Decision(Kind.UPLOAD, action.rule), None)

    def step(self, action: Action, task: Task) -> Outcome:
        if action.kind is Kind.FORGET:
            return Outcome(action, Status.UNCHANGED, forget=(action.path,))
        if action.local is None:
            return self._delete(action)
        return self._copy(action, action.local, task.journal)

    def planned(self, action: Action) -> Outcome:
        size = 0 if action.local is None else action.local.size
        return Carrier.planned(self, action)._replace(bytes=size)

    def _delete(self, action: Action) -> Outcome:
        if self.source.stat(action.path) is not None:
            raise PreconditionFailed(action.path)
        self.target.delete(action.path, expect=action.remote, trash_stamp=self.store_stamp)
        kept = self.kept_in_store(action.remote)
        return Outcome(action, Status.DONE, action.rule, forget=(action.path,), kept=kept)

    def _copy(
        self, action: Action, left: LocalFile, open_journal: Callable[[bytes], UploadJournal] | None
    ) -> Outcome:
        source, target = as_object(left), action.remote
        journal = open_journal(self.operation(source).encode()) if open_journal else None
        if self.server_side:
            written, proof = self._copy_on_server(source, target, journal)
        elif source.size <= self.short:
            written, proof = self._copy_whole(source, target)
        elif source.size <= WHOLE:
            with self.room.taken(source.size):
                written, proof = self._copy_whole(source, target)
        else:
            with self.room.taken(LARGE_SHARE):
                written, proof = self._copy_in_parts(source, target, journal)
        if self.verify is Verify.FULL:
            proof = self._read_back(source, written, proof.digest)
        row, size, kept = _row(left, written, proof), source.size, self.kept_in_store(action.remote)
        return Outcome(action, Status.DONE, action.rule, (row,), bytes=size, kept=kept)

    def _copy_on_server(
        self, source: RemoteObject, target: RemoteObject | None, journal: UploadJournal | None
    ) -> tuple[RemoteObject, Proof]:
        origin = self.source.features.origin
        assert origin is not None
        written = self.target.copy_from(
            origin,
            source,
            expect=_expect(target),
            trash_stamp=None if target is None else self.store_stamp,
            journal=journal,
            storage_class=self.properties.class_of_copy(source),
        )
        if is_md5(source.version) and written.version == source.version:
            return written, Proof(Verified.CHECKSUM, None)
        found = self.target.stat(source.path)
        if found is None or found.size != source.size:
            raise PathBusy(f"{source.path}: the copy made by the server is missing")
        return written, Proof(Verified.SERVER, None)

    def _copy_whole(
        self, source: RemoteObject, target: RemoteObject | None
    ) -> tuple[RemoteObject, Proof]:
        content, reader = read_whole(self.source, source, self.incoming, self.outgoing)
        written = self.properties.writer(source, reader)(
            source.path,
            content,
            expect=_expect(target),
            operation=self.operation(source),
            trash_stamp=None if target is None else self.store_stamp,
        )
        checked = is_md5(written.version) and written.version == content.md5
        how = Verified.CHECKSUM if checked else Verified.ACKNOWLEDGED
        return written, Proof(how, content.digest)

    def _copy_in_parts(
        self, source: RemoteObject, target: RemoteObject | None, journal: UploadJournal | None
    ) -> tuple[RemoteObject, Proof]:
        found = self.source.stat(source.path)
        if found is None or not _is_as_listed(found, source):
            raise PathBusy(f"{source.path}: changed in the source since it was listed")
        hash_parts = self.target.features.md5_versions
        stream = Stream(self.source, found, self.incoming, self.outgoing, hash_parts=hash_parts)
        written = self.properties.writer(source)(
            source.path,
            stream,
            expect=_expect(target),
            operation=self.operation(source),
            trash_stamp=None if target is None else self.store_stamp,
            journal=journal,
        )
        stream.verify()
        checked = hash_parts and stream.is_version(written.version)
        how = Verified.CHECKSUM if checked else Verified.ACKNOWLEDGED
        return written, Proof(how, stream.digest)

    def _read_back(self, source: RemoteObject, target: RemoteObject, digest: bytes | None) -> Proof:
        """Read the target's object and compare; raises the error for damaged content."""
        if target.version is None and target.modified_ns is None:
            # The write returned neither, so verify the current object.
            target = self.target.stat(target.path) or target
        self.hashing.file()
        expected = digest or digest_of(self.source, source, self.incoming, self.hashing)
        if digest_of(self.target, target, self.outgoing, self.hashing) != expected:
            raise damaged(self.target, target.path)
        return Proof(Verified.READ_BACK, expected)

    def _prove_equal(self, source: RemoteObject, target: RemoteObject) -> Proof | None:
        """Return the proof that the target already holds the source's content, `None` if it does not.

        Reads both only if nothing cheaper decides; a dry run never does.
        """
        if source.size != target.size:
            return None
        if self.verify is Verify.FULL and not self.dry_run:
            return self._compare(source, target)
        md5s = self.target.features.md5_versions and is_md5(target.version)
        if md5s and source.version == target.version:
            return Proof(Verified.CHECKSUM, None)
        found = self.target.stat(target.path)
        if found is None or not _is_as_listed(found, target):
            raise PreconditionFailed(target.path)
        # A multipart upload starts before its digest is known, but the manifest needs it.
        if found.operation == self.operation(source) and (found.digest or self.dry_run):
            return Proof(Verified.ACKNOWLEDGED, found.digest)
        original = self.source.stat(source.path)
        if original is None or not _is_as_listed(original, source):
            raise PreconditionFailed(source.path)
        if original.digest is not None and found.digest is not None:
            same = original.digest == found.digest
            return Proof(Verified.DIGEST, found.digest) if same else None
        return None if self.dry_run else self._compare(source, target)

    def _compare(self, source: RemoteObject, target: RemoteObject) -> Proof | None:
        self.hashing.file()
        read = partial(digest_of, limiter=self.incoming, hashing=self.hashing)
        digest = read(self.source, source)
        return Proof(Verified.READ_BACK, digest) if read(self.target, target) == digest else None


def _is_as_listed(found: RemoteObject, listed: RemoteObject) -> bool:
    """Return whether a stat matches a listing entry; some servers list finer times than a stat returns."""
    if None not in (found.version, listed.version):
        return (found.size, found.version) == (listed.size, listed.version)
    return found[1:4] == listed[1:4]


def _expect(target: RemoteObject | None) -> Expect:
    return ABSENT if target is None else target


def _row(left: LocalFile, target: RemoteObject, proof: Proof) -> BaselineRow:
    at, version = target.modified_ns, target.version
    return BaselineRow(*left, False, proof.digest, at, version, verified=proof.how)
