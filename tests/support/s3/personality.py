"""How a fake S3 differs from Amazon's: facts only, each with Amazon's behaviour as its default."""

from __future__ import annotations

from dataclasses import dataclass, replace

MIB = 1024 * 1024
CONDITIONS = frozenset({"put", "complete", "copy", "copy-source", "delete", "get"})
"""The requests whose `If-Match` and `If-None-Match` Amazon honours."""


@dataclass(frozen=True, slots=True)
class Personality:
    """One kind of server. A test may give a running fake another one at any time."""

    name: str
    about: str
    """What it does, in words for a reader of docs/stores.md."""
    conditions: frozenset[str] = CONDITIONS
    """Requests whose conditions are honoured; those of all others are ignored."""
    knows_conditions: bool = True
    """Without it, any write with a condition is answered 501."""
    unquoted_only: frozenset[str] = frozenset()
    """Requests that compare an `If-Match` with its quotes on, so that only an unquoted one is met (Ceph 16)."""
    etags: str = "md5"
    """What an ETag is: `md5`, `random` (32 hexadecimal digits that say nothing), `opaque` (other text) or `none`."""
    encryption: str | None = None
    """The bucket's default, as answers name it; with `aws:kms` an ETag is no MD5."""
    versioned: bool = False
    object_lock: bool = False
    """Default retention: no write without a checksum, no version is ever removed."""
    virtual_hosts_only: bool = False
    slow_down: float = 0.0
    """The share of requests that are answered 503 SlowDown, drawn with `seed`."""
    seed: int = 1
    requester_pays: bool = False
    part_copy: str = "yes"
    """UploadPartCopy: `yes`, `no` (501), or `empty` (taken for the upload of an empty part, as rclone does)."""
    completion_etag: bool = True
    """Without it, the answer to a completed upload has an empty ETag (Ceph 16)."""
    names_gone_uploads: bool = True
    """Without it, an upload that is gone is answered NoSuchKey (Ceph 16)."""
    copies: bool = True
    metadata: bool = True
    ranges: bool = True
    utf16_order: bool = False
    groups: bool = True
    """Whether it knows the delimiter of a listing."""
    """Listings in the order of UTF-16, as Java and JavaScript sort."""
    hides_below: bool = False
    """A listing hides `a/*` once there is an object `a` (MinIO)."""
    single_copy: int = 5 * 1024 * MIB
    """Bytes that one CopyObject copies at most."""
    smallest_part: int = 5 * MIB
    passing: bool = False
    """It is so for a while, and as Amazon's before and afterwards."""
    refuses_versions: bool = False
    """Any `If-Match` of a write is answered 412, the right one as well."""
    wants_checksums: bool = False
    """No write and no part without a checksum."""
    wrong_put_etag: bool = False
    """The answer to a write names an ETag that the object does not have."""
    stores_trailers: bool = False
    """Content is stored with the trailer of a chunked upload behind it."""
    listing_lags: bool = False
    """A listing shows what there was when the one before it began."""
    cuts_listings: bool = False
    """Of a listing only the first page is there, and it says that it is all."""
    repeats_pages: bool = False
    """Each page of a listing is the first one."""
    loses_answers: bool = False
    """The first request of each kind that changes a key is carried out, and the connection closed instead of an answer."""
    loses_writes: str = ""
    """A write to a key with this text in it is acknowledged and does not happen."""
    is_portal: bool = False
    """Everything is answered 200 with the login page of a network."""


PLAIN = Personality("plain", "does all that Amazon's does")
CEPH_16 = replace(
    PLAIN,
    name="ceph-16",
    about="as Ceph 16: compares an `If-Match` with its quotes on, and checks none of deletes, completions and copies",
    conditions=frozenset({"put", "copy-source", "get"}),
    unquoted_only=frozenset({"put"}),
    completion_etag=False,
    names_gone_uploads=False,
)

PERSONALITIES = {
    personality.name: personality
    for personality in (
        PLAIN,
        CEPH_16,
        replace(
            PLAIN,
            name="ignores-conditions",
            about="accepts conditions and checks none",
            conditions=frozenset(),
        ),
        replace(
            PLAIN,
            name="no-conditions",
            about="answers 501 to a write with a condition, and groups no listing",
            knows_conditions=False,
            groups=False,
        ),
        replace(
            PLAIN,
            name="kms",
            about="encrypts with SSE-KMS: ETags look like MD5s and are none",
            encryption="aws:kms",
        ),
        replace(PLAIN, name="no-etags", about="names no ETag anywhere", etags="none"),
        replace(
            PLAIN,
            name="versioned",
            about="keeps what is replaced or deleted as versions",
            versioned=True,
        ),
        replace(
            PLAIN,
            name="object-lock",
            about="keeps versions for good, and takes no write without a checksum",
            versioned=True,
            object_lock=True,
        ),
        replace(
            PLAIN,
            name="virtual-hosted",
            about="takes only addresses with the bucket in the host's name",
            virtual_hosts_only=True,
        ),
        replace(
            PLAIN,
            name="slow-down",
            about="answers 503 SlowDown to every fifth request",
            slow_down=0.2,
        ),
        replace(
            PLAIN,
            name="requester-pays",
            about="refuses who does not say that he pays",
            requester_pays=True,
        ),
        replace(PLAIN, name="no-part-copy", about="copies no parts (501)", part_copy="no"),
        replace(PLAIN, name="no-copy", about="copies nothing (501)", copies=False, part_copy="no"),
        replace(PLAIN, name="no-metadata", about="forgets the metadata of objects", metadata=False),
        replace(PLAIN, name="utf-16-order", about="lists in the order of UTF-16", utf16_order=True),
        replace(PLAIN, name="hides-below", about="lists nothing below an object", hides_below=True),
    )
}
"""Those that a client can live with for good."""

FAULTY = {
    personality.name: personality
    for personality in (
        replace(
            PLAIN, name="random-etags", about="ETags look like MD5s and are none", etags="random"
        ),
        replace(PLAIN, name="opaque-etags", about="ETags are any text", etags="opaque"),
        replace(
            PLAIN,
            name="refuses-versions",
            about="refuses the right version in a condition too",
            refuses_versions=True,
        ),
        replace(
            PLAIN,
            name="wants-checksums",
            about="takes no write without a checksum",
            wants_checksums=True,
        ),
        replace(
            PLAIN,
            name="wrong-put-etag",
            about="answers a write with an ETag that the object does not have",
            wrong_put_etag=True,
        ),
        replace(
            PLAIN,
            name="stores-trailers",
            passing=True,
            about="stores content with the trailer of a chunked upload behind it",
            stores_trailers=True,
        ),
        replace(
            PLAIN,
            name="lagging",
            passing=True,
            about="lists what there was one listing ago",
            listing_lags=True,
        ),
        replace(
            PLAIN,
            name="cuts-listings",
            passing=True,
            about="lists the first page and says that it is all",
            cuts_listings=True,
        ),
        replace(
            PLAIN,
            name="repeats-pages",
            passing=True,
            about="answers the first page again when asked for the next",
            repeats_pages=True,
        ),
        replace(
            PLAIN,
            name="loses-answers",
            passing=True,
            about="carries out the first change of each key and closes the connection without an answer",
            loses_answers=True,
        ),
        replace(
            PLAIN,
            name="loses-writes",
            passing=True,
            about="acknowledges the write of some objects and keeps what was there",
            loses_writes="edited",
        ),
        replace(
            PLAIN,
            name="captive-portal",
            passing=True,
            about="is a network's login page, which answers 200 to everything",
            is_portal=True,
        ),
    )
}
"""Those whose answers cannot all be believed; nothing may be lost with them all the same."""
