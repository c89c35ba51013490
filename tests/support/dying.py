"""A process whose children die in a migration between two buckets, at each request in turn.

A process of its own, because a child of one with threads inherits them only by
name. Run with the endpoint of a
server that holds any key, and `stream` or `server`; prints how many deaths
were survived.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from craftsync.clock import SystemClock
from craftsync.engine.report import Options
from craftsync.migrate.migration import Migration
from craftsync.migrate.options import MigrationOptions
from craftsync.state.migration import MigrationState
from craftsync.stores.s3 import Limits, S3Store
from tests.support.serial_pool import SerialPool

MIB = 1024 * 1024
LIMITS = Limits(single_put=MIB, smallest_part=MIB, quick_copy=MIB, fresh_listing_seconds=0.0)
LARGE = bytes(range(256)) * (9 << 10)
CONTENT = {"a//b": b"strange", "edited": b"new", "first": b"1", "large": LARGE}
EFFECTS = ("put", "copy", "begin_upload", "upload_part", "copy_part", "complete_upload", "delete")
DIED = 9


def main() -> None:
    endpoint, way = sys.argv[1:]
    survived = 0
    with TemporaryDirectory() as folder:
        probed = Trial(endpoint, way, Path(folder), "probed")
        assert in_child(probed.learn) == 0
        for at in range(1, 100):
            prepared = Trial(endpoint, way, Path(folder) / str(at), f"{way}-{at}")
            if not prepared.dies(at):
                break
            prepared.heals()
            survived += 1
    print(survived)  # noqa: T201 (the test reads it)


class Trial:
    """A source and a target of their own for one death."""

    def __init__(self, endpoint: str, way: str, folder: Path, name: str) -> None:
        self._endpoint = endpoint
        self._way = way
        self._folder = folder
        self._name = name

    def store(self, side: str) -> S3Store:
        bucket = f"craftsync-{side}"
        return S3Store(
            bucket, self._name, endpoint_url=self._endpoint, limits=LIMITS, raw_keys=True
        )

    def learn(self) -> None:
        """Find out what the server does, once for all trials; trying it is not what dies."""
        (self._folder / "facts").write_text(self.store("target").prepare(None) or "")

    def dies(self, at: int) -> bool:
        """Run in a child that dies after its `at`-th request that changes something; tell whether it came that far."""
        source, target = self.store("source"), self.store("target")
        for path, content in CONTENT.items():
            source.calls.put(source.root + path, content, {}, None)
        target.calls.put(target.root + "edited", b"old", {}, None)
        target.calls.put(target.root + "own", b"own", {}, None)
        return in_child(lambda: self.migrate(at)) == DIED

    def heals(self) -> None:
        assert in_child(self.check) == 0, "the next run did not heal"

    def check(self) -> None:
        self.migrate(0)
        target = self.store("target")
        assert {path: read(target, path) for path in CONTENT} == CONTENT
        assert read(target, "own") == b"own"
        trash = {read(target, entry.path) for entry in target.list(".craftsync/trash/")}
        assert trash == {b"old"}, trash

    def migrate(self, at: int) -> None:
        source, target = self.store("source"), self.store("target")
        state = MigrationState.open(self._folder)
        migration = Migration(source, target, state, self._folder, make_pool=lambda _: SerialPool())
        state.database.put("facts", (self._folder.parent / "facts").read_text())
        state.database.put("facts_at_ns", str(SystemClock().now_ns()))
        if at:
            lay_fuse(target, at)
        options = MigrationOptions(Options(), server_side=self._way == "server")
        report = migration.run(options, lambda event: None)
        assert report.exit_code == 0, report


def in_child(act: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            sys.stderr.flush()
            if status:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def lay_fuse(store: S3Store, at: int) -> None:
    """End the process once the `at`-th change has happened at the server, before anybody hears of it."""
    left = [at]

    def fused(effect: Callable[..., Any]) -> Callable[..., Any]:
        def burn(*args: Any, **named: Any) -> Any:
            result = effect(*args, **named)
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIED)
            return result

        return burn

    for name in EFFECTS:
        setattr(store.calls, name, fused(getattr(store.calls, name)))


def read(store: S3Store, path: str) -> bytes:
    with store.read(path) as reader:
        return b"".join(reader)


if __name__ == "__main__":
    main()
