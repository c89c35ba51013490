"""How sizes and counts are said to people, on a terminal and in a browser."""

from __future__ import annotations


def size_shown(size: float) -> str:
    """Return a number of bytes in the largest unit it fills: "1.5 MiB"."""
    amount = size
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 conflict`, `2,000 conflicts`; `many` is a plural that adds no s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
