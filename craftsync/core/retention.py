"""The user's limits: what the trash keeps and for how long, and how much disk space stays free."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StoreTrash(StrEnum):
    """What the store's trash keeps. Unless `OFF`, it always keeps deleted versions and other clients' ones."""

    ALL = "all"
    FOREIGN = "foreign"
    """All but replaced versions that this client uploaded."""
    OFF = "off"
    AUTO = "auto"
    """`ALL` if the store can copy server-side; else `FOREIGN`, because each kept byte would travel twice."""

    def in_a_store(self, *, server_side_copy: bool) -> StoreTrash:
        """Return this value, with `AUTO` replaced by what it means in a store."""
        if self is not StoreTrash.AUTO:
            return self
        return StoreTrash.ALL if server_side_copy else StoreTrash.FOREIGN


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how much the trash keeps: `keep` nanoseconds, `max_size` bytes of both sides together.

    `None` is no bound: versions are removed only by the user's command.
    """

    keep: int | None = None
    max_size: int | None = None
    store: StoreTrash = StoreTrash.AUTO

    @property
    def is_bounded(self) -> bool:
        return self.keep is not None or self.max_size is not None

    @property
    def words(self) -> str:
        """Return `keep` as the configuration writes it."""
        if self.keep is None:
            return "forever"
        hours = self.keep / _HOUR
        return f"{hours / 24:g}d" if hours >= 24 else f"{hours:g}h"


_HOUR = 3600 * 10**9


_AT_LEAST = 100 * 1000**2
_OF_A_SMALL_DISK = 10


@dataclass(frozen=True, slots=True)
class Reserve:
    """Disk space that craftsync leaves free: a share of the disk or a number of bytes, the larger.

    At least 100 MB, or a tenth of the disk if that is less. If `size` and `share` are both 0,
    nothing is reserved.
    """

    share: float = 0.01
    size: int = 0

    def of(self, disk: int) -> int:
        """Return how many bytes of a disk of this many bytes stay free."""
        if not self.share and not self.size:
            return 0
        least = min(_AT_LEAST, disk // _OF_A_SMALL_DISK)
        return max(int(disk * self.share), self.size, least)
