"""How a migration is to be done and what it reports, and the keywords that say so.

What is asked of a run in the same way is in `craftsync.config.options`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

from craftsync.config.options import (
    MigrateOptions,
    RunOptions,
    Settings,
    SharedOptions,
    given_by,
    read,
    refuse_unknown,
)
from craftsync.config.parsers import BadWord, choice_of, parse_rates, parse_storage_class
from craftsync.core.model import READ_BACK, BaselineRow, Kind, Mode
from craftsync.engine.report import Options, Report
from craftsync.errors import UsageError
from craftsync.local.ignore import CallRules
from craftsync.migrate.properties import SOURCE, UNREADABLE
from craftsync.migrate.shards import Shard
from craftsync.runs import options_of, refuse_filter


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


@dataclass(slots=True, repr=False)
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


_MOST_SHARDS = 10_000
_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


def options_for(asked: MigrateOptions) -> MigrationOptions:
    """Return the options of a run; raises `UsageError` for a word that means nothing."""
    refuse_unknown(asked, MigrateOptions)
    shared = cast(
        RunOptions,
        {name: value for name, value in asked.items() if name in SharedOptions.__annotations__},
    )
    manifest = asked.get("manifest")
    run = options_of(shared, Settings.of(given_by(shared)), Mode.PUSH)
    refuse_filter(run)
    verify = read(asked, "verify", choice_of(Verify, "way to verify")) or Verify.CHECKSUM
    storage_class = read(asked, "storage_class", parse_copied_class)
    if storage_class in UNREADABLE and verify is Verify.FULL:
        raise UsageError(
            f"--verify full: an object of the class {storage_class} cannot be read back.",
            remedy="Verify by checksum, or give --storage-class another class.",
        )
    return MigrationOptions(
        run=run,
        rules=CallRules(run.include, run.exclude),
        no_overwrite=asked.get("no_overwrite", False),
        verify=verify,
        shard=read(asked, "shard", parse_shard),
        manifest=Path(manifest).expanduser() if manifest else None,
        manifest_in_target=asked.get("manifest_in_target", False),
        server_side=not asked.get("stream", False),
        storage_class=storage_class,
        tags=asked.get("tags", False),
    )


def parse_shard(word: object) -> Shard:
    """Read "2/8" as the second of eight shares."""
    found = _SHARD.fullmatch(word) if isinstance(word, str) else None
    if found and 1 <= int(found[1]) <= int(found[2]) <= _MOST_SHARDS:
        return Shard(int(found[1]), int(found[2]))
    raise BadWord("is not a share", f"Use I/N with I from 1 to N, N up to {_MOST_SHARDS}: 1/4.")


def parse_copied_class(word: object) -> str:
    """Read the name of a storage class, or "source"."""
    return SOURCE if word == SOURCE else parse_storage_class(word)


def parse_bandwidth(word: str) -> float:
    """Read how many bytes per second a dry run reckons with."""
    try:
        rate = parse_rates(word).upload
        if rate is None:
            raise BadWord("is not a bandwidth", "Use bytes per second with K, M or G such as 100M.")
    except BadWord as bad:
        raise UsageError(f"--bandwidth: {word!r} {bad}.", remedy=bad.remedy) from bad
    return rate
