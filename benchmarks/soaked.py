"""What a soak has left: whether the sides are the same, what is lost, and what lies about.

Looks at the files of the root and at those the server keeps, not through the
program that is measured.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.authors import Author, Meeting
from benchmarks.daemon import Daemon
from benchmarks.faults import Faults

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "soaked"
OWN_FOLDER = ".craftsync"
SHARED = "of both"
"""The folder both sides write in."""
MEANT_TO_STAY = {"store-id", "trash"}
"""What craftsync has in a bucket when it is done."""

Tree = dict[str, bytes]
"""The digest of the content at each path."""


class World(NamedTuple):
    """Who works where, and what goes wrong meanwhile."""

    work: Path
    daemon: Daemon
    client: S3Client
    faults: Faults
    authors: dict[str, Author]
    meeting: Meeting

    @property
    def root(self) -> Path:
        return self.work / "root"

    @property
    def bucket(self) -> Path:
        """Where the server keeps the objects, as files of the same names."""
        return self.work / "served" / BUCKET


def differences(world: World) -> list[str]:
    here, there = tree(world.root), tree(world.bucket)
    return [
        f"{path}: in the root {_short(here.get(path))}, in the store {_short(there.get(path))}"
        for path in sorted(here.keys() | there.keys())
        if here.get(path) != there.get(path)
    ]


def left_behind(world: World) -> list[str]:
    """Return what is left of transfers that were broken off."""
    found = [str(path) for path in (world.root / OWN_FOLDER / "tmp").glob("*")]
    found += [
        str(path)
        for path in (world.bucket / OWN_FOLDER).iterdir()
        if path.name not in MEANT_TO_STAY
    ]
    # One whose beginning was not answered is nobody's: its name was in the answer.
    nameless = sum("?uploads" in request for request in world.faults.unanswered)
    uploads = world.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    if len(uploads) > nameless:
        found += [f"an upload of {each['Key']} in parts" for each in uploads]
    return found


def lost(world: World) -> list[str]:
    """Return what was written last and is neither in place, nor in a conflict copy, nor in a trash."""
    here = tree(world.root)
    kept = {*here.values(), *_trash(world.root).values(), *_trash(world.bucket).values()}
    owed = world.meeting.owed()
    for author in world.authors.values():
        owed |= {digest: path for path, digest in author.files.items()}
    findings = [f"{_short(digest)} of {owed[digest]} is lost" for digest in owed.keys() - kept]
    written = world.meeting.written.union(*(a.written for a in world.authors.values()))
    return findings + [f"nobody wrote {path}" for path in here if here[path] not in written]


def misplaced(world: World) -> tuple[int, int]:
    """Count, where nobody else writes, what is not as its author left it, and what is there without a reason.

    A kill between what was done and its record, followed by another change of
    the same path, may cause both: a conflict, or a deletion that is undone.
    """
    here = tree(world.root)
    left = {path: digest for a in world.authors.values() for path, digest in a.files.items()}
    more = [path for path in here.keys() - left.keys() if not path.startswith(f"{SHARED}/")]
    return sum(here.get(path) != digest for path, digest in left.items()), len(more)


def tree(folder: Path) -> Tree:
    return {path: _digest(folder / path) for path in sizes(folder)}


def _trash(side: Path) -> Tree:
    folder = side / OWN_FOLDER / "trash"
    return {str(path): _digest(path) for path in folder.rglob("*") if path.is_file()}


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file, craftsync's own left out."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != OWN_FOLDER
    }


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _short(digest: bytes | None) -> str:
    return digest.hex()[:8] if digest else "nothing"
