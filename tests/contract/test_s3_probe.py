"""What probing finds out about servers, and what it leaves behind."""

from __future__ import annotations

import itertools
import json
import threading
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from hashlib import md5, sha256
from typing import NoReturn

import pytest

from craftsync.core.model import OWN_FOLDER
from craftsync.errors import PreconditionFailed, StoreUnavailable
from craftsync.net.hosts import Host
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import ProbedFacts, S3Store, probe
from craftsync.stores.s3.objects import Digests, Form
from tests.contract.conftest import BUCKET, OpenS3
from tests.support.clock import FakeClock
from tests.support.fake_s3 import Answer, Drop, Forward, Proxy, Request, error, proxied
from tests.support.s3 import PERSONALITIES, FakeS3, served
from tests.support.servers import S3Server
from tests.support.world import Bytes

CAREFUL = ProbedFacts()
CONDITIONS = ("if-match", "if-none-match")


def conditional(request: Request) -> bool:
    return any(name.lower() in CONDITIONS for name in request.headers)


def test_moto_checks_all_conditions_but_two(moto_server: S3Server, open_s3: OpenS3) -> None:
    assert probe(open_s3(moto_server, facts=CAREFUL)) == ProbedFacts(
        conditional_create=True,
        conditional_replace=True,
        conditional_delete=True,
        conditional_complete_create=True,
        complete_form=Form.NONE,
        server_side_copy=True,
        md5_versions=True,
        completed_versions=True,
        metadata=True,
    )


def test_rclone_accepts_all_conditions_and_checks_none(
    rclone_server: S3Server, open_s3: OpenS3
) -> None:
    assert probe(open_s3(rclone_server, facts=CAREFUL)) == ProbedFacts(
        replace_form=Form.NONE,
        complete_form=Form.NONE,
        delete_form=Form.NONE,
        server_side_copy=True,
        md5_versions=True,
        part_digests=Digests.MD5,
        metadata=True,
        folders=True,
    )


def test_probe_leaves_nothing_and_takes_few_requests(s3_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(s3_server, lambda _: None) as (server, proxy):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert len(proxy.requests) <= 34
        assert all(f"/{OWN_FOLDER}/probe/" in r.target for r in proxy.requests if r.method == "PUT")
        assert list(store.list(f"{OWN_FOLDER}/")) == []


def test_probe_sends_damaged_parts_to_an_upload_of_their_own(
    s3_server: S3Server, open_s3: OpenS3
) -> None:
    with proxied(s3_server, lambda _: None) as (server, proxy):
        probe(open_s3(server, facts=CAREFUL))
    uploads: dict[bool, set[str]] = {True: set(), False: set()}
    for request in proxy.requests:
        if request.method == "PUT" and "partNumber=" in request.target:
            uploads[_is_damaged(request)].add(request.target)
    assert uploads[True]
    assert uploads[False]
    assert uploads[True].isdisjoint(uploads[False])


def _is_damaged(request: Request) -> bool:
    right = b64encode(md5(b"craftsync").digest()).decode()
    digest = sha256(b"craftsync").hexdigest()
    named = {name.lower(): value for name, value in request.headers.items()}
    return named.get("content-md5", right) != right or named["x-amz-content-sha256"] not in (
        digest,
        "UNSIGNED-PAYLOAD",
    )


@pytest.mark.parametrize("status", [501, 404, 200])
def test_probe_cleans_up_without_multi_object_delete(
    plain_server: S3Server, open_s3: OpenS3, status: int
) -> None:
    def script(request: Request) -> Answer | None:
        return (
            error(status, "NotImplemented")
            if request.method == "POST" and "delete" in request.target
            else None
        )

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert list(store.list(f"{OWN_FOLDER}/")) == []


def test_probe_cleans_up_although_first_deletes_fail(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    refused: set[str] = set()

    def script(request: Request) -> Answer | None:
        removal = request.method == "DELETE" or request.target.endswith("?delete=")
        removal = removal and not conditional(request)
        if not removal or request.target in refused:
            return None
        refused.add(request.target)
        return error(503, "SlowDown")

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert list(store.list(f"{OWN_FOLDER}/")) == []
    assert len(refused) > 1


@pytest.mark.parametrize("failing", range(14))
def test_failed_probe_leaves_nothing(plain_server: S3Server, open_s3: OpenS3, failing: int) -> None:
    changes: list[str] = []

    def script(request: Request) -> Drop | None:
        if request.method not in ("PUT", "POST") or request.target.endswith("?delete="):
            return None
        changes.append(request.target)
        return Drop() if len(changes) == failing + 1 else None

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        with suppress(StoreUnavailable):
            probe(store)
        assert list(store.list(f"{OWN_FOLDER}/")) == []
    assert len(changes) > failing


def removals(proxy: Proxy) -> list[Request]:
    return [r for r in proxy.requests if r.method == "DELETE" or "?delete" in r.target]


def test_probe_removes_nothing_where_nothing_was_accepted(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    busy = proxied(plain_server, lambda _: error(503, "SlowDown"))
    with busy as (server, proxy), pytest.raises(StoreUnavailable):
        probe(open_s3(server, facts=CAREFUL))
    assert removals(proxy) == []


@pytest.mark.parametrize("answered", [0, 1, 5])
def test_probe_of_a_store_that_stops_answering_gives_up_removing(
    plain_server: S3Server, open_s3: OpenS3, answered: int
) -> None:
    puts = itertools.count()
    stopped = threading.Event()
    clock = FakeClock()

    def script(request: Request) -> Drop | None:
        if request.method == "PUT" and next(puts) >= answered:
            stopped.set()
        if not stopped.is_set():
            return None
        clock.sleep(60)
        return Drop()

    with proxied(plain_server, script) as (server, proxy), pytest.raises(StoreUnavailable):
        probe(open_s3(server, facts=CAREFUL, clock=clock))
    assert len(removals(proxy)) <= 2


def test_probe_of_a_store_that_never_answers_waits_briefly_to_remove(
    plain_server: S3Server, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt may have put the first object, so each tries to remove it."""
    clock = FakeClock()
    waits: list[tuple[str, float]] = []

    def say_nothing(
        _: Host, method: str, target: str, headers: object, body: object, timeout: float
    ) -> NoReturn:
        if method in ("PUT", "DELETE") or "?delete" in target:
            waits.append(("put" if method == "PUT" else "remove", timeout))
            clock.sleep(timeout)
        raise TimeoutError(f"no data for {timeout:.0f} seconds")

    monkeypatch.setattr(Host, "request", say_nothing)
    store = open_s3(plain_server, facts=CAREFUL, clock=clock)
    with pytest.raises(StoreUnavailable):
        RetryingStore(store, clock=clock).prepare(None)
    assert waits == [("put", 60.0), ("remove", 10.0)] * 6


def test_probe_removes_the_others_where_one_object_cannot_be_removed(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        if "delete" in request.target:
            return error(404, "")
        is_busy = request.method == "DELETE" and request.target.endswith("/pq")
        return error(409, "OperationAborted") if is_busy else None

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert [each.path[-3:] for each in store.list(f"{OWN_FOLDER}/")] == ["/pq"]


def test_read_only_bucket_gets_the_most_careful_facts(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        return None if request.method == "GET" else error(403, "AccessDenied")

    with proxied(plain_server, script) as (server, proxy):
        assert probe(open_s3(server, facts=CAREFUL)) == CAREFUL
    assert removals(proxy) == []


def test_server_without_conditions_is_sent_none(plain_server: S3Server, open_s3: OpenS3) -> None:
    def script(request: Request) -> Answer | None:
        return error(501, "NotImplemented") if conditional(request) else None

    with proxied(plain_server, script) as (server, _):
        facts = probe(open_s3(server, facts=CAREFUL))
    assert not facts.conditional_create and not facts.conditional_replace
    assert not facts.conditional_delete and not facts.conditional_complete_create
    assert facts.server_side_copy


def test_server_that_answers_200_to_unknown_requests_gets_no_multipart(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        return Answer() if "uploads" in request.query else None

    with proxied(plain_server, script) as (server, _):
        facts = probe(open_s3(server, facts=CAREFUL))
    assert facts.conditional_create and facts.server_side_copy
    assert not facts.conditional_complete_create and not facts.conditional_complete_replace


def test_transient_failure_proves_no_fact(plain_server: S3Server, open_s3: OpenS3) -> None:
    def script(request: Request) -> Answer | None:
        return error(503, "SlowDown") if conditional(request) else None

    with proxied(plain_server, script) as (server, _), pytest.raises(StoreUnavailable):
        probe(open_s3(server, facts=CAREFUL, clock=FakeClock()))


def test_throttling_store_is_probed_like_any_other(plain_server: S3Server, open_s3: OpenS3) -> None:
    facts = probe(open_s3(plain_server, facts=CAREFUL))
    numbers = itertools.count()

    def script(request: Request) -> Answer | None:
        return error(503, "SlowDown") if next(numbers) % 5 == 4 else None

    with proxied(plain_server, script) as (server, _):
        store = RetryingStore(open_s3(server, facts=CAREFUL, clock=FakeClock()), clock=FakeClock())
        assert ProbedFacts.from_json(store.prepare(None) or "") == facts


def plain_only(request: Request) -> Answer | Forward | None:
    """Refuse every version in quotes, as Ceph 16 does for a PUT, and honour the plain ones."""
    tag = next((v for name, v in request.headers.items() if name.lower() == "if-match"), None)
    if tag is None or request.method == "GET":
        return None
    if tag.startswith('"'):
        return error(412, "PreconditionFailed")
    quoted = {n: f'"{v}"' if n.lower() == "if-match" else v for n, v in request.headers.items()}
    return Forward(request._replace(headers=quoted))


def test_server_that_compares_quotes_gets_unquoted_versions(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    with proxied(moto_server, plain_only) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        facts = probe(store)
        assert facts.conditional_replace and facts.conditional_delete
        assert (facts.replace_form, facts.delete_form) == (Form.PLAIN, Form.PLAIN)
        store.learn(facts)
        first = store.write("a", Bytes(b"one"), expect=None, operation="op-1")
        second = store.write("a", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")
        with pytest.raises(PreconditionFailed):
            store.write("a", Bytes(b"three"), expect=first, operation="op-3")
        with pytest.raises(PreconditionFailed):
            store.delete("a", expect=first)
        store.delete("a", expect=second)
        assert store.stat("a") is None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_server_that_refuses_every_version_form_gets_none(
    plain_server: S3Server, open_s3: OpenS3, method: str
) -> None:
    def script(request: Request) -> Answer | None:
        sent = "If-Match" in {name.title() for name in request.headers}
        return error(412, "PreconditionFailed") if sent and request.method == method else None

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        facts = probe(store)
        assert (facts.conditional_replace, facts.conditional_delete) == (
            method != "PUT",
            method != "DELETE",
        )
        store.learn(facts)
        first = store.write("a", Bytes(b"one"), expect=None, operation="op-1")
        second = store.write("a", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")
        store.delete("a", expect=second, trash_stamp="k2")
        assert store.stat("a") is None


def test_server_that_refuses_valid_creates_has_no_conditional_create(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        creates = "If-None-Match" in {name.title() for name in request.headers}
        return error(412, "PreconditionFailed") if creates else None

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        facts = probe(store)
        assert not facts.conditional_create and not facts.conditional_complete_create
        assert not facts.conditional_copy


@pytest.mark.parametrize(
    ("refuses", "form"), [('"', Form.PLAIN), ("", Form.NONE)], ids=["quoted", "any"]
)
def test_refused_copy_source_version_does_not_prevent_the_kept_copy(
    moto_server: S3Server, open_s3: OpenS3, refuses: str, form: Form
) -> None:
    name = "x-amz-copy-source-if-match"

    def script(request: Request) -> Answer | Forward | None:
        sent = {n.lower(): v for n, v in request.headers.items()}
        if name not in sent:
            return None
        if sent[name].startswith(refuses):
            return error(412, "PreconditionFailed")
        return Forward(request._replace(headers={**sent, name: f'"{sent[name]}"'}))

    with proxied(moto_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        facts = probe(store)
        assert facts.server_side_copy and facts.source_form is form
        store.learn(facts)
        first = store.write("a", Bytes(b"one"), expect=None, operation="op-1")
        store.write("a", Bytes(b"two"), expect=first, operation="op-2", trash_stamp="k")
        assert store.stat(f"{OWN_FOLDER}/trash/k/a") is not None


def test_refused_read_version_does_not_prevent_reading(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        sent = "If-Match" in {name.title() for name in request.headers}
        return error(412, "PreconditionFailed") if sent and request.method == "GET" else None

    with proxied(plain_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        store.learn(probe(store))
        first = store.write("a", Bytes(b"one"), expect=None, operation="op-1")
        with store.read("a", expect=first) as reader:
            assert b"".join(reader) == b"one"
        store.write("a", Bytes(b"two"), expect=None, operation="op-2")
        with pytest.raises(PreconditionFailed), store.read("a", expect=first):
            pass


def test_metadata_the_server_drops_is_not_relied_on(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def forgetful(answer: Answer) -> Answer:
        kept = (pair for pair in answer.headers if not pair[0].lower().startswith("x-amz-meta"))
        return answer._replace(headers=tuple(kept))

    with proxied(plain_server, lambda _: forgetful) as (server, _):
        assert not probe(open_s3(server, facts=CAREFUL)).metadata


def test_server_hiding_keys_below_an_object_is_detected(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    def hiding(request: Request) -> object:
        hide = "list-type" in request.target
        return (lambda a: a._replace(body=a.body.replace(b"/pq/x<", b"/pq<"))) if hide else None

    with proxied(plain_server, hiding) as (server, _):  # type: ignore[arg-type]
        assert probe(open_s3(server, facts=CAREFUL)).folders


def test_listing_in_small_pages_hides_nothing(open_s3: OpenS3) -> None:
    fake = FakeS3(PERSONALITIES["plain"], most_listed=2)
    fake.bucket(BUCKET)
    with served(fake) as server:
        facts = probe(open_s3(server, facts=CAREFUL))
    assert (facts.folders, facts.hides_below, facts.sorted_listing) == (False, False, True)


def test_bucket_versioning_is_detected(plain_server: S3Server, open_s3: OpenS3) -> None:
    body = b"<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>"
    for status, keeps in ((b"Enabled", True), (b"Suspended", False)):
        answer = Answer(200, body % status)

        def script(request: Request, answer: Answer = answer) -> Answer | None:
            return answer if "versioning" in request.target else None

        with proxied(plain_server, script) as (server, _):
            assert probe(open_s3(server, facts=CAREFUL)).keeps_versions is keeps


def test_probed_facts_round_trip_as_json() -> None:
    facts = ProbedFacts(conditional_create=True, ranges=False, delete_form=Form.PLAIN)
    assert ProbedFacts.from_json(facts.to_json()) == facts
    for text in ("", "{}", "[]", '{"conditional_create": true}', "null"):
        assert ProbedFacts.from_json(text) is None


def test_facts_of_an_earlier_version_are_read_carefully() -> None:
    saved = json.loads(ProbedFacts(metadata=True, completed_versions=True).to_json())
    del saved["completed_versions"]
    assert ProbedFacts.from_json(json.dumps(saved)) == ProbedFacts(metadata=True)


def test_rclone_names_another_version_than_its_completions(
    rclone_server: S3Server, open_s3: OpenS3
) -> None:
    assert not probe(open_s3(rclone_server, facts=CAREFUL)).completed_versions


def test_saved_facts_replace_the_probe(plain_server: S3Server, open_s3: OpenS3) -> None:
    store: S3Store = open_s3(plain_server, facts=CAREFUL)
    saved = store.prepare(None)
    assert store.features.conditional_create
    store.close()
    assert list(open_s3(plain_server, facts=CAREFUL).list(f"{OWN_FOLDER}/")) == []
    with proxied(plain_server, lambda _: None) as (server, proxy):
        again = open_s3(server, facts=CAREFUL)
        assert again.prepare(saved) == saved
        # The two reach the server under different names.
        nowhere = replace(again.features, origin=None, host="")
        assert nowhere == replace(store.features, origin=None, host="")
        assert proxy.requests == []
