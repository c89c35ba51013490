"""Tokens and signed URLs of `serve`: what they permit, and for how long."""

from __future__ import annotations

from collections.abc import Callable

import jwt
import pytest

from craftsync.serve.auth import Signer, Tokens
from craftsync.serve.errors import Refused
from tests.support.clock import FakeClock


def status_of(act: Callable[..., object], *arguments: object) -> int:
    """Return the status with which a call is refused; 0 if it is not."""
    try:
        act(*arguments)
    except Refused as refused:
        return refused.status
    return 0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tokens(clock: FakeClock) -> Tokens:
    return Tokens("sésame", clock=clock, lifetime_seconds=600)


@pytest.fixture
def signer(clock: FakeClock) -> Signer:
    return Signer(clock=clock, lifetime_seconds=60)


def test_access_token_is_valid_until_it_expires(tokens: Tokens, clock: FakeClock) -> None:
    bearer = f"Bearer {tokens.refresh('sésame')}"
    for passed, status in ((0, 0), (599, 0), (1, 401)):
        clock.advance(passed)
        assert status_of(tokens.check, bearer) == status


def test_access_token_carries_its_validity_times(tokens: Tokens) -> None:
    claims = jwt.decode(tokens.refresh("sésame"), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 600


@pytest.mark.parametrize("wrong", ["", "sesame", "sésame ", None, 7, ["sésame"], "\udcff"])
def test_only_the_servers_sdk_token_is_exchanged(tokens: Tokens, wrong: object) -> None:
    assert status_of(tokens.refresh, wrong) == 401


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer None", "Basic abc", "Bearer a.b.c"]
)
def test_invalid_access_token_is_rejected(tokens: Tokens, authorization: str) -> None:
    assert status_of(tokens.check, authorization) == 401


def test_access_token_of_another_server_is_rejected(tokens: Tokens, clock: FakeClock) -> None:
    other = Tokens("sésame", clock=clock, lifetime_seconds=600)
    assert status_of(tokens.check, f"Bearer {other.refresh('sésame')}") == 401


def test_unsigned_token_is_rejected(tokens: Tokens) -> None:
    forged = jwt.encode({"iat": 0, "exp": 10**12}, None, algorithm="none")
    assert status_of(tokens.check, f"Bearer {forged}") == 401


def test_signed_url_is_valid_until_it_expires(signer: Signer, clock: FakeClock) -> None:
    fields = signer.grant("GET", "a/é")
    for passed, status in ((0, 0), (59, 0), (1, 403)):
        clock.advance(passed)
        assert status_of(signer.check, "GET", "a/é", fields) == status


def test_signature_covers_method_path_upload_part_and_expiry(signer: Signer) -> None:
    fields = signer.grant("PUT", "a", upload="u", part=1)
    assert status_of(signer.check, "PUT", "a", fields) == 0
    later = str(int(fields["expires"]) + 1)
    for method, path, change in (
        ("GET", "a", {}),
        ("PUT", "b", {}),
        ("PUT", "a", {"upload": "v"}),
        ("PUT", "a", {"part": "2"}),
        ("PUT", "a", {"expires": later}),
        ("PUT", "a", {"signature": ""}),
        ("PUT", "a", {"signature": "é\udcff"}),
    ):
        assert status_of(signer.check, method, path, {**fields, **change}) == 403
    for missing in fields:
        rest = {name: value for name, value in fields.items() if name != missing}
        assert status_of(signer.check, "PUT", "a", rest) == 403


def test_signature_fields_cannot_be_shifted_into_each_other(signer: Signer) -> None:
    fields = signer.grant("PUT", "a", upload="u1", part=1)
    assert status_of(signer.check, "PUT", "a", {**fields, "upload": "u", "part": "11"}) == 403


def test_signature_of_another_server_is_rejected(signer: Signer, clock: FakeClock) -> None:
    other = Signer(clock=clock, lifetime_seconds=60)
    assert status_of(signer.check, "GET", "a", other.grant("GET", "a")) == 403
