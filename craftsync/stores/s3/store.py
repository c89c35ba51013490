"""A bucket, or a prefix in one, as a store.

What a write may replace is left to the server where it was found to check it
(`ProbedFacts`), and looked at just before where it was not. This file decides
the order of requests; how each is made is `calls` and `carrier`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from hashlib import md5

from craftsync.clock import Clock, SystemClock
from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.core.paths import MAX_PATH_BYTES
from craftsync.errors import ObjectNotFound, PathRefused, PreconditionFailed, StoreUnavailable
from craftsync.stores.base import Expect, Features, Source, UploadJournal
from craftsync.stores.s3.calls import Calls
from craftsync.stores.s3.carrier import ObstoreCarrier, can_carry
from craftsync.stores.s3.errors import PartialNotMarked
from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.listing import Listing
from craftsync.stores.s3.multipart import MIB, Uploads
from craftsync.stores.s3.objects import CREATE, OPERATION, Carrier, Condition, Found, Opened, notes
from craftsync.stores.s3.reader import ObjectReader, empty
from craftsync.stores.s3.session import Session, open_session
from craftsync.stores.s3.wire import Wire

LARGEST_SINGLE_PUT = 16 * MIB
LARGEST_SINGLE_COPY = 5 * 1024 * MIB
"""CopyObject takes no more (AWS S3 API reference, "CopyObject")."""

FRESH_LISTING_SECONDS = 2.0


class S3Store:
    """Keeps `stores.base.Store` for the keys of a bucket that start with `prefix`.

    Credentials, region and endpoint come from the arguments, else from where
    boto3 looks. Making a store sends nothing. On a server that does not check
    conditions, a writer that gets between the look and the write is
    overwritten: the window is one request long, and for a new object up to
    `FRESH_LISTING_SECONDS` (a complete listing that ended no longer ago than
    that is taken for the look). `largest_single_copy` is bytes.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        profile: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        facts: ProbedFacts | None = None,
        clock: Clock | None = None,
        largest_single_copy: int = LARGEST_SINGLE_COPY,
    ) -> None:
        folder = prefix.strip("/")
        self.root = f"{folder}/" if folder else ""
        self.name = folder.rpartition("/")[2] or bucket
        self.location = f"s3://{bucket}/{folder}".rstrip("/")
        self._bucket = bucket
        self._clock = clock or SystemClock()
        self._session: Session = open_session(
            bucket, profile=profile, region=region, endpoint_url=endpoint_url
        )
        self._wire = Wire(self._session, self.location, self._clock)
        self.calls = Calls(self._wire, bucket, self.location)
        self._largest_single_copy = largest_single_copy
        self._listed_at: float | None = None
        self._partial_by_wire = False
        self._lock = threading.Lock()
        self.learn(facts or ProbedFacts())
