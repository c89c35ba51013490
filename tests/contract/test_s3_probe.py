"""What probing finds out about servers, and what it leaves behind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from craftsync.core.model import OWN_FOLDER
from craftsync.errors import StoreUnavailable
from craftsync.stores.s3 import ProbedFacts, S3Store, probe
from tests.contract.conftest import OpenS3
from tests.support.fake_s3 import Answer, Drop, Request, error, proxied
from tests.support.servers import S3Server

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
        server_side_copy=True,
        md5_versions=True,
        metadata=True,
    )


def test_rclone_accepts_all_conditions_and_checks_none(
    rclone_server: S3Server, open_s3: OpenS3
) -> None:
    assert probe(open_s3(rclone_server, facts=CAREFUL)) == ProbedFacts(
        server_side_copy=True, md5_versions=True, metadata=True, folders=True
    )


def test_probing_leaves_nothing_behind_and_is_brief(s3_server: S3Server, open_s3: OpenS3) -> None:
    with proxied(s3_server, lambda _: None) as (server, proxy):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert len(proxy.requests) <= 22
        assert all(f"/{OWN_FOLDER}/probe/" in r.target for r in proxy.requests if r.method == "PUT")
        assert list(store.list(f"{OWN_FOLDER}/")) == []


def test_it_cleans_up_where_several_objects_cannot_be_removed_at_once(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        return (
            error(501, "NotImplemented")
            if request.method == "POST" and "delete" in request.target
            else None
        )

    with proxied(moto_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert list(store.list(f"{OWN_FOLDER}/")) == []


def test_it_cleans_up_although_every_removal_fails_at_first(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    refused: set[str] = set()

    def script(request: Request) -> Answer | None:
        removal = request.method == "DELETE" or request.target.endswith("?delete=")
        removal = removal and not conditional(request)
        if not removal or request.target in refused:
            return None
        refused.add(request.target)
        return error(503, "SlowDown")

    with proxied(moto_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        probe(store)
        assert list(store.list(f"{OWN_FOLDER}/")) == []
    assert len(refused) > 1


@pytest.mark.parametrize("failing", range(14))
def test_one_that_fails_leaves_nothing_behind(
    moto_server: S3Server, open_s3: OpenS3, failing: int
) -> None:
    changes: list[str] = []

    def script(request: Request) -> Drop | None:
        if request.method not in ("PUT", "POST") or request.target.endswith("?delete="):
            return None
        changes.append(request.target)
        return Drop() if len(changes) == failing + 1 else None

    with proxied(moto_server, script) as (server, _):
        store = open_s3(server, facts=CAREFUL)
        with suppress(StoreUnavailable):
            probe(store)
        assert list(store.list(f"{OWN_FOLDER}/")) == []
    assert len(changes) > failing


def test_where_nothing_may_be_written_the_most_careful_facts_hold(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        return None if request.method == "GET" else error(403, "AccessDenied")

    with proxied(moto_server, script) as (server, _):
        assert probe(open_s3(server, facts=CAREFUL)) == CAREFUL


def test_a_server_that_knows_no_conditions_is_not_sent_any(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    def script(request: Request) -> Answer | None:
        return error(501, "NotImplemented") if conditional(request) else None

    with proxied(moto_server, script) as (server, _):
        facts = probe(open_s3(server, facts=CAREFUL))
    assert not facts.conditional_create and not facts.conditional_replace
    assert not facts.conditional_delete and not facts.conditional_complete_create
    assert facts.server_side_copy


def test_a_passing_failure_proves_nothing(moto_server: S3Server, open_s3: OpenS3) -> None:
    def script(request: Request) -> Answer | None:
        return error(503, "SlowDown") if conditional(request) else None

    with proxied(moto_server, script) as (server, _), pytest.raises(StoreUnavailable):
        probe(open_s3(server, facts=CAREFUL))


def test_metadata_a_server_forgets_is_not_relied_on(moto_server: S3Server, open_s3: OpenS3) -> None:
    def forgetful(answer: Answer) -> Answer:
        kept = (pair for pair in answer.headers if not pair[0].lower().startswith("x-amz-meta"))
        return answer._replace(headers=tuple(kept))

    with proxied(moto_server, lambda _: forgetful) as (server, _):
        assert not probe(open_s3(server, facts=CAREFUL)).metadata


def test_a_server_that_hides_what_is_below_an_object_is_one_of_folders(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    def hiding(request: Request) -> object:
        hide = "list-type" in request.target
        return (lambda a: a._replace(body=a.body.replace(b"/pq/x<", b"/pq<"))) if hide else None

    with proxied(moto_server, hiding) as (server, _):  # type: ignore[arg-type]
        assert probe(open_s3(server, facts=CAREFUL)).folders


def test_a_bucket_that_keeps_versions_is_known_by_it(
    moto_server: S3Server, open_s3: OpenS3
) -> None:
    body = b"<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>"
    for status, keeps in ((b"Enabled", True), (b"Suspended", False)):
        answer = Answer(200, body % status)

        def script(request: Request, answer: Answer = answer) -> Answer | None:
            return answer if "versioning" in request.target else None

        with proxied(moto_server, script) as (server, _):
            assert probe(open_s3(server, facts=CAREFUL)).keeps_versions is keeps


def test_facts_are_kept_as_text() -> None:
    facts = ProbedFacts(conditional_create=True, ranges=False)
    assert ProbedFacts.from_json(facts.to_json()) == facts
    for text in ("", "{}", "[]", '{"conditional_create": true}', "null"):
        assert ProbedFacts.from_json(text) is None


def test_prepared_once_a_store_needs_no_probing(moto_server: S3Server, open_s3: OpenS3) -> None:
    store: S3Store = open_s3(moto_server, facts=CAREFUL)
    saved = store.prepare(None)
    assert store.features.conditional_create
    with proxied(moto_server, lambda _: None) as (server, proxy):
        again = open_s3(server, facts=CAREFUL)
        assert again.prepare(saved) == saved
        # The two reach the server under different names, which is part of an origin.
        assert replace(again.features, origin=None) == replace(store.features, origin=None)
        assert proxy.requests == []
