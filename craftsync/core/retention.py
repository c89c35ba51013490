"""Limits a user sets: how long the trash keeps versions, and how much disk space stays free."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StoreTrash(StrEnum):
    """What the store's trash keeps. Deletes and others' versions are always kept, but for `OFF`."""

    ALL = "all"
    FOREIGN = "foreign"
    """All but replaced versions that this client uploaded itself."""
    OFF = "off"
    AUTO = "auto"
    """`ALL` where the store copies by itself, `FOREIGN` where each kept byte would travel twice."""

    def in_a_store(self, *, server_side_copy: bool) -> StoreTrash:
        """Return what `AUTO` means for a store; the others mean the same everywhere."""
        if self is not StoreTrash.AUTO:
            return self
        return StoreTrash.ALL if server_side_copy else StoreTrash.FOREIGN


@dataclass(frozen=True, slots=True)
class Retention:
    """`keep` is nanoseconds, `max_size` the bytes of one linked folder, both sides together.

    `None` is no bound: nothing is removed unless a person asked for it.
    """

    keep: int | None = None
    max_size: int | None = None
    store: StoreTrash = StoreTrash.AUTO

    @property
    def is_bounded(self) -> bool:
        return self.keep is not None or self.max_size is not None

    @property
    def words(self) -> str:
        """Return how long versions are kept, as the configuration would write it."""
        if self.keep is None:
            return "forever"
        hours = self.keep / _HOUR
        return f"{hours / 24:g}d" if hours >= 24 else f"{hours:g}h"


_HOUR = 3600 * 10**9


_AT_LEAST = 100 * 1000**2
_OF_A_SMALL_DISK = 10


@dataclass(frozen=True, slots=True)
class Reserve:
    """Free space that craftsync leaves alone: a share of the disk, or a number of bytes.

    At least 100 MB, or a tenth of a disk so small that this is less; `size` and
    `share` both 0 reserve nothing.
    """

    share: float = 0.01
    size: int = 0

    def of(self, disk: int) -> int:
        """Return the bytes that stay free on a disk of so many bytes."""
        if not self.share and not self.size:
            return 0
        least = min(_AT_LEAST, disk // _OF_A_SMALL_DISK)
        return max(int(disk * self.share), self.size, least)
