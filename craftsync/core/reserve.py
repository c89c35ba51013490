"""How much of a disk stays free, whatever is to be written to it."""

from __future__ import annotations

from dataclasses import dataclass

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
