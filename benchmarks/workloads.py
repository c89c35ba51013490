"""The files that are carried, and the comparison that says whether they arrived."""

from __future__ import annotations

import filecmp
import os
import random
from pathlib import Path

MODIFIED = 1_767_225_600
"""When every file of a listed tree was modified: 2026-01-01T00:00:00Z, in seconds since the epoch."""
PIECE = 64 << 10
CONTENT = b"craftsync\n"
"""What is in every file of a listed tree."""


def random_files(folder: Path, *, folders: int, files: int, size: int) -> None:
    """Write `folders` x `files` files of `size` random bytes each; the same ones every time."""
    source = random.Random(size)
    for outer in range(folders):
        parent = folder / f"d{outer:03d}"
        parent.mkdir(parents=True)
        for inner in range(files):
            _write_random(parent / f"f{inner:05d}.bin", source, size)


def skeleton(source: Path, target: Path) -> Path:
    """Make the folders of `source` in `target`, with one small file in each; return `target`."""
    for folder in source.iterdir():
        (target / folder.name).mkdir(parents=True)
        (target / folder.name / "already-here").write_bytes(b"x")
    return target


def _write_random(path: Path, source: random.Random, size: int) -> None:
    """Write in small pieces: the memory of this process is a floor for what `measure` sees."""
    with path.open("wb") as file:
        for start in range(0, size, PIECE):
            file.write(source.randbytes(min(PIECE, size - start)))


def listed_name(index: int) -> str:
    """Return the path of file `index` of a listed tree; the order of names is that of numbers."""
    return f"d{index // 1000:05d}/f{index % 1000:03d}.txt"


def listed_files(folder: Path, count: int) -> None:
    """Write the tree that `listing_server` lists."""
    for index in range(count):
        path = folder / listed_name(index)
        if index % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        os.utime(path, (MODIFIED, MODIFIED))


def difference(expected: Path, actual: Path) -> str:
    """Return what `actual` lacks or holds differently, in words; empty when all of `expected` arrived."""
    for parent, _, names in os.walk(expected):
        inside = actual / Path(parent).relative_to(expected)
        if not inside.is_dir():
            return f"the folder {inside.name} did not arrive"
        _, mismatch, errors = filecmp.cmpfiles(parent, inside, names, shallow=False)
        if mismatch or errors:
            return f"{len(mismatch)} files differ and {len(errors)} are missing in {inside.name}"
    return ""
