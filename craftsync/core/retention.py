"""How long the trash keeps what this client displaced, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """`keep` is nanoseconds, `max_size` the bytes of one linked folder, both sides together.

    `None` is no bound: nothing is removed unless a person asked for it.
    """

    keep: int | None = None
    max_size: int | None = None

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
