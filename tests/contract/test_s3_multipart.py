"""Large objects on S3: resumed after a crash, given up without a trace, copied in parts."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER
from craftsync.engine.content import RootSource
from craftsync.errors import PathBusy, PreconditionFailed, StoreUnavailable
from craftsync.local.folder import Folder
from craftsync.net.pace import UNPACED, Hashing
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import Limits, ProbedFacts, S3Store
from craftsync.stores.s3.multipart import MIB, MOST_PARTS, part_size
from tests.contract.conftest import OpenS3
from tests.support.clock import FakeClock
from tests.support.fake_s3 import Drop, Request, error, proxied
from tests.support.servers import S3Server
from tests.support.world import Bytes

PART = 64 * 1024
CONTENT = random.Random(7).randbytes(4 * PART + 1)
SMALL_PARTS = Limits(single_put=PART, smallest_part=PART, fresh_listing_seconds=0.0)
FACTS = ProbedFacts(conditional_complete_create=True, metadata=True)


class Crash(BaseException):
    """The process dies here."""


class Journal:
    """An `UploadJournal` that outlives the process it is written by, as a database does."""

    def __init__(self) -> None:
        self.upload: tuple[str, int] | None = None
        self.parts: dict[int, str] = {}
        self._lock = threading.Lock()

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        return (*self.upload, dict(self.parts)) if self.upload else None

    def begin(self, upload_id: str, part_size: int) -> None:
        self.upload, self.parts = (upload_id, part_size), {}

    def part_done(self, number: int, version: str) -> None:
        with self._lock:
            self.parts[number] = version

    def end(self) -> None:
        self.upload, self.parts = None, {}


class Crashing(Bytes):
    """Content during whose upload the process dies: at this part, or before the end."""

    def __init__(self, content: bytes, at: int | None) -> None:
        super().__init__(content)
        self._at = at

    def read_at(self, offset: int, length: int) -> bytes:
        if self._at is not None and offset == self._at * PART:
            raise Crash
        return super().read_at(offset, length)

    def verify(self) -> None:
        if self._at is None:
            raise Crash


def uploads(store: S3Store) -> list[str]:
    """Return the ids of all unfinished uploads below the store's prefix, as the server tells them."""
    answer = store._wire.call("GET", query=[("uploads", ""), ("prefix", store.root)])
    root = ElementTree.fromstring(answer.body)
    return [e.text or "" for e in root.iter() if e.tag.endswith("UploadId")]


def content_of(store: S3Store, path: str) -> bytes:
    with store.read(path) as reader:
        return b"".join(reader)


@pytest.fixture
def store(plain_server: S3Server, open_s3: OpenS3) -> S3Store:
    return open_s3(plain_server, limits=SMALL_PARTS)


@pytest.fixture
def proxy_parts(plain_server: S3Server) -> Iterator[tuple[S3Server, Callable[[], list[str]]]]:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        yield (
            server,
            lambda: [r.query["partNumber"] for r in proxy.requests if "partNumber" in r.target],
        )


@pytest.mark.parametrize("at", [0, 1, 4, None])
def test_multipart_upload_resumes_after_a_crash(
    proxy_parts: tuple[S3Server, Callable[[], list[str]]], open_s3: OpenS3, at: int | None
) -> None:
    server, sent = proxy_parts
    journal = Journal()
    with pytest.raises(Crash):
        open_s3(server, facts=FACTS, limits=SMALL_PARTS).write(
            "large", Crashing(CONTENT, at), expect=ABSENT, operation="before", journal=journal
        )
    before = len(sent())
    store = open_s3(server, facts=FACTS, limits=SMALL_PARTS)
    assert store.stat("large") is None and len(uploads(store)) == 1
    done = len(journal.parts)
    written = store.write(
        "large", Bytes(CONTENT), expect=ABSENT, operation="after", journal=journal
    )
    assert len(sent()) - before == 5 - done
    assert content_of(store, "large") == CONTENT
    assert written == store.stat("large")
    assert uploads(store) == []


@pytest.mark.parametrize("tampered", ["unknown upload", "part the server lost", "other part"])
def test_wrong_upload_journal_only_costs_repeated_work(store: S3Store, tampered: str) -> None:
    journal = Journal()
    with pytest.raises(Crash):
        store.write(
            "large", Crashing(CONTENT, None), expect=ABSENT, operation="before", journal=journal
        )
    assert journal.upload is not None
    abandoned = journal.upload[0]
    if tampered == "unknown upload":
        journal.upload = ("no-such-upload", PART)
    elif tampered == "part the server lost":
        journal.parts[9] = journal.parts[1]
    else:
        journal.parts[1] = journal.parts[2]
    store.write("large", Bytes(CONTENT), expect=ABSENT, operation="after", journal=journal)
    assert content_of(store, "large") == CONTENT
    store.abort_stale([("large", abandoned)])
    assert uploads(store) == []


def test_aborting_stale_uploads_twice_is_not_an_error(s3_server: S3Server, open_s3: OpenS3) -> None:
    store, journal = open_s3(s3_server, limits=SMALL_PARTS), Journal()
    with pytest.raises(Crash):
        store.write(
            "large", Crashing(CONTENT, None), expect=ABSENT, operation="op", journal=journal
        )
    assert journal.upload is not None
    for _ in range(2):
        store.abort_stale([("large", journal.upload[0])])
    with pytest.raises(StoreUnavailable):
        store.calls.list_parts(store.root + "large", journal.upload[0])
    assert store.stat("large") is None


class Busy(Bytes):
    def verify(self) -> None:
        raise PathBusy("the file changed while it was read")


@pytest.mark.parametrize("journal", [None, Journal()], ids=["no journal", "journal"])
def test_abandoned_upload_leaves_no_parts(store: S3Store, journal: Journal | None) -> None:
    with pytest.raises(PathBusy):
        store.write("large", Busy(CONTENT), expect=ABSENT, operation="op", journal=journal)
    store.write("large", Bytes(b"theirs"), expect=None, operation="theirs")
    with pytest.raises(PreconditionFailed):
        store.write("large", Bytes(CONTENT), expect=ABSENT, operation="op", journal=journal)
    assert content_of(store, "large") == b"theirs"
    assert uploads(store) == []


def test_failed_part_is_resumable_only_with_a_journal(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def failing(request: Request) -> object:
        return error(503, "SlowDown") if "partNumber=3" in request.target else None

    with proxied(plain_server, failing) as (server, proxy):  # type: ignore[arg-type]
        store = open_s3(server, facts=FACTS, limits=SMALL_PARTS)
        with pytest.raises(StoreUnavailable):
            store.write("large", Bytes(CONTENT), expect=ABSENT, operation="op")
        assert uploads(store) == []
        journal = Journal()
        with pytest.raises(StoreUnavailable):
            store.write("large", Bytes(CONTENT), expect=ABSENT, operation="op", journal=journal)
        assert len(uploads(store)) == 1 and 3 not in journal.parts
        proxy.script = lambda _: None
        store.write("large", Bytes(CONTENT), expect=ABSENT, operation="op", journal=journal)
        assert content_of(store, "large") == CONTENT


def test_completion_that_lost_a_race_restarts_the_upload(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    conflicts = [error(409, "ConditionalRequestConflict")]

    def script(request: Request) -> object:
        completes = request.method == "POST" and "uploadId" in request.target
        return conflicts.pop() if completes and conflicts else None

    with proxied(plain_server, script) as (server, proxy):  # type: ignore[arg-type]
        store = open_s3(server, facts=FACTS, limits=SMALL_PARTS)
        patient = RetryingStore(store, clock=FakeClock())
        patient.write("large", Bytes(CONTENT), expect=ABSENT, operation="op", journal=Journal())
        assert sum("partNumber" in r.target for r in proxy.requests) == 10
        assert content_of(store, "large") == CONTENT
        assert uploads(store) == []


def test_only_lost_parts_are_sent_again(plain_server: S3Server, open_s3: OpenS3) -> None:
    dropped: set[str] = set()

    def script(request: Request) -> Drop | None:
        number = request.query.get("partNumber", "")
        if number in ("2", "4") and number not in dropped:
            dropped.add(number)
            return Drop(delivered=False)
        return None

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=FACTS, limits=SMALL_PARTS)
        patient = RetryingStore(store, clock=FakeClock())
        patient.write("large", Bytes(CONTENT), expect=ABSENT, operation="op", journal=Journal())
        assert content_of(store, "large") == CONTENT


def test_objects_over_the_copy_limit_are_copied_in_parts(
    plain_server: S3Server, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craftsync.stores.s3.multipart.COPIED_PART", PART)
    store = open_s3(
        plain_server,
        facts=ProbedFacts(metadata=True),
        limits=Limits(single_copy=2 * PART, smallest_part=PART, fresh_listing_seconds=0.0),
    )
    content = CONTENT[: 3 * PART]
    source = store.write("source", Bytes(content, 1), expect=None, operation="op-1")
    copied = store.copy(source, "target", expect=ABSENT, operation="op-2")
    looked = store.stat("target")
    assert looked is not None and looked.version == copied.version
    assert looked[4:7] == (source.digest, 1, "op-2")
    store.write("target", Bytes(b"new"), expect=looked, operation="op-3", trash_stamp="k")
    assert content_of(store, f"{OWN_FOLDER}/trash/k/target") == content
    with pytest.raises(PreconditionFailed):
        store.copy(source._replace(version="0" * 32), "other", expect=ABSENT, operation="op-4")
    assert uploads(store) == []


def test_part_size_is_minimal_within_the_part_count_limit() -> None:
    sizes = [17 * MIB, 70_000 * MIB, 72_000 * MIB + 1, 5 * 1024**4]
    assert [part_size(size) // MIB for size in sizes] == [8, 8, 9, 583]
    assert all(-(-size // part_size(size)) <= MOST_PARTS for size in sizes)


def test_parts_that_share_memory_arrive_as_they_were_read(
    plain_server: S3Server, open_s3: OpenS3, tmp_path: Path
) -> None:
    content = random.Random(8).randbytes(20 * MIB + 1)
    (tmp_path / "large").write_bytes(content)
    store = open_s3(plain_server, limits=Limits(single_put=MIB, smallest_part=MIB))
    with Folder.open(tmp_path) as folder, folder.open_file("large") as file:
        source = RootSource(file, UNPACED, Hashing())
        store.write("large", source, expect=ABSENT, operation="op")
    assert content_of(store, "large") == content
