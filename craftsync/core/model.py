"""The records that all other modules pass around.

A path is relative to the folder, uses "/" between its parts, and is the same string on both
sides. Sizes are bytes, times are nanoseconds since the epoch (UTC), digests are the 32 bytes of
a SHA-256. Absent is always `None`.

The records of a file are named tuples, not dataclasses: a run makes several for every file,
and a named tuple costs half as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

OWN_FOLDER = ".craftsync"
"""The name of craftsync's own folder in a linked folder, and of its own key prefix in a store."""


LIMIT = 1 << 63
"""Sizes, times and inode numbers are below this: the state database holds signed 64-bit integers."""


def time_within(time_ns: int) -> int:
    """Return the nearest time that the state database can hold: the years 1677 to 2262.

    Filesystems and stores accept times far beyond, and a wrong clock, say of a camera, makes them.
    """
    if -LIMIT <= time_ns < LIMIT:  # Twice as fast as min and max, twice for each file.
        return time_ns
    return -LIMIT if time_ns < 0 else LIMIT - 1


NO_TIME = -LIMIT
"""The value of a time that the store did not report."""


class LocalFile(NamedTuple):
    """A file in the folder, as one stat found it (made by `local.files.local_file`).

    The last four fields are its fingerprint: while all stay the same, the content counts as
    unchanged (except where `BaselineRow.racy`). ctime is one of them because it changes even
    when a program resets mtime.

    Where the left side is a store, this is an object (made by `as_left`): `inode` is then its
    version, a text, and ctime is 0.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int | str


class RemoteObject(NamedTuple):
    """An object in a store, as one response of the store described it.

    `version` is the store's opaque token, such as an ETag: equal tokens mean unchanged, as far
    as the store knows. Listings leave the last four fields `None`. `stat`, `read` and `write`
    set those that the store reports: the content's `digest`, the `mtime_ns` of the uploaded
    file, the id of the write that made it (`operation`), and the content's `md5`, if it is certain.
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
    """A folder in a folder of a store. It holds at least one object."""

    path: str


def as_left(found: RemoteObject) -> LocalFile:
    """Return an object as the file of a left side that is a store."""
    time = NO_TIME if found.modified_ns is None else found.modified_ns
    return LocalFile(found.path, found.size, time, 0, found.version or "")


def as_object(left: LocalFile) -> RemoteObject:
    """Return the object that `as_left` was called with, as a listing describes it."""
    time = None if left.mtime_ns == NO_TIME else left.mtime_ns
    return RemoteObject(left.path, left.size, time, str(left.inode) or None)


def mtime_of(remote: RemoteObject) -> int | None:
    """Return the mtime for a file with this content: that of the uploaded file, else that of the object."""
    return remote.modified_ns if remote.mtime_ns is None else remote.mtime_ns


class BaselineRow(NamedTuple):
    """The last synced state of one path: the content that both sides held, by its fingerprint on
    the left and its version on the right.

    `racy`: the file changed so shortly before its stat that a further change could have left
    the same fingerprint, so it is hashed before it counts as unchanged. The first five fields
    are those of `LocalFile`, so one comparison suffices. `uploaded`: this client's upload made
    the store's version, as its response proved. `verified`: where the left side is a store,
    the proof that both sides hold the same content.
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
"""The strongest proof in `BaselineRow.verified`: both sides were read."""


class Skipped(NamedTuple):
    """An entry that a scan or listing found but left out, and why.

    `subtree`: all paths below it are unknown too, because a folder that could not be read
    proves nothing about its files. `by_design`: it is a symbolic link or special file, which
    has no content to sync.
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
    """What a run may do. `delete` applies to push and pull; two-way always copies deletions."""

    mode: Mode = Mode.TWO_WAY
    delete: bool = False
    compare: Compare = Compare.FINGERPRINT
    conflict: OnConflict = OnConflict.BOTH

    @property
    def deletes(self) -> bool:
        """Whether a path that is gone from one side is deleted on the other."""
        return self.mode is Mode.TWO_WAY or self.delete


class Kind(StrEnum):
    """What a step does at one path. The last two change only the baseline."""

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
    """What to do at one path, and the rule that decided it, as text for the user."""

    kind: Kind
    rule: str


class Action(NamedTuple):
    """One step of a plan: a decision and the entries it was based on.

    `source` is the old path of a move. Every field is checked again when the step is carried out.
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
        """Bytes of the version that this step transfers, moves or deletes."""
        if self.kind in (Kind.DOWNLOAD, Kind.DELETE_REMOTE):
            return self.remote.size if self.remote else 0
        seen = self.local or self.remote
        return seen.size if seen else 0

    @property
    def replaced_size(self) -> int | None:
        """Bytes of the version that a transfer replaces; `None` for a new path and for other steps."""
        other = {Kind.UPLOAD: self.remote, Kind.DOWNLOAD: self.local}.get(self.kind)
        return None if other is None else other.size


DELETES = (Kind.DELETE_REMOTE, Kind.DELETE_LOCAL)


class Absent(Enum):
    """The type of `ABSENT`: the expectation that the path does not exist."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
