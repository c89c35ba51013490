"""Multipart uploads of large objects: parallel if the storage allows it, resumed after a failure.

The platform has two kinds of storage and does not report which it uses. On S3, parts are
independent and each gets an ETag; on Google Cloud Storage they are one resumable upload, strictly
in order. The first part is sent alone, and its response shows which kind it is. An upload cannot be
aborted: parts of one that is never completed stay until the storage's own rules remove them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import md5
from typing import Any

from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    PathRefused,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from craftsync.net.pace import Attempt
from craftsync.stores.base import Source, UploadJournal
from craftsync.stores.craftai.errors import UploadGone, UrlExpired
from craftsync.stores.craftai.platform import Part
from craftsync.stores.craftai.signed import Content, Receipt, Storage
from craftsync.stores.sources import PartPool, gathered

KIB, MIB = 1024, 1024 * 1024
PART_STEP = 256 * KIB
"""Google Cloud Storage accepts only parts whose size is a multiple of this
(https://cloud.google.com/storage/docs/performing-resumable-uploads)."""

PART_SIZE = 16 * MIB
MOST_PARTS = 10_000
"""The limit of AWS (S3 user guide, "Multipart upload limits")."""

PARTS_AT_ONCE = 4
ENDS_TRIED = 3


@dataclass(slots=True)
class Upload:
    """An upload under way, with the ETags of its finished parts by number (`None` without an ETag).

    `in_order`: until the storage shows that it accepts parts in any order. `proven`: while every
    part's checksum was right. `complete`: the last part has made the object visible, as it does in
    an upload in order. `whole`: the hash of the bytes sent in order.
    """

    id: str
    part_size: int
    parts: dict[int, str | None] = field(default_factory=dict)
    in_order: bool = True
    proven: bool = True
    complete: bool = False
    ends: int = 0
    whole: Any = field(default_factory=partial(md5, usedforsecurity=False))

    def missing(self, size: int) -> list[tuple[int, range]]:
        """Return number and byte range of each part that is not finished."""
        starts = enumerate(range(0, size, self.part_size), 1)
        return [
            (number, range(start, min(start + self.part_size, size)))
            for number, start in starts
            if number not in self.parts
        ]

    def etag(self) -> str | None:
        """Return the ETag that the object should get, or `None` if it cannot be predicted.

        On S3 it is the MD5 of the parts' MD5s, and their number.
        """
        if self.in_order:
            return f'"{self.whole.hexdigest()}"'
        if not self.proven or None in self.parts.values():
            return None
        digests = (bytes.fromhex((etag or "").strip('"')) for _, etag in sorted(self.parts.items()))
        whole = md5(b"".join(digests), usedforsecurity=False)
        return f'"{whole.hexdigest()}-{len(self.parts)}"'


def part_size(size: int, smallest: int = PART_SIZE) -> int:
    """Return the part size for an object, so that it has at most `MOST_PARTS`."""
    needed = max(smallest, -(-size // MOST_PARTS))
    return -(-needed // PART_STEP) * PART_STEP


@dataclass(frozen=True, slots=True)
class Order:
    """An object to upload, and callbacks.

    `before_visible` is called just before the last request, so that its stat of the replaced object
    is recent. `in_doubt` is called with the object's expected ETag if the response to that request
    is lost. `attempt` paces and counts the bytes.
    """

    key: str
    source: Source
    before_visible: Callable[[], object]
    in_doubt: Callable[[str | None], object]
    attempt: Attempt
    journal: UploadJournal | None = None

    @property
    def name(self) -> tuple[str, bytes] | None:
        """Identifies the upload when the same content is sent again; `None` without a digest."""
        return (self.key, self.source.digest) if self.source.digest else None


class Uploads:
    """Sends objects in parts. The parts of all objects share one small pool, which limits the memory."""

    def __init__(self, storage: Storage, smallest_part: int) -> None:
        self._storage = storage
        self._smallest_part = smallest_part
        self._pool = PartPool(PARTS_AT_ONCE)
        self._unfinished: dict[tuple[str, bytes] | None, Upload] = {}
        self._gone: set[str] = set()

    def send(self, order: Order) -> Upload:
        """Upload an object in parts, and return the upload with the ETags of its parts.

        After a transient failure, the next call for the same content resumes the upload, if the
        storage accepts parts in any order. An upload that the platform no longer knows is started
        again.
        """
        upload = self._sent(order)
        if not upload.complete:
            order.source.verify()
            order.before_visible()
        try:
            self._storage.end_upload(order.key, upload.id, upload.parts)
        except (StoreError, PathRefused) as error:
            if isinstance(error, StoreUnavailable) and error.ambiguous:
                order.in_doubt(upload.etag())
            raise self._not_ended(error, order, upload) from error
        self._unfinished.pop(order.name, None)
        if order.journal is not None:
            order.journal.end()
        return upload

    def close(self) -> None:
        self._pool.close()

    def _sent(self, order: Order) -> Upload:
        upload = self._known(order)
        if upload is not None:
            try:
                self._send_parts(order, upload)
                return upload
            except (UploadGone, ObjectNotFound, PathRefused):
                self._forget(order, upload)
        step = part_size(order.source.size, self._smallest_part)
        upload = Upload(self._storage.begin_upload(order.key), step)
        self._send_parts(order, upload)
        return upload

    def _known(self, order: Order) -> Upload | None:
        upload = self._unfinished.get(order.name)
        saved = order.journal.resume() if upload is None and order.journal is not None else None
        if saved is not None and saved[0] not in self._gone:
            # Only uploads with parts in any order are recorded.
            upload = Upload(saved[0], saved[1], dict(saved[2]), in_order=False)
        return upload

    def _send_parts(self, order: Order, upload: Upload) -> None:
        missing = upload.missing(order.source.size)
        if upload.in_order:
            while missing and upload.in_order:
                self._send(order, upload, *missing.pop(0))
            if order.name is not None:
                self._unfinished[order.name] = upload
            if order.journal is not None and upload.proven and not upload.in_order:
                order.journal.begin(upload.id, upload.part_size)
                order.journal.part_done(1, upload.parts[1] or "")
        self._send_aside(order, upload, missing)

    def _send_aside(
        self, order: Order, upload: Upload, missing: Sequence[tuple[int, range]]
    ) -> None:
        """Send several parts at once. If one fails, this raises after all others have ended."""

        def send(number: int, span: range) -> None:
            etag = self._send(order, upload, number, span)
            if order.journal is not None and upload.proven and etag is not None:
                order.journal.part_done(number, etag)

        futures = [self._pool.submit(send, number, span) for number, span in missing]
        gathered(futures, self._storage)

    def _send(self, order: Order, upload: Upload, number: int, span: range) -> str | None:
        """Send one part. If its URL has expired, get a new one, once."""
        try:
            receipt = self._put(order, upload, number, span)
        except UrlExpired:
            receipt = self._put(order, upload, number, span)
        if receipt.intact is False and upload.proven and number > 1:
            raise _not_taken(number, order.key)
        # A wrong checksum of the first part shows that the storage's ETags are not MD5s.
        upload.proven = upload.proven and receipt.intact is True
        upload.parts[number] = receipt.etag
        return receipt.etag

    def _put(self, order: Order, upload: Upload, number: int, span: range) -> Receipt:
        last = span.stop == order.source.size
        size = order.source.size if last else None
        part = self._storage.part_url(order.key, upload.id, number, upload.part_size, size)
        if not any(name.lower() == "content-range" for name in part.more):
            receipt = self._put_alone(order, part, span)
            upload.in_order = upload.in_order and receipt.etag is None
            if receipt.etag is None and upload.parts.get(1) is not None:
                raise _not_taken(number, order.key)
            return receipt
        upload.in_order = True
        return self._put_in_order(
            order, upload, part, Content(order.source, span, order.attempt, upload.whole, held=last)
        )

    def _put_alone(self, order: Order, part: Part, span: range) -> Receipt:
        """Send an independent part.

        A success without an ETag counts only the second time: it may come from a login page.
        """
        receipt = self._storage.put_part(
            order.key, part, Content(order.source, span, order.attempt)
        )
        if receipt.etag is not None:
            return receipt
        return self._storage.put_part(order.key, part, Content(order.source, span, order.attempt))

    def _put_in_order(self, order: Order, upload: Upload, part: Part, content: Content) -> Receipt:
        """Send a part of a resumable upload. The last one makes the object visible, so the checks come before it."""
        if content.held:
            order.before_visible()
        try:
            receipt = self._storage.put_part(order.key, part, content)
        except StoreUnavailable as error:
            if content.held and error.ambiguous:
                order.in_doubt(f'"{content.running.hexdigest()}"')
            raise
        if receipt.complete != content.held:
            raise _not_taken(len(upload.parts) + 1, order.key)
        upload.whole = content.running
        upload.complete = content.held
        return receipt

    def _not_ended(
        self, error: StoreError | PathRefused, order: Order, upload: Upload
    ) -> CraftsyncError:
        """Return the error for a failed completion. An upload that cannot be completed is not resumed."""
        upload.ends += 1
        passing = isinstance(error, StoreUnavailable) and not isinstance(error, UploadGone)
        if passing and upload.ends < ENDS_TRIED:
            return error
        self._forget(order, upload)
        if passing or isinstance(error, StoreDenied):
            return error
        return StoreUnavailable(
            f"The upload of {order.key} could not be ended: {error}", ambiguous=True
        )

    def _forget(self, order: Order, upload: Upload) -> None:
        self._gone.add(upload.id)
        order.attempt.undo()
        self._unfinished.pop(order.name, None)


def _not_taken(number: int, key: str) -> StoreUnavailable:
    """Return the error for a part whose response reports success but does not match it."""
    return StoreUnavailable(
        f"Part {number} of {key} did not arrive as it was sent.",
        remedy="Check the network: something answers for the storage, or changes data on its way.",
        ambiguous=False,
    )
