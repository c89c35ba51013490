"""People at work on both sides of a pair, and what must still be there after whatever happened meanwhile.

Each side has an author with a folder of its own, where nobody else writes. In a
third folder both write to the same paths, so that conflicts occur. Every
content is written once only, so a digest names a version.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from random import Random

from benchmarks.sides import Side

FEWEST, MOST = 200, 400
"""Files an author keeps."""
RARE = 0.02
"""The share of what happens to whole folders and large files."""
SMALL, LARGE = (1, 64 << 10), (5 << 20, 30 << 20)
"""Sizes in bytes, lowest and highest."""
PLACES, REST = 30, 60.0
"""Paths where both sides meet, and the seconds they are left alone before they are changed again."""
WRITES = 0.75
"""The share of their changes that are no deletions."""
NAMES = ("note {}.txt", "données été {}.csv", "model-{}.bin", ".env-{}", "a/{}", "a/b/c/{}.parquet")


def new_content(random: Random, sizes: tuple[int, int] = SMALL) -> bytes:
    """Return bytes that were never written before."""
    token = f"version {random.getrandbits(128):032x}\n".encode()
    return token + random.randbytes(1 << 10) * (random.randint(*sizes) >> 10)


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


class Author:
    """Somebody who works in a folder of their own, and who remembers what is in it."""

    def __init__(self, side: Side, folder: str, random: Random) -> None:
        self.files: dict[str, bytes] = {}
        """The digest of what is at each path."""
        self.written: set[bytes] = set()
        """The digests of all that ever was."""
        self.operations = 0
        self._side = side
        self._folder = folder
        self._random = random
        self._folders = [f"folder {number}" for number in range(8)]
        self._usual: list[Callable[[], None]] = [
            *[self.create] * 4,
            *[self.edit] * 6,
            *[self.replace] * 4,
            *[self.append] * 2,
            *[self.rename] * 3,
            *[self.delete] * 3,
        ]
        self._rare = [self.create_large, self.create_large, self.rename_folder, self.delete_folder]

    def work(self) -> None:
        """Do one thing."""
        self.operations += 1
        if len(self.files) < FEWEST:
            self.create()
        elif len(self.files) > MOST:
            self.delete()
        elif self._random.random() < RARE:
            self._random.choice(self._rare)()
        else:
            self._random.choice(self._usual)()

    def create(self) -> None:
        self._put(self._side.write, self._new_path(), SMALL)

    def create_large(self) -> None:
        self._put(self._side.write, self._new_path(), LARGE)

    def edit(self) -> None:
        self._put(self._side.write, self._any_path(), SMALL)

    def replace(self) -> None:
        self._put(self._side.replace, self._any_path(), SMALL)

    def rename(self) -> None:
        source, target = self._any_path(), self._new_path()
        self._side.move(source, target)
        self.files[target] = self.files.pop(source)

    def rename_folder(self) -> None:
        old, new = self._any_folder(), f"folder {self.operations}"
        self._folders[self._folders.index(old)] = new
        source, target = f"{self._folder}/{old}", f"{self._folder}/{new}"
        inside = self._inside(source)
        if inside:
            self._side.move(source, target)
        for path in inside:
            self.files[target + path.removeprefix(source)] = self.files.pop(path)

    def delete(self) -> None:
        path = self._any_path()
        self._side.delete(path)
        del self.files[path]

    def delete_folder(self) -> None:
        folder = f"{self._folder}/{self._any_folder()}"
        inside = self._inside(folder)
        if inside:
            self._side.delete_folder(folder)
        for path in inside:
            del self.files[path]

    def append(self) -> None:
        path, more = self._any_path(), new_content(self._random)
        self._note(path, (self._side.read(path) or b"") + more)
        self._side.append(path, more)

    def _put(self, write: Callable[[str, bytes], None], path: str, sizes: tuple[int, int]) -> None:
        content = new_content(self._random, sizes)
        self._note(path, content)
        write(path, content)

    def _note(self, path: str, content: bytes) -> None:
        self.files[path] = digest_of(content)
        self.written.add(self.files[path])

    def _inside(self, folder: str) -> list[str]:
        return [path for path in self.files if path.startswith(f"{folder}/")]

    def _any_folder(self) -> str:
        return self._random.choice(self._folders)

    def _any_path(self) -> str:
        return self._random.choice(list(self.files))

    def _new_path(self) -> str:
        name = self._random.choice(NAMES).format(self.operations)
        return f"{self._folder}/{self._any_folder()}/{name}"


class Meeting:
    """Both sides work on the same paths, each change at a moment when the path is in sync.

    The store's change comes first: a store that checks no conditions is looked
    at just before a write, and what arrives in between is lost by design.
    """

    def __init__(self, root: Side, store: Side, folder: str, random: Random) -> None:
        self.operations = 0
        self.written: set[bytes] = set()
        """The digests of all that ever was."""
        self._sides = {"root": root, "store": store}
        self._paths = [f"{folder}/{number}" for number in range(PLACES)]
        self._random = random
        self._last: dict[tuple[str, str], bytes] = {}
        self._changed_at: dict[str, float] = {}

    def work(self) -> None:
        """Let one side, or both at once, change a path that is at rest and in sync; if one is found."""
        now = time.monotonic()
        path = self._random.choice(self._paths)
        here, there = (side.read(path) for side in self._sides.values())
        if here != there or now - self._changed_at.get(path, -REST) < REST:
            return
        self.operations += 1
        self._changed_at[path] = now
        if here is None:
            self._write(self._random.choice(["root", "store"]), path)
            return
        for side in self._random.choice((["root"], ["store"], ["store", "root"])):
            if self._random.random() < WRITES:
                self._write(side, path)
            else:
                self._delete(side, path)

    def owed(self) -> dict[bytes, str]:
        """Return the digests of what must be in place or in a trash, and where each was written."""
        return {digest: f"{path} ({side})" for (side, path), digest in self._last.items()}

    def _write(self, side: str, path: str) -> None:
        content = new_content(self._random)
        self._last[side, path] = digest_of(content)
        self.written.add(self._last[side, path])
        self._sides[side].replace(path, content)

    def _delete(self, side: str, path: str) -> None:
        self._sides[side].delete(path)
        self._last.pop((side, path), None)
