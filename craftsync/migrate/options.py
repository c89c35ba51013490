"""The options and the report of a migration, and the properties that its copies keep.

The options it shares with other runs are in `craftsync.config.options`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
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
from craftsync.config.parsers import (
    BadWord,
    choice_of,
    parse_rates,
    parse_storage_class,
    user_path,
)
from craftsync.core.model import READ_BACK, BaselineRow, Kind, Mode, RemoteObject
from craftsync.engine.report import Options, Report
from craftsync.errors import UsageError
from craftsync.local.ignore import CallRules
from craftsync.migrate.shards import Shard
from craftsync.runs import options_of, refuse_filter
from craftsync.stores.base import Properties, Reader, Store


class Verify(StrEnum):
    """How copies are verified."""

    CHECKSUM = "checksum"
    """By hashing the content during the copy, and by the target's checksum if that is reliable."""
    FULL = "full"
    """By reading the target back."""


class Verified(StrEnum):
    """How source and target were verified to hold the same content; the values are in the manifest."""

    READ_BACK = READ_BACK
    """Both were read and hashed."""
    CHECKSUM = "checksum"
    """The target's checksum equals that of the source's content."""
    DIGEST = "digest"
    """Both stores have saved the same SHA-256 with an earlier upload."""
    ACKNOWLEDGED = "acknowledged"
    """The target accepted the bytes, which were hashed in transit, but reports no checksum."""
    SERVER = "server"
    """The server copied the source's version, but reports no comparable checksum."""


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How to run a migration.

    In `run`, upload rates apply to the target and download rates to the source;
    of its policy only `delete` is used.
    """

    run: Options = field(default_factory=Options)
    rules: CallRules = field(default_factory=CallRules)
    """Which paths are included, on both sides; all others stay unchanged."""
    no_overwrite: bool = False
    """Never replace an object of the target."""
    verify: Verify = Verify.CHECKSUM
    shard: Shard | None = None
    manifest: Path | None = None
    """Where to write the manifest; by default beside the state database."""
    manifest_in_target: bool = False
    server_side: bool = True
    """Let the server copy if both stores are on it."""
    storage_class: str | None = None
    """The S3 storage class of every copy, or `properties.SOURCE`."""
    tags: bool = False
    """Whether copies that the server does not make itself keep tags."""


@dataclass(slots=True, repr=False)
class MigrationReport(Report):
    """The report of a migration. `bytes_copied` includes copies by the server."""

    bytes_copied: int = 0
    requests: int = 0
    """The estimated number of requests, in a dry run."""
    verified: dict[str, int] = field(default_factory=dict)
    """Number of copies, new or found, by how they were verified (`Verified`)."""
    manifest: str | None = None

    def count(self, kind: Kind, moved: int) -> str:
        if kind is Kind.DELETE_REMOTE:
            return Report.count(self, kind, moved)
        self.copied += 1
        self.bytes_copied += moved
        return "copy"

    def on_synced(self, rows: Sequence[BaselineRow]) -> None:
        for row in rows:
            self.verified[row.verified] = self.verified.get(row.verified, 0) + 1


_MOST_SHARDS = 10_000
_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


def options_for(asked: MigrateOptions) -> MigrationOptions:
    """Return the options of a run; raises `UsageError` for an invalid value."""
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
    if storage_class in ARCHIVED_CLASSES and verify is Verify.FULL:
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
        manifest=user_path(manifest) if manifest else None,
        manifest_in_target=asked.get("manifest_in_target", False),
        server_side=not asked.get("stream", False),
        storage_class=storage_class,
        tags=asked.get("tags", False),
    )


def parse_shard(word: object) -> Shard:
    """Parse "2/8" as the second of eight shares."""
    found = _SHARD.fullmatch(word) if isinstance(word, str) else None
    if found and 1 <= int(found[1]) <= int(found[2]) <= _MOST_SHARDS:
        return Shard(int(found[1]), int(found[2]))
    raise BadWord("is not a share", f"Use I/N with I from 1 to N, N up to {_MOST_SHARDS}: 1/4.")


def parse_copied_class(word: object) -> str:
    """Parse the name of a storage class, or "source"."""
    return SOURCE if word == SOURCE else parse_storage_class(word)


def parse_bandwidth(word: str) -> float:
    """Parse the bandwidth for a dry run's estimate, in bytes per second."""
    try:
        rate = parse_rates(word).upload
        if rate is None:
            raise BadWord("is not a bandwidth", "Use bytes per second with K, M or G such as 100M.")
    except BadWord as bad:
        raise UsageError(f"--bandwidth: {word!r} {bad}.", remedy=bad.remedy) from bad
    return rate


SOURCE = "source"
"""As a storage class: keep that of each object."""
ARCHIVED_CLASSES = {"GLACIER", "DEEP_ARCHIVE"}
"""Classes whose objects must be restored before they can be read (AWS S3 user guide, "Storage classes")."""


@dataclass(frozen=True, slots=True)
class PropertyPolicy:
    """Decides the properties of copies from one store to another.

    `storage_class` is that of every copy, or `SOURCE`. `tags` is whether copies
    that the server does not make itself keep their tags.
    """

    source: Store
    target: Store
    storage_class: str | None = None
    tags: bool = False

    def needs_request(self, *, server_side: bool) -> bool:
        """Return whether the properties of each object need an extra request."""
        wanted = self.storage_class == SOURCE or (self.tags and not server_side)
        return wanted and self._both_describe()

    def class_of_copy(self, original: RemoteObject) -> str | None:
        """Return the storage class for a copy by the server, which keeps all other properties itself."""
        if not self.needs_request(server_side=True):
            return None if self.storage_class == SOURCE else self.storage_class
        return self.source.properties(original).storage_class

    def writer(
        self, original: RemoteObject, reader: Reader | None = None
    ) -> Callable[..., RemoteObject]:
        """Return the target's `write` with the properties for a copy that the server does not make itself.

        `reader` is the reader of the content, if it was already read.
        """
        if not self.target.features.properties:
            return self.target.write
        return partial(self.target.write, properties=self._properties(original, reader))

    def _properties(self, original: RemoteObject, reader: Reader | None) -> Properties:
        found = self._found(original, reader)
        chosen = found.storage_class if self.storage_class == SOURCE else self.storage_class
        return found._replace(tags=found.tags if self.tags else "", storage_class=chosen)

    def _found(self, original: RemoteObject, reader: Reader | None) -> Properties:
        if not self.source.features.properties:
            return Properties({}, {})
        if reader is None or self.needs_request(server_side=False):
            return self.source.properties(original)
        return reader.properties or Properties({}, {})

    def _both_describe(self) -> bool:
        return self.source.features.properties and self.target.features.properties
