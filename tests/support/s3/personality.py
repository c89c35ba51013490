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
    conditions: frozenset[str] = CONDITIONS
    """Requests whose conditions are honoured; those of all others are ignored."""
    knows_conditions: bool = True
    """Without it, any write with a condition is answered 501."""
    unquoted_only: frozenset[str] = frozenset()
    """Requests that compare an `If-Match` with its quotes on, so that only an unquoted one is met (Ceph 16)."""
    etags: str = "md5"
    """What an ETag is: `md5`, `random` (32 hexadecimal digits that say nothing) or `none`."""
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
    """Listings in the order of UTF-16, as Java and JavaScript sort."""
    hides_below: bool = False
    """A listing hides `a/*` once there is an object `a` (MinIO)."""
    single_copy: int = 5 * 1024 * MIB
    """Bytes that one CopyObject copies at most."""
    smallest_part: int = 5 * MIB


PLAIN = Personality("plain")
CEPH_16 = replace(
    PLAIN,
    name="ceph-16",
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
        replace(PLAIN, name="ignores-conditions", conditions=frozenset()),
        replace(PLAIN, name="no-conditions", knows_conditions=False),
        replace(PLAIN, name="kms", encryption="aws:kms"),
        replace(PLAIN, name="no-etags", etags="none"),
        replace(PLAIN, name="versioned", versioned=True),
        replace(PLAIN, name="object-lock", versioned=True, object_lock=True),
        replace(PLAIN, name="virtual-hosted", virtual_hosts_only=True),
        replace(PLAIN, name="slow-down", slow_down=0.2),
        replace(PLAIN, name="requester-pays", requester_pays=True),
        replace(PLAIN, name="no-part-copy", part_copy="no"),
        replace(PLAIN, name="no-copy", copies=False, part_copy="no"),
        replace(PLAIN, name="no-metadata", metadata=False),
        replace(PLAIN, name="utf-16-order", utf16_order=True),
        replace(PLAIN, name="hides-below", hides_below=True),
    )
}
