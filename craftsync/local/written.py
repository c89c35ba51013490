"""A text file that a user named: replaced in one step where it is a file, written through where it is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def written(file: Path, mode: int | None = None) -> Iterator[TextIO]:
    """Give a stream whose content is in `file` once the block ends; without that, the file stays as it was.

    Links are followed. A device or a pipe is written to, never replaced. The
    permission bits are `mode`, else those of the file that was there. Raises `OSError`.
    """
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            yield stream
        return
    place = Path(os.path.realpath(file))
    part = place.with_name(f".{place.name}.{os.getpid()}.craftsync-part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            yield stream
            if mode is None and place.exists():
                mode = place.stat().st_mode & 0o777
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
