"""What craftsync does on each kind of S3 server, where that is more than the contract of all stores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER
from craftsync.errors import ObjectArchived, RequestDenied
from craftsync.stores.s3 import Limits, ProbedFacts, S3Store, probe
from tests.contract.conftest import BUCKET, OpenS3
from tests.contract.test_s3_multipart import Journal
from tests.support.fake_s3 import Answer, Drop, Request, error, proxied
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import S3Server
from tests.support.world import Bytes

CAREFUL = ProbedFacts()


@pytest.fixture
def opened(open_s3: OpenS3) -> OpenS3:
    """Return a function that opens a store on a fake S3, with facts that were just probed."""

    def open_store(server: S3Server, fake: FakeS3) -> S3Store:
        store = open_s3(server, facts=CAREFUL)
        store.learn(probe(store))
        fake.requests.clear()
        return store

    return open_store


def keys_of(fake: FakeS3, store: S3Store) -> list[str]:
    """Return the paths of all objects of a store, its own folder included."""
    bucket = fake.bucket(BUCKET)
    return sorted(key.removeprefix(store.root) for key in bucket if key.startswith(store.root))


def test_fully_conformant_server_gets_all_facts(opened: OpenS3) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        facts = opened(server, fake).facts
    assert facts.conditional_create and facts.conditional_replace and facts.conditional_delete
    assert facts.conditional_complete_create and facts.conditional_complete_replace
    assert facts.conditional_copy and facts.md5_versions and facts.metadata


@pytest.mark.parametrize("refuses", [False, True], ids=["ignores", "refuses"])
def test_completion_gets_no_version_that_the_server_does_not_compare(
    opened: OpenS3, *, refuses: bool
) -> None:
    def script(request: Request) -> Answer | None:
        if request.method != "POST" or "if-match" not in request.headers:
            return None
        if refuses:
            return error(412, "PreconditionFailed")
        return Answer(
            body=b'<CompleteMultipartUploadResult><ETag>"1-1"</ETag></CompleteMultipartUploadResult>'
        )

    with fake_s3("plain", BUCKET) as (server, fake), proxied(server, script) as (before, _):
        facts = opened(before, fake).facts
    assert facts.conditional_complete_create and facts.conditional_replace
    assert not facts.conditional_complete_replace


@pytest.mark.parametrize("name", ["ignores-conditions", "no-conditions"])
def test_server_ignoring_conditions_is_sent_none(opened: OpenS3, name: str) -> None:
    with fake_s3(name, BUCKET) as (server, fake):
        store = opened(server, fake)
        old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
        store.write("a", Bytes(b"new"), expect=old, operation="two", trash_stamp="run-1")
        writes = [request for request in fake.requests if request.method != "GET"]
    assert not any("if-match" in request.headers for request in writes)
    assert not any("if-none-match" in request.headers for request in writes)


def test_versioned_bucket_keeps_replaced_and_deleted_objects(opened: OpenS3) -> None:
    with fake_s3("versioned", BUCKET) as (server, fake):
        store = opened(server, fake)
        old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
        new = store.write("a", Bytes(b"new"), expect=old, operation="two", trash_stamp="run-1")
        store.delete("a", expect=new, trash_stamp="run-2")
        assert keys_of(fake, store) == []
        versions = fake.bucket(BUCKET).versions[f"{store.root}a"]
    assert [version.content for version in versions if not version.deleted] == [b"old", b"new"]


def test_kms_etags_are_not_taken_for_md5(opened: OpenS3) -> None:
    with fake_s3("kms", BUCKET) as (server, fake):
        store = opened(server, fake)
        assert not store.facts.md5_versions
        store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
        assert keys_of(fake, store) == ["a"]


def test_fake_server_keeps_an_object_whose_response_was_lost(opened: OpenS3) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        store = opened(server, fake)

        def lose(request: Request) -> Answer | Drop | None:
            return Drop() if request.method == "PUT" else None

        fake.script = lose
        with pytest.raises(Exception, match="could not be reached"):
            store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
        assert keys_of(fake, store) == ["a"]


def test_unordered_listing_is_detected(opened: OpenS3) -> None:
    with fake_s3("utf-16-order", BUCKET) as (server, fake):
        store = opened(server, fake)
        assert not store.facts.sorted_listing
        assert list(store.list(f"{OWN_FOLDER}/")) == []


def test_ceph_multipart_version_is_taken_from_a_stat(opened: OpenS3) -> None:
    content = bytes(11 << 20)
    with fake_s3("ceph-16", BUCKET) as (server, fake):
        store = opened(server, fake)
        written = store.write("a", Bytes(content), expect=ABSENT, operation="one")
        assert written.version == fake.bucket(BUCKET).get(f"{store.root}a").etag


def test_ceph_is_sent_unquoted_versions(opened: OpenS3) -> None:
    with fake_s3("ceph-16", BUCKET) as (server, fake):
        store = opened(server, fake)
        old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
        store.write("a", Bytes(b"new"), expect=old, operation="two", trash_stamp="run-1")
        (sent,) = (r.headers["if-match"] for r in fake.requests if "if-match" in r.headers)
        assert sent == old.version
        assert fake.bucket(BUCKET).get(f"{store.root}a").content == b"new"


def test_vanished_upload_is_restarted(opened: OpenS3) -> None:
    with fake_s3("ceph-16", BUCKET) as (server, fake):
        store = opened(server, fake)
        journal = Journal()
        journal.begin("gone", 5 << 20)
        content = Bytes(bytes(11 << 20))
        store.write("a", content, expect=ABSENT, operation="one", journal=journal)
        assert keys_of(fake, store) == ["a"]
        store.abort_stale([("a", "gone")])


@pytest.mark.parametrize("size", [7, 20], ids=["small", "beyond one request"])
@pytest.mark.parametrize("name", ["no-part-copy", "no-copy"])
def test_kept_copy_is_streamed_where_the_server_cannot_copy(
    open_s3: OpenS3, name: str, size: int
) -> None:
    limits = Limits(single_put=10, smallest_part=10, single_copy=5, fresh_listing_seconds=0.0)
    with fake_s3(name, BUCKET) as (server, fake):
        fake.personality = replace(fake.personality, smallest_part=1)
        store = open_s3(server, facts=CAREFUL, limits=limits)
        store.learn(probe(store))
        old = store.write("a", Bytes(bytes(range(size)), 1), expect=ABSENT, operation="one")
        new = store.write("a", Bytes(b"new"), expect=old, operation="two", trash_stamp="run-1")
        store.delete("a", expect=new, trash_stamp="run-2")
        kept = store.stat(f"{OWN_FOLDER}/trash/run-1/a")
        assert kept is not None and (kept.operation, kept.mtime_ns) == ("one", 1)
        with store.read(kept.path) as reader:
            assert b"".join(reader) == bytes(range(size))
        assert keys_of(fake, store) == [f"{OWN_FOLDER}/trash/run-{n}/a" for n in (1, 2)]
        assert not fake.bucket(BUCKET).uploads


@pytest.mark.parametrize("versioned", [True, False])
def test_archived_object_is_replaced_only_in_a_versioned_bucket(
    opened: OpenS3, versioned: bool
) -> None:
    with fake_s3("versioned" if versioned else "plain", BUCKET) as (server, fake):
        store = opened(server, fake)
        old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
        fake.bucket(BUCKET).archive(f"{store.root}a")
        if versioned:
            new = store.write("a", Bytes(b"new"), expect=old, operation="two", trash_stamp="run-1")
            store.delete("a", expect=new, trash_stamp="run-2")
            assert keys_of(fake, store) == []
            return
        for change in (
            lambda: store.write(
                "a", Bytes(b"new"), expect=old, operation="two", trash_stamp="run-1"
            ),
            lambda: store.delete("a", expect=old, trash_stamp="run-1"),
        ):
            with pytest.raises(ObjectArchived, match=r"^a is archived") as refused:
                change()
            assert "trash" not in str(refused.value)


def test_bucket_with_object_lock_takes_small_and_multipart_uploads(open_s3: OpenS3) -> None:
    limits = Limits(single_put=10, smallest_part=10, fresh_listing_seconds=0.0)
    with fake_s3("object-lock", BUCKET) as (server, fake):
        fake.personality = replace(fake.personality, smallest_part=1)
        store = open_s3(server, facts=CAREFUL, limits=limits)
        store.learn(probe(store))
        for content in (b"small", bytes(25)):
            written = store.write("a", Bytes(content), expect=None, operation="op", trash_stamp="k")
            assert written.size == len(content)


def test_stat_answered_403_is_a_problem_of_its_path(opened: OpenS3) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        store = opened(server, fake)
        fake.script = lambda request: Answer(403) if request.method == "HEAD" else None
        with pytest.raises(RequestDenied):
            store.stat("a")
