"""Checks of one open store: whether it is reachable and writable, and its features.

It uses only the contract of `stores.base`. It writes objects below
`.craftsync/probe/` and deletes them again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

from craftsync.clock import Clock, iso
from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.doctor.report import Check, Finding, Level, note, ok, warning
from craftsync.engine.identity import check_identity, read_id
from craftsync.errors import StoreDenied, StoreError, StoreUnavailable
from craftsync.stores.base import Store, UnfinishedUpload
from craftsync.stores.sources import BytesSource, tidied
from craftsync.wording import size_shown

_LISTED = 1000
_CONTENT = b"craftsync doctor\n"
_SIGNATURE_NS = 300 * 1_000_000_000
"""S3 refuses requests signed more than 15 minutes from its own time; the warning comes at a third of that."""

_UPLOADS = 10_000
_SIZED = 20
"""The number of uploads whose size is determined, with one request each."""
_LIFECYCLE = (
    "In its next run, craftsync resumes or aborts the uploads it has recorded; others may belong to"
    " another program. To abort them automatically, add a lifecycle rule to the bucket that aborts"
    " uploads 7 days after they began (AbortIncompleteMultipartUpload, DaysAfterInitiation: 7)."
)

_ONE_WRITER = (
    "Let only one machine at a time write to a path, or use a server that checks If-Match and"
    " If-None-Match."
)


@dataclass(slots=True)
class OpenStore:
    """A store under examination. The check that writes sets `writable`."""

    store: Store
    clock: Clock
    writable: bool = False


class Promise(NamedTuple):
    """A feature of `Features` for people: its effect, and what happens without it."""

    fact: str
    kept: str
    missing: str
    level: Level = Level.NOTE
    remedy: str = ""


PROMISES = (
    Promise(
        "conditional_create",
        "a new object never overwrites one that appears at the same time",
        "an object that another program creates just before a new one is written is overwritten",
        Level.WARNING,
        _ONE_WRITER,
    ),
    Promise(
        "conditional_replace",
        "an object is replaced only if it has not changed",
        "a change by another program just before an object is replaced is overwritten",
        Level.WARNING,
        _ONE_WRITER,
    ),
    Promise(
        "conditional_delete",
        "an object is deleted only if it has not changed",
        "a change by another program just before an object is deleted is deleted with it",
        Level.WARNING,
        _ONE_WRITER,
    ),
    Promise(
        "md5_versions",
        "the store's checksum confirms that what arrived is what was sent",
        "the store gives no checksum of what it holds; content is compared by reading it",
    ),
    Promise(
        "metadata",
        "the digest of a file is kept with its object",
        "nothing can be kept with an object; if the state database is lost, content is compared by reading it",
    ),
    Promise(
        "versions",
        "every change of an object is detected",
        "objects have no version (no ETag): a change to content of equal size, within the second in"
        " which the object was written, is not detected",
        Level.WARNING,
        "Use a server that sends ETags, or run `craftsync check` regularly.",
    ),
    Promise(
        "server_side_copy",
        "a renamed file is moved within the store",
        "a renamed file is uploaded again",
    ),
    Promise(
        "ranges",
        "large objects are downloaded in parallel, and an interrupted download resumes",
        "an interrupted download starts again from the beginning",
    ),
    Promise(
        "sorted_listing",
        "objects are listed in order, so memory does not grow with their number",
        "objects are not listed in order; a temporary table sorts them first",
    ),
    Promise(
        "keeps_versions",
        "the store keeps replaced and deleted objects as versions",
        f"replaced and deleted objects are copied to {OWN_FOLDER}/trash in the store",
    ),
)


def _reachable(opened: OpenStore) -> Iterator[Finding]:
    began = opened.clock.monotonic()
    identity = read_id(opened.store)
    milliseconds = 1000 * (opened.clock.monotonic() - began)
    if identity is not None:
        check_identity(identity, opened.store.location)
    used = "not used by craftsync yet" if identity is None else "used by craftsync before"
    yield ok("reachable", f"{opened.store.location} answered in {milliseconds:.0f} ms; {used}")


def _listing(opened: OpenStore) -> Iterator[Finding]:
    entries = list(islice(opened.store.list(), _LISTED))
    names = [entry.path.encode(errors="surrogateescape") for entry in entries]
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    shown = f"the first {_LISTED}" if len(entries) == _LISTED else f"all {len(entries)}"
    if opened.store.features.sorted_listing and any(one >= two for one, two in pairwise(names)):
        raise StoreError(
            "the listing is not in the order the store promises",
            remedy="Please report this with the name and the version of the server.",
        )
    yield ok("listing", f"{shown} objects were listed")
    if skipped:
        yield warning(
            "keys",
            f"{len(skipped)} of them are not synced, the first {skipped[0].path!r}:"
            f" {skipped[0].reason}",
            "Rename them in the store, or leave them where they are.",
        )


def _writing(opened: OpenStore) -> Iterator[Finding]:
    store, path = opened.store, f"{OWN_FOLDER}/probe/doctor-{uuid.uuid4().hex}"

    def remove() -> None:
        with suppress(StoreError):
            store.delete(path, expect=None)

    try:
        with tidied(remove, store):
            before = opened.clock.now_ns()
            store.write(path, BytesSource(_CONTENT), expect=ABSENT, operation=uuid.uuid4().hex)
            after = opened.clock.now_ns()
            opened.writable = True
            yield _read_back(store, path)
            written = store.stat(path)
            yield _clock(written, before, after)
    except StoreDenied as error:
        yield warning(
            "writing",
            f"the store is read-only ({error})",
            error.remedy
            or "`pull` works; for `push`, `sync` and `watch`, allow the credentials to write and delete.",
        )
        return
    if store.stat(path) is not None:
        raise StoreError(
            f"{path} could be written but not deleted",
            remedy="Allow the credentials to delete, then delete that object.",
        )


def _read_back(store: Store, path: str) -> Finding:
    with store.read(path) as reader:
        content = b"".join(reader)
    if content != _CONTENT:
        raise StoreError(
            f"the store returned other bytes for {path} than were sent",
            remedy="Check the network and the store: something changes data in transit.",
        )
    return ok("writing", "an object was written, read back and deleted")


def _clock(written: RemoteObject | None, before: int, after: int) -> Finding:
    """Compare clocks. The engine never does: it compares each side only with its own earlier times."""
    if written is None or written.modified_ns is None:
        return note("clock", "the store does not report when an object was written")
    # Stores round to the second, so a second does not count.
    ahead = written.modified_ns - after
    behind = before - written.modified_ns - 1_000_000_000
    skew = ahead if ahead > 0 else -max(behind, 0)
    seconds = f"{abs(skew) / 1e9:.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) < 1_000_000_000:
        return ok("clock", "the clocks of the store and this machine agree")
    if abs(skew) < _SIGNATURE_NS:
        return note("clock", f"the store's is {seconds}; nothing depends on it")
    return warning(
        "clock",
        f"the store's is {seconds}: no decision depends on it, but a service may refuse to log in",
        "Set the clock: timedatectl set-ntp true",
    )


def _promises(opened: OpenStore) -> Iterator[Finding]:
    opened.store.prepare(None)
    features = opened.store.features
    if not opened.writable:
        yield note("promises", "not tested, because the store is read-only")
        return
    for promise in PROMISES:
        name = promise.fact.replace("_", " ")
        if getattr(features, promise.fact):
            yield ok(name, promise.kept)
        else:
            yield Finding(name, promise.level, promise.missing, promise.remedy)


def _path_rules(opened: OpenStore) -> Iterator[Finding]:
    features = opened.store.features
    yield ok("paths", f"up to {features.max_path_bytes} bytes of UTF-8")
    if features.folders:
        yield note("folders", "a name cannot be an object and a folder at once, as on a disk")


def _unfinished_uploads(opened: OpenStore) -> Iterator[Finding]:
    """Report multipart uploads that were never completed or aborted: they cost storage, but no listing of objects shows them."""
    store, name = opened.store, "unfinished uploads"
    if not store.features.lists_uploads:
        return
    try:
        found = store.unfinished_uploads(most=_UPLOADS, sized=_SIZED)
    except StoreUnavailable:
        raise
    except StoreError as error:
        yield note(name, f"the store does not list them ({str(error).removesuffix('.')})")
        return
    if found:
        yield note(name, _described(found), _LIFECYCLE)
    else:
        yield ok(name, "none")


def _described(found: Sequence[UnfinishedUpload]) -> str:
    count = f"{len(found)} or more" if len(found) == _UPLOADS else f"{len(found)}"
    sizes = [upload.size for upload in found if upload.size is not None]
    is_whole = len(sizes) == len(found) < _UPLOADS
    size = (
        f"{'' if is_whole else 'at least '}{size_shown(sum(sizes))}" if sizes else "of unknown size"
    )
    begun = [(each.begun_ns, each.path) for each in found if each.begun_ns is not None]
    if not begun:
        return f"{count}, {size}, the first {found[0].path!r}"
    since_ns, path = min(begun)
    return f"{count}, {size}, the oldest {path!r}, begun {iso(since_ns)}"


FIRST_CHECKS: tuple[Check[OpenStore], ...] = (_reachable, _listing, _writing)
"""The checks whether a store is usable at all."""

CHECKS: tuple[Check[OpenStore], ...] = (
    *FIRST_CHECKS,
    *(_promises, _path_rules, _unfinished_uploads),
)
