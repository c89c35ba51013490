"""The records that all other modules pass around.

A path is relative to the root, uses "/" between its parts, and is the same
string on both sides. Sizes are bytes, times are nanoseconds since the epoch
(UTC), digests are the 32 bytes of a SHA-256. Absent is always `None`.

The per-file records are named tuples, not dataclasses: a run builds one of
each for every file, and a named tuple costs half as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

OWN_FOLDER = ".craftsync"
"""The folder in a root, and the key prefix in a store, that is craftsync's own."""


LIMIT = 1 << 63
"""Sizes, times and inode numbers are below it: the state database holds 64 bits with a sign."""


def time_within(time_ns: int) -> int:
    """Return a time that the state database can hold: the nearest one between 1677 and 2262.

    Filesystems and stores know times far beyond; a camera's clock makes them.
    """
    if -LIMIT <= time_ns < LIMIT:  # Twice as fast as min and max, twice for each file.
        return time_ns
    return -LIMIT if time_ns < 0 else LIMIT - 1


NO_TIME = -LIMIT
"""Stands for a time that a store did not report."""


class LocalFile(NamedTuple):
    """A file on the left side: in the folder, as one stat found it; `local.files.local_file` makes it.

    The last four are its fingerprint: while all stay the same, so does the
    content (but for the racy-file rule, see `BaselineRow.racy`). ctime is part
    of it because it moves even when a program sets mtime back.

    Where a store is the left side, it is an object (`as_left`): then the inode
    is a text, the version, and ctime is 0.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int | str


class RemoteObject(NamedTuple):
    """An object in a store, as one answer of the store described it.

    `version` is the store's opaque token (an ETag, for instance): equal tokens
    mean unchanged, as far as the store knows. Listings leave the last four fields
    `None`; `stat`, `read` and `write` fill in what the store knows: `digest` of
    the content, `mtime_ns` of the file it was uploaded from, `operation`, the id
    of the write that made it, and `md5` of the content if this answer states it.
    """

    path: str
    size: int
    modified_ns: int | None
    version: str | None
    digest: bytes | None = None
    mtime_ns: int | None = None
    operation: str | None = None
    md5: bytes | None = None


class Subfolder(NamedTuple):
    """A folder in a folder of a store: there is something below it."""

    path: str


def as_left(found: RemoteObject) -> LocalFile:
    """Return an object of a store that is the left side of a run."""
    time = NO_TIME if found.modified_ns is None else found.modified_ns
    return LocalFile(found.path, found.size, time, 0, found.version or "")


def as_object(left: LocalFile) -> RemoteObject:
    """Return the object that `as_left` was given, as a listing describes it."""
    time = None if left.mtime_ns == NO_TIME else left.mtime_ns
    return RemoteObject(left.path, left.size, time, str(left.inode) or None)


def mtime_of(remote: RemoteObject) -> int | None:
    """Return the time a file with this content should bear: that of the uploaded file, else that of the object."""
    return remote.modified_ns if remote.mtime_ns is None else remote.mtime_ns


class BaselineRow(NamedTuple):
    """The last synced state of one path: content that both sides held, with its fingerprint on the left and its version on the right.

    `racy` marks a row whose file had changed so shortly before its stat that a
    further change might have left the same fingerprint; such a file is hashed
    before it counts as unchanged. The first five fields are those of `LocalFile`,
    so that one comparison suffices. `uploaded` means that an upload of this client
    made the store's version, as the answer to that upload proved. `verified` is,
    where the left side is a store, the proof that both hold the same.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int | str
    racy: bool
    digest: bytes | None
    modified_ns: int | None
    version: str | None
    uploaded: bool = False
    verified: str = ""


READ_BACK = "read back"
"""The proof in `BaselineRow.verified` that needs no other: both sides were read."""


class Skipped(NamedTuple):
    """Something that a scan or listing found and that takes no part, and why.

    With `subtree`, everything below the path is unknown too: a folder that could
    not be read proves nothing about the files in it. `by_design` is a symbolic
    link or a special file: it has no content to keep in sync.
    """

    path: str
    reason: str
    subtree: bool = False
    failed: bool = False
    by_design: bool = False


class Mode(StrEnum):
    """Which side may change."""

    TWO_WAY = "two-way"
    PUSH = "push"
    PULL = "pull"


class Compare(StrEnum):
    """How a side is compared with the baseline, and the two sides with each other."""

    FINGERPRINT = "fingerprint"
    CHECKSUM = "checksum"
    SIZE_ONLY = "size-only"


class OnConflict(StrEnum):
    """How to resolve a path that both sides changed differently."""

    BOTH = "both"
    NEWER = "newer"
    LOCAL = "local"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a run is allowed to do. `delete` concerns push and pull; two-way always carries deletions."""

    mode: Mode = Mode.TWO_WAY
    delete: bool = False
    compare: Compare = Compare.FINGERPRINT
    conflict: OnConflict = OnConflict.BOTH

    @property
    def deletes(self) -> bool:
        """Whether a path that is gone from one side is deleted on the other."""
        return self.mode is Mode.TWO_WAY or self.delete


class Kind(StrEnum):
    """What can be done about one path. The last two touch only the baseline."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    DELETE_REMOTE = "delete-remote"
    DELETE_LOCAL = "delete-local"
    MOVE_REMOTE = "move-remote"
    MOVE_LOCAL = "move-local"
    RECONCILE = "reconcile"
    ADOPT = "adopt"
    FORGET = "forget"


class Decision(NamedTuple):
    """What to do about one path, and the rule that says so, for people."""

    kind: Kind
    rule: str


class Action(NamedTuple):
    """One step of a plan: a decision, and what it was based on.

    `source` is the path a move comes from. Every field is checked again when the
    step is carried out.
    """

    kind: Kind
    path: str
    rule: str
    local: LocalFile | None = None
    baseline: BaselineRow | None = None
    remote: RemoteObject | None = None
    source: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the version that it moves or deletes."""
        if self.kind in (Kind.DOWNLOAD, Kind.DELETE_REMOTE):
            return self.remote.size if self.remote else 0
        seen = self.local or self.remote
        return seen.size if seen else 0

    @property
    def replaced_size(self) -> int | None:
        """Bytes of the version that a transfer replaces; `None` for a new path, or another kind of step."""
        other = {Kind.UPLOAD: self.remote, Kind.DOWNLOAD: self.local}.get(self.kind)
        return None if other is None else other.size


DELETES = (Kind.DELETE_REMOTE, Kind.DELETE_LOCAL)


class Absent(Enum):
    """The type of `ABSENT`, the expectation that nothing is there."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
