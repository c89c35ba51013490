"""Sizes as the SDK's public functions tell them, and the exact ones behind them.

A listing says "104.50 MB". An exact size is learnt by writing or reading the
object, and believed for as long as the listing says the same text and the same
moment of it. Forgetting one costs a download, never correctness.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from craftsync.net.waiting import in_children
from craftsync.stores.craftai.objects import moment_of

_UNITS = ("B", "KB", "MB", "GB", "TB")


class Shown(NamedTuple):
    """An object as the public functions show it: when it was made, and a text for its size."""

    key: str
    modified_ns: int | None
    version: str
    size: str


def shown_as(key: str, modified: str, size: str) -> Shown:
    """Read what the functions say of an object; the same moment is the same version however it is written."""
    return Shown(key, *moment_of(modified), size)


def size_text(size: int) -> str:
    """Return the text the SDK shows for a size (craft-ai-sdk 0.74.7, utils/file_utils.py:41)."""
    shown, unit = float(size), 0
    while shown >= 1024 and unit < len(_UNITS):
        shown /= 1024
        unit += 1
    # Beyond the last unit the SDK divides once more and keeps its name.
    return f"{shown:.2f} {_UNITS[min(unit, len(_UNITS) - 1)]}"


def is_size(text: str, size: int) -> bool:
    """Tell whether a size may be what a text shows. Unequal proves a difference, equal proves nothing."""
    return text in (size_text(size), str(size))


def exact_size(text: str) -> int | None:
    """Return the size a text leaves no doubt about."""
    if text.isascii() and text.isdigit():
        return int(text)
    number, _, unit = text.partition(" ")
    with suppress(ValueError):
        if unit == "B" and float(number) == int(float(number)):
            return int(float(number))
    return None


def smallest_size(text: str) -> int:
    """Return a size that is no larger than what a text shows, 0 where it cannot be read."""
    number, _, unit = text.partition(" ")
    with suppress(ValueError):
        return int((float(number) - 0.005) * 1024 ** _UNITS.index(unit or "B"))
    return 0


class KnownSizes:
    """The exact sizes learnt so far, kept in a file from one run to the next.

    The file is a cache: one that is missing, damaged or cannot be written is
    no error.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._sizes: dict[str, tuple[str, str, int]] = {}
        self._changed = False
        self._unlock()
        in_children(self, KnownSizes._unlock)
        if file is not None:
            with suppress(OSError, ValueError, TypeError, AttributeError):
                saved = json.loads(file.read_text()).items()
                self._sizes = {key: (str(v), str(t), int(size)) for key, (v, t, size) in saved}

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def of(self, shown: Shown) -> int | None:
        """Return the exact size of an object, if it is known."""
        exact = exact_size(shown.size)
        if exact is not None:
            return exact
        with self._lock:
            version, text, size = self._sizes.get(shown.key, ("", "", 0))
        return size if (version, text) == (shown.version, shown.size) else None

    def learn(self, shown: Shown, size: int) -> None:
        if exact_size(shown.size) is None:
            with self._lock:
                self._sizes[shown.key] = (shown.version, shown.size, size)
                self._changed = True

    def keep_only(self, keys: set[str]) -> None:
        """Forget objects that a complete listing did not show."""
        with self._lock:
            gone = self._sizes.keys() - keys
            for key in gone:
                del self._sizes[key]
            self._changed = self._changed or bool(gone)

    def save(self) -> None:
        with self._lock:
            if self._file is None or not self._changed:
                return
            self._changed = False
            with suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor, name = tempfile.mkstemp(dir=self._file.parent)
                with os.fdopen(descriptor, "w") as opened:
                    json.dump(self._sizes, opened)
                os.replace(name, self._file)


def cache_file(location: str) -> Path:
    """Return where the sizes of one environment's objects are kept (XDG Base Directory Specification)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(location.encode()).hexdigest()[:16]
    return cache / "craftsync" / f"sizes-{name}.json"
