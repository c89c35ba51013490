"""The stores that files are carried to and from, as a scenario needs them: empty, full, and looked into."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import lean_server, servers
from benchmarks.tools import all_tools


@dataclass(slots=True)
class Store(ABC):
    """A store in a folder in memory; `address` is where tools find it, `certificate` what they trust, if it has one."""

    folder: Path
    near: str
    """Where it is found without the delay."""
    address: str
    certificate: Path | None = None

    @abstractmethod
    def prepare(self, bucket: str, skeleton: Path, home: Path) -> None:
        """Make an empty bucket for files in the folders of `skeleton`."""

    @abstractmethod
    def fill(self, bucket: str, source: Path, home: Path) -> None:
        """Bring the files of `source` into a bucket."""

    @abstractmethod
    def content(self, bucket: str) -> Path:
        """Return a folder in which the bucket's objects are files."""

    def forget(self, bucket: str) -> None:  # noqa: B027
        """Make room, once a bucket has been looked into."""


OpenStore = Callable[[Path, float], AbstractContextManager[Store]]
"""Opens an empty store; its logs go to the folder, and each request takes so many seconds longer to it."""


class _Rclone(Store):
    def prepare(self, bucket: str, skeleton: Path, home: Path) -> None:
        servers.make_folders(self.near, home, skeleton, bucket)

    def fill(self, bucket: str, source: Path, home: Path) -> None:
        # The server remembers folders: it must not have looked for the bucket yet.
        shutil.copytree(source, self.folder / bucket)

    def content(self, bucket: str) -> Path:
        return self.folder / bucket


class _Lean(Store):
    def prepare(self, bucket: str, skeleton: Path, home: Path) -> None:
        """Nothing: buckets are there when something is written into them."""

    def fill(self, bucket: str, source: Path, home: Path) -> None:
        (tool,) = (tool for tool in all_tools() if tool.name == "s5cmd")
        variables = servers.environment(self.address, home, self.certificate)
        subprocess.run(tool.upload(source, bucket), env=variables, check=True, timeout=120)

    def content(self, bucket: str) -> Path:
        target = self.folder / bucket
        lean_server.link_objects(self.near, self.folder, bucket, target)
        return target

    def forget(self, bucket: str) -> None:
        shutil.rmtree(self.folder / bucket)
        lean_server.clear(self.near)


@contextmanager
def rclone_store(work: Path, delay: float) -> Iterator[Store]:
    """Run `rclone serve s3`, behind a delay line where there is a delay."""
    with (
        served_folder() as folder,
        servers.rclone_serve(folder, work / "server.log") as near,
        at_distance(near, delay, work) as address,
    ):
        yield _Rclone(folder, near, address)


def lean_store(work: Path, delay: float) -> AbstractContextManager[Store]:
    """Run a server that costs little, which delays its answers by itself."""
    return _lean_store(work, delay, tls=False)


def tls_store(work: Path, delay: float) -> AbstractContextManager[Store]:
    """Run the same over TLS, with a certificate of its own."""
    return _lean_store(work, delay, tls=True)


@contextmanager
def _lean_store(work: Path, delay: float, *, tls: bool) -> Iterator[Store]:
    log = work / "server.log"
    with (
        served_folder() as folder,
        lean_server.lean_server(folder, log, delay=delay, tls=tls) as near,
    ):
        yield _Lean(folder, near, near, folder / "certificate" if tls else None)


@contextmanager
def served_folder(size: int = 0) -> Iterator[Path]:
    """Make the folder that is served, in memory where that has room for twice its `size` in bytes.

    The server's disk is not what is measured, and on some filesystems (ext4
    without a journal) creating files after a mass delete takes many times as
    long for some seconds, whoever comes next.
    """
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > 2 * size
    with TemporaryDirectory(dir=memory if fits else None) as folder:
        yield Path(folder)


@contextmanager
def at_distance(endpoint: str, delay: float, work: Path) -> Iterator[str]:
    """Yield the address of a server so many seconds away."""
    if not delay:
        yield endpoint
        return
    with servers.delayed(endpoint, delay, work / "delay.log") as address:
        yield address
