"""Writes sizes and counts for the user, on a terminal and in a browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def size_shown(size: float) -> str:
    """Return a number of bytes in the largest unit it fills: "1.5 MiB"."""
    if size < 1024:
        return "1 byte" if size == 1 else f"{size:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 conflict`, `2,000 conflicts`. `many` is an irregular plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def left_out_words(other_side: str = "store") -> Mapping[str, str]:
    """Return, for each count of `Report.left_out`, words for why the paths took no part."""
    this_side = "source" if other_side == "target" else "folder"
    return {
        "ignored_local": f"by patterns in the {this_side}",
        "ignored_remote": f"by patterns in the {other_side}",
        "filtered": "by filters",
        "special": "(links and special files)",
    }


def left_out_shown(counts: Mapping[str, int] | None) -> str:
    """Return, in words, what the last complete run left out; empty if nothing, or if unknown."""
    words = left_out_words()
    return ", ".join(f"{count:,} {words[name]}" for name, count in (counts or {}).items() if count)


def holdings_shown(trash: Mapping[str, Any]) -> str:
    """Return in words what both trashes hold of this client; empty if nothing."""
    if not trash["files"]:
        return ""
    count = counted(trash["files"], "version")
    suspended = f"; nothing is removed: {trash['suspended']}" if trash["suspended"] else ""
    holds = f"{count} put there with this state folder, {size_shown(trash['bytes'])}"
    return f"{holds}, kept {_bounds_shown(trash)}{suspended}"


def _bounds_shown(trash: Mapping[str, Any]) -> str:
    """Return in words how long versions are kept, and their largest total size."""
    # An earlier daemon that still runs has no "max_size".
    most = trash.get("max_size")
    kept = [] if trash["keep"] == "forever" else [f"for {trash['keep']}"]
    kept += [] if most is None else [f"up to {size_shown(most)} in all"]
    return ", ".join(kept) or "forever; to limit that, set `trash: {keep: 30d}`"


def shown(text: str) -> str:
    """Return text for one line: line breaks and control characters for the terminal are escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # A byte of a name that is not UTF-8.
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode()
