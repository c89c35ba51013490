"""How a migration is to be done, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from craftsync.core.model import READ_BACK, BaselineRow, Kind
from craftsync.engine.report import Options, Report
from craftsync.local.ignore import CallRules
from craftsync.migrate.shards import Shard


class Verify(StrEnum):
    """How far the proof of a copy goes."""

    CHECKSUM = "checksum"
    """By the hash of what passed through here, and the checksum of the target where it has a true one."""
    FULL = "full"
    """By reading the target back."""


class Verified(StrEnum):
    """How it is known that source and target hold the same content, in the words of the manifest."""

    READ_BACK = READ_BACK
    """Both were read and hashed."""
    CHECKSUM = "checksum"
    """The target's own checksum is that of the source's content."""
    DIGEST = "digest"
    """Both stores remember the same SHA-256 of an earlier upload."""
    ACKNOWLEDGED = "acknowledged"
    """The target took exactly the bytes that were hashed here, and says no checksum."""
    SERVER = "server"
    """The server copied by itself, on the condition of the source's version, and says no comparable checksum."""


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How to run a migration.

    Of `run`, upload rates are for the target and download rates for the
    source; of its policy, only `delete` means something.
    """

    run: Options = field(default_factory=Options)
    rules: CallRules = field(default_factory=CallRules)
    """Which paths take part, on both sides; all others stay as they are."""
    no_overwrite: bool = False
    """Leave alone what the target holds already, whatever it is."""
    verify: Verify = Verify.CHECKSUM
    shard: Shard | None = None
    manifest: Path | None = None
    """Where to write the manifest; by default beside the state database."""
    manifest_in_target: bool = False
    server_side: bool = True
    """Let the server copy where it can."""
    storage_class: str | None = None
    """The S3 storage class of every copy, or `properties.SOURCE`."""
    tags: bool = False
    """Keep the tags of objects whose bytes pass through here, too."""


@dataclass(slots=True)
class MigrationReport(Report):
    """A report with what only a migration has. `bytes_copied` counts what the server copied, too."""

    bytes_copied: int = 0
    requests: int = 0
    """Of a dry run: about how many requests the copying would take."""
    verified: dict[str, int] = field(default_factory=dict)
    """How many of the copies made or found are known to be good in which way."""
    manifest: str | None = None

    def count(self, kind: Kind, moved: int) -> str:
        if kind is Kind.DELETE_REMOTE:
            return Report.count(self, kind, moved)
        self.copied += 1
        self.bytes_copied += moved
        return "copy"

    def agreed(self, rows: Sequence[BaselineRow]) -> None:
        for row in rows:
            self.verified[row.verified] = self.verified.get(row.verified, 0) + 1
