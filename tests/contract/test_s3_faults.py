"""Failures between an S3 store and its server: what is said, and what is healed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject
from craftsync.errors import (
    ContentDamaged,
    CraftsyncError,
    ObjectRefused,
    PathError,
    PreconditionFailed,
    StoreChanged,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import Limits, ProbedFacts, S3Store
from craftsync.stores.s3.errors import NotSupported
from craftsync.stores.s3.objects import Form
from tests.contract.conftest import BUCKET, SMALL_LIMITS, OpenS3
from tests.support.cli import until
from tests.support.clock import FakeClock
from tests.support.fake_s3 import (
    Answer,
    Drop,
    Forward,
    Request,
    Script,
    error,
    failing,
    proxied,
    scripted,
)
from tests.support.s3 import PERSONALITIES, fake_s3
from tests.support.servers import S3Server, free_port
from tests.support.world import Bytes, World

CAREFUL = ProbedFacts(metadata=True)
CHECKED = ProbedFacts(
    conditional_create=True, conditional_replace=True, conditional_delete=True, metadata=True
)
LARGE = 2 * SMALL_LIMITS.single_put + 1
"""Three parts, with those limits."""
NO_SUCH = S3Server("none", f"http://127.0.0.1:{free_port()}")


def patient(store: S3Store) -> RetryingStore:
    return RetryingStore(store, clock=FakeClock(), rng=random.Random(0))


def first(method: str, part: str, fault: object) -> Script:
    """Return a script with one fault: for the first request of a method with `part` in its target."""
    return failing(method, part, [fault])


def content_of(store: RetryingStore, path: str) -> bytes:
    with store.read(path) as reader:
        return b"".join(reader)


@pytest.mark.parametrize("facts", [CAREFUL, CHECKED], ids=["looking before", "conditional"])
@pytest.mark.parametrize("path", ["plain", "tab\tname"])
@pytest.mark.parametrize("loss", [Drop(), Drop(reset=True)], ids=["closed", "reset"])
def test_write_with_lost_response_succeeds(
    plain_server: S3Server, open_s3: OpenS3, facts: ProbedFacts, path: str, loss: Drop
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=facts))
        name = "name" if "\t" in path else "plain"
        proxy.script = first("PUT", name, loss)
        created = store.write(path, Bytes(b"one"), expect=ABSENT, operation="op-1")
        assert (created.operation, content_of(store, path)) == ("op-1", b"one")
        proxy.script = first("PUT", name, loss)
        replaced = store.write(
            path, Bytes(b"two"), expect=created, operation="op-2", trash_stamp="k"
        )
        assert (replaced.operation, content_of(store, path)) == ("op-2", b"two")
        assert content_of(store, f"{OWN_FOLDER}/trash/k/{path}") == b"one"
        puts = [
            r
            for r in proxy.requests
            if r.method == "PUT" and "copy-source" not in str(r.headers).lower()
        ]
        assert len(puts) == 2


def test_write_with_lost_response_never_trashes_itself(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CAREFUL))
        store.write("object", Bytes(b"old"), expect=ABSENT, operation="op-1")
        proxy.script = first("PUT", "es/object", Drop())
        store.write("object", Bytes(b"new"), expect=None, operation="op-2", trash_stamp="k")
        assert content_of(store, f"{OWN_FOLDER}/trash/k/object") == b"old"


def kept_copies(store: RetryingStore) -> list[str]:
    return [entry.path for entry in store.list(f"{OWN_FOLDER}/trash/")]


def changing(method: str, path: str, fault: Answer | Drop) -> Script:
    """Return a script with a fault for every request that would change one object, but for copies of it."""

    def script(request: Request) -> Answer | Drop | None:
        copies = "x-amz-copy-source" in {name.lower() for name in request.headers}
        hit = request.method == method and request.target.endswith(path) and not copies
        return fault if hit and "/trash/" not in request.target else None

    return script


@pytest.mark.parametrize("facts", [CAREFUL, CHECKED], ids=["looking before", "conditional"])
@pytest.mark.parametrize(
    "answer",
    [error(412, "PreconditionFailed"), error(403, "AccessDenied"), error(503, "SlowDown")],
    ids=["412", "403", "503"],
)
def test_failed_replacement_leaves_no_copy_in_the_trash(
    plain_server: S3Server, open_s3: OpenS3, facts: ProbedFacts, answer: Answer
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=facts))
        first = store.write("object", Bytes(b"one"), expect=None, operation="op-1")
        proxy.script = changing("PUT", "/object", answer)
        with pytest.raises(StoreError):
            store.write("object", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")
        assert kept_copies(store) == []
        assert content_of(store, "object") == b"one"


@pytest.mark.parametrize("facts", [CAREFUL, CHECKED], ids=["looking before", "conditional"])
def test_delete_without_a_kept_copy_deletes_nothing_and_raises(
    plain_server: S3Server, open_s3: OpenS3, facts: ProbedFacts
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=facts))
        written = store.write("object", Bytes(b"one"), expect=None, operation="op-1")
        proxy.script = first("PUT", "trash", error(404, "NoSuchKey"))
        with pytest.raises(PathError, match="object was not deleted"):
            store.delete("object", expect=written, trash_stamp="k")
        assert content_of(store, "object") == b"one"


def test_failed_delete_leaves_no_copy_in_the_trash(plain_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        first = store.write("object", Bytes(b"one"), expect=None, operation="op-1")
        proxy.script = changing("DELETE", "/object", error(403, "AccessDenied"))
        with pytest.raises(StoreError):
            store.delete("object", expect=first, trash_stamp="k")
        assert kept_copies(store) == []


def test_kept_copy_stays_while_the_replacement_is_in_doubt(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        first = store.write("object", Bytes(b"one"), expect=None, operation="op-1")
        for fault in (Drop(delivered=False), error(403, "AccessDenied")):
            proxy.script = changing("PUT", "/object", fault)
            with pytest.raises(StoreError):
                store.write(
                    "object", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k"
                )
            assert kept_copies(store) == [f"{OWN_FOLDER}/trash/k/object"]


def test_kept_copy_stays_when_another_program_changed_the_object(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    theirs = open_s3(plain_server, facts=CHECKED)

    def overtaken(request: Request) -> None:
        if request.method == "PUT" and request.target.endswith("es/object"):
            theirs.write("object", Bytes(b"theirs"), expect=None, operation="theirs")

    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        first = store.write("object", Bytes(b"one"), expect=None, operation="op-1")
        proxy.script = overtaken
        with pytest.raises(PreconditionFailed):
            store.write("object", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")
        assert content_of(store, f"{OWN_FOLDER}/trash/k/object") == b"one"


def test_a_write_that_never_arrived_is_sent_again(plain_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(plain_server, first("PUT", "object", Drop(delivered=False))) as (server, _):
        store = patient(open_s3(server, facts=CHECKED))
        store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        assert content_of(store, "object") == b"one"


PORTAL = Answer(200, b"<html>please log in</html>", (("Content-Type", "text/html"),))


def without_etag(answer: Answer) -> Answer:
    body = re.sub(rb"<ETag>.*?</ETag>", b"", answer.body)
    headers = tuple(pair for pair in answer.headers if pair[0].lower() != "etag")
    return answer._replace(body=body, headers=headers)


@pytest.mark.parametrize("size", [3, LARGE], ids=["small", "in parts"])
def test_upload_answered_by_a_login_page_fails(
    plain_server: S3Server, open_s3: OpenS3, size: int
) -> None:
    facts = ProbedFacts(conditional_create=True, metadata=True)
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=facts, limits=SMALL_LIMITS))
        proxy.script = lambda request: PORTAL if request.method in ("PUT", "POST") else None
        with pytest.raises(StoreUnavailable, match="reported success"):
            store.write("object", Bytes(bytes(size)), expect=ABSENT, operation="op-1")
        assert store.stat("object") is None


def test_login_page_is_not_taken_for_an_object(plain_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(plain_server, lambda _: PORTAL) as (server, _):
        store = patient(open_s3(server, facts=CHECKED))
        with pytest.raises(StoreUnavailable, match="reported success"):
            store.stat("object")
        with pytest.raises(StoreUnavailable, match="reported success"), store.read("object"):
            pass


@pytest.mark.parametrize("size", [3, LARGE], ids=["small", "in parts"])
def test_upload_without_etag_in_the_response_is_settled_by_stat(
    plain_server: S3Server, open_s3: OpenS3, size: int
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED, limits=SMALL_LIMITS))

        def script(request: Request) -> object:
            part = "partNumber" in request.target
            return without_etag if request.method in ("PUT", "POST") and not part else None

        proxy.script = script  # type: ignore[assignment]
        written = store.write("object", Bytes(bytes(size)), expect=ABSENT, operation="op-1")
        assert written == store.stat("object") and written.operation == "op-1"


def test_login_page_as_copy_response_replaces_nothing(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        first = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        proxy.script = lambda request: PORTAL if "/trash/" in request.target else None
        with pytest.raises(StoreUnavailable):
            store.write("object", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")
        with pytest.raises(StoreUnavailable):
            store.delete("object", expect=first, trash_stamp="k")
        assert content_of(store, "object") == b"one"


@pytest.mark.parametrize("facts", [CAREFUL, CHECKED], ids=["looking before", "conditional"])
def test_listing_without_etags_protects_objects_changed_since(
    plain_server: S3Server, open_s3: OpenS3, facts: ProbedFacts
) -> None:
    with proxied(plain_server, lambda _: without_etag) as (server, proxy):
        store = patient(open_s3(server, facts=facts))
        theirs = open_s3(plain_server, facts=CHECKED)
        theirs.write("object", Bytes(b"one"), expect=None, operation="theirs-1")
        [listed] = store.list()
        assert isinstance(listed, RemoteObject) and listed.version is None
        proxy.script = lambda _: None
        theirs.write("object", Bytes(b"longer"), expect=None, operation="theirs-2")
        with pytest.raises(PreconditionFailed):
            store.write("object", Bytes(b"mine"), expect=listed, operation="op", trash_stamp="k")
        with pytest.raises(PreconditionFailed):
            store.delete("object", expect=listed)
        assert content_of(store, "object") == b"longer"


def test_change_after_the_stat_for_a_missing_etag_is_not_overwritten(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    theirs = open_s3(plain_server, facts=CHECKED)

    def overtaken(request: Request) -> None:
        if request.method in ("PUT", "DELETE"):
            theirs.write(
                "object", Bytes(request.method.encode()), expect=None, operation="theirs-2"
            )

    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        first = theirs.write("object", Bytes(b"one"), expect=None, operation="theirs-1")
        listed = first._replace(modified_ns=store.stat("object").modified_ns, version=None)  # type: ignore[union-attr]
        proxy.script = overtaken
        with pytest.raises(PreconditionFailed):
            store.write("object", Bytes(b"mine"), expect=listed, operation="op")
        listed = listed._replace(modified_ns=store.stat("object").modified_ns)  # type: ignore[union-attr]
        with pytest.raises(PreconditionFailed):
            store.delete("object", expect=listed)


def test_another_programs_object_is_not_taken_for_the_lost_write(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    theirs = open_s3(plain_server, facts=CHECKED)

    def overtaken(request: Request) -> Drop:
        theirs.write("object", Bytes(b"theirs"), expect=ABSENT, operation="theirs")
        return Drop(delivered=False)

    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        once = first("PUT", "object", True)
        proxy.script = lambda request: overtaken(request) if once(request) else None
        with pytest.raises(PreconditionFailed):
            store.write("object", Bytes(b"mine"), expect=ABSENT, operation="mine")
        assert content_of(store, "object") == b"theirs"


@pytest.mark.parametrize("facts", [CAREFUL, CHECKED], ids=["looking before", "conditional"])
@pytest.mark.parametrize("keep", [None, "k"])
def test_delete_with_lost_response_succeeds(
    plain_server: S3Server, open_s3: OpenS3, facts: ProbedFacts, keep: str | None
) -> None:
    with proxied(plain_server, first("DELETE", "object", Drop())) as (server, _):
        store = patient(open_s3(server, facts=facts))
        written = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        store.delete("object", expect=written, trash_stamp=keep)
        assert store.stat("object") is None


@pytest.mark.parametrize("facts", [CAREFUL, CHECKED], ids=["looking before", "conditional"])
@pytest.mark.parametrize("answer", [PORTAL, error(404, "NoSuchKey")], ids=["200", "404"])
def test_delete_answered_by_another_server_deleted_nothing(
    plain_server: S3Server, open_s3: OpenS3, facts: ProbedFacts, answer: Answer
) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=facts))
        written = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        proxy.script = lambda request: answer if request.method == "DELETE" else None
        with pytest.raises(StoreUnavailable, match="reported success"):
            store.delete("object", expect=written)
        assert content_of(store, "object") == b"one"


def test_delete_answered_with_200_by_the_store_succeeds(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def with_200(answer: Answer) -> Answer:
        return answer._replace(status=200)

    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = patient(open_s3(server, facts=CHECKED))
        written = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        proxy.script = lambda request: with_200 if request.method == "DELETE" else None
        store.delete("object", expect=written)
        assert store.stat("object") is None


def test_copy_with_lost_response_succeeds(plain_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(plain_server, first("PUT", "target", Drop())) as (server, _):
        store = patient(open_s3(server, facts=CHECKED))
        source = store.write("source", Bytes(b"one"), expect=ABSENT, operation="op-1")
        copied = store.copy(source, "target", expect=ABSENT, operation="op-2")
        assert (copied.path, copied.operation) == ("target", "op-2")


def test_large_write_with_lost_completion_response_succeeds(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    facts = ProbedFacts(conditional_complete_create=True, metadata=True)
    with proxied(plain_server, first("POST", "uploadId", Drop())) as (server, proxy):
        store = patient(open_s3(server, facts=facts, limits=SMALL_LIMITS))
        written = store.write("object", Bytes(bytes(LARGE)), expect=ABSENT, operation="op-1")
        assert (written.size, written.operation) == (LARGE, "op-1")
        assert sum("partNumber" in r.target for r in proxy.requests) == 3


def test_throttled_stat_after_a_large_write_does_not_repeat_it(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    facts = ProbedFacts(conditional_complete_create=True, metadata=True)
    turned_away = first("HEAD", "object", error(503, "SlowDown"))
    with proxied(plain_server, turned_away) as (server, proxy):
        store = patient(open_s3(server, facts=facts, limits=SMALL_LIMITS))
        written = store.write("object", Bytes(bytes(LARGE)), expect=ABSENT, operation="op-1")
        assert (written.size, written.operation) == (LARGE, "op-1")
        assert sum("partNumber" in r.target for r in proxy.requests) == 3


@pytest.mark.parametrize("status", [(503, "SlowDown"), (500, "InternalError"), (429, "")])
def test_long_throttling_is_waited_out(
    plain_server: S3Server, open_s3: OpenS3, status: tuple[int, str]
) -> None:
    turns: dict[str, int] = {}

    def stormy(request: Request) -> Answer | None:
        turn = turns[request.method] = turns.get(request.method, 0) + 1
        return error(*status) if turn % 4 else None

    with proxied(plain_server, stormy) as (server, _):
        store = patient(open_s3(server, facts=CHECKED))
        written = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        assert [entry.path for entry in store.list()] == ["object"]
        assert content_of(store, "object") == b"one"
        store.delete("object", expect=written)
        assert store.stat("object") is None


def test_retry_wait_respects_the_servers_minimum(plain_server: S3Server, open_s3: OpenS3) -> None:
    clock = FakeClock()
    fault = error(503, "SlowDown", ("Retry-After", "7"))
    with proxied(plain_server, first("GET", "list-type", fault)) as (server, _):
        store = RetryingStore(open_s3(server, facts=CAREFUL), clock=clock)
        assert list(store.list()) == []
    assert len(clock.slept) == 1 and clock.slept[0] >= 7


def test_retries_end_after_their_limit(open_s3: OpenS3) -> None:
    clock = FakeClock()
    with scripted(lambda _: error(503, "SlowDown")) as (server, proxy):
        store = RetryingStore(open_s3(server, facts=CAREFUL), clock=clock, attempts=4)
        with pytest.raises(StoreUnavailable):
            store.stat("object")
        assert (len(proxy.requests), len(clock.slept)) == (4, 3)
        hurried = RetryingStore(
            open_s3(server, facts=CAREFUL), clock=clock, attempts=1_000, deadline_seconds=60
        )
        began = clock.monotonic()
        with pytest.raises(StoreUnavailable):
            hurried.stat("object")
        assert clock.monotonic() - began <= 60


def test_truncated_download_raises(plain_server: S3Server, open_s3: OpenS3) -> None:
    def cut(answer: Answer) -> Answer:
        return answer._replace(cut=max(0, len(answer.body) - 1))

    for path, size in [("small", 10), ("large", 3 * 1024 * 1024)]:
        with proxied(plain_server, lambda _: None) as (server, proxy):
            store = open_s3(server, facts=CAREFUL)
            store.write(path, Bytes(bytes(size)), expect=None, operation="op")
            proxy.script = lambda request: cut if request.method == "GET" else None
            with pytest.raises(StoreUnavailable), store.read(path) as reader:
                for _ in reader:
                    pass


def test_range_response_with_wrong_bytes_is_detected(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def whole(request: Request) -> Answer | None:
        return Answer(200, b"0123456789", (("ETag", '"e"'),)) if request.method == "GET" else None

    def elsewhere(request: Request) -> Answer | None:
        headers = (("ETag", '"e"'), ("Content-Range", "bytes 3-5/10"))
        return Answer(206, b"345", headers) if request.method == "GET" else None

    for lie in (whole, elsewhere):
        with proxied(plain_server, lie) as (server, _):
            store = open_s3(server, facts=CAREFUL)
            with pytest.raises(StoreError), store.read("object", offset=2, length=3) as reader:
                list(reader)


MD5_ETAGS = ProbedFacts(
    conditional_create=True, conditional_replace=True, md5_versions=True, metadata=True
)


def changed_uploads(request: Request) -> Forward | None:
    """Store other bytes of the same length than were sent."""
    if request.method != "PUT" or not request.body:
        return None
    return Forward(request._replace(body=bytes(len(request.body))))


def test_upload_with_non_md5_etag_is_read_back_and_kept(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def other_etag(answer: Answer) -> Answer:
        return answer._replace(headers=(("ETag", f'"{"0" * 32}"'),))

    with proxied(plain_server, lambda r: other_etag if r.method == "PUT" else None) as (server, _):
        store = open_s3(server, facts=replace(MD5_ETAGS, read_form=Form.NONE))
        store.write("object", Bytes(b"content"), expect=ABSENT, operation="op")
        assert content_of(patient(store), "object") == b"content"
        assert not store.features.md5_versions


@pytest.mark.parametrize("checksum", ["digest", "md5"])
@pytest.mark.parametrize("times", [1, 2, 9])
def test_identity_file_that_arrives_damaged_is_read_again_once(
    plain_server: S3Server, open_s3: OpenS3, tmp_path: Path, checksum: str, times: int
) -> None:
    """Different wrong bytes are a fault of the network; the same ones twice, of the file."""
    damaging: list[int] = []

    def flipped(answer: Answer) -> Answer:
        at = 0 if times == 9 else len(damaging)
        body = bytearray(answer.body)
        body[at] ^= 1
        return answer._replace(body=bytes(body))

    def script(request: Request) -> Callable[[Answer], Answer] | None:
        is_met = damaging and request.method == "GET" and "store-id" in request.target
        return flipped if is_met and damaging.pop() else None

    facts = CHECKED if checksum == "digest" else replace(MD5_ETAGS, metadata=False)
    with proxied(plain_server, script) as (server, _):
        world = World(tmp_path, patient(open_s3(server, facts=facts)))
        world.write("a", "here")
        world.run()
        damaging.extend([1] * times)
        if times == 1:
            assert world.run().exit_code == 0
        else:
            kind = StoreUnavailable if times == 2 else StoreChanged
            with pytest.raises(kind, match="store-id") as raised:
                world.run()
            assert ("craftsync forget" in raised.value.remedy) == (times == 9)
        damaging.clear()
        assert world.run().exit_code == 0


def test_wrongly_stored_object_is_replaced_and_reported_but_never_deleted(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    damaging: list[Script] = [changed_uploads, changed_uploads, changed_uploads, changed_uploads]

    def script(request: Request) -> object:
        if request.method == "PUT" and damaging:
            return damaging.pop()(request._replace(headers=without_md5(request)))
        return None

    with proxied(moto_server, script) as (server, proxy):  # type: ignore[arg-type]
        store = open_s3(server, facts=MD5_ETAGS)
        with pytest.raises(ContentDamaged):
            store.write("object", Bytes(b"content"), expect=ABSENT, operation="op")
        assert not any(request.method == "DELETE" for request in proxy.requests)
        assert store.features.md5_versions
        store.write("object", Bytes(b"content"), expect=None, operation="op")
        assert content_of(patient(store), "object") == b"content"
        assert not damaging


@pytest.mark.parametrize("kind", ["plain", "object-lock", "no-etags"])
def test_part_damaged_in_transit_is_refused_and_sent_again(kind: str, open_s3: OpenS3) -> None:
    personality = replace(PERSONALITIES[kind], smallest_part=1)
    with fake_s3(personality, BUCKET) as (behind, _):
        refuses_a_damaged_part(behind, open_s3)


def test_damaged_part_is_refused_by_servers_that_ignore_its_sha256(
    rclone_server: S3Server, open_s3: OpenS3
) -> None:
    refuses_a_damaged_part(rclone_server, open_s3)


def refuses_a_damaged_part(behind: S3Server, open_s3: OpenS3) -> None:
    with proxied(behind, lambda _: None) as (server, proxy):
        store = open_s3(server, facts=CAREFUL, limits=SMALL_LIMITS)
        store.prepare(None)
        damaged = []

        def script(request: Request) -> Forward | None:
            if damaged or request.method != "PUT" or "partNumber" not in request.target:
                return None
            damaged.append(request)
            return changed_uploads(request)

        proxy.script = script
        content = random.Random(7).randbytes(LARGE)
        patient(store).write("large", Bytes(content), expect=ABSENT, operation="op")
        assert damaged
        assert content_of(patient(store), "large") == content


def test_part_carries_one_digest_where_the_server_checks_it(open_s3: OpenS3) -> None:
    with fake_s3(replace(PERSONALITIES["plain"], smallest_part=1), BUCKET) as (server, fake):
        store = open_s3(server, facts=CAREFUL, limits=SMALL_LIMITS)
        store.prepare(None)
        fake.requests.clear()
        store.write("large", Bytes(bytes(LARGE)), expect=ABSENT, operation="op")
        parts = [request for request in fake.requests if "partNumber" in request.target]
        assert parts
        assert not any("content-md5" in map(str.lower, part.headers) for part in parts)


def without_md5(request: Request) -> dict[str, str]:
    return {n: v for n, v in request.headers.items() if n.lower() != "content-md5"}


def changed_download(answer: Answer) -> Answer:
    return answer._replace(body=bytes(len(answer.body)))


def test_download_with_wrong_md5_raises(plain_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = open_s3(server, facts=MD5_ETAGS)
        store.calls.put(f"{store.root}object", b"content", {}, None)
        proxy.script = lambda request: (
            changed_download if request.target.endswith("/object") else None
        )
        arrived: list[bytes] = []
        with pytest.raises(ContentDamaged), store.read("object") as reader:
            arrived.extend(reader)
        assert arrived == []
        assert store.features.md5_versions


def test_download_is_accepted_once_etags_are_no_longer_md5(
    open_s3: OpenS3,
) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        store = open_s3(server, facts=MD5_ETAGS)
        fake.personality = replace(fake.personality, etags="random")
        fake_put(store, "object", b"content")
        assert content_of(patient(store), "object") == b"content"
        assert not store.features.md5_versions


@pytest.mark.parametrize("encryption", ["aws:kms", "aws:kms:dsse"])
def test_bucket_that_becomes_encrypted_still_transfers_both_ways(
    open_s3: OpenS3, encryption: str
) -> None:
    with fake_s3("plain", BUCKET) as (server, fake):
        store = open_s3(server, facts=MD5_ETAGS)
        first = store.write("object", Bytes(b"one"), expect=ABSENT, operation="op-1")
        fake.personality = replace(PERSONALITIES["kms"], encryption=encryption)
        second = store.write("object", Bytes(b"two"), expect=first, operation="op-2")
        assert first.md5 is not None and second.md5 is None
        fake_put(store, "theirs", b"content")
        gets = len(fake.requests)
        assert content_of(patient(store), "theirs") == b"content"
        assert len(fake.requests) == gets + 1
        assert store.features.md5_versions, "older objects still have theirs"


def fake_put(store: S3Store, path: str, content: bytes) -> None:
    """Store an object as another program does, without notes."""
    store.calls.put(store.root + path, content, {}, None)


def test_unreachable_server_is_unavailable_without_ambiguity(open_s3: OpenS3) -> None:
    store = open_s3(NO_SUCH, facts=CAREFUL)
    actions: list[Callable[[], object]] = [
        lambda: store.stat("a"),
        lambda: list(store.list()),
        lambda: store.write("a", Bytes(b""), expect=None, operation="op"),
    ]
    for action in actions:
        with pytest.raises(StoreUnavailable) as failure:
            action()
        assert not failure.value.ambiguous


REFUSALS = [
    (error(404, "NoSuchBucket"), StoreMissing),
    (error(403, "AccessDenied"), StoreDenied),
    (error(403, "InvalidAccessKeyId"), StoreDenied),
    (error(403, "SignatureDoesNotMatch"), StoreDenied),
    (error(400, "ExpiredToken"), StoreDenied),
    (error(403, "RequestTimeTooSkewed"), StoreDenied),
    (error(401, ""), StoreDenied),
    (error(403, "InvalidObjectState"), PathError),
    (error(403, "ObjectNotInActiveTierError"), PathError),
    (error(400, "InvalidStorageClass"), StoreError),
    (error(400, "EntityTooLarge"), StoreFull),
    (error(507, ""), StoreFull),
    (error(400, "RequestTimeout"), StoreUnavailable),
    (error(503, "SlowDown"), StoreUnavailable),
    (error(502, ""), StoreUnavailable),
    (Answer(502, b"<html>Bad gateway</html>"), StoreUnavailable),
    (error(409, "ConditionalRequestConflict"), StoreUnavailable),
    (error(412, "PreconditionFailed"), PreconditionFailed),
    (error(404, "NoSuchKey"), ObjectRefused),
    (error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")), StoreError),
    (error(302, ""), StoreError),
    (error(501, "NotImplemented"), NotSupported),
    (error(400, "InvalidArgument"), StoreError),
]


@pytest.mark.parametrize(("answer", "kind"), REFUSALS, ids=lambda value: str(value)[:60])
def test_refused_write_explains_its_reason(
    open_s3: OpenS3, answer: Answer, kind: type[CraftsyncError]
) -> None:
    with scripted(lambda _: answer) as (server, _):
        store = open_s3(server, facts=CHECKED)
        with pytest.raises(CraftsyncError) as refused:
            store.write("a", Bytes(b"x"), expect=ABSENT, operation="op")
    assert isinstance(refused.value, kind)
    assert kind is not StoreError or type(refused.value) is StoreError
    message = str(refused.value)
    assert message.endswith(".") and "\n" not in message
    assert not any(word in message for word in ("Debug", "Retry", "{", "<"))
    assert ("clock" in refused.value.remedy) == (b"TooSkewed" in answer.body)
    assert ("login page" in refused.value.remedy) == (answer.status == 302)


def test_wrong_region_error_names_the_right_one(open_s3: OpenS3) -> None:
    answer = error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3"))
    with scripted(lambda _: answer) as (server, _), pytest.raises(StoreError) as refused:
        list(open_s3(server, facts=CAREFUL).list())
    assert "eu-west-3" in refused.value.remedy


def test_copy_with_error_under_status_200_fails(plain_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(plain_server, lambda _: None) as (server, proxy):
        store = open_s3(server, facts=CHECKED)
        source = store.write("source", Bytes(b"x"), expect=None, operation="op")
        proxy.script = first("PUT", "target", error(200, "InternalError"))
        with pytest.raises(StoreUnavailable, match="InternalError"):
            store.copy(source, "target", expect=ABSENT, operation="op")


def test_connections_closed_by_the_server_are_not_reused(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def closing(answer: Answer) -> Answer:
        return answer._replace(cut=len(answer.body))

    with proxied(plain_server, lambda _: closing) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        for _ in range(3):
            assert list(store.list()) == []
            for connection in store._wire.host.idle:
                until(lambda: not connection.has_no_data(), "the end of the connection")  # noqa: B023


def test_recent_listing_saves_the_stat_before_a_create(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    clock = FakeClock()
    with proxied(plain_server, lambda _: None) as (server, proxy):
        limits = Limits(fresh_listing_seconds=2.0, single_put=1)
        store = open_s3(server, facts=CAREFUL, clock=clock, limits=limits)

        def looks() -> int:
            return sum(request.method == "HEAD" for request in proxy.requests)

        def create(path: str) -> None:
            store.write(path, Bytes(b"x"), expect=ABSENT, operation="op")

        create("a")
        assert looks() == 1
        list(store.list("dir/"))
        create("b")
        assert looks() == 2
        list(store.list())
        create("c")
        assert looks() == 2
        open_s3(plain_server, facts=CAREFUL).write("d", Bytes(b""), expect=None, operation="theirs")
        clock.advance(2.5)
        with pytest.raises(PreconditionFailed):
            create("d")
        proxy.requests.clear()
        create("e")
        create("f")
        # It is listed again, and the end of that listing is confirmed.
        assert [request.method for request in proxy.requests] == ["GET", "GET", "PUT", "PUT"]
        clock.advance(2.5)
        proxy.requests.clear()
        for path in "gh":
            store.write(path, Bytes(b"in parts"), expect=ABSENT, operation="op")
        assert "GET" not in {request.method for request in proxy.requests}
