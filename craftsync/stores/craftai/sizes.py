"""Finds exact sizes for `transport: sdk`: the SDK's public functions show them rounded ("104.50 MB").

An exact size is learnt by writing or reading the object, and cached. Losing the cache costs
downloads, never correctness.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from craftsync.stores.craftai.listing import moment_of

_UNITS = ("B", "KB", "MB", "GB", "TB")


class Shown(NamedTuple):
    """An object as the SDK shows it. `version` stands for its time; `size` is rounded text."""

    key: str
    modified: str
    version: str
    size: str


class KnownSizes:
    """The exact sizes learnt so far, in a cache file that lasts between runs (XDG Base Directory).

    A size is valid while the SDK shows the same rounded size and time. A cache file that is
    missing, damaged or not writable is not an error.
    """

    def __init__(self, location: str) -> None:
        """`location` is the environment's."""
        # Without a home directory the path stays relative, and nothing is saved.
        cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        name = hashlib.sha256(location.encode()).hexdigest()[:16]
        self.file = cache / "craftsync" / f"sizes-{name}.json"
        self._sizes: dict[str, tuple[str, str, int]] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            saved = json.loads(self.file.read_text()).items()
            self._sizes = {key: (str(v), str(t), int(size)) for key, (v, t, size) in saved}
        self._saved = self._sizes.copy()

    def of(self, shown: Shown) -> int | None:
        """Return the exact size of an object, or `None` if it is unknown."""
        number, _, unit = shown.size.partition(" ")
        if unit in ("", "B") and number.removesuffix(".00").isdecimal():
            return int(number.removesuffix(".00"))
        version, text, size = self._sizes.get(shown.key, ("", "", 0))
        return size if (version, text) == (shown.version, shown.size) else None

    def learn(self, shown: Shown, size: int) -> None:
        self._sizes[shown.key] = (shown.version, shown.size, size)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget the objects that a complete listing does not show."""
        self._sizes = {key: known for key, known in self._sizes.copy().items() if key in keys}

    def save(self) -> None:
        if self._sizes == self._saved or not self.file.is_absolute():
            return
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile("w", dir=self.file.parent, delete=False) as written:
                json.dump(self._sizes, written)
            os.replace(written.name, self.file)


def size_text(size: int) -> str:
    """Return the text that the SDK shows for a size (craft-ai-sdk 0.74.7, utils/file_utils.py:41)."""
    shown, unit = float(size), 0
    while shown >= 1024 and unit < len(_UNITS):
        shown /= 1024
        unit += 1
    # Beyond the last unit the SDK divides once more but keeps the unit's name.
    return f"{shown:.2f} {_UNITS[min(unit, len(_UNITS) - 1)]}"


def is_size(text: str, size: int) -> bool:
    """Return whether a text may show this size. False proves a difference; True proves nothing."""
    return text in (size_text(size), str(size))


def smallest_size(text: str) -> int:
    """Return the smallest size that a text may show; 0 if it is unreadable."""
    number, _, unit = text.partition(" ")
    with suppress(ValueError):
        return max(int((float(number) - 0.005) * 1024 ** _UNITS.index(unit or "B")), 0)
    return 0


def shown_as(key: str, entry: Any) -> Shown:
    modified = str(entry["last_modified"])
    return Shown(key, modified, moment_of(modified)[1], str(entry["size"]))
