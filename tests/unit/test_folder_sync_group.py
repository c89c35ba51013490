"""A flush serves every caller that was waiting when it began, and no later one."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from craftsync.local.commit import SyncGroup


class Flushes:
    """Counts flushes that began and ended; each takes real time without the interpreter lock."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    def __call__(self) -> None:
        self.begun += 1
        sha256(bytes(1_000_000))
        self.ended += 1


def test_every_sync_call_waits_for_a_flush_begun_after_it() -> None:
    flushes = Flushes()
    group = SyncGroup(flushes)

    def call(_: int) -> bool:
        begun_before = flushes.begun
        group.sync()
        return flushes.ended > begun_before

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(200)))


def test_concurrent_sync_calls_share_one_flush() -> None:
    flushes = Flushes()
    group = SyncGroup(flushes)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: group.sync(), range(200)))
    assert flushes.ended < 200


def test_failed_shared_flush_raises_in_every_caller_only_once() -> None:
    fail, started, go_on = threading.Event(), threading.Event(), threading.Event()
    fail.set()

    def flush() -> None:
        if fail.is_set():
            started.set()
            go_on.wait(60)
            raise OSError(errno.EIO, "the disk is broken")

    group = SyncGroup(flush)
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(group.sync)
        assert started.wait(60)
        follower = pool.submit(group.sync)
        go_on.set()
        for call in (leader, follower):
            with pytest.raises(OSError, match="Input/output error"):
                call.result(60)
    fail.clear()
    group.sync()
