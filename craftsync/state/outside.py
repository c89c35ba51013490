"""What went to a trash outside a run: noted in a file, until a run of the linked folder takes it in.

Settled conflicts, single-object commands, `serve` and `migrate` work beside a
running daemon, and without any linked folder. So they take no lock and open no
database: they add lines to one file a place, the path of a folder or the
location of a store.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from craftsync.state.kept import KeptVersion


class Outside(NamedTuple):
    """What is noted of one place. Any thread and process may add to it."""

    state_dir: Path
    place: str
    """The path of a folder, or the location of a store."""

    def note(self, versions: Iterable[KeptVersion], at_ns: int) -> None:
        """Add versions that went to the trash at `at_ns` (UTC).

        A file that cannot be written is no error: what is not noted stays in
        the trash until it is purged by hand.
        """
        # A line that a crash cut off is ended by the next one's beginning.
        lines = "".join(f"\n{json.dumps([*version, at_ns])}" for version in versions)
        if not lines:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
                os.write(descriptor, lines.encode())

    def noted(self) -> list[tuple[KeptVersion, int]]:
        """Return what was not taken in yet, each version once."""
        try:
            return _versions(self._file.read_bytes())
        except OSError:
            return []

    @contextmanager
    def taken(self) -> Iterator[list[tuple[KeptVersion, int]]]:
        """Give what is noted; it is forgotten when the `with` ends well."""
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(_locked(self._file, os.O_RDONLY))
            except FileNotFoundError:
                yield []
                return
            yield _versions(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            self._file.unlink()

    @property
    def _file(self) -> Path:
        name = hashlib.sha256(self.place.encode(errors="surrogateescape")).hexdigest()[:24]
        return self.state_dir / "outside" / f"{name}.jsonl"


@contextmanager
def _locked(file: Path, flags: int) -> Iterator[int]:
    """Open the file and lock it, once nobody has just taken it in."""
    while True:
        descriptor = os.open(file, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _versions(content: bytes) -> list[tuple[KeptVersion, int]]:
    found: dict[KeptVersion, int] = {}
    for line in content.splitlines():
        with suppress(ValueError, TypeError):
            side, stamp, path, size, at_ns = json.loads(line)
            version = KeptVersion(str(side), str(stamp), str(path), int(size))
            found.setdefault(version, int(at_ns))
    return list(found.items())
