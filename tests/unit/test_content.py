"""Large objects on their way into a folder: parts that fail, truncated bodies."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from craftsync.clock import SystemClock
from craftsync.core.model import RemoteObject
from craftsync.engine import content
from craftsync.engine.content import Fetcher, PartialDownload, RootSource
from craftsync.errors import ContentDamaged, Interrupted, StoreUnavailable
from craftsync.local.folder import Folder
from craftsync.net.pace import UNPACED, Hashing, Limiter
from tests.support.memory_store import MemoryStore
from tests.support.world import Bytes

PART = 64
BODY = bytes(range(256)) * 2
DIGEST = hashlib.sha256(BODY).digest()

Break = Callable[[int], Iterator[None]]


class Breaking(MemoryStore):
    """A store whose bodies come in small chunks; `before` is called before each, with its offset."""

    def __init__(self, before: Callable[[int], None]) -> None:
        super().__init__()
        self._before = before
        self.offsets: list[int] = []
        self.under_way: set[int] = set()

    def stat(self, path: str) -> RemoteObject | None:
        """Describe an object without a digest, like those of other tools."""
        found = super().stat(path)
        return found and found._replace(digest=None)

    @contextmanager
    def read(self, path: str, **options: Any) -> Iterator[Any]:
        offset, length = options.get("offset", 0), options.get("length")
        self.offsets.append(offset)
        end = len(BODY) if length is None else offset + length
        found = self.stat(path)

        class Reader:
            object = found

            def __iter__(reader) -> Iterator[bytes]:
                self.under_way.add(offset)
                try:
                    for at in range(offset, end, 16):
                        self._before(at)
                        yield BODY[at : min(at + 16, end)]
                finally:
                    self.under_way.discard(offset)

        yield Reader()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "PART", PART)
    monkeypatch.setattr(content, "WHOLE", PART)


@pytest.fixture
def fetcher_of(tmp_path: Path) -> Iterator[Callable[[Breaking], tuple[Fetcher, RemoteObject]]]:
    with Folder.open(tmp_path) as folder, ThreadPoolExecutor(4) as pool:

        def made(store: Breaking) -> tuple[Fetcher, RemoteObject]:
            remote = store.write("large", Bytes(BODY), expect=None, operation="o")
            listed = remote._replace(digest=None, mtime_ns=None, operation=None)
            return Fetcher(folder, store, Limiter(None, SystemClock()), pool), listed

        yield made


def breaks_once(*offsets: int) -> Callable[[int], None]:
    """Return a function that truncates a body at each of these offsets, once each."""
    left = set(offsets)

    def before(at: int) -> None:
        if at in left:
            left.discard(at)
            raise StoreUnavailable("the connection broke")

    return before


def test_no_part_writes_after_a_failed_download_closed_its_file(
    fetcher_of: Callable[[Breaking], tuple[Fetcher, RemoteObject]],
) -> None:
    failed, running = threading.Event(), threading.Event()
    attempts = []

    def before(at: int) -> None:
        if at == 0:
            running.set()
            assert failed.wait(60)
        if at == PART:
            assert running.wait(60)
            attempts.append(at)
            if len(attempts) == 3:
                failed.set()
            raise StoreUnavailable("the second part failed")

    store = Breaking(before)
    fetcher, listed = fetcher_of(store)
    with pytest.raises(StoreUnavailable, match="the second part failed"):
        fetcher.fetch(listed, PartialDownload("download-1", frozenset(), lambda number: None))
    assert not store.under_way
    assert fetcher.root.has_temporary("download-1")


def test_failed_first_part_waits_for_other_parts_before_closing_the_file(
    fetcher_of: Callable[[Breaking], tuple[Fetcher, RemoteObject]],
) -> None:
    failed, running, returned = threading.Event(), threading.Event(), threading.Event()

    def before(at: int) -> None:
        if at == PART:
            running.set()
            assert failed.wait(60)
            # A caller that does not wait for this part returns now.
            returned.wait(0.5)
        if at == 0:
            assert running.wait(60)
            failed.set()
            raise StoreUnavailable("the first part failed")

    store = Breaking(before)
    fetcher, listed = fetcher_of(store)
    with pytest.raises(StoreUnavailable, match="the first part failed"):
        fetcher.fetch(listed, PartialDownload("download-1", frozenset(), lambda number: None))
    under_way = set(store.under_way)
    returned.set()
    assert not under_way


@pytest.mark.parametrize("named", [True, False], ids=["resumable", "conflict copy"])
def test_large_download_is_split_into_parts_retried_one_by_one(
    fetcher_of: Callable[[Breaking], tuple[Fetcher, RemoteObject]], named: bool
) -> None:
    store = Breaking(breaks_once(16, PART + 32, 5 * PART))
    fetcher, listed = fetcher_of(store)
    partial = PartialDownload("download-1", frozenset(), lambda number: None) if named else None
    fetched = fetcher.fetch(listed, partial)
    temporary, digest = fetched.temporary, fetched.digest
    with temporary:
        assert digest == DIGEST
        assert b"".join(map(bytes, temporary.blocks(0, len(BODY)))) == BODY
    assert set(store.offsets) == set(range(0, len(BODY), PART))


class ReportingLater(Breaking):
    """A store that reports its MD5 of an object from the second part on, as proven by another read."""

    def __init__(self, md5: bytes) -> None:
        super().__init__(lambda at: None)
        self._md5 = md5

    @contextmanager
    def read(self, path: str, **options: Any) -> Iterator[Any]:
        with super().read(path, **options) as reader:
            if options.get("offset"):
                reader.object = reader.object._replace(md5=self._md5)
            yield reader


@pytest.mark.parametrize(("right", "reads_of_all"), [(True, 0), (False, 1)])
def test_md5_that_is_reported_later_is_compared_with_all_parts(
    fetcher_of: Callable[[Breaking], tuple[Fetcher, RemoteObject]], right: bool, reads_of_all: int
) -> None:
    content = BODY if right else b"another"
    store = ReportingLater(hashlib.md5(content, usedforsecurity=False).digest())
    fetcher, listed = fetcher_of(store)
    with fetcher.fetch(listed, None).temporary:
        assert store.offsets.count(0) == 1 + reads_of_all


def test_small_download_is_retried_when_its_body_breaks_off(
    fetcher_of: Callable[[Breaking], tuple[Fetcher, RemoteObject]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content, "WHOLE", len(BODY))
    fetcher, listed = fetcher_of(Breaking(breaks_once(32, 48)))
    fetched = fetcher.fetch(listed, None)
    temporary, digest = fetched.temporary, fetched.digest
    with temporary:
        assert (digest, temporary.size()) == (DIGEST, len(BODY))


def test_interrupted_content_comparison_resumes_where_it_stopped(
    fetcher_of: Callable[[Breaking], tuple[Fetcher, RemoteObject]],
) -> None:
    store = Breaking(breaks_once(32, 128, 496))
    fetcher, listed = fetcher_of(store)
    assert fetcher.digest(listed) == DIGEST
    assert store.offsets == [0, 32, 128, 496]


def test_stop_interrupts_hashing_of_a_large_file(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(BODY)
    hashing = Hashing()
    with Folder.open(tmp_path) as folder, folder.open_file("large") as file:
        assert RootSource(file, UNPACED, hashing).digest == DIGEST
        assert (hashing.files, hashing.size) == (1, len(BODY))
        hashing.cancel()
        with pytest.raises(Interrupted):
            RootSource(file, UNPACED, hashing)


@pytest.mark.parametrize("part", [PART, len(BODY)], ids=["in parts", "whole"])
def test_download_with_wrong_digest_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(content, "WHOLE", part)

    class Rotten(MemoryStore):
        """A store whose answers describe the written object, but contain another byte."""

        @contextmanager
        def read(self, path: str, **options: Any) -> Iterator[Any]:
            with super().read(path, **options) as reader:
                changed = b"".join(reader).replace(b"\x07", b"\x08")
                monkeypatch.setattr(reader, "_content", changed)
                yield reader

    store = Rotten()
    listed = store.write("a", Bytes(BODY), expect=None, operation="o")
    with Folder.open(tmp_path) as folder, ThreadPoolExecutor(1) as pool:
        fetcher = Fetcher(folder, store, Limiter(None, SystemClock()), pool)
        with pytest.raises(ContentDamaged):
            fetcher.fetch(listed, None)
