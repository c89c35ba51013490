"""Content on its way from store to store: it is hashed for any order of reads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craftsync.clock import SystemClock
from craftsync.core.model import RemoteObject
from craftsync.engine.content import digest_of
from craftsync.errors import ContentDamaged, PathBusy, StoreUnavailable
from craftsync.migrate import stream as content
from craftsync.migrate.stream import MemoryBudget, Stream, read_whole
from craftsync.net.pace import UNPACED, Limiter
from craftsync.stores.craftai import Limits as CraftAiLimits
from craftsync.stores.s3 import Limits
from tests.support.memory_store import MemoryStore
from tests.support.world import Bytes

MIB = 1024 * 1024
BODY = bytes(range(256)) * (5 << 12)


def no_limit() -> Limiter:
    return Limiter(None, SystemClock())


class Breaking(MemoryStore):
    """Truncates each of the next `breaks` bodies after its first `after` bytes."""

    breaks = 0
    after = MIB

    def read(self, path: str, **how: Any) -> Any:
        opened = super().read(path, **how)
        if not self.breaks:
            return opened
        self.breaks -= 1
        return _Broken(opened, self.after)


class _Broken:
    def __init__(self, opened: Any, after: int) -> None:
        self._opened = opened
        self._after = after

    def __enter__(self) -> _Broken:
        self._reader = self._opened.__enter__()
        self.object = self._reader.object
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def __iter__(self) -> Iterator[bytes]:
        yield b"".join(self._reader)[: self._after]
        raise StoreUnavailable("The connection broke.")


@pytest.fixture
def store() -> Breaking:
    return Breaking()


def put(store: MemoryStore, body: bytes = BODY) -> RemoteObject:
    return store.write("a", Bytes(body), expect=None, operation="op")


def streamed(store: MemoryStore, found: RemoteObject) -> Stream:
    return Stream(store, found._replace(digest=None), no_limit(), no_limit(), hash_parts=True)


STORED, DIGEST = MemoryStore(), hashlib.sha256(BODY).digest()
put(STORED)


@given(st.permutations(range(5)), st.sets(st.integers(0, 4)))
@settings(max_examples=40, deadline=None)
def test_migrated_digest_is_right_for_any_read_order(order: list[int], unread: set[int]) -> None:
    stream = streamed(STORED, STORED.stat("a"))
    for number in order:
        if number not in unread:
            part = BODY[number * MIB : (number + 1) * MIB]
            assert stream.read_at(number * MIB, MIB) == part
    assert stream.digest == b""
    stream.verify()
    assert stream.digest == DIGEST


def test_migrated_content_is_complete_for_any_piece_size(store: Breaking) -> None:
    body = BODY * 2
    stream = streamed(store, put(store, body))
    pieces = [
        stream.read_at(offset, min(700_001, len(body) - offset))
        for offset in range(0, len(body), 700_001)
    ]
    assert b"".join(pieces) == body
    stream.verify()
    assert stream.digest == hashlib.sha256(body).digest()


def test_multipart_upload_is_identified_by_hash_of_part_hashes(store: Breaking) -> None:
    body = bytes(17 * MIB)
    stream = streamed(store, put(store, body))
    spans = [(0, 8 * MIB), (8 * MIB, 8 * MIB), (16 * MIB, MIB)]
    for offset, length in spans:
        stream.read_at(offset, length)
    parts = b"".join(hashlib.md5(body[o : o + n]).digest() for o, n in spans)
    assert stream.is_version(f"{hashlib.md5(parts).hexdigest()}-3")
    assert not stream.is_version(f"{hashlib.md5(parts).hexdigest()}-2")
    assert not stream.is_version(hashlib.md5(body).hexdigest())


def test_migrated_content_must_match_the_sources_checksum(store: Breaking) -> None:
    found = put(store)._replace(digest=bytes(32))
    stream = Stream(store, found, no_limit(), no_limit(), hash_parts=False)
    stream.read_at(0, len(BODY))
    with pytest.raises(ContentDamaged, match="does not match its digest"):
        stream.verify()


def test_small_migrated_object_must_match_the_sources_checksum(store: Breaking) -> None:
    found = put(store)
    described, body = store._objects[found.path]
    store._objects[found.path] = described._replace(digest=bytes(32)), body
    with pytest.raises(ContentDamaged, match="does not match its digest"):
        read_whole(store, found, no_limit(), UNPACED)


def test_migration_never_mixes_two_versions_of_an_object(store: Breaking) -> None:
    stream = streamed(store, put(store))
    stream.read_at(0, 4 * MIB)
    put(store, BODY[::-1])
    with pytest.raises(PathBusy):
        stream.read_at(4 * MIB, MIB)


def test_migration_resumes_a_broken_off_read(store: Breaking) -> None:
    found = put(store)
    store.breaks = 2
    assert read_whole(store, found, no_limit(), UNPACED)[0].body == BODY
    store.breaks = 2
    assert digest_of(store, found, no_limit()) == found.digest


def test_migration_gives_up_on_reads_that_always_break_off(store: Breaking) -> None:
    found = put(store)
    store.breaks, store.after = 99, 0
    with pytest.raises(StoreUnavailable):
        read_whole(store, found, no_limit(), UNPACED)
    with pytest.raises(StoreUnavailable):
        digest_of(store, found, no_limit())


@pytest.mark.parametrize("body", [b"", b"x"])
def test_migration_digests_empty_and_tiny_objects(store: Breaking, body: bytes) -> None:
    assert digest_of(store, put(store, body), no_limit()) == hashlib.sha256(body).digest()


def test_migration_never_exceeds_its_memory_budget() -> None:
    room, held, most = MemoryBudget(10), [0], [0]
    lock = threading.Lock()

    def take(size: int) -> None:
        for _ in range(50):
            with room.taken(size):
                with lock:
                    held[0] += min(size, 10)
                    most[0] = max(most[0], held[0])
                with lock:
                    held[0] -= min(size, 10)

    threads = [threading.Thread(target=take, args=(size,)) for size in (3, 4, 7, 99)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < most[0] <= 10


def test_migration_buffers_fit_the_part_sizes_of_stores() -> None:

    assert Limits().single_put >= content.WHOLE
    assert CraftAiLimits().single_post >= content.WHOLE


class Encrypted(MemoryStore):
    """Its versions only look like MD5s. `bodies` are the contents of successive reads; one read must be enough."""

    def __init__(self, *bodies: bytes) -> None:
        super().__init__()
        self.features = replace(self.features, md5_versions=True)
        self.bodies = bodies

    @contextmanager
    def read(self, path: str, **how: Any) -> Iterator[Any]:
        body, *rest = self.bodies
        self.bodies = tuple(rest)
        with super().read(path, **how) as reader:
            found = reader.object._replace(version="e" * 32, digest=None)
            yield _Reader(found, body)


class _Reader:
    def __init__(self, found: RemoteObject, body: bytes) -> None:
        self.object = found
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


def test_etag_that_only_resembles_md5_is_not_damage() -> None:
    store = Encrypted(b"content")
    found = put(store, b"content")
    assert read_whole(store, found, no_limit(), UNPACED)[0].body == b"content"
