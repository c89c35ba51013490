"""How many requests an S3 store makes for one change, where fewer are enough to be sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from hashlib import md5
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, RemoteObject
from craftsync.errors import PreconditionFailed, RequestDenied, StoreUnavailable
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import ProbedFacts, S3Store
from craftsync.stores.s3.objects import Digests
from craftsync.stores.s3.preconditions import Limits
from tests.contract.conftest import BUCKET, OpenS3
from tests.support.clock import FakeClock
from tests.support.fake_s3 import Answer, error
from tests.support.s3 import PERSONALITIES, fake_s3
from tests.support.s3.fake import FakeS3
from tests.support.servers import S3Server
from tests.support.world import Bytes

UNCONDITIONAL = replace(PERSONALITIES["plain"], name="unconditional", conditions=frozenset())
LOOKING = ProbedFacts(metadata=True, server_side_copy=True, md5_versions=True)


def requests_of(fake: FakeS3) -> Counter[str]:
    """Return how many requests of each kind were made, and begin anew."""
    kinds = Counter(
        "COPY"
        if "x-amz-copy-source" in {name.lower() for name in request.headers}
        else request.method
        for request in fake.requests
    )
    fake.requests.clear()
    return kinds


def test_replacement_takes_one_stat_without_server_conditions(
    open_s3: OpenS3,
) -> None:
    with fake_s3(UNCONDITIONAL, BUCKET) as (server, fake):
        store = open_s3(server, facts=LOOKING)
        first = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        requests_of(fake)
        second = store.write(
            "object", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k"
        )
        assert requests_of(fake) == {"HEAD": 1, "COPY": 1, "PUT": 1}
        store.write("object", Bytes(b"three"), expect=second, operation="op-3")
        assert requests_of(fake) == {"HEAD": 1, "PUT": 1}


def test_another_programs_change_survives_a_shared_stat(
    open_s3: OpenS3,
) -> None:
    with fake_s3(UNCONDITIONAL, BUCKET) as (server, _):
        store = open_s3(server, facts=LOOKING)
        first = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        store.calls.put(store.root + "object", b"theirs", {}, None)
        with pytest.raises(PreconditionFailed):
            store.write("object", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")


MANY = [f"trash/{number}" for number in range(2_500)]


def test_bulk_delete_takes_one_request_for_a_thousand_objects(open_s3: OpenS3) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        store = RetryingStore(open_s3(server, facts=LOOKING), clock=FakeClock())
        assert store.delete_each(MANY) == {}
        assert requests_of(fake) == {"POST": 3}


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 501])
def test_bulk_delete_falls_back_to_single_deletes(open_s3: OpenS3, status: int) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        no = error(status, "AccessDenied" if status == 403 else "MethodNotAllowed")
        fake.script = lambda request: no if request.method == "POST" else None
        inner = open_s3(server, facts=LOOKING)
        store = RetryingStore(inner, clock=FakeClock())
        for path in "abc":
            inner.calls.put(inner.root + path, b"", {}, None)
        requests_of(fake)
        assert store.delete_each(["a", "b"]) == {}
        assert requests_of(fake) == {"POST": 1, "DELETE": 2}
        assert store.delete_each(["c"]) == {}
        assert requests_of(fake) == {"DELETE": 1}
        assert list(store.list()) == []


def test_bulk_delete_reports_each_refused_object(open_s3: OpenS3) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        inner = open_s3(server, facts=LOOKING)
        store = RetryingStore(inner, clock=FakeClock())
        for path in "abcd":
            inner.calls.put(inner.root + path, b"", {}, None)
        fake.denied = {inner.root + "b", inner.root + "c"}
        failed = store.delete_each(list("abcd"))
        assert failed.keys() == {"b", "c"}
        assert all(isinstance(error, RequestDenied) for error in failed.values())
        assert sorted(found.path for found in store.list()) == ["b", "c"]


def test_failed_bulk_delete_is_retried(open_s3: OpenS3) -> None:
    """An error within a success is of one object; an object that the answer leaves out may still be there."""
    answer = "<DeleteResult><Deleted><Key>{}a</Key></Deleted><Error><Key>{}b</Key><Code>InternalError</Code></Error></DeleteResult>"
    with fake_s3("plain", BUCKET) as (server, fake):
        inner = open_s3(server, facts=LOOKING)
        store = RetryingStore(inner, clock=FakeClock())
        for path in "bc":
            inner.calls.put(inner.root + path, b"", {}, None)
        told = Answer(200, answer.format(inner.root, inner.root).encode())
        fake.script = lambda request: told if request.method == "POST" else None
        requests_of(fake)
        assert store.delete_each(list("abc")) == {}
        assert requests_of(fake) == {"POST": 1, "DELETE": 2}
        assert list(store.list()) == []


def test_folders_alike_are_listed_in_shares_of_many_pages(open_s3: OpenS3) -> None:
    """A share that ended with each folder would take two requests for a page, and no two shares at once."""
    with fake_s3("plain", BUCKET) as (server, fake):
        store = open_s3(server, facts=LOOKING)
        fake.most_listed = 10
        bucket = fake.bucket(BUCKET)
        names = [f"d{folder:03}/f{number}.txt" for folder in range(60) for number in range(10)]
        for name in names:
            bucket.put(fake.personality, store.root + name, bucket.described(fake.personality, b""))
        assert [found.path for found in store.list()] == names
        assert sum("start-after" in request.target for request in fake.requests) >= 4
        assert requests_of(fake)["GET"] <= 72


@contextmanager
def two_buckets(
    use_keys_of: Callable[[S3Server], None],
) -> Iterator[tuple[FakeS3, S3Store, S3Store]]:
    """Two buckets of one server that checks no condition; objects of the first are copied to the second."""
    with fake_s3(UNCONDITIONAL, "source", BUCKET) as (server, fake):
        use_keys_of(server)
        open_bucket = partial(S3Store, endpoint_url=server.endpoint, facts=LOOKING)
        with closing(open_bucket("source")) as source, closing(open_bucket(BUCKET)) as target:
            yield fake, source, target


def copied(source: S3Store, target: S3Store, original: RemoteObject) -> RemoteObject:
    assert source.features.origin is not None
    return target.copy_from(source.features.origin, original, expect=None)


def test_copy_with_versioned_source_takes_one_request(
    use_keys_of: Callable[[S3Server], None],
) -> None:
    with two_buckets(use_keys_of) as (fake, source, target):
        original = source.write("a", Bytes(b"one"), expect=ABSENT, operation="op")
        requests_of(fake)
        assert copied(source, target, original).version == original.version
        assert requests_of(fake) == {"COPY": 1}


def test_copy_of_a_source_changed_since_listing_fails(
    use_keys_of: Callable[[S3Server], None],
) -> None:
    with two_buckets(use_keys_of) as (_, source, target):
        original = source.write("a", Bytes(b"one"), expect=ABSENT, operation="op")
        source.calls.put("a", b"two", {}, None)
        with pytest.raises(PreconditionFailed):
            copied(source, target, original)


def test_source_bucket_settings_are_read_once(
    use_keys_of: Callable[[S3Server], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config"
    settings.write_text("")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    with two_buckets(use_keys_of) as (fake, source, target):
        originals = [
            source.write(name, Bytes(b"one"), expect=ABSENT, operation="op") for name in "ab"
        ]
        target.learn(replace(LOOKING, md5_versions=False))
        requests_of(fake)
        copied(source, target, originals[0])
        settings.write_text("no settings")
        copied(source, target, originals[1])
        assert requests_of(fake) == {"HEAD": 2, "COPY": 2}


class Hashed(Bytes):
    """A source that knows the MD5 of what it reads."""

    def part_md5(self, offset: int, length: int) -> bytes:
        return md5(self.read_at(offset, length) + self.lie).digest()

    lie = b""


@pytest.mark.parametrize("etags", ["md5", "random"])
def test_part_is_compared_here_where_the_server_names_its_md5(open_s3: OpenS3, etags: str) -> None:
    limits = Limits(single_put=64, smallest_part=100)
    facts = replace(LOOKING, part_digests=Digests.MD5)
    with fake_s3(replace(UNCONDITIONAL, smallest_part=1, etags=etags), BUCKET) as (server, fake):
        store = RetryingStore(open_s3(server, facts=facts, limits=limits), clock=FakeClock())
        for name in ("first", "second"):
            fake.requests.clear()
            store.write(name, Bytes(b"x" * 100), expect=ABSENT, operation="op")
            puts = [each.headers for each in fake.requests if each.method == "PUT"]
            hashed = ["content-md5" in {name.lower() for name in sent} for sent in puts]
            learns = etags == "random" and name == "first"
            assert hashed == ([False, True] if learns else [etags == "random"])


def test_part_hashed_by_its_source_is_not_hashed_again(open_s3: OpenS3) -> None:
    limits, facts = (
        Limits(single_put=64, smallest_part=64),
        replace(LOOKING, part_digests=Digests.MD5),
    )
    content = Hashed(b"x" * 200)
    with fake_s3(replace(UNCONDITIONAL, smallest_part=1), BUCKET) as (server, _):
        store = open_s3(server, facts=facts, limits=limits)
        store.write("object", content, expect=ABSENT, operation="op")
        content.lie = b"another hash"
        with pytest.raises(StoreUnavailable):
            store.write("refused", content, expect=ABSENT, operation="op")
        assert store.stat("refused") is None
        assert store.stat("object").operation == "op"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("etags", "is_kept", "looks"), [("md5", True, 0), ("md5", False, 1), ("opaque", True, 1)]
)
def test_completed_upload_gets_a_stat_only_without_a_conclusive_etag(
    open_s3: OpenS3, etags: str, is_kept: bool, looks: int
) -> None:
    limits = Limits(single_put=64, smallest_part=64)
    facts = replace(LOOKING, completed_versions=is_kept)
    server_as = replace(PERSONALITIES["plain"], etags=etags, smallest_part=1)
    with fake_s3(server_as, BUCKET) as (server, fake):
        store = open_s3(server, facts=facts, limits=limits)
        written = store.write("object", Bytes(b"x" * 200), expect=ABSENT, operation="op")
        assert requests_of(fake)["HEAD"] == 1 + looks  # The first is the look at what is replaced.
        found = store.stat("object")
        assert found is not None and written.version == found.version
